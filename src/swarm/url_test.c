#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/http.h"
#include "swarm/http_fake.h"
#include "testing/check.h"

static uint8_t text[5000];
static const http_fake_file files[] = { { "/a", text, sizeof text } };
static const dp_pager_config config = { .user_agent = "test" };

static const struct {
    const char *name;
    http_fake_rules rules;
    const char *path;
    dp_status look, get;
    uint64_t size;
    const char *tag;
    bool is_strong;
} rows[] = {
    { "good", { .etag = "\"e\"" }, "/a", DP_OK, DP_OK, 5000, "\"e\"", true },
    { "weak", { .etag = "W/\"e\"" }, "/a", DP_OK, DP_OK, 5000, "W/\"e\"", false },
    { "no tag", { 0 }, "/a", DP_OK, DP_OK, 5000, "", false },
    { "no ranges", { .ignores_range = true }, "/a", DP_E_UNSUPPORTED, DP_OK, 0, "", false },
    { "not there", { 0 }, "/b", DP_E_NOTFOUND, DP_E_NOTFOUND, 0, "", false },
    { "forbidden", { .status = 403 }, "/a", DP_E_IO, DP_E_IO, 0, "", false },
    { "busy", { .status = 503 }, "/a", DP_E_IO, DP_E_IO, 0, "", false },
    { "size not told", { .range = "bytes 0-0/*" }, "/a", DP_E_UNSUPPORTED, DP_OK, 0, "", false },
    { "another range", { .range = "bytes 1-1/9" }, "/a", DP_E_UNSUPPORTED, DP_OK, 0, "", false },
    { "empty", { .status = 416 }, "/a", DP_E_CORRUPT, DP_E_IO, 0, "", false },
    { "redirect to a file",
      { .status = 302, .location = "file:///etc/passwd" },
      "/a",
      DP_E_IO,
      DP_E_IO,
      0,
      "",
      false },
    { "redirects for ever",
      { .status = 302, .location = "/a" },
      "/a",
      DP_E_IO,
      DP_E_IO,
      0,
      "",
      false },
    { "long head", { .head_bytes = 20000 }, "/a", DP_E_IO, DP_E_IO, 0, "", false },
    { "cut", { .cut_at = 1 }, "/a", DP_OK, DP_E_IO, 5000, "", false },
    { "silent", { .is_silent = true }, "/a", DP_E_TIMEOUT, DP_E_TIMEOUT, 0, "", false },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        http_fake *fake = http_fake_open(files, 1, &rows[i].rules);
        uint32_t wait_ms = rows[i].rules.is_silent ? 100 : 5000;
        char url[64];
        uint8_t *bytes;
        size_t size;
        dp_url_look look;
        dp_error err = { 0 };
        dp_status st;

        snprintf(url, sizeof url, "http://127.0.0.1:%u%s", http_fake_port(fake), rows[i].path);
        st = dp_url_look_at(&look, url, &config, wait_ms, NULL, NULL, &err);
        CHECK(st == rows[i].look, "%s: %s", rows[i].name, err.text);
        CHECK(st || (look.size == rows[i].size && strcmp(look.tag, rows[i].tag) == 0 &&
                     look.is_strong == rows[i].is_strong && strcmp(look.url, url) == 0),
              "%s: size %llu tag %s url %s", rows[i].name, (unsigned long long)look.size, look.tag,
              look.url);
        st = dp_url_get(&bytes, &size, url, sizeof text, &config, wait_ms, NULL, NULL, &err);
        CHECK(st == rows[i].get, "%s: %s", rows[i].name, err.text);
        CHECK(st ? !bytes && !size : size == sizeof text && memcmp(bytes, text, size) == 0,
              "%s: bytes", rows[i].name);
        dp_free(bytes);
        http_fake_close(fake);
    }
}

static void test_who_may_go_inside(void **state)
{
    static const struct {
        dp_http_reach reach;
        long redirects;
        bool is_origin_private, is_private, may_go;
    } cases[] = {
        { DP_HTTP_PUBLIC, 0, false, false, true },  { DP_HTTP_PUBLIC, 0, true, true, false },
        { DP_HTTP_PUBLIC, 1, true, true, false },   { DP_HTTP_ORIGIN, 0, false, false, true },
        { DP_HTTP_ORIGIN, 0, true, true, true },    { DP_HTTP_ORIGIN, 1, false, false, true },
        { DP_HTTP_ORIGIN, 1, false, true, false },  { DP_HTTP_ORIGIN, 1, true, true, true },
        { DP_HTTP_ORIGIN, 4, false, true, false },  { DP_HTTP_ANYWHERE, 0, true, true, true },
        { DP_HTTP_ANYWHERE, 1, false, true, true },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++)
        CHECK(dp_http_may_go(cases[i].reach, cases[i].redirects, cases[i].is_origin_private,
                             cases[i].is_private) == cases[i].may_go,
              "row %zu", i);
}

