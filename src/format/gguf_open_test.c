/* Reading from disk: large headers, split models, and their parts gone wrong. */
#include "format/gguf.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
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

/* ---- not from paths ---- */

/* Parts in memory, listed in any order under any names. */
struct shelf {
    uint8_t *bytes[3];
    size_t sizes[3];
    const char *names[3];
    uint64_t reads, asked_bytes, fails_at; /* read number fails_at fails */
};

static const char *shelf_name(void *user, uint32_t part)
{
    return ((struct shelf *)user)->names[part];
}

static uint64_t shelf_size(void *user, uint32_t part)
{
    return ((struct shelf *)user)->sizes[part];
}

static dp_status shelf_read(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                            dp_error *err)
{
    struct shelf *shelf = user;

    if (shelf->reads++ == shelf->fails_at)
        return dp_fail(err, DP_E_TIMEOUT, "%s: nobody answers", shelf->names[part]);
    CHECK(offset + size <= shelf->sizes[part], "asked for bytes past the end");
    memcpy(out, shelf->bytes[part] + offset, size);
    shelf->asked_bytes += size;
    return DP_OK;
}

/* Part no of `good` at each place; "p<place>" for a name. */
static void fill_shelf(struct shelf *shelf, const uint32_t order[3])
{
    static const char *const plain[] = { "p0", "p1", "p2" };

    *shelf = (struct shelf){ .fails_at = UINT64_MAX };
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_SIZE], *bytes;
        dp_error err;

        write_part("part", &good[order[i]]);
        CHECK_OK(dp_file_read_all(&bytes, &shelf->sizes[i], path_of(path, "part"), 1 << 20, &err),
                 err);
        shelf->bytes[i] = (uint8_t *)bytes;
        shelf->names[i] = plain[i];
    }
    remove_file("part");
}

static void empty_shelf(struct shelf *shelf)
{
    for (size_t i = 0; i < 3; i++)
        dp_free(shelf->bytes[i]);
}

static dp_gguf_input input_of(struct shelf *shelf, uint32_t count)
{
    return (dp_gguf_input){ shelf, count, shelf_name, shelf_size, shelf_read };
}

static void test_input_any_order(void **state)
{
    static const uint32_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 }, { 2, 0, 1 } };

    for (size_t i = 0; i < DP_ARRAY_LEN(orders); i++) {
        struct shelf shelf;
        dp_gguf_input input = input_of(&shelf, 3);
        uint64_t first;
        dp_gguf *g;
        dp_error err;

        fill_shelf(&shelf, orders[i]);
        CHECK_OK(dp_gguf_open_input(&g, &input, &err), err);
        CHECK(shelf.reads == 3, "%d reads of three small headers", (int)shelf.reads);
        CHECK(dp_gguf_part_count(g) == 3 && dp_gguf_tensor_count(g) == 5, "counts");
        CHECK_OK(dp_gguf_get_u64(g, "t.part", 0, &first, &err), err);
        CHECK(first == 0, "metadata is the first part's");
        for (uint32_t place = 0; place < 3; place++) {
            CHECK(dp_gguf_part_number(g, place) == orders[i][place], "order %zu", i);
            CHECK(dp_gguf_part_size(g, place) == shelf.sizes[place], "order %zu", i);
            CHECK(!strcmp(dp_gguf_part_path(g, place), shelf.names[place]), "order %zu", i);
        }
        for (size_t t = 0; t < 5; t++) { /* parts' tensors in the order of their numbers */
            const dp_tensor *tensor = dp_gguf_tensor(g, t);
            uint32_t number = t < 2 ? 1 : 2;
            CHECK(tensor->name.bytes[1] == (char)('0' + number), "order %zu, tensor %zu", i, t);
            CHECK(orders[i][tensor->file_index] == number, "order %zu, tensor %zu", i, t);
        }
        dp_gguf_close(g);
        empty_shelf(&shelf);
    }
}

static void test_input_wrong(void **state)
{
    static const struct {
        uint32_t count, order[3];
        const char *names[3];
        dp_status want;
        const char *words;
    } rows[] = {
        { 3, { 0, 1, 1 }, { "a", "b", "c" }, DP_E_CORRUPT, "c: says it is part 2 of 3" },
        { 2, { 0, 1, 2 }, { "a", "b", "c" }, DP_E_CORRUPT, "expected part 1 of 2" },
        { 1, { 1, 0, 2 }, { "a", "b", "c" }, DP_E_NOTFOUND, "a: one part of 3" },
        { 0, { 0, 1, 2 }, { "a", "b", "c" }, DP_E_LIMIT, "0 parts" },
        { 2000, { 0, 1, 2 }, { "a", "b", "c" }, DP_E_LIMIT, "2000 parts" },
        { 3, { 0, 2, 1 }, { "x", "x-00002-of-00003.gguf", "x" }, DP_E_CORRUPT, "expected part 2" },
        { 3, { 0, 2, 1 }, { "x", "x-00003-of-00003.gguf", "x" }, DP_OK, "" },
        { 3, { 0, 2, 1 }, { "x", "x-00002-of-00004.gguf", "x" }, DP_OK, "" }, /* says nothing */
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_mem_stats before, after;
        struct shelf shelf;
        dp_gguf_input input = input_of(&shelf, rows[i].count);
        dp_gguf *g;
        dp_error err = { .text = "" };
        dp_status st;

        fill_shelf(&shelf, rows[i].order);
        memcpy(shelf.names, rows[i].names, sizeof shelf.names);
        dp_mem_stats_read(&before);
        st = dp_gguf_open_input(&g, &input, &err);
        CHECK(st == rows[i].want && (st == DP_OK) == (g != NULL), "row %zu: %d %s", i, st,
              err.text);
        CHECK(st == DP_OK || strstr(err.text, rows[i].words), "row %zu: %s", i, err.text);
        dp_gguf_close(g);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "row %zu leaks", i);
        empty_shelf(&shelf);
    }
}

/* The n-th read or allocation fails. */
static void test_input_faults(void **state)
{
    struct shelf shelf;
    dp_gguf_input input = input_of(&shelf, 3);
    dp_status st = DP_E_TIMEOUT;

    fill_shelf(&shelf, (const uint32_t[]){ 1, 0, 2 });
    for (uint64_t is_mem = 0; is_mem < 2; is_mem++) {
        uint64_t failed = 1;

        for (uint64_t n = 0; failed; n++) {
            dp_mem_stats before, after;
            dp_gguf *g;
            dp_error err;

            shelf.reads = 0;
            shelf.fails_at = is_mem ? UINT64_MAX : n;
            dp_mem_stats_read(&before);
            if (is_mem)
                dp_fault_arm(DP_FAULT_MEM, n, 1);
            st = dp_gguf_open_input(&g, &input, &err);
            failed = is_mem ? dp_fault_disarm(DP_FAULT_MEM) : shelf.reads == n + 1;
            CHECK(st == (!failed  ? DP_OK
                         : is_mem ? DP_E_NOMEM
                                  : DP_E_TIMEOUT),
                  "visit %d: %d %s", (int)n, st, err.text);
            dp_gguf_close(g);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "visit %d leaks", (int)n);
        }
    }
    empty_shelf(&shelf);
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
        cmocka_unit_test(test_split),           cmocka_unit_test(test_split_wrong),
        cmocka_unit_test(test_split_missing),   cmocka_unit_test(test_split_renamed),
        cmocka_unit_test(test_sizes),           cmocka_unit_test(test_faults),
        cmocka_unit_test(test_input_any_order), cmocka_unit_test(test_input_wrong),
        cmocka_unit_test(test_input_faults),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
