#include "swarm/piece_walk.h"

#include "base/cpu.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/status.h"
#include "base/thread.h"

#define BATCH 64 /* pieces between two looks at progress */

typedef struct walker {
    const dp_piece_walk *walk;
    dp_pool *pool;
    uint8_t *buffers; /* [threads][piece_size] */
    dp_file file;
    uint32_t file_index, first; /* the batch begins with this piece of the file */
    uint64_t done_bytes, total_bytes;
    dp_mutex lock; /* guards the first failure */
    dp_status status;
    dp_error error;
} walker;

static void fail_first(walker *w, dp_status st, const dp_error *error)
{
    dp_mutex_lock(&w->lock);
    if (!w->status) {
        w->status = st;
        w->error = *error;
    }
    dp_mutex_unlock(&w->lock);
}

static void visit_batch(void *user, size_t begin, size_t end, uint32_t worker)
{
    walker *w = user;
    const dp_layout *layout = w->walk->layout;
    const dp_layout_file *file = &layout->files[w->file_index];
    uint8_t *bytes = w->buffers + (size_t)worker * layout->piece_size;

    for (size_t i = begin; i < end; i++) {
        uint32_t piece = w->first + (uint32_t)i;
        dp_error error;
        dp_status st = dp_file_read(&w->file, w->walk->paths[w->file_index],
                                    (uint64_t)piece * layout->piece_size, bytes,
                                    dp_pieces_size(file->pieces, piece), &error);
        if (!st)
            st = w->walk->visit(w->walk->user, file->first_piece + piece, bytes, &error);
        if (st)
            fail_first(w, st, &error);
    }
}

static dp_status walk_file(walker *w, dp_error *err)
{
    const dp_piece_walk *walk = w->walk;
    const dp_layout_file *file = &walk->layout->files[w->file_index];
    uint32_t count = dp_pieces_count(file->pieces);

    if (w->file.size != file->pieces.file_size)
        return dp_fail(err, DP_E_CORRUPT, "%s: %llu bytes, expected %llu",
                       walk->paths[w->file_index], (unsigned long long)w->file.size,
                       (unsigned long long)file->pieces.file_size);
    for (w->first = 0; w->first < count && !w->status; w->first += BATCH) {
        uint32_t batch = DP_MIN(count - w->first, BATCH);

        dp_pool_run(w->pool, batch, 1, visit_batch, w);
        w->done_bytes += (uint64_t)(batch - 1) * walk->layout->piece_size +
                         dp_pieces_size(file->pieces, w->first + batch - 1);
        if (walk->progress && !walk->progress(walk->progress_user, w->done_bytes, w->total_bytes))
            return dp_fail(err, DP_E_CANCELED, "%s: canceled", walk->paths[w->file_index]);
    }
    if (w->status && err)
        *err = w->error;
    return w->status;
}

dp_status dp_piece_walk_run(const dp_piece_walk *walk, dp_error *err)
{
    walker w = { .walk = walk };
    uint32_t threads = DP_MIN(dp_cpu_get()->thread_count, DP_PIECE_WALK_THREADS_MAX);
    dp_status st;

    dp_mutex_init(&w.lock);
    for (uint32_t i = 0; i < walk->layout->file_count; i++)
        w.total_bytes += walk->layout->files[i].pieces.file_size;
    st = dp_pool_open(&w.pool, threads, err);
    if (st)
        goto done;
    w.buffers = dp_alloc(threads, walk->layout->piece_size);
    if (!w.buffers) {
        st = dp_fail(err, DP_E_NOMEM, "no memory for %u pieces of %u bytes", threads,
                     walk->layout->piece_size);
        goto done;
    }
    for (w.file_index = 0; w.file_index < walk->layout->file_count && !st; w.file_index++) {
        st = dp_file_open(&w.file, walk->paths[w.file_index], false, err);
        if (st)
            goto done;
        st = walk_file(&w, err);
        dp_file_close(&w.file);
    }
done:
    dp_free(w.buffers);
    dp_pool_close(w.pool);
    dp_mutex_deinit(&w.lock);
    return st;
}
