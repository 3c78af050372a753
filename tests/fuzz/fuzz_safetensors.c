/* Any bytes as a safetensors file: its length, its header and what lies behind it;
 * what is accepted is held to the promises of safetensors.h. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "format/safetensors.h"
#include "fuzz.h"

static void walk(const dp_safetensors *s, uint64_t file_size)
{
    for (size_t i = 0; i < dp_safetensors_count(s); i++) {
        const dp_safetensor *t = dp_safetensors_at(s, i);
        uint64_t size = dp_st_type_size(t->type), end;

        DP_CHECK(size >= 1 && dp_st_type_name(t->type));
        DP_CHECK(t->name.size >= 1 && t->name.size <= DP_SAFETENSORS_NAME_MAX);
        DP_CHECK(t->name.bytes[t->name.size] == '\0');
        if (strlen(t->name.bytes) == t->name.size)
            DP_CHECK(dp_safetensors_find(s, t->name.bytes) == t);
        DP_CHECK(t->dim_count <= DP_SAFETENSORS_DIMS_MAX);
        for (uint32_t d = 0; d < t->dim_count; d++)
            DP_CHECK(dp_u64_mul(size, t->dims[d], &size));
        DP_CHECK(size == t->size);
        DP_CHECK(dp_u64_add(t->offset, t->size, &end) && end <= file_size);
        for (size_t j = 0; j < i; j++) {
            const dp_safetensor *u = dp_safetensors_at(s, j);

            DP_CHECK(t->offset >= u->offset + u->size || u->offset >= end || !t->size || !u->size);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint64_t data_sizes[] = { 0, 64, (uint64_t)1 << 50 };
    dp_mem_stats before, after;

    dp_mem_stats_read(&before);
    for (int i = 0; i < 3; i++) {
        uint64_t file_size = 8 + size + data_sizes[i];
        dp_safetensors *s;
        dp_status st = dp_safetensors_parse(&s, "fuzz", (const char *)bytes, size, file_size, NULL);

        DP_CHECK((st == DP_OK) == (s != NULL));
        if (s)
            walk(s, file_size);
        dp_safetensors_close(s);
    }
    dp_mem_stats_read(&after);
    DP_CHECK(after.heap_blocks == before.heap_blocks);
    return 0;
}
