/* Refusals are about pieces, failures about the endpoint: who rests after what. */
#include "base/fault.h"
#include "base/mem.h"
#include "swarm/picker.h"
#include "testing/check.h"

#define MS     ((uint64_t)1000000)
#define PIECE  ((uint32_t)256 << 10)
#define PIECES 100
#define FIRST  80 /* pieces of the first file */

typedef struct table {
    dp_layout_file files[2];
    dp_layout layout;
    dp_picker *p;
    dp_picker_want wants[PIECES];
    uint8_t have[(PIECES + 7) / 8]; /* of the one endpoint */
    uint32_t id;
    uint64_t now;
} table;

/* One endpoint; is_listed: it says that it has everything. */
static void open_table(table *t, bool is_listed)
{
    dp_picker_config config = { &t->layout, 4, 16, 2 };
    dp_error err = { 0 };

    memset(t, 0, sizeof *t);
    t->now = 1000 * MS;
    t->files[0].pieces = (dp_pieces){ (uint64_t)FIRST * PIECE, PIECE };
    t->files[1].pieces = (dp_pieces){ (uint64_t)(PIECES - FIRST) * PIECE - 5, PIECE };
    t->files[1].first_piece = FIRST;
    t->layout = (dp_layout){ t->files, 2, PIECE, PIECES };
    memset(t->have, 0xff, sizeof t->have);
    CHECK_OK(dp_picker_open(&t->p, &config, &err), err);
    CHECK_OK(dp_picker_add(t->p, is_listed ? t->have : NULL, &t->id, &err), err);
}

static void close_table(table *t)
{
    dp_mem_stats mem;

    dp_picker_close(t->p);
    dp_mem_stats_read(&mem);
    CHECK(mem.heap_blocks == 0, "%llu blocks left", (unsigned long long)mem.heap_blocks);
}

static void want(table *t, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        t->wants[i] = (dp_picker_want){ .piece = i, .deadline_ns = t->now + 100000 * MS };
        CHECK(dp_picker_want_add(t->p, &t->wants[i]), "piece %u", i);
    }
}

static dp_picker_act next_of(table *t, dp_picker_act_kind kind)
{
    dp_picker_act act = dp_picker_next(t->p, t->now);

    CHECK(act.kind == kind, "kind %d instead of %d", act.kind, kind);
    return act;
}

static dp_picker_ask *next_ask(table *t, uint32_t first, uint32_t count)
{
    dp_picker_ask *ask = next_of(t, DP_PICKER_ASK).ask;

    CHECK(ask->first_piece == first && ask->piece_count == count, "%u pieces from %u on",
          ask->piece_count, ask->first_piece);
    return ask;
}

static void expect_gone(table *t, uint32_t piece)
{
    dp_picker_act act = next_of(t, DP_PICKER_FAIL);

    CHECK(act.want->piece == piece && act.status == DP_E_NOTFOUND, "piece %u", act.want->piece);
}

/* Whole pieces come, and are right. */
static void give(table *t, dp_picker_ask *ask, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        dp_picker_want *w;
        uint32_t offset;

        CHECK(dp_picker_arrived(t->p, ask, PIECE, t->now, &w, &offset) == PIECE && w, "piece");
        CHECK(w->state == DP_PICKER_FULL, "full");
        dp_picker_right(t->p, w, NULL, t->now);
    }
}

static dp_picker_endpoint endpoint_of(table *t)
{
    dp_picker_endpoint e;

    CHECK(dp_picker_endpoints(t->p, &e, 1) == 1, "one endpoint");
    return e;
}

static bool is_resting(table *t)
{
    return endpoint_of(t).backoff_until_ns > t->now;
}

static void lose(table *t, uint32_t piece)
{
    t->have[piece / 8] &= (uint8_t) ~(0x80 >> piece % 8);
    CHECK(dp_picker_set_have(t->p, t->id, t->have), "memory");
}

/* An answer may bring the beginning of what was asked for: the next piece is not there, the rest is
 * asked for at once. */
