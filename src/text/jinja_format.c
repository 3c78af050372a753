/* "%s of %d" % (a, b), and "{} of {1}".format(a, b). */
#include <stdio.h>
#include <string.h>

#include "text/jinja_impl.h"

typedef struct spec {
    bool left, plus, zero, space;
    int width, precision; /* -1: none */
    char letter;
} spec;

static int read_number(const dp_jstr *s, size_t *at)
{
    int number = -1;

    while (*at < s->size && s->bytes[*at] >= '0' && s->bytes[*at] <= '9' && number < 1000)
        number = DP_MAX(number, 0) * 10 + (s->bytes[(*at)++] - '0');
    return number;
}

/* Behind "%", up to behind the letter. */
static spec read_spec(const dp_jstr *s, size_t *at)
{
    spec f = { .width = -1, .precision = -1 };
    const char *flag;

    while (*at < s->size && s->bytes[*at] && (flag = strchr("-+0 #", s->bytes[*at]))) {
        f.left |= *flag == '-';
        f.plus |= *flag == '+';
        f.zero |= *flag == '0';
        f.space |= *flag == ' ';
        (*at)++;
    }
    f.width = read_number(s, at);
    if (*at < s->size && s->bytes[*at] == '.') {
        (*at)++;
        f.precision = read_number(s, at);
        f.precision = DP_MAX(f.precision, 0);
    }
    if (*at < s->size)
        f.letter = s->bytes[(*at)++];
    return f;
}

static const dp_jstr *format_whole(dp_jrun *x, const spec *f, dp_jvalue v)
{
    const char *format = f->letter == 'x'   ? "%llx"
                         : f->letter == 'X' ? "%llX"
                         : f->letter == 'o' ? "%llo"
                                            : "%llu";
    int64_t i;
    char digits[32], text[40];

    if (v.kind == DP_JV_FLOAT && v.f > -0x1p63 && v.f < 0x1p63 && strchr("diu", f->letter))
        v = dp_jv_int((int64_t)v.f);
    if (!dp_jv_is_whole(v)) {
        dp_jinja_fail(x, DP_E_INVALID, "%%%c needs a whole number, not %s", f->letter,
                      dp_jinja_kind_name(v));
        return &dp_jinja_empty;
    }
    i = dp_jv_whole(v);
    snprintf(digits, sizeof digits, format,
             i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i);
    snprintf(text, sizeof text, "%s%s", i < 0 ? "-" : f->plus ? "+" : f->space ? " " : "", digits);
    return dp_jinja_str_copy(x, text, strlen(text), true);
}

static const dp_jstr *format_real(dp_jrun *x, const spec *f, dp_jvalue v)
{
    int precision = f->precision < 0 ? 6 : DP_MIN(f->precision, 100);
    char text[512];

    if (!dp_jv_is_number(v)) {
        dp_jinja_fail(x, DP_E_INVALID, "%%%c needs a number, not %s", f->letter,
                      dp_jinja_kind_name(v));
        return &dp_jinja_empty;
    }
    if (f->letter == 'e')
        snprintf(text, sizeof text, f->plus ? "%+.*e" : "%.*e", precision, dp_jv_real(v));
    else if (f->letter == 'g')
        snprintf(text, sizeof text, f->plus ? "%+.*g" : "%.*g", precision, dp_jv_real(v));
    else
        snprintf(text, sizeof text, f->plus ? "%+.*f" : "%.*f", precision, dp_jv_real(v));
    for (char *at = text; *at; at++) /* the locale's separator */
        if (!strchr("0123456789+-.einfa", *at))
            *at = '.';
    return dp_jinja_str_copy(x, text, strlen(text), true);
}

static const dp_jstr *format_text(dp_jrun *x, const spec *f, dp_jvalue v)
{
    const dp_jstr *s = dp_jinja_text(x, v);

    if (f->letter == 'r') {
        dp_prompt p;

        dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
        dp_jinja_put_repr(x, &p, v);
        s = dp_jinja_str_finish(x, &p, 0);
        dp_prompt_deinit(&p);
    }
    if (f->precision >= 0)
        s = dp_jinja_str_part(x, s, 0, dp_jinja_str_offset(x, s, (size_t)f->precision));
    return s;
}

