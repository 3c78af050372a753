#include "doppler/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "doppler/source.h"
#include "engine/inspect_impl.h"
#include "engine/origin.h"
#include "engine/vocab.h"

static char *key_text(const dp_gguf *gguf, const char *key)
{
    dp_str value = { "", 0 };

    if (dp_gguf_get_str(gguf, key, &value, NULL))
        value = dp_str_from("");
    return dp_strndup(value.bytes, value.size);
}

static dp_status open_inspect(dp_inspect **out, const dp_origin *origin, dp_error *err)
{
    dp_inspect *in = dp_alloc_zero(1, sizeof *in);
    const char *path;
    dp_status st;

    *out = NULL;
    if (!in)
        return dp_fail(err, DP_E_NOMEM, "inspect: no memory");
    in->source = origin->source;
    st = dp_origin_describe(&in->gguf, origin, err);
    if (st)
        goto done;
    path = origin->path ? origin->path : dp_gguf_part_path(in->gguf, 0);
    in->path = dp_strndup(path, strlen(path));
    in->architecture = key_text(in->gguf, "general.architecture");
    in->name = key_text(in->gguf, "general.name");
    in->hp = dp_alloc_zero(1, sizeof *in->hp);
    if (!in->path || !in->architecture || !in->name || !in->hp) {
        st = dp_fail(err, DP_E_NOMEM, "%s: no memory", path);
        goto done;
    }
    st = dp_model_open(&in->model, in->gguf, &in->unsupported);
    if (st == DP_E_NOMEM) {
        st = dp_fail(err, st, "%s", in->unsupported.text);
        goto done;
    }
    st = DP_OK; /* a model doppler can't run can still be looked at */
    if (dp_hparams_read(in->hp, in->gguf, NULL)) {
        dp_free(in->hp);
        in->hp = NULL;
    }

    *out = in;
    in = NULL;
done:
    dp_inspect_close(in);
    return st;
}

dp_status dp_inspect_open(dp_inspect **out, const char *path, dp_error *err)
{
    return open_inspect(out, &(dp_origin){ .path = path }, err);
}

dp_status dp_inspect_open_source(dp_inspect **out, dp_source *source, dp_error *err)
{
    return open_inspect(out, &(dp_origin){ .source = source }, err);
}

void dp_inspect_close(dp_inspect *inspect)
{
    if (!inspect)
        return;
    dp_model_close(inspect->model);
    dp_gguf_close(inspect->gguf);
    dp_free(inspect->path);
    dp_free(inspect->architecture);
    dp_free(inspect->name);
    dp_free(inspect->hp);
    dp_free(inspect);
}

static void copy_hparams(dp_model_info *out, const dp_hparams *hp)
{
    out->layer_count = hp->layer_count;
    out->embed_dim = hp->embed_dim;
    out->vocab_size = hp->vocab_size;
    out->context_max = hp->context_max;
    out->head_count = hp->head_count[0];
    out->kv_head_count = hp->kv_head_count[0];
    out->key_dim = hp->key_dim;
    out->value_dim = hp->value_dim;
    out->ff_dim = hp->ff_dim[0];
    out->expert_count = hp->expert_count;
    out->expert_used = hp->expert_used;
    out->expert_shared = hp->expert_shared;
    out->expert_ff_dim = hp->expert_count ? hp->expert_ff_dim : 0;
    out->kv_bytes_per_token = dp_kv_row_bytes(hp, DP_F16) / DP_KV_BLOCK_TOKENS;
}

void dp_inspect_model(const dp_inspect *inspect, dp_model_info *out)
{
    const dp_gguf *gguf = inspect->gguf;

    *out = (dp_model_info){
        .path = inspect->path,
        .architecture = inspect->architecture,
        .name = inspect->name,
        .is_supported = inspect->model != NULL,
        .unsupported = inspect->model ? "" : inspect->unsupported.text,
        .part_count = dp_gguf_part_count(gguf),
        .tensor_count = (uint32_t)dp_gguf_tensor_count(gguf),
        .key_count = (uint32_t)dp_gguf_key_count(gguf),
    };
    for (uint32_t i = 0; i < out->part_count; i++)
        out->file_bytes += dp_gguf_part_size(gguf, i);
    for (uint32_t i = 0; i < out->tensor_count; i++) {
        const dp_tensor *t = dp_gguf_tensor(gguf, i);
        out->tensor_bytes += t->size;
        out->parameter_count += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    }
    /* A family may read its keys in a way of its own: what is kept of a token, for one. */
    if (inspect->hp)
        copy_hparams(out, inspect->model ? &inspect->model->hp : inspect->hp);
}

