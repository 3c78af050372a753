/* What the range server answers. Its limits: range_limits_test.c. */
#include <curl/curl.h>
#include <sys/socket.h>
#include "swarm/range_testing.h"

static char response[(size_t)1 << 20];

#define ASK(method, target, headers) method " " target " HTTP/1.1\r\nHost: x\r\n" headers "\r\n"
#define GET(target, headers)         ASK("GET", target, headers)
#define A                            "/" KEY "/name/a.gguf"

/* Piece 7 of the first file is not there. */
static const struct {
    const char *request;
    int status;
    const char *header; /* that has to be there; NULL: any */
    uint32_t which;     /* content; 0: no body, 9: zeros */
    uint64_t first, size;
} rows[] = {
    { GET(A, "Range: bytes=0-99\r\n"), 206, "Content-Range: bytes 0-99/328680\r\n", 1, 0, 100 },
    { GET(A, "Range: bytes=16383-16384\r\n"), 206, "Content-Length: 2\r\n", 1, 16383, 2 },
    { GET(A, "Range: bytes=16384-81919\r\n"), 206, NULL, 1, 16384, 65536 },
    { GET(A, "Range: bytes=5-114687\r\n"), 206, NULL, 1, 5, 114683 }, /* to the end of 6 */
    { GET(A, "Range: bytes=131072-\r\n"), 206, "Content-Range: bytes 131072-328679/328680\r\n", 1,
      131072, SMALL - 131072 },
    { GET(A, "Range: bytes=-1001\r\n"), 206, NULL, 1, SMALL - 1001, 1001 },
    { GET(A, "Range: bytes=328679-999999\r\n"), 206, NULL, 1, SMALL - 1, 1 },
    { GET(A, "Range: bytes=5-114688\r\n"), 206, "Content-Range: bytes 5-114687/328680\r\n", 1, 5,
      114683 }, /* a byte of piece 7 more was asked for */
    { GET(A, "Range: bytes=-300000\r\n"), 206, "Content-Length: 86008\r\n", 1, SMALL - 300000,
      86008 },
    { GET(A, "Range: bytes=0-\r\n"), 206, "Content-Range: bytes 0-114687/328680\r\n", 1, 0,
      114688 },
    { GET(A, "Range: bytes=114688-114688\r\n"), 404, NULL, 0, 0, 0 },
    { GET(A, "Range: bytes=131071-200000\r\n"), 404, NULL, 0, 0, 0 }, /* from its last byte on */
    { GET(A, ""), 404, NULL, 0, 0, 0 },
    { GET(A, "Range: bytes=328680-\r\n"), 416, "Content-Range: bytes */328680\r\n", 0, 0, 0 },
    { GET(A, "Range: bytes=0-1,4-5\r\n"), 416, NULL, 0, 0, 0 },
    { GET(A, "Range: bytes=x\r\n"), 416, NULL, 0, 0, 0 },
    { GET(A, "Range: pieces=0-1\r\n"), 404, NULL, 0, 0, 0 }, /* all of it, which is not here */
    { GET(A, "Range: bytes=0-9\r\nIf-Range: \"x\"\r\n"), 404, NULL, 0, 0, 0 },
    { GET("/" KEY "/name/sub%20b", ""), 200, "Content-Length: 5\r\n", 2, 0, 5 },
    { GET("/" KEY "/name/sub%20b?x=y", "Range: bytes=1-3\r\n"), 206, NULL, 2, 1, 3 },
    { GET("/" KEY "/name/.pad/5000", ""), 200, "Accept-Ranges: bytes\r\n", 9, 0, 5000 },
    { GET("/" KEY "/.pad/5000", "Range: bytes=4000-\r\n"), 206, NULL, 9, 0, 1000 },
    { GET("/" KEY "/.pad/0", ""), 200, "Content-Length: 0\r\n", 0, 0, 0 },
    { GET("/" KEY "/.pad/16384", ""), 404, NULL, 0, 0, 0 },
    { GET("/" KEY "/b.gguf", ""), 404, NULL, 0, 0, 0 },
    { GET("/" KEY, ""), 404, NULL, 0, 0, 0 },
    { GET("/other/name/a.gguf", ""), 404, NULL, 0, 0, 0 },
    { GET("/" KEY "/../../../../etc/passwd", ""), 404, NULL, 0, 0, 0 },
    { GET("/" KEY "/%2e%2e/%2e%2e/etc/passwd", ""), 404, NULL, 0, 0, 0 },
    { GET("/", ""), 404, NULL, 0, 0, 0 },
    { GET("/" KEY "/%", ""), 400, NULL, 0, 0, 0 },
    { GET("/" KEY "/x%00", ""), 400, NULL, 0, 0, 0 },
    { GET(A, "Content-Length: 5\r\n"), 400, NULL, 0, 0, 0 },
    { GET(A, "Transfer-Encoding: chunked\r\n"), 400, NULL, 0, 0, 0 },
    { ASK("HEAD", A, ""), 200, "Content-Length: 328680\r\n", 0, 0, 0 },
    { ASK("HEAD", A, "Range: bytes=0-1\r\n"), 200, "Accept-Ranges: bytes\r\n", 0, 0, 0 },
    { ASK("HEAD", "/other/x", ""), 404, NULL, 0, 0, 0 },
    { ASK("OPTIONS", A, ""), 204, "Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n", 0, 0, 0 },
    { ASK("OPTIONS", "*", ""), 204, "Access-Control-Allow-Private-Network: true\r\n", 0, 0, 0 },
    { ASK("OPTIONS", A, ""), 204,
      "Access-Control-Allow-Headers: Range, If-Range, Authorization\r\n", 0, 0, 0 },
    { ASK("POST", A, "Content-Length: 3\r\n") "abc", 405, "Allow: GET, HEAD, OPTIONS\r\n", 0, 0,
      0 },
    { ASK("PUT", A, ""), 405, NULL, 0, 0, 0 },
    { ASK("DELETE", A, ""), 405, NULL, 0, 0, 0 },
    { ASK("BREW", A, ""), 405, NULL, 0, 0, 0 },
};

