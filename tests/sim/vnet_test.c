#include "vnet.h"

#include "testing/check.h"

/* Three hosts in a row, 10 ms of way between neighbours and 4 ms more each round trip: 14 and
 * 24 ms. Up 10 MB/s, down 20 MB/s. */
static vnet *open_net(void)
{
    static const vnet_host hosts[] = { { 10e6, 20e6, 8, 0, 0 },
                                       { 10e6, 20e6, 8, 10, 0 },
                                       { 10e6, 20e6, 8, 20, 0 },
                                       { 10e6, 20e6, 8, 20, 0 } };
    vnet *net = vnet_open(hosts, 4);

    CHECK(net, "no memory");
    return net;
}

/* Until the flow ends: the time, and how many bytes were told on the way. */
static uint64_t run_to_end(vnet *net, uint32_t flow, uint64_t *bytes)
{
    vnet_event e;

    *bytes = 0;
    while (vnet_next(net, 100 * VNET_S, &e)) {
        if (e.kind == VNET_REQUEST)
            CHECK(vnet_answer(net, e.flow), "too many");
        *bytes += e.kind == VNET_DATA && e.flow == flow ? e.bytes : 0;
        if (e.kind == VNET_DATA && e.flow == flow && e.is_end)
            return vnet_now_ns(net);
    }
    return 0;
}

static void check_near(uint64_t ns, double ms, const char *what)
{
    double got = (double)ns / 1e6;

    CHECK(got > ms - 0.01 && got < ms + 0.01, "%s: %.3f ms, %.3f expected", what, got, ms);
}

static void test_alone(void **state)
{
    vnet *net = open_net();
    uint64_t bytes;

    /* A round trip, then 1 MB at 10 MB/s. */
    uint64_t end = run_to_end(net, vnet_ask(net, 0, 1, 1000000, false), &bytes);

    check_near(end, 14 + 100, "one flow");
    CHECK(bytes == 1000000, "%llu bytes", (unsigned long long)bytes);
    vnet_close(net);
}

static void test_cold(void **state)
{
    vnet *net = open_net();
    uint64_t bytes;

    /* A round trip to connect, one to ask, then windows of 14480 bytes doubled each 14 ms:
     * 14480 x 7 = 101360 after three, and at 10 MB/s (a window of 140 kB) the rest after the
     * fourth (115840 in 14 ms). */
    uint64_t end = run_to_end(net, vnet_ask(net, 0, 1, 400000, true), &bytes);

    check_near(end, 28 + 4 * 14 + (400000 - 15 * 14480) / 10e3, "a cold flow");
    vnet_close(net);
}

static void test_sharing(void **state)
{
    vnet *net = open_net();
    uint64_t bytes;
    uint32_t a = vnet_ask(net, 2, 0, 1000000, false), b = vnet_ask(net, 3, 0, 1000000, false);

    /* Both from host 0, 24 ms away: half of 10 MB/s each. */
    check_near(run_to_end(net, a, &bytes), 24 + 200, "the sender is shared");
    vnet_close(net);

    net = open_net();
    a = vnet_ask(net, 0, 1, 1400000, false);
    b = vnet_ask(net, 0, 2, 1400000, false);
    (void)vnet_ask(net, 0, 3, 1400000, false);
    /* From 14 ms on 10 MB/s, from 24 ms on a third of 20 MB/s each. */
    check_near(run_to_end(net, a, &bytes), 24 + 1300 / (20. / 3), "the receiver is shared");
    (void)b;
    vnet_close(net);
}

static void test_refused_and_frozen(void **state)
{
    vnet *net = open_net();
    uint32_t flow = vnet_ask(net, 0, 1, 1000, false);
    vnet_event e;

    CHECK(vnet_next(net, VNET_S, &e) && e.kind == VNET_REQUEST && e.flow == flow, "request");
    check_near(vnet_now_ns(net), 7, "half a round trip");
    vnet_refuse(net, flow, 3);
    CHECK(vnet_next(net, VNET_S, &e) && e.kind == VNET_REFUSED && e.code == 3, "refused");
    check_near(vnet_now_ns(net), 14, "a round trip");

    flow = vnet_ask(net, 0, 1, 1000, false);
    vnet_freeze(net, flow);
    vnet_timer(net, VNET_S, 5, 77);
    CHECK(vnet_next(net, 2 * VNET_S, &e) && e.kind == VNET_TIMER && e.code == 5 && e.value == 77,
          "the timer alone");
    CHECK(!vnet_next(net, 2 * VNET_S, &e) && vnet_now_ns(net) == 2 * VNET_S, "nothing more");
    vnet_stop(net, flow);
    vnet_close(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_cold),
        cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_refused_and_frozen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
