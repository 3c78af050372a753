/* picker.h - which contiguous run of pieces is asked of which endpoint, and when anew.
 *
 * Room     Pure decisions: no clock, no input or output, no threads; time and events are
 *          parameters. Who executes them (pager.c, or a simulation) starts the requests
 *          that dp_picker_next gives and says what came of them.
 *
 * Words    A want is one piece that somebody waits for. An ask is one range request: the
 *          bytes of consecutive wanted pieces of one file, of one endpoint.
 *
 * Filling  Of a want the bytes [0, filled) are there. Every ask for it begins where it was
 *          filled at that moment and goes forward, so whoever is first at `filled` is used
 *          and the same bytes from anybody else are dropped: two answers never write the
 *          same place, and an answer that comes late is still used if it is first. A full
 *          want is never written again.
 *
 * Sizes    What waits is spread so that all who give it would finish together: endpoint e,
 *          with o_e bytes to come at rate r_e and latency l_e, gets (t - l_e) r_e - o_e bytes,
 *          t such that the shares add up. An ask is never cut short: stealing from an
 *          answer that is too slow asks somebody else for its last pieces, and the answer goes
 *          on. Prefetch and fill are asked in small ranges so that demand finds a free line.
 *
 * Refusals A refusal is about pieces, a failure is about the endpoint. A 404 means that the
 *          first piece of the range is not there, an answer that is shorter than the range
 *          that the next one is not; an answer that breaks where the endpoint says it lost a piece
 *          is a refusal that came too late for a status. None of these makes it rest, unless
 *          it refuses DP_PICKER_REFUSALS_MAX times and gives nothing in between.
 *
 * Faults   Nothing for the stall limit: what is left is asked of others, the endpoint backs
 *          off (500 ms, doubled each time up to a minute; a whole answer takes one back). An
 *          ask that stays silent, or from which nothing is wanted any more and that would
 *          take long, is dropped. A bad piece from one endpoint bans it. From several,
 *          the piece is asked anew of one endpoint at a time; the parts that differ from the
 *          right bytes tell the liar.
 *
 * Invariants
 *   (1) What one live ask has is asked of a second endpoint only as a hedge, and of no third.
 *       (An ask that was silent and goes on is live again.)
 *   (2) Asks of one endpoint <= asks_per_endpoint, of all <= asks_max, stalled ones included.
 *   (3) Nothing is asked of an endpoint that lacks the piece, is banned, or backs off. (Demand
 *       that has no other source waits for 2 s at most, or as long as the server said.)
 *   (4) filled moves forward only. It begins anew when a piece was bad, when its single source
 *       fails, and when one endpoint more than DP_PICKER_PARTS_MAX would add to it.
 *
 * Threads  One at a time.
 */
#ifndef DP_SWARM_PICKER_H
#define DP_SWARM_PICKER_H

#include "swarm/layout.h"

#define DP_PICKER_ENDPOINTS_MAX 4096
#define DP_PICKER_ASKS_MAX      256
#define DP_PICKER_PARTS_MAX     4 /* endpoints that one piece may come from */

#define DP_PICKER_STALL_NS_MIN   ((uint64_t)150000000)  /* or 3 latencies */
#define DP_PICKER_STALL_NS_FIRST ((uint64_t)500000000)  /* while no latency is known */
#define DP_PICKER_TAIL_NS        ((uint64_t)150000000)  /* finishing later than this is too slow */
#define DP_PICKER_SILENT_NS      ((uint64_t)5000000000) /* then a silent ask is dropped */
#define DP_PICKER_BACKOFF_NS     ((uint64_t)500000000)
#define DP_PICKER_BACKOFF_NS_MAX ((uint64_t)60000000000)
#define DP_PICKER_REFUSALS_MAX   32                     /* in a row, then they count as a failure */
#define DP_PICKER_PATIENCE_NS    ((uint64_t)2000000000) /* with the only source */
#define DP_PICKER_BAN_NS         ((uint64_t)600000000000)
#define DP_PICKER_ASK_MAX        ((uint64_t)64 << 20) /* bytes of an ask of demand */
#define DP_PICKER_ASK_MAX_LOW    ((uint64_t)4 << 20)  /* of prefetch and fill, one piece at least */

typedef struct dp_picker dp_picker;

typedef struct dp_picker_config {
    const dp_layout *layout;    /* borrowed while open */
    uint32_t endpoints_max;     /* at most DP_PICKER_ENDPOINTS_MAX */
    uint32_t asks_max;          /* at most DP_PICKER_ASKS_MAX; half of them for low classes */
    uint32_t asks_per_endpoint; /* 2: one, and a spare that hides the latency */
} dp_picker_config;

