/* cmd_logits.c - doppler logits: every logit of given tokens, as a file for comparisons. */
#include <string.h>
#include "app/cli/adapters.h"
#include "app/cli/command.h"
#include "app/cli/input.h"
#include "app/cli/interrupt.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/progress.h"
#include "app/cli/summary.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "rows are written as they lie in memory, and the file is little-endian");

typedef struct rows {
    dp_output *output;
    dp_progress_bar bar;
    uint32_t vocab_size;
    size_t count;
} rows;

static bool on_logits(void *user, uint32_t position, const float *logits)
{
    rows *r = user;

    dp_progress_bar_update(&r->bar, position + 1, r->count);
    return dp_output_write(r->output, logits, r->vocab_size * sizeof *logits) &&
           !dp_interrupt_is_seen();
}

static dp_status check_ids(const dp_engine *engine, const int32_t *ids, size_t count,
                           const char *name, dp_error *err)
{
    uint32_t context_max = dp_engine_context_max(engine);
    uint32_t vocab_size = dp_engine_vocab_size(engine);

    if (count == 0)
        return dp_fail(err, DP_E_INVALID, "%s: no token ids", name);
    if (count > context_max)
        return dp_fail(err, DP_E_LIMIT, "%s: %zu tokens, but the context has %u: raise --ctx", name,
                       count, context_max);
    for (size_t i = 0; i < count; i++)
        if ((uint32_t)ids[i] >= vocab_size)
            return dp_fail(err, DP_E_INVALID, "%s: id %d, but the model has 0 to %u", name,
                           (int)ids[i], vocab_size - 1);
    return DP_OK;
}

static dp_status write_logits(dp_engine *engine, dp_mounts *mounts, const dp_options *options,
                              dp_adapters *adapters, const int32_t *ids, size_t count,
                              dp_output *output, dp_error *err)
{
    rows r = { .output = output, .vocab_size = dp_engine_vocab_size(engine), .count = count };
    dp_session *session = NULL;
    dp_status st;

    st = dp_session_open(&session, engine, options, err);
    if (st)
        return st;
    dp_progress_bar_init(&r.bar, "logits", "tok");
    dp_session_set_logits_sink(session, on_logits, &r);
    st = dp_adapters_open(adapters, mounts, engine, session, err);
    if (!st)
        st = dp_session_append(session, ids, count, err);
    if (!st)
        st = dp_session_eval(session, err);
    dp_progress_bar_deinit(&r.bar);
    dp_session_close(session);
    dp_adapters_close(adapters);
    return st;
}

static int logits_main(const dp_args *args)
{
    const char *path = dp_args_text(args, "tokens");
    const char *out_path = dp_args_text(args, "out");
    dp_options *options = NULL;
    dp_mounts mounts = { .args = args };
    dp_engine *engine = NULL;
    dp_adapters adapters;
    dp_output *output = NULL;
    char *text = NULL;
    int32_t *ids = NULL;
    size_t size, count;
    dp_error err = { 0 };
    dp_stats stats;
    dp_status st;

    if (!path || !out_path) {
        st = dp_fail(&err, DP_E_INVALID, "logits: give --tokens FILE and --out FILE");
        goto done;
    }
    st = dp_load_options(&options, args, &err);
    if (st)
        goto done;
    st = dp_adapters_read(&adapters, args, &err);
    if (st)
        goto done;
    st = dp_file_read_all(&text, &size, path, DP_INPUT_BYTES_MAX, &err);
    if (st)
        goto done;
    st = dp_input_parse_ids(&ids, &count, text, size, path, &err);
    if (st)
        goto done;
    st = dp_load_engine(&engine, &mounts, args, options, &err);
    if (st)
        goto done;
    st = check_ids(engine, ids, count, path, &err);
    if (st)
        goto done;
    st = dp_output_open(&output, out_path, &err);
    if (st)
        goto done;
    st = write_logits(engine, &mounts, options, &adapters, ids, count, output, &err);
    if (st)
        dp_output_discard(output);
    dp_engine_stats(engine, &stats);
    if (!st && dp_output_flush(output) && !dp_args_flag(args, "quiet"))
        dp_summary_print(&stats);
done:
    dp_load_close(engine);
    dp_mounts_close(&mounts);
    dp_options_close(options);
    dp_free(text);
    dp_free(ids);
    return dp_output_end(output, st, &err);
}

static const dp_option options[] = {
    { "tokens", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL,
      "token ids, separated by white space or commas, or a JSON array; - is standard input" },
    { "out", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL, "where to write; - is standard output" },
    DP_COMMAND_LORA,
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_logits = {
    .name = "logits",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Writes the logits after every token of a list",
    .details = "The file is float32, little-endian, [tokens][vocabulary], without a header. Bytes "
               "are the same for every memory budget, thread count and read method. A file that "
               "could not be finished is removed.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_swarm = true,
    .run = logits_main,
};
