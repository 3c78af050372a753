/* Values as text: Python's str() and repr(), and JSON as transformers' tojson writes it. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_impl.h"
#include "text/unicode.h"

/* ---- numbers ---- */

/* The fewest digits that read back as f; their count, and the exponent of the first. */
static int shortest_digits(double f, char digits[20], int *exponent)
{
    char text[40];
    int count = 0;

    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, f);
        if (strtod(text, NULL) == f)
            break;
    }
    /* Whatever the locale puts between the digits is passed over. */
    for (const char *at = text; *at && *at != 'e'; at++)
        if (*at >= '0' && *at <= '9')
            digits[count++] = *at;
    *exponent = atoi(strchr(text, 'e') + 1);
    return count;
}

void dp_jinja_format_float(char out[32], double f)
{
    char digits[20] = { 0 };
    int exponent, count, at = 0;

    if (isnan(f) || isinf(f)) {
        strcpy(out, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    if (signbit(f))
        out[at++] = '-';
    count = shortest_digits(fabs(f), digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        out[at++] = digits[0];
        if (count > 1)
            out[at++] = '.';
        memcpy(out + at, digits + 1, (size_t)count - 1);
        at += count - 1;
        snprintf(out + at, (size_t)(32 - at), "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--)
            out[at++] = '0';
    }
    for (int i = 0; i < DP_MAX(count, exponent + 1); i++) {
        out[at++] = i < count ? digits[i] : '0';
        if (i == exponent)
            out[at++] = '.';
    }
    if (exponent >= count - 1)
        out[at++] = '0';
    out[at] = '\0';
}

/* Numbers, True and None are trusted: they cannot spell anything. */
static bool put_plain(dp_jrun *x, dp_prompt *p, dp_jvalue v)
{
    char text[32];

    if (v.kind == DP_JV_INT)
        snprintf(text, sizeof text, "%" PRId64, v.i);
    else if (v.kind == DP_JV_FLOAT)
        dp_jinja_format_float(text, v.f);
    else if (v.kind == DP_JV_BOOL)
        strcpy(text, v.is ? "True" : "False");
    else if (v.kind == DP_JV_NONE)
        strcpy(text, "None");
    else
        return false;
    dp_jinja_put_text(x, p, text);
    return true;
}

/* ---- repr ---- */

static void put_as(dp_jrun *x, dp_prompt *p, const dp_jstr *origin, const char *bytes, size_t size)
{
    dp_jstr s = { bytes, size, NULL, 0, dp_jinja_str_is_trusted(origin) };

    dp_jinja_put(x, p, &s);
}

static bool is_printable(uint32_t cp)
{
    return cp == ' ' ||
           (cp < 0x80 ? cp > ' ' && cp < 0x7F
                      : (dp_unicode_bit(cp) & (DP_IS_SPACE | 1u << DP_UNICODE_OTHER)) == 0);
}

static void put_repr_char(dp_jrun *x, dp_prompt *p, const dp_jstr *s, size_t at, size_t size,
                          char quote)
{
    char c = s->bytes[at], text[16];
    const char *found = strchr("\n\r\t", c);
    uint32_t cp;

    dp_utf8_decode(s->bytes + at, size, &cp);
    if (c == quote || c == '\\')
        snprintf(text, sizeof text, "\\%c", c);
    else if (found && c)
        snprintf(text, sizeof text, "\\%c", "nrt"[found - "\n\r\t"]);
    else if (!is_printable(cp))
        snprintf(text, sizeof text,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 cp);
    else {
        put_as(x, p, s, s->bytes + at, size);
        return;
    }
    put_as(x, p, s, text, strlen(text));
}

static void put_repr_str(dp_jrun *x, dp_prompt *p, const dp_jstr *s)
{
    bool has_single = s->size && memchr(s->bytes, '\'', s->size);
    char quote = has_single && !memchr(s->bytes, '"', s->size) ? '"' : '\'';
    uint32_t cp;

    put_as(x, p, s, &quote, 1);
    for (size_t at = 0; at < s->size && dp_jinja_pay(x, 0);) {
        size_t size = dp_utf8_decode(s->bytes + at, s->size - at, &cp);

        put_repr_char(x, p, s, at, size, quote);
        at += size;
    }
    put_as(x, p, s, &quote, 1);
}

static void put_repr_items(dp_jrun *x, dp_prompt *p, dp_jvalue v)
{
    bool is_dict = v.kind == DP_JV_DICT;
    size_t count = is_dict ? v.d->count : v.l->count;

    dp_jinja_put_text(x, p, is_dict ? "{" : v.kind == DP_JV_TUPLE ? "(" : "[");
    for (size_t i = 0; i < count && !x->st; i++) {
        if (i)
            dp_jinja_put_text(x, p, ", ");
        if (is_dict) {
            dp_jinja_put_repr(x, p, v.d->list[i].key);
            dp_jinja_put_text(x, p, ": ");
        }
        dp_jinja_put_repr(x, p, is_dict ? v.d->list[i].value : v.l->list[i]);
    }
    if (v.kind == DP_JV_TUPLE && count == 1)
        dp_jinja_put_text(x, p, ",");
    dp_jinja_put_text(x, p, is_dict ? "}" : v.kind == DP_JV_TUPLE ? ")" : "]");
}

void dp_jinja_put_repr(dp_jrun *x, dp_prompt *p, dp_jvalue v)
{
    if (put_plain(x, p, v) || !dp_jinja_enter(x))
        return;
    if (v.kind == DP_JV_STR)
        put_repr_str(x, p, v.s);
    else if (v.kind == DP_JV_DICT || v.kind == DP_JV_LIST || v.kind == DP_JV_TUPLE)
        put_repr_items(x, p, v);
    else if (v.kind == DP_JV_UNDEFINED)
        dp_jinja_put_text(x, p, "Undefined");
    else
        dp_jinja_fail(x, DP_E_UNSUPPORTED, "a %s cannot be printed", dp_jinja_kind_name(v));
    dp_jinja_leave(x);
}

void dp_jinja_put_value(dp_jrun *x, dp_prompt *p, dp_jvalue v)
{
    if (v.kind == DP_JV_STR)
        dp_jinja_put(x, p, v.s);
    else if (v.kind != DP_JV_UNDEFINED)
        dp_jinja_put_repr(x, p, v);
}

const dp_jstr *dp_jinja_text(dp_jrun *x, dp_jvalue v)
{
    const dp_jstr *s;
    dp_prompt p;

    if (v.kind == DP_JV_STR)
        return v.s;
    if (v.kind == DP_JV_UNDEFINED)
        return &dp_jinja_empty;
    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    dp_jinja_put_value(x, &p, v);
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return s;
}

/* ---- JSON ---- */

/* Written with every byte marked by its own origin; one untrusted byte then makes
 * the whole untrusted (dp_jinja_to_json). */
typedef struct json {
    const dp_jjson *how;
    dp_prompt *out;
    int depth;
} json;

static void put_json(dp_jrun *x, json *j, dp_jvalue v);

static void put_json_str(dp_jrun *x, json *j, const dp_jstr *s)
{
    static const char from[] = "\"\\\n\r\t\b\f", to[] = "\"\\nrtbf";
    size_t plain = 0;

    put_as(x, j->out, s, "\"", 1);
    for (size_t at = 0; at <= s->size && dp_jinja_pay(x, 0); at++) {
        const char *found = at < s->size && s->bytes[at] ? strchr(from, s->bytes[at]) : NULL;
        bool is_control = at < s->size && (uint8_t)s->bytes[at] < 0x20;
        char text[8];

        if (!found && !is_control && at < s->size)
            continue;
        put_as(x, j->out, s, s->bytes + plain, at - plain);
        plain = at + 1;
        if (at == s->size)
            break;
        if (found)
            snprintf(text, sizeof text, "\\%c", to[found - from]);
        else
            snprintf(text, sizeof text, "\\u%04x", (uint8_t)s->bytes[at]);
        put_as(x, j->out, s, text, strlen(text));
    }
    put_as(x, j->out, s, "\"", 1);
}

static void put_json_newline(dp_jrun *x, json *j)
{
    if (!j->how->indent)
        return;
    dp_jinja_put_text(x, j->out, "\n");
    for (int i = 0; i < j->depth && !x->st; i++)
        dp_jinja_put(x, j->out, j->how->indent);
}

static void put_json_key(dp_jrun *x, json *j, dp_jvalue key)
{
    if (key.kind == DP_JV_STR) {
        put_json_str(x, j, key.s);
    } else if (dp_jv_is_number(key) || key.kind == DP_JV_NONE) {
        dp_jinja_put_text(x, j->out, "\"");
        put_json(x, j, key);
        dp_jinja_put_text(x, j->out, "\"");
    } else {
        dp_jinja_fail(x, DP_E_INVALID, "tojson: a %s as a key", dp_jinja_kind_name(key));
    }
    dp_jinja_put(x, j->out, j->how->key_separator);
}

static void put_json_items(dp_jrun *x, json *j, dp_jvalue v)
{
    bool is_dict = v.kind == DP_JV_DICT;
    size_t count = is_dict ? v.d->count : v.l->count;
    const dp_jlist *keys = NULL;

    if (is_dict && j->how->sorts_keys) {
        const dp_jvalue is_sensitive = dp_jv_bool(true);
        const dp_jargs args = { .list = &is_sensitive, .count = 1 };

        keys = dp_jinja_items(
            x, dp_jinja_call_row(x, dp_jinja_filter_find(dp_str_from("dictsort")), v, &args));
        count = keys->count;
    }
    dp_jinja_put_text(x, j->out, is_dict ? "{" : "[");
    j->depth++;
    for (size_t i = 0; i < count && !x->st; i++) {
        dp_jpair pair = { dp_jv_none(), dp_jv_none() };

        if (keys)
            pair = (dp_jpair){ keys->list[i].l->list[0], keys->list[i].l->list[1] };
        else if (is_dict)
            pair = v.d->list[i];
        if (i)
            dp_jinja_put(x, j->out, j->how->item_separator);
        put_json_newline(x, j);
        if (is_dict)
            put_json_key(x, j, pair.key);
        put_json(x, j, is_dict ? pair.value : v.l->list[i]);
    }
    j->depth--;
    if (count > 0)
        put_json_newline(x, j);
    dp_jinja_put_text(x, j->out, is_dict ? "}" : "]");
}

static void put_json(dp_jrun *x, json *j, dp_jvalue v)
{
    char text[32];

    if (!dp_jinja_enter(x))
        return;
    if (v.kind == DP_JV_STR) {
        put_json_str(x, j, v.s);
    } else if (v.kind == DP_JV_DICT || v.kind == DP_JV_LIST || v.kind == DP_JV_TUPLE) {
        put_json_items(x, j, v);
    } else if (v.kind == DP_JV_BOOL || v.kind == DP_JV_NONE) {
        dp_jinja_put_text(x, j->out, v.kind == DP_JV_NONE ? "null" : v.is ? "true" : "false");
    } else if (v.kind == DP_JV_FLOAT && !isfinite(v.f)) {
        dp_jinja_put_text(x, j->out, isnan(v.f) ? "NaN" : v.f > 0 ? "Infinity" : "-Infinity");
    } else if (v.kind == DP_JV_INT || v.kind == DP_JV_FLOAT) {
        if (v.kind == DP_JV_INT)
            snprintf(text, sizeof text, "%" PRId64, v.i);
        else
            dp_jinja_format_float(text, v.f);
        dp_jinja_put_text(x, j->out, text);
    } else {
        dp_jinja_fail(x, DP_E_INVALID, "tojson: %s is not JSON", dp_jinja_kind_name(v));
    }
    dp_jinja_leave(x);
}

const dp_jstr *dp_jinja_to_json(dp_jrun *x, dp_jvalue v, const dp_jjson *how)
{
    const dp_jstr *s;
    dp_prompt p;
    json j = { how, &p, 0 };

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    put_json(x, &j, v);
    for (size_t i = 0; i < p.runs.count; i++)
        if (!p.runs.list[i].is_trusted) {
            p.runs.list[0] = (dp_run){ p.text.size, false };
            p.runs.count = 1;
        }
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return s;
}
