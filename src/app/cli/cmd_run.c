/* cmd_run.c - doppler run: the model's continuation of a text; doppler explain: the same for the
 * report at its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "app/cli/adapters.h"
#include "app/cli/answer.h"
#include "app/cli/chat_setup.h"
#include "app/cli/command.h"
#include "app/cli/explain_report.h"
#include "app/cli/input.h"
#include "app/cli/interrupt.h"
#include "app/cli/json_text.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/stops.h"
#include "app/cli/summary.h"
#include "app/cli/swarm_report.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

#define TEXT_BYTES_MAX ((size_t)256 << 20) /* a million tokens of long words */

typedef struct run {
    const dp_args *args;
    dp_options *options;
    dp_mounts mounts;
    dp_engine *engine;
    dp_session *session;
    dp_adapters adapters;
    dp_output *output;
    dp_buf text; /* with --json: what would have been printed */
    dp_answer answer;
    bool has_answer; /* --chat: what is written is told apart */
    char *prompt;
    size_t prompt_size;
    uint32_t prompt_count; /* tokens */
    const char *stops[DP_STOPS_MAX];
    size_t stop_count;
    char seed[24];
    bool is_json;
    bool is_explain; /* doppler explain: the report is the answer, the text is not shown */
    dp_finish finish;
    dp_explain explain;
    bool has_explain;
} run;

/* Text goes out as it comes: somebody is reading along. */
static bool show_text(void *user, const char *text, size_t size)
{
    run *r = user;

    if (r->is_json)
        return dp_buf_append(&r->text, text, size) == DP_OK;
    if (r->is_explain)
        return true;
    return dp_output_write(r->output, text, size) && dp_output_flush(r->output);
}

static bool on_text(void *user, const char *text, size_t size)
{
    run *r = user;
    bool is_ok = !r->has_answer || dp_answer_text(&r->answer, text, size);

    if (r->is_json || !r->has_answer)
        is_ok = is_ok && show_text(r, text, size);
    return is_ok && !dp_interrupt_is_seen();
}

static bool on_control(void *user, dp_token token)
{
    run *r = user;

    return dp_answer_control(&r->answer, token) && !dp_interrupt_is_seen();
}

/* One message to an assistant. */
static dp_status encode_message(run *r, const dp_vocab *vocab, dp_token **tokens, size_t *count,
                                dp_error *err)
{
    const char *system = dp_args_text(r->args, "system");
    dp_message messages[2] = { { .role = "system", .content = system } };
    dp_chat_input input = { .messages = messages,
                            .message_count = system ? 1 : 0,
                            .tools_json = r->answer.tools };
    dp_chat_setup setup = { 0 };
    dp_status st;

    messages[input.message_count++] = (dp_message){ .role = "user", .content = r->prompt };
    st = dp_chat_setup_init(&setup, vocab, r->args, err);
    dp_chat_setup_fill(&setup, &input);
    if (!st)
        st = dp_chat_tokens(setup.chat, &input, tokens, count, err);
    if (!st && !dp_args_flag(r->args, "special")) {
        st = dp_answer_begin(&r->answer, vocab, setup.chat, &input, err);
        r->has_answer = st == DP_OK;
    }
    dp_chat_setup_deinit(&setup);
    return st;
}

static dp_status append_prompt(run *r, dp_error *err)
{
    const dp_vocab *vocab;
    dp_token *tokens = NULL;
    size_t count = 0;
    dp_status st;

    st = dp_load_vocab(&vocab, r->engine, r->args, err);
    if (st)
        goto done;
    if (dp_args_flag(r->args, "chat"))
        st = encode_message(r, vocab, &tokens, &count, err);
    else
        st = dp_vocab_encode(vocab, r->prompt, r->prompt_size,
                             DP_ENCODE_SPECIAL | DP_ENCODE_ADD_BOS, &tokens, &count, err);
    if (st)
        goto done;
    if (count == 0) {
        st = dp_fail(err, DP_E_INVALID, "%s: the prompt is empty: there is nothing to continue",
                     r->args->command->name);
        goto done;
    }
    st = dp_session_append(r->session, tokens, count, err);
    r->prompt_count = (uint32_t)count;
done:
    dp_tokens_free(tokens);
    return st;
}

