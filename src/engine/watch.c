#include "engine/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/file.h"
#include "base/file_out.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "engine/tracer.h"
#include "tier/heat.h"

struct dp_watch {
    const dp_clock *clock;
    dp_tier *tier;
    dp_sim_shape shape;
    uint64_t *page_bytes; /* [shape.layer_count] */
    uint32_t expert_used;
    uint64_t identity;
    uint64_t cache_bytes; /* that experts share, as of the last look */
    bool is_contended;    /* all weights do not fit in it */

    bool is_auto;
    const dp_policy *policy;
    dp_shadow *shadow;

    const char *trace_path; /* options', borrowed until start; NULL: no trace */
    dp_tracer *tracer;

    char *heat_path; /* NULL: heat is not kept */
    const char *heat_state;
    dp_buf heat;
    uint64_t save_ns; /* when it is kept next */
    bool has_news, has_warned;
};

/* ---- opening ---- */

static dp_status measure_pages(dp_watch *w, const dp_model *model, dp_error *err)
{
    const dp_hparams *hp = &model->hp;

    w->shape = (dp_sim_shape){ hp->layer_count, hp->expert_count, NULL };
    w->expert_used = hp->expert_used;
    w->page_bytes = dp_alloc_zero(hp->layer_count, sizeof *w->page_bytes);
    if (!w->page_bytes)
        return dp_fail(err, DP_E_NOMEM, "watch: %u layers", hp->layer_count);
    for (uint32_t l = 0; hp->expert_count && l < hp->layer_count; l++)
        if (model->layers[l].expert_first != DP_PAGE_NONE)
            w->page_bytes[l] = dp_tier_page_bytes(w->tier, model->layers[l].expert_first);
    w->shape.page_bytes = w->page_bytes;
    return DP_OK;
}

/* A folder gets a file named after the model. */
static dp_status name_heat(dp_watch *w, const char *given, dp_error *err)
{
    size_t size = strlen(given) + 32;
    bool is_folder = given[0] && given[strlen(given) - 1] == '/';

    if (w->shape.expert_count == 0 || !strcmp(given, "off") || !strcmp(given, "auto"))
        return DP_OK;
    w->heat_path = dp_alloc(size, 1);
    if (!w->heat_path)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for its name", given);
    if (is_folder)
        snprintf(w->heat_path, size, "%s%016" PRIx64 ".heat", given, w->identity);
    else
        snprintf(w->heat_path, size, "%s", given);
    return dp_tier_heat_write(w->tier, w->identity, &w->heat, err); /* takes the memory now */
}

dp_status dp_watch_open(dp_watch **out, const dp_model *model, dp_tier *tier, uint64_t identity,
                        const dp_options *options, const dp_clock *clock, dp_error *err)
{
    const char *policy = dp_options_text(options, DP_OPT_POLICY);
    const char *trace = dp_options_text(options, DP_OPT_TRACE);
    dp_watch *w = dp_alloc_zero(1, sizeof *w);
    dp_status st;

    *out = NULL;
    if (!w)
        return dp_fail(err, DP_E_NOMEM, "watch: no memory");
    w->clock = clock;
    w->tier = tier;
    w->identity = identity;
    w->heat_state = "off";
    w->trace_path = strcmp(trace, "off") ? trace : NULL;
    w->is_auto = !strcmp(policy, "auto");
    w->policy = w->is_auto ? &dp_policy_next : dp_policy_find(policy);
    DP_CHECK(w->policy); /* the options table lists those there are */
    dp_buf_init(&w->heat, DP_HEAT_BYTES_MAX);
    st = measure_pages(w, model, err);
    if (!st)
        st = name_heat(w, dp_options_text(options, DP_OPT_HEAT), err);
    if (!st && w->shape.expert_count)
        st = dp_shadow_open(&w->shadow, &w->shape, w->policy, clock, err);
    if (!st) {
        *out = w;
        w = NULL;
    }
    dp_watch_close(w);
    return st;
}

/* ---- heat ---- */

/* Heat that cannot be read is no heat: one line, and the run begins cold. */
static void restore_heat(dp_watch *w)
{
    char *bytes = NULL;
    dp_error err;
    dp_status st;
    size_t size;

    w->heat_state = "new";
    st = dp_file_read_all(&bytes, &size, w->heat_path, DP_HEAT_BYTES_MAX, &err);
    if (st == DP_E_NOTFOUND)
        return;
    if (!st)
        st = dp_tier_heat_read(w->tier, w->identity, bytes, size, &err);
    if (!st)
        st = dp_tier_heat_warm(w->tier, &err);
    if (st)
        DP_LOG_WARN("heat", "%s is ignored: %s", w->heat_path, err.text);
    else
        w->heat_state = "restored";
    dp_free(bytes);
}

double dp_watch_heat_share(dp_watch *w, uint64_t capacity_bytes)
{
    char *bytes = NULL;
    size_t size;
    dp_status st;

    if (!w->heat_path)
        return -1;
    st = dp_file_read_all(&bytes, &size, w->heat_path, DP_HEAT_BYTES_MAX, NULL);
    if (!st)
        st = dp_tier_heat_read(w->tier, w->identity, bytes, size, NULL);
    dp_free(bytes);
    return st ? -1 : dp_tier_heat_share(w->tier, capacity_bytes);
}

