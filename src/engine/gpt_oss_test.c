/* A gpt-oss of two layers against a forward pass in double, written here from the
 * formulas, beyond the border of its window; and files of it that are refused. */
#include "base/map.h"
#include "engine/engine_testing.h"
#include "model/model.h"

#define TOKENS      134
#define WINDOW      128
#define DIM         32
#define FF          48
#define HEADS       4
#define KV_HEADS    2
#define HEAD        16
#define EXPERTS     4
#define USED        2
#define VOCAB       64
#define FACTOR      4
#define ORIGINAL    32
#define ALPHA       1.702
#define LIMIT       7
#define STEPS_FIRST 124 /* one token a step from here on: the window's border lies behind it */

static const test_setting none[TEST_SETTINGS] = { { NULL, NULL } };
static const test_setting small[TEST_SETTINGS] = { { "ram", "64MiB" }, { "ctx", "256" } };

static void keys(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "gpt-oss.attention.sliding_window", WINDOW);
    dp_gguf_writer_str(w, "gpt-oss.rope.scaling.type", "yarn");
    dp_gguf_writer_f32(w, "gpt-oss.rope.scaling.factor", FACTOR);
    dp_gguf_writer_u32(w, "gpt-oss.rope.scaling.original_context_length", ORIGINAL);
}

/* Some biases push activations past the limits, from above and below. Where a key or value
 * lies in the middle between two halves, float and double may round it apart and logits
 * differ by 1e-4 and more; with this seed they do not. */
static test_model make(void)
{
    test_model m = { .layers = 2,
                     .dim = DIM,
                     .heads = HEADS,
                     .kv_heads = KV_HEADS,
                     .head_dim = HEAD,
                     .ff = FF,
                     .vocab = VOCAB,
                     .context = 256,
                     .experts = EXPERTS,
                     .used = USED,
                     .arch = "gpt-oss",
                     .more_keys = keys };

    test_model_make(&m, 8);
    for (uint32_t i = 0; i < EXPERTS * FF; i++) {
        test_model_find(&m, "blk.0.ffn_gate_exps.bias")->data[i] += i % 5 == 0 ? 6 : 0;
        test_model_find(&m, "blk.0.ffn_up_exps.bias")->data[i] += i % 7 == 0 ? 6 : 0;
        test_model_find(&m, "blk.1.ffn_gate_exps.bias")->data[i] -= i % 5 == 0 ? 7 : 0;
        test_model_find(&m, "blk.1.ffn_up_exps.bias")->data[i] -= i % 7 == 0 ? 6 : 0;
    }
    return m;
}

/* ---- the other program ---- */

/* What may be left out or changed to see that it matters. */
typedef struct twist {
    const char *name; /* a tensor's last words: its values are taken as 0 */
    uint32_t window;
    bool rounds_range, skips_magnitude, windows_everywhere, forgets_limit;
} twist;

static const twist straight = { .window = WINDOW };

static struct {
    test_model *m;
    const twist *twist;
    double x[TOKENS][DIM], k[TOKENS][KV_HEADS * HEAD], v[TOKENS][KV_HEADS * HEAD];
    double logits[TOKENS][VOCAB];
} s;

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);

    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static double at(const char *format, uint32_t layer, uint32_t i)
{
    if (s.twist->name && ends_with(format, s.twist->name))
        return 0;
    return test_model_data(s.m, format, layer)[i];
}

/* y = W x + b of the matrix and vector called stem.weight and stem.bias; first: where the
 * expert begins, in rows. */
static void product(double *y, const char *stem, uint32_t layer, const double *x, uint32_t rows,
                    uint32_t k, uint32_t first)
{
    char weight[64], bias[64];
    const float *w;

    snprintf(weight, sizeof weight, "%s.weight", stem);
    snprintf(bias, sizeof bias, "%s.bias", stem);
    w = test_model_data(s.m, weight, layer) + (size_t)first * k;
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = at(bias, layer, first + r);
        for (uint32_t i = 0; i < k; i++)
            y[r] += (double)w[r * k + i] * x[i];
    }
}

