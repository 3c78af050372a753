/* vpeer.h - one simulated peer: it executes what its picker decides. vswarm.c has the rest.
 *
 * Windows  The picker sees a file of a few windows, and an expert that is wanted takes one of
 *          them for that time: have bits are a few bytes a neighbour and not those of a model.
 *
 * Judging  Who wrote which bytes of a piece is kept here as well, apart from the picker's own
 *          parts, and is what a hash would find out.
 */
#ifndef DP_SIM_VPEER_H
#define DP_SIM_VPEER_H

#include "base/rng.h"
#include "swarm/picker.h"
#include "vcache.h"
#include "vnet.h"
#include "vswarm.h"

#define VPEER_WINDOWS    8   /* experts under way at a time */
#define VPEER_PIECES_MAX 192 /* of an expert, gaps between its runs and padding included */
#define VPEER_BITS       (VPEER_WINDOWS * VPEER_PIECES_MAX / 8)
#define VPEER_SPANS_MAX  16
#define VPEER_ASKS_MAX   16 /* as many as the pager has connections */
#define VPEER_WARM_MAX   256

typedef enum vpeer_kind {
    VPEER_GOOD,
    VPEER_SLOW,
    VPEER_FREELOADER,
    VPEER_LIAR,
    VPEER_STALLER,
    VPEER_ORIGIN
} vpeer_kind;

enum vtimer { VTIMER_WANT, VTIMER_WAKE, VTIMER_CHURN, VTIMER_REFILL, VTIMER_FORGET };

typedef struct vneighbour {
    uint32_t peer, id;
    uint32_t bad_pieces;
    uint8_t have[VPEER_BITS];
} vneighbour;

typedef struct vconnection {
    uint32_t peer;
    bool is_open, is_busy;
    uint64_t used_ns;
} vconnection;

/* Bytes of a piece by who sent them: from the span before up to `end`. */
typedef struct vspan {
    uint32_t end, peer;
} vspan;

typedef struct vpiece {
    dp_picker_want want;
    vspan spans[VPEER_SPANS_MAX];
    uint32_t span_count;
} vpiece;

typedef struct vpage {
    bool is_used, is_failed;
    dp_status status; /* the first failure */
    uint32_t expert, left;
    uint32_t asks; /* under way for the window, of earlier pages too */
    uint64_t begin_ns;
    double floor_ms;
    vpiece *pieces; /* [window_pieces] */
} vpage;

typedef struct vpeer {
    vpeer_kind kind;
    uint32_t index;
    bool is_online, left_silently;
    vcache cache;
    dp_picker *picker;      /* NULL: away */
    vneighbour *neighbours; /* [config->neighbours + 1] */
    uint32_t neighbour_count;
    uint32_t *peer_of_id, id_count; /* endpoints that ever were */
    bool *is_ban_seen;              /* [id_count] */
    uint32_t *liar_pieces;          /* [id_count] */
    vconnection connections[VPEER_WARM_MAX];
    vpage pages[VPEER_WINDOWS];
    uint64_t wake_ns; /* of the earliest timer under way; UINT64_MAX: none */
} vpeer;

typedef struct vflow {
    dp_picker_ask *ask; /* NULL: no request of this name is under way */
    uint32_t client, server, connection, window;
    uint64_t asked_ns;
    bool is_cold;
} vflow;

typedef struct vworld {
    const vswarm_config *config;
    vnet *net;
    vnet_host *hosts; /* [peer_count] */
    vpeer *peers;     /* [peer_count]: the origin is the last one, if there is one */
    uint32_t peer_count, expert_count;
    uint32_t run_pieces, window_pieces; /* of a third of an expert; of a window */
    dp_layout_file file;
    dp_layout layout;
    vflow *flows; /* by their names */
    uint32_t flow_capacity;
    dp_rng rng;
    double *popularity;       /* [experts] cumulative */
    uint32_t *experts;        /* [layers][experts] by rank */
    double *ms;               /* of whole pages, from warm_up_s on */
    double *floor_ms, *ratio; /* its floor; ms of the floor */
    size_t ms_count, ms_capacity;
    vswarm_result result;
    uint64_t bytes, wasted_bytes, origin_bytes;
} vworld;

double vworld_now_s(const vworld *w);
bool vworld_counts(const vworld *w); /* past the warm-up */

bool vpeer_go_online(vworld *w, vpeer *p); /* false: no memory */
void vpeer_go_offline(vworld *w, vpeer *p);
bool vpeer_meet(vworld *w, vpeer *p, uint32_t other); /* false: it knows enough, or no memory */
void vpeer_forget(vworld *w, vpeer *p, uint32_t other);
void vpeer_want(vworld *w, vpeer *p, uint32_t expert);

/* Executes what the picker says until it has nothing to say. */
void vpeer_drain(vworld *w, vpeer *p);
/* Something of a request: what it means for its client, whose picker is drained. */
void vpeer_on_flow(vworld *w, const vnet_event *event);
/* The connection of a request broke. */
void vpeer_cut(vworld *w, uint32_t flow);

#endif
