/* main.c - doppler on the command line: finds the command and runs it. */
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "base/log.h"
#include "doppler/doppler.h"

static const dp_args_command *const commands[] = {
    &dp_command_run,     &dp_command_chat,     &dp_command_inspect,
    &dp_command_render,  &dp_command_tokenize, &dp_command_perplexity,
    &dp_command_logits,  &dp_command_explain,  &dp_command_replay,
    &dp_command_convert, &dp_command_quantize, &dp_command_doctor,
    &dp_command_plan,    &dp_command_share,    &dp_command_verify,
    &dp_command_peers,   &dp_command_cache,    &dp_command_tracker,
    &dp_command_help,    &dp_command_version,  NULL,
};

/* Letters of other names are ignored by commands that do not take them. */
static const dp_args_letter letters[] = {
    { 'p', "prompt" },  { 'f', "file" }, { 'n', "max-tokens" }, { 'o', "out" },  { 'q', "quiet" },
    { 't', "threads" }, { 'c', "ctx" },  { 'b', "batch" },      { 's', "seed" }, { 'v', "verbose" },
};

static void write_log(void *user, dp_log_level level, const char *module, const char *text)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };

    (void)user;
    fprintf(stderr, "doppler: %s: %s: %s\n", names[level], module, text);
}

/* The log goes to standard error, up to the level of --log. */
static void set_log(const dp_args *args)
{
    const char *name = dp_args_text(args, "log");
    dp_log_level level = DP_LOG_LEVEL_WARN;

    if (name && strcmp(name, "error") == 0)
        level = DP_LOG_LEVEL_ERROR;
    else if (name && strcmp(name, "info") == 0)
        level = DP_LOG_LEVEL_INFO;
    else if (name && strcmp(name, "debug") == 0)
        level = DP_LOG_LEVEL_DEBUG;
    dp_log_set_sink(write_log, NULL, level);
}

static int run_command(const dp_args_program *program, const char *name, char *const *words,
                       size_t count)
{
    const dp_args_command *command;
    dp_error err = { 0 };
    dp_args args;
    dp_status st;

    command = dp_args_find_command(program, name, &err);
    if (!command)
        return dp_exit_report(DP_E_INVALID, &err);
    st = dp_args_parse(&args, program, command, words, count, &err);
    if (st) {
        dp_exit_report(st, &err);
        return DP_EXIT_USAGE; /* whatever the status: the command line is wrong */
    }
    if (args.wants_help) {
        char *help_words[] = { (char *)command->name };

        return run_command(program, dp_command_help.name, help_words, 1);
    }
    set_log(&args);
    return command->run(&args);
}

int main(int argc, char **argv)
{
    dp_args_program program = {
        .name = "doppler",
        .version = dp_version(),
        .summary = "runs language models larger than the memory they are given",
        .description =
            "doppler runs GGUF language models inside a memory budget: what does not fit stays on "
            "disk and is read, page by page, when it is needed. A budget changes how fast a model "
            "runs, never what it says: logits are bit-identical for every budget, thread count and "
            "read method.",
        .commands = commands,
        .letters = letters,
        .letter_count = DP_ARRAY_LEN(letters),
        .exits = dp_exit_table,
        .exit_count = DP_EXIT_COUNT,
        .files = "$XDG_STATE_HOME/doppler/chat_history (without that variable, "
                 "~/.local/state/doppler/chat_history) keeps the lines typed in doppler chat. "
                 "$XDG_CACHE_HOME/doppler/heat (~/.cache/doppler/heat) keeps which experts run and "
                 "chat wanted, so that the next run begins warm. $XDG_CACHE_HOME/doppler/models "
                 "(~/.cache/doppler/models) keeps what came from peers and URLs: doppler cache.",
        .examples = "doppler run model.gguf --ram 8GiB -n 200 -p \"Once upon a time\"\n\n"
                    "doppler run model.gguf --json -f prompt.txt > answer.json\n\n"
                    "doppler chat model.gguf --ram 8GiB --system \"Answer in one sentence.\"\n\n"
                    "doppler inspect model.gguf --ram 8GiB\n\n"
                    "doppler run https://example.org/model.gguf -p \"Once upon a time\"\n\n"
                    "doppler share model.gguf --tracker http://host:6969/announce",
    };
    const char *name = argc > 1 ? argv[1] : NULL;

    setlocale(LC_CTYPE, "");  /* for the line editor; numbers stay as the C language writes them */
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of write (output.h) */
    program.shared = dp_options_table(&program.shared_count);

    if (!name) {
        fprintf(stderr, "doppler: give a command, for example: doppler run MODEL -p TEXT "
                        "(doppler help lists them)\n");
        return DP_EXIT_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = dp_command_help.name;
    else if (strcmp(name, "--version") == 0)
        name = dp_command_version.name;
    return run_command(&program, name, argv + 2, (size_t)argc - 2);
}
