#include "tier/source_file.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/thread.h"
#include "testing/check.h"

#define FILE_BYTES (3 * DP_MIB + 1234) /* ends inside a sector */
#define READ_COUNT 24

static char path[] = "/tmp/doppler-source-XXXXXX";
static uint8_t *content; /* [FILE_BYTES] */

static int make_file(void **unused)
{
    dp_rng rng;
    int fd = mkstemp(path);

    content = malloc(FILE_BYTES);
    dp_rng_init(&rng, 7);
    for (size_t i = 0; i < FILE_BYTES; i++)
        content[i] = (uint8_t)dp_rng_u64(&rng);
    if (fd < 0 || write(fd, content, FILE_BYTES) != (ssize_t)FILE_BYTES)
        return -1;
    return close(fd);
}

static int remove_file(void **unused)
{
    free(content);
    return unlink(path);
}

/* Counts what ended; waits for all of it. */
typedef struct gate {
    dp_mutex lock;
    dp_cond changed;
    uint32_t ended_count;
} gate;

typedef struct item {
    dp_source_read read;
    dp_source_fit fit;
    gate *gate;
    dp_error error;
    bool is_canceled;
    uint32_t place; /* among those that ended */
} item;

static void item_done(dp_source_read *read, const dp_error *error)
{
    item *item = read->user;

    if (error)
        item->error = *error;
    dp_mutex_lock(&item->gate->lock);
    item->place = item->gate->ended_count++;
    dp_cond_broadcast(&item->gate->changed);
    dp_mutex_unlock(&item->gate->lock);
}

static void gate_wait(gate *gate, uint32_t count)
{
    dp_mutex_lock(&gate->lock);
    while (gate->ended_count < count)
        dp_cond_wait(&gate->changed, &gate->lock);
    dp_mutex_unlock(&gate->lock);
}

static void item_submit_to(item *item, gate *gate, dp_source *s, uint32_t file_index,
                           uint64_t offset, uint64_t size)
{
    *item = (struct item){ .gate = gate, .fit = s->ops->fit(s, file_index, offset, size) };
    item->read = (dp_source_read){
        .file_index = file_index, .offset = offset, .size = size, .done = item_done
    };
    item->read.user = item;
    item->read.room = dp_map_acquire(item->fit.room);
    s->ops->submit(s, &item->read);
}

static void item_submit(item *item, gate *gate, dp_source *s, uint64_t offset, uint64_t size)
{
    item_submit_to(item, gate, s, 0, offset, size);
}

static bool item_has_data(const item *item)
{
    return !memcmp((uint8_t *)item->read.room + item->fit.lead, content + item->read.offset,
                   item->read.size);
}

static void item_free(item *item)
{
    dp_map_release(item->read.room, item->fit.room);
}

static void gate_init(gate *gate)
{
    *gate = (struct gate){ .ended_count = 0 };
    dp_mutex_init(&gate->lock);
    dp_cond_init(&gate->changed);
}

static void gate_deinit(gate *gate)
{
    dp_cond_deinit(&gate->changed);
    dp_mutex_deinit(&gate->lock);
}

static dp_status open_source(dp_source **out, dp_io_mode mode, dp_aio_engine engine, uint32_t depth,
                             dp_error *err)
{
    static const char *const paths[] = { path };
    dp_source_file_config config = { paths, 1, mode, engine, depth, 64 * DP_KIB };

    return dp_source_file_open(out, &config, err);
}

static const struct {
    const char *name;
    dp_io_mode mode;
    dp_aio_engine engine;
    uint32_t depth;
} ways[] = {
    { "file (io_uring, direct)", DP_IO_DIRECT, DP_AIO_URING, 8 },
    { "file (io_uring, buffered)", DP_IO_BUFFERED, DP_AIO_URING, 8 },
    { "file (io_uring, auto)", DP_IO_AUTO, DP_AIO_URING, 1 },
    { "file (threads, direct)", DP_IO_DIRECT, DP_AIO_THREADS, 4 },
    { "file (threads, buffered)", DP_IO_BUFFERED, DP_AIO_THREADS, 1 },
    { "file (threads, auto)", DP_IO_AUTO, DP_AIO_THREADS, 3 },
};

