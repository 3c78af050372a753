#include "base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"

/* The loop's gate, one word so that entering it is one compare-and-swap:
 *
 *   bits 0..9   workers inside
 *   bit  10     open: workers may enter
 *   bit  11     the pool is closing
 *   bits 12..   number of the loop
 *
 * The caller writes the loop's fields while the gate is shut and nobody inside,
 * opens, works, shuts, and waits until those inside have left. A worker that
 * wakes too late finds the gate shut, so nobody ever waits for a sleeper. */
#define GATE_INSIDE  0x3ffu
#define GATE_OPEN    0x400u
#define GATE_CLOSING 0x800u
#define GATE_NUMBER  0x1000u
_Static_assert(DP_POOL_THREADS_MAX <= GATE_INSIDE, "all workers fit");

#define SPIN_NS       50000 /* longer than what lies between loops, shorter than a time slice */
#define PAUSES_A_LOOK 32

struct worker {
    dp_thread thread;
    dp_pool *pool;
    uint32_t index;
};

struct dp_pool {
    /* Written by everyone. */
    _Alignas(DP_CACHE_LINE) _Atomic uint32_t gate;
    _Atomic uint32_t sleeping_count;   /* workers; partner of gate, both sequentially consistent */
    _Atomic uint32_t is_caller_asleep; /* a futex word */
    _Alignas(DP_CACHE_LINE) _Atomic size_t next_run;

    /* Written by the caller while the gate is shut. */
    _Alignas(DP_CACHE_LINE) size_t count;
    size_t grain;
    size_t run_count;
    dp_pool_body body;
    void *user;

    uint32_t thread_count;
    uint32_t started_count; /* workers with a thread */
    uint64_t spin_ns;
    struct worker *workers; /* [thread_count - 1] */
};

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Sleeps while *word is `seen`; may return early. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* True when gate & mask came to differ from `from` & mask within spin_ns. */
static bool spin_while(dp_pool *pool, uint32_t mask, uint32_t from)
{
    uint64_t begin_ns = 0;

    if (pool->spin_ns == 0)
        return (atomic_load_explicit(&pool->gate, memory_order_acquire) & mask) != (from & mask);
    for (;;) {
        for (int i = 0; i < PAUSES_A_LOOK; i++) {
            if ((atomic_load_explicit(&pool->gate, memory_order_acquire) & mask) != (from & mask))
                return true;
            relax();
        }
        if (begin_ns == 0)
            begin_ns = dp_clock_now_ns(&dp_clock_real);
        else if (dp_clock_now_ns(&dp_clock_real) - begin_ns > pool->spin_ns)
            return false;
    }
}

static void work(dp_pool *pool, uint32_t worker)
{
    size_t run;

    while ((run = atomic_fetch_add_explicit(&pool->next_run, 1, memory_order_relaxed)) <
           pool->run_count) {
        size_t begin = run * pool->grain;
        size_t end = pool->count - begin > pool->grain ? begin + pool->grain : pool->count;

        pool->body(pool->user, begin, end, worker);
    }
}

/* Waits until the gate is open for a loop this worker has not seen, or closing. */
static uint32_t await_loop(dp_pool *pool, uint32_t number_seen)
{
    const uint32_t mask = ~(GATE_INSIDE | GATE_OPEN);

    for (;;) {
        uint32_t gate = atomic_load(&pool->gate);

        if ((gate & mask) != number_seen || spin_while(pool, mask, number_seen))
            return atomic_load(&pool->gate);
        atomic_fetch_add(&pool->sleeping_count, 1);
        gate = atomic_load(&pool->gate);
        if ((gate & mask) == number_seen)
            futex_wait(&pool->gate, gate);
        atomic_fetch_sub(&pool->sleeping_count, 1);
    }
}

static void leave(dp_pool *pool)
{
    uint32_t before = atomic_fetch_sub(&pool->gate, 1);

    if ((before & GATE_INSIDE) == 1 && atomic_exchange(&pool->is_caller_asleep, 0))
        futex_wake(&pool->is_caller_asleep, 1);
}

static void worker_main(void *user)
{
    struct worker *worker = user;
    dp_pool *pool = worker->pool;
    uint32_t number_seen = 0;

    for (;;) {
        uint32_t gate = await_loop(pool, number_seen);

        if (gate & GATE_CLOSING)
            return;
        number_seen = gate & ~(GATE_INSIDE | GATE_OPEN);
        /* Enter if this very loop is still open. */
        while ((gate & GATE_OPEN) && (gate & ~(GATE_INSIDE | GATE_OPEN)) == number_seen) {
            if (atomic_compare_exchange_weak(&pool->gate, &gate, gate + 1)) {
                work(pool, worker->index);
                leave(pool);
                break;
            }
        }
    }
}

