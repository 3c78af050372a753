#include "testing/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/aio.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"

#define FILE_SIZE  (3 * (size_t)DP_MIB + 1234) /* ends within a sector */
#define SLOT_COUNT 64
#define SLOT_SIZE  ((size_t)96 << 10)

static const dp_aio_engine engines[] = { DP_AIO_URING, DP_AIO_THREADS };

static char path[] = "aio_test.XXXXXX";
static uint8_t *content; /* of the file */
static dp_file file;

/* What callbacks tell the test. */
static struct {
    dp_mutex lock;
    dp_cond changed;
    size_t done_count;
    bool is_held; /* `hold` does not return */
    bool is_holding;
    int order[SLOT_COUNT];
} seen;

struct slot {
    dp_aio_read read;
    uint8_t *out;
    int id;
    int errnum;
    size_t done_count;
};

static struct slot slots[SLOT_COUNT];
static uint8_t *slot_bytes;

static void note(dp_aio_read *read, int errnum)
{
    struct slot *slot = read->user;

    dp_mutex_lock(&seen.lock);
    slot->errnum = errnum;
    slot->done_count++;
    seen.order[seen.done_count++ % SLOT_COUNT] = slot->id;
    dp_cond_broadcast(&seen.changed);
    dp_mutex_unlock(&seen.lock);
}

/* Keeps the queue's thread inside the callback until is_held ends, so that what
 * is submitted meanwhile is known not to have started. */
static void hold(dp_aio_read *read, int errnum)
{
    dp_mutex_lock(&seen.lock);
    seen.is_holding = true;
    dp_cond_broadcast(&seen.changed);
    while (seen.is_held)
        dp_cond_wait(&seen.changed, &seen.lock);
    seen.is_holding = false;
    dp_mutex_unlock(&seen.lock);
    note(read, errnum);
}

static void await_done(size_t count)
{
    dp_mutex_lock(&seen.lock);
    while (seen.done_count < count)
        dp_cond_wait(&seen.changed, &seen.lock);
    dp_mutex_unlock(&seen.lock);
}

static void reset_slots(void)
{
    seen.done_count = 0;
    for (int i = 0; i < SLOT_COUNT; i++) {
        slots[i] = (struct slot){ .id = i, .out = slot_bytes + (size_t)i * SLOT_SIZE };
        slots[i].read = (dp_aio_read){ .file = &file,
                                       .size = 4096,
                                       .size_needed = 4096,
                                       .out = slots[i].out,
                                       .done = note,
                                       .user = &slots[i] };
    }
}

/* NULL where the system has no such engine. */
static dp_aio *open_queue(dp_aio_engine engine, uint32_t depth)
{
    dp_error err;
    dp_aio *aio;
    dp_status st = dp_aio_open(&aio, engine, depth, &err);

    if (st == DP_E_UNSUPPORTED && engine == DP_AIO_URING) {
        print_message("skipped: %s\n", err.text);
        return NULL;
    }
    CHECK_OK(st, err);
    return aio;
}

/* A random range of the file; direct ones whole sectors, up to its very end. */
static void choose_range(dp_aio_read *read, dp_rng *rng, bool is_direct)
{
    uint64_t offset = dp_rng_below(rng, FILE_SIZE);
    size_t size = 1 + (size_t)dp_rng_below(rng, SLOT_SIZE);

    if (is_direct) {
        offset = dp_align_down(offset, DP_FILE_SECTOR);
        size = (size_t)dp_align_up(size, DP_FILE_SECTOR);
        size = DP_MIN(size, (size_t)dp_align_up(FILE_SIZE - offset, DP_FILE_SECTOR));
    }
    read->is_direct = is_direct;
    read->offset = offset;
    read->size_needed = DP_MIN(size, (size_t)(FILE_SIZE - offset));
    read->size = is_direct ? size : read->size_needed;
    read->class_ = dp_rng_below(rng, 2) ? DP_AIO_PREFETCH : DP_AIO_DEMAND;
}

