/* What programs see of the store's folder. */
#include "doppler/cache.h"
#include "store/store_testing.h"

static const dp_pieces pieces = { 5 * (uint64_t)PIECE + 5, PIECE }; /* 6 */

static void fill_key(const char *key, uint32_t count)
{
    dp_store *store = open_store(DP_GIB);
    dp_store_file *file = open_file(store, key, pieces, NULL);

    for (uint32_t i = 0; i < count; i++)
        CHECK(put_piece(file, 0, i), "piece %u", i);
    dp_store_file_close(file);
    dp_store_close(store);
}

static void damage(const char *key, uint64_t at)
{
    char path[128], byte = 0;
    int fd;

    snprintf(path, sizeof path, "%s/%s/model.gguf", test_folder, key);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1, "%s", path);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1, "%s", path);
    close(fd);
}

static dp_cache_entry *list(size_t want)
{
    dp_cache_entry *entries;
    size_t count;
    dp_error err;

    CHECK_OK(dp_cache_list(test_folder, &entries, &count, &err), err);
    CHECK(count == want, "%zu entries, not %zu", count, want);
    return entries;
}

static void a_folder_through_its_life(void **state)
{
    dp_cache_entry *entries;
    uint64_t freed;
    dp_error err;

    dp_cache_free(list(0));
    fill_key("bb", 6);
    fill_key("aa", 3);
    entries = list(2);
    CHECK(!strcmp(entries[0].key, "aa") && !strcmp(entries[1].key, "bb"), "order: %s %s",
          entries[0].key, entries[1].key);
    CHECK(!strcmp(entries[0].name, "model.gguf") && entries[0].file_bytes == pieces.file_size &&
              entries[0].piece_size == PIECE && entries[0].pieces == 6 && entries[0].present == 3 &&
              entries[0].used_bytes >= 3 * (uint64_t)PIECE && !entries[0].is_open,
          "%s: %u of %u, %llu bytes", entries[0].name, entries[0].present, entries[0].pieces,
          (unsigned long long)entries[0].used_bytes);

    damage("aa", PIECE + 17);
    CHECK_OK(dp_cache_verify(test_folder, &entries[0], &err), err);
    CHECK(entries[0].present == 2 && entries[0].bad == 1, "%u present, %u bad", entries[0].present,
          entries[0].bad);
    CHECK_OK(dp_cache_verify(test_folder, &entries[1], &err), err);
    CHECK(entries[1].present == 6 && entries[1].bad == 0, "%u present", entries[1].present);
    dp_cache_free(entries);

    CHECK_OK(dp_cache_evict(test_folder, "bb", PIECE, &freed, &err), err);
    CHECK(freed >= PIECE, "%llu", (unsigned long long)freed);
    entries = list(2);
    CHECK(entries[0].present == 2 && entries[1].present < 6, "of one key");
    dp_cache_free(entries);
    CHECK_OK(dp_cache_remove(test_folder, "bb", &err), err);
    dp_cache_free(list(1));
    CHECK_OK(dp_cache_evict(test_folder, NULL, DP_GIB, &freed, &err), err);
    dp_cache_free(list(0)); /* a model of which nothing is left is gone */
    CHECK(dp_cache_remove(test_folder, "aa", &err) == DP_E_NOTFOUND, "%s", err.text);
}

static void a_folder_that_is_not_there_is_empty(void **state)
{
    dp_cache_entry *entries;
    size_t count = 7;
    dp_error err;

    CHECK_OK(dp_cache_list("/no/such/folder", &entries, &count, &err), err);
    CHECK(count == 0, "%zu", count);
    dp_cache_free(entries);
}

static void memory_fails(void **state)
{
    uint64_t failed = 1;

    fill_key("cc", 2);
    for (uint64_t n = 0; failed; n++) {
        dp_mem_stats before, after;
        dp_cache_entry *entries;
        size_t count;
        dp_error err;
        dp_status st;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_cache_list(test_folder, &entries, &count, &err);
        if (!st)
            st = dp_cache_verify(test_folder, &entries[0], &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == DP_OK || (failed && st == DP_E_NOMEM), "visit %d: %s", (int)n, err.text);
        dp_cache_free(entries);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "visit %d leaks", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_folder_through_its_life, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_empty, test_set_up,
                                        test_tear_down),
        cmocka_unit_test_setup_teardown(memory_fails, test_set_up, test_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
