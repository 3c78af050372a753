/* list.h - doubly linked rings through a member of the struct that is listed.
 *
 * A list is a ring with a head that belongs to no struct; an unlisted link
 * points at itself, so that removing twice is harmless.
 */
#ifndef DP_BASE_LIST_H
#define DP_BASE_LIST_H

#include "base/base.h"

typedef struct dp_link {
    struct dp_link *next, *previous;
} dp_link;

/* The struct of `type` whose `member` is at `link`. */
#define DP_LISTED(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* An empty list, or a link that is in none. */
static inline void dp_link_init(dp_link *link)
{
    link->next = link;
    link->previous = link;
}

/* Of a head: nothing is listed. Of a link: it is in no list. */
static inline bool dp_link_is_alone(const dp_link *link)
{
    return link->next == link;
}

/* Puts an unlisted link in front of `before`; before the head is the end. */
static inline void dp_link_insert(dp_link *before, dp_link *link)
{
    link->next = before;
    link->previous = before->previous;
    before->previous->next = link;
    before->previous = link;
}

static inline void dp_link_remove(dp_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    dp_link_init(link);
}

#endif
