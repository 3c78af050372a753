/* input.h - the text a command works on: --prompt, --file or standard input ("-"). */
#ifndef DP_APP_CLI_INPUT_H
#define DP_APP_CLI_INPUT_H

#include "app/common/args.h"

#define DP_INPUT_BYTES_MAX ((size_t)256 << 20) /* a test corpus; prompts are far below */

/* Exactly one of the three, else DP_E_INVALID; DP_E_NOTFOUND, DP_E_IO,
 * DP_E_LIMIT of the file. NUL-terminated; owned: dp_free. */
dp_status dp_input_read(char **text, size_t *size, const dp_args *args, dp_error *err);

/* Without the newline that ends the last line of a text file. */
void dp_input_trim_newline(char *text, size_t *size);

/* Token ids as people and programs write them: decimal numbers separated by
 * white space or commas, or one JSON array of them. *ids is owned: dp_free.
 * DP_E_INVALID names the line of what is not an id. `name`: for sentences. */
dp_status dp_input_parse_ids(int32_t **ids, size_t *count, const char *text, size_t size,
                             const char *name, dp_error *err);

#endif
