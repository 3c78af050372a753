#include "model/step.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "model/blocks.h"

/* How often a waiting step looks whether it was cancelled. */
#define CANCEL_POLL_NS ((uint64_t)50 * 1000000)

/* ---- buffers ---- */

struct shapes {
    uint64_t dim, q, k, v, mixed, ff, experts, used, pairs, vocab, page_scratch;
    uint64_t heads, q_low, q_latent, mixed_latent; /* the last three 0 without latents */
};

static struct shapes shapes_of(const dp_model *m)
{
    const dp_hparams *hp = &m->hp;
    struct shapes s = {
        .dim = hp->embed_dim,
        .ff = hp->expert_count ? (uint64_t)hp->expert_ff_dim * DP_MAX(hp->expert_shared, 1) : 0,
        .experts = hp->expert_count,
        .used = hp->expert_used,
        .pairs = hp->rope_dim / 2,
        .vocab = hp->vocab_size,
    };

    for (uint32_t l = 0; l < hp->layer_count; l++) {
        s.heads = DP_MAX(s.heads, (uint64_t)hp->head_count[l]);
        s.q = DP_MAX(s.q, (uint64_t)hp->head_count[l] * dp_hparams_query_dim(hp));
        s.mixed = DP_MAX(s.mixed, (uint64_t)hp->head_count[l] * dp_hparams_mixed_dim(hp));
        s.k = DP_MAX(s.k, (uint64_t)hp->kv_head_count[l] * hp->key_dim);
        s.v = DP_MAX(s.v, (uint64_t)hp->kv_head_count[l] * hp->value_dim);
        if (m->layers[l].ffn_page != DP_PAGE_NONE)
            s.ff = DP_MAX(s.ff, (uint64_t)hp->ff_dim[l]);
        if (hp->value_in_key) {
            s.q_latent = DP_MAX(s.q_latent, (uint64_t)hp->head_count[l] * hp->key_dim);
            s.mixed_latent = DP_MAX(s.mixed_latent, (uint64_t)hp->head_count[l] * hp->value_dim);
        }
    }
    s.q_low = hp->value_in_key ? hp->q_lora_rank : 0;
    return s;
}

/* Lays the buffers out one after the other; with base NULL it only counts.
 * One list for measuring and for taking keeps the two from drifting apart. */
struct layout {
    uint8_t *base;
    uint64_t used;
};

static void *take(struct layout *at, uint64_t count, size_t size)
{
    void *here = at->base ? at->base + at->used : NULL;

    at->used += dp_align_up(count * size, DP_CACHE_LINE);
    return here;
}

static void lay_out_expanded(dp_step *s, struct layout *at, const dp_model *m,
                             const dp_step_config *config, uint64_t heads)
{
    const dp_hparams *hp = &m->hp;
    uint64_t key = hp->key_dim_mla, value = hp->value_dim_mla, block = DP_KV_BLOCK_TOKENS;
    uint64_t t = config->batch_tokens;

    s->turned_k = take(at, heads * (key - hp->rope_dim) * hp->kv_lora_rank, sizeof *s->turned_k);
    s->latents = take(at, block * hp->key_dim, sizeof *s->latents);
    s->made_k = take(at, block * heads * key, sizeof *s->made_k);
    s->made_v = take(at, block * heads * value, sizeof *s->made_v);
    s->made = take(at, dp_kv_bytes(config->kv_type, block * heads * (key + value)), 1);
    s->attend_max = take(at, t * heads, sizeof *s->attend_max);
    s->attend_sum = take(at, t * heads, sizeof *s->attend_sum);
}

