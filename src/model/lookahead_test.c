/* The gate against made-up times; what look-ahead does to a run is engine/lookahead's. */
#include "model/lookahead.h"

#include "testing/check.h"

enum { TRIAL = DP_GATE_TRIAL_STEPS * DP_GATE_PARTS };

/* How a step goes: off_ns without it; with it on_ns, and bytes, none of them wasted from
 * a level on. */
typedef struct world {
    uint64_t off_ns, on_ns, useful, wasted;
    uint32_t sure_level; /* 0: wasted at any */
} world;

/* Lets steps pass; returns how many had it on. */
static uint32_t pass(dp_lookahead_gate *gate, const world *w, uint32_t steps)
{
    uint32_t on = 0;

    for (uint32_t i = 0; i < steps; i++) {
        bool is_on = gate->is_on;
        uint64_t wasted = w->sure_level && gate->level >= w->sure_level ? 0 : w->wasted;
        on += is_on;
        CHECK(gate->level < DP_GATE_LEVELS, "level %u", gate->level);
        dp_lookahead_gate_step(gate, is_on ? w->on_ns : w->off_ns, is_on ? w->useful : 0,
                               is_on ? wasted : 0);
    }
    return on;
}

static void what_pays_goes_on(void **unused)
{
    static const world worlds[] = {
        { 1000, 900, 1000, 100 }, /* a gain */
        { 1000, 1040, 1000, 0 },  /* a loss too small to tell from noise */
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(worlds); i++) {
        dp_lookahead_gate gate;

        dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_AUTO);
        CHECK(pass(&gate, &worlds[i], TRIAL) == TRIAL / 2, "a trial is half of each");
        CHECK(pass(&gate, &worlds[i], DP_GATE_REST_STEPS) == DP_GATE_REST_STEPS,
              "it rests with it");
    }
}

static void what_does_not_pay_ends(void **unused)
{
    static const world worlds[] = {
        { 1000, 1060, 1000, 0 },  /* a small loss */
        { 1000, 1500, 1000, 0 },  /* a loss */
        { 1000, 800, 1000, 400 }, /* a gain that wastes */
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(worlds); i++) {
        dp_lookahead_gate gate;
        uint32_t steps = 100000, on;

        dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_AUTO);
        on = pass(&gate, &worlds[i], steps);
        CHECK(on < steps / 100, "world %zu: on in %u of %u", i, on, steps);
    }
}

/* One step of a trial that something else held up does not decide. */
static void an_outlier_does_not_count(void **unused)
{
    const world pays = { 1000, 990, 1000, 0 };
    dp_lookahead_gate gate;

    dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_AUTO);
    pass(&gate, &pays, DP_GATE_TRIAL_STEPS + 3);
    CHECK(pass(&gate, &(world){ 1000, 90000, 1000, 0 }, 1) == 1, "it was on");
    pass(&gate, &pays, TRIAL - DP_GATE_TRIAL_STEPS - 4);
    CHECK(gate.is_resting && gate.wins, "it pays");
}

/* Once the world changes, a later trial finds out. */
static void it_changes_its_mind(void **unused)
{
    const world loses = { 1000, 1200, 1000, 0 }, pays = { 1000, 800, 1000, 0 };
    dp_lookahead_gate gate;

    dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_AUTO);
    pass(&gate, &loses, 5000);
    CHECK(!gate.is_on || !gate.is_resting, "rests with a loss");
    pass(&gate, &pays, 2 * DP_GATE_REST_MAX);
    CHECK(pass(&gate, &pays, DP_GATE_REST_STEPS) > DP_GATE_REST_STEPS / 2, "stays off for ever");
    /* Waste ends it at once, not at the next trial. */
    CHECK(pass(&gate, &(world){ 1000, 800, 1000, 5000 }, 200) < 100, "wastes on");
}

/* What is less than surest is wasted: it learns to ask for that alone, and then it pays. */
static void it_asks_for_what_is_sure(void **unused)
{
    const world sure = { 1000, 900, 1000, 1000, DP_GATE_LEVELS - 1 };
    dp_lookahead_gate gate;

    dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_AUTO);
    pass(&gate, &sure, 16 * (TRIAL + DP_GATE_REST_STEPS));
    CHECK(gate.level == DP_GATE_LEVELS - 1, "level %u", gate.level);
    CHECK(gate.wins, "does not pay");
    /* Once it has rested for long, it may have become less wasteful: it tries again. */
    pass(&gate, &(world){ 1000, 900, 1000, 0 }, 8 * DP_GATE_REST_MAX);
    CHECK(gate.level == 0, "asks for no more: level %u", gate.level);
}

static void the_person_decides(void **unused)
{
    const world loses = { 1000, 2000, 0, 1000000 }, pays = { 1000, 1, 1000000, 0 };
    dp_lookahead_gate gate;

    dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_ON);
    CHECK(pass(&gate, &loses, 1000) == 1000, "on is on");
    dp_lookahead_gate_init(&gate, DP_LOOKAHEAD_OFF);
    CHECK(pass(&gate, &pays, 1000) == 0, "off is off");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_pays_goes_on),         cmocka_unit_test(what_does_not_pay_ends),
        cmocka_unit_test(an_outlier_does_not_count), cmocka_unit_test(it_changes_its_mind),
        cmocka_unit_test(it_asks_for_what_is_sure),  cmocka_unit_test(the_person_decides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
