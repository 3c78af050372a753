#include "base/json.h"

#include <stdio.h>
#include <string.h>
#include "base/status.h"
#include "base/utf8.h"

enum { /* dp_json.expect */
       EXPECT_VALUE,
       EXPECT_VALUE_OR_END, /* after '[' */
       EXPECT_KEY,
       EXPECT_KEY_OR_END, /* after '{' */
       EXPECT_COMMA_OR_END,
       EXPECT_NOTHING
};

static const char *const expected[] = {
    [EXPECT_VALUE] = "a value",
    [EXPECT_VALUE_OR_END] = "a value or ]",
    [EXPECT_KEY] = "a member name in quotes",
    [EXPECT_KEY_OR_END] = "a member name in quotes or }",
    [EXPECT_COMMA_OR_END] = "a comma or the end of the container",
    [EXPECT_NOTHING] = "the end of the text",
};

void dp_json_init(dp_json *json, const char *name, const char *bytes, size_t size)
{
    *json = (dp_json){ .name = name, .begin = bytes, .at = bytes, .end = bytes + size };
    dp_buf_init(&json->string, DP_JSON_STRING_MAX);
}

void dp_json_deinit(dp_json *json)
{
    dp_buf_deinit(&json->string);
}

/* Fails at json->at: "X.json:3:17: expected a value, found '}'". */
static dp_status fail_at(dp_json *json, const char *wanted, dp_error *err)
{
    unsigned long line = 1, column = 1;
    char found[20] = "the end";

    for (const char *at = json->begin; at < json->at; at++) {
        column = *at == '\n' ? 1 : column + 1;
        line += *at == '\n';
    }
    if (json->at < json->end) {
        uint8_t c = (uint8_t)*json->at;

        if (c > ' ' && c < 0x7F)
            snprintf(found, sizeof found, "'%c'", c);
        else
            snprintf(found, sizeof found, "byte 0x%02x", c);
    }
    json->status = dp_fail(err, DP_E_CORRUPT, "%s:%lu:%lu: expected %s, found %s", json->name, line,
                           column, wanted, found);
    return json->status;
}

static dp_status fail_memory(dp_json *json, dp_status st, dp_error *err)
{
    json->status = st == DP_E_LIMIT ? dp_fail(err, st, "%s: a string longer than %zu bytes",
                                              json->name, DP_JSON_STRING_MAX)
                                    : dp_fail(err, st, "%s: no memory for a string", json->name);
    return json->status;
}

static void skip_space(dp_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\t' || *json->at == '\r'))
        json->at++;
}

