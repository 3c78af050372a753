/* A mixture of experts, expert-major: tokens are grouped by expert, so that each
 * expert's weights are read once per step. Experts run in the order their pages
 * become ready; results land at fixed places and are added in order of rank, so
 * that order does not show. Shazeer et al. 2017, arXiv:1701.06538. */
#include <string.h>

#include "base/assert.h"
#include "model/blocks.h"

_Static_assert(DP_EXPERTS_MAX <= DP_ROUTE_EXPERTS_MAX, "any model can be routed");

static dp_route_gate gate_of(dp_gating gating)
{
    DP_ASSERT(gating != DP_GATING_DEFAULT);
    return gating == DP_GATING_SIGMOID            ? DP_ROUTE_SIGMOID
           : gating == DP_GATING_SOFTMAX_SELECTED ? DP_ROUTE_SOFTMAX_CHOSEN
                                                  : DP_ROUTE_SOFTMAX;
}

dp_op_route dp_route_of(const dp_model *model, const float *select_bias)
{
    const dp_hparams *hp = &model->hp;

    return (dp_op_route){
        .experts = hp->expert_count,
        .used = hp->expert_used,
        .gate = gate_of(hp->expert_gating),
        .select_bias = select_bias,
        .groups = hp->expert_group_count,
        .groups_used = hp->expert_group_used,
        /* arXiv:2412.19437 §2.1.2 introduced the bias and groups worth their two best;
         * arXiv:2405.04434 §2.1 has neither. */
        .group_best = select_bias ? 2 : 1,
        .norm_weights = hp->expert_weights_norm,
        .scale = hp->expert_weights_scale,
    };
}

static dp_status route(dp_step *step, const dp_layer *layer, const dp_lease *lease, dp_error *err)
{
    const dp_hparams *hp = &step->model->hp;
    dp_product scores = { .site = { layer->router.site } };
    dp_op_route choose = dp_route_of(step->model, dp_weight_f32(&layer->select_bias, lease));
    dp_status st;

    choose.logits = step->router;
    choose.tokens = step->count;
    choose.ids = step->expert_ids;
    choose.weights = step->expert_weights;
    scores.op = (dp_op_matmul){
        .x = step->h,
        .x_stride = hp->embed_dim,
        .tokens = step->count,
        .part_count = 1,
        .part = { { dp_weight_mat(&layer->router, lease), dp_weight_f32(&layer->router_bias, lease),
                    step->router, hp->expert_count } },
    };
    st = dp_step_product(step, &scores, err);
    if (st)
        return st;
    step->device->ops->route(step->device, &choose);
    return DP_OK;
}

/* Counting sort of slots by expert, tokens ascending within one. */
static void group_by_expert(dp_step *step)
{
    const dp_hparams *hp = &step->model->hp;
    uint32_t slots = step->count * hp->expert_used;
    uint32_t *begin = step->expert_begin;

    memset(begin, 0, (hp->expert_count + 1) * sizeof *begin);
    for (uint32_t s = 0; s < slots; s++)
        begin[step->expert_ids[s] + 1]++;
    for (uint32_t e = 0; e < hp->expert_count; e++)
        begin[e + 1] += begin[e];
    for (uint32_t s = 0; s < slots; s++) {
        uint32_t row = begin[step->expert_ids[s]]++;
        step->group_token[row] = s / hp->expert_used;
        step->slot_row[s] = row;
    }
    /* Each begin[e] has advanced to its end, which is begin[e + 1]: shift back. */
    memmove(begin + 1, begin, hp->expert_count * sizeof *begin);
    begin[0] = 0;
}

static dp_status run_expert(dp_step *step, const dp_layer *layer, uint32_t expert,
                            const dp_lease *lease, dp_error *err)
{
    uint32_t first = step->expert_begin[expert];

    return dp_block_swiglu(step, &layer->ffn, expert, lease, step->group_token + first,
                           step->expert_begin[expert + 1] - first,
                           step->expert_out + (size_t)first * step->model->hp.embed_dim, err);
}