static void check_slot(const struct slot *slot)
{
    const dp_aio_read *read = &slot->read;

    CHECK(slot->done_count == 1, "slot %d: %zu times done", slot->id, slot->done_count);
    CHECK(slot->errnum == 0, "slot %d: %s", slot->id, strerror(slot->errnum));
    CHECK(memcmp(slot->out, content + read->offset, read->size_needed) == 0,
          "slot %d: bytes at %llu", slot->id, (unsigned long long)read->offset);
}

static void submit_all(dp_aio *aio, dp_rng *rng, bool is_direct)
{
    reset_slots();
    memset(slot_bytes, 0xaa, SLOT_COUNT * SLOT_SIZE);
    for (int i = 0; i < SLOT_COUNT; i++) {
        choose_range(&slots[i].read, rng, is_direct);
        dp_aio_submit(aio, &slots[i].read);
    }
}

static void test_random_ranges(void **state)
{
    static const uint32_t depths[] = { 1, 7, 64 };
    dp_rng rng;

    dp_rng_init(&rng, 1);
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++)
        for (size_t d = 0; d < DP_ARRAY_LEN(depths); d++)
            for (int is_direct = 0; is_direct < 2; is_direct++) {
                dp_aio *aio = open_queue(engines[e], depths[d]);
                for (int round = 0; aio && round < 4; round++) {
                    submit_all(aio, &rng, is_direct);
                    await_done(SLOT_COUNT);
                    for (int i = 0; i < SLOT_COUNT; i++)
                        check_slot(&slots[i]);
                }
                dp_aio_close(aio);
            }
}

/* Every answer halved for a while: the rest is asked for, to the same bytes. */
static void test_short_reads(void **state)
{
    dp_rng rng;

    dp_rng_init(&rng, 2);
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++)
        for (int is_direct = 0; is_direct < 2; is_direct++) {
            dp_aio *aio = open_queue(engines[e], 8);
            if (!aio)
                continue;
            dp_fault_arm(DP_FAULT_AIO_SHORT, 3, 300);
            submit_all(aio, &rng, is_direct);
            await_done(SLOT_COUNT);
            dp_aio_close(aio);
            CHECK(dp_fault_disarm(DP_FAULT_AIO_SHORT) > 100, "few reads were cut");
            for (int i = 0; i < SLOT_COUNT; i++)
                check_slot(&slots[i]);
        }
}

/* The n-th answer is an error: one read fails, the others do not notice. */
static void test_failing_reads(void **state)
{
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++)
        for (uint64_t n = 0; n <= SLOT_COUNT; n += 9) {
            dp_aio *aio = open_queue(engines[e], 4);
            size_t failed_count = 0;

            if (!aio)
                continue;
            dp_fault_arm(DP_FAULT_AIO_READ, n, 1);
            reset_slots();
            for (int i = 0; i < SLOT_COUNT; i++)
                dp_aio_submit(aio, &slots[i].read);
            await_done(SLOT_COUNT);
            dp_aio_close(aio);
            for (int i = 0; i < SLOT_COUNT; i++) {
                CHECK(slots[i].errnum == 0 || slots[i].errnum == EIO, "%d", slots[i].errnum);
                failed_count += slots[i].errnum != 0;
            }
            CHECK(failed_count == dp_fault_disarm(DP_FAULT_AIO_READ), "%zu failed", failed_count);
            CHECK(failed_count == (n < SLOT_COUNT), "%zu failed", failed_count);
        }
}

