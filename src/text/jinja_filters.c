/* Filters on single values and on text. Those on sequences: jinja_filters_seq.c. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_impl.h"

static const dp_jstr *input_text(dp_jrun *x, const dp_jcall *c)
{
    return dp_jinja_text(x, c->self);
}

/* Argument i as text, or NULL when it was not given or is none. */
static const dp_jstr *text_arg(dp_jrun *x, const dp_jcall *c, size_t i)
{
    if (c->arg[i].kind == DP_JV_ABSENT || c->arg[i].kind == DP_JV_NONE)
        return NULL;
    return dp_jinja_text(x, c->arg[i]);
}

static int64_t whole_arg(dp_jrun *x, const dp_jcall *c, size_t i, int64_t missing)
{
    if (c->arg[i].kind == DP_JV_ABSENT)
        return missing;
    if (!dp_jv_is_whole(c->arg[i]))
        dp_jinja_fail(x, DP_E_INVALID, "a filter needs a whole number, not %s",
                      dp_jinja_kind_name(c->arg[i]));
    return x->st ? missing : dp_jv_whole(c->arg[i]);
}

static bool flag_arg(dp_jrun *x, const dp_jcall *c, size_t i, bool missing)
{
    return c->arg[i].kind == DP_JV_ABSENT ? missing : dp_jinja_truth(x, c->arg[i]);
}

/* ---- text ---- */

static dp_jvalue do_trim(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_strip(x, input_text(x, c), text_arg(x, c, 0), true, true));
}

static dp_jvalue do_upper(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, input_text(x, c), DP_JCASE_UPPER));
}

static dp_jvalue do_lower(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, input_text(x, c), DP_JCASE_LOWER));
}

static dp_jvalue do_capitalize(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, input_text(x, c), DP_JCASE_CAPITAL));
}

static bool begins_word(uint32_t before)
{
    return before == '-' || before == '(' || before == '{' || before == '[' || before == '<' ||
           dp_jinja_is_space(before);
}

static const dp_jstr *upper_first(dp_jrun *x, const dp_jstr *word)
{
    size_t size = dp_jinja_str_offset(x, word, 1);
    const dp_jstr *first = dp_jinja_str_part(x, word, 0, size);
    const dp_jstr *rest = dp_jinja_str_part(x, word, size, word->size);

    return dp_jinja_str_join(x, dp_jinja_str_case(x, first, DP_JCASE_UPPER),
                             dp_jinja_str_case(x, rest, DP_JCASE_LOWER));
}

/* Jinja's title: words begin behind white space and opening braces, not behind every
 * character that is no letter, as Python's. */
static dp_jvalue do_title(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = input_text(x, c);
    size_t begin = 0;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (size_t at = 1; at <= s->size && dp_jinja_pay(x, 0); at++) {
        if (at < s->size && !begins_word((uint8_t)s->bytes[at - 1]))
            continue;
        dp_jinja_put(x, &p, upper_first(x, dp_jinja_str_part(x, s, begin, at)));
        begin = at;
    }
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(s);
}

static dp_jvalue do_replace(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_replace(x, input_text(x, c), dp_jinja_text(x, c->arg[0]),
                                          dp_jinja_text(x, c->arg[1]), whole_arg(x, c, 2, -1)));
}

static dp_jvalue do_string(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(input_text(x, c));
}

static dp_jvalue do_escape(dp_jrun *x, const dp_jcall *c)
{
    static const char *const rows[][2] = {
        { "&", "&amp;" }, { ">", "&gt;" }, { "<", "&lt;" }, { "'", "&#39;" }, { "\"", "&#34;" },
    };
    const dp_jstr *s = input_text(x, c);

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        s = dp_jinja_str_replace(x, s, dp_jinja_str_literal(x, rows[i][0]),
                                 dp_jinja_str_literal(x, rows[i][1]), -1);
    return dp_jv_str(s);
}

