/* vcache.h - which experts a simulated peer holds, by the store's policy of eviction. */
#ifndef DP_SIM_VCACHE_H
#define DP_SIM_VCACHE_H

#include "base/base.h"

typedef struct vcache {
    uint32_t *held;      /* [count] experts, in no order */
    uint32_t *place;     /* [experts] in held, UINT32_MAX: not held */
    uint32_t *changed_s; /* [experts] when that last changed, seconds; 0: never */
    double *warmth;      /* [experts] of evict.h */
    uint32_t count, capacity;
} vcache;

bool vcache_init(vcache *c, uint32_t experts, uint32_t capacity);
void vcache_deinit(vcache *c);

bool vcache_has(const vcache *c, uint32_t expert);
/* As others see it, who hear of changes a second late. */
bool vcache_seems_to_have(const vcache *c, uint32_t expert, double now_s);
void vcache_touch(vcache *c, uint32_t expert, double now_s);
/* now_s < 0: before the simulation, which nobody has to hear of. Keeps it if it is worth more than the coldest one, which then leaves. */
bool vcache_put(vcache *c, uint32_t expert, double now_s);

#endif