static bool is_content(const char *bytes, uint32_t which, uint64_t first, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        if ((uint8_t)bytes[i] != (which == 9 ? 0 : content_at(which, first + i)))
            return false;
    }
    return true;
}

static void requests_are_answered(void **unused)
{
    world *w = open_world(false, NULL);
    uint64_t bytes = 0;

    CHECK(dp_store_drop(w->files[0], 7), "piece 7");
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        int status = test_ask(w->port, rows[i].request, response, sizeof response);
        const char *body = test_body(response);

        CHECK(status == rows[i].status, "%zu: %s: %d", i, rows[i].request, status);
        CHECK(strstr(response, "Access-Control-Allow-Origin: *\r\n"), "%s", response);
        CHECK(!rows[i].header || strstr(response, rows[i].header), "%s: %s", rows[i].request,
              response);
        if (!rows[i].which)
            continue;
        CHECK(is_content(body, rows[i].which, rows[i].first, rows[i].size), "%s", rows[i].request);
        bytes += rows[i].size;
    }
    CHECK(range_stats(w).requests == DP_ARRAY_LEN(rows) && range_stats(w).bytes == bytes &&
              range_stats(w).absent == 5 && range_stats(w).refused == 0,
          "%llu requests, %llu absent", (unsigned long long)range_stats(w).requests,
          (unsigned long long)range_stats(w).absent);
    close_world(w);
}

static void the_tag_is_the_root(void **unused)
{
    world *w = open_world(false, NULL);
    char hex[2 * DP_HASH_SIZE + 1], line[128];
    dp_hash root;

    CHECK(dp_file_root(&root, w->parts[0].pieces, w->parts[0].hashes, NULL) == DP_OK, "root");
    dp_hash_hex(hex, &root);
    snprintf(line, sizeof line, "ETag: \"%s\"\r\n", hex);
    CHECK(test_ask(w->port, get_request(w, "Range: bytes=5-6\r\n"), response, sizeof response) ==
                  206 &&
              strstr(response, line),
          "%s", response);
    snprintf(line, sizeof line, "Range: bytes=5-6\r\nIf-Range: \"%s\"\r\n", hex);
    CHECK(test_ask(w->port, get_request(w, line), response, sizeof response) == 206, "%s",
          response);
    CHECK(test_ask(w->port, get_request(w, "Range: bytes=5-6\r\nIf-Range: \"x\"\r\n"), response,
                   sizeof response) == 200,
          "another version: all of it");
    CHECK(test_ask(w->port, GET("/" KEY "/name/sub%20b", ""), response, sizeof response) == 200 &&
              !strstr(response, "ETag:"),
          "no hashes, no tag: %s", response);
    close_world(w);
}

static void the_token_is_asked_for(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .token = "secret" });

    CHECK(test_ask(w->port, get_request(w, ""), response, sizeof response) == 401 &&
              strstr(response, "WWW-Authenticate: Bearer\r\n"),
          "%s", response);
    CHECK(test_ask(w->port, get_request(w, "Authorization: Bearer secre\r\n"), NULL, 0) == 401,
          "x");
    CHECK(test_ask(w->port, GET("/other/x", ""), NULL, 0) == 401, "what is here is not told");
    CHECK(test_ask(w->port, ASK("OPTIONS", A, ""), NULL, 0) == 204, "preflight has none");
    CHECK(test_ask(w->port, get_request(w, "Authorization: Bearer secret\r\n"), NULL, 0) == 200,
          "the token");
    close_world(w);
}

