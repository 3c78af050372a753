/* Parsing: what is accepted, what is refused and in which words. */
#include "format/gguf.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define ALIGNMENT 64

static const char *const tokens[] = { "<s>", "", "hello" };
static const char *const merges[] = { "h e", "l l" };

/* A header with a key of every shape. Its two tensors take 64 + 64 bytes. */
static void build(dp_buf *buf, uint32_t version)
{
    static const int8_t i8[] = { -1, 5 };
    static const uint64_t u64[] = { 1, UINT64_MAX };
    static const float f32[] = { 0.5f, -2 };
    static const double f64[] = { 0.25 };
    static const int16_t i16[] = { -300 };
    static const int64_t i64[] = { INT64_MIN };
    static const uint64_t ne_first[] = { 4, 2 }, ne_second[] = { 32, 3 };
    dp_gguf_writer *w = dp_gguf_writer_open(version, ALIGNMENT);
    dp_error err;

    CHECK(w, "out of memory");
    dp_gguf_writer_str(w, "general.architecture", "test");
    dp_gguf_writer_u32(w, "t.u32", 70000);
    dp_gguf_writer_u64(w, "t.u64", 5000000000u);
    dp_gguf_writer_f32(w, "t.f32", 1.5f);
    dp_gguf_writer_bool(w, "t.bool", true);
    dp_gguf_writer_array(w, "t.i8s", DP_GGUF_I8, 2, i8);
    dp_gguf_writer_array(w, "t.i16s", DP_GGUF_I16, 1, i16);
    dp_gguf_writer_array(w, "t.i64s", DP_GGUF_I64, 1, i64);
    dp_gguf_writer_array(w, "t.u64s", DP_GGUF_U64, 2, u64);
    dp_gguf_writer_array(w, "t.f32s", DP_GGUF_F32, 2, f32);
    dp_gguf_writer_array(w, "t.f64s", DP_GGUF_F64, 1, f64);
    dp_gguf_writer_array(w, "t.none", DP_GGUF_U32, 0, NULL);
    dp_gguf_writer_str_array(w, "t.strs", 2, merges);
    dp_gguf_writer_str_array(w, "tokenizer.ggml.tokens", 3, tokens);
    dp_gguf_writer_str_array(w, "tokenizer.ggml.merges", 2, merges);
    dp_gguf_writer_array(w, "tokenizer.ggml.scores", DP_GGUF_F32, 2, f32);
    dp_gguf_writer_tensor(w, "first", DP_F32, 2, ne_first, DP_FILL_ZERO, 0);
    dp_gguf_writer_tensor(w, "secnd", DP_Q4_0, 2, ne_second, DP_FILL_ZERO, 0);
    CHECK_OK(dp_gguf_writer_header(w, buf, &err), err);
    dp_gguf_writer_close(w);
}

/* Parses a copy that ends where it ends, so that reading on is caught by
 * checkers of memory. */
static dp_status parse(dp_gguf **out, const char *bytes, size_t size, uint64_t file_size,
                       size_t *need, dp_error *err)
{
    uint8_t *copy = malloc(size ? size : 1);
    dp_status st;

    CHECK(copy, "out of memory");
    memcpy(copy, bytes, size);
    st = dp_gguf_parse(out, "m.gguf", copy, size, file_size, need, err);
    free(copy);
    return st;
}

static void test_well_formed(void **state)
{
    for (uint32_t version = 2; version <= 3; version++) {
        const dp_gguf_value *value;
        const dp_tensor *t;
        dp_gguf *g;
        dp_buf buf;
        dp_error err;

        dp_buf_init(&buf, 1 << 20);
        build(&buf, version);
        CHECK_OK(parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err), err);
        CHECK(dp_gguf_version(g) == version, "version %u", dp_gguf_version(g));
        CHECK(dp_gguf_part_count(g) == 1 && dp_gguf_part_size(g, 0) == buf.size + 128, "parts");
        CHECK(strcmp(dp_gguf_part_path(g, 0), "m.gguf") == 0, "%s", dp_gguf_part_path(g, 0));
        CHECK(dp_gguf_key_count(g) == 17 && dp_gguf_tensor_count(g) == 2, "counts");

        value = dp_gguf_find(g, "tokenizer.ggml.tokens");
        CHECK(value && value->is_array && value->type == DP_GGUF_STRING, "tokens");
        for (size_t i = 0; i < DP_ARRAY_LEN(tokens); i++)
            CHECK(dp_str_is(value->strings[i], tokens[i]), "token %zu", i);
        CHECK(!dp_gguf_find(g, "t.u33") && dp_gguf_find(g, "t.none")->count == 0, "find");
        CHECK(dp_str_is(dp_gguf_key(g, 2)->key, "t.u32"), "order of keys");

        t = dp_gguf_find_tensor(g, "secnd");
        CHECK(t == dp_gguf_tensor(g, 1) && t->dtype == DP_Q4_0 && t->size == 54, "second");
        CHECK(t->name.bytes[t->name.size] == '\0', "names end in NUL");
        CHECK(t->offset == buf.size + 64 && t->ne[1] == 3 && t->ne[2] == 1, "its place");
        CHECK(!dp_gguf_find_tensor(g, "third"), "no third");
        dp_gguf_close(g);
        dp_buf_deinit(&buf);
    }
}

