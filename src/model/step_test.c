/* Whole models of two layers against a forward pass in double, written here from
 * the papers' formulas, and against themselves however their tokens are batched. */
#include "model/step.h"

#include <math.h>

#include "base/fault.h"
#include "base/map.h"
#include "model/model_testing.h"
#include "tier/source_file.h"

#define TOKENS     40 /* past a block of keys and values */
#define DIM        32
#define FF         48
#define VOCAB      64
#define EVERYTHING DP_GIB

/* ---- the other program ---- */

static void matvec(double *y, const float *w, const float *bias, const double *x, uint32_t rows,
                   uint32_t k)
{
    for (uint32_t r = 0; r < rows; r++) {
        y[r] = bias ? bias[r] : 0;
        for (uint32_t i = 0; i < k; i++)
            y[r] += (double)w[r * k + i] * x[i];
    }
}

static void norm(double *out, const double *x, const float *gain)
{
    double sum = 0;

    for (uint32_t i = 0; i < DIM; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < DIM; i++)
        out[i] = gain[i] * x[i] / sqrt(sum / DIM + (double)1e-5f);
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

static void rotate(double *x, uint32_t heads, uint32_t n, const float *divisors, uint32_t position)
{
    for (uint32_t h = 0; h < heads; h++)
        for (uint32_t i = 0; i < n / 2; i++) {
            double *a = x + h * n + 2 * i, *b = a + 1, old = *a;
            double angle = position * pow(10000, -2.0 * i / n) / (divisors ? divisors[i] : 1);
            *a = old * cos(angle) - *b * sin(angle);
            *b = old * sin(angle) + *b * cos(angle);
        }
}

static void swiglu(double *out, const float *gate, const float *up, const float *down,
                   const double *x)
{
    double g[FF], u[FF];

    matvec(g, gate, NULL, x, FF, DIM);
    matvec(u, up, NULL, x, FF, DIM);
    for (uint32_t i = 0; i < FF; i++)
        g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    matvec(out, down, NULL, g, DIM, FF);
}

static void feed_forward(test_model *m, uint32_t l, double *x, const double *h)
{
    double score[16], y[DIM], all = 0;
    const float *gate = test_model_data(m, "blk.%u.ffn_gate_exps.weight", l);
    const float *up = test_model_data(m, "blk.%u.ffn_up_exps.weight", l);
    const float *down = test_model_data(m, "blk.%u.ffn_down_exps.weight", l);

    if (!m->experts) {
        swiglu(y, test_model_data(m, "blk.%u.ffn_gate.weight", l),
               test_model_data(m, "blk.%u.ffn_up.weight", l),
               test_model_data(m, "blk.%u.ffn_down.weight", l), h);
        for (uint32_t i = 0; i < DIM; i++)
            x[i] += y[i];
        return;
    }
    matvec(score, test_model_data(m, "blk.%u.ffn_gate_inp.weight", l), NULL, h, m->experts, DIM);
    for (int pass = 0; pass < 2; pass++) /* the chosen ones' softmax: sum, then shares */
        for (uint32_t e = 0; e < m->experts; e++) {
            uint32_t better = 0;
            for (uint32_t o = 0; o < m->experts; o++)
                better += score[o] > score[e];
            if (better >= m->used)
                continue;
            if (pass == 0) {
                all += exp(score[e]);
                continue;
            }
            swiglu(y, gate + e * FF * DIM, up + e * FF * DIM, down + e * FF * DIM, h);
            for (uint32_t i = 0; i < DIM; i++)
                x[i] += exp(score[e]) / all * y[i];
        }
}

static struct {
    double x[TOKENS][DIM], k[TOKENS][DIM], v[TOKENS][DIM];
    bool keeps_halves;
} s;

static void attend(double *out, const test_model *m, const double *q, uint32_t t, uint32_t window)
{
    uint32_t n = m->head_dim, first = window && t + 1 > window ? t + 1 - window : 0;

    for (uint32_t h = 0; h < m->heads; h++) {
        uint32_t kv = h / (m->heads / m->kv_heads) * n;
        double sum = 0;
        memset(out + h * n, 0, n * sizeof *out);
        for (uint32_t j = first; j <= t; j++) {
            double score = 0;
            for (uint32_t i = 0; i < n; i++)
                score += q[h * n + i] * s.k[j][kv + i];
            score = exp(score / sqrt(n));
            sum += score;
            for (uint32_t i = 0; i < n; i++)
                out[h * n + i] += score * s.v[j][kv + i];
        }
        for (uint32_t i = 0; i < n; i++)
            out[h * n + i] /= sum;
    }
}

static void layer(test_model *m, uint32_t l, uint32_t window)
{
    uint32_t q_rows = m->heads * m->head_dim, kv_rows = m->kv_heads * m->head_dim;
    const float *divisors = test_model_data(m, "rope_freqs.weight", 0);

    for (uint32_t t = 0; t < TOKENS; t++) { /* causal: a token sees those before alone */
        double h[DIM], q[DIM], mixed[DIM], y[DIM];
        norm(h, s.x[t], test_model_data(m, "blk.%u.attn_norm.weight", l));
        matvec(q, test_model_data(m, "blk.%u.attn_q.weight", l),
               test_model_data(m, "blk.%u.attn_q.bias", l), h, q_rows, DIM);
        matvec(s.k[t], test_model_data(m, "blk.%u.attn_k.weight", l),
               test_model_data(m, "blk.%u.attn_k.bias", l), h, kv_rows, DIM);
        matvec(s.v[t], test_model_data(m, "blk.%u.attn_v.weight", l),
               test_model_data(m, "blk.%u.attn_v.bias", l), h, kv_rows, DIM);
        rotate(q, m->heads, m->head_dim, divisors, t);
        rotate(s.k[t], m->kv_heads, m->head_dim, divisors, t);
        for (uint32_t i = 0; i < kv_rows && s.keeps_halves; i++) {
            s.k[t][i] = half(s.k[t][i]);
            s.v[t][i] = half(s.v[t][i]);
        }
        attend(mixed, m, q, t, window);
        matvec(y, test_model_data(m, "blk.%u.attn_output.weight", l),
               test_model_data(m, "blk.%u.attn_output.bias", l), mixed, DIM, q_rows);
        for (uint32_t i = 0; i < DIM; i++)
            s.x[t][i] += y[i];
        norm(h, s.x[t], test_model_data(m, "blk.%u.ffn_norm.weight", l));
        feed_forward(m, l, s.x[t], h);
    }
}

static void forward(test_model *m, const int32_t *ids, uint32_t window, double (*logits)[VOCAB])
{
    const float *embed = test_model_data(m, "token_embd.weight", 0);
    const float *head = m->is_tied ? embed : test_model_data(m, "output.weight", 0);

    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t i = 0; i < DIM; i++)
            s.x[t][i] = embed[ids[t] * DIM + (int32_t)i];
    for (uint32_t l = 0; l < m->layers; l++)
        layer(m, l, window);
    for (uint32_t t = 0; t < TOKENS; t++) {
        double h[DIM];
        norm(h, s.x[t], test_model_data(m, "output_norm.weight", 0));
        matvec(logits[t], head, NULL, h, VOCAB, DIM);
    }
}

