#include "engine/engine.h"

#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/sysmem.h"
#include "doppler/source.h"
#include "engine/origin.h"
#include "engine/mirrors.h"
#include "engine/vocab.h"
#include "tier/source_join.h"

#define IO_DEPTH_DEFAULT   16
#define IO_REQUEST_DEFAULT DP_MIB

/* ---- opening ---- */

/* How files are read: as given, else as the drive's saved probe says, else as most drives
 * like it. */
static void choose_io(dp_io_choice *io, const dp_options *options)
{
    dp_io_advice advice = dp_options_advice(options);

    *io = (dp_io_choice){
        .mode = (dp_io_mode)dp_options_choice(options, DP_OPT_IO),
        .engine = (dp_aio_engine)dp_options_choice(options, DP_OPT_IO_ENGINE),
        .depth = (uint32_t)dp_options_u64(options, DP_OPT_IO_DEPTH),
        .request_bytes = dp_options_u64(options, DP_OPT_IO_REQUEST),
    };
    io->is_probed = advice.is_there && (io->mode == DP_IO_AUTO || io->engine == DP_AIO_AUTO ||
                                        !io->depth || !io->request_bytes);
    if (advice.is_there && io->mode == DP_IO_AUTO && advice.is_buffered)
        io->mode = DP_IO_BUFFERED; /* auto is direct already where that works */
    /* Auto is io_uring where that is allowed, which may differ from when it was probed. */
    if (advice.is_there && io->engine == DP_AIO_AUTO && advice.engine == DP_AIO_THREADS)
        io->engine = DP_AIO_THREADS;
    if (!io->depth)
        io->depth = advice.is_there ? advice.depth : IO_DEPTH_DEFAULT;
    if (!io->request_bytes)
        io->request_bytes = advice.is_there ? advice.request_bytes : IO_REQUEST_DEFAULT;
}

/* The engine's files, per the options: the model's and those of adapters; of a model from
 * elsewhere adapters only, numbered behind its parts. */
static dp_status open_files(dp_engine *e, const dp_gguf *gguf, bool has_model,
                            const dp_options *options, dp_error *err)
{
    uint32_t count = dp_gguf_part_count(gguf);
    const char **paths = dp_alloc(count, sizeof *paths);
    dp_source_file_config config = {
        .paths = paths,
        .file_count = has_model ? count : 0,
        .file_first = has_model ? 0 : count,
        .mode = e->io.mode,
        .engine = e->io.engine,
        .depth = e->io.depth,
        .request_max = e->io.request_bytes,
    };
    const char *list = dp_options_text(options, DP_OPT_MODEL_MIRROR);
    dp_mirrors mirrors = { 0 };
    dp_status st = DP_OK;

    if (!paths)
        return dp_fail(err, DP_E_NOMEM, "source: %u paths", count);
    for (uint32_t i = 0; i < count; i++)
        paths[i] = dp_gguf_part_path(gguf, i);
    if (has_model)
        st = dp_mirrors_open(&mirrors, list, gguf, err);
    else if (list[0])
        st = dp_fail(err, DP_E_INVALID, "--model-mirror: the model is no file");
    config.mirrors = mirrors.paths;
    config.mirror_count = mirrors.count;
    if (!st)
        st = dp_source_file_open(&e->files, &config, err);
    dp_mirrors_close(&mirrors);
    dp_free(paths);
    return st;
}

static dp_status open_source(dp_engine *e, const dp_gguf *gguf, dp_source *foreign,
                             const dp_options *options, dp_error *err)
{
    dp_status st = open_files(e, gguf, !foreign, options, err);

    if (st)
        return st;
    if (foreign)
        return dp_source_join_open(&e->source, foreign, e->files, dp_gguf_part_count(gguf), err);
    e->source = e->files;
    return DP_OK;
}

/* Tells models apart whose heat is kept: by the names, places and sizes of their tensors. */
static uint64_t identity_of(const dp_gguf *gguf)
{
    uint64_t bytes = 0;
    uint32_t crc = 0;

    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(gguf, i);
        const uint64_t numbers[] = { t->offset, t->size, dp_gguf_part_number(gguf, t->file_index) };
        crc = dp_crc32(crc, t->name.bytes, t->name.size);
        crc = dp_crc32(crc, numbers, sizeof numbers);
        bytes += t->size;
    }
    return (uint64_t)crc << 32 | (uint32_t)(bytes ^ bytes >> 32);
}