static void a_short_answer_costs_one_piece(void **unused)
{
    static table t;
    dp_picker_ask *ask;

    open_table(&t, true);
    want(&t, 10, 12);
    ask = next_ask(&t, 10, 12);
    dp_picker_answered(t.p, ask, 10 * MS, t.now);
    CHECK(!dp_picker_shortened(t.p, ask, 0), "nothing");
    CHECK(!dp_picker_shortened(t.p, ask, 3 * PIECE + 1), "no whole pieces");
    CHECK(!dp_picker_shortened(t.p, ask, 12 * PIECE), "not shorter");
    CHECK(dp_picker_shortened(t.p, ask, 3 * PIECE), "three");
    CHECK(endpoint_of(&t).outstanding_bytes == 3 * PIECE, "to come");
    expect_gone(&t, 13);
    give(&t, ask, 3);
    dp_picker_ended(t.p, ask, DP_PICKER_END_WHOLE, 0, t.now);
    CHECK(!is_resting(&t) && endpoint_of(&t).failures == 0, "nothing failed");
    ask = next_ask(&t, 14, 8);

    /* A 404: its first piece is not there. Where one is missing more may be: shorter runs. */
    dp_picker_ended(t.p, ask, DP_PICKER_END_GONE, 0, t.now);
    CHECK(!is_resting(&t) && endpoint_of(&t).failures == 0, "nothing failed");
    expect_gone(&t, 14);
    next_ask(&t, 15, 4);
    next_ask(&t, 19, 3);
    close_table(&t);
}

/* The first piece of an ask may be there in part; what is asked for begins within it. */
static void a_short_answer_may_begin_within_a_piece(void **unused)
{
    static table t;
    dp_picker_ask *ask;
    dp_picker_want *w;
    uint32_t offset;

    open_table(&t, true);
    want(&t, 10, 1);
    ask = next_ask(&t, 10, 1);
    CHECK(dp_picker_arrived(t.p, ask, 1000, t.now, &w, &offset) == 1000 && w, "a part");
    dp_picker_ended(t.p, ask, DP_PICKER_END_DROPPED, 0, t.now);
    want(&t, 11, 2);
    ask = next_ask(&t, 10, 3);
    CHECK(ask->offset == 10 * (uint64_t)PIECE + 1000, "the rest");
    CHECK(!dp_picker_shortened(t.p, ask, PIECE), "ends within piece 11");
    CHECK(dp_picker_shortened(t.p, ask, PIECE - 1000), "the rest of piece 10");
    expect_gone(&t, 11);
    next_ask(&t, 12, 1);
    close_table(&t);
}

/* Web seeds have a file or they do not: 404. Or the beginning of one: 416. What is short says
 * nothing about the rest. */
static void web_seeds_have_files(void **unused)
{
    static table t;
    dp_picker_ask *ask;

    open_table(&t, false);
    want(&t, 2, 3);
    want(&t, FIRST, 2);
    ask = next_ask(&t, 2, 3);
    next_of(&t, DP_PICKER_ASK);
    CHECK(dp_picker_shortened(t.p, ask, 2 * PIECE), "two");
    give(&t, ask, 2);
    dp_picker_ended(t.p, ask, DP_PICKER_END_WHOLE, 0, t.now);
    ask = next_ask(&t, 4, 1);
    dp_picker_ended(t.p, ask, DP_PICKER_END_PAST, 0, t.now);
    expect_gone(&t, 4);
    want(&t, FIRST - 1, 1);
    expect_gone(&t, FIRST - 1);
    want(&t, 3, 1);
    ask = next_ask(&t, 3, 1);
    dp_picker_ended(t.p, ask, DP_PICKER_END_GONE, 0, t.now);
    expect_gone(&t, 3);
    want(&t, 0, 1);
    expect_gone(&t, 0);
    want(&t, FIRST + 9, 1);
    next_ask(&t, FIRST + 9, 1); /* the other file */
    CHECK(!is_resting(&t) && endpoint_of(&t).failures == 0, "nothing failed");
    close_table(&t);
}

/* An answer for six pieces breaks after two; what the endpoint says of the third, and when. */
static const struct {
    const char *name;
    dp_picker_end end;
    bool is_said_before, is_said_after, has_failed;
    bool rests, rests_still;
} cuts[] = {
    { "without a word", DP_PICKER_END_CUT, false, false, false, true, true },
    { "said before", DP_PICKER_END_CUT, true, false, false, false, false },
    { "said after", DP_PICKER_END_CUT, false, true, false, true, false },
    { "said, but it failed otherwise, too", DP_PICKER_END_CUT, false, true, true, true, true },
    { "said, but it is no cut", DP_PICKER_END_BUSY, false, true, false, true, true },
};

