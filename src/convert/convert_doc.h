/* convert_doc.h - a JSON document in memory, asked by path: "rope_scaling.factor".
 *
 * Room     Configurations are a few kilobytes and are asked some fifty questions, so
 *          each question reads the text again from its start and no tree is kept.
 *          The one large document, a tokenizer, is asked for its few large parts
 *          and streamed from there.
 *
 * Absent   A member that is missing or null, and every member of a file that was
 *          optional and is not there. Of members with the same name the first counts.
 *
 * Threads  Immutable once open: any thread.
 */
#ifndef DP_CONVERT_CONVERT_DOC_H
#define DP_CONVERT_CONVERT_DOC_H

#include "base/json.h"

#define DP_DOC_SIZE_MAX ((size_t)256 << 20) /* gpt-oss's tokenizer.json is 27 MB */
#define DP_DOC_NAME_MAX 1024                /* of a path */

typedef struct dp_doc {
    char name[DP_DOC_NAME_MAX];
    char *text; /* NULL: not there */
    size_t size;
} dp_doc;

/* Reads DIR/file whole. An optional file that is not there is an empty document.
 * DP_E_NOTFOUND, DP_E_IO, DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_doc_open(dp_doc *doc, const char *dir, const char *file, bool is_optional,
                      dp_error *err);
void dp_doc_close(dp_doc *doc); /* all zero is fine */

/* Puts *json right behind the value's first token. *is_found false: absent. The
 * caller deinits *json in every case; the token's text lives as long as it does. */
dp_status dp_doc_find(const dp_doc *doc, const char *path, dp_json *json, dp_json_token *token,
                      bool *is_found, dp_error *err);

/* The value, within [min, max]. *is_found (may be NULL: absent is DP_E_NOTFOUND)
 * tells whether it is there; *out is untouched when it is not. A value of another
 * kind is DP_E_CORRUPT, one out of range DP_E_LIMIT; all name file and path. */
dp_status dp_doc_u64(const dp_doc *doc, const char *path, uint64_t min, uint64_t max, uint64_t *out,
                     bool *is_found, dp_error *err);
dp_status dp_doc_f64(const dp_doc *doc, const char *path, double min, double max, double *out,
                     bool *is_found, dp_error *err);
dp_status dp_doc_bool(const dp_doc *doc, const char *path, bool *out, bool *is_found,
                      dp_error *err);
/* Appends the string to out. */
dp_status dp_doc_str(const dp_doc *doc, const char *path, dp_buf *out, bool *is_found,
                     dp_error *err);

/* Steps through a container whose BEGIN was the last token of json: true with the
 * next element (of an array) or KEY (of an object); false at its end, or when *st
 * is set. The caller consumes each value, or skips it, before asking again. */
bool dp_doc_next(dp_json *json, dp_json_token *token, dp_status *st, dp_error *err);

#endif
