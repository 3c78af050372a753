#include "base/aio_engine.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

#define COPIED_AT_ONCE ((size_t)32 << 10)

/* The ring belongs to the queue's thread. Other threads wake it through an
 * eventfd that the ring polls: the poll's entry has no read behind it. */
struct uring {
    struct io_uring ring;
    int event_fd;
    bool is_polling; /* the ring holds a poll of event_fd */
};

static void uring_close(void *engine)
{
    struct uring *uring = engine;

    if (uring->event_fd >= 0)
        close(uring->event_fd);
    io_uring_queue_exit(&uring->ring);
    dp_free(uring);
}

/* IORING_OP_READ is one kernel version younger than the ring itself. */
static bool can_read(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool can = probe && io_uring_opcode_supported(probe, IORING_OP_READ);

    io_uring_free_probe(probe);
    return can;
}

static dp_status uring_open(void **out, uint32_t depth, dp_error *err)
{
    struct uring *uring = dp_alloc_zero(1, sizeof *uring);
    int failed;

    *out = NULL;
    if (!uring)
        return dp_fail(err, DP_E_NOMEM, "aio: no memory for io_uring");
    failed = io_uring_queue_init(depth + 1, &uring->ring, 0); /* and one for the poll */
    if (failed) {
        dp_free(uring);
        return dp_fail(err, DP_E_UNSUPPORTED, "io_uring is not available here: %s",
                       strerror(-failed));
    }
    uring->event_fd = -1;
    if (!can_read(&uring->ring)) {
        uring_close(uring);
        return dp_fail(err, DP_E_UNSUPPORTED, "io_uring of this kernel has no plain reads");
    }
    uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->event_fd < 0) {
        int errnum = errno;
        uring_close(uring);
        return dp_fail_errno(err, DP_E_IO, errnum, "aio: cannot make an eventfd");
    }
    *out = uring;
    return DP_OK;
}

/* An entry of the submission ring: never out, as it has room for depth reads
 * and the poll. */
static struct io_uring_sqe *take_entry(struct uring *uring)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);

    DP_CHECK(entry);
    return entry;
}

static void uring_start(void *engine, const dp_aio_piece *piece)
{
    struct io_uring_sqe *entry = take_entry(engine);

    io_uring_prep_read(entry, piece->fd, piece->out, (unsigned)piece->size, piece->offset);
    /* Bytes in the page cache would be copied during submission, one read after
     * the other; kernel threads copy side by side. To wake one takes longer than to
     * copy a few. */
    if (!piece->is_direct && piece->size > COPIED_AT_ONCE)
        entry->flags |= IOSQE_ASYNC;
    io_uring_sqe_set_data(entry, piece->read);
}

static void uring_flush(void *engine)
{
    struct uring *uring = engine;

    io_uring_submit(&uring->ring);
}

static size_t uring_wait(void *engine, dp_aio_answer *answers, size_t answer_max)
{
    struct uring *uring = engine;
    struct io_uring_cqe *cqe;
    uint64_t wake_count;
    size_t count = 0;

    if (!uring->is_polling) {
        struct io_uring_sqe *entry = take_entry(uring);

        io_uring_prep_poll_add(entry, uring->event_fd, POLLIN);
        io_uring_sqe_set_data(entry, NULL);
        uring->is_polling = true;
    }
    /* EINTR, EAGAIN and EBUSY leave entries in the ring: the next wait submits
     * them. What has arrived is taken in any case. */
    io_uring_submit_and_wait(&uring->ring, 1);
    while (count < answer_max && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        dp_aio_read *read = io_uring_cqe_get_data(cqe);

        if (read)
            answers[count++] = (dp_aio_answer){ read, cqe->res };
        else
            uring->is_polling = false;
        io_uring_cqe_seen(&uring->ring, cqe);
    }
    /* Emptied before the lists are looked at: a wake that comes later is seen by
     * the next poll. It may be empty already, when the poll itself failed. */
    if (!uring->is_polling)
        while (read(uring->event_fd, &wake_count, sizeof wake_count) < 0 && errno == EINTR)
            continue;
    return count;
}

static void uring_wake(void *engine)
{
    struct uring *uring = engine;
    uint64_t one = 1;
    ssize_t written;

    do
        written = write(uring->event_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

const dp_aio_ops dp_aio_ops_uring = {
    .name = "io_uring",
    .open = uring_open,
    .close = uring_close,
    .start = uring_start,
    .flush = uring_flush,
    .wait = uring_wait,
    .wake = uring_wake,
};
