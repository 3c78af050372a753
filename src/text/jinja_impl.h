/* jinja_impl.h - what the files of the room jinja share. Private to the room.
 *
 * Failure  sticks: the first one is kept in the run (or parser), everything goes on
 *          with harmless values and comes to an end. So functions return values, and
 *          loops and whoever looks inside a pointer ask for `st` first.
 *
 * Invariants
 *   (1) strings, lists and dicts never change once made: parts may be shared. Only
 *       namespaces, iterators and scopes do.
 *   (2) every loop over data pays steps (dp_jinja_pay), every recursion depth.
 *   (3) names are interned: equal names of a template are one dp_jstr.
 */
#ifndef DP_TEXT_JINJA_IMPL_H
#define DP_TEXT_JINJA_IMPL_H

#include "base/map.h"
#include "text/jinja.h"

/* ---- memory: three arenas under one maximum, so that appended text can grow in place ---- */

typedef struct dp_jarena {
    struct dp_jchunk *chunks;
    char *at, *end;
} dp_jarena;

typedef struct dp_jmemory {
    dp_jarena objects, text, runs;
    size_t size, size_max;
} dp_jmemory;

void dp_jinja_memory_init(dp_jmemory *m, size_t size_max);
void dp_jinja_memory_deinit(dp_jmemory *m);
/* Zeroed, aligned for any object. *st: DP_E_NOMEM, DP_E_LIMIT, and then NULL. */
void *dp_jinja_memory_take(dp_jmemory *m, dp_jarena *arena, size_t size, dp_status *st);
/* More room right behind `block` of `size` bytes; false when something else is there. */
bool dp_jinja_memory_extend(dp_jarena *arena, const void *block, size_t size, size_t more);

/* ---- values ---- */

typedef enum dp_jkind {
    DP_JV_ABSENT, /* no argument was given; never seen by templates */
    DP_JV_UNDEFINED,
    DP_JV_NONE,
    DP_JV_BOOL,
    DP_JV_INT,
    DP_JV_FLOAT,
    DP_JV_STR,
    DP_JV_LIST,
    DP_JV_TUPLE,
    DP_JV_VIEW, /* keys, values or items of a dict, a range: a list that is none */
    DP_JV_ITER, /* what is iterated once: map, select, items, reverse */
    DP_JV_DICT,
    DP_JV_NAMESPACE,
    DP_JV_LOOP,
    DP_JV_MACRO,
    DP_JV_FUNCTION,
    DP_JV_METHOD,
} dp_jkind;

typedef struct dp_jstr {
    const char *bytes; /* [size] */
    size_t size;
    const dp_run *runs; /* [run_count], or NULL: all of it is as is_trusted says */
    size_t run_count;
    bool is_trusted;
} dp_jstr;

typedef struct dp_jvalue {
    dp_jkind kind;
    union {
        bool is;
        int64_t i;
        double f;
        const dp_jstr *s; /* STR; UNDEFINED: its name, for messages */
        struct dp_jlist *l;
        struct dp_jdict *d; /* DICT, NAMESPACE */
        struct dp_jloop *loop;
        const struct dp_jmacro *macro;
        const struct dp_jcallable *function;
        const struct dp_jmethod *method;
    };
} dp_jvalue;

typedef struct dp_jlist {
    dp_jvalue *list; /* [count] */
    size_t count, capacity;
    size_t at; /* ITER: the next one */
} dp_jlist;

typedef struct dp_jpair {
    dp_jvalue key, value;
} dp_jpair;

typedef struct dp_jdict {
    dp_jpair *list; /* [count], in order of insertion */
    size_t count, capacity;
    uint32_t *index; /* [index_size] place in list + 1, 0 for none; NULL while small */
    size_t index_size;
} dp_jdict;

typedef struct dp_jloop {
    const dp_jlist *items;
    size_t at;
    int64_t depth;
    dp_jvalue changed; /* what loop.changed() saw last */
} dp_jloop;

typedef struct dp_jmethod {
    dp_jvalue self;
    const struct dp_jcallable *row;
} dp_jmethod;

