/* The layer most families share: norm, attention with grouped heads, norm, then a
 * SwiGLU feed-forward or a mixture of them. Families differ in traits. */
#include <string.h>

#include "base/status.h"
#include "model/blocks.h"

static void bind_attention(dp_model *m, dp_binder *b, uint32_t l, unsigned traits)
{
    const dp_hparams *hp = &m->hp;
    dp_layer *w = &m->layers[l];
    uint32_t q_rows = hp->head_count[l] * hp->key_dim;
    uint32_t k_rows = hp->kv_head_count[l] * hp->key_dim;
    uint32_t v_rows = hp->kv_head_count[l] * hp->value_dim;
    uint32_t o_cols = hp->head_count[l] * hp->value_dim;
    unsigned bias = DP_BIND_F32 | (traits & DP_LAYER_BIASES ? 0 : DP_BIND_OPTIONAL);
    bool is_after = traits & DP_LAYER_POST_ATTENTION_NORM;

    dp_bind_weight(b, &w->attn_norm, "blk.%u.attn_norm.weight", l, 0, hp->embed_dim, DP_BIND_F32);
    dp_bind_weight(b, &w->q, "blk.%u.attn_q.weight", l, q_rows, hp->embed_dim, 0);
    dp_bind_weight(b, &w->k, "blk.%u.attn_k.weight", l, k_rows, hp->embed_dim, 0);
    dp_bind_weight(b, &w->v, "blk.%u.attn_v.weight", l, v_rows, hp->embed_dim, 0);
    dp_bind_weight(b, &w->o, "blk.%u.attn_output.weight", l, hp->embed_dim, o_cols, 0);
    dp_bind_weight(b, &w->q_bias, "blk.%u.attn_q.bias", l, 0, q_rows, bias);
    dp_bind_weight(b, &w->k_bias, "blk.%u.attn_k.bias", l, 0, k_rows, bias);
    dp_bind_weight(b, &w->v_bias, "blk.%u.attn_v.bias", l, 0, v_rows, bias);
    dp_bind_weight(b, &w->o_bias, "blk.%u.attn_output.bias", l, 0, hp->embed_dim, bias);
    if (traits & DP_LAYER_HEAD_NORMS) {
        dp_bind_weight(b, &w->q_norm, "blk.%u.attn_q_norm.weight", l, 0, hp->key_dim, DP_BIND_F32);
        dp_bind_weight(b, &w->k_norm, "blk.%u.attn_k_norm.weight", l, 0, hp->key_dim, DP_BIND_F32);
    }
    if (traits & DP_LAYER_SINKS)
        dp_bind_weight(b, &w->sinks, "blk.%u.attn_sinks.weight", l, 0, hp->head_count[l],
                       DP_BIND_F32);
    dp_bind_weight(b, &w->ffn_norm,
                   is_after ? "blk.%u.post_attention_norm.weight" : "blk.%u.ffn_norm.weight", l, 0,
                   hp->embed_dim, DP_BIND_F32);
}

void dp_bind_dense(dp_model *m, dp_binder *b, uint32_t l)
{
    uint32_t dim = m->hp.embed_dim, ff = m->hp.ff_dim[l];
    dp_layer *w = &m->layers[l];

    w->ffn_page = dp_bind_page(b, DP_PAGE_ALWAYS, l, 1);
    dp_bind_weight(b, &w->ffn.gate, "blk.%u.ffn_gate.weight", l, ff, dim, 0);
    dp_bind_weight(b, &w->ffn.up, "blk.%u.ffn_up.weight", l, ff, dim, 0);
    dp_bind_weight(b, &w->ffn.down, "blk.%u.ffn_down.weight", l, dim, ff, 0);
}

/* Experts of a layer are bound alike: a page's matrices differ in place only. */
static void check_alike(dp_binder *b, const dp_weight *first, const dp_weight *w, uint32_t layer,
                        uint32_t expert)
{
    if (!b->status && (w->dtype != first->dtype || w->part != first->part))
        b->status =
            dp_fail(b->err, DP_E_UNSUPPORTED, "layer %u: expert %u is stored as %s, expert 0 as %s",
                    layer, expert, dp_dtype_get(w->dtype)->name, dp_dtype_get(first->dtype)->name);
}

