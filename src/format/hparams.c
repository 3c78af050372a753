#include "format/hparams.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/status.h"

#define KEY_SIZE 128

struct reader {
    const dp_gguf *gguf;
    dp_hparams *hp;
    dp_error *err;
};

/* Scalars that only need a range: where they go, what they may be, and what they
 * are when the key is missing. */
#define REQUIRED  UINT32_MAX
#define AT(field) offsetof(dp_hparams, field)
#define POSITIVE  1e-30 /* survives as an f32 and can be divided by */

static const struct u32_row {
    const char *key;
    size_t offset;
    uint32_t min, max, fallback;
} u32_rows[] = {
    { "block_count", AT(layer_count), 1, DP_LAYERS_MAX, REQUIRED },
    { "context_length", AT(context_max), 1, DP_CONTEXT_MAX, REQUIRED },
    { "embedding_length", AT(embed_dim), 1, DP_DIM_MAX, REQUIRED },
    { "attention.sliding_window", AT(sliding_window), 0, DP_CONTEXT_MAX, 0 },
    { "attention.q_lora_rank", AT(q_lora_rank), 0, DP_DIM_MAX, 0 },
    { "attention.kv_lora_rank", AT(kv_lora_rank), 0, DP_DIM_MAX, 0 },
    { "attention.key_length_mla", AT(key_dim_mla), 0, DP_DIM_MAX, 0 },
    { "attention.value_length_mla", AT(value_dim_mla), 0, DP_DIM_MAX, 0 },
    { "expert_count", AT(expert_count), 0, DP_EXPERTS_MAX, 0 },
    { "expert_used_count", AT(expert_used), 0, DP_EXPERTS_USED_MAX, 0 },
    { "expert_shared_count", AT(expert_shared), 0, DP_EXPERTS_USED_MAX, 0 },
    { "expert_feed_forward_length", AT(expert_ff_dim), 0, DP_DIM_MAX, 0 },
    { "expert_group_count", AT(expert_group_count), 0, DP_EXPERTS_MAX, 0 },
    { "expert_group_used_count", AT(expert_group_used), 0, DP_EXPERTS_MAX, 0 },
    { "leading_dense_block_count", AT(leading_dense), 0, DP_LAYERS_MAX, 0 },
    { "nextn_predict_layers", AT(nextn_layers), 0, DP_LAYERS_MAX, 0 },
};

static const struct f32_row {
    const char *key;
    size_t offset;
    double min, max, fallback; /* a NAN fallback: required */
} f32_rows[] = {
    { "attention.layer_norm_rms_epsilon", AT(norm_eps), POSITIVE, 1, (double)NAN },
    { "rope.freq_base", AT(rope_base), 2, 1e12, 10000 }, /* YaRN divides by its logarithm */
    { "rope.scaling.factor", AT(rope_factor), 1e-3, 1e6, 1 },
    { "rope.scaling.attn_factor", AT(rope_attn_factor), POSITIVE, 1e3, 1 },
    { "rope.scaling.yarn_beta_fast", AT(yarn_beta_fast), POSITIVE, 1e6, 32 },
    { "rope.scaling.yarn_beta_slow", AT(yarn_beta_slow), POSITIVE, 1e6, 1 },
    { "rope.scaling.yarn_log_multiplier", AT(yarn_log_multiplier), 0, 1e3, 0 },
    { "expert_weights_scale", AT(expert_weights_scale), POSITIVE, 1e6, 1 },
};

/* "<arch>.<suffix>" */
static const char *make_key(char out[KEY_SIZE], const struct reader *r, const char *suffix)
{
    snprintf(out, KEY_SIZE, "%s.%s", r->hp->arch, suffix);
    return out;
}

static dp_status fail_range(const struct reader *r, const char *suffix, uint64_t found,
                            uint64_t min, uint64_t max)
{
    char key[KEY_SIZE];

    return dp_fail(r->err, found > max ? DP_E_LIMIT : DP_E_CORRUPT,
                   "%s: key '%s' is %llu, expected %llu to %llu", dp_gguf_part_path(r->gguf, 0),
                   make_key(key, r, suffix), (unsigned long long)found, (unsigned long long)min,
                   (unsigned long long)max);
}