static void test_end_of_file(void **state)
{
    static const struct {
        uint64_t offset;
        size_t size, size_needed;
        bool is_direct;
        int want;
    } rows[] = {
        { FILE_SIZE - 10, 10, 10, false, 0 },
        { FILE_SIZE - 10, 11, 11, false, ENODATA },
        { FILE_SIZE, 1, 1, false, ENODATA },
        { FILE_SIZE + 4096, 1, 1, false, ENODATA },
        { 0, 0, 0, false, 0 },
        { FILE_SIZE - 1234, 4096, 1234, true, 0 },
        { FILE_SIZE - 1234, 4096, 1235, true, ENODATA },
        { FILE_SIZE - 1234 - 4096, 8192, 8192, true, ENODATA },
    };

    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++)
        for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
            dp_aio *aio = open_queue(engines[e], 2);
            if (!aio)
                continue;
            reset_slots();
            slots[0].read.offset = rows[i].offset;
            slots[0].read.size = rows[i].size;
            slots[0].read.size_needed = rows[i].size_needed;
            slots[0].read.is_direct = rows[i].is_direct;
            dp_aio_submit(aio, &slots[0].read);
            await_done(1);
            CHECK(slots[0].errnum == rows[i].want, "row %zu: %s", i, strerror(slots[0].errnum));
            dp_aio_close(aio);
        }
}

/* Without a direct twin the page cache serves; a file that cannot be read says so. */
static void test_other_files(void **state)
{
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        dp_file no_twin = { file.fd, -1, file.size };
        dp_file closed = { -1, -1, 4096 };
        dp_aio *aio = open_queue(engines[e], 2);

        if (!aio)
            continue;
        reset_slots();
        slots[0].read.file = &no_twin;
        slots[0].read.is_direct = true;
        slots[1].read.file = &closed;
        dp_aio_submit(aio, &slots[0].read);
        dp_aio_submit(aio, &slots[1].read);
        await_done(2);
        check_slot(&slots[0]);
        CHECK(slots[1].errnum == EBADF, "%s", strerror(slots[1].errnum));
        dp_aio_close(aio);
    }
}

/* Submits slot 0 and returns when the queue's thread stands in its callback. */
static void submit_holding(dp_aio *aio)
{
    seen.is_held = true;
    slots[0].read.done = hold;
    dp_aio_submit(aio, &slots[0].read);
    dp_mutex_lock(&seen.lock);
    while (!seen.is_holding)
        dp_cond_wait(&seen.changed, &seen.lock);
    dp_mutex_unlock(&seen.lock);
}

static void let_go(void)
{
    dp_mutex_lock(&seen.lock);
    seen.is_held = false;
    dp_cond_broadcast(&seen.changed);
    dp_mutex_unlock(&seen.lock);
}

static void test_order(void **state)
{
    static const int want[] = { 0, 4, 5, 2, 1, 3 };

    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        dp_aio *aio = open_queue(engines[e], 1);
        if (!aio)
            continue;
        reset_slots();
        submit_holding(aio);
        for (int i = 1; i <= 3; i++) {
            slots[i].read.class_ = DP_AIO_PREFETCH;
            dp_aio_submit(aio, &slots[i].read);
        }
        dp_aio_submit(aio, &slots[4].read);
        dp_aio_submit(aio, &slots[5].read);
        dp_aio_promote(aio, &slots[2].read);
        dp_aio_promote(aio, &slots[4].read); /* demand stays where it is */
        dp_aio_promote(aio, &slots[0].read); /* too late */
        let_go();
        await_done(6);
        for (size_t i = 0; i < DP_ARRAY_LEN(want); i++)
            CHECK(seen.order[i] == want[i], "%s: place %zu: %d", dp_aio_engine_name(aio), i,
                  seen.order[i]);
        dp_aio_close(aio);
    }
}

