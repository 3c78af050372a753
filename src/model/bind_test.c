#include "model/bind.h"

#include "base/fault.h"
#include "model/model.h"
#include "model/model_testing.h"

static test_model shape(void)
{
    return (test_model){ .layers = 2,
                         .dim = 32,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 8,
                         .ff = 64,
                         .vocab = 300,
                         .context = 128,
                         .has_biases = true };
}

static test_model mixture(void)
{
    test_model m = shape();

    m.experts = 4;
    m.used = 2;
    m.has_biases = false;
    return m;
}

static dp_status open_model(dp_model **out, const test_model *m, dp_error *err)
{
    dp_gguf *gguf = test_model_gguf(m);
    dp_status st = dp_model_open(out, gguf, err);

    CHECK(!st == !!*out, "status %d", st);
    dp_gguf_close(gguf);
    return st;
}

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

/* ---- what is refused ---- */

static void drop(test_model *m, const char *name)
{
    test_model_find(m, name)->is_absent = true;
}

static void lose_k(test_model *m)
{
    drop(m, "blk.1.attn_k.weight");
}

static void lose_final_norm(test_model *m)
{
    drop(m, "output_norm.weight");
}

static void lose_ffn(test_model *m)
{
    drop(m, m->experts ? "blk.0.ffn_up_exps.weight" : "blk.0.ffn_up.weight");
}

static void widen_q(test_model *m)
{
    test_model_find(m, "blk.0.attn_q.weight")->ne[1] = 31;
}

static void turn_down(test_model *m)
{
    test_tensor *t = test_model_find(m, "blk.1.ffn_down.weight");

    t->ne[0] = 32;
    t->ne[1] = 64;
}

static void lengthen_norm(test_model *m)
{
    test_model_find(m, "blk.1.ffn_norm.weight")->ne[0] = 33;
}

static void lose_an_expert(test_model *m)
{
    test_model_find(m, "blk.1.ffn_gate_exps.weight")->ne[2] = 3;
}

static void halve_norm(test_model *m)
{
    test_model_find(m, "blk.0.attn_norm.weight")->type = DP_F16;
}

static void halve_bias(test_model *m)
{
    test_model_find(m, "blk.0.attn_q.bias")->type = DP_F16;
}

static void store_activations(test_model *m)
{
    test_model_find(m, "blk.0.attn_q.weight")->type = DP_Q8_1;
}

static void use_unknown_type(test_model *m)
{
    test_model_find(m, "blk.1.ffn_down.weight")->type = DP_NVFP4;
}

static void add(test_model *m, const char *name, dp_dtype type)
{
    test_tensor *t = &m->tensors[m->tensor_count++];

    *t = (test_tensor){ .type = type, .dim_count = 1, .ne = { 32, 1, 1, 1 } };
    snprintf(t->name, sizeof t->name, "%s", name);
    t->data = calloc(32, sizeof(float));
}

static void add_stranger(test_model *m)
{
    add(m, "blk.0.attn_q_norm.weight", DP_F32);
}

static void add_layer(test_model *m)
{
    add(m, "blk.2.attn_norm.weight", DP_F32);
}

static void add_long_divisors(test_model *m)
{
    add(m, "rope_freqs.weight", DP_F32);
}

static void keys_sigmoid(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "llama.expert_gating_func", 2);
}

static void gate_by_sigmoid(test_model *m)
{
    m->more_keys = keys_sigmoid;
}

static void keys_groups(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "llama.expert_group_count", 2);
    dp_gguf_writer_u32(w, "llama.expert_group_used_count", 1);
}

static void choose_by_groups(test_model *m)
{
    m->more_keys = keys_groups;
}

static void keys_shared(dp_gguf_writer *w)
{
    dp_gguf_writer_u32(w, "llama.expert_shared_count", 1);
}

static void share_an_expert(test_model *m)
{
    m->more_keys = keys_shared;
}

