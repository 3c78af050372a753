/* Tests: what stands behind "is". */
#include <string.h>

#include "base/utf8.h"
#include "text/casing.h"
#include "text/jinja_impl.h"
#include "text/unicode.h"

static dp_jvalue is_defined(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind != DP_JV_UNDEFINED);
}

static dp_jvalue is_undefined(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_UNDEFINED);
}

static dp_jvalue is_none(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_NONE);
}

static dp_jvalue is_boolean(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_BOOL);
}

static dp_jvalue is_true(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_BOOL && c->self.is);
}

static dp_jvalue is_false(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_BOOL && !c->self.is);
}

static dp_jvalue is_integer(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_INT);
}

static dp_jvalue is_float(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_FLOAT);
}

static dp_jvalue is_number(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(dp_jv_is_number(c->self));
}

static dp_jvalue is_string(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_STR);
}

static dp_jvalue is_mapping(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(c->self.kind == DP_JV_DICT);
}

static dp_jvalue is_iterable(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_bool(dp_jinja_is_iterable(c->self));
}

/* What has a length and items; Jinja counts dicts and undefined values. */
static dp_jvalue is_sequence(dp_jrun *x, const dp_jcall *c)
{
    dp_jkind kind = c->self.kind;

    return dp_jv_bool(kind == DP_JV_STR || kind == DP_JV_LIST || kind == DP_JV_TUPLE ||
                      kind == DP_JV_DICT || kind == DP_JV_UNDEFINED);
}

static dp_jvalue is_callable(dp_jrun *x, const dp_jcall *c)
{
    dp_jkind kind = c->self.kind;

    return dp_jv_bool(kind == DP_JV_FUNCTION || kind == DP_JV_METHOD || kind == DP_JV_MACRO);
}

static dp_jvalue is_same(dp_jrun *x, const dp_jcall *c)
{
    dp_jvalue a = c->self, b = c->arg[0];

    if (a.kind != b.kind)
        return dp_jv_bool(false);
    if (a.kind == DP_JV_LIST || a.kind == DP_JV_DICT || a.kind == DP_JV_NAMESPACE)
        return dp_jv_bool(a.l == b.l);
    return dp_jv_bool(dp_jinja_equal(x, a, b));
}

static dp_jvalue compared(dp_jrun *x, const dp_jcall *c, dp_jop op)
{
    return dp_jv_bool(dp_jinja_compare(x, op, c->self, c->arg[0]));
}

static dp_jvalue is_equal(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_EQ);
}

static dp_jvalue is_unequal(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_NE);
}

static dp_jvalue is_less(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_LT);
}

static dp_jvalue is_at_most(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_LE);
}

static dp_jvalue is_greater(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_GT);
}

static dp_jvalue is_at_least(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_GE);
}

static dp_jvalue is_in(dp_jrun *x, const dp_jcall *c)
{
    return compared(x, c, DP_JOP_IN);
}

static dp_jvalue remainder_is(dp_jrun *x, dp_jvalue v, dp_jvalue by, int64_t want)
{
    dp_jvalue rest = dp_jinja_binary(x, DP_JOP_MOD, v, by);

    return dp_jv_bool(!x->st && dp_jinja_equal(x, rest, dp_jv_int(want)));
}

static dp_jvalue is_odd(dp_jrun *x, const dp_jcall *c)
{
    return remainder_is(x, c->self, dp_jv_int(2), 1);
}

static dp_jvalue is_even(dp_jrun *x, const dp_jcall *c)
{
    return remainder_is(x, c->self, dp_jv_int(2), 0);
}

static dp_jvalue is_divisible(dp_jrun *x, const dp_jcall *c)
{
    return remainder_is(x, c->self, c->arg[0], 0);
}

/* Python's islower, isupper: some letters have case, and all of those this one. */
static dp_jvalue has_case(dp_jrun *x, dp_jvalue v, uint32_t classes)
{
    const dp_jstr *s = dp_jinja_text(x, v);
    bool is_any = false;
    uint32_t cp;

    for (size_t at = 0; at < s->size && dp_jinja_pay(x, 0);) {
        at += dp_utf8_decode(s->bytes + at, s->size - at, &cp);
        if (!dp_casing_is_cased(cp))
            continue;
        if (!(dp_unicode_bit(cp) & classes))
            return dp_jv_bool(false);
        is_any = true;
    }
    return dp_jv_bool(is_any);
}

static dp_jvalue is_lower(dp_jrun *x, const dp_jcall *c)
{
    return has_case(x, c->self, DP_IS_LL);
}

static dp_jvalue is_upper(dp_jrun *x, const dp_jcall *c)
{
    return has_case(x, c->self, DP_IS_LU);
}

static dp_jvalue is_filter(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = dp_jinja_text(x, c->self);

    return dp_jv_bool(dp_jinja_filter_find((dp_str){ s->bytes, s->size }) != NULL);
}

static dp_jvalue is_test(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = dp_jinja_text(x, c->self);

    return dp_jv_bool(dp_jinja_check_find((dp_str){ s->bytes, s->size }) != NULL);
}

static const dp_jcallable checks[] = {
    { "!=", is_unequal, 1, false, { "other" } },
    { "<", is_less, 1, false, { "other" } },
    { "<=", is_at_most, 1, false, { "other" } },
    { "==", is_equal, 1, false, { "other" } },
    { ">", is_greater, 1, false, { "other" } },
    { ">=", is_at_least, 1, false, { "other" } },
    { "boolean", is_boolean, 0, false, { NULL } },
    { "callable", is_callable, 0, false, { NULL } },
    { "defined", is_defined, 0, false, { NULL } },
    { "divisibleby", is_divisible, 1, false, { "num" } },
    { "eq", is_equal, 1, false, { "other" } },
    { "equalto", is_equal, 1, false, { "other" } },
    { "even", is_even, 0, false, { NULL } },
    { "false", is_false, 0, false, { NULL } },
    { "filter", is_filter, 0, false, { NULL } },
    { "float", is_float, 0, false, { NULL } },
    { "ge", is_at_least, 1, false, { "other" } },
    { "greaterthan", is_greater, 1, false, { "other" } },
    { "gt", is_greater, 1, false, { "other" } },
    { "in", is_in, 1, false, { "seq" } },
    { "integer", is_integer, 0, false, { NULL } },
    { "iterable", is_iterable, 0, false, { NULL } },
    { "le", is_at_most, 1, false, { "other" } },
    { "lessthan", is_less, 1, false, { "other" } },
    { "lower", is_lower, 0, false, { NULL } },
    { "lt", is_less, 1, false, { "other" } },
    { "mapping", is_mapping, 0, false, { NULL } },
    { "ne", is_unequal, 1, false, { "other" } },
    { "none", is_none, 0, false, { NULL } },
    { "number", is_number, 0, false, { NULL } },
    { "odd", is_odd, 0, false, { NULL } },
    { "sameas", is_same, 1, false, { "other" } },
    { "sequence", is_sequence, 0, false, { NULL } },
    { "string", is_string, 0, false, { NULL } },
    { "test", is_test, 0, false, { NULL } },
    { "true", is_true, 0, false, { NULL } },
    { "undefined", is_undefined, 0, false, { NULL } },
    { "upper", is_upper, 0, false, { NULL } },
};

const dp_jcallable *dp_jinja_check_find(dp_str name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(checks); i++)
        if (dp_str_is(name, checks[i].name))
            return &checks[i];
    return NULL;
}
