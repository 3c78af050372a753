/* vswarm.h - a swarm of simulated nodes around the real decisions.
 *
 * Room     Every peer has a cache of experts and the picker of the product (swarm/picker.h),
 *          and wants experts at random moments, popular ones more often. What a peer gives up
 *          for a new expert says the store's policy (store/evict.h). Requests and answers
 *          travel in vnet.h. Bytes are not simulated, only whose they are: a piece is wrong
 *          if part of it is a liar's.
 *
 * Kinds    Slow ones have a twentieth of the bandwidth. Freeloaders say what they have and answer
 *          503. Liars claim everything and send garbage. Stallers claim everything and never
 *          answer. All of them want experts like the others.
 *
 * Model    An expert is three runs of pieces, as gate, up and down are three tensors of a file,
 *          so at least three ranges are asked for. What a neighbour holds is known a second
 *          late. A peer knows at most `neighbours` others and replaces those that leave.
 *          Half of those that leave do so without a word: their answers just stop.
 *          Hashing takes no time here.
 *
 * Threads  One at a time.
 */
#ifndef DP_SIM_VSWARM_H
#define DP_SIM_VSWARM_H

#include "base/base.h"

typedef struct vswarm_config {
    uint32_t peers, neighbours;
    uint32_t layers, experts; /* of the model; experts: of a layer */
    uint64_t expert_bytes;
    uint32_t piece_size;
    uint32_t copies;  /* of every expert at the start, on different peers */
    uint32_t cache;   /* experts that a peer keeps, those included */
    uint32_t history; /* wants of every peer before the start, for caches as they become */
    double wants_s;   /* of a peer, mean */
    double skew;      /* exponent of Zipf's law over the experts of a layer; 0: even */
    double slow, freeloaders, liars, stallers; /* shares of the peers */
    double session_s, away_s;                  /* means; session_s 0: nobody leaves */
    double origin_bytes_s;                     /* a server that has everything; 0: there is none */
    double warm_up_s, run_s;
    uint32_t warm_connections; /* kept open by a peer */
    uint64_t seed;
} vswarm_config;

typedef struct vswarm_result {
    uint64_t wants, local;                           /* of them found in the own cache */
    uint64_t pages, whole, not_found, timed_out;     /* pages: the others, ended */
    uint64_t skipped;                                /* not begun: too many under way already */
    double ms_p50, ms_p90, ms_p99, ms_max, floor_ms; /* of whole pages; floor: median */
    double ratio_p50, ratio_p99;                     /* of a page's time to its floor */
    double availability;                             /* whole of pages */
    double origin_share, wasted_share;               /* of the bytes that arrived */
    uint64_t bad_pieces, bans, bans_of_honest;
    uint64_t wrong_pages;     /* taken for whole with bytes of a liar in them */
    uint64_t misattributed;   /* full pieces whose parts the picker ascribed wrongly */
    uint64_t liar_pieces_max; /* bad pieces that one peer took from one liar at most */
    uint64_t stalls, hedges;
    double copies_mean; /* at the end, of online peers' experts */
    uint32_t extinct;   /* experts that no peer holds at the end */
    uint64_t events;
    uint64_t digest; /* of everything that happened: the same for a seed */
} vswarm_result;

/* False: no memory or a picker that cannot be made; `why` says so. */
bool vswarm_run(const vswarm_config *config, vswarm_result *out, char why[200]);

#endif