/* Every token's: its weights are on the layer's page. */
static dp_status run_shared(dp_step *step, const dp_layer *layer, const dp_lease *lease,
                            dp_error *err)
{
    size_t dim = step->model->hp.embed_dim;
    dp_status st;

    if (layer->shared.gate.page == DP_PAGE_NONE)
        return DP_OK;
    st = dp_block_swiglu(step, &layer->shared, 0, lease, NULL, step->count, step->expert_out, err);
    if (st)
        return st;
    step->device->ops->add(step->device, step->x, step->expert_out, step->count * dim);
    return DP_OK;
}

/* The pages of experts some token has chosen; returns how many. */
static size_t chosen_pages(dp_step *step, const dp_layer *layer)
{
    size_t count = 0;

    for (uint32_t e = 0; e < step->model->hp.expert_count; e++)
        if (step->expert_begin[e] < step->expert_begin[e + 1])
            step->pages[count++] = layer->expert_first + e;
    return count;
}

/* Whichever page comes next computes while the others load. */
static dp_status run_as_they_come(dp_step *step, const dp_layer *layer, dp_lease *layer_lease,
                                  dp_error *err)
{
    size_t index;
    dp_tier_batch batch;
    dp_lease lease;
    dp_status st = dp_tier_want(step->tier, step->pages, chosen_pages(step, layer),
                                step->page_scratch, &batch, err);

    if (!st) /* while the chosen ones load */
        st = run_shared(step, layer, layer_lease, err);
    dp_tier_release(step->tier, layer_lease);
    while (!st && (st = dp_step_next(step, &batch, &lease, &index, err)) == DP_OK) {
        st = run_expert(step, layer, step->pages[index] - layer->expert_first, &lease, err);
        dp_tier_release(step->tier, &lease);
    }
    dp_tier_batch_end(&batch);
    return st == DP_E_NOTFOUND ? DP_OK : st;
}

/* Whether running the layer's experts waits for pages of adapters as well. */
static bool is_adapted(const dp_step *step, const dp_layer *layer)
{
    const dp_ffn *each[] = { &layer->ffn, &layer->shared };

    for (size_t i = 0; i < DP_ARRAY_LEN(each); i++)
        if (each[i]->gate.page != DP_PAGE_NONE &&
            (dp_step_adapts(step, each[i]->gate.site) || dp_step_adapts(step, each[i]->up.site) ||
             dp_step_adapts(step, each[i]->down.site)))
            return true;
    return false;
}

/* Pages that have come for a batch hold room until they are served: who waits for an
 * adapter's page meanwhile could wait for ever. So all are wanted, which counts them and
 * starts what there is room for, and the batch is ended; then they are had one by one. */
static dp_status run_one_by_one(dp_step *step, const dp_layer *layer, dp_lease *layer_lease,
                                dp_error *err)
{
    size_t count = chosen_pages(step, layer);
    dp_tier_batch batch;
    dp_status st = dp_tier_want(step->tier, step->pages, count, step->page_scratch, &batch, err);

    dp_tier_batch_end(&batch);
    if (!st)
        st = run_shared(step, layer, layer_lease, err);
    dp_tier_release(step->tier, layer_lease);
    for (size_t i = 0; i < count && !st; i++) {
        dp_lease lease;

        st = dp_step_acquire_beside(step, step->pages[i], false, &lease, err);
        if (st)
            break;
        st = run_expert(step, layer, step->pages[i] - layer->expert_first, &lease, err);
        dp_tier_release(step->tier, &lease);
    }
    return st;
}

dp_status dp_block_moe(dp_step *step, const dp_layer *layer, dp_lease *lease, dp_error *err)
{
    const dp_hparams *hp = &step->model->hp;
    dp_status st;

    st = route(step, layer, lease, err);
    if (st) {
        dp_tier_release(step->tier, lease);
        return st;
    }
    group_by_expert(step);
    dp_lookahead_learn(step, (uint32_t)(layer - step->model->layers));
    st = is_adapted(step, layer) ? run_one_by_one(step, layer, lease, err)
                                 : run_as_they_come(step, layer, lease, err);
    if (st)
        return st;
    step->device->ops->mix(step->device, &(dp_op_mix){
                                             .out = step->x,
                                             .y = step->expert_out,
                                             .rows = step->slot_row,
                                             .weights = step->expert_weights,
                                             .tokens = step->count,
                                             .used = hp->expert_used,
                                             .n = hp->embed_dim,
                                         });
    return DP_OK;
}