dp_status dp_pool_open(dp_pool **out, uint32_t thread_count, dp_error *err)
{
    dp_status st = DP_OK;
    dp_pool *pool = NULL;

    *out = NULL;
    if (thread_count == 0 || thread_count > DP_POOL_THREADS_MAX) {
        st = dp_fail(err, DP_E_LIMIT, "pool: %u threads, must be 1 to %u", thread_count,
                     DP_POOL_THREADS_MAX);
        goto done;
    }
    pool = dp_map_acquire(sizeof *pool); /* for its alignment */
    if (!pool) {
        st = dp_fail(err, DP_E_NOMEM, "pool: no memory for %u threads", thread_count);
        goto done;
    }
    pool->workers = dp_alloc_zero(thread_count, sizeof *pool->workers);
    if (!pool->workers) {
        st = dp_fail(err, DP_E_NOMEM, "pool: no memory for %u threads", thread_count);
        goto done;
    }
    pool->thread_count = thread_count;
    /* With more threads than processors, one that spins takes the processor from
     * one that works. */
    pool->spin_ns = thread_count <= dp_cpu_get()->thread_count ? SPIN_NS : 0;
    while (pool->started_count < thread_count - 1) {
        struct worker *worker = &pool->workers[pool->started_count];

        worker->pool = pool;
        worker->index = pool->started_count + 1;
        st = dp_thread_start(&worker->thread, "dp-pool", worker_main, worker, err);
        if (st)
            goto done;
        pool->started_count++;
    }

    *out = pool;
    pool = NULL;
done:
    dp_pool_close(pool);
    return st;
}

void dp_pool_close(dp_pool *pool)
{
    if (!pool)
        return;
    atomic_fetch_or(&pool->gate, GATE_CLOSING);
    futex_wake(&pool->gate, INT_MAX);
    for (uint32_t i = 0; i < pool->started_count; i++)
        dp_thread_join(&pool->workers[i].thread);
    dp_free(pool->workers);
    dp_map_release(pool, sizeof *pool);
}

uint32_t dp_pool_thread_count(const dp_pool *pool)
{
    return pool->thread_count;
}

/* Shuts the gate and waits until the workers inside have left. */
static void shut(dp_pool *pool)
{
    uint32_t gate = atomic_fetch_and(&pool->gate, ~GATE_OPEN) & ~GATE_OPEN;

    while (gate & GATE_INSIDE) {
        /* Spin until the count of those inside changes; then look anew. */
        if (!spin_while(pool, GATE_INSIDE, gate)) {
            atomic_store(&pool->is_caller_asleep, 1);
            if (atomic_load(&pool->gate) & GATE_INSIDE)
                futex_wait(&pool->is_caller_asleep, 1);
            atomic_store(&pool->is_caller_asleep, 0);
        }
        gate = atomic_load(&pool->gate);
    }
}

void dp_pool_run(dp_pool *pool, size_t count, size_t grain, dp_pool_body body, void *user)
{
    size_t run_count;
    size_t wake_count;

    DP_CHECK(grain > 0);
    if (count == 0)
        return;
    run_count = (count - 1) / grain + 1;
    wake_count = DP_MIN(run_count, pool->thread_count) - 1;
    if (wake_count == 0) {
        for (size_t begin = 0; begin < count; begin += DP_MIN(grain, count - begin))
            body(user, begin, begin + DP_MIN(grain, count - begin), 0);
        return;
    }
    DP_ASSERT((atomic_load(&pool->gate) & (GATE_OPEN | GATE_INSIDE)) == 0);
    pool->count = count;
    pool->grain = grain;
    pool->run_count = run_count;
    pool->body = body;
    pool->user = user;
    atomic_store_explicit(&pool->next_run, 0, memory_order_relaxed);

    /* Opening and reading sleeping_count, against a worker's counting itself and
     * reading the gate: in one total order one of the two sees the other. */
    atomic_fetch_add(&pool->gate, GATE_NUMBER + GATE_OPEN);
    if (atomic_load(&pool->sleeping_count) > 0)
        futex_wake(&pool->gate, wake_count > INT_MAX ? INT_MAX : (int)wake_count);
    work(pool, 0);
    shut(pool);
}
