/* source_swarm_impl.h - what reads (source_swarm.c) and fetches (source_fetch.c) share.
 *
 * States   of a fetch:
 *
 *          FREE --start--> KEPT (queued for, or with, a worker) --not here--> ASKED
 *            '--start--> ASKED (a job of the supply) --nobody has it--> PARKED --again--> ASKED
 *          any of them --came--> GIVING --copied--> FREE;   --failed or given up--> FREE
 *
 *          A fetch that nobody wants any more but that somebody still writes to is lost: out
 *          of the table, it ends when the writer does.
 */
#ifndef DP_SWARM_SOURCE_SWARM_IMPL_H
#define DP_SWARM_SOURCE_SWARM_IMPL_H

#include "base/list.h"
#include "base/thread.h"
#include "swarm/source_swarm.h"

typedef enum fetch_state {
    FETCH_FREE,
    FETCH_KEPT,
    FETCH_ASKED,
    FETCH_PARKED,
    FETCH_GIVING
} fetch_state;

typedef struct swarm_source swarm_source;
typedef struct fetch fetch;

/* That a read wants a piece. */
typedef struct wait {
    dp_link of_fetch, of_read;
    dp_source_read *read;
    fetch *fetch;
} wait;

struct fetch {
    dp_pager_job job; /* piece and out are used in every state */
    swarm_source *source;
    dp_link link; /* free, or queued for a worker, or parked */
    fetch *next;  /* in its bucket of the table */
    dp_link waits;
    dp_source_read *owner; /* whose room job.out lies in; NULL: it is `bounce` */
    uint8_t *bounce;
    fetch_state state;
    uint32_t size;
    uint32_t pins;    /* ended reads that have yet to tell its error */
    bool is_demand;   /* a demand wants it */
    bool is_in_table; /* (1) */
    bool is_with_worker;
    bool is_wanted;  /* of the slower ones */
    bool is_counted; /* among the prefetches' */
    uint64_t deadline_ns, parked_ns;
    dp_error error;
};

/* The source's part of a read. */
typedef struct read_state {
    dp_link link; /* waiting, running or ended */
    dp_link waits;
    fetch *failed;      /* pinned: its error is the read's */
    uint64_t start_ns;  /* of the demand */
    uint32_t file;      /* of the layout */
    uint32_t next, end; /* pieces not yet begun */
    uint8_t class_;     /* dp_pager_class */
    bool is_canceled, is_ended;
    bool is_remote; /* others gave a part */
} read_state;

_Static_assert(sizeof(read_state) <= sizeof((dp_source_read){ 0 })._source, "fits its room");

#define TABLE_SIZE     512 /* a power of two above the fetches */
#define TIMES_KEPT     1024
#define CLASSES        2 /* demand, prefetch */
#define PREFETCH_SHARE 2

struct swarm_source {
    dp_source base;
    const dp_layout *layout;
    dp_supply supply;
    const dp_clock *clock;
    uint64_t wait_ns;
    uint32_t part_count;
    uint32_t *files;       /* [part_count] */
    dp_source_part *parts; /* [part_count] */
    uint32_t bounce_max;

    dp_mutex lock; /* before the supply's own; guards what follows */
    dp_cond work;  /* for workers: a kept piece, an ended read, the end */
    dp_cond quiet; /* a read or a fetch ended */
    dp_thread threads[DP_SOURCE_SWARM_WORKERS];
    uint32_t thread_count;
    bool is_stopping, is_over; /* no new reads; workers end */

    dp_link waiting[CLASSES]; /* reads with pieces not yet begun, in order */
    dp_link running;          /* reads with all pieces begun */
    dp_link ended;            /* `done` has yet to run */
    uint64_t live;            /* reads whose `done` has not returned */

    fetch *fetches; /* [DP_SOURCE_SWARM_FETCHES] */
    wait *waits;    /* [DP_SOURCE_SWARM_WAITS] */
    dp_link free_fetches, free_waits;
    uint32_t busy, busy_prefetches;
    fetch *table[TABLE_SIZE];
    dp_link kept[CLASSES]; /* fetches for workers */
    dp_link parked;

    uint8_t **bounces; /* [bounce_max] free ones first */
    uint32_t bounce_free, bounce_made, bounce_prefetches;

    dp_pager_job **batch; /* [DP_SOURCE_SWARM_FETCHES] begun, not submitted yet */
    uint32_t batch_count;

    dp_source_swarm_stats stats;
    dp_source_counts counts;
    float times_ms[TIMES_KEPT];
    uint64_t time_count;
};

static inline swarm_source *swarm_of(dp_source *s)
{
    return DP_LISTED(s, swarm_source, base);
}

static inline read_state *state_of(dp_source_read *read)
{
    return (read_state *)(void *)read->_source;
}

static inline dp_source_read *read_of(dp_link *link)
{
    return DP_LISTED(DP_LISTED(link, read_state, link), dp_source_read, _source);
}

/* Fetches. All with the lock held. */
dp_status dp_fetches_open(swarm_source *s, dp_error *err);
void dp_fetches_close(swarm_source *s);
/* The read wants the piece: joins its fetch or begins one. False: a pool is empty. */
bool dp_fetch_begin_locked(swarm_source *s, dp_source_read *read, uint32_t piece);
void dp_fetch_submit_locked(swarm_source *s);          /* what was begun goes out together */
void dp_fetch_raise_locked(swarm_source *s, fetch *f); /* a demand wants it now */
/* The read gives up its pieces; what still writes into its room stays among its waits. */
void dp_fetch_abandon_locked(swarm_source *s, dp_source_read *read);
void dp_fetch_unpin_locked(swarm_source *s, fetch *f);

/* Threads' bodies and callbacks: no lock held. */
void dp_fetch_work(void *source);

/* Reads, for fetches. With the lock held. */
void dp_read_settle_locked(swarm_source *s, dp_source_read *read); /* lists it as ended if so */
void dp_read_pump_locked(swarm_source *s);                         /* begins what the pools allow */
void dp_read_finish_ended(swarm_source *s);                        /* no lock held; runs `done`s */

#endif
