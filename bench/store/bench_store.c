/* bench_store.c - how fast pieces go into the disk tier and come out of it, as JSON lines.
 *
 *   bench_store FOLDER [--bytes SIZE] [--piece SIZE] [--samples N]
 *
 * FOLDER gets a cache of SIZE bytes (default 512 MiB), which is removed afterwards. Reading is
 * measured from the page cache, hash included, by one thread and by one a core, and once from
 * the drive; "hash" is the same pieces hashed in memory: reading cannot be faster.
 * "write" is to the page cache and behind it to the drive, "write_sync" until it is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/str.h"
#include "store/store.h"

#define KEY         "00be7c4"
#define NAME        "bench"
#define SAMPLES_MAX 100

typedef struct bench {
    const char *folder;
    dp_pieces pieces;
    uint32_t count, samples, threads;
    uint8_t *content;
    dp_store_file *file;
    bool hashes_only;
    _Atomic int failures;
} bench;

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* cpu_seconds: of all threads and samples; on a machine that others use it says more. */
static void print(const bench *b, const char *what, uint32_t threads, double *seconds,
                  uint32_t samples, double cpu_seconds)
{
    double gb = (double)b->pieces.file_size / 1e9;

    qsort(seconds, samples, sizeof *seconds, compare);
    printf("{\"bench\":\"store\",\"what\":\"%s\",\"threads\":%u,\"piece_bytes\":%u,"
           "\"bytes\":%llu,\"samples\":%u,\"gb_s\":%.3f,\"gb_cpu_s\":%.3f}\n",
           what, threads, b->pieces.piece_size, (unsigned long long)b->pieces.file_size, samples,
           gb / seconds[samples / 2], gb * samples / cpu_seconds);
    fflush(stdout);
}

static void read_pieces(void *user, size_t begin, size_t end, uint32_t worker)
{
    bench *b = user;
    uint8_t *out = dp_alloc(b->pieces.piece_size, 1);
    dp_hash hash;
    dp_error err;

    for (size_t i = begin; i < end && out; i++) {
        uint64_t offset = i * (uint64_t)b->pieces.piece_size;
        dp_status st =
            b->hashes_only
                ? dp_piece_hash(&hash, b->pieces, (uint32_t)i, b->content + offset, &err)
                : dp_store_read_range(b->file, offset, dp_pieces_size(b->pieces, (uint32_t)i), out,
                                      out, &err);

        if (st) {
            fprintf(stderr, "%s\n", err.text);
            b->failures++;
        }
    }
    b->failures += !out;
    dp_free(out);
}

static void measure_reading(bench *b, const char *what, uint32_t threads, uint32_t samples)
{
    double seconds[SAMPLES_MAX], cpu_begin = cpu_s();
    dp_pool *pool;
    dp_error err;

    if (dp_pool_open(&pool, threads, &err)) {
        fprintf(stderr, "%s\n", err.text);
        b->failures++;
        return;
    }
    for (uint32_t s = 0; s < samples; s++) {
        uint64_t begin = dp_clock_now_ns(&dp_clock_real);

        dp_pool_run(pool, b->count, DP_MAX(1, b->count / 64), read_pieces, b);
        seconds[s] = (double)(dp_clock_now_ns(&dp_clock_real) - begin) * 1e-9;
    }
    dp_pool_close(pool);
    print(b, what, threads, seconds, samples, cpu_s() - cpu_begin);
}

static dp_status open_all(bench *b, dp_store **store, dp_error *err)
{
    dp_store_config config = { b->folder, b->pieces.file_size * 2 + 64 * DP_MIB, &dp_clock_real };
    dp_store_file_config file_config = { KEY, NAME, b->pieces };
    dp_status st = dp_store_open(store, &config, err);

    return st ? st : dp_store_file_open(&b->file, *store, &file_config, err);
}

