#include "tier/bandwidth.h"

#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/status.h"

#define GRAIN      ((size_t)1 << 20) /* bytes a worker takes at a time */
#define PASS_LEAST 2

typedef uint64_t lanes __attribute__((vector_size(64)));

typedef struct sweep {
    uint8_t *region;
    size_t size;
    _Atomic uint64_t sum; /* of all that was read: so that it is read */
} sweep;

static void touch(void *user, size_t begin, size_t end, uint32_t worker)
{
    sweep *s = user;

    memset(s->region + begin, (int)worker + 1, end - begin);
}

/* Four sums, so that additions wait for memory and not for each other. */
static void read_run(void *user, size_t begin, size_t end, uint32_t worker)
{
    sweep *s = user;
    const lanes *at = (const lanes *)(const void *)(s->region + begin);
    size_t count = (end - begin) / sizeof(lanes);
    lanes sum[4] = { { 0 } };
    uint64_t total = 0;

    for (size_t i = 0; i + 4 <= count; i += 4)
        for (size_t lane = 0; lane < 4; lane++)
            sum[lane] += at[i + lane];
    sum[0] += sum[1] + sum[2] + sum[3];
    for (size_t i = 0; i < sizeof(lanes) / sizeof(uint64_t); i++)
        total += sum[0][i];
    atomic_fetch_add_explicit(&s->sum, total, memory_order_relaxed);
}

dp_status dp_bandwidth_measure(double *bytes_s, const dp_bandwidth_config *config, dp_error *err)
{
    sweep s = { .size = (size_t)dp_align_up(config->bytes, GRAIN) };
    uint64_t begin_ns, best_ns = UINT64_MAX;
    dp_pool *pool = NULL;
    dp_status st;

    *bytes_s = 0;
    st = dp_pool_open(&pool, config->threads, err);
    if (st)
        goto done;
    s.region = dp_map_acquire(s.size);
    if (!s.region) {
        st = dp_fail(err, DP_E_NOMEM, "bandwidth: no memory for %zu bytes to read", s.size);
        goto done;
    }
    dp_pool_run(pool, s.size, GRAIN, touch, &s);
    begin_ns = dp_clock_now_ns(config->clock);
    for (uint64_t pass = 0, pass_ns = begin_ns, now_ns = begin_ns;
         pass < PASS_LEAST || now_ns - begin_ns < config->limit_ns; pass++, pass_ns = now_ns) {
        dp_pool_run(pool, s.size, GRAIN, read_run, &s);
        now_ns = dp_clock_now_ns(config->clock);
        best_ns = DP_MIN(best_ns, DP_MAX(now_ns - pass_ns, 1u));
        if (now_ns == pass_ns && pass >= PASS_LEAST)
            break; /* a clock that stands still ends no loop */
    }
    *bytes_s = (double)s.size * 1e9 / (double)best_ns;
done:
    dp_map_release(s.region, s.size);
    dp_pool_close(pool);
    return st;
}
