/* Statements: text, {{ output }} and {% blocks %} to nodes; opening and closing. */
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/jinja_impl.h"

#define PARSE_MEMORY_MAX ((size_t)256 << 20) /* what the longest template can need */

/* ---- names ---- */

const dp_jstr *dp_jinja_name(const dp_jinja *jinja, dp_str name)
{
    uint32_t id = dp_map_str_get(&jinja->ids, name);

    return id == DP_MAP_NONE ? NULL : jinja->names[id];
}

static dp_status add_name(dp_jinja *jinja, dp_jstr *s)
{
    if (jinja->name_count == jinja->name_capacity) {
        size_t capacity = DP_MAX(2 * jinja->name_capacity, (size_t)64);
        const dp_jstr **names = dp_realloc(jinja->names, capacity, sizeof *names);

        if (!names)
            return DP_E_NOMEM;
        jinja->names = names;
        jinja->name_capacity = capacity;
    }
    jinja->names[jinja->name_count++] = s;
    return dp_map_str_add(&jinja->ids, (dp_str){ s->bytes, s->size },
                          (uint32_t)jinja->name_count - 1, NULL);
}

/* Names point into the template's text, which the jinja keeps. */
const dp_jstr *dp_jinja_intern(dp_jparser *p, dp_str name)
{
    const dp_jstr *found = dp_jinja_name(p->jinja, name);
    dp_jstr *s;

    if (found)
        return found;
    s = dp_jinja_parse_take(p, sizeof *s);
    if (!s)
        return NULL;
    *s = (dp_jstr){ name.bytes, name.size, NULL, 0, true };
    if (add_name(p->jinja, s))
        dp_jinja_parse_fail(p, DP_E_NOMEM, p->at->line, "no memory for a name");
    return s;
}

/* ---- blocks ---- */

static dp_jnode *parse_statements(dp_jparser *p, const char *const *ends);

/* Behind "{%": true at one of the names that end a block. */
static bool at_end_name(const dp_jparser *p, const char *const *ends)
{
    for (size_t i = 0; ends && ends[i]; i++)
        if (dp_jinja_at_name(p, ends[i]))
            return true;
    return false;
}

/* "%}", statements, "{% end %}", where `end` is the only way out. */
static dp_jnode *parse_block(dp_jparser *p, const char *end)
{
    const char *const ends[] = { end, NULL };
    dp_jnode *body;

    dp_jinja_expect_kind(p, DP_JT_BLOCK_END);
    body = parse_statements(p, ends);
    if (!p->st && !dp_jinja_skip_name(p, end))
        dp_jinja_parse_unexpected(p, end);
    return body;
}

static void check_target(dp_jparser *p, const dp_jnode *n)
{
    if (p->st || !n || n->kind == DP_JN_NAME)
        return;
    if (n->kind != DP_JN_TUPLE)
        dp_jinja_parse_fail(p, DP_E_INVALID, n->line, "something is set that is no name");
    for (const dp_jnode *part = n->list; part; part = part->next)
        check_target(p, part);
}

static dp_jnode *parse_target(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_parse_tuple(p, DP_JTUPLE_TARGET);

    check_target(p, n);
    return n;
}

static dp_jnode *parse_for(dp_jparser *p)
{
    static const char *const body_ends[] = { "endfor", "else", NULL };
    dp_jnode *n = dp_jinja_node(p, DP_JN_FOR);

    if (!n)
        return NULL;
    n->a = parse_target(p);
    if (!dp_jinja_skip_name(p, "in"))
        dp_jinja_parse_unexpected(p, "in");
    n->b = dp_jinja_parse_tuple(p, DP_JTUPLE_NO_COND);
    if (dp_jinja_skip_name(p, "if"))
        n->c = dp_jinja_parse_expression(p);
    if (dp_jinja_at_name(p, "recursive"))
        dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, n->line, "recursive loops are not supported");
    dp_jinja_expect_kind(p, DP_JT_BLOCK_END);
    p->loop_depth++;
    n->body = parse_statements(p, body_ends);
    p->loop_depth--;
    if (dp_jinja_skip_name(p, "else"))
        n->other = parse_block(p, "endfor");
    else if (!p->st && !dp_jinja_skip_name(p, "endfor"))
        dp_jinja_parse_unexpected(p, "endfor");
    return dp_jinja_deepen(p, n);
}

