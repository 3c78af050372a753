/* Statements, scopes, loops; rendering from end to end. */
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/jinja_impl.h"

/* ---- scopes ---- */

dp_jscope *dp_jinja_scope_push(dp_jrun *x, dp_jscope *parent)
{
    dp_jscope *scope = dp_jinja_take(x, sizeof *scope);

    if (scope)
        scope->parent = parent;
    return scope;
}

void dp_jinja_scope_set(dp_jrun *x, dp_jscope *scope, const dp_jstr *name, dp_jvalue v)
{
    if (!dp_jinja_pay(x, scope->count * sizeof *scope->list))
        return;
    for (size_t i = 0; i < scope->count; i++)
        if (scope->list[i].name == name) {
            scope->list[i].value = v;
            return;
        }
    if (scope->count == scope->capacity) {
        size_t capacity = DP_MAX(2 * scope->capacity, (size_t)4);
        dp_jvar *list = dp_jinja_take(x, capacity * sizeof *list);

        if (!list)
            return;
        if (scope->count > 0)
            memcpy(list, scope->list, scope->count * sizeof *list);
        scope->list = list;
        scope->capacity = capacity;
    }
    scope->list[scope->count++] = (dp_jvar){ name, v };
}

static void assign(dp_jrun *x, const dp_jnode *target, dp_jvalue v)
{
    const dp_jlist *items;
    const dp_jnode *part = target->list;
    dp_jvalue space;

    if (x->st)
        return;
    if (target->kind == DP_JN_NAME) {
        dp_jinja_scope_set(x, x->scope, target->name, v);
    } else if (target->kind == DP_JN_ATTR) {
        space = dp_jinja_eval(x, target->a);
        if (!x->st && space.kind != DP_JV_NAMESPACE)
            dp_jinja_fail(x, DP_E_INVALID, "an attribute can be set on a namespace, not on %s",
                          dp_jinja_kind_name(space));
        if (!x->st)
            dp_jinja_dict_set(x, space.d, dp_jv_str(target->name), v);
    } else {
        items = dp_jinja_items(x, v);
        for (size_t i = 0; i < items->count && part && !x->st; i++, part = part->next) {
            assign(x, part, items->list[i]);
            if (i + 1 < items->count && !part->next)
                dp_jinja_fail(x, DP_E_INVALID, "%zu values for fewer names", items->count);
        }
        if (part)
            dp_jinja_fail(x, DP_E_INVALID, "%zu values for more names", items->count);
    }
}

/* ---- output ---- */

const dp_jstr *dp_jinja_capture(dp_jrun *x, const dp_jnode *first)
{
    dp_prompt *out = x->out, p;
    const dp_jstr *s;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    x->out = &p;
    dp_jinja_exec(x, first);
    x->out = out;
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return s;
}

/* Statements in a scope of their own. */
static const dp_jstr *capture_inside(dp_jrun *x, const dp_jnode *first)
{
    dp_jscope *scope = x->scope, *inner = dp_jinja_scope_push(x, scope);
    const dp_jstr *s;

    if (!inner)
        return &dp_jinja_empty;
    x->scope = inner;
    s = dp_jinja_capture(x, first);
    x->scope = scope;
    return s;
}

/* ---- loops ---- */

/* What passes the loop's "if". */
static const dp_jlist *pick(dp_jrun *x, const dp_jnode *n, const dp_jlist *items)
{
    dp_jlist *picked = dp_jinja_list(x, 0);

    for (size_t i = 0; i < items->count && !x->st; i++) {
        x->scope->count = 0;
        assign(x, n->a, items->list[i]);
        if (dp_jinja_truth(x, dp_jinja_eval(x, n->c)))
            dp_jinja_list_add(x, picked, items->list[i]);
    }
    return picked;
}

/* Every round begins with a scope that holds `loop` and the targets, nothing else. */
static void exec_rounds(dp_jrun *x, const dp_jnode *n, dp_jloop *loop)
{
    for (; loop->at < loop->items->count && dp_jinja_pay(x, 0); loop->at++) {
        x->scope->count = 0;
        dp_jinja_scope_set(x, x->scope, x->jinja->loop,
                           (dp_jvalue){ .kind = DP_JV_LOOP, .loop = loop });
        assign(x, n->a, loop->items->list[loop->at]);
        dp_jinja_exec(x, n->body);
        if (x->flow == DP_JFLOW_BREAK) {
            x->flow = DP_JFLOW_ON;
            break;
        }
        x->flow = DP_JFLOW_ON;
    }
}

static void exec_for(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue over = dp_jinja_eval(x, n->b);
    const dp_jlist *items = dp_jinja_items(x, over);
    dp_jscope *outer = x->scope, *inner = dp_jinja_scope_push(x, outer);
    dp_jloop *loop = dp_jinja_take(x, sizeof *loop);

    if (!inner || !loop)
        return;
    loop->depth = 1; /* only recursive loops go deeper */
    x->scope = inner;
    loop->items = n->c ? pick(x, n, items) : items;
    exec_rounds(x, n, loop);
    x->scope = outer;
    if (loop->items->count == 0 && n->other && !x->st) {
        inner->count = 0;
        x->scope = inner;
        dp_jinja_exec(x, n->other);
        x->scope = outer;
    }
}

/* ---- other statements ---- */

static void exec_if(dp_jrun *x, const dp_jnode *n)
{
    for (const dp_jnode *branch = n->list; branch && !x->st; branch = branch->next)
        if (!branch->a || dp_jinja_truth(x, dp_jinja_eval(x, branch->a))) {
            if (!x->st)
                dp_jinja_exec(x, branch->body);
            return;
        }
}

