/* Expressions: tokens to nodes, with Jinja's own precedence: "or", "and", "not",
 * comparisons, + and -, ~, * / // %, **, signs; filters and tests bind tightest. */
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "text/jinja_impl.h"

/* ---- tokens ---- */

void *dp_jinja_parse_take(dp_jparser *p, size_t size)
{
    dp_status st = DP_OK;
    dp_jmemory *m = &p->jinja->memory;
    void *block = p->st ? NULL : dp_jinja_memory_take(m, &m->objects, size, &st);

    if (st)
        dp_jinja_parse_fail(p, st, p->at->line, "no memory for what it says");
    return block;
}

void dp_jinja_parse_next(dp_jparser *p)
{
    if (p->at->kind != DP_JT_END)
        p->at++;
}

static bool is_op(const dp_jtoken *t, const char *op)
{
    return t->kind == DP_JT_OP && dp_str_is(t->text, op);
}

bool dp_jinja_at_op(const dp_jparser *p, const char *op)
{
    return is_op(p->at, op);
}

bool dp_jinja_at_name(const dp_jparser *p, const char *name)
{
    return p->at->kind == DP_JT_NAME && dp_str_is(p->at->text, name);
}

bool dp_jinja_skip_op(dp_jparser *p, const char *op)
{
    bool is = !p->st && dp_jinja_at_op(p, op);

    if (is)
        dp_jinja_parse_next(p);
    return is;
}

bool dp_jinja_skip_name(dp_jparser *p, const char *name)
{
    bool is = !p->st && dp_jinja_at_name(p, name);

    if (is)
        dp_jinja_parse_next(p);
    return is;
}

static dp_str shown(const dp_jtoken *t)
{
    static const char *const names[] = {
        [DP_JT_END] = "the end of the template",
        [DP_JT_DATA] = "text",
        [DP_JT_VARIABLE_BEGIN] = "{{",
        [DP_JT_VARIABLE_END] = "}}",
        [DP_JT_BLOCK_BEGIN] = "{%",
        [DP_JT_BLOCK_END] = "%}",
    };

    if (t->kind < DP_JT_NAME)
        return dp_str_from(names[t->kind]);
    return (dp_str){ t->text.bytes, DP_MIN(t->text.size, (size_t)40) };
}

void dp_jinja_parse_unexpected(dp_jparser *p, const char *expected)
{
    dp_str found = shown(p->at);

    dp_jinja_parse_fail(p, DP_E_INVALID, p->at->line, "expected %s, found %.*s", expected,
                        (int)found.size, found.bytes);
}

void dp_jinja_expect_op(dp_jparser *p, const char *op)
{
    if (!dp_jinja_skip_op(p, op))
        dp_jinja_parse_unexpected(p, op);
}

void dp_jinja_expect_kind(dp_jparser *p, dp_jtoken_kind kind)
{
    const dp_jtoken want = { .kind = kind };

    if (p->at->kind == kind && !p->st)
        dp_jinja_parse_next(p);
    else
        dp_jinja_parse_unexpected(p, shown(&want).bytes);
}

const dp_jstr *dp_jinja_expect_name(dp_jparser *p)
{
    const dp_jstr *name = NULL;

    if (p->at->kind == DP_JT_NAME && !p->st) {
        name = dp_jinja_intern(p, p->at->text);
        dp_jinja_parse_next(p);
    } else {
        dp_jinja_parse_unexpected(p, "a name");
    }
    return name;
}

/* ---- nodes ---- */

dp_jnode *dp_jinja_node(dp_jparser *p, dp_jnode_kind kind)
{
    dp_jnode *n;

    if (p->node_count >= DP_JINJA_NODES_MAX)
        dp_jinja_parse_fail(p, DP_E_LIMIT, p->at->line, "more than %d parts", DP_JINJA_NODES_MAX);
    n = dp_jinja_parse_take(p, sizeof *n);
    if (!n)
        return NULL;
    p->node_count++;
    n->kind = kind;
    n->line = p->at->line;
    n->depth = 1;
    return n;
}

