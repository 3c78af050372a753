/* Adapters of an engine. Each is a file more in the engine's, pages more in the tier, and a
 * share of the budget: what it takes is taken from the weights' part, and pages that
 * stayed may have to pass through (resize.h). */
#include "doppler/adapter.h"

#include <math.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/engine.h"
#include "model/product.h"
#include "tier/source_file.h"

#define TABLES_STEP ((uint64_t)64 << 10) /* as plan.c rounds */

_Static_assert(DP_ADAPTERS_MAX == DP_SOURCE_FILES_MORE, "each is a file");
_Static_assert(DP_SESSION_ADAPTERS_MAX == DP_LORA_USES_MAX, "each is a use");

struct dp_adapter {
    dp_engine *engine;
    dp_adapter *next;
    dp_lora *lora;
    uint32_t file_index;
    bool has_file;
    uint32_t session_count; /* that use it */
    uint64_t tables_bytes;
    uint64_t data_bytes;
};

/* ---- the budget ---- */

static uint32_t rank_of(const dp_engine *e)
{
    uint32_t rank = 0;

    for (const dp_adapter *a = e->adapters; a; a = a->next)
        rank = DP_MAX(rank, a->lora->info.rank_max);
    return rank;
}

/* What open adapters take beside the model. */
static dp_plan_adapters need_of(const dp_engine *e)
{
    dp_plan_adapters need = { .buffer_bytes = dp_adapting_bytes(e->model, e->plan.step.batch_tokens,
                                                                rank_of(e)) };

    for (const dp_adapter *a = e->adapters; a; a = a->next) {
        need.tables_bytes += a->tables_bytes;
        need.page_bytes = DP_MAX(need.page_bytes, dp_lora_page_bytes_max(a->lora));
    }
    return need;
}

/* After an adapter was added: promises before buffers. */
static dp_status make_room(dp_engine *e, dp_error *err)
{
    dp_plan_adapters need = need_of(e);
    dp_status st = dp_resize_adapters(e, &need, err);

    return st ? st : dp_step_adapt(e->step, rank_of(e), err);
}

/* After one was removed: buffers first. What fails leaves more taken than is needed. */
static void give_room(dp_engine *e)
{
    dp_plan_adapters need = need_of(e);

    if (dp_step_adapt(e->step, rank_of(e), NULL) == DP_OK)
        dp_resize_adapters(e, &need, NULL);
}

/* ---- lifetime ---- */

static dp_status read_file(dp_adapter *a, const char *path, dp_error *err)
{
    dp_gguf *gguf;
    dp_status st = dp_gguf_open(&gguf, path, err);

    if (st)
        return st;
    st = dp_lora_open(&a->lora, a->engine->model, gguf, err);
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++)
        a->data_bytes += dp_gguf_tensor(gguf, i)->size;
    dp_gguf_close(gguf);
    if (!st && a->lora->info.rank_max > a->engine->plan.limits.k_max)
        st = dp_fail(err, DP_E_LIMIT, "%s: rank %u, this model's widest product has %u", path,
                     a->lora->info.rank_max, a->engine->plan.limits.k_max);
    return st;
}

static dp_status take_pages(dp_adapter *a, const char *path, dp_error *err)
{
    dp_engine *e = a->engine;
    dp_mem_stats before, after;
    dp_status st = dp_source_file_add(e->files, path, &a->file_index, err);

    if (st)
        return st;
    a->has_file = true;
    dp_mem_stats_read(&before);
    st = dp_lora_register(a->lora, e->tier, a->file_index, err);
    dp_mem_stats_read(&after);
    /* Others may have freed something meanwhile. */
    a->tables_bytes = dp_lora_heap_bytes(a->lora) + sizeof *a +
                      (DP_MAX(after.heap_bytes, before.heap_bytes) - before.heap_bytes);
    a->tables_bytes = dp_align_up(a->tables_bytes, TABLES_STEP);
    return st;
}

