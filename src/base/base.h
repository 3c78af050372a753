/* base.h - integer types, attributes and arithmetic that cannot wrap. */
#ifndef DP_BASE_BASE_H
#define DP_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DP_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define DP_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define DP_MAX(a, b)    ((a) > (b) ? (a) : (b))

#define DP_KIB ((uint64_t)1 << 10)
#define DP_MIB ((uint64_t)1 << 20)
#define DP_GIB ((uint64_t)1 << 30)

#define DP_CACHE_LINE 64 /* keeps what two threads write apart */

#define DP_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#define DP_NOINLINE                   __attribute__((noinline))
#define DP_ALWAYS_INLINE              inline __attribute__((always_inline))
#define DP_UNUSED                     __attribute__((unused))

/* *out = a + b (a * b); false and *out untouched when that does not fit. */
static inline bool dp_u64_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

static inline bool dp_u64_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* x rounded down or up to a multiple of `to`, a power of two. The caller knows
 * that x + to does not wrap. */
static inline uint64_t dp_align_down(uint64_t x, uint64_t to)
{
    return x & ~(to - 1);
}

static inline uint64_t dp_align_up(uint64_t x, uint64_t to)
{
    return (x + to - 1) & ~(to - 1);
}

static inline bool dp_is_power_of_two(uint64_t x)
{
    return x != 0 && (x & (x - 1)) == 0;
}

#endif
