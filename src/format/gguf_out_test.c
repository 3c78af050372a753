#include "format/gguf_out.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "testing/check.h"

static char folder[] = "/tmp/dp-gguf-out-XXXXXX";
static char path[64], partial_path[80];

static const char *const words[] = { "<s>", "", "hello" };
static const uint64_t ne_first[] = { 5, 3 }, ne_second[] = { 32, 2, 2 };
static uint8_t first[60], second[72];

/* Keys of every type, and two tensors whose sizes are no multiple of the alignment. */
static void declare(dp_gguf_out *out)
{
    static const int8_t i8[] = { -1, 5 };
    static const int64_t i64 = INT64_MIN;
    static const double f64[] = { 0.25, -1e300 };
    static const int16_t i16 = -300;

    dp_gguf_out_str(out, "general.architecture", "test");
    dp_gguf_out_u32(out, "t.u32", 70000);
    dp_gguf_out_u64(out, "t.u64", 5000000000u);
    dp_gguf_out_f32(out, "t.f32", 1.5f);
    dp_gguf_out_bool(out, "t.bool", true);
    dp_gguf_out_text(out, "t.text", (dp_str){ "a\0b", 3 });
    dp_gguf_out_scalar(out, "t.i16", DP_GGUF_I16, &i16);
    dp_gguf_out_scalar(out, "t.i64", DP_GGUF_I64, &i64);
    dp_gguf_out_array(out, "t.i8s", DP_GGUF_I8, 2, i8);
    dp_gguf_out_array(out, "t.f64s", DP_GGUF_F64, 2, f64);
    dp_gguf_out_array(out, "t.none", DP_GGUF_U32, 0, NULL);
    dp_gguf_out_str_array(out, "tokenizer.ggml.tokens", 3, words);
    dp_gguf_out_tensor(out, "first", DP_F32, 2, ne_first);
    dp_gguf_out_tensor(out, "second", DP_Q4_0, 3, ne_second);
}

/* The bytes of both tensors, in pieces. */
static dp_status write_data(dp_gguf_out *out, dp_error *err)
{
    dp_status st = dp_gguf_out_write(out, first, 10, err);

    if (!st)
        st = dp_gguf_out_write(out, first + 10, sizeof first - 10, err);
    if (!st)
        st = dp_gguf_out_write(out, second, sizeof second, err);
    return st ? st : dp_gguf_out_finish(out, err);
}

static dp_status write_file(dp_error *err)
{
    dp_gguf_out *out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, 128);
    dp_status st;

    if (!out)
        return DP_E_NOMEM;
    declare(out);
    st = dp_gguf_out_begin(out, path, err);
    if (!st)
        st = write_data(out, err);
    dp_gguf_out_close(out);
    return st;
}

static void check_tensor(const char *name, dp_dtype type, const void *bytes, size_t size)
{
    const dp_tensor *t;
    uint8_t back[128];
    dp_gguf *gguf;
    dp_file file;
    dp_error err;

    CHECK_OK(dp_gguf_open(&gguf, path, &err), err);
    t = dp_gguf_find_tensor(gguf, name);
    CHECK(t && t->dtype == type && t->size == size && t->offset % 128 == 0, "%s", name);
    CHECK_OK(dp_file_open(&file, path, false, &err), err);
    CHECK_OK(dp_file_read(&file, path, t->offset, back, size, &err), err);
    CHECK(memcmp(back, bytes, size) == 0, "%s", name);
    dp_file_close(&file);
    dp_gguf_close(gguf);
}

static void test_write(void **state)
{
    dp_gguf_out *out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, 128);
    const dp_gguf_value *value;
    uint64_t size, lacking;
    dp_gguf *gguf;
    dp_error err;
    size_t i;

    CHECK(out, "out of memory");
    declare(out);
    size = dp_gguf_out_file_size(out);
    CHECK(dp_gguf_out_tensor_count(out) == 2, "count");
    CHECK(dp_gguf_out_tensor_size(out, 1) == sizeof second, "size");
    CHECK_OK(dp_gguf_out_begin(out, path, &err), err);
    CHECK_OK(dp_gguf_out_write(out, first, 0, &err), err);
    CHECK(dp_gguf_out_current(out, &i, &lacking) && i == 0 && lacking == 60, "first");
    CHECK(dp_gguf_out_finish(out, &err) == DP_E_INVALID, "too early");
    CHECK(strstr(err.text, "tensor 1 of 2 lacks 60 bytes"), "%s", err.text);
    CHECK(access(path, F_OK) != 0, "the file is there before it is whole");
    CHECK_OK(write_data(out, &err), err);
    CHECK(!dp_gguf_out_current(out, &i, &lacking), "all have theirs");
    dp_gguf_out_close(out);

    check_tensor("first", DP_F32, first, sizeof first);
    check_tensor("second", DP_Q4_0, second, sizeof second);
    CHECK_OK(dp_gguf_open(&gguf, path, &err), err);
    CHECK(dp_gguf_part_size(gguf, 0) == size, "%llu bytes", (unsigned long long)size);
    CHECK(dp_gguf_key_count(gguf) == 13, "%zu keys", dp_gguf_key_count(gguf));
    value = dp_gguf_find(gguf, "tokenizer.ggml.tokens");
    CHECK(value && value->count == 3 && dp_str_is(value->strings[2], "hello"), "tokens");
    value = dp_gguf_find(gguf, "t.i64");
    CHECK(value && value->type == DP_GGUF_I64 && value->bytes[7] == 0x80, "i64");
    dp_gguf_close(gguf);
    unlink(path);
}