static const dp_jstr *pad(dp_jrun *x, const spec *f, const dp_jstr *s)
{
    int64_t gap = f->width - (int64_t)dp_jinja_str_chars(x, s);
    bool zero = f->zero && !f->left && !strchr("sr", f->letter);
    const dp_jstr *fill = dp_jinja_str_repeat(x, dp_jinja_str_literal(x, zero ? "0" : " "), gap);
    size_t sign = zero && s->size > 0 && strchr("+- ", s->bytes[0]) ? 1 : 0;

    if (gap <= 0)
        return s;
    if (f->left)
        return dp_jinja_str_join(x, s, fill);
    fill = dp_jinja_str_join(x, dp_jinja_str_part(x, s, 0, sign), fill);
    return dp_jinja_str_join(x, fill, dp_jinja_str_part(x, s, sign, s->size));
}

static const dp_jstr *format_one(dp_jrun *x, const spec *f, dp_jvalue v)
{
    if (f->letter == '\0' || !strchr("srdiuxXofFeg", f->letter)) {
        dp_jinja_fail(x, DP_E_UNSUPPORTED, "%%%c in a format is not supported", f->letter);
        return &dp_jinja_empty;
    }
    if (strchr("sr", f->letter))
        return pad(x, f, format_text(x, f, v));
    return pad(x, f, strchr("diuxXo", f->letter) ? format_whole(x, f, v) : format_real(x, f, v));
}

dp_jvalue dp_jinja_percent(dp_jrun *x, const dp_jstr *s, dp_jvalue args)
{
    size_t used = 0, count = args.kind == DP_JV_TUPLE ? args.l->count : 1, at = 0;
    const dp_jstr *out;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    while (at < s->size && !x->st) {
        const char *found = memchr(s->bytes + at, '%', s->size - at);
        size_t end = found ? (size_t)(found - s->bytes) : s->size;
        spec f;

        dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at, end));
        if (!found)
            break;
        at = end + 1;
        f = read_spec(s, &at);
        if (f.letter == '%') {
            dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at - 1, at));
            continue;
        }
        if (used == count)
            dp_jinja_fail(x, DP_E_INVALID, "a format asks for more than its %zu values", count);
        else
            dp_jinja_put(x, &p,
                         format_one(x, &f, args.kind == DP_JV_TUPLE ? args.l->list[used] : args));
        used++;
    }
    if (used < count && args.kind != DP_JV_DICT)
        dp_jinja_fail(x, DP_E_INVALID, "a format uses %zu of %zu values", used, count);
    out = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(out);
}

/* The value of {}, {0} or {name}; *automatic counts the empty ones. */
static dp_jvalue field(dp_jrun *x, const dp_jargs *args, const dp_jstr *name, size_t *automatic)
{
    size_t at = 0;
    int number;

    dp_jinja_pay(x, args->named_count * sizeof *args->named);
    number = name->size > 0 ? read_number(name, &at) : (int)(*automatic)++;

    if (memchr(name->bytes, ':', name->size) || memchr(name->bytes, '!', name->size) ||
        memchr(name->bytes, '.', name->size) || memchr(name->bytes, '[', name->size))
        dp_jinja_fail(x, DP_E_UNSUPPORTED, "{%.*s} in str.format is not supported",
                      (int)DP_MIN(name->size, 40), name->bytes);
    else if (at == name->size && number >= 0 && (size_t)number < args->count)
        return args->list[number];
    for (size_t i = 0; i < args->named_count && !x->st; i++)
        if (dp_str_equal((dp_str){ name->bytes, name->size },
                         (dp_str){ args->named[i].name->bytes, args->named[i].name->size }))
            return args->named[i].value;
    dp_jinja_fail(x, DP_E_INVALID, "str.format has no value for {%.*s}",
                  (int)DP_MIN(name->size, 40), name->bytes);
    return dp_jv_none();
}

dp_jvalue dp_jinja_str_format(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = c->self.s, *out;
    size_t automatic = 0, at = 0;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    while (at < s->size && dp_jinja_pay(x, 0)) {
        char b = s->bytes[at];
        const char *end = b == '{' ? memchr(s->bytes + at, '}', s->size - at) : NULL;

        if ((b == '{' || b == '}') && at + 1 < s->size && s->bytes[at + 1] == b) {
            dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at, at + 1));
            at += 2;
        } else if (end) {
            size_t stop = (size_t)(end - s->bytes);
            const dp_jstr *name = dp_jinja_str_part(x, s, at + 1, stop);

            dp_jinja_put_value(x, &p, field(x, c->all, name, &automatic));
            at = stop + 1;
        } else if (b == '{' || b == '}') {
            dp_jinja_fail(x, DP_E_INVALID, "a single '%c' in str.format", b);
        } else {
            dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at, at + 1));
            at++;
        }
    }
    out = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(out);
}
