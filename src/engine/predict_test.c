#include "testing/check.h"

#include <math.h>

#include "base/base.h"
#include "engine/predict.h"

static dp_drive_probe drive = {
    .best = { "io_uring", true, 1 << 20, 8, 3e9 },
    .sustained_bytes_s = 2e9,
    .latency_count = 3,
    .latencies = { { 4096, 9, 0, 0, 100000 },
                   { 1048576, 9, 0, 0, 1100000 },
                   { 4194304, 9, 0, 0, 3100000 } },
};

static const struct {
    double bytes, want_s;
} reads[] = {
    { 0, 0 },
    { 1, 0.0001 },
    { 4096, 0.0001 },
    { (4096 + 1048576) / 2.0, 0.0006 },
    { 1048576, 0.0011 },
    { 4194304, 0.0031 },
    { 4194304 + 2e9, 1.0031 },
};

static void time_of_a_read(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(reads); i++) {
        double got = dp_predict_read_s(&drive, reads[i].bytes);

        CHECK(fabs(got - reads[i].want_s) < 1e-9, "%g bytes: %g s", reads[i].bytes, got);
    }
}

/* Of the probe's rates, while a step computes: kernels take so much of its products' time, and
 * memory the rest. */
#define BESIDE(kernels) (0.7 + 0.2 * (kernels))

/* Of a step's computing, its products. */
#define PRODUCTS 0.88

/* Of 2 MiB: between 1 and 4 MiB. */
#define PAGE_S (0.0011 + 0.002 / 3)

