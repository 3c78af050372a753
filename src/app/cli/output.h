/* output.h - answers go to standard output (or a file) and every failure is seen.
 *
 * Room     One place to write bytes: a buffer before a file descriptor, an error
 *          that stays once it came. A program whose disk is full or whose
 *          reader is gone must not report success, so dp_output_close says how
 *          all the writing went. Main ignores SIGPIPE: a reader that went away
 *          is an ordinary error here.
 *
 * Threads  One at a time.
 */
#ifndef DP_APP_CLI_OUTPUT_H
#define DP_APP_CLI_OUTPUT_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_OUTPUT_BUFFER_BYTES ((size_t)64 << 10)

typedef struct dp_output {
    const char *name; /* for sentences: "standard output" or the path; borrowed */
    int fd;
    int error; /* errno of the first failure, 0: none */
    bool is_terminal;
    bool is_line_start; /* the last byte was a newline, or there was none */
    bool is_file;       /* a regular one: removed when the writing fails ... */
    bool is_discarded;  /* ... or what was to be written did not come about */
    size_t used;
    char buffer[DP_OUTPUT_BUFFER_BYTES];
} dp_output;

/* path "-": standard output; anything else is made or emptied. DP_E_IO,
 * DP_E_NOTFOUND, DP_E_NOMEM. Owned: dp_output_close. */
dp_status dp_output_open(dp_output **out, const char *path, dp_error *err);

/* False once something failed: stop making more. */
bool dp_output_write(dp_output *output, const void *bytes, size_t size);
bool dp_output_text(dp_output *output, const char *text);
bool dp_output_flush(dp_output *output);

/* The reader of a pipe closed it: end without a word, DP_EXIT_READER_GONE. */
bool dp_output_is_reader_gone(const dp_output *output);

/* Nothing more is written, and dp_output_close removes a file that was made here. */
void dp_output_discard(dp_output *output);

/* Writes what is left and frees. DP_E_IO names what could not be written; NULL is fine. */
dp_status dp_output_close(dp_output *output, dp_error *err);

/* The end of a command: closes the output and reports. status is how the
 * command went (its sentence in *err); returns the exit code. */
int dp_output_end(dp_output *output, dp_status status, dp_error *err);

/* The end of a command that prints all at once: bytes [size] to standard output where
 * status is DP_OK, then as dp_output_end. */
int dp_output_report(const char *bytes, size_t size, dp_status status, dp_error *err);

/* Writes text [size] to standard output and ends the command with it. */
int dp_output_print(const char *text, size_t size);

#endif