static void lay_out(dp_step *s, struct layout *at, const dp_model *m, const dp_step_config *config)
{
    struct shapes n = shapes_of(m);
    uint64_t t = config->batch_tokens, few = DP_MIN(t, (uint64_t)DP_MLA_TOKENS);
    uint64_t guessed = n.experts ? DP_MIN(t, (uint64_t)DP_LOOKAHEAD_TOKENS_MAX) : 0;

    s->position = take(at, t, sizeof *s->position);
    s->kv = take(at, t, sizeof *s->kv);
    s->cos = take(at, t * n.pairs, sizeof *s->cos);
    s->sin = take(at, t * n.pairs, sizeof *s->sin);
    s->x = take(at, t * n.dim, sizeof *s->x);
    s->h = take(at, t * n.dim, sizeof *s->h);
    s->q = take(at, t * n.q, sizeof *s->q);
    s->k = take(at, t * n.k, sizeof *s->k);
    s->v = take(at, t * n.v, sizeof *s->v);
    s->mixed = take(at, t * n.mixed, sizeof *s->mixed);
    s->gate = take(at, t * n.ff, sizeof *s->gate);
    s->up = take(at, t * n.ff, sizeof *s->up);
    s->q_low = take(at, t * n.q_low, sizeof *s->q_low);
    s->q_latent = take(at, few * n.q_latent, sizeof *s->q_latent);
    s->mixed_latent = take(at, few * n.mixed_latent, sizeof *s->mixed_latent);
    if (config->expands_latents && m->hp.value_in_key)
        lay_out_expanded(s, at, m, config, n.heads);
    s->router = take(at, t * n.experts, sizeof *s->router);
    s->expert_ids = take(at, t * n.used, sizeof *s->expert_ids);
    s->expert_weights = take(at, t * n.used, sizeof *s->expert_weights);
    s->expert_begin = take(at, n.experts + 1, sizeof *s->expert_begin);
    s->group_token = take(at, t * n.used, sizeof *s->group_token);
    s->slot_row = take(at, t * n.used, sizeof *s->slot_row);
    s->expert_out = take(at, t * n.used * n.dim, sizeof *s->expert_out);
    s->pages = take(at, DP_MAX(n.experts, t), sizeof *s->pages);
    s->page_scratch = take(at, DP_MAX(n.experts, t), sizeof *s->page_scratch);
    if (config->lookahead != DP_LOOKAHEAD_OFF) {
        s->lookahead.h = take(at, guessed * n.dim, sizeof(float));
        s->lookahead.router = take(at, guessed * n.experts, sizeof(float));
        s->lookahead.weights = take(at, guessed * n.used, sizeof(float));
        s->lookahead.pages = take(at, guessed * n.used, sizeof(dp_page_id));
        s->lookahead.cells = take(
            at, n.experts ? dp_recall_cells(m->hp.layer_count, DP_LOOKAHEAD_LAYERS, n.used) : 0,
            sizeof(dp_recall_cell));
        for (int i = 0; i < DP_LOOKAHEAD_LAYERS; i++) {
            dp_lookahead_target *target = &s->lookahead.targets[i];
            target->ids =
                take(at, DP_LOOKAHEAD_LAYERS * DP_LOOKAHEAD_TOKENS_MAX * n.used, sizeof(uint32_t));
            target->hints =
                take(at, DP_LOOKAHEAD_LAYERS * DP_LOOKAHEAD_TOKENS_MAX * n.used, sizeof(uint32_t));
        }
    }
    s->logits = take(at, config->logits_rows * n.vocab, sizeof *s->logits);
    s->row_token = take(at, config->logits_rows, sizeof *s->row_token);
    s->sets = take(at, t, sizeof *s->sets);
    s->set_of = take(at, t, sizeof *s->set_of);
}

uint64_t dp_step_bytes(const dp_model *model, const dp_step_config *config)
{
    struct layout at = { 0 };
    dp_step unused = { 0 };

    lay_out(&unused, &at, model, config);
    return at.used;
}

dp_status dp_step_open(dp_step **out, const dp_model *model, dp_tier *tier, dp_device *device,
                       const dp_step_config *config, const atomic_bool *cancel, dp_error *err)
{
    dp_step *s = dp_alloc_zero(1, sizeof *s);
    struct layout at = { 0 };

    *out = NULL;
    if (!s)
        return dp_fail(err, DP_E_NOMEM, "step: no memory");
    DP_CHECK(config->batch_tokens >= 1 && config->batch_tokens <= DP_BATCH_TOKENS_MAX);
    s->model = model;
    s->tier = tier;
    s->device = device;
    s->config = *config;
    s->cancel = cancel;
    s->buffer_bytes = dp_step_bytes(model, config);
    s->buffers = device->ops->acquire(device, s->buffer_bytes);
    if (!s->buffers) {
        dp_free(s);
        return dp_fail(err, DP_E_NOMEM, "step: %llu bytes of buffers",
                       (unsigned long long)dp_step_bytes(model, config));
    }
    at.base = s->buffers;
    lay_out(s, &at, model, config);
    dp_lookahead_init(s, config->lookahead);
    dp_stream_init(&s->stream, model, tier, model->hp.expert_count ? 0 : config->ahead);
    *out = s;
    return DP_OK;
}

void dp_step_close(dp_step *step)
{
    if (!step)
        return;
    dp_stream_stop(&step->stream);
    dp_adapting_close(&step->adapting, step->device);
    step->device->ops->release(step->device, step->buffers, step->buffer_bytes);
    dp_free(step);
}

void dp_step_set_ahead(dp_step *step, uint32_t ahead)
{
    dp_stream_stop(&step->stream);
    step->stream.depth = step->model->hp.expert_count ? 0 : DP_MIN(ahead, (uint32_t)DP_AHEAD_MAX);
}

