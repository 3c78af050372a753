/* bind.h - tensor names -> weights in pages, shapes checked, missing ones named.
 *
 * Room     An architecture opens a page, names the tensors that belong on it and
 *          the shape each must have, and closes it. What comes out is a list of
 *          pages (byte ranges of files) and, for each weight, which page and
 *          part hold it. No I/O happens here. A tensor that nobody asked for is
 *          an error: a weight left out would be a wrong answer that looks right.
 *
 * Threads  One at a time while binding; the list is immutable afterwards.
 */
#ifndef DP_MODEL_BIND_H
#define DP_MODEL_BIND_H

#include "device/device.h"
#include "format/gguf.h"
#include "tier/tier.h"

typedef struct dp_weight { /* a matrix (vectors: rows 1) on a page */
    dp_page_id page;       /* DP_PAGE_NONE: the file has none */
    uint32_t part;
    uint32_t rows, k;
    dp_dtype dtype;
    uint64_t row_bytes;
    uint32_t site; /* what adapters know it by; DP_SITE_NONE: they can't change it */
} dp_weight;

typedef struct dp_table { /* a tall matrix cut into pages of rows_per_page rows */
    dp_page_id first_page;
    uint32_t page_count, rows_per_page;
    uint32_t rows, k;
    dp_dtype dtype;
    uint64_t row_bytes;
    uint32_t site;
} dp_table;

typedef struct dp_page_entry {
    dp_page_kind kind;
    uint32_t layer, index;
    uint32_t part_first, part_count;
} dp_page_entry;

typedef struct dp_page_list {
    dp_page_entry *pages;
    uint32_t page_count, page_capacity;
    dp_page_part *parts;
    uint32_t part_count, part_capacity;
} dp_page_list;

void dp_page_list_deinit(dp_page_list *list);
void dp_page_list_desc(const dp_page_list *list, uint32_t i, dp_page_desc *out);
uint64_t dp_page_list_bytes(const dp_page_list *list, uint32_t i); /* data, without slack */

/* A matrix, or a stack of them, whose products adapters may add to: all that go through
 * dp_step_product. Sites of one page are neighbours. */
#define DP_SITE_NONE UINT32_MAX

typedef struct dp_site {
    const char *format; /* of the tensor's name, static; experts: of the stack's */
    uint32_t layer;     /* UINT32_MAX: none */
    dp_page_id page;    /* that holds it, or its first rows, or expert 0's */
    uint32_t rows, k;
    uint32_t experts; /* 0: not a stack */
} dp_site;

typedef struct dp_site_list {
    dp_site *sites;
    uint32_t count, capacity;
} dp_site_list;

/* The name of the tensor in files of the model. */
void dp_site_name(const dp_site *site, char out[DP_GGUF_NAME_MAX]);

typedef struct dp_binder {
    const dp_gguf *gguf;
    dp_page_list *list;
    dp_site_list *sites;    /* NULL: not kept */
    const char *wrong_file; /* what a surplus tensor is not a part of; "this architecture ..." */
    uint8_t *is_bound;      /* [tensor count] */
    dp_status status;       /* the first failure; later calls do nothing */
    dp_error *err;
} dp_binder;

dp_status dp_binder_init(dp_binder *b, const dp_gguf *gguf, dp_page_list *list, dp_error *err);
/* Everything bound? Names the first tensor nobody asked for. Frees the binder. */
dp_status dp_binder_finish(dp_binder *b);

enum {
    DP_BIND_OPTIONAL = 1,
    DP_BIND_F32 = 2,  /* read as floats by the graph: norms, biases, routers ... */
    DP_BIND_FIXED = 4 /* no site: its product is not dp_step_product's */
};

/* Whether the file has a tensor of this name (a printf format with the layer). */
bool dp_bind_has(const dp_binder *b, const char *format, uint32_t layer);
dp_page_id dp_bind_page(dp_binder *b, dp_page_kind kind, uint32_t layer, uint32_t index);
/* Puts tensor `name` (a printf format with the layer) on the page opened last:
 * rows x k, or a vector of k when rows is 0. */
void dp_bind_weight(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t rows,
                    uint32_t k, unsigned flags);
/* The same for a stack {k, rows, stack}: a matrix of stack * rows rows, no site. */
void dp_bind_stack(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t stack,
                   uint32_t rows, uint32_t k);
/* Tensors of a layer that the graph does not run: counted as bound. */
void dp_bind_skip_layer(dp_binder *b, uint32_t layer);
/* Slice `expert` of a stack {k, rows, experts}, or tensor `each_format`
 * (layer, expert) of files that keep experts apart. */
void dp_bind_expert(dp_binder *b, dp_weight *out, const char *stack_format, const char *each_format,
                    uint32_t layer, uint32_t expert, uint32_t expert_count, uint32_t rows,
                    uint32_t k);
/* Row `row` of a matrix {k, rows} of floats, as a vector: an expert's bias. */
void dp_bind_row(dp_binder *b, dp_weight *out, const char *format, uint32_t layer, uint32_t row,
                 uint32_t rows, uint32_t k);
/* The first or the second half (0, 1) of the rows of slice `expert` of a stack {k, 2 rows,
 * experts}, which some files make of gate and up; no site. */
void dp_bind_expert_half(dp_binder *b, dp_weight *out, const char *format, uint32_t layer,
                         uint32_t expert, uint32_t expert_count, uint32_t half, uint32_t rows,
                         uint32_t k);
/* Cuts a tall matrix into pages of about page_bytes. is_multiplied: adapters know it as
 * `name`; without, its rows are looked up as well, or alone. */
void dp_bind_table(dp_binder *b, dp_table *out, const char *name, uint32_t rows, uint32_t k,
                   uint64_t page_bytes, bool is_multiplied);

/* The weight in a lease of its page (experts: of any page of the layer's row). */
dp_mat dp_weight_mat(const dp_weight *w, const dp_lease *lease);
/* Rows [first, first + count) of a matrix. */
dp_mat dp_mat_rows(dp_mat m, uint32_t first, uint32_t count);
/* A DP_BIND_F32 weight as floats; NULL when the file has none. */
const float *dp_weight_f32(const dp_weight *w, const dp_lease *lease);

#endif