/* A big response of which the client has read nothing but the header. */
static int begin_big(world *w)
{
    int fd = test_connect(w->port);
    const char *request = get_request(w, "");
    size_t size = 0;

    test_send(fd, request, strlen(request));
    while (size < 4 || memcmp(response + size - 4, "\r\n\r\n", 4) != 0) {
        CHECK(size < 4096 && recv(fd, response + size, 1, 0) == 1, "%zu bytes", size);
        size++;
    }
    response[size] = '\0';
    CHECK(strstr(response, "HTTP/1.1 200 "), "%s", response);
    return fd;
}

/* How much of content 3 comes until the connection ends; it is right. */
static uint64_t read_content(int fd)
{
    uint64_t size = 0;
    ssize_t got;

    while ((got = recv(fd, response, sizeof response, 0)) > 0) {
        CHECK(is_content(response, 3, size, (uint64_t)got), "at %llu", (unsigned long long)size);
        size += (uint64_t)got;
        if (size == BIG)
            break;
    }
    close(fd);
    return size;
}

static void a_piece_that_leaves_ends_the_response(void **unused)
{
    world *w = open_world(true, NULL);
    uint64_t size;
    int fd = begin_big(w);

    CHECK(read_content(fd) == BIG, "nothing leaves");
    fd = begin_big(w);
    for (uint32_t i = 38; i < 40; i++)
        CHECK(dp_store_drop(w->files[0], i), "piece %u is not being read", i);
    size = read_content(fd);
    CHECK(size <= 38 * (uint64_t)BIG_PIECE, "%llu bytes", (unsigned long long)size);
    CHECK(test_ask(w->port, get_request(w, ""), NULL, 0) == 404, "afterwards");
    close_world(w);
}

/* Changes a byte of the mirror behind the store's back. */
static void damage(world *w, uint64_t at)
{
    char path[256];
    uint8_t byte;
    int fd;

    snprintf(path, sizeof path, "%s/" KEY "/a.gguf", test_folder);
    fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pread(fd, &byte, 1, (off_t)at) == 1, "%s", path);
    byte ^= 1;
    CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1, "%s", path);
    close(fd);
}

/* A damaged piece is found when it is read: as the first one before the head, so 404; as a later
 * one by an end too early, and the next time the answer ends before it. */
static void damage_is_a_refusal(void **unused)
{
    world *w = open_world(false, NULL);
    int status;

    damage(w, 3 * PIECE + 5);
    damage(w, 9 * PIECE);
    status = test_ask(w->port, GET(A, "Range: bytes=49152-98303\r\n"), NULL, 0);
    CHECK(status == 404 && !dp_store_has(w->files[0], 3), "%d", status);
    CHECK(test_ask(w->port, GET(A, "Range: bytes=0-98303\r\n"), response, sizeof response) == 206 &&
              strstr(response, "Content-Range: bytes 0-49151/"),
          "%s", response);
    test_ask(w->port, GET(A, "Range: bytes=131072-180223\r\n"), NULL, 0);
    CHECK(!dp_store_has(w->files[0], 9), "found");
    CHECK(test_ask(w->port, GET(A, "Range: bytes=131072-180223\r\n"), response, sizeof response) ==
                  206 &&
              strstr(response, "Content-Range: bytes 131072-147455/"),
          "%s", response);
    CHECK(range_stats(w).absent == 1, "%llu", (unsigned long long)range_stats(w).absent);
    close_world(w);
}

static void a_model_leaves_while_it_is_read(void **unused)
{
    world *w = open_world(true, NULL);
    int fds[3];
    dp_error err;

    for (size_t i = 0; i < 3; i++)
        fds[i] = begin_big(w);
    CHECK(dp_range_server_add(w->server, KEY, &w->layout, w->files, &err) == DP_E_INVALID, "twice");
    CHECK(dp_range_server_add(w->server, "", &w->layout, w->files, &err) == DP_E_INVALID, "no key");
    dp_range_server_remove(w->server, KEY);
    dp_range_server_remove(w->server, KEY);
    for (size_t i = 0; i < 3; i++)
        CHECK(read_content(fds[i]) < BIG, "%zu", i);
    CHECK(test_ask(w->port, get_request(w, ""), NULL, 0) == 404, "afterwards");
    CHECK_OK(dp_range_server_add(w->server, KEY, &w->layout, w->files, &err), err);
    CHECK(test_ask(w->port, get_request(w, "Range: bytes=0-9\r\n"), NULL, 0) == 206, "again");
    begin_big(w); /* closing does not wait for it, either */
    close_world(w);
}