/* ---- a model that runs ---- */

struct rig {
    char path[40];
    dp_model *model;
    dp_source *source;
    dp_tier *tier;
    dp_device *device;
    dp_kv *kv;
    dp_kv_seq seq[2];
    dp_step *step;
    atomic_bool cancel;
};

struct way {
    uint64_t budget_bytes;
    const char *kernels;
    uint32_t threads, logits_rows;
    uint32_t ahead;
    dp_dtype kv_type;
};

static const struct way plain = { EVERYTHING, "auto", 1, 4, 0, DP_F16 };
static const struct way exact = { EVERYTHING, "auto", 1, 4, 0, DP_F32 };

static void open_weights(struct rig *r, const struct way *way)
{
    const char *paths[] = { r->path };
    dp_source_file_config files = { paths, 1, DP_IO_AUTO, DP_AIO_THREADS, 4, DP_MIB };
    dp_tier_config tier = { way->budget_bytes, &dp_policy_lru, NULL, &dp_clock_real };
    dp_gguf *gguf;
    dp_error err;

    CHECK_OK(dp_gguf_open(&gguf, r->path, &err), err);
    CHECK_OK(dp_model_open(&r->model, gguf, &err), err);
    dp_gguf_close(gguf);
    CHECK_OK(dp_source_file_open(&r->source, &files, &err), err);
    tier.source = r->source;
    CHECK_OK(dp_tier_open(&r->tier, &tier, &err), err);
    CHECK_OK(dp_model_register(r->model, r->tier, &err), err);
    CHECK_OK(dp_model_prepare(r->model, r->tier, &err), err);
}

