/* The sampler against a slow one that follows sample.h word by word, by the counts
 * of many draws with a fixed seed. */
#include "engine/sample.h"

#include <math.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"
#include "testing/check.h"

#define VOCAB 40
#define DRAWS 20000

static int teardown(void **unused)
{
    dp_mem_stats mem;

    dp_mem_stats_read(&mem);
    return mem.heap_blocks || mem.map_regions;
}

typedef struct settings {
    const char *temp, *top_k, *top_p, *min_p, *repeat, *presence, *frequency, *window;
} settings;

static dp_sampler open_sampler(const settings *s, const char *seed, uint32_t vocab)
{
    const char *const pairs[][2] = {
        { "temp", s->temp },
        { "top-k", s->top_k },
        { "top-p", s->top_p },
        { "min-p", s->min_p },
        { "repeat-penalty", s->repeat },
        { "presence-penalty", s->presence },
        { "frequency-penalty", s->frequency },
        { "penalty-window", s->window },
        { "seed", seed },
    };
    dp_options *options = dp_options_open();
    dp_sampler sampler;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(pairs); i++)
        if (pairs[i][1])
            CHECK_OK(dp_options_set(options, pairs[i][0], pairs[i][1], &err), err);
    CHECK_OK(dp_sampler_init(&sampler, options, vocab, 77, &err), err);
    dp_options_close(options);
    return sampler;
}

/* ---- the slow one ---- */

static double number(const char *text, double fallback)
{
    double value;

    return text && dp_parse_f64(dp_str_from(text), &value) ? value : fallback;
}

static void penalize(double *logits, const settings *s, const dp_token *history, size_t count)
{
    size_t window = (size_t)number(s->window, 64);

    for (dp_token id = 0; id < VOCAB; id++) {
        double times = 0;
        for (size_t i = count > window ? count - window : 0; i < count; i++)
            times += history[i] == id;
        if (times == 0)
            continue;
        if (logits[id] > 0)
            logits[id] /= number(s->repeat, 1);
        else
            logits[id] *= number(s->repeat, 1);
        logits[id] -= number(s->presence, 0) + times * number(s->frequency, 0);
    }
}

static bool is_before(const double *logits, uint32_t a, uint32_t b)
{
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* Keeps what is among the first `count` of the kept. */
static void keep_best(const double *logits, bool *is_kept, uint32_t count)
{
    bool was_kept[VOCAB];

    memcpy(was_kept, is_kept, sizeof was_kept);
    for (uint32_t i = 0; i < VOCAB; i++) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < VOCAB; j++)
            before += was_kept[j] && is_before(logits, j, i);
        is_kept[i] = was_kept[i] && before < count;
    }
}

/* Probabilities of the kept, at a temperature; the others' are 0. */
static void softmax(double *p, const double *logits, const bool *is_kept, double temp)
{
    double max = -INFINITY, sum = 0;

    for (uint32_t i = 0; i < VOCAB; i++)
        if (is_kept[i])
            max = fmax(max, logits[i]);
    for (uint32_t i = 0; i < VOCAB; i++)
        sum += p[i] = is_kept[i] ? exp((logits[i] - max) / temp) : 0;
    for (uint32_t i = 0; i < VOCAB; i++)
        p[i] /= sum;
}

static void keep_top_p(const double *logits, bool *is_kept, double top_p)
{
    bool were_kept[VOCAB];
    double p[VOCAB];

    memcpy(were_kept, is_kept, sizeof were_kept);
    softmax(p, logits, were_kept, 1);
    for (uint32_t count = 1; count <= VOCAB; count++) {
        double sum = 0;
        memcpy(is_kept, were_kept, sizeof were_kept);
        keep_best(logits, is_kept, count);
        for (uint32_t i = 0; i < VOCAB; i++)
            sum += is_kept[i] ? p[i] : 0;
        if (sum >= top_p)
            return;
    }
}

static void distribution(double *p, const float *given, const settings *s, const dp_token *history,
                         size_t count)
{
    double logits[VOCAB], best = 0, min_p = number(s->min_p, 0.05);
    bool is_kept[VOCAB];
    uint32_t top_k = (uint32_t)number(s->top_k, 40);

    for (uint32_t i = 0; i < VOCAB; i++) {
        logits[i] = given[i];
        is_kept[i] = !isnan(given[i]);
    }
    penalize(logits, s, history, count);
    if (top_k)
        keep_best(logits, is_kept, top_k);
    keep_top_p(logits, is_kept, number(s->top_p, 0.95));
    softmax(p, logits, is_kept, 1);
    for (uint32_t i = 0; i < VOCAB; i++)
        best = fmax(best, p[i]);
    for (uint32_t i = 0; i < VOCAB; i++)
        is_kept[i] = is_kept[i] && p[i] >= best * min_p;
    softmax(p, logits, is_kept, number(s->temp, 0.8));
}

