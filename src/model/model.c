#include "model/model.h"

#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "format/lora.h"
#include "format/rope_scale.h"
#include "model/arch.h"

/* Rows of the embedding are looked up one by one, so pages are small; the head
 * is read whole, so they are large enough for full drive speed. */
#define EMBED_PAGE_BYTES ((uint64_t)64 << 10)
#define HEAD_PAGE_BYTES  ((uint64_t)16 << 20)

_Static_assert(DP_PAGE_NONE == UINT32_MAX, "a layer filled with ones has no weights");

static void bind_globals(dp_model *m, dp_binder *b)
{
    const dp_hparams *hp = &m->hp;

    m->globals_page = dp_bind_page(b, DP_PAGE_ALWAYS, UINT32_MAX, 0);
    dp_bind_weight(b, &m->output_norm, "output_norm.weight", 0, 0, hp->embed_dim, DP_BIND_F32);
    dp_bind_weight(b, &m->rope_divisors, "rope_freqs.weight", 0, 0, hp->rope_dim / 2,
                   DP_BIND_F32 | DP_BIND_OPTIONAL);
    m->is_tied = !dp_gguf_find_tensor(b->gguf, "output.weight");
    if (m->is_tied) {
        dp_bind_table(b, &m->head, "token_embd.weight", hp->vocab_size, hp->embed_dim,
                      HEAD_PAGE_BYTES, false);
        m->embed = m->head;
        return;
    }
    dp_bind_table(b, &m->head, "output.weight", hp->vocab_size, hp->embed_dim, HEAD_PAGE_BYTES,
                  true);
    dp_bind_table(b, &m->embed, "token_embd.weight", hp->vocab_size, hp->embed_dim,
                  EMBED_PAGE_BYTES, false);
}

static dp_status refuse_adapter(const dp_gguf *gguf, dp_error *err)
{
    dp_lora_info info;
    dp_error why;

    if (dp_lora_read(&info, gguf, &why))
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "an adapter, not a model, and none doppler can use: %s", why.text);
    return dp_fail(err, DP_E_UNSUPPORTED,
                   "a LoRA adapter for %s (%u matrices, rank %u, alpha %g), not a model: open "
                   "the model it is for and add the adapter (--lora)",
                   info.arch, info.pair_count, info.rank_max, (double)info.alpha);
}

dp_status dp_model_open(dp_model **out, const dp_gguf *gguf, dp_error *err)
{
    dp_status st = DP_OK;
    dp_binder b = { 0 };
    dp_model *m = dp_alloc_zero(1, sizeof *m);

    *out = NULL;
    if (!m)
        return dp_fail(err, DP_E_NOMEM, "model: no memory");
    st = dp_lora_is_adapter(gguf) ? refuse_adapter(gguf, err) : dp_hparams_read(&m->hp, gguf, err);
    if (st)
        goto done;
    m->arch = dp_arch_find(m->hp.arch);
    if (!m->arch) {
        st = dp_fail(err, DP_E_UNSUPPORTED, "architecture \"%s\" is not supported", m->hp.arch);
        goto done;
    }
    if (m->hp.rope_dim / 2 > DP_ROPE_PAIRS_MAX) {
        st = dp_fail(err, DP_E_LIMIT, "key %s.rope.dimension_count: %u, at most %u", m->hp.arch,
                     m->hp.rope_dim, DP_ROPE_PAIRS_MAX * 2);
        goto done;
    }
    m->layers = dp_alloc_zero(m->hp.layer_count, sizeof *m->layers);
    if (!m->layers) {
        st = dp_fail(err, DP_E_NOMEM, "model: %u layers", m->hp.layer_count);
        goto done;
    }
    /* Absent until bound: every page number is DP_PAGE_NONE. */
    memset(m->layers, 0xff, m->hp.layer_count * sizeof *m->layers);
    for (uint32_t l = 0; l < m->hp.layer_count; l++)
        m->layers[l].window = m->hp.sliding_window;
    st = dp_binder_init(&b, gguf, &m->pages, err);
    if (st)
        goto done;
    b.sites = &m->sites;
    bind_globals(m, &b);
    m->arch->bind(m, &b);
    st = dp_binder_finish(&b);
    if (st)
        goto done;

    *out = m;
    m = NULL;
done:
    dp_model_close(m);
    return st;
}

void dp_model_close(dp_model *model)
{
    if (!model)
        return;
    dp_page_list_deinit(&model->pages);
    dp_free(model->sites.sites);
    dp_free(model->layers);
    dp_free(model);
}

dp_page_id dp_model_first_page(const dp_model *model)
{
    return model->layers[0].page;
}

dp_page_id dp_model_page_after(const dp_model *model, dp_page_id page)
{
    dp_page_id head_end = model->head.first_page + model->head.page_count;

    if (page == model->globals_page)
        return model->head.first_page;
    if (page >= model->head.first_page && page < head_end)
        return page + 1 < head_end ? page + 1 : DP_PAGE_NONE;
    return page + 1 < model->pages.page_count ? page + 1 : model->globals_page;
}

uint64_t dp_model_heap_bytes(const dp_model *model)
{
    const dp_page_list *list = &model->pages;

    return sizeof *model + model->hp.layer_count * sizeof *model->layers +
           list->page_capacity * sizeof *list->pages + list->part_capacity * sizeof *list->parts +
           model->sites.capacity * sizeof *model->sites.sites;
}

dp_status dp_model_register(const dp_model *model, dp_tier *tier, dp_error *err)
{
    for (uint32_t i = 0; i < model->pages.page_count; i++) {
        dp_page_desc desc;
        dp_page_id id;
        dp_status st;

        dp_page_list_desc(&model->pages, i, &desc);
        st = dp_tier_add_page(tier, &desc, &id, err);
        if (st)
            return st;
        DP_CHECK(id == i);
    }
    return DP_OK;
}

#define PREPARE_TIMEOUT_NS ((uint64_t)60 * 1000000000)

dp_status dp_model_prepare(dp_model *model, dp_tier *tier, dp_error *err)
{
    const dp_hparams *hp = &model->hp;
    float early[DP_ROPE_PAIRS_MAX];
    const float *divisors;
    bool rounds = model->yarn_rounding == DP_YARN_AUTO ? !model->arch->keeps_yarn_range
                                                       : model->yarn_rounding == DP_YARN_ON;
    dp_lease lease;
    dp_status st = dp_tier_acquire(tier, model->globals_page, &lease, PREPARE_TIMEOUT_NS, err);

    if (st)
        return st;
    divisors = dp_weight_f32(&model->rope_divisors, &lease);
    if (!divisors && dp_is_llama31(hp)) {
        DP_LOG_INFO("model", "llama 3.1 without rope_freqs.weight: its own scaling is used");
        dp_llama3_divisors(early, hp->rope_dim / 2, hp->rope_base, &dp_llama31_scaling);
        divisors = early;
    }
    dp_rope_init(&model->rope, hp, divisors, rounds);
    dp_tier_release(tier, &lease);
    return DP_OK;
}
