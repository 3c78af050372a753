#include "app/common/args.h"

#include <stdio.h>
#include <string.h>
#include "base/status.h"
#include "base/str.h"

#define NAME_MAX_COMPARED 40  /* longer words are nobody's typing error */
#define NAMES_MAX         256 /* options of one command, its own and shared */

/* ---- guesses ---- */

/* Edits (insert, delete, replace, swap of neighbours) that make a from b. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][NAME_MAX_COMPARED + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    size_t a_size = strlen(a), b_size = strlen(b);

    if (a_size > NAME_MAX_COMPARED || b_size > NAME_MAX_COMPARED)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t *spare = before;

        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t replaced = above[j - 1] + (a[i - 1] != b[j - 1]);

            row[j] = DP_MIN(DP_MIN(above[j], row[j - 1]) + 1, replaced);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = DP_MIN(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = spare;
    }
    return above[b_size];
}

const char *dp_args_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t best_distance = SIZE_MAX;

    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(names[i]);
        size_t distance = edit_distance(word, names[i]);
        /* A word cut short ("thr") is as good a guess as one with a slip. */
        bool is_start = strlen(word) >= 3 && strncmp(word, names[i], strlen(word)) == 0;

        if (is_start)
            distance = DP_MIN(distance, (size_t)1);
        if ((distance <= DP_MAX(size / 3, (size_t)1)) && distance < best_distance) {
            best = names[i];
            best_distance = distance;
        }
    }
    return best;
}

const dp_args_command *dp_args_find_command(const dp_args_program *program, const char *name,
                                            dp_error *err)
{
    const char *names[NAMES_MAX];
    const char *nearest;
    size_t count = 0;

    for (; program->commands[count] && count < NAMES_MAX; count++) {
        if (strcmp(program->commands[count]->name, name) == 0)
            return program->commands[count];
        names[count] = program->commands[count]->name;
    }
    nearest = dp_args_nearest(name, names, count);
    dp_fail(err, DP_E_INVALID, "no command \"%s\"%s%s%s (%s help lists them)", name,
            nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "",
            program->name);
    return NULL;
}

/* ---- tables ---- */

char dp_args_letter_of(const dp_args_program *program, const char *name)
{
    for (size_t i = 0; i < program->letter_count; i++)
        if (strcmp(program->letters[i].name, name) == 0)
            return program->letters[i].letter;
    return 0;
}

bool dp_args_takes(const dp_args_command *command, const dp_option *shared)
{
    if (strcmp(shared->group, "sampling") == 0)
        return command->takes_sampling;
    if (strcmp(shared->group, "swarm") == 0)
        return command->takes_swarm;
    return command->takes_shared;
}

/* The row of that name: the command's own first, then the shared table. */
static const dp_option *find_option(const dp_args_program *program, const dp_args_command *command,
                                    dp_str name, bool *is_shared)
{
    *is_shared = false;
    for (size_t i = 0; i < command->option_count; i++)
        if (dp_str_is(name, command->options[i].name))
            return &command->options[i];
    *is_shared = true;
    for (size_t i = 0; i < program->shared_count; i++)
        if (dp_str_is(name, program->shared[i].name) && dp_args_takes(command, &program->shared[i]))
            return &program->shared[i];
    return NULL;
}

static dp_status fail_unknown(const dp_args_program *program, const dp_args_command *command,
                              dp_str name, dp_error *err)
{
    const char *names[NAMES_MAX];
    char word[NAME_MAX_COMPARED + 1];
    const char *nearest;
    size_t count = 0;

    for (size_t i = 0; i < command->option_count && count < NAMES_MAX; i++)
        names[count++] = command->options[i].name;
    for (size_t i = 0; i < program->shared_count && count < NAMES_MAX; i++)
        if (dp_args_takes(command, &program->shared[i]))
            names[count++] = program->shared[i].name;
    snprintf(word, sizeof word, "%.*s", (int)DP_MIN(name.size, sizeof word), name.bytes);
    nearest = dp_args_nearest(word, names, count);
    return dp_fail(err, DP_E_INVALID, "%s: no option --%.*s%s%s%s (%s help %s lists them)",
                   command->name, (int)DP_MIN(name.size, (size_t)64), name.bytes,
                   nearest ? "; did you mean --" : "", nearest ? nearest : "", nearest ? "?" : "",
                   program->name, command->name);
}

/* ---- values ---- */

static bool is_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);

    for (const char *at = choices; *at; at += strspn(at, "|")) {
        size_t choice_size = strcspn(at, "|");

        if (choice_size == size && memcmp(at, text, size) == 0)
            return true;
        at += choice_size;
    }
    return false;
}

static bool is_value_ok(const dp_option *option, const char *text)
{
    dp_str view = dp_str_from(text);
    uint64_t whole = 0;
    double real = 0;

    switch (option->type) {
    case DP_OPTION_FLAG:
        return strcmp(text, "on") == 0 || strcmp(text, "off") == 0;
    case DP_OPTION_CHOICE:
        return is_choice(option->choices, text);
    case DP_OPTION_COUNT:
        return dp_parse_u64(view, &whole) && (double)whole >= option->min &&
               (double)whole <= option->max;
    case DP_OPTION_SIZE:
        return dp_parse_size(view, &whole) && (double)whole >= option->min &&
               (double)whole <= option->max;
    case DP_OPTION_REAL:
        return dp_parse_f64(view, &real) && real >= option->min && real <= option->max;
    case DP_OPTION_TEXT:
    case DP_OPTION_TEXTS:
        return true;
    }
    return false;
}

