/* json_text.h - bytes of a model or a file -> a JSON string, whatever the bytes.
 *
 * JSON is UTF-8. A model may write bytes that are not, and a file may hold them;
 * each maximal part that is not UTF-8 becomes U+FFFD, as browsers do.
 */
#ifndef DP_APP_CLI_JSON_TEXT_H
#define DP_APP_CLI_JSON_TEXT_H

#include <jansson.h>
#include "base/buf.h"

/* A new reference, NULL when memory is short. */
json_t *dp_json_text(const char *bytes, size_t size);

/* A real number; null where JSON has no such number (not finite). New reference. */
json_t *dp_json_number(double value);

/* Appends the object, indented by `indent` spaces (0: one line), and a newline. */
dp_status dp_json_write(dp_buf *out, const json_t *value, size_t indent);

#endif