dp_jnode *dp_jinja_deepen(dp_jparser *p, dp_jnode *n)
{
    if (!n)
        return NULL;
    const dp_jnode *const parts[] = { n->a, n->b, n->c };
    const dp_jnode *const lists[] = { n->list, n->body, n->other };

    for (size_t i = 0; i < DP_ARRAY_LEN(parts); i++)
        if (parts[i])
            n->depth = DP_MAX(n->depth, parts[i]->depth + 1);
    for (size_t i = 0; i < DP_ARRAY_LEN(lists); i++)
        for (const dp_jnode *part = lists[i]; part; part = part->next)
            n->depth = DP_MAX(n->depth, part->depth + 1);
    if (n->depth > DP_JINJA_DEPTH_MAX)
        dp_jinja_parse_fail(p, DP_E_LIMIT, n->line, "nested deeper than %d", DP_JINJA_DEPTH_MAX);
    return n;
}

static dp_jnode *join(dp_jparser *p, dp_jnode_kind kind, uint32_t line, dp_jnode *a, dp_jnode *b)
{
    dp_jnode *n = dp_jinja_node(p, kind);

    if (!n)
        return NULL;
    n->line = line;
    n->a = a;
    n->b = b;
    return dp_jinja_deepen(p, n);
}

/* Puts n at the end of a list: *tail is the place to write, and moves on. */
static void append(dp_jnode ***tail, dp_jnode *n)
{
    if (!n)
        return;
    **tail = n;
    *tail = &n->next;
}

/* ---- literals ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads at most `max` digits of a base; how many there were. */
static size_t read_digits(dp_str text, size_t max, int base, uint32_t *out)
{
    size_t count = 0;

    *out = 0;
    for (; count < max && count < text.size; count++) {
        int digit = hex_digit(text.bytes[count]);

        if (digit < 0 || digit >= base)
            break;
        *out = *out * (uint32_t)base + (uint32_t)digit;
    }
    return count;
}

/* One escape behind its backslash: writes what it stands for to out, returns how much
 * of text it takes; 0: it is none, and the backslash is itself. */
static size_t read_escape(dp_jparser *p, dp_str text, char out[DP_UTF8_SIZE_MAX], size_t *written)
{
    static const char letters[] = "abfnrtv\\'\"", bytes[] = "\a\b\f\n\r\t\v\\'\"";
    char c = text.bytes[0];
    const char *letter = strchr(letters, c);
    size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0, digits;
    dp_str rest = { text.bytes + 1, text.size - 1 };
    uint32_t cp;

    if (c == '\n')
        return *written = 0, 1;
    if (letter && c)
        return out[0] = bytes[letter - letters], *written = 1, 1;
    if (want) {
        digits = read_digits(rest, want, 16, &cp);
        if (digits != want || cp >= 0x110000)
            dp_jinja_parse_fail(p, DP_E_INVALID, p->at->line, "a cut \\%c in a string", c);
        *written = dp_utf8_encode(cp, out);
        return 1 + digits;
    }
    digits = read_digits(text, 3, 8, &cp);
    if (digits)
        *written = dp_utf8_encode(cp, out);
    if (c == 'N')
        dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, p->at->line, "\\N in a string is not supported");
    return digits;
}

/* Appends a literal to out, which has room. */
static size_t unescape(dp_jparser *p, dp_str text, char *out)
{
    size_t at = 0, size = 0;

    while (at < text.size && !p->st) {
        char c = text.bytes[at++];
        size_t taken = 0, written = 0;

        if (c == '\\' && at < text.size)
            taken =
                read_escape(p, (dp_str){ text.bytes + at, text.size - at }, out + size, &written);
        if (taken == 0)
            out[size++] = c;
        size += written;
        at += taken;
    }
    return size;
}

static dp_jnode *constant(dp_jparser *p, dp_jvalue value)
{
    dp_jnode *n = dp_jinja_node(p, DP_JN_CONST);

    if (n)
        n->value = value;
    return n;
}

/* Strings that follow each other are one. */
static dp_jnode *parse_string(dp_jparser *p)
{
    size_t size = 0;
    dp_jstr *s = dp_jinja_parse_take(p, sizeof *s);
    char *bytes;

    for (const dp_jtoken *t = p->at; t->kind == DP_JT_STRING; t++)
        size += t->text.size + DP_UTF8_SIZE_MAX; /* \8 is shorter than what it may write */
    bytes = dp_jinja_parse_take(p, size);
    if (!s || !bytes)
        return NULL;
    *s = (dp_jstr){ .bytes = bytes, .is_trusted = true };
    while (p->at->kind == DP_JT_STRING && !p->st) {
        s->size += unescape(p, p->at->text, bytes + s->size);
        dp_jinja_parse_next(p);
    }
    return constant(p, dp_jv_str(s));
}