/* indent(width=4, first=false, blank=false): every line but the first, and no empty one. */
static dp_jvalue do_indent(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = input_text(x, c), *by, *out = &dp_jinja_empty;
    bool indents = flag_arg(x, c, 1, false), blank = flag_arg(x, c, 2, false);
    size_t at = 0;

    if (c->arg[0].kind == DP_JV_STR)
        by = c->arg[0].s;
    else
        by = dp_jinja_str_repeat(x, dp_jinja_str_literal(x, " "), whole_arg(x, c, 0, 4));
    while (at <= s->size && !x->st) {
        const char *newline = at < s->size ? memchr(s->bytes + at, '\n', s->size - at) : NULL;
        size_t end = newline ? (size_t)(newline - s->bytes) : s->size;

        if ((at == 0 && indents) || (at > 0 && (end > at || blank)))
            out = dp_jinja_str_join(x, out, by);
        out = dp_jinja_str_join(x, out, dp_jinja_str_part(x, s, at, DP_MIN(end + 1, s->size)));
        if (!newline)
            break;
        at = end + 1;
    }
    return dp_jv_str(out);
}

static dp_jvalue do_wordcount(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = input_text(x, c);
    bool is_inside = false;
    int64_t count = 0;

    if (!dp_jinja_pay(x, s->size))
        return dp_jv_none();
    for (size_t i = 0; i < s->size; i++) { /* \w+; bytes of longer characters are letters */
        uint8_t b = (uint8_t)s->bytes[i];
        bool is_word = b >= 0x80 || isalnum(b) || b == '_';

        count += is_word && !is_inside;
        is_inside = is_word;
    }
    return dp_jv_int(count);
}

static dp_jvalue do_center(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = input_text(x, c), *space = dp_jinja_str_literal(x, " ");
    int64_t width = whole_arg(x, c, 0, 80), gap = width - (int64_t)dp_jinja_str_chars(x, s), left;

    if (gap <= 0)
        return dp_jv_str(s);
    left = gap / 2 + (gap & width & 1);
    s = dp_jinja_str_join(x, dp_jinja_str_repeat(x, space, left), s);
    return dp_jv_str(dp_jinja_str_join(x, s, dp_jinja_str_repeat(x, space, gap - left)));
}

static dp_jvalue do_format(dp_jrun *x, const dp_jcall *c)
{
    dp_jlist *l = dp_jinja_list(x, c->all->count);

    for (size_t i = 0; i < c->all->count; i++)
        dp_jinja_list_add(x, l, c->all->list[i]);
    return dp_jinja_percent(x, input_text(x, c), dp_jv_list(DP_JV_TUPLE, l));
}

/* ---- numbers ---- */

/* Python's float() of text; white space around it, underscores between digits. */
static bool parse_real(dp_jrun *x, const dp_jstr *s, double *out)
{
    char text[64];
    size_t size = 0;

    s = dp_jinja_str_strip(x, s, NULL, true, true);
    if (s->size == 0 || s->size >= sizeof text)
        return false;
    for (size_t i = 0; i < s->size; i++) {
        bool is_joint = s->bytes[i] == '_' && i > 0 && i + 1 < s->size &&
                        isdigit((uint8_t)s->bytes[i - 1]) && isdigit((uint8_t)s->bytes[i + 1]);

        if (!is_joint)
            text[size++] = s->bytes[i];
    }
    return dp_parse_f64((dp_str){ text, size }, out);
}

/* Python's int(text, base). */
static bool parse_whole(dp_jrun *x, const dp_jstr *s, int64_t base, int64_t *out)
{
    size_t at = 0;
    bool is_negative, has_digit = false;

    s = dp_jinja_str_strip(x, s, NULL, true, true);
    is_negative = s->size > 0 && s->bytes[0] == '-';
    at = s->size > 0 && (s->bytes[0] == '-' || s->bytes[0] == '+');
    if (s->size > at + 2 && s->bytes[at] == '0' &&
        ((base == 16 && (s->bytes[at + 1] | 0x20) == 'x') ||
         (base == 8 && (s->bytes[at + 1] | 0x20) == 'o') ||
         (base == 2 && (s->bytes[at + 1] | 0x20) == 'b')))
        at += 2;
    for (*out = 0; at < s->size; at++) {
        uint8_t b = (uint8_t)s->bytes[at];
        int64_t digit = isdigit(b) ? b - '0' : isalpha(b) ? (b | 0x20) - 'a' + 10 : 99;

        if (b == '_' && has_digit && at + 1 < s->size)
            continue;
        if (digit >= base || __builtin_mul_overflow(*out, base, out) ||
            __builtin_add_overflow(*out, is_negative ? -digit : digit, out))
            return false;
        has_digit = true;
    }
    return has_digit;
}

