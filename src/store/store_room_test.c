/* The budget, and who leaves. */
#include "store/store_testing.h"

#include <math.h>
#include "base/rng.h"
#include "store/store_impl.h"

#define COUNT 64

static const dp_pieces pieces = { COUNT * (uint64_t)PIECE, PIECE };

typedef struct gone_log {
    uint32_t pieces[4096];
    uint32_t count;
} gone_log;

static void note_gone(void *user, dp_store_file *file, uint32_t piece)
{
    gone_log *log = user;

    CHECK(!dp_store_has(file, piece), "it reads as absent already");
    log->pieces[log->count++] = piece;
}

/* Never above, and what the store says is what the drive says. */
static void check_room(dp_store *store, uint64_t budget)
{
    dp_store_stats stats = stats_of(store);
    uint64_t used = du();

    CHECK(used <= budget, "%llu of %llu", (unsigned long long)used, (unsigned long long)budget);
    CHECK(is_near_du(stats.used_bytes), "%llu, du says %llu", (unsigned long long)stats.used_bytes,
          (unsigned long long)used);
}

static void the_budget_holds(void **unused)
{
    dp_clock clock;
    dp_rng rng;

    dp_rng_init(&rng, 1);
    dp_clock_init_virtual(&clock);
    for (uint64_t budget = 48 * DP_KIB; budget <= 800 * DP_KIB; budget += 149 * DP_KIB) {
        dp_store *store = open_store_with(budget, &clock, NULL, NULL);
        dp_store_file *file = open_file(store, "0a", pieces, NULL);
        dp_store_stats stats;

        for (int i = 0; i < 200; i++) {
            uint32_t piece = (uint32_t)dp_rng_below(&rng, COUNT);

            clock.virtual_ns += 1000000;
            dp_store_touch(file, piece, 1);
            if (!get_piece(file, 1, piece))
                put_piece(file, 1, piece);
            if (i % 20 == 0)
                check_room(store, budget);
        }
        stats = stats_of(store);
        CHECK(stats.is_writable && stats.pieces_bad == 0, "%s", stats.problem);
        CHECK(stats.used_bytes + PIECE + 20 * DP_KIB > DP_MIN(budget, COUNT * (uint64_t)PIECE),
              "the budget is used: %llu of %llu", (unsigned long long)stats.used_bytes,
              (unsigned long long)budget);
        dp_store_file_close(file);
        dp_store_close(store);
    }
    check_no_leak();
}