/* DP_E_INVALID, DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_picker_open(dp_picker **out, const dp_picker_config *config, dp_error *err);
void dp_picker_close(dp_picker *p); /* wants and asks are forgotten */

/* ---- endpoints ------------------------------------------------------------------------ */

/* have: piece bits, BitTorrent's order, copied; NULL: everything, or of each file all or
 * nothing, as web seeds have them. *id: counted up, never used
 * again. DP_E_LIMIT, DP_E_NOMEM. */
dp_status dp_picker_add(dp_picker *p, const uint8_t *have, uint32_t *id, dp_error *err);
/* NULL: everything. False: no memory for the bits; it then has what it had. What broke where
 * it says now that it has nothing is forgiven. */
bool dp_picker_set_have(dp_picker *p, uint32_t id, const uint8_t *have);
/* Nothing more is asked of it; its asks are given back by dp_picker_next as DROP. */
void dp_picker_remove(dp_picker *p, uint32_t id);
/* A connection to it was made and is kept, and so fast did it answer; 0: not measured. */
void dp_picker_warmed(dp_picker *p, uint32_t id, uint64_t latency_ns, uint64_t now_ns);
void dp_picker_ban(dp_picker *p, uint32_t id, uint64_t now_ns); /* as a liar */

typedef struct dp_picker_endpoint {
    uint32_t id;
    uint64_t bytes; /* that were used */
    double bytes_s; /* 0: not yet measured */
    uint64_t latency_ns;
    uint64_t outstanding_bytes;
    uint32_t asks, pieces, failures, stalls, bad_pieces;
    uint64_t backoff_until_ns, banned_until_ns; /* 0: not */
} dp_picker_endpoint;

/* At most `max` of them; how many there are. */
size_t dp_picker_endpoints(const dp_picker *p, dp_picker_endpoint *out, size_t max);

/* ---- wants ------------------------------------------------------------------------------- */

enum { DP_PICKER_DEMAND, DP_PICKER_PREFETCH, DP_PICKER_FILL, DP_PICKER_CLASSES };

/* The bytes of a piece from where the part before ends, up to `end`, came from one endpoint. */
typedef struct dp_picker_part {
    uint32_t endpoint, end;
} dp_picker_part;

typedef enum dp_picker_state {
    DP_PICKER_OUT,     /* the picker does not know it */
    DP_PICKER_WAITING, /* no live ask has it */
    DP_PICKER_ASKED,
    DP_PICKER_FULL, /* all bytes came: the executor judges them */
} dp_picker_state;

typedef struct dp_picker_want {
    /* the caller's, unchanged while the picker has it */
    uint32_t piece;
    uint64_t deadline_ns;
    uint32_t class_; /* as it was added; dp_picker_promote changes it */
    /* to read */
    dp_picker_state state;
    uint32_t size, filled;
    uint32_t part_count;
    dp_picker_part parts[DP_PICKER_PARTS_MAX];
    /* A mixture that was bad: whose parts, and the digest of each (the executor's). */
    uint32_t suspect_count;
    dp_picker_part suspects[DP_PICKER_PARTS_MAX];
    uint64_t digests[DP_PICKER_PARTS_MAX];
    /* the picker's */
    bool _is_single;  /* from one endpoint only */
    bool _is_checked; /* somebody has it */
    bool _was_asked;
    dp_status _status;                        /* that it ends with */
    struct dp_picker_want *_next, *_previous; /* of its class and state */
    struct dp_picker_want *_same;             /* bucket of the piece */
} dp_picker_want;

/* False: the piece is wanted already, and nothing was done. The caller zeroed the struct. */
bool dp_picker_want_add(dp_picker *p, dp_picker_want *want);
dp_picker_want *dp_picker_find(dp_picker *p, uint32_t piece); /* NULL: not wanted */
/* To a class that is served earlier; otherwise nothing. */
void dp_picker_promote(dp_picker *p, dp_picker_want *want, uint32_t class_);
/* True: it was never asked for and is OUT. False: dp_picker_next ends it with DP_E_CANCELED, or
 * it is FULL and ends as it would. */
bool dp_picker_cancel(dp_picker *p, dp_picker_want *want);

/* The verdict on a want that is FULL. Right: it is OUT; `digests` (may be NULL without
 * suspects) are those of the suspects' spans in the right bytes, and who differs is banned.
 * Wrong: it waits again; digests are those of want->parts, [part_count]. How many were banned. */
uint32_t dp_picker_right(dp_picker *p, dp_picker_want *want, const uint64_t *digests,
                         uint64_t now_ns);
