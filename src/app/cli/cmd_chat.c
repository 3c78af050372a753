/* cmd_chat.c - doppler chat: a conversation, question by question.
 *
 * Every turn renders the whole conversation and hands it to dp_session_sync, so
 * that what was evaluated before is not evaluated again. When the conversation
 * outgrows the context, its oldest questions are forgotten, and that is said.
 */
#include <stdio.h>
#include <string.h>
#include "app/cli/adapters.h"
#include "app/cli/answer.h"
#include "app/cli/chat_setup.h"
#include "app/cli/command.h"
#include "app/cli/conversation.h"
#include "app/cli/editor.h"
#include "app/cli/interrupt.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/stops.h"
#include "app/cli/summary.h"
#include "base/status.h"
#include "base/str.h"

typedef struct chat {
    const dp_args *args;
    dp_options *options;
    dp_mounts mounts;
    dp_engine *engine;
    const dp_vocab *vocab;
    dp_chat_setup setup;
    dp_session *session;
    dp_adapters adapters;
    dp_editor *editor;
    dp_output *output;
    dp_conversation conversation;
    dp_answer answer;
    size_t result_count; /* of the last answer's calls, these have a result */
    const char *stops[DP_STOPS_MAX];
    size_t stop_count;
    bool has_text; /* the answer at hand */
    bool is_over;
} chat;

/* ---- a turn ---- */

/* The prompt, with a quarter of the context left for the answer: it is what
 * makes the next question fit as well. */
static dp_status encode_what_fits(chat *c, dp_token **tokens, size_t *count, dp_error *err)
{
    size_t context_max = dp_engine_context_max(c->engine);
    size_t dropped = 0;
    dp_chat_input input;
    dp_status st;

    for (;;) {
        input = dp_conversation_input(&c->conversation, c->answer.tools);
        dp_chat_setup_fill(&c->setup, &input);
        st = dp_chat_tokens(c->setup.chat, &input, tokens, count, err);
        if (st || *count <= context_max - context_max / 4 ||
            !dp_conversation_drop_oldest(&c->conversation))
            break;
        dp_tokens_free(*tokens);
        *tokens = NULL;
        dropped++;
    }
    if (dropped)
        fprintf(stderr,
                "doppler: the context of %zu tokens is full: the %zu oldest questions are "
                "forgotten (--ctx makes room)\n",
                context_max, dropped);
    if (!st && *count >= context_max)
        st = dp_fail(err, DP_E_LIMIT,
                     "chat: %zu tokens do not fit the context of %zu: raise --ctx or say less",
                     *count, context_max);
    return st;
}

static bool on_text(void *user, const char *text, size_t size)
{
    chat *c = user;

    c->has_text = true;
    return dp_answer_text(&c->answer, text, size) && !dp_interrupt_is_seen();
}

static bool on_control(void *user, dp_token token)
{
    chat *c = user;

    return dp_answer_control(&c->answer, token) && !dp_interrupt_is_seen();
}

/* Whether a Ctrl-C of an earlier answer ended this one: it stopped that answer
 * between two steps of the engine, and the engine met its own flag only now. */
static bool was_canceled_late(const chat *c, dp_finish finish)
{
    return finish == DP_FINISH_CANCELED && !dp_interrupt_is_seen() && !c->output->error &&
           !c->has_text;
}

static dp_status generate(chat *c, dp_error *err)
{
    dp_generate how = { .max_tokens = (uint32_t)dp_args_count(c->args, "max-tokens"),
                        .stops = c->stops,
                        .stop_count = c->stop_count,
                        .on_text = on_text,
                        .on_control = on_control,
                        .user = c };
    dp_finish finish = DP_FINISH_CANCELED;
    dp_status st;

    c->has_text = false;
    st = dp_session_generate(c->session, &how, &finish, err);
    if ((!st || st == DP_E_CANCELED) && was_canceled_late(c, finish))
        st = dp_session_generate(c->session, &how, &finish, err);
    return st == DP_E_CANCELED ? DP_OK : st;
}

/* What the model said, as far as it came, becomes part of the conversation. */
static dp_status answer(chat *c, dp_error *err)
{
    dp_chat_input input;
    dp_token *tokens = NULL;
    size_t count;
    dp_message message;
    dp_status st, end;

    st = encode_what_fits(c, &tokens, &count, err);
    if (!st)
        st = dp_session_sync(c->session, tokens, count, err);
    dp_tokens_free(tokens);
    if (st)
        return st;
    input = dp_conversation_input(&c->conversation, c->answer.tools);
    dp_chat_setup_fill(&c->setup, &input);
    st = dp_answer_begin(&c->answer, c->vocab, c->setup.chat, &input, err);
    if (st)
        return st;
    st = generate(c, err);
    end = dp_answer_finish(&c->answer, st ? NULL : err);
    if (st || end)
        return st ? st : end;
    if (json_array_size(c->answer.calls) == 0 || !c->output->is_line_start)
        dp_output_text(c->output, "\n");
    if (!dp_output_flush(c->output))
        return DP_E_CANCELED;
    c->result_count = 0;
    message = dp_answer_message(&c->answer);
    return dp_conversation_add_message(&c->conversation, &message, err);
}

