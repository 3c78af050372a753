#include "app/cli/explain_report.h"

#include "base/str.h"

#define NS_A_MS 1.0e6

static dp_status put_policy(const dp_explain *e, dp_buf *out)
{
    char cache[16], all[16];
    dp_status st;

    st = dp_buf_format(out, "policy: %s%s, changed %u times; heat: %s\n", e->policy,
                       e->is_auto ? " (auto)" : "", e->changes, e->heat);
    if (!st && !e->is_contended)
        return dp_buf_text(out, "all weights fit: nothing has to leave\n");
    if (!st && e->expert_bytes)
        st = dp_buf_format(out, "experts: %s share %s\n", dp_format_size(all, e->expert_bytes),
                           dp_format_size(cache, e->cache_bytes));
    if (!st && e->has_window)
        st = dp_buf_format(out,
                           "shadows: %u of %u layers, %u bursts judged, %.2f %% of the time; the "
                           "window is the last %llu steps of one\n",
                           e->layers_followed, e->layers, e->bursts, 100 * e->shadow_time_share,
                           (unsigned long long)e->window_steps);
    return st;
}

static dp_status put_window(const dp_explain *e, dp_buf *out)
{
    dp_status st;

    st = dp_buf_text(out, "hits in %:      live  window\n");
    for (uint32_t i = 0; i < e->policy_count && !st; i++)
        st = dp_buf_format(out, "  %-10s %7.2f %7.2f  leaves first: %s\n", e->policies[i].name,
                           100 * e->policies[i].live, 100 * e->policies[i].window,
                           e->policies[i].summary);
    if (!st)
        st = dp_buf_format(out, "  %-10s         %7.2f  regret %.2f\n", "belady",
                           100 * e->window_belady, 100 * (e->window_belady - e->window_used));
    if (!st)
        st = dp_buf_format(out,
                           "hits in %% by memory for experts, over the window:\n"
                           "     share       bytes %7s     lru  belady\n",
                           e->policy);
    for (uint32_t i = 0; i < e->point_count && !st; i++) {
        const dp_explain_point *p = &e->points[i];
        char bytes[16];
        st = dp_buf_format(out, "  %7.2f%%  %10s %7.2f %7.2f %7.2f\n", 100 * p->share,
                           dp_format_size(bytes, p->bytes), 100 * p->used, 100 * p->lru,
                           100 * p->belady);
    }
    return st;
}

dp_status dp_explain_text(const dp_explain *explain, dp_buf *out)
{
    const dp_explain *e = explain;
    char useful[16], wasted[16], read[16];
    dp_status st;

    st = put_policy(e, out);
    if (!st && e->has_window)
        st = put_window(e, out);
    for (uint32_t i = 0; i < e->tier_count && !st; i++) {
        const dp_explain_tier *t = &e->tiers[i];
        st = dp_buf_format(out,
                           "%s: %llu pages waited for, %s read; page ms p50 %.2f p90 %.2f p99 "
                           "%.2f max %.2f\n",
                           t->name, (unsigned long long)t->loads,
                           dp_format_size(read, t->read_bytes), (double)t->p50_ns / NS_A_MS,
                           (double)t->p90_ns / NS_A_MS, (double)t->p99_ns / NS_A_MS,
                           (double)t->max_ns / NS_A_MS);
    }
    if (!st)
        st = dp_buf_format(out, "prefetch: %llu pages in time, %s useful, %s wasted\n",
                           (unsigned long long)e->prefetch_hits,
                           dp_format_size(useful, e->prefetch_useful_bytes),
                           dp_format_size(wasted, e->prefetch_wasted_bytes));
    return st;
}

/* ---- JSON ---- */

/* Moves `row` into the list; false when either is not there. */
static bool push(json_t *list, json_t *row)
{
    return row && json_array_append_new(list, row) == 0;
}

static bool put_lists(json_t *object, const dp_explain *e)
{
    json_t *policies = json_array(), *points = json_array(), *tiers = json_array();
    bool is_in = policies && points && tiers;

    for (uint32_t i = 0; i < e->policy_count && is_in; i++)
        is_in = push(policies, json_pack("{s:s, s:f, s:f}", "policy", e->policies[i].name, "live",
                                         e->policies[i].live, "window", e->policies[i].window));
    for (uint32_t i = 0; i < e->point_count && is_in; i++)
        is_in = push(points,
                     json_pack("{s:f, s:I, s:f, s:f, s:f}", "share", e->points[i].share, "bytes",
                               (json_int_t)e->points[i].bytes, "used", e->points[i].used, "lru",
                               e->points[i].lru, "belady", e->points[i].belady));
    for (uint32_t i = 0; i < e->tier_count && is_in; i++) {
        const dp_explain_tier *t = &e->tiers[i];
        is_in =
            push(tiers,
                 json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f}", "tier", t->name, "loads",
                           (json_int_t)t->loads, "read_bytes", (json_int_t)t->read_bytes,
                           "page_ms_p50", (double)t->p50_ns / NS_A_MS, "page_ms_p90",
                           (double)t->p90_ns / NS_A_MS, "page_ms_p99", (double)t->p99_ns / NS_A_MS,
                           "page_ms_max", (double)t->max_ns / NS_A_MS));
    }
    is_in = is_in && !json_object_set(object, "policies", policies) &&
            !json_object_set(object, "curve", points) && !json_object_set(object, "tiers", tiers);
    json_decref(policies);
    json_decref(points);
    json_decref(tiers);
    return is_in;
}

json_t *dp_explain_json(const dp_explain *explain)
{
    const dp_explain *e = explain;
    json_t *object = json_pack(
        "{s:s, s:b, s:b, s:i, s:i, s:i, s:i, s:f, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:s}",
        "policy", e->policy, "is_auto", e->is_auto, "is_contended", e->is_contended,
        "policy_changes", (int)e->changes, "bursts", (int)e->bursts, "layers_followed",
        (int)e->layers_followed, "layers", (int)e->layers, "shadow_time_share",
        e->shadow_time_share, "expert_bytes", (json_int_t)e->expert_bytes, "cache_bytes",
        (json_int_t)e->cache_bytes, "window_steps", (json_int_t)e->window_steps, "belady",
        e->window_belady, "regret", e->window_belady - e->window_used, "prefetch_hits",
        (json_int_t)e->prefetch_hits, "prefetch_useful_bytes", (json_int_t)e->prefetch_useful_bytes,
        "prefetch_wasted_bytes", (json_int_t)e->prefetch_wasted_bytes, "heat", e->heat);

    if (object && put_lists(object, e))
        return object;
    json_decref(object);
    return NULL;
}