dp_status dp_engine_open_tables(dp_engine *e, const dp_gguf *gguf, dp_source *foreign,
                                const dp_options *options, dp_error *err)
{
    dp_tier_config tier = { .policy = &dp_policy_next, .clock = &dp_clock_real };
    dp_status st = dp_model_open(&e->model, gguf, err);

    if (st)
        return st;
    e->model->yarn_rounding = (dp_yarn_rounding)dp_options_choice(options, DP_OPT_YARN_ROUNDING);
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++)
        e->model_bytes += dp_gguf_tensor(gguf, i)->size;
    st = dp_vocab_from_gguf(&e->vocab, gguf, &e->vocab_problem);
    if (st == DP_E_NOMEM)
        return dp_fail(err, st, "%s", e->vocab_problem.text);
    /* Logits and token ids need no vocabulary: text functions say what is wrong with it. */
    choose_io(&e->io, options);
    st = open_source(e, gguf, foreign, options, err);
    if (st)
        return st;
    tier.source = e->source;
    tier.layer_count = e->model->hp.expert_count ? e->model->hp.layer_count : 0;
    tier.expert_count = e->model->hp.expert_count;
    tier.budget_bytes = UINT64_MAX / 2; /* until the plan knows */
    st = dp_tier_open(&e->tier, &tier, err);
    if (!st)
        st = dp_model_register(e->model, e->tier, err);
    if (!st)
        st = dp_watch_open(&e->watch, e->model, e->tier, identity_of(gguf), options, &dp_clock_real,
                           err);
    if (!st)
        dp_tier_set_policy(e->tier, dp_watch_policy(e->watch));
    return st;
}

/* *bytes: what is live of it all, once the description of the file is gone. */
static dp_status open_model(dp_engine *e, const dp_origin *origin, const dp_options *options,
                            uint64_t *bytes, dp_error *err)
{
    dp_mem_stats before, after;
    dp_gguf *gguf;
    dp_status st;

    dp_mem_stats_read(&before);
    st = dp_origin_describe(&gguf, origin, err);
    if (st)
        return st;
    st = dp_engine_open_tables(e, gguf, origin->source, options, err);
    dp_gguf_close(gguf);
    dp_mem_stats_read(&after);
    *bytes = after.heap_bytes - before.heap_bytes;
    return st;
}

static dp_status promise(dp_engine *e, dp_error *err)
{
    const dp_plan *p = &e->plan;
    dp_status st;

    dp_budget_init(&e->budget, p->budget_bytes);
    st = dp_budget_promise(&e->budget, DP_BUDGET_TABLES, p->tables_bytes, err);
    if (!st)
        st = dp_budget_promise(&e->budget, DP_BUDGET_KV, p->kv_bytes, err);
    if (!st)
        st = dp_budget_promise(&e->budget, DP_BUDGET_BUFFERS, p->buffer_bytes, err);
    if (!st)
        st = dp_budget_promise(&e->budget, DP_BUDGET_WEIGHTS, p->slot_bytes, err);
    if (!st)
        st = dp_tier_set_budget(e->tier, p->slot_bytes, err);
    return st;
}

static dp_status take_memory(dp_engine *e, const dp_options *options, dp_error *err)
{
    const dp_plan *p = &e->plan;
    uint32_t rows = dp_kv_rows_for(p->context_tokens) * p->session_max;
    dp_status st = promise(e, err);

    if (st)
        return st;
    st = dp_device_cpu_open(&e->device, dp_options_text(options, DP_OPT_KERNELS), p->threads,
                            &p->limits, err);
    if (st)
        return st;
    st = dp_kv_open(&e->kv, e->device, &e->model->hp, p->step.kv_type, rows, err);
    if (st)
        return st;
    st = dp_step_open(&e->step, e->model, e->tier, e->device, &p->step, &e->cancel, err);
    if (st)
        return st;
    e->batch = dp_alloc(p->step.batch_tokens, sizeof *e->batch);
    return e->batch ? DP_OK : dp_fail(err, DP_E_NOMEM, "engine: a batch");
}