static void test_redirect(void **state)
{
    http_fake *end = http_fake_open(files, 1, NULL), *begin;
    char last[64], url[64];
    http_fake_rules rules = { .status = 302, .location = last };
    dp_url_look look;
    dp_error err = { 0 };

    snprintf(last, sizeof last, "http://127.0.0.1:%u/a", http_fake_port(end));
    begin = http_fake_open(files, 1, &rules);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/other", http_fake_port(begin));
    http_fake_set(begin, &rules);
    /* /other is not there, so the fake says 404: /a leads on. */
    CHECK(dp_url_look_at(&look, url, &config, 5000, NULL, NULL, &err) == DP_E_NOTFOUND, "%s",
          err.text);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/a", http_fake_port(begin));
    CHECK_OK(dp_url_look_at(&look, url, &config, 5000, NULL, NULL, &err), err);
    CHECK(strcmp(look.url, last) == 0 && look.size == sizeof text, "%s", look.url);
    http_fake_close(begin);
    http_fake_close(end);
}

static bool always(void *user)
{
    return true;
}

static void test_limits(void **state)
{
    http_fake *fake = http_fake_open(files, 1, NULL);
    static char url[DP_PAGER_URL_MAX + 1];
    uint8_t *bytes;
    size_t size;
    dp_error err = { 0 };

    snprintf(url, sizeof url, "http://127.0.0.1:%u/a", http_fake_port(fake));
    CHECK(dp_url_get(&bytes, &size, url, 4999, &config, 5000, NULL, NULL, &err) == DP_E_LIMIT, "%s",
          err.text);
    CHECK(dp_url_get(&bytes, &size, url, 5000, &config, 5000, always, NULL, &err) == DP_E_CANCELED,
          "%s", err.text);
    CHECK(dp_url_get(&bytes, &size, "ftp://127.0.0.1/a", 5000, &config, 5000, NULL, NULL, &err) ==
              DP_E_IO,
          "%s", err.text);
    memset(url, 'x', DP_PAGER_URL_MAX);
    CHECK(dp_url_get(&bytes, &size, url, 5000, &config, 5000, NULL, NULL, &err) == DP_E_LIMIT, "%s",
          err.text);
    http_fake_close(fake);
}

static void test_no_memory(void **state)
{
    http_fake *fake = http_fake_open(files, 1, NULL);
    dp_mem_stats mem;
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%u/a", http_fake_port(fake));
    for (uint64_t n = 0;; n++) {
        uint8_t *bytes;
        size_t size;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_url_get(&bytes, &size, url, 5000, &config, 5000, NULL, NULL, NULL);
        dp_free(bytes);
        if (dp_fault_disarm(DP_FAULT_MEM) == 0)
            break;
        CHECK(st == DP_E_NOMEM, "%llu: status %d", (unsigned long long)n, st);
    }
    http_fake_close(fake);
    dp_mem_stats_read(&mem);
    CHECK(mem.heap_blocks == 0, "%llu blocks left", (unsigned long long)mem.heap_blocks);
}

static const struct {
    const char *address;
    bool is_private;
} addresses[] = {
    { "8.8.8.8", false },
    { "127.0.0.1", true },
    { "127.255.0.1", true },
    { "10.1.2.3", true },
    { "11.0.0.0", false },
    { "172.15.255.255", false },
    { "172.16.0.1", true },
    { "172.31.255.255", true },
    { "172.32.0.0", false },
    { "192.168.1.1", true },
    { "192.169.0.1", false },
    { "169.254.169.254", true }, /* where clouds keep their secrets */
    { "100.64.0.1", true },
    { "100.128.0.1", false },
    { "0.0.0.0", true },
    { "224.0.0.1", true },
    { "255.255.255.255", true },
    { "198.18.0.1", true },
    { "::1", true },
    { "::", true },
    { "fe80::1", true },
    { "fc00::1", true },
    { "fd12::1", true },
    { "ff02::1", true },
    { "2606:4700::1111", false },
    { "::ffff:10.0.0.1", true },
    { "::ffff:8.8.8.8", false },
    { "64:ff9b::7f00:1", true },
    { "64:ff9b::808:808", false },
    { "2002:7f00:1::", true },
    { "2002:808:808::", false },
    { "::7f00:1", true },
};

static void test_addresses(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(addresses); i++) {
        struct sockaddr_in v4 = { .sin_family = AF_INET };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
        const struct sockaddr *any = (struct sockaddr *)&v4;

        if (inet_pton(AF_INET, addresses[i].address, &v4.sin_addr) != 1) {
            CHECK(inet_pton(AF_INET6, addresses[i].address, &v6.sin6_addr) == 1, "%s",
                  addresses[i].address);
            any = (struct sockaddr *)&v6;
        }
        CHECK(dp_http_is_private(any) == addresses[i].is_private, "%s", addresses[i].address);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_who_may_go_inside),
        cmocka_unit_test(test_redirect),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