static const struct {
    const char *name;
    bool is_mixture;
    void (*change)(test_model *m);
    dp_status status;
    const char *words[3]; /* that the sentence has */
} refusals[] = {
    { "missing", false, lose_k, DP_E_NOTFOUND, { "blk.1.attn_k.weight", "missing" } },
    { "missing global", false, lose_final_norm, DP_E_NOTFOUND, { "output_norm.weight" } },
    { "missing ffn", false, lose_ffn, DP_E_NOTFOUND, { "blk.0.ffn_up.weight" } },
    { "missing stack", true, lose_ffn, DP_E_NOTFOUND, { "blk.0.ffn_up_exps.weight" } },
    { "rows",
      false,
      widen_q,
      DP_E_CORRUPT,
      { "blk.0.attn_q.weight", "{32, 31, 1, 1}", "{32, 32, 1, 1}" } },
    { "turned",
      false,
      turn_down,
      DP_E_CORRUPT,
      { "blk.1.ffn_down.weight", "{32, 64, 1, 1}", "{64, 32, 1, 1}" } },
    { "vector", false, lengthen_norm, DP_E_CORRUPT, { "blk.1.ffn_norm.weight", "{33, 1, 1, 1}" } },
    { "stack",
      true,
      lose_an_expert,
      DP_E_CORRUPT,
      { "blk.1.ffn_gate_exps.weight", "{32, 64, 3, 1}", "{32, 64, 4, 1}" } },
    { "norm type",
      false,
      halve_norm,
      DP_E_UNSUPPORTED,
      { "blk.0.attn_norm.weight", "F16", "expected F32" } },
    { "bias type", false, halve_bias, DP_E_UNSUPPORTED, { "blk.0.attn_q.bias", "expected F32" } },
    { "activations",
      false,
      store_activations,
      DP_E_UNSUPPORTED,
      { "blk.0.attn_q.weight", "Q8_1 is for activations" } },
    { "no kernel",
      false,
      use_unknown_type,
      DP_E_UNSUPPORTED,
      { "blk.1.ffn_down.weight", "no kernel for type NVFP4" } },
    { "stranger", false, add_stranger, DP_E_UNSUPPORTED, { "blk.0.attn_q_norm.weight" } },
    { "layer too many", false, add_layer, DP_E_UNSUPPORTED, { "blk.2.attn_norm.weight" } },
    { "divisors", false, add_long_divisors, DP_E_CORRUPT, { "rope_freqs.weight", "{4, 1, 1, 1}" } },
    { "gating", true, gate_by_sigmoid, DP_E_UNSUPPORTED, { "expert_gating_func" } },
    { "groups", true, choose_by_groups, DP_E_UNSUPPORTED, { "expert groups" } },
    { "shared expert", true, share_an_expert, DP_E_UNSUPPORTED, { "shared experts" } },
};

static void what_is_wrong_is_named(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(refusals); i++) {
        test_model m = refusals[i].is_mixture ? mixture() : shape();
        dp_error err = { 0 };
        dp_model *model;
        dp_status st;

        test_model_make(&m, 1);
        refusals[i].change(&m);
        st = open_model(&model, &m, &err);
        CHECK(st == refusals[i].status, "%s: status %d: %s", refusals[i].name, st, err.text);
        for (size_t k = 0; k < 3 && refusals[i].words[k]; k++)
            CHECK(strstr(err.text, refusals[i].words[k]), "%s: \"%s\"", refusals[i].name, err.text);
        test_model_free(&m);
    }
}

static void tables_of_2023_are_ignored(void **unused)
{
    test_model m = shape();
    dp_model *model;
    dp_error err;

    test_model_make(&m, 1);
    add(&m, "blk.0.attn_rot_embd", DP_F32);
    add(&m, "blk.1.rotary_emb.inv_freq", DP_F32);
    CHECK_OK(open_model(&model, &m, &err), err);
    dp_model_close(model);
    test_model_free(&m);
}

/* ---- what is bound ---- */

