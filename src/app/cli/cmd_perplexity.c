/* cmd_perplexity.c - doppler perplexity: how well a model foresees a text.
 *
 * The text is cut into chunks that fill the context; each begins with the
 * begin-of-text token where the vocabulary asks for one. Every token but a
 * chunk's first is scored: nll = -log p(token | those before it in the chunk).
 * ppl = exp(mean nll); its error is the standard error of the mean, times ppl.
 */
#include <math.h>
#include <stdio.h>
#include "app/cli/adapters.h"
#include "app/cli/command.h"
#include "app/cli/input.h"
#include "app/cli/interrupt.h"
#include "app/cli/json_text.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/progress.h"
#include "app/cli/summary.h"
#include "app/cli/swarm_report.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

typedef struct score {
    dp_mounts mounts;
    dp_engine *engine;
    dp_session *session;
    dp_adapters adapters;
    dp_token *text; /* [text_count] without begin-of-text */
    size_t text_count;
    dp_token bos; /* -1: chunks have none */
    uint32_t vocab_size;
    size_t chunk_count, chunks_max;

    const dp_token *expected; /* [] of the running chunk: the token after each position */
    double sum, sum_squares;
    uint64_t scored;
    dp_progress_bar bar;
} score;

static double nll_of(const float *logits, uint32_t count, dp_token token)
{
    double most = logits[0], sum = 0;

    for (uint32_t i = 1; i < count; i++)
        most = DP_MAX(most, (double)logits[i]);
    for (uint32_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - most); /* most taken out: exp cannot overflow */
    return most + log(sum) - (double)logits[token];
}

static bool on_logits(void *user, uint32_t position, const float *logits)
{
    score *s = user;
    double nll = nll_of(logits, s->vocab_size, s->expected[position]);

    s->sum += nll;
    s->sum_squares += nll * nll;
    s->scored++;
    dp_progress_bar_update(&s->bar, s->scored, s->text_count);
    return !dp_interrupt_is_seen();
}

/* One chunk: `size` tokens of the text, the last one foreseen but not evaluated. */
static dp_status score_chunk(score *s, const dp_token *text, size_t size, dp_error *err)
{
    dp_status st = DP_OK;

    dp_session_rewind(s->session, 0);
    if (s->bos >= 0)
        st = dp_session_append(s->session, &s->bos, 1, err);
    if (!st && size > 1)
        st = dp_session_append(s->session, text, size - 1, err);
    s->expected = s->bos >= 0 ? text : text + 1;
    return st ? st : dp_session_eval(s->session, err);
}

static dp_status score_text(score *s, dp_error *err)
{
    size_t room = dp_engine_context_max(s->engine) - (s->bos >= 0 ? 1 : 0);
    size_t least = s->bos >= 0 ? 1 : 2; /* tokens of a chunk that scores something */
    dp_status st = DP_OK;

    if (s->text_count < least || room < least)
        return dp_fail(err, DP_E_INVALID, "perplexity: nothing to score: %zu tokens, context %u",
                       s->text_count, dp_engine_context_max(s->engine));
    dp_session_set_logits_sink(s->session, on_logits, s);
    for (size_t at = 0; at < s->text_count && !st; at += room) {
        size_t size = DP_MIN(room, s->text_count - at);

        if (size < least || (s->chunks_max && s->chunk_count == s->chunks_max))
            break;
        st = score_chunk(s, s->text + at, size, err);
        s->chunk_count++;
    }
    return st;
}

/* Whether texts of this vocabulary begin with a token of their own. */
static dp_status find_bos(score *s, const dp_vocab *vocab, dp_error *err)
{
    dp_token *tokens = NULL;
    size_t count = 0;
    dp_status st;

    s->bos = -1;
    st = dp_vocab_encode(vocab, "", 0, DP_ENCODE_ADD_BOS, &tokens, &count, err);
    if (!st && count > 0 && tokens[0] == dp_vocab_bos(vocab))
        s->bos = tokens[0];
    dp_tokens_free(tokens);
    return st;
}

static dp_status prepare(score *s, const dp_args *args, const char *text, size_t size,
                         dp_options *options, dp_error *err)
{
    const dp_vocab *vocab;
    dp_status st;

    st = dp_load_engine(&s->engine, &s->mounts, args, options, err);
    if (st)
        return st;
    s->vocab_size = dp_engine_vocab_size(s->engine);
    st = dp_load_vocab(&vocab, s->engine, args, err);
    if (st)
        return st;
    st = find_bos(s, vocab, err);
    if (st)
        return st;
    /* The text is data: names of control tokens in it are just text. */
    st = dp_vocab_encode(vocab, text, size, 0, &s->text, &s->text_count, err);
    if (st)
        return st;
    st = dp_session_open(&s->session, s->engine, options, err);
    return st ? st : dp_adapters_open(&s->adapters, &s->mounts, s->engine, s->session, err);
}