/* Two keys that cannot both be right; the sentence ends with `why`. */
static dp_status fail_pair(const struct reader *r, const char *suffix, uint64_t found,
                           const char *why, uint64_t other)
{
    char key[KEY_SIZE];

    return dp_fail(r->err, DP_E_CORRUPT, "%s: key '%s' is %llu, %s %llu",
                   dp_gguf_part_path(r->gguf, 0), make_key(key, r, suffix),
                   (unsigned long long)found, why, (unsigned long long)other);
}

static dp_status fail_missing(const struct reader *r, const char *suffix)
{
    char key[KEY_SIZE];

    return dp_fail(r->err, DP_E_NOTFOUND, "%s: key '%s' is missing", dp_gguf_part_path(r->gguf, 0),
                   make_key(key, r, suffix));
}

/* As much of `text` as fits, cut between characters; control bytes, which would
 * let a file write to the user's terminal, become spaces. */
static void copy_text(char *out, size_t out_size, dp_str text)
{
    size_t size = DP_MIN(text.size, out_size - 1);

    while (size > 0 && size < text.size && ((uint8_t)text.bytes[size] & 0xc0) == 0x80)
        size--;
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)text.bytes[i] < 0x20 || text.bytes[i] == 0x7f ? ' ' : text.bytes[i];
    out[size] = '\0';
}

static dp_status read_names(const struct reader *r)
{
    dp_hparams *hp = r->hp;
    dp_str text;
    dp_status st;

    st = dp_gguf_get_str(r->gguf, "general.architecture", &text, r->err);
    if (st)
        return st;
    if (text.size == 0 || text.size >= sizeof hp->arch)
        return dp_fail(r->err, DP_E_UNSUPPORTED,
                       "%s: key 'general.architecture' has %zu bytes, expected 1 to %zu",
                       dp_gguf_part_path(r->gguf, 0), text.size, sizeof hp->arch - 1);
    copy_text(hp->arch, sizeof hp->arch, text);
    if (!dp_gguf_find(r->gguf, "general.name"))
        return DP_OK;
    st = dp_gguf_get_str(r->gguf, "general.name", &text, r->err);
    if (st)
        return st;
    copy_text(hp->name, sizeof hp->name, text);
    return DP_OK;
}

/* An integer within [min, max], or the fallback. */
static dp_status read_u32(const struct reader *r, const struct u32_row *row, uint32_t *out)
{
    char key[KEY_SIZE];
    uint64_t value;
    dp_status st;

    *out = row->fallback;
    if (!dp_gguf_find(r->gguf, make_key(key, r, row->key)))
        return row->fallback == REQUIRED ? fail_missing(r, row->key) : DP_OK;
    st = dp_gguf_get_u64(r->gguf, key, 0, &value, r->err);
    if (st)
        return st;
    if (value < row->min || value > row->max)
        return fail_range(r, row->key, value, row->min, row->max);
    *out = (uint32_t)value;
    return DP_OK;
}

static dp_status read_f32(const struct reader *r, const struct f32_row *row, float *out)
{
    char key[KEY_SIZE];
    double value;
    dp_status st;

    *out = (float)row->fallback;
    if (!dp_gguf_find(r->gguf, make_key(key, r, row->key)))
        return isnan(row->fallback) ? fail_missing(r, row->key) : DP_OK;
    st = dp_gguf_get_f64(r->gguf, key, 0, &value, r->err);
    if (st)
        return st;
    if (!(value >= row->min && value <= row->max)) /* refuses NAN too */
        return dp_fail(r->err, DP_E_CORRUPT, "%s: key '%s' is %g, expected %g to %g",
                       dp_gguf_part_path(r->gguf, 0), key, value, row->min, row->max);
    *out = (float)value;
    return DP_OK;
}