static dp_status generate(run *r, dp_error *err)
{
    dp_generate how = { .max_tokens = (uint32_t)dp_args_count(r->args, "max-tokens"),
                        .stops = r->stops,
                        .stop_count = r->stop_count,
                        .ignores_stop_tokens = dp_args_flag(r->args, "ignore-eos"),
                        .shows_special = dp_args_flag(r->args, "special"),
                        .on_text = on_text,
                        .on_control = r->has_answer ? on_control : NULL,
                        .user = r };
    dp_status st;

    if (dp_args_flag(r->args, "echo"))
        show_text(r, r->prompt, r->prompt_size);
    st = dp_session_generate(r->session, &how, &r->finish, err);
    if (r->has_answer && (!st || st == DP_E_CANCELED)) {
        dp_status end = dp_answer_finish(&r->answer, err);

        if (end)
            return end;
    }
    if (st == DP_E_CANCELED) {
        r->finish = DP_FINISH_CANCELED;
        st = DP_OK;
    }
    if (!st && r->finish == DP_FINISH_CANCELED && dp_interrupt_is_seen())
        st = DP_E_CANCELED; /* by a person: the text so far still counts */
    return st;
}

/* What was told apart, beside the text as it was written. */
static bool add_answer(json_t *object, const dp_answer *a)
{
    return !json_object_set_new(object, "content",
                                dp_json_text(a->content.bytes, a->content.size)) &&
           !json_object_set_new(object, "reasoning",
                                dp_json_text(a->thinking.bytes, a->thinking.size)) &&
           !json_object_set(object, "tool_calls", a->calls);
}

static dp_status print_json(run *r, const dp_stats *stats, dp_error *err)
{
    static const char *const finishes[] = {
        [DP_FINISH_STOP_TOKEN] = "stop_token",
        [DP_FINISH_STOP_TEXT] = "stop_text",
        [DP_FINISH_LENGTH] = "length",
        [DP_FINISH_CANCELED] = "canceled",
    };
    json_t *object = json_object();
    json_t *explain = r->has_explain ? dp_explain_json(&r->explain) : NULL;
    uint32_t count = dp_session_count(r->session);
    const char *model = r->args->operands[0];
    dp_buf line;
    dp_status st = DP_E_NOMEM;

    dp_buf_init(&line, SIZE_MAX / 2);
    if (object && !json_object_set_new(object, "text", dp_json_text(r->text.bytes, r->text.size)) &&
        (!r->has_answer || add_answer(object, &r->answer)) &&
        !json_object_set_new(object, "finish", json_string(finishes[r->finish])) &&
        !json_object_set_new(object, "model", dp_json_text(model, dp_str_from(model).size)) &&
        dp_summary_add(object, stats) &&
        (!explain || !json_object_set(object, "explain", explain)) &&
        (!r->mounts.swarm || dp_json_put(object, "swarm", dp_swarm_report_json(&r->mounts))) &&
        !json_object_set_new(object, "prompt_tokens", json_integer(r->prompt_count)) &&
        !json_object_set_new(object, "new_tokens", json_integer(count - r->prompt_count)) &&
        !json_object_set_new(object, "seed", json_integer(strtoll(r->seed, NULL, 10))))
        st = dp_json_write(&line, object, 0);
    if (!st)
        dp_output_write(r->output, line.bytes, line.size);
    else
        dp_fail(err, st, "%s: no memory for the JSON object", r->args->command->name);
    dp_buf_deinit(&line);
    json_decref(explain);
    json_decref(object);
    return st;
}

