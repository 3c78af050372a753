/* The tier over real files, read in every way this system has: data, and every failure. */
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"
#include "tier/source_file.h"
#include "tier/tier_impl.h"

#define FILE_BYTES  (2 * DP_MIB + 77) /* ends inside a sector */
#define FILE_COUNT  2
#define PAGE_COUNT  16
#define PART_COUNT  3
#define DEADLINE_NS 20000000000ull

static char paths[FILE_COUNT][64];
static uint8_t *content[FILE_COUNT]; /* [FILE_BYTES] */
static dp_page_desc descs[PAGE_COUNT];

static const struct {
    dp_io_mode mode;
    dp_aio_engine engine;
} ways[] = {
    { DP_IO_DIRECT, DP_AIO_URING },     { DP_IO_BUFFERED, DP_AIO_URING },
    { DP_IO_AUTO, DP_AIO_URING },       { DP_IO_DIRECT, DP_AIO_THREADS },
    { DP_IO_BUFFERED, DP_AIO_THREADS }, { DP_IO_AUTO, DP_AIO_THREADS },
};

static int make_file(uint32_t i, dp_rng *rng)
{
    int fd;

    snprintf(paths[i], sizeof paths[i], "/tmp/doppler-tier-XXXXXX");
    fd = mkstemp(paths[i]);
    content[i] = malloc(FILE_BYTES);
    for (size_t at = 0; at < FILE_BYTES; at++)
        content[i][at] = (uint8_t)dp_rng_u64(rng);
    if (fd < 0 || write(fd, content[i], FILE_BYTES) != (ssize_t)FILE_BYTES)
        return -1;
    return close(fd);
}

/* Pages of three ranges as experts have them, small ones among them; the last page ends
 * with its file. */
static int make_files(void **unused)
{
    dp_rng rng;

    dp_rng_init(&rng, 11);
    for (uint32_t i = 0; i < FILE_COUNT; i++)
        if (make_file(i, &rng))
            return -1;
    for (uint32_t i = 0; i < PAGE_COUNT; i++) {
        descs[i] = (dp_page_desc){ DP_PAGE_EXPERT, 0, i, PART_COUNT };
        for (uint32_t part = 0; part < PART_COUNT; part++) {
            uint64_t size = i % 4 ? 150000 + dp_rng_below(&rng, 50000) : 13824;
            uint64_t offset = dp_rng_below(&rng, FILE_BYTES - size);
            if (i + 1 == PAGE_COUNT)
                offset = FILE_BYTES - size;
            descs[i].parts[part] = (dp_page_part){ i % FILE_COUNT, offset, size };
        }
    }
    return 0;
}

static int remove_files(void **unused)
{
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        free(content[i]);
        unlink(paths[i]);
    }
    return 0;
}

typedef struct pair {
    dp_source *source;
    dp_tier *tier;
} pair;

static void pair_close(pair *pair)
{
    dp_tier_close(pair->tier);
    if (pair->source)
        pair->source->ops->close(pair->source);
}

static dp_status pair_open(pair *pair, size_t way, uint64_t budget_bytes, dp_error *err)
{
    const char *const names[FILE_COUNT] = { paths[0], paths[1] };
    dp_source_file_config file = { names, FILE_COUNT, ways[way].mode, ways[way].engine,
                                   4,     64 * DP_KIB };
    dp_tier_config config = { budget_bytes, &dp_policy_lfru, NULL, &dp_clock_real };
    dp_status st;

    *pair = (struct pair){ NULL, NULL };
    st = dp_source_file_open(&pair->source, &file, err);
    if (st)
        return st;
    config.source = pair->source;
    st = dp_tier_open(&pair->tier, &config, err);
    for (uint32_t i = 0; st == DP_OK && i < PAGE_COUNT; i++) {
        dp_page_id id;
        st = dp_tier_add_page(pair->tier, &descs[i], &id, err);
    }
    return st;
}

static bool has_data(const dp_lease *lease)
{
    for (uint32_t i = 0; i < PART_COUNT; i++) {
        const dp_page_part *part = &descs[lease->page].parts[i];
        if (memcmp(lease->parts[i], content[part->file_index] + part->offset, part->size))
            return false;
    }
    return true;
}

/* Wants pages in one batch and checks each; the error of the first that failed. */
static dp_status take(dp_tier *tier, const dp_page_id *pages, size_t count, dp_error *err)
{
    uint8_t states[PAGE_COUNT];
    dp_tier_batch batch;
    dp_status st;

    st = dp_tier_want(tier, pages, count, states, &batch, err);
    while (st == DP_OK) {
        dp_lease lease;
        size_t index;
        st = dp_tier_next(&batch, &lease, &index, DEADLINE_NS, err);
        if (st == DP_OK)
            CHECK(has_data(&lease), "page %u", lease.page);
        dp_tier_release(tier, &lease);
    }
    dp_tier_batch_end(&batch);
    dp_tier_check(tier);
    return st == DP_E_NOTFOUND ? DP_OK : st;
}

/* False, with a note, where this system or file system lacks a way. */
static bool has_way(size_t way)
{
    pair pair;
    dp_error err;
    dp_status st = pair_open(&pair, way, 4 * DP_MIB, &err);

    if (st == DP_E_UNSUPPORTED)
        fprintf(stderr, "skipped: %s\n", err.text);
    else
        CHECK_OK(st, err);
    pair_close(&pair);
    return st == DP_OK;
}

