/* Safetensors headers: what is accepted, what is refused and in which words. */
#include "format/safetensors.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define ONE(dtype, shape, offsets)                                                                 \
    "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define GOOD                                                                                       \
    "{\"__metadata__\":{\"format\":\"pt\",\"x\":[1,{\"y\":2}]},"                                   \
    "\"w\":{\"dtype\":\"BF16\",\"shape\":[3,4],\"data_offsets\":[8,32]},"                          \
    "\"scalar\":{\"data_offsets\":[0,8],\"shape\":[],\"dtype\":\"F64\",\"extra\":null},"           \
    "\"none\":{\"dtype\":\"F8_E4M3\",\"shape\":[0,7],\"data_offsets\":[32,32]}}   "

/* Parses a copy that ends where it ends, so that reading on is caught. */
static dp_status parse(dp_safetensors **out, const char *text, uint64_t data_size, dp_error *err)
{
    size_t size = strlen(text);
    char *copy = malloc(size ? size : 1);
    dp_status st;

    CHECK(copy, "out of memory");
    memcpy(copy, text, size);
    st = dp_safetensors_parse(out, "m.safetensors", copy, size, 8 + size + data_size, err);
    free(copy);
    return st;
}

static void test_well_formed(void **state)
{
    const dp_safetensor *t;
    dp_safetensors *s;
    dp_error err;

    CHECK_OK(parse(&s, GOOD, 32, &err), err);
    CHECK(dp_safetensors_count(s) == 3, "%zu tensors", dp_safetensors_count(s));
    t = dp_safetensors_find(s, "w");
    CHECK(t && t == dp_safetensors_at(s, 0) && t->type == DP_ST_BF16, "w");
    CHECK(strcmp(t->name.bytes, "w") == 0 && t->name.size == 1, "%s", t->name.bytes);
    CHECK(t->dim_count == 2 && t->dims[0] == 3 && t->dims[1] == 4, "shape");
    CHECK(t->offset == 8 + strlen(GOOD) + 8 && t->size == 24, "place");
    t = dp_safetensors_find(s, "scalar");
    CHECK(t && t->dim_count == 0 && t->size == 8 && t->type == DP_ST_F64, "scalar");
    t = dp_safetensors_find(s, "none");
    CHECK(t && t->size == 0 && t->dims[0] == 0 && t->type == DP_ST_F8_E4M3, "none");
    CHECK(!dp_safetensors_find(s, "__metadata__") && !dp_safetensors_find(s, ""), "not tensors");
    dp_safetensors_close(s);
    CHECK_OK(parse(&s, "{}", 0, &err), err);
    CHECK(dp_safetensors_count(s) == 0, "%zu tensors", dp_safetensors_count(s));
    dp_safetensors_close(s);
    dp_safetensors_close(NULL);
}

static void test_types(void **state)
{
    static const char *const all[] = { "BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0",
                                       "U16",  "I16", "F16", "BF16",    "U32",     "I32",
                                       "F32",  "U64", "I64", "F64" };
    static const uint32_t sizes[] = { 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 8 };

    for (size_t i = 0; i < DP_ST_TYPE_COUNT; i++) {
        char text[128];
        dp_safetensors *s;
        dp_error err;

        snprintf(text, sizeof text,
                 "{\"a\":{\"dtype\":\"%s\",\"shape\":[5],\"data_offsets\":[0,%u]}}", all[i],
                 5 * sizes[i]);
        CHECK_OK(parse(&s, text, 5 * sizes[i], &err), err);
        CHECK(dp_safetensors_at(s, 0)->type == (dp_st_type)i, "%s", all[i]);
        CHECK(strcmp(dp_st_type_name((dp_st_type)i), all[i]) == 0, "%s", all[i]);
        CHECK(dp_st_type_size((dp_st_type)i) == sizes[i], "%s", all[i]);
        dp_safetensors_close(s);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *text;
        uint64_t data_size;
        dp_status want;
        const char *sentence;
    } rows[] = {
        { "", 0, DP_E_CORRUPT, "expected a value, found the end" },
        { "[]", 0, DP_E_CORRUPT, "the header is not a JSON object" },
        { "{} x", 0, DP_E_CORRUPT, "expected the end of the text, found 'x'" },
        { "{\"a\":1}", 0, DP_E_CORRUPT, "tensor 'a' is not described by an object" },
        { "{\"\":{}}", 0, DP_E_LIMIT, "name has 0 bytes, expected 1 to 256" },
        { "{\"a\\u0007\":{}}", 0, DP_E_CORRUPT, "name has a control byte in it" },
        { "{\"a\":{}}", 0, DP_E_CORRUPT, "tensor 'a' lacks its dtype" },
        { "{\"a\":{\"dtype\":\"F32\"}}", 0, DP_E_CORRUPT, "tensor 'a' lacks its shape" },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, DP_E_CORRUPT,
          "lacks its two data_offsets" },
        { ONE("F32", "[1]", "[0]"), 4, DP_E_CORRUPT, "lacks its two data_offsets" },
        { ONE("F32", "[1]", "[0,4,8]"), 4, DP_E_LIMIT, "data_offsets has more than 2 numbers" },
        { ONE("F32", "[1]", "{}"), 4, DP_E_CORRUPT, "its data_offsets is not an array" },
        { ONE("F32", "1", "[0,4]"), 4, DP_E_CORRUPT, "its shape is not an array" },
        { ONE("F32", "[-1]", "[0,4]"), 4, DP_E_CORRUPT, "holds something else than whole numbers" },
        { ONE("F32", "[1.5]", "[0,6]"), 6, DP_E_CORRUPT,
          "holds something else than whole numbers" },
        { ONE("F32", "[[1]]", "[0,4]"), 4, DP_E_CORRUPT,
          "holds something else than whole numbers" },
        { ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, DP_E_LIMIT, "more than 8 numbers" },
        { ONE("F4", "[2]", "[0,1]"), 1, DP_E_UNSUPPORTED, "has dtype 'F4', which is unknown" },
        { ONE("\\u001b[2J", "[2]", "[0,1]"), 1, DP_E_UNSUPPORTED,
          "has dtype '', which is unknown" },
        { "{\"a\":{\"dtype\":7}}", 0, DP_E_CORRUPT, "its dtype is not a string" },
        { ONE("F32", "[2]", "[0,4]"), 8, DP_E_CORRUPT, "has 4 bytes, its shape and dtype take 8" },
        { ONE("F32", "[1]", "[4,0]"), 8, DP_E_CORRUPT, "lies at bytes 4 to 0 of 8" },
        { ONE("F32", "[2]", "[4,12]"), 8, DP_E_CORRUPT, "lies at bytes 4 to 12 of 8" },
        { ONE("F32", "[4611686018427387904,4]", "[0,0]"), 0, DP_E_CORRUPT, "64 bits count" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
          "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
          8, DP_E_CORRUPT, "tensors 'a' and 'b' overlap" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
          "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}}",
          8, DP_E_CORRUPT, "tensor 'a' comes twice" },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dp_safetensors *s;
        dp_error err = { 0 };
        dp_status st = parse(&s, rows[i].text, rows[i].data_size, &err);

        CHECK(st == rows[i].want && !s, "%s: %d %s", rows[i].text, st, err.text);
        CHECK(strstr(err.text, rows[i].sentence), "%s: %s", rows[i].text, err.text);
        CHECK(strncmp(err.text, "m.safetensors:", 14) == 0, "%s", err.text);
    }
}