static dp_status measure_writing(bench *b, dp_error *err)
{
    double seconds, synced, cpu_begin = cpu_s(), cpu;
    uint64_t begin = dp_clock_now_ns(&dp_clock_real);
    dp_store *store = NULL;
    dp_status st = open_all(b, &store, err);
    bool is_kept = true;

    for (uint32_t i = 0; i < b->count && !st && is_kept; i++)
        st = dp_store_write(b->file, i, b->content + (uint64_t)i * b->pieces.piece_size, &is_kept,
                            err);
    seconds = (double)(dp_clock_now_ns(&dp_clock_real) - begin) * 1e-9;
    cpu = cpu_s() - cpu_begin;
    dp_store_file_close(b->file);
    dp_store_close(store);
    synced = (double)(dp_clock_now_ns(&dp_clock_real) - begin) * 1e-9;
    if (st)
        return st;
    if (!is_kept)
        fprintf(stderr, "%s: not kept\n", b->folder);
    b->failures += !is_kept;
    print(b, "write", 1, &seconds, 1, cpu);
    print(b, "write_sync", 1, &synced, 1, cpu_s() - cpu_begin);
    return DP_OK;
}

static dp_status run(bench *b, dp_error *err)
{
    dp_store *store = NULL;
    dp_status st = measure_writing(b, err);

    if (!st)
        st = open_all(b, &store, err);
    if (!st) {
        measure_reading(b, "read_drive", 1, 1); /* closing dropped what the system had of it */
        measure_reading(b, "read_cached", 1, b->samples);
        measure_reading(b, "read_cached", b->threads, b->samples);
        b->hashes_only = true;
        measure_reading(b, "hash", 1, b->samples);
        measure_reading(b, "hash", b->threads, b->samples);
        dp_store_file_close(b->file);
    }
    dp_store_close(store);
    return st ? st : dp_store_remove(b->folder, KEY, err);
}

static bool parse(bench *b, int argc, char **argv)
{
    uint64_t bytes = 512 * DP_MIB, piece = DP_MIB, samples = 5;

    for (int i = 2; i + 1 < argc; i += 2) {
        uint64_t *out = strcmp(argv[i], "--bytes") == 0     ? &bytes
                        : strcmp(argv[i], "--piece") == 0   ? &piece
                        : strcmp(argv[i], "--samples") == 0 ? &samples
                                                            : NULL;

        if (!out || !dp_parse_size(dp_str_from(argv[i + 1]), out))
            return false;
    }
    b->pieces = (dp_pieces){ bytes, (uint32_t)piece };
    b->samples = (uint32_t)samples;
    return argc % 2 == 0 && bytes > 0 && samples > 0 && samples <= SAMPLES_MAX &&
           dp_is_power_of_two(piece) && piece >= DP_PIECE_SIZE_MIN && piece <= DP_PIECE_SIZE_MAX;
}

int main(int argc, char **argv)
{
    bench b = { .folder = argc > 1 ? argv[1] : NULL };
    dp_error err;
    dp_status st;
    dp_rng rng;

    if (!b.folder || !parse(&b, argc, argv)) {
        fprintf(stderr, "usage: bench_store FOLDER [--bytes SIZE] [--piece SIZE] [--samples N]\n");
        return 2;
    }
    b.count = dp_pieces_count(b.pieces);
    b.threads = dp_cpu_get()->thread_count;
    b.content = dp_alloc(b.pieces.file_size + 8, 1);
    if (!b.content) {
        fprintf(stderr, "no memory for the content\n");
        return 1;
    }
    dp_rng_init(&rng, 1);
    for (uint64_t i = 0; i < b.pieces.file_size; i += 8) {
        uint64_t x = dp_rng_u64(&rng);

        memcpy(b.content + i, &x, 8);
    }
    st = run(&b, &err);
    if (st)
        fprintf(stderr, "%s\n", err.text);
    dp_free(b.content);
    return st || b.failures ? 1 : 0;
}
