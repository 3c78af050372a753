/* steps_bench - steps of a model that is all in memory, by the tier that is linked.
 *
 *   bench_steps MODEL TOKENS [NAME=VALUE ...]        the engine's tier
 *   bench_steps_flat MODEL TOKENS [NAME=VALUE ...]   no paging (flat_tier.c)
 *
 * One token a step, TOKENS to warm up and as many that are timed. Tokens are made up, so that
 * routing varies, and are the same for both. One JSON line: tokens a second by the median step
 * and by all of them, processor time a token, and a checksum of all logits. resident.py runs
 * pairs of the two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/plan.h"
#include "format/gguf.h"
#include "tier/source_file.h"

#define TOKENS_MAX 4096
#define IO_DEPTH   16
#define WAIT_NS    ((uint64_t)60000000000)

typedef struct bench {
    dp_gguf *gguf;
    dp_model *model;
    dp_source *source;
    dp_tier *tier;
    dp_device *device;
    dp_kv *kv;
    dp_kv_seq seq;
    dp_step *step;
    dp_plan plan;
    atomic_bool cancel;
    uint32_t crc; /* of all logits */
    uint64_t sink_ns;
} bench;

static _Noreturn void die(const dp_error *err)
{
    fprintf(stderr, "bench_steps: %s\n", err->text);
    exit(1);
}

