/* kv.h - keys and values of sequences, in blocks of tokens.
 *
 * Room     A pool of equal rows; a row holds DP_KV_BLOCK_TOKENS positions of all
 *          layers, each layer's part at a fixed offset (device.h says how a part
 *          is laid out), all of one element type, F16 or F32. A sequence is a table of rows that grows and is cut.
 *
 * Memory   The pool is promised whole and touched row by row.
 *
 * Threads  The step thread.
 */
#ifndef DP_MODEL_KV_H
#define DP_MODEL_KV_H

#include "device/device.h"
#include "format/hparams.h"

typedef struct dp_kv dp_kv;

/* Bytes one row takes for a model of these dimensions. */
uint64_t dp_kv_row_bytes(const dp_hparams *hp, dp_dtype type);
/* Rows a sequence of `tokens` positions needs. */
uint32_t dp_kv_rows_for(uint32_t tokens);

dp_status dp_kv_open(dp_kv **out, dp_device *device, const dp_hparams *hp, dp_dtype type,
                     uint32_t row_count, dp_error *err);
void dp_kv_close(dp_kv *kv); /* after its sequences */

typedef struct dp_kv_seq {
    dp_kv *kv;
    uint8_t **rows; /* [row_count] in use of [row_max] */
    uint32_t row_count;
    uint32_t row_max;
} dp_kv_seq;

/* For up to tokens_max positions. DP_E_NOMEM. */
dp_status dp_kv_seq_init(dp_kv_seq *seq, dp_kv *kv, uint32_t tokens_max, dp_error *err);
void dp_kv_seq_deinit(dp_kv_seq *seq); /* gives its rows back; zeroed is fine */

/* Makes room for positions 0..tokens-1. DP_E_BUDGET when the pool is used up. */
dp_status dp_kv_seq_reserve(dp_kv_seq *seq, uint32_t tokens, dp_error *err);
/* Gives back rows that hold no position below `tokens`. */
void dp_kv_seq_cut(dp_kv_seq *seq, uint32_t tokens);

/* What the device needs to find a layer's blocks. */
dp_kv_layer dp_kv_seq_layer(const dp_kv_seq *seq, uint32_t layer);

#endif