static void test_data_of_every_way(void **unused)
{
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_tier_stats stats;
        dp_error err;
        dp_rng rng;
        pair pair;

        if (!has_way(way))
            continue;
        dp_rng_init(&rng, way);
        CHECK_OK(pair_open(&pair, way, 2 * DP_MIB, &err), err);
        for (int round = 0; round < 30; round++) {
            dp_page_id pages[PAGE_COUNT];
            size_t count = 1 + dp_rng_below(&rng, PAGE_COUNT);
            uint64_t first = dp_rng_below(&rng, PAGE_COUNT);
            for (size_t i = 0; i < count; i++)
                pages[i] = (dp_page_id)((first + i) % PAGE_COUNT);
            dp_tier_prefetch(pair.tier, pages, 2, 0);
            CHECK_OK(take(pair.tier, pages, count, &err), err);
            dp_tier_tick(pair.tier);
        }
        dp_tier_stats_read(pair.tier, &stats);
        CHECK(stats.slot_bytes_max <= 2 * DP_MIB && stats.evictions > 0, "(4)");
        pair_close(&pair);
    }
}

/* The n-th answer of the disk is an error: the page's, then a retry succeeds. */
static void test_disk_errors(void **unused)
{
    static const dp_page_id pages[] = { 1, 0, 15 };

    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        if (!has_way(way))
            continue;
        for (uint64_t visit = 0;; visit++) {
            uint64_t failed_count;
            dp_status st;
            dp_error err;
            pair pair;

            CHECK_OK(pair_open(&pair, way, 4 * DP_MIB, &err), err);
            dp_fault_arm(DP_FAULT_AIO_READ, visit, 1);
            st = take(pair.tier, pages, 3, &err);
            failed_count = dp_fault_disarm(DP_FAULT_AIO_READ);
            if (failed_count)
                CHECK(st == DP_E_IO && strstr(err.text, "doppler-tier-") &&
                          strstr(err.text, "at byte") && strstr(err.text, "error"),
                      "%s", err.text);
            CHECK_OK(take(pair.tier, pages, 3, &err), err);
            pair_close(&pair);
            if (!failed_count)
                break;
        }
    }
}

static void test_short_reads(void **unused)
{
    static const dp_page_id pages[] = { 0, 1, 2, 3, 15 };

    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_error err;
        pair pair;

        if (!has_way(way))
            continue;
        CHECK_OK(pair_open(&pair, way, 4 * DP_MIB, &err), err);
        dp_fault_arm(DP_FAULT_AIO_SHORT, 2, 9);
        CHECK_OK(take(pair.tier, pages, 5, &err), err);
        CHECK(dp_fault_disarm(DP_FAULT_AIO_SHORT) == 9, "they happened");
        pair_close(&pair);
    }
}

/* Puts back what test_truncated_file took. */
static void make_whole(uint64_t kept)
{
    FILE *file = fopen(paths[1], "r+b");
    size_t written;

    CHECK(file && !fseek(file, (long)kept, SEEK_SET), "open");
    written = fwrite(content[1] + kept, 1, FILE_BYTES - kept, file);
    CHECK(written == FILE_BYTES - kept && !fclose(file), "write");
}

/* The file shrinks after it was opened: pages before its new end go on. */
static void test_truncated_file(void **unused)
{
    static const dp_page_id pages[] = { 15, 13 };
    uint64_t kept = DP_MAX(descs[13].parts[0].offset,
                           DP_MAX(descs[13].parts[1].offset, descs[13].parts[2].offset)) +
                    200000;

    CHECK(kept < FILE_BYTES - 1000, "page 13 ends before page 15");
    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_status st;
        dp_error err;
        pair pair;
        int failed;

        if (!has_way(way))
            continue;
        CHECK_OK(pair_open(&pair, way, 4 * DP_MIB, &err), err);
        failed = truncate(paths[1], (off_t)kept);
        CHECK(!failed, "truncate");
        st = take(pair.tier, pages, 1, &err);
        CHECK(st == DP_E_IO && strstr(err.text, "truncated") && strstr(err.text, paths[1]), "%s",
              err.text);
        CHECK_OK(take(pair.tier, &pages[1], 1, &err), err);
        pair_close(&pair);
        make_whole(kept);
    }
}

/* Every allocation, from open to the last page, fails once. */
static void test_memory_is_short(void **unused)
{
    static const dp_page_id pages[] = { 1, 0, 15 };
    dp_mem_stats before;
    dp_mem_stats after;

    dp_mem_stats_read(&before);
    for (uint64_t visit = 0;; visit++) {
        uint64_t failed_count;
        dp_status st;
        dp_error err = { DP_OK, "" };
        pair pair;

        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = pair_open(&pair, 5, 4 * DP_MIB, &err);
        if (st == DP_OK)
            st = take(pair.tier, pages, 3, &err);
        failed_count = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(failed_count ? st == DP_E_NOMEM && err.text[0] : st == DP_OK, "visit %d: %d %s",
              (int)visit, st, err.text);
        pair_close(&pair);
        dp_mem_stats_read(&after);
        CHECK(!memcmp(&before, &after, sizeof before), "visit %d leaks", (int)visit);
        if (!failed_count)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_of_every_way), cmocka_unit_test(test_disk_errors),
        cmocka_unit_test(test_short_reads),       cmocka_unit_test(test_truncated_file),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, make_files, remove_files);
}
