/* What doppler cache asks for. */
#include "store/store_testing.h"

#include <errno.h>

static const dp_pieces pieces = { 30 * (uint64_t)PIECE + 5, PIECE }; /* 31 */

static void fill_key(const char *key, uint32_t which, uint32_t count, int64_t used_unix)
{
    struct timespec times[2] = { { used_unix, 0 }, { used_unix, 0 } };
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, key, pieces, NULL);
    char path[128];

    for (uint32_t i = 0; i < count; i++) {
        dp_store_touch(file, i, 1);
        CHECK(put_piece(file, which, i), "piece %u", i);
    }
    dp_store_file_close(file);
    dp_store_close(store);
    snprintf(path, sizeof path, "%s/%s/model.gguf.pieces", test_folder, key);
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0, "%s", path);
}

static dp_store_entry *list(size_t want)
{
    dp_store_entry *entries;
    size_t count;
    dp_error err;

    CHECK_OK(dp_store_list(test_folder, &entries, &count, &err), err);
    CHECK(count == want, "%zu entries, not %zu", count, want);
    return entries;
}

static const dp_store_entry *find(const dp_store_entry *entries, size_t count, const char *key)
{
    for (size_t i = 0; entries && i < count; i++) {
        if (strcmp(entries[i].key, key) == 0)
            return &entries[i];
    }
    return NULL;
}

static void damage(const char *key, const char *suffix, uint64_t at)
{
    char path[128], byte;
    int fd;

    snprintf(path, sizeof path, "%s/%s/model.gguf%s", test_folder, key, suffix);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1, "%s: %s", path, strerror(errno));
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1, "%s", path);
    close(fd);
}

static void all_that_is_there_is_listed(void **unused)
{
    dp_store_entry *entries;
    const dp_store_entry *a, *b;
    dp_store *store;
    dp_store_file *file;
    char path[128];

    dp_free(list(0));
    fill_key("0a", 1, 31, 1000000000);
    fill_key("0b", 2, 5, 1000000050);
    /* None of ours: other names, folders without maps, a map that is a folder. */
    snprintf(path, sizeof path, "%s/Other", test_folder);
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    snprintf(path, sizeof path, "%s/0e", test_folder);
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    snprintf(path, sizeof path, "%s/0e/x.pieces", test_folder);
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    entries = list(2);
    a = find(entries, 2, "0a");
    b = find(entries, 2, "0b");
    CHECK(a && b, "keys");
    CHECK(a->present == 31 && a->pieces == 31 && b->present == 5, "%u, %u", a->present, b->present);
    CHECK(a->file_size == pieces.file_size && a->piece_size == PIECE, "sizes");
    CHECK(strcmp(a->name, "model.gguf") == 0 && strcmp(a->origin, "model.torrent") == 0, "%s %s",
          a->name, a->origin);
    CHECK(a->used_unix == 1000000000 && !a->is_open, "%lld", (long long)a->used_unix);
    CHECK(a->used_bytes >= 31 * (uint64_t)PIECE - 12 * DP_KIB && b->used_bytes < 8 * PIECE,
          "%llu, %llu", (unsigned long long)a->used_bytes, (unsigned long long)b->used_bytes);
    dp_free(entries);
    store = open_store(DP_GIB);
    file = open_file(store, "0b", pieces, NULL);
    entries = list(2);
    CHECK(find(entries, 2, "0b")->is_open && !find(entries, 2, "0a")->is_open, "open");
    CHECK(find(entries, 2, "0b")->used_unix > 1000000050, "now");
    dp_free(entries);
    dp_store_file_close(file);
    dp_store_close(store);
    damage("0a", ".pieces", 20);
    entries = list(2);
    a = find(entries, 2, "0a");
    CHECK(a->present == 0 && a->pieces == 0 && a->used_bytes > 20 * PIECE, "a damaged map");
    dp_free(entries);
    check_no_leak();
}

static void a_folder_that_is_not_there_is_told(void **unused)
{
    dp_store_entry *entries;
    size_t count;
    uint64_t freed;
    dp_error err;

    CHECK(dp_store_list("/nowhere/at/all", &entries, &count, &err) == DP_E_NOTFOUND, "%s",
          err.text);
    CHECK(!entries && !count, "nothing");
    CHECK(dp_store_evict("/nowhere/at/all", NULL, 1, &freed, &err) != DP_OK, "evict");
    CHECK(dp_store_remove(test_folder, "0a", &err) == DP_E_NOTFOUND, "%s", err.text);
    CHECK(dp_store_remove(test_folder, "../0a", &err) == DP_E_INVALID, "%s", err.text);
    CHECK(dp_store_evict(test_folder, "..", 1, &freed, &err) == DP_E_INVALID, "%s", err.text);
    CHECK(dp_store_evict(test_folder, "0a", 1, &freed, &err) == DP_E_NOTFOUND, "%s", err.text);
}