static char path[] = "safetensors_test.XXXXXX";

static void write_file(uint64_t length, const char *header, size_t data_size)
{
    FILE *file = fopen(path, "wb");

    CHECK(file, "%s", path);
    for (int i = 0; i < 8; i++)
        fputc((int)(length >> 8 * i & 0xff), file);
    fputs(header, file);
    for (size_t i = 0; i < data_size; i++)
        fputc(0, file);
    CHECK(fclose(file) == 0, "%s", path);
}

static void test_open(void **state)
{
    static const struct {
        uint64_t length; /* 0: the header's own */
        size_t data_size;
        dp_status want;
        const char *sentence;
    } rows[] = {
        { 0, 32, DP_OK, "" },
        { 0, 31, DP_E_CORRUPT, "tensor 'w' lies at bytes 8 to 32 of 31" },
        { 0, 20, DP_E_CORRUPT, "tensor 'w' lies at bytes 8 to 32 of 20" },
        { 100000, 32, DP_E_CORRUPT, "says that its header has 100000 bytes, but has" },
        { UINT64_MAX, 32, DP_E_CORRUPT, "says that its header has 18446744073709551615 bytes" },
        { 10, 400, DP_E_CORRUPT, "the end" },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dp_safetensors *s;
        dp_error err = { 0 };
        dp_status st;

        write_file(rows[i].length ? rows[i].length : strlen(GOOD), GOOD, rows[i].data_size);
        st = dp_safetensors_open(&s, path, &err);
        CHECK(st == rows[i].want && (s != NULL) == (st == DP_OK), "row %zu: %s", i, err.text);
        CHECK(strstr(err.text, rows[i].sentence), "row %zu: %s", i, err.text);
        dp_safetensors_close(s);
    }
}

/* A length above the limit is refused before memory is taken, in a file that has it. */
static void test_header_limit(void **state)
{
    dp_safetensors *s;
    dp_error err = { 0 };

    write_file(DP_SAFETENSORS_HEADER_MAX + 1, "{}", 0);
    CHECK(truncate(path, (off_t)(DP_SAFETENSORS_HEADER_MAX + 100)) == 0, "%s", path);
    CHECK(dp_safetensors_open(&s, path, &err) == DP_E_LIMIT, "%s", err.text);
    CHECK(strstr(err.text, "a header of 104857601 bytes, at most 104857600"), "%s", err.text);
}

static void test_faults(void **state)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_READ };

    write_file(strlen(GOOD), GOOD, 32);
    for (size_t p = 0; p < 2; p++)
        for (uint64_t n = 0;; n++) {
            dp_mem_stats before, after;
            dp_safetensors *s;
            dp_error err = { 0 };
            dp_status st;

            dp_mem_stats_read(&before);
            dp_fault_arm(points[p], n, 1);
            st = dp_safetensors_open(&s, path, &err);
            if (!dp_fault_disarm(points[p])) {
                CHECK_OK(st, err);
                CHECK(n > (p ? 1 : 3), "only %llu visits", (unsigned long long)n);
                dp_safetensors_close(s);
                break;
            }
            CHECK(st == (p ? DP_E_IO : DP_E_NOMEM) && !s && err.text[0], "%d %s", st, err.text);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "visit %llu leaks",
                  (unsigned long long)n);
        }
}

static int open_folder(void **state)
{
    int fd = mkstemp(path);

    return fd < 0 ? -1 : close(fd);
}

static int close_folder(void **state)
{
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_well_formed),  cmocka_unit_test(test_types),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_open),
        cmocka_unit_test(test_header_limit), cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
