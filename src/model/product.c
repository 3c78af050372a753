#include "model/product.h"

#include "base/assert.h"
#include "base/status.h"
#include "model/blocks.h"

/* ---- buffers ---- */

static uint64_t lay_out(dp_adapting *a, uint8_t *base)
{
    uint64_t used = 0;
    struct {
        void **out;
        uint64_t count;
    } const list[] = {
        { (void **)&a->low, (uint64_t)DP_MATMUL_PARTS_MAX * a->tokens_max * a->rank_max },
        { (void **)&a->delta, (uint64_t)a->tokens_max * a->rows_max },
        { (void **)&a->factor, a->tokens_max },
        { (void **)&a->rows, a->tokens_max },
        { (void **)&a->x_rows, a->tokens_max },
        { (void **)&a->order, a->tokens_max },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(list); i++) {
        if (base)
            *list[i].out = base + used;
        used += dp_align_up(list[i].count * sizeof(float), DP_CACHE_LINE);
    }
    return used;
}

static dp_adapting shape_of(const dp_model *model, uint32_t batch_tokens, uint32_t rank_max)
{
    dp_adapting a = { .rank_max = rank_max,
                      .tokens_max = DP_MIN(batch_tokens, (uint32_t)DP_ADAPTING_TOKENS) };

    for (uint32_t s = 0; s < model->sites.count; s++)
        a.rows_max = DP_MAX(a.rows_max, model->sites.sites[s].rows);
    a.rows_max = DP_MIN(a.rows_max, (uint32_t)DP_ADAPTING_ROWS);
    return a;
}

uint64_t dp_adapting_bytes(const dp_model *model, uint32_t batch_tokens, uint32_t rank_max)
{
    dp_adapting a = shape_of(model, batch_tokens, rank_max);

    return rank_max ? lay_out(&a, NULL) : 0;
}

dp_status dp_adapting_open(dp_adapting *a, const dp_model *model, dp_device *device,
                           uint32_t batch_tokens, uint32_t rank_max, dp_error *err)
{
    *a = shape_of(model, batch_tokens, rank_max);
    a->buffer_bytes = lay_out(a, NULL);
    a->buffers = device->ops->acquire(device, a->buffer_bytes);
    if (!a->buffers) {
        *a = (dp_adapting){ 0 };
        return dp_fail(err, DP_E_NOMEM, "adapters: %llu bytes of buffers",
                       (unsigned long long)dp_adapting_bytes(model, batch_tokens, rank_max));
    }
    lay_out(a, a->buffers);
    for (uint32_t i = 0; i < a->tokens_max; i++)
        a->order[i] = i;
    return DP_OK;
}

void dp_adapting_close(dp_adapting *a, dp_device *device)
{
    if (a->buffers)
        device->ops->release(device, a->buffers, a->buffer_bytes);
    *a = (dp_adapting){ 0 };
}

/* ---- deltas ---- */

/* What one adapter adds to a product for the tokens of one set. */
struct change {
    const dp_product *product;
    const dp_lora *lora;
    float scale;
    uint32_t set;
    uint32_t count; /* rows of y gathered: adapting.rows, .x_rows */
    bool is_run;    /* they follow each other */
    const dp_lease *lease;
    dp_page_id page; /* of the lease, in the adapter */
};

static const dp_lora_pair *pair_at(const struct change *c, uint32_t part)
{
    return dp_lora_pair_of(c->lora, c->product->site[part]);
}

/* The page of the adapter that holds a pair. */
static dp_page_id page_of(const struct change *c, const dp_lora_pair *pair)
{
    uint32_t site = (uint32_t)(pair - c->lora->pairs);

    return pair->a.page + (c->lora->model->sites.sites[site].experts ? c->product->expert : 0);
}

/* The next rows of the product, from *next on, whose tokens have the set. */
static void gather(const dp_step *step, struct change *c, uint32_t *next)
{
    const dp_adapting *a = &step->adapting;
    const dp_product *p = c->product;

    c->count = 0;
    c->is_run = true;
    for (; *next < p->op.tokens && c->count < a->tokens_max; ++*next) {
        uint32_t row = *next;
        if (step->set_of[p->tokens ? p->tokens[row] : row] != c->set)
            continue;
        c->is_run = c->is_run && row == (c->count ? a->rows[0] + c->count : row);
        a->rows[c->count] = row;
        a->x_rows[c->count++] = p->op.x_rows ? p->op.x_rows[row] : row;
    }
}

static float *low_of(const dp_adapting *a, uint32_t part)
{
    return a->low + (size_t)part * a->tokens_max * a->rank_max;
}

/* low = A x for every part on the leased page: they share their input. */
static void multiply_low(dp_step *step, const struct change *c)
{
    const dp_adapting *a = &step->adapting;
    const dp_product *p = c->product;
    dp_op_matmul op = {
        .x = p->op.x, .x_stride = p->op.x_stride, .x_rows = a->x_rows, .tokens = c->count
    };

    for (uint32_t i = 0; i < p->op.part_count; i++) {
        const dp_lora_pair *pair = pair_at(c, i);
        if (!pair || page_of(c, pair) != c->page)
            continue;
        DP_CHECK(pair->a.rows <= a->rank_max);
        op.part[op.part_count++] = (dp_matmul_part){ .w = dp_weight_mat(&pair->a, c->lease),
                                                     .y = low_of(a, i),
                                                     .y_stride = pair->a.rows };
    }
    step->device->ops->matmul(step->device, &op);
}