static void test_numbers(void **state)
{
    static const struct {
        const char *key;
        uint64_t i;
        dp_status u64_status, i64_status, f64_status;
        int64_t value; /* where the status is DP_OK */
        double real;
    } rows[] = {
        { "t.u32", 0, DP_OK, DP_OK, DP_OK, 70000, 70000 },
        { "t.u32", 1, DP_E_CORRUPT, DP_E_CORRUPT, DP_E_CORRUPT, 0, 0 },
        { "t.u64", 0, DP_OK, DP_OK, DP_OK, 5000000000, 5e9 },
        { "t.f32", 0, DP_E_CORRUPT, DP_E_CORRUPT, DP_OK, 0, 1.5 },
        { "t.bool", 0, DP_E_CORRUPT, DP_E_CORRUPT, DP_E_CORRUPT, 0, 0 },
        { "t.i8s", 0, DP_E_CORRUPT, DP_OK, DP_OK, -1, -1 },
        { "t.i8s", 1, DP_OK, DP_OK, DP_OK, 5, 5 },
        { "t.i16s", 0, DP_E_CORRUPT, DP_OK, DP_OK, -300, -300 },
        { "t.i64s", 0, DP_E_CORRUPT, DP_OK, DP_OK, INT64_MIN, -0x1p63 },
        { "t.u64s", 1, DP_OK, DP_E_CORRUPT, DP_OK, -1, 0x1p64 },
        { "t.f32s", 1, DP_E_CORRUPT, DP_E_CORRUPT, DP_OK, 0, -2 },
        { "t.f64s", 0, DP_E_CORRUPT, DP_E_CORRUPT, DP_OK, 0, 0.25 },
        { "t.none", 0, DP_E_CORRUPT, DP_E_CORRUPT, DP_E_CORRUPT, 0, 0 },
        { "t.strs", 0, DP_E_CORRUPT, DP_E_CORRUPT, DP_E_CORRUPT, 0, 0 },
        { "t.miss", 0, DP_E_NOTFOUND, DP_E_NOTFOUND, DP_E_NOTFOUND, 0, 0 },
    };
    dp_gguf *g;
    dp_buf buf;
    dp_error err;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    CHECK_OK(parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const char *key = rows[i].key;
        uint64_t u;
        int64_t s;
        double f;
        dp_status st;

        st = dp_gguf_get_u64(g, key, rows[i].i, &u, &err);
        CHECK(st == rows[i].u64_status && (st ? u == 0 : u == (uint64_t)rows[i].value), "%s", key);
        CHECK(!st || strstr(err.text, key), "%s", err.text);
        st = dp_gguf_get_i64(g, key, rows[i].i, &s, &err);
        CHECK(st == rows[i].i64_status && (st ? s == 0 : s == rows[i].value), "%s", key);
        CHECK(!st || strstr(err.text, key), "%s", err.text);
        st = dp_gguf_get_f64(g, key, rows[i].i, &f, &err);
        CHECK(st == rows[i].f64_status && f == rows[i].real, "%s", key);
        CHECK(!st || strstr(err.text, key), "%s", err.text);
    }
    dp_gguf_close(g);
    dp_buf_deinit(&buf);
}

