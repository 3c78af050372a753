/* Two sources as one: who is asked, by which index, and what is counted. */
#include "tier/source_join.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "tier/source_fake.h"
#include "tier/source_file.h"
#include "tier/source_wait.h"

#define FILE_BYTES 5000

static char path[] = "/tmp/doppler-join-XXXXXX";
static uint8_t content[FILE_BYTES];

static int make_file(void **unused)
{
    int fd = mkstemp(path);

    for (size_t i = 0; i < FILE_BYTES; i++)
        content[i] = (uint8_t)(i * i >> 3);
    if (fd < 0 || write(fd, content, FILE_BYTES) != FILE_BYTES)
        return -1;
    return close(fd);
}

static int remove_file(void **unused)
{
    return unlink(path);
}

static void on_done(dp_source_read *read, const dp_error *error)
{
    *(int *)read->user = error ? (int)error->status : -1;
}

static dp_source *open_files(uint32_t first)
{
    dp_source_file_config config = { .file_first = first, .depth = 2, .request_max = 4096 };
    dp_source *files;
    dp_error err;

    CHECK_OK(dp_source_file_open(&files, &config, &err), err);
    return files;
}

static void reads_go_where_their_file_is(void **unused)
{
    static const dp_source_part parts[] = { { "a", 1000 }, { "b", 2000 } };
    uint8_t room[64] __attribute__((aligned(64)));
    uint8_t out[100];
    dp_source *files = open_files(2), *joined;
    dp_source_read read = { .file_index = 1, .offset = 3, .size = 10, .room = room };
    int ended = 0;
    uint32_t index, count;
    dp_source_fake fake;
    dp_error err;

    dp_source_fake_init(&fake, 1);
    fake.files = parts;
    fake.file_count = 2;
    CHECK_OK(dp_source_join_open(&joined, &fake.base, files, 2, &err), err);
    CHECK(joined->ops->parts(joined, &count) == parts && count == 2, "%u parts", count);
    CHECK(!strcmp(joined->name, "fake"), "%s", joined->name);

    read.done = on_done;
    read.user = &ended;
    joined->ops->submit(joined, &read);
    joined->ops->promote(joined, &read);
    CHECK(fake.waiting_count == 1 && fake.promote_count == 1, "the first's");
    dp_source_fake_end(&fake, 0, DP_OK);
    CHECK(ended == -1 && room[9] == dp_source_fake_byte(1, 12), "%d", ended);
    joined->ops->submit(joined, &read);
    CHECK(joined->ops->cancel(joined, &read) && fake.waiting_count == 0, "taken back");

    for (int again = 0; again < 2; again++) {
        CHECK_OK(dp_source_file_add(files, path, &index, &err), err);
        CHECK(index == 2, "index %u", index);
        CHECK_OK(dp_source_wait_read(joined, index, 77, out, sizeof out, NULL, &err), err);
        CHECK(!memcmp(out, content + 77, sizeof out) && fake.submit_count == 2, "the second's");
        dp_source_file_remove(files, index);
    }
    joined->ops->close(joined);
    files->ops->close(files);
    dp_source_fake_deinit(&fake);
}

/* What both got; unknown as soon as the first does not tell. */
static void counts_are_sums(void **unused)
{
    const char *paths[] = { path };
    dp_source_file_config config = {
        .paths = paths, .file_count = 1, .depth = 2, .request_max = 4096
    };
    dp_source *first, *files = open_files(1), *joined;
    dp_source_counts counts;
    uint8_t out[100];
    uint32_t index;
    dp_source_fake fake;
    dp_error err;

    CHECK_OK(dp_source_file_open(&first, &config, &err), err);
    CHECK_OK(dp_source_join_open(&joined, first, files, 1, &err), err);
    CHECK_OK(dp_source_file_add(files, path, &index, &err), err);
    CHECK_OK(dp_source_wait_read(joined, 0, 0, out, 100, NULL, &err), err);
    CHECK_OK(dp_source_wait_read(joined, 1, 0, out, 30, NULL, &err), err);
    joined->ops->count(joined, &counts);
    CHECK(counts.disk_bytes == 130 && counts.swarm_bytes == 0, "%d", (int)counts.disk_bytes);
    joined->ops->close(joined);
    first->ops->close(first);

    dp_source_fake_init(&fake, 1);
    CHECK_OK(dp_source_join_open(&joined, &fake.base, files, 1, &err), err);
    CHECK(!joined->ops->count, "nobody knows");
    joined->ops->close(joined);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_source_join_open(&joined, &fake.base, files, 1, &err) == DP_E_NOMEM && !joined, "mem");
    dp_fault_disarm(DP_FAULT_MEM);
    dp_source_fake_deinit(&fake);
    files->ops->close(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_go_where_their_file_is),
        cmocka_unit_test(counts_are_sums),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