static dp_status write_heat(dp_watch *w, dp_error *err)
{
    dp_file_out file;
    dp_status st = dp_tier_heat_write(w->tier, w->identity, &w->heat, err);

    if (st)
        return st;
    st = dp_file_out_open(&file, w->heat_path, err);
    if (st)
        return st;
    st = dp_file_out_write(&file, w->heat.bytes, w->heat.size, err);
    if (!st)
        st = dp_file_out_commit(&file, err);
    dp_file_out_close(&file);
    return st;
}

/* Another run of the model that writes it at this moment is as good. */
static void keep_heat(dp_watch *w)
{
    dp_error err;
    dp_status st;

    if (!w->heat_path || !w->has_news)
        return;
    st = write_heat(w, &err);
    if (st && st != DP_E_BUSY && !w->has_warned) {
        DP_LOG_WARN("heat", "not kept: %s", err.text);
        w->has_warned = true;
    }
    w->has_news = false;
    w->save_ns = dp_clock_now_ns(w->clock) + DP_WATCH_SAVE_NS;
}

/* ---- running ---- */

/* dp_tier_observer.demand */
static void on_demand(void *user, uint32_t layer, const uint32_t *experts, const uint8_t *is_hit,
                      uint32_t count)
{
    dp_watch *w = user;

    if (w->tracer)
        dp_tracer_demand(w->tracer, layer, experts, is_hit, count);
    if (!w->is_contended)
        return; /* nobody leaves: nothing to choose or to keep */
    w->has_news = true;
    if (w->shadow)
        dp_shadow_demand(w->shadow, layer, experts, count);
}

static dp_status open_tracer(dp_watch *w, uint64_t model_bytes, dp_error *err)
{
    dp_trace_header header = { w->shape.layer_count, w->shape.expert_count, w->expert_used, true,
                               model_bytes,          w->cache_bytes,        w->page_bytes };

    if (w->shape.expert_count == 0)
        return dp_fail(err, DP_E_INVALID,
                       "--trace: the model has no experts, so there is nothing to trace");
    return dp_tracer_open(&w->tracer, w->trace_path, &header, err);
}

/* The budget may have changed. */
static void look_at_budget(dp_watch *w)
{
    uint64_t before = w->cache_bytes;

    w->cache_bytes = dp_tier_shared_bytes(w->tier, &w->is_contended);
    if (w->shadow && w->cache_bytes != before)
        dp_shadow_set_capacity(w->shadow, w->cache_bytes);
}

dp_status dp_watch_start(dp_watch *watch, uint64_t model_bytes, dp_error *err)
{
    dp_tier_observer observer = { on_demand, watch };
    dp_status st;

    look_at_budget(watch);
    watch->save_ns = dp_clock_now_ns(watch->clock) + DP_WATCH_SAVE_NS;
    if (watch->trace_path) {
        st = open_tracer(watch, model_bytes, err);
        watch->trace_path = NULL;
        if (st)
            return st;
    }
    if (watch->heat_path && watch->is_contended)
        restore_heat(watch);
    if (watch->shape.expert_count)
        dp_tier_set_observer(watch->tier, &observer);
    return DP_OK;
}

void dp_watch_step(dp_watch *watch, uint32_t tokens, bool starts_text)
{
    if (watch->tracer)
        dp_tracer_step(watch->tracer, tokens, starts_text);
    if (watch->shape.expert_count)
        look_at_budget(watch);
    if (watch->shadow && watch->is_contended) {
        const dp_policy *policy = dp_shadow_step(watch->shadow);
        if (watch->is_auto && policy != watch->policy) {
            DP_LOG_INFO("policy", "from=%s to=%s", watch->policy->name, policy->name);
            watch->policy = policy;
            dp_tier_set_policy(watch->tier, policy);
        }
    }
    if (watch->heat_path && dp_clock_now_ns(watch->clock) >= watch->save_ns)
        keep_heat(watch);
}

void dp_watch_close(dp_watch *watch)
{
    if (!watch)
        return;
    if (watch->has_news)
        keep_heat(watch);
    dp_tier_set_observer(watch->tier, &(dp_tier_observer){ NULL, NULL });
    dp_tracer_close(watch->tracer);
    dp_shadow_close(watch->shadow);
    dp_buf_deinit(&watch->heat);
    dp_free(watch->heat_path);
    dp_free(watch->page_bytes);
    dp_free(watch);
}

/* ---- reports ---- */

const dp_shadow *dp_watch_shadow(const dp_watch *watch)
{
    return watch->shadow;
}

const dp_policy *dp_watch_policy(const dp_watch *watch)
{
    return watch->policy;
}

bool dp_watch_is_auto(const dp_watch *watch)
{
    return watch->is_auto;
}

const char *dp_watch_heat(const dp_watch *watch)
{
    return watch->heat_state;
}

bool dp_watch_is_contended(const dp_watch *watch)
{
    return watch->is_contended;
}

uint64_t dp_watch_cache_bytes(const dp_watch *watch)
{
    return watch->cache_bytes;
}

uint64_t dp_watch_expert_bytes(const dp_watch *watch)
{
    return dp_sim_total_bytes(&watch->shape);
}
