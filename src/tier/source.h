/* source.h - where the bytes of pages can come from.
 *
 * Room     An interface owned here and implemented below and beside: the model's
 *          own files (source_file.c), a cache, a swarm. The tier asks for ranges
 *          and is called back; it does not know who answers.
 *
 * Reading  source_wait.h reads and waits; source_join.h makes one of two.
 *
 * Threads  submit, promote, cancel: any; they are called under the tier's lock and
 *          wait for nothing. `done` runs on a thread of the source (in close, on
 *          the caller's), never from inside submit, promote or cancel, with no
 *          lock of the source held; it may submit. The source does not touch a
 *          read again once it has called its `done`.
 */
#ifndef DP_TIER_SOURCE_H
#define DP_TIER_SOURCE_H

#include "base/base.h"
#include "doppler/status.h"

typedef struct dp_source dp_source;

/* How a range lies in the memory it is read into: `lead` bytes of slack, the
 * data, and slack up to `room` bytes (sectors, for direct reads). The same range
 * always fits the same way. */
typedef struct dp_source_fit {
    uint32_t lead;
    uint64_t room;
} dp_source_fit;

typedef struct dp_source_read {
    /* the caller fills these and keeps the struct alive until done */
    uint32_t file_index; /* part of a split model */
    uint64_t offset;     /* of the data in that file */
    uint64_t size;
    void *room;       /* [fit.room] bytes: data arrives at room + lead. Aligned to 4096 where
                             fit.room is a multiple of it, else to 64 */
    bool is_prefetch; /* served below every demand read */
    uint64_t due;     /* of prefetches: the lowest is best served first */
    void (*done)(struct dp_source_read *read,
                 const dp_error *error); /* NULL: all bytes are there */
    void *user;
    void *_source[16]; /* the source's own */
} dp_source_read;

/* A file that a source reads from: part of a model. */
typedef struct dp_source_part {
    const char *name; /* a path, or a file's name: for sentences and split numbers; the source's */
    uint64_t size;
} dp_source_part;

/* Data bytes of reads that succeeded so far, by where they came from. */
typedef struct dp_source_counts {
    uint64_t disk_bytes, swarm_bytes;
} dp_source_counts;

typedef struct dp_source_ops {
    dp_source_fit (*fit)(dp_source *s, uint32_t file_index, uint64_t offset, uint64_t size);
    void (*submit)(dp_source *s, dp_source_read *read); /* never fails: errors reach done */
    void (*promote)(dp_source *s,
                    dp_source_read *read); /* somebody waits for it now; harmless if so before */
    /* True: taken back before any byte was asked for, and done never runs. False: done
     * runs, with DP_E_CANCELED soon or as if nothing had been said. */
    bool (*cancel)(dp_source *s, dp_source_read *read);
    void (*close)(dp_source *s); /* every done has run when it returns */
    /* The model's files in order, [*count], immutable; reads name them by their index. */
    const dp_source_part *(*parts)(dp_source *s, uint32_t *count);
    void (*count)(dp_source *s, dp_source_counts *out); /* any thread; NULL: not told apart */
} dp_source_ops;

struct dp_source {
    const dp_source_ops *ops;
    const char *name; /* "file (io_uring, direct)": for reports */
    /* What it takes at most of this process's memory for itself, buffers and libraries: a plan
     * leaves room for it. 0: next to nothing. */
    uint64_t own_bytes;
};

#endif
