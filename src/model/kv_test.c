#include "model/kv.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define ROWS 6

static dp_device *device;

/* Layers of different widths, one not a multiple of a cache line. */
static dp_hparams shape(void)
{
    return (
        dp_hparams){ .layer_count = 3, .kv_head_count = { 2, 1, 3 }, .key_dim = 5, .value_dim = 7 };
}

static const uint64_t layer_values[] = { 2 * 12 * 32, 1 * 12 * 32, 3 * 12 * 32 };

static int open_device(void **unused)
{
    static const dp_device_limits limits = { 1, 16, 16 };

    return dp_device_cpu_open(&device, "auto", 1, &limits, NULL);
}

static int close_device(void **unused)
{
    dp_mem_stats mem;

    device->ops->close(device);
    dp_mem_stats_read(&mem);
    return mem.heap_blocks || mem.map_regions;
}

static dp_kv *open_kv(dp_dtype type, uint32_t rows)
{
    dp_hparams hp = shape();
    dp_error err;
    dp_kv *kv;

    CHECK_OK(dp_kv_open(&kv, device, &hp, type, rows, &err), err);
    return kv;
}

static dp_kv_seq open_seq(dp_kv *kv, uint32_t tokens)
{
    dp_kv_seq seq;
    dp_error err;

    CHECK_OK(dp_kv_seq_init(&seq, kv, tokens, &err), err);
    return seq;
}

static void rows_are_counted_in_whole_blocks(void **unused)
{
    static const uint32_t tokens[] = { 0, 1, 31, 32, 33, 64, 65 };
    static const uint32_t rows[] = { 0, 1, 1, 1, 2, 2, 3 };

    for (size_t i = 0; i < DP_ARRAY_LEN(tokens); i++)
        CHECK(dp_kv_rows_for(tokens[i]) == rows[i], "%u tokens: %u rows", tokens[i],
              dp_kv_rows_for(tokens[i]));
}

/* Fills every layer's part of every row with its own number; nothing may be
 * written over. */
static void check_parts(dp_dtype type)
{
    dp_kv *kv = open_kv(type, ROWS);
    dp_kv_seq a = open_seq(kv, 96), b = open_seq(kv, 96);
    const dp_kv_seq *seqs[] = { &a, &b };
    dp_error err;

    CHECK_OK(dp_kv_seq_reserve(&a, 70, &err), err);
    CHECK_OK(dp_kv_seq_reserve(&b, 96, &err), err);
    CHECK(a.row_count == 3 && b.row_count == 3, "%u and %u rows", a.row_count, b.row_count);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t s = 0; s < 2; s++)
            for (uint32_t row = 0; row < 3; row++)
                for (uint32_t l = 0; l < 3; l++) {
                    dp_kv_layer at = dp_kv_seq_layer(seqs[s], l);
                    uint16_t *values = (uint16_t *)(void *)(at.rows[row] + at.offset);
                    uint64_t count = dp_kv_bytes(type, layer_values[l]) / sizeof *values;
                    CHECK(at.type == type, "layer %u is of type %d", l, at.type);
                    CHECK(at.offset % DP_CACHE_LINE == 0, "layer %u begins at %d", l,
                          (int)at.offset);
                    for (uint64_t i = 0; i < count; i++) {
                        CHECK(pass == 0 || values[i] == 1 + s * 100 + row * 10 + l,
                              "sequence %u, row %u, layer %u was written over", s, row, l);
                        values[i] = (uint16_t)(1 + s * 100 + row * 10 + l);
                    }
                }
    dp_kv_seq_deinit(&a);
    dp_kv_seq_deinit(&b);
    dp_kv_close(kv);
}

static void parts_of_rows_do_not_overlap(void **unused)
{
    check_parts(DP_F16);
    check_parts(DP_F32);
}

static void a_row_holds_whole_cache_lines_of_each_layer(void **unused)
{
    dp_hparams hp = shape();

    CHECK(dp_kv_row_bytes(&hp, DP_F16) == (2 + 1 + 3) * 12 * 32 * 2, "f16");
    CHECK(dp_kv_row_bytes(&hp, DP_F32) == (2 + 1 + 3) * 12 * 32 * 4, "f32");
}

