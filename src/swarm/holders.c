#include "swarm/holders.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

/* Consecutive pieces that an expert needs. */
typedef struct range {
    uint32_t layer, expert, first, count;
} range;

struct dp_holders {
    uint8_t *classes; /* [piece_count] dp_piece_class */
    range *ranges;    /* [range_count] */
    size_t range_count;
    uint32_t layers, experts, piece_count;
};

/* What a tensor's name says of it. */
typedef struct kind {
    bool is_expert, is_stack;
    uint32_t layer, expert; /* expert: of a tensor of its own */
} kind;

/* Decimal digits at *at, then `stop`: *at behind it. */
static bool number_at(const char **at, char stop, uint32_t max, uint32_t *out)
{
    char *end;
    unsigned long value;

    if (**at < '0' || **at > '9')
        return false;
    value = strtoul(*at, &end, 10);
    if (*end != stop || value >= max)
        return false;
    *at = end + 1;
    *out = (uint32_t)value;
    return true;
}

static kind kind_of(const dp_tensor *tensor)
{
    kind k = { .is_expert = false };
    const char *at = tensor->name.bytes, *dot;

    if (!dp_str_starts_with(tensor->name, "blk."))
        return k;
    at += 4;
    if (!number_at(&at, '.', DP_HOLDERS_LAYERS_MAX, &k.layer))
        return k;
    dot = strchr(at, '.');
    if (!dot)
        return k;
    k.is_stack = dot - at > 5 && memcmp(dot - 5, "_exps", 5) == 0;
    dot++;
    k.is_expert = k.is_stack || number_at(&dot, '.', DP_HOLDERS_EXPERTS_MAX, &k.expert);
    return k;
}

/* Experts of a stack: its slowest dimension. */
static uint64_t stack_count(const dp_tensor *tensor)
{
    return tensor->ne[tensor->dim_count - 1];
}

static void mark(dp_holders *h, const dp_layout_file *file, uint64_t offset, uint64_t size,
                 dp_piece_class class_)
{
    uint32_t first, count;

    if (size == 0)
        return;
    count = dp_pieces_of_range(file->pieces, offset, size, &first);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *at = &h->classes[file->first_piece + first + i];
        *at = (uint8_t)DP_MAX(*at, (uint8_t)class_);
    }
}

static void add_range(dp_holders *h, const dp_layout_file *file, uint32_t layer, uint32_t expert,
                      uint64_t offset, uint64_t size)
{
    range *r = &h->ranges[h->range_count];

    if (size == 0)
        return;
    r->count = dp_pieces_of_range(file->pieces, offset, size, &r->first);
    r->first += file->first_piece;
    r->layer = layer;
    r->expert = expert;
    h->range_count++;
    h->layers = DP_MAX(h->layers, layer + 1);
    h->experts = DP_MAX(h->experts, expert + 1);
}

static void add_tensor(dp_holders *h, const dp_tensor *tensor, const dp_layout_file *file)
{
    kind k = kind_of(tensor);
    uint64_t count = k.is_stack ? stack_count(tensor) : 1;

    if (!k.is_expert) {
        mark(h, file, tensor->offset, tensor->size, DP_PIECE_ALWAYS);
        return;
    }
    for (uint64_t i = 0; i < count; i++)
        add_range(h, file, k.layer, k.is_stack ? (uint32_t)i : k.expert,
                  tensor->offset + i * (tensor->size / count), tensor->size / count);
}

/* How many ranges there will be. */
static dp_status count_ranges(const dp_gguf *gguf, size_t *out, dp_error *err)
{
    *out = 0;
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *tensor = dp_gguf_tensor(gguf, i);
        kind k = kind_of(tensor);
        uint64_t count = k.is_stack ? stack_count(tensor) : k.is_expert;

        if (count > DP_HOLDERS_EXPERTS_MAX || *out + count > DP_HOLDERS_RANGES_MAX)
            return dp_fail(err, DP_E_LIMIT, "%s: %llu experts, at most %d", tensor->name.bytes,
                           (unsigned long long)count, DP_HOLDERS_EXPERTS_MAX);
        *out += (size_t)count;
    }
    return DP_OK;
}

