/* Members of DeepSeek's family against a forward pass in double, written here from the
 * formulas in their other form: keys and values of every head are made from the latents
 * (arXiv:2405.04434, eq. 9-19, and arXiv:2412.19437, eq. 12-16). Both layouts of a file
 * give the same bits; files that contradict the family are refused. */
#include "engine/deepseek2_testing.h"
#include "model/kv.h"
#include "model/lora_testing.h"
#include "model/model.h"

/* Where something kept lies in the middle between two halves, float and double may round it
 * apart, and logits differ by 1e-4 and more; with this seed they do not. */
#define SEED   18
#define TOKENS 70 /* three blocks of positions, and more than are in the latent's space at once */

static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };
static const test_setting small[2][TEST_SETTINGS] = {
    { { "ram", "64MiB" }, { "ctx", "128" }, { "kv-type", "f16" } },
    { { "ram", "64MiB" }, { "ctx", "128" }, { "kv-type", "f32" } },
};

/* ---- the formulas ---- */

static const struct twist { /* a mistake that must show */
    const char *name;
    bool forgets_mscale, scales_by_kept, norms_rope, forgets_bias, weighs_by_bias, forgets_shared,
        forgets_norm, groups_by_best;
} straight = { 0 };

static struct pass {
    test_model m;
    const ds_shape *s;
    const struct twist *twist;
    bool is_exact; /* latents are kept in f32 */
    double x[TOKENS][DS_DIM], latent[TOKENS][DS_LORA], rope[TOKENS][DS_ROPE];
    double logits[TOKENS][DS_VOCAB];
} p;

static int token_of(uint32_t t)
{
    return (int)((t * 37 + 5) % DS_VOCAB);
}

static const float *data(const char *format, uint32_t layer)
{
    const float *found = test_model_data(&p.m, format, layer);

    CHECK(found, "no %s", format);
    return found;
}

/* out[rows] = W x, W being the rows behind `skip` of a tensor. */
static void product(double *out, const char *format, uint32_t layer, uint32_t skip, uint32_t rows,
                    uint32_t k, const double *x)
{
    const float *w = data(format, layer) + (size_t)skip * k;

    for (uint32_t r = 0; r < rows; r++) {
        out[r] = 0;
        for (uint32_t i = 0; i < k; i++)
            out[r] += (double)w[(size_t)r * k + i] * x[i];
    }
}

static void norm(double *out, const double *x, const char *format, uint32_t layer, uint32_t n)
{
    const float *gain = data(format, layer);
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] / sqrt(sum / n + 1e-5) * gain[i];
}

static double pair_at(double turns)
{
    return DS_ROPE * log(DS_ORIGINAL / (2 * M_PI * turns)) / (2 * log(10000));
}

static void rotate(double *x, uint32_t position)
{
    double low = fmax(floor(pair_at(32)), 0), high = fmin(ceil(pair_at(1)), DS_ROPE - 1);

    for (uint32_t i = 0; i < DS_ROPE / 2; i++) {
        double theta = pow(10000, -2.0 * i / DS_ROPE), a = x[2 * i], b = x[2 * i + 1];
        if (p.s->has_yarn) {
            double ramp = fmin(fmax((i - low) / fmax(high - low, 0.001), 0), 1);
            theta = theta * (1 - ramp) + theta / DS_FACTOR * ramp;
        }
        x[2 * i] = a * cos(position * theta) - b * sin(position * theta);
        x[2 * i + 1] = a * sin(position * theta) + b * cos(position * theta);
    }
}

/* What is kept of a token, in f16. */
static void round_all(double *x, uint32_t n)
{
    for (uint32_t i = 0; i < n && !p.is_exact; i++)
        x[i] = ds_half((float)x[i]);
}

static void keep(uint32_t l, uint32_t t, const double *h)
{
    double kv[DS_LORA + DS_ROPE];

    product(kv, "blk.%u.attn_kv_a_mqa.weight", l, 0, DS_LORA + DS_ROPE, DS_DIM, h);
    norm(p.latent[t], kv, "blk.%u.attn_kv_a_norm.weight", l, DS_LORA);
    memcpy(p.rope[t], kv + DS_LORA, sizeof p.rope[t]);
    if (p.twist->norms_rope)
        for (uint32_t i = 0; i < DS_ROPE; i++)
            p.rope[t][i] *= p.latent[t][0] / kv[0];
    rotate(p.rope[t], t);
    round_all(p.latent[t], DS_LORA);
    round_all(p.rope[t], DS_ROPE);
}