static dp_jnode *parse_number(dp_jparser *p)
{
    char text[64];
    size_t size = 0;
    bool is_int = p->at->kind == DP_JT_INT;
    dp_str word = p->at->text;
    int base = 10;
    uint64_t value = 0;
    double real = 0;
    bool is_ok = word.size < sizeof text;

    for (size_t i = 0; i < word.size && is_ok; i++)
        if (word.bytes[i] != '_')
            text[size++] = word.bytes[i];
    if (is_int && size > 2 && text[0] == '0' && hex_digit(text[1]) != 0 && (text[1] | 0x20) > '9')
        base = (text[1] | 0x20) == 'x' ? 16 : (text[1] | 0x20) == 'o' ? 8 : 2;
    for (size_t i = base == 10 ? 0 : 2; i < size && is_int && is_ok; i++) {
        int digit = hex_digit(text[i]);

        is_ok = digit >= 0 && digit < base && dp_u64_mul(value, (uint64_t)base, &value) &&
                dp_u64_add(value, (uint64_t)digit, &value) && value <= INT64_MAX;
    }
    if (!is_int)
        is_ok = is_ok && dp_parse_f64((dp_str){ text, size }, &real);
    if (!is_ok)
        dp_jinja_parse_fail(p, DP_E_LIMIT, p->at->line, "the number %.*s is out of range",
                            (int)DP_MIN(word.size, 40), word.bytes);
    dp_jinja_parse_next(p);
    return constant(p, is_int ? dp_jv_int((int64_t)value) : dp_jv_float(real));
}

static dp_jnode *parse_list(dp_jparser *p, const char *closing, dp_jnode_kind kind)
{
    dp_jnode *n = dp_jinja_node(p, kind), **tail = n ? &n->list : NULL;

    dp_jinja_parse_next(p);
    while (!p->st && !dp_jinja_at_op(p, closing)) {
        dp_jnode *item = dp_jinja_parse_expression(p);

        if (kind == DP_JN_DICT) {
            uint32_t line = p->at->line;

            dp_jinja_expect_op(p, ":");
            item = join(p, DP_JN_PAIR, line, item, dp_jinja_parse_expression(p));
        }
        append(&tail, item);
        if (!dp_jinja_skip_op(p, ","))
            break;
    }
    dp_jinja_expect_op(p, closing);
    return p->st ? NULL : dp_jinja_deepen(p, n);
}

static dp_jnode *parse_name(dp_jparser *p)
{
    static const struct {
        const char *name;
        dp_jvalue value;
    } constants[] = {
        { "true", { DP_JV_BOOL, { .is = true } } },   { "True", { DP_JV_BOOL, { .is = true } } },
        { "false", { DP_JV_BOOL, { .is = false } } }, { "False", { DP_JV_BOOL, { .is = false } } },
        { "none", { .kind = DP_JV_NONE } },           { "None", { .kind = DP_JV_NONE } },
    };
    dp_jnode *n;

    for (size_t i = 0; i < DP_ARRAY_LEN(constants); i++)
        if (dp_jinja_skip_name(p, constants[i].name))
            return constant(p, constants[i].value);
    n = dp_jinja_node(p, DP_JN_NAME);
    if (n)
        n->name = dp_jinja_expect_name(p);
    return n;
}

dp_jnode *dp_jinja_parse_primary(dp_jparser *p)
{
    dp_jnode *n = NULL;

    if (p->at->kind == DP_JT_NAME)
        return parse_name(p);
    if (p->at->kind == DP_JT_STRING)
        return parse_string(p);
    if (p->at->kind == DP_JT_INT || p->at->kind == DP_JT_FLOAT)
        return parse_number(p);
    if (dp_jinja_at_op(p, "["))
        return parse_list(p, "]", DP_JN_LIST);
    if (dp_jinja_at_op(p, "{"))
        return parse_list(p, "}", DP_JN_DICT);
    if (dp_jinja_skip_op(p, "(")) {
        if (dp_jinja_skip_op(p, ")"))
            return dp_jinja_node(p, DP_JN_TUPLE);
        n = dp_jinja_parse_tuple(p, DP_JTUPLE_ANY);
        dp_jinja_expect_op(p, ")");
        return n;
    }
    dp_jinja_parse_unexpected(p, "an expression");
    return NULL;
}

/* ---- what follows a value ---- */

