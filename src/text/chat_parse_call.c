/* chat_parse_call.c - names and arguments out of a call's text, family by family.
 *
 * What a model writes is nearly JSON at times. A call whose name can be read is one,
 * and is said to be broken when its arguments cannot; without a name it is none. */
#include <string.h>

#include "base/json.h"
#include "text/chat_parse_impl.h"

/* ---- calls as JSON ---- */

typedef struct json_call {
    dp_str arguments; /* as they stand in the text; bytes NULL: none */
    bool is_complete; /* the object ends */
    size_t size;      /* of the text it took */
} json_call;

/* The string at the front of the next value into out. */
static bool read_string(dp_chat_parser *p, dp_json *json, dp_buf *out)
{
    dp_json_token token;

    if (dp_json_next(json, &token, NULL) || token.kind != DP_JSON_STRING ||
        token.text.size > DP_CHAT_NAME_BYTES_MAX)
        return false;
    dp_buf_reset(out);
    dp_chat_keep(p, out, token.text.bytes, token.text.size);
    return true;
}

static bool read_value(dp_json *json, const dp_json_token *key, dp_str *value)
{
    const char *begin = json->at;
    bool is_good = dp_json_skip(json, key, NULL) == DP_OK;

    while (begin < json->end && (dp_chat_is_space(*begin) || *begin == ':'))
        begin++;
    *value = (dp_str){ begin, (size_t)((is_good ? json->at : json->end) - begin) };
    return is_good;
}

/* A member of a call. False: what follows cannot be read. */
static bool read_member(dp_chat_parser *p, dp_json *json, const dp_json_token *key, json_call *call)
{
    if (dp_str_is(key->text, "name"))
        return read_string(p, json, &p->name);
    if (dp_str_is(key->text, "id"))
        return read_string(p, json, &p->id);
    if (dp_str_is(key->text, "arguments") || dp_str_is(key->text, "parameters"))
        return read_value(json, key, &call->arguments);
    return dp_json_skip(json, key, NULL) == DP_OK;
}

/* The object at the front of text: p->name, p->id and *call. False: no name. */
static bool read_call(dp_chat_parser *p, dp_str text, json_call *call)
{
    dp_json json;
    dp_json_token token;

    *call = (json_call){ { NULL, 0 }, false, text.size };
    dp_buf_reset(&p->name);
    dp_buf_reset(&p->id);
    dp_chat_keep(p, &p->id, "", 0);
    dp_json_init(&json, "call", text.bytes, text.size);
    if (dp_json_next(&json, &token, NULL) || token.kind != DP_JSON_OBJECT_BEGIN)
        goto done;
    while (!dp_json_next(&json, &token, NULL)) {
        if (token.kind == DP_JSON_OBJECT_END) {
            call->is_complete = true;
            call->size = (size_t)(json.at - text.bytes);
            break;
        }
        if (token.kind != DP_JSON_KEY || !read_member(p, &json, &token, call))
            break;
    }
done:
    dp_json_deinit(&json);
    return p->name.size > 0 && !p->st;
}

/* Some models write the arguments as a string that holds JSON. */
static dp_str unwrap(dp_chat_parser *p, dp_str arguments)
{
    dp_json json;
    dp_json_token token;

    if (arguments.size == 0 || *arguments.bytes != '"')
        return arguments;
    dp_json_init(&json, "arguments", arguments.bytes, arguments.size);
    if (!dp_json_next(&json, &token, NULL) && token.kind == DP_JSON_STRING &&
        dp_chat_json_is_whole(token.text)) {
        dp_buf_reset(&p->arguments);
        dp_chat_keep(p, &p->arguments, token.text.bytes, token.text.size);
        arguments = (dp_str){ p->arguments.bytes, p->arguments.size };
    }
    dp_json_deinit(&json);
    return arguments;
}