/* False, with a note, where this system or file system lacks a way. */
static bool open_way(dp_source **s, size_t way)
{
    dp_error err;
    dp_status st = open_source(s, ways[way].mode, ways[way].engine, ways[way].depth, &err);

    if (st == DP_E_UNSUPPORTED) {
        fprintf(stderr, "skipped: %s: %s\n", ways[way].name, err.text);
        return false;
    }
    CHECK_OK(st, err);
    CHECK(!strcmp((*s)->name, ways[way].name), "%s is not %s", (*s)->name, ways[way].name);
    return true;
}

static void test_data(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        item items[READ_COUNT];
        dp_source *s;
        dp_rng rng;
        gate gate;

        if (!open_way(&s, way))
            continue;
        gate_init(&gate);
        dp_rng_init(&rng, way);
        for (size_t i = 0; i < READ_COUNT; i++) {
            uint64_t size = 1 + dp_rng_below(&rng, i % 3 ? 5000 : DP_MIB);
            uint64_t offset = dp_rng_below(&rng, FILE_BYTES - size + 1);
            if (i == 0)
                offset = FILE_BYTES - size; /* the last sector of the file is not whole */
            item_submit(&items[i], &gate, s, offset, size);
        }
        gate_wait(&gate, READ_COUNT);
        for (size_t i = 0; i < READ_COUNT; i++) {
            CHECK_OK(items[i].error.status, items[i].error);
            CHECK(item_has_data(&items[i]), "%s: read %zu", ways[way].name, i);
            item_free(&items[i]);
        }
        s->ops->close(s);
        gate_deinit(&gate);
    }
}

static void test_fit(void **unused)
{
    static const struct {
        dp_io_mode mode;
        uint64_t offset, size;
        uint32_t lead;
        uint64_t room;
    } rows[] = {
        { DP_IO_BUFFERED, 5, 10, 0, 10 },
        { DP_IO_BUFFERED, 5, DP_MIB, 0, DP_MIB },
        { DP_IO_DIRECT, 0, 4096, 0, 4096 },
        { DP_IO_DIRECT, 5, 10, 5, 4096 },
        { DP_IO_DIRECT, 4095, 2, 4095, 8192 },
        { DP_IO_DIRECT, 8192 + 64, DP_MIB, 64, DP_MIB + 4096 },
        { DP_IO_AUTO, 5, DP_SOURCE_DIRECT_MIN - 1, 0, DP_SOURCE_DIRECT_MIN - 1 },
        { DP_IO_AUTO, 5, DP_SOURCE_DIRECT_MIN, 5, DP_SOURCE_DIRECT_MIN + 4096 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_source *s;
        dp_source_fit fit;
        dp_error err;

        if (open_source(&s, DP_IO_DIRECT, DP_AIO_AUTO, 1, &err) == DP_E_UNSUPPORTED) {
            fprintf(stderr, "skipped: %s\n", err.text);
            return;
        }
        s->ops->close(s);
        CHECK_OK(open_source(&s, rows[i].mode, DP_AIO_AUTO, 1, &err), err);
        fit = s->ops->fit(s, 0, rows[i].offset, rows[i].size);
        CHECK(fit.lead == rows[i].lead && fit.room == rows[i].room, "row %zu: %u %llu", i, fit.lead,
              (unsigned long long)fit.room);
        s->ops->close(s);
    }
}

/* The model's files by index, and what was read of them. */
static void test_parts_and_counts(void **unused)
{
    const dp_source_part *parts;
    dp_source_counts counts;
    uint32_t count;
    dp_source *s;
    gate gate;
    item item;
    dp_error err;

    CHECK_OK(open_source(&s, DP_IO_AUTO, DP_AIO_THREADS, 2, &err), err);
    parts = s->ops->parts(s, &count);
    CHECK(count == 1 && !strcmp(parts[0].name, path) && parts[0].size == FILE_BYTES, "%u", count);
    gate_init(&gate);
    item_submit(&item, &gate, s, 777, 300000);
    gate_wait(&gate, 1);
    s->ops->count(s, &counts);
    CHECK(counts.disk_bytes == 300000 && counts.swarm_bytes == 0, "%d", (int)counts.disk_bytes);
    item_free(&item);
    item_submit(&item, &gate, s, FILE_BYTES - 200000, 200001); /* fails: not counted */
    gate_wait(&gate, 2);
    s->ops->count(s, &counts);
    CHECK(counts.disk_bytes == 300000, "%d", (int)counts.disk_bytes);
    item_free(&item);
    s->ops->close(s);
    gate_deinit(&gate);
}

static void test_file_ends_early(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_source *s;
        gate gate;
        item item;

        if (!open_way(&s, way))
            continue;
        gate_init(&gate);
        item_submit(&item, &gate, s, FILE_BYTES - 200000, 200001);
        gate_wait(&gate, 1);
        CHECK(item.error.status == DP_E_IO && strstr(item.error.text, "ends early") &&
                  strstr(item.error.text, path) && strstr(item.error.text, "byte 2946962:"),
              "%s: %s", ways[way].name, item.error.text);
        item_free(&item);
        s->ops->close(s);
        gate_deinit(&gate);
    }
}

