#include "engine/draft.h"

#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"

/* The longest first: it is right more often. */
static const uint32_t gram_sizes[DP_DRAFT_GRAMS] = { 4, 2 };

/* Before anything is learned, as if it had been seen PRIOR times. */
static const float right_before[DP_DRAFT_CLASSES] = { 0.3F, 0.4F, 0.5F, 0.6F, 0.75F, 0.85F };
#define PRIOR  4
#define MEMORY 32 /* older outcomes fade */

static uint32_t size_for(uint32_t context)
{
    uint32_t size = 64;

    while (size < context && size < (uint32_t)1 << 31)
        size *= 2;
    return size;
}

uint64_t dp_draft_bytes(uint32_t context)
{
    return ((uint64_t)size_for(context) + context) * DP_DRAFT_GRAMS * sizeof(uint32_t);
}

bool dp_draft_init(dp_draft *d, uint32_t context)
{
    *d = (dp_draft){ .size = size_for(context) };
    memcpy(d->right, right_before, sizeof d->right);
    d->tables = dp_alloc_zero((size_t)d->size + context, DP_DRAFT_GRAMS * sizeof(uint32_t));
    if (!d->tables)
        return false;
    for (uint32_t g = 0; g < DP_DRAFT_GRAMS; g++) {
        d->last[g] = d->tables + (size_t)g * d->size;
        d->before[g] = d->tables + (size_t)DP_DRAFT_GRAMS * d->size + (size_t)g * context;
    }
    return true;
}

void dp_draft_deinit(dp_draft *d)
{
    dp_free(d->tables);
    *d = (dp_draft){ 0 };
}

static uint32_t class_of(uint32_t match)
{
    return match <= 2 ? 0 : match == 3 ? 1 : match <= 5 ? 2 : match <= 8 ? 3 : match <= 16 ? 4 : 5;
}

/* The entry of the `n` tokens that end before `end`. */
static uint32_t *entry_of(const dp_draft *d, int gram, const dp_token *end)
{
    uint64_t hash = 0;

    for (uint32_t i = gram_sizes[gram]; i > 0; i--)
        hash = dp_hash_u64(hash ^ (uint32_t) * (end - i));
    return &d->last[gram][hash & (d->size - 1)];
}

static void learn(dp_draft *d, bool was_right)
{
    uint32_t c = class_of(d->match);
    uint32_t n = DP_MIN(d->tried[c] + PRIOR + 1, (uint32_t)MEMORY);

    d->tried[c] += d->tried[c] < MEMORY;
    d->right[c] += ((was_right ? 1.0F : 0.0F) - d->right[c]) / (float)n;
}

/* Where the last tokens stood before, by the longest run that is indexed. What an
 * entry says is checked: other runs share it. */
static void find(dp_draft *d, const dp_token *tokens)
{
    uint32_t count = d->seen;

    d->source = d->match = 0;
    for (int g = 0; g < DP_DRAFT_GRAMS && !d->source; g++) {
        uint32_t size = gram_sizes[g], at, match = 0;

        if (count <= size)
            continue;
        at = *entry_of(d, g, tokens + count);
        while (match < at && match < DP_DRAFT_MATCH_MAX &&
               tokens[at - 1 - match] == tokens[count - 1 - match])
            match++;
        if (match < size)
            continue;
        d->source = at;
        d->match = match;
    }
}

void dp_draft_extend(dp_draft *d, const dp_token *tokens, uint32_t count)
{
    bool is_single = count == d->seen + 1;
    bool goes_on = is_single && d->source && tokens[d->source] == tokens[count - 1];

    if (count == d->seen)
        return;
    if (is_single && d->source)
        learn(d, goes_on);
    for (; d->seen < count; d->seen++)
        for (int g = 0; g < DP_DRAFT_GRAMS; g++)
            if (d->seen >= gram_sizes[g]) {
                uint32_t *entry = entry_of(d, g, tokens + d->seen);
                d->before[g][d->seen] = *entry;
                *entry = d->seen;
            }
    if (goes_on) {
        d->source++;
        d->match = DP_MIN(d->match + 1, (uint32_t)DP_DRAFT_MATCH_MAX);
    } else {
        find(d, tokens);
    }
}

void dp_draft_cut(dp_draft *d, const dp_token *tokens, uint32_t count)
{
    if (count >= d->seen)
        return;
    while (d->seen > count) {
        d->seen--;
        for (int g = 0; g < DP_DRAFT_GRAMS; g++)
            if (d->seen >= gram_sizes[g])
                *entry_of(d, g, tokens + d->seen) = d->before[g][d->seen];
    }
    d->source = d->match = 0;
}

double dp_draft_expect(const dp_draft *d, uint32_t count)
{
    double all = 1, expected = 0;

    for (uint32_t i = 0; d->source && i < count; i++) {
        all *= d->right[class_of(d->match + i)];
        expected += all;
    }
    return expected;
}

void dp_draft_copy(const dp_draft *d, dp_token *tokens, uint32_t count)
{
    DP_ASSERT(d->source && d->source < d->seen);
    /* Forward: a copy that reaches the end goes on with what it wrote. */
    for (uint32_t i = 0; i < count; i++)
        tokens[d->seen + i] = tokens[d->source + i];
}
