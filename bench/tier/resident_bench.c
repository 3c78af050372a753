/* resident_bench - what the tier takes of a token when every page is there.
 *
 *   bench_resident FILE LAYERS EXPERTS USED [TOKENS]
 *
 * Pages of a mixture of that shape, three small ranges of FILE each, are loaded; then the calls of
 * a token are made as a step makes them, with nothing computed in between: a tick, and per layer
 * the layer's own page and its experts wanted, served and released. One JSON line: the median
 * microseconds of processor time a token over 21 runs. resident.py puts it beside the time of a token. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tier/source_file.h"
#include "tier/tier.h"

#define RUNS        21
#define PARTS       3
#define PART_BYTES  4096
#define USED_MAX    64
#define EXPERTS_MAX 1024
#define WAIT_NS     60000000000ull

typedef struct shape {
    uint32_t layers, experts, used;
} shape;

static _Noreturn void die(const dp_error *err)
{
    fprintf(stderr, "bench_resident: %s\n", err->text);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Pages in order: each layer's own, then its experts. */
static void add_pages(dp_tier *tier, const shape *s)
{
    for (uint32_t l = 0; l < s->layers; l++)
        for (uint32_t e = 0; e <= s->experts; e++) {
            dp_page_desc desc = { .kind = e ? DP_PAGE_EXPERT : DP_PAGE_ALWAYS,
                                  .layer = l,
                                  .index = e ? e - 1 : 0,
                                  .part_count = PARTS };
            dp_page_id page;
            dp_error err;
            for (uint32_t p = 0; p < PARTS; p++)
                desc.parts[p] = (dp_page_part){ 0, (uint64_t)p * PART_BYTES, PART_BYTES };
            if (dp_tier_add_page(tier, &desc, &page, &err))
                die(&err);
        }
}

static void use(dp_tier *tier, const dp_page_id *pages, size_t count)
{
    uint8_t scratch[USED_MAX];
    dp_tier_batch batch;
    dp_lease lease;
    size_t index;
    dp_error err;
    dp_status st = dp_tier_want(tier, pages, count, scratch, &batch, &err);

    while (!st && (st = dp_tier_next(&batch, &lease, &index, WAIT_NS, &err)) == DP_OK)
        dp_tier_release(tier, &lease);
    dp_tier_batch_end(&batch);
    if (st != DP_E_NOTFOUND)
        die(&err);
}

static void choose(dp_rng *rng, const shape *s, uint32_t layer, dp_page_id *pages)
{
    uint32_t first = layer * (s->experts + 1) + 1;

    for (uint32_t i = 0; i < s->used;) {
        dp_page_id page = first + (uint32_t)dp_rng_below(rng, s->experts);
        uint32_t k = 0;
        while (k < i && pages[k] != page)
            k++;
        if (k == i)
            pages[i++] = page;
    }
}

static void token(dp_tier *tier, const shape *s, dp_rng *rng)
{
    dp_page_id pages[USED_MAX];

    dp_tier_tick(tier);
    for (uint32_t l = 0; l < s->layers; l++) {
        pages[0] = l * (s->experts + 1);
        use(tier, pages, 1);
        choose(rng, s, l, pages);
        use(tier, pages, s->used);
    }
}

/* Of this thread: others that run beside do not count. */
static double cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static double run(dp_tier *tier, const shape *s, dp_rng *rng, int tokens)
{
    double begin = cpu_us();

    for (int i = 0; i < tokens; i++)
        token(tier, s, rng);
    return (cpu_us() - begin) / tokens;
}

int main(int argc, char **argv)
{
    shape s = { argc > 2 ? (uint32_t)atoi(argv[2]) : 0, argc > 3 ? (uint32_t)atoi(argv[3]) : 0,
                argc > 4 ? (uint32_t)atoi(argv[4]) : 0 };
    int tokens = argc > 5 ? atoi(argv[5]) : 200;
    double us[RUNS];
    dp_source *source;
    dp_tier *tier;
    dp_error err;
    dp_rng rng;

    if (!s.layers || !s.used || s.used > USED_MAX || s.used > s.experts ||
        s.experts > EXPERTS_MAX || tokens < 1) {
        fprintf(stderr, "usage: bench_resident FILE LAYERS EXPERTS USED [TOKENS]\n");
        return 2;
    }
    if (dp_source_file_open(&source,
                            &(dp_source_file_config){ .paths = (const char *const[]){ argv[1] },
                                                      .file_count = 1,
                                                      .depth = 16,
                                                      .request_max = DP_MIB },
                            &err) ||
        dp_tier_open(&tier,
                     &(dp_tier_config){ .budget_bytes = UINT64_MAX / 2,
                                        .policy = &dp_policy_next,
                                        .source = source,
                                        .clock = &dp_clock_real,
                                        .layer_count = s.layers,
                                        .expert_count = s.experts },
                     &err))
        die(&err);
    add_pages(tier, &s);
    for (dp_page_id page = 0; page < s.layers * (s.experts + 1); page++)
        use(tier, &page, 1);
    dp_rng_init(&rng, 1);
    for (int i = 0; i < RUNS; i++)
        us[i] = run(tier, &s, &rng, tokens);
    qsort(us, RUNS, sizeof *us, compare);
    printf("{\"bench\": \"resident\", \"layers\": %u, \"experts\": %u, \"used\": %u, "
           "\"tier_us_per_token\": %.4g, \"tier_us_best\": %.4g}\n",
           s.layers, s.experts, s.used, us[RUNS / 2], us[0]);
    dp_tier_close(tier);
    source->ops->close(source);
    return 0;
}
