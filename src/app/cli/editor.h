/* editor.h - lines that a person types, or that a program writes to our standard input.
 *
 * On a terminal: libedit, with history kept in a file between runs. Otherwise
 * plain lines and no prompts. A backslash at the end of a line goes on with the
 * next one.
 *
 * Threads  The main thread.
 */
#ifndef DP_APP_CLI_EDITOR_H
#define DP_APP_CLI_EDITOR_H

#include "base/buf.h"

#define DP_EDITOR_TEXT_MAX ((size_t)16 << 20) /* one message */

typedef struct dp_editor dp_editor;

typedef enum dp_editor_event {
    DP_EDITOR_TEXT,       /* *out holds the text, without the last newline */
    DP_EDITOR_END,        /* end of input: Ctrl-D */
    DP_EDITOR_INTERRUPTED /* Ctrl-C */
} dp_editor_event;

/* keeps_history: read and write the history file of the user. DP_E_NOMEM; a
 * history that cannot be read is just empty. */
dp_status dp_editor_open(dp_editor **out, bool keeps_history, dp_error *err);
void dp_editor_close(dp_editor *editor); /* writes the history; NULL is fine */
bool dp_editor_is_terminal(const dp_editor *editor);

/* DP_E_IO, DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_editor_read(dp_editor *editor, dp_buf *out, dp_editor_event *event, dp_error *err);

#endif
