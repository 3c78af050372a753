/* What the range server does not give: caps, limits of an address, time, memory. */
#include <sys/socket.h>
#include "swarm/guard.h"
#include "swarm/range_testing.h"

static char response[(size_t)1 << 20];

/* A request on a connection that stays open: its status, 0 when it was closed. */
static int ask_on(int fd, const char *request)
{
    int status = 0;

    test_send(fd, request, strlen(request));
    if (test_receive(fd, response, sizeof response, false))
        sscanf(response, "HTTP/1.1 %d", &status);
    return status;
}

static void over_the_cap_is_later(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .upload_bytes_s = DP_RANGE_BLOCK });
    const char *block = get_request(w, "Range: bytes=0-131071\r\n");
    int fd = test_connect(w->port);

    for (int i = 0; i < 3; i++) {
        CHECK(ask_on(fd, block) == 206, "%d: %s", i, response);
        CHECK(ask_on(fd, block) == 503 && strstr(response, "Retry-After: 1\r\n"), "%d: %s", i,
              response);
        advance(w, 1);
    }
    CHECK(range_stats(w).refused == 3, "%llu", (unsigned long long)range_stats(w).refused);
    close(fd);
    close_world(w);
}

/* A response larger than the cap's second goes on as time does, to the byte. */
static void a_response_keeps_to_the_cap(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .upload_bytes_s = DP_RANGE_BLOCK });
    const char *request = get_request(w, "");
    int fd = test_connect(w->port);
    size_t size = 0, limit;

    test_send(fd, request, strlen(request));
    for (limit = DP_RANGE_BLOCK; limit < SMALL; limit += DP_RANGE_BLOCK, advance(w, 1)) {
        size_t want = limit + 4096; /* the header is less */

        while (size < want && recv(fd, response + size, 1, 0) == 1) {
            response[++size] = '\0';
            if (test_body(response) && size - (size_t)(test_body(response) - response) == limit)
                break;
        }
        CHECK(size - (size_t)(test_body(response) - response) == limit, "%zu bytes at %zu", size,
              limit);
        CHECK(range_stats(w).bytes == limit, "%llu", (unsigned long long)range_stats(w).bytes);
    }
    size += test_receive(fd, response + size, SMALL - (limit - DP_RANGE_BLOCK) + 1, false);
    CHECK(size == SMALL + (size_t)(test_body(response) - response), "%zu bytes", size);
    for (uint64_t i = 0; i < SMALL; i++)
        CHECK((uint8_t)test_body(response)[i] == content_at(1, i), "byte %llu",
              (unsigned long long)i);
    close(fd);
    close_world(w);
}

static void paused_responses_hold_nothing_up(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .upload_bytes_s = DP_RANGE_BLOCK });
    const char *request = get_request(w, "");
    int fd = test_connect(w->port);
    uint64_t before;
    dp_error err;

    test_send(fd, request, strlen(request));
    await_bytes(w, 1);
    dp_range_server_remove(w->server, KEY);
    CHECK(test_is_closed(fd, TEST_WAIT_MS), "removed");
    close(fd);
    advance(w, 10);
    CHECK_OK(dp_range_server_add(w->server, KEY, &w->layout, w->files, &err), err);
    before = range_stats(w).bytes;
    fd = test_connect(w->port);
    test_send(fd, request, strlen(request));
    await_bytes(w, before + DP_RANGE_BLOCK);
    close_world(w); /* while it is paused */
    close(fd);
}

static void an_address_has_so_many_connections(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .connections_per_address = 4 });
    const char *request = get_request(w, "Range: bytes=0-9\r\n");
    int fds[4];

    for (size_t i = 0; i < 4; i++) {
        fds[i] = test_connect(w->port);
        CHECK(ask_on(fds[i], request) == 206, "%zu", i);
    }
    CHECK(test_ask(w->port, request, NULL, 0) == 0, "a fifth");
    CHECK(range_stats(w).refused == 1, "%llu", (unsigned long long)range_stats(w).refused);
    CHECK(ask_on(fds[3], request) == 206, "the others stay");
    close(fds[0]);
    CHECK(await_connections(w, 3, TEST_WAIT_MS), "one left");
    CHECK(test_ask(w->port, request, NULL, 0) == 206, "there is room again");
    for (size_t i = 1; i < 4; i++)
        close(fds[i]);
    close_world(w);
}

