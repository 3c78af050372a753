#include "swarm/limits.h"

#include <arpa/inet.h>
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define S ((uint64_t)1000000000)

static void a_bucket_gives_its_burst_and_then_its_rate(void **unused)
{
    dp_bucket bucket;
    uint64_t now = 5 * S, taken = 0;

    dp_bucket_init(&bucket, 100, 50, now);
    while (dp_bucket_take(&bucket, 1, now))
        taken++;
    CHECK(taken == 50, "%llu at once", (unsigned long long)taken);
    CHECK(dp_bucket_wait_ns(&bucket, 1, now) / 1000 == 10001, "%llu ns",
          (unsigned long long)dp_bucket_wait_ns(&bucket, 1, now));

    for (taken = 0; now < 15 * S; now += S / 1000)
        taken += dp_bucket_take(&bucket, 1, now);
    CHECK(taken >= 998 && taken <= 1000, "%llu in 10 s", (unsigned long long)taken);

    now += 1000 * S; /* no more than the burst is kept */
    CHECK(!dp_bucket_take(&bucket, 51, now) && dp_bucket_take(&bucket, 50, now), "burst");
    CHECK(!dp_bucket_take(&bucket, 1, now - S), "time that stands still gives nothing");
}

static void waiting_as_long_as_told_is_enough(void **unused)
{
    static const double rates[] = { 1e-3, 1, 3, 1e6, 1.25e9 };

    for (size_t i = 0; i < DP_ARRAY_LEN(rates); i++) {
        dp_bucket bucket;
        uint64_t now = 1;

        dp_bucket_init(&bucket, rates[i], 131072, now);
        for (int n = 0; n < 50; n++) {
            now += dp_bucket_wait_ns(&bucket, 100000, now);
            CHECK(dp_bucket_wait_ns(&bucket, 100000, now) == 0 &&
                      dp_bucket_take(&bucket, 100000, now),
                  "rate %g, %d", rates[i], n);
        }
    }
}

static dp_address address(const char *text)
{
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    struct sockaddr_in four = { .sin_family = AF_INET };
    dp_address out;

    if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
        CHECK(dp_address_from(&out, (struct sockaddr *)&four), "%s", text);
    } else {
        CHECK(inet_pton(AF_INET6, text, &six.sin6_addr) == 1, "%s", text);
        CHECK(dp_address_from(&out, (struct sockaddr *)&six), "%s", text);
    }
    return out;
}

static bool same(const char *a, const char *b)
{
    dp_address first = address(a), second = address(b);

    return memcmp(&first, &second, sizeof first) == 0;
}

static void addresses_are_told_apart_by_household(void **unused)
{
    struct sockaddr other = { .sa_family = AF_UNIX };
    dp_address out;

    CHECK(same("192.0.2.1", "::ffff:192.0.2.1"), "one machine, two sockets");
    CHECK(!same("192.0.2.1", "192.0.2.2") && !same("::ffff:1.2.3.4", "::ffff:1.2.3.5"), "IPv4");
    CHECK(same("2001:db8::1", "2001:db8::ffff:2"), "one /64");
    CHECK(!same("2001:db8:0:1::1", "2001:db8:0:2::1"), "two /64");
    CHECK(!dp_address_from(&out, &other) && !dp_address_from(&out, NULL), "neither");
}

static dp_limits *open_limits(uint32_t connections, uint32_t responses, uint32_t requests_s)
{
    dp_limits_config config = { connections, responses, requests_s };
    dp_limits *limits;
    dp_error err;

    CHECK_OK(dp_limits_open(&limits, &config, &err), err);
    return limits;
}

static void one_address_has_its_share(void **unused)
{
    dp_limits *limits = open_limits(2, 1, 10);
    dp_address a = address("192.0.2.1"), b = address("192.0.2.2");
    uint32_t slot = dp_limits_enter(limits, &a, S);
    uint64_t wait;

    CHECK(slot != DP_LIMITS_NONE && dp_limits_enter(limits, &a, S) == slot, "two connections");
    CHECK(dp_limits_enter(limits, &a, S) == DP_LIMITS_NONE, "a third");
    CHECK(dp_limits_enter(limits, &b, S) != DP_LIMITS_NONE, "another address");
    dp_limits_leave(limits, slot);
    CHECK(dp_limits_enter(limits, &a, S) == slot, "after one left");

    CHECK(dp_limits_begin(limits, slot) && !dp_limits_begin(limits, slot), "one response");
    dp_limits_end(limits, slot);
    CHECK(dp_limits_begin(limits, slot), "after its end");

    for (int i = 0; i < 10; i++)
        CHECK(dp_limits_request(limits, slot, S) == 0, "request %d", i);
    wait = dp_limits_request(limits, slot, S);
    CHECK(wait > 0 && dp_limits_request(limits, slot, S + wait) == 0, "%llu",
          (unsigned long long)wait);
    dp_limits_close(limits);
}

/* Leaving and coming back within a second is no way to a full bucket. */
static void an_address_is_remembered(void **unused)
{
    dp_limits *limits = open_limits(2, 1, 1);
    dp_address a = address("192.0.2.1");

    for (int i = 0; i < 3; i++) {
        uint32_t slot = dp_limits_enter(limits, &a, S);

        CHECK((dp_limits_request(limits, slot, S) == 0) == (i == 0), "visit %d", i);
        dp_limits_leave(limits, slot);
    }
    dp_limits_close(limits);
}

static void the_table_is_bounded(void **unused)
{
    dp_limits *limits = open_limits(1, 1, 1);
    dp_address a = address("192.0.2.1");
    uint32_t held = dp_limits_enter(limits, &a, 0), slot = DP_LIMITS_NONE;

    a.bytes[0] = 1;
    for (uint32_t i = 0; i < 3 * DP_LIMITS_ADDRESSES_MAX; i++) { /* come and go */
        memcpy(a.bytes + 12, &i, 4);
        slot = dp_limits_enter(limits, &a, i);
        CHECK(slot < DP_LIMITS_ADDRESSES_MAX && slot != held, "address %u: slot %u", i, slot);
        dp_limits_leave(limits, slot);
    }
    a.bytes[0] = 2;
    for (uint32_t i = 1; i < DP_LIMITS_ADDRESSES_MAX; i++) { /* stay */
        memcpy(a.bytes + 12, &i, 4);
        slot = dp_limits_enter(limits, &a, i);
        CHECK(slot < DP_LIMITS_ADDRESSES_MAX && slot != held, "address %u: slot %u", i, slot);
    }
    a.bytes[0] = 3;
    CHECK(dp_limits_enter(limits, &a, 9) == DP_LIMITS_NONE, "every slot is held");
    dp_limits_leave(limits, slot);
    CHECK(dp_limits_enter(limits, &a, 9) == slot, "one left");
    dp_limits_close(limits);
}

static void no_memory_is_said(void **unused)
{
    dp_limits_config config = { 1, 1, 1 };
    dp_limits *limits;

    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_limits_open(&limits, &config, NULL) == DP_E_NOMEM && !limits, "memory");
    dp_fault_disarm(DP_FAULT_MEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
        cmocka_unit_test(waiting_as_long_as_told_is_enough),
        cmocka_unit_test(addresses_are_told_apart_by_household),
        cmocka_unit_test(one_address_has_its_share),
        cmocka_unit_test(an_address_is_remembered),
        cmocka_unit_test(the_table_is_bounded),
        cmocka_unit_test(no_memory_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