/* int(default=0, base=10). */
static dp_jvalue do_int(dp_jrun *x, const dp_jcall *c)
{
    dp_jvalue missing = c->arg[0].kind == DP_JV_ABSENT ? dp_jv_int(0) : c->arg[0];
    int64_t i, base = whole_arg(x, c, 1, 10);
    double f = NAN;

    if (c->self.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, c->self);
    if (dp_jv_is_whole(c->self))
        return dp_jv_int(dp_jv_whole(c->self));
    if (c->self.kind == DP_JV_STR && parse_whole(x, c->self.s, base, &i))
        return dp_jv_int(i);
    if (c->self.kind == DP_JV_FLOAT)
        f = c->self.f;
    else if (c->self.kind != DP_JV_STR || !parse_real(x, c->self.s, &f))
        return missing;
    return fabs(f) < 0x1p63 ? dp_jv_int((int64_t)f) : missing;
}

static dp_jvalue do_float(dp_jrun *x, const dp_jcall *c)
{
    dp_jvalue missing = c->arg[0].kind == DP_JV_ABSENT ? dp_jv_float(0) : c->arg[0];
    double f;

    if (c->self.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, c->self);
    if (dp_jv_is_number(c->self))
        return dp_jv_float(dp_jv_real(c->self));
    if (c->self.kind == DP_JV_STR && parse_real(x, c->self.s, &f))
        return dp_jv_float(f);
    return missing;
}

static dp_jvalue do_abs(dp_jrun *x, const dp_jcall *c)
{
    if (c->self.kind == DP_JV_FLOAT)
        return dp_jv_float(fabs(c->self.f));
    if (!dp_jv_is_whole(c->self))
        dp_jinja_fail(x, DP_E_INVALID, "abs of %s", dp_jinja_kind_name(c->self));
    else if (dp_jv_whole(c->self) < 0)
        return dp_jinja_negative(x, c->self);
    return c->self;
}

/* round(precision=0, method="common"|"ceil"|"floor"); common is half to even, decimal. */
static dp_jvalue do_round(dp_jrun *x, const dp_jcall *c)
{
    int64_t precision = whole_arg(x, c, 0, 0);
    const dp_jstr *method = text_arg(x, c, 1);
    double f, scale;
    char text[512];

    if (!dp_jv_is_number(c->self) || precision < 0 || precision > 300)
        dp_jinja_fail(x, DP_E_INVALID, "round of %s to %lld digits", dp_jinja_kind_name(c->self),
                      (long long)precision);
    if (x->st)
        return dp_jv_none();
    f = dp_jv_real(c->self);
    scale = pow(10, (double)precision);
    if (method && dp_str_is((dp_str){ method->bytes, method->size }, "ceil"))
        return dp_jv_float(ceil(f * scale) / scale);
    if (method && dp_str_is((dp_str){ method->bytes, method->size }, "floor"))
        return dp_jv_float(floor(f * scale) / scale);
    if (dp_jv_is_whole(c->self))
        return dp_jv_int(dp_jv_whole(c->self));
    if (!isfinite(f) || fabs(f) > 1e15)
        return c->self;
    snprintf(text, sizeof text, "%.*f", (int)precision, f);
    for (char *at = text; *at; at++) /* the locale's separator */
        if (!isdigit((uint8_t)*at) && *at != '-')
            *at = '.';
    dp_parse_f64(dp_str_from(text), &f);
    return dp_jv_float(f);
}

/* ---- any value ---- */

