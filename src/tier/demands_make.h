/* demands_make.h - made-up streams of demands, the same for a seed. Included by tests only. */
#ifndef DP_TIER_DEMANDS_MAKE_H
#define DP_TIER_DEMANDS_MAKE_H

#include "base/rng.h"
#include "tier/demands.h"

typedef struct dp_demands_kind {
    const char *name;
    double skew;         /* expert e is chosen in proportion to 1 / (1 + rank)^skew */
    double sticky;       /* each expert of the step before stays with this probability */
    uint32_t life_steps; /* ranks are dealt anew after so many steps; 0: never */
} dp_demands_kind;

#define MADE_LAYERS  6
#define MADE_EXPERTS 32
#define MADE_USED    4

typedef struct dp_demands_maker {
    dp_demands_kind kind;
    dp_rng rng;
    uint32_t rank[MADE_LAYERS][MADE_EXPERTS], set[MADE_LAYERS][MADE_USED];
    double sum[MADE_EXPERTS]; /* of weights up to a rank */
    uint32_t step;
} dp_demands_maker;

void dp_demands_maker_init(dp_demands_maker *maker, const dp_demands_kind *kind, uint64_t seed);
/* The next step: sets[layer] are distinct experts. */
void dp_demands_maker_step(dp_demands_maker *maker);

#endif