typedef struct dp_jmacro {
    const struct dp_jnode *node;
    struct dp_jscope *scope; /* where it was defined */
} dp_jmacro;

/* ---- nodes ---- */

typedef enum dp_jnode_kind {
    DP_JN_CONST,   /* value */
    DP_JN_NAME,    /* name */
    DP_JN_TUPLE,   /* list */
    DP_JN_LIST,    /* list */
    DP_JN_DICT,    /* list of PAIR */
    DP_JN_PAIR,    /* a: b */
    DP_JN_ATTR,    /* a.name; as a target of set: of a namespace */
    DP_JN_ITEM,    /* a[b] */
    DP_JN_SLICE,   /* a:b:c, each may be NULL */
    DP_JN_CALL,    /* a(list) */
    DP_JN_KWARG,   /* name=a, in lists of arguments */
    DP_JN_FILTER,  /* a | row(list); a is NULL in blocks */
    DP_JN_CHECK,   /* a is row(list) */
    DP_JN_NEG,     /* -a */
    DP_JN_POS,     /* +a */
    DP_JN_NOT,     /* not a */
    DP_JN_AND,     /* a and b */
    DP_JN_OR,      /* a or b */
    DP_JN_BINARY,  /* a op b */
    DP_JN_CONCAT,  /* list, joined by ~ */
    DP_JN_COMPARE, /* a, list of OPERAND */
    DP_JN_OPERAND, /* op a */
    DP_JN_COND,    /* b if a else c (or NULL) */

    DP_JN_TEXT,      /* value */
    DP_JN_OUTPUT,    /* {{ a }} */
    DP_JN_IF,        /* list of BRANCH */
    DP_JN_BRANCH,    /* a (NULL: else), body */
    DP_JN_FOR,       /* for a in b if c: body, other */
    DP_JN_SET,       /* a = b */
    DP_JN_SET_BLOCK, /* a = body, through the filters b */
    DP_JN_MACRO,     /* name(list of PARAM): body */
    DP_JN_PARAM,     /* name, a: default or NULL */
    DP_JN_CALLER,    /* {% call(list) a %} body: a is a CALL */
    DP_JN_FILTERED,  /* {% filter b %} body */
    DP_JN_WITH,      /* list of SET, body */
    DP_JN_BREAK,
    DP_JN_CONTINUE,
} dp_jnode_kind;

typedef enum dp_jop {
    DP_JOP_ADD,
    DP_JOP_SUB,
    DP_JOP_MUL,
    DP_JOP_DIV,
    DP_JOP_FLOORDIV,
    DP_JOP_MOD,
    DP_JOP_POW,
    DP_JOP_EQ,
    DP_JOP_NE,
    DP_JOP_LT,
    DP_JOP_LE,
    DP_JOP_GT,
    DP_JOP_GE,
    DP_JOP_IN,
    DP_JOP_NOT_IN,
} dp_jop;

typedef struct dp_jnode {
    dp_jnode_kind kind;
    dp_jop op;
    uint32_t line, depth;
    const dp_jstr *name;
    dp_jvalue value;
    const struct dp_jcallable *row;
    struct dp_jnode *a, *b, *c;
    struct dp_jnode *list, *body, *other; /* first of a list linked by next */
    struct dp_jnode *next;
    bool says_caller, says_varargs, says_kwargs; /* MACRO, CALLER: its body does */
} dp_jnode;

struct dp_jinja {
    dp_jmemory memory;
    dp_map_str ids;        /* name -> place in names */
    const dp_jstr **names; /* [name_count] (3) */
    size_t name_count, name_capacity;
    dp_jnode *body;
    const dp_jstr *loop, *caller, *varargs, *kwargs; /* names with a meaning */
};

/* The interned name, or NULL: the template never says it. */
const dp_jstr *dp_jinja_name(const dp_jinja *jinja, dp_str name);

/* ---- a run ---- */

typedef struct dp_jvar {
    const dp_jstr *name; /* compared by address (3) */
    dp_jvalue value;
} dp_jvar;

