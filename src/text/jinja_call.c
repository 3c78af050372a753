/* Calls: arguments bound to the names of a row or a macro. */
#include <string.h>

#include "text/jinja_impl.h"

/* ---- rows ---- */

/* The place of a named argument among a row's parameters; PARAMS: none has that name. */
static size_t param_place(const dp_jcallable *row, const dp_jstr *name)
{
    size_t place = 0;

    while (
        place < DP_JINJA_PARAMS &&
        !(row->params[place] && dp_str_is((dp_str){ name->bytes, name->size }, row->params[place])))
        place++;
    return place;
}

dp_jvalue dp_jinja_call_row(dp_jrun *x, const dp_jcallable *row, dp_jvalue self,
                            const dp_jargs *args)
{
    dp_jcall call = { .self = self, .all = args };
    size_t params = 0;

    if (!dp_jinja_pay(x, args->named_count * sizeof *args->named))
        return dp_jv_none();
    while (params < DP_JINJA_PARAMS && row->params[params])
        params++;
    if (args->count > params && !row->takes_any)
        dp_jinja_fail(x, DP_E_INVALID, "%s takes %zu arguments, not %zu", row->name, params,
                      args->count);
    for (size_t i = 0; i < args->count && i < params; i++)
        call.arg[i] = args->list[i];
    for (size_t i = 0; i < args->named_count && !x->st; i++) {
        const dp_jstr *name = args->named[i].name;
        size_t place = param_place(row, name);

        if (place < DP_JINJA_PARAMS && call.arg[place].kind == DP_JV_ABSENT)
            call.arg[place] = args->named[i].value;
        else if (!row->takes_any)
            dp_jinja_fail(x, DP_E_INVALID, "%s has no argument %.*s%s", row->name,
                          (int)DP_MIN(name->size, 40), name->bytes,
                          place < DP_JINJA_PARAMS ? " twice" : "");
    }
    for (size_t i = 0; i < row->required; i++)
        if (call.arg[i].kind == DP_JV_ABSENT)
            dp_jinja_fail(x, DP_E_INVALID, "%s needs its argument \"%s\"", row->name,
                          row->params[i]);
    return x->st ? dp_jv_none() : row->call(x, &call);
}

dp_jvalue dp_jinja_call_value(dp_jrun *x, dp_jvalue callee, const dp_jargs *args)
{
    dp_jvalue result = dp_jv_none();

    if (!dp_jinja_enter(x))
        return result;
    if (callee.kind == DP_JV_FUNCTION)
        result = dp_jinja_call_row(x, callee.function, dp_jv_none(), args);
    else if (callee.kind == DP_JV_METHOD)
        result = dp_jinja_call_row(x, callee.method->row, callee.method->self, args);
    else if (callee.kind == DP_JV_MACRO)
        result = dp_jinja_call_macro(x, callee.macro, args);
    else if (callee.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, callee);
    else
        dp_jinja_fail(x, DP_E_INVALID, "a %s cannot be called", dp_jinja_kind_name(callee));
    dp_jinja_leave(x);
    return result;
}

void dp_jinja_eval_args(dp_jrun *x, const dp_jnode *list, dp_jargs *out)
{
    size_t count = 0;
    dp_jvalue *values;
    dp_jvar *named;

    *out = (dp_jargs){ 0 };
    for (const dp_jnode *n = list; n; n = n->next)
        count++;
    if (count == 0)
        return;
    values = dp_jinja_take(x, count * sizeof *values);
    named = dp_jinja_take(x, count * sizeof *named);
    if (!values || !named)
        return;
    for (const dp_jnode *n = list; n && !x->st; n = n->next) {
        if (n->kind == DP_JN_KWARG)
            named[out->named_count++] = (dp_jvar){ n->name, dp_jinja_eval(x, n->a) };
        else
            values[out->count++] = dp_jinja_eval(x, n);
    }
    out->list = values;
    out->named = named;
}

/* ---- macros ---- */

static const dp_jvar *find_named(const dp_jargs *args, const dp_jstr *name)
{
    for (size_t i = 0; i < args->named_count; i++)
        if (args->named[i].name == name)
            return &args->named[i];
    return NULL;
}

static bool is_param(const dp_jnode *macro, const dp_jstr *name)
{
    for (const dp_jnode *param = macro->list; param; param = param->next)
        if (param->name == name)
            return true;
    return false;
}

/* What no parameter takes: `caller`, and more for a macro that says varargs or kwargs. */
static void bind_rest(dp_jrun *x, const dp_jmacro *macro, const dp_jargs *args, size_t taken)
{
    const dp_jinja *jinja = x->jinja;
    const dp_jnode *n = macro->node;
    dp_jlist *more = dp_jinja_list(x, 0);
    dp_jdict *named = dp_jinja_dict(x);

    for (size_t i = taken; i < args->count; i++)
        dp_jinja_list_add(x, more, args->list[i]);
    for (size_t i = 0; i < args->named_count && !x->st; i++) {
        const dp_jvar *arg = &args->named[i];

        if (is_param(n, arg->name))
            continue;
        if (arg->name == jinja->caller && n->says_caller)
            dp_jinja_scope_set(x, x->scope, arg->name, arg->value);
        else
            dp_jinja_dict_set(x, named, dp_jv_str(arg->name), arg->value);
    }
    if (n->says_varargs)
        dp_jinja_scope_set(x, x->scope, jinja->varargs, dp_jv_list(DP_JV_TUPLE, more));
    else if (more->count > 0)
        dp_jinja_fail(x, DP_E_INVALID, "macro %.*s takes %zu arguments, not %zu",
                      (int)DP_MIN(n->name->size, 40), n->name->bytes, taken, args->count);
    if (n->says_kwargs)
        dp_jinja_scope_set(x, x->scope, jinja->kwargs,
                           (dp_jvalue){ .kind = DP_JV_DICT, .d = named });
    else if (named->count > 0)
        dp_jinja_fail(x, DP_E_INVALID, "macro %.*s has no argument %.*s",
                      (int)DP_MIN(n->name->size, 40), n->name->bytes,
                      (int)DP_MIN(named->list[0].key.s->size, 40), named->list[0].key.s->bytes);
}

static void bind_macro(dp_jrun *x, const dp_jmacro *macro, const dp_jargs *args)
{
    size_t taken = 0;

    for (const dp_jnode *param = macro->node->list;
         param && dp_jinja_pay(x, args->named_count * sizeof *args->named); param = param->next) {
        const dp_jvar *named = find_named(args, param->name);
        dp_jvalue value = dp_jv_undefined(param->name);

        if (taken < args->count && named)
            dp_jinja_fail(x, DP_E_INVALID, "the macro's argument %.*s is given twice",
                          (int)DP_MIN(param->name->size, 40), param->name->bytes);
        else if (taken < args->count)
            value = args->list[taken++];
        else if (named)
            value = named->value;
        else if (param->a)
            value = dp_jinja_eval(x, param->a);
        dp_jinja_scope_set(x, x->scope, param->name, value);
    }
    bind_rest(x, macro, args, taken);
}

dp_jvalue dp_jinja_call_macro(dp_jrun *x, const dp_jmacro *macro, const dp_jargs *args)
{
    dp_jscope *scope = x->scope;
    const dp_jstr *text;
    uint32_t line = x->line;

    x->scope = dp_jinja_scope_push(x, macro->scope);
    if (!x->scope) {
        x->scope = scope;
        return dp_jv_none();
    }
    bind_macro(x, macro, args);
    text = dp_jinja_capture(x, macro->node->body);
    x->scope = scope;
    if (!x->st)
        x->line = line;
    return dp_jv_str(text);
}