static dp_status add_value(dp_args *args, const dp_option *option, bool is_shared, const char *text,
                           dp_error *err)
{
    char limits[128];

    if (!is_shared && !is_value_ok(option, text)) {
        dp_args_value_limits(option, limits, sizeof limits);
        return dp_fail(err, DP_E_INVALID, "%s: --%s takes %s%s%s%s, not \"%.64s\"",
                       args->command->name, option->name,
                       option->type == DP_OPTION_FLAG ? "on or off" : dp_args_value_name(option),
                       limits[0] ? " (" : "", limits, limits[0] ? ")" : "", text);
    }
    if (args->value_count == DP_ARGS_VALUES_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: more than %d options", args->command->name,
                       DP_ARGS_VALUES_MAX);
    args->values[args->value_count++] = (dp_args_value){ option, text, is_shared };
    return DP_OK;
}

/* ---- words ---- */

/* An option's name and what stands in the same word behind it (NULL: nothing). */
static dp_status split_word(const dp_args *args, const char *word, dp_str *name,
                            const char **attached, dp_error *err)
{
    const char *equals;

    *attached = NULL;
    if (word[1] == '-') {
        equals = strchr(word, '=');
        *name = (dp_str){ word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2) };
        *attached = equals ? equals + 1 : NULL;
        return DP_OK;
    }
    for (size_t i = 0; i < args->program->letter_count; i++) {
        const dp_args_letter *row = &args->program->letters[i];
        bool is_shared;

        *name = dp_str_from(row->name);
        if (row->letter == word[1] &&
            find_option(args->program, args->command, *name, &is_shared)) {
            *attached = word[2] ? word + 2 : NULL;
            return DP_OK;
        }
    }
    return dp_fail(err, DP_E_INVALID, "%s: no option -%c (%s help %s lists them)",
                   args->command->name, word[1], args->program->name, args->command->name);
}

/* Reads one option at words[0]; *used is how many words it took. */
static dp_status parse_option(dp_args *args, char *const *words, size_t count, size_t *used,
                              dp_error *err)
{
    const dp_option *option;
    const char *text;
    dp_status st;
    dp_str name;
    bool is_shared;

    *used = 1;
    st = split_word(args, words[0], &name, &text, err);
    if (st)
        return st;
    option = find_option(args->program, args->command, name, &is_shared);
    if (!option)
        return fail_unknown(args->program, args->command, name, err);
    if (!text && option->type == DP_OPTION_FLAG) {
        text = "on";
    } else if (!text) {
        if (count < 2)
            return dp_fail(err, DP_E_INVALID, "%s: --%s needs a value: --%s %s",
                           args->command->name, option->name, option->name,
                           dp_args_value_name(option));
        text = words[1];
        *used = 2;
    }
    return add_value(args, option, is_shared, text, err);
}

static dp_status add_operand(dp_args *args, const char *word, dp_error *err)
{
    if (args->operand_count == args->command->operand_max)
        return dp_fail(err, DP_E_INVALID, "%s: \"%.64s\" is one argument too many: %s %s%s%s",
                       args->command->name, word, args->program->name, args->command->name,
                       args->command->operands[0] ? " " : "", args->command->operands);
    args->operands[args->operand_count++] = word;
    return DP_OK;
}

dp_status dp_args_parse(dp_args *out, const dp_args_program *program,
                        const dp_args_command *command, char *const *words, size_t count,
                        dp_error *err)
{
    bool has_options = true;
    size_t used = 1;

    *out = (dp_args){ .program = program, .command = command };
    for (size_t i = 0; i < count; i += used) {
        const char *word = words[i];
        dp_status st;

        used = 1;
        if (has_options && strcmp(word, "--") == 0) {
            has_options = false;
            continue;
        }
        if (has_options && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)) {
            out->wants_help = true;
            return DP_OK;
        }
        if (has_options && word[0] == '-' && word[1])
            st = parse_option(out, words + i, count - i, &used, err);
        else
            st = add_operand(out, word, err);
        if (st)
            return st;
    }
    if (out->operand_count < command->operand_min)
        return dp_fail(err, DP_E_INVALID, "%s: an argument is missing: %s %s %s", command->name,
                       program->name, command->name, command->operands);
    return DP_OK;
}

/* ---- reading them ---- */

static const dp_args_value *last_value(const dp_args *args, const char *name)
{
    for (size_t i = args->value_count; i > 0; i--)
        if (strcmp(args->values[i - 1].option->name, name) == 0)
            return &args->values[i - 1];
    return NULL;
}

const char *dp_args_text(const dp_args *args, const char *name)
{
    const dp_args_value *value = last_value(args, name);
    const dp_option *option;
    bool is_shared;

    if (value)
        return value->text;
    option = find_option(args->program, args->command, dp_str_from(name), &is_shared);
    return option ? option->default_value : NULL;
}

bool dp_args_is_given(const dp_args *args, const char *name)
{
    return last_value(args, name) != NULL;
}

bool dp_args_flag(const dp_args *args, const char *name)
{
    const char *text = dp_args_text(args, name);

    return text && strcmp(text, "on") == 0;
}

uint64_t dp_args_count(const dp_args *args, const char *name)
{
    const char *text = dp_args_text(args, name);
    uint64_t value = 0;

    dp_parse_u64(dp_str_from(text), &value);
    return value;
}

const char *dp_args_next(const dp_args *args, const char *name, size_t *at)
{
    while (*at < args->value_count) {
        const dp_args_value *value = &args->values[(*at)++];

        if (strcmp(value->option->name, name) == 0)
            return value->text;
    }
    return NULL;
}
