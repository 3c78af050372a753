#include "model/bind.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

void dp_page_list_deinit(dp_page_list *list)
{
    dp_free(list->pages);
    dp_free(list->parts);
    *list = (dp_page_list){ 0 };
}

void dp_page_list_desc(const dp_page_list *list, uint32_t i, dp_page_desc *out)
{
    const dp_page_entry *page = &list->pages[i];

    out->kind = page->kind;
    out->layer = page->layer;
    out->index = page->index;
    out->part_count = page->part_count;
    memcpy(out->parts, list->parts + page->part_first, page->part_count * sizeof *out->parts);
}

uint64_t dp_page_list_bytes(const dp_page_list *list, uint32_t i)
{
    const dp_page_entry *page = &list->pages[i];
    uint64_t bytes = 0;

    for (uint32_t p = 0; p < page->part_count; p++)
        bytes += list->parts[page->part_first + p].size;
    return bytes;
}

void dp_site_name(const dp_site *site, char out[DP_GGUF_NAME_MAX])
{
    snprintf(out, DP_GGUF_NAME_MAX, site->format, site->layer);
}

dp_status dp_binder_init(dp_binder *b, const dp_gguf *gguf, dp_page_list *list, dp_error *err)
{
    *b = (dp_binder){ .gguf = gguf,
                      .list = list,
                      .err = err,
                      .wrong_file = "this architecture as doppler knows it" };
    b->is_bound = dp_alloc_zero(dp_gguf_tensor_count(gguf), 1);
    if (!b->is_bound)
        b->status = dp_fail(err, DP_E_NOMEM, "binding: no memory");
    return b->status;
}

/* Tensors that files carry and no graph needs: rotation tables of 2023. */
static bool is_ignored(dp_str name)
{
    return dp_str_ends_with(name, ".attn_rot_embd") ||
           dp_str_ends_with(name, ".rotary_emb.inv_freq");
}

dp_status dp_binder_finish(dp_binder *b)
{
    for (size_t i = 0; !b->status && i < dp_gguf_tensor_count(b->gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(b->gguf, i);
        if (!b->is_bound[i] && !is_ignored(t->name))
            b->status = dp_fail(b->err, DP_E_UNSUPPORTED, "tensor %s: not a part of %s",
                                t->name.bytes, b->wrong_file);
    }
    dp_free(b->is_bound);
    b->is_bound = NULL;
    return b->status;
}

/* Room for one more element of `size` bytes at array[count]. */
static bool grow(void **array, uint32_t count, uint32_t *capacity, size_t size)
{
    uint32_t more = *capacity ? *capacity * 2 : 64;
    void *grown;

    if (count < *capacity)
        return true;
    grown = dp_realloc(*array, more, size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = more;
    return true;
}

dp_page_id dp_bind_page(dp_binder *b, dp_page_kind kind, uint32_t layer, uint32_t index)
{
    dp_page_list *list = b->list;

    if (b->status)
        return DP_PAGE_NONE;
    if (list->page_count == DP_PAGES_MAX) {
        b->status = dp_fail(b->err, DP_E_LIMIT, "binding: more than %u pages", DP_PAGES_MAX);
        return DP_PAGE_NONE;
    }
    if (!grow((void **)&list->pages, list->page_count, &list->page_capacity, sizeof *list->pages)) {
        b->status = dp_fail(b->err, DP_E_NOMEM, "binding: page table");
        return DP_PAGE_NONE;
    }
    list->pages[list->page_count] = (dp_page_entry){
        .kind = kind, .layer = layer, .index = index, .part_first = list->part_count
    };
    return list->page_count++;
}

/* Adds bytes [offset, offset + size) of a tensor to the page opened last. */
static bool add_part(dp_binder *b, const dp_tensor *t, uint64_t offset, uint64_t size)
{
    dp_page_list *list = b->list;
    dp_page_entry *page = &list->pages[list->page_count - 1];

    DP_CHECK(page->part_count < DP_PAGE_PARTS_MAX);
    if (!grow((void **)&list->parts, list->part_count, &list->part_capacity, sizeof *list->parts)) {
        b->status = dp_fail(b->err, DP_E_NOMEM, "binding: page parts");
        return false;
    }
    list->parts[list->part_count++] = (dp_page_part){ t->file_index, t->offset + offset, size };
    page->part_count++;
    return true;
}

static const dp_tensor *find(dp_binder *b, const char *name)
{
    const dp_tensor *t = dp_gguf_find_tensor(b->gguf, name);

    if (t)
        b->is_bound[t - dp_gguf_tensor(b->gguf, 0)] = 1;
    return t;
}

/* The tensor's shape is {k, rows, stack}; trailing ones may be absent. */
static bool check(dp_binder *b, const dp_tensor *t, uint32_t k, uint32_t rows, uint32_t stack,
                  unsigned flags)
{
    if (t->ne[0] != k || t->ne[1] != rows || t->ne[2] != stack || t->ne[3] != 1)
        b->status = dp_fail(b->err, DP_E_CORRUPT,
                            "tensor %s: shape {%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                            "}, expected {%u, %u, %u, 1}",
                            t->name.bytes, t->ne[0], t->ne[1], t->ne[2], t->ne[3], k, rows, stack);
    else if ((flags & DP_BIND_F32) && t->dtype != DP_F32)
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED, "tensor %s: type %s, expected F32",
                            t->name.bytes, dp_dtype_get(t->dtype)->name);
    else if (t->dtype == DP_Q8_K || t->dtype == DP_Q8_1)
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED,
                            "tensor %s: type %s is for activations, not for weights", t->name.bytes,
                            dp_dtype_get(t->dtype)->name);
    else if (!dp_device_cpu_has_dtype(t->dtype))
        b->status = dp_fail(b->err, DP_E_UNSUPPORTED, "tensor %s: no kernel for type %s",
                            t->name.bytes, dp_dtype_get(t->dtype)->name);
    return !b->status;
}