uint32_t dp_picker_wrong(dp_picker *p, dp_picker_want *want, const uint64_t *digests,
                         uint64_t now_ns);
/* Takes a FULL want out without a verdict. */
void dp_picker_take_out(dp_picker *p, dp_picker_want *want);
/* As dp_picker_cancel of every want, none is taken back: for closing. */
void dp_picker_cancel_all(dp_picker *p);

/* ---- asks ------------------------------------------------------------------------------------ */

typedef struct dp_picker_ask {
    uint32_t endpoint;
    uint32_t file;         /* of the layout */
    uint64_t offset, size; /* in that file; whole pieces, but for the first */
    uint32_t first_piece, piece_count;
    uint32_t class_;
    bool is_hedge; /* part of it is asked of somebody else as well */
    bool is_stalled;
    void *user; /* the executor's */
    /* the picker's */
    bool _is_used, _is_dropped, _is_warm, _is_trickle;
    uint32_t _slot;               /* of the endpoint */
    uint32_t _own_end;            /* pieces from here on are hedged elsewhere */
    uint64_t _got;                /* bytes that arrived */
    uint64_t _answered_ns;        /* 0: not yet */
    uint64_t _last_ns;            /* of a byte, or when it was asked */
    uint64_t _span_ns, _span_got; /* where the measured span of its rate begins */
    double _bytes_s;              /* of the span before; 0: none */
} dp_picker_ask;

typedef enum dp_picker_act_kind {
    DP_PICKER_NOTHING, /* until wake_ns, or until something happens */
    DP_PICKER_ASK,     /* start it; say dp_picker_ended once */
    DP_PICKER_DROP,    /* close its connection, then say dp_picker_ended */
    DP_PICKER_FAIL,    /* `want` is OUT and ends with `status` */
} dp_picker_act_kind;

typedef struct dp_picker_act {
    dp_picker_act_kind kind;
    dp_picker_ask *ask;
    dp_picker_want *want;
    dp_status status; /* DP_E_NOTFOUND: nobody has it; DP_E_TIMEOUT, DP_E_CANCELED */
    uint64_t wake_ns; /* UINT64_MAX: nothing to wait for */
} dp_picker_act;

/* The next thing to do; call until NOTHING. */
dp_picker_act dp_picker_next(dp_picker *p, uint64_t now_ns);

/* The head of the response came; latency_ns without making the connection, 0: not measured. */
void dp_picker_answered(dp_picker *p, dp_picker_ask *ask, uint64_t latency_ns, uint64_t now_ns);

/* The head says that of what was asked only the first `size` bytes come: the rest waits again, and
 * who says what it has does not have the next piece. False, and nothing was done: they do
 * not end with a piece of it, so this is no answer. */
bool dp_picker_shortened(dp_picker *p, dp_picker_ask *ask, uint64_t size);

/* `size` bytes of the body came. How many of them belong together: *want NULL: drop them; else
 * they go to [*offset, ...) of that piece, and if its state is now DP_PICKER_FULL it is the
 * executor's to judge. Call again with the rest. 0: more came than was asked. */
size_t dp_picker_arrived(dp_picker *p, dp_picker_ask *ask, size_t size, uint64_t now_ns,
                         dp_picker_want **want, uint32_t *offset);

typedef enum dp_picker_end {
    DP_PICKER_END_WHOLE,   /* every byte came */
    DP_PICKER_END_CUT,     /* no connection, or it broke */
    DP_PICKER_END_GONE,    /* 404: its first piece is not there; of a web seed: the file */
    DP_PICKER_END_PAST,    /* 416: nor is what follows; of a web seed: the file ends before */
    DP_PICKER_END_BUSY,    /* 503: later */
    DP_PICKER_END_REFUSED, /* anything else that is no answer to the question */
    DP_PICKER_END_DROPPED, /* as dp_picker_next said, or at close: nobody's fault */
} dp_picker_end;

/* The ask is over and the struct is the picker's again. retry_ns: what the server asked for
 * with BUSY, 0: nothing. */
void dp_picker_ended(dp_picker *p, dp_picker_ask *ask, dp_picker_end end, uint64_t retry_ns,
                     uint64_t now_ns);

typedef struct dp_picker_stats {
    uint64_t asks, hedges, stalls, drops, bans;
    uint64_t bytes, wasted_bytes; /* used; came twice, too late or wrong */
    uint64_t pieces, pieces_bad;
} dp_picker_stats;

dp_picker_stats dp_picker_stats_read(const dp_picker *p);

#endif
