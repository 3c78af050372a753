/* Every allocation, read, write, hole and sync of a store's life fails in turn. */
#include "store/store_testing.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

#define COUNT 12

static const dp_pieces pieces = { COUNT * (uint64_t)PIECE - 100, PIECE };
static const uint64_t budget = 9 * (uint64_t)PIECE;

typedef struct life {
    dp_fault point;
    int error;
    uint64_t run;
    const char *text; /* part of the problem that must be told; NULL: of none */
} life;

/* Failures that a caller may see of this point. */
static bool is_expected(const life *l, dp_status st)
{
    return st == DP_OK || st == DP_E_NOTFOUND || (l->point == DP_FAULT_MEM && st == DP_E_NOMEM) ||
           ((l->point == DP_FAULT_READ || l->point == DP_FAULT_POWER) && st == DP_E_IO);
}

static void put_some(const life *l, dp_store_file *file)
{
    uint8_t bytes[PIECE];
    bool is_kept;
    dp_error err;

    for (uint32_t i = 0; i < COUNT; i++) {
        dp_status st;

        fill_piece(bytes, 1, pieces, i);
        dp_store_touch(file, i, 1);
        st = dp_store_write(file, i, bytes, &is_kept, &err);
        CHECK(is_expected(l, st), "write %u: %s", i, err.text);
        CHECK(is_kept == dp_store_has(file, i), "piece %u", i);
        st = dp_store_read(file, i / 2, bytes, &err);
        CHECK(is_expected(l, st), "read %u: %s", i / 2, err.text);
        for (uint32_t k = 0; !st && k < PIECE; k += 13)
            CHECK(bytes[k] == content_at(1, i / 2 * (uint64_t)PIECE + k), "a wrong byte");
        if (i == 5)
            dp_store_drop(file, 2);
    }
}

/* What a person does with a folder; its failures are told, its bytes stay right. */
static void look_after(const life *l)
{
    dp_store_entry *entries;
    size_t count;
    uint64_t freed;
    dp_error err;

    if (dp_store_list(test_folder, &entries, &count, &err) == DP_OK) {
        for (size_t i = 0; i < count; i++)
            dp_store_verify(test_folder, &entries[i], &err);
        dp_free(entries);
    }
    dp_store_evict(test_folder, NULL, PIECE, &freed, &err);
}

static void live(const life *l, bool *has_problem, char problem[192])
{
    dp_store_config config = { test_folder, budget, &dp_clock_real };
    dp_store_file_config file_config = { "0a", "model.gguf", pieces };
    dp_store *store;
    dp_store_file *file;
    dp_error err;

    *has_problem = false;
    problem[0] = '\0';
    if (dp_store_open(&store, &config, &err))
        return;
    if (dp_store_file_open(&file, store, &file_config, &err) == DP_OK) {
        put_some(l, file);
        for (uint32_t i = 0; i < COUNT && l->point != DP_FAULT_READ && l->point != DP_FAULT_MEM;
             i++)
            CHECK(!dp_store_has(file, i) || get_piece(file, 1, i), "what is here can be read");
        dp_store_file_close(file);
    }
    *has_problem = !stats_of(store).is_writable;
    memcpy(problem, stats_of(store).problem, 192);
    CHECK(*has_problem == (problem[0] != '\0'), "%s", problem);
    dp_store_close(store);
    look_after(l);
}

/* After it, on a drive that works again: right bytes, a budget that holds, all can be kept. */
static void check_after(uint64_t visit)
{
    dp_store *store = open_store(budget);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);

    get_all(file, 1);
    CHECK(stats_of(store).pieces_bad == 0, "visit %d: a record spoke of what is not there",
          (int)visit);
    for (uint32_t i = 0; i < COUNT; i++) {
        for (uint32_t k = 0; k < 40 * (i + 1); k++) /* warmer than all before it */
            dp_store_touch(file, i, 1);
        CHECK(put_piece(file, 1, i) && get_piece(file, 1, i), "visit %d: piece %u", (int)visit, i);
    }
    CHECK(du() <= budget && is_near_du(stats_of(store).used_bytes), "visit %d: %llu used",
          (int)visit, (unsigned long long)du());
    dp_store_file_close(file);
    dp_store_close(store);
}

