#include "format/dtype.h"

#include "testing/check.h"

/* Bits per value as published, which block sizes must give. */
static const struct {
    uint32_t id;
    const char *name;
    double bits;
} types[] = {
    { 0, "F32", 32 },         { 1, "F16", 16 },          { 2, "Q4_0", 4.5 },
    { 3, "Q4_1", 5 },         { 6, "Q5_0", 5.5 },        { 7, "Q5_1", 6 },
    { 8, "Q8_0", 8.5 },       { 9, "Q8_1", 9 },          { 10, "Q2_K", 2.625 },
    { 11, "Q3_K", 3.4375 },   { 12, "Q4_K", 4.5 },       { 13, "Q5_K", 5.5 },
    { 14, "Q6_K", 6.5625 },   { 15, "Q8_K", 9.125 },     { 16, "IQ2_XXS", 2.0625 },
    { 17, "IQ2_XS", 2.3125 }, { 18, "IQ3_XXS", 3.0625 }, { 19, "IQ1_S", 1.5625 },
    { 20, "IQ4_NL", 4.5 },    { 21, "IQ3_S", 3.4375 },   { 22, "IQ2_S", 2.5625 },
    { 23, "IQ4_XS", 4.25 },   { 24, "I8", 8 },           { 25, "I16", 16 },
    { 26, "I32", 32 },        { 27, "I64", 64 },         { 28, "F64", 64 },
    { 29, "IQ1_M", 1.75 },    { 30, "BF16", 16 },        { 34, "TQ1_0", 1.6875 },
    { 35, "TQ2_0", 2.0625 },  { 39, "MXFP4", 4.25 },     { 40, "NVFP4", 4.5 },
    { 41, "Q1_0", 1.125 },
};

static void test_table(void **state)
{
    size_t at = 0;

    for (uint32_t id = 0; id < 300; id++) {
        const dp_dtype_info *info = dp_dtype_get(id);

        if (at == DP_ARRAY_LEN(types) || types[at].id != id) {
            CHECK(!info, "id %u is no type", id);
            continue;
        }
        CHECK(info && strcmp(info->name, types[at].name) == 0, "id %u", id);
        CHECK(info->block_bytes * 8.0 / info->block_elems == types[at].bits, "%s", info->name);
        at++;
    }
    CHECK(at == DP_ARRAY_LEN(types), "%zu types seen", at);
    CHECK(!dp_dtype_get(UINT32_MAX), "no wrap");
}

static void test_row_bytes(void **state)
{
    static const struct {
        dp_dtype type;
        uint64_t elems;
        bool is_ok;
        uint64_t bytes;
    } rows[] = {
        { DP_F32, 0, true, 0 },
        { DP_F32, 7, true, 28 },
        { DP_Q4_0, 64, true, 36 },
        { DP_Q4_0, 33, false, 0 },
        { DP_Q6_K, 512, true, 420 },
        { DP_Q6_K, 128, false, 0 },
        { DP_F32, UINT64_MAX, false, 0 },
        { DP_F64, (uint64_t)1 << 61, false, 0 },
        { DP_Q4_0, UINT64_MAX - 31, true, (UINT64_MAX - 31) / 32 * 18 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t bytes = 0;
        bool is_ok = dp_dtype_row_bytes(rows[i].type, rows[i].elems, &bytes);

        CHECK(is_ok == rows[i].is_ok && bytes == rows[i].bytes, "row %zu: %llu", i,
              (unsigned long long)bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_row_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