static void an_address_has_so_many_requests(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .requests_s_per_address = 5 });
    const char *request = get_request(w, "Range: bytes=0-9\r\n");
    int fd = test_connect(w->port);

    for (int i = 0; i < 5; i++)
        CHECK(ask_on(fd, request) == 206, "%d", i);
    CHECK(ask_on(fd, request) == 503 && strstr(response, "Retry-After: 1\r\n"), "%s", response);
    advance(w, 1);
    CHECK(ask_on(fd, request) == 206, "a second later");
    close(fd);
    close_world(w);
}

/* Half of the buffers at most are one address's, so others find one. */
static void an_address_has_so_many_responses(void **unused)
{
    world *w = open_world(true, NULL);
    const char *request = get_request(w, "");
    int fds[DP_RANGE_BUFFERS / 2];

    for (size_t i = 0; i < DP_ARRAY_LEN(fds); i++) {
        fds[i] = test_connect(w->port);
        test_send(fds[i], request, strlen(request));
        CHECK(recv(fds[i], response, 16, MSG_WAITALL) == 16 && !memcmp(response + 9, "200", 3),
              "%zu", i);
    }
    CHECK(test_ask(w->port, request, NULL, 0) == 503, "one more");
    for (size_t i = 0; i < DP_ARRAY_LEN(fds); i++)
        close(fds[i]);
    CHECK(await_connections(w, 0, TEST_WAIT_MS), "they left");
    CHECK(test_ask(w->port, get_request(w, "Range: bytes=0-9\r\n"), NULL, 0) == 206, "room again");
    close_world(w);
}

static void the_one_idle_longest_makes_room(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .connections_max = 4 });
    const char *request = get_request(w, "Range: bytes=0-9\r\n");
    int fds[4];

    for (size_t i = 0; i < 4; i++) {
        fds[i] = test_connect(w->port);
        CHECK(ask_on(fds[i], request) == 206, "%zu", i);
        await_idle(w);
        advance(w, 1);
    }
    CHECK(ask_on(fds[0], request) == 206, "0 is not idle longest any more");
    CHECK(test_ask(w->port, request, NULL, 0) == 206, "a fifth is answered");
    CHECK(test_is_closed(fds[1], TEST_WAIT_MS), "1 made room");
    CHECK(!test_is_closed(fds[0], 20) && !test_is_closed(fds[2], 20), "others did not");
    for (size_t i = 0; i < 4; i++)
        close(fds[i]);
    close_world(w);
}

/* Long enough for the guard to look at every connection. */
#define LOOK_MS ((int)(DP_GUARD_TICK_NS / 1000000) + 100)

static void slow_headers_are_cut(void **unused)
{
    world *w = open_world(false, NULL);
    int silent = test_connect(w->port), dripping = test_connect(w->port), kept;

    test_send(dripping, "GET / HT", 8);
    CHECK(await_connections(w, 2, TEST_WAIT_MS), "both");
    advance(w, 6);
    test_send(dripping, "TP/1.1\r\nx", 9);
    CHECK(!test_is_closed(silent, LOOK_MS) && !test_is_closed(dripping, 20), "after 6 s");
    advance(w, 5);
    CHECK(test_is_closed(silent, TEST_WAIT_MS) && test_is_closed(dripping, TEST_WAIT_MS),
          "after 11 s");
    close(silent);
    close(dripping);

    kept = test_connect(w->port);
    CHECK(ask_on(kept, get_request(w, "Range: bytes=0-9\r\n")) == 206, "%s", response);
    await_idle(w);
    advance(w, 7000);
    CHECK(!test_is_closed(kept, LOOK_MS), "idle for 7000 s");
    test_send(kept, "GET / HT", 8);
    CHECK(!test_is_closed(kept, LOOK_MS), "a new header");
    advance(w, 11);
    CHECK(test_is_closed(kept, TEST_WAIT_MS), "which did not come");
    close(kept);
    close_world(w);
}

