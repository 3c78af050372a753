/* A tensor is one run of values, whatever its shape: rows are whole blocks of both
 * types, so blocks follow each other through all of it. It goes through in chunks of
 * CHUNK values: read, turned into the new type by all threads in tiles, written.
 * A tile is decoded to floats on its thread's own stack and never leaves its cache. */
#include "doppler/quantize.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/status.h"
#include "convert/mix.h"
#include "format/gguf_out.h"
#include "kernel/quantize.h"

#define CHUNK ((size_t)1 << 20) /* values read and written at a time: at most 4 MiB each */
#define TILE  ((size_t)4096)    /* values a thread takes at a time */
#define NONE  UINT64_MAX

/* The next chunk of the widest floats; what lies behind a tensor is the next one, mostly. */
#define READ_AHEAD ((uint64_t)8 << 20)

_Static_assert(TILE % DP_QK_K == 0 && CHUNK % TILE == 0, "tiles are whole blocks of any type");

struct plan {
    dp_dtype to;
    dp_dtype wanted; /* before the rows' length had its say */
};

struct job {
    const dp_quantize_how *how;
    const dp_kernels *kernels;
    const char *in_path;
    dp_gguf *in;
    dp_file *files; /* one a part, fd -1 while not open */
    struct plan *plans;
    dp_gguf_out *out;
    dp_pool *pool;
    uint8_t *bytes_in, *bytes_out; /* CHUNK values of any type */
    uint64_t done_bytes, total_bytes;
    dp_quantize_report report;
    dp_error *err;
};

/* ---- what becomes what ---- */

static bool is_float(dp_dtype type)
{
    return type == DP_F32 || type == DP_F16 || type == DP_BF16;
}

/* A type that weights were squeezed into already. */
static bool is_lossy(dp_dtype type)
{
    return dp_dtype_get(type)->block_elems > 1 && type != DP_Q8_0;
}

static dp_status check_plan(const struct job *job, const dp_tensor *t, dp_dtype to)
{
    const char *from = dp_dtype_get(t->dtype)->name;

    if (to == t->dtype)
        return DP_OK;
    if (t->ne[0] % dp_dtype_get(to)->block_elems)
        return dp_fail(job->err, DP_E_INVALID,
                       "%s: tensor '%s' has rows of %" PRIu64 " values, which are not whole "
                       "blocks of %s",
                       job->in_path, t->name.bytes, t->ne[0], dp_dtype_get(to)->name);
    if (!is_float(to) && is_lossy(t->dtype) && !job->how->allows_requantize)
        return dp_fail(job->err, DP_E_INVALID,
                       "%s: tensor '%s' is %s already and quantising again adds up errors: start "
                       "from a model in F16, BF16 or Q8_0, or allow it (--allow-requantize)",
                       job->in_path, t->name.bytes, from);
    if (!is_float(t->dtype) && dp_act_for(t->dtype) == DP_ACT_NONE)
        return dp_fail(job->err, DP_E_UNSUPPORTED, "%s: tensor '%s' is %s, which has no decoder",
                       job->in_path, t->name.bytes, from);
    return DP_OK;
}

/* Vectors and what is treated like them: floats are widened to F32, as models are
 * stored; anything else (integers, blocks) stays. */
static dp_dtype plain_type(const dp_tensor *t)
{
    return is_float(t->dtype) ? DP_F32 : t->dtype;
}

static void read_model(const struct job *job, dp_mix_model *model)
{
    const char *const keys[] = { "block_count", "expert_count" };
    uint64_t values[2] = { 0, 0 };
    dp_str arch;
    char key[96];

    for (size_t i = 0; i < 2; i++) {
        if (dp_gguf_get_str(job->in, "general.architecture", &arch, NULL) || arch.size > 64)
            break;
        snprintf(key, sizeof key, "%.*s.%s", (int)arch.size, arch.bytes, keys[i]);
        if (dp_gguf_get_u64(job->in, key, 0, &values[i], NULL) || values[i] > UINT32_MAX)
            values[i] = 0; /* a file without: no layer is special */
    }
    model->layer_count = (uint32_t)values[0];
    model->expert_count = (uint32_t)values[1];
    model->has_output = dp_gguf_find_tensor(job->in, "output.weight") != NULL;
}

