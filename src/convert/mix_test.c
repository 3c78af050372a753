#include "convert/mix.h"

#include "testing/check.h"

/* A tensor of a model with 16 layers. */
typedef struct shape {
    const char *name;
    uint32_t dims;
    uint64_t row;
} shape;

static dp_tensor tensor_of(const shape *s)
{
    return (dp_tensor){ .name = dp_str_from(s->name),
                        .dtype = DP_F16,
                        .dim_count = s->dims,
                        .ne = { s->row, s->dims > 1 ? 64 : 1, 1, 1 } };
}

static void test_is_matrix(void **state)
{
    static const struct {
        shape shape;
        bool want;
    } rows[] = {
        { { "token_embd.weight", 2, 256 }, true },
        { { "blk.3.attn_q.weight", 2, 256 }, true },
        { { "blk.3.ffn_up_exps.weight", 3, 256 }, true },
        { { "output_norm.weight", 1, 256 }, false },
        { { "blk.3.attn_k_norm.weight", 2, 256 }, false },
        { { "blk.3.ffn_gate_inp.weight", 2, 256 }, false },
        { { "blk.3.ffn_up_exps.bias", 2, 256 }, false },
        { { "blk.3.attn_sinks.weight", 1, 64 }, false },
        { { "rope_freqs.weight", 1, 64 }, false },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_tensor t = tensor_of(&rows[i].shape);

        CHECK(dp_mix_is_matrix(&t) == rows[i].want, "%s", rows[i].shape.name);
    }
}

/* The rules of docs/quantize.md, one row each. Experts 0, 8 or 64; head: a tensor
 * "output.weight" is there. */