static dp_jnode *parse_if(dp_jparser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    dp_jnode *n = dp_jinja_node(p, DP_JN_IF), *branch;
    dp_jnode **tail = n ? &n->list : NULL;
    bool is_else = false;

    do {
        branch = dp_jinja_node(p, DP_JN_BRANCH);
        if (!branch)
            return NULL;
        if (!is_else)
            branch->a = dp_jinja_parse_tuple(p, DP_JTUPLE_NO_COND);
        if (is_else) {
            branch->body = parse_block(p, "endif");
        } else {
            dp_jinja_expect_kind(p, DP_JT_BLOCK_END);
            branch->body = parse_statements(p, ends);
        }
        dp_jinja_deepen(p, branch);
        *tail = branch;
        tail = &branch->next;
        if (is_else || dp_jinja_skip_name(p, "endif"))
            break;
        is_else = dp_jinja_skip_name(p, "else");
        if (!p->st && !is_else && !dp_jinja_skip_name(p, "elif"))
            dp_jinja_parse_unexpected(p, "elif, else or endif");
    } while (!p->st);
    return dp_jinja_deepen(p, n);
}

static dp_jnode *parse_set(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_SET);

    if (!n)
        return NULL;
    if (p->at->kind == DP_JT_NAME && p->at[1].kind == DP_JT_OP && dp_str_is(p->at[1].text, ".")) {
        n->a = dp_jinja_node(p, DP_JN_ATTR);
        if (!n->a)
            return NULL;
        n->a->a = dp_jinja_parse_primary(p);
        dp_jinja_parse_next(p);
        n->a->name = dp_jinja_expect_name(p);
        dp_jinja_deepen(p, n->a);
    } else {
        n->a = parse_target(p);
    }
    if (dp_jinja_skip_op(p, "=")) {
        n->b = dp_jinja_parse_tuple(p, DP_JTUPLE_ANY);
        if (!n->b && !p->st)
            dp_jinja_parse_unexpected(p, "an expression");
    } else {
        n->kind = DP_JN_SET_BLOCK;
        n->b = dp_jinja_parse_filters(p, NULL, false);
        n->body = parse_block(p, "endset");
    }
    return dp_jinja_deepen(p, n);
}

/* "(a, b=1)" behind macro and call. */
static dp_jnode *parse_params(dp_jparser *p)
{
    dp_jnode *first = NULL, **tail = &first;
    bool has_default = false;

    dp_jinja_expect_op(p, "(");
    while (!p->st && !dp_jinja_at_op(p, ")")) {
        dp_jnode *param = dp_jinja_node(p, DP_JN_PARAM);

        if (!param)
            return NULL;
        param->name = dp_jinja_expect_name(p);
        if (dp_jinja_skip_op(p, "=")) {
            param->a = dp_jinja_parse_expression(p);
            has_default = true;
        } else if (has_default) {
            dp_jinja_parse_unexpected(p, "a default, as those before have one,");
        }
        *tail = dp_jinja_deepen(p, param);
        tail = &param->next;
        if (!dp_jinja_skip_op(p, ","))
            break;
    }
    dp_jinja_expect_op(p, ")");
    return first;
}

/* A loop around a macro is not a loop for the macro's break. */
static dp_jnode *parse_apart(dp_jparser *p, const char *end)
{
    uint32_t loop_depth = p->loop_depth;
    dp_jnode *body;

    p->loop_depth = 0;
    body = parse_block(p, end);
    p->loop_depth = loop_depth;
    return body;
}

/* True when the macro's body says `name`: only then may it get more than it asks for. */
static bool says(const dp_jnode *n, const dp_jstr *name)
{
    for (; n; n = n->next)
        if ((n->kind == DP_JN_NAME && n->name == name) || says(n->a, name) || says(n->b, name) ||
            says(n->c, name) || says(n->list, name) || says(n->body, name) || says(n->other, name))
            return true;
    return false;
}

/* A macro with its body. */
static dp_jnode *finish_macro(dp_jparser *p, dp_jnode *n)
{
    if (p->st)
        return NULL;
    n->says_caller = says(n->body, p->jinja->caller);
    n->says_varargs = says(n->body, p->jinja->varargs);
    n->says_kwargs = says(n->body, p->jinja->kwargs);
    return dp_jinja_deepen(p, n);
}

static dp_jnode *parse_macro(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_MACRO);

    if (!n)
        return NULL;
    n->name = dp_jinja_expect_name(p);
    n->list = parse_params(p);
    n->body = parse_apart(p, "endmacro");
    return finish_macro(p, n);
}