static void test_cancel(void **state)
{
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        dp_aio *aio = open_queue(engines[e], 1);
        if (!aio)
            continue;
        reset_slots();
        submit_holding(aio);
        for (int i = 1; i <= 4; i++) {
            slots[i].read.class_ = i % 2 ? DP_AIO_PREFETCH : DP_AIO_DEMAND;
            dp_aio_submit(aio, &slots[i].read);
        }
        CHECK(dp_aio_cancel(aio, &slots[1].read), "prefetch waits");
        CHECK(dp_aio_cancel(aio, &slots[4].read), "demand waits");
        CHECK(!dp_aio_cancel(aio, &slots[4].read), "twice");
        CHECK(!dp_aio_cancel(aio, &slots[0].read), "too late");
        let_go();
        await_done(5);
        for (int i = 0; i <= 4; i++)
            CHECK(slots[i].errnum == (i == 1 || i == 4 ? ECANCELED : 0), "slot %d: %d", i,
                  slots[i].errnum);

        /* a canceled read may be submitted anew */
        dp_aio_submit(aio, &slots[4].read);
        await_done(6);
        CHECK(slots[4].errnum == 0, "%d", slots[4].errnum);
        dp_aio_close(aio);
    }
}

struct closer {
    dp_aio *aio;
    dp_thread thread;
};

static void close_main(void *user)
{
    struct closer *closer = user;

    dp_aio_close(closer->aio);
}

/* Submits slot 2 from slot 0's callback, at a time when the queue is closing. */
static dp_aio *closing_aio;

static void hold_and_submit(dp_aio_read *read, int errnum)
{
    dp_aio *aio = closing_aio;

    hold(read, errnum);
    dp_aio_submit(aio, &slots[2].read);
}

static void test_close_ends_all(void **state)
{
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        struct closer closer = { open_queue(engines[e], 1), { 0 } };
        dp_error err;

        if (!closer.aio)
            continue;
        reset_slots();
        closing_aio = closer.aio;
        submit_holding(closer.aio);
        slots[0].read.done = hold_and_submit; /* for the second time it is submitted */
        let_go();
        await_done(1);
        seen.is_held = true;
        dp_aio_submit(closer.aio, &slots[0].read);
        dp_mutex_lock(&seen.lock);
        while (!seen.is_holding)
            dp_cond_wait(&seen.changed, &seen.lock);
        dp_mutex_unlock(&seen.lock);
        dp_aio_submit(closer.aio, &slots[1].read);
        CHECK_OK(dp_thread_start(&closer.thread, "closer", close_main, &closer, &err), err);
        let_go();
        dp_thread_join(&closer.thread);
        CHECK(seen.done_count == 4, "%zu", seen.done_count);
        CHECK(slots[1].errnum == 0 || slots[1].errnum == ECANCELED, "%d", slots[1].errnum);
        CHECK(slots[2].errnum == 0 || slots[2].errnum == ECANCELED, "%d", slots[2].errnum);
    }
}

/* A read that submits itself again from its callback, many times. */
static dp_aio *chain_aio;

static void chain(dp_aio_read *read, int errnum)
{
    struct slot *slot = read->user;

    note(read, errnum);
    if (slot->done_count < 50)
        dp_aio_submit(chain_aio, read);
}

static void test_submit_from_done(void **state)
{
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        chain_aio = open_queue(engines[e], 3);
        if (!chain_aio)
            continue;
        reset_slots();
        for (int i = 0; i < 8; i++) {
            slots[i].read.done = chain;
            dp_aio_submit(chain_aio, &slots[i].read);
        }
        await_done(8 * 50);
        dp_aio_close(chain_aio);
    }
}

struct submitter {
    dp_aio *aio;
    dp_thread thread;
    int first;
};

static void submit_main(void *user)
{
    struct submitter *submitter = user;

    for (int i = 0; i < SLOT_COUNT / 4; i++)
        dp_aio_submit(submitter->aio, &slots[submitter->first + i].read);
    for (int i = 0; i < SLOT_COUNT / 4; i++)
        dp_aio_promote(submitter->aio, &slots[submitter->first + i].read);
}

