#include "model/lora_weights.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

/* ---- binding ---- */

static const dp_tensor *find_half(const dp_gguf *gguf, const dp_site *site, const char *half,
                                  char name[DP_GGUF_NAME_MAX + 16])
{
    dp_site_name(site, name);
    strcat(name, half);
    return dp_gguf_find_tensor(gguf, name);
}

/* Whether the page opened last is that of (base page, expert) and has room for a pair. */
static bool is_page_open(const dp_binder *b, const dp_site *site, dp_page_id base)
{
    const dp_page_list *list = b->list;

    return base == site->page && list->page_count &&
           list->pages[list->page_count - 1].part_count + 2 <= DP_PAGE_PARTS_MAX;
}

/* A matrix's pair, on a page shared with others of the same page of the model. */
static void bind_matrix(dp_lora *lora, dp_binder *b, uint32_t s, uint32_t rank, dp_page_id *base)
{
    const dp_site *site = &lora->model->sites.sites[s];
    char name[DP_GGUF_NAME_MAX + 16];

    if (!is_page_open(b, site, *base))
        dp_bind_page(b, DP_PAGE_ADAPTER, site->layer, UINT32_MAX);
    *base = site->page;
    find_half(b->gguf, site, DP_LORA_A, name);
    dp_bind_weight(b, &lora->pairs[s].a, name, 0, rank, site->k, 0);
    find_half(b->gguf, site, DP_LORA_B, name);
    dp_bind_weight(b, &lora->pairs[s].b, name, 0, site->rows, rank, 0);
}

/* Pairs of the stacks [first, end) of one layer: a page an expert, all alike. */
static void bind_experts(dp_lora *lora, dp_binder *b, uint32_t first, uint32_t end)
{
    const dp_site *sites = lora->model->sites.sites;
    char name[DP_GGUF_NAME_MAX + 16];

    for (uint32_t e = 0; e < sites[first].experts && !b->status; e++) {
        dp_bind_page(b, DP_PAGE_ADAPTER, sites[first].layer, e);
        for (uint32_t s = first; s < end; s++) {
            const dp_tensor *a = find_half(b->gguf, &sites[s], DP_LORA_A, name);
            dp_lora_pair pair;
            if (!a)
                continue;
            dp_bind_expert(b, &pair.a, name, name, 0, e, sites[s].experts, (uint32_t)a->ne[1],
                           sites[s].k);
            find_half(b->gguf, &sites[s], DP_LORA_B, name);
            dp_bind_expert(b, &pair.b, name, name, 0, e, sites[s].experts, sites[s].rows,
                           (uint32_t)a->ne[1]);
            if (e == 0)
                lora->pairs[s] = pair;
        }
    }
}

static void bind_pairs(dp_lora *lora, dp_binder *b)
{
    const dp_site_list *list = &lora->model->sites;
    dp_page_id base = DP_PAGE_NONE;
    char name[DP_GGUF_NAME_MAX + 16];

    for (uint32_t s = 0, end; s < list->count && !b->status; s = end) {
        bool is_any = false;

        /* All sites of a page of experts together, others one by one. */
        for (end = s; end < list->count && list->sites[end].page == list->sites[s].page &&
                      (end == s || list->sites[s].experts);
             end++)
            is_any = is_any || find_half(b->gguf, &list->sites[end], DP_LORA_A, name);
        if (!is_any)
            continue;
        if (list->sites[s].experts)
            bind_experts(lora, b, s, end);
        else
            bind_matrix(lora, b, s,
                        (uint32_t)find_half(b->gguf, &list->sites[s], DP_LORA_A, name)->ne[1],
                        &base);
    }
}

dp_status dp_lora_open(dp_lora **out, const dp_model *model, const dp_gguf *gguf, dp_error *err)
{
    dp_lora *lora = dp_alloc_zero(1, sizeof *lora);
    dp_binder b;
    dp_status st;

    *out = NULL;
    if (!lora)
        return dp_fail(err, DP_E_NOMEM, "adapter: no memory");
    lora->model = model;
    st = dp_lora_read(&lora->info, gguf, err);
    if (st)
        goto done;
    if (strcmp(lora->info.arch, model->hp.arch) != 0) {
        st = dp_fail(err, DP_E_UNSUPPORTED, "%s: the adapter is for %s, the model is %s",
                     dp_gguf_part_path(gguf, 0), lora->info.arch, model->hp.arch);
        goto done;
    }
    lora->pairs = dp_alloc(model->sites.count, sizeof *lora->pairs);
    if (!lora->pairs) {
        st = dp_fail(err, DP_E_NOMEM, "adapter: %u pairs", model->sites.count);
        goto done;
    }
    memset(lora->pairs, 0xff, model->sites.count * sizeof *lora->pairs); /* absent */
    st = dp_binder_init(&b, gguf, &lora->pages, err);
    if (st)
        goto done;
    b.wrong_file = "a weight of this model that adapters can change";
    bind_pairs(lora, &b);
    st = dp_binder_finish(&b);
    if (st)
        goto done;

    *out = lora;
    lora = NULL;
done:
    dp_lora_close(lora);
    return st;
}

void dp_lora_close(dp_lora *lora)
{
    if (!lora)
        return;
    while (lora->registered_count)
        dp_tier_remove_page(lora->tier, lora->page_ids[--lora->registered_count]);
    dp_page_list_deinit(&lora->pages);
    dp_free(lora->page_ids);
    dp_free(lora->pairs);
    dp_free(lora);
}

/* ---- pages ---- */

dp_status dp_lora_register(dp_lora *lora, dp_tier *tier, uint32_t file_index, dp_error *err)
{
    dp_status st = DP_OK;

    lora->tier = tier;
    lora->page_ids = dp_alloc(lora->pages.page_count, sizeof *lora->page_ids);
    if (!lora->page_ids)
        return dp_fail(err, DP_E_NOMEM, "adapter: %u pages", lora->pages.page_count);
    for (uint32_t i = 0; i < lora->pages.page_count && !st; i++) {
        dp_page_desc desc;

        dp_page_list_desc(&lora->pages, i, &desc);
        for (uint32_t p = 0; p < desc.part_count; p++)
            desc.parts[p].file_index = file_index;
        st = dp_tier_add_page(tier, &desc, &lora->page_ids[i], err);
        lora->registered_count += st == DP_OK;
    }
    return st;
}

uint64_t dp_lora_page_bytes_max(const dp_lora *lora)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < lora->registered_count; i++)
        most = DP_MAX(most, dp_tier_page_bytes(lora->tier, lora->page_ids[i]));
    return most;
}

uint64_t dp_lora_heap_bytes(const dp_lora *lora)
{
    return sizeof *lora + lora->model->sites.count * sizeof *lora->pairs +
           lora->pages.page_capacity * sizeof *lora->pages.pages +
           lora->pages.part_capacity * sizeof *lora->pages.parts;
}

const dp_lora_pair *dp_lora_pair_of(const dp_lora *lora, uint32_t site)
{
    return site == DP_SITE_NONE || lora->pairs[site].a.page == DP_PAGE_NONE ? NULL
                                                                            : &lora->pairs[site];
}