const char *dp_inspect_part(const dp_inspect *inspect, uint32_t part)
{
    return part < dp_gguf_part_count(inspect->gguf) ? dp_gguf_part_path(inspect->gguf, part) : NULL;
}

bool dp_inspect_tensor(const dp_inspect *inspect, uint32_t i, dp_tensor_info *out)
{
    const dp_tensor *t;

    if (i >= dp_gguf_tensor_count(inspect->gguf))
        return false;
    t = dp_gguf_tensor(inspect->gguf, i);
    *out = (dp_tensor_info){
        .name = t->name.bytes,
        .type = dp_dtype_get(t->dtype)->name,
        .dim_count = t->dim_count,
        .ne = { t->ne[0], t->ne[1], t->ne[2], t->ne[3] },
        .offset = t->offset,
        .size = t->size,
        .part = t->file_index,
    };
    return true;
}

/* ---- keys ---- */

static const char *const type_names[DP_GGUF_TYPE_COUNT] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64",
};

/* Printable bytes of s, others as '.', cut with "..." */
static void print_str(char *out, size_t size, dp_str s)
{
    size_t n = DP_MIN(s.size, size - 4);

    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)s.bytes[i] < 0x20 || s.bytes[i] == 0x7f ? '.' : s.bytes[i];
    while (n > 0 && n < s.size && ((unsigned char)s.bytes[n] & 0xc0) == 0x80)
        n--; /* no half characters */
    strcpy(out + n, n < s.size ? "..." : "");
}

static void print_scalar(char *out, size_t size, const dp_gguf *gguf, const dp_gguf_value *v)
{
    const char *key = v->key.bytes;
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    bool b = false;
    dp_str s = { "", 0 };

    if (v->type == DP_GGUF_STRING && !dp_gguf_get_str(gguf, key, &s, NULL))
        print_str(out, size, s);
    else if (v->type == DP_GGUF_BOOL && !dp_gguf_get_bool(gguf, key, &b, NULL))
        snprintf(out, size, "%s", b ? "true" : "false");
    else if ((v->type == DP_GGUF_F32 || v->type == DP_GGUF_F64) &&
             !dp_gguf_get_f64(gguf, key, 0, &f, NULL))
        snprintf(out, size, "%.9g", f);
    else if (!dp_gguf_get_i64(gguf, key, 0, &i, NULL))
        snprintf(out, size, "%" PRId64, i);
    else if (!dp_gguf_get_u64(gguf, key, 0, &u, NULL))
        snprintf(out, size, "%" PRIu64, u);
}

bool dp_inspect_key(const dp_inspect *inspect, uint32_t i, dp_key_info *out)
{
    const dp_gguf_value *v;

    if (i >= dp_gguf_key_count(inspect->gguf))
        return false;
    v = dp_gguf_key(inspect->gguf, i);
    *out = (dp_key_info){ .key = v->key.bytes, .type = type_names[v->type] };
    if (v->is_array)
        snprintf(out->value, sizeof out->value, "[%" PRIu64 "]", v->count);
    else
        print_scalar(out->value, sizeof out->value, inspect->gguf, v);
    return true;
}

/* ---- pages and plan ---- */

static void add_page(dp_page_group *g, uint64_t bytes)
{
    g->bytes_min = g->page_count ? DP_MIN(g->bytes_min, bytes) : bytes;
    g->bytes_max = DP_MAX(g->bytes_max, bytes);
    g->bytes += bytes;
    g->page_count++;
}