static void exhaustion_takes_nothing_and_says_what_to_raise(void **unused)
{
    dp_kv *kv = open_kv(DP_F16, ROWS);
    dp_kv_seq a = open_seq(kv, 1000), b = open_seq(kv, 1000);
    dp_error err;

    CHECK_OK(dp_kv_seq_reserve(&a, 4 * 32, &err), err);
    CHECK(dp_kv_seq_reserve(&b, 2 * 32 + 1, &err) == DP_E_BUDGET, "three rows of two");
    CHECK(strstr(err.text, "--ctx") && strstr(err.text, "65 tokens") &&
              strstr(err.text, "6 blocks"),
          "%s", err.text);
    CHECK(b.row_count == 0, "%u rows taken", b.row_count);
    CHECK_OK(dp_kv_seq_reserve(&b, 2 * 32, &err), err);
    CHECK(dp_kv_seq_reserve(&a, 4 * 32 + 1, &err) == DP_E_BUDGET && a.row_count == 4, "a fifth");
    CHECK_OK(dp_kv_seq_reserve(&a, 1, &err), err); /* less than it has: fine, nothing changes */
    CHECK(a.row_count == 4, "%u rows", a.row_count);
    dp_kv_seq_deinit(&b);
    CHECK_OK(dp_kv_seq_reserve(&a, 6 * 32, &err), err);
    dp_kv_seq_deinit(&a);
    dp_kv_close(kv);
}

static void cutting_keeps_what_holds_a_position(void **unused)
{
    dp_kv *kv = open_kv(DP_F16, ROWS);
    dp_kv_seq a = open_seq(kv, 1000), b = open_seq(kv, 1000);
    uint8_t *first[2];
    dp_error err;

    CHECK_OK(dp_kv_seq_reserve(&a, 100, &err), err);
    memcpy(first, a.rows, sizeof first);
    dp_kv_seq_cut(&a, 100);
    CHECK(a.row_count == 4, "%u rows", a.row_count);
    dp_kv_seq_cut(&a, 64);
    CHECK(a.row_count == 2, "%u rows", a.row_count);
    dp_kv_seq_cut(&a, 33);
    CHECK(a.row_count == 2 && memcmp(first, a.rows, sizeof first) == 0, "the rest moved");
    CHECK_OK(dp_kv_seq_reserve(&b, 4 * 32, &err), err); /* what was cut is free again */
    dp_kv_seq_cut(&a, 0);
    CHECK(a.row_count == 0, "%u rows", a.row_count);
    dp_kv_seq_deinit(&a);
    dp_kv_seq_deinit(&b);
    dp_kv_close(kv);
}

static void a_pool_no_machine_has_is_refused(void **unused)
{
    dp_hparams hp = { .layer_count = DP_LAYERS_MAX,
                      .key_dim = DP_DIM_MAX,
                      .value_dim = DP_DIM_MAX };
    dp_error err;
    dp_kv *kv;

    for (uint32_t l = 0; l < DP_LAYERS_MAX; l++)
        hp.kv_head_count[l] = 1;
    CHECK(dp_kv_open(&kv, device, &hp, DP_F16, UINT32_MAX, &err) == DP_E_LIMIT && !kv, "opened");
    CHECK(strstr(err.text, "4294967295 blocks"), "%s", err.text);
}

static void short_memory_is_refused(void **unused)
{
    dp_hparams hp = shape();
    dp_status st = DP_E_NOMEM;

    for (uint64_t n = 0; st; n++) {
        dp_mem_stats before, after;
        dp_kv_seq seq = { 0 };
        dp_error err;
        dp_kv *kv;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_kv_open(&kv, device, &hp, DP_F32, ROWS, &err);
        if (!st)
            st = dp_kv_seq_init(&seq, kv, 64, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK(n < 10 && (!st || (st == DP_E_NOMEM && err.text[0])), "visit %d", (int)n);
        dp_kv_seq_deinit(&seq);
        dp_kv_close(kv);
        dp_mem_stats_read(&after);
        CHECK(memcmp(&before, &after, sizeof before) == 0, "visit %d leaked", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_counted_in_whole_blocks),
        cmocka_unit_test(parts_of_rows_do_not_overlap),
        cmocka_unit_test(a_row_holds_whole_cache_lines_of_each_layer),
        cmocka_unit_test(exhaustion_takes_nothing_and_says_what_to_raise),
        cmocka_unit_test(cutting_keeps_what_holds_a_position),
        cmocka_unit_test(a_pool_no_machine_has_is_refused),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, open_device, close_device);
}
