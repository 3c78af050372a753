/* json_text.h - bytes of a model or a file -> a JSON string, whatever the bytes.
 *
 * JSON is UTF-8. A model may write bytes that are not, and a file may hold them;
 * each maximal part that is not UTF-8 becomes U+FFFD, as browsers do.
 */
#ifndef DP_APP_CLI_JSON_TEXT_H
#define DP_APP_CLI_JSON_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

/* A new reference, NULL when memory is short. */
json_t *dp_json_text(const char *bytes, size_t size);

/* A real number; null where JSON has no such number (not finite). New reference. */
json_t *dp_json_number(double value);

/* Each adds one value to an object and says whether it could. A text of NULL is null. */
bool dp_json_put_count(json_t *object, const char *key, uint64_t value);
bool dp_json_put_flag(json_t *object, const char *key, bool value);
bool dp_json_put_text(json_t *object, const char *key, const char *value);
bool dp_json_put_real(json_t *object, const char *key, double value);
/* Takes the reference; false for NULL. */
bool dp_json_put(json_t *object, const char *key, json_t *value);

/* Appends the object, indented by `indent` spaces (0: one line), and a newline. */
dp_status dp_json_write(dp_buf *out, const json_t *value, size_t indent);

#endif
