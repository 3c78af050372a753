#include "doppler/explain.h"

#include <string.h>

#include "engine/engine.h"
#include "tier/sim.h"

static const double shares[] = { 0.05, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75 };

_Static_assert(DP_POLICY_COUNT <= DP_EXPLAIN_POLICIES_MAX, "a row for each policy");
_Static_assert(DP_ARRAY_LEN(shares) <= DP_EXPLAIN_POINTS_MAX, "a point for each share");

static double rate(uint64_t hits, uint64_t wants)
{
    return wants ? (double)hits / (double)wants : 0;
}

static uint64_t count_steps(const dp_demands *window)
{
    uint64_t steps = 0;
    dp_demand demand;
    size_t at = 0;

    while (dp_demands_next(window, &at, &demand))
        steps += demand.begins_step;
    return steps;
}

static dp_status belady(double *out, const dp_shadow_report *r, uint64_t bytes, dp_error *err)
{
    uint64_t hits, wants;
    dp_status st = dp_sim_belady(r->window, &r->window_shape, bytes, &hits, &wants, err);

    *out = rate(hits, wants);
    return st;
}

/* Every policy at the run's memory, from an empty cache. */
static dp_status fill_policies(dp_explain *out, const dp_shadow_report *r, dp_error *err)
{
    dp_sim_cache caches[DP_POLICY_COUNT];
    dp_sim *sim;
    dp_status st;

    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++)
        caches[p] = (dp_sim_cache){ dp_policies[p], r->window_capacity_bytes };
    st = dp_sim_open(&sim, &r->window_shape, caches, DP_POLICY_COUNT, err);
    if (st)
        return st;
    dp_sim_replay(sim, r->window);
    for (uint32_t p = 0; p < DP_POLICY_COUNT; p++) {
        const dp_sim_cache *c = dp_sim_result(sim, p);
        out->policies[p] = (dp_explain_policy){ dp_policies[p]->name, dp_policies[p]->summary,
                                                r->hit_rate[p], rate(c->hits, c->wants) };
        if (!strcmp(dp_policies[p]->name, out->policy))
            out->window_used = out->policies[p].window;
    }
    out->policy_count = DP_POLICY_COUNT;
    dp_sim_close(sim);
    return belady(&out->window_belady, r, r->window_capacity_bytes, err);
}

/* The policy in use, lru and the bound at every share of the experts. */
static dp_status fill_points(dp_explain *out, const dp_shadow_report *r, const dp_policy *used,
                             dp_error *err)
{
    uint64_t followed = dp_sim_total_bytes(&r->window_shape);
    dp_sim_cache caches[2 * DP_ARRAY_LEN(shares)];
    dp_sim *sim;
    dp_status st;

    for (size_t i = 0; i < DP_ARRAY_LEN(caches); i++)
        caches[i] = (dp_sim_cache){ i % 2 ? &dp_policy_lru : used,
                                    (uint64_t)(shares[i / 2] * (double)followed) };
    st = dp_sim_open(&sim, &r->window_shape, caches, DP_ARRAY_LEN(caches), err);
    if (st)
        return st;
    dp_sim_replay(sim, r->window);
    for (uint32_t i = 0; i < DP_ARRAY_LEN(shares) && !st; i++) {
        const dp_sim_cache *by_used = dp_sim_result(sim, 2 * i);
        const dp_sim_cache *by_lru = dp_sim_result(sim, 2 * i + 1);
        dp_explain_point *point = &out->points[i];
        point->share = shares[i];
        point->bytes = (uint64_t)(shares[i] * (double)out->expert_bytes);
        point->used = rate(by_used->hits, by_used->wants);
        point->lru = rate(by_lru->hits, by_lru->wants);
        st = belady(&point->belady, r, by_used->capacity_bytes, err);
    }
    out->point_count = DP_ARRAY_LEN(shares);
    dp_sim_close(sim);
    return st;
}

static void fill_tiers(dp_explain *out, const dp_engine *e, const dp_tier_stats *stats)
{
    const char *name = e->source == e->files ? "disk" : "swarm";

    out->tiers[out->tier_count++] =
        (dp_explain_tier){ name, stats->read_bytes, stats->busy_ns, stats->times };
}

dp_status dp_engine_explain(dp_engine *engine, dp_explain *out, dp_error *err)
{
    const dp_watch *watch = engine->watch;
    const dp_policy *used = dp_watch_policy(watch);
    dp_shadow_report report;
    dp_tier_stats stats;
    dp_status st;

    dp_tier_stats_read(engine->tier, &stats);
    memset(out, 0, sizeof *out);
    strncpy(out->policy, used->name, sizeof out->policy - 1);
    strncpy(out->heat, dp_watch_heat(watch), sizeof out->heat - 1);
    out->is_auto = dp_watch_is_auto(watch);
    out->is_contended = dp_watch_is_contended(watch);
    out->cache_bytes = dp_watch_cache_bytes(watch);
    out->expert_bytes = dp_watch_expert_bytes(watch);
    out->prefetch_hits = stats.expert_prefetch_hits;
    out->prefetch_useful_bytes = stats.prefetch_useful_bytes;
    out->prefetch_wasted_bytes = stats.prefetch_wasted_bytes;
    fill_tiers(out, engine, &stats);
    if (!dp_watch_shadow(watch) || !out->is_contended)
        return DP_OK;
    dp_shadow_report_read(dp_watch_shadow(watch), &report);
    out->changes = report.changes;
    out->bursts = report.bursts;
    out->layers_followed = report.layers;
    out->layers = report.layers_all;
    out->shadow_time_share = report.time_share;
    out->window_steps = count_steps(report.window);
    out->has_window = out->window_steps > 0;
    if (!out->has_window)
        return DP_OK;
    st = fill_policies(out, &report, err);
    return st ? st : fill_points(out, &report, used, err);
}