/* Bytes before the first tensor of each part. */
static void mark_headers(dp_holders *h, const dp_gguf *gguf, const dp_layout *layout,
                         const uint32_t *files)
{
    for (uint32_t part = 0; part < dp_gguf_part_count(gguf); part++) {
        const dp_layout_file *file = &layout->files[files[part]];
        uint64_t end = file->pieces.file_size;

        for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
            const dp_tensor *tensor = dp_gguf_tensor(gguf, i);
            if (tensor->file_index == part)
                end = DP_MIN(end, tensor->offset);
        }
        mark(h, file, 0, end, DP_PIECE_HEADER);
    }
}

dp_status dp_holders_open(dp_holders **out, const dp_gguf *gguf, const dp_layout *layout,
                          const uint32_t *files, dp_error *err)
{
    dp_holders *h = NULL;
    size_t count;
    dp_status st;

    *out = NULL;
    st = count_ranges(gguf, &count, err);
    if (st)
        goto done;
    h = dp_alloc_zero(1, sizeof *h);
    if (h) {
        h->piece_count = layout->piece_count;
        h->classes = dp_alloc_zero(h->piece_count, 1);
        h->ranges = dp_alloc_zero(DP_MAX(count, 1), sizeof *h->ranges);
    }
    if (!h || !h->classes || !h->ranges) {
        st = dp_fail(err, DP_E_NOMEM, "no memory for a table of %zu ranges of experts", count);
        goto done;
    }
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *tensor = dp_gguf_tensor(gguf, i);
        add_tensor(h, tensor, &layout->files[files[tensor->file_index]]);
    }
    mark_headers(h, gguf, layout, files);

    *out = h; /* the caller owns it now */
    h = NULL;
done:
    dp_holders_close(h);
    return st;
}

void dp_holders_close(dp_holders *h)
{
    if (!h)
        return;
    dp_free(h->classes);
    dp_free(h->ranges);
    dp_free(h);
}

uint32_t dp_holders_layers(const dp_holders *h)
{
    return h->layers;
}

uint32_t dp_holders_experts(const dp_holders *h)
{
    return h->experts;
}

dp_piece_class dp_holders_class(const dp_holders *h, uint32_t piece)
{
    DP_ASSERT(piece < h->piece_count);
    return (dp_piece_class)h->classes[piece];
}

static bool has_all(const range *r, const uint8_t *bits)
{
    for (uint32_t piece = r->first; piece < r->first + r->count; piece++)
        if (!(bits[piece / 8] & (0x80 >> piece % 8)))
            return false;
    return true;
}

/* A first look counts the ranges that are lacking, a second whom none are: both in the high
 * bit of the counts, which no number of peers reaches. */
void dp_holders_add(const dp_holders *h, const uint8_t *bits, uint32_t *counts)
{
    const uint32_t lacks = (uint32_t)1 << 31, seen = (uint32_t)1 << 30;

    for (size_t i = 0; i < h->range_count; i++) {
        uint32_t *at = &counts[(size_t)h->ranges[i].layer * h->experts + h->ranges[i].expert];
        *at |= has_all(&h->ranges[i], bits) ? seen : lacks;
    }
    for (size_t i = 0; i < (size_t)h->layers * h->experts; i++) {
        bool is_held = (counts[i] & seen) && !(counts[i] & lacks);
        counts[i] = (counts[i] & (seen - 1)) + is_held;
    }
}

uint64_t dp_holders_slice(const dp_gguf *gguf)
{
    uint64_t least_expert = UINT64_MAX, least_matrix = UINT64_MAX;

    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *tensor = dp_gguf_tensor(gguf, i);
        kind k = kind_of(tensor);
        uint64_t count = k.is_stack ? DP_MAX(stack_count(tensor), 1) : 1;

        /* Biases of experts (two dimensions) are small and read beside matrices. */
        if (k.is_expert && tensor->dim_count >= (k.is_stack ? 3 : 2))
            least_expert = DP_MIN(least_expert, tensor->size / count);
        else if (!k.is_expert && tensor->dim_count == 2)
            least_matrix = DP_MIN(least_matrix, tensor->size);
    }
    if (least_expert != UINT64_MAX)
        return least_expert;
    return least_matrix != UINT64_MAX ? least_matrix : 0;
}
