#include "doppler/replay.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/sim.h"
#include "tier/trace.h"

/* At a time: caches share the pass over the demands, and each takes 48 bytes a page. */
#define CACHES_PER_PASS 32

static const char belady[] = "belady";

struct dp_replay {
    dp_trace trace;
};

dp_status dp_replay_open(dp_replay **out, const char *path, dp_error *err)
{
    dp_replay *replay = dp_alloc_zero(1, sizeof *replay);
    char *bytes = NULL;
    dp_status st;
    size_t size;

    *out = NULL;
    if (!replay)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory", path);
    st = dp_file_read_all(&bytes, &size, path, DP_TRACE_FILE_MAX, err);
    if (st)
        goto done;
    st = dp_trace_parse(&replay->trace, path, (const uint8_t *)bytes, size, err);
    if (st)
        goto done;

    *out = replay;
    replay = NULL;
done:
    dp_free(bytes);
    dp_replay_close(replay);
    return st;
}

void dp_replay_close(dp_replay *replay)
{
    if (!replay)
        return;
    dp_trace_deinit(&replay->trace);
    dp_free(replay);
}

static dp_sim_shape shape_of(const dp_replay *replay)
{
    const dp_trace_header *h = &replay->trace.header;

    return (dp_sim_shape){ h->layer_count, h->expert_count, h->page_bytes };
}

void dp_replay_info_read(const dp_replay *replay, dp_replay_info *out)
{
    const dp_trace *t = &replay->trace;
    dp_sim_shape shape = shape_of(replay);

    *out = (dp_replay_info){
        .expert_count = t->header.expert_count,
        .expert_used = t->header.expert_used,
        .expert_bytes = dp_sim_total_bytes(&shape),
        .model_bytes = t->header.model_bytes,
        .cache_bytes = t->header.cache_bytes,
        .steps = t->steps,
        .tokens = t->tokens,
        .texts = t->texts,
        .wants = t->wants,
        .has_hits = t->header.has_hits,
        .hits = t->hits,
        .is_cut = t->is_cut,
    };
    for (uint32_t l = 0; l < t->header.layer_count; l++)
        out->layer_count += t->header.page_bytes[l] != 0;
}

const char *dp_replay_policy(uint32_t i, const char **summary)
{
    if (i >= DP_POLICY_COUNT)
        return NULL;
    if (summary)
        *summary = dp_policies[i]->summary;
    return dp_policies[i]->name;
}

static dp_status run_belady(const dp_replay *replay, dp_replay_cache *cache, dp_error *err)
{
    dp_sim_shape shape = shape_of(replay);

    cache->missed_bytes = 0;
    return dp_sim_belady(&replay->trace.demands, &shape, cache->capacity_bytes, &cache->hits,
                         &cache->wants, err);
}

/* Those of rows [count <= CACHES_PER_PASS], in one pass. */
static dp_status run_pass(const dp_replay *replay, dp_replay_cache *const *rows, uint32_t count,
                          dp_error *err)
{
    dp_sim_shape shape = shape_of(replay);
    dp_sim_cache caches[CACHES_PER_PASS] = { { NULL } };
    dp_sim *sim;
    dp_status st;

    for (uint32_t i = 0; i < count; i++) {
        caches[i] = (dp_sim_cache){ dp_policy_find(rows[i]->policy), rows[i]->capacity_bytes };
        if (!caches[i].policy)
            return dp_fail(err, DP_E_NOTFOUND, "there is no policy \"%s\"", rows[i]->policy);
    }
    st = dp_sim_open(&sim, &shape, caches, count, err);
    if (st)
        return st;
    dp_sim_replay(sim, &replay->trace.demands);
    for (uint32_t i = 0; i < count; i++) {
        const dp_sim_cache *result = dp_sim_result(sim, i);
        rows[i]->hits = result->hits;
        rows[i]->wants = result->wants;
        rows[i]->missed_bytes = result->missed_bytes;
    }
    dp_sim_close(sim);
    return DP_OK;
}

dp_status dp_replay_run(const dp_replay *replay, dp_replay_cache *caches, uint32_t count,
                        dp_error *err)
{
    dp_replay_cache *rows[CACHES_PER_PASS];
    uint32_t waiting = 0;
    dp_status st = DP_OK;

    if (count > DP_REPLAY_CACHES_MAX)
        return dp_fail(err, DP_E_LIMIT, "replay: %u caches, at most %d", count,
                       DP_REPLAY_CACHES_MAX);
    for (uint32_t i = 0; i < count && !st; i++) {
        if (strcmp(caches[i].policy, belady) == 0)
            st = run_belady(replay, &caches[i], err);
        else
            rows[waiting++] = &caches[i];
        if (!st && waiting == CACHES_PER_PASS) {
            st = run_pass(replay, rows, waiting, err);
            waiting = 0;
        }
    }
    return st || waiting == 0 ? st : run_pass(replay, rows, waiting, err);
}
