/* Expressions: nodes to values. */
#include "text/jinja_impl.h"

static dp_jvalue eval_name(dp_jrun *x, const dp_jstr *name)
{
    const dp_jcallable *global;

    for (const dp_jscope *scope = x->scope; scope; scope = scope->parent) {
        dp_jinja_pay(x, scope->count * sizeof *scope->list);
        for (size_t i = scope->count; i-- > 0;)
            if (scope->list[i].name == name)
                return scope->list[i].value;
    }
    global = dp_jinja_global_find((dp_str){ name->bytes, name->size });
    if (global)
        return (dp_jvalue){ .kind = DP_JV_FUNCTION, .function = global };
    return dp_jv_undefined(name);
}

static dp_jvalue eval_list(dp_jrun *x, const dp_jnode *n)
{
    dp_jlist *l = dp_jinja_list(x, 0);

    for (const dp_jnode *item = n->list; item && !x->st; item = item->next)
        dp_jinja_list_add(x, l, dp_jinja_eval(x, item));
    return dp_jv_list(n->kind == DP_JN_TUPLE ? DP_JV_TUPLE : DP_JV_LIST, l);
}

static dp_jvalue eval_dict(dp_jrun *x, const dp_jnode *n)
{
    dp_jdict *d = dp_jinja_dict(x);

    for (const dp_jnode *pair = n->list; pair && !x->st; pair = pair->next) {
        dp_jvalue key = dp_jinja_eval(x, pair->a);

        dp_jinja_dict_set(x, d, key, dp_jinja_eval(x, pair->b));
    }
    return (dp_jvalue){ .kind = DP_JV_DICT, .d = d };
}

static dp_jvalue eval_optional(dp_jrun *x, const dp_jnode *n)
{
    return n ? dp_jinja_eval(x, n) : (dp_jvalue){ .kind = DP_JV_ABSENT };
}

static dp_jvalue eval_item(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue v = dp_jinja_eval(x, n->a), begin, end;

    if (n->b->kind != DP_JN_SLICE)
        return dp_jinja_item(x, v, dp_jinja_eval(x, n->b));
    begin = eval_optional(x, n->b->a);
    end = eval_optional(x, n->b->b);
    return dp_jinja_slice(x, v, begin, end, eval_optional(x, n->b->c));
}

static dp_jvalue eval_concat(dp_jrun *x, const dp_jnode *n)
{
    const dp_jstr *s = &dp_jinja_empty;

    for (const dp_jnode *part = n->list; part && !x->st; part = part->next)
        s = dp_jinja_str_join(x, s, dp_jinja_text(x, dp_jinja_eval(x, part)));
    return dp_jv_str(s);
}

/* a < b < c: each pair must hold; the first that does not ends it. */
static dp_jvalue eval_compare(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue left = dp_jinja_eval(x, n->a);

    for (const dp_jnode *operand = n->list; operand && !x->st; operand = operand->next) {
        dp_jvalue right = dp_jinja_eval(x, operand->a);

        if (x->st || !dp_jinja_compare(x, operand->op, left, right))
            return dp_jv_bool(false);
        left = right;
    }
    return dp_jv_bool(true);
}

static dp_jvalue eval_call(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue callee = dp_jinja_eval(x, n->a);
    dp_jargs args;

    dp_jinja_eval_args(x, n->list, &args);
    x->line = x->st ? x->line : n->line;
    return dp_jinja_call_value(x, callee, &args);
}

/* A filter, or the test of a check. */
static dp_jvalue eval_row(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue input = dp_jinja_eval(x, n->a);
    dp_jargs args;

    dp_jinja_eval_args(x, n->list, &args);
    x->line = x->st ? x->line : n->line;
    return x->st ? dp_jv_none() : dp_jinja_call_row(x, n->row, input, &args);
}

dp_jvalue dp_jinja_filtered(dp_jrun *x, const dp_jnode *filters, dp_jvalue v)
{
    dp_jargs args;

    if (!filters)
        return v;
    v = dp_jinja_filtered(x, filters->a, v); /* as deep as the parser let them be */
    dp_jinja_eval_args(x, filters->list, &args);
    return x->st ? dp_jv_none() : dp_jinja_call_row(x, filters->row, v, &args);
}

static dp_jvalue eval_logic(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue a = dp_jinja_eval(x, n->a);

    if (x->st)
        return dp_jv_none();
    switch (n->kind) {
    case DP_JN_NOT:
        return dp_jv_bool(!dp_jinja_truth(x, a));
    case DP_JN_AND:
        return dp_jinja_truth(x, a) ? dp_jinja_eval(x, n->b) : a;
    case DP_JN_OR:
        return dp_jinja_truth(x, a) ? a : dp_jinja_eval(x, n->b);
    default: /* COND */
        if (dp_jinja_truth(x, a))
            return dp_jinja_eval(x, n->b);
        return n->c ? dp_jinja_eval(x, n->c) : dp_jv_undefined(NULL);
    }
}

static dp_jvalue eval_binary(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue a = dp_jinja_eval(x, n->a), b = dp_jinja_eval(x, n->b);

    return dp_jinja_binary(x, n->op, a, b);
}

static dp_jvalue eval_kind(dp_jrun *x, const dp_jnode *n)
{
    switch (n->kind) {
    case DP_JN_CONST:
        return n->value;
    case DP_JN_NAME:
        return eval_name(x, n->name);
    case DP_JN_TUPLE:
    case DP_JN_LIST:
        return eval_list(x, n);
    case DP_JN_DICT:
        return eval_dict(x, n);
    case DP_JN_ATTR:
        return dp_jinja_attr(x, dp_jinja_eval(x, n->a), n->name);
    case DP_JN_ITEM:
        return eval_item(x, n);
    case DP_JN_CALL:
        return eval_call(x, n);
    case DP_JN_FILTER:
    case DP_JN_CHECK:
        return eval_row(x, n);
    case DP_JN_NEG:
        return dp_jinja_negative(x, dp_jinja_eval(x, n->a));
    case DP_JN_POS:
        return dp_jinja_binary(x, DP_JOP_ADD, dp_jv_int(0), dp_jinja_eval(x, n->a));
    case DP_JN_BINARY:
        return eval_binary(x, n);
    case DP_JN_CONCAT:
        return eval_concat(x, n);
    case DP_JN_COMPARE:
        return eval_compare(x, n);
    default:
        return eval_logic(x, n);
    }
}

dp_jvalue dp_jinja_eval(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue v;

    if (x->st || !dp_jinja_pay(x, 0) || !dp_jinja_enter(x))
        return dp_jv_none();
    x->line = n->line;
    v = eval_kind(x, n);
    dp_jinja_leave(x);
    return x->st ? dp_jv_none() : v;
}