static dp_status read_rows(const struct reader *r)
{
    dp_status st;

    for (size_t i = 0; i < DP_ARRAY_LEN(u32_rows); i++) {
        st = read_u32(r, &u32_rows[i], (uint32_t *)((char *)r->hp + u32_rows[i].offset));
        if (st)
            return st;
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(f32_rows); i++) {
        st = read_f32(r, &f32_rows[i], (float *)((char *)r->hp + f32_rows[i].offset));
        if (st)
            return st;
    }
    return DP_OK;
}

/* A key that is one number for all layers, or an array with one for each.
 * *is_present (may be NULL: the key is required) tells whether it is there. */
static dp_status read_layers(const struct reader *r, const char *suffix, uint32_t min,
                             uint32_t *out, bool *is_present)
{
    char key[KEY_SIZE];
    const dp_gguf_value *value = dp_gguf_find(r->gguf, make_key(key, r, suffix));
    uint64_t x;
    dp_status st;

    if (is_present)
        *is_present = value != NULL;
    if (!value)
        return is_present ? DP_OK : fail_missing(r, suffix);
    if (value->is_array && value->count < r->hp->layer_count)
        return dp_fail(r->err, DP_E_CORRUPT, "%s: key '%s' has %llu values for %u layers",
                       dp_gguf_part_path(r->gguf, 0), key, (unsigned long long)value->count,
                       r->hp->layer_count);
    for (uint32_t i = 0; i < r->hp->layer_count; i++) {
        st = dp_gguf_get_u64(r->gguf, key, value->is_array ? i : 0, &x, r->err);
        if (st)
            return st;
        if (x < min || x > DP_DIM_MAX)
            return fail_range(r, suffix, x, min, DP_DIM_MAX);
        out[i] = (uint32_t)x;
    }
    return DP_OK;
}

/* One head's width: the key, else an even share of the embedding. */
static dp_status read_head_dim(const struct reader *r, const char *suffix, uint32_t *out)
{
    const struct u32_row row = { .key = suffix, .min = 1, .max = DP_DIM_MAX, .fallback = 0 };
    const dp_hparams *hp = r->hp;
    dp_status st = read_u32(r, &row, out);

    if (st)
        return st;
    if (*out != 0)
        return DP_OK;
    if (hp->embed_dim % hp->head_count[0])
        return fail_pair(r, "attention.head_count", hp->head_count[0],
                         "which does not divide embedding_length", hp->embed_dim);
    *out = hp->embed_dim / hp->head_count[0];
    return DP_OK;
}

static dp_status read_attention(const struct reader *r)
{
    dp_hparams *hp = r->hp;
    bool has_kv_heads;
    dp_status st;

    st = read_layers(r, "attention.head_count", 1, hp->head_count, NULL);
    if (st)
        return st;
    memcpy(hp->kv_head_count, hp->head_count, sizeof hp->kv_head_count);
    st = read_layers(r, "attention.head_count_kv", 1, hp->kv_head_count, &has_kv_heads);
    if (st)
        return st;
    st = read_head_dim(r, "attention.key_length", &hp->key_dim);
    if (st)
        return st;
    st = read_head_dim(r, "attention.value_length", &hp->value_dim);
    if (st)
        return st;
    for (uint32_t i = 0; i < hp->layer_count; i++) {
        uint64_t heads = hp->head_count[i];

        if (heads % hp->kv_head_count[i])
            return fail_pair(r, "attention.head_count_kv", hp->kv_head_count[i],
                             "which does not divide attention.head_count", heads);
        if (heads * DP_MAX(hp->key_dim, hp->key_dim_mla) > DP_DIM_MAX)
            return fail_range(r, "attention.head_count", heads, 1,
                              DP_DIM_MAX / DP_MAX(hp->key_dim, hp->key_dim_mla));
        if (heads * DP_MAX(hp->value_dim, hp->value_dim_mla) > DP_DIM_MAX)
            return fail_range(r, "attention.head_count", heads, 1,
                              DP_DIM_MAX / DP_MAX(hp->value_dim, hp->value_dim_mla));
    }
    return DP_OK;
}