typedef struct received {
    size_t size;
    bool is_right;
    uint64_t first;
} received;

static size_t check_bytes(char *bytes, size_t one, size_t count, void *user)
{
    received *r = user;

    r->is_right = r->is_right && is_content(bytes, 1, r->first + r->size, count);
    r->size += count;
    return one * count;
}

static void a_connection_is_used_again(void **unused)
{
    world *w = open_world(false, NULL);
    CURL *curl = curl_easy_init();
    char url[128], range[64];
    long status, connects = 0;

    snprintf(url, sizeof url, "http://127.0.0.1:%u" A, w->port);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, check_bytes);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
    for (uint64_t i = 0; i < 50; i++) {
        received r = { 0, true, i * 6000 };
        long fresh = 0;

        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)r.first,
                 (unsigned long long)r.first + 5999);
        curl_easy_setopt(curl, CURLOPT_RANGE, range);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
        CHECK(curl_easy_perform(curl) == CURLE_OK, "%s", range);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &fresh);
        connects += fresh;
        CHECK(status == 206 && r.size == 6000 && r.is_right, "%s: %ld, %zu bytes", range, status,
              r.size);
        advance(w, 600);
    }
    CHECK(connects == 1 && range_stats(w).connections == 1, "%ld connections", connects);
    curl_easy_cleanup(curl);
    close_world(w);
}

static void make_certificate(void)
{
    CHECK(system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
                 "-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout key.pem.test "
                 "-out certificate.pem.test 2>/dev/null") == 0,
          "openssl");
}

static void tls_is_served(void **unused)
{
    dp_range_server_config config = { .tls_certificate = "certificate.pem.test",
                                      .tls_key = "key.pem.test" };
    world *w;
    CURL *curl;
    received r = { 0, true, 0 };
    char url[128];

    make_certificate();
    w = open_world(false, &config);
    CHECK(dp_range_server_is_tls(w->server), "TLS");
    curl = curl_easy_init();
    snprintf(url, sizeof url, "https://127.0.0.1:%u" A, w->port);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, check_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r);
    CHECK(curl_easy_perform(curl) == CURLE_PEER_FAILED_VERIFICATION, "nobody vouches for it");
    curl_easy_setopt(curl, CURLOPT_CAINFO, "certificate.pem.test");
    CHECK(curl_easy_perform(curl) == CURLE_OK && r.size == SMALL && r.is_right, "%zu", r.size);
    CHECK(test_ask(w->port, get_request(w, ""), NULL, 0) == 0, "plain HTTP is not answered");
    curl_easy_cleanup(curl);
    close_world(w);
    unlink("certificate.pem.test");
    unlink("key.pem.test");
}

static void what_can_not_be_opened_says_why(void **unused)
{
    static const struct {
        dp_range_server_config config;
        dp_status want;
    } bad[] = {
        { { .listen = "127.0.0.1" }, DP_E_INVALID },
        { { .listen = "192.0.2.1:0" }, DP_E_IO },
        { { .listen = "127.0.0.1:0", .tls_key = "x" }, DP_E_INVALID },
        { { .listen = "127.0.0.1:0", .tls_key = "x.none", .tls_certificate = "y.none" },
          DP_E_NOTFOUND },
        { { .listen = "127.0.0.1:0", .tls_key = "bad.pem.test", .tls_certificate = "bad.pem.test" },
          DP_E_INVALID },
        { { .listen = "127.0.0.1:0", .connections_max = 100000 }, DP_E_LIMIT },
    };
    FILE *pem = fopen("bad.pem.test", "w");
    dp_range_server *server;
    dp_error err;

    CHECK(pem && fputs("-----BEGIN NOTHING-----\n", pem) >= 0 && fclose(pem) == 0, "file");
    for (size_t i = 0; i < DP_ARRAY_LEN(bad); i++) {
        dp_range_server_config config = bad[i].config;

        config.clock = &dp_clock_real;
        CHECK(dp_range_server_open(&server, &config, &err) == bad[i].want && !server, "%zu: %s", i,
              err.text);
    }
    unlink("bad.pem.test");
    check_no_leak();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests_are_answered, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(the_tag_is_the_root, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(the_token_is_asked_for, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(a_piece_that_leaves_ends_the_response, test_set_up,
                                        test_tear_down),
        cmocka_unit_test_setup_teardown(damage_is_a_refusal, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(a_model_leaves_while_it_is_read, test_set_up,
                                        test_tear_down),
        cmocka_unit_test_setup_teardown(a_connection_is_used_again, test_set_up, test_tear_down),
        cmocka_unit_test_setup_teardown(tls_is_served, test_set_up, test_tear_down),
        cmocka_unit_test(what_can_not_be_opened_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
