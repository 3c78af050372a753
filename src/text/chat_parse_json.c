/* chat_parse_json.c - slices of JSON text: members of objects, strings with quotes. */
#include <string.h>

#include "base/json.h"
#include "text/chat_parse_impl.h"

bool dp_chat_is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

dp_str dp_chat_trim(dp_str text)
{
    while (text.size > 0 && dp_chat_is_space(text.bytes[0]))
        text = (dp_str){ text.bytes + 1, text.size - 1 };
    while (text.size > 0 && dp_chat_is_space(text.bytes[text.size - 1]))
        text.size--;
    return text;
}

bool dp_chat_json_is_whole(dp_str text)
{
    dp_json json;
    dp_json_token token;
    dp_status st;

    dp_json_init(&json, "arguments", text.bytes, text.size);
    do
        st = dp_json_next(&json, &token, NULL);
    while (!st && token.kind != DP_JSON_END);
    dp_json_deinit(&json);
    return !st;
}

bool dp_chat_json_member(dp_str object, const char *key, dp_str *value)
{
    dp_json json;
    dp_json_token token;
    bool is_found = false;
    dp_status st;

    dp_json_init(&json, "object", object.bytes, object.size);
    st = dp_json_next(&json, &token, NULL);
    if (st || token.kind != DP_JSON_OBJECT_BEGIN)
        goto done;
    while (!st && !is_found) {
        st = dp_json_next(&json, &token, NULL);
        if (st || token.kind != DP_JSON_KEY)
            goto done;
        if (dp_str_is(token.text, key)) {
            const char *begin = json.at;

            st = dp_json_skip(&json, &token, NULL);
            while (begin < json.at && (dp_chat_is_space(*begin) || *begin == ':'))
                begin++;
            *value = (dp_str){ begin, (size_t)(json.at - begin) };
            is_found = !st;
        } else {
            st = dp_json_skip(&json, &token, NULL);
        }
    }
done:
    dp_json_deinit(&json);
    return is_found;
}

/* Whether value is the JSON string that says `text`. */
static bool is_string(dp_str value, dp_str text)
{
    dp_json json;
    dp_json_token token;
    bool is_equal;

    dp_json_init(&json, "string", value.bytes, value.size);
    is_equal = dp_json_next(&json, &token, NULL) == DP_OK && token.kind == DP_JSON_STRING &&
               dp_str_equal(token.text, text);
    dp_json_deinit(&json);
    return is_equal;
}

void dp_chat_json_quote(dp_chat_parser *p, dp_buf *out, dp_str text)
{
    static const char hex[] = "0123456789abcdef";

    dp_chat_keep(p, out, "\"", 1);
    for (size_t i = 0; i < text.size && !p->st; i++) {
        char c = text.bytes[i],
             escape[6] = { '\\', 'u', '0', '0', hex[(c >> 4) & 15], hex[c & 15] };

        if (c == '"' || c == '\\')
            dp_chat_keep(p, out, (char[]){ '\\', c }, 2);
        else if (c == '\n')
            dp_chat_keep(p, out, "\\n", 2);
        else if ((uint8_t)c < ' ')
            dp_chat_keep(p, out, escape, sizeof escape);
        else
            dp_chat_keep(p, out, &c, 1);
    }
    dp_chat_keep(p, out, "\"", 1);
}

/* tool is {"type": "function", "function": {"name", "parameters"}} or the inner object. */
static bool is_string_argument(dp_str tool, dp_str name, const char *key)
{
    dp_str value;

    dp_chat_json_member(tool, "function", &tool);
    return dp_chat_json_member(tool, "name", &value) && is_string(value, name) &&
           dp_chat_json_member(tool, "parameters", &tool) &&
           dp_chat_json_member(tool, "properties", &tool) &&
           dp_chat_json_member(tool, key, &tool) && dp_chat_json_member(tool, "type", &tool) &&
           is_string(tool, dp_str_from("string"));
}

bool dp_chat_json_is_string_argument(dp_str tools, dp_str name, dp_str key)
{
    char key_text[DP_CHAT_NAME_BYTES_MAX + 1] = "";
    dp_json json;
    dp_json_token token;
    bool is_found = false;

    if (key.size >= sizeof key_text)
        return false;
    memcpy(key_text, key.bytes, key.size);
    dp_json_init(&json, "tools", tools.bytes, tools.size);
    if (dp_json_next(&json, &token, NULL) || token.kind != DP_JSON_ARRAY_BEGIN)
        goto done;
    while (!is_found && !dp_json_next(&json, &token, NULL) && token.kind == DP_JSON_OBJECT_BEGIN) {
        const char *begin = json.at - 1;

        if (dp_json_skip(&json, &token, NULL))
            break;
        is_found = is_string_argument((dp_str){ begin, (size_t)(json.at - begin) }, name, key_text);
    }
done:
    dp_json_deinit(&json);
    return is_found;
}