static void idle_connections_end(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .idle_s = 60 });
    int fd = test_connect(w->port);

    CHECK(ask_on(fd, get_request(w, "Range: bytes=0-9\r\n")) == 206, "%s", response);
    await_idle(w);
    advance(w, 59);
    CHECK(!test_is_closed(fd, LOOK_MS), "59 s");
    advance(w, 2);
    CHECK(test_is_closed(fd, TEST_WAIT_MS), "61 s");
    close(fd);
    close_world(w);
}

/* A client that takes nothing loses its buffer; its system takes some bytes at first. */
static void slow_readers_are_cut(void **unused)
{
    world *w = open_world(true, NULL);
    const char *request = get_request(w, "");
    int fd = test_connect(w->port);
    bool is_cut = false;

    test_send(fd, request, strlen(request));
    await_bytes(w, 1);
    for (int i = 0; i < 5 && !is_cut; i++) {
        advance(w, 31);
        is_cut = await_connections(w, 0, LOOK_MS);
    }
    CHECK(is_cut, "it is still there");
    close(fd);
    close_world(w);
}

static void nonsense_is_survived(void **unused)
{
    static const struct {
        const char *bytes;
        size_t size;
    } all[] = {
#define BYTES(text) { text, sizeof text - 1 }
        BYTES("\0\0\0\0\0\0\0\0"),
        BYTES("\r\n\r\n\r\n\r\n"),
        BYTES("GET\r\n\r\n"),
        BYTES("GET / HTTP/9.9\r\n\r\n"),
        BYTES("GET /0123abcd/big HTTP/1.1\r\n\r\n"),
        BYTES("GET /0123abcd/big HTTP/1.1\r\nHost: x\r\nRange\r\n\r\n"),
        BYTES("GET /0123abcd/big HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
        BYTES("GET http://x/0123abcd/big HTTP/1.1\r\nHost: x\r\n\r\n"),
        BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), /* TLS */
        BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        BYTES("\x13"
              "BitTorrent protocol"),
    };
    world *w = open_world(false, NULL);
    static char long_line[40000];

    for (size_t i = 0; i < DP_ARRAY_LEN(all); i++) {
        int fd = test_connect(w->port);

        test_send(fd, all[i].bytes, all[i].size);
        shutdown(fd, SHUT_WR);
        if (!test_is_closed(fd, 100)) /* it waits for more, but not for long */
            advance(w, 11);
        CHECK(test_is_closed(fd, TEST_WAIT_MS) && range_stats(w).bytes == 0, "%zu", i);
        close(fd);
    }
    memset(long_line, 'a', sizeof long_line - 1);
    memcpy(long_line, "GET /", 5);
    CHECK(test_ask(w->port, long_line, NULL, 0) == 414, "a target of 40 kB");
    memcpy(long_line, "GET / HTTP/1.1\r\nHost: x\r\nX: ", 28);
    CHECK(test_ask(w->port, long_line, NULL, 0) == 431, "a header of 40 kB");
    CHECK(test_ask(w->port, get_request(w, "Range: bytes=0-9\r\n"), NULL, 0) == 206, "still here");
    close_world(w);
}

static size_t resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    size_t pages = 0;

    CHECK(f && fscanf(f, "%*u %zu", &pages) == 1, "statm");
    fclose(f);
    return pages * 4096;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GROWTH_MAX SIZE_MAX /* of the sanitizers themselves */
#else
#define GROWTH_MAX ((size_t)16 << 20) /* 256 connections of 16 KiB, and threads' own heaps */
#endif

