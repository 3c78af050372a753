#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/trace.h"
#include "tier/trace_format.h"

#define STEP_WORDS_MAX (DP_TRACE_BLOCK_MAX / 2)

static void put(uint8_t *at, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static bool append(dp_buf *out, uint64_t value, uint32_t bytes)
{
    uint8_t at[8];

    put(at, value, bytes);
    return dp_buf_append(out, at, bytes) == DP_OK;
}

dp_status dp_trace_encode_header(const dp_trace_header *h, dp_buf *out, dp_error *err)
{
    size_t begin = out->size;
    uint64_t size = TRACE_FIXED_BYTES + 8 * (uint64_t)h->layer_count + TRACE_CRC_BYTES;
    bool is_in = dp_buf_append(out, TRACE_MAGIC, TRACE_MAGIC_BYTES) == DP_OK &&
                 append(out, size, 4) && append(out, h->layer_count, 4) &&
                 append(out, h->expert_count, 4) && append(out, h->expert_used, 4) &&
                 append(out, h->model_bytes, 8) && append(out, h->cache_bytes, 8) &&
                 append(out, h->has_hits ? TRACE_FLAG_HITS : 0, 4) && append(out, 0, 4);

    for (uint32_t l = 0; is_in && l < h->layer_count; l++)
        is_in = append(out, h->page_bytes[l], 8);
    if (!is_in ||
        !append(out, dp_crc32(0, out->bytes + begin, out->size - begin), TRACE_CRC_BYTES)) {
        out->size = begin;
        return dp_fail(err, DP_E_NOMEM, "trace: no memory for its header");
    }
    return DP_OK;
}

void dp_trace_encoder_init(dp_trace_encoder *encoder, const dp_trace_header *header)
{
    *encoder = (dp_trace_encoder){ .header = *header };
    dp_demands_init(&encoder->step, STEP_WORDS_MAX);
    dp_buf_init(&encoder->block, BLOCK_HEAD_BYTES + DP_TRACE_BLOCK_MAX);
}

void dp_trace_encoder_deinit(dp_trace_encoder *encoder)
{
    dp_demands_deinit(&encoder->step);
    dp_buf_deinit(&encoder->block);
    dp_free(encoder->hits);
    *encoder = (dp_trace_encoder){ 0 };
}

static bool keep_hits(dp_trace_encoder *encoder, const uint8_t *hits, uint32_t count)
{
    size_t needed = encoder->hit_count + count;

    if (needed > encoder->hit_capacity) {
        size_t capacity = DP_MAX(2 * encoder->hit_capacity, DP_MAX(needed, 256));
        uint8_t *grown = dp_realloc(encoder->hits, capacity, 1);
        if (!grown)
            return false;
        encoder->hits = grown;
        encoder->hit_capacity = capacity;
    }
    if (count) /* of nothing there may be no memory yet */
        memcpy(encoder->hits + encoder->hit_count, hits, count);
    encoder->hit_count = needed;
    return true;
}

void dp_trace_demand(dp_trace_encoder *encoder, uint32_t layer, const uint32_t *experts,
                     const uint8_t *hits, uint32_t count)
{
    if (encoder->is_lost || !encoder->is_step_open)
        return;
    encoder->is_lost = !dp_demands_add(&encoder->step, false, layer, experts, count) ||
                       (encoder->header.has_hits && !keep_hits(encoder, hits, count));
}

/* The next layer that has experts at or behind `layer`, layer_count: none. */
static uint32_t next_mixture(const dp_trace_header *h, uint32_t layer)
{
    while (layer < h->layer_count && h->page_bytes[layer] == 0)
        layer++;
    return layer;
}

static bool is_uniform(const dp_trace_encoder *encoder)
{
    const dp_trace_header *h = &encoder->header;
    uint32_t layer = next_mixture(h, 0);
    dp_demand d;
    size_t at = 0;

    for (; dp_demands_next(&encoder->step, &at, &d); layer = next_mixture(h, layer + 1))
        if (d.layer != layer || d.count != h->expert_used)
            return false;
    return layer == h->layer_count;
}

static bool append_demands(dp_trace_encoder *encoder, bool with_heads)
{
    const uint8_t *hits = encoder->hits;
    uint32_t width = id_bytes(encoder->header.expert_count);
    bool is_in = true;
    dp_demand d;
    size_t at = 0;

    while (is_in && dp_demands_next(&encoder->step, &at, &d)) {
        if (with_heads)
            is_in = append(&encoder->block, d.layer, 2) && append(&encoder->block, d.count, 2);
        for (uint32_t i = 0; is_in && i < d.count; i++)
            is_in = append(&encoder->block, d.experts[i], width);
        for (uint32_t i = 0; is_in && encoder->header.has_hits && i < d.count; i += 8) {
            uint8_t bits = 0;
            for (uint32_t j = i; j < DP_MIN(i + 8, d.count); j++)
                bits |= (uint8_t)((hits[j] != 0) << (j - i));
            is_in = append(&encoder->block, bits, 1);
        }
        hits += encoder->header.has_hits ? d.count : 0;
    }
    return is_in;
}

static uint32_t count_demands(const dp_demands *step)
{
    uint32_t count = 0;
    dp_demand d;
    size_t at = 0;

    while (dp_demands_next(step, &at, &d))
        count++;
    return count;
}

/* The open step's bytes behind the block's; one that does not fit is left out. */
static void end_step(dp_trace_encoder *encoder)
{
    dp_buf *block = &encoder->block;
    uint32_t count = count_demands(&encoder->step);
    bool uniform = is_uniform(encoder);
    bool is_one = encoder->tokens == 1;
    uint32_t flags = (is_one ? STEP_ONE_TOKEN : 0) | (uniform ? STEP_UNIFORM : 0) |
                     (encoder->starts_text ? STEP_STARTS_TEXT : 0);
    static const uint8_t head[BLOCK_HEAD_BYTES];
    size_t begin;

    if (!encoder->is_step_open || encoder->is_lost || count > UINT16_MAX)
        return;
    if (encoder->is_taken)
        dp_buf_reset(block);
    encoder->is_taken = false;
    if (block->size == 0 && dp_buf_append(block, head, sizeof head))
        return;
    begin = block->size;
    if (append(block, flags, 1) && (is_one || append(block, encoder->tokens, 2)) &&
        (uniform || append(block, count, 2)) && append_demands(encoder, !uniform))
        encoder->block_steps++;
    else
        block->size = begin;
}

void dp_trace_begin_step(dp_trace_encoder *encoder, uint32_t tokens, bool starts_text)
{
    end_step(encoder);
    dp_demands_reset(&encoder->step);
    encoder->hit_count = 0;
    encoder->tokens = DP_MIN(tokens, UINT16_MAX);
    encoder->starts_text = starts_text;
    encoder->is_step_open = true;
    encoder->is_lost = false;
}

bool dp_trace_take_block(dp_trace_encoder *encoder, bool is_last, const void **bytes, size_t *size)
{
    dp_buf *block = &encoder->block;
    uint8_t *head;
    size_t payload;

    if (is_last) {
        end_step(encoder);
        encoder->is_step_open = false;
    }
    if (encoder->block_steps == 0 || (!is_last && block->size < DP_TRACE_BLOCK_GOOD))
        return false;
    head = (uint8_t *)block->bytes;
    payload = block->size - BLOCK_HEAD_BYTES;
    put(head, BLOCK_MAGIC, 4);
    put(head + 4, payload, 4);
    put(head + 8, encoder->block_steps, 4);
    put(head + 12, dp_crc32(0, head + BLOCK_HEAD_BYTES, payload), 4);
    *bytes = block->bytes;
    *size = block->size;
    encoder->block_steps = 0;
    encoder->is_taken = true;
    return true;
}