static void test_read_fails(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        for (uint64_t visit = 0;; visit++) {
            dp_source *s;
            gate gate;
            item item;
            uint64_t failed_count;

            if (!open_way(&s, way))
                break;
            gate_init(&gate);
            dp_fault_arm(DP_FAULT_AIO_READ, visit, 1);
            item_submit(&item, &gate, s, 777, 300000);
            gate_wait(&gate, 1);
            failed_count = dp_fault_disarm(DP_FAULT_AIO_READ);
            if (failed_count) {
                CHECK(item.error.status == DP_E_IO, "%d", item.error.status);
                CHECK(strstr(item.error.text, path) && strstr(item.error.text, "error"), "%s",
                      item.error.text);
            } else {
                CHECK(item.error.status == DP_OK && item_has_data(&item), "%s", item.error.text);
            }
            item_free(&item);
            s->ops->close(s);
            gate_deinit(&gate);
            if (!failed_count)
                break;
        }
    }
}

static void test_short_reads(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_source *s;
        gate gate;
        item item;

        if (!open_way(&s, way))
            continue;
        gate_init(&gate);
        dp_fault_arm(DP_FAULT_AIO_SHORT, 0, 5);
        item_submit(&item, &gate, s, 999, 400000);
        gate_wait(&gate, 1);
        CHECK(dp_fault_disarm(DP_FAULT_AIO_SHORT) == 5, "short reads happened");
        CHECK(item.error.status == DP_OK && item_has_data(&item), "%s: %s", ways[way].name,
              item.error.text);
        item_free(&item);
        s->ops->close(s);
        gate_deinit(&gate);
    }
}

/* A read that keeps the queue's thread in its `done`. */
typedef struct hold {
    dp_source_read read;
    _Alignas(64) uint8_t room[128];
    dp_mutex lock;
    dp_cond changed;
    bool has_begun, is_held;
} hold;

static void held_done(dp_source_read *read, const dp_error *error)
{
    hold *hold = read->user;

    dp_mutex_lock(&hold->lock);
    hold->has_begun = true;
    dp_cond_broadcast(&hold->changed);
    while (hold->is_held)
        dp_cond_wait(&hold->changed, &hold->lock);
    dp_mutex_unlock(&hold->lock);
}

/* One request at a time: those that wait are read in the order they are due, and what is
 * promoted before them. */
