#include "engine/plan.h"

#include "base/cpu.h"
#include "base/status.h"
#include "base/str.h"
#include "engine/sample.h"
#include "tier/budget.h"

#define CONTEXT_DEFAULT   4096 /* long enough for a conversation, small beside the weights */
#define CONTEXT_LEAST     256
#define BATCH_DEFAULT     512
#define LOGITS_BYTES      ((uint64_t)8 << 20) /* of a budget that has room for it */
#define LOGITS_ROWS_MAX   64
#define TABLES_LATER      ((uint64_t)512 << 10) /* sessions, requests under way, error texts */

bool dp_plan_is_core(const dp_model *model, dp_page_id page)
{
    const dp_table *t = &model->embed;

    if (model->pages.pages[page].kind != DP_PAGE_ALWAYS)
        return false;
    return model->is_tied || page < t->first_page || page >= t->first_page + t->page_count;
}

static uint64_t kv_bytes(const dp_model *model, const dp_plan *p)
{
    return dp_kv_row_bytes(&model->hp) * dp_kv_rows_for(p->context_tokens) * p->session_max;
}

/* Widest input of any product, and the shapes behind it. */
static dp_device_limits limits_of(const dp_model *model, uint32_t batch_tokens)
{
    const dp_hparams *hp = &model->hp;
    dp_device_limits limits = { batch_tokens, hp->embed_dim, hp->value_dim };

    for (uint32_t l = 0; l < hp->layer_count; l++) {
        limits.k_max = DP_MAX(limits.k_max, hp->head_count[l] * hp->value_dim);
        limits.k_max = DP_MAX(limits.k_max, hp->ff_dim[l]);
    }
    limits.k_max = DP_MAX(limits.k_max, hp->expert_ff_dim);
    return limits;
}

/* What a session keeps beside its keys and values: candidates, logits, tokens. */
static uint64_t session_bytes(const dp_model *model, const dp_plan *p)
{
    return dp_sampler_bytes(model->hp.vocab_size) + model->hp.vocab_size * sizeof(float) +
           p->context_tokens * sizeof(dp_token) +
           dp_kv_rows_for(p->context_tokens) * sizeof(uint8_t *);
}

static uint64_t buffer_bytes(const dp_model *model, dp_plan *p, uint32_t batch_tokens)
{
    p->step.batch_tokens = batch_tokens;
    p->limits = limits_of(model, batch_tokens);
    return dp_step_bytes(model, &p->step) + dp_device_cpu_scratch_bytes(&p->limits, p->threads) +
           session_bytes(model, p) * p->session_max;
}

static void choose_context(dp_plan *p, const dp_model *model, uint64_t asked)
{
    if (asked) {
        p->context_tokens = (uint32_t)asked;
        return;
    }
    p->context_tokens = DP_MIN(model->hp.context_max, (uint32_t)CONTEXT_DEFAULT);
    while (p->context_tokens > CONTEXT_LEAST && kv_bytes(model, p) > p->budget_bytes / 2)
        p->context_tokens /= 2;
}

/* The longest step whose buffers take at most a quarter of what is left: larger
 * steps read each expert for more tokens, but leave fewer experts resident. */
static void choose_batch(dp_plan *p, const dp_model *model, uint64_t asked)
{
    uint64_t fixed = p->tables_bytes + p->kv_bytes;
    uint64_t room = p->budget_bytes > fixed ? (p->budget_bytes - fixed) / 4 : 0;
    uint32_t batch = asked ? (uint32_t)asked : BATCH_DEFAULT;
    uint64_t row = (uint64_t)model->hp.vocab_size * sizeof(float);

    batch = DP_MIN(batch, p->context_tokens * p->session_max);
    p->step.logits_rows =
        (uint32_t)DP_MIN(DP_MAX(DP_MIN(LOGITS_BYTES, room / 8) / row, 1), (uint64_t)LOGITS_ROWS_MAX);
    p->buffer_bytes = buffer_bytes(model, p, batch);
    while (!asked && batch > 1 && p->buffer_bytes > room) {
        batch /= 2;
        p->buffer_bytes = buffer_bytes(model, p, batch);
    }
}