static void norm(double *out, const double *x, const char *gain, uint32_t layer)
{
    double sum = 0;

    for (uint32_t i = 0; i < DIM; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < DIM; i++)
        out[i] = at(gain, layer, i) * x[i] / sqrt(sum / DIM + (double)1e-5f);
}

/* Radians a position of pair i, out of HEAD / 2 pairs. */
static double speed(uint32_t i)
{
    double pi = acos(-1), low = HEAD * log(ORIGINAL / (2 * pi * 32)) / (2 * log(10000));
    double high = HEAD * log(ORIGINAL / (2 * pi * 1)) / (2 * log(10000));
    double slow, theta = pow(10000, -2.0 * i / HEAD);

    if (s.twist->rounds_range) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    slow = fmin(fmax((i - low) / (high - low), 0), 1);
    return theta * (1 - slow) + theta / FACTOR * slow;
}

static void rotate(double *x, uint32_t heads, uint32_t position)
{
    double size = s.twist->skips_magnitude ? 1 : 0.1 * log(FACTOR) + 1;

    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < HEAD / 2; i++) {
            double *a = x + h * HEAD + i, *b = a + HEAD / 2, old = *a;
            double angle = position * speed(i);
            *a = (old * cos(angle) - *b * sin(angle)) * size;
            *b = (old * sin(angle) + *b * cos(angle)) * size;
        }
}

/* Keys and values are kept in 11 significant bits. */
static double half(double x)
{
    int exponent;
    double step;

    frexp(x, &exponent);
    step = ldexp(1, (exponent < -13 ? -13 : exponent) - 11);
    return rint(x / step) * step;
}

static void attend(double *out, const double *q, uint32_t layer, uint32_t t)
{
    uint32_t window = layer % 2 == 0 || s.twist->windows_everywhere ? s.twist->window : TOKENS;

    memset(out, 0, HEADS * HEAD * sizeof *out);
    for (uint32_t h = 0; h < HEADS; h++) {
        uint32_t kv = h / (HEADS / KV_HEADS) * HEAD;
        double sum = exp(at("blk.%u.attn_sinks.weight", layer, h));
        for (uint32_t j = 0; j <= t; j++) {
            double score = 0;
            if (t - j >= window)
                continue;
            for (uint32_t i = 0; i < HEAD; i++)
                score += q[h * HEAD + i] * s.k[j][kv + i];
            score = exp(score / sqrt(HEAD));
            sum += score;
            for (uint32_t i = 0; i < HEAD; i++)
                out[h * HEAD + i] += score * s.v[j][kv + i];
        }
        for (uint32_t i = 0; i < HEAD; i++)
            out[h * HEAD + i] /= sum;
    }
}

static void expert(double *x, const double *h, uint32_t layer, uint32_t e, double weight)
{
    double g[FF], u[FF], y[DIM], limit = s.twist->forgets_limit ? 1e9 : LIMIT;

    product(g, "blk.%u.ffn_gate_exps", layer, h, FF, DIM, e * FF);
    product(u, "blk.%u.ffn_up_exps", layer, h, FF, DIM, e * FF);
    for (uint32_t i = 0; i < FF; i++) {
        g[i] = fmin(g[i], limit);
        u[i] = fmin(fmax(u[i], -limit), limit);
        g[i] = g[i] / (1 + exp(-ALPHA * g[i])) * (u[i] + 1);
    }
    product(y, "blk.%u.ffn_down_exps", layer, g, DIM, FF, e * DIM);
    for (uint32_t i = 0; i < DIM; i++)
        x[i] += weight * y[i];
}

