#include "tier/demands_make.h"

#include <math.h>

static void deal(dp_demands_maker *m)
{
    for (uint32_t l = 0; l < MADE_LAYERS; l++)
        for (uint32_t i = MADE_EXPERTS; i-- > 1;) {
            uint32_t j = (uint32_t)dp_rng_below(&m->rng, i + 1), kept = m->rank[l][i];
            m->rank[l][i] = m->rank[l][j];
            m->rank[l][j] = kept;
        }
}

void dp_demands_maker_init(dp_demands_maker *maker, const dp_demands_kind *kind, uint64_t seed)
{
    double sum = 0;

    *maker = (dp_demands_maker){ .kind = *kind };
    dp_rng_init(&maker->rng, seed);
    for (uint32_t e = 0; e < MADE_EXPERTS; e++) {
        sum += pow(1 + e, -kind->skew);
        maker->sum[e] = sum;
        for (uint32_t l = 0; l < MADE_LAYERS; l++)
            maker->rank[l][e] = e;
    }
    deal(maker);
}

static uint32_t draw(dp_demands_maker *m, uint32_t layer)
{
    double at = dp_rng_unit(&m->rng) * m->sum[MADE_EXPERTS - 1];
    uint32_t e = 0;

    while (e + 1 < MADE_EXPERTS && m->sum[e] <= at)
        e++;
    return m->rank[layer][e];
}

static bool has(const uint32_t *set, uint32_t count, uint32_t expert)
{
    for (uint32_t i = 0; i < count; i++)
        if (set[i] == expert)
            return true;
    return false;
}

void dp_demands_maker_step(dp_demands_maker *maker)
{
    bool is_first = maker->step == 0;

    if (maker->kind.life_steps && maker->step % maker->kind.life_steps == 0)
        deal(maker);
    for (uint32_t l = 0; l < MADE_LAYERS; l++) {
        uint32_t *set = maker->set[l], count = 0;
        for (uint32_t i = 0; i < MADE_USED && !is_first; i++)
            if (dp_rng_unit(&maker->rng) < maker->kind.sticky)
                set[count++] = set[i];
        while (count < MADE_USED) {
            uint32_t e = draw(maker, l);
            if (!has(set, count, e))
                set[count++] = e;
        }
    }
    maker->step++;
}