static void make_query(double *q, uint32_t l, uint32_t t, const double *h)
{
    double low[DS_Q_LORA];

    if (p.s->has_q_lora) {
        product(low, "blk.%u.attn_q_a.weight", l, 0, DS_Q_LORA, DS_DIM, h);
        norm(low, low, "blk.%u.attn_q_a_norm.weight", l, DS_Q_LORA);
        product(q, "blk.%u.attn_q_b.weight", l, 0, DS_HEADS * DS_QUERY, DS_Q_LORA, low);
    } else {
        product(q, "blk.%u.attn_q.weight", l, 0, DS_HEADS * DS_QUERY, DS_DIM, h);
    }
    for (uint32_t i = 0; i < DS_HEADS; i++)
        rotate(q + i * DS_QUERY + DS_NOPE, t);
}

/* One head of token t over tokens 0..t, whose keys and values are made here. */
static void attend(double *out, uint32_t l, uint32_t head, uint32_t t, const double *q)
{
    double mscale = p.s->has_yarn && !p.twist->forgets_mscale
                        ? 1 + (double)DS_LOG_MULTIPLIER * log(DS_FACTOR)
                        : 1;
    double scale = mscale * mscale / sqrt(p.twist->scales_by_kept ? DS_LORA + DS_ROPE : DS_QUERY);
    double weight[TOKENS], value[TOKENS][DS_VALUE], sum = 0, max = -INFINITY;
    uint32_t first = head * (DS_NOPE + DS_VALUE);

    for (uint32_t j = 0; j <= t; j++) {
        double key[DS_NOPE];
        product(key, "blk.%u.attn_kv_b.weight", l, first, DS_NOPE, DS_LORA, p.latent[j]);
        product(value[j], "blk.%u.attn_kv_b.weight", l, first + DS_NOPE, DS_VALUE, DS_LORA,
                p.latent[j]);
        weight[j] = 0;
        for (uint32_t i = 0; i < DS_NOPE; i++)
            weight[j] += q[i] * key[i];
        for (uint32_t i = 0; i < DS_ROPE; i++)
            weight[j] += q[DS_NOPE + i] * p.rope[j][i];
        weight[j] *= scale;
        max = fmax(max, weight[j]);
    }
    for (uint32_t j = 0; j <= t; j++)
        sum += weight[j] = exp(weight[j] - max);
    for (uint32_t i = 0; i < DS_VALUE; i++) {
        out[i] = 0;
        for (uint32_t j = 0; j <= t; j++)
            out[i] += weight[j] / sum * value[j][i];
    }
}

static void add_attention(uint32_t l, uint32_t t)
{
    double h[DS_DIM], q[DS_HEADS * DS_QUERY], mixed[DS_HEADS * DS_VALUE], y[DS_DIM];

    norm(h, p.x[t], "blk.%u.attn_norm.weight", l, DS_DIM);
    keep(l, t, h);
    make_query(q, l, t, h);
    for (uint32_t i = 0; i < DS_HEADS; i++)
        attend(mixed + i * DS_VALUE, l, i, t, q + i * DS_QUERY);
    product(y, "blk.%u.attn_output.weight", l, 0, DS_DIM, DS_HEADS * DS_VALUE, mixed);
    for (uint32_t i = 0; i < DS_DIM; i++)
        p.x[t][i] += y[i];
}

