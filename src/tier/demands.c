#include "tier/demands.h"

#include "base/assert.h"
#include "base/mem.h"

#define STEP_BIT    0x8000u
#define HEAD_WORDS  2 /* layer and whether it begins a step; count */
#define WORDS_FIRST 1024

void dp_demands_init(dp_demands *demands, size_t words_max)
{
    *demands = (dp_demands){ .count_max = words_max };
}

void dp_demands_deinit(dp_demands *demands)
{
    dp_free(demands->words);
    *demands = (dp_demands){ .count_max = demands->count_max };
}

void dp_demands_reset(dp_demands *demands)
{
    demands->count = 0;
}

static bool reserve(dp_demands *demands, size_t more)
{
    size_t capacity = DP_MAX(demands->capacity, WORDS_FIRST);
    uint16_t *words;

    if (demands->count + more > demands->count_max)
        return false;
    if (demands->count + more <= demands->capacity)
        return true;
    while (capacity < demands->count + more)
        capacity *= 2;
    words = dp_realloc(demands->words, capacity, sizeof *words);
    if (!words)
        return false;
    demands->words = words;
    demands->capacity = capacity;
    return true;
}

bool dp_demands_add(dp_demands *demands, bool begins_step, uint32_t layer, const uint32_t *experts,
                    uint32_t count)
{
    uint16_t *at;

    DP_ASSERT(layer <= DP_DEMANDS_LAYERS_MAX && count <= DP_DEMANDS_SET_MAX);
    if (!reserve(demands, HEAD_WORDS + count))
        return false;
    at = demands->words + demands->count;
    at[0] = (uint16_t)(layer | (begins_step ? STEP_BIT : 0));
    at[1] = (uint16_t)count;
    for (uint32_t i = 0; i < count; i++)
        at[HEAD_WORDS + i] = (uint16_t)experts[i];
    demands->count += HEAD_WORDS + count;
    return true;
}

bool dp_demands_next(const dp_demands *demands, size_t *at, dp_demand *out)
{
    const uint16_t *words = demands->words + *at;

    if (*at >= demands->count)
        return false;
    *out = (dp_demand){ (words[0] & STEP_BIT) != 0, words[0] & ~STEP_BIT, words[1],
                        words + HEAD_WORDS };
    *at += HEAD_WORDS + out->count;
    return true;
}