dp_status dp_step_adapt(dp_step *step, uint32_t rank_max, dp_error *err)
{
    dp_adapting adapting = { 0 };
    dp_status st = DP_OK;

    if (rank_max == step->adapting.rank_max)
        return DP_OK;
    if (rank_max)
        st = dp_adapting_open(&adapting, step->model, step->device, step->config.batch_tokens,
                              rank_max, err);
    if (st)
        return st;
    dp_adapting_close(&step->adapting, step->device);
    step->adapting = adapting;
    return DP_OK;
}

/* ---- waiting for pages ---- */

static bool is_canceled(const dp_step *step)
{
    return atomic_load_explicit(step->cancel, memory_order_relaxed);
}

static dp_status fail_canceled(dp_error *err)
{
    return dp_fail(err, DP_E_CANCELED, "canceled");
}

dp_status dp_step_next(dp_step *step, dp_tier_batch *batch, dp_lease *lease, size_t *index,
                       dp_error *err)
{
    for (uint64_t waited = 0; waited < DP_STEP_TIMEOUT_NS; waited += CANCEL_POLL_NS) {
        dp_status st;
        if (is_canceled(step))
            return fail_canceled(err);
        st = dp_tier_next(batch, lease, index, CANCEL_POLL_NS, err);
        if (st != DP_E_TIMEOUT)
            return st;
    }
    return dp_fail(err, DP_E_TIMEOUT, "no page of the model arrived within %llu s",
                   (unsigned long long)(DP_STEP_TIMEOUT_NS / 1000000000));
}

dp_status dp_step_acquire(dp_step *step, dp_page_id page, dp_lease *lease, dp_error *err)
{
    dp_tier_batch *batch;
    size_t index;
    dp_status st = dp_stream_want(&step->stream, page, &batch, err);

    if (st)
        return st;
    st = dp_step_next(step, batch, lease, &index, err);
    dp_stream_taken(&step->stream, page);
    return st;
}

dp_status dp_step_acquire_beside(dp_step *step, dp_page_id page, bool is_counted, dp_lease *lease,
                                 dp_error *err)
{
    dp_tier_batch batch;
    uint8_t scratch;
    size_t index;
    dp_status st = (is_counted ? dp_tier_want : dp_tier_want_uncounted)(step->tier, &page, 1,
                                                                        &scratch, &batch, err);

    if (!st)
        st = dp_step_next(step, &batch, lease, &index, err);
    dp_tier_batch_end(&batch);
    return st;
}

/* ---- the embedding ---- */

static int compare_pages(const void *a, const void *b)
{
    dp_page_id x = *(const dp_page_id *)a, y = *(const dp_page_id *)b;

    return (x > y) - (x < y);
}

static dp_page_id embed_page(const dp_table *table, int32_t id)
{
    return table->first_page + (uint32_t)id / table->rows_per_page;
}

/* The pages that hold the tokens' rows, each once; returns how many. */
static size_t embed_pages(dp_step *step)
{
    size_t count = 0;

    for (uint32_t t = 0; t < step->count; t++)
        step->pages[t] = embed_page(&step->model->embed, step->tokens[t].id);
    qsort(step->pages, step->count, sizeof *step->pages, compare_pages);
    for (uint32_t t = 0; t < step->count; t++)
        if (count == 0 || step->pages[count - 1] != step->pages[t])
            step->pages[count++] = step->pages[t];
    return count;
}

static dp_status embed(dp_step *step, dp_error *err)
{
    const dp_table *table = &step->model->embed;
    dp_tier_batch batch;
    dp_lease lease;
    size_t index;
    dp_status st =
        dp_tier_want(step->tier, step->pages, embed_pages(step), step->page_scratch, &batch, err);

    if (st)
        return st;
    while ((st = dp_step_next(step, &batch, &lease, &index, err)) == DP_OK) {
        uint32_t first = (lease.page - table->first_page) * table->rows_per_page;
        dp_mat rows = { lease.parts[0], table->dtype,
                        DP_MIN(table->rows_per_page, table->rows - first), table->k,
                        table->row_bytes };
        for (uint32_t t = 0; t < step->count; t++)
            if (embed_page(table, step->tokens[t].id) == lease.page)
                step->device->ops->embed(step->device, step->x + (size_t)t * table->k, &rows,
                                         (uint32_t)step->tokens[t].id - first);
        dp_tier_release(step->tier, &lease);
    }
    dp_tier_batch_end(&batch);
    return st == DP_E_NOTFOUND ? DP_OK : st;
}

/* ---- the head ---- */