/* Four threads submit and end at once; their reads go on. */
static void test_many_submitters(void **state)
{
    dp_rng rng;
    dp_error err;

    dp_rng_init(&rng, 3);
    for (size_t e = 0; e < DP_ARRAY_LEN(engines); e++) {
        struct submitter submitters[4];
        dp_aio *aio = open_queue(engines[e], 5);

        if (!aio)
            continue;
        reset_slots();
        for (int i = 0; i < SLOT_COUNT; i++)
            choose_range(&slots[i].read, &rng, i % 2);
        for (int i = 0; i < 4; i++) {
            submitters[i] = (struct submitter){ aio, { 0 }, i * SLOT_COUNT / 4 };
            CHECK_OK(
                dp_thread_start(&submitters[i].thread, "submit", submit_main, &submitters[i], &err),
                err);
        }
        for (int i = 0; i < 4; i++)
            dp_thread_join(&submitters[i].thread);
        await_done(SLOT_COUNT);
        for (int i = 0; i < SLOT_COUNT; i++)
            check_slot(&slots[i]);
        dp_aio_close(aio);
    }
}

static void test_open(void **state)
{
    static const uint32_t bad_depths[] = { 0, DP_AIO_DEPTH_MAX + 1 };
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_THREAD };
    dp_mem_stats before;
    dp_mem_stats after;
    dp_error err;
    dp_aio *aio;

    for (size_t i = 0; i < DP_ARRAY_LEN(bad_depths); i++)
        CHECK(dp_aio_open(&aio, DP_AIO_AUTO, bad_depths[i], &err) == DP_E_LIMIT && !aio, "%u",
              bad_depths[i]);
    CHECK_OK(dp_aio_open(&aio, DP_AIO_AUTO, DP_AIO_DEPTH_MAX, &err), err);
    dp_aio_close(aio);
    dp_aio_close(NULL);

    dp_mem_stats_read(&before);
    for (size_t f = 0; f < DP_ARRAY_LEN(faults); f++)
        for (uint64_t n = 0;; n++) {
            dp_status st;

            dp_fault_arm(faults[f], n, 1);
            st = dp_aio_open(&aio, DP_AIO_THREADS, 20, &err);
            dp_fault_disarm(faults[f]);
            CHECK(st == DP_OK || (st == DP_E_NOMEM && !aio), "visit %d", (int)n);
            dp_aio_close(aio);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "leak at %d", (int)n);
            if (st == DP_OK)
                break;
        }
}

static int set_up(void **state)
{
    dp_error err;
    dp_rng rng;
    int fd = mkstemp(path);

    CHECK(fd >= 0, "%s", strerror(errno));
    dp_mutex_init(&seen.lock);
    dp_cond_init(&seen.changed);
    content = malloc(FILE_SIZE);
    dp_rng_init(&rng, 0);
    for (size_t i = 0; i < FILE_SIZE; i++)
        content[i] = (uint8_t)dp_rng_u64(&rng);
    CHECK(write(fd, content, FILE_SIZE) == (ssize_t)FILE_SIZE, "%s", strerror(errno));
    close(fd);
    CHECK_OK(dp_file_open(&file, path, true, &err), err);
    if (file.fd_direct < 0)
        print_message("skipped: no O_DIRECT here, direct reads are buffered\n");
    slot_bytes = dp_map_acquire(SLOT_COUNT * SLOT_SIZE);
    return slot_bytes ? 0 : -1;
}

static int tear_down(void **state)
{
    dp_map_release(slot_bytes, SLOT_COUNT * SLOT_SIZE);
    dp_file_close(&file);
    free(content);
    dp_cond_deinit(&seen.changed);
    dp_mutex_deinit(&seen.lock);
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_ranges),
        cmocka_unit_test(test_short_reads),
        cmocka_unit_test(test_failing_reads),
        cmocka_unit_test(test_end_of_file),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_close_ends_all),
        cmocka_unit_test(test_submit_from_done),
        cmocka_unit_test(test_many_submitters),
        cmocka_unit_test(test_open),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