/* x += weight * W_down (silu(W_gate h) W_up h), of the expert at `index` of a stack. */
static void add_ffn(double *x, const char *kind, uint32_t l, uint32_t index, uint32_t ff,
                    const double *h, double weight)
{
    double gate[DS_DENSE_FF + 2 * DS_FF], up[DS_DENSE_FF + 2 * DS_FF], y[DS_DIM];
    char name[3][48];

    snprintf(name[0], sizeof name[0], "blk.%%u.ffn_gate%s.weight", kind);
    snprintf(name[1], sizeof name[1], "blk.%%u.ffn_up%s.weight", kind);
    snprintf(name[2], sizeof name[2], "blk.%%u.ffn_down%s.weight", kind);
    product(gate, name[0], l, index * ff, ff, DS_DIM, h);
    product(up, name[1], l, index * ff, ff, DS_DIM, h);
    for (uint32_t i = 0; i < ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    product(y, name[2], l, index * DS_DIM, DS_DIM, ff, gate);
    for (uint32_t i = 0; i < DS_DIM; i++)
        x[i] += weight * y[i];
}

/* The best of n that are not yet taken; takes it. */
static uint32_t take_best(const double *worth, bool *taken, uint32_t n)
{
    uint32_t best = n;

    for (uint32_t i = 0; i < n; i++)
        if (!taken[i] && (best == n || worth[i] > worth[best]))
            best = i;
    taken[best] = true;
    return best;
}

/* Experts outside the groups that are worth most are marked as taken. */
static void limit_groups(const double *choice, bool *taken)
{
    uint32_t groups = p.s->groups, size = DS_EXPERTS / groups;
    uint32_t best_of = p.s->has_bias && !p.twist->groups_by_best ? 2 : 1;
    double worth[DS_EXPERTS] = { 0 };
    bool is_kept[DS_EXPERTS] = { false };

    for (uint32_t g = 0; g < groups; g++) {
        bool seen[DS_EXPERTS] = { false };
        for (uint32_t i = 0; i < best_of; i++)
            worth[g] += choice[g * size + take_best(choice + g * size, seen, size)];
    }
    for (uint32_t i = 0; i < p.s->groups_used; i++)
        take_best(worth, is_kept, groups);
    for (uint32_t e = 0; e < DS_EXPERTS; e++)
        taken[e] = !is_kept[e / size];
}

static void add_mixture(uint32_t l, uint32_t t, const double *h)
{
    double z[DS_EXPERTS], score[DS_EXPERTS], choice[DS_EXPERTS], sum = 0, chosen_sum = 0;
    bool taken[DS_EXPERTS] = { false }, has_bias = p.s->has_bias && !p.twist->forgets_bias;
    bool is_normed = (p.s->normed == 1 || (p.s->normed < 0 && p.s->has_bias));
    uint32_t ids[DS_USED];

    product(z, "blk.%u.ffn_gate_inp.weight", l, 0, DS_EXPERTS, DS_DIM, h);
    for (uint32_t e = 0; e < DS_EXPERTS; e++)
        sum += exp(z[e]);
    for (uint32_t e = 0; e < DS_EXPERTS; e++) {
        score[e] = p.s->has_bias ? 1 / (1 + exp(-z[e])) : exp(z[e]) / sum;
        choice[e] = score[e] + (has_bias ? (double)data("blk.%u.exp_probs_b.bias", l)[e] : 0);
    }
    if (p.s->groups)
        limit_groups(choice, taken);
    for (uint32_t r = 0; r < DS_USED; r++) {
        ids[r] = take_best(choice, taken, DS_EXPERTS);
        chosen_sum += score[ids[r]];
    }
    if (p.twist->forgets_norm || !is_normed)
        chosen_sum = 1;
    for (uint32_t r = 0; r < DS_USED; r++) {
        double weight = p.twist->weighs_by_bias ? choice[ids[r]] : score[ids[r]];
        add_ffn(p.x[t], "_exps", l, ids[r], DS_FF, h, weight / chosen_sum * (double)p.s->scale);
    }
    if (p.s->shared && !p.twist->forgets_shared)
        add_ffn(p.x[t], "_shexp", l, 0, DS_FF * p.s->shared, h, 1);
}

static void forward(const ds_shape *s, const struct twist *twist)
{
    p.s = s;
    p.twist = twist;
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < DS_DIM; i++)
            p.x[t][i] = data("token_embd.weight", 0)[token_of(t) * DS_DIM + (int)i];
    for (uint32_t l = 0; l < DS_LAYERS; l++)
        for (uint32_t t = 0; t < TOKENS; t++) { /* causal: a token sees those before alone */
            double h[DS_DIM];
            add_attention(l, t);
            norm(h, p.x[t], "blk.%u.ffn_norm.weight", l, DS_DIM);
            if (ds_is_dense(s, l))
                add_ffn(p.x[t], "", l, 0, DS_DENSE_FF, h, 1);
            else
                add_mixture(l, t, h);
        }
    for (uint32_t t = 0; t < TOKENS; t++) {
        double h[DS_DIM];
        norm(h, p.x[t], "output_norm.weight", 0, DS_DIM);
        product(p.logits[t], "output.weight", 0, 0, DS_VOCAB, DS_DIM, h);
    }
}

/* ---- what doppler makes of it ---- */