/* For people, behind the line of numbers; of doppler explain it is the answer. */
static void print_explain(run *r)
{
    dp_buf text;

    dp_buf_init(&text, SIZE_MAX / 2);
    if (dp_explain_text(&r->explain, &text) == DP_OK &&
        (!r->mounts.swarm || dp_swarm_report_text(&r->mounts, &text) == DP_OK)) {
        if (r->is_explain)
            dp_output_write(r->output, text.bytes, text.size);
        else
            fputs(text.bytes, stderr);
    }
    dp_buf_deinit(&text);
}

/* Text, then numbers; also after Ctrl-C (status DP_E_CANCELED). */
static dp_status report(run *r, dp_status status, dp_error *err)
{
    dp_stats stats;
    dp_status st = DP_OK;

    dp_engine_stats(r->engine, &stats);
    if (r->is_explain || dp_args_flag(r->args, "explain"))
        r->has_explain = dp_engine_explain(r->engine, &r->explain, NULL) == DP_OK;
    if (r->is_json)
        st = print_json(r, &stats, err);
    else if (!r->output->is_line_start)
        dp_output_text(r->output, "\n");
    /* A failed write is the only thing to say then, and dp_output_end says it. */
    if (dp_output_flush(r->output) && !dp_args_flag(r->args, "quiet"))
        dp_summary_print(&stats);
    if (r->has_explain && !r->is_json)
        print_explain(r);
    return st ? st : status;
}

/* A seed of 0 asks for any. It is drawn here, so that the report can name it and
 * the text can be had again. */
static dp_status choose_seed(run *r, dp_error *err)
{
    const char *given = dp_args_text(r->args, "seed");
    uint32_t drawn = 0;

    snprintf(r->seed, sizeof r->seed, "%s", given);
    if (strcmp(given, "0") != 0)
        return DP_OK;
    while (drawn == 0)
        if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn)
            drawn = (uint32_t)dp_clock_now_ns(&dp_clock_real);
    snprintf(r->seed, sizeof r->seed, "%u", drawn);
    return dp_options_set(r->options, "seed", r->seed, err);
}

/* Everything that can be wrong with the request comes before the long load. */
static dp_status open_all(run *r, dp_error *err)
{
    static const char *const chat_options[] = { "system",        "thinking",    "tools",
                                                "chat-template", "chat-format", "chat-arg",
                                                "chat-date" };
    dp_status st;

    st = dp_load_options(&r->options, r->args, err);
    if (st)
        return st;
    st = choose_seed(r, err);
    if (st)
        return st;
    st = dp_stops_read(r->stops, &r->stop_count, r->args, err);
    if (st)
        return st;
    st = dp_adapters_read(&r->adapters, r->args, err);
    if (st)
        return st;
    for (size_t i = 0; i < DP_ARRAY_LEN(chat_options); i++)
        if (dp_args_is_given(r->args, chat_options[i]) && !dp_args_flag(r->args, "chat"))
            return dp_fail(err, DP_E_INVALID, "%s: --%s is for a conversation: add --chat",
                           r->args->command->name, chat_options[i]);
    st = dp_input_read(&r->prompt, &r->prompt_size, r->args, err);
    if (st)
        return st;
    if (!dp_args_is_given(r->args, "prompt"))
        dp_input_trim_newline(r->prompt, &r->prompt_size);
    st = dp_output_open(&r->output, "-", err);
    if (st)
        return st;
    st = dp_answer_init(&r->answer, r->args, r->is_json || r->is_explain ? NULL : r->output, err);
    if (st)
        return st;
    st = dp_load_engine(&r->engine, &r->mounts, r->args, r->options, err);
    if (st)
        return st;
    st = dp_session_open(&r->session, r->engine, r->options, err);
    return st ? st : dp_adapters_open(&r->adapters, &r->mounts, r->engine, r->session, err);
}

