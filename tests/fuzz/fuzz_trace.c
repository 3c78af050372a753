/* Any bytes as a trace: what is accepted is replayed with every policy and by Belady's rule. Block
 * sums are mended first, so that steps are reached. */
#include <string.h>

#include "base/assert.h"
#include "base/crc.h"
#include "base/mem.h"
#include "fuzz.h"
#include "tier/sim.h"
#include "tier/trace.h"

#define PAGES_MAX 4096 /* of a geometry that is replayed: more is only slower */

static void put_crc(uint8_t *at, uint32_t crc)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(crc >> 8 * i);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Sums of the header and of all blocks that are whole. */
static void mend(uint8_t *b, size_t size)
{
    size_t at = size < 12 ? size : get32(b + 8);

    if (at < 4 || at > size)
        return;
    put_crc(b + at - 4, dp_crc32(0, b, at - 4));
    while (size - at >= 16 && get32(b + at + 4) <= size - at - 16) {
        put_crc(b + at + 12, dp_crc32(0, b + at + 16, get32(b + at + 4)));
        at += 16 + get32(b + at + 4);
    }
}

static void replay(const dp_trace *trace)
{
    const dp_trace_header *h = &trace->header;
    dp_sim_shape shape = { h->layer_count, h->expert_count, h->page_bytes };
    uint64_t total = dp_sim_total_bytes(&shape), hits, wants;
    dp_sim_cache caches[DP_POLICY_COUNT];
    dp_sim *sim;

    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        caches[p] = (dp_sim_cache){ dp_policies[p], total / (p + 2) };
    DP_CHECK(dp_sim_open(&sim, &shape, caches, DP_POLICY_COUNT, NULL) == DP_OK);
    dp_sim_replay(sim, &trace->demands);
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        DP_CHECK(dp_sim_result(sim, p)->wants == trace->wants);
    dp_sim_close(sim);
    DP_CHECK(dp_sim_belady(&trace->demands, &shape, total / 2, &hits, &wants, NULL) == DP_OK);
    DP_CHECK(wants == trace->wants && hits <= wants);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *mended = dp_alloc(size, 1);
    dp_trace trace;

    DP_CHECK(mended);
    memcpy(mended, bytes, size);
    dp_trace_parse(&trace, "fuzz", bytes, size, NULL);
    dp_trace_deinit(&trace);
    mend(mended, size);
    if (dp_trace_parse(&trace, "fuzz", mended, size, NULL) == DP_OK &&
        (uint64_t)trace.header.layer_count * trace.header.expert_count <= PAGES_MAX)
        replay(&trace);
    dp_trace_deinit(&trace);
    dp_free(mended);
    return 0;
}