typedef struct dp_jscope {
    struct dp_jscope *parent;
    dp_jvar *list;
    size_t count, capacity;
} dp_jscope;

typedef enum dp_jflow { DP_JFLOW_ON, DP_JFLOW_BREAK, DP_JFLOW_CONTINUE } dp_jflow;

typedef struct dp_jrun {
    const dp_jinja *jinja;
    dp_jmemory memory;
    dp_prompt *out;
    dp_jscope *scope;
    dp_jflow flow;
    uint32_t line, depth;
    uint64_t steps;
    int64_t now_s;
    dp_status st;
    dp_error *err;
} dp_jrun;

/* "chat template, line 3: ..."; the first failure stays. */
void dp_jinja_fail(dp_jrun *x, dp_status st, const char *format, ...) DP_PRINTF(3, 4);
/* What an undefined value says when something is done with it. */
void dp_jinja_fail_undefined(dp_jrun *x, dp_jvalue v);
/* Counts work: `size` bytes or entries looked at. False: the run has failed. */
bool dp_jinja_pay(dp_jrun *x, size_t size);
bool dp_jinja_enter(dp_jrun *x); /* one level of recursion; false: failed, do not leave */
void dp_jinja_leave(dp_jrun *x);
void *dp_jinja_take(dp_jrun *x, size_t size); /* zeroed; NULL: the run has failed */

/* ---- jinja_value.c ---- */

static inline dp_jvalue dp_jv_none(void)
{
    return (dp_jvalue){ .kind = DP_JV_NONE };
}

static inline dp_jvalue dp_jv_bool(bool is)
{
    return (dp_jvalue){ .kind = DP_JV_BOOL, .is = is };
}

static inline dp_jvalue dp_jv_int(int64_t i)
{
    return (dp_jvalue){ .kind = DP_JV_INT, .i = i };
}

static inline dp_jvalue dp_jv_float(double f)
{
    return (dp_jvalue){ .kind = DP_JV_FLOAT, .f = f };
}

static inline dp_jvalue dp_jv_str(const dp_jstr *s)
{
    return (dp_jvalue){ .kind = DP_JV_STR, .s = s };
}

static inline dp_jvalue dp_jv_undefined(const dp_jstr *name)
{
    return (dp_jvalue){ .kind = DP_JV_UNDEFINED, .s = name };
}

static inline dp_jvalue dp_jv_list(dp_jkind kind, dp_jlist *l)
{
    return (dp_jvalue){ .kind = kind, .l = l };
}

static inline bool dp_jv_is_number(dp_jvalue v) /* Python's bool is one */
{
    return v.kind == DP_JV_BOOL || v.kind == DP_JV_INT || v.kind == DP_JV_FLOAT;
}

static inline bool dp_jv_is_whole(dp_jvalue v)
{
    return v.kind == DP_JV_BOOL || v.kind == DP_JV_INT;
}

static inline bool dp_jv_is_sequence(dp_jvalue v) /* of values, with a length */
{
    return v.kind == DP_JV_LIST || v.kind == DP_JV_TUPLE || v.kind == DP_JV_VIEW;
}

static inline int64_t dp_jv_whole(dp_jvalue v)
{
    return v.kind == DP_JV_BOOL ? v.is : v.i;
}

static inline double dp_jv_real(dp_jvalue v)
{
    return v.kind == DP_JV_FLOAT ? v.f : (double)dp_jv_whole(v);
}

const char *dp_jinja_kind_name(dp_jvalue v);          /* "str", "list": as Python calls it */
dp_jlist *dp_jinja_list(dp_jrun *x, size_t capacity); /* never NULL, even when failed */
void dp_jinja_list_add(dp_jrun *x, dp_jlist *l, dp_jvalue v);
dp_jdict *dp_jinja_dict(dp_jrun *x); /* never NULL, even when failed */
void dp_jinja_dict_set(dp_jrun *x, dp_jdict *d, dp_jvalue key, dp_jvalue value);
/* NULL: no such key, or none that a dict can have. */
const dp_jpair *dp_jinja_dict_find(dp_jrun *x, const dp_jdict *d, dp_jvalue key);
const dp_jpair *dp_jinja_dict_find_text(dp_jrun *x, const dp_jdict *d, const char *key);

