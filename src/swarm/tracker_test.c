#include <stdlib.h>
#include "base/fault.h"
#include "base/mem.h"
#include "doppler/swarm.h"
#include "swarm/socket_testing.h"
#include "testing/check.h"

#define INFO       "%00123456789abcdefghi%00"
#define ASK(query) "GET " query " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static const struct {
    const char *request;
    int status;
    const char *body;
    size_t size;
} rows[] = {
#define BODY(text) text, sizeof text - 1
    { ASK("/announce?info_hash=" INFO "&port=6881&left=1"), 200,
      BODY("d8:completei0e10:incompletei1e8:intervali30e5:peers0:e") },
    { ASK("/announce?info_hash=" INFO "&port=6882&left=0&numwant=5"), 200,
      BODY("d8:completei1e10:incompletei1e8:intervali30e5:peers6:\177\0\0\1\32\341e") },
    { ASK("/announce?info_hash=" INFO "&port=6881&event=stopped"), 200,
      BODY("d8:completei1e10:incompletei0e8:intervali30e5:peers0:e") },
    { ASK("/announce?info_hash=abc&port=6881"), 200,
      BODY("d14:failure reason31:info_hash has no sensible valuee") },
    { ASK("/announce?info_hash=x123456789abcdefghi%00&port=6881"), 200,
      BODY("d14:failure reason32:this torrent is not tracked heree") },
    { ASK("/scrape"), 404, BODY("d14:failure reason29:the tracker answers /announcee") },
    { "POST /announce HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", 405, BODY("") },
    { "nonsense\r\n\r\n", 0, NULL, 0 },
};

static void announces_are_answered(void **unused)
{
    const char *infos[] = { "0031323334353637383961626364656667686900" };
    dp_tracker_config config = { "127.0.0.1:0", infos, 1, 30 };
    static char response[16384];
    dp_tracker_stats stats;
    dp_tracker *tracker;
    dp_error err;

    CHECK_OK(dp_tracker_open(&tracker, &config, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        int status = test_ask(dp_tracker_port(tracker), rows[i].request, response, sizeof response);

        CHECK(status == rows[i].status, "%s: %s", rows[i].request, response);
        if (rows[i].body)
            CHECK(memcmp(test_body(response), rows[i].body, rows[i].size) == 0, "%s: %s",
                  rows[i].request, test_body(response));
    }
    dp_tracker_stats_read(tracker, &stats);
    CHECK(stats.announces == 4 && stats.refused == 2 && stats.torrents == 1 && stats.peers == 1,
          "%llu, %llu, %u, %u", (unsigned long long)stats.announces,
          (unsigned long long)stats.refused, stats.torrents, stats.peers);
    dp_tracker_close(tracker);
}

static void what_can_not_be_opened_says_why(void **unused)
{
    static const char *const bad_infos[] = { "0011" };
    static const struct {
        dp_tracker_config config;
        dp_status want;
    } bad[] = {
        { { "127.0.0.1", NULL, 0, 0 }, DP_E_INVALID },
        { { "127.0.0.1:65536", NULL, 0, 0 }, DP_E_INVALID },
        { { "::1:80", NULL, 0, 0 }, DP_E_INVALID },
        { { ":80", NULL, 0, 0 }, DP_E_INVALID },
        { { "example.org:80", NULL, 0, 0 }, DP_E_INVALID },
        { { "192.0.2.1:0", NULL, 0, 0 }, DP_E_IO }, /* not an address of this machine */
        { { "127.0.0.1:0", bad_infos, 1, 0 }, DP_E_INVALID },
        { { "127.0.0.1:0", NULL, 5000, 0 }, DP_E_LIMIT },
        { { "127.0.0.1:0", NULL, 0, 100000 }, DP_E_LIMIT },
    };
    dp_tracker *tracker;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(bad); i++)
        CHECK(dp_tracker_open(&tracker, &bad[i].config, &err) == bad[i].want && !tracker, "%zu: %s",
              i, err.text);
}

static void nothing_leaks_when_opening_fails(void **unused)
{
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_THREAD };
    const char *infos[] = { "0031323334353637383961626364656667686900" };
    dp_tracker_config config = { "127.0.0.1:0", infos, 1, 30 };
    dp_mem_stats before, after;
    dp_tracker *tracker;
    dp_status st;

    dp_mem_stats_read(&before);
    for (size_t p = 0; p < DP_ARRAY_LEN(points); p++) {
        for (uint64_t n = 0;; n++) {
            dp_fault_arm(points[p], n, 1);
            st = dp_tracker_open(&tracker, &config, NULL);
            dp_fault_disarm(points[p]);
            dp_tracker_close(tracker);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "fault %zu, %llu", p,
                  (unsigned long long)n);
            if (!st)
                break;
            CHECK(st == DP_E_NOMEM && n < 100, "%d", (int)st);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(announces_are_answered),
        cmocka_unit_test(what_can_not_be_opened_says_why),
        cmocka_unit_test(nothing_leaks_when_opening_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