dp_jnode *dp_jinja_parse_args(dp_jparser *p)
{
    dp_jnode *first = NULL, **tail = &first;
    bool has_named = false;

    dp_jinja_expect_op(p, "(");
    while (!p->st && !dp_jinja_at_op(p, ")")) {
        dp_jnode *arg;

        if (dp_jinja_at_op(p, "*") || dp_jinja_at_op(p, "**"))
            dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, p->at->line,
                                "arguments from a list (* and **) are not supported");
        if (p->at->kind == DP_JT_NAME && is_op(p->at + 1, "=")) {
            arg = dp_jinja_node(p, DP_JN_KWARG);
            if (!arg)
                return NULL;
            arg->name = dp_jinja_expect_name(p);
            dp_jinja_parse_next(p);
            arg->a = dp_jinja_parse_expression(p);
            has_named = true;
            dp_jinja_deepen(p, arg);
        } else {
            if (has_named)
                dp_jinja_parse_unexpected(p, "a named argument");
            arg = dp_jinja_parse_expression(p);
        }
        append(&tail, arg);
        if (!dp_jinja_skip_op(p, ","))
            break;
    }
    dp_jinja_expect_op(p, ")");
    return first;
}

/* One of a:b:c; NULL with *is_slice when nothing stands between the colons. */
static dp_jnode *parse_subscript(dp_jparser *p)
{
    dp_jnode *part[3] = { NULL }, *slice;
    size_t colons = 0;
    uint32_t line = p->at->line;

    for (;;) {
        if (!dp_jinja_at_op(p, ":") && !dp_jinja_at_op(p, "]"))
            part[colons] = dp_jinja_parse_expression(p);
        if (colons == 2 || !dp_jinja_skip_op(p, ":"))
            break;
        colons++;
    }
    if (dp_jinja_at_op(p, ","))
        dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, line, "[a, b] is not supported");
    if (colons == 0) {
        if (!part[0])
            dp_jinja_parse_unexpected(p, "an expression");
        return part[0];
    }
    slice = join(p, DP_JN_SLICE, line, part[0], part[1]);
    if (slice)
        slice->c = part[2];
    return dp_jinja_deepen(p, slice);
}

static dp_jnode *parse_dot(dp_jparser *p, dp_jnode *n)
{
    uint32_t line = p->at->line;

    if (p->at->kind == DP_JT_INT)
        return join(p, DP_JN_ITEM, line, n, parse_number(p));
    n = join(p, DP_JN_ATTR, line, n, NULL);
    if (n)
        n->name = dp_jinja_expect_name(p);
    return n;
}

static dp_jnode *parse_call(dp_jparser *p, dp_jnode *n)
{
    n = join(p, DP_JN_CALL, p->at->line, n, NULL);
    if (n)
        n->list = dp_jinja_parse_args(p);
    return dp_jinja_deepen(p, n);
}

dp_jnode *dp_jinja_parse_postfix(dp_jparser *p, dp_jnode *n)
{
    while (!p->st) {
        uint32_t line = p->at->line;

        if (dp_jinja_skip_op(p, ".")) {
            n = parse_dot(p, n);
        } else if (dp_jinja_skip_op(p, "[")) {
            n = join(p, DP_JN_ITEM, line, n, parse_subscript(p));
            dp_jinja_expect_op(p, "]");
        } else if (dp_jinja_at_op(p, "(")) {
            n = parse_call(p, n);
        } else {
            break;
        }
    }
    return n;
}

static dp_jnode *parse_filter(dp_jparser *p, dp_jnode *input)
{
    dp_str name = p->at->text;
    dp_jnode *n = join(p, DP_JN_FILTER, p->at->line, input, NULL);

    dp_jinja_expect_name(p);
    if (!n || p->st)
        return NULL;
    n->row = dp_jinja_filter_find(name);
    if (!n->row)
        dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, n->line, "the filter \"%.*s\" is not supported",
                            (int)DP_MIN(name.size, 40), name.bytes);
    if (dp_jinja_at_op(p, "("))
        n->list = dp_jinja_parse_args(p);
    return dp_jinja_deepen(p, n);
}

dp_jnode *dp_jinja_parse_filters(dp_jparser *p, dp_jnode *input, bool is_first)
{
    while (!p->st && (is_first || dp_jinja_skip_op(p, "|"))) {
        input = parse_filter(p, input);
        is_first = false;
    }
    return input;
}

