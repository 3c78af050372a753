/* Operators, attributes, items and slices, with Python's rules. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_impl.h"

static const char *const op_names[] = { "+",  "-", "*",  "/", "//", "%",  "**",    "==",
                                        "!=", "<", "<=", ">", ">=", "in", "not in" };

/* ---- arithmetic ---- */

static dp_jvalue overflow(dp_jrun *x, dp_jop op)
{
    dp_jinja_fail(x, DP_E_LIMIT, "'%s' leaves the range of 64-bit integers", op_names[op]);
    return dp_jv_none();
}

static dp_jvalue power(dp_jrun *x, int64_t base, int64_t exponent)
{
    int64_t result = 1;

    if (exponent < 0 && base == 0) {
        dp_jinja_fail(x, DP_E_INVALID, "0 to a negative power");
        return dp_jv_none();
    }
    if (exponent < 0)
        return dp_jv_float(pow((double)base, (double)exponent));
    if (base == 0 || base == 1)
        return dp_jv_int(exponent == 0 ? 1 : base);
    if (base == -1)
        return dp_jv_int(exponent % 2 ? -1 : 1);
    if (exponent > 63)
        return overflow(x, DP_JOP_POW);
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(result, base, &result))
            return overflow(x, DP_JOP_POW);
    return dp_jv_int(result);
}

static dp_jvalue whole(dp_jrun *x, dp_jop op, int64_t a, int64_t b)
{
    int64_t result = 0;
    bool wraps = false;

    if ((op == DP_JOP_DIV || op == DP_JOP_FLOORDIV || op == DP_JOP_MOD) && b == 0) {
        dp_jinja_fail(x, DP_E_INVALID, "division by zero");
        return dp_jv_none();
    }
    switch (op) {
    case DP_JOP_ADD:
        wraps = __builtin_add_overflow(a, b, &result);
        break;
    case DP_JOP_SUB:
        wraps = __builtin_sub_overflow(a, b, &result);
        break;
    case DP_JOP_MUL:
        wraps = __builtin_mul_overflow(a, b, &result);
        break;
    case DP_JOP_DIV:
        return dp_jv_float((double)a / (double)b);
    case DP_JOP_FLOORDIV: /* rounds down, as the remainder below has the sign of b */
        wraps = a == INT64_MIN && b == -1;
        if (!wraps)
            result = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        break;
    case DP_JOP_MOD:
        if (b != -1)
            result = a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
        break;
    default:
        return power(x, a, b);
    }
    return wraps ? overflow(x, op) : dp_jv_int(result);
}

static dp_jvalue real(dp_jrun *x, dp_jop op, double a, double b)
{
    double rest;

    if ((op == DP_JOP_DIV || op == DP_JOP_FLOORDIV || op == DP_JOP_MOD) && b == 0) {
        dp_jinja_fail(x, DP_E_INVALID, "division by zero");
        return dp_jv_none();
    }
    switch (op) {
    case DP_JOP_ADD:
        return dp_jv_float(a + b);
    case DP_JOP_SUB:
        return dp_jv_float(a - b);
    case DP_JOP_MUL:
        return dp_jv_float(a * b);
    case DP_JOP_DIV:
        return dp_jv_float(a / b);
    case DP_JOP_POW:
        return dp_jv_float(pow(a, b));
    default:
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0))
            rest += b;
        return dp_jv_float(op == DP_JOP_MOD ? rest : floor((a - rest) / b + 0.5));
    }
}

static dp_jvalue join_lists(dp_jrun *x, dp_jvalue a, dp_jvalue b)
{
    dp_jlist *l = dp_jinja_list(x, a.l->count + b.l->count);

    for (size_t i = 0; i < a.l->count && !x->st; i++)
        dp_jinja_list_add(x, l, a.l->list[i]);
    for (size_t i = 0; i < b.l->count && !x->st; i++)
        dp_jinja_list_add(x, l, b.l->list[i]);
    return dp_jv_list(a.kind, l);
}