/* Logits of `rows` tokens whose final states are the first rows of h. */
static dp_status head_rows(dp_step *step, uint32_t rows, dp_error *err)
{
    const dp_table *table = &step->model->head;

    for (uint32_t p = 0; p < table->page_count; p++) {
        uint32_t first = p * table->rows_per_page;
        dp_lease lease;
        dp_status st = dp_step_acquire(step, table->first_page + p, &lease, err);
        dp_product product = { .site = { table->site },
                               .row_first = { first },
                               .tokens = step->row_token };
        if (st)
            return st;
        product.op =
            (dp_op_matmul){ .x = step->h, .x_stride = table->k, .tokens = rows, .part_count = 1 };
        product.op.part[0] = (dp_matmul_part){
            .w = { lease.parts[0], table->dtype, DP_MIN(table->rows_per_page, table->rows - first),
                   table->k, table->row_bytes },
            .y = step->logits + first,
            .y_stride = table->rows,
        };
        st = dp_step_product(step, &product, err);
        dp_tier_release(step->tier, &lease);
        if (st)
            return st;
    }
    return DP_OK;
}

/* Takes tokens that want logits a few at a time: their states move to the front
 * of x (never past one still to be read), are normed and multiplied. */
static dp_status head(dp_step *step, dp_step_sink on_logits, void *user, dp_error *err)
{
    const dp_hparams *hp = &step->model->hp;
    size_t dim = hp->embed_dim;
    uint32_t next = 0;

    while (next < step->count) {
        uint32_t first = next, rows = 0, row = 0;
        dp_lease lease;
        dp_status st;

        for (; next < step->count && rows < step->config.logits_rows; next++)
            if (step->tokens[next].wants_logits) {
                step->row_token[rows] = next;
                memmove(step->x + rows++ * dim, step->x + next * dim, dim * sizeof *step->x);
            }
        if (rows == 0)
            break;
        st = dp_step_acquire(step, step->model->globals_page, &lease, err);
        if (st)
            return st;
        step->device->ops->rmsnorm(step->device, step->h, step->x,
                                   dp_weight_f32(&step->model->output_norm, &lease), rows,
                                   hp->embed_dim, hp->norm_eps);
        dp_tier_release(step->tier, &lease);
        st = head_rows(step, rows, err);
        if (st)
            return st;
        for (uint32_t t = first; t < next; t++)
            if (step->tokens[t].wants_logits &&
                !on_logits(user, t, step->logits + (size_t)row++ * hp->vocab_size))
                return fail_canceled(err);
    }
    return DP_OK;
}

/* ---- the pass ---- */

static bool is_same_set(const dp_lora_set *a, const dp_lora_set *b)
{
    bool is_same = a->count == b->count;

    for (uint32_t i = 0; i < a->count && is_same; i++)
        is_same = a->uses[i].lora == b->uses[i].lora && a->uses[i].scale == b->uses[i].scale;
    return is_same;
}

/* Tokens with equal sets are multiplied together. */
static void group_by_set(dp_step *step)
{
    step->set_count = 0;
    for (uint32_t t = 0; t < step->count; t++) {
        const dp_lora_set *set = step->tokens[t].adapters;
        uint32_t s = set && set->count ? 0 : UINT32_MAX;

        while (s < step->set_count && !is_same_set(step->sets[s], set))
            s++;
        if (s == step->set_count)
            step->sets[step->set_count++] = set;
        step->set_of[t] = s;
    }
}

static void begin(dp_step *step, const dp_batch_token *tokens, uint32_t count)
{
    const dp_rope *rope = &step->model->rope;
    bool wants_head = false;

    step->tokens = tokens;
    step->count = count;
    for (uint32_t t = 0; t < count; t++) {
        DP_ASSERT(tokens[t].id >= 0 && (uint32_t)tokens[t].id < step->model->hp.vocab_size);
        step->position[t] = tokens[t].position;
        wants_head |= tokens[t].wants_logits;
        dp_rope_angles(rope, tokens[t].position, step->cos + (size_t)t * rope->pair_count,
                       step->sin + (size_t)t * rope->pair_count);
    }
    group_by_set(step);
    dp_tier_tick(step->tier);
    dp_stream_begin(&step->stream, wants_head);
    dp_lookahead_begin_step(step);
}

dp_status dp_step_run(dp_step *step, const dp_batch_token *tokens, uint32_t count,
                      dp_step_sink on_logits, void *user, dp_error *err)
{
    const dp_model *m = step->model;
    dp_status st;

    DP_CHECK(count >= 1 && count <= step->config.batch_tokens);
    begin(step, tokens, count);
    st = embed(step, err);
    for (uint32_t l = 0; !st && l < m->hp.layer_count; l++) {
        dp_lookahead_guess(step, l);
        st = is_canceled(step) ? fail_canceled(err) : m->arch->layer(step, l, err);
    }
    if (!st)
        st = head(step, on_logits, user, err);
    if (st)
        dp_stream_stop(&step->stream);
    dp_lookahead_end_step(step);
    return st;
}