static void failures_are_survived(void **unused)
{
    static const life lives[] = {
        { DP_FAULT_MEM, 0, 1, NULL },
        { DP_FAULT_READ, 0, 1, NULL },
        { DP_FAULT_READ, 0, UINT64_MAX, NULL },
        { DP_FAULT_WRITE, ENOSPC, 1, "No space left" },
        { DP_FAULT_WRITE, EROFS, UINT64_MAX, "Read-only" },
        { DP_FAULT_WRITE, EIO, UINT64_MAX, "Input/output" },
        { DP_FAULT_PUNCH, EIO, 1, NULL },
        { DP_FAULT_PUNCH, EOPNOTSUPP, UINT64_MAX, NULL },
        { DP_FAULT_SYNC, EIO, 1, "Input/output" },
        { DP_FAULT_POWER, EIO, UINT64_MAX, NULL },
    };

    for (size_t l = 0; l < DP_ARRAY_LEN(lives); l++) {
        uint64_t visit = 0, failed, problems = 0, told = 0;

        do {
            char problem[192];
            bool has_problem;

            dp_fault_arm(lives[l].point, visit, lives[l].run);
            dp_fault_set_kind(lives[l].point, lives[l].error, 0);
            live(&lives[l], &has_problem, problem);
            failed = dp_fault_disarm(lives[l].point);
            check_no_leak();
            problems += has_problem;
            told += has_problem && lives[l].text && strstr(problem, lives[l].text);
            check_after(visit);
            remove_folder(test_folder);
            CHECK(mkdir(test_folder, 0700) == 0, "%s", test_folder);
            visit++;
        } while (failed);
        CHECK(visit > 2, "row %zu: %d visits", l, (int)visit);
        if (lives[l].text)
            CHECK(told > 0 && told == problems, "row %zu: %d told of %d", l, (int)told,
                  (int)problems);
    }
}

/* Opening, for all that can fail there, gives nothing or all. */
static void what_does_not_open_leaves_nothing(void **unused)
{
    dp_store_config config = { test_folder, budget, &dp_clock_real };
    uint64_t failed = 1;

    for (uint64_t n = 0; failed; n++) {
        dp_store *store;
        dp_store_file *file;
        dp_error err;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_store_open(&store, &config, &err);
        if (!st) {
            dp_store_file_config c = { "0a", "m", pieces, .tag = "\"x\"", .origin = "y" };

            st = dp_store_file_open(&file, store, &c, &err);
            CHECK(!st == (file != NULL), "visit %d", (int)n);
            dp_store_file_close(file);
        }
        CHECK(st == DP_OK || (st == DP_E_NOMEM && err.text[0]), "visit %d: %s", (int)n, err.text);
        dp_store_close(store);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(!failed == !st || !st, "visit %d", (int)n);
        check_no_leak();
    }
}

/* Part of a piece arrived, then the drive was full: its room comes back, it is not there. */
static void half_a_piece_leaves_nothing(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);
    uint64_t before;

    CHECK(put_piece(file, 1, 0), "one");
    before = du();
    dp_fault_arm(DP_FAULT_WRITE, 0, 1);
    dp_fault_set_kind(DP_FAULT_WRITE, ENOSPC, 8192);
    CHECK(!put_piece(file, 1, 1), "not kept");
    CHECK(dp_fault_disarm(DP_FAULT_WRITE) == 1, "failed");
    CHECK(du() == before && stats_of(store).used_bytes == before, "%llu, %llu before",
          (unsigned long long)du(), (unsigned long long)before);
    CHECK(get_all(file, 1) == 1, "the other one");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

/* A piece that cannot be read is told once, and counts as absent from then on. */
static void what_cannot_be_read_is_absent(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);
    uint8_t bytes[PIECE];
    dp_error err;

    CHECK(put_piece(file, 1, 0) && put_piece(file, 1, 1), "two");
    dp_fault_arm(DP_FAULT_READ, 0, 1);
    CHECK(dp_store_read(file, 0, bytes, &err) == DP_E_IO, "%s", err.text);
    dp_fault_disarm(DP_FAULT_READ);
    CHECK(!dp_store_has(file, 0) && !get_piece(file, 1, 0), "absent");
    CHECK(get_piece(file, 1, 1) && put_piece(file, 1, 0) && get_piece(file, 1, 0), "and back");
    CHECK(stats_of(store).pieces_bad == 0, "its bytes were not wrong");
    dp_store_file_close(file);
    dp_store_close(store);
    check_no_leak();
}