static dp_jvalue repeat(dp_jrun *x, dp_jvalue v, int64_t count)
{
    dp_jlist *l;

    if (v.kind == DP_JV_STR)
        return dp_jv_str(dp_jinja_str_repeat(x, v.s, count));
    l = dp_jinja_list(x, 0);
    for (int64_t i = 0; i < count && v.l->count > 0 && !x->st; i++)
        for (size_t j = 0; j < v.l->count && !x->st; j++)
            dp_jinja_list_add(x, l, v.l->list[j]);
    return dp_jv_list(v.kind, l);
}

static bool is_repeatable(dp_jvalue v)
{
    return v.kind == DP_JV_STR || v.kind == DP_JV_LIST || v.kind == DP_JV_TUPLE;
}

dp_jvalue dp_jinja_binary(dp_jrun *x, dp_jop op, dp_jvalue a, dp_jvalue b)
{
    if (x->st)
        return dp_jv_none();
    if (dp_jv_is_whole(a) && dp_jv_is_whole(b))
        return whole(x, op, dp_jv_whole(a), dp_jv_whole(b));
    if (dp_jv_is_number(a) && dp_jv_is_number(b))
        return real(x, op, dp_jv_real(a), dp_jv_real(b));
    if (op == DP_JOP_ADD && a.kind == DP_JV_STR && b.kind == DP_JV_STR)
        return dp_jv_str(dp_jinja_str_join(x, a.s, b.s));
    if (op == DP_JOP_ADD && a.kind == b.kind && (a.kind == DP_JV_LIST || a.kind == DP_JV_TUPLE))
        return join_lists(x, a, b);
    if (op == DP_JOP_MUL && is_repeatable(a) && dp_jv_is_whole(b))
        return repeat(x, a, dp_jv_whole(b));
    if (op == DP_JOP_MUL && is_repeatable(b) && dp_jv_is_whole(a))
        return repeat(x, b, dp_jv_whole(a));
    if (op == DP_JOP_MOD && a.kind == DP_JV_STR)
        return dp_jinja_percent(x, a.s, b);
    if (a.kind == DP_JV_UNDEFINED || b.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, a.kind == DP_JV_UNDEFINED ? a : b);
    dp_jinja_fail(x, DP_E_INVALID, "'%s' does not work on %s and %s", op_names[op],
                  dp_jinja_kind_name(a), dp_jinja_kind_name(b));
    return dp_jv_none();
}

dp_jvalue dp_jinja_negative(dp_jrun *x, dp_jvalue v)
{
    if (v.kind == DP_JV_FLOAT)
        return dp_jv_float(-v.f);
    return dp_jinja_binary(x, DP_JOP_SUB, dp_jv_int(0), v);
}

bool dp_jinja_compare(dp_jrun *x, dp_jop op, dp_jvalue a, dp_jvalue b)
{
    bool has_nan = (a.kind == DP_JV_FLOAT && isnan(a.f)) || (b.kind == DP_JV_FLOAT && isnan(b.f));
    int order;

    switch (op) {
    case DP_JOP_EQ:
        return dp_jinja_equal(x, a, b);
    case DP_JOP_NE:
        return !dp_jinja_equal(x, a, b);
    case DP_JOP_IN:
        return dp_jinja_contains(x, b, a);
    case DP_JOP_NOT_IN:
        return !dp_jinja_contains(x, b, a);
    default:
        order = dp_jinja_order(x, a, b, op_names[op]);
    }
    if (has_nan)
        return false;
    return op == DP_JOP_LT   ? order < 0
           : op == DP_JOP_LE ? order <= 0
           : op == DP_JOP_GT ? order > 0
                             : order >= 0;
}

/* ---- parts of values ---- */

