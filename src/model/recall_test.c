/* Counts of guesses against shares that are known. */
#include "model/recall.h"

#include "base/rng.h"
#include "testing/check.h"

enum { LAYERS = 4, DISTANCES = 3, RANKS = 2 };

static dp_recall_cell cells[(LAYERS + 1) * DISTANCES * RANKS];

static bool is_near(float a, float b, float by)
{
    return a > b - by && a < b + by;
}

static void open(dp_recall *recall)
{
    CHECK(dp_recall_cells(LAYERS, DISTANCES, RANKS) == DP_ARRAY_LEN(cells), "size");
    dp_recall_init(recall, LAYERS, DISTANCES, RANKS, cells);
}

static void nothing_is_said_of_little(void **unused)
{
    dp_recall r;

    open(&r);
    for (int i = 0; i < 15; i++) {
        CHECK(dp_recall_share(&r, 1, 0, 0) == 0, "after %d", i);
        dp_recall_note(&r, 1, 0, 0, true);
    }
    dp_recall_note(&r, 2, 0, 0, true);
    CHECK(dp_recall_share(&r, 1, 0, 0) == 1, "all were right");
    CHECK(dp_recall_share(&r, 3, 0, 0) == 1, "of a layer that was not seen, what all say");
    CHECK(dp_recall_share(&r, 1, 1, 0) == 0 && dp_recall_share(&r, 1, 0, 1) == 0,
          "other distances and ranks are apart");
}

/* Layer l is right in (l + 1) of 4 guesses. */
static void layers_are_told_apart(void **unused)
{
    dp_recall r;
    dp_rng rng;

    open(&r);
    dp_rng_init(&rng, 7);
    for (int i = 0; i < 4000; i++)
        for (uint32_t l = 0; l < LAYERS; l++)
            dp_recall_note(&r, l, 2, 1, dp_rng_below(&rng, 4) <= l);
    for (uint32_t l = 0; l < LAYERS; l++)
        CHECK(is_near(dp_recall_share(&r, l, 2, 1), (float)(l + 1) / 4, 0.2f), "layer %u: %f", l,
              (double)dp_recall_share(&r, l, 2, 1));
}

static void what_was_fades(void **unused)
{
    dp_recall r;

    open(&r);
    for (int i = 0; i < 1000; i++)
        dp_recall_note(&r, 0, 0, 0, true);
    CHECK(dp_recall_share(&r, 0, 0, 0) == 1, "always right");
    for (int i = 0; i < 300; i++)
        dp_recall_note(&r, 0, 0, 0, false);
    CHECK(dp_recall_share(&r, 0, 0, 0) < 0.15f, "%f", (double)dp_recall_share(&r, 0, 0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_said_of_little),
        cmocka_unit_test(layers_are_told_apart),
        cmocka_unit_test(what_was_fades),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
