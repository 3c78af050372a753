/* Mirrors and maps that rot: thousands of ways, none of which gives a wrong byte. */
#include "store/store_testing.h"

#include "base/rng.h"
#include "store/presence.h"

#define COUNT  8
#define MIRROR ((COUNT - 1) * (size_t)PIECE + 777)
#define MAP    ((size_t)4096 + COUNT * 64)

static const dp_pieces pieces = { MIRROR, PIECE };
static uint8_t mirror[MIRROR], map[MAP], bad_mirror[MIRROR], bad_map[MAP];

static void path_of(char path[128], const char *suffix)
{
    snprintf(path, 128, "%s/0a/model.gguf%s", test_folder, suffix);
}

static void load(const char *suffix, uint8_t *out, size_t size)
{
    char path[128];
    int fd;

    path_of(path, suffix);
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && pread(fd, out, size, 0) == (ssize_t)size, "%s", path);
    close(fd);
}

static void save(const char *suffix, const uint8_t *bytes, size_t size)
{
    char path[128];
    int fd;

    path_of(path, suffix);
    fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size, "%s", path);
    close(fd);
}

/* Some damage to `bytes` at a place of [from, size). */
static void damage(dp_rng *rng, uint8_t *bytes, size_t from, size_t size)
{
    size_t at = from + dp_rng_below(rng, size - from);
    size_t length = 1 + dp_rng_below(rng, DP_MIN(size - at, (size_t)600));
    size_t other = from + dp_rng_below(rng, size - length + 1 - from);

    switch (dp_rng_below(rng, 5)) {
    case 0:
        bytes[at] ^= (uint8_t)(1 << dp_rng_below(rng, 8));
        break;
    case 1:
        bytes[at] = (uint8_t)dp_rng_u64(rng);
        break;
    case 2:
        memset(bytes + at, 0, length);
        break;
    case 3:
        memmove(bytes + at, bytes + other, length);
        break;
    default:
        for (size_t i = 0; i < length; i++)
            bytes[at + i] = (uint8_t)dp_rng_u64(rng);
    }
}

static void fill_store(const dp_hash *hashes)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, "0a", pieces, hashes);

    for (uint32_t i = 0; i < COUNT; i++)
        CHECK(put_piece(file, 1, i), "piece %u", i);
    dp_store_file_close(file);
    dp_store_close(store);
    load("", mirror, MIRROR);
    load(".pieces", map, MAP);
}

/* Every piece is what it was, or absent; absent exactly where something of it was damaged. */
static void check_run(int run, const dp_hash *hashes, bool is_open_before)
{
    bool is_bad_data[COUNT], is_bad_record[COUNT], has_bad_header;
    uint32_t bad = 0;
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = NULL;

    if (is_open_before) { /* rots while it is open: the map was read, and is not read again */
        save("", mirror, MIRROR);
        save(".pieces", map, MAP);
        file = open_file(store, "0a", pieces, hashes);
    }
    save("", bad_mirror, MIRROR);
    save(".pieces", bad_map, MAP);
    if (!is_open_before)
        file = open_file(store, "0a", pieces, hashes);
    has_bad_header = !is_open_before && memcmp(map, bad_map, 512) != 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        size_t at = i * (size_t)PIECE;

        is_bad_data[i] = memcmp(mirror + at, bad_mirror + at, dp_pieces_size(pieces, i)) != 0;
        is_bad_record[i] =
            !is_open_before && memcmp(map + 4096 + 64 * i, bad_map + 4096 + 64 * i, 64) != 0;
        CHECK(get_piece(file, 1, i) == !(is_bad_data[i] || is_bad_record[i] || has_bad_header),
              "run %d: piece %u", run, i);
        bad += is_bad_data[i] && !is_bad_record[i] && !has_bad_header;
    }
    CHECK(stats_of(store).pieces_bad == bad, "run %d: %d found, %u bad", run,
          (int)stats_of(store).pieces_bad, bad);
    for (uint32_t i = 0; i < COUNT; i++) {
        CHECK(put_piece(file, 1, i), "run %d: piece %u comes back", run, i);
        CHECK(get_piece(file, 1, i), "run %d: piece %u is right", run, i);
    }
    dp_store_file_close(file);
    dp_store_close(store);
}

static void rot_is_found(const dp_hash *hashes, uint64_t seed)
{
    dp_rng rng;

    dp_rng_init(&rng, seed);
    fill_store(hashes);
    for (int run = 0; run < 1000; run++) {
        uint64_t what = dp_rng_below(&rng, 4);
        uint64_t places = 1 + dp_rng_below(&rng, 3);

        memcpy(bad_mirror, mirror, MIRROR);
        memcpy(bad_map, map, MAP);
        for (uint64_t i = 0; i < places; i++) {
            if (what != 1)
                damage(&rng, bad_mirror, 0, MIRROR);
            if (what != 0)
                damage(&rng, bad_map, what == 3 ? 0 : 4096, MAP);
        }
        check_run(run, hashes, dp_rng_below(&rng, 4) == 0);
    }
    check_no_leak();
}