typedef float rows[TOKENS][DS_VOCAB];
static rows found;

static bool record(void *user, uint32_t position, const float *logits)
{
    memcpy(((float(*)[DS_VOCAB])user)[position], logits, DS_VOCAB * sizeof *logits);
    return true;
}

/* lora: the path of an adapter, or NULL. */
static void run_with(const ds_shape *s, const char *lora, rows out)
{
    dp_adapter *adapter = NULL;
    char path[] = "/tmp/doppler-deepseek-XXXXXX";
    dp_token tokens[TOKENS];
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    for (uint32_t t = 0; t < TOKENS; t++)
        tokens[t] = token_of(t);
    ds_save(&p.m, s, path);
    engine = test_engine(path, small[p.is_exact]);
    session = test_session(engine, none);
    if (lora) {
        CHECK_OK(dp_adapter_open(&adapter, engine, lora, &err), err);
        CHECK_OK(dp_session_set_adapters(session, &(dp_adapter_use){ adapter, 1 }, 1, &err), err);
    }
    dp_session_set_logits_sink(session, record, out);
    CHECK_OK(dp_session_append(session, tokens, TOKENS, &err), err);
    CHECK_OK(dp_session_eval(session, &err), err);
    dp_session_close(session);
    dp_adapter_close(adapter);
    dp_engine_close(engine);
    unlink(path);
}

static void run(const ds_shape *s, rows out)
{
    run_with(s, NULL, out);
}

/* The largest difference, relative to the largest logit. */
static double distance(void)
{
    double worst = 0, largest = 0;

    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < DS_VOCAB; i++) {
            worst = fmax(worst, fabs(found[t][i] - p.logits[t][i]));
            largest = fmax(largest, fabs(p.logits[t][i]));
        }
    return worst / largest;
}

/* ---- tests ---- */

static const ds_shape members[] = {
    { .name = "V2-Lite", .has_yarn = true, .dense = 1, .shared = 2, .gating = 1, .scale = 1 },
    { .name = "V2 as of old", .dense = 0, .shared = 2, .scale = 1, .normed = -1 },
    { .name = "V2",
      .has_q_lora = true,
      .has_yarn = true,
      .dense = 1,
      .shared = 2,
      .groups = 4,
      .groups_used = 2,
      .gating = 1,
      .scale = 16 },
    { .name = "V3",
      .has_q_lora = true,
      .has_bias = true,
      .has_yarn = true,
      .dense = 2,
      .shared = 1,
      .groups = 4,
      .groups_used = 2,
      .gating = 2,
      .scale = 2.5f,
      .normed = 1 },
    { .name = "V3 without keys of routing",
      .has_q_lora = true,
      .has_bias = true,
      .dense = 1,
      .shared = 1,
      .scale = 2.5f,
      .normed = -1 },
    { .name = "V3 with a layer to guess ahead",
      .has_q_lora = true,
      .has_bias = true,
      .has_yarn = true,
      .dense = 1,
      .shared = 1,
      .groups = 2,
      .groups_used = 1,
      .gating = 2,
      .scale = 2.5f,
      .normed = 1,
      .nextn = 1 },
    { .name = "all dense", .has_q_lora = true, .dense = DS_LAYERS, .shared = 1, .scale = 1 },
};

static void logits_are_those_of_the_formulas(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(members); i++) {
        ds_make(&p.m, &members[i], SEED);
        for (int is_exact = 1; is_exact >= 0; is_exact--) {
            p.is_exact = is_exact;
            run(&members[i], found);
            forward(&members[i], &straight);
            printf("%s, %s: logits within %.2g of the largest\n", members[i].name,
                   is_exact ? "f32" : "f16", distance());
            CHECK(distance() < (is_exact ? 5e-6 : 1e-4), "%s: off by %g", members[i].name,
                  distance());
        }
        test_model_free(&p.m);
    }
}

/* Each mistake must show, or the bound above would prove nothing. */
/* Adapters of every matrix but those that queries and results pass through absorbed. */
static void an_adapter_is_its_merged_weights(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(members); i++) {
        test_lora lora = { .rank = 4, .alpha = 8, .arch = "deepseek2" };
        char path[] = "/tmp/doppler-deepseek-XXXXXX";

        ds_make(&p.m, &members[i], SEED);
        test_lora_make(&lora, &p.m, 3);
        test_lora_save(&lora, &p.m, path);
        run_with(&members[i], path, found);
        test_lora_merge(&lora, &p.m, 1);
        forward(&members[i], &straight);
        CHECK(distance() < 1e-3, "%s: off by %g of the largest logit", members[i].name, distance());
        unlink(path);
        test_lora_free(&lora);
        test_model_free(&p.m);
    }
}