static dp_status plan_tensors(struct job *job, const dp_mix *mix)
{
    const dp_quantize_how *how = job->how;
    size_t count = dp_gguf_tensor_count(job->in);
    dp_mix_model model;
    dp_status st = DP_OK;

    job->plans = dp_alloc(count, sizeof *job->plans);
    if (!job->plans)
        return dp_fail(job->err, DP_E_NOMEM, "%s: %zu tensors", job->in_path, count);
    read_model(job, &model);
    for (size_t i = 0; i < count && !st; i++) {
        const dp_tensor *t = dp_gguf_tensor(job->in, i);
        struct plan *plan = &job->plans[i];

        if (dp_mix_override(how->overrides, how->override_count, t->name, &plan->to))
            plan->wanted = plan->to;
        else if (dp_mix_is_matrix(t))
            plan->to = dp_mix_type(mix, &model, t, &plan->wanted);
        else
            plan->to = plan->wanted = plain_type(t);
        st = check_plan(job, t, plan->to);
        job->total_bytes += t->size;
    }
    return st;
}

/* ---- the header ---- */

/* Keys that say how the input was stored, not what the model is. */
static bool is_of_storage(dp_str key)
{
    return dp_str_is(key, "general.alignment") || dp_str_is(key, "general.file_type") ||
           dp_str_is(key, "general.quantization_version") || dp_str_starts_with(key, "split.");
}

static dp_status declare(struct job *job, const dp_mix *mix)
{
    job->out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, DP_GGUF_OUT_ALIGNMENT);
    if (!job->out)
        return dp_fail(job->err, DP_E_NOMEM, "quantize: no memory for the header");
    for (size_t i = 0; i < dp_gguf_key_count(job->in); i++)
        if (!is_of_storage(dp_gguf_key(job->in, i)->key))
            dp_gguf_out_copy(job->out, dp_gguf_key(job->in, i));
    dp_gguf_out_u32(job->out, "general.file_type", dp_mix_file_type(mix));
    dp_gguf_out_u32(job->out, "general.quantization_version", 2);
    for (size_t i = 0; i < dp_gguf_tensor_count(job->in); i++) {
        const dp_tensor *t = dp_gguf_tensor(job->in, i);

        dp_gguf_out_tensor(job->out, t->name.bytes, job->plans[i].to, t->dim_count, t->ne);
    }
    return DP_OK;
}

/* ---- the weights ---- */

/* Values of one chunk. */
struct chunk {
    const struct job *job;
    dp_dtype from, to;
    size_t count;
    _Atomic uint64_t bad; /* the first value that cannot be said in `to`, or NONE */
};

static size_t bytes_of(dp_dtype type, size_t count)
{
    const dp_dtype_info *info = dp_dtype_get(type);

    return count / info->block_elems * info->block_bytes;
}

static void decode(const struct job *job, dp_dtype from, float *x, const void *bytes, size_t count)
{
    if (from == DP_F16)
        job->kernels->f32_from_f16(x, bytes, count);
    else
        dp_dequantize_row(from, x, bytes, count);
}

