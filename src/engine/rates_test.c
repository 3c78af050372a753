/* Products of a small model: which are timed, and no memory that stays. */
#include "engine/rates.h"

#include "base/fault.h"
#include "base/mem.h"
#include "model/model_testing.h"

#define TENSORS_MAX 256

static dp_gguf *make(void)
{
    test_model m = { .layers = 2,
                     .dim = 128,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 32,
                     .ff = 256,
                     .vocab = 500,
                     .context = 256,
                     .experts = 6,
                     .used = 2,
                     .type = DP_Q8_0 };
    dp_gguf *gguf;

    test_model_make(&m, 7);
    gguf = test_model_gguf(&m);
    test_model_free(&m);
    return gguf;
}

static dp_status measure(dp_rates *out, const dp_gguf *gguf, double products, uint64_t region_bytes,
                         dp_error *err)
{
    dp_rates_use used[TENSORS_MAX];
    dp_rates_config config = {
        .kernels = "auto", .threads = 2, .measure_ns = 0, .region_bytes = region_bytes
    };
    size_t count = dp_gguf_tensor_count(gguf);

    CHECK(count <= TENSORS_MAX, "%zu tensors", count);
    for (size_t i = 0; i < count; i++)
        used[i] = (dp_rates_use){ products, dp_gguf_tensor(gguf, i)->ne[1] };
    return dp_rates_measure(out, gguf, used, &config, err);
}

/* Regions that hold all matrices, and one that cuts the head of 68,000 bytes into two. */
static const uint64_t regions[] = { 2 << 20, 100000 };

static void test_measures(void **state)
{
    dp_gguf *gguf = make();

    for (size_t i = 0; i < DP_ARRAY_LEN(regions); i++) {
        dp_rates some, none;
        dp_error err;

        CHECK_OK(measure(&some, gguf, 2, regions[i], &err), err);
        CHECK_OK(measure(&none, gguf, 0, regions[i], &err), err);
        /* 30 matrices of 4 to 68 KB, twice: more than a nanosecond each, less than 10 s */
        CHECK(some.compute_s > 60e-9 && some.compute_s < 10, "%g s", some.compute_s);
        CHECK(some.step_s > 60e-9 && some.step_s < 10, "%g s", some.step_s);
        CHECK(none.compute_s == 0 && none.step_s == 0, "nothing is used: %g s", none.step_s);
    }
    dp_gguf_close(gguf);
}

static void test_refuses_unknown_kernels(void **state)
{
    dp_gguf *gguf = make();
    dp_rates_use used[TENSORS_MAX] = { { 0 } };
    dp_rates_config config = { .kernels = "x86.none", .threads = 1, .region_bytes = 1 << 20 };
    dp_rates rates;

    CHECK(dp_rates_measure(&rates, gguf, used, &config, NULL) != DP_OK, "no such table");
    dp_gguf_close(gguf);
}

static void test_memory_fails(void **state)
{
    dp_gguf *gguf = make();
    dp_mem_stats before, after;
    dp_status st = DP_E_NOMEM;
    uint64_t n;

    dp_mem_stats_read(&before);
    for (n = 0; st && n < 1000; n++) {
        dp_rates rates;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = measure(&rates, gguf, 1, regions[1], NULL);
        dp_fault_disarm(DP_FAULT_MEM);
        dp_mem_stats_read(&after);
        CHECK(!st || st == DP_E_NOMEM, "visit %llu: %d", (unsigned long long)n, (int)st);
        CHECK(after.heap_blocks == before.heap_blocks && after.map_regions == before.map_regions,
              "visit %llu leaks", (unsigned long long)n);
    }
    CHECK(!st && n > 4, "%llu visits", (unsigned long long)n);
    dp_gguf_close(gguf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_measures),
        cmocka_unit_test(test_refuses_unknown_kernels),
        cmocka_unit_test(test_memory_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