static void test_text_and_bool(void **state)
{
    char *at;
    bool flag;
    dp_str text;
    dp_gguf *g;
    dp_buf buf;
    dp_error err;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    CHECK_OK(parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err), err);
    CHECK_OK(dp_gguf_get_str(g, "general.architecture", &text, &err), err);
    CHECK(dp_str_is(text, "test"), "text");
    CHECK(dp_gguf_get_str(g, "t.u32", &text, &err) == DP_E_CORRUPT, "number");
    CHECK(strstr(err.text, "'t.u32' has type u32, expected string"), "%s", err.text);
    CHECK(dp_gguf_get_str(g, "t.strs", &text, &err) == DP_E_CORRUPT, "array");
    CHECK(dp_gguf_get_str(g, "t.x", &text, &err) == DP_E_NOTFOUND, "missing");
    CHECK_OK(dp_gguf_get_bool(g, "t.bool", &flag, &err), err);
    CHECK(flag, "true");
    CHECK(dp_gguf_get_bool(g, "t.u32", &flag, &err) == DP_E_CORRUPT && !flag, "number");
    CHECK(dp_gguf_get_bool(g, "t.x", &flag, &err) == DP_E_NOTFOUND, "missing");
    dp_gguf_close(g);

    at = memmem(buf.bytes, buf.size, "t.bool", 6);
    at[6 + 4] = 7;
    CHECK_OK(parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err), err);
    CHECK(dp_gguf_get_bool(g, "t.bool", &flag, &err) == DP_E_CORRUPT, "7 is no bool");
    dp_gguf_close(g);
    dp_buf_deinit(&buf);
}

/* Each row changes `width` bytes of a good header, `delta` from the end of the
 * first place where `anchor` stands ("": the start of the file). A key is
 * followed by its type (4 bytes) and value; an array's value by the element
 * type (4) and count (8); a tensor's name by the number of dimensions (4), each
 * of two dimensions (8), type (4) and offset (8). */
