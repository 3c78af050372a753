#include "convert/mix.h"

#include <string.h>
#include <strings.h>
#include "base/status.h"
#include "kernel/quantize.h"

enum {
    HEAD_6 = 1,     /* the head gets Q6_K */
    SOME_6 = 2,     /* values and down projections: Q6_K in chosen layers */
    FIRST_5 = 4,    /* values of four layers, down projections of an eighth: Q5_K */
    EIGHT = 8,      /* with eight experts attention is cheap and used by all: more bits */
    EXPERTS_4 = 16, /* only experts, if there are any; what all tokens use gets Q8_0 */
};

struct dp_mix {
    const char *name;
    dp_dtype base;
    uint32_t file_type;
    uint32_t rules;
};

/* clang-format off */
static const dp_mix mixes[] = {
    { "f32",    DP_F32,   0,  0 },
    { "f16",    DP_F16,   1,  0 },
    { "bf16",   DP_BF16,  32, 0 },
    { "q8_0",   DP_Q8_0,  7,  0 },
    { "q4_0",   DP_Q4_0,  2,  HEAD_6 },
    { "q4_1",   DP_Q4_1,  3,  HEAD_6 },
    { "q5_0",   DP_Q5_0,  8,  HEAD_6 },
    { "q5_1",   DP_Q5_1,  9,  HEAD_6 },
    { "q4_k_s", DP_Q4_K,  14, HEAD_6 | FIRST_5 | EIGHT },
    { "q4_k_m", DP_Q4_K,  15, HEAD_6 | SOME_6 | EIGHT },
    { "q5_k_s", DP_Q5_K,  16, HEAD_6 },
    { "q5_k_m", DP_Q5_K,  17, HEAD_6 | SOME_6 | EIGHT },
    { "q6_k",   DP_Q6_K,  18, 0 },
    { "mxfp4",  DP_MXFP4, 38, EXPERTS_4 },
};

static const dp_quantize_type types[] = {
    { "f32",    "everything F32" },
    { "f16",    "matrices F16" },
    { "bf16",   "matrices BF16" },
    { "q8_0",   "matrices Q8_0: 8.5 bits" },
    { "q4_0",   "matrices Q4_0, the head Q6_K: 4.5 bits" },
    { "q4_1",   "matrices Q4_1, the head Q6_K: 5 bits" },
    { "q5_0",   "matrices Q5_0, the head Q6_K: 5.5 bits" },
    { "q5_1",   "matrices Q5_1, the head Q6_K: 6 bits" },
    { "q4_k_s", "matrices Q4_K, the head Q6_K, a few Q5_K: 4.6 bits" },
    { "q4_k_m", "matrices Q4_K, the head and half of values and down projections Q6_K: 4.9 bits" },
    { "q5_k_s", "matrices Q5_K, the head Q6_K: 5.6 bits" },
    { "q5_k_m", "matrices Q5_K, the head and half of values and down projections Q6_K: 5.7 bits" },
    { "q6_k",   "matrices Q6_K: 6.6 bits" },
    { "mxfp4",  "experts MXFP4, other matrices Q8_0; without experts all but head and embedding MXFP4" },
};
/* clang-format on */
_Static_assert(DP_ARRAY_LEN(types) == DP_ARRAY_LEN(mixes), "a mix without a summary");

const dp_quantize_type *dp_quantize_types(size_t *count)
{
    *count = DP_ARRAY_LEN(types);
    return types;
}

const dp_mix *dp_mix_find(const char *name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(mixes); i++)
        if (strcasecmp(name, mixes[i].name) == 0)
            return &mixes[i];
    return NULL;
}

uint32_t dp_mix_file_type(const dp_mix *mix)
{
    return mix->file_type;
}

static bool contains(dp_str name, const char *part)
{
    return strstr(name.bytes, part) != NULL; /* names end with a NUL */
}

bool dp_mix_is_matrix(const dp_tensor *t)
{
    return t->dim_count >= 2 && dp_str_ends_with(t->name, ".weight") &&
           !contains(t->name, "_norm.") && !contains(t->name, "ffn_gate_inp") &&
           !contains(t->name, "sinks");
}

/* Whether the whole text matches: * is any run of characters, ? any one. After a
 * mismatch only the last * can take one character more. */
