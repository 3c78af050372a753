#include "testing/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/folder.h"
#include "base/mem.h"

static char folder[] = "folder_test.XXXXXX";

static const char *under(const char *name)
{
    static char path[300];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void folders_are_made_and_removed(void **unused)
{
    dp_folder_entry entry;
    dp_error err;

    CHECK_OK(dp_folder_make(under("a/b/c"), &err), err);
    CHECK_OK(dp_folder_make(under("a/b/c"), &err), err);
    CHECK_OK(dp_folder_make(under("a/b//c/"), &err), err);
    CHECK_OK(dp_folder_look(&entry, under("a/b"), &err), err);
    CHECK(entry.is_folder && !entry.is_file, "a folder");
    CHECK(dp_folder_remove(under("a/b"), &err) == DP_E_IO, "not empty");
    CHECK_OK(dp_folder_remove(under("a/b/c"), &err), err);
    CHECK_OK(dp_folder_remove(under("a/b/c"), &err), err);
    close(open(under("a/b/c"), O_CREAT | O_WRONLY, 0600));
    CHECK(dp_folder_make(under("a/b/c/d"), &err) == DP_E_IO, "%s", err.text);
    CHECK(dp_folder_make(under("a/b/c"), &err) == DP_E_IO, "%s", err.text);
    dp_folder_sync(under("a"));
    CHECK_OK(dp_folder_remove(under("a/b/c"), &err), err);
    CHECK_OK(dp_folder_remove(under("a/b"), &err), err);
    CHECK_OK(dp_folder_remove(under("a"), &err), err);
    CHECK(dp_folder_look(&entry, under("a"), &err) == DP_E_NOTFOUND, "%s", err.text);
}

static void lists_are_whole_or_refused(void **unused)
{
    dp_folder_entry *entries;
    size_t count, files = 0, folders = 0, others = 0;
    char name[16];
    dp_error err;

    CHECK_OK(dp_folder_list(&entries, &count, folder, 100, &err), err);
    CHECK(count == 0, "empty");
    dp_free(entries);
    for (int i = 0; i < 40; i++) {
        int fd;

        snprintf(name, sizeof name, "f%d", i);
        fd = open(under(name), O_CREAT | O_WRONLY, 0600);
        CHECK(write(fd, "12345", (size_t)(i % 6)) == i % 6, "%s", name);
        close(fd);
    }
    CHECK_OK(dp_folder_make(under("sub"), &err), err);
    CHECK(symlink("f1", under("link")) == 0, "%s", strerror(errno));
    CHECK_OK(dp_folder_list(&entries, &count, folder, 42, &err), err);
    for (size_t i = 0; i < count; i++) {
        files += entries[i].is_file;
        folders += entries[i].is_folder;
        others += !entries[i].is_file && !entries[i].is_folder;
        if (entries[i].is_file)
            CHECK(entries[i].size == (uint64_t)(atoi(entries[i].name + 1) % 6), "%s",
                  entries[i].name);
        CHECK(entries[i].changed_unix > 1500000000, "%s", entries[i].name);
    }
    CHECK(files == 40 && folders == 1 && others == 1, "%zu %zu %zu", files, folders, others);
    dp_free(entries);
    CHECK(dp_folder_list(&entries, &count, folder, 41, &err) == DP_E_LIMIT && !entries, "%s",
          err.text);
    CHECK(dp_folder_list(&entries, &count, under("x"), 9, &err) == DP_E_NOTFOUND, "%s", err.text);
    for (uint64_t n = 0, failed = 1; failed; n++) {
        dp_mem_stats stats;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_folder_list(&entries, &count, folder, 100, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "%s", err.text);
        dp_free(entries);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "leak");
    }
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "f%d", i);
        unlink(under(name));
    }
    unlink(under("link"));
    rmdir(under("sub"));
}

static void locks_are_for_one(void **unused)
{
    int lock, second;
    dp_error err;

    CHECK_OK(dp_folder_make(under("k"), &err), err);
    CHECK_OK(dp_folder_lock(&lock, under("k"), 0, &err), err);
    CHECK(dp_folder_lock(&second, under("k"), 0, &err) == DP_E_BUSY && second == -1, "%s",
          err.text);
    CHECK(dp_folder_lock(&second, under("k"), 20, &err) == DP_E_BUSY, "%s", err.text);
    dp_folder_unlock(lock);
    CHECK_OK(dp_folder_lock(&lock, under("k"), 0, &err), err);
    dp_folder_unlock(lock);
    dp_folder_unlock(-1);
    CHECK_OK(dp_folder_remove(under("k"), &err), err);
    CHECK(dp_folder_lock(&lock, under("k"), 0, &err) == DP_E_NOTFOUND, "%s", err.text);
}

static void abilities_are_tried_out(void **unused)
{
    dp_folder_ability ability;
    dp_folder_entry *entries;
    size_t count;
    dp_error err;

    CHECK_OK(dp_folder_try(&ability, folder, &err), err);
    printf("holes: %d, punching: %d\n", ability.has_holes, ability.can_punch);
    CHECK(dp_folder_try(&ability, under("x"), &err) != DP_OK, "%s", err.text);
    dp_fault_arm(DP_FAULT_PUNCH, 0, 1);
    dp_fault_set_kind(DP_FAULT_PUNCH, EOPNOTSUPP, 0);
    CHECK_OK(dp_folder_try(&ability, folder, &err), err);
    CHECK(!ability.can_punch, "as the system says");
    dp_fault_disarm(DP_FAULT_PUNCH);
    for (uint64_t n = 0; n < 3; n++) {
        dp_fault_arm(DP_FAULT_WRITE, n, 1);
        dp_fault_set_kind(DP_FAULT_WRITE, EROFS, 0);
        CHECK(dp_folder_try(&ability, folder, &err) == DP_E_IO, "write %d", (int)n);
        dp_fault_disarm(DP_FAULT_WRITE);
    }
    CHECK_OK(dp_folder_list(&entries, &count, folder, 9, &err), err);
    CHECK(count == 0, "nothing is left behind");
    dp_free(entries);
}

static int set_up(void **unused)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **unused)
{
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_made_and_removed),
        cmocka_unit_test(lists_are_whole_or_refused),
        cmocka_unit_test(locks_are_for_one),
        cmocka_unit_test(abilities_are_tried_out),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