/* Adds a message and lets the model answer; what nobody answered is taken back. */
static dp_status say(chat *c, const dp_message *message, dp_error *err)
{
    dp_status st;

    st = dp_conversation_add_message(&c->conversation, message, err);
    if (st)
        return st;
    dp_interrupt_watch(c->engine);
    st = answer(c, err);
    dp_interrupt_watch(NULL);
    if (st)
        dp_conversation_drop_last(&c->conversation);
    return st;
}

static dp_status ask(chat *c, const char *text, dp_error *err)
{
    return say(c, &(dp_message){ .role = "user", .content = text }, err);
}

/* ---- commands ---- */

static dp_status do_help(chat *c, const char *rest, dp_error *err);

static dp_status do_clear(chat *c, const char *rest, dp_error *err)
{
    dp_conversation_reset(&c->conversation);
    c->result_count = SIZE_MAX; /* no call waits any more */
    return DP_OK;
}

static dp_status do_system(chat *c, const char *rest, dp_error *err)
{
    return dp_conversation_set_system(&c->conversation, rest, err);
}

static dp_status do_stats(chat *c, const char *rest, dp_error *err)
{
    dp_stats stats;

    dp_engine_stats(c->engine, &stats);
    dp_summary_print(&stats);
    return DP_OK;
}

static dp_status do_save(chat *c, const char *rest, dp_error *err)
{
    if (!rest[0])
        return dp_fail(err, DP_E_INVALID, "/save needs a file: /save FILE");
    return dp_conversation_save(&c->conversation, c->args->operands[0], rest, err);
}

/* The result of the next call without one; behind the last, the model goes on. */
static dp_status do_tool(chat *c, const char *rest, dp_error *err)
{
    size_t call_count = json_array_size(c->answer.calls);
    json_t *call = json_array_get(c->answer.calls, c->result_count);
    dp_message message = {
        .role = "tool",
        .content = rest,
        .name = json_string_value(json_object_get(json_object_get(call, "function"), "name")),
        .tool_call_id = json_string_value(json_object_get(call, "id")),
    };
    dp_status st;

    if (!call)
        return dp_fail(err, DP_E_INVALID, "/tool: no call of a tool waits for a result");
    if (c->result_count + 1 == call_count)
        return say(c, &message, err);
    st = dp_conversation_add_message(&c->conversation, &message, err);
    c->result_count += st == DP_OK;
    return st;
}

static dp_status do_quit(chat *c, const char *rest, dp_error *err)
{
    c->is_over = true;
    return DP_OK;
}

static const struct {
    const char *name, *operand, *summary;
    dp_status (*run)(chat *c, const char *rest, dp_error *err);
} commands[] = {
    { "/help", "", "shows this", do_help },
    { "/clear", "", "forgets the conversation, but not the system message", do_clear },
    { "/system", " TEXT", "sets the system message; without TEXT, removes it", do_system },
    { "/tool", " RESULT", "gives the result of a tool that was called, in the order of calls",
      do_tool },
    { "/stats", "", "shows the numbers so far", do_stats },
    { "/save", " FILE", "writes the conversation as JSON", do_save },
    { "/quit", "", "ends, like Ctrl-D", do_quit },
};

static dp_status do_help(chat *c, const char *rest, dp_error *err)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(commands); i++)
        fprintf(stderr, "%s%-*s %s\n", commands[i].name, 14 - (int)strlen(commands[i].name),
                commands[i].operand, commands[i].summary);
    fputs("A line that begins with // is a message that begins with /. A \\ at the end of a line "
          "goes on\nwith the next one. Ctrl-C stops an answer.\n",
          stderr);
    return DP_OK;
}