/* Every tensor's bytes are on pages exactly once: as many bytes, no overlap. */
static void check_cover(const dp_model *model, const dp_gguf *gguf)
{
    const dp_page_list *list = &model->pages;

    for (size_t i = 0; i < dp_gguf_tensor_count(gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(gguf, i);
        uint64_t covered = 0;
        for (uint32_t p = 0; p < list->part_count; p++) {
            const dp_page_part *a = &list->parts[p];
            if (a->offset >= t->offset && a->offset + a->size <= t->offset + t->size)
                covered += a->size;
            for (uint32_t q = 0; q < p; q++) {
                const dp_page_part *b = &list->parts[q];
                CHECK(a->offset + a->size <= b->offset || b->offset + b->size <= a->offset,
                      "parts %u and %u overlap", q, p);
            }
        }
        CHECK(covered == t->size, "%s: %d of %d bytes are on pages", t->name.bytes, (int)covered,
              (int)t->size);
    }
}

static void all_bytes_are_on_pages_once(void **unused)
{
    for (int tied = 0; tied < 2; tied++)
        for (int apart = 0; apart < 3; apart++) {
            test_model m = apart ? mixture() : shape();
            dp_gguf *gguf;
            dp_model *model;
            dp_error err;

            m.is_tied = tied;
            m.is_apart = apart == 2;
            test_model_make(&m, 1);
            gguf = test_model_gguf(&m);
            CHECK_OK(dp_model_open(&model, gguf, &err), err);
            check_cover(model, gguf);
            dp_model_close(model);
            dp_gguf_close(gguf);
            test_model_free(&m);
        }
}

static uint64_t place_of(const dp_gguf *gguf, const char *name)
{
    const dp_tensor *t = dp_gguf_find_tensor(gguf, name);

    CHECK(t, "%s", name);
    return t->offset;
}

/* A page is an expert: gate, up, down, in the order they are needed. */
static void experts_are_pages_in_both_layouts(void **unused)
{
    for (int apart = 0; apart < 2; apart++) {
        test_model m = mixture();
        dp_gguf *gguf;
        dp_model *model;
        dp_error err;

        m.is_apart = apart;
        test_model_make(&m, 1);
        gguf = test_model_gguf(&m);
        CHECK_OK(dp_model_open(&model, gguf, &err), err);
        for (uint32_t l = 0; l < m.layers; l++)
            for (uint32_t e = 0; e < m.experts; e++) {
                static const char *const parts[] = { "gate", "up", "down" };
                uint64_t bytes = (uint64_t)m.dim * m.ff * sizeof(float);
                dp_page_desc desc;

                dp_page_list_desc(&model->pages, model->layers[l].expert_first + e, &desc);
                CHECK(desc.kind == DP_PAGE_EXPERT && desc.layer == l && desc.index == e &&
                          desc.part_count == 3,
                      "expert %u of layer %u", e, l);
                for (uint32_t p = 0; p < 3; p++) {
                    char name[64];
                    uint64_t at;
                    if (apart)
                        snprintf(name, sizeof name, "blk.%u.ffn_%s.%u.weight", l, parts[p], e);
                    else
                        snprintf(name, sizeof name, "blk.%u.ffn_%s_exps.weight", l, parts[p]);
                    at = place_of(gguf, name) + (apart ? 0 : e * bytes);
                    CHECK(desc.parts[p].offset == at && desc.parts[p].size == bytes,
                          "%s of expert %u", name, e);
                }
            }
        dp_model_close(model);
        dp_gguf_close(gguf);
        test_model_free(&m);
    }
}

/* The tensors of a mixture that keeps experts apart, one of them in another type. */
static void experts_of_mixed_types_are_refused(void **unused)
{
    test_model m = mixture();
    dp_error err = { 0 };
    dp_gguf_writer *w;
    dp_gguf *gguf;
    dp_model *model;
    dp_buf header;

    m.is_apart = true;
    test_model_make(&m, 1);
    drop(&m, "blk.1.ffn_up_exps.weight");
    w = test_model_writer(&m);
    for (uint32_t e = 0; e < m.experts; e++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.ffn_up.%u.weight", e);
        dp_gguf_writer_tensor(w, name, e == 2 ? DP_Q8_0 : DP_F32, 2, (uint64_t[]){ m.dim, m.ff },
                              DP_FILL_NORMAL, 0.1f);
    }
    dp_buf_init(&header, DP_GGUF_HEADER_MAX);
    CHECK_OK(dp_gguf_writer_header(w, &header, &err), err);
    CHECK_OK(dp_gguf_parse(&gguf, "test.gguf", (const uint8_t *)header.bytes, header.size,
                           header.size + DP_GIB, NULL, &err),
             err);
    CHECK(dp_model_open(&model, gguf, &err) == DP_E_UNSUPPORTED, "opened");
    CHECK(strstr(err.text, "layer 1: expert 2") && strstr(err.text, "Q8_0"), "%s", err.text);
    dp_buf_deinit(&header);
    dp_gguf_close(gguf);
    dp_gguf_writer_close(w);
    test_model_free(&m);
}

static void a_tied_head_shares_the_embedding(void **unused)
{
    test_model m = shape();
    dp_model *model;
    dp_error err;

    m.is_tied = true;
    test_model_make(&m, 1);
    CHECK_OK(open_model(&model, &m, &err), err);
    CHECK(model->is_tied && memcmp(&model->head, &model->embed, sizeof model->head) == 0, "apart");
    dp_model_close(model);
    m.is_tied = false;
    test_model_free(&m);
    test_model_make(&m, 1);
    CHECK_OK(open_model(&model, &m, &err), err);
    CHECK(!model->is_tied && model->head.first_page != model->embed.first_page, "together");
    dp_model_close(model);
    test_model_free(&m);
}

/* Rows of 128 bytes; page sizes around multiples of a row. */
static const struct {
    uint64_t page_bytes;
    uint32_t rows_per_page, page_count, last_rows;
} cuts[] = {
    { 1, 1, 300, 1 },           { 128, 1, 300, 1 },       { 255, 1, 300, 1 },
    { 256, 2, 150, 2 },         { 128 * 7, 7, 43, 6 },    { 128 * 299, 299, 2, 1 },
    { 128 * 300, 300, 1, 300 }, { 1 << 30, 300, 1, 300 },
};

static void tables_are_cut_into_whole_rows(void **unused)
{
    test_model m = shape();
    dp_gguf *gguf;

    test_model_make(&m, 1);
    gguf = test_model_gguf(&m);
    for (size_t i = 0; i < DP_ARRAY_LEN(cuts); i++) {
        dp_page_list list = { 0 };
        dp_table table;
        dp_binder b;
        dp_error err;

        CHECK_OK(dp_binder_init(&b, gguf, &list, &err), err);
        dp_bind_page(&b, DP_PAGE_ALWAYS, 0, 0); /* tables need not begin at page 0 */
        dp_bind_table(&b, &table, "token_embd.weight", 300, 32, cuts[i].page_bytes, false);
        CHECK(!b.status && table.first_page == 1, "page %u", table.first_page);
        CHECK(table.rows_per_page == cuts[i].rows_per_page &&
                  table.page_count == cuts[i].page_count && list.page_count == 1 + table.page_count,
              "pages of %d bytes: %u of %u rows", (int)cuts[i].page_bytes, table.page_count,
              table.rows_per_page);
        CHECK(dp_page_list_bytes(&list, list.page_count - 1) == 128 * cuts[i].last_rows,
              "the last page has %d bytes", (int)dp_page_list_bytes(&list, list.page_count - 1));
        CHECK(dp_binder_finish(&b) == DP_E_UNSUPPORTED, "other tensors were not asked for");
        dp_page_list_deinit(&list);
    }
    dp_gguf_close(gguf);
    test_model_free(&m);
}

static void optional_tensors_may_be_absent(void **unused)
{
    test_model m = shape();
    dp_model *model;
    dp_lease none = { 0 };
    dp_error err;

    m.has_biases = false;
    test_model_make(&m, 1);
    CHECK_OK(open_model(&model, &m, &err), err);
    CHECK(!dp_weight_f32(&model->layers[0].q_bias, &none), "a bias");
    CHECK(!dp_weight_f32(&model->rope_divisors, &none), "divisors");
    dp_model_close(model);
    test_model_free(&m);
}

/* The first failure stays; calls after it do nothing. */
static void a_failed_binder_does_nothing_more(void **unused)
{
    test_model m = shape();
    dp_page_list list = { 0 };
    dp_weight weight;
    dp_table table;
    dp_binder b;
    dp_error err;
    dp_gguf *gguf;

    test_model_make(&m, 1);
    gguf = test_model_gguf(&m);
    CHECK_OK(dp_binder_init(&b, gguf, &list, &err), err);
    dp_bind_page(&b, DP_PAGE_ALWAYS, 0, 0);
    dp_bind_weight(&b, &weight, "blk.%u.no", 7, 1, 1, 0);
    CHECK(b.status == DP_E_NOTFOUND && weight.page == DP_PAGE_NONE, "status %d", b.status);
    CHECK(dp_bind_page(&b, DP_PAGE_ALWAYS, 0, 1) == DP_PAGE_NONE, "a page");
    dp_bind_table(&b, &table, "neither", 1, 1, 1, false);
    dp_bind_expert(&b, &weight, "nor.%u", "this.%u.%u", 0, 0, 1, 1, 1);
    CHECK(dp_binder_finish(&b) == DP_E_NOTFOUND && strstr(err.text, "blk.7.no"), "%s", err.text);
    CHECK(list.page_count == 1, "%u pages", list.page_count);
    dp_page_list_deinit(&list);
    dp_gguf_close(gguf);
    test_model_free(&m);
}

static void short_memory_is_refused(void **unused)
{
    test_model m = mixture();
    dp_status st = DP_E_NOMEM;
    dp_gguf *gguf;

    test_model_make(&m, 1);
    gguf = test_model_gguf(&m);
    for (uint64_t n = 0; st; n++) {
        dp_mem_stats before, after;
        dp_model *model;
        dp_error err;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_model_open(&model, gguf, &err);
        dp_fault_disarm(DP_FAULT_MEM);
        CHECK(n < 50 && (!st || st == DP_E_NOMEM), "visit %d: status %d", (int)n, st);
        dp_model_close(model);
        dp_mem_stats_read(&after);
        CHECK(memcmp(&before, &after, sizeof before) == 0, "visit %d leaked", (int)n);
    }
    dp_gguf_close(gguf);
    test_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(tables_of_2023_are_ignored),
        cmocka_unit_test(all_bytes_are_on_pages_once),
        cmocka_unit_test(experts_are_pages_in_both_layouts),
        cmocka_unit_test(experts_of_mixed_types_are_refused),
        cmocka_unit_test(a_tied_head_shares_the_embedding),
        cmocka_unit_test(tables_are_cut_into_whole_rows),
        cmocka_unit_test(optional_tensors_may_be_absent),
        cmocka_unit_test(a_failed_binder_does_nothing_more),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
