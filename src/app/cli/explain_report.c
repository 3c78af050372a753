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

#define TIMES 4

/* What the columns of a histogram are called, in the order of `columns_of`. */
static const char *const time_names[TIMES] = { "demand", "covered", "ahead", "turn" };
static const char *const time_titles[TIMES] = { "waited for", "read ahead, not yet there",
                                                "read ahead", "waited for, each in its turn" };

static void columns_of(const dp_latency *out[TIMES], const dp_page_times *times)
{
    out[0] = &times->demand;
    out[1] = &times->covered;
    out[2] = &times->ahead;
    out[3] = &times->turn;
}

/* Pages by powers of two of a millisecond: row 0 up to 1/8 ms, then twice as much each. */
#define HISTOGRAM_ROWS  17
#define HISTOGRAM_FIRST 7 /* octaves of a microsecond that the first row sums up */

static uint64_t histogram_at(const dp_latency *latency, uint32_t row)
{
    uint32_t end = row + 1 == HISTOGRAM_ROWS ? DP_LATENCY_BUCKETS : (row + HISTOGRAM_FIRST) * 4;
    uint64_t count = 0;

    for (uint32_t i = row ? (row + HISTOGRAM_FIRST - 1) * 4 : 0; i < end; i++)
        count += latency->buckets[i];
    return count;
}

/* The time a row ends at. */
static double histogram_ms(uint32_t row)
{
    return (double)(1u << (row + HISTOGRAM_FIRST)) / 1000;
}

static dp_status put_histogram(const dp_latency *const columns[TIMES], dp_buf *out)
{
    dp_status st = DP_OK;

    for (uint32_t r = 0; r < HISTOGRAM_ROWS && !st; r++) {
        uint64_t counts[TIMES], sum = 0;
        for (int c = 0; c < TIMES; c++)
            sum += counts[c] = histogram_at(columns[c], r);
        if (sum)
            st = dp_buf_format(out, "  %s %8.1f ms %10llu %10llu %10llu %10llu\n",
                               r + 1 < HISTOGRAM_ROWS ? "to  " : "over",
                               histogram_ms(r + 1 < HISTOGRAM_ROWS ? r : r - 1),
                               (unsigned long long)counts[0], (unsigned long long)counts[1],
                               (unsigned long long)counts[2], (unsigned long long)counts[3]);
    }
    return st;
}

static dp_status put_times(const dp_page_times *times, dp_buf *out)
{
    const dp_latency *columns[TIMES];
    dp_status st = DP_OK;

    columns_of(columns, times);
    for (int c = 0; c < TIMES && !st; c++) {
        const dp_latency *t = columns[c];
        st = dp_buf_format(
            out, "  %s: %llu pages, ms p50 %.2f p90 %.2f p99 %.2f max %.2f\n", time_titles[c],
            (unsigned long long)dp_latency_count(t), (double)dp_latency_quantile(t, 0.5) / NS_A_MS,
            (double)dp_latency_quantile(t, 0.9) / NS_A_MS,
            (double)dp_latency_quantile(t, 0.99) / NS_A_MS, (double)t->max_ns / NS_A_MS);
    }
    if (!st &&
        dp_latency_count(columns[0]) + dp_latency_count(columns[1]) + dp_latency_count(columns[2]))
        st = dp_buf_format(out, "  %16s %10s %10s %10s %10s\n", "pages that took", time_names[0],
                           time_names[1], time_names[2], time_names[3]);
    return st ? st : put_histogram(columns, out);
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
        st = dp_buf_format(out, "%s: %s read in %.1f s\n", t->name,
                           dp_format_size(read, t->read_bytes), (double)t->busy_ns / 1e9);
        if (!st)
            st = put_times(&t->times, out);
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

/* Rows that hold pages; NULL: no memory, which json_pack takes for its own. */
static json_t *histogram_json(const dp_page_times *times)
{
    const dp_latency *columns[TIMES];
    json_t *rows = json_array();
    bool is_in = rows != NULL;

    columns_of(columns, times);
    for (uint32_t r = 0; r < HISTOGRAM_ROWS && is_in; r++) {
        json_int_t counts[TIMES], sum = 0;
        for (int c = 0; c < TIMES; c++)
            sum += counts[c] = (json_int_t)histogram_at(columns[c], r);
        if (sum)
            is_in = push(rows,
                         json_pack("{s:f, s:I, s:I, s:I}", "ms", histogram_ms(r), time_names[0],
                                   counts[0], time_names[1], counts[1], time_names[2], counts[2]));
    }
    if (!is_in)
        json_decref(rows);
    return is_in ? rows : NULL;
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
        const dp_latency *d = &t->times.demand;
        is_in =
            push(tiers, json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "tier", t->name,
                                  "loads", (json_int_t)dp_latency_count(d), "read_bytes",
                                  (json_int_t)t->read_bytes, "busy_s", (double)t->busy_ns / 1e9,
                                  "page_ms_p50", (double)dp_latency_quantile(d, 0.5) / NS_A_MS,
                                  "page_ms_p90", (double)dp_latency_quantile(d, 0.9) / NS_A_MS,
                                  "page_ms_p99", (double)dp_latency_quantile(d, 0.99) / NS_A_MS,
                                  "page_ms_max", (double)d->max_ns / NS_A_MS, "histogram",
                                  histogram_json(&t->times)));
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