static void mistakes_show(void **unused)
{
    static const struct twist twists[] = {
        { .name = "mscale", .forgets_mscale = true },
        { .name = "scale", .scales_by_kept = true },
        { .name = "norm of the rotated key", .norms_rope = true },
        { .name = "bias to choose by", .forgets_bias = true },
        { .name = "bias in weights", .weighs_by_bias = true },
        { .name = "shared expert", .forgets_shared = true },
        { .name = "norm of weights", .forgets_norm = true },
        { .name = "worth of groups", .groups_by_best = true },
    };

    ds_make(&p.m, &members[3], SEED);
    run(&members[3], found);
    for (size_t i = 0; i < DP_ARRAY_LEN(twists); i++) {
        forward(&members[3], &twists[i]);
        CHECK(distance() > 5e-3, "%s shows by %g only", twists[i].name, distance());
    }
    test_model_free(&p.m);
}

/* Queries enter the latent's space by columns of attn_k_b or by rows of attn_kv_b: one order
 * of operations for both. */
static void both_layouts_give_the_same_bits(void **unused)
{
    static const dp_dtype types[] = { DP_F32, DP_F16, DP_BF16 };
    static rows old;

    for (size_t i = 0; i < DP_ARRAY_LEN(members); i++)
        for (size_t j = 0; j < DP_ARRAY_LEN(types); j++) {
            ds_shape s = members[i];
            s.type = types[j];
            ds_make(&p.m, &s, SEED + 1);
            run(&s, found);
            s.is_old = true;
            run(&s, old);
            CHECK(memcmp(found, old, sizeof old) == 0, "%s, %s", s.name,
                  dp_dtype_get(s.type)->name);
            test_model_free(&p.m);
        }
}

/* A token keeps one latent and one rotated key a layer, in either layout. */
static void what_a_token_keeps_is_small(void **unused)
{
    for (int is_old = 0; is_old < 2; is_old++) {
        ds_shape s = members[3];
        dp_gguf *gguf;
        dp_model *model;
        dp_error err;

        s.is_old = is_old;
        s.nextn = 1; /* keeps nothing */
        ds_make(&p.m, &s, 1);
        gguf = ds_gguf(&p.m, &s);
        CHECK_OK(dp_model_open(&model, gguf, &err), err);
        CHECK(dp_kv_row_bytes(&model->hp, DP_F16) ==
                  (uint64_t)DS_LAYERS * DP_KV_BLOCK_TOKENS * (DS_LORA + DS_ROPE) * 2,
              "%llu bytes", (unsigned long long)dp_kv_row_bytes(&model->hp, DP_F16));
        dp_model_close(model);
        dp_gguf_close(gguf);
        test_model_free(&p.m);
    }
}