bool dp_jinja_truth(dp_jrun *x, dp_jvalue v);
bool dp_jinja_equal(dp_jrun *x, dp_jvalue a, dp_jvalue b);
/* Below, at or above 0; fails where Python cannot order them. */
int dp_jinja_order(dp_jrun *x, dp_jvalue a, dp_jvalue b, const char *op);
bool dp_jinja_contains(dp_jrun *x, dp_jvalue container, dp_jvalue item);
/* Its length; -1 where it has none, and then nothing failed. */
int64_t dp_jinja_length(dp_jrun *x, dp_jvalue v);
/* What a for loop goes over, as a list that must not be changed; an ITER is used up.
 * Fails for what cannot be iterated. Never NULL. */
const dp_jlist *dp_jinja_items(dp_jrun *x, dp_jvalue v);
bool dp_jinja_is_iterable(dp_jvalue v);

/* ---- jinja_str.c ---- */

extern const dp_jstr dp_jinja_empty;

/* Borrows the bytes. */
const dp_jstr *dp_jinja_str_view(dp_jrun *x, const char *bytes, size_t size, bool is_trusted);
/* Copies text [size]. */
const dp_jstr *dp_jinja_str_copy(dp_jrun *x, const char *bytes, size_t size, bool is_trusted);
const dp_jstr *dp_jinja_str_literal(dp_jrun *x, const char *text); /* static, trusted */
/* Bytes [begin, end) of s with their origin. */
const dp_jstr *dp_jinja_str_part(dp_jrun *x, const dp_jstr *s, size_t begin, size_t end);
const dp_jstr *dp_jinja_str_join(dp_jrun *x, const dp_jstr *a, const dp_jstr *b);
/* What stands in p from byte `begin` on, copied; cuts it off there. */
const dp_jstr *dp_jinja_str_finish(dp_jrun *x, dp_prompt *p, size_t begin);
void dp_jinja_put(dp_jrun *x, dp_prompt *p, const dp_jstr *s);
void dp_jinja_put_text(dp_jrun *x, dp_prompt *p, const char *text); /* trusted */
bool dp_jinja_str_is_trusted(const dp_jstr *s);                     /* all of it */
size_t dp_jinja_str_chars(dp_jrun *x, const dp_jstr *s);
/* Byte offset of the character number `at`, its size at the end or past it. */
size_t dp_jinja_str_offset(dp_jrun *x, const dp_jstr *s, size_t at);
bool dp_jinja_is_space(uint32_t cp); /* Python's str.isspace */
/* s without characters of `chars` (NULL: white space) at its beginning, its end. */
const dp_jstr *dp_jinja_str_strip(dp_jrun *x, const dp_jstr *s, const dp_jstr *chars, bool left,
                                  bool right);
/* Where `part` is in s at byte `from` or later; SIZE_MAX: nowhere. */
size_t dp_jinja_str_find(dp_jrun *x, const dp_jstr *s, const dp_jstr *part, size_t from);
const dp_jstr *dp_jinja_str_replace(dp_jrun *x, const dp_jstr *s, const dp_jstr *old,
                                    const dp_jstr *new, int64_t count_max);
const dp_jstr *dp_jinja_str_repeat(dp_jrun *x, const dp_jstr *s, int64_t count);
typedef enum dp_jcase { DP_JCASE_UPPER, DP_JCASE_LOWER, DP_JCASE_TITLE, DP_JCASE_CAPITAL } dp_jcase;
const dp_jstr *dp_jinja_str_case(dp_jrun *x, const dp_jstr *s, dp_jcase how);

/* ---- jinja_print.c ---- */

