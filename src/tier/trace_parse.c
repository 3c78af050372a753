#include <string.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/trace.h"
#include "tier/trace_format.h"

#define PAGE_BYTES_MAX ((uint64_t)1 << 40) /* sums over all pages stay below 2^63 */

typedef struct reader {
    const char *name;
    const uint8_t *bytes;
    size_t at, end; /* of the payload that is read */
    bool is_short;  /* something did not fit */
    uint32_t *seen; /* [expert_count] the last demand that had it */
    uint32_t demand_count;
    uint32_t *experts; /* [DP_DEMANDS_SET_MAX] */
} reader;

static uint64_t get(const uint8_t *at, uint32_t bytes)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static uint32_t next(reader *r, uint32_t bytes)
{
    uint32_t value;

    if (r->end - r->at < bytes) {
        r->is_short = true;
        r->at = r->end;
        return 0;
    }
    value = (uint32_t)get(r->bytes + r->at, bytes);
    r->at += bytes;
    return value;
}

/* ---- header ---- */

static dp_status check_geometry(const dp_trace_header *h, const char *name, dp_error *err)
{
    if (h->layer_count == 0 || h->layer_count > DP_TRACE_LAYERS_MAX || h->expert_count == 0 ||
        h->expert_count > DP_DEMANDS_EXPERTS_MAX || h->expert_used == 0 ||
        h->expert_used > DP_MIN(h->expert_count, DP_DEMANDS_SET_MAX) ||
        (uint64_t)h->layer_count * h->expert_count > DP_TRACE_PAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: a trace of %u layers, %u of %u experts used", name,
                       h->layer_count, h->expert_used, h->expert_count);
    for (uint32_t l = 0; l < h->layer_count; l++)
        if (h->page_bytes[l] > PAGE_BYTES_MAX)
            return dp_fail(err, DP_E_LIMIT, "%s: experts of %llu bytes in layer %u", name,
                           (unsigned long long)h->page_bytes[l], l);
    return DP_OK;
}

/* *header_size: where blocks begin. */
static dp_status parse_header(dp_trace *trace, const char *name, const uint8_t *b, size_t size,
                              size_t *header_size, dp_error *err)
{
    dp_trace_header *h = &trace->header;
    uint64_t layers;

    if (size < TRACE_FIXED_BYTES || memcmp(b, TRACE_MAGIC, TRACE_MAGIC_BYTES - 1) != 0)
        return dp_fail(err, DP_E_CORRUPT, "%s: is not a trace of doppler (%zu bytes)", name, size);
    if (b[TRACE_MAGIC_BYTES - 1] != TRACE_MAGIC[TRACE_MAGIC_BYTES - 1])
        return dp_fail(err, DP_E_UNSUPPORTED, "%s: a trace of another version, this reads 1", name);
    layers = get(b + 12, 4);
    *header_size = (size_t)get(b + 8, 4);
    if (layers > DP_TRACE_LAYERS_MAX ||
        *header_size != TRACE_FIXED_BYTES + 8 * layers + TRACE_CRC_BYTES || *header_size > size)
        return dp_fail(err, DP_E_CORRUPT, "%s: a header of %zu bytes for %llu layers", name,
                       *header_size, (unsigned long long)layers);
    if (dp_crc32(0, b, *header_size - TRACE_CRC_BYTES) !=
        get(b + *header_size - TRACE_CRC_BYTES, TRACE_CRC_BYTES))
        return dp_fail(err, DP_E_CORRUPT, "%s: its header is damaged", name);
    trace->page_bytes = dp_alloc((size_t)layers, sizeof *trace->page_bytes);
    if (!trace->page_bytes)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory", name);
    for (size_t l = 0; l < layers; l++)
        trace->page_bytes[l] = get(b + TRACE_FIXED_BYTES + 8 * l, 8);
    *h = (dp_trace_header){ .layer_count = (uint32_t)layers,
                            .expert_count = (uint32_t)get(b + 16, 4),
                            .expert_used = (uint32_t)get(b + 20, 4),
                            .model_bytes = get(b + 24, 8),
                            .cache_bytes = get(b + 32, 8),
                            .has_hits = (get(b + 40, 4) & TRACE_FLAG_HITS) != 0,
                            .page_bytes = trace->page_bytes };
    return check_geometry(h, name, err);
}

/* ---- steps ---- */

