#include "engine/plan.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "engine/draft.h"
#include "engine/sample.h"
#include "tier/budget.h"

#define CONTEXT_DEFAULT 4096 /* long enough for a conversation, small beside the weights */
#define CONTEXT_LEAST   256
#define BATCH_DEFAULT   512
#define LOGITS_BYTES    ((uint64_t)8 << 20) /* of a budget that has room for it */
#define LOGITS_ROWS_MAX 64
#define DRAFT_DEFAULT   16 /* tokens; a longer guess is seldom right to its end */
#define TABLES_LATER    ((uint64_t)512 << 10) /* sessions, requests under way, error texts */
#define SOURCE_PART     16 /* of a budget, at most, for what a source takes for itself */
#define TABLES_STEP     ((uint64_t)64 << 10)

bool dp_plan_is_core(const dp_model *model, dp_page_id page)
{
    const dp_table *t = &model->embed;

    if (model->pages.pages[page].kind != DP_PAGE_ALWAYS)
        return false;
    return model->is_tied || page < t->first_page || page >= t->first_page + t->page_count;
}

dp_page_id dp_plan_core_after(const dp_model *model, dp_page_id page)
{
    do
        page = page == DP_PAGE_NONE ? dp_model_first_page(model) : dp_model_page_after(model, page);
    while (page != DP_PAGE_NONE && !dp_plan_is_core(model, page));
    return page;
}

static const struct {
    dp_dtype type;
    const char *name;
} kv_types[] = { { DP_F16, "f16" }, { DP_F32, "f32" } };

/* --kv-type. Rounding a latent reaches every head (1.2e-3 of the largest logit where keys of
 * their own cost 8e-4), and latents are small: auto keeps them exactly. */
static dp_dtype kv_type_of(const dp_model *model, const dp_options *options)
{
    unsigned choice = dp_options_choice(options, DP_OPT_KV_TYPE); /* auto, then the table */

    if (choice == 0)
        return model->hp.value_in_key ? DP_F32 : DP_F16;
    return kv_types[choice - 1].type;
}

const char *dp_plan_kv_type_name(const dp_plan *plan)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(kv_types); i++)
        if (kv_types[i].type == plan->step.kv_type)
            return kv_types[i].name;
    return "";
}

static uint64_t kv_bytes(const dp_model *model, const dp_plan *p)
{
    return dp_kv_row_bytes(&model->hp, p->step.kv_type) * dp_kv_rows_for(p->context_tokens) *
           p->session_max;
}

/* Widest input of any product, and the shapes behind it. */
static dp_device_limits limits_of(const dp_model *model, uint32_t batch_tokens)
{
    const dp_hparams *hp = &model->hp;
    dp_device_limits limits = { .tokens = batch_tokens,
                                .k_max = DP_MAX(hp->embed_dim, hp->q_lora_rank),
                                .value_dim = hp->value_dim };

    for (uint32_t l = 0; l < hp->layer_count; l++) {
        limits.k_max = DP_MAX(limits.k_max, hp->head_count[l] * dp_hparams_mixed_dim(hp));
        limits.k_max = DP_MAX(limits.k_max, hp->ff_dim[l]);
    }
    limits.k_max = DP_MAX(limits.k_max, hp->expert_ff_dim * DP_MAX(hp->expert_shared, 1u));
    if (hp->value_in_key)
        limits.head_k = DP_MAX(DP_MAX(hp->value_dim, hp->key_dim_mla), hp->value_dim_mla);
    return limits;
}

