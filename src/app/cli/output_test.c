#include "app/cli/output.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "app/cli/exit.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "testing/check.h"

static char path[] = "/tmp/doppler-output-XXXXXX";

/* Pieces of every size around the buffer's come out in order and whole. */
static void test_writing(void **state)
{
    static const size_t sizes[] = { 0,
                                    1,
                                    DP_OUTPUT_BUFFER_BYTES - 1,
                                    DP_OUTPUT_BUFFER_BYTES,
                                    DP_OUTPUT_BUFFER_BYTES + 1,
                                    3,
                                    2 * DP_OUTPUT_BUFFER_BYTES };
    size_t total = 0, size;
    dp_output *output;
    dp_error err;
    char *back;

    CHECK_OK(dp_output_open(&output, path, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(sizes); i++) {
        char *piece = dp_alloc(sizes[i] + 1, 1);

        for (size_t k = 0; k < sizes[i]; k++)
            piece[k] = (char)((total + k) % 251);
        CHECK(dp_output_write(output, piece, sizes[i]), "piece %zu", i);
        total += sizes[i];
        dp_free(piece);
    }
    CHECK_OK(dp_output_close(output, &err), err);
    CHECK_OK(dp_file_read_all(&back, &size, path, 2 * total, &err), err);
    CHECK(size == total, "%zu of %zu bytes", size, total);
    for (size_t i = 0; i < total; i++)
        CHECK(back[i] == (char)(i % 251), "byte %zu", i);
    dp_free(back);
}

static void test_line_starts(void **state)
{
    dp_output *output;
    dp_error err;

    CHECK_OK(dp_output_open(&output, path, &err), err);
    CHECK(output->is_line_start && !output->is_terminal, "at the beginning");
    dp_output_text(output, "a");
    CHECK(!output->is_line_start, "after a letter");
    dp_output_text(output, "");
    CHECK(!output->is_line_start, "after nothing more");
    dp_output_text(output, "b\n");
    CHECK(output->is_line_start, "after a newline");
    CHECK_OK(dp_output_close(output, &err), err);
}

static void test_full_disk(void **state)
{
    dp_output *output;
    dp_error err;

    CHECK_OK(dp_output_open(&output, "/dev/full", &err), err);
    CHECK(dp_output_text(output, "a"), "the buffer takes it");
    CHECK(!dp_output_flush(output), "the device does not");
    CHECK(!dp_output_text(output, "b"), "the failure stays");
    CHECK(!dp_output_is_reader_gone(output), "nobody went away");
    CHECK(dp_output_close(output, &err) == DP_E_IO, "close");
    CHECK(strstr(err.text, "/dev/full: cannot write: No space left"), "%s", err.text);
}

static void test_discarded_file_is_gone(void **state)
{
    dp_output *output;
    dp_error err;

    CHECK_OK(dp_output_open(&output, path, &err), err);
    dp_output_text(output, "a");
    dp_output_discard(output);
    CHECK_OK(dp_output_close(output, &err), err);
    CHECK(access(path, F_OK) != 0, "%s is still there", path);
}

static void test_reader_gone(void **state)
{
    dp_output *output;
    dp_error err;
    int ends[2];

    CHECK(pipe(ends) == 0, "pipe");
    signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    CHECK_OK(dp_output_open(&output, "/dev/null", &err), err);
    close(output->fd);
    output->fd = ends[1];
    dp_output_text(output, "a");
    CHECK(dp_output_end(output, DP_E_CANCELED, &err) == DP_EXIT_READER_GONE, "exit code");
}

static void test_no_memory(void **state)
{
    dp_output *output;
    dp_mem_stats stats;
    dp_error err;

    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_output_open(&output, path, &err) == DP_E_NOMEM && !output, "memory");
    dp_fault_disarm(DP_FAULT_MEM);
    CHECK(dp_output_open(&output, "/no/such/folder/x", &err) == DP_E_NOTFOUND && !output, "%s",
          err.text);
    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
}

/* Every status has a code, and failure never looks like success. */
static void test_exit_codes(void **state)
{
    for (int st = 0; st < DP_STATUS_COUNT; st++) {
        int code = dp_exit_code((dp_status)st);
        bool is_listed = false;

        for (size_t i = 0; i < DP_EXIT_COUNT; i++)
            is_listed = is_listed || dp_exit_table[i].code == code;
        CHECK(is_listed && (code == 0) == (st == DP_OK), "status %d: code %d", st, code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writing),     cmocka_unit_test(test_line_starts),
        cmocka_unit_test(test_full_disk),   cmocka_unit_test(test_discarded_file_is_gone),
        cmocka_unit_test(test_reader_gone), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_exit_codes),
    };
    int failed, fd = mkstemp(path);

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
