#include "tier/heat.h"

#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/status.h"
#include "tier/tier_impl.h"

#define HEAT_MAGIC "DPHEAT3"
#define ORDER_MARK 0x01020304u
#define AGE_MAX    ((uint64_t)1 << 20) /* steps; older is as old */
#define COUNT_MAX  1e30f
#define DOUBT      8 /* demands of each expert that nobody saw, beside those that were */

typedef struct heat_head {
    char magic[8];
    uint32_t order, size; /* size of everything */
    uint32_t layer_count, expert_count;
    uint64_t identity;
} heat_head;

typedef struct heat_record {
    uint64_t use_count;
    uint32_t age; /* steps since its last use */
    float frequency, slow;
    uint32_t unused; /* 0 */
} heat_record;

_Static_assert(sizeof(heat_head) == 32 && sizeof(heat_record) == 24, "laid out without holes");

/* Bytes of it all. */
static size_t heat_size(const dp_tier *tier)
{
    size_t experts = (size_t)tier->layer_count * tier->expert_count;

    return sizeof(heat_head) + experts * sizeof(heat_record) +
           dp_forecast_number_count(tier->forecast) * sizeof(float) + sizeof(uint32_t);
}

/* Caller holds tier->lock. */
static void write_locked(dp_tier *tier, uint64_t identity, uint8_t *at, size_t size)
{
    size_t experts = (size_t)tier->layer_count * tier->expert_count;
    heat_head head = { HEAT_MAGIC,        ORDER_MARK,         (uint32_t)size,
                       tier->layer_count, tier->expert_count, identity };
    uint8_t *begin = at;
    uint32_t crc;

    memcpy(at, &head, sizeof head);
    at += sizeof head;
    for (size_t i = 0; i < experts; i++, at += sizeof(heat_record)) {
        const dp_page_heat *heat = tier->experts[i] ? &tier->experts[i]->heat : NULL;
        heat_record record = { 0 };
        if (heat && heat->use_count)
            record = (heat_record){ heat->use_count,
                                    (uint32_t)DP_MIN(tier->tick - heat->last_use, AGE_MAX),
                                    heat->frequency, heat->slow, 0 };
        memcpy(at, &record, sizeof record);
    }
    dp_forecast_store(tier->forecast, (float *)(void *)at);
    at += dp_forecast_number_count(tier->forecast) * sizeof(float);
    crc = dp_crc32(0, begin, (size_t)(at - begin));
    memcpy(at, &crc, sizeof crc);
}

dp_status dp_tier_heat_write(dp_tier *tier, uint64_t identity, dp_buf *out, dp_error *err)
{
    size_t size;

    if (!tier->forecast)
        return DP_OK;
    size = heat_size(tier);
    dp_buf_reset(out);
    if (dp_buf_reserve(out, size))
        return dp_fail(err, DP_E_NOMEM, "heat: no memory for %zu bytes", size);
    dp_mutex_lock(&tier->lock);
    write_locked(tier, identity, (uint8_t *)out->bytes, size);
    dp_mutex_unlock(&tier->lock);
    out->size = size;
    return DP_OK;
}

static dp_status check_head(const dp_tier *tier, uint64_t identity, const uint8_t *bytes,
                            size_t size, dp_error *err)
{
    heat_head head;
    uint32_t crc;

    if (size < sizeof head + sizeof crc)
        return dp_fail(err, DP_E_CORRUPT, "%zu bytes are too few", size);
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, HEAT_MAGIC, sizeof HEAT_MAGIC) != 0 || head.order != ORDER_MARK)
        return dp_fail(err, DP_E_UNSUPPORTED, "it is not of this version of doppler");
    memcpy(&crc, bytes + size - sizeof crc, sizeof crc);
    if (head.size != size || crc != dp_crc32(0, bytes, size - sizeof crc))
        return dp_fail(err, DP_E_CORRUPT, "its bytes are damaged");
    if (!tier->forecast || head.identity != identity || head.layer_count != tier->layer_count ||
        head.expert_count != tier->expert_count || size != heat_size(tier))
        return dp_fail(err, DP_E_UNSUPPORTED, "it is of another model");
    return DP_OK;
}

static bool are_records_sane(const uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++, at += sizeof(heat_record)) {
        heat_record r;
        memcpy(&r, at, sizeof r);
        if (r.age > AGE_MAX || !(r.frequency >= 0 && r.frequency <= COUNT_MAX) ||
            !(r.slow >= 0 && r.slow <= COUNT_MAX))
            return false;
    }
    return true;
}