/* "is [not] name", "is name(args)", "is name arg". */
static dp_jnode *parse_check(dp_jparser *p, dp_jnode *input)
{
    uint32_t line = p->at->line;
    bool is_not = dp_jinja_skip_name(p, "not"), is_arg;
    dp_str name = p->at->text;
    dp_jnode *n = join(p, DP_JN_CHECK, line, input, NULL);

    dp_jinja_expect_name(p);
    if (!n || p->st)
        return NULL;
    n->row = dp_jinja_check_find(name);
    if (!n->row)
        dp_jinja_parse_fail(p, DP_E_UNSUPPORTED, line, "the test \"%.*s\" is not supported",
                            (int)DP_MIN(name.size, 40), name.bytes);
    is_arg = (p->at->kind >= DP_JT_NAME && p->at->kind <= DP_JT_FLOAT) || dp_jinja_at_op(p, "[") ||
             dp_jinja_at_op(p, "{");
    if (dp_jinja_at_op(p, "(")) {
        n->list = dp_jinja_parse_args(p);
    } else if (is_arg && !dp_jinja_at_name(p, "else") && !dp_jinja_at_name(p, "or") &&
               !dp_jinja_at_name(p, "and")) {
        if (dp_jinja_at_name(p, "is"))
            dp_jinja_parse_unexpected(p, "no second test");
        n->list = dp_jinja_parse_postfix(p, dp_jinja_parse_primary(p));
    }
    n = dp_jinja_deepen(p, n);
    return is_not ? join(p, DP_JN_NOT, line, n, NULL) : n;
}

/* ---- operators ---- */