static void fill_weight(dp_binder *b, dp_weight *out, const dp_tensor *t, uint32_t rows, uint32_t k)
{
    const dp_page_list *list = b->list;

    *out = (dp_weight){
        .page = list->page_count - 1,
        .part = list->pages[list->page_count - 1].part_count - 1,
        .rows = rows,
        .k = k,
        .dtype = t->dtype,
        .row_bytes = t->size / (t->ne[1] * t->ne[2] * t->ne[3]),
        .site = DP_SITE_NONE,
    };
}

bool dp_bind_has(const dp_binder *b, const char *format, uint32_t layer)
{
    char name[DP_GGUF_NAME_MAX];

    snprintf(name, sizeof name, format, layer);
    return dp_gguf_find_tensor(b->gguf, name) != NULL;
}

/* The site of a matrix on the page opened last; experts 0: not a stack. */
static uint32_t add_site(dp_binder *b, const char *format, uint32_t layer, uint32_t rows,
                         uint32_t k, uint32_t experts)
{
    dp_site_list *list = b->sites;

    if (!list || b->status)
        return DP_SITE_NONE;
    if (!grow((void **)&list->sites, list->count, &list->capacity, sizeof *list->sites)) {
        b->status = dp_fail(b->err, DP_E_NOMEM, "binding: sites of adapters");
        return DP_SITE_NONE;
    }
    list->sites[list->count] =
        (dp_site){ format, layer, b->list->page_count - 1, rows, k, experts };
    return list->count++;
}

static void bind_stack(dp_binder *b, dp_weight *out, const char *format, uint32_t layer,
                       uint32_t stack, uint32_t rows, uint32_t k, unsigned flags)
{
    char name[DP_GGUF_NAME_MAX];
    const dp_tensor *t;

    *out = (dp_weight){ .page = DP_PAGE_NONE, .site = DP_SITE_NONE };
    if (b->status)
        return;
    snprintf(name, sizeof name, format, layer);
    t = find(b, name);
    if (!t) {
        if (!(flags & DP_BIND_OPTIONAL))
            b->status = dp_fail(b->err, DP_E_NOTFOUND, "tensor %s: missing from the file", name);
        return;
    }
    if (!check(b, t, k, rows ? rows : 1, stack, flags) || !add_part(b, t, 0, t->size))
        return;
    fill_weight(b, out, t, stack * (rows ? rows : 1), k);
    if (rows && !(flags & (DP_BIND_F32 | DP_BIND_FIXED)))
        out->site = add_site(b, format, layer, rows, k, 0);
}

void dp_bind_weight(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t rows,
                    uint32_t k, unsigned flags)
{
    bind_stack(b, out, format, layer, 1, rows, k, flags);
}

void dp_bind_stack(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t stack,
                   uint32_t rows, uint32_t k)
{
    bind_stack(b, out, format, layer, stack, rows, k, DP_BIND_FIXED);
}

void dp_bind_skip_layer(dp_binder *b, uint32_t layer)
{
    char prefix[DP_GGUF_NAME_MAX];
    size_t size;

    snprintf(prefix, sizeof prefix, "blk.%u.", layer);
    size = strlen(prefix);
    for (size_t i = 0; !b->status && i < dp_gguf_tensor_count(b->gguf); i++) {
        dp_str name = dp_gguf_tensor(b->gguf, i)->name;
        if (name.size > size && memcmp(name.bytes, prefix, size) == 0)
            b->is_bound[i] = 1;
    }
}

