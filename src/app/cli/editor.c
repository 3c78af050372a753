#include "app/cli/editor.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include "app/cli/interrupt.h"
#include "app/cli/userdir.h"
#include "base/mem.h"
#include "base/status.h"

#define HISTORY_LINES_MAX 1000

struct dp_editor {
    EditLine *edit; /* NULL: plain lines */
    History *history;
    const char *prompt;
    char history_path[DP_USERDIR_PATH_MAX]; /* "": none is kept */
    char *line;                             /* of getline: released with free */
    size_t line_capacity;
};

/* One character for libedit: 1, 0 at the end, -1 on failure and on Ctrl-C.
 *
 * SIGINT is blocked but for the wait itself. Otherwise one that comes between
 * the look at the flag and the read would leave the read waiting. */
static int read_character(EditLine *edit, wchar_t *out)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    mbstate_t state = { 0 };
    sigset_t open_mask;
    char byte;

    (void)edit;
    pthread_sigmask(SIG_SETMASK, NULL, &open_mask);
    sigdelset(&open_mask, SIGINT);
    for (;;) {
        size_t used;
        ssize_t count;

        if (dp_interrupt_is_seen())
            return -1;
        if (ppoll(&input, 1, NULL, &open_mask) < 0)
            continue; /* a signal: look at the flag again */
        count = read(STDIN_FILENO, &byte, 1);
        if (count <= 0)
            return (int)count;
        used = mbrtowc(out, &byte, 1, &state);
        if (used <= 1)
            return 1;
        if (used == (size_t)-1) {
            *out = L'?'; /* not a character of this locale */
            return 1;
        }
    }
}

static char *show_prompt(EditLine *edit)
{
    dp_editor *editor = NULL;

    el_get(edit, EL_CLIENTDATA, &editor);
    return (char *)editor->prompt;
}

static dp_status open_terminal(dp_editor *editor, bool keeps_history, dp_error *err)
{
    HistEvent event;

    /* With the answers going to a file, the typing still belongs on the terminal. */
    editor->edit = el_init("doppler", stdin, isatty(STDOUT_FILENO) ? stdout : stderr, stderr);
    editor->history = history_init();
    if (!editor->edit || !editor->history)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for the line editor");
    el_set(editor->edit, EL_CLIENTDATA, editor);
    el_set(editor->edit, EL_GETCFN, read_character);
    el_set(editor->edit, EL_PROMPT, show_prompt);
    el_set(editor->edit, EL_EDITOR, "emacs");
    el_set(editor->edit, EL_HIST, history, editor->history);
    el_source(editor->edit, NULL); /* the user's .editrc may say vi */
    history(editor->history, &event, H_SETSIZE, HISTORY_LINES_MAX);
    history(editor->history, &event, H_SETUNIQUE, 1);
    if (keeps_history)
        dp_userdir_find(editor->history_path, "XDG_STATE_HOME", ".local/state",
                        "doppler/chat_history");
    if (editor->history_path[0]) {
        history(editor->history, &event, H_LOAD, editor->history_path);
    }
    return DP_OK;
}

dp_status dp_editor_open(dp_editor **out, bool keeps_history, dp_error *err)
{
    dp_editor *editor;
    dp_status st = DP_OK;

    *out = NULL;
    editor = dp_alloc_zero(1, sizeof *editor);
    if (!editor)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for the line editor");
    if (isatty(STDIN_FILENO))
        st = open_terminal(editor, keeps_history, err);
    if (st) {
        dp_editor_close(editor);
        return st;
    }
    *out = editor;
    return DP_OK;
}

void dp_editor_close(dp_editor *editor)
{
    HistEvent event;

    if (!editor)
        return;
    if (editor->history && editor->history_path[0])
        history(editor->history, &event, H_SAVE, editor->history_path);
    if (editor->history)
        history_end(editor->history);
    if (editor->edit)
        el_end(editor->edit);
    free(editor->line);
    dp_free(editor);
}

bool dp_editor_is_terminal(const dp_editor *editor)
{
    return editor->edit != NULL;
}

static const char *read_typed(dp_editor *editor, int *count)
{
    sigset_t blocked, before;
    const char *line;
    HistEvent event;

    sigemptyset(&blocked);
    sigaddset(&blocked, SIGINT);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    el_resize(editor->edit);
    /* Before the prompt shows, or what is typed the moment it does meets the
     * system's own line editing: a Ctrl-D would be lost. */
    el_set(editor->edit, EL_PREP_TERM, 1);
    line = el_gets(editor->edit, count);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (line && *count > 1)
        history(editor->history, &event, H_ENTER, line);
    return line;
}

/* One line with its newline, borrowed until the next; NULL at the end, on a
 * signal and on failure. */
static const char *read_line(dp_editor *editor, size_t *size)
{
    const char *line;
    int count = 0;

    if (!editor->edit) {
        ssize_t read_count = getline(&editor->line, &editor->line_capacity, stdin);

        *size = read_count > 0 ? (size_t)read_count : 0;
        return read_count > 0 ? editor->line : NULL;
    }
    line = read_typed(editor, &count);
    *size = count > 0 ? (size_t)count : 0;
    return count > 0 ? line : NULL;
}

/* What no further line means. */
static dp_status end_of_lines(dp_editor *editor, dp_editor_event *event, dp_error *err)
{
    if (dp_interrupt_is_seen()) {
        *event = DP_EDITOR_INTERRUPTED;
        return DP_OK;
    }
    *event = DP_EDITOR_END;
    if (!editor->edit && ferror(stdin))
        return dp_fail_errno(err, DP_E_IO, errno, "standard input: cannot read");
    return DP_OK;
}

dp_status dp_editor_read(dp_editor *editor, dp_buf *out, dp_editor_event *event, dp_error *err)
{
    bool goes_on = true;
    const char *line;
    size_t size;
    dp_status st;

    dp_buf_reset(out);
    editor->prompt = "> ";
    while (goes_on) {
        line = read_line(editor, &size);
        if (!line && out->size > 0 && !dp_interrupt_is_seen())
            break; /* the input ended where it should have gone on: take what there is */
        if (!line)
            return end_of_lines(editor, event, err);
        if (size > 0 && line[size - 1] == '\n')
            size--;
        if (size > 0 && line[size - 1] == '\r')
            size--;
        goes_on = size > 0 && line[size - 1] == '\\';
        st = dp_buf_append(out, line, size - goes_on);
        if (!st && goes_on)
            st = dp_buf_append(out, "\n", 1);
        if (st)
            return dp_fail(err, st, "chat: a message takes at most %zu bytes", out->size_max);
        editor->prompt = "| ";
    }
    *event = DP_EDITOR_TEXT;
    return DP_OK;
}