static dp_jnode *parse_unary(dp_jparser *p, bool takes_filters)
{
    uint32_t line = p->at->line;
    dp_jnode *n;

    if (++p->depth > DP_JINJA_DEPTH_MAX)
        dp_jinja_parse_fail(p, DP_E_LIMIT, line, "nested deeper than %d", DP_JINJA_DEPTH_MAX);
    if (p->st)
        n = NULL;
    else if (dp_jinja_skip_op(p, "-"))
        n = join(p, DP_JN_NEG, line, parse_unary(p, false), NULL);
    else if (dp_jinja_skip_op(p, "+"))
        n = join(p, DP_JN_POS, line, parse_unary(p, false), NULL);
    else
        n = dp_jinja_parse_primary(p);
    n = dp_jinja_parse_postfix(p, n);
    while (takes_filters && !p->st) {
        if (dp_jinja_at_op(p, "|"))
            n = dp_jinja_parse_filters(p, n, false);
        else if (dp_jinja_skip_name(p, "is"))
            n = parse_check(p, n);
        else if (dp_jinja_at_op(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    p->depth--;
    return n;
}

typedef struct level {
    const char *ops[5];
    dp_jop op[4];
} level;

static dp_jnode *parse_concat(dp_jparser *p);

/* Operators of one precedence, from left to right; each level asks the next one for
 * its operands. */
static dp_jnode *parse_binary(dp_jparser *p, int depth)
{
    static const level levels[] = {
        { { "+", "-" }, { DP_JOP_ADD, DP_JOP_SUB } },
        { { "*", "//", "/", "%" }, { DP_JOP_MUL, DP_JOP_FLOORDIV, DP_JOP_DIV, DP_JOP_MOD } },
        { { "**" }, { DP_JOP_POW } },
    };
    const level *l = &levels[depth];
    dp_jnode *n = depth == 0   ? parse_concat(p)
                  : depth == 1 ? parse_binary(p, 2)
                               : parse_unary(p, true);

    for (size_t i = 0; l->ops[i] && !p->st;) {
        uint32_t line = p->at->line;

        if (!dp_jinja_skip_op(p, l->ops[i])) {
            i++;
            continue;
        }
        n = join(p, DP_JN_BINARY, line, n,
                 depth == 0   ? parse_concat(p)
                 : depth == 1 ? parse_binary(p, 2)
                              : parse_unary(p, true));
        if (n)
            n->op = l->op[i];
        i = 0;
    }
    return n;
}

static dp_jnode *parse_concat(dp_jparser *p)
{
    dp_jnode *first = parse_binary(p, 1), *n, **tail;

    if (!first || p->st || !dp_jinja_at_op(p, "~"))
        return first;
    n = dp_jinja_node(p, DP_JN_CONCAT);
    tail = n ? &n->list : NULL;
    if (n)
        append(&tail, first);
    while (dp_jinja_skip_op(p, "~"))
        append(&tail, parse_binary(p, 1));
    return p->st ? NULL : dp_jinja_deepen(p, n);
}

static bool take_comparison(dp_jparser *p, dp_jop *op)
{
    static const struct {
        const char *text;
        dp_jop op;
    } ops[] = { { "==", DP_JOP_EQ }, { "!=", DP_JOP_NE }, { "<=", DP_JOP_LE },
                { "<", DP_JOP_LT },  { ">=", DP_JOP_GE }, { ">", DP_JOP_GT } };

    for (size_t i = 0; i < DP_ARRAY_LEN(ops); i++)
        if (dp_jinja_skip_op(p, ops[i].text))
            return *op = ops[i].op, true;
    if (dp_jinja_skip_name(p, "in"))
        return *op = DP_JOP_IN, true;
    if (dp_jinja_at_name(p, "not") && p->at[1].kind == DP_JT_NAME &&
        dp_str_is(p->at[1].text, "in")) {
        dp_jinja_parse_next(p);
        dp_jinja_parse_next(p);
        return *op = DP_JOP_NOT_IN, true;
    }
    return false;
}

static dp_jnode *parse_compare(dp_jparser *p)
{
    uint32_t line = p->at->line;
    dp_jnode *first = parse_binary(p, 0), *n = NULL, **tail = NULL;
    dp_jop op;

    while (first && !p->st && take_comparison(p, &op)) {
        dp_jnode *operand = join(p, DP_JN_OPERAND, p->at->line, parse_binary(p, 0), NULL);

        if (!n) {
            n = join(p, DP_JN_COMPARE, line, first, NULL);
            tail = n ? &n->list : NULL;
        }
        if (!operand || !n)
            return NULL;
        operand->op = op;
        append(&tail, operand);
    }
    return n ? dp_jinja_deepen(p, n) : first;
}

static dp_jnode *parse_not(dp_jparser *p)
{
    uint32_t line = p->at->line, count = 0;
    dp_jnode *n;

    while (dp_jinja_skip_name(p, "not"))
        count++;
    n = parse_compare(p);
    for (; count > 0 && !p->st; count--)
        n = join(p, DP_JN_NOT, line, n, NULL);
    return n;
}

static dp_jnode *parse_and(dp_jparser *p)
{
    dp_jnode *n = parse_not(p);
    uint32_t line = p->at->line;

    while (dp_jinja_skip_name(p, "and"))
        n = join(p, DP_JN_AND, line, n, parse_not(p));
    return n;
}

static dp_jnode *parse_or(dp_jparser *p)
{
    dp_jnode *n = parse_and(p);
    uint32_t line = p->at->line;

    while (dp_jinja_skip_name(p, "or"))
        n = join(p, DP_JN_OR, line, n, parse_and(p));
    return n;
}

dp_jnode *dp_jinja_parse_expression(dp_jparser *p)
{
    dp_jnode *n;

    if (++p->depth > DP_JINJA_DEPTH_MAX)
        dp_jinja_parse_fail(p, DP_E_LIMIT, p->at->line, "nested deeper than %d",
                            DP_JINJA_DEPTH_MAX);
    n = p->st ? NULL : parse_or(p);
    while (!p->st && dp_jinja_at_name(p, "if")) {
        uint32_t line = p->at->line;
        dp_jnode *test;

        dp_jinja_parse_next(p);
        test = parse_or(p);
        n = join(p, DP_JN_COND, line, test, n);
        if (n && dp_jinja_skip_name(p, "else"))
            n->c = dp_jinja_parse_expression(p);
        dp_jinja_deepen(p, n);
    }
    p->depth--;
    return n;
}

static bool ends_tuple(const dp_jparser *p, dp_jtuple how)
{
    return p->at->kind == DP_JT_VARIABLE_END || p->at->kind == DP_JT_BLOCK_END ||
           dp_jinja_at_op(p, ")") || (how == DP_JTUPLE_TARGET && dp_jinja_at_name(p, "in"));
}

dp_jnode *dp_jinja_parse_tuple(dp_jparser *p, dp_jtuple how)
{
    dp_jnode *first = NULL, **tail = &first, *n;
    bool is_tuple = false;

    while (!p->st && !(first && ends_tuple(p, how))) {
        append(&tail, how == DP_JTUPLE_TARGET    ? dp_jinja_parse_primary(p)
                      : how == DP_JTUPLE_NO_COND ? parse_or(p)
                                                 : dp_jinja_parse_expression(p));
        if (!dp_jinja_skip_op(p, ","))
            break;
        is_tuple = true;
    }
    if (!is_tuple || p->st)
        return first;
    n = dp_jinja_node(p, DP_JN_TUPLE);
    if (n)
        n->list = first;
    return dp_jinja_deepen(p, n);
}
