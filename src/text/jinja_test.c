/* Limits, failures and origin of templates; what they print is jinja_cases_test.c's. */
#include "text/jinja.h"
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

static const dp_jinja_var vars[] = {
    { "user", { "\"<u\\u0301>\"", 11 }, true },
    { "list", { "[\"a\", \"b\", {\"k\": \"v\"}]", 22 }, true },
    { "bos", { "<s>", 3 }, false },
};

static dp_status render(const char *text, dp_prompt *out, dp_error *err)
{
    dp_jinja *jinja;
    dp_status st = dp_jinja_open(&jinja, dp_str_from(text), err);

    if (!st)
        st = dp_jinja_render(jinja, vars, DP_ARRAY_LEN(vars), 0, out, err);
    dp_jinja_close(jinja);
    return st;
}

static uint64_t heap_blocks(void)
{
    dp_mem_stats stats;

    dp_mem_stats_read(&stats);
    return stats.heap_blocks;
}

/* Output with what is not trusted in brackets. */
static void test_origin(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "a{{ user }}b", "a[<u\u0301>]b" },
        { "{{ bos }}{{ 'x' }}{{ user }}", "<s>x[<u\u0301>]" },
        { "{{ 'a' + user + 'b' }}", "a[<u\u0301>]b" },
        { "{{ 'a' ~ user ~ 1 ~ none }}", "a[<u\u0301>]1None" },
        { "{% set x = 'ab' + user + 'cd' %}{{ x[1:4] }}|{{ x[-3:] }}|{{ x[::-1] }}",
          "b[<u]|[>]cd|dc[>\u0301u<]ba" },
        { "{{ (' a' + user + ' ')|trim }}", "a[<u\u0301>]" },
        { "{{ user.strip('<>') }}{{ user[0] }}", "[u\u0301<]" },
        { "{{ 'a-b'.replace('-', user) }}{{ user.replace('u\u0301', 'x') }}",
          "a[<u\u0301>]b[<]x[>]" },
        { "{{ ('a,' + user + ',b').split(',')|join('+') }}", "a+[<u\u0301>]+b" },
        { "{{ [user, 'x']|join('-') }}{{ '-'.join([user, 'y']) }}", "[<u\u0301>]-x[<u\u0301>]-y" },
        { "{{ user|upper }}{{ 'a'|upper }}{{ (user ~ 'a')|upper }}", "[<U\u0301>]A[<U\u0301>A]" },
        { "{{ list|tojson }}{{ {'a': 1}|tojson }}", "[[\"a\", \"b\", {\"k\": \"v\"}]]{\"a\": 1}" },
        { "{{ {'a': 'b', 'c': user}|tojson }}", "[{\"a\": \"b\", \"c\": \"<u\u0301>\"}]" },
        { "{{ [user, 'x'] }}", "[['<u\u0301>'], 'x']" },
        { "{{ '%s=%s' % ('a', user) }}{{ '{}={}'.format(user, 'b') }}",
          "a=[<u\u0301><u\u0301>]=b" },
        { "{% set x %}a{{ user }}b{% endset %}{{ x }}", "a[<u\u0301>]b" },
        { "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(user) + f('y') }}", "<[<u\u0301>]><y>" },
        { "{% for x in list[:2] %}{{ x }}{{ loop.index }}{% endfor %}", "[a]1[b]2" },
        { "{% for k, v in list[2].items() %}{{ k }}={{ v }}{% endfor %}", "[k]=[v]" },
        { "{% filter indent(1) %}a\n{{ user }}{% endfilter %}", "a\n [<u\u0301>]" },
        { "{{ user|string ~ user|length }}{{ user if user else 'x' }}", "[<u\u0301>]4[<u\u0301>]" },
        { "{{ user|default('x') }}{{ nope|default('x') }}{{ user|e }}",
          "[<u\u0301>]x&lt;[u\u0301]&gt;" },
        { "{% set ns = namespace(t='') %}{% for i in range(3) %}{% set ns.t = ns.t + user + 'x' %}"
          "{% endfor %}{{ ns.t }}",
          "[<u\u0301>]x[<u\u0301>]x[<u\u0301>]x" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_error err = { 0 };
        dp_buf shown;
        dp_prompt out;
        size_t at = 0;

        dp_prompt_init(&out, 1 << 16);
        dp_buf_init(&shown, 1 << 16);
        CHECK(render(rows[i].text, &out, &err) == DP_OK, "%s: %s", rows[i].text, err.text);
        for (size_t run = 0; run < out.runs.count; run++) {
            const char *edge = out.runs.list[run].is_trusted ? "" : "[]";

            dp_buf_append(&shown, edge, edge[0] != 0);
            dp_buf_append(&shown, out.text.bytes + at, out.runs.list[run].end - at);
            dp_buf_append(&shown, edge + 1, edge[0] != 0);
            at = out.runs.list[run].end;
        }
        CHECK(!strcmp(shown.bytes, rows[i].want), "%s:\n%s\nnot\n%s", rows[i].text, shown.bytes,
              rows[i].want);
        dp_buf_deinit(&shown);
        dp_prompt_deinit(&out);
    }
}

