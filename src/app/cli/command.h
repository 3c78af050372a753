/* command.h - the commands of doppler, one file each (cmd_*.c), and what they share.
 *
 * A command is a row: name, operands, its own options, and a function that gets
 * the parsed words and returns the exit code (exit.h). Adding one is a file and
 * a line in main.c.
 */
#ifndef DP_APP_CLI_COMMAND_H
#define DP_APP_CLI_COMMAND_H

#include "app/cli/exit.h"
#include "app/common/args.h"

extern const dp_args_command dp_command_run, dp_command_explain, dp_command_chat,
    dp_command_inspect, dp_command_render, dp_command_tokenize, dp_command_perplexity,
    dp_command_logits, dp_command_replay, dp_command_convert, dp_command_quantize,
    dp_command_doctor, dp_command_plan, dp_command_share, dp_command_verify, dp_command_peers,
    dp_command_cache, dp_command_tracker, dp_command_help, dp_command_version;

/* Options that several commands have, each the same everywhere. */
#define DP_COMMAND_PROMPT                                                                          \
    {                                                                                              \
        "prompt", "", DP_OPTION_TEXT, "TEXT", 0, 0, NULL, NULL, "the text itself"                  \
    }
#define DP_COMMAND_FILE                                                                            \
    {                                                                                              \
        "file", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL, "read the text from a file"          \
    }
#define DP_COMMAND_MAX_TOKENS                                                                      \
    {                                                                                              \
        "max-tokens", "", DP_OPTION_COUNT, "N", 0, 4294967295.0, "0", NULL,                        \
            "write at most N tokens; 0: until the model ends or the context is full"               \
    }
#define DP_COMMAND_STOP                                                                            \
    {                                                                                              \
        "stop", "", DP_OPTION_TEXT, "TEXT", 0, 0, NULL, NULL,                                      \
            "end where TEXT comes up, without it; may be given up to 16 times"                     \
    }
#define DP_COMMAND_LORA                                                                            \
    {                                                                                              \
        "lora", "", DP_OPTION_TEXT, "FILE[=SCALE]", 0, 0, NULL, NULL,                              \
            "add a LoRA adapter, at SCALE times its strength; may be given up to 16 times"         \
    }
#define DP_COMMAND_SYSTEM                                                                          \
    {                                                                                              \
        "system", "", DP_OPTION_TEXT, "TEXT", 0, 0, NULL, NULL,                                    \
            "system message of the conversation"                                                   \
    }
#define DP_COMMAND_THINKING                                                                        \
    {                                                                                              \
        "thinking", "", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|show|hide",                      \
            "whether the model's thoughts are printed; auto: on a terminal, dimmed"                \
    }
#define DP_COMMAND_TOOLS                                                                           \
    {                                                                                              \
        "tools", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL,                                     \
            "tools the model may call: a JSON list as OpenAI's API takes it"                       \
    }
/* How a conversation is written (chat_setup.h). */
#define DP_COMMAND_CHAT_SETUP                                                                      \
    { "chat-template",                                                                             \
      "",                                                                                          \
      DP_OPTION_TEXT,                                                                              \
      "FILE",                                                                                      \
      0,                                                                                           \
      0,                                                                                           \
      NULL,                                                                                        \
      NULL,                                                                                        \
      "write conversations with the Jinja template in FILE, not with the model's" },               \
        { "chat-format",                                                                           \
          "",                                                                                      \
          DP_OPTION_TEXT,                                                                          \
          "NAME",                                                                                  \
          0,                                                                                       \
          0,                                                                                       \
          "auto",                                                                                  \
          NULL,                                                                                    \
          "template, or a built-in format: plain, chatml, llama3, llama3.1, mistral, harmony, "    \
          "deepseek, deepseek-r1; auto: the template if it can be read, else the format it is "    \
          "recognised as" },                                                                       \
        { "chat-arg",                                                                              \
          "",                                                                                      \
          DP_OPTION_TEXT,                                                                          \
          "NAME=JSON",                                                                             \
          0,                                                                                       \
          0,                                                                                       \
          NULL,                                                                                    \
          NULL,                                                                                    \
          "a variable of the template, as enable_thinking=false; may be given several times" },    \
    {                                                                                              \
        "chat-date", "", DP_OPTION_TEXT, "DAY", 0, 0, NULL, NULL,                                  \
            "what templates take for today, as 2025-06-30; without it, today"                      \
    }
#define DP_COMMAND_JSON                                                                            \
    {                                                                                              \
        "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,                                         \
            "print one JSON object, with the text in it, and nothing else"                         \
    }
#define DP_COMMAND_QUIET                                                                           \
    {                                                                                              \
        "quiet", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "no line with the numbers of the run"  \
    }
#define DP_COMMAND_LOG                                                                             \
    {                                                                                              \
        "log", "", DP_OPTION_CHOICE, "", 0, 0, "warn", "error|warn|info|debug",                    \
            "which events to print to standard error"                                              \
    }

#endif
