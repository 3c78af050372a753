#include "testing/gguf_writer.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "testing/check.h"

static char path[] = "/tmp/dp-writer-XXXXXX";

static int make_file(void **state)
{
    return close(mkstemp(path));
}

static int remove_file(void **state)
{
    return unlink(path);
}

static const uint64_t ne[] = { 64, 3 };
static const uint8_t given[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

static dp_status write_model(uint64_t seed, bool has_more, dp_error *err)
{
    const uint64_t three[] = { 3 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 128);
    dp_status st;

    if (!w)
        return dp_fail(err, DP_E_NOMEM, "writer");
    dp_gguf_writer_str(w, "general.architecture", "test");
    if (has_more)
        dp_gguf_writer_tensor(w, "more", DP_Q4_0, 2, ne, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "random", DP_Q8_0, 2, ne, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "zero", DP_IQ4_NL, 2, ne, DP_FILL_ZERO, 0);
    dp_gguf_writer_tensor_bytes(w, "given", DP_F32, 1, three, given);
    st = dp_gguf_writer_save(w, path, seed, err);
    dp_gguf_writer_close(w);
    return st;
}

/* Reads a tensor of what was written into out[size]. */
static void read_tensor(const char *name, void *out, size_t size)
{
    const dp_tensor *t;
    dp_gguf *g;
    dp_file file;
    dp_error err;

    CHECK_OK(dp_gguf_open(&g, path, &err), err);
    t = dp_gguf_find_tensor(g, name);
    CHECK(t && t->size == size && t->offset % 128 == 0, "tensor '%s'", name);
    CHECK_OK(dp_file_open(&file, path, false, &err), err);
    CHECK_OK(dp_file_read(&file, path, t->offset, out, size, &err), err);
    dp_file_close(&file);
    dp_gguf_close(g);
}

/* A tensor's bytes follow from the seed and itself, not from its neighbours. */
static void test_weights(void **state)
{
    uint8_t first[204], second[204], zero[108], sum = 0, back[sizeof given];
    dp_error err;

    CHECK_OK(write_model(5, false, &err), err);
    read_tensor("random", first, sizeof first);
    CHECK_OK(write_model(5, true, &err), err);
    read_tensor("random", second, sizeof second);
    CHECK(memcmp(first, second, sizeof first) == 0, "same seed, same weights");
    CHECK_OK(write_model(6, true, &err), err);
    read_tensor("random", second, sizeof second);
    CHECK(memcmp(first, second, sizeof first) != 0, "another seed");
    read_tensor("zero", zero, sizeof zero);
    for (size_t i = 0; i < sizeof zero; i++)
        sum |= zero[i];
    CHECK(sum == 0, "zeros");
    read_tensor("given", back, sizeof back);
    CHECK(memcmp(given, back, sizeof back) == 0, "given bytes");
}

static void test_invalid(void **state)
{
    static const struct {
        dp_dtype type;
        dp_fill fill;
        uint64_t ne[2];
    } rows[] = {
        { DP_Q4_0, DP_FILL_NORMAL, { 33, 1 } },
        { DP_F32, DP_FILL_NORMAL, { 32, 0 } },
        { DP_F32, DP_FILL_NORMAL, { (uint64_t)1 << 40, (uint64_t)1 << 40 } },
        { DP_NVFP4, DP_FILL_NORMAL, { 64, 1 } },
        { DP_Q4_0, DP_FILL_ONES, { 32, 1 } },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
        dp_error err = { 0 };

        CHECK(w, "out of memory");
        dp_gguf_writer_tensor(w, "wrong", rows[i].type, 2, rows[i].ne, rows[i].fill, 1);
        dp_gguf_writer_u32(w, "later", 1);
        CHECK(dp_gguf_writer_save(w, path, 1, &err) == DP_E_INVALID, "row %zu", i);
        CHECK(strstr(err.text, "'wrong'"), "%s", err.text);
        dp_gguf_writer_close(w);
    }
}

/* Part `no` of two of a model of four tensors; slices of 8 MB that are mostly holes. */
static dp_status write_part(const char *to, uint16_t no, dp_error *err)
{
    static const uint64_t stack[] = { 4096, 2048, 3 }, vector[] = { 4096 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_status st;

    if (!w)
        return dp_fail(err, DP_E_NOMEM, "writer");
    dp_gguf_writer_sparse(w, 100);
    dp_gguf_writer_split(w, no, 2, 4);
    if (no == 0)
        dp_gguf_writer_str(w, "general.architecture", "test");
    dp_gguf_writer_tensor(w, "norm", DP_F32, 1, vector, DP_FILL_ONES, 0.1f);
    dp_gguf_writer_tensor(w, "a", DP_Q8_0, 3, stack, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "b", DP_Q8_0, 3, stack, DP_FILL_NORMAL, 1);
    dp_gguf_writer_tensor(w, "zero", DP_F32, 2, stack, DP_FILL_ZERO, 0);
    st = dp_gguf_writer_save(w, to, 1, err);
    dp_gguf_writer_close(w);
    return st;
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* Both parts together are the model; of three slices the outer have 3 blocks of 34 bytes
 * filled. */
static void test_parts_and_holes(void **state)
{
    enum { SLICE = 4096 / 32 * 34 * 2048, FILLED = 3 * 34 };
    char folder[] = "/tmp/dp-writer-XXXXXX", paths[2][64];
    uint8_t *bytes = dp_alloc(3, SLICE);
    dp_gguf *g;
    dp_error err;

    CHECK(bytes && mkdtemp(folder), "no folder");
    for (uint16_t no = 0; no < 2; no++) {
        snprintf(paths[no], sizeof paths[no], "%s/m-0000%d-of-00002.gguf", folder, no + 1);
        CHECK_OK(write_part(paths[no], no, &err), err);
    }
    CHECK_OK(dp_gguf_open(&g, paths[0], &err), err);
    for (int i = 0; i < 2; i++) {
        const dp_tensor *t = dp_gguf_find_tensor(g, i ? "b" : "a");
        dp_file file;

        CHECK(t && t->size == 3 * SLICE && t->file_index == (uint32_t)i, "tensor %d", i);
        CHECK_OK(dp_file_open(&file, paths[i], false, &err), err);
        CHECK_OK(dp_file_read(&file, paths[i], t->offset, bytes, t->size, &err), err);
        dp_file_close(&file);
        for (size_t s = 0; s < 3; s++)
            CHECK(is_zero(bytes + s * SLICE, 34) == (s == 1) &&
                      is_zero(bytes + s * SLICE + 68, 34) == (s == 1) &&
                      is_zero(bytes + s * SLICE + FILLED, SLICE - FILLED),
                  "slice %zu of tensor %d", s, i);
    }
    CHECK(dp_gguf_find_tensor(g, "norm")->file_index == 0 &&
              dp_gguf_find_tensor(g, "zero")->file_index == 1,
          "shares");
    dp_gguf_close(g);
    for (int i = 0; i < 2; i++)
        unlink(paths[i]);
    rmdir(folder);
    dp_free(bytes);
}

static void test_faults(void **state)
{
    dp_mem_stats before, after;
    uint64_t failed = 1;
    dp_gguf_writer *w;
    dp_error err;

    dp_mem_stats_read(&before);
    for (uint64_t n = 0; failed; n++) {
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = write_model(1, true, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "allocation %d: %s", (int)n, err.text);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "allocation %d leaks", (int)n);
    }

    w = dp_gguf_writer_open(3, 32);
    CHECK(w, "out of memory");
    CHECK(dp_gguf_writer_save(w, "/nowhere/at/all", 1, &err) == DP_E_NOTFOUND, "%s", err.text);
    CHECK(dp_gguf_writer_save(w, "/dev/full", 1, &err) == DP_E_INVALID, "%s", err.text);
    dp_gguf_writer_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_parts_and_holes),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