static bool matches(dp_str pattern, dp_str text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;

    while (t < text.size) {
        if (p < pattern.size && pattern.bytes[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern.size &&
                   (pattern.bytes[p] == '?' || pattern.bytes[p] == text.bytes[t])) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.bytes[p] == '*')
        p++;
    return p == pattern.size;
}

/* In one tensor with its neighbours, or, in older files, in one of its own. */
static bool is_expert(dp_str name)
{
    return contains(name, "_exps.") || matches(dp_str_from("blk.*.ffn_*.*.weight"), name);
}

/* N of "blk.N.": 0 outside of layers. */
static uint32_t layer_of(dp_str name)
{
    uint64_t n = 0;
    size_t end = 4;

    if (!dp_str_starts_with(name, "blk."))
        return 0;
    while (end < name.size && name.bytes[end] != '.')
        end++;
    return dp_parse_u64((dp_str){ name.bytes + 4, end - 4 }, &n) && n < UINT32_MAX ? (uint32_t)n
                                                                                   : 0;
}

/* The first and the last eighth of layers, and every third between. */
static bool is_chosen(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static dp_dtype rule_attention(const dp_mix *mix, const dp_mix_model *m, const dp_tensor *t)
{
    bool is_value = contains(t->name, "attn_v.");
    uint32_t i = layer_of(t->name);

    if ((mix->rules & EIGHT) && m->expert_count == 8) {
        if (is_value || contains(t->name, "attn_k."))
            return DP_Q8_0;
        if (contains(t->name, "attn_output."))
            return mix->base == DP_Q4_K ? DP_Q5_K : mix->base;
    }
    if (is_value && (mix->rules & SOME_6) && is_chosen(i, m->layer_count))
        return DP_Q6_K;
    if (is_value && (mix->rules & FIRST_5) && i < 4)
        return DP_Q5_K;
    return mix->base;
}

static dp_dtype wanted_type(const dp_mix *mix, const dp_mix_model *m, const dp_tensor *t)
{
    bool is_embedding = dp_str_is(t->name, "token_embd.weight");
    bool is_head = dp_str_is(t->name, "output.weight") || (is_embedding && !m->has_output);
    uint32_t i = layer_of(t->name);

    if (mix->rules & EXPERTS_4) {
        bool is_plain = m->expert_count ? !is_expert(t->name) : is_head || is_embedding;

        return is_plain ? DP_Q8_0 : mix->base;
    }
    if (is_head)
        return mix->rules & HEAD_6 ? DP_Q6_K : mix->base;
    if (contains(t->name, "ffn_down")) {
        if ((mix->rules & SOME_6) && is_chosen(i, m->layer_count))
            return DP_Q6_K;
        if ((mix->rules & FIRST_5) && i < m->layer_count / 8)
            return DP_Q5_K;
    }
    return rule_attention(mix, m, t);
}

static bool fits(dp_dtype type, const dp_tensor *t)
{
    return t->ne[0] % dp_dtype_get(type)->block_elems == 0;
}

dp_dtype dp_mix_type(const dp_mix *mix, const dp_mix_model *model, const dp_tensor *t,
                     dp_dtype *wanted)
{
    dp_dtype type = wanted_type(mix, model, t);

    *wanted = type;
    if (!fits(type, t)) /* the next type with blocks of 32 */
        type = type == DP_Q4_K ? DP_Q5_0 : type == DP_Q5_K ? DP_Q5_1 : DP_Q8_0;
    return fits(type, t) ? type : DP_F16;
}

/* ---- overrides ---- */

/* DP_DTYPE_END: none of that name. */
static dp_dtype type_named(const char *name)
{
    for (uint32_t id = 0; id < DP_DTYPE_END; id++) {
        const dp_dtype_info *info = dp_dtype_get(id);

        if (info && strcasecmp(info->name, name) == 0)
            return (dp_dtype)id;
    }
    return DP_DTYPE_END;
}

bool dp_mix_override(const char *const *overrides, size_t count, dp_str name, dp_dtype *type)
{
    for (size_t i = 0; i < count; i++) {
        const char *equals = strrchr(overrides[i], '=');

        if (matches((dp_str){ overrides[i], (size_t)(equals - overrides[i]) }, name)) {
            *type = type_named(equals + 1);
            return true;
        }
    }
    return false;
}

dp_status dp_mix_check_override(const char *text, dp_error *err)
{
    const char *equals = strrchr(text, '=');
    dp_dtype type;

    if (!equals || equals == text)
        return dp_fail(err, DP_E_INVALID, "quantize: '%s' is not PATTERN=TYPE", text);
    type = type_named(equals + 1);
    if (type == DP_DTYPE_END || !dp_quantize_has(type))
        return dp_fail(err, DP_E_INVALID,
                       "quantize: '%s' asks for type '%s'; known are F32 F16 BF16 Q8_0 Q4_0 Q4_1 "
                       "Q5_0 Q5_1 Q4_K Q5_K Q6_K MXFP4",
                       text, equals + 1);
    return DP_OK;
}