/* A drive without the way to make holes: full is full, and that is said. */
static void no_holes_means_no_exchange(void **unused)
{
    dp_store *store;
    dp_store_file *file;
    uint32_t kept = 0;

    dp_fault_arm(DP_FAULT_PUNCH, 0, UINT64_MAX);
    dp_fault_set_kind(DP_FAULT_PUNCH, EOPNOTSUPP, 0);
    store = open_store(budget);
    file = open_file(store, "0a", pieces, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        dp_store_touch(file, i, 1);
        kept += put_piece(file, 1, i);
    }
    CHECK(kept > 5 && kept < COUNT && get_all(file, 1) == kept, "%u kept", kept);
    CHECK(strstr(stats_of(store).problem, "cannot get holes"), "%s", stats_of(store).problem);
    CHECK(du() <= budget, "%llu", (unsigned long long)du());
    dp_store_file_close(file);
    dp_store_close(store);
    /* Whole keys leave for another one. */
    store = open_store(budget);
    file = open_file(store, "0b", pieces, NULL);
    for (uint32_t i = 0; i < 6; i++)
        CHECK(put_piece(file, 2, i), "piece %u", i);
    CHECK(du() <= budget && !stats_of(store).problem[0], "%s", stats_of(store).problem);
    dp_store_file_close(file);
    dp_store_close(store);
    dp_fault_disarm(DP_FAULT_PUNCH);
    check_no_leak();
}

/* What was kept can be read from a drive that refuses every change from the beginning. */
static void read_only_drives_are_read(void **unused)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, NULL);

    for (uint32_t i = 0; i < COUNT; i += 2)
        put_piece(file, 1, i);
    dp_store_file_close(file);
    dp_store_close(store);
    dp_fault_arm(DP_FAULT_POWER, 0, UINT64_MAX);
    dp_fault_set_kind(DP_FAULT_POWER, EROFS, 0);
    dp_fault_arm(DP_FAULT_WRITE, 0, UINT64_MAX);
    dp_fault_set_kind(DP_FAULT_WRITE, EROFS, 0);
    store = open_store(DP_GIB);
    file = open_file(store, "0a", pieces, NULL);
    CHECK(get_all(file, 1) == COUNT / 2, "all of it");
    CHECK(!put_piece(file, 1, 1) && !get_piece(file, 1, 1), "no more");
    CHECK(strstr(stats_of(store).problem, "Read-only"), "%s", stats_of(store).problem);
    dp_store_file_close(file);
    file = open_file(store, "0b", pieces, NULL);
    CHECK(get_all(file, 1) == 0 && !put_piece(file, 1, 1), "what is not there");
    dp_store_file_close(file);
    dp_store_close(store);
    dp_fault_disarm(DP_FAULT_POWER);
    dp_fault_disarm(DP_FAULT_WRITE);
    check_no_leak();
}

/* A drive of 1 MiB of this process's own, if it may mount one. */
static bool mount_small(void)
{
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("small", test_folder, "tmpfs", 0, "size=1m,mode=0700") == 0)
        return true;
    print_message("SKIPPED: a small file system cannot be mounted here: %s\n", strerror(errno));
    return false;
}

static void a_full_drive_and_a_read_only_one(void **unused)
{
    const dp_pieces many = { 200 * (uint64_t)PIECE, PIECE };
    dp_store *store;
    dp_store_file *file;
    uint32_t kept = 0;

    if (!mount_small())
        skip();
    store = open_store(DP_GIB); /* more than the drive has */
    file = open_file(store, "0a", many, NULL);
    for (uint32_t i = 0; i < 200; i++)
        kept += put_piece(file, 1, i);
    CHECK(kept > 50 && kept < 64, "%u kept", kept);
    CHECK(strstr(stats_of(store).problem, "No space left"), "%s", stats_of(store).problem);
    CHECK(get_all(file, 1) == kept && stats_of(store).pieces_bad == 0, "reads go on");
    dp_store_file_close(file);
    dp_store_close(store);

    CHECK(mount("small", test_folder, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL) == 0, "remount");
    store = open_store(DP_GIB);
    file = open_file(store, "0a", many, NULL);
    CHECK(get_all(file, 1) == kept && !put_piece(file, 1, 199), "read-only");
    CHECK(strstr(stats_of(store).problem, "Read-only"), "%s", stats_of(store).problem);
    dp_store_file_close(file);
    dp_store_close(store);
    CHECK(umount2(test_folder, MNT_DETACH) == 0, "unmount");
    check_no_leak();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(failures_are_survived),
        T(what_does_not_open_leaves_nothing),
        T(half_a_piece_leaves_nothing),
        T(what_cannot_be_read_is_absent),
        T(no_holes_means_no_exchange),
        T(read_only_drives_are_read),
        T(a_full_drive_and_a_read_only_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
