/* trace.h - bytes of a trace file <-> what a run wanted of its experts.
 *
 * Room     The format (docs/formats/trace.md): a header with the model's geometry,
 *          then blocks of steps, each with its checksum. Here is the encoder, which
 *          hands out finished blocks, and the parser of whole files.
 *          Where bytes go is the caller's.
 *
 * Invariants
 *   (1) A file cut anywhere reads as the steps of its whole blocks, with is_cut.
 *   (2) What the parser accepts is within the geometry: layers that have experts,
 *       experts that exist, each at most once a demand.
 *   (3) Encoding and parsing agree: the same demands come back.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_TRACE_H
#define DP_TIER_TRACE_H

#include "base/buf.h"
#include "tier/demands.h"

#define DP_TRACE_LAYERS_MAX 4096u
#define DP_TRACE_PAGES_MAX  (1u << 22) /* layers times experts: as many as a tier has */
#define DP_TRACE_BLOCK_MAX  ((size_t)1 << 20)
#define DP_TRACE_BLOCK_GOOD ((size_t)64 << 10) /* a block is handed out from here on */
#define DP_TRACE_FILE_MAX   ((size_t)4 << 30)

typedef struct dp_trace_header {
    uint32_t layer_count, expert_count, expert_used;
    bool has_hits;
    uint64_t model_bytes;       /* weights in the file; 0: not known */
    uint64_t cache_bytes;       /* memory that experts shared when it was recorded; 0: not known */
    const uint64_t *page_bytes; /* [layer_count] of an expert; 0: the layer has none */
} dp_trace_header;

/* ---- writing ---- */

typedef struct dp_trace_encoder {
    dp_trace_header header; /* its page_bytes stay the caller's */
    dp_demands step;        /* of the step that runs */
    uint8_t *hits;          /* [hit_capacity] of the demands, in order */
    size_t hit_count, hit_capacity;
    uint32_t tokens;
    bool starts_text, is_step_open, is_lost; /* lost: memory was short or a step too large */
    dp_buf block;                            /* head and finished steps */
    bool is_taken; /* the block is the caller's to read until the next step ends */
    uint32_t block_steps;
} dp_trace_encoder;

void dp_trace_encoder_init(dp_trace_encoder *encoder, const dp_trace_header *header);
void dp_trace_encoder_deinit(dp_trace_encoder *encoder);

/* Appends the header to out. */
dp_status dp_trace_encode_header(const dp_trace_header *header, dp_buf *out, dp_error *err);
/* Ends the step before and begins one of so many tokens. */
void dp_trace_begin_step(dp_trace_encoder *encoder, uint32_t tokens, bool starts_text);
/* A demand of the step, within the header's geometry. hits may be NULL without has_hits. A
 * step that cannot be kept is left out. */
void dp_trace_demand(dp_trace_encoder *encoder, uint32_t layer, const uint32_t *experts,
                     const uint8_t *hits, uint32_t count);
/* The block, if there is a good one (is_last: any): borrowed until the next call, and
 * the encoder begins another. is_last also ends the step. False: none. */
bool dp_trace_take_block(dp_trace_encoder *encoder, bool is_last, const void **bytes, size_t *size);

/* ---- reading ---- */

typedef struct dp_trace {
    dp_trace_header header; /* page_bytes: ours */
    uint64_t *page_bytes;
    dp_demands demands;
    uint64_t steps, tokens, texts, wants;
    uint64_t hits; /* as recorded, with header.has_hits */
    bool is_cut;   /* the file ends within a block, or a block is damaged: the rest was left */
} dp_trace;

/* name: for sentences. DP_E_CORRUPT, DP_E_UNSUPPORTED (another version), DP_E_LIMIT,
 * DP_E_NOMEM. *out is all zero on failure. */
dp_status dp_trace_parse(dp_trace *out, const char *name, const uint8_t *bytes, size_t size,
                         dp_error *err);
void dp_trace_deinit(dp_trace *trace); /* all zero is fine */

#endif