static void mixture(double *x, const double *h, uint32_t layer)
{
    double z[EXPERTS], all = 0;
    bool is_used[EXPERTS];

    product(z, "blk.%u.ffn_gate_inp", layer, h, EXPERTS, DIM, 0);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        uint32_t better = 0;
        for (uint32_t o = 0; o < EXPERTS; o++)
            better += z[o] > z[e];
        is_used[e] = better < USED;
        all += is_used[e] ? exp(z[e]) : 0;
    }
    for (uint32_t e = 0; e < EXPERTS; e++)
        if (is_used[e])
            expert(x, h, layer, e, exp(z[e]) / all);
}

static void layer_of(uint32_t l, uint32_t t)
{
    double h[DIM], q[HEADS * HEAD], mixed[HEADS * HEAD], y[DIM];

    norm(h, s.x[t], "blk.%u.attn_norm.weight", l);
    product(q, "blk.%u.attn_q", l, h, HEADS * HEAD, DIM, 0);
    product(s.k[t], "blk.%u.attn_k", l, h, KV_HEADS * HEAD, DIM, 0);
    product(s.v[t], "blk.%u.attn_v", l, h, KV_HEADS * HEAD, DIM, 0);
    rotate(q, HEADS, t);
    rotate(s.k[t], KV_HEADS, t);
    for (uint32_t i = 0; i < KV_HEADS * HEAD; i++) {
        s.k[t][i] = half(s.k[t][i]);
        s.v[t][i] = half(s.v[t][i]);
    }
    attend(mixed, q, l, t);
    product(y, "blk.%u.attn_output", l, mixed, DIM, HEADS * HEAD, 0);
    for (uint32_t i = 0; i < DIM; i++)
        s.x[t][i] += y[i];
    norm(h, s.x[t], "blk.%u.post_attention_norm.weight", l);
    mixture(s.x[t], h, l);
}

static dp_token token_of(uint32_t t)
{
    return (dp_token)(dp_hash_u64(t + 7) % VOCAB);
}

static void forward(test_model *m, const twist *how)
{
    const float *head = test_model_data(m, "output.weight", 0);

    s.m = m;
    s.twist = how;
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < DIM; i++)
            s.x[t][i] = at("token_embd.weight", 0, (uint32_t)token_of(t) * DIM + i);
    for (uint32_t l = 0; l < m->layers; l++)
        for (uint32_t t = 0; t < TOKENS; t++) /* causal: a token sees those before alone */
            layer_of(l, t);
    for (uint32_t t = 0; t < TOKENS; t++) {
        double h[DIM];
        norm(h, s.x[t], "output_norm.weight", 0);
        for (uint32_t r = 0; r < VOCAB; r++) {
            s.logits[t][r] = 0;
            for (uint32_t i = 0; i < DIM; i++)
                s.logits[t][r] += (double)head[r * DIM + i] * h[i];
        }
    }
}

/* ---- tests ---- */

static float found[TOKENS][VOCAB];

/* The logits of the tokens from STEPS_FIRST on. */
static void run(const test_model *m, const test_setting *settings)
{
    char path[] = "/tmp/doppler-gpt-oss-XXXXXX";
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    test_model_save(m, path);
    engine = test_engine(path, settings);
    session = test_session(engine, none);
    for (uint32_t t = 0; t < TOKENS; t++) {
        dp_token token = token_of(t);
        CHECK_OK(dp_session_append(session, &token, 1, &err), err);
        if (t < STEPS_FIRST)
            continue;
        CHECK_OK(dp_session_eval(session, &err), err);
        memcpy(found[t], dp_session_logits(session), sizeof found[t]);
    }
    dp_session_close(session);
    dp_engine_close(engine);
    unlink(path);
}

/* The largest difference from position `first` on. */
static double distance(uint32_t first)
{
    double worst = 0;

    for (uint32_t t = first; t < TOKENS; t++)
        for (uint32_t i = 0; i < VOCAB; i++)
            worst = fmax(worst, fabs(found[t][i] - s.logits[t][i]));
    return worst;
}

/* Up to position 127 the window hides nothing; then each ingredient left out or
 * changed must show, or the bound would prove nothing. */