static void open_rig(struct rig *r, const test_model *m, const struct way *way)
{
    const dp_device_limits limits = { 2 * TOKENS, FF, 8 };
    const dp_step_config config = { 2 * TOKENS, way->logits_rows, way->kv_type, way->ahead };
    dp_error err;

    *r = (struct rig){ .path = "/tmp/doppler-step-XXXXXX" };
    test_model_save(m, r->path);
    open_weights(r, way);
    CHECK_OK(dp_device_cpu_open(&r->device, way->kernels, way->threads, &limits, &err), err);
    CHECK_OK(dp_kv_open(&r->kv, r->device, &r->model->hp, way->kv_type, 2 * dp_kv_rows_for(TOKENS),
                        &err),
             err);
    CHECK_OK(dp_step_open(&r->step, r->model, r->tier, r->device, &config, &r->cancel, &err), err);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(dp_kv_seq_init(&r->seq[i], r->kv, TOKENS, &err), err);
        CHECK_OK(dp_kv_seq_reserve(&r->seq[i], TOKENS, &err), err);
    }
}

static void close_rig(struct rig *r)
{
    dp_kv_seq_deinit(&r->seq[0]);
    dp_kv_seq_deinit(&r->seq[1]);
    dp_step_close(r->step);
    dp_kv_close(r->kv);
    r->device->ops->close(r->device);
    dp_tier_close(r->tier);
    r->source->ops->close(r->source);
    dp_model_close(r->model);
    unlink(r->path);
}

typedef float logits_of[TOKENS][VOCAB];

/* Which logits a step should make, in order. */
struct sink {
    logits_of *out; /* [sequence] */
    const dp_batch_token *tokens;
    const struct rig *rig;
    uint32_t count, count_max; /* false when count_max were taken */
    uint32_t index_next;
};

static bool take(void *user, uint32_t index, const float *logits)
{
    struct sink *sink = user;
    const dp_batch_token *t = &sink->tokens[index];
    int sequence = t->seq == &sink->rig->seq[1];

    CHECK(index >= sink->index_next && t->wants_logits, "token %u came out of turn", index);
    sink->index_next = index + 1;
    memcpy(sink->out[sequence][t->position], logits, VOCAB * sizeof *logits);
    return ++sink->count < sink->count_max;
}

static dp_status run(struct rig *r, const dp_batch_token *tokens, uint32_t count, logits_of *out,
                     uint32_t count_max, dp_error *err)
{
    struct sink sink = { out, tokens, r, 0, count_max, 0 };
    dp_status st = dp_step_run(r->step, tokens, count, take, &sink, err);
    uint32_t wanted = 0;

    for (uint32_t i = 0; i < count; i++)
        wanted += tokens[i].wants_logits;
    CHECK(st || sink.count == wanted, "%u of %u logits", sink.count, wanted);
    return st;
}

static int32_t id_of(uint32_t sequence, uint32_t position)
{
    return (int32_t)(dp_hash_u64(sequence * 1000 + position + 7) % VOCAB);
}

static dp_batch_token token_of(const struct rig *r, uint32_t sequence, uint32_t position)
{
    return (dp_batch_token){ id_of(sequence, position), position, &r->seq[sequence], true };
}

/* Tokens [first, end) of one sequence. */
static dp_status run_range(struct rig *r, uint32_t sequence, uint32_t first, uint32_t end,
                           logits_of *out, dp_error *err)
{
    dp_batch_token tokens[TOKENS];

    for (uint32_t t = first; t < end; t++)
        tokens[t - first] = token_of(r, sequence, t);
    return run(r, tokens, end - first, out, UINT32_MAX, err);
}

/* The whole of sequence 0 (and 1), each in one step. */
static void run_plain(test_model *m, const struct way *way, logits_of *out, uint32_t sequences)
{
    struct rig r;
    dp_error err;

    open_rig(&r, m, way);
    for (uint32_t i = 0; i < sequences; i++)
        CHECK_OK(run_range(&r, i, 0, TOKENS, out, &err), err);
    close_rig(&r);
}

/* ---- models ---- */

