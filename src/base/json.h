/* json.h - JSON as a stream of tokens: bounded, and nothing kept of the document.
 *
 * Room     A pull reader: each call to dp_json_next gives the next token of a text
 *          that lies in memory. Depth is bounded, memory is one buffer for the
 *          string being read, so a header of 100 MB costs no more than its longest
 *          string. Strict RFC 8259: no comments, no trailing commas, no NaN, and
 *          a member name may repeat (the caller decides what that means).
 *          For core layers, which carry no library; programs write JSON with
 *          jansson.
 *
 * Strings  come decoded. Bytes are passed on as they are, valid UTF-8 or not
 *          (base/utf8.h can tell); \u0000 is a NUL byte, surrogate pairs are one
 *          character, a lone surrogate is U+FFFD.
 *
 * Threads  One at a time.
 */
#ifndef DP_BASE_JSON_H
#define DP_BASE_JSON_H

#include "base/buf.h"
#include "base/str.h"

#define DP_JSON_DEPTH_MAX  64
#define DP_JSON_STRING_MAX ((size_t)64 << 20)

typedef enum dp_json_kind {
    DP_JSON_END, /* the document is over; given again when asked again */
    DP_JSON_OBJECT_BEGIN,
    DP_JSON_OBJECT_END,
    DP_JSON_ARRAY_BEGIN,
    DP_JSON_ARRAY_END,
    DP_JSON_KEY, /* text: the name; the member's value is the next token */
    DP_JSON_STRING,
    DP_JSON_NUMBER, /* text: as written */
    DP_JSON_TRUE,
    DP_JSON_FALSE,
    DP_JSON_NULL
} dp_json_kind;

typedef struct dp_json_token {
    dp_json_kind kind;
    uint32_t depth; /* containers around it; of a BEGIN and its END the same */
    dp_str text;    /* KEY, STRING, NUMBER; valid until the next call */
} dp_json_token;

typedef struct dp_json {
    const char *name; /* of the document, for messages; borrowed */
    const char *begin, *at, *end;
    dp_buf string;
    uint64_t is_object; /* bit d: the container at depth d is an object */
    uint32_t depth;
    uint8_t expect;   /* what may come next */
    dp_status status; /* the first failure; given again */
} dp_json;

/* Reads bytes [size], borrowed until deinit. Never fails. */
void dp_json_init(dp_json *json, const char *name, const char *bytes, size_t size);
void dp_json_deinit(dp_json *json);

/* The next token. DP_E_CORRUPT names line and column, what was expected and what
 * was found; DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_json_next(dp_json *json, dp_json_token *out, dp_error *err);
/* Passes over the rest of the value that `token` began: a container to its end,
 * after KEY the member's value, otherwise nothing. */
dp_status dp_json_skip(dp_json *json, const dp_json_token *token, dp_error *err);

/* A NUMBER as an integer: digits with an optional minus, without fraction or
 * exponent, within 64 bits. */
bool dp_json_i64(const dp_json_token *token, int64_t *out);
/* A NUMBER as the nearest double; false when it is not finite. */
bool dp_json_f64(const dp_json_token *token, double *out);

#endif
