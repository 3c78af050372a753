/* Drafts against a search of the whole timeline. */
#include "engine/draft.h"

#include "base/fault.h"
#include "base/map.h"
#include "base/mem.h"
#include "testing/check.h"

#define CONTEXT 600

static dp_token tokens[CONTEXT + 64];

/* The draft's promise: where it copies from, as many tokens agree as it says. */
static void check_source(const dp_draft *d, const char *what)
{
    if (!d->source)
        return;
    CHECK(d->source < d->seen && d->match >= 2 && d->match <= d->source, "%s: from %u of %u", what,
          d->source, d->seen);
    for (uint32_t i = 1; i <= d->match; i++)
        CHECK(tokens[d->source - i] == tokens[d->seen - i], "%s: %u tokens agree, not %u", what,
              i - 1, d->match);
}

static bool repeats(uint32_t count)
{
    for (uint32_t at = 2; at < count; at++)
        if (tokens[at - 1] == tokens[count - 1] && tokens[at - 2] == tokens[count - 2])
            return true;
    return false;
}

/* Words of few letters, cut now and then. Entries lost to others are few. */
static void what_stood_before_is_found(void **unused)
{
    uint32_t could = 0, did = 0, count = 0, wrong = 0;
    dp_draft d;

    assert_true(dp_draft_init(&d, CONTEXT));
    for (uint64_t n = 0; n < 5000; n++) {
        uint64_t random = dp_hash_u64(n);
        if (count == CONTEXT || random % 997 == 0) {
            count = (uint32_t)(random / 997 % (count + 1));
            dp_draft_cut(&d, tokens, count);
            CHECK(!d.source, "something to copy behind a cut");
        }
        if (count + 8 < CONTEXT && random % 31 == 0) /* several at once */
            for (int i = 0; i < 7; i++)
                tokens[count++] = (dp_token)(dp_hash_u64(random + (uint64_t)i) % 9);
        tokens[count++] = (dp_token)(random / 4096 % 9);
        dp_draft_extend(&d, tokens, count);
        check_source(&d, "random");
        wrong += d.source && !repeats(count);
        could += count > 2 && repeats(count);
        did += d.source > 0;
    }
    CHECK(could > 3000 && did * 10 > could * 9 && !wrong, "%u found of %u", did, could);
    dp_draft_deinit(&d);
}

static void the_longest_indexed_run_wins(void **unused)
{
    static const dp_token text[] = { 1, 2, 3, 4, 50, 3, 4, 60, 7, 1, 2, 3, 4 };
    dp_draft d;

    assert_true(dp_draft_init(&d, CONTEXT));
    memcpy(tokens, text, sizeof text);
    dp_draft_extend(&d, tokens, DP_ARRAY_LEN(text));
    CHECK(d.source == 4 && d.match == 4, "token %u after %u", d.source, d.match);
    dp_draft_extend(&d, tokens, DP_ARRAY_LEN(text)); /* nothing new */
    CHECK(d.source == 4 && d.match == 4, "token %u after %u", d.source, d.match);
    tokens[13] = 50;
    dp_draft_extend(&d, tokens, 14);
    CHECK(d.source == 5 && d.match == 5, "goes on: token %u after %u", d.source, d.match);
    tokens[14] = 99;
    dp_draft_extend(&d, tokens, 15);
    CHECK(!d.source, "token %u", d.source);
    dp_draft_deinit(&d);
}

/* A copy that reaches the end of the timeline goes on with itself. */
static void a_loop_is_drafted_whole(void **unused)
{
    dp_draft d;

    assert_true(dp_draft_init(&d, CONTEXT));
    for (dp_token t = 0; t < 8; t++)
        tokens[t] = t % 3;
    dp_draft_extend(&d, tokens, 8);
    dp_draft_copy(&d, tokens, 20);
    for (dp_token t = 0; t < 28; t++)
        CHECK(tokens[t] == t % 3, "token %d is %d", t, tokens[t]);
    dp_draft_deinit(&d);
}

/* Chances follow what happens, and differ by how much agreed. */
static void chances_are_learned(void **unused)
{
    double first;
    dp_draft d;

    assert_true(dp_draft_init(&d, CONTEXT));
    CHECK(dp_draft_expect(&d, 5) == 0, "nothing to copy");
    for (uint32_t t = 0; t < 300; t++) {
        tokens[t] = (dp_token)(t % 2);
        dp_draft_extend(&d, tokens, t + 1);
    }
    CHECK(dp_draft_expect(&d, 8) > 7.5 && dp_draft_expect(&d, 8) <= 8, "a loop: %g",
          dp_draft_expect(&d, 8));
    first = d.right[0];
    /* Pairs that never go on as before. */
    dp_draft_cut(&d, tokens, 0);
    for (uint32_t t = 0; t + 2 < 300; t += 3) {
        tokens[t] = 7;
        tokens[t + 1] = 8;
        tokens[t + 2] = (dp_token)(10 + t);
        for (uint32_t i = t; i < t + 3; i++)
            dp_draft_extend(&d, tokens, i + 1);
    }
    CHECK(d.right[0] < 0.1 && d.right[0] < first, "pairs: %g", (double)d.right[0]);
    CHECK(d.right[DP_DRAFT_CLASSES - 1] > 0.9F, "long runs: %g",
          (double)d.right[DP_DRAFT_CLASSES - 1]);
    dp_draft_deinit(&d);
}

static void short_memory_is_said(void **unused)
{
    dp_mem_stats before, after;
    dp_draft d;

    dp_mem_stats_read(&before);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_draft_init(&d, CONTEXT), "taken");
    dp_fault_disarm(DP_FAULT_MEM);
    dp_draft_deinit(&d);
    assert_true(dp_draft_init(&d, 1));
    dp_draft_deinit(&d);
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "leaked");
    CHECK(dp_draft_bytes(4096) == 65536 && dp_draft_bytes(4097) == 98312, "bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stood_before_is_found),
        cmocka_unit_test(the_longest_indexed_run_wins),
        cmocka_unit_test(a_loop_is_drafted_whole),
        cmocka_unit_test(chances_are_learned),
        cmocka_unit_test(short_memory_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