static test_model dense(void)
{
    return (test_model){ .layers = 2,
                         .dim = DIM,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 8,
                         .ff = FF,
                         .vocab = VOCAB,
                         .context = 64 };
}

static test_model mixture(void)
{
    test_model m = dense();

    m.experts = 4;
    m.used = 2;
    return m;
}

static void keys_window(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "llama.attention.sliding_window", 7);
}

/* Where a key or value lies in the middle between two halves, float and double may
 * round it apart, and logits differ by 1e-4 and more; of these seeds they do not. */
static const struct {
    const char *name;
    bool is_mixture, is_tied, has_biases, has_divisors;
    uint32_t window;
    uint64_t seed;
} kinds[] = {
    { "dense", false, false, false, false, 0, 5 },
    { "dense, tied, biases", false, true, true, false, 0, 6 },
    { "dense, divisors", false, false, false, true, 0, 58 },
    { "dense, window", false, false, false, false, 7, 58 },
    { "mixture", true, false, false, false, 0, 9 },
    { "mixture, tied, divisors", true, true, false, true, 0, 58 },
};

static test_model make(size_t kind)
{
    test_model m = kinds[kind].is_mixture ? mixture() : dense();

    m.is_tied = kinds[kind].is_tied;
    m.has_biases = kinds[kind].has_biases;
    m.more_keys = kinds[kind].window ? keys_window : NULL;
    test_model_make(&m, kinds[kind].seed);
    if (kinds[kind].has_divisors) {
        dp_rng rng;
        test_tensor *t;
        dp_rng_init(&rng, 9);
        t = test_model_add(&m, &rng, "rope_freqs.weight", 0, DP_F32, 4, 0, 0);
        for (int i = 0; i < 4; i++)
            t->data[i] = 1 + (float)i * 1.5f;
    }
    return m;
}

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

static logits_of want[2], found[2];

static void check_same(const char *what, uint32_t a, uint32_t b, uint32_t sequences)
{
    for (uint32_t i = 0; i < sequences; i++)
        for (uint32_t t = 0; t < TOKENS; t++)
            CHECK(memcmp(want[i][t], found[i][t], sizeof want[i][t]) == 0,
                  "%s %u, %u: sequence %u, position %u has other bits", what, a, b, i, t);
}

/* ---- tests ---- */

static void logits_are_those_of_the_formulas(void **unused)
{
    for (size_t kind = 0; kind < DP_ARRAY_LEN(kinds); kind++) {
        test_model m = make(kind);
        double reference[TOKENS][VOCAB];
        int32_t ids[TOKENS];

        for (uint32_t t = 0; t < TOKENS; t++)
            ids[t] = id_of(0, t);
        for (int is_exact = 0; is_exact < 2; is_exact++) {
            double worst = 0;
            run_plain(&m, is_exact ? &exact : &plain, found, 1);
            s.keeps_halves = !is_exact;
            forward(&m, ids, kinds[kind].window, reference);
            for (uint32_t t = 0; t < TOKENS; t++)
                for (uint32_t i = 0; i < VOCAB; i++)
                    worst = fmax(worst, fabs(found[0][t][i] - reference[t][i]));
            printf("%s, %s: logits within %.2g\n", kinds[kind].name, is_exact ? "f32" : "f16",
                   worst);
            CHECK(worst < (is_exact ? 2e-5 : 1e-4), "%s: off by %g", kinds[kind].name, worst);
        }
        test_model_free(&m);
    }
}

/* Gate and up of each expert one behind the other, in one stack. */
static void merge_gate_and_up(test_model *m)
{
    for (uint32_t l = 0; l < m->layers; l++) {
        char names[2][48];
        test_tensor *gate, *up;
        float *both;
        size_t size;

        snprintf(names[0], sizeof names[0], "blk.%u.ffn_gate_exps.weight", l);
        snprintf(names[1], sizeof names[1], "blk.%u.ffn_up_exps.weight", l);
        gate = test_model_find(m, names[0]);
        up = test_model_find(m, names[1]);
        size = (size_t)(gate->ne[0] * gate->ne[1]);
        both = malloc(2 * size * m->experts * sizeof *both);
        for (uint32_t e = 0; e < m->experts; e++) {
            memcpy(both + 2 * e * size, gate->data + e * size, size * sizeof *both);
            memcpy(both + (2 * e + 1) * size, up->data + e * size, size * sizeof *both);
        }
        free(gate->data);
        gate->data = both;
        gate->ne[1] *= 2;
        snprintf(gate->name, sizeof gate->name, "blk.%u.ffn_gate_up_exps.weight", l);
        up->is_absent = true;
    }
}