static dp_jvalue loop_attr(dp_jrun *x, const dp_jloop *loop, const dp_jstr *name)
{
    int64_t at = (int64_t)loop->at, count = (int64_t)loop->items->count;
    const struct {
        const char *name;
        dp_jvalue value;
    } rows[] = {
        { "index", dp_jv_int(at + 1) },
        { "index0", dp_jv_int(at) },
        { "revindex", dp_jv_int(count - at) },
        { "revindex0", dp_jv_int(count - at - 1) },
        { "first", dp_jv_bool(at == 0) },
        { "last", dp_jv_bool(at == count - 1) },
        { "length", dp_jv_int(count) },
        { "depth", dp_jv_int(loop->depth) },
        { "depth0", dp_jv_int(loop->depth - 1) },
        { "previtem", at > 0 ? loop->items->list[at - 1] : dp_jv_undefined(name) },
        { "nextitem", at + 1 < count ? loop->items->list[at + 1] : dp_jv_undefined(name) },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        if (dp_str_is((dp_str){ name->bytes, name->size }, rows[i].name))
            return rows[i].value;
    return dp_jv_undefined(name);
}

static dp_jvalue bind_method(dp_jrun *x, dp_jvalue self, const dp_jcallable *row)
{
    dp_jmethod *m = dp_jinja_take(x, sizeof *m);

    if (!m)
        return dp_jv_none();
    *m = (dp_jmethod){ self, row };
    return (dp_jvalue){ .kind = DP_JV_METHOD, .method = m };
}

/* What getattr(v, name) finds: fields and methods, no items. ABSENT: nothing. */
static dp_jvalue own_attr(dp_jrun *x, dp_jvalue v, const dp_jstr *name)
{
    const dp_jcallable *row;
    bool is_unsafe = false;

    if (v.kind == DP_JV_UNDEFINED) {
        dp_jinja_fail_undefined(x, v);
        return dp_jv_none();
    }
    if (v.kind == DP_JV_NAMESPACE) {
        const dp_jpair *pair = dp_jinja_dict_find(x, v.d, dp_jv_str(name));

        return pair ? pair->value : (dp_jvalue){ .kind = DP_JV_ABSENT };
    }
    row = dp_jinja_method_find(v, (dp_str){ name->bytes, name->size }, &is_unsafe);
    if (is_unsafe)
        dp_jinja_fail(x, DP_E_INVALID, "'%.*s' would change a %s, which templates may not",
                      (int)DP_MIN(name->size, 40), name->bytes, dp_jinja_kind_name(v));
    if (row)
        return bind_method(x, v, row);
    if (v.kind == DP_JV_LOOP) {
        dp_jvalue found = loop_attr(x, v.loop, name);

        return found.kind == DP_JV_UNDEFINED && found.s != name
                   ? (dp_jvalue){ .kind = DP_JV_ABSENT }
                   : found;
    }
    if (v.kind == DP_JV_MACRO && dp_str_is((dp_str){ name->bytes, name->size }, "name"))
        return dp_jv_str(v.macro->node->name);
    return (dp_jvalue){ .kind = DP_JV_ABSENT };
}

dp_jvalue dp_jinja_attr(dp_jrun *x, dp_jvalue v, const dp_jstr *name)
{
    dp_jvalue found = own_attr(x, v, name);
    const dp_jpair *pair;

    if (found.kind != DP_JV_ABSENT)
        return found;
    pair = v.kind == DP_JV_DICT ? dp_jinja_dict_find(x, v.d, dp_jv_str(name)) : NULL;
    return pair ? pair->value : dp_jv_undefined(name);
}

static dp_jvalue item_at(dp_jrun *x, dp_jvalue v, int64_t at, dp_jvalue missing)
{
    int64_t count = dp_jinja_length(x, v);
    size_t begin, end;

    if (at < 0)
        at += count;
    if (at < 0 || at >= count)
        return missing;
    if (v.kind != DP_JV_STR)
        return v.l->list[at];
    begin = dp_jinja_str_offset(x, v.s, (size_t)at);
    end = begin + 1;
    while (end < v.s->size && ((uint8_t)v.s->bytes[end] & 0xC0) == 0x80)
        end++;
    return dp_jv_str(dp_jinja_str_part(x, v.s, begin, end));
}

dp_jvalue dp_jinja_item(dp_jrun *x, dp_jvalue v, dp_jvalue key)
{
    dp_jvalue missing = dp_jv_undefined(key.kind == DP_JV_STR ? key.s : NULL);

    if (v.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, v);
    if (x->st)
        return dp_jv_none();
    if (v.kind == DP_JV_DICT) {
        const dp_jpair *pair = dp_jinja_dict_find(x, v.d, key);

        if (pair)
            return pair->value;
    } else if (dp_jv_is_whole(key) && (v.kind == DP_JV_STR || dp_jv_is_sequence(v))) {
        return item_at(x, v, dp_jv_whole(key), missing);
    }
    if (key.kind == DP_JV_STR) {
        dp_jvalue found = own_attr(x, v, key.s);

        if (found.kind != DP_JV_ABSENT)
            return found;
    }
    return missing;
}

/* A slice's bound within [low, high], as Python clips it. */
static int64_t bound(dp_jvalue v, int64_t count, int64_t missing, int64_t low, int64_t high)
{
    int64_t at;

    if (v.kind == DP_JV_ABSENT || v.kind == DP_JV_NONE)
        return missing;
    at = dp_jv_whole(v);
    if (at < 0)
        at = at < -count ? -1 - count : at + count; /* below everything is enough */
    return DP_MIN(DP_MAX(at, low), high);
}

static dp_jvalue slice_str(dp_jrun *x, const dp_jstr *s, int64_t begin, int64_t end, int64_t step)
{
    const dp_jlist *chars;
    const dp_jstr *out;
    dp_prompt p;

    if (step == 1) {
        size_t from = dp_jinja_str_offset(x, s, (size_t)begin);

        return dp_jv_str(dp_jinja_str_part(x, s, from, dp_jinja_str_offset(x, s, (size_t)end)));
    }
    chars = dp_jinja_items(x, dp_jv_str(s));
    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (int64_t i = begin; (step > 0 ? i < end : i > end) && !x->st; i += step)
        dp_jinja_put(x, &p, chars->list[i].s);
    out = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(out);
}

dp_jvalue dp_jinja_slice(dp_jrun *x, dp_jvalue v, dp_jvalue begin, dp_jvalue end, dp_jvalue step)
{
    const dp_jvalue parts[] = { begin, end, step };
    int64_t count = dp_jinja_length(x, v), by = 1, from, to;
    dp_jlist *l;

    if (v.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, v);
    if (x->st || (v.kind != DP_JV_STR && !dp_jv_is_sequence(v)))
        return dp_jv_undefined(NULL);
    for (size_t i = 0; i < DP_ARRAY_LEN(parts); i++)
        if (parts[i].kind != DP_JV_ABSENT && parts[i].kind != DP_JV_NONE &&
            !dp_jv_is_whole(parts[i]))
            return dp_jv_undefined(NULL); /* what Jinja makes of Python's TypeError */
    if (step.kind != DP_JV_ABSENT && step.kind != DP_JV_NONE)
        by = dp_jv_whole(step);
    if (by == 0)
        dp_jinja_fail(x, DP_E_INVALID, "a slice's step is 0");
    if (x->st)
        return dp_jv_none();
    by = DP_MIN(DP_MAX(by, -count - 1), count + 1); /* longer steps end it all the same */
    from = bound(begin, count, by > 0 ? 0 : count - 1, by > 0 ? 0 : -1, by > 0 ? count : count - 1);
    to = bound(end, count, by > 0 ? count : -1, by > 0 ? 0 : -1, by > 0 ? count : count - 1);
    if (v.kind == DP_JV_STR)
        return slice_str(x, v.s, from, to, by);
    l = dp_jinja_list(x, 0);
    for (int64_t i = from; (by > 0 ? i < to : i > to) && !x->st; i += by)
        dp_jinja_list_add(x, l, v.l->list[i]);
    return dp_jv_list(v.kind, l);
}

dp_jvalue dp_jinja_path(dp_jrun *x, dp_jvalue v, dp_jvalue path)
{
    size_t at = 0;

    if (path.kind != DP_JV_STR)
        return dp_jinja_item(x, v, path);
    while (at <= path.s->size && !x->st) {
        size_t end = at;
        int64_t number = 0;
        bool is_number;
        const dp_jstr *part;

        while (end < path.s->size && path.s->bytes[end] != '.')
            end++;
        part = dp_jinja_str_part(x, path.s, at, end);
        is_number = part->size > 0 && part->size < 10;
        for (size_t i = 0; i < part->size && is_number; i++) {
            is_number = part->bytes[i] >= '0' && part->bytes[i] <= '9';
            number = number * 10 + (part->bytes[i] - '0');
        }
        v = dp_jinja_item(x, v, is_number ? dp_jv_int(number) : dp_jv_str(part));
        at = end + 1;
    }
    return v;
}