static const struct hostile {
    const char *anchor;
    int delta, width;
    uint64_t value;
    dp_status want;
    const char *words; /* the sentence must have them */
} hostiles[] = {
    { "", 0, 1, 'X', DP_E_CORRUPT, "not a GGUF file (starts with 58" },
    { "", 4, 4, 0, DP_E_UNSUPPORTED, "version 0" },
    { "", 4, 4, 1, DP_E_UNSUPPORTED, "version 1" },
    { "", 4, 4, 4, DP_E_UNSUPPORTED, "version 4" },
    { "", 4, 4, 0x03000000, DP_E_UNSUPPORTED, "big-endian" },
    { "", 8, 8, UINT64_MAX, DP_E_LIMIT, "tensors and" },
    { "", 8, 8, DP_GGUF_TENSORS_MAX, DP_E_CORRUPT, "1048576 tensors" },
    { "", 16, 8, UINT64_MAX, DP_E_LIMIT, "18446744073709551615 keys" },
    { "", 16, 8, DP_GGUF_KEYS_MAX, DP_E_CORRUPT, "65536 keys do not fit" },
    { "t.u32", -13, 8, 0, DP_E_CORRUPT, "is empty" },
    { "t.u32", -13, 8, 257, DP_E_LIMIT, "has 257 bytes" },
    { "t.u32", -13, 8, UINT64_MAX, DP_E_LIMIT, "a key at byte" },
    { "secnd", -13, 8, 256, DP_E_CORRUPT, "the file ends at byte" },
    { "t.u32", -1, 1, '\n', DP_E_CORRUPT, "control byte 0x0a" },
    { "t.u32", -1, 1, 0, DP_E_CORRUPT, "control byte 0x00" },
    { "t.u32", 0, 4, 13, DP_E_UNSUPPORTED, "the type of key 't.u32' is 13" },
    { "t.i8s", 4, 4, 13, DP_E_UNSUPPORTED, "the element type of key 't.i8s' is 13" },
    { "t.i8s", 4, 4, DP_GGUF_ARRAY, DP_E_UNSUPPORTED, "'t.i8s' is an array of arrays" },
    { "t.i8s", 8, 8, UINT64_MAX, DP_E_CORRUPT, "the value of key 't.i8s'" },
    { "t.f32s", 8, 8, ((uint64_t)1 << 62) + 1, DP_E_CORRUPT, "key 't.f32s' has" },
    { "t.f32s", 8, 8, (uint64_t)1 << 40, DP_E_CORRUPT, "key 't.f32s' at byte" },
    { "t.strs", 8, 8, UINT64_MAX, DP_E_CORRUPT, "key 't.strs' has" },
    { "t.strs", 16, 8, UINT64_MAX, DP_E_CORRUPT, "the string of key 't.strs'" },
    { "t.strs", 16, 8, 1 << 20, DP_E_CORRUPT, "the string of key 't.strs'" },
    { "general.architecture", 4, 8, UINT64_MAX - 7, DP_E_CORRUPT, "'general.architecture'" },
    { "general.alignment", 4, 4, 0, DP_E_CORRUPT, "general.alignment is 0" },
    { "general.alignment", 4, 4, 3, DP_E_CORRUPT, "general.alignment is 3" },
    { "general.alignment", 4, 4, 4, DP_E_CORRUPT, "general.alignment is 4" },
    { "general.alignment", 4, 4, 1u << 17, DP_E_CORRUPT, "general.alignment is 131072" },
    { "general.alignment", 0, 4, DP_GGUF_F32, DP_E_CORRUPT, "is not a number" },
    { "first", 0, 4, 0, DP_E_CORRUPT, "tensor 'first' has 0 dimensions" },
    { "first", 0, 4, 5, DP_E_CORRUPT, "tensor 'first' has 5 dimensions" },
    { "first", 4, 8, 0, DP_E_CORRUPT, "tensor 'first' is empty: dimension 0" },
    { "first", 12, 8, 0, DP_E_CORRUPT, "tensor 'first' is empty: dimension 1" },
    { "first", 4, 8, (uint64_t)1 << 62, DP_E_CORRUPT, "'first' multiply past 2^64" },
    { "first", 12, 8, (uint64_t)1 << 60, DP_E_CORRUPT, "'first' multiply past 2^64" },
    { "first", 12, 8, (uint64_t)1 << 59, DP_E_CORRUPT, "'first' (9223372036854775808 bytes" },
    { "secnd", 4, 8, 33, DP_E_CORRUPT, "'secnd' has rows of 33 values" },
    { "first", 20, 4, 4, DP_E_UNSUPPORTED, "'first' has unknown type id 4" },
    { "first", 20, 4, UINT32_MAX, DP_E_UNSUPPORTED, "unknown type id 4294967295" },
    { "first", 24, 8, 32, DP_E_CORRUPT, "'first' has offset 32, not a multiple of 64" },
    { "secnd", 24, 8, 128, DP_E_CORRUPT, "'secnd' (54 bytes" },
    { "secnd", 24, 8, (uint64_t)0 - 64, DP_E_CORRUPT, "reaches past the end" },
    { "secnd", 24, 8, (uint64_t)0 - 1024, DP_E_CORRUPT, "reaches past the end" },
    { "secnd", 24, 8, 0, DP_E_CORRUPT, "'first' and 'secnd' overlap" },
    { "first", 12, 8, 5, DP_E_CORRUPT, "'first' and 'secnd' overlap" },
    { "t.u64", -2, 2, '3' | '2' << 8, DP_E_CORRUPT, "key 't.u32' appears twice" },
    { "secnd", -5, 5, 0x7473726966, DP_E_CORRUPT, "tensor 'first' appears twice" },
};

static void test_hostile(void **state)
{
    dp_buf buf;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    CHECK(dp_buf_append(&buf, (char[128]){ 0 }, 128) == DP_OK, "out of memory"); /* the data */
    for (size_t i = 0; i < DP_ARRAY_LEN(hostiles); i++) {
        const struct hostile *h = &hostiles[i];
        char *at = memmem(buf.bytes, buf.size, h->anchor, strlen(h->anchor));
        char saved[8];
        dp_mem_stats before, after;
        dp_gguf *g;
        dp_error err;
        dp_status st;

        CHECK(at, "row %zu: no '%s'", i, h->anchor);
        at += (int)strlen(h->anchor) + h->delta;
        memcpy(saved, at, sizeof saved);
        for (int j = 0; j < h->width; j++)
            at[j] = (char)(h->value >> 8 * j);
        dp_mem_stats_read(&before);
        st = parse(&g, buf.bytes, buf.size, buf.size, NULL, &err);
        dp_mem_stats_read(&after);
        memcpy(at, saved, sizeof saved);
        CHECK(st == h->want && !g, "row %zu (%s): status %d, %s", i, h->words, st, err.text);
        CHECK(strstr(err.text, h->words), "row %zu: '%s' lacks '%s'", i, err.text, h->words);
        CHECK(strncmp(err.text, "m.gguf: ", 8) == 0, "row %zu: %s", i, err.text);
        CHECK(after.heap_blocks == before.heap_blocks, "row %zu leaks", i);
    }
    dp_buf_deinit(&buf);
}