static const struct refusal {
    const char *absent; /* tensor */
    const char *wide;   /* tensor with one value too many in a row */
    const char *halved; /* tensor of type F16 */
    const char *key;    /* has another value */
    uint32_t value;
    bool is_old, has_both;
    const char *sentence;
} refusals[] = {
    { .absent = "blk.0.attn_kv_a_mqa.weight", .sentence = "blk.0.attn_kv_a_mqa.weight: missing" },
    { .absent = "blk.1.attn_kv_a_norm.weight", .sentence = "blk.1.attn_kv_a_norm.weight: missing" },
    { .absent = "blk.2.attn_q_a_norm.weight", .sentence = "blk.2.attn_q_a_norm.weight: missing" },
    { .absent = "blk.2.attn_q_b.weight", .sentence = "blk.2.attn_q_b.weight: missing" },
    { .absent = "blk.1.attn_kv_b.weight", .sentence = "blk.1.attn_k_b.weight: missing" },
    { .absent = "blk.2.ffn_up_shexp.weight", .sentence = "blk.2.ffn_up_shexp.weight: missing" },
    { .absent = "blk.2.ffn_gate_inp.weight", .sentence = "blk.2.ffn_gate_inp.weight: missing" },
    { .absent = "blk.1.ffn_down.weight", .sentence = "blk.1.ffn_down.weight: missing" },
    { .wide = "blk.2.exp_probs_b.bias", .sentence = "blk.2.exp_probs_b.bias: shape {9, 1" },
    { .wide = "blk.0.attn_kv_b.weight",
      .is_old = true,
      .sentence = "blk.0.attn_kv_b.weight: shape {41, 96, 1, 1}, expected {40, 96, 1, 1}" },
    { .wide = "blk.0.attn_output.weight", .sentence = "blk.0.attn_output.weight: shape {37, 32" },
    { .halved = "blk.2.exp_probs_b.bias", .sentence = "blk.2.exp_probs_b.bias: type F16" },
    { .halved = "blk.0.attn_kv_a_norm.weight", .sentence = "attn_kv_a_norm.weight: type F16" },
    { .has_both = true, .sentence = "blk.0.attn_k_b.weight: not a part" },
    { .key = "attention.kv_lora_rank", .value = DS_NO_KEY, .sentence = "kv_lora_rank: missing" },
    { .key = "attention.kv_lora_rank",
      .value = 41,
      .sentence = "attention.key_length: 48, but kv_lora_rank and rope.dimension_count make 49" },
    { .key = "attention.value_length", .value = 39, .sentence = "attention.value_length: 39" },
    { .key = "attention.value_length_mla", .value = 0, .sentence = "value_length_mla: 0" },
    { .key = "attention.key_length_mla", .value = 8, .sentence = "rope.dimension_count: 8" },
    { .key = "attention.head_count_kv",
      .value = DS_HEADS,
      .sentence = "attention.head_count_kv: 3, expected 1" },
    { .key = "attention.head_count_kv",
      .value = 1,
      .is_old = true,
      .sentence = "attention.head_count_kv: 1, expected 3" },
    { .key = "attention.q_lora_rank",
      .value = DS_NO_KEY,
      .sentence = "blk.0.attn_q.weight: missing" },
    { .key = "attention.temperature_scale", .value = 1, .sentence = "temperature_scale" },
    { .key = "nextn_predict_layers", .value = 3, .sentence = "nextn_predict_layers: 3, but" },
    { .key = "expert_shared_count", .value = 0, .sentence = "blk.2.ffn_gate_shexp.weight: not a" },
    { .key = "leading_dense_block_count", .value = 1, .sentence = "blk.1.ffn_gate_inp.weight" },
    { .key = "expert_count", .value = 16, .sentence = "blk.2.ffn_gate_inp.weight: shape {32, 8" },
};

static void what_contradicts_the_family_is_refused(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(refusals); i++) {
        const struct refusal *r = &refusals[i];
        ds_shape s = members[3];
        dp_gguf *gguf;
        dp_model *model;
        dp_error err = { 0 };

        ds_make(&p.m, &s, 7);
        s.is_old = r->is_old;
        s.has_both = r->has_both;
        s.key = r->key;
        s.value = r->value;
        if (r->absent)
            test_model_find(&p.m, r->absent)->is_absent = true;
        if (r->wide)
            test_model_find(&p.m, r->wide)->ne[0]++;
        if (r->halved)
            test_model_find(&p.m, r->halved)->type = DP_F16;
        gguf = ds_gguf(&p.m, &s);
        CHECK(dp_model_open(&model, gguf, &err) && !model, "row %zu was accepted", i);
        CHECK(strstr(err.text, r->sentence), "row %zu: %s", i, err.text);
        dp_gguf_close(gguf);
        test_model_free(&p.m);
    }
}