static void rot_is_found_where_hashes_were_learned(void **unused)
{
    rot_is_found(NULL, 21);
}

static void rot_is_found_where_hashes_are_known(void **unused)
{
    dp_hash *hashes = make_hashes(1, pieces);
    dp_mem_stats stats;

    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 1, "hashes");
    {
        static dp_hash copy[COUNT];

        memcpy(copy, hashes, sizeof copy);
        dp_free(hashes);
        rot_is_found(copy, 22);
    }
}

/* A forged map with right checksums, over bytes of its own: hashes known from elsewhere win. */
static void known_hashes_beat_the_map(void **unused)
{
    dp_hash *hashes = make_hashes(1, pieces);
    dp_store *store;
    dp_store_file *file;

    fill_store(hashes);
    store = open_store(DP_GIB);
    file = open_file(store, "0a", pieces, hashes);
    for (uint32_t i = 0; i < COUNT; i++) { /* the caller says it checked; it did not */
        dp_store_drop(file, i);
        put_piece(file, 2, i);
    }
    CHECK(get_all(file, 1) == 0, "none of it");
    CHECK(stats_of(store).pieces_bad == COUNT, "all bad");
    dp_store_file_close(file);
    dp_store_close(store);
    dp_free(hashes);
    check_no_leak();
}

/* A record with right checksums that claims another hash, over the bytes it claims. */
static void forged_records_claim_in_vain(void **unused)
{
    dp_hash *hashes = make_hashes(1, pieces), *others = make_hashes(2, pieces);
    dp_presence_head head;
    dp_presence_record record = { others[3], DP_PRESENCE_HERE, DP_PIECE_EXPERT, 0 };
    dp_store *store;
    dp_store_file *file;
    dp_error err;

    fill_store(hashes);
    CHECK_OK(dp_presence_head_decode(&head, map, &err), err);
    dp_presence_record_encode(map + 4096 + 3 * 64, &head, 3, &record);
    fill_piece(mirror + 3 * (size_t)PIECE, 2, pieces, 3);
    save("", mirror, MIRROR);
    save(".pieces", map, MAP);
    store = open_store(DP_GIB);
    file = open_file(store, "0a", pieces, hashes);
    CHECK(!dp_store_has(file, 3) && get_all(file, 1) == COUNT - 1, "the others");
    dp_store_file_close(file);
    dp_store_close(store);
    dp_free(hashes);
    dp_free(others);
    check_no_leak();
}

/* Cut off anywhere, longer, or empty. */
static void other_lengths_are_survived(void **unused)
{
    static const struct {
        const char *suffix;
        off_t size;
        uint32_t here;
    } rows[] = {
        { "", 0, 0 },
        { "", MIRROR - 1, 0 },
        { "", MIRROR + 1, 0 },
        { ".pieces", 0, 0 },
        { ".pieces", 100, 0 },
        { ".pieces", 4095, 0 },
        { ".pieces", 4096, 0 },
        { ".pieces", 4096 + 63, 0 },
        { ".pieces", 4096 + 64 * 3 + 1, 3 },
        { ".pieces", 1 << 20, COUNT },
    };
    char path[128];

    for (size_t r = 0; r < DP_ARRAY_LEN(rows); r++) {
        dp_store *store;
        dp_store_file *file;

        fill_store(NULL);
        path_of(path, rows[r].suffix);
        CHECK(truncate(path, rows[r].size) == 0, "%s", path);
        store = open_store(DP_GIB);
        file = open_file(store, "0a", pieces, NULL);
        CHECK(get_all(file, 1) == rows[r].here, "row %zu", r);
        for (uint32_t i = 0; i < COUNT; i++)
            CHECK(put_piece(file, 1, i) && get_piece(file, 1, i), "row %zu", r);
        dp_store_file_close(file);
        dp_store_close(store);
    }
    /* And cut off while it is open. */
    {
        dp_store *store = open_store(DP_GIB);
        dp_store_file *file = open_file(store, "0a", pieces, NULL);

        path_of(path, "");
        CHECK(get_all(file, 1) == COUNT && truncate(path, 3 * PIECE + 5) == 0, "%s", path);
        CHECK(get_all(file, 1) == 3, "three are left");
        dp_store_file_close(file);
        dp_store_close(store);
    }
    check_no_leak();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(rot_is_found_where_hashes_were_learned),
        T(rot_is_found_where_hashes_are_known),
        T(known_hashes_beat_the_map),
        T(forged_records_claim_in_vain),
        T(other_lengths_are_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
