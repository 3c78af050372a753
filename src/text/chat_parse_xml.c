/* chat_parse_xml.c - Qwen3-Coder's calls: tags around arguments, not JSON.
 *
 *   <function=NAME>
 *   <parameter=KEY>
 *   value
 *   </parameter>
 *   </function>
 *
 * Nothing is escaped. A value is a string where the tools say so; otherwise JSON
 * where it is JSON, and a string where it is not. */
#include <string.h>

#include "text/chat_parse_impl.h"

static const char function_begin[] = "<function=", function_end[] = "</function>",
                  parameter_begin[] = "<parameter=", parameter_end[] = "</parameter>";

static void skip(dp_str *text, size_t size)
{
    text->bytes += size;
    text->size -= size;
}

static void skip_space(dp_str *text)
{
    while (text->size > 0 && dp_chat_is_space(*text->bytes))
        skip(text, 1);
}

/* "<tag=NAME>" at the front of text. */
static bool take_tag(dp_str *text, const char *tag, dp_str *name)
{
    const char *end;

    skip_space(text);
    if (!dp_str_starts_with(*text, tag))
        return false;
    skip(text, strlen(tag));
    end = memchr(text->bytes, '>', text->size);
    if (!end)
        return false;
    *name = dp_chat_trim((dp_str){ text->bytes, (size_t)(end - text->bytes) });
    skip(text, (size_t)(end - text->bytes) + 1);
    return true;
}

/* Up to the end of the parameter: its tag, if nothing else but a tag follows that (a
 * value may speak of tags), or where the next tag stands when it was forgotten. */
static dp_str take_value(dp_str *text)
{
    dp_str value = { text->bytes, text->size };
    size_t end_size = 0;

    for (size_t at = 0; at < text->size; at++) {
        dp_str rest = { text->bytes + at, text->size - at };

        if (dp_str_starts_with(rest, parameter_end)) {
            skip(&rest, sizeof parameter_end - 1);
            skip_space(&rest);
            if (rest.size > 0 && !dp_str_starts_with(rest, parameter_begin) &&
                !dp_str_starts_with(rest, function_end))
                continue;
            end_size = sizeof parameter_end - 1;
        } else if (!dp_str_starts_with(rest, parameter_begin) &&
                   !dp_str_starts_with(rest, function_end)) {
            continue;
        }
        value.size = at;
        break;
    }
    skip(text, value.size + end_size);
    if (value.size > 0 && *value.bytes == '\n')
        skip(&value, 1);
    if (value.size > 0 && value.bytes[value.size - 1] == '\n')
        value.size--;
    return value;
}

static void add_argument(dp_chat_parser *p, dp_str name, dp_str key, dp_str value)
{
    dp_str trimmed = dp_chat_trim(value), tools = { p->tools.bytes, p->tools.size };

    if (p->arguments.size > 1)
        dp_chat_keep(p, &p->arguments, ", ", 2);
    dp_chat_json_quote(p, &p->arguments, key);
    dp_chat_keep(p, &p->arguments, ": ", 2);
    if (!dp_chat_json_is_string_argument(tools, name, key) && dp_chat_json_is_whole(trimmed))
        dp_chat_keep(p, &p->arguments, trimmed.bytes, trimmed.size);
    else
        dp_chat_json_quote(p, &p->arguments, value);
}

bool dp_chat_calls_xml(dp_chat_parser *p, dp_str text)
{
    bool is_call = false;
    dp_str name, key;

    while (take_tag(&text, function_begin, &name)) {
        uint32_t count = 0;

        dp_buf_reset(&p->arguments);
        dp_chat_keep(p, &p->arguments, "{", 1);
        while (take_tag(&text, parameter_begin, &key)) {
            dp_str value = take_value(&text);

            if (++count > DP_CHAT_ARGUMENTS_MAX)
                return false;
            if (!p->is_dry)
                add_argument(p, name, key, value);
        }
        dp_chat_keep(p, &p->arguments, "}", 1);
        if (p->st || !dp_chat_say_call(p, name, dp_str_from(""),
                                       (dp_str){ p->arguments.bytes, p->arguments.size }))
            return false;
        is_call = true;
        skip_space(&text);
        if (dp_str_starts_with(text, function_end))
            skip(&text, sizeof function_end - 1);
    }
    skip_space(&text);
    return is_call && text.size == 0;
}
