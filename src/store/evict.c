#include "store/evict.h"

#include <stdlib.h>

double dp_evict_heat(double warmth, double now_s)
{
    return exp2((warmth - now_s) / DP_EVICT_HALF_S);
}

double dp_evict_touch(double warmth, double now_s, uint32_t touches)
{
    double halves = (warmth - now_s) / DP_EVICT_HALF_S;

    /* Far in the future 2^halves would be infinite, and a touch more changes nothing. */
    if (halves > 64)
        return warmth;
    return now_s + DP_EVICT_HALF_S * log2(exp2(halves) + touches);
}

bool dp_evict_is_worth_more(const dp_evict_item *a, const dp_evict_item *b)
{
    return a->class_ != b->class_ ? a->class_ > b->class_ : a->warmth > b->warmth;
}

bool dp_evict_before(const dp_evict_item *a, const dp_evict_item *b)
{
    if (a->class_ == b->class_ && a->warmth == b->warmth)
        return a->piece < b->piece;
    return dp_evict_is_worth_more(b, a);
}

static void swap(dp_evict_item *a, dp_evict_item *b)
{
    dp_evict_item both = *a;

    *a = *b;
    *b = both;
}

/* While items are offered they are a heap with the last to leave on top: the one that a
 * better offer replaces. */
static void sift_down(dp_evict_list *list)
{
    uint32_t at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= list->count)
            return;
        if (child + 1 < list->count &&
            dp_evict_before(&list->items[child], &list->items[child + 1]))
            child++;
        if (!dp_evict_before(&list->items[at], &list->items[child]))
            return;
        swap(&list->items[at], &list->items[child]);
        at = child;
    }
}

static void sift_up(dp_evict_list *list, uint32_t at)
{
    while (at > 0 && dp_evict_before(&list->items[(at - 1) / 2], &list->items[at])) {
        swap(&list->items[(at - 1) / 2], &list->items[at]);
        at = (at - 1) / 2;
    }
}

void dp_evict_offer(dp_evict_list *list, const dp_evict_item *item)
{
    if (list->count < list->capacity) {
        list->items[list->count] = *item;
        sift_up(list, list->count++);
        return;
    }
    list->is_cut = true;
    if (list->count > 0 && dp_evict_before(item, &list->items[0])) {
        list->items[0] = *item;
        sift_down(list);
    }
}

static int compare(const void *a, const void *b)
{
    return dp_evict_before(a, b) ? -1 : dp_evict_before(b, a) ? 1 : 0;
}

void dp_evict_sort(dp_evict_list *list)
{
    qsort(list->items, list->count, sizeof *list->items, compare);
}