static const struct {
    const char *mix;
    uint32_t experts;
    bool has_output;
    shape shape;
    dp_dtype want, wanted;
} types[] = {
    { "q8_0", 0, true, { "output.weight", 2, 256 }, DP_Q8_0, DP_Q8_0 },
    { "Q4_0", 0, true, { "blk.0.attn_v.weight", 2, 256 }, DP_Q4_0, DP_Q4_0 },
    { "q4_0", 0, true, { "output.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_0", 0, true, { "token_embd.weight", 2, 256 }, DP_Q4_0, DP_Q4_0 },
    { "q4_0", 0, false, { "token_embd.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_0", 0, true, { "output.weight", 2, 96 }, DP_Q8_0, DP_Q6_K },
    { "q4_k_m", 0, true, { "token_embd.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_m", 0, true, { "output.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.0.attn_v.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.1.ffn_down.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.2.ffn_down.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_m", 0, true, { "blk.3.ffn_down.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_m", 0, true, { "blk.4.ffn_down.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.14.attn_v.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.0.attn_q.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_m", 0, true, { "blk.0.ffn_up.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_m", 64, true, { "blk.0.ffn_down_exps.weight", 3, 256 }, DP_Q6_K, DP_Q6_K },
    { "q4_k_m", 8, true, { "blk.2.attn_v.weight", 2, 256 }, DP_Q8_0, DP_Q8_0 },
    { "q4_k_m", 8, true, { "blk.2.attn_k.weight", 2, 256 }, DP_Q8_0, DP_Q8_0 },
    { "q4_k_m", 8, true, { "blk.2.attn_output.weight", 2, 256 }, DP_Q5_K, DP_Q5_K },
    { "q4_k_m", 0, true, { "blk.2.attn_k_b.weight", 3, 128 }, DP_Q5_0, DP_Q4_K },
    { "q4_k_m", 0, true, { "blk.0.ffn_down.weight", 2, 96 }, DP_Q8_0, DP_Q6_K },
    { "q4_k_m", 0, true, { "blk.2.attn_q.weight", 2, 40 }, DP_F16, DP_Q4_K },
    { "q4_k_s", 0, true, { "blk.3.attn_v.weight", 2, 256 }, DP_Q5_K, DP_Q5_K },
    { "q4_k_s", 0, true, { "blk.4.attn_v.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q4_k_s", 0, true, { "blk.1.ffn_down.weight", 2, 256 }, DP_Q5_K, DP_Q5_K },
    { "q4_k_s", 0, true, { "blk.2.ffn_down.weight", 2, 256 }, DP_Q4_K, DP_Q4_K },
    { "q5_k_m", 0, true, { "blk.0.attn_v.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "q5_k_m", 0, true, { "blk.2.attn_q.weight", 2, 32 }, DP_Q5_1, DP_Q5_K },
    { "q5_k_s", 0, true, { "blk.0.attn_v.weight", 2, 256 }, DP_Q5_K, DP_Q5_K },
    { "q6_k", 0, true, { "blk.0.attn_v.weight", 2, 256 }, DP_Q6_K, DP_Q6_K },
    { "mxfp4", 32, true, { "blk.0.ffn_up_exps.weight", 3, 256 }, DP_MXFP4, DP_MXFP4 },
    { "mxfp4", 8, true, { "blk.0.ffn_up.7.weight", 2, 256 }, DP_MXFP4, DP_MXFP4 },
    { "mxfp4", 32, true, { "blk.0.attn_q.weight", 2, 256 }, DP_Q8_0, DP_Q8_0 },
    { "mxfp4", 0, true, { "blk.0.attn_q.weight", 2, 256 }, DP_MXFP4, DP_MXFP4 },
    { "mxfp4", 0, true, { "output.weight", 2, 256 }, DP_Q8_0, DP_Q8_0 },
    { "f16", 0, true, { "output.weight", 2, 33 }, DP_F16, DP_F16 },
};

static void test_types(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(types); i++) {
        dp_mix_model model = { 16, types[i].experts, types[i].has_output };
        dp_tensor t = tensor_of(&types[i].shape);
        const dp_mix *mix = dp_mix_find(types[i].mix);
        dp_dtype got, wanted;

        CHECK(mix, "%s", types[i].mix);
        got = dp_mix_type(mix, &model, &t, &wanted);
        CHECK(got == types[i].want && wanted == types[i].wanted, "%s of %s: %s for %s",
              types[i].shape.name, types[i].mix, dp_dtype_get(got)->name,
              dp_dtype_get(wanted)->name);
    }
}

static void test_names(void **state)
{
    size_t count;
    const dp_quantize_type *all = dp_quantize_types(&count);

    for (size_t i = 0; i < count; i++)
        CHECK(dp_mix_find(all[i].name) && all[i].summary[0], "%s", all[i].name);
    CHECK(!dp_mix_find("q4_k_x") && !dp_mix_find(""), "unknown");
    CHECK(dp_mix_file_type(dp_mix_find("q4_k_m")) == 15, "file type");
}

static void test_overrides(void **state)
{
    static const char *const overrides[] = { "*.attn_?.weight=Q8_0", "blk.1*=f16", "*=q6_k" };
    static const struct {
        const char *name;
        size_t count;
        dp_dtype want; /* DP_DTYPE_END: none matches */
    } rows[] = {
        { "blk.1.attn_q.weight", 3, DP_Q8_0 },
        { "blk.1.attn_output.weight", 3, DP_F16 },
        { "blk.12.ffn_up.weight", 3, DP_F16 },
        { "blk.2.attn_output.weight", 3, DP_Q6_K },
        { "blk.2.attn_output.weight", 2, DP_DTYPE_END },
        { "blk.2.attn_q.weight.x", 2, DP_DTYPE_END },
    };
    static const struct {
        const char *text;
        dp_status want;
    } texts[] = {
        { "a=q4_k", DP_OK },       { "a=b=BF16", DP_OK },      { "q4_k", DP_E_INVALID },
        { "=q4_k", DP_E_INVALID }, { "a=q9_z", DP_E_INVALID }, { "a=iq4_xs", DP_E_INVALID },
        { "a=", DP_E_INVALID },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_dtype got = DP_DTYPE_END;
        bool is_found = dp_mix_override(overrides, rows[i].count, dp_str_from(rows[i].name), &got);

        CHECK(is_found == (rows[i].want != DP_DTYPE_END) && got == rows[i].want, "%s: %d",
              rows[i].name, (int)got);
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(texts); i++) {
        dp_error err = { 0 };

        CHECK(dp_mix_check_override(texts[i].text, &err) == texts[i].want, "%s", texts[i].text);
        CHECK(!texts[i].want || strstr(err.text, texts[i].text), "%s", err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_matrix),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_overrides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
