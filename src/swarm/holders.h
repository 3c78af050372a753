/* holders.h - which pieces a model's experts lie in: what everybody needs, and who has what.
 *
 * Room     From the description of a model and the layout of its files: the pieces of its
 *          headers, of what every token needs, and of each expert of each layer, stacked in one
 *          tensor ("blk.3.ffn_up_exps.weight") or a tensor of its own ("blk.3.ffn_up.7.weight").
 *
 * Threads  Immutable once made: any.
 */
#ifndef DP_SWARM_HOLDERS_H
#define DP_SWARM_HOLDERS_H

#include "format/gguf.h"
#include "store/store.h"
#include "swarm/layout.h"

#define DP_HOLDERS_LAYERS_MAX  4096
#define DP_HOLDERS_EXPERTS_MAX 65536
#define DP_HOLDERS_RANGES_MAX  ((size_t)1 << 22) /* 256 experts of 1000 layers, 16 ranges each */

typedef struct dp_holders dp_holders;

/* files: [dp_gguf_part_count] of the layout. Nothing is borrowed. DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_holders_open(dp_holders **out, const dp_gguf *gguf, const dp_layout *layout,
                          const uint32_t *files, dp_error *err);
void dp_holders_close(dp_holders *h);

uint32_t dp_holders_layers(const dp_holders *h);  /* 0: a dense model */
uint32_t dp_holders_experts(const dp_holders *h); /* most of any layer */

/* What a piece is for, the most important of all that lies in it. */
dp_piece_class dp_holders_class(const dp_holders *h, uint32_t piece);

/* Adds 1 to counts[layer][expert] for each expert whose pieces are all in `bits`
 * (BitTorrent's order); one of which the model has nothing stays 0. */
void dp_holders_add(const dp_holders *h, const uint8_t *bits, uint32_t *counts);

/* Bytes of the smallest range that a run wants at once: an expert's slice of a matrix, of a
 * dense model its smallest matrix. */
uint64_t dp_holders_slice(const dp_gguf *gguf);

#endif
