/* Any bytes as an adapter's header: what is accepted is held to the promises of lora.h. */
#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "format/lora.h"
#include "fuzz.h"

/* Each tensor is half of a pair whose ranks agree. */
static void check_tensors(const dp_gguf *g, const dp_lora_info *info)
{
    uint32_t count = 0;

    for (size_t i = 0; i < dp_gguf_tensor_count(g); i++) {
        const dp_tensor *a = dp_gguf_tensor(g, i), *b;
        char name[DP_GGUF_NAME_MAX];

        DP_CHECK(a->name.size < sizeof name);
        if (!dp_str_ends_with(a->name, DP_LORA_A)) {
            DP_CHECK(dp_str_ends_with(a->name, DP_LORA_B));
            continue;
        }
        memcpy(name, a->name.bytes, a->name.size + 1);
        name[a->name.size - 1] = 'b';
        b = dp_gguf_find_tensor(g, name);
        DP_CHECK(b && a->ne[1] == b->ne[0] && a->ne[2] == b->ne[2]);
        DP_CHECK(a->ne[1] >= info->rank_min && a->ne[1] <= info->rank_max);
        count++;
    }
    DP_CHECK(count == info->pair_count && 2 * (size_t)count == dp_gguf_tensor_count(g));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_mem_stats before, after;
    dp_lora_info info;
    dp_error err = { 0 };
    dp_gguf *g;

    dp_mem_stats_read(&before);
    if (dp_gguf_parse(&g, "fuzz", bytes, size, ((uint64_t)1 << 40) + size, NULL, NULL) == DP_OK) {
        dp_status st = dp_lora_read(&info, g, &err);

        DP_CHECK(st == err.status && (st == DP_OK) == (info.pair_count > 0));
        if (!st) {
            DP_CHECK(dp_lora_is_adapter(g) && isfinite(info.alpha) && strlen(info.arch) < 32);
            DP_CHECK(info.rank_min >= 1 && info.rank_max <= DP_LORA_RANK_MAX);
            check_tensors(g, &info);
        }
        dp_gguf_close(g);
    }
    dp_mem_stats_read(&after);
    DP_CHECK(after.heap_blocks == before.heap_blocks);
    return 0;
}