/* Times worked out by hand: 1 GB of weights at 10 GB/s is 0.1 s. */
static const struct {
    const char *name;
    dp_predict_request request;
    bool has_drive;
    double tok_s;
    uint64_t drive_bytes;
    const char *bottleneck;
} rows[] = {
    { "dense, all held, memory",
      { .always_bytes = 1000000000,
        .always_held = 1000000000,
        .memory_bytes_s = 1e10,
        .compute_s = 0.05 },
      false,
      10 * PRODUCTS,
      0,
      "memory" },
    { "dense, all held, compute",
      { .always_bytes = 1000000000,
        .always_held = 1000000000,
        .memory_bytes_s = 1e10,
        .compute_s = 0.2 },
      false,
      5 * PRODUCTS,
      0,
      "compute" },
    { "dense, half of it streams",
      { .always_bytes = 1000000000,
        .always_held = 500000000,
        .memory_bytes_s = 1e10,
        .compute_s = 0.05 },
      true,
      4 * BESIDE(0.5),
      500000000,
      "drive" },
    { "dense, a little streams behind the computing",
      { .always_bytes = 1000000000,
        .always_held = 900000000,
        .memory_bytes_s = 1e10,
        .compute_s = 0.05 },
      true,
      10 * PRODUCTS,
      100000000,
      "memory" },
    { "a drive nobody measured",
      { .always_bytes = 1000000000, .always_held = 500000000, .memory_bytes_s = 1e10 },
      false,
      0,
      500000000,
      "" },
    { "mixture, two experts of 2 MiB a layer, all missed: 20 reads of 2 MiB",
      { .is_mixture = true,
        .always_bytes = 500000000,
        .always_held = 500000000,
        .expert_bytes = 2097152,
        .expert_layers = 10,
        .expert_used = 2,
        .hit_rate = 0,
        .memory_bytes_s = 5.4194304e9,
        .compute_s = 0.01 },
      true,
      1 / (0.1 / PRODUCTS + 20 * PAGE_S / BESIDE(0.1)),
      41943040,
      "memory" },
    { "mixture, a quarter missed: 6 of 16 layers wait for one expert of 1 MiB, one for two",
      { .is_mixture = true,
        .always_bytes = 0,
        .expert_bytes = 1048576,
        .expert_layers = 20,
        .expert_used = 2,
        .hit_rate = 0.75,
        .memory_bytes_s = 1e12 },
      true,
      1 / (41943040 / 1e12 / PRODUCTS + 20 * (6 * 0.0011 + 2 * 0.0011) / 16 / BESIDE(0)),
      10485760,
      "drive" },
    { "mixture, computing beside reading: 1 ms of one hides in 1.6 of the other",
      { .is_mixture = true,
        .expert_bytes = 1048576,
        .expert_layers = 1,
        .expert_used = 2,
        .hit_rate = 0.5,
        .memory_bytes_s = 1e12,
        .step_s = 0.002,
        .expert_s = 0.001 },
      true,
      1 / (0.002 / PRODUCTS + 0.5 * (0.0011 / BESIDE(0) - 0.001) +
           0.25 * (2 * 0.0011 / BESIDE(0) - 0.001)),
      1048576,
      "memory" },
    { "mixture, products one by one are slower than a sweep",
      { .is_mixture = true,
        .always_bytes = 1000000000,
        .always_held = 1000000000,
        .expert_layers = 1,
        .expert_used = 1,
        .hit_rate = 1,
        .memory_bytes_s = 1e10,
        .step_s = 0.125 },
      false,
      8 * PRODUCTS,
      0,
      "memory" },
    { "mixture, look-ahead: the drive rests in a head of 10 ms, and not in ten layers of 5 ms",
      { .is_mixture = true,
        .looks_ahead = true,
        .expert_bytes = 41943040,
        .expert_layers = 10,
        .expert_used = 1,
        .memory_bytes_s = 1e12,
        .step_s = 0.06 * PRODUCTS,
        .head_s = 0.01 * PRODUCTS },
      true,
      1 / (0.01 + 0.2097152 / BESIDE(0)),
      419430400,
      "drive" },
    { "mixture, look-ahead: asked for half a layer of 1 ms before the router has spoken",
      { .is_mixture = true,
        .looks_ahead = true,
        .expert_bytes = 2097152,
        .expert_layers = 1,
        .expert_used = 2,
        .memory_bytes_s = 1e12,
        .step_s = 0.001 * PRODUCTS },
      true,
      1 / (0.001 + 2 * PAGE_S / BESIDE(0) - 0.0005),
      4194304,
      "drive" },
    { "mixture, look-ahead: half a layer of 15 ms hides two reads",
      { .is_mixture = true,
        .looks_ahead = true,
        .expert_bytes = 2097152,
        .expert_layers = 1,
        .expert_used = 2,
        .memory_bytes_s = 1e12,
        .step_s = 0.025 * PRODUCTS,
        .head_s = 0.01 * PRODUCTS },
      true,
      40,
      4194304,
      "memory" },
    { "mixture, look-ahead: three layers of 1.5 ms, asked for half and twice one and a half "
      "before; a quarter of them lack two, half of them one",
      { .is_mixture = true,
        .looks_ahead = true,
        .expert_bytes = 2097152,
        .expert_layers = 3,
        .expert_used = 2,
        .hit_rate = 0.5,
        .memory_bytes_s = 1e12,
        .step_s = 0.0045 * PRODUCTS },
      true,
      1 / (0.0045 + 0.25 * (6 * PAGE_S / BESIDE(0) - 0.00525) +
           0.5 * (3 * PAGE_S / BESIDE(0) - 0.00525)),
      6291456,
      "memory" },
    { "mixture, all held",
      { .is_mixture = true,
        .always_bytes = 958056960,
        .always_held = 958056960,
        .expert_bytes = 1048576,
        .expert_layers = 20,
        .expert_used = 2,
        .hit_rate = 1,
        .memory_bytes_s = 1e10 },
      false,
      10 * PRODUCTS,
      0,
      "memory" },
};

static void tokens(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_predict_request request = rows[i].request;
        dp_prediction got;

        request.drive = rows[i].has_drive ? &drive : NULL;
        dp_predict(&got, &request);
        CHECK(fabs(got.tok_s - rows[i].tok_s) < 1e-6 * DP_MAX(rows[i].tok_s, 1), "%s: %g tok/s",
              rows[i].name, got.tok_s);
        CHECK(got.drive_bytes == rows[i].drive_bytes, "%s: %llu bytes", rows[i].name,
              (unsigned long long)got.drive_bytes);
        CHECK(strcmp(got.bottleneck, rows[i].bottleneck) == 0, "%s: %s", rows[i].name,
              got.bottleneck);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_of_a_read),
        cmocka_unit_test(tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