/* Objects one behind the other, with white space and any of `separators` between. */
static bool say_json_calls(dp_chat_parser *p, dp_str text, const char *separators, bool is_strict)
{
    uint32_t count = 0;

    for (;; count++) {
        json_call call;
        dp_str id, arguments;

        while (text.size > 0 &&
               (dp_chat_is_space(*text.bytes) || (*text.bytes && strchr(separators, *text.bytes))))
            text = (dp_str){ text.bytes + 1, text.size - 1 };
        if (text.size == 0)
            break;
        if (!read_call(p, text, &call) ||
            (is_strict && !(call.is_complete && call.arguments.bytes)))
            return !is_strict && count > 0; /* whatever follows a call */
        id = (dp_str){ p->id.bytes, p->id.size };
        arguments = dp_chat_trim(call.arguments);
        if (!arguments.bytes && call.is_complete)
            arguments = dp_str_from("{}");
        if (!dp_chat_say_call(p, (dp_str){ p->name.bytes, p->name.size }, id, unwrap(p, arguments)))
            return !is_strict && count > 0;
        text = (dp_str){ text.bytes + call.size, text.size - call.size };
    }
    return count > 0;
}

bool dp_chat_calls_whole(dp_chat_parser *p, dp_str text)
{
    return say_json_calls(p, text, ";", true);
}

bool dp_chat_calls_hermes(dp_chat_parser *p, const dp_chat_call_text *text)
{
    if (dp_str_starts_with(dp_chat_trim(text->head), "<function="))
        return dp_chat_calls_xml(p, text->head);
    return say_json_calls(p, text->head, ",", false);
}

/* ---- Llama 3: behind <|python_tag|> stands JSON, NAME.call(key="value", ...) or a program ---- */

/* key="value" pairs into p->arguments as JSON; false: it is something else. */
static bool read_pairs(dp_chat_parser *p, dp_str text)
{
    dp_buf_reset(&p->arguments);
    dp_chat_keep(p, &p->arguments, "{", 1);
    for (text = dp_chat_trim(text); text.size > 0; text = dp_chat_trim(text)) {
        const char *equals = memchr(text.bytes, '=', text.size), *end = text.bytes + text.size;
        const char *value = equals ? equals + 1 : end, *quote;
        dp_str key;

        if (value == end || (*value != '"' && *value != '\''))
            return false;
        for (quote = value + 1; quote < end && *quote != *value;)
            quote += *quote == '\\' && quote + 1 < end ? 2 : 1;
        if (quote >= end)
            return false;
        key = dp_chat_trim((dp_str){ text.bytes, (size_t)(equals - text.bytes) });
        if (p->arguments.size > 1)
            dp_chat_keep(p, &p->arguments, ", ", 2);
        dp_chat_json_quote(p, &p->arguments, key);
        dp_chat_keep(p, &p->arguments, ": ", 2);
        dp_chat_json_quote(p, &p->arguments, (dp_str){ value + 1, (size_t)(quote - value) - 1 });
        text = dp_chat_trim((dp_str){ quote + 1, (size_t)(end - quote) - 1 });
        if (text.size > 0 && *text.bytes == ',')
            text = (dp_str){ text.bytes + 1, text.size - 1 };
        else if (text.size > 0)
            return false;
    }
    dp_chat_keep(p, &p->arguments, "}", 1);
    return !p->st;
}

bool dp_chat_calls_llama(dp_chat_parser *p, const dp_chat_call_text *text)
{
    static const char call[] = ".call(";
    dp_str body = dp_chat_trim(text->head), none = dp_str_from("");
    const char *at = memmem(body.bytes ? body.bytes : "", body.size, call, sizeof call - 1);

    if (body.size == 0)
        return false;
    if (*body.bytes == '{')
        return say_json_calls(p, body, ";,", false);
    if (at && body.bytes[body.size - 1] == ')') {
        dp_str name = { body.bytes, (size_t)(at - body.bytes) };
        const char *pairs = at + sizeof call - 1;

        if (read_pairs(p, (dp_str){ pairs, (size_t)(body.bytes + body.size - pairs) - 1 }) &&
            dp_chat_say_call(p, name, none, (dp_str){ p->arguments.bytes, p->arguments.size }))
            return true;
    }
    dp_buf_reset(&p->arguments);
    dp_chat_keep(p, &p->arguments, "{\"code\": ", 9);
    dp_chat_json_quote(p, &p->arguments, body);
    dp_chat_keep(p, &p->arguments, "}", 1);
    return !p->st && dp_chat_say_call(p, dp_str_from("code_interpreter"), none,
                                      (dp_str){ p->arguments.bytes, p->arguments.size });
}

