/* Reading from disk: large headers, split models, and their parts gone wrong. */
#include "format/gguf.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define PATH_SIZE 256

static char folder[] = "/tmp/dp-gguf-XXXXXX";

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    return rmdir(folder);
}

static const char *path_of(char out[PATH_SIZE], const char *name)
{
    snprintf(out, PATH_SIZE, "%s/%s", folder, name);
    return out;
}

/* What one part says of itself; tensor "t<part>.<i>" has 32 * (part + 1) values. */
struct part {
    uint32_t no, count, tensor_count; /* split.* keys */
    uint32_t own_tensors;
    uint32_t named; /* the number in its tensors' names */
};

static void write_part(const char *name, const struct part *part)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    char path[PATH_SIZE];
    dp_error err;

    CHECK(w, "out of memory");
    dp_gguf_writer_u32(w, "t.part", part->no);
    dp_gguf_writer_u32(w, "split.no", part->no);
    dp_gguf_writer_u32(w, "split.count", part->count);
    dp_gguf_writer_u32(w, "split.tensors.count", part->tensor_count);
    for (uint32_t i = 0; i < part->own_tensors; i++) {
        uint64_t ne = 32 * (part->named + 1);
        char tensor[32];

        snprintf(tensor, sizeof tensor, "t%u.%u", part->named, i);
        dp_gguf_writer_tensor(w, tensor, DP_Q8_0, 1, &ne, DP_FILL_NORMAL, 1);
    }
    CHECK_OK(dp_gguf_writer_save(w, path_of(path, name), 1, &err), err);
    dp_gguf_writer_close(w);
}

static const char *const names[] = { "m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                     "m-00003-of-00003.gguf" };
static const struct part good[] = { { 0, 3, 5, 0, 0 }, { 1, 3, 5, 2, 1 }, { 2, 3, 5, 3, 2 } };

static void write_parts(void)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++)
        write_part(names[i], &good[i]);
}

static void remove_file(const char *name)
{
    char path[PATH_SIZE];

    unlink(path_of(path, name));
}

static void remove_parts(void)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++)
        remove_file(names[i]);
}

static void test_split(void **state)
{
    char path[PATH_SIZE];
    dp_error err;

    write_parts();
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++) { /* any part opens the whole */
        const dp_tensor *t;
        uint64_t first;
        dp_gguf *g;

        CHECK_OK(dp_gguf_open(&g, path_of(path, names[i]), &err), err);
        CHECK(dp_gguf_part_count(g) == 3 && dp_gguf_tensor_count(g) == 5, "counts");
        for (uint32_t part = 0; part < 3; part++)
            CHECK(strcmp(dp_gguf_part_path(g, part), path_of(path, names[part])) == 0, "%s", path);
        CHECK_OK(dp_gguf_get_u64(g, "t.part", 0, &first, &err), err);
        CHECK(first == 0, "metadata is the first part's");
        t = dp_gguf_find_tensor(g, "t2.1");
        CHECK(t && t->file_index == 2 && t->size == 34 * 3, "a tensor of part 3");
        CHECK(t->offset + t->size <= dp_gguf_part_size(g, 2), "its place");
        CHECK(dp_gguf_find_tensor(g, "t1.0")->file_index == 1, "a tensor of part 2");
        dp_gguf_close(g);
    }
    remove_parts();
}

/* A part that is not what the others expect: which, what it says, and what the
 * sentence about it must have. */
static void test_split_wrong(void **state)
{
    static const struct {
        int which;
        struct part part;
        dp_status want;
        const char *words;
    } rows[] = {
        { 0, { 0, 3, 6, 0, 0 }, DP_E_CORRUPT, "split.tensors.count is 6" },
        { 0, { 0, 2000, 5, 0, 0 }, DP_E_LIMIT, "at most 1024 parts" },
        { 0, { 3, 3, 5, 0, 0 }, DP_E_CORRUPT, "part 4 of 3" },
        { 0, { 0, 4, 5, 0, 0 }, DP_E_INVALID, "must end in -00001-of-00004.gguf" },
        { 0, { 1, 3, 5, 0, 0 }, DP_E_INVALID, "must end in -00002-of-00003.gguf" },
        { 1, { 2, 3, 5, 2, 1 }, DP_E_CORRUPT, "expected part 2 of 3" },
        { 1, { 1, 2, 5, 2, 1 }, DP_E_CORRUPT, "part 2 of 2" },
        { 2, { 2, 3, 5, 3, 1 }, DP_E_CORRUPT, "'t1.0' is already in" },
        { 2, { 2, 3, 5, 2, 2 }, DP_E_CORRUPT, "have 4 tensors" },
    };
    char path[PATH_SIZE];

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_mem_stats before, after;
        dp_gguf *g;
        dp_error err;
        dp_status st;

        write_parts();
        write_part(names[rows[i].which], &rows[i].part);
        dp_mem_stats_read(&before);
        st = dp_gguf_open(&g, path_of(path, names[0]), &err);
        dp_mem_stats_read(&after);
        CHECK(st == rows[i].want && !g, "row %zu: %d %s", i, st, err.text);
        CHECK(strstr(err.text, rows[i].words), "row %zu: %s", i, err.text);
        CHECK(strstr(err.text, names[rows[i].which]) || rows[i].which != 1, "row %zu: %s", i,
              err.text);
        CHECK(after.heap_blocks == before.heap_blocks, "row %zu leaks", i);
    }
    remove_parts();
}