static void all_layouts_of_experts_give_the_same_bits(void **unused)
{
    test_model m = mixture();

    test_model_make(&m, 3);
    run_plain(&m, &plain, want, 1);
    m.is_apart = true;
    run_plain(&m, &plain, found, 1);
    check_same("experts apart", 0, 0, 1);
    m.is_apart = false;
    merge_gate_and_up(&m);
    run_plain(&m, &plain, found, 1);
    check_same("gate and up merged", 0, 0, 1);
    test_model_free(&m);
}

/* Of a model whose pages are largest_bytes at most: just enough, then more. */
static uint64_t least_budget(const test_model *m)
{
    struct rig r;
    uint64_t largest = 0;

    open_rig(&r, m, &plain);
    for (uint32_t i = 0; i < dp_tier_page_count(r.tier); i++)
        largest = DP_MAX(largest, dp_tier_page_bytes(r.tier, i));
    close_rig(&r);
    return largest;
}

static void no_setting_changes_a_bit(void **unused)
{
    for (uint32_t row = 0; row < 4; row++) {
        const struct way *kept = row / 2 ? &exact : &plain;
        test_model m = row % 2 ? mixture() : dense();
        struct way ways[7];
        uint64_t least;

        test_model_make(&m, 4);
        least = least_budget(&m);
        /* A page in use, those ahead and a page of the embedding have room. */
        ways[0] = (struct way){ least, "auto", 1, 4, 0 };
        ways[1] = (struct way){ least, "auto", 2, 1, 0 };
        ways[2] = (struct way){ 3 * least, "auto", 3, 3, 1 };
        ways[3] = (struct way){ 4 * least, "ref", 1, 64, 2 };
        ways[4] = (struct way){ 4 * least + 4096, "auto", 2, 7, 1 };
        ways[5] = (struct way){ 7 * least, "ref", 3, 39, 5 };
        ways[6] = (struct way){ EVERYTHING, "ref", 5, 40, DP_AHEAD_MAX };
        run_plain(&m, kept, want, 1);
        for (uint32_t i = 0; i < DP_ARRAY_LEN(ways); i++) {
            ways[i].kv_type = kept->kv_type;
            run_plain(&m, &ways[i], found, 1);
            check_same("way", i, row, 1);
        }
        test_model_free(&m);
    }
}

static void no_split_changes_a_bit(void **unused)
{
    for (uint32_t row = 0; row < 4; row++) {
        const struct way *way = row / 2 ? &exact : &plain;
        test_model m = row % 2 ? mixture() : dense();
        struct rig r;
        dp_error err;

        test_model_make(&m, 4);
        run_plain(&m, way, want, 1);
        open_rig(&r, &m, way);
        for (uint32_t batch = 1; batch <= TOKENS; batch++) {
            memset(found, 0, sizeof found);
            for (uint32_t t = 0; t < TOKENS; t += batch)
                CHECK_OK(run_range(&r, 0, t, DP_MIN(t + batch, TOKENS), found, &err), err);
            check_same("batches of", batch, row, 1);
        }
        close_rig(&r);
        test_model_free(&m);
    }
}

/* Tokens of two sequences in one step: in turns, then one behind the other. */
static void sequences_do_not_see_each_other(void **unused)
{
    for (uint32_t row = 0; row < 4; row++) {
        const struct way *way = row / 2 ? &exact : &plain;
        test_model m = row % 2 ? mixture() : dense();
        struct rig r;
        dp_error err;

        test_model_make(&m, 6);
        run_plain(&m, way, want, 2);
        open_rig(&r, &m, way);
        for (int together = 0; together < 2; together++) {
            dp_batch_token tokens[2 * TOKENS];
            for (uint32_t t = 0; t < 2 * TOKENS; t++)
                tokens[t] =
                    together ? token_of(&r, t / TOKENS, t % TOKENS) : token_of(&r, t % 2, t / 2);
            memset(found, 0, sizeof found);
            CHECK_OK(run(&r, tokens, 2 * TOKENS, found, UINT32_MAX, &err), err);
            check_same("together", (uint32_t)together, row, 2);
        }
        close_rig(&r);
        test_model_free(&m);
    }
}