static dp_status read_rope_type(const struct reader *r)
{
    static const char *const names[] = {
        [DP_ROPE_NONE] = "none", [DP_ROPE_LINEAR] = "linear", [DP_ROPE_YARN] = "yarn"
    };
    char key[KEY_SIZE], shown[32];
    dp_str text;
    dp_status st;

    /* Files older than the type scaled linearly, by the factor alone. */
    r->hp->rope_scaling = r->hp->rope_factor != 1 ? DP_ROPE_LINEAR : DP_ROPE_NONE;
    if (!dp_gguf_find(r->gguf, make_key(key, r, "rope.scaling.type")))
        return DP_OK;
    st = dp_gguf_get_str(r->gguf, key, &text, r->err);
    if (st)
        return st;
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++)
        if (dp_str_is(text, names[i])) {
            r->hp->rope_scaling = (dp_rope_scaling)i;
            return DP_OK;
        }
    copy_text(shown, sizeof shown, text);
    return dp_fail(r->err, DP_E_UNSUPPORTED, "%s: key '%s' is '%s', expected none, linear or yarn",
                   dp_gguf_part_path(r->gguf, 0), key, shown);
}

static dp_status read_rope(const struct reader *r)
{
    dp_hparams *hp = r->hp;
    const struct u32_row dim_row = { "rope.dimension_count", 0, 1, DP_DIM_MAX, hp->key_dim };
    const struct u32_row original_row = { "rope.scaling.original_context_length", 0, 1,
                                          DP_CONTEXT_MAX, hp->context_max };
    uint32_t dim_max = hp->key_dim_mla ? DP_MIN(hp->key_dim, hp->key_dim_mla) : hp->key_dim;
    dp_status st;

    st = read_u32(r, &dim_row, &hp->rope_dim);
    if (st)
        return st;
    if (hp->rope_dim % 2)
        return fail_pair(r, dim_row.key, hp->rope_dim, "not a multiple of", 2);
    if (hp->rope_dim > dim_max)
        return fail_pair(r, dim_row.key, hp->rope_dim, "more than the length of a key,", dim_max);
    st = read_u32(r, &original_row, &hp->rope_original_context);
    if (st)
        return st;
    st = read_rope_type(r);
    if (st)
        return st;
    if (hp->rope_scaling == DP_ROPE_NONE)
        hp->rope_factor = 1;
    return DP_OK;
}

static dp_status check_groups(const struct reader *r)
{
    dp_hparams *hp = r->hp;
    uint32_t groups = hp->expert_group_count, used = hp->expert_group_used;

    if (groups <= 1) { /* one group is no groups */
        hp->expert_group_count = 0;
        hp->expert_group_used = 0;
        return DP_OK;
    }
    if (hp->expert_count % groups)
        return fail_pair(r, "expert_group_count", groups, "which does not divide expert_count",
                         hp->expert_count);
    if (used == 0 || used > groups)
        return fail_pair(r, "expert_group_used_count", used, "but expert_group_count is", groups);
    if (hp->expert_count / groups * used < hp->expert_used)
        return fail_pair(r, "expert_group_used_count", used,
                         "groups, too few to choose expert_used_count =", hp->expert_used);
    return DP_OK;
}

static dp_status read_gating(const struct reader *r)
{
    const struct u32_row row = { "expert_gating_func", 0, 0, UINT32_MAX - 1, 0 };
    char key[KEY_SIZE];
    uint32_t gating;
    dp_status st;

    st = read_u32(r, &row, &gating);
    if (st)
        return st;
    if (gating > DP_GATING_SOFTMAX_SELECTED)
        return dp_fail(r->err, DP_E_UNSUPPORTED, "%s: key '%s' is %u, which is unknown",
                       dp_gguf_part_path(r->gguf, 0), make_key(key, r, row.key), gating);
    r->hp->expert_gating = (dp_gating)gating;
    if (!dp_gguf_find(r->gguf, make_key(key, r, "expert_weights_norm")))
        return DP_OK;
    return dp_gguf_get_bool(r->gguf, key, &r->hp->expert_weights_norm, r->err);
}