static dp_status run_command(chat *c, const char *line, dp_error *err)
{
    const char *names[DP_ARRAY_LEN(commands)];
    char word[32];
    size_t size = strcspn(line, " \t\n");
    const char *nearest;

    for (size_t i = 0; i < DP_ARRAY_LEN(commands); i++) {
        names[i] = commands[i].name;
        if (dp_str_is((dp_str){ line, size }, commands[i].name))
            return commands[i].run(c, line + size + strspn(line + size, " \t\n"), err);
    }
    snprintf(word, sizeof word, "%.*s", (int)DP_MIN(size, sizeof word), line);
    nearest = dp_args_nearest(word, names, DP_ARRAY_LEN(commands));
    return dp_fail(err, DP_E_INVALID, "no command %s%s%s%s (/help lists them)", word,
                   nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

/* ---- the loop ---- */

static dp_status take_line(chat *c, const dp_buf *line, dp_error *err)
{
    const char *text = line->bytes;

    if (line->size == 0 || strspn(text, " \t\n") == line->size)
        return DP_OK;
    if (text[0] == '/' && text[1] != '/')
        return run_command(c, text, err);
    if (text[0] == '/')
        text++;
    return ask(c, text, err);
}

/* A person sees what went wrong and goes on; a program is told by the exit code. */
static dp_status converse(chat *c, dp_error *err)
{
    bool is_terminal = dp_editor_is_terminal(c->editor);
    dp_editor_event event;
    dp_status st = DP_OK;
    dp_buf line;

    dp_buf_init(&line, DP_EDITOR_TEXT_MAX);
    while (!c->is_over) {
        st = dp_editor_read(c->editor, &line, &event, err);
        if (st || event == DP_EDITOR_END)
            break;
        if (event == DP_EDITOR_TEXT) {
            st = take_line(c, &line, err);
            if (c->output->error)
                break;
        }
        if (dp_interrupt_is_seen() && !is_terminal) {
            st = DP_E_CANCELED;
            break;
        }
        if (dp_interrupt_is_seen()) {
            dp_interrupt_clear();
            if (event == DP_EDITOR_INTERRUPTED)
                fputs("\n(Ctrl-D or /quit ends)\n", stderr);
        }
        if (st && !is_terminal)
            break;
        if (st)
            dp_exit_report(st, err);
        st = DP_OK;
    }
    dp_buf_deinit(&line);
    return st;
}

static dp_status open_all(chat *c, dp_error *err)
{
    const char *system = dp_args_text(c->args, "system");
    dp_status st;

    st = dp_load_options(&c->options, c->args, err);
    if (st)
        return st;
    st = dp_stops_read(c->stops, &c->stop_count, c->args, err);
    if (st)
        return st;
    st = dp_adapters_read(&c->adapters, c->args, err);
    if (st)
        return st;
    if (system)
        st = dp_conversation_set_system(&c->conversation, system, err);
    if (st)
        return st;
    st = dp_output_open(&c->output, "-", err);
    if (st)
        return st;
    st = dp_answer_init(&c->answer, c->args, c->output, err);
    if (st)
        return st;
    st = dp_load_engine(&c->engine, &c->mounts, c->args, c->options, err);
    if (st)
        return st;
    dp_interrupt_watch(NULL);
    st = dp_load_vocab(&c->vocab, c->engine, c->args, err);
    if (st)
        return st;
    st = dp_chat_setup_init(&c->setup, c->vocab, c->args, err);
    if (st)
        return st;
    st = dp_session_open(&c->session, c->engine, c->options, err);
    if (st)
        return st;
    st = dp_adapters_open(&c->adapters, &c->mounts, c->engine, c->session, err);
    if (st)
        return st;
    return dp_editor_open(&c->editor, !dp_args_flag(c->args, "no-history"), err);
}

static int chat_main(const dp_args *args)
{
    chat c = { .args = args, .mounts = { .args = args } };
    dp_error err = { 0 };
    dp_stats stats;
    dp_status st;

    dp_conversation_init(&c.conversation);
    st = open_all(&c, &err);
    if (st)
        goto done;
    if (dp_editor_is_terminal(c.editor))
        fprintf(stderr, "%s, format %s; /help lists commands\n", args->operands[0],
                dp_chat_name(c.setup.chat));
    st = converse(&c, &err);
    dp_engine_stats(c.engine, &stats);
    if (!c.output->error && !dp_args_flag(args, "quiet"))
        dp_summary_print(&stats);
done:
    dp_editor_close(c.editor);
    dp_session_close(c.session);
    dp_adapters_close(&c.adapters);
    dp_chat_setup_deinit(&c.setup);
    dp_load_close(c.engine);
    dp_mounts_close(&c.mounts);
    dp_options_close(c.options);
    dp_conversation_deinit(&c.conversation);
    dp_answer_deinit(&c.answer);
    return dp_output_end(c.output, st, &err);
}

static const dp_option options[] = {
    DP_COMMAND_SYSTEM,
    DP_COMMAND_MAX_TOKENS,
    DP_COMMAND_STOP,
    DP_COMMAND_LORA,
    DP_COMMAND_THINKING,
    DP_COMMAND_TOOLS,
    DP_COMMAND_CHAT_SETUP,
    { "no-history", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "neither read nor write the history of typed lines" },
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_chat = {
    .name = "chat",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Holds a conversation",
    .details = "Lines are questions; answers go to standard output. /help lists what else can be "
               "typed. Ctrl-C stops an answer, Ctrl-D ends. When standard input is not a terminal, "
               "each line is one question and the first failure ends the program.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_sampling = true,
    .takes_swarm = true,
    .run = chat_main,
};