/* The same division with nothing but the least of everything. */
static uint64_t least_bytes(const dp_plan *p, const dp_model *model, const dp_options *options)
{
    dp_plan least = *p;
    uint64_t batch = dp_options_u64(options, DP_OPT_BATCH);

    least.budget_bytes = 0;
    choose_context(&least, model, dp_options_u64(options, DP_OPT_CTX));
    least.kv_bytes = kv_bytes(model, &least);
    choose_batch(&least, model, batch);
    return least.tables_bytes + least.kv_bytes + least.buffer_bytes + least.page_bytes_max;
}

static void measure_pages(dp_plan *p, const dp_model *model, const dp_tier *tier)
{
    for (uint32_t i = 0; i < model->pages.page_count; i++) {
        uint64_t bytes = dp_tier_page_bytes(tier, i);
        p->page_bytes_max = DP_MAX(p->page_bytes_max, bytes);
        if (dp_plan_is_core(model, i))
            p->always_bytes += bytes;
        else
            p->other_bytes_max = DP_MAX(p->other_bytes_max, bytes);
    }
}

/* Pins all core pages when the largest of the others still fits beside them; else
 * in order, while what is left holds the largest page twice: one computes while
 * the next one loads. */
static void choose_pins(dp_plan *p, const dp_model *model, const dp_tier *tier)
{
    uint64_t pinned = 0, keep = p->page_bytes_max * 2;

    p->pins_always = p->always_bytes + p->other_bytes_max <= p->slot_bytes;
    for (uint32_t i = 0; i < model->pages.page_count; i++) {
        if (!dp_plan_is_core(model, i))
            continue;
        pinned += dp_tier_page_bytes(tier, i);
        if (!p->pins_always && pinned + keep > p->slot_bytes)
            return;
        p->pin_count++;
    }
}

static dp_status refuse(const dp_plan *p, dp_error *err)
{
    char ram[16], least[16], tables[16], kv[16], buffers[16], page[16];

    return dp_fail(err, DP_E_BUDGET,
                   "--ram %s is too small: %s of tables, %s of keys and values (--ctx %u, "
                   "--sessions %u), %s of buffers (--batch %u) and the largest page of %s need "
                   "%s; give at least --ram %llu",
                   dp_format_size(ram, p->budget_bytes), dp_format_size(tables, p->tables_bytes),
                   dp_format_size(kv, p->kv_bytes), p->context_tokens, p->session_max,
                   dp_format_size(buffers, p->buffer_bytes), p->step.batch_tokens,
                   dp_format_size(page, p->page_bytes_max), dp_format_size(least, p->least_bytes),
                   (unsigned long long)p->least_bytes);
}

dp_status dp_plan_make(dp_plan *out, const dp_model *model, const dp_tier *tier,
                       uint64_t tables_bytes, const dp_options *options, dp_error *err)
{
    dp_plan *p = out;
    uint64_t taken;

    *p = (dp_plan){
        .budget_bytes = dp_options_u64(options, DP_OPT_RAM),
        .tables_bytes = tables_bytes + TABLES_LATER,
        .session_max = (uint32_t)dp_options_u64(options, DP_OPT_SESSIONS),
        .threads = (uint32_t)dp_options_u64(options, DP_OPT_THREADS),
    };
    if (p->budget_bytes == 0)
        p->budget_bytes = dp_budget_auto(&p->reserve_bytes);
    if (p->threads == 0)
        p->threads = dp_cpu_get()->thread_count;
    measure_pages(p, model, tier);
    choose_context(p, model, dp_options_u64(options, DP_OPT_CTX));
    p->kv_bytes = kv_bytes(model, p);
    choose_batch(p, model, dp_options_u64(options, DP_OPT_BATCH));
    p->least_bytes = least_bytes(p, model, options);
    taken = p->tables_bytes + p->kv_bytes + p->buffer_bytes;
    if (taken + p->page_bytes_max > p->budget_bytes)
        return refuse(p, err);
    p->slot_bytes = p->budget_bytes - taken;
    choose_pins(p, model, tier);
    return DP_OK;
}