static void note_bad(struct chunk *c, uint64_t at)
{
    uint64_t known = atomic_load_explicit(&c->bad, memory_order_relaxed);

    while (at < known && !atomic_compare_exchange_weak_explicit(
                             &c->bad, &known, at, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Tiles [begin, end) of a chunk. */
static void convert_tiles(void *user, size_t begin, size_t end, uint32_t worker)
{
    struct chunk *c = user;
    float max = dp_quantize_max(c->to);
    float x[TILE];

    (void)worker;
    for (size_t tile = begin; tile < end; tile++) {
        size_t at = tile * TILE, count = DP_MIN(TILE, c->count - at), bad;

        decode(c->job, c->from, x, c->job->bytes_in + bytes_of(c->from, at), count);
        bad = dp_quantize_check(x, count, max);
        if (bad < count)
            note_bad(c, at + bad);
        else
            dp_quantize_row(c->job->kernels, c->to, c->job->bytes_out + bytes_of(c->to, at), x,
                            count);
    }
}

static dp_status report_bad(const struct job *job, const dp_tensor *t, dp_dtype to, uint64_t at,
                            uint64_t in_chunk)
{
    size_t start = (size_t)(in_chunk / TILE * TILE);
    size_t count = (size_t)(in_chunk - start) / DP_QK_K * DP_QK_K;
    uint64_t left =
        t->size / dp_dtype_get(t->dtype)->block_bytes * dp_dtype_get(t->dtype)->block_elems -
        (at - (in_chunk - start));
    float x[TILE];

    count = (size_t)DP_MIN((uint64_t)count + DP_QK_K, left);
    decode(job, t->dtype, x, job->bytes_in + bytes_of(t->dtype, start), count);
    return dp_fail(job->err, DP_E_CORRUPT,
                   "%s: tensor '%s' has %g at element %" PRIu64 " of row %" PRIu64
                   ", which %s cannot hold",
                   job->in_path, t->name.bytes, (double)x[in_chunk - start], at % t->ne[0],
                   at / t->ne[0], dp_dtype_get(to)->name);
}

/* `count` values of t from `at` on, which is a multiple of CHUNK. */
static dp_status move_chunk(struct job *job, const dp_tensor *t, dp_dtype to, uint64_t at,
                            size_t count)
{
    const dp_file *file = &job->files[t->file_index];
    const uint8_t *result = job->bytes_in;
    size_t size = bytes_of(t->dtype, count);
    uint64_t offset = t->offset + at / CHUNK * bytes_of(t->dtype, CHUNK);
    dp_status st;

    st = dp_file_read(file, dp_gguf_part_path(job->in, t->file_index), offset, job->bytes_in, size,
                      job->err);
    if (st)
        return st;
    dp_file_read_ahead(file, offset + size, READ_AHEAD); /* while this chunk is computed */
    if (to != t->dtype) {
        struct chunk c = { job, t->dtype, to, count, NONE };

        dp_pool_run(job->pool, (count + TILE - 1) / TILE, 1, convert_tiles, &c);
        if (c.bad != NONE)
            return report_bad(job, t, to, at + c.bad, c.bad);
        result = job->bytes_out;
    }
    st = dp_gguf_out_write(job->out, result, bytes_of(to, count), job->err);
    if (st)
        return st;
    job->done_bytes += size;
    if (job->how->on_progress &&
        !job->how->on_progress(job->how->user, job->done_bytes, job->total_bytes))
        return dp_fail(job->err, DP_E_CANCELED, "quantize: canceled");
    return DP_OK;
}

static dp_status move_tensor(struct job *job, size_t i)
{
    const dp_tensor *t = dp_gguf_tensor(job->in, i);
    const struct plan *plan = &job->plans[i];
    const dp_dtype_info *info = dp_dtype_get(t->dtype);
    uint64_t count = t->size / info->block_bytes * info->block_elems;
    uint64_t to_bytes = dp_gguf_out_tensor_size(job->out, i);
    dp_status st = DP_OK;

    if (job->how->on_tensor) {
        dp_quantize_tensor seen = {
            .name = t->name.bytes,
            .from = info->name,
            .to = dp_dtype_get(plan->to)->name,
            .instead_of = plan->wanted != plan->to ? dp_dtype_get(plan->wanted)->name : NULL,
            .from_bytes = t->size,
            .to_bytes = to_bytes,
        };

        job->how->on_tensor(job->how->user, &seen);
    }
    for (uint64_t at = 0; at < count && !st; at += CHUNK)
        st = move_chunk(job, t, plan->to, at, (size_t)DP_MIN(count - at, CHUNK));
    job->report.tensor_count++;
    job->report.value_count += count;
    job->report.fallback_count += plan->wanted != plan->to;
    job->report.from_bytes += t->size;
    job->report.to_bytes += to_bytes;
    return st;
}

/* ---- from one end to the other ---- */

static dp_status open_files(struct job *job, const char *out_path)
{
    uint32_t count = dp_gguf_part_count(job->in);
    dp_status st = DP_OK;

    job->files = dp_alloc(count, sizeof *job->files);
    if (!job->files)
        return dp_fail(job->err, DP_E_NOMEM, "%s: %u parts", job->in_path, count);
    for (uint32_t i = 0; i < count; i++)
        job->files[i] = (dp_file){ -1, -1, 0 };
    for (uint32_t i = 0; i < count && !st; i++) {
        const char *path = dp_gguf_part_path(job->in, i);

        if (dp_file_is_same(path, out_path))
            st = dp_fail(job->err, DP_E_INVALID,
                         "%s: is the model to read; give the result "
                         "another name",
                         out_path);
        else
            st = dp_file_open(&job->files[i], path, false, job->err);
    }
    return st;
}

static dp_status check_how(const dp_quantize_how *how, const dp_mix **mix, dp_error *err)
{
    dp_status st = DP_OK;
    char known[256] = "";
    size_t count, used = 0;

    for (size_t i = 0; i < how->override_count && !st; i++)
        st = dp_mix_check_override(how->overrides[i], err);
    if (st)
        return st;
    *mix = dp_mix_find(how->type ? how->type : "");
    if (*mix)
        return DP_OK;
    for (size_t i = 0; i < (dp_quantize_types(&count), count) && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, " %s",
                                 dp_quantize_types(&count)[i].name);
    return dp_fail(err, DP_E_INVALID, "quantize: no type '%s'; known are%s",
                   how->type ? how->type : "", known);
}

static dp_status open_job(struct job *job, const char *out_path)
{
    uint32_t threads = job->how->threads ? job->how->threads : dp_cpu_get()->thread_count;
    dp_status st;

    st = dp_gguf_open(&job->in, job->in_path, job->err);
    if (st)
        return st;
    st = open_files(job, out_path);
    if (st)
        return st;
    st = dp_pool_open(&job->pool, DP_MIN(threads, DP_POOL_THREADS_MAX), job->err);
    if (st)
        return st;
    job->bytes_in = dp_map_acquire(CHUNK * sizeof(double));
    job->bytes_out = dp_map_acquire(CHUNK * sizeof(float));
    if (!job->bytes_in || !job->bytes_out)
        return dp_fail(job->err, DP_E_NOMEM, "quantize: no memory for the buffers");
    return DP_OK;
}

static void close_job(struct job *job)
{
    for (uint32_t i = 0; job->files && i < dp_gguf_part_count(job->in); i++)
        dp_file_close(&job->files[i]);
    dp_map_release(job->bytes_out, CHUNK * sizeof(float));
    dp_map_release(job->bytes_in, CHUNK * sizeof(double));
    dp_pool_close(job->pool);
    dp_gguf_out_close(job->out);
    dp_free(job->plans);
    dp_free(job->files);
    dp_gguf_close(job->in);
}

dp_status dp_quantize(const char *in_path, const char *out_path, const dp_quantize_how *how,
                      dp_quantize_report *report, dp_error *err)
{
    struct job job = { .how = how, .in_path = in_path, .err = err };
    uint64_t start = dp_clock_now_ns(&dp_clock_real);
    const dp_mix *mix;
    dp_status st;

    st = check_how(how, &mix, err);
    if (st)
        return st;
    job.kernels = dp_kernels_find(NULL);
    st = open_job(&job, out_path);
    if (st)
        goto done;
    st = plan_tensors(&job, mix);
    if (st)
        goto done;
    st = declare(&job, mix);
    if (st)
        goto done;
    st = dp_gguf_out_begin(job.out, out_path, err);
    if (st)
        goto done;
    for (size_t i = 0; i < dp_gguf_tensor_count(job.in) && !st; i++)
        st = move_tensor(&job, i);
    if (st)
        goto done;
    st = dp_gguf_out_finish(job.out, err);
    if (st)
        goto done;
    job.report.file_bytes = dp_gguf_out_file_size(job.out);
    job.report.ns = dp_clock_now_ns(&dp_clock_real) - start;
    if (report)
        *report = job.report;
done:
    close_job(&job);
    return st;
}