static dp_status print_json(const score *s, const dp_args *args, const dp_stats *stats,
                            const double values[4], dp_output *output)
{
    static const char *const keys[4] = { "nll", "nll_stderr", "ppl", "ppl_stderr" };
    json_t *object = json_object();
    const char *model = args->operands[0];
    bool is_ok = object && dp_summary_add(object, stats);
    dp_buf line;

    dp_buf_init(&line, (size_t)1 << 20);
    for (size_t i = 0; i < 4 && is_ok; i++)
        is_ok = !json_object_set_new(object, keys[i], dp_json_number(values[i]));
    is_ok = is_ok && !json_object_set_new(object, "tokens", json_integer((json_int_t)s->scored)) &&
            !json_object_set_new(object, "chunks", json_integer((json_int_t)s->chunk_count)) &&
            !json_object_set_new(object, "model", dp_json_text(model, dp_str_from(model).size)) &&
            (!s->mounts.swarm || dp_json_put(object, "swarm", dp_swarm_report_json(&s->mounts))) &&
            !dp_json_write(&line, object, 0);
    if (is_ok)
        dp_output_write(output, line.bytes, line.size);
    dp_buf_deinit(&line);
    json_decref(object);
    return is_ok ? DP_OK : DP_E_NOMEM;
}

/* Also after Ctrl-C: the mean of what was scored. */
static dp_status report(const score *s, const dp_args *args, dp_output *output, dp_error *err)
{
    double n = (double)s->scored, mean = s->sum / n;
    double variance = n > 1 ? DP_MAX(s->sum_squares - n * mean * mean, 0) / (n - 1) : 0;
    double error = sqrt(variance / n);
    double values[4] = { mean, error, exp(mean), exp(mean) * error };
    char line[200];
    dp_stats stats;

    if (s->scored == 0)
        return DP_OK;
    dp_engine_stats(s->engine, &stats);
    if (dp_args_flag(args, "json")) {
        if (print_json(s, args, &stats, values, output))
            return dp_fail(err, DP_E_NOMEM, "perplexity: no memory for the JSON object");
    } else {
        snprintf(line, sizeof line, "nll %.5f +- %.5f, ppl %.4f +- %.4f, %llu tokens, %zu chunks\n",
                 values[0], values[1], values[2], values[3], (unsigned long long)s->scored,
                 s->chunk_count);
        dp_output_text(output, line);
    }
    if (dp_output_flush(output) && !dp_args_flag(args, "quiet"))
        dp_summary_print(&stats);
    return DP_OK;
}

static int perplexity_main(const dp_args *args)
{
    score s = { .mounts = { .args = args }, .chunks_max = (size_t)dp_args_count(args, "chunks") };
    dp_options *options = NULL;
    dp_output *output = NULL;
    char *text = NULL;
    dp_error err = { 0 };
    dp_status st;
    size_t size;

    st = dp_load_options(&options, args, &err);
    if (st)
        goto done;
    st = dp_adapters_read(&s.adapters, args, &err);
    if (st)
        goto done;
    st = dp_file_read_all(&text, &size, args->operands[1], DP_INPUT_BYTES_MAX, &err);
    if (st)
        goto done;
    st = dp_output_open(&output, "-", &err);
    if (st)
        goto done;
    st = prepare(&s, args, text, size, options, &err);
    if (st)
        goto done;
    dp_progress_bar_init(&s.bar, "scoring", "tok");
    st = score_text(&s, &err);
    dp_progress_bar_deinit(&s.bar);
    if (!st || st == DP_E_CANCELED) {
        dp_status report_st = report(&s, args, output, &err);

        st = report_st ? report_st : st;
    }
done:
    dp_session_close(s.session);
    dp_adapters_close(&s.adapters);
    dp_tokens_free(s.text);
    dp_load_close(s.engine);
    dp_mounts_close(&s.mounts);
    dp_options_close(options);
    dp_free(text);
    return dp_output_end(output, st, &err);
}

static const dp_option options[] = {
    { "chunks", "", DP_OPTION_COUNT, "N", 0, 4294967295.0, "0", NULL,
      "score at most N chunks; 0: the whole file" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LORA,
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_perplexity = {
    .name = "perplexity",
    .operands = "MODEL FILE",
    .operand_min = 2,
    .operand_max = 2,
    .summary = "Measures how well a model foresees a text",
    .details = "The text is cut into chunks of --ctx tokens, each beginning with the token that "
               "begins a text where the vocabulary has one; every token but a chunk's first is "
               "scored. Printed are the mean negative log-likelihood in nats and its exponential, "
               "each with its standard error. FILE may be - for standard input.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_swarm = true,
    .run = perplexity_main,
};