static void logits_are_those_of_the_formulas(void **unused)
{
    static const twist twists[] = {
        { .name = "attn_sinks.weight", .window = WINDOW },
        { .name = "attn_q.bias", .window = WINDOW },
        { .name = "attn_k.bias", .window = WINDOW },
        { .name = "attn_v.bias", .window = WINDOW },
        { .name = "attn_output.bias", .window = WINDOW },
        { .name = "ffn_gate_inp.bias", .window = WINDOW },
        { .name = "ffn_gate_exps.bias", .window = WINDOW },
        { .name = "ffn_up_exps.bias", .window = WINDOW },
        { .name = "ffn_down_exps.bias", .window = WINDOW },
        { .window = WINDOW, .rounds_range = true },
        { .window = WINDOW, .skips_magnitude = true },
        { .window = WINDOW, .windows_everywhere = true },
        { .window = WINDOW, .forgets_limit = true },
        { .window = WINDOW - 1 },
        { .window = WINDOW + 1 },
    };
    test_model m = make();
    double worst;

    run(&m, small);
    forward(&m, &straight);
    worst = distance(STEPS_FIRST);
    printf("gpt-oss: logits within %.2g\n", worst);
    CHECK(worst < 1e-4, "off by %g", worst);
    for (size_t i = 0; i < DP_ARRAY_LEN(twists); i++) {
        forward(&m, &twists[i]);
        CHECK(distance(WINDOW) > 5e-3, "twist %zu shows by %g only", i, distance(WINDOW));
    }
    test_model_free(&m);
}

/* --yarn-rounding on is what rounds the range. */
static void rounding_can_be_asked_for(void **unused)
{
    static const test_setting rounding[TEST_SETTINGS] = { { "ram", "64MiB" },
                                                          { "ctx", "256" },
                                                          { "yarn-rounding", "on" } };
    static const twist rounded = { .window = WINDOW, .rounds_range = true };
    test_model m = make();

    run(&m, rounding);
    forward(&m, &rounded);
    CHECK(distance(STEPS_FIRST) < 1e-4, "off by %g", distance(STEPS_FIRST));
    test_model_free(&m);
}

static void no_window(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "gpt-oss.context_length_of_old", 1);
}

static void another_pattern(dp_gguf_writer *w)
{
    keys(w);
    dp_gguf_writer_u32(w, "gpt-oss.attention.sliding_window_pattern", 4);
}

static void same_pattern(dp_gguf_writer *w)
{
    keys(w);
    dp_gguf_writer_u32(w, "gpt-oss.attention.sliding_window_pattern", 2);
    dp_gguf_writer_u32(w, "gpt-oss.expert_gating_func", 3);
}

static void ask_for_softmax(dp_gguf_writer *w)
{
    keys(w);
    dp_gguf_writer_u32(w, "gpt-oss.expert_gating_func", 1);
}

static void ask_for_groups(dp_gguf_writer *w)
{
    keys(w);
    dp_gguf_writer_u32(w, "gpt-oss.expert_group_count", 2);
    dp_gguf_writer_u32(w, "gpt-oss.expert_group_used_count", 1);
}

