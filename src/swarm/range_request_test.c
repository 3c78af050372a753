#include "swarm/range_request.h"

#include <stdlib.h>
#include "testing/check.h"

#define SIZE ((uint64_t)1000)

static const struct {
    const char *target;
    dp_status want;
    const char *key, *path;
} targets[] = {
    { "/abc/model.gguf", DP_OK, "abc", "model.gguf" },
    { "/abc/folder/model.gguf", DP_OK, "abc", "folder/model.gguf" },
    { "/abc/a%20b%2Fc%C3%A9+", DP_OK, "abc", "a b/c\303\251+" },
    { "/%61bc/x", DP_OK, "abc", "x" },
    { "/abc/x?y=%zz#t", DP_OK, "abc", "x" },
    { "/abc/../../etc/passwd", DP_OK, "abc", "../../etc/passwd" }, /* a name that nothing has */
    { "/abc//x", DP_OK, "abc", "/x" },
    { "/abc/", DP_E_NOTFOUND, "abc", "" },
    { "/abc", DP_E_NOTFOUND, "abc", "" },
    { "//x", DP_E_NOTFOUND, "", "x" },
    { "/", DP_E_NOTFOUND, "", "" },
    { "/?abc/x", DP_E_NOTFOUND, "", "" },
    { "", DP_E_INVALID, "", "" },
    { "*", DP_E_INVALID, "", "" },
    { "abc/x", DP_E_INVALID, "", "" },
    { "/abc/%", DP_E_INVALID, NULL, NULL },
    { "/abc/%4", DP_E_INVALID, NULL, NULL },
    { "/abc/%4g", DP_E_INVALID, NULL, NULL },
    { "/abc/%00", DP_E_INVALID, NULL, NULL },
    { "/%/x", DP_E_INVALID, NULL, NULL },
};

static void targets_are_split_and_decoded(void **unused)
{
    dp_range_path path;

    for (size_t i = 0; i < DP_ARRAY_LEN(targets); i++) {
        dp_status st = dp_range_path_parse(&path, targets[i].target);

        CHECK(st == targets[i].want, "%s: status %d", targets[i].target, (int)st);
        if (targets[i].key)
            CHECK(strcmp(path.key, targets[i].key) == 0 && strcmp(path.path, targets[i].path) == 0,
                  "%s: \"%s\", \"%s\"", targets[i].target, path.key, path.path);
    }
}

static void long_names_are_not_found(void **unused)
{
    static char target[3 * DP_RANGE_PATH_MAX + 64];
    dp_range_path path;

    memset(target, 'a', sizeof target - 1);
    target[0] = '/';
    CHECK(dp_range_path_parse(&path, target) == DP_E_NOTFOUND, "key");
    CHECK(strlen(path.key) == DP_STORE_KEY_MAX, "%zu", strlen(path.key));

    target[2] = '/';
    CHECK(dp_range_path_parse(&path, target) == DP_E_NOTFOUND, "path");
    target[3 + DP_RANGE_PATH_MAX] = '\0';
    CHECK(dp_range_path_parse(&path, target) == DP_OK, "the longest");
    CHECK(strlen(path.path) == DP_RANGE_PATH_MAX, "%zu", strlen(path.path));
}

static const struct {
    const char *header;
    dp_range_kind kind;
    uint64_t first, size;
} ranges[] = {
    { NULL, DP_RANGE_WHOLE, 0, 1000 },
    { "bytes=0-99", DP_RANGE_PART, 0, 100 },
    { "bytes=999-999", DP_RANGE_PART, 999, 1 },
    { "bytes=990-2000", DP_RANGE_PART, 990, 10 },
    { "bytes=0-99999999999999999999999", DP_RANGE_PART, 0, 1000 },
    { "bytes=100-", DP_RANGE_PART, 100, 900 },
    { "bytes=-100", DP_RANGE_PART, 900, 100 },
    { "bytes=-1000", DP_RANGE_PART, 0, 1000 },
    { "bytes=-5000", DP_RANGE_PART, 0, 1000 },
    { "  Bytes = 1-2 \t", DP_RANGE_PART, 1, 2 },
    { "bytes=1000-", DP_RANGE_BAD, 0, 1000 },
    { "bytes=1000-1001", DP_RANGE_BAD, 0, 1000 },
    { "bytes=99999999999999999999-", DP_RANGE_BAD, 0, 1000 },
    { "bytes=-0", DP_RANGE_BAD, 0, 1000 },
    { "bytes=2-1", DP_RANGE_BAD, 0, 1000 },
    { "bytes=0-0,5-9", DP_RANGE_BAD, 0, 1000 },
    { "bytes=", DP_RANGE_BAD, 0, 1000 },
    { "bytes=-", DP_RANGE_BAD, 0, 1000 },
    { "bytes=--5", DP_RANGE_BAD, 0, 1000 },
    { "bytes=+1-2", DP_RANGE_BAD, 0, 1000 },
    { "bytes=1 -2", DP_RANGE_BAD, 0, 1000 },
    { "bytes=1-2x", DP_RANGE_BAD, 0, 1000 },
    { "bytes", DP_RANGE_WHOLE, 0, 1000 },
    { "bytesx=0-1", DP_RANGE_WHOLE, 0, 1000 },
    { "pages=0-1", DP_RANGE_WHOLE, 0, 1000 },
    { "", DP_RANGE_WHOLE, 0, 1000 },
};

