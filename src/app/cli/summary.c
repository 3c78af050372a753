#include "app/cli/summary.h"

#include <stdio.h>
#include "app/cli/json_text.h"
#include "base/base.h"
#include "base/str.h"

#define NS_A_SECOND 1.0e9
#define NS_A_MS     1.0e6

/* Resident memory may pass the budget by code and libraries: 2 %, at least 32 MiB. */
static uint64_t allowance_bytes(uint64_t budget_bytes)
{
    return DP_MAX(budget_bytes / 50, 32 * DP_MIB);
}

static double rate(uint64_t count, uint64_t ns)
{
    return ns ? (double)count * NS_A_SECOND / (double)ns : 0;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* Three significant digits where that says more: 8.31, 95.3, 812. */
static const char *format_rate(char out[16], double value)
{
    snprintf(out, 16, value < 10 ? "%.2f" : value < 100 ? "%.1f" : "%.0f", value);
    return out;
}

/* Experts when the model has some, else the pages every token needs. */
static void format_hits(char out[64], const dp_stats *stats)
{
    uint64_t experts = stats->expert_hits + stats->expert_misses;
    uint64_t always = stats->always_hits + stats->always_misses;

    if (experts)
        snprintf(out, 64, "experts %.1f%% of %llu hit", percent(stats->expert_hits, experts),
                 (unsigned long long)experts);
    else if (stats->always_misses)
        snprintf(out, 64, "pages %.1f%% of %llu hit", percent(stats->always_hits, always),
                 (unsigned long long)always);
    else
        snprintf(out, 64, "all weights held");
}

void dp_summary_format(char out[DP_SUMMARY_LINE_MAX], const dp_stats *stats)
{
    char prompt_rate[16], decode_rate[16], peak[16], budget[16], extra[16], disk[16], swarm[16];
    char hits[64], from_swarm[40] = "", drafts[80] = "";

    format_hits(hits, stats);
    if (stats->swarm_read_bytes)
        snprintf(from_swarm, sizeof from_swarm, " + %s from peers",
                 dp_format_size(swarm, stats->swarm_read_bytes));
    if (stats->draft_tokens)
        snprintf(drafts, sizeof drafts, " | drafts %llu of %llu right, %llu steps saved",
                 (unsigned long long)stats->draft_accepted, (unsigned long long)stats->draft_tokens,
                 (unsigned long long)stats->draft_accepted);
    snprintf(out, DP_SUMMARY_LINE_MAX,
             "prompt %llu tok %s tok/s, decode %llu tok %s tok/s, ttft %.0f ms"
             "%s | peak %s of %s budget (+%s) | %s, read %s%s | page p50 %.1f ms p99 %.1f ms | %s",
             (unsigned long long)stats->prompt_tokens,
             format_rate(prompt_rate, rate(stats->prompt_tokens, stats->prompt_ns)),
             (unsigned long long)stats->decode_tokens,
             format_rate(decode_rate, rate(stats->decode_tokens, stats->decode_ns)),
             (double)stats->ttft_ns / NS_A_MS, drafts, dp_format_size(peak, stats->peak_bytes),
             dp_format_size(budget, stats->budget_bytes),
             dp_format_size(extra, allowance_bytes(stats->budget_bytes)), hits,
             dp_format_size(disk, stats->disk_read_bytes), from_swarm,
             (double)stats->page_p50_ns / NS_A_MS, (double)stats->page_p99_ns / NS_A_MS,
             stats->cache_state);
}

void dp_summary_print(const dp_stats *stats)
{
    char line[DP_SUMMARY_LINE_MAX];

    dp_summary_format(line, stats);
    fprintf(stderr, "doppler: %s\n", line);
}

static bool add_times(json_t *object, const dp_stats *stats)
{
    const struct {
        const char *key;
        double value;
    } rows[] = {
        { "prefill_tok_s", rate(stats->prompt_tokens, stats->prompt_ns) },
        { "decode_tok_s", rate(stats->decode_tokens, stats->decode_ns) },
        { "ttft_ms", (double)stats->ttft_ns / NS_A_MS },
        { "prefill_ms", (double)stats->prompt_ns / NS_A_MS },
        { "decode_ms", (double)stats->decode_ns / NS_A_MS },
        { "wait_ms", (double)stats->wait_ns / NS_A_MS },
        { "page_ms_p50", (double)stats->page_p50_ns / NS_A_MS },
        { "page_ms_p90", (double)stats->page_p90_ns / NS_A_MS },
        { "page_ms_p99", (double)stats->page_p99_ns / NS_A_MS },
        { "page_ms_max", (double)stats->page_max_ns / NS_A_MS },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        if (json_object_set_new(object, rows[i].key, dp_json_number(rows[i].value)))
            return false;
    return true;
}

static bool add_counts(json_t *object, const dp_stats *stats)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        { "prompt_tokens", stats->prompt_tokens },
        { "decode_tokens", stats->decode_tokens },
        { "draft_tokens", stats->draft_tokens },
        { "draft_accepted", stats->draft_accepted },
        { "draft_steps", stats->draft_steps },
        { "model_bytes", stats->model_bytes },
        { "budget_bytes", stats->budget_bytes },
        { "budget_now_bytes", stats->budget_now_bytes },
        { "budget_least_bytes", stats->budget_least_bytes },
        { "reserve_bytes", stats->reserve_bytes },
        { "peak_bytes", stats->peak_bytes },
        { "tables_bytes", stats->tables_bytes },
        { "kv_bytes", stats->kv_bytes },
        { "buffer_bytes", stats->buffer_bytes },
        { "slot_budget_bytes", stats->slot_budget_bytes },
        { "slot_bytes", stats->slot_bytes },
        { "pinned_bytes", stats->pinned_bytes },
        { "expert_hits", stats->expert_hits },
        { "expert_misses", stats->expert_misses },
        { "expert_prefetch_hits", stats->expert_prefetch_hits },
        { "always_hits", stats->always_hits },
        { "always_misses", stats->always_misses },
        { "disk_read_bytes", stats->disk_read_bytes },
        { "swarm_read_bytes", stats->swarm_read_bytes },
        { "prefetch_useful_bytes", stats->prefetch_useful_bytes },
        { "prefetch_wasted_bytes", stats->prefetch_wasted_bytes },
        { "evictions", stats->evictions },
        { "threads", stats->threads },
        { "io_depth", stats->io_depth },
        { "io_request_bytes", stats->io_request_bytes },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        if (json_object_set_new(object, rows[i].key, json_integer((json_int_t)rows[i].value)))
            return false;
    return true;
}

bool dp_summary_add(json_t *object, const dp_stats *stats)
{
    return add_times(object, stats) && add_counts(object, stats) &&
           !json_object_set_new(object, "kernels", json_string(stats->kernels)) &&
           !json_object_set_new(object, "kv_type", json_string(stats->kv_type)) &&
           !json_object_set_new(object, "source", json_string(stats->source)) &&
           !json_object_set_new(object, "io_is_probed", json_boolean(stats->io_is_probed)) &&
           !json_object_set_new(object, "cache_state", json_string(stats->cache_state));
}