/* What may follow a finished value. */
static uint8_t after_value(const dp_json *json)
{
    return json->depth ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static bool in_object(const dp_json *json)
{
    return json->depth && (json->is_object >> (json->depth - 1) & 1);
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at json->at; -1 when they are not there. */
static int32_t read_unit(dp_json *json)
{
    int32_t unit = 0;

    if (json->end - json->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(json->at[i]);

        if (digit < 0)
            return -1;
        unit = unit << 4 | digit;
    }
    json->at += 4;
    return unit;
}

/* After "\u": a code point, two units where they make a pair. */
static int32_t read_code_point(dp_json *json)
{
    int32_t high = read_unit(json), low;
    const char *after = json->at;

    if (high < 0xD800 || high > 0xDBFF)
        return high; /* a lone low surrogate is written as U+FFFD */
    if (json->end - json->at < 6 || json->at[0] != '\\' || json->at[1] != 'u')
        return high;
    json->at += 2;
    low = read_unit(json);
    if (low >= 0xDC00 && low <= 0xDFFF)
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    json->at = after; /* read (or refused) on its own */
    return high;
}

/* At a backslash. */
static dp_status read_escape(dp_json *json, dp_error *err)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    char out[DP_UTF8_SIZE_MAX];
    size_t size = 1;
    const char *name;
    dp_status st;

    json->at++;
    if (json->at < json->end && *json->at == 'u') {
        int32_t cp;

        json->at++;
        cp = read_code_point(json);
        if (cp < 0)
            return fail_at(json, "four hex digits", err);
        size = dp_utf8_encode((uint32_t)cp, out);
    } else {
        name = json->at < json->end && *json->at ? strchr(names, *json->at) : NULL;
        if (!name)
            return fail_at(json, "an escape: one of \" \\ / b f n r t u", err);
        out[0] = bytes[name - names];
        json->at++;
    }
    st = dp_buf_append(&json->string, out, size);
    return st ? fail_memory(json, st, err) : DP_OK;
}

/* At the opening quote. */
static dp_status read_string(dp_json *json, dp_str *out, dp_error *err)
{
    dp_buf_reset(&json->string);
    json->at++;
    for (;;) {
        const char *run = json->at;
        dp_status st;

        while (json->at < json->end && *json->at != '"' && *json->at != '\\' &&
               (uint8_t)*json->at >= 0x20)
            json->at++;
        st = dp_buf_append(&json->string, run, (size_t)(json->at - run));
        if (st)
            return fail_memory(json, st, err);
        if (json->at == json->end || (uint8_t)*json->at < 0x20)
            return fail_at(json, "the end of a string", err);
        if (*json->at == '"')
            break;
        st = read_escape(json, err);
        if (st)
            return st;
    }
    json->at++;
    *out = (dp_str){ json->string.bytes ? json->string.bytes : "", json->string.size };
    return DP_OK;
}

/* ---- other values ---- */

static bool skip_digits(dp_json *json)
{
    const char *first = json->at;

    while (json->at < json->end && *json->at >= '0' && *json->at <= '9')
        json->at++;
    return json->at > first;
}

static bool skip_char(dp_json *json, const char *any_of)
{
    if (json->at == json->end || *json->at == '\0' || !strchr(any_of, *json->at))
        return false;
    json->at++;
    return true;
}

static dp_status read_number(dp_json *json, dp_str *out, dp_error *err)
{
    const char *first = json->at;

    skip_char(json, "-");
    if (!skip_char(json, "0") && !skip_digits(json))
        return fail_at(json, "a digit", err);
    if (skip_char(json, ".") && !skip_digits(json))
        return fail_at(json, "a digit", err);
    if (skip_char(json, "eE")) {
        skip_char(json, "+-");
        if (!skip_digits(json))
            return fail_at(json, "a digit", err);
    }
    *out = (dp_str){ first, (size_t)(json->at - first) };
    return DP_OK;
}

static dp_status read_word(dp_json *json, dp_json_token *out, dp_error *err)
{
    static const struct {
        const char *word;
        dp_json_kind kind;
    } words[] = { { "true", DP_JSON_TRUE }, { "false", DP_JSON_FALSE }, { "null", DP_JSON_NULL } };
    dp_str rest = { json->at, (size_t)(json->end - json->at) };

    for (size_t i = 0; i < DP_ARRAY_LEN(words); i++)
        if (dp_str_starts_with(rest, words[i].word)) {
            out->kind = words[i].kind;
            json->at += strlen(words[i].word);
            return DP_OK;
        }
    return fail_at(json, expected[json->expect], err);
}

static dp_status begin_container(dp_json *json, dp_json_token *out, dp_error *err)
{
    bool is_object = *json->at == '{';

    if (json->depth == DP_JSON_DEPTH_MAX) {
        json->status =
            dp_fail(err, DP_E_LIMIT, "%s: nested deeper than %d", json->name, DP_JSON_DEPTH_MAX);
        return json->status;
    }
    json->is_object &= ~((uint64_t)1 << json->depth);
    json->is_object |= (uint64_t)is_object << json->depth;
    json->depth++;
    json->at++;
    json->expect = is_object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    out->kind = is_object ? DP_JSON_OBJECT_BEGIN : DP_JSON_ARRAY_BEGIN;
    return DP_OK;
}

static dp_status read_value(dp_json *json, dp_json_token *out, dp_error *err)
{
    char c = json->at < json->end ? *json->at : '\0';
    dp_status st;

    if (c == '{' || c == '[')
        return begin_container(json, out, err);
    if (c == '"') {
        out->kind = DP_JSON_STRING;
        st = read_string(json, &out->text, err);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        out->kind = DP_JSON_NUMBER;
        st = read_number(json, &out->text, err);
    } else {
        st = read_word(json, out, err);
    }
    json->expect = after_value(json);
    return st;
}

/* ---- the stream ---- */

/* '}' or ']' where the container may end. */
static bool try_end_container(dp_json *json, dp_json_token *out)
{
    bool is_object = in_object(json);

    if (json->expect != EXPECT_COMMA_OR_END && json->expect != EXPECT_KEY_OR_END &&
        json->expect != EXPECT_VALUE_OR_END)
        return false;
    if (!skip_char(json, is_object ? "}" : "]"))
        return false;
    json->depth--;
    json->expect = after_value(json);
    *out = (dp_json_token){ .kind = is_object ? DP_JSON_OBJECT_END : DP_JSON_ARRAY_END,
                            .depth = json->depth };
    return true;
}

static dp_status read_key(dp_json *json, dp_json_token *out, dp_error *err)
{
    dp_status st;

    if (json->at == json->end || *json->at != '"')
        return fail_at(json, expected[json->expect], err);
    out->kind = DP_JSON_KEY;
    st = read_string(json, &out->text, err);
    if (st)
        return st;
    skip_space(json);
    if (!skip_char(json, ":"))
        return fail_at(json, "a colon", err);
    json->expect = EXPECT_VALUE;
    return DP_OK;
}

dp_status dp_json_next(dp_json *json, dp_json_token *out, dp_error *err)
{
    *out = (dp_json_token){ .kind = DP_JSON_END, .depth = json->depth };
    if (json->status)
        return dp_fail(err, json->status, "%s: reading goes on after a failure", json->name);
    skip_space(json);
    if (json->expect == EXPECT_NOTHING)
        return json->at == json->end ? DP_OK : fail_at(json, expected[EXPECT_NOTHING], err);
    if (try_end_container(json, out))
        return DP_OK;
    if (json->expect == EXPECT_COMMA_OR_END) {
        if (!skip_char(json, ","))
            return fail_at(json, expected[EXPECT_COMMA_OR_END], err);
        skip_space(json);
        json->expect = in_object(json) ? EXPECT_KEY : EXPECT_VALUE;
    }
    if (json->expect == EXPECT_KEY || json->expect == EXPECT_KEY_OR_END)
        return read_key(json, out, err);
    return read_value(json, out, err);
}

dp_status dp_json_skip(dp_json *json, const dp_json_token *token, dp_error *err)
{
    uint32_t depth = token->depth; /* the token may be the caller's loop variable */
    bool is_container = token->kind == DP_JSON_OBJECT_BEGIN || token->kind == DP_JSON_ARRAY_BEGIN;
    dp_json_token t;
    dp_status st = DP_OK;

    if (token->kind == DP_JSON_KEY) {
        st = dp_json_next(json, &t, err);
        return st ? st : dp_json_skip(json, &t, err);
    }
    if (!is_container)
        return DP_OK;
    do {
        st = dp_json_next(json, &t, err);
    } while (!st &&
             !(t.depth == depth && (t.kind == DP_JSON_OBJECT_END || t.kind == DP_JSON_ARRAY_END)));
    return st;
}

bool dp_json_i64(const dp_json_token *token, int64_t *out)
{
    bool is_negative = token->kind == DP_JSON_NUMBER && token->text.bytes[0] == '-';
    dp_str digits = { token->text.bytes + is_negative, token->text.size - is_negative };
    uint64_t magnitude;

    if (token->kind != DP_JSON_NUMBER || !dp_parse_u64(digits, &magnitude) ||
        magnitude > (uint64_t)INT64_MAX + is_negative)
        return false;
    *out = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool dp_json_f64(const dp_json_token *token, double *out)
{
    return token->kind == DP_JSON_NUMBER && dp_parse_f64(token->text, out);
}
