/* Any bytes as the parts of a split model, in any order: joined, or one sentence why not. The
 * first byte says how many there are, two bytes each how long all but the last is. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "format/gguf.h"
#include "fuzz.h"

#define PARTS_MAX 4

typedef struct parts {
    const uint8_t *bytes[PARTS_MAX];
    size_t sizes[PARTS_MAX];
} parts;

static const char *part_name(void *user, uint32_t part)
{
    static const char *const names[PARTS_MAX] = { "a", "m-00002-of-00003.gguf", "b", "c" };

    return names[part];
}

static uint64_t part_size(void *user, uint32_t part)
{
    return ((const parts *)user)->sizes[part];
}

static dp_status part_read(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                           dp_error *err)
{
    const parts *p = user;

    DP_CHECK(offset <= p->sizes[part] && size <= p->sizes[part] - offset);
    memcpy(out, p->bytes[part] + offset, size);
    return DP_OK;
}

static void check(const dp_gguf *g, uint32_t count)
{
    uint32_t seen = 0;

    DP_CHECK(dp_gguf_part_count(g) == count);
    for (uint32_t i = 0; i < count; i++)
        seen |= 1u << dp_gguf_part_number(g, i);
    DP_CHECK(seen == (1u << count) - 1);
    for (size_t i = 0; i < dp_gguf_tensor_count(g); i++) {
        const dp_tensor *t = dp_gguf_tensor(g, i);
        uint64_t end;
        DP_CHECK(t->file_index < count && dp_gguf_find_tensor(g, t->name.bytes) == t);
        DP_CHECK(dp_u64_add(t->offset, t->size, &end) &&
                 end <= dp_gguf_part_size(g, t->file_index));
        DP_CHECK(i == 0 || dp_gguf_part_number(g, t->file_index) >=
                               dp_gguf_part_number(g, dp_gguf_tensor(g, i - 1)->file_index));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint32_t count = size ? 1 + bytes[0] % PARTS_MAX : 1;
    size_t at = 1 + 2 * (size_t)(count - 1);
    parts p = { .sizes = { 0 } };
    dp_gguf_input input = { &p, count, part_name, part_size, part_read };
    dp_mem_stats before, after;
    dp_status st;
    dp_gguf *g;

    if (size < at)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        p.bytes[i] = bytes + at;
        p.sizes[i] = size - at;
        if (i + 1 < count)
            p.sizes[i] =
                DP_MIN(p.sizes[i], (size_t)bytes[1 + 2 * i] | (size_t)bytes[2 + 2 * i] << 8);
        at += p.sizes[i];
    }
    dp_mem_stats_read(&before);
    st = dp_gguf_open_input(&g, &input, NULL);
    DP_CHECK((st == DP_OK) == (g != NULL) && st != DP_E_BUSY);
    if (!st)
        check(g, count);
    dp_gguf_close(g);
    dp_mem_stats_read(&after);
    DP_CHECK(after.heap_blocks == before.heap_blocks);
    return 0;
}