static void the_coldest_leaves_first(void **unused)
{
    const uint64_t budget = 30 * (uint64_t)PIECE;
    gone_log log = { .count = 0 };
    dp_clock clock;
    dp_store *store;
    dp_store_file *file;
    uint32_t held = 0;

    dp_clock_init_virtual(&clock);
    store = open_store_with(budget, &clock, note_gone, &log);
    file = open_file(store, "0a", pieces, NULL);
    dp_store_set_class(file, 0, 2, DP_PIECE_HEADER);
    dp_store_set_class(file, 2, 4, DP_PIECE_ALWAYS);
    /* 0..5 are of higher classes and never touched; 6.. are touched, 9 and 12 twice. */
    for (uint32_t i = 0; i < 20; i++) {
        clock.virtual_ns += 1000000000;
        if (i >= 6)
            dp_store_touch(file, i, 1);
        held += put_piece(file, 1, i);
    }
    CHECK(held == 20, "%u fit", held);
    dp_store_touch(file, 9, 1);
    dp_store_touch(file, 12, 1);
    clock.virtual_ns += 1000000000;
    CHECK(!put_piece(file, 1, 60) || log.count == 0, "nobody leaves for the untouched");
    for (uint32_t i = 20; i < 60; i++) {
        clock.virtual_ns += 1000000000;
        dp_store_touch(file, i, 1);
        CHECK(put_piece(file, 1, i), "piece %u is warmer than others", i);
    }
    check_room(store, budget);
    for (uint32_t i = 0, expected = 60; i < log.count; i++) {
        /* 60 was never touched; then by age but for 9 and 12, which were twice. */
        if (i == 0 && log.pieces[0] != 60)
            expected = 6;
        CHECK(log.pieces[i] == expected, "number %u to leave: %u, not %u", i, log.pieces[i],
              expected);
        expected = expected == 60 ? 6 : expected + 1;
        while (expected == 9 || expected == 12)
            expected++;
    }
    CHECK(log.count >= 20, "%u left", log.count);
    for (uint32_t i = 0; i < 6; i++)
        CHECK(dp_store_has(file, i), "%u of a higher class", i);
    CHECK(dp_store_has(file, 9) && dp_store_has(file, 12), "wanted twice");
    CHECK(!put_piece(file, 1, 61), "worth no more than what is here");
    CHECK(stats_of(store).pieces_refused >= 1, "counted");
    CHECK(stats_of(store).pieces_evicted == log.count, "counted");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

/* Against an oracle that sorts: over random touches, classes, drops and writes, whoever
 * leaves is the least of those that are here. */
static struct {
    double heat[COUNT], now; /* plain sums of faded touches */
    int class_[COUNT];
    bool is_here[COUNT];
    uint32_t wrong, count;
} model;

static void judge_gone(void *user, dp_store_file *file, uint32_t piece)
{
    for (uint32_t i = 0; i < COUNT && !*(bool *)user; i++) {
        if (model.is_here[i] && i != piece &&
            (model.class_[i] < model.class_[piece] ||
             (model.class_[i] == model.class_[piece] &&
              model.heat[i] < model.heat[piece] * (1 - 1e-9))))
            model.wrong++;
    }
    model.is_here[piece] = false;
    model.count++;
}

static void who_leaves_is_always_the_least(void **unused)
{
    bool is_dropping = false;
    dp_clock clock;
    dp_store *store;
    dp_store_file *file;
    dp_rng rng;

    memset(&model, 0, sizeof model);
    dp_rng_init(&rng, 2);
    dp_clock_init_virtual(&clock);
    store = open_store_with(24 * (uint64_t)PIECE, &clock, judge_gone, &is_dropping);
    file = open_file(store, "0a", pieces, NULL);
    for (int step = 0; step < 4000; step++) {
        uint32_t i = (uint32_t)dp_rng_below(&rng, COUNT);
        double now;

        clock.virtual_ns += dp_rng_below(&rng, 600000000000);
        switch (dp_rng_below(&rng, 8)) {
        case 0:
            model.class_[i] = (int)dp_rng_below(&rng, 3);
            dp_store_set_class(file, i, 1, (dp_piece_class)model.class_[i]);
            break;
        case 1:
            is_dropping = true;
            dp_store_drop(file, i);
            is_dropping = false;
            break;
        default:
            now = (double)clock.virtual_ns * 1e-9;
            for (uint32_t k = 0; k < COUNT; k++)
                model.heat[k] *= exp2((model.now - now) / 3600);
            model.now = now;
            model.heat[i] += 1;
            dp_store_touch(file, i, 1);
            model.is_here[i] |= put_piece(file, 1, i);
        }
    }
    CHECK(model.count > 500, "%u left", model.count);
    CHECK(model.wrong == 0, "%u left before others that were worth less", model.wrong);
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

static void closed_keys_leave_before_open_ones(void **unused)
{
    const uint64_t budget = 60 * (uint64_t)PIECE;
    static const char *keys[] = { "0c", "0a", "0b" };
    dp_store *store = open_store(budget);
    dp_store_file *file;
    dp_store_entry *entries;
    size_t count;
    dp_error err;

    for (uint32_t k = 0; k < 3; k++) {
        struct timespec times[2] = { { 1000000 + k, 0 }, { 1000000 + k, 0 } };
        char path[128];

        file = open_file(store, keys[k], pieces, NULL);
        for (uint32_t i = 0; i < 14; i++) {
            dp_store_touch(file, i, 1);
            if (k == 0) /* the coldest key has the hottest pieces */
                dp_store_touch(file, i, 1);
            put_piece(file, k, i);
        }
        dp_store_file_close(file);
        snprintf(path, sizeof path, "%s/%s/model.gguf.pieces", test_folder, keys[k]);
        CHECK(utimensat(AT_FDCWD, path, times, 0) == 0, "%s", path);
    }
    file = open_file(store, "0d", pieces, NULL);
    for (uint32_t i = 0; i < 20; i++)
        CHECK(put_piece(file, 4, i), "an untouched piece of an open key: %u", i);
    check_room(store, budget);
    CHECK_OK(dp_store_list(test_folder, &entries, &count, &err), err);
    for (size_t e = 0; e < count; e++) {
        uint32_t present = entries[e].present;

        if (strcmp(entries[e].key, "0c") == 0)
            CHECK(present < 14, "the key that was used first gave: %u left", present);
        else
            CHECK(present == (entries[e].key[1] == 'd' ? 20 : 14), "%s: %u", entries[e].key,
                  present);
    }
    dp_free(entries);
    for (uint32_t i = 20; i < COUNT; i++) {
        dp_store_touch(file, i, 1);
        put_piece(file, 4, i);
    }
    check_room(store, budget);
    CHECK_OK(dp_store_list(test_folder, &entries, &count, &err), err);
    CHECK(count == 1, "%zu files: closed keys that gave all are gone", count);
    dp_free(entries);
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

static void two_processes_share_a_budget(void **unused)
{
    const uint64_t budget = 40 * (uint64_t)PIECE;
    dp_clock clock;
    dp_store *a, *b;
    dp_store_file *fa, *fb;
    uint32_t here;

    dp_clock_init_virtual(&clock);
    a = open_store_with(budget, &clock, NULL, NULL);
    b = open_store_with(budget, &clock, NULL, NULL);
    fa = open_file(a, "0a", pieces, NULL);
    fb = open_file(b, "0b", pieces, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        clock.virtual_ns += 6000000000; /* each is due to look */
        dp_store_touch(fa, i, 1);
        put_piece(fa, 1, i);
        dp_store_touch(fb, i, 1);
        put_piece(fb, 2, i);
        CHECK(du() <= budget, "%llu", (unsigned long long)du());
    }
    here = get_all(fa, 1) + get_all(fb, 2);
    CHECK(here > 25, "%u pieces here", here);
    dp_store_file_close(fa);
    dp_store_file_close(fb);
    dp_store_close(a);
    dp_store_close(b);
    check_no_leak();
}

/* Opened with less than it holds. */
static void a_smaller_budget_is_kept_at_once(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);
    const uint64_t budgets[] = { 40 * (uint64_t)PIECE, 20 * (uint64_t)PIECE, 4 * (uint64_t)PIECE };

    for (uint32_t i = 0; i < COUNT; i++) {
        dp_store_touch(file, i, 1);
        put_piece(file, 1, i);
    }
    dp_store_file_close(file);
    dp_store_close(store);
    for (size_t b = 0; b < DP_ARRAY_LEN(budgets); b++) {
        store = open_store(budgets[b]);
        file = open_file(store, "0a", pieces, NULL);
        check_room(store, budgets[b]);
        CHECK(get_all(file, 1) * (uint64_t)PIECE + 60 * DP_KIB > budgets[b], "%u are left",
              get_all(file, 1));
        dp_store_file_close(file);
        dp_store_close(store);
    }
    store = open_store(4096);
    file = open_file(store, "0a", pieces, NULL);
    CHECK(!stats_of(store).is_writable && !put_piece(file, 1, 3), "too small");
    CHECK(strstr(stats_of(store).problem, "budget"), "%s", stats_of(store).problem);
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

/* A lease as a reader on another thread has it while it reads and hashes. */
static void take_lease(dp_store_file *file, uint32_t piece)
{
    dp_mutex_lock(&file->store->lock);
    file->pieces[piece].lease_count++;
    dp_mutex_unlock(&file->store->lock);
}

static void end_lease(dp_store_file *file, uint32_t piece)
{
    dp_mutex_lock(&file->store->lock);
    dp_store_release_locked(file, piece);
    dp_mutex_unlock(&file->store->lock);
}

/* Leased before anybody looked for victims, and after: another one leaves. */
static void leases_protect(void **unused)
{
    const uint64_t budget = 16 * (uint64_t)PIECE;
    dp_clock clock;
    dp_store *store;
    dp_store_file *file;
    uint32_t next = 0;

    dp_clock_init_virtual(&clock);
    store = open_store_with(budget, &clock, NULL, NULL);
    file = open_file(store, "0a", pieces, NULL);
    for (; stats_of(store).pieces_evicted == 0; next++) {
        clock.virtual_ns += 1000000000;
        dp_store_touch(file, next, 1);
        CHECK(put_piece(file, 1, next), "piece %u", next);
    }
    CHECK(!dp_store_has(file, 0) && dp_store_has(file, 1), "the first left");
    take_lease(file, 1); /* the list of victims begins with it */
    CHECK(!dp_store_drop(file, 1), "it is being read");
    for (uint32_t i = 0; i < 20; i++, next++) {
        clock.virtual_ns += 1000000000;
        dp_store_touch(file, next, 1);
        CHECK(put_piece(file, 1, next), "piece %u", next);
        CHECK(dp_store_has(file, 1), "after %u", next);
    }
    end_lease(file, 1);
    dp_store_touch(file, next, 1);
    CHECK(put_piece(file, 1, next) && !dp_store_has(file, 1), "now it is the first to leave");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

/* Found bad by one reader while another one reads: absent at once, cleared by the last. */
static void the_last_reader_clears_what_is_bad(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);
    uint8_t byte = (uint8_t)~content_at(1, 3 * (uint64_t)PIECE);
    uint64_t before;

    CHECK(put_piece(file, 1, 3), "here");
    before = du();
    CHECK(pwrite(file->mirror.fd, &byte, 1, 3 * (off_t)PIECE) == 1, "damage");
    take_lease(file, 3);
    CHECK(!get_piece(file, 1, 3) && !dp_store_has(file, 3), "bad");
    CHECK(stats_of(store).pieces_bad == 1 && du() == before, "not touched while it is read");
    CHECK(!put_piece(file, 1, 3), "nor written");
    end_lease(file, 3);
    CHECK(is_near_du(before - PIECE) && is_near_du(stats_of(store).used_bytes),
          "cleared: %llu of %llu", (unsigned long long)du(), (unsigned long long)before);
    CHECK(put_piece(file, 1, 3) && get_piece(file, 1, 3), "and back");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

static void what_is_read_stays(void **unused)
{
    const uint64_t budget = 16 * (uint64_t)PIECE;
    dp_store *store = open_store(budget);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);

    for (uint32_t i = 0; i < COUNT; i++) {
        dp_store_touch(file, i, 1);
        CHECK(put_piece(file, 1, i) && get_piece(file, 1, i), "piece %u", i);
    }
    dp_store_file_close(file);
    dp_store_close(store);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up, test_tear_down)
#define M(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(the_budget_holds),
        T(the_coldest_leaves_first),
        M(who_leaves_is_always_the_least),
        M(closed_keys_leave_before_open_ones),
        M(two_processes_share_a_budget),
        M(a_smaller_budget_is_kept_at_once),
        M(leases_protect),
        M(the_last_reader_clears_what_is_bad),
        M(what_is_read_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
