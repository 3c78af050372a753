#include "vcache.h"

#include <stdlib.h>
#include "store/evict.h"

bool vcache_init(vcache *c, uint32_t experts, uint32_t capacity)
{
    *c = (vcache){ .capacity = capacity };
    c->held = calloc(capacity ? capacity : 1, sizeof *c->held);
    c->place = calloc(experts, sizeof *c->place);
    c->changed_s = calloc(experts, sizeof *c->changed_s);
    c->warmth = calloc(experts, sizeof *c->warmth);
    if (!c->held || !c->place || !c->changed_s || !c->warmth)
        return false;
    for (uint32_t i = 0; i < experts; i++) {
        c->place[i] = UINT32_MAX;
        c->warmth[i] = DP_EVICT_COLD;
    }
    return true;
}

void vcache_deinit(vcache *c)
{
    free(c->held);
    free(c->place);
    free(c->changed_s);
    free(c->warmth);
}

bool vcache_has(const vcache *c, uint32_t expert)
{
    return c->place[expert] != UINT32_MAX;
}

bool vcache_seems_to_have(const vcache *c, uint32_t expert, double now_s)
{
    bool is_news = c->changed_s[expert] && now_s < c->changed_s[expert] + 1.0;

    return vcache_has(c, expert) != is_news;
}

void vcache_touch(vcache *c, uint32_t expert, double now_s)
{
    c->warmth[expert] = dp_evict_touch(c->warmth[expert], now_s, 1);
}

static uint32_t coldest(const vcache *c)
{
    dp_evict_item item;
    dp_evict_list list = { .items = &item, .capacity = 1 };

    for (uint32_t i = 0; i < c->count; i++)
        dp_evict_offer(&list, &(dp_evict_item){ .warmth = c->warmth[c->held[i]],
                                                .piece = c->held[i],
                                                .class_ = DP_PIECE_EXPERT });
    return item.piece;
}

bool vcache_put(vcache *c, uint32_t expert, double now_s)
{
    if (vcache_has(c, expert) || !c->capacity)
        return vcache_has(c, expert);
    if (c->count == c->capacity) {
        uint32_t out = coldest(c);
        dp_evict_item leaves = { .warmth = c->warmth[out], .piece = out };
        dp_evict_item comes = { .warmth = c->warmth[expert], .piece = expert };

        if (!dp_evict_is_worth_more(&comes, &leaves))
            return false;
        c->held[c->place[out]] = c->held[--c->count];
        c->place[c->held[c->place[out]]] = c->place[out];
        c->place[out] = UINT32_MAX;
        c->changed_s[out] = now_s > 0 ? (uint32_t)now_s : 0;
    }
    c->place[expert] = c->count;
    c->held[c->count++] = expert;
    c->changed_s[expert] = now_s > 0 ? (uint32_t)now_s : 0;
    return true;
}