/* Needs leading_dense <= layer_count. */
static dp_status check_experts(const struct reader *r)
{
    dp_hparams *hp = r->hp;

    if (hp->expert_used == 0 || hp->expert_used > hp->expert_count)
        return fail_pair(r, "expert_used_count", hp->expert_used, "but expert_count is",
                         hp->expert_count);
    if (hp->expert_ff_dim == 0 && hp->leading_dense < hp->layer_count)
        hp->expert_ff_dim = hp->ff_dim[hp->leading_dense];
    if (hp->expert_ff_dim == 0)
        return fail_missing(r, "expert_feed_forward_length");
    if ((uint64_t)hp->expert_ff_dim * hp->expert_shared > DP_DIM_MAX)
        return fail_range(r, "expert_shared_count", hp->expert_shared, 0,
                          DP_DIM_MAX / hp->expert_ff_dim);
    for (uint32_t i = hp->leading_dense; i < hp->layer_count; i++)
        hp->ff_dim[i] = 0;
    return check_groups(r);
}

static dp_status read_feed_forward(const struct reader *r)
{
    dp_hparams *hp = r->hp;
    bool has_ff;
    dp_status st;

    st = read_layers(r, "feed_forward_length", 0, hp->ff_dim, &has_ff);
    if (st)
        return st;
    if (!has_ff && (hp->expert_count == 0 || hp->leading_dense > 0))
        return fail_missing(r, "feed_forward_length");
    if (hp->leading_dense > hp->layer_count)
        return fail_pair(r, "leading_dense_block_count", hp->leading_dense, "but block_count is",
                         hp->layer_count);
    st = read_gating(r);
    if (st)
        return st;
    if (hp->expert_count > 0)
        return check_experts(r);
    hp->expert_used = hp->expert_shared = hp->expert_ff_dim = hp->leading_dense = 0;
    hp->expert_group_count = hp->expert_group_used = 0;
    return DP_OK;
}

/* The embedding's rows are what token numbers index, so they are the vocabulary. */
static dp_status read_vocab(const struct reader *r)
{
    const struct u32_row row = { "vocab_size", 0, 0, DP_VOCAB_MAX, 0 };
    const dp_tensor *embd = dp_gguf_find_tensor(r->gguf, "token_embd.weight");
    dp_hparams *hp = r->hp;
    uint32_t wanted;
    dp_status st;

    st = read_u32(r, &row, &wanted);
    if (st)
        return st;
    if (!embd)
        return dp_fail(r->err, DP_E_NOTFOUND, "%s: tensor 'token_embd.weight' is missing",
                       dp_gguf_part_path(r->gguf, 0));
    if (embd->dim_count != 2 || embd->ne[0] != hp->embed_dim)
        return fail_pair(r, "embedding_length", hp->embed_dim,
                         "but the rows of tensor 'token_embd.weight' have", embd->ne[0]);
    if (embd->ne[1] > DP_VOCAB_MAX)
        return dp_fail(
            r->err, DP_E_LIMIT, "%s: tensor 'token_embd.weight' has %llu rows, at most %u",
            dp_gguf_part_path(r->gguf, 0), (unsigned long long)embd->ne[1], DP_VOCAB_MAX);
    if (wanted > embd->ne[1])
        return fail_pair(r, row.key, wanted, "more than the rows of tensor 'token_embd.weight',",
                         embd->ne[1]);
    hp->vocab_size = (uint32_t)embd->ne[1];
    return DP_OK;
}

dp_status dp_hparams_read(dp_hparams *out, const dp_gguf *gguf, dp_error *err)
{
    static dp_status (*const steps[])(const struct reader *) = {
        read_names, read_rows, read_attention, read_rope, read_feed_forward, read_vocab,
    };
    const struct reader r = { .gguf = gguf, .hp = out, .err = err };
    dp_status st = DP_OK;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < DP_ARRAY_LEN(steps) && !st; i++)
        st = steps[i](&r);
    if (st)
        memset(out, 0, sizeof *out);
    return st;
}
