/* cmd_render.c - doppler render: the prompt that a conversation becomes. */
#include <stdio.h>
#include "app/cli/chat_setup.h"
#include "app/cli/command.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

#define JSON_BYTES_MAX ((size_t)256 << 20)

static dp_status write_tokens(const dp_chat *chat, const dp_chat_input *input, dp_output *output,
                              dp_error *err)
{
    dp_token *tokens;
    size_t count;
    dp_status st = dp_chat_tokens(chat, input, &tokens, &count, err);
    char id[16];

    for (size_t i = 0; i < count; i++) {
        int size = snprintf(id, sizeof id, "%s%d", i ? " " : "", (int)tokens[i]);

        dp_output_write(output, id, (size_t)size);
    }
    if (!st)
        dp_output_text(output, "\n");
    dp_tokens_free(tokens);
    return st;
}

static dp_status write_text(const dp_chat *chat, const dp_chat_input *input, dp_output *output,
                            dp_error *err)
{
    char *text;
    size_t size;
    dp_status st = dp_chat_text(chat, input, &text, &size, err);

    if (!st)
        dp_output_write(output, text, size);
    dp_text_free(text);
    return st;
}

static int render_main(const dp_args *args)
{
    const char *messages = dp_args_text(args, "messages"), *tools = dp_args_text(args, "tools");
    dp_chat_setup setup = { 0 };
    char *messages_json = NULL, *tools_json = NULL;
    dp_chat_input input = { .is_closed = dp_args_flag(args, "closed") };
    dp_mounts mounts = { .args = args, .is_lazy = true };
    dp_vocab *vocab = NULL;
    dp_output *output = NULL;
    dp_error err = { 0 };
    dp_status st;
    size_t size;

    if (!messages) {
        st = dp_fail(&err, DP_E_INVALID, "render: give the conversation: --messages FILE");
        goto done;
    }
    st = dp_file_read_all(&messages_json, &size, messages, JSON_BYTES_MAX, &err);
    if (!st && tools)
        st = dp_file_read_all(&tools_json, &size, tools, JSON_BYTES_MAX, &err);
    if (!st)
        st = dp_load_vocab_file(&vocab, &mounts, args->operands[0], &err);
    if (!st)
        st = dp_chat_setup_init(&setup, vocab, args, &err);
    if (st)
        goto done;
    input.messages_json = messages_json;
    input.tools_json = tools_json;
    dp_chat_setup_fill(&setup, &input);
    st = dp_output_open(&output, "-", &err);
    if (!st)
        st = dp_args_flag(args, "tokens") ? write_tokens(setup.chat, &input, output, &err)
                                          : write_text(setup.chat, &input, output, &err);
done:
    dp_chat_setup_deinit(&setup);
    dp_vocab_close(vocab);
    dp_mounts_close(&mounts);
    dp_free(messages_json);
    dp_free(tools_json);
    return dp_output_end(output, st, &err);
}

static const dp_option options[] = {
    { "messages", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL,
      "the conversation: a JSON list of messages; - for standard input" },
    DP_COMMAND_TOOLS,
    DP_COMMAND_CHAT_SETUP,
    { "closed", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "end behind the last message, not where the assistant begins" },
    { "tokens", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print token ids, not the text" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_render = {
    .name = "render",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Prints the prompt that a conversation becomes",
    .details = "The text is what the model's chat template makes of the messages. Text of messages "
               "may spell control tokens; --tokens shows that it stays text. MODEL may be a file "
               "with nothing but a vocabulary.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_swarm = true,
    .run = render_main,
};