static void test_prefetches_by_due(void **unused)
{
    enum { COUNT = 8 };
    static const uint64_t due[COUNT] = { 0, 7, 3, 5, 3, 9, 1, 4 };
    /* The first is sent at once; 5 is promoted. */
    static const uint32_t order[COUNT] = { 0, 5, 6, 2, 4, 7, 3, 1 };
    item items[COUNT];
    dp_error err;
    dp_source *s;
    gate gate;
    hold hold = { .is_held = true };

    CHECK_OK(open_source(&s, DP_IO_BUFFERED, DP_AIO_THREADS, 1, &err), err);
    gate_init(&gate);
    dp_mutex_init(&hold.lock);
    dp_cond_init(&hold.changed);
    hold.read = (dp_source_read){ .size = 100, .done = held_done, .user = &hold };
    hold.read.room = hold.room;
    s->ops->submit(s, &hold.read);
    dp_mutex_lock(&hold.lock);
    while (!hold.has_begun)
        dp_cond_wait(&hold.changed, &hold.lock);
    dp_mutex_unlock(&hold.lock);
    for (size_t i = 0; i < COUNT; i++) {
        items[i] = (item){ .gate = &gate, .fit = s->ops->fit(s, 0, i * 1000, 1000) };
        items[i].read = (dp_source_read){ .offset = i * 1000, .size = 1000 };
        items[i].read.is_prefetch = true;
        items[i].read.due = due[i];
        items[i].read.done = item_done;
        items[i].read.user = &items[i];
        items[i].read.room = dp_map_acquire(items[i].fit.room);
        s->ops->submit(s, &items[i].read);
    }
    s->ops->promote(s, &items[5].read);
    dp_mutex_lock(&hold.lock);
    hold.is_held = false;
    dp_cond_broadcast(&hold.changed);
    dp_mutex_unlock(&hold.lock);
    gate_wait(&gate, COUNT);
    s->ops->close(s);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK(items[order[i]].place == i, "%u ended as number %u", order[i], items[order[i]].place);
        item_free(&items[i]);
    }
    dp_cond_deinit(&hold.changed);
    dp_mutex_deinit(&hold.lock);
    gate_deinit(&gate);
}

/* Whatever was canceled when, each read ends exactly once or was taken back, and those
 * that succeeded have their data. */
static void test_cancel_and_promote(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        item items[READ_COUNT];
        uint32_t taken_count = 0;
        dp_source *s;
        gate gate;

        if (!open_way(&s, way))
            continue;
        gate_init(&gate);
        for (size_t i = 0; i < READ_COUNT; i++) {
            uint64_t offset = i * 100000;
            items[i] = (item){ .gate = &gate, .fit = s->ops->fit(s, 0, offset, 300000) };
            items[i].read = (dp_source_read){ .offset = offset, .size = 300000 };
            items[i].read.is_prefetch = i % 2;
            items[i].read.done = item_done;
            items[i].read.user = &items[i];
            items[i].read.room = dp_map_acquire(items[i].fit.room);
            s->ops->submit(s, &items[i].read);
        }
        for (size_t i = READ_COUNT - 8; i < READ_COUNT; i++) {
            s->ops->promote(s, &items[i].read);
            items[i].is_canceled = s->ops->cancel(s, &items[i].read);
            taken_count += items[i].is_canceled;
        }
        gate_wait(&gate, READ_COUNT - taken_count);
        for (size_t i = 0; i < READ_COUNT; i++) {
            if (!items[i].is_canceled)
                CHECK(items[i].error.status == DP_E_CANCELED ? i >= READ_COUNT - 8
                                                             : item_has_data(&items[i]),
                      "%s: read %zu: %s", ways[way].name, i, items[i].error.text);
            item_free(&items[i]);
        }
        s->ops->close(s);
        CHECK(gate.ended_count == READ_COUNT - taken_count, "%u", gate.ended_count);
        gate_deinit(&gate);
    }
}

static void test_close_ends_reads(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        item items[READ_COUNT];
        dp_source *s;
        gate gate;

        if (!open_way(&s, way))
            continue;
        gate_init(&gate);
        for (size_t i = 0; i < READ_COUNT; i++)
            item_submit(&items[i], &gate, s, i * 1000, 500000);
        s->ops->close(s);
        CHECK(gate.ended_count == READ_COUNT, "%s: %u", ways[way].name, gate.ended_count);
        for (size_t i = 0; i < READ_COUNT; i++) {
            CHECK(items[i].error.status == DP_E_CANCELED || item_has_data(&items[i]), "%s",
                  items[i].error.text);
            item_free(&items[i]);
        }
        gate_deinit(&gate);
    }
}

/* ---- copies ---- */

enum { COPIES = 3 };
static char copy_paths[COPIES - 1][sizeof path];

static void make_copies(void)
{
    for (int i = 0; i < COPIES - 1; i++) {
        int fd;
        strcpy(copy_paths[i], "/tmp/doppler-source-XXXXXX");
        fd = mkstemp(copy_paths[i]);
        CHECK(fd >= 0 && write(fd, content, FILE_BYTES) == (ssize_t)FILE_BYTES, "a copy");
        close(fd);
    }
}

