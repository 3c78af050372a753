/* Power that goes at each step, and drives that wrote in an order of their own. */
#include "store/store_testing.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include "base/rng.h"

#define COUNT   6
#define HISTORY 64
#define SECTOR  512
#define MIRROR  (COUNT * (size_t)PIECE)
#define MAP     ((size_t)4096 + COUNT * 64)

static const dp_pieces pieces = { COUNT * (uint64_t)PIECE, PIECE };

static bool is_kept[COUNT];

static void forget_gone(void *user, dp_store_file *file, uint32_t piece)
{
    is_kept[piece] = false;
}

/* One life: writes, evictions, a drop, heat that is flushed at the end. */
static void live(uint64_t budget)
{
    dp_store_config config = { test_folder, budget, &dp_clock_real, forget_gone };
    dp_store_file_config file_config = { "0a", "m", pieces };
    dp_store *store;
    dp_store_file *file;

    memset(is_kept, 0, sizeof is_kept);
    if (dp_store_open(&store, &config, NULL))
        return;
    if (dp_store_file_open(&file, store, &file_config, NULL) == DP_OK) {
        for (uint32_t i = 0; i < COUNT; i++) {
            dp_store_touch(file, i, 1);
            is_kept[i] = put_piece(file, 1, i);
            if (i == 2)
                dp_store_drop(file, 1);
        }
        dp_store_touch(file, 0, COUNT);
        dp_store_file_close(file);
    }
    dp_store_close(store);
}

static void clear_folder(void)
{
    remove_folder(test_folder);
    CHECK(mkdir(test_folder, 0700) == 0, "%s", test_folder);
}

/* From change n on nothing reaches the drive; of change n its first `torn` bytes did. */
static bool die_at(uint64_t n, uint64_t torn, uint64_t budget)
{
    dp_store_file_config config = { "0a", "m", pieces };
    dp_store *store;
    dp_store_file *file;
    dp_error err;
    bool died;

    dp_fault_arm(DP_FAULT_POWER, n, UINT64_MAX);
    dp_fault_set_kind(DP_FAULT_POWER, EIO, torn);
    live(budget);
    died = dp_fault_disarm(DP_FAULT_POWER) > 0;
    store = open_store(budget);
    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    for (uint32_t i = 0; i < COUNT; i++) {
        bool is_here = get_piece(file, 1, i);

        CHECK(is_here || !is_kept[i] || torn > 0, "step %d: piece %u was kept and is gone", (int)n,
              i);
    }
    CHECK(stats_of(store).pieces_bad <= (torn > 64), "step %d, %d bytes: %d bad", (int)n, (int)torn,
          (int)stats_of(store).pieces_bad);
    CHECK(du() <= budget, "step %d", (int)n);
    dp_store_file_close(file);
    dp_store_close(store);
    clear_folder();
    check_no_leak();
    return died;
}

static void power_lost_at_each_change(void **unused)
{
    uint64_t n = 0;

    while (die_at(n, 0, 5 * (uint64_t)PIECE))
        n++;
    CHECK(n > 20, "%d changes", (int)n);
}

static void changes_torn_at_each_byte_of_a_record(void **unused)
{
    for (uint64_t torn = 1; torn < 64; torn++) {
        for (uint64_t n = 0; die_at(n, torn, 5 * (uint64_t)PIECE); n++)
            ;
    }
    for (uint64_t torn = 512; torn < PIECE; torn += 3001) {
        for (uint64_t n = 0; die_at(n, torn, 5 * (uint64_t)PIECE); n++)
            ;
    }
}

/* ---- a process that is killed ---- */

#define KILL_COUNT 64

/* Tells of each piece that it keeps, until it is killed. */
static void write_until_killed(int out, dp_pieces many)
{
    dp_store_config config = { test_folder, DP_GIB, &dp_clock_real };
    dp_store_file_config file_config = { "0a", "m", many };
    uint8_t bytes[PIECE];
    dp_store *store;
    dp_store_file *file;
    bool is_kept;

    if (dp_store_open(&store, &config, NULL) ||
        dp_store_file_open(&file, store, &file_config, NULL))
        _exit(1);
    for (uint32_t i = 0;; i = (i + 1) % KILL_COUNT) {
        uint8_t number = (uint8_t)i;

        fill_piece(bytes, 1, many, i);
        if (dp_store_write(file, i, bytes, &is_kept, NULL) || !is_kept ||
            write(out, &number, 1) != 1)
            _exit(1);
        if (i == KILL_COUNT - 1) { /* all are here: make room for more */
            for (uint32_t k = 0; k < KILL_COUNT; k++)
                dp_store_drop(file, k);
        }
    }
}