/* Caller holds tier->lock. */
static void take_records_locked(dp_tier *tier, const uint8_t *at)
{
    size_t experts = (size_t)tier->layer_count * tier->expert_count;

    tier->tick = DP_MAX(tier->tick, AGE_MAX + 1);
    for (size_t i = 0; i < experts; i++, at += sizeof(heat_record)) {
        uint32_t layer = (uint32_t)(i / tier->expert_count);
        dp_page *page = tier->experts[i];
        heat_record r;
        memcpy(&r, at, sizeof r);
        if (!page || r.use_count == 0)
            continue;
        page->heat = (dp_page_heat){
            .last_use = tier->tick - r.age,
            .use_count = r.use_count,
            .frequency = r.frequency,
            .slow = r.slow,
            .due = (double)tier->tick + (double)layer / tier->layer_count +
                   (double)dp_forecast_steps(tier->forecast, layer,
                                             (uint32_t)(i % tier->expert_count)),
        };
    }
}

dp_status dp_tier_heat_read(dp_tier *tier, uint64_t identity, const void *bytes, size_t size,
                            dp_error *err)
{
    const uint8_t *records = (const uint8_t *)bytes + sizeof(heat_head);
    size_t experts = (size_t)tier->layer_count * tier->expert_count;
    float *numbers = NULL;
    dp_status st;

    st = check_head(tier, identity, bytes, size, err);
    if (st)
        return st;
    numbers = dp_alloc(dp_forecast_number_count(tier->forecast), sizeof *numbers);
    if (!numbers)
        return dp_fail(err, DP_E_NOMEM, "there is no memory for it");
    memcpy(numbers, records + experts * sizeof(heat_record),
           dp_forecast_number_count(tier->forecast) * sizeof *numbers);
    dp_mutex_lock(&tier->lock);
    if (!are_records_sane(records, experts) || !dp_forecast_restore(tier->forecast, numbers))
        st = dp_fail(err, DP_E_CORRUPT, "its numbers make no sense");
    else
        take_records_locked(tier, records);
    dp_mutex_unlock(&tier->lock);
    dp_free(numbers);
    return st;
}

typedef struct used_page {
    uint64_t use_count, bytes;
} used_page;

static int by_use(const void *a, const void *b)
{
    const used_page *x = a;
    const used_page *y = b;

    if (x->use_count != y->use_count)
        return x->use_count > y->use_count ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

double dp_tier_heat_share(dp_tier *tier, uint64_t capacity_bytes)
{
    size_t experts = (size_t)tier->layer_count * tier->expert_count, count = 0;
    uint64_t all = 0, held = 0, doubts = 0;
    used_page *used = dp_alloc(experts, sizeof *used);

    if (!used)
        return -1;
    dp_mutex_lock(&tier->lock);
    for (size_t i = 0; i < experts; i++) {
        const dp_page *page = tier->experts[i];

        if (!page)
            continue;
        used[count++] = (used_page){ page->heat.use_count, page->bytes };
        all += page->heat.use_count;
        doubts += DOUBT;
    }
    dp_mutex_unlock(&tier->lock);
    qsort(used, count, sizeof *used, by_use);
    for (size_t i = 0; i < count && used[i].bytes <= capacity_bytes; i++) {
        held += used[i].use_count + DOUBT;
        capacity_bytes -= used[i].bytes;
    }
    dp_free(used);
    return all ? (double)held / (double)(all + doubts) : -1;
}

typedef struct due_page {
    double due;
    dp_page_id id;
} due_page;

static int by_due(const void *a, const void *b)
{
    const due_page *x = a;
    const due_page *y = b;

    return x->due != y->due ? (x->due < y->due ? -1 : 1) : (x->id < y->id ? -1 : x->id > y->id);
}

dp_status dp_tier_heat_warm(dp_tier *tier, dp_error *err)
{
    due_page *pages = dp_alloc(tier->page_count, sizeof *pages);
    dp_page_id *ids = dp_alloc(tier->page_count, sizeof *ids);
    size_t count = 0;
    dp_status st = DP_OK;

    if (!pages || !ids) {
        st = dp_fail(err, DP_E_NOMEM, "heat: no memory for a list of %u pages", tier->page_count);
        goto done;
    }
    dp_mutex_lock(&tier->lock);
    for (uint32_t i = 0; i < tier->page_count; i++)
        if (tier->pages[i] && tier->pages[i]->kind == DP_PAGE_EXPERT &&
            tier->pages[i]->heat.use_count)
            pages[count++] = (due_page){ tier->pages[i]->heat.due, i };
    dp_mutex_unlock(&tier->lock);
    qsort(pages, count, sizeof *pages, by_due);
    for (size_t i = 0; i < count; i++)
        ids[i] = pages[i].id;
    dp_tier_warm(tier, ids, count);
done:
    dp_free(pages);
    dp_free(ids);
    return st;
}
