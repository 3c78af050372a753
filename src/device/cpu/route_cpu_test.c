/* Routing twice: against the text of device.h in double, with whole sorts where the
 * device picks, and against itself on every kernel table, thread count and split. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "device/device.h"
#include "kernel/kernel.h"
#include "testing/check.h"

#define EXPERTS 24
#define USED    5
#define TOKENS  400 /* enough to be handed to threads */

static const dp_device_limits limits = { TOKENS, EXPERTS, 64 };

static const struct route_case {
    const char *name;
    dp_route_gate gate;
    bool has_ties, has_bias;
    uint32_t groups, groups_used, group_best;
    bool norm_weights;
    float scale, shift; /* shift is added to every logit */
} cases[] = {
    { "softmax, normed", DP_ROUTE_SOFTMAX, false, false, 0, 0, 0, true, 1, 0 },
    { "softmax, scaled", DP_ROUTE_SOFTMAX, false, false, 0, 0, 0, false, 2.5f, 0 },
    { "softmax, ties", DP_ROUTE_SOFTMAX, true, false, 0, 0, 0, true, 1, 0 },
    { "softmax, groups by their best", DP_ROUTE_SOFTMAX, false, false, 8, 3, 1, false, 16, 0 },
    { "softmax, groups, ties", DP_ROUTE_SOFTMAX, true, false, 6, 2, 1, true, 1, 0 },
    { "sigmoid", DP_ROUTE_SIGMOID, false, false, 0, 0, 0, false, 1, 0 },
    { "sigmoid, ties", DP_ROUTE_SIGMOID, true, false, 0, 0, 0, true, 1, 0 },
    { "sigmoid, bias", DP_ROUTE_SIGMOID, false, true, 0, 0, 0, true, 2.5f, 0 },
    { "sigmoid, bias, groups", DP_ROUTE_SIGMOID, false, true, 8, 4, 2, true, 2.5f, 0 },
    { "sigmoid, bias, groups, ties", DP_ROUTE_SIGMOID, true, true, 4, 2, 2, true, 2.5f, 0 },
    { "sigmoid, groups of one", DP_ROUTE_SIGMOID, false, true, 24, 6, 2, true, 1, 0 },
    { "sigmoid, all groups", DP_ROUTE_SIGMOID, false, true, 3, 3, 2, true, 1, 0 },
    { "sigmoid, next to nothing", DP_ROUTE_SIGMOID, false, false, 0, 0, 0, true, 1, -20 },
    { "chosen", DP_ROUTE_SOFTMAX_CHOSEN, false, false, 0, 0, 0, false, 1, 0 },
    { "chosen, ties", DP_ROUTE_SOFTMAX_CHOSEN, true, false, 0, 0, 0, false, 1, 0 },
    { "chosen, bias, groups", DP_ROUTE_SOFTMAX_CHOSEN, false, true, 4, 2, 2, true, 3, -9 },
};

static float logits[TOKENS][EXPERTS], bias[EXPERTS];

struct routed {
    uint32_t ids[TOKENS][USED];
    float weights[TOKENS][USED];
};

static int make_world(void **unused)
{
    dp_rng rng;

    dp_rng_init(&rng, 12);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t e = 0; e < EXPERTS; e++)
            logits[t][e] = dp_rng_normal(&rng);
    for (uint32_t e = 0; e < EXPERTS; e++)
        bias[e] = dp_rng_normal(&rng);
    return 0;
}

/* Ties come from few distinct values of logits, and of biases where there are any. */
static float logit_of(const struct route_case *c, uint32_t t, uint32_t e)
{
    return (c->has_ties ? floorf(logits[t][e]) : logits[t][e]) + c->shift;
}

static float bias_of(const struct route_case *c, uint32_t e)
{
    return c->has_ties ? floorf(bias[e]) : bias[e];
}

static void run(dp_device *d, const struct route_case *c, uint32_t batch, struct routed *out)
{
    static float z[TOKENS][EXPERTS];
    float b[EXPERTS];

    for (uint32_t e = 0; e < EXPERTS; e++)
        b[e] = bias_of(c, e);
    for (uint32_t first = 0; first < TOKENS; first += batch) {
        dp_op_route op = {
            .logits = z[0],
            .tokens = DP_MIN(batch, TOKENS - first),
            .experts = EXPERTS,
            .used = USED,
            .gate = c->gate,
            .select_bias = c->has_bias ? b : NULL,
            .groups = c->groups,
            .groups_used = c->groups_used,
            .group_best = c->group_best,
            .norm_weights = c->norm_weights,
            .scale = c->scale,
            .ids = out->ids[first],
            .weights = out->weights[first],
        };
        for (uint32_t t = 0; t < op.tokens; t++)
            for (uint32_t e = 0; e < EXPERTS; e++)
                z[t][e] = logit_of(c, first + t, e);
        d->ops->route(d, &op);
    }
}