/* ---- draws against it ---- */

#define OFF "0", "1", "0" /* top-k, top-p, min-p */

static const struct {
    const char *name;
    settings s;
    bool has_history, has_nans;
} cases[] = {
    { "all", { "1", OFF }, false, false },
    { "hot", { "2.5", OFF }, false, false },
    { "cold", { "0.3", OFF }, false, false },
    { "top-k", { "1", "7", "1", "0" }, false, false },
    { "top-k 1", { "1", "1", "1", "0" }, false, false },
    { "top-k of all", { "1", "40", "1", "0" }, false, false },
    { "top-k of more", { "1", "4000", "1", "0" }, false, false },
    { "top-p", { "1", "0", "0.6", "0" }, false, false },
    { "top-p 0", { "1", "0", "0", "0" }, false, false },
    { "min-p", { "1", "0", "1", "0.2" }, false, false },
    { "min-p 1", { "1", "0", "1", "1" }, false, false },
    { "defaults", { 0 }, false, false },
    { "all cuts, hot", { "3", "20", "0.9", "0.1" }, false, false },
    { "repeat", { "1", OFF, "1.5" }, true, false },
    { "presence", { "1", OFF, NULL, "1.25" }, true, false },
    { "frequency", { "1", OFF, NULL, NULL, "0.5" }, true, false },
    { "rewarded", { "1", OFF, "0.8", "-0.5", "-0.25" }, true, false },
    { "all penalties", { "0.9", "30", "0.97", "0.01", "1.2", "0.3", "0.1" }, true, false },
    { "window", { "1", OFF, "2", "1", "0.5", "5" }, true, false },
    { "window 0", { "1", OFF, "2", "1", "0.5", "0" }, true, false },
    { "damaged in part", { "1", OFF }, false, true },
    { "damaged in part, cut", { "1", "38", "0.99", "0.001" }, false, true },
};

static void make_logits(float *logits, uint32_t n)
{
    dp_rng rng;

    dp_rng_init(&rng, 12);
    for (uint32_t i = 0; i < n; i++)
        logits[i] = dp_rng_normal(&rng) * 1.5f;
    logits[7] = logits[3] = logits[21]; /* ties */
}

static const dp_token history[] = { 3, 30, 3, 12, 3, 9, 12, 0, 39, 3, 8 };

/* Counts of draws: the sum of (found - expected)^2 / expected is about the number
 * of cells, with a deviation of sqrt(2 cells). */
static void check_counts(const char *name, const double *p, const uint32_t *counts)
{
    double sum = 0, cells = 0;

    for (uint32_t i = 0; i < VOCAB; i++) {
        double expected = p[i] * DRAWS;
        CHECK(p[i] > 0 || counts[i] == 0, "%s: token %u of no probability, %u times", name, i,
              counts[i]);
        if (expected < 5)
            continue;
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
        cells++;
    }
    CHECK(sum < cells + 5 * sqrt(2 * cells), "%s: %g over %g cells", name, sum, cells);
}

static void draws_follow_the_distribution(void **unused)
{
    for (size_t c = 0; c < DP_ARRAY_LEN(cases); c++) {
        dp_sampler s = open_sampler(&cases[c].s, "42", VOCAB);
        size_t count = cases[c].has_history ? DP_ARRAY_LEN(history) : 0;
        uint32_t counts[VOCAB] = { 0 };
        float logits[VOCAB];
        double p[VOCAB];

        make_logits(logits, VOCAB);
        if (cases[c].has_nans)
            logits[0] = logits[11] = logits[39] = NAN;
        distribution(p, logits, &cases[c].s, history, count);
        for (uint32_t i = 0; i < DRAWS; i++) {
            dp_token token;
            dp_error err;
            CHECK_OK(dp_sampler_choose(&s, logits, history, count, &token, &err), err);
            CHECK(token >= 0 && token < VOCAB, "token %d", token);
            counts[token]++;
        }
        check_counts(cases[c].name, p, counts);
        dp_sampler_deinit(&s);
    }
}

static dp_token choose(dp_sampler *s, const float *logits, const dp_token *past, size_t count)
{
    dp_token token;
    dp_error err;

    CHECK_OK(dp_sampler_choose(s, logits, past, count, &token, &err), err);
    return token;
}