static dp_jnode *parse_caller(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_CALLER);

    if (!n)
        return NULL;
    if (dp_jinja_at_op(p, "("))
        n->list = parse_params(p);
    n->name = p->jinja->caller;
    n->a = dp_jinja_parse_expression(p);
    if (!p->st && n->a->kind != DP_JN_CALL)
        dp_jinja_parse_fail(p, DP_E_INVALID, n->line, "expected a call");
    n->body = parse_apart(p, "endcall");
    return finish_macro(p, n);
}

static dp_jnode *parse_filtered(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_FILTERED);

    if (!n)
        return NULL;
    n->b = dp_jinja_parse_filters(p, NULL, true);
    n->body = parse_block(p, "endfilter");
    return dp_jinja_deepen(p, n);
}

static dp_jnode *parse_with(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_WITH), **tail = n ? &n->list : NULL;

    while (n && !p->st && p->at->kind != DP_JT_BLOCK_END) {
        dp_jnode *set = dp_jinja_node(p, DP_JN_SET);

        if (!set)
            return NULL;
        set->a = dp_jinja_parse_primary(p);
        check_target(p, set->a);
        dp_jinja_expect_op(p, "=");
        set->b = dp_jinja_parse_expression(p);
        *tail = dp_jinja_deepen(p, set);
        tail = &set->next;
        if (!dp_jinja_skip_op(p, ","))
            break;
    }
    if (n)
        n->body = parse_block(p, "endwith");
    return dp_jinja_deepen(p, n);
}

static dp_jnode *parse_jump(dp_jparser *p, dp_jnode_kind kind)
{
    if (p->loop_depth == 0)
        dp_jinja_parse_fail(p, DP_E_INVALID, p->at->line, "break or continue outside a loop");
    return dp_jinja_node(p, kind);
}

static dp_jnode *parse_break(dp_jparser *p)
{
    return parse_jump(p, DP_JN_BREAK);
}

static dp_jnode *parse_continue(dp_jparser *p)
{
    return parse_jump(p, DP_JN_CONTINUE);
}

/* What an assistant says is marked for training; for prompts it is just text. */
static dp_jnode *parse_generation(dp_jparser *p)
{
    return parse_block(p, "endgeneration");
}

static dp_jnode *parse_named_block(dp_jparser *p)
{
    static const struct {
        const char *name;
        dp_jnode *(*parse)(dp_jparser *p); /* NULL: Jinja has it, the subset does not */
    } rows[] = {
        { "for", parse_for },     { "if", parse_if },
        { "set", parse_set },     { "macro", parse_macro },
        { "call", parse_caller }, { "filter", parse_filtered },
        { "with", parse_with },   { "generation", parse_generation },
        { "break", parse_break }, { "continue", parse_continue },
        { "block", NULL },        { "extends", NULL },
        { "include", NULL },      { "import", NULL },
        { "from", NULL },         { "print", NULL },
        { "autoescape", NULL },   { "do", NULL },
        { "trans", NULL },        { "debug", NULL },
    };
    dp_str name = p->at->text;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows) && p->at->kind == DP_JT_NAME; i++) {
        if (!dp_str_is(name, rows[i].name))
            continue;
        if (!rows[i].parse) {
            dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, p->at->line, "{%% %s %%} is not supported",
                                rows[i].name);
            return NULL;
        }
        dp_jinja_parse_next(p);
        return rows[i].parse(p);
    }
    dp_jinja_parse_unexpected(p, "the name of a block");
    return NULL;
}

static dp_jnode *parse_text(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_TEXT);
    dp_jstr *s = dp_jinja_parse_take(p, sizeof *s);

    if (!n || !s)
        return NULL;
    *s = (dp_jstr){ p->at->text.bytes, p->at->text.size, NULL, 0, true };
    n->value = dp_jv_str(s);
    dp_jinja_parse_next(p);
    return n;
}

static dp_jnode *parse_output(dp_jparser *p)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_OUTPUT);

    dp_jinja_parse_next(p);
    if (!n)
        return NULL;
    n->a = dp_jinja_parse_tuple(p, DP_JTUPLE_ANY);
    dp_jinja_expect_kind(p, DP_JT_VARIABLE_END);
    return dp_jinja_deepen(p, n);
}