static void a_cut_may_be_a_refusal(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(cuts); i++) {
        static table t;
        dp_picker_ask *ask, *other = NULL;

        open_table(&t, true);
        want(&t, 10, 6);
        ask = next_ask(&t, 10, 6);
        if (cuts[i].has_failed) {
            want(&t, 30, 1);
            other = next_ask(&t, 30, 1);
        }
        dp_picker_answered(t.p, ask, 10 * MS, t.now);
        give(&t, ask, 2);
        if (cuts[i].has_failed)
            dp_picker_ended(t.p, other, DP_PICKER_END_REFUSED, 0, t.now);
        if (cuts[i].is_said_before)
            lose(&t, 12);
        dp_picker_ended(t.p, ask, cuts[i].end, 0, t.now);
        CHECK(is_resting(&t) == cuts[i].rests, "%s", cuts[i].name);
        lose(&t, 50); /* this one has nothing to do with it */
        CHECK(is_resting(&t) == cuts[i].rests, "%s: another piece", cuts[i].name);
        if (cuts[i].is_said_after)
            lose(&t, 12);
        CHECK(is_resting(&t) == cuts[i].rests_still, "%s", cuts[i].name);
        CHECK(endpoint_of(&t).failures == (uint32_t)cuts[i].rests_still + cuts[i].has_failed,
              "%s: %u failures", cuts[i].name, endpoint_of(&t).failures);
        if (!cuts[i].rests_still) {
            expect_gone(&t, 12);
            next_ask(&t, 13, 3);
        }
        close_table(&t);
    }
}

/* Two answers that broke are forgiven one by one. More than are remembered, and none is. */
static void cuts_are_counted(void **unused)
{
    static table t;
    dp_picker_ask *asks[2];

    open_table(&t, true);
    want(&t, 10, 2);
    asks[0] = next_ask(&t, 10, 2);
    want(&t, 20, 2);
    asks[1] = next_ask(&t, 20, 2);
    for (int i = 0; i < 2; i++)
        dp_picker_ended(t.p, asks[i], DP_PICKER_END_CUT, 0, t.now);
    lose(&t, 11);
    CHECK(is_resting(&t) && endpoint_of(&t).failures == 1, "one is left");
    lose(&t, 20);
    CHECK(!is_resting(&t) && endpoint_of(&t).failures == 0, "both were refusals");
    close_table(&t);

    open_table(&t, true);
    for (uint32_t i = 0; i < 5; i++) {
        want(&t, 10 * i, 1);
        dp_picker_ended(t.p, next_ask(&t, 10 * i, 1), DP_PICKER_END_CUT, 0, t.now);
        CHECK(!dp_picker_cancel(t.p, &t.wants[10 * i]), "it was asked for");
        next_of(&t, DP_PICKER_FAIL);
        t.now += i < 4 ? DP_PICKER_PATIENCE_NS : 0;
    }
    for (uint32_t i = 0; i < 5; i++)
        lose(&t, 10 * i);
    CHECK(is_resting(&t) && endpoint_of(&t).failures == 5, "%u", endpoint_of(&t).failures);
    close_table(&t);
}

/* Who refuses again and again and gives nothing rests like one who fails. */
static void refusing_for_ever_is_a_failure(void **unused)
{
    static table t;

    open_table(&t, true);
    want(&t, 0, FIRST);
    for (uint32_t i = 0; i <= DP_PICKER_REFUSALS_MAX; i++) {
        dp_picker_ask *ask = next_of(&t, DP_PICKER_ASK).ask;
        uint32_t piece = ask->first_piece;

        CHECK(!is_resting(&t), "after %u", i);
        dp_picker_ended(t.p, ask, DP_PICKER_END_GONE, 0, t.now);
        expect_gone(&t, piece);
    }
    CHECK(is_resting(&t) && endpoint_of(&t).failures == 1, "a failure");
    t.now += DP_PICKER_BACKOFF_NS;
    dp_picker_ended(t.p, next_of(&t, DP_PICKER_ASK).ask, DP_PICKER_END_GONE, 0, t.now);
    CHECK(is_resting(&t), "the next one at once");
    close_table(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_answer_costs_one_piece),
        cmocka_unit_test(a_short_answer_may_begin_within_a_piece),
        cmocka_unit_test(web_seeds_have_files),
        cmocka_unit_test(a_cut_may_be_a_refusal),
        cmocka_unit_test(cuts_are_counted),
        cmocka_unit_test(refusing_for_ever_is_a_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