bool dp_inspect_pages(const dp_inspect *inspect, uint32_t i, dp_page_group *out)
{
    static const char *const names[] = { "always", "embedding", "expert" };
    const dp_model *m = inspect->model;

    if (!m || i >= DP_ARRAY_LEN(names))
        return false;
    *out = (dp_page_group){ .kind = names[i] };
    for (uint32_t p = 0; p < m->pages.page_count; p++) {
        bool is_expert = m->pages.pages[p].kind == DP_PAGE_EXPERT;
        uint32_t group = is_expert ? 2 : dp_plan_is_core(m, p) ? 0 : 1;
        if (group == i)
            add_page(out, dp_page_list_bytes(&m->pages, p));
    }
    out->bytes_per_token = out->bytes;
    if (i == 1 && out->page_count)
        out->bytes_per_token = out->bytes_max;
    if (i == 2 && out->page_count)
        out->bytes_per_token = out->bytes / m->hp.expert_count * m->hp.expert_used;
    return true;
}

/* How many experts fit beside the pinned part, by their mean size. */
static uint32_t experts_held(const dp_plan *plan, const dp_model *m, const dp_tier *tier,
                             uint64_t *mean_bytes)
{
    uint64_t bytes = 0, count = 0, room;

    for (uint32_t p = 0; p < m->pages.page_count; p++)
        if (m->pages.pages[p].kind == DP_PAGE_EXPERT) {
            bytes += dp_tier_page_bytes(tier, p);
            count++;
        }
    if (count == 0 || !plan->pins_always)
        return 0;
    room = plan->slot_bytes - plan->always_bytes;
    *mean_bytes = bytes / count;
    return (uint32_t)DP_MIN(count, room / (bytes / count));
}

static uint32_t count_pages(const dp_model *m, dp_page_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < m->pages.page_count; i++)
        count += m->pages.pages[i].kind == kind;
    return count;
}

dp_status dp_inspect_plan(const dp_inspect *inspect, const dp_options *options, dp_plan_info *out,
                          dp_error *err)
{
    const dp_model *m = inspect->model;
    dp_mem_stats before, after;
    dp_engine *e;
    dp_error why; /* a plan that does not fit is an answer */
    dp_plan plan;
    dp_status st;

    *out = (dp_plan_info){ 0 };
    if (!m)
        return dp_fail(err, DP_E_UNSUPPORTED, "%s", inspect->unsupported.text);
    e = dp_engine_new();
    if (!e)
        return dp_fail(err, DP_E_NOMEM, "inspect: no memory");
    dp_mem_stats_read(&before);
    st = dp_engine_open_tables(e, inspect->gguf, inspect->source, options, err);
    if (st)
        goto done;
    dp_mem_stats_read(&after);
    *out = (dp_plan_info){
        .fits = dp_plan_make(&plan, m, e->tier, after.heap_bytes - before.heap_bytes,
                             e->source->own_bytes, options, &why) == DP_OK,
        .experts_total = count_pages(m, DP_PAGE_EXPERT),
    };
    out->budget_bytes = plan.budget_bytes;
    out->reserve_bytes = plan.reserve_bytes;
    out->context_tokens = plan.context_tokens;
    out->batch_tokens = plan.step.batch_tokens;
    out->tables_bytes = plan.tables_bytes;
    out->kv_bytes = plan.kv_bytes;
    out->kv_type = dp_plan_kv_type_name(&plan);
    out->buffer_bytes = plan.buffer_bytes;
    out->slot_bytes = plan.slot_bytes;
    out->always_bytes = plan.always_bytes;
    out->pins_always = plan.pins_always;
    out->least_bytes = plan.least_bytes;
    if (out->fits)
        out->experts_held = experts_held(&plan, m, e->tier, &out->expert_bytes);
    out->kept_bytes = plan.pins.kept_bytes;
    out->heat_share = -1;
    if (out->experts_held)
        out->heat_share = dp_watch_heat_share(
            e->watch, plan.slot_bytes - DP_MIN(plan.slot_bytes, plan.always_bytes));
done:
    dp_engine_close(e);
    return st;
}
