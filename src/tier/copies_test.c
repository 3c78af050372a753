/* Drives of known speed, in a time of their own. */
#include "tier/copies.h"

#include "testing/check.h"

enum { DEPTH = 8, REQUEST = 1 << 20 };

/* A drive reads one request after the other at a rate. */
typedef struct drive {
    double ns_a_request;
    uint64_t ends[DEPTH]; /* of what is under way, in order */
    uint32_t count;
    uint64_t taken;
} drive;

typedef struct world {
    dp_copy copies[DP_COPIES_MAX];
    drive drives[DP_COPIES_MAX];
    uint32_t count;
    uint64_t now_ns;
} world;

static void hand_out(world *w, uint32_t *waiting)
{
    bool is_any = true;

    while (is_any && *waiting) {
        is_any = false;
        for (uint32_t i = 0; i < w->count && *waiting; i++) {
            drive *d = &w->drives[i];
            uint64_t begin = d->count ? d->ends[d->count - 1] : w->now_ns;
            if (d->count == DEPTH || !dp_copies_take(w->copies, w->count, i, REQUEST,
                                                     (uint64_t)*waiting * REQUEST, w->now_ns))
                continue;
            dp_copy_sent(&w->copies[i], REQUEST, w->now_ns);
            d->ends[d->count++] = begin + (uint64_t)d->ns_a_request;
            d->taken++;
            --*waiting;
            is_any = true;
        }
    }
}

/* The next read that ends; false: nothing is under way. */
static bool pass(world *w)
{
    uint32_t first = UINT32_MAX;

    for (uint32_t i = 0; i < w->count; i++)
        if (w->drives[i].count &&
            (first == UINT32_MAX || w->drives[i].ends[0] < w->drives[first].ends[0]))
            first = i;
    if (first == UINT32_MAX)
        return false;
    drive *d = &w->drives[first];
    w->now_ns = d->ends[0];
    d->count--;
    for (uint32_t i = 0; i < d->count; i++)
        d->ends[i] = d->ends[i + 1];
    dp_copy_ended(&w->copies[first], REQUEST, true, w->now_ns);
    return true;
}

/* Reads pages of so many requests, one after the other; ns a page. */
static double read_pages(world *w, uint32_t pages, uint32_t requests)
{
    uint64_t begin = w->now_ns;

    for (uint32_t p = 0; p < pages; p++) {
        uint32_t waiting = requests;
        do
            hand_out(w, &waiting);
        while (pass(w));
        CHECK(waiting == 0, "%u requests wait for ever", waiting);
    }
    return (double)(w->now_ns - begin) / pages;
}

static void each_takes_what_it_can(void **unused)
{
    static const struct {
        uint32_t count;
        double us[3];   /* a request */
        double share_1; /* of the second's rate in all */
    } rows[] = {
        { 1, { 400 }, 0 },           { 2, { 400, 400 }, 0.5 },       { 2, { 400, 1200 }, 0.25 },
        { 2, { 400, 20000 }, 0.02 }, { 3, { 400, 800, 800 }, 0.25 },
    };

    for (size_t row = 0; row < DP_ARRAY_LEN(rows); row++) {
        world w = { .count = rows[row].count };
        double ideal = 0, took, share;
        uint64_t all = 0;

        for (uint32_t i = 0; i < w.count; i++) {
            w.drives[i].ns_a_request = rows[row].us[i] * 1e3;
            ideal += 1 / w.drives[i].ns_a_request;
        }
        read_pages(&w, 20, 48); /* learns */
        for (uint32_t i = 0; i < w.count; i++)
            w.drives[i].taken = 0;
        took = read_pages(&w, 100, 48);
        for (uint32_t i = 0; i < w.count; i++)
            all += w.drives[i].taken;
        share = w.count > 1 ? (double)w.drives[1].taken / (double)all : 0;
        CHECK(took < 1.12 * 48 / ideal, "row %zu: a page takes %.0f us, could %.0f", row,
              took / 1e3, 48 / ideal / 1e3);
        CHECK(share > rows[row].share_1 - 0.06 && share < rows[row].share_1 + 0.06,
              "row %zu: the second reads %.2f", row, share);
    }
}

/* A page of few requests is not held up by a slow copy. */
static void the_last_request_decides(void **unused)
{
    world w = { .count = 2, .drives = { { .ns_a_request = 4e5 }, { .ns_a_request = 4e7 } } };
    double took;

    read_pages(&w, 20, 48);
    took = read_pages(&w, 200, 4);
    /* tried again now and then, which costs 40 ms each */
    CHECK(took < 4 * 4e5 + 4e7 / 50, "%.0f us", took / 1e3);
}

static void the_dead_take_nothing(void **unused)
{
    world w = { .count = 2, .drives = { { .ns_a_request = 4e5 }, { .ns_a_request = 4e5 } } };

    read_pages(&w, 20, 48);
    w.copies[0].is_dead = true;
    w.drives[0].taken = 0;
    read_pages(&w, 20, 48);
    CHECK(w.drives[0].taken == 0, "a dead copy is asked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_takes_what_it_can),
        cmocka_unit_test(the_last_request_decides),
        cmocka_unit_test(the_dead_take_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