static void bind_expert(dp_ffn *out, const dp_hparams *hp, dp_binder *b, uint32_t l, uint32_t e,
                        unsigned traits)
{
    static const char merged[] = "blk.%u.ffn_gate_up_exps.weight";
    uint32_t dim = hp->embed_dim, ff = hp->expert_ff_dim, n = hp->expert_count;

    memset(out, 0xff, sizeof *out); /* absent, as in dp_model_open */
    /* Read in this order: gate and up are needed first. */
    if (dp_bind_has(b, merged, l)) {
        dp_bind_expert_half(b, &out->gate, merged, l, e, n, 0, ff, dim);
        dp_bind_expert_half(b, &out->up, merged, l, e, n, 1, ff, dim);
    } else {
        dp_bind_expert(b, &out->gate, "blk.%u.ffn_gate_exps.weight", "blk.%u.ffn_gate.%u.weight", l,
                       e, n, ff, dim);
        dp_bind_expert(b, &out->up, "blk.%u.ffn_up_exps.weight", "blk.%u.ffn_up.%u.weight", l, e, n,
                       ff, dim);
    }
    if (traits & DP_LAYER_BIASES) {
        dp_bind_row(b, &out->gate_bias, "blk.%u.ffn_gate_exps.bias", l, e, n, ff);
        dp_bind_row(b, &out->up_bias, "blk.%u.ffn_up_exps.bias", l, e, n, ff);
        dp_bind_row(b, &out->down_bias, "blk.%u.ffn_down_exps.bias", l, e, n, dim);
    }
    dp_bind_expert(b, &out->down, "blk.%u.ffn_down_exps.weight", "blk.%u.ffn_down.%u.weight", l, e,
                   n, dim, ff);
}

void dp_bind_experts(dp_model *m, dp_binder *b, uint32_t l, unsigned traits)
{
    dp_layer *w = &m->layers[l];

    for (uint32_t e = 0; e < m->hp.expert_count && !b->status; e++) {
        dp_page_id page = dp_bind_page(b, DP_PAGE_EXPERT, l, e);
        dp_ffn ffn;

        bind_expert(&ffn, &m->hp, b, l, e, traits);
        if (e == 0) {
            w->expert_first = page;
            w->ffn = ffn;
        }
        check_alike(b, &w->ffn.gate, &ffn.gate, l, e);
        check_alike(b, &w->ffn.up, &ffn.up, l, e);
        check_alike(b, &w->ffn.down, &ffn.down, l, e);
    }
}

void dp_bind_standard_layers(dp_model *m, dp_binder *b, unsigned traits)
{
    const dp_hparams *hp = &m->hp;

    for (uint32_t l = 0; l < hp->layer_count && !b->status; l++) {
        dp_layer *w = &m->layers[l];

        w->page = dp_bind_page(b, DP_PAGE_ALWAYS, l, 0);
        bind_attention(m, b, l, traits);
        if (hp->expert_count == 0) {
            dp_bind_dense(m, b, l);
            continue;
        }
        dp_bind_weight(b, &w->router, "blk.%u.ffn_gate_inp.weight", l, hp->expert_count,
                       hp->embed_dim, 0);
        if (traits & DP_LAYER_BIASES)
            dp_bind_weight(b, &w->router_bias, "blk.%u.ffn_gate_inp.bias", l, 0, hp->expert_count,
                           DP_BIND_F32);
        dp_bind_experts(m, b, l, traits);
    }
}

static const char *gating_text(dp_gating gating)
{
    return gating == DP_GATING_SIGMOID            ? "sigmoids"
           : gating == DP_GATING_SOFTMAX_SELECTED ? "a softmax over the chosen experts (3)"
                                                  : "softmax";
}

void dp_bind_routing(dp_model *m, dp_binder *b, dp_gating gating)
{
    dp_hparams *hp = &m->hp;

    if (b->status || hp->expert_count == 0)
        return;
    if (hp->expert_gating != DP_GATING_DEFAULT && hp->expert_gating != gating)
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED,
                            "key %s.expert_gating_func: %d, this architecture routes by %s",
                            hp->arch, (int)hp->expert_gating, gating_text(gating));
    if (hp->expert_shared || hp->leading_dense || hp->expert_group_count)
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED,
                            "keys %s.expert_*: shared experts, leading dense layers and expert "
                            "groups are not a part of this architecture",
                            hp->arch);
    hp->expert_gating = gating;
    hp->expert_weights_norm = gating == DP_GATING_SOFTMAX;
}

/* The half of a layer behind attention, of h. lease: the layer's page; released, always. */
static dp_status feed_forward(dp_step *step, const dp_layer *w, dp_lease *lease, dp_error *err)
{
    dp_status st;

    if (w->ffn_page == DP_PAGE_NONE)
        return dp_block_moe(step, w, lease, err);

    dp_tier_release(step->tier, lease);
    st = dp_step_acquire(step, w->ffn_page, lease, err);
    if (st)
        return st;
    st = dp_block_ffn(step, w, lease, err);
    dp_tier_release(step->tier, lease);
    return st;
}

dp_status dp_pre_norm_layer(dp_step *step, uint32_t l, dp_attention_block *attend, dp_error *err)
{
    const dp_layer *w = &step->model->layers[l];
    dp_lease lease;
    dp_status st = dp_step_acquire(step, w->page, &lease, err);

    if (st)
        return st;
    dp_block_norm(step, dp_weight_f32(&w->attn_norm, &lease));
    st = attend(step, l, &lease, err);
    if (st) {
        dp_tier_release(step->tier, &lease);
        return st;
    }
    dp_block_norm(step, dp_weight_f32(&w->ffn_norm, &lease));
    return feed_forward(step, w, &lease, err);
}

dp_status dp_standard_layer(dp_step *step, uint32_t l, dp_error *err)
{
    return dp_pre_norm_layer(step, l, dp_block_attention, err);
}