/* Python's str(): what {{ v }} prints, and what filters on text see. */
const dp_jstr *dp_jinja_text(dp_jrun *x, dp_jvalue v);
void dp_jinja_put_value(dp_jrun *x, dp_prompt *p, dp_jvalue v);
void dp_jinja_put_repr(dp_jrun *x, dp_prompt *p, dp_jvalue v);

typedef struct dp_jjson {
    const dp_jstr *indent; /* NULL: on one line */
    const dp_jstr *item_separator, *key_separator;
    bool sorts_keys;
} dp_jjson;

const dp_jstr *dp_jinja_to_json(dp_jrun *x, dp_jvalue v, const dp_jjson *how);
/* As Python's repr writes it, into out [32]. */
void dp_jinja_format_float(char out[32], double f);

/* ---- jinja_ops.c ---- */

dp_jvalue dp_jinja_binary(dp_jrun *x, dp_jop op, dp_jvalue a, dp_jvalue b);
dp_jvalue dp_jinja_negative(dp_jrun *x, dp_jvalue v);
bool dp_jinja_compare(dp_jrun *x, dp_jop op, dp_jvalue a, dp_jvalue b);
dp_jvalue dp_jinja_attr(dp_jrun *x, dp_jvalue v, const dp_jstr *name);
dp_jvalue dp_jinja_item(dp_jrun *x, dp_jvalue v, dp_jvalue key);
dp_jvalue dp_jinja_slice(dp_jrun *x, dp_jvalue v, dp_jvalue begin, dp_jvalue end, dp_jvalue step);
/* "a.b.0", as attributes of filters are written. */
dp_jvalue dp_jinja_path(dp_jrun *x, dp_jvalue v, dp_jvalue path);
/* "%s is %d" % args. */
dp_jvalue dp_jinja_percent(dp_jrun *x, const dp_jstr *format, dp_jvalue args);

/* ---- calls ---- */

#define DP_JINJA_PARAMS 5

typedef struct dp_jargs {
    const dp_jvalue *list; /* [count] */
    size_t count;
    const dp_jvar *named; /* [named_count] */
    size_t named_count;
} dp_jargs;

typedef struct dp_jcall {
    dp_jvalue self;                 /* the filter's input, the method's object */
    dp_jvalue arg[DP_JINJA_PARAMS]; /* bound to params; ABSENT: not given */
    const dp_jargs *all;
} dp_jcall;

typedef struct dp_jcallable {
    const char *name;
    dp_jvalue (*call)(dp_jrun *x, const dp_jcall *c);
    uint8_t required;
    bool takes_any; /* any further arguments, in `all` */
    const char *params[DP_JINJA_PARAMS];
} dp_jcallable;

dp_jvalue dp_jinja_str_format(dp_jrun *x, const dp_jcall *c); /* the method "format" */

/* Rows by name; NULL: none. */
const dp_jcallable *dp_jinja_filter_find(dp_str name);
const dp_jcallable *dp_jinja_filter_seq_find(dp_str name);
const dp_jcallable *dp_jinja_check_find(dp_str name);
const dp_jcallable *dp_jinja_global_find(dp_str name);
/* The method of that name that values of v's kind have; *is_unsafe: one that Jinja's
 * sandbox forbids. */
const dp_jcallable *dp_jinja_method_find(dp_jvalue v, dp_str name, bool *is_unsafe);

/* Binds and calls; names unknown and missing arguments. */
dp_jvalue dp_jinja_call_row(dp_jrun *x, const dp_jcallable *row, dp_jvalue self,
                            const dp_jargs *args);
dp_jvalue dp_jinja_call_value(dp_jrun *x, dp_jvalue callee, const dp_jargs *args);
/* Arguments as they are given. `out` is borrowed from the run's memory. */
void dp_jinja_eval_args(dp_jrun *x, const dp_jnode *list, dp_jargs *out);

/* ---- running ---- */