static void ranges_are_read(void **unused)
{
    uint64_t first, size;

    for (size_t i = 0; i < DP_ARRAY_LEN(ranges); i++) {
        dp_range_kind kind = dp_range_parse(ranges[i].header, SIZE, &first, &size);

        CHECK(kind == ranges[i].kind && first == ranges[i].first && size == ranges[i].size,
              "%s: kind %d, %llu bytes at %llu", ranges[i].header, (int)kind,
              (unsigned long long)size, (unsigned long long)first);
    }
}

static void an_empty_file_has_no_ranges(void **unused)
{
    static const char *const all[] = { "bytes=0-", "bytes=-1", "bytes=0-0" };
    uint64_t first, size;

    for (size_t i = 0; i < DP_ARRAY_LEN(all); i++)
        CHECK(dp_range_parse(all[i], 0, &first, &size) == DP_RANGE_BAD, "%s", all[i]);
    CHECK(dp_range_parse(NULL, 0, &first, &size) == DP_RANGE_WHOLE && size == 0, "whole");
}

static const dp_layout_file several[] = { { "a.gguf", { 70000, 65536 }, 0, NULL },
                                          { "sub/b.gguf", { 5, 65536 }, 2, NULL },
                                          { "sub/a.gguf", { 6, 65536 }, 3, NULL } };
static const dp_layout layout = { several, 3, 65536, 4 };

static const struct {
    const char *path;
    bool is_there;
    dp_range_name want;
} names[] = {
    { "a.gguf", true, { false, 0, 70000 } },
    { "name/a.gguf", true, { false, 0, 70000 } }, /* the torrent's name in front */
    { "sub/b.gguf", true, { false, 1, 5 } },
    { "name/sub/b.gguf", true, { false, 1, 5 } },
    { "sub/a.gguf", true, { false, 2, 6 } }, /* as it is, before anything is passed over */
    { "b.gguf", false, { 0 } },
    { "x/name/a.gguf", false, { 0 } },
    { "name", false, { 0 } },
    { "name/", false, { 0 } },
    { "../a.gguf/", false, { 0 } },
    { "name/../name/a.gguf", false, { 0 } },
    { ".pad/61072", true, { true, 0, 61072 } },
    { "name/.pad/61072", true, { true, 0, 61072 } },
    { "name/.pad/0", true, { true, 0, 0 } },
    { "name/.pad/65536", false, { 0 } },
    { "name/.pad/99999999999999999999", false, { 0 } },
    { "name/.pad/", false, { 0 } },
    { "name/.pad/-1", false, { 0 } },
    { "x/name/.pad/5", false, { 0 } },
};

static void names_are_looked_up(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++) {
        dp_range_name name = { 0 };
        bool is_there = dp_range_find(&name, &layout, names[i].path);

        CHECK(is_there == names[i].is_there, "%s: %d", names[i].path, is_there);
        if (is_there)
            CHECK(name.is_padding == names[i].want.is_padding && name.file == names[i].want.file &&
                      name.size == names[i].want.size,
                  "%s: file %u, %llu bytes", names[i].path, name.file,
                  (unsigned long long)name.size);
    }
}

static void a_range_stands_for_its_tag_alone(void **unused)
{
    CHECK(dp_range_if_stands(NULL, "\"a\"") && dp_range_if_stands(NULL, NULL), "none");
    CHECK(dp_range_if_stands("\"a\"", "\"a\"") && dp_range_if_stands(" \"a\" ", "\"a\""), "same");
    CHECK(!dp_range_if_stands("\"b\"", "\"a\"") && !dp_range_if_stands("\"a\"", NULL), "other");
    CHECK(!dp_range_if_stands("W/\"a\"", "\"a\"") && !dp_range_if_stands("\"a\"x", "\"a\""),
          "weak");
    CHECK(!dp_range_if_stands("Tue, 01 Jul 2025 00:00:00 GMT", "\"a\""), "a date");
}

static void only_the_token_is_let_in(void **unused)
{
    static const struct {
        const char *header;
        bool want;
    } rows[] = {
        { "Bearer secret", true },
        { "bearer  secret", true },
        { "Bearer secre", false },
        { "Bearer secrett", false },
        { "Bearer Secret", false },
        { "Bearer", false },
        { "Bearer ", false },
        { "secret", false },
        { "Basic secret", false },
        { "Bearer secret ", false },
        { "Bearersecret", false },
        { "", false },
        { NULL, false },
        { "Bearer secreu", false },
        { "Bearer tecret", false },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        CHECK(dp_range_is_authorized(rows[i].header, "secret") == rows[i].want, "%s",
              rows[i].header);
    CHECK(!dp_range_is_authorized("Bearer ", ""), "an empty token lets nobody in");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_split_and_decoded),
        cmocka_unit_test(long_names_are_not_found),
        cmocka_unit_test(ranges_are_read),
        cmocka_unit_test(an_empty_file_has_no_ranges),
        cmocka_unit_test(names_are_looked_up),
        cmocka_unit_test(a_range_stands_for_its_tag_alone),
        cmocka_unit_test(only_the_token_is_let_in),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