static void greedy_takes_the_first_of_the_largest(void **unused)
{
    static const settings greedy = { .temp = "0", .presence = "1" };
    dp_sampler s = open_sampler(&greedy, "1", 5);
    const dp_token past[] = { 1, 1 };

    CHECK(choose(&s, (const float[]){ 1, 3, 2, 3, 3 }, NULL, 0) == 1, "tie");
    CHECK(choose(&s, (const float[]){ 0, 0, 0, 0, 0 }, NULL, 0) == 0, "all equal");
    CHECK(choose(&s, (const float[]){ 1, 3, 2, 3, 3 }, past, 2) == 3, "penalty");
    CHECK(choose(&s, (const float[]){ 1, 3, 2.5f, 2, 2 }, past, 2) == 2, "once, not twice");
    CHECK(choose(&s, (const float[]){ NAN, -1, NAN, -1e30f, -1 }, NULL, 0) == 1, "not numbers");
    CHECK(choose(&s, (const float[]){ -INFINITY, -2, -INFINITY, -3, -3 }, NULL, 0) == 1, "masked");
    dp_sampler_deinit(&s);
}

static const float broken[][4] = {
    { NAN, NAN, NAN, NAN },
    { -INFINITY, -INFINITY, -INFINITY, -INFINITY },
    { 1, INFINITY, 2, 3 },
};

static void logits_that_are_no_numbers_are_refused(void **unused)
{
    static const settings ways[] = { { .temp = "0" },
                                     { .temp = "1" },
                                     { .temp = "1", .top_k = "2" } };

    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++)
        for (size_t i = 0; i < DP_ARRAY_LEN(broken); i++) {
            dp_sampler s = open_sampler(&ways[way], "1", 4);
            dp_token token;
            dp_error err;
            CHECK(dp_sampler_choose(&s, broken[i], NULL, 0, &token, &err) == DP_E_CORRUPT,
                  "way %zu, row %zu", way, i);
            CHECK(strstr(err.text, "not finite"), "%s", err.text);
            dp_sampler_deinit(&s);
        }
}

static void extreme_logits_stay_in_range(void **unused)
{
    static const settings ways[] = { { .temp = "100", .top_k = "0", .top_p = "1", .min_p = "0" },
                                     { .temp = "1e-300", .top_k = "0", .top_p = "1" } };
    const float logits[] = { -3e38f, 3e38f, 0, -INFINITY };

    for (size_t way = 0; way < DP_ARRAY_LEN(ways); way++) {
        dp_sampler s = open_sampler(&ways[way], "1", 4);
        for (int i = 0; i < 100; i++)
            CHECK(choose(&s, logits, NULL, 0) == 1, "way %zu", way);
        dp_sampler_deinit(&s);
    }
}

static void seeds_repeat(void **unused)
{
    static const settings plain = { .temp = "1", .top_k = "0" };
    const char *const seeds[] = { "5", "5", "6", "77", "0" };
    dp_token drawn[DP_ARRAY_LEN(seeds)][50];
    float logits[VOCAB];

    make_logits(logits, VOCAB);
    for (size_t i = 0; i < DP_ARRAY_LEN(seeds); i++) {
        dp_sampler s = open_sampler(&plain, seeds[i], VOCAB);
        for (size_t n = 0; n < 50; n++)
            drawn[i][n] = choose(&s, logits, NULL, 0);
        dp_sampler_deinit(&s);
    }
    CHECK(memcmp(drawn[0], drawn[1], sizeof drawn[0]) == 0, "the same seed, other tokens");
    CHECK(memcmp(drawn[0], drawn[2], sizeof drawn[0]) != 0, "another seed, the same tokens");
    CHECK(memcmp(drawn[3], drawn[4], sizeof drawn[0]) == 0, "0 takes the drawn one, which is 77");
}

/* A long text of tokens that all differ, and a window over all of it: counted in one
 * pass. Comparing all pairs takes so long here that the test would not end in time. */
static void long_windows_are_cheap(void **unused)
{
    enum { LENGTH = 400000 };
    static const settings wide = { .temp = "0", .presence = "1", .window = "16777216" };
    dp_sampler s = open_sampler(&wide, "1", LENGTH + 1);
    dp_token *past = dp_alloc(LENGTH, sizeof *past);
    float *logits = dp_alloc_zero(LENGTH + 1, sizeof *logits);

    for (int i = 0; i < LENGTH; i++)
        past[i] = i;
    CHECK(choose(&s, logits, past, LENGTH) == LENGTH, "the only one without a penalty");
    dp_free(logits);
    dp_free(past);
    dp_sampler_deinit(&s);
}

static void short_memory_is_refused(void **unused)
{
    dp_sampler s = { 0 };
    dp_error err;

    dp_sampler_deinit(&s); /* zeroed is fine */
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_sampler_init(&s, NULL, VOCAB, 1, &err) == DP_E_NOMEM, "opened");
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(strstr(err.text, "40 candidates"), "%s", err.text);
    dp_sampler_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(logits_that_are_no_numbers_are_refused),
        cmocka_unit_test(extreme_logits_stay_in_range),
        cmocka_unit_test(seeds_repeat),
        cmocka_unit_test(long_windows_are_cheap),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