/* A file cut at any byte is corrupt; the same bytes of a whole file are a
 * request for more, and following it ends with the description. */
static void test_truncated(void **state)
{
    dp_mem_stats before, after;
    dp_gguf *g;
    dp_buf buf;
    dp_error err;
    size_t need = 0, steps = 0;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    dp_mem_stats_read(&before);
    for (size_t size = 0; size < buf.size; size++) {
        dp_status st = parse(&g, buf.bytes, size, size, NULL, &err);

        CHECK(st == DP_E_CORRUPT && !g, "cut at %zu: %d", size, st);
        st = parse(&g, buf.bytes, size, buf.size + 128, &need, &err);
        if (st == DP_OK) {
            CHECK(buf.size - size < ALIGNMENT, "only padding may be missing at %zu", size);
            dp_gguf_close(g);
            continue;
        }
        CHECK(st == DP_E_BUSY && !g, "more at %zu: %d %s", size, st, err.text);
        CHECK(need > size && need <= buf.size, "at %zu needs %zu", size, need);
    }
    need = 0;
    while (parse(&g, buf.bytes, need, buf.size + 128, &need, &err) == DP_E_BUSY)
        steps++;
    CHECK(g && steps > 50, "%zu steps", steps);
    dp_gguf_close(g);
    dp_mem_stats_read(&after);
    CHECK(after.heap_blocks == before.heap_blocks, "leaks");
    dp_buf_deinit(&buf);
}

/* Lengths beyond the greatest header are refused even in a file that is longer. */
static void test_header_max(void **state)
{
    dp_gguf *g;
    dp_buf buf;
    dp_error err;
    char *at;
    uint64_t count = DP_GGUF_HEADER_MAX;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    at = memmem(buf.bytes, buf.size, "t.i8s", 5);
    memcpy(at + 5 + 8, &count, 8);
    CHECK(parse(&g, buf.bytes, buf.size, (uint64_t)1 << 50, NULL, &err) == DP_E_LIMIT, "limit");
    CHECK(strstr(err.text, "'t.i8s'"), "%s", err.text);
    dp_buf_deinit(&buf);
}

static void test_drop_vocab(void **state)
{
    dp_mem_stats before, after;
    dp_gguf *g;
    dp_buf buf;
    dp_error err;
    dp_str text;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    CHECK_OK(parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err), err);
    dp_mem_stats_read(&before);
    dp_gguf_drop_vocab(g);
    dp_mem_stats_read(&after);
    CHECK(after.heap_bytes < before.heap_bytes, "memory came back");
    CHECK(!dp_gguf_find(g, "tokenizer.ggml.tokens"), "dropped");
    CHECK(!dp_gguf_find(g, "tokenizer.ggml.scores"), "dropped");
    for (size_t i = 0; i < dp_gguf_key_count(g); i++) {
        const dp_gguf_value *value = dp_gguf_key(g, i);

        CHECK(value->key.size > 0 && (value->bytes || value->count == 0), "key %zu", i);
    }
    CHECK_OK(dp_gguf_get_str(g, "general.architecture", &text, &err), err);
    CHECK(dp_str_is(text, "test"), "the rest stays");
    dp_gguf_drop_vocab(g);
    dp_gguf_close(g);
    dp_gguf_close(NULL);
    dp_buf_deinit(&buf);
}

static void test_no_memory(void **state)
{
    dp_mem_stats before, after;
    uint64_t failed = 1;
    dp_gguf *g;
    dp_buf buf;
    dp_error err;

    dp_buf_init(&buf, 1 << 20);
    build(&buf, 3);
    dp_mem_stats_read(&before);
    for (uint64_t n = 0; failed; n++) {
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = parse(&g, buf.bytes, buf.size, buf.size + 128, NULL, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "allocation %llu: %d", (unsigned long long)n,
              st);
        dp_gguf_close(g);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "allocation %llu leaks",
              (unsigned long long)n);
    }
    dp_buf_deinit(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed),   cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_text_and_bool), cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_truncated),     cmocka_unit_test(test_header_max),
        cmocka_unit_test(test_drop_vocab),    cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
