/* decode_bench - decode and prefill speed of a model, beside what memory can deliver.
 *
 *   bench_decode MODEL [NAME=VALUE ...]     options as on the command line of doppler
 *
 * Measures, by turns, SAMPLES times each: reading memory with all threads,
 * evaluating a prompt of PROMPT tokens, decoding DECODE tokens one by one behind
 * it. Prints one JSON object with every sample, medians, and the ratio of decode
 * to its limit: every weight is read once a token, so no engine decodes faster
 * than bandwidth / bytes. Only resident weights make sense here: give enough --ram.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/pool.h"
#include "doppler/doppler.h"

#define SAMPLES     5
#define PROMPT      512
#define DECODE      48
#define SWEEP_BYTES ((size_t)512 << 20) /* well past any cache */

static uint64_t now(void)
{
    return dp_clock_now_ns(&dp_clock_real);
}

static void die(const dp_error *err)
{
    fprintf(stderr, "bench_decode: %s\n", err->text);
    exit(1);
}

/* ---- memory ---- */

struct sweep {
    const uint64_t *words;
    uint64_t sums[DP_POOL_THREADS_MAX * 8]; /* a cache line apart */
};

static void sweep_range(void *user, size_t begin, size_t end, uint32_t worker)
{
    struct sweep *s = user;
    uint64_t sum[8] = { 0 };

    for (size_t i = begin; i < end; i += 8)
        for (size_t j = 0; j < 8; j++)
            sum[j] += s->words[i + j];
    for (size_t j = 0; j < 8; j++)
        s->sums[worker * 8] += sum[j];
}

/* Bytes per second that all threads together read from memory. */
static double sweep_speed(dp_pool *pool, struct sweep *s)
{
    uint64_t begin = now();

    dp_pool_run(pool, SWEEP_BYTES / sizeof(uint64_t), (size_t)1 << 16, sweep_range, s);
    return (double)SWEEP_BYTES / (double)(now() - begin) * 1e9;
}

/* ---- model ---- */

static double prefill_speed(dp_session *s, uint32_t tokens, dp_error *err)
{
    dp_token prompt[PROMPT];
    uint64_t begin;

    for (uint32_t i = 0; i < tokens; i++)
        prompt[i] = (dp_token)(i * 7 % 997 + 3);
    dp_session_rewind(s, 0);
    begin = now();
    if (dp_session_append(s, prompt, tokens, err) || dp_session_eval(s, err))
        die(err);
    return tokens / ((double)(now() - begin) / 1e9);
}

static double decode_speed(dp_session *s, dp_error *err)
{
    uint64_t begin = now();

    for (int i = 0; i < DECODE; i++) {
        dp_token token;
        if (dp_session_sample(s, &token, err) || dp_session_append(s, &token, 1, err) ||
            dp_session_eval(s, err))
            die(err);
    }
    return DECODE / ((double)(now() - begin) / 1e9);
}

/* Weights that one decoded token reads. */
static uint64_t bytes_per_token(const char *path, dp_error *err)
{
    dp_page_group group;
    dp_inspect *inspect;
    uint64_t bytes = 0;

    if (dp_inspect_open(&inspect, path, err))
        die(err);
    for (uint32_t i = 0; dp_inspect_pages(inspect, i, &group); i++)
        bytes += group.bytes_per_token;
    dp_inspect_close(inspect);
    return bytes;
}

/* ---- report ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const double *samples)
{
    double sorted[SAMPLES];

    memcpy(sorted, samples, sizeof sorted);
    qsort(sorted, SAMPLES, sizeof *sorted, compare);
    return sorted[SAMPLES / 2];
}

static void print_samples(const char *name, const double *samples, double scale)
{
    printf("\"%s\": [", name);
    for (int i = 0; i < SAMPLES; i++)
        printf("%s%.4g", i ? ", " : "", samples[i] * scale);
    printf("], ");
}

int main(int argc, char **argv)
{
    static struct sweep sweep;
    double memory[SAMPLES], prefill[SAMPLES], decode[SAMPLES], limit;
    dp_options *options = dp_options_open();
    dp_engine *engine;
    dp_session *session;
    dp_stats stats;
    dp_error err;
    dp_pool *pool;
    uint64_t bytes;
    uint32_t prompt;
    void *words = dp_map_acquire(SWEEP_BYTES);

    if (argc < 2 || !options || !words) {
        fprintf(stderr, "usage: bench_decode MODEL [NAME=VALUE ...]\n");
        return 2;
    }
    memset(words, 1, SWEEP_BYTES);
    sweep.words = words;
    if (dp_options_set(options, "temp", "0", &err))
        die(&err);
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            value = argv[i] + strlen(argv[i]);
        else
            *value++ = 0;
        if (dp_options_set(options, argv[i], value, &err))
            die(&err);
    }
    bytes = bytes_per_token(argv[1], &err);
    if (dp_engine_open(&engine, argv[1], options, NULL, NULL, &err) ||
        dp_session_open(&session, engine, options, &err))
        die(&err);
    dp_engine_stats(engine, &stats);
    if (dp_pool_open(&pool, stats.threads, &err))
        die(&err);
    prompt = dp_engine_context_max(engine) > PROMPT + DECODE ? PROMPT
                                                             : dp_engine_context_max(engine) / 2;
    for (int i = 0; i < SAMPLES; i++) {
        memory[i] = sweep_speed(pool, &sweep);
        prefill[i] = prefill_speed(session, prompt, &err);
        decode[i] = decode_speed(session, &err);
    }
    dp_engine_stats(engine, &stats);
    limit = median(memory) / (double)bytes;

    printf("{\"bench\": \"decode\", \"version\": \"%s\", \"commit\": \"%s\", \"cpu\": \"%s\", "
           "\"model\": \"%s\", ",
           dp_version(), DP_BENCH_COMMIT, dp_cpu_get()->name, argv[1]);
    printf("\"threads\": %u, \"kernels\": \"%s\", \"cache_state\": \"%s\", \"samples\": %d, "
           "\"prompt_tokens\": %u, \"decode_tokens\": %d, ",
           stats.threads, stats.kernels, stats.cache_state, SAMPLES, prompt, DECODE);
    print_samples("memory_gb_s_samples", memory, 1e-9);
    print_samples("prefill_tok_s_samples", prefill, 1);
    print_samples("decode_tok_s_samples", decode, 1);
    printf("\"memory_gb_s\": %.4g, \"prefill_tok_s\": %.4g, \"decode_tok_s\": %.4g, "
           "\"bytes_per_token\": %llu, \"decode_limit_tok_s\": %.4g, \"decode_ratio\": %.3f}\n",
           median(memory) / 1e9, median(prefill), median(decode), (unsigned long long)bytes, limit,
           median(decode) / limit);

    dp_session_close(session);
    dp_engine_close(engine);
    dp_pool_close(pool);
    dp_options_close(options);
    dp_map_release(words, SWEEP_BYTES);
    return 0;
}