/* Up to the template's end, or to a block of one of the names, behind its "{%". */
static dp_jnode *parse_statements(dp_jparser *p, const char *const *ends)
{
    dp_jnode *first = NULL, **tail = &first;

    if (++p->depth > DP_JINJA_DEPTH_MAX)
        dp_jinja_parse_fail(p, DP_E_LIMIT, p->at->line, "nested deeper than %d",
                            DP_JINJA_DEPTH_MAX);
    while (!p->st && p->at->kind != DP_JT_END) {
        dp_jnode *n = NULL;

        if (p->at->kind == DP_JT_DATA) {
            n = parse_text(p);
        } else if (p->at->kind == DP_JT_VARIABLE_BEGIN) {
            n = parse_output(p);
        } else {
            dp_jinja_expect_kind(p, DP_JT_BLOCK_BEGIN);
            if (at_end_name(p, ends))
                break;
            n = parse_named_block(p);
            dp_jinja_expect_kind(p, DP_JT_BLOCK_END);
        }
        *tail = n;
        while (*tail) /* a generation block is a list of its own */
            tail = &(*tail)->next;
    }
    if (!p->st && ends && p->at->kind == DP_JT_END)
        dp_jinja_parse_unexpected(p, ends[0]);
    p->depth--;
    return p->st ? NULL : first;
}

dp_jnode *dp_jinja_parse_body(dp_jparser *p)
{
    return parse_statements(p, NULL);
}

/* ---- the room's front ---- */

/* Copies the text, with every end of line as one newline and without the last one. */
static dp_status copy_text(dp_jinja *jinja, dp_str text, dp_str *out)
{
    dp_status st = DP_OK;
    char *bytes = dp_jinja_memory_take(&jinja->memory, &jinja->memory.text, text.size + 1, &st);
    size_t size = 0;

    if (st)
        return st;
    for (size_t i = 0; i < text.size; i++) {
        bool is_return = text.bytes[i] == '\r';

        if (is_return && i + 1 < text.size && text.bytes[i + 1] == '\n')
            continue;
        bytes[size++] = is_return ? '\n' : text.bytes[i];
    }
    if (size > 0 && bytes[size - 1] == '\n')
        size--;
    *out = (dp_str){ bytes, size };
    return DP_OK;
}

static void intern_meanings(dp_jparser *p)
{
    dp_jinja *jinja = p->jinja;

    jinja->loop = dp_jinja_intern(p, dp_str_from("loop"));
    jinja->caller = dp_jinja_intern(p, dp_str_from("caller"));
    jinja->varargs = dp_jinja_intern(p, dp_str_from("varargs"));
    jinja->kwargs = dp_jinja_intern(p, dp_str_from("kwargs"));
}

static dp_status parse(dp_jinja *jinja, dp_str text, dp_error *err)
{
    static const dp_jtoken start = { DP_JT_END, 1, { "", 0 } };
    dp_jparser p = { .jinja = jinja, .err = err, .at = &start };

    dp_jinja_lex(&p, text);
    if (!p.st) {
        p.at = p.tokens;
        intern_meanings(&p);
        jinja->body = dp_jinja_parse_body(&p);
    }
    dp_free(p.tokens);
    return p.st;
}

dp_status dp_jinja_open(dp_jinja **out, dp_str text, dp_error *err)
{
    dp_jinja *jinja;
    dp_status st;

    *out = NULL;
    if (text.size > DP_JINJA_TEMPLATE_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat template: %zu bytes, at most %zu", text.size,
                       DP_JINJA_TEMPLATE_MAX);
    jinja = dp_alloc_zero(1, sizeof *jinja);
    if (!jinja)
        return dp_fail(err, DP_E_NOMEM, "chat template: no memory");
    dp_jinja_memory_init(&jinja->memory, PARSE_MEMORY_MAX);
    st = dp_map_str_init(&jinja->ids, 0);
    if (!st)
        st = copy_text(jinja, text, &text);
    if (st)
        dp_fail(err, st, "chat template: no memory for %zu bytes", text.size);
    else
        st = parse(jinja, text, err);
    if (st) {
        dp_jinja_close(jinja);
        return st;
    }
    *out = jinja;
    return DP_OK;
}

void dp_jinja_close(dp_jinja *jinja)
{
    if (!jinja)
        return;
    dp_map_str_deinit(&jinja->ids);
    dp_free(jinja->names);
    dp_jinja_memory_deinit(&jinja->memory);
    dp_free(jinja);
}