/* Whatever was told to be kept in the last round is here and right. */
static void killed_at_any_time(void **unused)
{
    const dp_pieces many = { KILL_COUNT * (uint64_t)PIECE, PIECE };
    dp_rng rng;

    dp_rng_init(&rng, 4);
    for (int run = 0; run < 20; run++) {
        uint64_t wanted = 1 + dp_rng_below(&rng, 3 * KILL_COUNT), told = 0;
        dp_store_file_config config = { "0a", "m", many };
        uint8_t number = 0;
        dp_store *store;
        dp_store_file *file;
        dp_error err;
        int ends[2], status;
        pid_t child;

        CHECK(pipe(ends) == 0, "%s", strerror(errno));
        child = fork();
        if (child == 0)
            write_until_killed(ends[1], many);
        close(ends[1]);
        while (told < wanted && read(ends[0], &number, 1) == 1)
            told++;
        CHECK(told == wanted, "run %d: the child ended", run);
        kill(child, SIGKILL);
        while (read(ends[0], &number, 1) == 1)
            ;
        close(ends[0]);
        CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status), "run %d", run);
        store = open_store(DP_GIB);
        CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
        for (uint32_t i = 0; i <= number && number < KILL_COUNT - 1; i++)
            CHECK(get_piece(file, 1, i), "run %d: piece %u of %u", run, i, number);
        get_all(file, 1);
        CHECK(stats_of(store).pieces_bad == 0, "run %d: a record came before its data", run);
        dp_store_file_close(file);
        dp_store_close(store);
        clear_folder();
    }
    check_no_leak();
}

/* ---- a drive that wrote sectors in any order ---- */

static uint8_t history[HISTORY][MIRROR + MAP];
static uint32_t history_count;

static void path_of(char path[128], const char *suffix)
{
    snprintf(path, 128, "%s/0a/m%s", test_folder, suffix);
}

static void load(const char *suffix, uint8_t *out, size_t size)
{
    char path[128];
    int fd;

    path_of(path, suffix);
    memset(out, 0, size);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return;
    CHECK(pread(fd, out, size, 0) >= 0, "%s", path);
    close(fd);
}

static void save(const char *suffix, const uint8_t *bytes, size_t size)
{
    char path[128];
    int fd;

    path_of(path, suffix);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size && ftruncate(fd, (off_t)size) == 0,
          "%s", path);
    close(fd);
}

static void remember(void)
{
    CHECK(history_count < HISTORY, "room");
    load("", history[history_count], MIRROR);
    load(".pieces", history[history_count] + MIRROR, MAP);
    history_count++;
}

/* Contents `which` under tag `which`, after what was there before. */
static void live_remembering(uint32_t which, const char *tag)
{
    dp_store_file_config config = { "0a", "m", pieces, .tag = tag };
    dp_store *store = open_store(5 * (uint64_t)PIECE);
    dp_store_file *file;
    dp_error err;

    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    remember();
    for (uint32_t i = 0; i < 2 * COUNT; i++) {
        dp_store_touch(file, i % COUNT, 1);
        put_piece(file, which, i % COUNT);
        remember();
    }
    dp_store_file_close(file);
    remember();
    dp_store_close(store);
}

/* Any mixture of all states that each sector ever had. Contents, hashes and identities of
 * two versions of the file are among them: what is given out is of the version asked for. */
static void any_order_of_sectors(void **unused)
{
    static uint8_t mixed[MIRROR + MAP];
    static const char *tags[] = { "\"v1\"", "\"v2\"" };
    uint64_t given = 0;
    dp_rng rng;

    history_count = 0;
    dp_rng_init(&rng, 9);
    for (uint32_t which = 0; which < 2; which++)
        live_remembering(which, tags[which]);
    for (int run = 0; run < 1000; run++) {
        uint32_t which = (uint32_t)dp_rng_below(&rng, 2);
        dp_store_file_config config = { "0a", "m", pieces, .tag = tags[which] };
        /* Mostly neighbours in time, sometimes anything. */
        uint64_t span = run % 3 == 0 ? history_count : 1 + dp_rng_below(&rng, 5);
        uint64_t first = dp_rng_below(&rng, history_count - span + 1);
        dp_store *store;
        dp_store_file *file;
        dp_error err;

        for (size_t at = 0; at < sizeof mixed; at += SECTOR) {
            const uint8_t *from = history[first + dp_rng_below(&rng, span)];

            memcpy(mixed + at, from + at, DP_MIN(SECTOR, sizeof mixed - at));
        }
        save("", mixed, MIRROR);
        save(".pieces", mixed + MIRROR, MAP);
        store = open_store(DP_GIB);
        CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
        given += get_all(file, which);
        for (uint32_t i = 0; i < COUNT; i++) {
            uint8_t bytes[PIECE];
            dp_status st;

            fill_piece(bytes, which, pieces, i);
            st = dp_store_write(file, i, bytes, NULL, &err);
            CHECK(!st && get_piece(file, which, i), "run %d: %s", run, err.text);
        }
        dp_store_file_close(file);
        dp_store_close(store);
    }
    CHECK(given > 300, "%d pieces were whole", (int)given);
    check_no_leak();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(power_lost_at_each_change),
        T(changes_torn_at_each_byte_of_a_record),
        T(killed_at_any_time),
        T(any_order_of_sectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