/* Logits come for the tokens that want them, whichever these are. */
static void logits_are_made_where_wanted(void **unused)
{
    static const uint64_t masks[] = {
        0, 1, (uint64_t)1 << (TOKENS - 1), 0x5555555555, 0x80000ff001, UINT64_MAX
    };
    test_model m = dense();
    struct rig r;
    dp_error err;

    test_model_make(&m, 4);
    run_plain(&m, &plain, want, 1);
    open_rig(&r, &m, &plain);
    for (uint32_t i = 0; i < DP_ARRAY_LEN(masks); i++) {
        dp_batch_token tokens[TOKENS];
        memcpy(found, want, sizeof found);
        for (uint32_t t = 0; t < TOKENS; t++) {
            tokens[t] = token_of(&r, 0, t);
            tokens[t].wants_logits = masks[i] >> t & 1;
            if (tokens[t].wants_logits)
                memset(found[0][t], 0, sizeof found[0][t]);
        }
        CHECK_OK(run(&r, tokens, TOKENS, found, UINT32_MAX, &err), err);
        check_same("mask", i, 0, 1);
    }
    close_rig(&r);
    test_model_free(&m);
}

/* Each read of a step fails once: the step says so, and the next one works. */
static void failed_reads_end_the_step_and_nothing_else(void **unused)
{
    for (int is_mixture = 0; is_mixture < 2; is_mixture++) {
        test_model m = is_mixture ? mixture() : dense();
        struct way tight = plain;
        uint64_t failed = 1;
        struct rig r;
        dp_error err;

        test_model_make(&m, 8);
        run_plain(&m, &plain, want, 1);
        tight.budget_bytes = least_budget(&m);
        open_rig(&r, &m, &tight);
        for (uint64_t n = 0; failed; n++) {
            dp_status st;

            err.text[0] = 0;
            dp_fault_arm(DP_FAULT_AIO_READ, n, 1);
            st = run_range(&r, 0, 0, TOKENS, found, &err);
            failed = dp_fault_disarm(DP_FAULT_AIO_READ);
            CHECK(st == (failed ? DP_E_IO : DP_OK) && n < 500, "read %d: status %d", (int)n, st);
            CHECK(!failed || strstr(err.text, r.path), "read %d: \"%s\"", (int)n, err.text);
            memset(found, 0, sizeof found);
            CHECK_OK(run_range(&r, 0, 0, TOKENS, found, &err), err);
            check_same("read", (uint32_t)n, (uint32_t)is_mixture, 1);
        }
        close_rig(&r);
        test_model_free(&m);
    }
}

static void check_works(struct rig *r)
{
    dp_error err;

    memset(found, 0, sizeof found);
    CHECK_OK(run_range(r, 0, 0, TOKENS, found, &err), err);
    check_same("after a cancel", 0, 0, 1);
}

static void cancel_ends_the_step(void **unused)
{
    test_model m = mixture();
    dp_batch_token tokens[TOKENS];
    struct rig r;
    dp_error err;

    test_model_make(&m, 8);
    run_plain(&m, &plain, want, 1);
    open_rig(&r, &m, &plain);
    for (uint32_t t = 0; t < TOKENS; t++)
        tokens[t] = token_of(&r, 0, t);
    atomic_store(&r.cancel, true);
    CHECK(run(&r, tokens, TOKENS, found, UINT32_MAX, &err) == DP_E_CANCELED, "by the flag");
    atomic_store(&r.cancel, false);
    check_works(&r);
    for (uint32_t count = 1; count <= TOKENS; count += 13) {
        CHECK(run(&r, tokens, TOKENS, found, count, &err) == DP_E_CANCELED, "after %u", count);
        check_works(&r);
    }
    close_rig(&r);
    test_model_free(&m);
}

/* A source that goes silent after some answers, and then has the step canceled. */
struct silent {
    dp_source base;
    dp_source *files;
    uint32_t answers;
    uint32_t kept_count;
    dp_source_read *kept[256]; /* without an answer */
    atomic_bool *cancel;
};

static dp_source_fit silent_fit(dp_source *d, uint32_t file, uint64_t offset, uint64_t size)
{
    struct silent *silent = (struct silent *)d;

    return silent->files->ops->fit(silent->files, file, offset, size);
}

