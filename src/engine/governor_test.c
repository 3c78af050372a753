#include "engine/governor.h"

#include "testing/check.h"

#define MB ((uint64_t)1000000)
#define MS ((uint64_t)1000000)

/* A machine in one number: memory that we and others share. */
typedef struct machine {
    dp_governor governor;
    uint64_t now_ns, stall_us;
    uint64_t total_bytes, others_bytes, held_bytes;
} machine;

static machine make(uint64_t ceiling)
{
    machine m = { .now_ns = 1000 * MS, .total_bytes = 10000 * MB, .others_bytes = 1000 * MB };

    dp_governor_init(&m.governor, ceiling, 500 * MB, 600 * MB);
    m.held_bytes = ceiling;
    return m;
}

/* A period passes; we obey at once, and fill what we may when `fills`. */
static void pass(machine *m, bool fills)
{
    uint64_t taken = m->others_bytes + m->held_bytes, target;
    dp_governor_sample sample = {
        .now_ns = m->now_ns += DP_GOVERNOR_PERIOD_NS,
        .room_bytes = m->total_bytes > taken ? m->total_bytes - taken : 0,
        .stall_us = m->stall_us,
        .held_bytes = m->held_bytes,
    };

    target = dp_governor_decide(&m->governor, &sample);
    CHECK(target >= m->governor.floor_bytes && target <= m->governor.ceiling_bytes, "out of range");
    if (m->held_bytes > target || fills)
        m->held_bytes = target;
}

static void nothing_changes_while_there_is_room(void **unused)
{
    machine m = make(8000 * MB);

    for (int i = 0; i < 100; i++)
        pass(&m, true);
    CHECK(m.governor.target_bytes == 8000 * MB, "%llu", (unsigned long long)m.held_bytes);
}

/* Another program grows by 100 MB a sample: it never meets a full machine. */
static void others_that_grow_find_room(void **unused)
{
    machine m = make(8000 * MB);

    for (int i = 0; i < 70; i++) {
        m.others_bytes += 100 * MB;
        CHECK(m.others_bytes + m.held_bytes <= m.total_bytes, "full at %d", i);
        pass(&m, true);
    }
    CHECK(m.held_bytes <= 1700 * MB, "%llu MB held", (unsigned long long)(m.held_bytes / MB));
    CHECK(m.total_bytes - m.others_bytes - m.held_bytes >= 300 * MB, "less than half the reserve");

    /* It ends: after a calm while all comes back, and stays. */
    m.others_bytes = 1000 * MB;
    while (m.now_ns + DP_GOVERNOR_PERIOD_NS - m.governor.tight_ns < DP_GOVERNOR_CALM_NS) {
        uint64_t before = m.held_bytes;
        pass(&m, true);
        CHECK(m.held_bytes == before, "grows at once");
    }
    for (int i = 0; i < 200; i++)
        pass(&m, true);
    CHECK(m.held_bytes >= 7990 * MB, "%llu MB held", (unsigned long long)(m.held_bytes / MB));
}

/* What was promised but not taken yet is no cushion. */
static void a_budget_that_is_not_used_falls_too(void **unused)
{
    machine m = make(8000 * MB);

    m.held_bytes = 2000 * MB;
    m.others_bytes = 7900 * MB;
    pass(&m, false);
    CHECK(m.governor.target_bytes == 1500 * MB, "%llu MB",
          (unsigned long long)(m.governor.target_bytes / MB));
}

static void stalls_lower_it_where_room_is_short(void **unused)
{
    machine m = make(6000 * MB);
    uint64_t before;

    /* Others wait for memory while there is plenty: it is not ours they lack. */
    pass(&m, true);
    for (int i = 0; i < 50; i++) {
        m.stall_us += 90000;
        pass(&m, true);
    }
    CHECK(m.held_bytes == 6000 * MB, "%llu MB", (unsigned long long)(m.held_bytes / MB));

    m.others_bytes = 3200 * MB; /* of 10,000: 800 are left, the reserve is 600 */

    pass(&m, true);
    m.stall_us += 9000; /* of 100,000: below a tenth */
    pass(&m, true);
    CHECK(m.held_bytes == 6000 * MB, "a short stall");
    before = m.held_bytes;
    m.stall_us += 20000;
    pass(&m, true);
    CHECK(m.held_bytes == before - before / 20, "%llu MB", (unsigned long long)(m.held_bytes / MB));
    CHECK(m.governor.tight_ns == m.now_ns, "not remembered");

    /* Once a second at most. */
    m.others_bytes += before / 20;
    before = m.held_bytes;
    m.stall_us += 90000;
    pass(&m, true);
    CHECK(m.held_bytes == before, "again at once");
}

static void the_floor_holds(void **unused)
{
    machine m = make(8000 * MB);

    m.others_bytes = 20000 * MB;
    for (int i = 0; i < 50; i++)
        pass(&m, true);
    CHECK(m.held_bytes == 500 * MB, "%llu MB", (unsigned long long)(m.held_bytes / MB));
    dp_governor_init(&m.governor, 100 * MB, 500 * MB, 600 * MB);
    CHECK(m.governor.target_bytes == 500 * MB, "a budget below the floor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_while_there_is_room),
        cmocka_unit_test(others_that_grow_find_room),
        cmocka_unit_test(a_budget_that_is_not_used_falls_too),
        cmocka_unit_test(stalls_lower_it_where_room_is_short),
        cmocka_unit_test(the_floor_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