static const struct refusal {
    const char *absent; /* tensor */
    const char *wide;   /* tensor with one value too many in a row */
    const char *halved; /* tensor of type F16 */
    void (*more_keys)(dp_gguf_writer *w);
    bool is_dense;
    const char *sentence; /* NULL: accepted */
} refusals[] = {
    { NULL, NULL, NULL, same_pattern, false, NULL },
    { "blk.1.attn_sinks.weight", NULL, NULL, keys, false, "blk.1.attn_sinks.weight: missing" },
    { "blk.0.attn_k.bias", NULL, NULL, keys, false, "blk.0.attn_k.bias: missing" },
    { "blk.1.attn_output.bias", NULL, NULL, keys, false, "blk.1.attn_output.bias: missing" },
    { "blk.0.ffn_gate_inp.bias", NULL, NULL, keys, false, "blk.0.ffn_gate_inp.bias: missing" },
    { "blk.0.ffn_up_exps.bias", NULL, NULL, keys, false, "blk.0.ffn_up_exps.bias: missing" },
    { "blk.1.ffn_down_exps.bias", NULL, NULL, keys, false, "blk.1.ffn_down_exps.bias: missing" },
    { "blk.1.post_attention_norm.weight", NULL, NULL, keys, false,
      "blk.1.post_attention_norm.weight: missing" },
    { NULL, "blk.0.attn_sinks.weight", NULL, keys, false, "blk.0.attn_sinks.weight: shape {5, 1" },
    { NULL, "blk.0.ffn_gate_exps.bias", NULL, keys, false,
      "blk.0.ffn_gate_exps.bias: shape {49, 4" },
    { NULL, NULL, "blk.0.ffn_down_exps.bias", keys, false, "blk.0.ffn_down_exps.bias: type F16" },
    { NULL, NULL, NULL, no_window, false, "gpt-oss.attention.sliding_window" },
    { NULL, NULL, NULL, another_pattern, false, "sliding_window_pattern: 4" },
    { NULL, NULL, NULL, ask_for_softmax, false, "gpt-oss.expert_gating_func" },
    { NULL, NULL, NULL, ask_for_groups, false, "expert groups" },
    { NULL, NULL, NULL, keys, true, "gpt-oss.expert_count" },
};

static void what_contradicts_the_family_is_refused(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(refusals); i++) {
        const struct refusal *r = &refusals[i];
        test_model m = make();
        dp_gguf *gguf;
        dp_model *model;
        dp_error err;
        dp_status st;

        m.more_keys = r->more_keys;
        m.experts = r->is_dense ? 0 : EXPERTS;
        if (r->absent)
            test_model_find(&m, r->absent)->is_absent = true;
        if (r->wide)
            test_model_find(&m, r->wide)->ne[0]++;
        if (r->halved)
            test_model_find(&m, r->halved)->type = DP_F16;
        gguf = test_model_gguf(&m);
        st = dp_model_open(&model, gguf, &err);
        CHECK(!st == !r->sentence && !st == !!model, "row %zu: status %d", i, st);
        CHECK(!st || strstr(err.text, r->sentence), "row %zu: %s", i, err.text);
        dp_model_close(model);
        dp_gguf_close(gguf);
        test_model_free(&m);
    }
}

/* An expert travels with its own rows of the biases. */
static void biases_are_on_the_expert_s_page(void **unused)
{
    static const char *const names[] = { "blk.1.ffn_gate_exps.bias", "blk.1.ffn_up_exps.bias",
                                         "blk.1.ffn_down_exps.bias" };
    test_model m = make();
    dp_gguf *gguf = test_model_gguf(&m);
    dp_model *model;
    dp_error err;

    CHECK_OK(dp_model_open(&model, gguf, &err), err);
    for (uint32_t e = 0; e < EXPERTS; e++)
        for (size_t n = 0; n < DP_ARRAY_LEN(names); n++) {
            const dp_tensor *t = dp_gguf_find_tensor(gguf, names[n]);
            uint64_t size = t->size / EXPERTS;
            uint32_t hits = 0;
            dp_page_desc desc;

            dp_page_list_desc(&model->pages, model->layers[1].expert_first + e, &desc);
            for (uint32_t p = 0; p < desc.part_count; p++)
                hits += desc.parts[p].offset == t->offset + e * size && desc.parts[p].size == size;
            CHECK(desc.part_count == 6 && hits == 1, "%s of expert %u", names[n], e);
        }
    dp_model_close(model);
    dp_gguf_close(gguf);
    test_model_free(&m);
}

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_formulas),
        cmocka_unit_test(rounding_can_be_asked_for),
        cmocka_unit_test(what_contradicts_the_family_is_refused),
        cmocka_unit_test(biases_are_on_the_expert_s_page),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