static uint64_t now(void)
{
    return dp_clock_now_ns(&dp_clock_real);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- opening, as the engine does ---- */

static dp_status open_source(bench *b, dp_error *err)
{
    uint32_t count = dp_gguf_part_count(b->gguf);
    const char **paths = dp_alloc(count, sizeof *paths);
    dp_status st;

    if (!paths)
        return dp_fail(err, DP_E_NOMEM, "%u paths", count);
    for (uint32_t i = 0; i < count; i++)
        paths[i] = dp_gguf_part_path(b->gguf, i);
    st = dp_source_file_open(
        &b->source,
        &(dp_source_file_config){
            .paths = paths, .file_count = count, .depth = IO_DEPTH, .request_max = DP_MIB },
        err);
    dp_free(paths);
    return st;
}

/* Twice what the pages hold is room for all of them in any tier. */
static dp_status open_tier(bench *b, dp_error *err)
{
    dp_tier_config config = { .policy = &dp_policy_next,
                              .source = b->source,
                              .clock = &dp_clock_real,
                              .layer_count = b->model->hp.layer_count,
                              .expert_count = b->model->hp.expert_count };
    dp_status st;

    for (uint32_t i = 0; i < b->model->pages.page_count; i++)
        config.budget_bytes += 2 * dp_page_list_bytes(&b->model->pages, i) + DP_MIB;
    if (!config.expert_count)
        config.layer_count = 0;
    st = dp_tier_open(&b->tier, &config, err);
    return st ? st : dp_model_register(b->model, b->tier, err);
}

/* The always-used part is pinned, and every other page is there. */
static dp_status load(bench *b, dp_error *err)
{
    uint32_t count = b->model->pages.page_count, pinned = 0;
    dp_page_id *pages = dp_alloc(count, sizeof *pages);
    dp_status st;

    if (!pages)
        return dp_fail(err, DP_E_NOMEM, "%u pages", count);
    for (dp_page_id p = 0; p < count; p++)
        if (dp_plan_is_core(b->model, p))
            pages[pinned++] = p;
    st = dp_tier_pin(b->tier, pages, pinned, NULL, NULL, err);
    for (dp_page_id p = 0; p < count && !st; p++) {
        dp_lease lease;
        st = dp_tier_acquire(b->tier, p, &lease, WAIT_NS, err);
        if (!st)
            dp_tier_release(b->tier, &lease);
    }
    dp_free(pages);
    return st ? st : dp_model_prepare(b->model, b->tier, err);
}

static void open_bench(bench *b, const char *path, const dp_options *options)
{
    dp_error err;

    if (dp_gguf_open(&b->gguf, path, &err) || dp_model_open(&b->model, b->gguf, &err) ||
        open_source(b, &err) || open_tier(b, &err) ||
        dp_plan_make(&b->plan, b->model, b->tier, 0, 0, options, &err) || load(b, &err) ||
        dp_device_cpu_open(&b->device, dp_options_text(options, DP_OPT_KERNELS), b->plan.threads,
                           &b->plan.limits, &err) ||
        dp_kv_open(&b->kv, b->device, &b->model->hp, b->plan.step.kv_type,
                   dp_kv_rows_for(b->plan.context_tokens), &err) ||
        dp_kv_seq_init(&b->seq, b->kv, b->plan.context_tokens, &err) ||
        dp_step_open(&b->step, b->model, b->tier, b->device, &b->plan.step, &b->cancel, &err))
        die(&err);
}

static void close_bench(bench *b)
{
    dp_step_close(b->step);
    dp_kv_seq_deinit(&b->seq);
    dp_kv_close(b->kv);
    b->device->ops->close(b->device);
    dp_tier_close(b->tier);
    b->source->ops->close(b->source);
    dp_model_close(b->model);
    dp_gguf_close(b->gguf);
}

/* ---- steps ---- */

static bool take_logits(void *user, uint32_t index, const float *logits)
{
    bench *b = user;
    uint64_t begin_ns = now();

    (void)index;
    b->crc = dp_crc32(b->crc, logits, b->model->hp.vocab_size * sizeof *logits);
    b->sink_ns += now() - begin_ns;
    return true;
}

/* Nanoseconds of the step at a position, without the checksum. */
static uint64_t step_at(bench *b, uint32_t position)
{
    dp_batch_token token = { .id = (int32_t)((position * 7919u + 11) % b->model->hp.vocab_size),
                             .position = position,
                             .seq = &b->seq,
                             .wants_logits = true };
    uint64_t begin_ns = now();
    dp_error err;

    b->sink_ns = 0;
    if (dp_kv_seq_reserve(&b->seq, position + 1, &err) ||
        dp_step_run(b->step, &token, 1, take_logits, b, &err))
        die(&err);
    return now() - begin_ns - b->sink_ns;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void run(bench *b, const char *path, uint32_t tokens)
{
    static uint64_t ns[TOKENS_MAX];
    uint64_t all_ns = 0, sinks_ns = 0, begin_ns, used_ns;
    dp_tier_stats before, after;

    for (uint32_t i = 0; i < tokens; i++)
        step_at(b, i);
    dp_tier_stats_read(b->tier, &before);
    begin_ns = cpu_ns();
    for (uint32_t i = 0; i < tokens; i++) {
        ns[i] = step_at(b, tokens + i);
        all_ns += ns[i];
        sinks_ns += b->sink_ns;
    }
    used_ns = cpu_ns() - begin_ns - sinks_ns;
    dp_tier_stats_read(b->tier, &after);
    qsort(ns, tokens, sizeof *ns, compare);
    printf("{\"bench\": \"steps\", \"tier\": \"%s\", \"model\": \"%s\", \"cpu\": \"%s\", "
           "\"threads\": %u, \"tokens\": %u, \"tok_s\": %.6g, \"tok_s_all\": %.6g, "
           "\"cpu_ms_per_token\": %.5g, \"read_bytes\": %llu, \"logits_crc\": \"%08x\"}\n",
           DP_BENCH_TIER, path, dp_cpu_get()->name, b->plan.threads, tokens,
           1e9 / (double)ns[tokens / 2], tokens * 1e9 / (double)all_ns,
           (double)used_ns / 1e6 / tokens,
           (unsigned long long)(after.read_bytes - before.read_bytes), b->crc);
}

int main(int argc, char **argv)
{
    dp_options *options = dp_options_open();
    uint32_t tokens = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
    static bench b;
    char context[16];
    dp_error err;

    if (!options || tokens < 1 || tokens > TOKENS_MAX) {
        fprintf(stderr, "usage: bench_steps MODEL TOKENS [NAME=VALUE ...]\n");
        return 2;
    }
    snprintf(context, sizeof context, "%u", 2 * tokens);
    if (dp_options_set(options, "ctx", context, &err))
        die(&err);
    for (int i = 3; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value)
            *value++ = 0;
        if (dp_options_set(options, argv[i], value ? value : "", &err))
            die(&err);
    }
    open_bench(&b, argv[1], options);
    run(&b, argv[1], tokens);
    close_bench(&b);
    dp_options_close(options);
    return 0;
}