/* One demand of `count`; false: outside of the geometry, or no memory (*st). */
static bool parse_demand(dp_trace *trace, reader *r, bool begins_step, uint32_t layer,
                         uint32_t count, dp_status *st)
{
    const dp_trace_header *h = &trace->header;
    uint32_t width = id_bytes(h->expert_count);

    if (layer >= h->layer_count || h->page_bytes[layer] == 0 || count > h->expert_count ||
        count > DP_DEMANDS_SET_MAX)
        return false;
    r->demand_count++;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t e = next(r, width);
        if (r->is_short || e >= h->expert_count || r->seen[e] == r->demand_count)
            return false;
        r->seen[e] = r->demand_count;
        r->experts[i] = e;
    }
    for (uint32_t i = 0; i < bit_bytes(h->has_hits, count); i++) {
        uint32_t bits = next(r, 1);
        if (count - 8 * i < 8)
            bits &= (1u << (count - 8 * i)) - 1;
        trace->hits += (uint32_t)__builtin_popcount(bits);
    }
    if (r->is_short)
        return false;
    trace->wants += count;
    if (!dp_demands_add(&trace->demands, begins_step, layer, r->experts, count))
        *st = DP_E_NOMEM;
    return *st == DP_OK;
}

static bool parse_step(dp_trace *trace, reader *r, dp_status *st)
{
    const dp_trace_header *h = &trace->header;
    uint32_t flags = next(r, 1);
    uint32_t tokens = flags & STEP_ONE_TOKEN ? 1 : next(r, 2);
    bool begins = true;

    if (flags & STEP_UNIFORM) {
        for (uint32_t l = 0; l < h->layer_count; l++)
            if (h->page_bytes[l] != 0) {
                if (!parse_demand(trace, r, begins, l, h->expert_used, st))
                    return false;
                begins = false;
            }
    } else {
        uint32_t count = next(r, 2);
        for (uint32_t i = 0; i < count; i++, begins = false) {
            uint32_t layer = next(r, 2);
            uint32_t wanted = next(r, 2);
            if (!parse_demand(trace, r, begins, layer, wanted, st))
                return false;
        }
    }
    trace->steps++;
    trace->tokens += tokens;
    trace->texts += (flags & STEP_STARTS_TEXT) != 0;
    return !r->is_short && (flags & ~STEP_FLAGS) == 0;
}

/* The block at `at`: its payload becomes the reader's. False: cut or damaged. */
static bool open_block(reader *r, const uint8_t *bytes, size_t at, size_t size, uint32_t *steps)
{
    size_t payload;

    if (size - at < BLOCK_HEAD_BYTES || get(bytes + at, 4) != BLOCK_MAGIC)
        return false;
    payload = (size_t)get(bytes + at + 4, 4);
    *steps = (uint32_t)get(bytes + at + 8, 4);
    if (payload > DP_TRACE_BLOCK_MAX || payload > size - at - BLOCK_HEAD_BYTES ||
        dp_crc32(0, bytes + at + BLOCK_HEAD_BYTES, payload) != get(bytes + at + 12, 4))
        return false;
    r->at = at + BLOCK_HEAD_BYTES;
    r->end = r->at + payload;
    return true;
}

/* A block whose sum is right and whose steps are wrong was written so: not cut but corrupt. */
static dp_status parse_blocks(dp_trace *trace, reader *r, size_t at, size_t size, dp_error *err)
{
    dp_status st = DP_OK;

    for (; at < size; at = r->end) {
        uint32_t steps;

        if (!open_block(r, r->bytes, at, size, &steps)) {
            trace->is_cut = true;
            return DP_OK;
        }
        for (uint32_t i = 0; i < steps; i++)
            if (!parse_step(trace, r, &st))
                return st ? dp_fail(err, st, "%s: no memory for its %llu steps", r->name,
                                    (unsigned long long)trace->steps)
                          : dp_fail(err, DP_E_CORRUPT, "%s: step %llu contradicts the header",
                                    r->name, (unsigned long long)trace->steps);
        if (r->at != r->end)
            return dp_fail(err, DP_E_CORRUPT, "%s: %zu bytes behind step %llu", r->name,
                           r->end - r->at, (unsigned long long)trace->steps);
    }
    return DP_OK;
}

dp_status dp_trace_parse(dp_trace *out, const char *name, const uint8_t *bytes, size_t size,
                         dp_error *err)
{
    reader r = { .name = name, .bytes = bytes };
    dp_trace trace = { .steps = 0 };
    size_t header_size;
    dp_status st;

    *out = trace;
    dp_demands_init(&trace.demands, SIZE_MAX / 4);
    st = parse_header(&trace, name, bytes, size, &header_size, err);
    if (st)
        goto done;
    r.seen = dp_alloc_zero(trace.header.expert_count, sizeof *r.seen);
    r.experts = dp_alloc(DP_DEMANDS_SET_MAX, sizeof *r.experts);
    if (!r.seen || !r.experts) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory", name);
        goto done;
    }
    st = parse_blocks(&trace, &r, header_size, size, err);
    if (st)
        goto done;

    *out = trace;
    trace = (dp_trace){ 0 };
done:
    dp_free(r.seen);
    dp_free(r.experts);
    dp_trace_deinit(&trace);
    return st;
}

void dp_trace_deinit(dp_trace *trace)
{
    dp_demands_deinit(&trace->demands);
    dp_free(trace->page_bytes);
    *trace = (dp_trace){ 0 };
}