static dp_jvalue make_macro(dp_jrun *x, const dp_jnode *n)
{
    dp_jmacro *macro = dp_jinja_take(x, sizeof *macro);

    if (!macro)
        return dp_jv_none();
    *macro = (dp_jmacro){ n, x->scope };
    return (dp_jvalue){ .kind = DP_JV_MACRO, .macro = macro };
}

/* {% call f(args) %}: the call, with the block as the macro `caller`. */
static void exec_caller(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue callee = dp_jinja_eval(x, n->a->a);
    dp_jargs args;
    dp_jvar *named;

    dp_jinja_eval_args(x, n->a->list, &args);
    named = dp_jinja_take(x, (args.named_count + 1) * sizeof *named);
    if (!named)
        return;
    if (args.named_count > 0)
        memcpy(named, args.named, args.named_count * sizeof *named);
    named[args.named_count++] = (dp_jvar){ x->jinja->caller, make_macro(x, n) };
    args.named = named;
    dp_jinja_put_value(x, x->out, dp_jinja_call_value(x, callee, &args));
}

static void exec_with(dp_jrun *x, const dp_jnode *n)
{
    dp_jscope *outer = x->scope, *inner = dp_jinja_scope_push(x, outer);

    for (const dp_jnode *set = n->list; set && inner && !x->st; set = set->next) {
        dp_jvalue v = dp_jinja_eval(x, set->b); /* outside: they do not see each other */

        x->scope = inner;
        assign(x, set->a, v);
        x->scope = outer;
    }
    if (!inner)
        return;
    x->scope = inner;
    dp_jinja_exec(x, n->body);
    x->scope = outer;
}

static void exec_output(dp_jrun *x, const dp_jnode *n)
{
    dp_jvalue v = dp_jinja_eval(x, n->a);

    if (!x->st)
        dp_jinja_put_value(x, x->out, v);
}

static void exec_one(dp_jrun *x, const dp_jnode *n)
{
    switch (n->kind) {
    case DP_JN_TEXT:
        dp_jinja_put(x, x->out, n->value.s);
        break;
    case DP_JN_OUTPUT:
        exec_output(x, n);
        break;
    case DP_JN_IF:
        exec_if(x, n);
        break;
    case DP_JN_FOR:
        exec_for(x, n);
        break;
    case DP_JN_SET:
        assign(x, n->a, dp_jinja_eval(x, n->b));
        break;
    case DP_JN_SET_BLOCK:
        assign(x, n->a, dp_jinja_filtered(x, n->b, dp_jv_str(capture_inside(x, n->body))));
        break;
    case DP_JN_MACRO:
        dp_jinja_scope_set(x, x->scope, n->name, make_macro(x, n));
        break;
    case DP_JN_CALLER:
        exec_caller(x, n);
        break;
    case DP_JN_FILTERED:
        dp_jinja_put_value(x, x->out,
                           dp_jinja_filtered(x, n->b, dp_jv_str(capture_inside(x, n->body))));
        break;
    case DP_JN_WITH:
        exec_with(x, n);
        break;
    default:
        x->flow = n->kind == DP_JN_BREAK ? DP_JFLOW_BREAK : DP_JFLOW_CONTINUE;
        break;
    }
}

void dp_jinja_exec(dp_jrun *x, const dp_jnode *first)
{
    if (!first || !dp_jinja_enter(x))
        return;
    for (const dp_jnode *n = first; n && x->flow == DP_JFLOW_ON && dp_jinja_pay(x, 0);
         n = n->next) {
        x->line = n->line;
        exec_one(x, n);
    }
    dp_jinja_leave(x);
}

/* ---- rendering ---- */

static void set_var(dp_jrun *x, dp_str name, dp_jvalue v)
{
    const dp_jstr *known = dp_jinja_name(x->jinja, name);

    if (known) /* otherwise the template never asks for it */
        dp_jinja_scope_set(x, x->scope, known, v);
}

static void set_members(dp_jrun *x, dp_jvalue v)
{
    if (!x->st && v.kind != DP_JV_DICT)
        dp_jinja_fail(x, DP_E_INVALID, "the arguments are %s, not an object",
                      dp_jinja_kind_name(v));
    for (size_t i = 0; !x->st && i < v.d->count; i++) {
        const dp_jstr *name = v.d->list[i].key.s;

        set_var(x, (dp_str){ name->bytes, name->size }, v.d->list[i].value);
    }
}

static void set_vars(dp_jrun *x, const dp_jinja_var *vars, size_t count)
{
    for (size_t i = 0; i < count && !x->st; i++) {
        dp_str value = vars[i].value;

        if (!vars[i].name)
            set_members(x, dp_jinja_from_json(x, "arguments", value));
        else if (vars[i].is_json)
            set_var(x, dp_str_from(vars[i].name), dp_jinja_from_json(x, vars[i].name, value));
        else
            set_var(x, dp_str_from(vars[i].name),
                    dp_jv_str(dp_jinja_str_view(x, value.bytes, value.size, true)));
    }
}

dp_status dp_jinja_render(const dp_jinja *jinja, const dp_jinja_var *vars, size_t count,
                          int64_t now_s, dp_prompt *out, dp_error *err)
{
    dp_jrun x = { .jinja = jinja, .out = out, .now_s = now_s, .line = 1, .err = err };
    size_t size = out->text.size;

    dp_jinja_memory_init(&x.memory, DP_JINJA_MEMORY_MAX);
    x.scope = dp_jinja_scope_push(&x, NULL);
    if (x.scope)
        set_vars(&x, vars, count);
    if (!x.st)
        dp_jinja_exec(&x, jinja->body);
    if (x.st)
        dp_prompt_cut(out, size);
    dp_jinja_memory_deinit(&x.memory);
    return x.st;
}