/* ---- name and arguments apart ---- */

bool dp_chat_calls_mistral(dp_chat_parser *p, const dp_chat_call_text *text)
{
    dp_str head = dp_chat_trim(text->head);
    const char *brace;

    if (text->has_arguments)
        return dp_chat_say_call(p, head, dp_chat_trim(text->id), dp_chat_trim(text->arguments));
    if (head.size > 0 && *head.bytes == '[' && head.bytes[head.size - 1] == ']')
        head = (dp_str){ head.bytes + 1, head.size - 2 };
    else if (head.size > 0 && *head.bytes == '[') /* cut off */
        head = (dp_str){ head.bytes + 1, head.size - 1 };
    if (head.size > 0 && (*head.bytes == '{' || dp_chat_is_space(*head.bytes)))
        return say_json_calls(p, head, ",", false);
    brace = head.size ? memchr(head.bytes, '{', head.size) : NULL; /* NAME{...} */
    if (!brace)
        return false;
    return dp_chat_say_call(p, dp_chat_trim((dp_str){ head.bytes, (size_t)(brace - head.bytes) }),
                            dp_str_from(""),
                            (dp_str){ brace, head.size - (size_t)(brace - head.bytes) });
}

/* V3 and R1: the kind, the mark, the name, a fence around the arguments. V3.1: the
 * name, the mark, the arguments. */
bool dp_chat_calls_deepseek(dp_chat_parser *p, const dp_chat_call_text *text)
{
    static const char fence[] = "```";
    dp_str name = dp_chat_trim(text->head), arguments = dp_chat_trim(text->arguments);
    const char *begin = NULL, *line;

    if (!text->has_arguments)
        return false;
    if (arguments.size > 0 && *arguments.bytes != '{')
        begin = memmem(arguments.bytes, arguments.size, fence, sizeof fence - 1);
    if (begin) {
        size_t left = arguments.size - (size_t)(begin - arguments.bytes);

        name = dp_chat_trim((dp_str){ arguments.bytes, (size_t)(begin - arguments.bytes) });
        line = memchr(begin, '\n', left);
        arguments = dp_chat_trim(line ? (dp_str){ line, left - (size_t)(line - begin) }
                                      : (dp_str){ begin + left, 0 });
        if (dp_str_ends_with(arguments, fence))
            arguments.size -= sizeof fence - 1;
        arguments = dp_chat_trim(arguments);
    }
    return dp_chat_say_call(p, name, dp_str_from(""), arguments);
}

/* The id is functions.NAME:INDEX. */
bool dp_chat_calls_kimi(dp_chat_parser *p, const dp_chat_call_text *text)
{
    dp_str id = dp_chat_trim(text->head), name = id;
    size_t digits = 0;

    if (!text->has_arguments)
        return false;
    if (dp_str_starts_with(name, "functions."))
        name = (dp_str){ name.bytes + 10, name.size - 10 };
    while (digits < name.size && name.bytes[name.size - 1 - digits] >= '0' &&
           name.bytes[name.size - 1 - digits] <= '9')
        digits++;
    if (digits > 0 && digits < name.size && name.bytes[name.size - 1 - digits] == ':')
        name.size -= digits + 1;
    return dp_chat_say_call(p, name, id, dp_chat_trim(text->arguments));
}