static void verifying_finds_and_drops_the_bad(void **unused)
{
    dp_store_entry *entries;
    dp_store *store;
    dp_store_file *file;
    dp_error err;

    fill_key("0a", 1, 31, 1000000000);
    entries = list(1);
    CHECK_OK(dp_store_verify(test_folder, entries, &err), err);
    CHECK(entries->present == 31 && entries->bad == 0, "all good");
    damage("0a", "", 3 * PIECE + 77);
    damage("0a", "", 30 * PIECE + 4);
    damage("0a", ".pieces", 4096 + 64 * 9 + 40); /* a record: absent, not bad */
    CHECK_OK(dp_store_verify(test_folder, entries, &err), err);
    CHECK(entries->present == 28 && entries->bad == 2, "%u present, %u bad", entries->present,
          entries->bad);
    CHECK_OK(dp_store_verify(test_folder, entries, &err), err);
    CHECK(entries->present == 28 && entries->bad == 0, "the bad are gone");
    store = open_store(DP_GIB);
    file = open_file(store, "0a", pieces, NULL);
    CHECK(dp_store_verify(test_folder, entries, &err) == DP_E_BUSY, "%s", err.text);
    CHECK(get_all(file, 1) == 28 && stats_of(store).pieces_bad == 0, "28");
    CHECK(put_piece(file, 1, 3) && put_piece(file, 1, 9), "come back");
    dp_store_file_close(file);
    dp_store_close(store);
    damage("0a", ".pieces", 3);
    CHECK(dp_store_verify(test_folder, entries, &err) == DP_E_CORRUPT, "%s", err.text);
    dp_free(entries);
    check_no_leak();
}

static void evicting_frees_the_coldest(void **unused)
{
    dp_store_entry *entries;
    dp_store *store;
    dp_store_file *file;
    uint64_t before, freed;
    dp_error err;

    fill_key("0a", 1, 31, 1000000020);
    fill_key("0b", 2, 31, 1000000010);
    fill_key("0c", 3, 31, 1000000030);
    before = du();
    CHECK_OK(dp_store_evict(test_folder, NULL, 4 * PIECE + 1, &freed, &err), err);
    CHECK(freed == 5 * PIECE && before - du() == freed, "%llu", (unsigned long long)freed);
    entries = list(3);
    CHECK(find(entries, 3, "0b")->present == 26, "of the key used first");
    dp_free(entries);
    store = open_store(DP_GIB);
    file = open_file(store, "0b", pieces, NULL);
    for (uint32_t i = 0; i < 31; i++)
        CHECK(dp_store_has(file, i) == (i >= 5), "those touched first: %u", i);
    before = du();
    CHECK(dp_store_evict(test_folder, "0b", 1, &freed, &err) == DP_E_BUSY, "%s", err.text);
    CHECK_OK(dp_store_evict(test_folder, NULL, 40 * (uint64_t)PIECE, &freed, &err), err);
    CHECK(freed >= 40 * (uint64_t)PIECE && before - du() == freed, "%llu",
          (unsigned long long)freed);
    CHECK(get_all(file, 2) == 26, "what is open stays");
    CHECK_OK(dp_store_evict(test_folder, NULL, UINT64_MAX, &freed, &err), err);
    CHECK(get_all(file, 2) == 26, "what is open stays");
    dp_store_file_close(file);
    dp_store_close(store);
    dp_free(list(1));
    CHECK_OK(dp_store_evict(test_folder, "0b", UINT64_MAX, &freed, &err), err);
    dp_free(list(0));
    CHECK(du() < 8 * DP_KIB, "%llu", (unsigned long long)du());
    check_no_leak();
}

static void removing_leaves_nothing(void **unused)
{
    dp_store *store;
    dp_store_file *file;
    char path[128];
    dp_error err;

    fill_key("0a", 1, 3, 1000000000);
    snprintf(path, sizeof path, "%s/0a/model.torrent", test_folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    store = open_store(DP_GIB);
    file = open_file(store, "0a", pieces, NULL);
    CHECK(dp_store_remove(test_folder, "0a", &err) == DP_E_BUSY, "%s", err.text);
    dp_store_file_close(file);
    CHECK_OK(dp_store_remove(test_folder, "0a", &err), err);
    file = open_file(store, "0a", pieces, NULL);
    CHECK(get_all(file, 1) == 0 && put_piece(file, 1, 0), "a new beginning");
    dp_store_file_close(file);
    dp_store_close(store);
    CHECK_OK(dp_store_remove(test_folder, "0a", &err), err);
    snprintf(path, sizeof path, "%s/0a", test_folder);
    CHECK(access(path, F_OK) != 0, "gone");
    check_no_leak();
}

/* A folder that only looks like a key keeps what a person put there. */
static void folders_without_maps_are_not_ours(void **unused)
{
    char path[128];
    uint64_t freed;
    dp_error err;

    snprintf(path, sizeof path, "%s/cafe", test_folder);
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    snprintf(path, sizeof path, "%s/cafe/menu.txt", test_folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    CHECK_OK(dp_store_evict(test_folder, NULL, UINT64_MAX, &freed, &err), err);
    CHECK(access(path, F_OK) == 0 && freed == 0, "the menu is still there");
    check_no_leak();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, test_set_up_in_memory, test_tear_down)
    const struct CMUnitTest tests[] = {
        T(all_that_is_there_is_listed),       T(a_folder_that_is_not_there_is_told),
        T(verifying_finds_and_drops_the_bad), T(evicting_frees_the_coldest),
        T(removing_leaves_nothing),           T(folders_without_maps_are_not_ours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
