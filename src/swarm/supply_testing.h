/* supply_testing.h - a supply whose jobs end when the test says, and reads that check what they
 * get. Included by tests only. */
#ifndef DP_SWARM_SUPPLY_TESTING_H
#define DP_SWARM_SUPPLY_TESTING_H

#include <sched.h>
#include <stdatomic.h>

#include "base/list.h"
#include "base/rng.h"
#include "base/thread.h"
#include "swarm/source_swarm.h"
#include "testing/check.h"

#define PIECE      DP_PIECE_SIZE_MIN
#define PIECES_MAX 400
#define JOBS_MAX   512

/* A supply whose jobs end when the test says. */
typedef struct script {
    dp_supply supply;
    dp_layout layout;
    dp_layout_file files[2];
    dp_mutex lock;
    dp_pager_job *jobs[JOBS_MAX]; /* asked and not ended */
    uint32_t job_count, job_total, promoted, batches;
    bool is_kept[PIECES_MAX], is_rotten[PIECES_MAX], is_wanted[PIECES_MAX];
    uint32_t keeps, wants, unwants;
    bool gives_slowly;            /* what `want` says */
    uint32_t late_percent;        /* cancels that come too late */
    bool is_stopped, contradicts; /* contradicts: what is kept is never what it was before */
    dp_rng rng;
} script;

/* What piece `piece` is. */
void fill(const script *p, uint32_t piece, uint8_t *out);
/* Two files: one of `pieces` pieces, the last short, and one of 3 pieces and 5 bytes. */
void script_init(script *p, uint32_t pieces);
/* Ends a job of the script's list: with its bytes, or with an error and rubbish where they
 * would be. False: there is none. */
bool end_job(script *p, uint32_t index, dp_status st);
void end_jobs(script *p, dp_status st); /* all, those that come too */
dp_source *open_source(script *p, const dp_clock *clock);

/* A read of the test. */
typedef struct probe {
    dp_source_read read;
    uint8_t *room; /* [read.size + 1]: a byte of guard */
    _Atomic int ends;
    dp_error error;
} probe;

void probe_submit(probe *r, dp_source *s, uint32_t file, uint64_t offset, uint64_t size,
                  bool is_prefetch);
void probe_free(probe *r);
/* Workers end some reads: gives them time, and sees that it was once. */
void wait_for(probe *r);

#endif
