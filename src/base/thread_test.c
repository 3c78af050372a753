#include "testing/check.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/thread.h"

static struct {
    dp_mutex lock;
    dp_cond changed;
    uint64_t count;
    bool is_held_elsewhere;
    bool are_signals_blocked;
    char name[16];
    unsigned long long slice_ns; /* 0: unknown */
    int policy;
} shared;

static int set_up(void **state)
{
    dp_mutex_init(&shared.lock);
    dp_cond_init(&shared.changed);
    shared.count = 0;
    return 0;
}

static int tear_down(void **state)
{
    dp_cond_deinit(&shared.changed);
    dp_mutex_deinit(&shared.lock);
    return 0;
}

static void count_up(void *user)
{
    for (int i = 0; i < 10000; i++) {
        dp_mutex_lock(&shared.lock);
        shared.count++;
        dp_mutex_unlock(&shared.lock);
    }
}

static void test_mutex(void **state)
{
    dp_thread threads[4];
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        CHECK_OK(dp_thread_start(&threads[i], "count", count_up, NULL, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(threads); i++)
        dp_thread_join(&threads[i]);
    CHECK(shared.count == 40000, "%llu", (unsigned long long)shared.count);
}

/* From /proc, as the scheduler sees the thread: "se.slice : 100000", where the kernel says so. */
static void hurry(void *user)
{
    char line[256];
    FILE *file;

    dp_thread_hurry();
    shared.slice_ns = 0;
    shared.policy = sched_getscheduler(0);
    file = fopen("/proc/thread-self/sched", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "se.slice : %llu", &shared.slice_ns) == 1)
            break;
    if (file)
        fclose(file);
}

static void test_hurry(void **state)
{
    dp_thread thread;
    struct utsname system;
    dp_error err;
    int major = 0, minor = 0;

    CHECK_OK(dp_thread_start(&thread, "hurry", hurry, NULL, &err), err);
    dp_thread_join(&thread);
    CHECK(shared.policy == sched_getscheduler(0), "%d", shared.policy);
    CHECK(uname(&system) == 0, "uname");
    CHECK(sscanf(system.release, "%d.%d", &major, &minor) == 2, "%s", system.release);
    if (shared.slice_ns && major * 100 + minor >= 612)
        CHECK(shared.slice_ns == DP_THREAD_SLICE_NS, "%llu", shared.slice_ns);
}

static void look(void *user)
{
    sigset_t blocked;

    shared.is_held_elsewhere = dp_mutex_is_held(&shared.lock);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    shared.are_signals_blocked = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM);
    pthread_getname_np(pthread_self(), shared.name, sizeof shared.name);
}

static void test_thread_sees(void **state)
{
    dp_thread thread;
    dp_error err;
    sigset_t blocked;

    dp_mutex_lock(&shared.lock);
    CHECK(dp_mutex_is_held(&shared.lock), "by us");
    CHECK_OK(dp_thread_start(&thread, "a name that is cut", look, NULL, &err), err);
    dp_thread_join(&thread);
    dp_mutex_unlock(&shared.lock);
#ifndef NDEBUG
    CHECK(!shared.is_held_elsewhere, "by another thread");
    CHECK(!dp_mutex_is_held(&shared.lock), "not any more");
#endif
    CHECK(shared.are_signals_blocked, "signals are the program's");
    CHECK(strcmp(shared.name, "a name that is ") == 0, "%s", shared.name);
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    CHECK(!sigismember(&blocked, SIGINT), "the starter's mask is as before");
}

static void answer(void *user)
{
    dp_mutex_lock(&shared.lock);
    while (shared.count != 1)
        dp_cond_wait(&shared.changed, &shared.lock);
    shared.count = 2;
    dp_cond_broadcast(&shared.changed);
    dp_mutex_unlock(&shared.lock);
}

static void test_cond(void **state)
{
    dp_thread thread;
    dp_error err;

    CHECK_OK(dp_thread_start(&thread, "answer", answer, NULL, &err), err);
    dp_mutex_lock(&shared.lock);
    shared.count = 1;
    dp_cond_signal(&shared.changed);
    while (shared.count != 2) /* an hour: a hang would be the failure */
        CHECK(dp_cond_wait_for(&shared.changed, &shared.lock, (uint64_t)3600 * 1000000000u),
              "nobody answered");
    CHECK(!dp_cond_wait_for(&shared.changed, &shared.lock, 0), "nothing to come");
    CHECK(!dp_cond_wait_for(&shared.changed, &shared.lock, 1000), "nothing to come");
#ifndef NDEBUG
    CHECK(dp_mutex_is_held(&shared.lock), "again");
#endif
    dp_mutex_unlock(&shared.lock);
    dp_thread_join(&thread);
}

static void test_start_fails(void **state)
{
    static const dp_fault faults[] = { DP_FAULT_MEM, DP_FAULT_THREAD };
    dp_mem_stats stats;
    dp_thread thread;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(faults); i++) {
        dp_status st;

        dp_fault_arm(faults[i], 0, 1);
        st = dp_thread_start(&thread, "none", look, NULL, &err);
        CHECK(dp_fault_disarm(faults[i]) == 1 && st == DP_E_NOMEM, "%s", err.text);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "leak");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutex),       cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_thread_sees), cmocka_unit_test(test_cond),
        cmocka_unit_test(test_start_fails),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