/* What a session keeps beside its keys and values: candidates, logits, tokens, drafts. */
static uint64_t session_bytes(const dp_model *model, const dp_plan *p)
{
    return dp_sampler_bytes(model->hp.vocab_size) +
           (uint64_t)(p->draft_tokens + 1) * model->hp.vocab_size * sizeof(float) +
           (p->draft_tokens ? dp_draft_bytes(p->context_tokens) : 0) +
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

/* What the least step takes beside the tables, with a context of p's length. */
static uint64_t least_with_context(const dp_plan *p, const dp_model *model, uint64_t batch_asked)
{
    dp_plan least = *p;
    uint64_t tokens_max = (uint64_t)p->context_tokens * p->session_max;
    uint32_t batch = (uint32_t)DP_MIN(DP_MAX(batch_asked, 1), tokens_max);

    least.step.logits_rows = 1;
    return kv_bytes(model, p) + buffer_bytes(model, &least, batch) + p->page_bytes_max;
}

/* The model's own length, at most the default; half as long while keys and values
 * would take most of the budget, or leave no room for the least step. */
static void choose_context(dp_plan *p, const dp_model *model, const dp_options *options)
{
    uint64_t asked = dp_options_u64(options, DP_OPT_CTX);
    uint64_t batch = dp_options_u64(options, DP_OPT_BATCH);

    p->context_tokens =
        (uint32_t)(asked ? asked : DP_MIN(model->hp.context_max, (uint32_t)CONTEXT_DEFAULT));
    while (!asked && p->context_tokens > CONTEXT_LEAST &&
           (kv_bytes(model, p) > p->budget_bytes / 2 ||
            p->tables_bytes + least_with_context(p, model, batch) > p->budget_bytes))
        p->context_tokens /= 2;
    p->kv_bytes = kv_bytes(model, p);
}

/* The longest step whose buffers take at most a quarter of what is left, and leave
 * room for a page: larger steps read each expert for more tokens, but leave fewer
 * experts resident. */
static void choose_batch(dp_plan *p, const dp_model *model, uint64_t asked)
{
    uint64_t fixed = p->tables_bytes + p->kv_bytes;
    uint64_t left = p->budget_bytes > fixed ? p->budget_bytes - fixed : 0;
    uint64_t room = DP_MIN(left / 4, left - DP_MIN(left, p->page_bytes_max));
    uint64_t row = (uint64_t)model->hp.vocab_size * sizeof(float);
    uint64_t tokens_max = (uint64_t)p->context_tokens * p->session_max;
    uint32_t batch = (uint32_t)DP_MIN(asked ? asked : BATCH_DEFAULT, tokens_max);
    uint64_t rows = DP_MIN(LOGITS_BYTES, room / 8) / row;

    p->step.logits_rows = (uint32_t)DP_MIN(DP_MAX(rows, 1), (uint64_t)LOGITS_ROWS_MAX);
    p->buffer_bytes = buffer_bytes(model, p, batch);
    while (p->buffer_bytes > room && (p->step.logits_rows > 1 || (!asked && batch > 1))) {
        if (!asked && batch > 1)
            batch /= 2;
        else
            p->step.logits_rows = 1;
        p->buffer_bytes = buffer_bytes(model, p, batch);
    }
}

/* As many as asked for; by default what fits in a 32nd of what is left, changes no other
 * choice, and has its logits made with one reading of the head. */
static void choose_drafts(dp_plan *p, const dp_model *model, uint64_t asked)
{
    uint64_t fixed = p->tables_bytes + p->kv_bytes;
    uint64_t left = p->budget_bytes > fixed ? p->budget_bytes - fixed : 0;
    uint64_t room = DP_MIN(left / 4, left - DP_MIN(left, p->page_bytes_max));
    uint64_t row = (uint64_t)model->hp.vocab_size * sizeof(float) * p->session_max;
    uint64_t index = dp_draft_bytes(p->context_tokens) * p->session_max;
    uint64_t spare = room - DP_MIN(room, p->buffer_bytes + index);

    if (asked != DP_SPECULATE_AUTO)
        return;
    spare = DP_MIN(spare, left / 32);
    p->draft_tokens = (uint32_t)DP_MIN(spare / row, (uint64_t)DRAFT_DEFAULT);
    p->draft_tokens =
        DP_MIN(p->draft_tokens, DP_MIN(p->step.logits_rows, p->step.batch_tokens) - 1);
    p->buffer_bytes = buffer_bytes(model, p, p->step.batch_tokens);
}

/* What a source takes for itself is promised from budgets that can spare it. Small ones lean on
 * what may be passed for code and libraries (docs/TIERS.md): what a source uses follows what a
 * step asks of it, and that is little then. */
static uint64_t source_bytes(uint64_t own_bytes, uint64_t budget_bytes)
{
    return DP_MIN(own_bytes, budget_bytes / SOURCE_PART);
}

/* The same division with nothing but the least of everything. */
static uint64_t least_bytes(const dp_plan *p, const dp_model *model, uint64_t own_bytes,
                            const dp_options *options)
{
    dp_plan least = *p;
    uint64_t bytes;

    least.budget_bytes = 0;
    least.tables_bytes -= source_bytes(own_bytes, p->budget_bytes);
    if (dp_options_u64(options, DP_OPT_SPECULATE) == DP_SPECULATE_AUTO)
        least.draft_tokens = 0;
    choose_context(&least, model, options);
    choose_batch(&least, model, dp_options_u64(options, DP_OPT_BATCH));
    bytes = least.tables_bytes + least.kv_bytes + least.buffer_bytes + least.page_bytes_max;
    return bytes + DP_MIN(own_bytes, bytes / (SOURCE_PART - 1) + 1);
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

dp_status dp_plan_pins(dp_pins *out, const dp_plan *p, const dp_model *model, const dp_tier *tier,
                       uint64_t slot_bytes, dp_error *err)
{
    dp_pins_request request = {
        .slot_bytes = slot_bytes,
        .other_bytes = p->other_bytes_max + p->adapters.page_bytes,
        .streams = model->hp.expert_count == 0,
        .last_first = model->is_tied ? 1 + model->head.page_count : 0, /* and the final norm */
    };
    uint64_t *bytes = dp_alloc(model->pages.page_count, sizeof *bytes);

    if (!bytes)
        return dp_fail(err, DP_E_NOMEM, "plan: sizes of %u pages", model->pages.page_count);
    for (dp_page_id page = dp_plan_core_after(model, DP_PAGE_NONE); page != DP_PAGE_NONE;
         page = dp_plan_core_after(model, page))
        bytes[request.count++] = dp_tier_page_bytes(tier, page);
    request.bytes = bytes;
    dp_pins_choose(out, &request);
    dp_free(bytes);
    return DP_OK;
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
                       uint64_t tables_bytes, uint64_t own_bytes, const dp_options *options,
                       dp_error *err)
{
    dp_plan *p = out;
    uint64_t taken, drafts = dp_options_u64(options, DP_OPT_SPECULATE);
    dp_status st;

    *p = (dp_plan){
        .budget_bytes = dp_options_u64(options, DP_OPT_RAM),
        /* Allocators round blocks one way today and another way tomorrow; plans
         * of the same model shall be equal. */
        .tables_bytes = dp_align_up(tables_bytes, TABLES_STEP) + TABLES_LATER,
        .session_max = (uint32_t)dp_options_u64(options, DP_OPT_SESSIONS),
        .threads = (uint32_t)dp_options_u64(options, DP_OPT_THREADS),
        .step.lookahead = (dp_lookahead_mode)dp_options_choice(options, DP_OPT_LOOK_AHEAD),
        .step.kv_type = kv_type_of(model, options),
        .step.expands_latents = dp_options_choice(options, DP_OPT_MLA_PREFILL) == 1,
        .draft_tokens = drafts <= DP_SPECULATE_MAX ? (uint32_t)drafts : 0,
    };
    if (p->budget_bytes == 0)
        p->budget_bytes = dp_budget_auto(&p->reserve_bytes);
    p->tables_bytes += source_bytes(own_bytes, p->budget_bytes);
    if (p->threads == 0)
        p->threads = dp_cpu_get()->thread_count;
    measure_pages(p, model, tier);
    choose_context(p, model, options);
    choose_batch(p, model, dp_options_u64(options, DP_OPT_BATCH));
    choose_drafts(p, model, drafts);
    p->least_bytes = least_bytes(p, model, own_bytes, options);
    taken = p->tables_bytes + p->kv_bytes + p->buffer_bytes;
    if (taken + p->page_bytes_max > p->budget_bytes)
        return refuse(p, err);
    p->slot_bytes = p->budget_bytes - taken;
    st = dp_plan_pins(&p->pins, p, model, tier, p->slot_bytes, err);
    p->pins_always = p->pins.kept == p->pins.count;
    p->step.ahead = p->pins.ahead;
    return st;
}