/* y = fma(s, delta, y) for `count` values of each row, from y's `first` on. */
static void add_delta(dp_step *step, const struct change *c, const dp_matmul_part *y,
                      uint32_t first, uint32_t count)
{
    const dp_adapting *a = &step->adapting;
    dp_op_mix op = { .y = a->delta, .weights = a->factor, .used = 1, .n = count };

    if (c->is_run && y->y_stride == count) {
        op.out = y->y + a->rows[0] * y->y_stride;
        op.rows = a->order;
        op.tokens = c->count;
        step->device->ops->mix(step->device, &op);
        return;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        op.out = y->y + a->rows[i] * y->y_stride + first;
        op.rows = a->order + i;
        op.tokens = 1;
        step->device->ops->mix(step->device, &op);
    }
}

/* delta = B low, a slice of rows at a time, added to part i of y. */
static void add_part(dp_step *step, const struct change *c, uint32_t i)
{
    const dp_adapting *a = &step->adapting;
    const dp_product *p = c->product;
    const dp_matmul_part *y = &p->op.part[i];
    const dp_lora_pair *pair = pair_at(c, i);
    float s = dp_lora_factor(c->lora->info.alpha, pair->a.rows, c->scale);

    for (uint32_t t = 0; t < c->count; t++)
        a->factor[t] = s;
    for (uint32_t first = 0; first < y->w.rows; first += a->rows_max) {
        uint32_t count = DP_MIN(a->rows_max, y->w.rows - first);
        dp_op_matmul op = {
            .x = low_of(a, i), .x_stride = pair->a.rows, .tokens = c->count, .part_count = 1
        };

        op.part[0] = (dp_matmul_part){ .w = dp_mat_rows(dp_weight_mat(&pair->b, c->lease),
                                                        p->row_first[i] + first, count),
                                       .y = a->delta,
                                       .y_stride = count };
        step->device->ops->matmul(step->device, &op);
        add_delta(step, c, y, first, count);
    }
}

/* What lies on the adapter's page c->page. */
static dp_status add_page(dp_step *step, struct change *c, dp_error *err)
{
    dp_lease lease;
    dp_status st = dp_step_acquire_beside(step, c->lora->page_ids[c->page], true, &lease, err);

    if (st)
        return st;
    c->lease = &lease;
    for (uint32_t next = 0; next < c->product->op.tokens;) {
        gather(step, c, &next);
        if (c->count == 0)
            break;
        multiply_low(step, c);
        for (uint32_t i = 0; i < c->product->op.part_count; i++)
            if (pair_at(c, i) && page_of(c, pair_at(c, i)) == c->page)
                add_part(step, c, i);
    }
    dp_tier_release(step->tier, &lease);
    return DP_OK;
}

static bool is_first_of_page(const struct change *c, uint32_t part, dp_page_id page)
{
    for (uint32_t i = 0; i < part; i++)
        if (pair_at(c, i) && page_of(c, pair_at(c, i)) == page)
            return false;
    return true;
}

/* One adapter's share; its pairs for one product lie on one page, or on two where a
 * page was full. */
static dp_status add_lora(dp_step *step, struct change *c, dp_error *err)
{
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < c->product->op.part_count && !st; i++) {
        const dp_lora_pair *pair = pair_at(c, i);
        if (!pair || !is_first_of_page(c, i, page_of(c, pair)))
            continue;
        c->page = page_of(c, pair);
        st = add_page(step, c, err);
    }
    return st;
}

static bool has_tokens_of(const dp_step *step, const dp_product *p, uint32_t set)
{
    for (uint32_t t = 0; t < p->op.tokens; t++)
        if (step->set_of[p->tokens ? p->tokens[t] : t] == set)
            return true;
    return false;
}

dp_status dp_step_product(dp_step *step, const dp_product *p, dp_error *err)
{
    dp_status st = DP_OK;

    step->device->ops->matmul(step->device, &p->op);
    for (uint32_t s = 0; s < step->set_count; s++) {
        const dp_lora_set *set = step->sets[s];
        if (!has_tokens_of(step, p, s))
            continue;
        for (uint32_t i = 0; i < set->count && !st; i++) {
            struct change c = {
                .product = p, .lora = set->uses[i].lora, .scale = set->uses[i].scale, .set = s
            };
            st = add_lora(step, &c, err);
        }
    }
    return st;
}

bool dp_step_adapts(const dp_step *step, uint32_t site)
{
    for (uint32_t s = 0; s < step->set_count; s++)
        for (uint32_t i = 0; i < step->sets[s]->count; i++)
            if (dp_lora_pair_of(step->sets[s]->uses[i].lora, site))
                return true;
    return false;
}