static dp_device *open_device(const char *kernels, uint32_t threads)
{
    dp_device *d;
    dp_error err;

    CHECK_OK(dp_device_cpu_open(&d, kernels, threads, &limits, &err), err);
    return d;
}

static void every_way_of_computing_gives_the_same_bits(void **unused)
{
    static const uint32_t batches[] = { 1, 3, 399, TOKENS };
    static struct routed want, found;
    dp_device *ref = open_device("ref", 1);

    for (size_t k = 0; dp_kernels_all[k]; k++)
        for (uint32_t threads = 1; threads <= 4 && dp_kernels_all[k]->usable(); threads += 3) {
            dp_device *d = open_device(dp_kernels_all[k]->name, threads);
            for (size_t c = 0; c < DP_ARRAY_LEN(cases); c++)
                for (size_t b = 0; b < DP_ARRAY_LEN(batches); b++) {
                    run(ref, &cases[c], TOKENS, &want);
                    run(d, &cases[c], batches[b], &found);
                    CHECK(memcmp(&want, &found, sizeof want) == 0, "%s in batches of %u on %s",
                          cases[c].name, batches[b], d->name);
                }
            d->ops->close(d);
        }
    ref->ops->close(ref);
}

/* ---- the text of device.h in double ---- */

struct ranked {
    double value;
    uint32_t index;
};

static int best_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static void score_all(const struct route_case *c, uint32_t t, double score[EXPERTS])
{
    double sum = 0;

    for (uint32_t e = 0; e < EXPERTS; e++)
        sum += exp((double)logit_of(c, t, e));
    for (uint32_t e = 0; e < EXPERTS; e++) {
        double z = logit_of(c, t, e);
        score[e] = c->gate == DP_ROUTE_SOFTMAX   ? exp(z) / sum
                   : c->gate == DP_ROUTE_SIGMOID ? 1 / (1 + exp(-z))
                                                 : z;
    }
}

/* Marks the experts of the groups that stay. */
static void keep_groups(const struct route_case *c, const struct ranked choice[EXPERTS],
                        bool in_running[EXPERTS])
{
    struct ranked groups[EXPERTS], inside[EXPERTS];
    uint32_t size = EXPERTS / c->groups;

    for (uint32_t g = 0; g < c->groups; g++) {
        memcpy(inside, choice + g * size, size * sizeof *inside);
        qsort(inside, size, sizeof *inside, best_first);
        groups[g] = (struct ranked){ inside[0].value, g };
        if (c->group_best == 2 && size > 1)
            groups[g].value += inside[1].value;
    }
    qsort(groups, c->groups, sizeof *groups, best_first);
    memset(in_running, 0, EXPERTS);
    for (uint32_t i = 0; i < c->groups_used; i++)
        memset(in_running + groups[i].index * size, 1, size);
}

static void route_in_double(const struct route_case *c, uint32_t t, uint32_t ids[USED],
                            double weights[USED])
{
    struct ranked choice[EXPERTS];
    bool in_running[EXPERTS];
    double score[EXPERTS], sum = 0;

    score_all(c, t, score);
    memset(in_running, 1, sizeof in_running);
    for (uint32_t e = 0; e < EXPERTS; e++)
        choice[e] = (struct ranked){ score[e] + (c->has_bias ? bias_of(c, e) : 0), e };
    if (c->groups)
        keep_groups(c, choice, in_running);
    for (uint32_t e = 0; e < EXPERTS; e++)
        if (!in_running[e])
            choice[e].value = -1e30;
    qsort(choice, EXPERTS, sizeof *choice, best_first);
    for (uint32_t r = 0; r < USED; r++) {
        ids[r] = choice[r].index;
        weights[r] = score[ids[r]];
        if (c->gate == DP_ROUTE_SOFTMAX_CHOSEN)
            weights[r] = exp(weights[r] - score[choice[0].index]);
        sum += weights[r];
    }
    for (uint32_t r = 0; r < USED; r++) {
        if (c->gate == DP_ROUTE_SOFTMAX_CHOSEN)
            weights[r] /= sum;
        else if (c->norm_weights)
            weights[r] /= fmax(sum, 1.0 / 16384);
        weights[r] *= c->scale;
    }
}

