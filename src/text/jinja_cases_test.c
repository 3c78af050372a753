/* The engine against Jinja2: every case of tests/chat_templates, byte for byte.
 * Usage: jinja_cases_test ROOT. tools/make_template_cases.py made what is expected. */
#include "base/buf.h"
#include "base/json.h"
#include "testing/check.h"
#include "text/jinja.h"

#define NOW_S     1721997296 /* as in make_template_cases.py */
#define FILE_MAX  ((size_t)16 << 20)
#define VARS      16
#define TEXT_SIZE 64

static const char *root;

static dp_buf read_file(const char *name)
{
    char path[512], block[4096];
    dp_buf text;
    size_t size;
    FILE *file;

    snprintf(path, sizeof path, "%s/tests/chat_templates/%s", root, name);
    file = fopen(path, "rb");
    CHECK(file, "%s", path);
    dp_buf_init(&text, FILE_MAX);
    while ((size = fread(block, 1, sizeof block, file)) > 0)
        CHECK(dp_buf_append(&text, block, size) == DP_OK, "%s", path);
    fclose(file);
    return text;
}

/* One row of a file, its strings copied. */
typedef struct expected {
    dp_buf name, source, output, raises;
    bool is_file, has_output;
    dp_jinja_var vars[VARS];
    char var_names[VARS][TEXT_SIZE];
    dp_buf values[VARS];
    size_t var_count;
} expected;

static void set(dp_buf *to, dp_str text)
{
    dp_buf_deinit(to);
    dp_buf_init(to, FILE_MAX);
    CHECK(dp_buf_append(to, text.bytes, text.size) == DP_OK, "no memory");
}

static dp_json_token next(dp_json *json)
{
    dp_json_token token;
    dp_error err = { 0 };

    CHECK_OK(dp_json_next(json, &token, &err), err);
    return token;
}

static void read_vars(dp_json *json, expected *e, bool is_json)
{
    next(json); /* { */
    for (;;) {
        dp_json_token token = next(json);
        size_t i = e->var_count;

        if (token.kind != DP_JSON_KEY)
            return;
        CHECK(i < VARS && token.text.size < TEXT_SIZE, "a row's variables");
        memcpy(e->var_names[i], token.text.bytes, token.text.size);
        set(&e->values[i], next(json).text);
        e->vars[i] =
            (dp_jinja_var){ e->var_names[i], { e->values[i].bytes, e->values[i].size }, is_json };
        e->var_count++;
    }
}

/* False at the end of the list. */
static bool read_row(dp_json *json, expected *e)
{
    memset(e, 0, sizeof *e);
    if (next(json).kind != DP_JSON_OBJECT_BEGIN)
        return false;
    for (;;) {
        dp_json_token key = next(json);
        bool is_source, is_file, is_name, is_output, is_raises;

        if (key.kind != DP_JSON_KEY)
            return true;
        is_name = dp_str_is(key.text, "name");
        is_source = dp_str_is(key.text, "source");
        is_file = dp_str_is(key.text, "template");
        is_output = dp_str_is(key.text, "output");
        is_raises = dp_str_is(key.text, "raises");
        if (dp_str_is(key.text, "json") || dp_str_is(key.text, "trusted")) {
            read_vars(json, e, dp_str_is(key.text, "json"));
            continue;
        }
        key = next(json);
        if (key.kind != DP_JSON_STRING)
            continue;
        set(is_name     ? &e->name
            : is_output ? &e->output
            : is_raises ? &e->raises
                        : &e->source,
            key.text);
        CHECK(is_name || is_output || is_raises || is_source || is_file, "an unknown key");
        e->is_file |= is_file;
        e->has_output |= is_output;
    }
}

static void free_row(expected *e)
{
    dp_buf *const texts[] = { &e->name, &e->source, &e->output, &e->raises };

    for (size_t i = 0; i < DP_ARRAY_LEN(texts); i++)
        dp_buf_deinit(texts[i]);
    for (size_t i = 0; i < e->var_count; i++)
        dp_buf_deinit(&e->values[i]);
}

/* Runs cover the text, differ from their neighbours. */
static void check_runs(const char *name, const dp_prompt *p)
{
    for (size_t i = 0; i < p->runs.count; i++)
        CHECK(p->runs.list[i].end > (i ? p->runs.list[i - 1].end : 0) &&
                  (!i || p->runs.list[i].is_trusted != p->runs.list[i - 1].is_trusted),
              "%s: run %zu", name, i);
    CHECK((p->runs.count ? p->runs.list[p->runs.count - 1].end : 0) == p->text.size,
          "%s: runs do not cover the text", name);
}

static void check_row(expected *e)
{
    dp_error err = { 0 };
    dp_jinja *jinja = NULL;
    dp_prompt out;
    dp_status st;

    if (e->is_file) {
        dp_buf file = read_file(e->source.bytes);

        dp_buf_deinit(&e->source);
        e->source = file;
    }
    dp_prompt_init(&out, FILE_MAX);
    st = dp_jinja_open(&jinja, (dp_str){ e->source.bytes, e->source.size }, &err);
    if (!st)
        st = dp_jinja_render(jinja, e->vars, e->var_count, NOW_S, &out, &err);
    if (!e->has_output) {
        CHECK(st, "%s: %s is expected, not\n%s", e->name.bytes, e->raises.bytes, out.text.bytes);
        CHECK(strstr(err.text, "chat template, line "), "%s: %s", e->name.bytes, err.text);
        CHECK(out.text.size == 0, "%s: %zu bytes stayed", e->name.bytes, out.text.size);
    } else {
        CHECK(!st, "%s: %s", e->name.bytes, err.text);
        CHECK(out.text.size == e->output.size &&
                  (out.text.size == 0 || !memcmp(out.text.bytes, e->output.bytes, out.text.size)),
              "%s:\n%s\nnot\n%s", e->name.bytes, out.text.bytes, e->output.bytes);
        check_runs(e->name.bytes, &out);
    }
    dp_jinja_close(jinja);
    dp_prompt_deinit(&out);
}

static void check_file(const char *name, size_t least)
{
    dp_buf text = read_file(name);
    size_t count = 0;
    dp_json json;
    expected e;

    dp_json_init(&json, name, text.bytes, text.size);
    CHECK(next(&json).kind == DP_JSON_ARRAY_BEGIN, "%s is no list", name);
    for (; read_row(&json, &e); count++) {
        check_row(&e);
        free_row(&e);
    }
    dp_json_deinit(&json);
    dp_buf_deinit(&text);
    CHECK(count >= least, "%s: %zu cases", name, count);
}

static void test_language(void **state)
{
    check_file("language_expected.json", 200);
}

static void test_chats(void **state)
{
    check_file("chat_expected.json", 60);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language),
        cmocka_unit_test(test_chats),
    };

    root = argc > 1 ? argv[1] : ".";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