static void remove_copies(void)
{
    for (int i = 0; i < COPIES - 1; i++)
        unlink(copy_paths[i]);
}

static dp_status open_copies(dp_source **out, size_t way, dp_error *err)
{
    static const char *const paths[] = { path };
    static const char *const mirrors[] = { copy_paths[0], copy_paths[1] };
    dp_source_file_config config = { paths, 1,           ways[way].mode, ways[way].engine,
                                     2,     64 * DP_KIB, mirrors,        COPIES - 1 };

    return dp_source_file_open(out, &config, err);
}

/* Reads of all sizes, half of them prefetches, some promoted; all have their data. */
static void read_all(dp_source *s, size_t way)
{
    item items[READ_COUNT];
    gate gate;

    gate_init(&gate);
    for (size_t i = 0; i < READ_COUNT; i++) {
        uint64_t offset = i * 50001, size = i % 3 ? 700001 : 100;
        items[i] = (item){ .gate = &gate, .fit = s->ops->fit(s, 0, offset, size) };
        items[i].read = (dp_source_read){ .offset = offset, .size = size };
        items[i].read.is_prefetch = i % 2;
        items[i].read.due = i % 5;
        items[i].read.done = item_done;
        items[i].read.user = &items[i];
        items[i].read.room = dp_map_acquire(items[i].fit.room);
        s->ops->submit(s, &items[i].read);
        if (i % 4 == 3)
            s->ops->promote(s, &items[i].read);
    }
    gate_wait(&gate, READ_COUNT);
    for (size_t i = 0; i < READ_COUNT; i++) {
        CHECK(items[i].error.status == DP_OK && item_has_data(&items[i]), "%s: read %zu: %s",
              ways[way].name, i, items[i].error.text);
        item_free(&items[i]);
    }
    gate_deinit(&gate);
}

static void test_copies(void **unused)
{
    make_copies();
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_source *s;
        dp_error err;

        if (open_copies(&s, way, &err))
            continue;
        CHECK(strstr(s->name, ", 3 copies)"), "%s", s->name);
        read_all(s, way);
        s->ops->close(s);
    }
    remove_copies();
}

/* Whichever read fails of whichever copy, those who asked do not hear of it. */
static void test_a_copy_fails(void **unused)
{
    enum { VISITS = 12 };

    make_copies();
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++)
        for (uint64_t visit = 0; visit < VISITS; visit++) {
            dp_source *s;
            dp_error err;

            if (open_copies(&s, way, &err))
                break;
            dp_fault_arm(DP_FAULT_AIO_READ, visit, 1);
            read_all(s, way);
            CHECK(dp_fault_disarm(DP_FAULT_AIO_READ) == 1, "a read failed");
            read_all(s, way);
            s->ops->close(s);
        }
    remove_copies();
}

/* Of two copies that end early the third is read; without one, the error is told. */
static void test_copies_are_cut(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_source *s;
        dp_error err;
        item item;
        gate gate;

        make_copies();
        if (open_copies(&s, way, &err))
            continue;
        CHECK(truncate(copy_paths[0], 5000) == 0 && truncate(copy_paths[1], 0) == 0, "cut");
        read_all(s, way);
        read_all(s, way);
        s->ops->close(s);
        CHECK(open_copies(&s, way, &err) == DP_E_INVALID && strstr(err.text, copy_paths[0]) &&
                  strstr(err.text, "5000"),
              "%s", err.text);
        remove_copies();
        make_copies();
        CHECK_OK(open_copies(&s, way, &err), err);
        gate_init(&gate);
        dp_fault_arm(DP_FAULT_AIO_READ, 0, 1000);
        item_submit(&item, &gate, s, 777, 300000);
        gate_wait(&gate, 1);
        dp_fault_disarm(DP_FAULT_AIO_READ);
        CHECK(item.error.status == DP_E_IO, "%d", item.error.status);
        item_free(&item);
        s->ops->close(s);
        gate_deinit(&gate);
        remove_copies();
    }
}