dp_jvalue dp_jinja_eval(dp_jrun *x, const dp_jnode *n);
/* Runs a list of statements, output to x->out. */
void dp_jinja_exec(dp_jrun *x, const dp_jnode *first);
/* The output of statements as text. */
const dp_jstr *dp_jinja_capture(dp_jrun *x, const dp_jnode *first);
dp_jvalue dp_jinja_filtered(dp_jrun *x, const dp_jnode *filters, dp_jvalue v);
dp_jscope *dp_jinja_scope_push(dp_jrun *x, dp_jscope *parent); /* NULL: failed */
void dp_jinja_scope_set(dp_jrun *x, dp_jscope *scope, const dp_jstr *name, dp_jvalue v);
dp_jvalue dp_jinja_call_macro(dp_jrun *x, const dp_jmacro *macro, const dp_jargs *args);
/* A JSON document as a value, all its text untrusted. */
dp_jvalue dp_jinja_from_json(dp_jrun *x, const char *name, dp_str json);

/* ---- parsing ---- */

typedef enum dp_jtoken_kind {
    DP_JT_END,
    DP_JT_DATA,
    DP_JT_VARIABLE_BEGIN,
    DP_JT_VARIABLE_END,
    DP_JT_BLOCK_BEGIN,
    DP_JT_BLOCK_END,
    DP_JT_NAME,
    DP_JT_STRING,
    DP_JT_INT,
    DP_JT_FLOAT,
    DP_JT_OP, /* text: the operator */
} dp_jtoken_kind;

typedef struct dp_jtoken {
    dp_jtoken_kind kind;
    uint32_t line;
    dp_str text;
} dp_jtoken;

typedef struct dp_jparser {
    dp_jinja *jinja;
    dp_jtoken *tokens; /* [token_count], ends with END */
    size_t token_count, token_capacity;
    const dp_jtoken *at;
    uint32_t node_count, depth, loop_depth;
    dp_status st;
    dp_error *err;
} dp_jparser;

void dp_jinja_parse_fail(dp_jparser *p, dp_status st, uint32_t line, const char *format, ...)
    DP_PRINTF(4, 5);
void *dp_jinja_parse_take(dp_jparser *p, size_t size);
/* Fills tokens from a template, whose text stays where it is. */
void dp_jinja_lex(dp_jparser *p, dp_str text);

const dp_jstr *dp_jinja_intern(dp_jparser *p, dp_str name);
dp_jnode *dp_jinja_node(dp_jparser *p, dp_jnode_kind kind); /* NULL: failed */
void dp_jinja_parse_next(dp_jparser *p);
bool dp_jinja_at_op(const dp_jparser *p, const char *op);
bool dp_jinja_at_name(const dp_jparser *p, const char *name);
bool dp_jinja_skip_op(dp_jparser *p, const char *op);
bool dp_jinja_skip_name(dp_jparser *p, const char *name);
void dp_jinja_expect_op(dp_jparser *p, const char *op);
void dp_jinja_expect_kind(dp_jparser *p, dp_jtoken_kind kind);
const dp_jstr *dp_jinja_expect_name(dp_jparser *p);
void dp_jinja_parse_unexpected(dp_jparser *p, const char *expected);
/* Sets n's depth from its children and gives it back. */
dp_jnode *dp_jinja_deepen(dp_jparser *p, dp_jnode *n);

typedef enum dp_jtuple { DP_JTUPLE_ANY, DP_JTUPLE_NO_COND, DP_JTUPLE_TARGET } dp_jtuple;

dp_jnode *dp_jinja_parse_expression(dp_jparser *p);
/* Expressions separated by commas: one is itself, several are a tuple. */
dp_jnode *dp_jinja_parse_tuple(dp_jparser *p, dp_jtuple how);
dp_jnode *dp_jinja_parse_postfix(dp_jparser *p, dp_jnode *n);
dp_jnode *dp_jinja_parse_primary(dp_jparser *p);
/* name(args) | name ...; NULL where there is none. is_first: no bar before the first. */
dp_jnode *dp_jinja_parse_filters(dp_jparser *p, dp_jnode *input, bool is_first);
dp_jnode *dp_jinja_parse_args(dp_jparser *p); /* from "(" to ")" */
dp_jnode *dp_jinja_parse_body(dp_jparser *p); /* the whole template */

#endif