/* A file with the tensors of DeepSeek-V3, much narrower. */
static dp_gguf *narrow_v3(uint32_t experts, uint32_t layers)
{
    const uint64_t e = experts;
    const struct {
        const char *name;
        uint32_t dims;
        uint64_t ne[3];
    } tensors[] = {
        { "attn_norm.weight", 1, { 4 } },           { "attn_q_a.weight", 2, { 4, 4 } },
        { "attn_q_a_norm.weight", 1, { 4 } },       { "attn_q_b.weight", 2, { 4, 6 } },
        { "attn_kv_a_mqa.weight", 2, { 4, 6 } },    { "attn_kv_a_norm.weight", 1, { 4 } },
        { "attn_k_b.weight", 3, { 4, 4, 1 } },      { "attn_v_b.weight", 3, { 4, 4, 1 } },
        { "attn_output.weight", 2, { 4, 4 } },      { "ffn_norm.weight", 1, { 4 } },
        { "ffn_gate_inp.weight", 2, { 4, e } },     { "exp_probs_b.bias", 1, { e } },
        { "ffn_gate_exps.weight", 3, { 4, 4, e } }, { "ffn_up_exps.weight", 3, { 4, 4, e } },
        { "ffn_down_exps.weight", 3, { 4, 4, e } }, { "ffn_gate_shexp.weight", 2, { 4, 4 } },
        { "ffn_up_shexp.weight", 2, { 4, 4 } },     { "ffn_down_shexp.weight", 2, { 4, 4 } },
    };
    static const struct {
        const char *key;
        uint32_t value;
    } keys[] = {
        { "context_length", 64 },          { "embedding_length", 4 },
        { "attention.head_count", 1 },     { "attention.head_count_kv", 1 },
        { "attention.key_length", 6 },     { "attention.value_length", 4 },
        { "attention.key_length_mla", 6 }, { "attention.value_length_mla", 4 },
        { "attention.kv_lora_rank", 4 },   { "attention.q_lora_rank", 4 },
        { "rope.dimension_count", 2 },     { "expert_used_count", 8 },
        { "expert_shared_count", 1 },      { "expert_feed_forward_length", 4 },
    };
    const uint64_t embed[2] = { 4, 8 }, one[1] = { 4 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_gguf *gguf;
    dp_buf header;
    dp_error err;
    char name[96];

    CHECK(w, "no memory");
    dp_gguf_writer_str(w, "general.architecture", "deepseek2");
    dp_gguf_writer_u32(w, "deepseek2.block_count", layers);
    dp_gguf_writer_u32(w, "deepseek2.expert_count", experts);
    dp_gguf_writer_f32(w, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
    for (size_t i = 0; i < DP_ARRAY_LEN(keys); i++) {
        snprintf(name, sizeof name, "deepseek2.%s", keys[i].key);
        dp_gguf_writer_u32(w, name, keys[i].value);
    }
    dp_gguf_writer_tensor(w, "token_embd.weight", DP_F32, 2, embed, DP_FILL_ZERO, 0);
    dp_gguf_writer_tensor(w, "output_norm.weight", DP_F32, 1, one, DP_FILL_ZERO, 0);
    for (uint32_t l = 0; l < layers; l++)
        for (size_t i = 0; i < DP_ARRAY_LEN(tensors); i++) {
            snprintf(name, sizeof name, "blk.%u.%s", l, tensors[i].name);
            dp_gguf_writer_tensor(w, name, DP_F32, tensors[i].dims, tensors[i].ne, DP_FILL_ZERO, 0);
        }
    dp_buf_init(&header, DP_GGUF_HEADER_MAX);
    CHECK_OK(dp_gguf_writer_header(w, &header, &err), err);
    CHECK_OK(dp_gguf_parse(&gguf, "test.gguf", (const uint8_t *)header.bytes, header.size,
                           header.size + DP_GIB, NULL, &err),
             err);
    dp_buf_deinit(&header);
    dp_gguf_writer_close(w);
    return gguf;
}

/* The published model's first files say nothing of groups: its shape does. */
static void groups_of_v3_are_known(void **unused)
{
    static const struct {
        uint32_t experts, layers, groups, used;
    } rows[] = { { 256, 61, 8, 4 }, { 256, 60, 0, 0 }, { 384, 61, 0, 0 } };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_gguf *gguf = narrow_v3(rows[i].experts, rows[i].layers);
        dp_model *model;
        dp_error err;

        CHECK_OK(dp_model_open(&model, gguf, &err), err);
        CHECK(model->hp.expert_group_count == rows[i].groups &&
                  model->hp.expert_group_used == rows[i].used,
              "row %zu: %u groups of %u", i, model->hp.expert_group_used,
              model->hp.expert_group_count);
        CHECK(model->hp.expert_gating == DP_GATING_SIGMOID && model->hp.expert_weights_norm,
              "row %zu: gating %d", i, model->hp.expert_gating);
        dp_model_close(model);
        dp_gguf_close(gguf);
    }
}

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_formulas),
        cmocka_unit_test(an_adapter_is_its_merged_weights),
        cmocka_unit_test(mistakes_show),
        cmocka_unit_test(both_layouts_give_the_same_bits),
        cmocka_unit_test(what_a_token_keeps_is_small),
        cmocka_unit_test(what_contradicts_the_family_is_refused),
        cmocka_unit_test(groups_of_v3_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
