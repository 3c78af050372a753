/* packed_bench - would a file of packed pages be read faster than a model's own?
 *
 *   bench_packed FILE [PAIRS]
 *
 * An expert is three matrices that lie apart in a model's file. Packed, it would be one range.
 * For each size of page, both are read from random places of FILE by turns (read_speed.h): many
 * pages in a row, as a run that never waits does, and one at a time. A JSON line a size;
 * medians of PAIRS samples each, and of the ratios of pairs. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/read_speed.h"

#define PAIRS_MAX  101
#define RUN_BYTES  (384 * DP_MIB)
#define ALONE_RUNS 5
#define RANGES     3

static const uint64_t page_kib[] = { 1728, 4320, 12960, 25920 };

static _Noreturn void die(const dp_error *err)
{
    fprintf(stderr, "bench_packed: %s\n", err->text);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static double speed_of(const char *path, uint64_t range_bytes, uint64_t total_bytes, uint64_t seed)
{
    drive_config config = { .engine = DP_AIO_AUTO,
                            .request_bytes = DP_MIB,
                            .range_bytes = range_bytes,
                            .total_bytes = total_bytes,
                            .depth = 16,
                            .seed = seed };
    double speed;
    dp_error err;

    if (drive_speed(&speed, path, &config, &err))
        die(&err);
    return speed;
}

/* ms of one page, nothing else asked for. */
static double alone_ms(const char *path, uint64_t range_bytes, uint64_t page_bytes, uint64_t seed)
{
    double ms[ALONE_RUNS];

    for (int i = 0; i < ALONE_RUNS; i++)
        ms[i] = (double)page_bytes * 1e3 /
                speed_of(path, range_bytes, page_bytes, seed * ALONE_RUNS + (uint64_t)i);
    return median(ms, ALONE_RUNS);
}

static void measure(const char *path, uint64_t page_bytes, int pairs)
{
    double apart[PAIRS_MAX], packed[PAIRS_MAX], gain[PAIRS_MAX];
    double apart_ms[PAIRS_MAX], packed_ms[PAIRS_MAX], gain_ms[PAIRS_MAX];
    uint64_t range_bytes = page_bytes / RANGES;

    for (int i = 0; i < pairs; i++) {
        uint64_t seed = (uint64_t)i + 1;
        bool is_packed_first = i % 2;
        for (int turn = 0; turn < 2; turn++) {
            if (is_packed_first == !turn) {
                packed[i] = speed_of(path, page_bytes, RUN_BYTES, seed) / 1e9;
                packed_ms[i] = alone_ms(path, page_bytes, page_bytes, seed);
            } else {
                apart[i] = speed_of(path, range_bytes, RUN_BYTES, seed) / 1e9;
                apart_ms[i] = alone_ms(path, range_bytes, page_bytes, seed);
            }
        }
        gain[i] = packed[i] / apart[i];
        gain_ms[i] = apart_ms[i] / packed_ms[i];
    }
    printf("{\"bench\": \"packed\", \"page_bytes\": %llu, \"pairs\": %d, \"apart_gb_s\": %.4g, "
           "\"packed_gb_s\": %.4g, \"gain\": %.4g, \"apart_alone_ms\": %.4g, "
           "\"packed_alone_ms\": %.4g, \"gain_alone\": %.4g}\n",
           (unsigned long long)page_bytes, pairs, median(apart, pairs), median(packed, pairs),
           median(gain, pairs), median(apart_ms, pairs), median(packed_ms, pairs),
           median(gain_ms, pairs));
}

int main(int argc, char **argv)
{
    int pairs = argc > 2 ? atoi(argv[2]) : 11;

    if (argc < 2 || pairs < 1 || pairs > PAIRS_MAX) {
        fprintf(stderr, "usage: bench_packed FILE [PAIRS]\n");
        return 2;
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(page_kib); i++)
        measure(argv[1], page_kib[i] * DP_KIB, pairs);
    return 0;
}