static dp_status pin(dp_engine *e, dp_progress progress, void *user, dp_error *err)
{
    const dp_pins *pins = &e->plan.pins;
    dp_page_id *pages = dp_alloc(pins->kept, sizeof *pages);
    dp_page_id page = DP_PAGE_NONE;
    uint32_t count = 0;
    dp_status st;

    if (!pages)
        return dp_fail(err, DP_E_NOMEM, "engine: a list of pages");
    for (uint32_t i = 0; i < pins->count; i++) {
        page = dp_plan_core_after(e->model, page);
        if (dp_pins_has(pins, i))
            pages[count++] = page;
    }
    DP_CHECK(count == pins->kept);
    st = dp_tier_pin(e->tier, pages, count, progress, user, err);
    dp_free(pages);
    return st ? st : dp_model_prepare(e->model, e->tier, err);
}

dp_engine *dp_engine_new(void)
{
    dp_engine *e = dp_alloc_zero(1, sizeof *e);

    if (!e)
        return NULL;
    dp_mutex_init(&e->stats_lock);
    dp_resize_init(&e->resize);
    dp_speculate_init(&e->speculate);
    dp_budget_init(&e->budget, 0);
    return e;
}

static dp_status open_engine(dp_engine **out, const dp_origin *origin, const dp_options *options,
                             dp_progress progress, void *user, dp_error *err)
{
    dp_engine *e = dp_engine_new();
    uint64_t tables_bytes;
    dp_status st;

    *out = NULL;
    if (!e)
        return dp_fail(err, DP_E_NOMEM, "engine: no memory");
    st = open_model(e, origin, options, &tables_bytes, err);
    if (st)
        goto done;
    st =
        dp_plan_make(&e->plan, e->model, e->tier, tables_bytes, e->source->own_bytes, options, err);
    if (st)
        goto done;
    e->always_drafts = dp_options_u64(options, DP_OPT_SPECULATE) <= DP_SPECULATE_MAX;
    st = take_memory(e, options, err);
    if (st)
        goto done;
    st = pin(e, progress, user, err);
    if (st)
        goto done;
    st = dp_watch_start(e->watch, e->model_bytes, err);
    if (st)
        goto done;
    st = dp_resize_start(e, dp_options_choice(options, DP_OPT_GOVERNOR) == 0, err);
    if (st)
        goto done;

    *out = e;
    e = NULL;
done:
    dp_engine_close(e);
    return st;
}

dp_status dp_engine_open(dp_engine **out, const char *path, const dp_options *options,
                         dp_progress progress, void *user, dp_error *err)
{
    return open_engine(out, &(dp_origin){ .path = path }, options, progress, user, err);
}

dp_status dp_engine_open_source(dp_engine **out, dp_source *source, const dp_options *options,
                                dp_progress progress, void *user, dp_error *err)
{
    return open_engine(out, &(dp_origin){ .source = source }, options, progress, user, err);
}

void dp_engine_close(dp_engine *engine)
{
    if (!engine)
        return;
    DP_CHECK(engine->session_count == 0 && !engine->adapters);
    dp_resize_stop(engine);
    dp_free(engine->batch);
    dp_step_close(engine->step);
    dp_kv_close(engine->kv);
    if (engine->device)
        engine->device->ops->close(engine->device);
    dp_watch_close(engine->watch);
    dp_tier_close(engine->tier);
    if (engine->source && engine->source != engine->files)
        engine->source->ops->close(engine->source); /* not what it joins */
    if (engine->files)
        engine->files->ops->close(engine->files);
    dp_vocab_close(engine->vocab);
    dp_model_close(engine->model);
    dp_budget_deinit(&engine->budget);
    dp_resize_deinit(&engine->resize);
    dp_mutex_deinit(&engine->stats_lock);
    dp_free(engine);
}

/* ---- questions ---- */

const dp_vocab *dp_engine_vocab(const dp_engine *engine)
{
    return engine->vocab;
}

const char *dp_engine_vocab_problem(const dp_engine *engine)
{
    return engine->vocab ? NULL : engine->vocab_problem.text;
}

uint32_t dp_engine_vocab_size(const dp_engine *engine)
{
    return engine->model->hp.vocab_size;
}

uint32_t dp_engine_context_max(const dp_engine *engine)
{
    return engine->plan.context_tokens;
}

void dp_engine_cancel(dp_engine *engine)
{
    atomic_store_explicit(&engine->cancel, true, memory_order_relaxed);
}

