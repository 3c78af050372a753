/* The gate on machines made of numbers: what a step takes, and how often a guess is right. */
#include "engine/speculate.h"

#include "base/map.h"
#include "testing/check.h"

#define TOKENS 4000

/* A step of `rows` takes base + each * (rows - 1), from token `later` on as the second. */
struct machine {
    const char *name;
    double each, each_later;
    double right;       /* chance of a guessed token */
    double noise;       /* a step takes up to so much more or less */
    double least, most; /* time with the gate to time without */
};

static const struct machine machines[] = {
    { "weights stream: guesses cost nothing", 0.01, 0.01, 0.9, 0.05, 0.10, 0.30 },
    { "and the text repeats itself seldom", 0.01, 0.01, 0.1, 0.05, 0.80, 1.01 },
    { "resident: a third of a step each", 0.3, 0.3, 0.9, 0.1, 0.30, 0.70 },
    { "a mixture: each costs a step, guesses are bad", 1.0, 1.0, 0.3, 0.1, 0.99, 1.03 },
    { "a mixture: each costs nearly a step, guesses are good", 0.9, 0.9, 0.8, 0.1, 0.85, 1.03 },
    { "each costs more than a step", 1.5, 1.5, 0.95, 0.1, 0.99, 1.04 },
    { "much noise, no gain", 1.0, 1.0, 0.7, 0.5, 0.95, 1.05 },
    { "much noise, much gain", 0.02, 0.02, 0.9, 0.5, 0.10, 0.35 },
    { "cheap at first, dear later", 0.01, 1.5, 0.8, 0.1, 0.50, 0.80 },
    { "dear at first, cheap later", 1.5, 0.01, 0.8, 0.1, 0.50, 0.95 },
};

static double unit(uint64_t *state)
{
    *state += 1;
    return (double)(dp_hash_u64(*state) >> 11) / 9007199254740992.0;
}

static double step_time(const struct machine *m, uint32_t rows, uint32_t made, uint64_t *state)
{
    double each = made < TOKENS / 2 ? m->each : m->each_later;

    return 1e6 * (1 + each * (rows - 1)) * (1 + m->noise * (2 * unit(state) - 1));
}

/* Generates TOKENS with the gate; returns time to that of one row a token. */
static double play(const struct machine *m, uint64_t seed)
{
    dp_draft draft = { .source = 1, .match = 4 };
    uint64_t state = seed << 32;
    double time = 0;
    dp_speculate s;

    dp_speculate_init(&s);
    for (size_t c = 0; c < DP_DRAFT_CLASSES; c++)
        draft.right[c] = (float)m->right;
    for (uint32_t made = 0; made < TOKENS;) {
        uint32_t k = dp_speculate_choose(&s, &draft, 1, 1, 16);
        double ns = step_time(m, 1 + k, made, &state);
        CHECK(k <= 16, "%u tokens", k);
        dp_speculate_record(&s, 1 + k, k > 0, (uint64_t)ns);
        time += ns;
        made++;
        while (k-- > 0 && unit(&state) < m->right)
            made++;
    }
    return time / (1e6 * TOKENS);
}

static void drafts_are_made_where_they_pay(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(machines); i++)
        for (uint64_t seed = 1; seed <= 20; seed++) {
            double ratio = play(&machines[i], seed);
            CHECK(ratio >= machines[i].least && ratio <= machines[i].most, "%s: %.3f of the time",
                  machines[i].name, ratio);
        }
}

static void costs_between_and_past_what_was_measured(void **unused)
{
    dp_speculate s;

    dp_speculate_init(&s);
    CHECK(dp_speculate_cost(&s, 1) == 0 && dp_speculate_cost(&s, 0) == 0, "nothing known");
    dp_speculate_record(&s, 3, false, 300);
    CHECK(dp_speculate_cost(&s, 1) == 300 && dp_speculate_cost(&s, 9) == 300, "one number");
    dp_speculate_record(&s, 1, false, 100);
    CHECK(dp_speculate_cost(&s, 2) == 200, "between: %g", dp_speculate_cost(&s, 2));
    CHECK(dp_speculate_cost(&s, 5) == 400, "past, half as steep: %g", dp_speculate_cost(&s, 5));
    dp_speculate_record(&s, 0, false, 5);
    dp_speculate_record(&s, DP_SPECULATE_ROWS_MAX + 1, true, 5);
    CHECK(dp_speculate_cost(&s, DP_SPECULATE_ROWS_MAX + 1) == 0, "too long");
    CHECK(dp_speculate_cost(&s, 1) == 100, "of another length");
}

static void nothing_is_drafted_without_reason(void **unused)
{
    dp_draft none = { .right = { 1, 1, 1, 1, 1, 1 } }, sure = none;
    dp_speculate s;

    sure.source = 1;
    dp_speculate_init(&s);
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 8) == 0, "before anything was measured");
    for (int i = 0; i < 3; i++)
        dp_speculate_record(&s, 1, false, 100);
    CHECK(dp_speculate_choose(&s, &none, 1, 1, 8) == 0, "nothing to copy");
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 0) == 0, "no room");
    CHECK(dp_speculate_choose(&s, &sure, 0, 1, 8) == 0, "no rows");
    CHECK(dp_speculate_choose(&s, &sure, DP_SPECULATE_ROWS_MAX, 1, 8) == 0, "too many rows");
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 8) == 1, "one to try");
    dp_speculate_record(&s, 2, true, 100);
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 8) == 2, "then two");
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 1) == 1, "room for one");
}

/* Beside others a draft has to pay for their wait, too. */
static void many_sessions_share_the_gain(void **unused)
{
    dp_draft sure = { .source = 1, .right = { 1, 1, 1, 1, 1, 1 } };
    dp_speculate s;

    dp_speculate_init(&s);
    for (uint32_t i = 0; i < 4; i++) {
        dp_speculate_record(&s, 1, false, 100);
        dp_speculate_record(&s, 2, true, 180);
        dp_speculate_record(&s, 4, false, 340);
        dp_speculate_record(&s, 5, true, 430);
        dp_speculate_record(&s, 12, true, 1150);
    }
    dp_speculate_record(&s, 4, false, 340);
    CHECK(dp_speculate_choose(&s, &sure, 1, 1, 1) == 1, "alone: 2 for 1.8");
    CHECK(dp_speculate_choose(&s, &sure, 4, 4, 1) == 0, "beside three: 5 for 1.26 of 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_are_made_where_they_pay),
        cmocka_unit_test(costs_between_and_past_what_was_measured),
        cmocka_unit_test(nothing_is_drafted_without_reason),
        cmocka_unit_test(many_sessions_share_the_gain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