static dp_jvalue do_default(dp_jrun *x, const dp_jcall *c)
{
    bool replaces = c->self.kind == DP_JV_UNDEFINED ||
                    (flag_arg(x, c, 1, false) && !dp_jinja_truth(x, c->self));

    if (!replaces)
        return c->self;
    return c->arg[0].kind == DP_JV_ABSENT ? dp_jv_str(&dp_jinja_empty) : c->arg[0];
}

static dp_jvalue do_length(dp_jrun *x, const dp_jcall *c)
{
    int64_t length = dp_jinja_length(x, c->self);

    if (length < 0)
        dp_jinja_fail(x, DP_E_INVALID, "%s has no length", dp_jinja_kind_name(c->self));
    return dp_jv_int(length);
}

static dp_jvalue do_attr(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *name = dp_jinja_text(x, c->arg[0]);
    dp_jvalue v = c->self;

    if (v.kind == DP_JV_DICT) /* attributes, no items */
        v.d = dp_jinja_dict(x);
    return dp_jinja_attr(x, v, name);
}

/* tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False), as
 * transformers replaces Jinja's own. */
static dp_jvalue do_tojson(dp_jrun *x, const dp_jcall *c)
{
    dp_jvalue indent = c->arg[1], separators = c->arg[2];
    bool has_indent = indent.kind != DP_JV_ABSENT && indent.kind != DP_JV_NONE;
    dp_jjson how = { NULL, dp_jinja_str_literal(x, has_indent ? "," : ", "),
                     dp_jinja_str_literal(x, ": "), flag_arg(x, c, 3, false) };

    if (flag_arg(x, c, 0, false))
        dp_jinja_fail(x, DP_E_UNSUPPORTED, "tojson with ensure_ascii is not supported");
    if (has_indent)
        how.indent = indent.kind == DP_JV_STR ? indent.s
                                              : dp_jinja_str_repeat(x, dp_jinja_str_literal(x, " "),
                                                                    whole_arg(x, c, 1, 0));
    if (separators.kind == DP_JV_TUPLE || separators.kind == DP_JV_LIST) {
        if (separators.l->count != 2)
            dp_jinja_fail(x, DP_E_INVALID, "tojson: separators are two");
        else {
            how.item_separator = dp_jinja_text(x, separators.l->list[0]);
            how.key_separator = dp_jinja_text(x, separators.l->list[1]);
        }
    }
    return dp_jv_str(dp_jinja_to_json(x, c->self, &how));
}

static const dp_jcallable filters[] = {
    { "abs", do_abs, 0, false, { NULL } },
    { "attr", do_attr, 1, false, { "name" } },
    { "capitalize", do_capitalize, 0, false, { NULL } },
    { "center", do_center, 0, false, { "width" } },
    { "count", do_length, 0, false, { NULL } },
    { "d", do_default, 0, false, { "default_value", "boolean" } },
    { "default", do_default, 0, false, { "default_value", "boolean" } },
    { "e", do_escape, 0, false, { NULL } },
    { "escape", do_escape, 0, false, { NULL } },
    { "float", do_float, 0, false, { "default" } },
    { "forceescape", do_escape, 0, false, { NULL } },
    { "format", do_format, 0, true, { NULL } },
    { "indent", do_indent, 0, false, { "width", "first", "blank" } },
    { "int", do_int, 0, false, { "default", "base" } },
    { "length", do_length, 0, false, { NULL } },
    { "lower", do_lower, 0, false, { NULL } },
    { "replace", do_replace, 2, false, { "old", "new", "count" } },
    { "round", do_round, 0, false, { "precision", "method" } },
    { "safe", do_string, 0, false, { NULL } },
    { "string", do_string, 0, false, { NULL } },
    { "title", do_title, 0, false, { NULL } },
    { "tojson", do_tojson, 0, false, { "ensure_ascii", "indent", "separators", "sort_keys" } },
    { "trim", do_trim, 0, false, { "chars" } },
    { "upper", do_upper, 0, false, { NULL } },
    { "wordcount", do_wordcount, 0, false, { NULL } },
};

const dp_jcallable *dp_jinja_filter_find(dp_str name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(filters); i++)
        if (dp_str_is(name, filters[i].name))
            return &filters[i];
    return dp_jinja_filter_seq_find(name);
}