/* "cpu (x86.avx2, 2 threads)" -> "x86.avx2" */
static void kernel_name(char *out, size_t size, const char *device)
{
    const char *begin = strchr(device, '(');
    size_t length = begin ? strcspn(begin + 1, ",)") : 0;

    length = DP_MIN(length, size - 1);
    memcpy(out, begin ? begin + 1 : "", length);
    out[length] = 0;
}

static void copy_tier_stats(dp_stats *out, const dp_tier_stats *tier)
{
    out->slot_bytes = tier->slot_bytes;
    out->pinned_bytes = tier->pinned_bytes;
    out->expert_hits = tier->expert_hits;
    out->expert_misses = tier->expert_misses;
    out->expert_prefetch_hits = tier->expert_prefetch_hits;
    out->always_hits = tier->always_hits;
    out->always_misses = tier->always_misses;
    out->disk_read_bytes = tier->read_bytes;
    out->prefetch_useful_bytes = tier->prefetch_useful_bytes;
    out->prefetch_wasted_bytes = tier->prefetch_wasted_bytes;
    out->evictions = tier->evictions;
    out->pages = tier->times;
    out->page_bytes_max = tier->page_bytes_max;
    out->page_p50_ns = dp_latency_quantile(&tier->times.demand, 0.5);
    out->page_p90_ns = dp_latency_quantile(&tier->times.demand, 0.9);
    out->page_p99_ns = dp_latency_quantile(&tier->times.demand, 0.99);
    out->page_max_ns = tier->times.demand.max_ns;
    out->wait_ns = tier->wait_ns;
    out->read_busy_ns = tier->busy_ns;
    strcpy(out->cache_state, tier->expert_misses + tier->always_misses ? "cold" : "warm");
}

/* Where a source can't tell, all of it is from disk. */
static void copy_source_counts(dp_stats *out, dp_source *source)
{
    dp_source_counts counts;

    if (!source->ops->count)
        return;
    source->ops->count(source, &counts);
    out->disk_read_bytes = counts.disk_bytes;
    out->swarm_read_bytes = counts.swarm_bytes;
}

void dp_engine_stats(dp_engine *engine, dp_stats *out)
{
    const dp_plan *p = &engine->plan;
    dp_tier_stats tier;

    memset(out, 0, sizeof *out);
    dp_mutex_lock(&engine->resize.pins_lock);
    out->budget_bytes = atomic_load_explicit(&engine->resize.ceiling_bytes, memory_order_relaxed);
    out->budget_now_bytes = p->budget_bytes;
    out->budget_least_bytes = engine->resize.least_bytes;
    out->slot_budget_bytes = p->slot_bytes;
    out->tables_bytes = p->tables_bytes + p->adapters.tables_bytes;
    out->buffer_bytes = p->buffer_bytes + p->adapters.buffer_bytes;
    dp_mutex_unlock(&engine->resize.pins_lock);
    dp_tier_stats_read(engine->tier, &tier);
    copy_tier_stats(out, &tier);
    copy_source_counts(out, engine->source);
    out->model_bytes = engine->model_bytes;
    out->reserve_bytes = p->reserve_bytes;
    out->peak_bytes = dp_sysmem_peak_bytes();
    out->kv_bytes = p->kv_bytes;
    out->threads = p->threads;
    strncpy(out->kv_type, dp_plan_kv_type_name(p), sizeof out->kv_type - 1);
    kernel_name(out->kernels, sizeof out->kernels, engine->device->name);
    strncpy(out->source, engine->source->name, sizeof out->source - 1);
    out->io_depth = engine->io.depth;
    out->io_request_bytes = engine->io.request_bytes;
    out->io_is_probed = engine->io.is_probed;

    dp_mutex_lock(&engine->stats_lock);
    out->prompt_tokens = engine->run.prompt_tokens;
    out->prompt_ns = engine->run.prompt_ns;
    out->decode_tokens = engine->run.decode_tokens;
    out->decode_ns = engine->run.decode_ns;
    out->ttft_ns = engine->run.ttft_ns;
    out->draft_tokens = engine->run.draft_tokens;
    out->draft_accepted = engine->run.draft_accepted;
    out->draft_steps = engine->run.draft_steps;
    dp_mutex_unlock(&engine->stats_lock);
}