static void silent_submit(dp_source *d, dp_source_read *read)
{
    struct silent *silent = (struct silent *)d;

    if (silent->answers) {
        silent->answers--;
        silent->files->ops->submit(silent->files, read);
        return;
    }
    CHECK(silent->kept_count < DP_ARRAY_LEN(silent->kept), "reads");
    silent->kept[silent->kept_count++] = read;
    atomic_store(silent->cancel, true);
}

static bool is_kept(const struct silent *silent, const dp_source_read *read)
{
    for (uint32_t i = 0; i < silent->kept_count; i++)
        if (silent->kept[i] == read)
            return true;
    return false;
}

static void silent_promote(dp_source *d, dp_source_read *read)
{
    struct silent *silent = (struct silent *)d;

    if (!is_kept(silent, read))
        silent->files->ops->promote(silent->files, read);
}

static bool silent_cancel(dp_source *d, dp_source_read *read)
{
    struct silent *silent = (struct silent *)d;

    return is_kept(silent, read) || silent->files->ops->cancel(silent->files, read);
}

static const dp_source_ops silent_ops = {
    .fit = silent_fit, .submit = silent_submit, .promote = silent_promote, .cancel = silent_cancel
};

static void cancel_ends_waiting_for_pages(void **unused)
{
    test_model m = mixture();
    struct rig r;
    dp_error err;

    test_model_make(&m, 8);
    open_rig(&r, &m, &plain);
    for (uint32_t answers = 0; answers < 40; answers += 3) {
        struct silent silent = { .base = { &silent_ops, "silent" },
                                 .files = r.source,
                                 .answers = answers,
                                 .cancel = &r.cancel };
        dp_tier_config config = { EVERYTHING, &dp_policy_lru, &silent.base, &dp_clock_real };
        const dp_step_config sizes = { TOKENS, 4, DP_F16, 1 };
        dp_tier *tier;
        struct rig other = r;
        dp_status st;

        CHECK_OK(dp_tier_open(&tier, &config, &err), err);
        CHECK_OK(dp_model_register(r.model, tier, &err), err);
        CHECK_OK(dp_step_open(&other.step, r.model, tier, r.device, &sizes, &r.cancel, &err), err);
        for (int i = 0; i < 2; i++)
            other.seq[i] = r.seq[i];
        st = run_range(&other, 0, 0, TOKENS, found, &err);
        CHECK(st == DP_E_CANCELED, "%u answers: status %d", answers, st);
        atomic_store(&r.cancel, false);
        dp_step_close(other.step);
        dp_tier_close(tier);
    }
    close_rig(&r);
    test_model_free(&m);
}

static void step_memory_is_what_was_promised(void **unused)
{
    test_model m = mixture();
    dp_step_config config = { 33, 5, DP_F16, 1 };
    dp_mem_stats before, after;
    struct rig r;
    dp_status st = DP_E_NOMEM;

    test_model_make(&m, 8);
    open_rig(&r, &m, &plain);
    for (uint64_t n = 0; st; n++) {
        dp_error err;
        dp_step *step;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_step_open(&step, r.model, r.tier, r.device, &config, &r.cancel, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        dp_mem_stats_read(&after);
        CHECK(!st == !!step && n < 5, "visit %d", (int)n);
        if (!st)
            CHECK(after.map_bytes - before.map_bytes ==
                      dp_align_up(dp_step_bytes(r.model, &config), (uint64_t)sysconf(_SC_PAGESIZE)),
                  "%d bytes", (int)(after.map_bytes - before.map_bytes));
        dp_step_close(step);
        dp_mem_stats_read(&after);
        CHECK(memcmp(&before, &after, sizeof before) == 0, "visit %d leaked", (int)n);
    }
    close_rig(&r);
    test_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_the_formulas),
        cmocka_unit_test(all_layouts_of_experts_give_the_same_bits),
        cmocka_unit_test(no_setting_changes_a_bit),
        cmocka_unit_test(no_split_changes_a_bit),
        cmocka_unit_test(sequences_do_not_see_each_other),
        cmocka_unit_test(logits_are_made_where_wanted),
        cmocka_unit_test(failed_reads_end_the_step_and_nothing_else),
        cmocka_unit_test(cancel_ends_the_step),
        cmocka_unit_test(cancel_ends_waiting_for_pages),
        cmocka_unit_test(step_memory_is_what_was_promised),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