static int run_to_end(const dp_args *args, bool is_explain)
{
    run r = { .args = args,
              .mounts = { .args = args },
              .is_json = dp_args_flag(args, "json"),
              .is_explain = is_explain };
    dp_error err = { 0 };
    dp_status st;

    dp_buf_init(&r.text, TEXT_BYTES_MAX);
    st = open_all(&r, &err);
    if (st)
        goto done;
    st = append_prompt(&r, &err);
    if (st)
        goto done;
    st = generate(&r, &err);
    if (!st || st == DP_E_CANCELED)
        st = report(&r, st, &err);
done:
    dp_session_close(r.session);
    dp_adapters_close(&r.adapters);
    dp_load_close(r.engine);
    dp_mounts_close(&r.mounts);
    dp_options_close(r.options);
    dp_buf_deinit(&r.text);
    dp_answer_deinit(&r.answer);
    dp_free(r.prompt);
    return dp_output_end(r.output, st, &err);
}

static int run_main(const dp_args *args)
{
    return run_to_end(args, false);
}

static int explain_main(const dp_args *args)
{
    return run_to_end(args, true);
}

static const dp_option options[] = {
    DP_COMMAND_PROMPT,
    DP_COMMAND_FILE,
    DP_COMMAND_MAX_TOKENS,
    DP_COMMAND_STOP,
    DP_COMMAND_LORA,
    { "chat", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "send the text as a message in the model's conversation format" },
    DP_COMMAND_SYSTEM,
    DP_COMMAND_THINKING,
    DP_COMMAND_TOOLS,
    DP_COMMAND_CHAT_SETUP,
    { "echo", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "print the prompt before its continuation" },
    { "ignore-eos", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "go on where the model would end" },
    { "special", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print the names of control tokens" },
    DP_COMMAND_JSON,
    { "explain", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "say why experts hit as often as they did: policies, sizes, latencies" },
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_run = {
    .name = "run",
    .operands = "MODEL [-]",
    .operand_min = 1,
    .operand_max = 2,
    .summary = "Continues a text, writing to standard output as it comes",
    .details =
        "MODEL is a GGUF file; of a split model, any part; or a URL of one, a .torrent or a magnet "
        "link, whose parts are fetched as they are needed. The text ends with a newline; "
        "--json has it "
        "exactly. A newline that ends a file or "
        "standard input is not part of the prompt. Ctrl-C ends the text; a second one ends "
        "the program. The numbers of the run go to standard error.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_sampling = true,
    .takes_swarm = true,
    .run = run_main,
};

#define EXPLAIN_TOKENS "256" /* enough for two windows of the shadows */

static const dp_option explain_options[] = {
    DP_COMMAND_PROMPT,
    DP_COMMAND_FILE,
    { "max-tokens", "", DP_OPTION_COUNT, "N", 1, 4294967295.0, EXPLAIN_TOKENS, NULL,
      "write at most N tokens, unseen" },
    DP_COMMAND_LORA,
    { "chat", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "send the text as a message in the model's conversation format" },
    DP_COMMAND_SYSTEM,
    DP_COMMAND_THINKING,
    DP_COMMAND_CHAT_SETUP,
    { "ignore-eos", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "go on where the model would end" },
    DP_COMMAND_JSON,
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_explain = {
    .name = "explain",
    .operands = "MODEL [-]",
    .operand_min = 1,
    .operand_max = 2,
    .summary = "Runs a model on a text and says why experts hit as often as they did",
    .details = "As doppler run --explain, but the report is the answer and the text is not "
               "shown: hits of every policy, the curve of hits over memory, what the best "
               "possible choice would have hit more (regret), what was read in vain, latencies "
               "of pages. --json has the text as well.",
    .options = explain_options,
    .option_count = DP_ARRAY_LEN(explain_options),
    .takes_shared = true,
    .takes_sampling = true,
    .takes_swarm = true,
    .run = explain_main,
};