static void test_close_ends_reads_of_copies(void **unused)
{
    make_copies();
    for (size_t round = 0; round < 4 * DP_ARRAY_LEN(ways); round++) {
        item items[READ_COUNT];
        dp_source *s;
        dp_error err;
        gate gate;

        if (open_copies(&s, round % DP_ARRAY_LEN(ways), &err))
            continue;
        gate_init(&gate);
        if (round >= 2 * DP_ARRAY_LEN(ways))
            dp_fault_arm(DP_FAULT_AIO_READ, round, 3);
        for (size_t i = 0; i < READ_COUNT; i++)
            item_submit(&items[i], &gate, s, i * 1000, 500000);
        s->ops->close(s);
        dp_fault_disarm(DP_FAULT_AIO_READ);
        CHECK(gate.ended_count == READ_COUNT, "%u", gate.ended_count);
        for (size_t i = 0; i < READ_COUNT; i++) {
            CHECK(items[i].error.status || item_has_data(&items[i]), "read %zu", i);
            item_free(&items[i]);
        }
        gate_deinit(&gate);
    }
    remove_copies();
}

static void test_open_fails(void **unused)
{
    static const char *const missing[] = { path, "/nowhere/model.gguf" };
    dp_source_file_config config = { missing, 2, DP_IO_AUTO, DP_AIO_THREADS, 2, DP_MIB };
    dp_mem_stats before;
    dp_mem_stats after;
    dp_source *s;
    dp_error err;
    dp_status st;

    dp_mem_stats_read(&before);
    st = dp_source_file_open(&s, &config, &err);
    CHECK(st == DP_E_NOTFOUND && !s && strstr(err.text, missing[1]), "%s", err.text);
    config.file_count = 1;
    config.depth = 0;
    CHECK(dp_source_file_open(&s, &config, &err) == DP_E_LIMIT, "depth 0");
    config.depth = 2;
    for (uint64_t visit = 0;; visit++) {
        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = dp_source_file_open(&s, &config, &err);
        if (!dp_fault_disarm(DP_FAULT_MEM))
            break;
        CHECK(st == DP_E_NOMEM && !s && err.text[0], "visit %d: %d", (int)visit, st);
        dp_mem_stats_read(&after);
        CHECK(!memcmp(&before, &after, sizeof before), "visit %d leaks", (int)visit);
    }
    CHECK_OK(st, err);
    s->ops->close(s);
    dp_mem_stats_read(&after);
    CHECK(!memcmp(&before, &after, sizeof before), "close leaks");
}

/* As many files as there is room for; a place that is free again is used again. */
static void test_files_are_added(void **unused)
{
    uint32_t index, again;
    dp_source *s;
    dp_error err;
    item item;
    gate gate;

    CHECK_OK(open_source(&s, DP_IO_AUTO, DP_AIO_AUTO, 4, &err), err);
    gate_init(&gate);
    for (uint32_t i = 1; i <= DP_SOURCE_FILES_MORE; i++) {
        CHECK_OK(dp_source_file_add(s, path, &index, &err), err);
        CHECK(index == i, "file %u is at %u", i, index);
    }
    CHECK(dp_source_file_add(s, path, &again, &err) == DP_E_LIMIT, "%s", err.text);
    dp_source_file_remove(s, 7);
    CHECK(dp_source_file_add(s, "/no/such/file", &again, &err) == DP_E_NOTFOUND, "%s", err.text);
    CHECK_OK(dp_source_file_add(s, path, &again, &err), err);
    CHECK(again == 7, "at %u", again);
    item_submit_to(&item, &gate, s, again, 1000, 300000);
    gate_wait(&gate, 1);
    CHECK_OK(item.error.status, item.error);
    CHECK(item_has_data(&item), "data");
    item_free(&item);
    s->ops->close(s);
    gate_deinit(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_parts_and_counts),
        cmocka_unit_test(test_file_ends_early),
        cmocka_unit_test(test_read_fails),
        cmocka_unit_test(test_short_reads),
        cmocka_unit_test(test_prefetches_by_due),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_a_copy_fails),
        cmocka_unit_test(test_copies_are_cut),
        cmocka_unit_test(test_close_ends_reads_of_copies),
        cmocka_unit_test(test_cancel_and_promote),
        cmocka_unit_test(test_close_ends_reads),
        cmocka_unit_test(test_open_fails),
        cmocka_unit_test(test_files_are_added),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
