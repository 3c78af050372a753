/* stats.h - counters a reader can poll at any time. */
#ifndef DOPPLER_STATS_H
#define DOPPLER_STATS_H

#include <stdbool.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DP_LATENCY_BUCKETS 128

/* Times, counted: bucket i holds those from 2^(i / 4) to 2^((i + 1) / 4) microseconds, the
 * first and the last also what is beyond. */
typedef struct dp_latency {
    uint64_t buckets[DP_LATENCY_BUCKETS];
    uint64_t max_ns;
} dp_latency;

/* The q-quantile (0..1) in ns, within 9 %; 0 when there are none. */
DP_API uint64_t dp_latency_quantile(const dp_latency *latency, double q);
DP_API uint64_t dp_latency_count(const dp_latency *latency);

/* How long experts, or the pages of a dense model, took to come: from the moment somebody wanted one to its arrival where
 * nothing of it was there (demand), or a prefetch was under way (covered); and from the
 * beginning of a prefetch to its end where nobody had wanted it by then (ahead). Pages that are
 * wanted together wait for each other: their turn, of demand and covered ones, begins when the
 * one before it that somebody waited for had come. */
typedef struct dp_page_times {
    dp_latency demand, covered, ahead, turn;
} dp_page_times;

typedef struct dp_stats {
    uint64_t model_bytes;                          /* weights in the file */
    uint64_t budget_bytes;                         /* --ram as given or chosen, or set since */
    uint64_t budget_now_bytes, budget_least_bytes; /* what the governor left of it, now and at
                                                      the worst: memory was short */
    uint64_t reserve_bytes; /* left to the system when the budget is "auto", else 0 */
    uint64_t peak_bytes;    /* most resident memory of the process so far */
    uint64_t tables_bytes, kv_bytes, buffer_bytes; /* parts of the budget ... */
    uint64_t slot_budget_bytes;                    /* ... and what is left for weights */
    uint64_t slot_bytes;                           /* in use now */
    uint64_t pinned_bytes;

    uint64_t prompt_tokens; /* evaluated as prompt: more than one a session and step */
    uint64_t prompt_ns;
    uint64_t decode_tokens; /* evaluated one a session and step, or drafted right */
    uint64_t decode_ns;
    uint64_t draft_tokens, draft_accepted; /* guessed; of these right: each saved a step */
    uint64_t draft_steps;                  /* that evaluated guesses */
    uint64_t ttft_ns; /* first append to first logits of the last session asked; 0: none yet */

    uint64_t expert_hits, expert_misses, expert_prefetch_hits;
    uint64_t always_hits, always_misses; /* pages every token needs that could not all be pinned */
    uint64_t disk_read_bytes, swarm_read_bytes;
    uint64_t prefetch_useful_bytes, prefetch_wasted_bytes;
    uint64_t evictions;
    uint64_t page_p50_ns, page_p90_ns, page_p99_ns, page_max_ns; /* of pages.demand */
    dp_page_times pages;
    uint64_t page_bytes_max; /* the largest page that is not pinned: an expert; 0: all are */
    uint64_t wait_ns;        /* the step thread waited for pages */
    uint64_t read_busy_ns;   /* something was being read */

    uint32_t threads;
    char kernels[24];  /* "x86.avx512vbmi" */
    char kv_type[8];   /* of keys and values: "f16", "f32" */
    char source[48];   /* "file (io_uring, direct)" */
    uint32_t io_depth; /* reads with the system at a time, of at most ... */
    uint64_t io_request_bytes;
    bool io_is_probed;   /* these follow a probe of the drive (doppler doctor), where not given */
    char cache_state[8]; /* "cold": pages were read while it ran; "warm": nothing was */
} dp_stats;

#ifdef __cplusplus
}
#endif
#endif
