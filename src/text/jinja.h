/* jinja.h - chat templates: a bounded subset of Jinja2, as transformers sets it up.
 *
 * Room     A template is parsed once and rendered with variables; what it may do is
 *          what published chat templates do (docs/chat.md has the list). Nothing in
 *          it reaches outside: no files, no clock of its own, no Python.
 *          Blocks are trimmed (trim_blocks, lstrip_blocks), break and continue work,
 *          undefined values print as nothing, lists and dicts never change.
 *
 * Origin   Text knows where it came from: literals of the template and variables
 *          marked as trusted may name control tokens, everything else may not. The
 *          origin follows each byte through slices, joins, replacements and macros;
 *          where an operation makes new text (upper, tojson) one untrusted byte makes
 *          all of it untrusted. Numbers, True and None are trusted as text.
 *
 * Bounds   Everything a template could make grow has a maximum below, and is counted
 *          before it is done; so it ends, whatever it says.
 *
 * Files    jinja_lex.c text -> tokens; jinja_parse.c, jinja_parse_block.c -> nodes;
 *          jinja_exec.c, jinja_eval.c, jinja_ops.c run them; jinja_call.c calls;
 *          jinja_filters*.c, jinja_checks.c, jinja_methods.c, jinja_globals.c are
 *          tables of what can be called; jinja_value.c, jinja_str.c, jinja_print.c,
 *          jinja_json.c values; jinja_mem.c memory.
 *
 * Threads  A dp_jinja never changes: any thread may render.
 */
#ifndef DP_TEXT_JINJA_H
#define DP_TEXT_JINJA_H

#include "text/prompt.h"

#define DP_JINJA_TEMPLATE_MAX ((size_t)1 << 20)    /* bytes; published ones stay below 32 KiB */
#define DP_JINJA_NODES_MAX    262144               /* a quarter of its bytes */
#define DP_JINJA_DEPTH_MAX    200                  /* nested expressions, blocks, macros, values */
#define DP_JINJA_STEPS_MAX    ((uint64_t)10000000) /* a long conversation takes 100,000 */
#define DP_JINJA_MEMORY_MAX   ((size_t)256 << 20)  /* of one rendering, beside the prompt */
#define DP_JINJA_RANGE_MAX    100000               /* entries of range() */

typedef struct dp_jinja dp_jinja;

/* DP_E_INVALID: not a template, with its line; DP_E_UNSUPPORTED names what is Jinja but
 * not of the subset; DP_E_LIMIT; DP_E_NOMEM. Copies the text. */
dp_status dp_jinja_open(dp_jinja **out, dp_str text, dp_error *err);
void dp_jinja_close(dp_jinja *jinja);

typedef struct dp_jinja_var {
    const char *name; /* NULL: value is a JSON object, and its members are variables */
    dp_str value;
    bool is_json; /* value is a JSON document, and not trusted; else it is trusted text */
} dp_jinja_var;

/* Appends to out. A later variable of the same name wins. now_s: what strftime_now tells,
 * in seconds since 1970. DP_E_INVALID: the template raised an exception, or did what
 * cannot be done with these values; DP_E_CORRUPT: JSON that is none; otherwise as
 * above. On failure out keeps what it had. */
dp_status dp_jinja_render(const dp_jinja *jinja, const dp_jinja_var *vars, size_t count,
                          int64_t now_s, dp_prompt *out, dp_error *err);

#endif