static void test_split_missing(void **state)
{
    char path[PATH_SIZE];

    for (size_t missing = 0; missing < DP_ARRAY_LEN(names); missing++) {
        dp_gguf *g;
        dp_error err;

        write_parts();
        remove_file(names[missing]);
        CHECK(dp_gguf_open(&g, path_of(path, names[missing == 2 ? 0 : 2]), &err) == DP_E_NOTFOUND,
              "part %zu is gone: %s", missing, err.text);
        CHECK(strstr(err.text, names[missing]) && !g, "%s", err.text);
    }
    remove_parts();
}

/* A split model under another name, or under one too short for a number. */
static void test_split_renamed(void **state)
{
    static const char *const others[] = { "m.gguf", "model-00001-of-00002.gguf", "x" };
    char path[PATH_SIZE];

    for (size_t i = 0; i < DP_ARRAY_LEN(others); i++) {
        dp_gguf *g;
        dp_error err;

        write_part(others[i], &good[0]);
        CHECK(dp_gguf_open(&g, path_of(path, others[i]), &err) == DP_E_INVALID, "%s", err.text);
        CHECK(strstr(err.text, "part 1 of 3") && strstr(err.text, others[i]), "%s", err.text);
        remove_file(others[i]);
    }
}

/* A header of several MiB takes several reads; an empty file none. */
static void test_sizes(void **state)
{
    enum { COUNT = 200000 };
    const char **words = calloc(COUNT, sizeof *words);
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    const uint64_t ne[] = { 64 };
    char path[PATH_SIZE];
    dp_gguf *g;
    dp_error err;
    FILE *file;

    CHECK(words && w, "out of memory");
    for (size_t i = 0; i < COUNT; i++)
        words[i] = i % 2 ? "a word of a vocabulary" : "another";
    dp_gguf_writer_str_array(w, "tokenizer.ggml.tokens", COUNT, words);
    dp_gguf_writer_tensor(w, "t", DP_F32, 1, ne, DP_FILL_ONES, 0);
    CHECK_OK(dp_gguf_writer_save(w, path_of(path, "large"), 1, &err), err);
    dp_gguf_writer_close(w);
    free(words);
    CHECK_OK(dp_gguf_open(&g, path, &err), err);
    CHECK(dp_str_is(dp_gguf_find(g, "tokenizer.ggml.tokens")->strings[COUNT - 2], "another"),
          "the last strings");
    CHECK(dp_gguf_tensor(g, 0)->offset + 256 == dp_gguf_part_size(g, 0), "the tensor");
    dp_gguf_close(g);

    file = fopen(path, "wb");
    CHECK(file, "%s", path);
    fclose(file);
    CHECK(dp_gguf_open(&g, path, &err) == DP_E_CORRUPT, "empty: %s", err.text);
    CHECK(strstr(err.text, "ends at byte 0"), "%s", err.text);
    remove_file("large");
    CHECK(dp_gguf_open(&g, path, &err) == DP_E_NOTFOUND && strstr(err.text, path), "%s", err.text);
    CHECK(dp_gguf_open(&g, folder, &err) == DP_E_INVALID && !g, "a folder: %s", err.text);
}

static void test_faults(void **state)
{
    static const struct {
        dp_fault point;
        dp_status want;
    } rows[] = { { DP_FAULT_MEM, DP_E_NOMEM }, { DP_FAULT_READ, DP_E_IO } };
    char path[PATH_SIZE];

    write_parts();
    path_of(path, names[1]);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint64_t failed = 1;

        for (uint64_t n = 0; failed; n++) {
            dp_mem_stats before, after;
            dp_gguf *g;
            dp_error err;
            dp_status st;

            dp_mem_stats_read(&before);
            dp_fault_arm(rows[i].point, n, 1);
            st = dp_gguf_open(&g, path, &err);
            failed = dp_fault_disarm(rows[i].point);
            CHECK(st == (failed ? rows[i].want : DP_OK), "visit %d: %d %s", (int)n, st, err.text);
            dp_gguf_close(g);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "visit %d leaks", (int)n);
        }
    }
    remove_parts();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),         cmocka_unit_test(test_split_wrong),
        cmocka_unit_test(test_split_missing), cmocka_unit_test(test_split_renamed),
        cmocka_unit_test(test_sizes),         cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
