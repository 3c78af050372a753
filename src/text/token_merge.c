#include "text/token_merge.h"

#include "base/assert.h"
#include "base/mem.h"

#define CAPACITY_MIN 64 /* symbols; most pieces are words */

void dp_merge_scratch_deinit(dp_merge_scratch *s)
{
    dp_free(s->symbols);
    dp_free(s->heap);
    *s = (dp_merge_scratch){ 0 };
}

dp_status dp_merge_begin(dp_merge_scratch *s, size_t count)
{
    s->count = 0;
    s->heap_count = 0;
    if (count > s->capacity) {
        size_t capacity = DP_MAX(count, CAPACITY_MIN);
        dp_symbol *symbols = dp_alloc(capacity, sizeof *symbols);

        if (!symbols)
            return DP_E_NOMEM;
        dp_free(s->symbols);
        s->symbols = symbols;
        s->capacity = (uint32_t)capacity;
    }
    return DP_OK;
}

void dp_merge_add(dp_merge_scratch *s, dp_str text, dp_token id)
{
    uint32_t i = s->count++;

    DP_ASSERT(i < s->capacity);
    s->symbols[i] = (dp_symbol){ text, id, i - 1, DP_SYMBOL_NONE, DP_RANK_NONE, DP_TOKEN_NONE };
    if (i > 0)
        s->symbols[i - 1].next = i;
    _Static_assert((uint32_t)0 - 1 == DP_SYMBOL_NONE, "the first has no prev");
}

static dp_status heap_push(dp_merge_scratch *s, uint64_t key)
{
    size_t at = s->heap_count;

    if (at == s->heap_capacity) {
        size_t capacity = DP_MAX(2 * at, 2 * CAPACITY_MIN);
        uint64_t *heap = dp_realloc(s->heap, capacity, sizeof *heap);

        if (!heap)
            return DP_E_NOMEM;
        s->heap = heap;
        s->heap_capacity = capacity;
    }
    for (; at > 0 && s->heap[(at - 1) / 2] > key; at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = key;
    s->heap_count++;
    return DP_OK;
}

static uint64_t heap_pop(dp_merge_scratch *s)
{
    uint64_t least = s->heap[0], last = s->heap[--s->heap_count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= s->heap_count)
            break;
        if (child + 1 < s->heap_count && s->heap[child + 1] < s->heap[child])
            child++;
        if (s->heap[child] >= last)
            break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return least;
}

/* Finds out what symbol i and the one behind it make, and queues it. */
static dp_status offer(dp_merge_scratch *s, const dp_tokenizer *t, dp_merge_rank rank_of,
                       uint32_t i)
{
    dp_symbol *left = &s->symbols[i];

    left->rank = DP_RANK_NONE;
    if (left->next != DP_SYMBOL_NONE)
        left->rank = rank_of(t, left, &s->symbols[left->next], &left->merged);
    return left->rank == DP_RANK_NONE ? DP_OK : heap_push(s, (uint64_t)left->rank << 32 | i);
}

/* Symbol i takes in the one behind it. */
static void merge_next(dp_merge_scratch *s, uint32_t i)
{
    dp_symbol *left = &s->symbols[i], *right = &s->symbols[left->next];

    left->text.size += right->text.size;
    left->id = left->merged;
    left->next = right->next;
    right->rank = DP_RANK_NONE; /* its entry in the heap is void */
    if (right->next != DP_SYMBOL_NONE)
        s->symbols[right->next].prev = i;
}

dp_status dp_merge_run(dp_merge_scratch *s, const dp_tokenizer *t, dp_merge_rank rank_of)
{
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < s->count && !st; i++)
        st = offer(s, t, rank_of, i);
    while (s->heap_count > 0 && !st) {
        uint64_t key = heap_pop(s);
        uint32_t i = (uint32_t)key;

        /* An entry counts while its symbol still offers a pair of that rank. When a
         * merge replaced the pair by another of the same rank, that one's turn is now. */
        if (s->symbols[i].rank != key >> 32)
            continue;
        merge_next(s, i);
        st = offer(s, t, rank_of, i);
        if (!st && s->symbols[i].prev != DP_SYMBOL_NONE)
            st = offer(s, t, rank_of, s->symbols[i].prev);
    }
    return st;
}
