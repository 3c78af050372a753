/* picker_inner.h - what the two halves of the picker share. Seen by picker*.c only.
 *
 * Room     picker.c keeps the books: wants, endpoints, asks and what happens to them.
 *          picker_plan.c decides: who is asked for what waits, and who takes over a tail.
 */
#ifndef DP_SWARM_PICKER_INNER_H
#define DP_SWARM_PICKER_INNER_H

#include "swarm/picker.h"

#define BUCKET_COUNT 4096 /* chains of wants by piece: thousands may wait */

#define CUTS_MAX 4 /* of an endpoint that are remembered */

/* Pieces [first, end) of an answer that broke before it brought them. */
typedef struct cut {
    uint32_t first, end;
} cut;

typedef struct endpoint {
    uint32_t id;
    bool is_used;    /* the slot is */
    bool is_removed; /* and waits for its last ask to end */
    bool is_listed;  /* it says what it has; else it has files or has not */
    uint8_t *have;   /* NULL: everything */

    uint32_t ask_count;
    uint64_t to_come;     /* bytes of its asks */
    uint64_t latency_ns;  /* 0: unknown */
    double bytes_s;       /* 0: unknown */
    uint32_t line_count;  /* connections that were answered on, probably still open */
    uint32_t grown_count; /* of them those that gave whole ranges: their windows have grown */
    uint64_t last_ns;     /* of a whole answer */
    uint64_t busy_ns;     /* since when bytes have been coming; 0: they are not */
    uint64_t busy_bytes;  /* since then */
    uint32_t run_max;     /* pieces: where one is missing more may be; 0: any */
    uint32_t refusals;    /* since it gave a byte */
    cut cuts[CUTS_MAX];   /* that made it rest, and nothing else did since */
    uint32_t cut_count;
    uint32_t fail_level; /* doublings of its next rest: failures up, whole answers down */
    uint64_t failed_ns, backoff_ns; /* backs off until then ... */
    uint64_t retry_ns;              /* ... and the server said not before */
    uint64_t banned_ns;

    uint64_t bytes;
    uint32_t pieces, failures, stalls, bad_pieces;
} endpoint;

typedef struct want_list {
    dp_picker_want *first, *last;
    uint64_t bytes; /* not yet there */
} want_list;

struct dp_picker {
    dp_picker_config config;
    endpoint *endpoints;   /* [endpoints_max] */
    uint32_t endpoint_end; /* slots from here on were never used */
    uint32_t next_id;
    uint32_t have_size;

    dp_picker_ask *asks;           /* [asks_max] */
    uint32_t ask_count, low_count; /* low: not of demand */

    dp_picker_want *buckets[BUCKET_COUNT];
    want_list waiting[DP_PICKER_CLASSES], asked, ending;
    uint64_t deadline_ns; /* no want has an earlier one */
    uint64_t now_ns;      /* the latest that was said */
    bool is_unsure;       /* somebody lost pieces: wants may have no holder any more */
    bool has_news;        /* since the plan was last made */
    uint64_t plan_ns;     /* when it is to be made again */
    double guess_bytes_s; /* of who was not measured yet */
    double guess_latency_s;
    dp_picker_stats stats;
};

/* ---- picker.c ---- */

bool dp_picker_has(const endpoint *e, uint32_t piece);
/* Whether it neither is banned nor was removed. */
bool dp_picker_is_good(const endpoint *e, uint64_t now_ns);
/* False: it was banned already, and is for longer now. */
bool dp_picker_ban_endpoint(dp_picker *p, endpoint *e, uint64_t now_ns);
void dp_picker_free_removed(endpoint *e); /* if it was removed and its last ask has ended */
void dp_picker_set_state(dp_picker *p, dp_picker_want *want, dp_picker_state state, bool is_first);
/* Asks changed: whether a want waits depends on them alone. */
void dp_picker_settle(dp_picker *p, dp_picker_want *want);
/* What is there of it is worth nothing. */
void dp_picker_start_anew(dp_picker *p, dp_picker_want *want);
/* `size` bytes less are to come for it. */
void dp_picker_count_bytes(dp_picker *p, const dp_picker_want *want, uint32_t size);

/* ---- picker_asks.c ---- */

/* The piece that the next byte of an ask belongs to, and where in it. */
uint32_t dp_picker_at(const dp_picker *p, const dp_picker_ask *ask, uint32_t *offset);
/* Live asks that will still give `piece` from `filled` on. */
uint32_t dp_picker_live(const dp_picker *p, uint32_t piece, uint32_t filled);
/* After an ask ended, stalled or went on: settles its pieces from the next byte on. */
void dp_picker_settle_rest(dp_picker *p, const dp_picker_ask *ask);
void dp_picker_note_latency(endpoint *e, uint64_t latency_ns); /* 0: not measured */
void dp_picker_back_off(endpoint *e, uint64_t retry_ns, uint64_t now_ns);
/* What it has changed: answers that broke at what it lost were refusals. */
void dp_picker_forgive_cuts(endpoint *e);
/* A free ask is there. All `count` pieces are wanted, of one file. */
dp_picker_ask *dp_picker_ask_begin(dp_picker *p, endpoint *e, dp_picker_want *first, uint32_t count,
                                   uint32_t class_, bool is_hedge);

/* ---- picker_plan.c ---- */

/* An ask that is to be made now, or NULL. */
dp_picker_ask *dp_picker_plan(dp_picker *p);
/* Bytes/s that the ask is likely to go on with; above 0. */
double dp_picker_ask_rate(const dp_picker *p, const dp_picker_ask *ask);

#endif
