#include "app/cli/input.h"

#include <ctype.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

dp_status dp_input_read(char **text, size_t *size, const dp_args *args, dp_error *err)
{
    const char *prompt = dp_args_text(args, "prompt");
    const char *path = dp_args_text(args, "file");
    const char *operand = args->operand_count > 1 ? args->operands[1] : NULL;

    *text = NULL;
    *size = 0;
    if (operand && strcmp(operand, "-") != 0)
        return dp_fail(err, DP_E_INVALID,
                       "%s: \"%.64s\" is not \"-\" (a text is given by --prompt TEXT)",
                       args->command->name, operand);
    if (!!prompt + !!path + !!operand != 1)
        return dp_fail(err, DP_E_INVALID,
                       "%s: give one text: --prompt TEXT, --file FILE, or - for standard input",
                       args->command->name);
    if (!prompt)
        return dp_file_read_all(text, size, path ? path : "-", DP_INPUT_BYTES_MAX, err);
    *size = strlen(prompt);
    *text = dp_strndup(prompt, *size);
    if (!*text)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for the prompt", args->command->name);
    return DP_OK;
}

void dp_input_trim_newline(char *text, size_t *size)
{
    if (*size > 0 && text[*size - 1] == '\n')
        (*size)--;
    if (*size > 0 && text[*size - 1] == '\r')
        (*size)--;
    text[*size] = 0;
}

static uint32_t line_of(const char *text, size_t at)
{
    uint32_t line = 1;

    for (size_t i = 0; i < at; i++)
        line += text[i] == '\n';
    return line;
}

/* Skips what may stand between ids; commas only where an id stood before. */
static size_t skip_separators(const char *text, size_t size, size_t at, bool *takes_comma)
{
    for (; at < size; at++) {
        if (text[at] == ',' && *takes_comma)
            *takes_comma = false;
        else if (!isspace((unsigned char)text[at]))
            break;
    }
    return at;
}

/* One decimal number at text[*at]; moves *at behind it. */
static bool parse_id(const char *text, size_t size, size_t *at, int32_t *id)
{
    dp_str word = { text + *at, 0 };
    uint64_t value;

    while (*at + word.size < size && isdigit((unsigned char)word.bytes[word.size]))
        word.size++;
    if (!dp_parse_u64(word, &value) || value > INT32_MAX)
        return false;
    *id = (int32_t)value;
    *at += word.size;
    return true;
}

/* Ids until the end or a closing bracket; false: *at is where there is none. */
static bool parse_run(const char *text, size_t size, size_t *at, bool is_array, int32_t *ids,
                      size_t *count)
{
    bool takes_comma = false;

    for (;;) {
        *at = skip_separators(text, size, *at, &takes_comma);
        if (*at == size || (is_array && text[*at] == ']'))
            return true;
        if (!parse_id(text, size, at, &ids[*count]))
            return false;
        (*count)++;
        takes_comma = true;
    }
}

dp_status dp_input_parse_ids(int32_t **ids, size_t *count, const char *text, size_t size,
                             const char *name, dp_error *err)
{
    bool no_comma = false, is_array;
    size_t at = skip_separators(text, size, 0, &no_comma), found_count = 0;
    int32_t *found;
    dp_status st = DP_OK;

    *ids = NULL;
    *count = 0;
    found = dp_alloc(size / 2 + 1, sizeof *found); /* an id takes a digit and a separator */
    if (!found)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for its ids", name);
    is_array = at < size && text[at] == '[';
    at += is_array;
    if (!parse_run(text, size, &at, is_array, found, &found_count)) {
        st = dp_fail(err, DP_E_INVALID, "%s: line %u is not made of token ids", name,
                     line_of(text, at));
        goto done;
    }
    if (is_array && (at == size || skip_separators(text, size, at + 1, &no_comma) != size)) {
        st = dp_fail(err, DP_E_INVALID,
                     "%s: the array of token ids does not end where the text does", name);
        goto done;
    }

    *count = found_count;
    *ids = found; /* the caller owns it now */
    found = NULL;
done:
    dp_free(found);
    return st;
}