static void close_all(dp_adapter *a)
{
    if (!a)
        return;
    dp_lora_close(a->lora);
    if (a->has_file)
        dp_source_file_remove(a->engine->files, a->file_index);
    dp_free(a);
}

/* Pages and share; the engine's resize lock is held, for it looks at all pages. */
static dp_status join(dp_adapter *a, const char *path, dp_error *err)
{
    dp_engine *e = a->engine;
    dp_status st = take_pages(a, path, err);

    if (st)
        return st;
    a->next = e->adapters;
    e->adapters = a;
    return make_room(e, err);
}

static void leave(dp_adapter *a)
{
    dp_engine *e = a->engine;
    dp_adapter **at = &e->adapters;

    while (*at && *at != a)
        at = &(*at)->next;
    if (*at)
        *at = a->next;
    close_all(a);
    give_room(e);
}

dp_status dp_adapter_open(dp_adapter **out, dp_engine *engine, const char *path, dp_error *err)
{
    dp_adapter *a = dp_alloc_zero(1, sizeof *a);
    dp_status st;

    *out = NULL;
    if (!a)
        return dp_fail(err, DP_E_NOMEM, "adapter: no memory");
    a->engine = engine;
    st = read_file(a, path, err);
    if (st) {
        close_all(a);
        return st;
    }
    dp_resize_begin_step(engine);
    st = join(a, path, err);
    if (st)
        leave(a);
    dp_resize_end_step(engine);
    if (!st)
        *out = a;
    return st;
}

void dp_adapter_close(dp_adapter *adapter)
{
    dp_engine *e;

    if (!adapter)
        return;
    DP_CHECK(adapter->session_count == 0);
    e = adapter->engine;
    dp_resize_begin_step(e);
    leave(adapter);
    dp_resize_end_step(e);
}

void dp_adapter_describe(const dp_adapter *adapter, dp_adapter_info *out)
{
    const dp_lora *lora = adapter->lora;

    *out = (dp_adapter_info){ .alpha = lora->info.alpha,
                              .rank_min = lora->info.rank_min,
                              .rank_max = lora->info.rank_max,
                              .matrix_count = lora->info.pair_count,
                              .page_count = lora->pages.page_count,
                              .bytes = adapter->data_bytes,
                              .page_bytes_max = dp_lora_page_bytes_max(lora) };
}

/* ---- sessions ---- */

static dp_status check_uses(const dp_session *s, const dp_adapter_use *uses, size_t count,
                            dp_error *err)
{
    if (count > DP_SESSION_ADAPTERS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%zu adapters for a session, at most %d", count,
                       DP_SESSION_ADAPTERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (uses[i].adapter->engine != s->engine)
            return dp_fail(err, DP_E_INVALID, "adapter %zu of the session is of another engine", i);
        if (!isfinite(uses[i].scale))
            return dp_fail(err, DP_E_INVALID, "adapter %zu of the session: scale %g is not finite",
                           i, (double)uses[i].scale);
        for (size_t j = 0; j < i; j++)
            if (uses[j].adapter == uses[i].adapter)
                return dp_fail(err, DP_E_INVALID,
                               "adapters %zu and %zu of the session are the same", j, i);
    }
    return DP_OK;
}

dp_status dp_session_set_adapters(dp_session *session, const dp_adapter_use *uses, size_t count,
                                  dp_error *err)
{
    dp_status st = check_uses(session, uses, count, err);

    if (st)
        return st;
    dp_session_drop_guesses(session); /* they were made with the adapters of before */
    for (uint32_t i = 0; i < session->set.count; i++)
        session->adapters[i]->session_count--;
    session->set.count = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t at = session->set.count;
        if (uses[i].scale == 0)
            continue; /* adding nothing is not the same as adding 0 to -0 */
        session->adapters[at] = uses[i].adapter;
        session->adapters[at]->session_count++;
        session->set.uses[at] = (dp_lora_use){ uses[i].adapter->lora, uses[i].scale };
        session->set.count++;
    }
    return DP_OK;
}