void dp_bind_expert(dp_binder *b, dp_weight *out, const char *stack_format, const char *each_format,
                    uint32_t layer, uint32_t expert, uint32_t expert_count, uint32_t rows,
                    uint32_t k)
{
    char name[DP_GGUF_NAME_MAX];
    const dp_tensor *t;
    uint64_t slice;

    *out = (dp_weight){ .page = DP_PAGE_NONE, .site = DP_SITE_NONE };
    if (b->status)
        return;
    snprintf(name, sizeof name, stack_format, layer);
    t = find(b, name);
    if (t) {
        slice = t->size / expert_count;
        if (check(b, t, k, rows, expert_count, 0) && add_part(b, t, expert * slice, slice))
            fill_weight(b, out, t, rows, k);
        if (expert == 0)
            out->site = add_site(b, stack_format, layer, rows, k, expert_count);
        return;
    }
    snprintf(name, sizeof name, each_format, layer, expert);
    t = find(b, name);
    if (!t) {
        snprintf(name, sizeof name, stack_format, layer);
        b->status = dp_fail(b->err, DP_E_NOTFOUND, "tensor %s: missing from the file", name);
        return;
    }
    if (check(b, t, k, rows, 1, 0) && add_part(b, t, 0, t->size))
        fill_weight(b, out, t, rows, k);
    if (expert == 0)
        out->site = add_site(b, stack_format, layer, rows, k, expert_count);
}

void dp_bind_expert_half(dp_binder *b, dp_weight *out, const char *format, uint32_t layer,
                         uint32_t expert, uint32_t expert_count, uint32_t half, uint32_t rows,
                         uint32_t k)
{
    char name[DP_GGUF_NAME_MAX];
    const dp_tensor *t;

    *out = (dp_weight){ .page = DP_PAGE_NONE, .site = DP_SITE_NONE };
    if (b->status)
        return;
    snprintf(name, sizeof name, format, layer);
    t = find(b, name);
    if (!t) {
        b->status = dp_fail(b->err, DP_E_NOTFOUND, "tensor %s: missing from the file", name);
    } else if (check(b, t, k, 2 * rows, expert_count, 0)) {
        uint64_t size = t->size / expert_count / 2;
        if (add_part(b, t, (2 * (uint64_t)expert + half) * size, size))
            fill_weight(b, out, t, rows, k);
    }
}

void dp_bind_row(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t row,
                 uint32_t rows, uint32_t k)
{
    char name[DP_GGUF_NAME_MAX];
    const dp_tensor *t;

    *out = (dp_weight){ .page = DP_PAGE_NONE, .site = DP_SITE_NONE };
    if (b->status)
        return;
    snprintf(name, sizeof name, format, layer);
    t = find(b, name);
    if (!t)
        b->status = dp_fail(b->err, DP_E_NOTFOUND, "tensor %s: missing from the file", name);
    else if (check(b, t, k, rows, 1, DP_BIND_F32) &&
             add_part(b, t, row * (t->size / rows), t->size / rows))
        fill_weight(b, out, t, 1, k);
}

void dp_bind_table(dp_binder *b, dp_table *out, const char *name, uint32_t rows, uint32_t k,
                   uint64_t page_bytes, bool is_multiplied)
{
    const dp_tensor *t;

    *out = (dp_table){ .first_page = DP_PAGE_NONE, .site = DP_SITE_NONE };
    if (b->status)
        return;
    t = find(b, name);
    if (!t) {
        b->status = dp_fail(b->err, DP_E_NOTFOUND, "tensor %s: missing from the file", name);
        return;
    }
    if (!check(b, t, k, rows, 1, 0))
        return;
    *out = (dp_table){
        .rows = rows, .k = k, .dtype = t->dtype, .row_bytes = t->size / rows, .site = DP_SITE_NONE
    };
    out->rows_per_page = (uint32_t)DP_MIN(DP_MAX(page_bytes / out->row_bytes, 1), (uint64_t)rows);
    out->page_count = (rows + out->rows_per_page - 1) / out->rows_per_page;
    for (uint32_t i = 0; i < out->page_count && !b->status; i++) {
        uint64_t first = (uint64_t)i * out->rows_per_page;
        uint64_t count = DP_MIN((uint64_t)out->rows_per_page, rows - first);
        dp_page_id page = dp_bind_page(b, DP_PAGE_ALWAYS, UINT32_MAX, i);
        if (i == 0) {
            out->first_page = page;
            out->site = is_multiplied ? add_site(b, name, UINT32_MAX, rows, k, 0) : DP_SITE_NONE;
        }
        if (!b->status)
            add_part(b, t, first * out->row_bytes, count * out->row_bytes);
    }
}

dp_mat dp_weight_mat(const dp_weight *w, const dp_lease *lease)
{
    return (dp_mat){ lease->parts[w->part], w->dtype, w->rows, w->k, w->row_bytes };
}

dp_mat dp_mat_rows(dp_mat m, uint32_t first, uint32_t count)
{
    m.bytes = (const uint8_t *)m.bytes + first * m.row_bytes;
    m.rows = count;
    return m;
}

const float *dp_weight_f32(const dp_weight *w, const dp_lease *lease)
{
    return w->page == DP_PAGE_NONE ? NULL : (const float *)lease->parts[w->part];
}
