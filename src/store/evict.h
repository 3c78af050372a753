/* evict.h - which pieces leave first. Pure functions; store_room.c acts on what they say.
 *
 * Room     A piece has a class and a warmth. Lower classes leave first, within a class the
 *          least warm one.
 *
 * Warmth   Touches fade: one counts half as much every DP_EVICT_HALF_S. Instead of a heat
 *          that changes while nobody looks, a piece has the time (seconds since 1970) at
 *          which its heat will have faded to one touch. That number changes by a touch alone,
 *          orders pieces as their heats do at any moment, and can be kept on disk and
 *          compared between files. Never touched: DP_EVICT_COLD.
 *
 * Threads  Any, one at a time on one list.
 */
#ifndef DP_STORE_EVICT_H
#define DP_STORE_EVICT_H

#include <math.h>
#include "store/store.h"

/* What was used an hour ago counts half. A piece of a model that runs is touched many times a
 * minute, so an hour's work is worth about ten half-lives against a single glance. */
#define DP_EVICT_HALF_S 3600.0
#define DP_EVICT_COLD   (-INFINITY)

/* The warmth after `touches` > 0 more at now_s. */
double dp_evict_touch(double warmth, double now_s, uint32_t touches);
/* The heat at now_s, in touches. */
double dp_evict_heat(double warmth, double now_s);

typedef struct dp_evict_item {
    double warmth;
    void *owner;    /* of the caller; not looked at */
    uint32_t piece; /* of equal warmth the lower one leaves first */
    uint8_t class_; /* dp_piece_class */
} dp_evict_item;

/* a leaves before b. */
bool dp_evict_before(const dp_evict_item *a, const dp_evict_item *b);
/* a is worth more than b, so that it may take b's place; of equals neither may. */
bool dp_evict_is_worth_more(const dp_evict_item *a, const dp_evict_item *b);

/* The first to leave of all that were offered, as many as there is room for. */
typedef struct dp_evict_list {
    dp_evict_item *items; /* [capacity], the caller's */
    uint32_t count, capacity;
    bool is_cut; /* others were offered that leave later than all of these */
} dp_evict_list;

void dp_evict_offer(dp_evict_list *list, const dp_evict_item *item);
/* First to leave at items[0]; nothing is offered after it. */
void dp_evict_sort(dp_evict_list *list);

#endif