static void test_refuses(void **state)
{
    static const struct {
        const char *text;
        dp_status want;
        const char *says;
    } rows[] = {
        { "a\nb\n{{ raise_exception('no ' + 'way') }}", DP_E_INVALID, "line 3: no way" },
        { "{% if 1 %}\n{{ nope.x }}{% endif %}", DP_E_INVALID, "line 2: 'nope' is undefined" },
        { "\n{{ 1 | nope }}", DP_E_UNSUPPORTED, "line 2: the filter \"nope\"" },
        { "{{ 1 is nope }}", DP_E_UNSUPPORTED, "the test \"nope\"" },
        { "{% include 'x' %}", DP_E_UNSUPPORTED, "include" },
        { "{% for x in list recursive %}{% endfor %}", DP_E_UNSUPPORTED, "recursive" },
        { "{{ f(*list) }}", DP_E_UNSUPPORTED, "* and **" },
        { "{{ '\\N{DASH}' }}", DP_E_UNSUPPORTED, "\\N" },
        { "{{ range }}", DP_E_UNSUPPORTED, "a function cannot be printed" },
        { "{{ strftime_now('%Q') }}", DP_E_UNSUPPORTED, "%Q" },
        { "{{ '{:>5}'.format(1) }}", DP_E_UNSUPPORTED, "{:>5}" },
        { "{{ list|map('nope')|list }}", DP_E_UNSUPPORTED, "nope" },
        { "{{ 9223372036854775807 + 1 }}", DP_E_LIMIT, "64-bit" },
        { "{{ 9223372036854775808 }}", DP_E_LIMIT, "out of range" },
        { "{{ 2 ** 64 }}", DP_E_LIMIT, "64-bit" },
        { "{{ -9223372036854775807 - 2 }}", DP_E_LIMIT, "64-bit" },
        { "{{ 'a' * 1000000000000 }}", DP_E_LIMIT, "bytes of text" },
        { "{{ [1] * 100000000 }}", DP_E_LIMIT, "" },
        { "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
          DP_E_LIMIT, "steps" },
        { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", DP_E_LIMIT, "nested deeper" },
        { "{% set ns = namespace(a=[]) %}{% for i in range(999) %}{% set ns.a = [ns.a] %}"
          "{% endfor %}{{ ns.a }}",
          DP_E_LIMIT, "nested deeper" },
        { "{% set ns = namespace(a=[]) %}{% for i in range(999) %}{% set ns.a = [ns.a] %}"
          "{% endfor %}{{ ns.a == [ns.a] }}{{ ns.a|tojson }}",
          DP_E_LIMIT, "nested deeper" },
        { "{% set ns = namespace(a='ab') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}"
          "{% endfor %}",
          DP_E_LIMIT, "" },
        { "{% for i in range(90000) %}{{ '0123456789' }}{% endfor %}", DP_E_LIMIT,
          "bytes of text" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_error err = { 0 };
        dp_status st;
        dp_prompt out;

        dp_prompt_init(&out, 1 << 16);
        st = render(rows[i].text, &out, &err);
        CHECK(st == rows[i].want, "%s: %d, %s", rows[i].text, st, err.text);
        CHECK(strstr(err.text, rows[i].says), "%s: %s", rows[i].text, err.text);
        CHECK(out.text.size == 0, "%s: %zu bytes stayed", rows[i].text, out.text.size);
        dp_prompt_deinit(&out);
    }
}

/* `count` times a text between two others. */
static dp_status open_repeated(const char *begin, const char *part, size_t count, const char *end,
                               dp_error *err)
{
    dp_jinja *jinja;
    dp_status st;
    dp_buf text;

    dp_buf_init(&text, 4 * DP_JINJA_TEMPLATE_MAX);
    dp_buf_text(&text, begin);
    for (size_t i = 0; i < count; i++)
        dp_buf_text(&text, part);
    dp_buf_text(&text, end);
    st = dp_jinja_open(&jinja, (dp_str){ text.bytes, text.size }, err);
    dp_jinja_close(jinja);
    dp_buf_deinit(&text);
    return st;
}

static void test_limits_of_parsing(void **state)
{
    static const struct {
        const char *begin, *part, *end;
        size_t count;
        dp_status want;
    } rows[] = {
        { "", "x", "", DP_JINJA_TEMPLATE_MAX, DP_OK },
        { "", "x", "", DP_JINJA_TEMPLATE_MAX + 1, DP_E_LIMIT },
        { "{{ ", "(", "", 300, DP_E_LIMIT },
        { "{{ ", "-", "1 }}", 300, DP_E_LIMIT },
        { "{{ ", "not ", "1 }}", 300, DP_E_LIMIT },
        { "{{ ", "[", "", 300, DP_E_LIMIT },
        { "{{ a", ".b", " }}", 300, DP_E_LIMIT },
        { "{{ a", "|e", " }}", 300, DP_E_LIMIT },
        { "{{ 1", " + 1", " }}", 300, DP_E_LIMIT },
        { "{{ 1", " ~ 1", " }}", 300, DP_OK },
        { "{{ 1", " if 1 else 1", " }}", 300, DP_E_LIMIT },
        { "", "{% if 1 %}", "", 300, DP_E_LIMIT },
        { "{% if 1 %}", "{% elif 1 %}", "{% endif %}", 3000, DP_OK },
        { "", "{{ 1 }}", "", 140000, DP_E_LIMIT },
        { "{{ [", "1,", "] }}", 300000, DP_E_LIMIT },
        { "{{ '", "\\x41", "' }}", 100000, DP_OK },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_error err = { 0 };
        dp_status st = open_repeated(rows[i].begin, rows[i].part, rows[i].count, rows[i].end, &err);

        CHECK(st == rows[i].want, "%s: %d, %s", rows[i].part, st, err.text);
    }
}

static void test_variables(void **state)
{
    static const struct {
        const char *json;
        dp_status want;
    } rows[] = {
        { "1", DP_OK },
        { "[1, 2.5, -3, true, false, null, {\"a\": [], \"b\": {}}]", DP_OK },
        { "[", DP_E_CORRUPT },
        { "", DP_E_CORRUPT },
        { "1 2", DP_E_CORRUPT },
        { "18446744073709551616", DP_E_LIMIT },
        { "1e999", DP_E_LIMIT },
    };
    dp_jinja *jinja;
    dp_error err = { 0 };

    CHECK_OK(dp_jinja_open(&jinja, dp_str_from("{{ x }}"), &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_jinja_var var = { "x", dp_str_from(rows[i].json), true };
        dp_status st;
        dp_prompt out;

        dp_prompt_init(&out, 1 << 16);
        st = dp_jinja_render(jinja, &var, 1, 0, &out, &err);
        CHECK(st == rows[i].want, "%s: %d, %s", rows[i].json, st, err.text);
        dp_prompt_deinit(&out);
    }
    dp_jinja_close(jinja);
}

/* Everything that allocates, at once; each allocation fails once. */
static void test_survives_lack_of_memory(void **state)
{
    static const char text[] =
        "{% macro f(a, b=1) %}{{ a }}{{ caller() }}{% endmacro %}{% set ns = namespace(x='') %}"
        "{% for x in list if x %}{% set ns.x = ns.x ~ x %}{{ loop.index }}{% endfor %}"
        "{% call f(user) %}{{ user|upper }}{% endcall %}{{ list|tojson(indent=1) }}"
        "{{ '%s' % user }}{{ {'a': list}|dictsort }}{{ [3, 1]|sort|join(user) }}"
        "{% set y %}{{ user.split('u') }}{{ user.replace('u', 'x') }}{% endset %}{{ y[::2] }}";
    uint64_t blocks = heap_blocks(), failed = 1;

    for (uint64_t n = 0; failed > 0; n++) {
        dp_error err = { 0 };
        dp_status st;
        dp_prompt out;

        dp_prompt_init(&out, 1 << 16);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = render(text, &out, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "allocation %d: %d, %s", (int)n, st, err.text);
        CHECK(!failed || out.text.size == 0, "%zu bytes stayed", out.text.size);
        dp_prompt_deinit(&out);
        CHECK(heap_blocks() == blocks, "allocation %d leaks", (int)n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_limits_of_parsing),
        cmocka_unit_test(test_variables),
        cmocka_unit_test(test_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