/* 10,000 connections that begin a request and never end it, from one address. */
static void many_connections_cost_little(void **unused)
{
    world *w = open_world(false, &(dp_range_server_config){ .connections_per_address = 4096 });
    struct linger at_once = { 1, 0 };
    enum { BATCH = 400, BATCHES = 25 };
    int fds[BATCH];
    size_t before = resident_bytes(), most = 0;

    for (int b = 0; b < BATCHES; b++) {
        for (int i = 0; i < BATCH; i++) {
            fds[i] = test_connect(w->port);
            setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
            test_send(fds[i], "GET /0123abcd/a HTTP/1.1\r\nHost", 30);
        }
        CHECK(test_ask(w->port, get_request(w, "Range: bytes=0-9\r\n"), NULL, 0) == 206,
              "batch %d: others are answered", b);
        most = DP_MAX(most, resident_bytes());
        CHECK(range_stats(w).connections <= 256 + 4 * 16, "%llu connections",
              (unsigned long long)range_stats(w).connections);
        for (int i = 0; i < BATCH; i++)
            close(fds[i]);
    }
    CHECK(await_connections(w, 0, TEST_WAIT_MS), "all left");
    CHECK(most - before < GROWTH_MAX, "grew by %zu KiB", (most - before) >> 10);
    print_message("10,000 connections: resident memory grew by %zu KiB\n", (most - before) >> 10);
    close_world(w);
}

/* Any allocation of a request fails: it is refused or cut, and the next one is answered. */
static void requests_without_memory_do_no_harm(void **unused)
{
    world *w = open_world(false, NULL);
    const char *request = get_request(w, "Range: bytes=20000-60000\r\n");
    uint64_t n, failed = 1;

    for (n = 0; failed; n++) {
        int status;

        dp_fault_arm(DP_FAULT_MEM, n, 1);
        status = test_ask(w->port, request, NULL, 0);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(failed ? status == 0 || status == 503 || status == 206 : status == 206, "%llu: %d",
              (unsigned long long)n, status);
        CHECK(n < 100, "it ends");
    }
    CHECK(n > 2, "%llu allocations", (unsigned long long)n);
    close_world(w);
}

static void nothing_leaks_when_opening_fails(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_THREAD };
    dp_range_server_config config = { .listen = "127.0.0.1:0",
                                      .token = "x",
                                      .clock = &dp_clock_real };
    dp_layout_file file = { "a", { 1, PIECE }, 0, NULL };
    dp_layout layout = { &file, 1, PIECE, 1 };
    dp_store_file *files[1] = { NULL };

    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        for (uint64_t n = 0;; n++) {
            dp_range_server *server;
            dp_status st;

            dp_fault_arm(points[p], n, 1);
            st = dp_range_server_open(&server, &config, NULL);
            if (!st)
                st = dp_range_server_add(server, KEY, &layout, files, NULL);
            dp_fault_disarm(points[p]);
            dp_range_server_close(server);
            check_no_leak();
            if (!st)
                break;
            CHECK(st == DP_E_NOMEM && n < 100, "%d", (int)st);
        }
    }
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, test_set_up, test_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(over_the_cap_is_later),
        WITH_FOLDER(a_response_keeps_to_the_cap),
        WITH_FOLDER(paused_responses_hold_nothing_up),
        WITH_FOLDER(an_address_has_so_many_connections),
        WITH_FOLDER(an_address_has_so_many_requests),
        WITH_FOLDER(an_address_has_so_many_responses),
        WITH_FOLDER(the_one_idle_longest_makes_room),
        WITH_FOLDER(slow_headers_are_cut),
        WITH_FOLDER(idle_connections_end),
        WITH_FOLDER(slow_readers_are_cut),
        WITH_FOLDER(nonsense_is_survived),
        WITH_FOLDER(many_connections_cost_little),
        WITH_FOLDER(requests_without_memory_do_no_harm),
        cmocka_unit_test(nothing_leaks_when_opening_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