static void routing_is_what_the_header_says(void **unused)
{
    static struct routed found;
    dp_device *d = open_device("auto", 2);

    for (size_t c = 0; c < DP_ARRAY_LEN(cases); c++) {
        run(d, &cases[c], TOKENS, &found);
        for (uint32_t t = 0; t < TOKENS; t++) {
            uint32_t ids[USED];
            double weights[USED];
            route_in_double(&cases[c], t, ids, weights);
            for (uint32_t r = 0; r < USED; r++) {
                CHECK(found.ids[t][r] == ids[r], "%s, token %u, rank %u: expert %u, expected %u",
                      cases[c].name, t, r, found.ids[t][r], ids[r]);
                CHECK(fabs(found.weights[t][r] - weights[r]) <= 2e-6 * weights[r],
                      "%s, token %u, rank %u: weight %.9g, expected %.9g", cases[c].name, t, r,
                      (double)found.weights[t][r], weights[r]);
            }
        }
    }
    d->ops->close(d);
}

/* Worked by hand: the unbiased winner loses, and its group with it. */
static void the_bias_chooses_and_does_not_weigh(void **unused)
{
    float z[4] = { 2, 1, 0, -1 }, weights[2];
    const float select_bias[4] = { -1, 0, 0.5f, 0.5f };
    uint32_t ids[2];
    dp_op_route op = { .logits = z,
                       .tokens = 1,
                       .experts = 4,
                       .used = 2,
                       .gate = DP_ROUTE_SIGMOID,
                       .select_bias = select_bias,
                       .groups = 2,
                       .groups_used = 1,
                       .group_best = 2,
                       .scale = 1,
                       .ids = ids,
                       .weights = weights };
    dp_device *d = open_device("auto", 1);

    /* choices -0.119, 0.731 | 1, 0.769: the second group is worth 1.769 */
    d->ops->route(d, &op);
    CHECK(ids[0] == 2 && ids[1] == 3, "experts %u and %u", ids[0], ids[1]);
    CHECK(fabsf(weights[0] - 0.5f) < 1e-6f && fabsf(weights[1] - 0.26894143f) < 1e-6f,
          "weights %g and %g", (double)weights[0], (double)weights[1]);
    d->ops->close(d);
}

/* Ids index buffers: whatever the logits are, they are distinct and in range. */
static void route_of_no_numbers_stays_in_range(void **unused)
{
    enum { N = 9 };
    static const float rows[][N] = {
        { NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN },
        { NAN, 1, NAN, NAN, NAN, NAN, NAN, NAN, NAN },
        { 1, 2, NAN, 4, 5, 6, 7, 8, 9 },
        { INFINITY, 1, INFINITY, 0, 0, 0, 0, 0, 0 },
        { -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY,
          -INFINITY },
        { -INFINITY, INFINITY, NAN, 1e30f, 0, 0, 0, 0, 0 },
        { 0, 0, 0, 0, -INFINITY, 0, 0, 0, NAN },
    };
    dp_device *d = open_device("auto", 1);

    for (uint32_t mode = 0; mode < 12; mode++)
        for (uint32_t used = 1; used <= (mode >= 6 ? 6 : N); used++)
            for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
                float z[N], weights[N];
                uint32_t ids[N], seen = 0;
                dp_op_route op = { .logits = z,
                                   .tokens = 1,
                                   .experts = N,
                                   .used = used,
                                   .gate = (dp_route_gate)(mode % 3),
                                   .select_bias = mode / 3 % 2 ? rows[(i + 1) % 7] : NULL,
                                   .groups = mode >= 6 ? 3 : 0,
                                   .groups_used = 2,
                                   .group_best = 2,
                                   .norm_weights = true,
                                   .scale = 1,
                                   .ids = ids,
                                   .weights = weights };

                memcpy(z, rows[i], sizeof z);
                d->ops->route(d, &op);
                for (uint32_t r = 0; r < used; r++) {
                    CHECK(ids[r] < N && !(seen >> ids[r] & 1), "mode %u, row %zu: id %u", mode, i,
                          ids[r]);
                    seen |= 1u << ids[r];
                }
            }
    d->ops->close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_of_computing_gives_the_same_bits),
        cmocka_unit_test(routing_is_what_the_header_says),
        cmocka_unit_test(the_bias_chooses_and_does_not_weigh),
        cmocka_unit_test(route_of_no_numbers_stays_in_range),
    };

    return cmocka_run_group_tests(tests, make_world, NULL);
}