/* Copying every key of a file gives its header again. */
static void test_copy(void **state)
{
    dp_gguf_out *out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, 32);
    dp_gguf *gguf;
    dp_buf want, got;
    dp_error err;

    dp_buf_init(&want, 1 << 20);
    dp_buf_init(&got, 1 << 20);
    CHECK(out, "out of memory");
    declare(out);
    CHECK_OK(dp_gguf_out_header(out, &want, &err), err);
    CHECK_OK(dp_gguf_parse(&gguf, "m", (const uint8_t *)want.bytes, want.size, 1 << 20, NULL, &err),
             err);
    dp_gguf_out_close(out);

    out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, 32);
    CHECK(out, "out of memory");
    for (size_t i = 0; i < dp_gguf_key_count(gguf); i++)
        dp_gguf_out_copy(out, dp_gguf_key(gguf, i));
    dp_gguf_out_tensor(out, "first", DP_F32, 2, ne_first);
    dp_gguf_out_tensor(out, "second", DP_Q4_0, 3, ne_second);
    CHECK_OK(dp_gguf_out_header(out, &got, &err), err);
    CHECK(got.size == want.size && memcmp(got.bytes, want.bytes, got.size) == 0, "%zu and %zu",
          got.size, want.size);
    dp_gguf_out_close(out);
    dp_gguf_close(gguf);
    dp_buf_deinit(&want);
    dp_buf_deinit(&got);
}

static void twice_key(dp_gguf_out *out)
{
    dp_gguf_out_u32(out, "k", 1);
    dp_gguf_out_u32(out, "k", 2);
}

static void twice_tensor(dp_gguf_out *out)
{
    dp_gguf_out_tensor(out, "t", DP_F32, 1, ne_first);
    dp_gguf_out_tensor(out, "t", DP_F32, 1, ne_first);
}

static void odd_name(dp_gguf_out *out)
{
    dp_gguf_out_tensor(out, "a\nb", DP_F32, 1, ne_first);
}

static void empty_name(dp_gguf_out *out)
{
    dp_gguf_out_u32(out, "", 1);
}

static void part_of_block(dp_gguf_out *out)
{
    dp_gguf_out_tensor(out, "t", DP_Q4_0, 1, ne_first);
    dp_gguf_out_u32(out, "later", 1);
}

static void too_large(dp_gguf_out *out)
{
    static const uint64_t ne[] = { 1, (uint64_t)1 << 61 };

    dp_gguf_out_tensor(out, "t", DP_F32, 2, ne);
}

static void long_array(dp_gguf_out *out)
{
    dp_gguf_out_array(out, "k", DP_GGUF_U64, UINT64_MAX / 4, NULL);
}

static void missing_strings(dp_gguf_out *out)
{
    dp_gguf_out_text_array(out, "k", 3);
    dp_gguf_out_text_element(out, dp_str_from("one"));
}

static void test_refused(void **state)
{
    static const struct {
        void (*declare)(dp_gguf_out *out);
        dp_status want;
        const char *words;
    } rows[] = {
        { twice_key, DP_E_CORRUPT, "key 'k' appears twice" },
        { twice_tensor, DP_E_CORRUPT, "tensor 't' appears twice" },
        { odd_name, DP_E_CORRUPT, "has a control byte 0x0a" },
        { empty_name, DP_E_CORRUPT, "is empty" },
        { part_of_block, DP_E_INVALID, "'t' cannot be added: invalid argument" },
        { too_large, DP_E_INVALID, "'t' cannot be added: invalid argument" },
        { long_array, DP_E_LIMIT, "'k' cannot be added: limit passed" },
        { missing_strings, DP_E_CORRUPT, "key 'k' has 3 strings" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_gguf_out *out = dp_gguf_out_open(DP_GGUF_OUT_VERSION, 32);
        dp_error err;
        dp_status st;

        CHECK(out, "out of memory");
        rows[i].declare(out);
        st = dp_gguf_out_begin(out, path, &err);
        CHECK(st == rows[i].want && strstr(err.text, rows[i].words), "row %zu: %s", i,
              st ? err.text : "accepted");
        CHECK(access(path, F_OK) != 0 && access(partial_path, F_OK) != 0, "row %zu", i);
        dp_gguf_out_close(out);
    }
}

static void test_faults(void **state)
{
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_WRITE };
    static const dp_status wants[] = { DP_E_NOMEM, DP_E_IO };
    dp_mem_stats stats;
    dp_error err;

    for (size_t f = 0; f < DP_ARRAY_LEN(faults); f++) {
        uint64_t n = 0, failed;

        do {
            dp_status st;

            dp_fault_arm(faults[f], n, 1);
            st = write_file(&err);
            failed = dp_fault_disarm(faults[f]);
            CHECK(st == (failed ? wants[f] : DP_OK), "visit %d: %s", (int)n, err.text);
            CHECK((access(path, F_OK) == 0) == (st == DP_OK), "visit %d", (int)n);
            CHECK(access(partial_path, F_OK) != 0, "visit %d leaves a partial file", (int)n);
            dp_mem_stats_read(&stats);
            CHECK(stats.heap_blocks == 0, "leak at %d", (int)n);
            unlink(path);
            n++;
        } while (failed);
        CHECK(n > 6, "%d visits", (int)n);
    }
}

static int set_up(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/m.gguf", folder);
    snprintf(partial_path, sizeof partial_path, "%s.partial", path);
    for (size_t i = 0; i < sizeof first; i++)
        first[i] = (uint8_t)(i + 1);
    for (size_t i = 0; i < sizeof second; i++)
        second[i] = (uint8_t)(200 - i);
    return 0;
}

static int tear_down(void **state)
{
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
