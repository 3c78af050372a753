#include "convert/convert_config.h"

#include <math.h>
#include <string.h>
#include "base/status.h"

#define REQUIRED UINT64_MAX
#define SHOWN    80

#define SWIGLU_LIMIT 7.0 /* of gpt-oss */

struct reader {
    const dp_doc *doc;
    dp_hf_config *c;
    dp_error *err;
};

static const struct {
    const char *hf_class, *arch;
    dp_hf_family family;
} classes[] = {
    { "LlamaForCausalLM", "llama", DP_HF_LLAMA },
    { "MixtralForCausalLM", "llama", DP_HF_MIXTRAL },
    { "Qwen3ForCausalLM", "qwen3", DP_HF_QWEN3 },
    { "Qwen3MoeForCausalLM", "qwen3moe", DP_HF_QWEN3MOE },
    { "GptOssForCausalLM", "gpt-oss", DP_HF_GPTOSS },
    { "DeepseekV2ForCausalLM", "deepseek2", DP_HF_DEEPSEEK },
    { "DeepseekV3ForCausalLM", "deepseek2", DP_HF_DEEPSEEK },
};

/* ---- members ---- */

static dp_status get(const struct reader *r, const char *path, uint64_t min, uint64_t max,
                     uint64_t fallback, uint64_t *out)
{
    bool is_found;

    *out = fallback;
    return dp_doc_u64(r->doc, path, min, max, out, fallback == REQUIRED ? NULL : &is_found, r->err);
}

static dp_status get32(const struct reader *r, const char *path, uint64_t max, uint64_t fallback,
                       uint32_t *out)
{
    uint64_t value;
    dp_status st = get(r, path, 0, max, fallback, &value);

    *out = st ? 0 : (uint32_t)value;
    return st;
}

static dp_status fail(const struct reader *r, const char *what)
{
    return dp_fail(r->err, DP_E_UNSUPPORTED, "%s: %s", r->doc->name, what);
}

/* The member, where it is there, is one of the `|`-separated words. */
static dp_status expect_word(const struct reader *r, const char *path, const char *words)
{
    bool is_found;
    dp_status st;
    dp_buf text;

    dp_buf_init(&text, SHOWN);
    st = dp_doc_str(r->doc, path, &text, &is_found, r->err);
    while (!st && is_found) {
        size_t size = strcspn(words, "|");

        if (size == text.size && memcmp(words, text.bytes ? text.bytes : "", size) == 0)
            break;
        if (words[size] == '\0')
            st = dp_fail(r->err, DP_E_UNSUPPORTED, "%s: \"%s\" is \"%s\", which is not converted",
                         r->doc->name, path, text.bytes ? text.bytes : "");
        words += size + (words[size] != '\0');
    }
    dp_buf_deinit(&text);
    return st;
}

/* A flag that must have this value where it is there. */
static dp_status expect_flag(const struct reader *r, const char *path, bool wanted)
{
    bool value = wanted, is_found;
    dp_status st = dp_doc_bool(r->doc, path, &value, &is_found, r->err);

    if (!st && value != wanted)
        st = dp_fail(r->err, DP_E_UNSUPPORTED, "%s: \"%s\" is %s, which is not converted",
                     r->doc->name, path, value ? "true" : "false");
    return st;
}

/* The first of "architectures". */
static dp_status read_class(struct reader *r)
{
    char shown[SHOWN] = "";
    dp_json json;
    dp_json_token token;
    bool is_found;
    dp_status st = dp_doc_find(r->doc, "architectures", &json, &token, &is_found, r->err);

    if (!st && is_found && token.kind == DP_JSON_ARRAY_BEGIN)
        st = dp_json_next(&json, &token, r->err);
    if (!st && (!is_found || token.kind != DP_JSON_STRING))
        st = dp_fail(r->err, DP_E_CORRUPT, "%s: \"architectures\" names no class", r->doc->name);
    for (size_t i = 0; i < DP_ARRAY_LEN(classes) && !st; i++)
        if (dp_str_is(token.text, classes[i].hf_class)) {
            r->c->family = classes[i].family;
            r->c->is_v3 = strcmp(classes[i].hf_class, "DeepseekV3ForCausalLM") == 0;
            r->c->arch = classes[i].arch;
        }
    for (size_t i = 0; !st && i < token.text.size && i < sizeof shown - 1; i++)
        shown[i] =
            token.text.bytes[i] > ' ' && token.text.bytes[i] < 0x7f ? token.text.bytes[i] : '?';
    dp_json_deinit(&json);
    if (!st && !r->c->arch)
        st = dp_fail(r->err, DP_E_UNSUPPORTED, "%s: models of class %s are not converted",
                     r->doc->name, shown);
    return st;
}

/* ---- what all have ---- */

static dp_status read_common(struct reader *r)
{
    const struct {
        const char *path;
        uint64_t *out;
        uint64_t max;
    } rows[] = {
        { "hidden_size", &r->c->dims[DP_DIM_EMBED], DP_DIM_MAX },
        { "vocab_size", &r->c->dims[DP_DIM_VOCAB], DP_VOCAB_MAX },
        { "num_attention_heads", &r->c->dims[DP_DIM_HEADS], DP_DIM_MAX },
        { "intermediate_size", &r->c->dims[DP_DIM_FF], DP_DIM_MAX },
    };
    uint64_t layers = 0, context = 0, kv_heads = 0;
    bool is_found;
    dp_status st = DP_OK;

    r->c->dims[DP_DIM_ONE] = 1;
    for (size_t i = 0; i < DP_ARRAY_LEN(rows) && !st; i++)
        st = get(r, rows[i].path, 1, rows[i].max, REQUIRED, rows[i].out);
    if (!st)
        st = get(r, "num_hidden_layers", 1, DP_LAYERS_MAX, REQUIRED, &layers);
    if (!st)
        st = get(r, "max_position_embeddings", 1, DP_CONTEXT_MAX, REQUIRED, &context);
    if (!st)
        st = get(r, "num_key_value_heads", 1, DP_DIM_MAX, r->c->dims[DP_DIM_HEADS], &kv_heads);
    if (!st)
        st = dp_doc_f64(r->doc, "rms_norm_eps", 1e-30, 1, &r->c->norm_eps, NULL, r->err);
    if (!st)
        st = dp_doc_bool(r->doc, "tie_word_embeddings", &r->c->is_tied, &is_found, r->err);
    if (!st)
        st = expect_word(r, "hidden_act", "silu");
    r->c->layer_count = (uint32_t)layers;
    r->c->context_max = (uint32_t)context;
    r->c->kv_head_count = (uint32_t)kv_heads;
    return st;
}

/* Heads that all look alike: of every family but DeepSeek's. */
static dp_status read_heads(struct reader *r)
{
    uint64_t *dims = r->c->dims, heads = dims[DP_DIM_HEADS], head = 0;
    dp_status st = get(r, "head_dim", 0, DP_DIM_MAX, 0, &head);

    if (st)
        return st;
    r->c->has_head_dim = head != 0;
    if (heads % r->c->kv_head_count)
        return fail(r, "\"num_key_value_heads\" does not divide \"num_attention_heads\"");
    if (head == 0 && dims[DP_DIM_EMBED] % heads)
        return fail(r, "\"num_attention_heads\" does not divide \"hidden_size\"");
    if (head == 0)
        head = dims[DP_DIM_EMBED] / heads;
    if (head % 2 || heads * head > DP_DIM_MAX)
        return fail(r, "heads that are odd or too wide: \"head_dim\", \"num_attention_heads\"");
    dims[DP_DIM_HEAD] = head;
    dims[DP_DIM_Q] = heads * head;
    dims[DP_DIM_KV] = r->c->kv_head_count * head;
    return DP_OK;
}

/* ---- positions ---- */

/* Older configurations have rope_theta and rope_scaling, newer ones rope_parameters. */
static dp_status rope_f64(const struct reader *r, const char *name, double min, double max,
                          double *out)
{
    static const char *const groups[] = { "rope_parameters.", "rope_scaling." };
    bool is_found = false;
    char path[64];
    dp_status st = DP_OK;

    for (size_t i = 0; i < DP_ARRAY_LEN(groups) && !st && !is_found; i++) {
        size_t size = strlen(groups[i]);

        memcpy(path, groups[i], size);
        memcpy(path + size, name, strlen(name) + 1);
        st = dp_doc_f64(r->doc, path, min, max, out, &is_found, r->err);
    }
    return st;
}

static dp_status read_rope_type(struct reader *r, const char *path, bool *is_found)
{
    static const struct {
        const char *name;
        dp_hf_rope rope;
    } types[] = { { "default", DP_HF_ROPE_NONE },
                  { "linear", DP_HF_ROPE_LINEAR },
                  { "llama3", DP_HF_ROPE_LLAMA3 },
                  { "yarn", DP_HF_ROPE_YARN } };
    bool is_known = false;
    dp_buf text;
    dp_status st;

    dp_buf_init(&text, SHOWN);
    st = dp_doc_str(r->doc, path, &text, is_found, r->err);
    for (size_t i = 0; i < DP_ARRAY_LEN(types) && !st && *is_found; i++)
        if (dp_str_is((dp_str){ text.bytes, text.size }, types[i].name)) {
            r->c->rope = types[i].rope;
            is_known = true;
        }
    if (!st && *is_found && !is_known)
        st = dp_fail(r->err, DP_E_UNSUPPORTED, "%s: \"%s\" is \"%s\", which is not converted",
                     r->doc->name, path, text.bytes ? text.bytes : "");
    dp_buf_deinit(&text);
    return st;
}

static dp_status read_rope_kind(struct reader *r)
{
    static const char *const paths[] = { "rope_parameters.rope_type", "rope_parameters.type",
                                         "rope_scaling.rope_type", "rope_scaling.type" };
    bool is_found = false;
    dp_status st = DP_OK;

    for (size_t i = 0; i < DP_ARRAY_LEN(paths) && !st && !is_found; i++)
        st = read_rope_type(r, paths[i], &is_found);
    if (!st && r->c->rope == DP_HF_ROPE_LLAMA3 && r->c->family != DP_HF_LLAMA &&
        r->c->family != DP_HF_MIXTRAL)
        st = fail(r, "rope scaling llama3 is known of Llama alone");
    return st;
}

/* Half of the dimensions, say, would turn otherwise than the engine turns them. */
static dp_status check_partial(struct reader *r)
{
    double part = 1;
    bool is_found;
    dp_status st = rope_f64(r, "partial_rotary_factor", 0, 1, &part);

    if (!st)
        st = dp_doc_f64(r->doc, "partial_rotary_factor", 0, 1, &part, &is_found, r->err);
    return !st && part != 1 ? fail(r, "\"partial_rotary_factor\" is not 1") : st;
}

/* gpt-oss alone was trained with YaRN's range as it is, and the engine knows that. */
static dp_status check_truncate(struct reader *r)
{
    bool is_rounded = r->c->family != DP_HF_GPTOSS;
    dp_status st = expect_flag(r, "rope_parameters.truncate", is_rounded);

    return st ? st : expect_flag(r, "rope_scaling.truncate", is_rounded);
}

static dp_status read_rope(struct reader *r)
{
    dp_hf_config *c = r->c;
    double original = 0, mscale = 0;
    bool is_found;
    dp_status st;

    c->rope_theta = 10000;
    c->rope_low = 1;
    c->rope_high = 4;
    c->rope_factor = 1;
    st = dp_doc_f64(r->doc, "rope_theta", 2, 1e12, &c->rope_theta, &is_found, r->err);
    if (!st)
        st = rope_f64(r, "rope_theta", 2, 1e12, &c->rope_theta);
    if (!st)
        st = check_partial(r);
    if (!st)
        st = check_truncate(r);
    if (!st)
        st = read_rope_kind(r);
    if (st || c->rope == DP_HF_ROPE_NONE)
        return st;
    st = rope_f64(r, "factor", 1e-3, 1e6, &c->rope_factor);
    if (!st)
        st = rope_f64(r, "low_freq_factor", 1e-3, 1e6, &c->rope_low);
    if (!st)
        st = rope_f64(r, "high_freq_factor", 1e-3, 1e6, &c->rope_high);
    if (!st)
        st = rope_f64(r, "original_max_position_embeddings", 1, DP_CONTEXT_MAX, &original);
    if (!st)
        st = rope_f64(r, "beta_fast", 1e-30, 1e6, &c->yarn_fast);
    if (!st)
        st = rope_f64(r, "beta_slow", 1e-30, 1e6, &c->yarn_slow);
    if (!st)
        st = rope_f64(r, "attention_factor", 1e-30, 1e3, &c->yarn_attention);
    if (!st)
        st = rope_f64(r, "mscale_all_dim", 0, 1e3, &c->mscale_all);
    mscale = c->mscale_all;
    if (!st)
        st = rope_f64(r, "mscale", 0, 1e3, &mscale);
    c->rope_original = (uint64_t)original;
    if (!st && mscale != c->mscale_all)
        st = fail(r, "\"mscale\" and \"mscale_all_dim\" differ, which GGUF has no key for");
    if (!st && c->rope_original == 0 && c->rope != DP_HF_ROPE_LINEAR)
        st = fail(r, "rope scaling without \"original_max_position_embeddings\"");
    if (!st && c->rope == DP_HF_ROPE_LLAMA3 && c->rope_low == c->rope_high)
        st = fail(r, "\"low_freq_factor\" is \"high_freq_factor\"");
    return st;
}

/* ---- what some have ---- */

static dp_status read_experts(struct reader *r, const char *count, const char *ff)
{
    uint64_t *dims = r->c->dims;
    dp_status st = get(r, count, 1, DP_EXPERTS_MAX, REQUIRED, &dims[DP_DIM_EXPERTS]);

    if (!st)
        st = get32(r, "num_experts_per_tok", DP_EXPERTS_USED_MAX, REQUIRED, &r->c->expert_used);
    if (!st)
        st = get(r, ff, 1, DP_DIM_MAX, REQUIRED, &dims[DP_DIM_EXPERT_FF]);
    dims[DP_DIM_GATE_UP] = 2 * dims[DP_DIM_EXPERT_FF];
    return st;
}

static dp_status read_mixtral(struct reader *r)
{
    uint64_t window = 0;
    dp_status st = get(r, "sliding_window", 0, DP_CONTEXT_MAX, 0, &window);

    if (!st && window != 0 && window < r->c->context_max)
        st = fail(r, "a \"sliding_window\" over all layers is not converted");
    return st ? st : read_experts(r, "num_local_experts", "intermediate_size");
}

static dp_status read_qwen3moe(struct reader *r)
{
    uint64_t step = 1;
    bool norms = false, is_found, has_count;
    dp_json json;
    dp_json_token token;
    uint64_t count = 0;
    dp_status st = get(r, "decoder_sparse_step", 0, DP_LAYERS_MAX, 1, &step);

    if (!st && step != 1)
        st = fail(r, "\"decoder_sparse_step\" is not 1: layers without experts are not converted");
    if (st)
        return st;
    st = dp_doc_find(r->doc, "mlp_only_layers", &json, &token, &is_found, r->err);
    if (!st && is_found && token.kind == DP_JSON_ARRAY_BEGIN) {
        st = dp_json_next(&json, &token, r->err);
        if (!st && token.kind != DP_JSON_ARRAY_END)
            st = fail(r, "\"mlp_only_layers\" is not empty, which is not converted");
    }
    dp_json_deinit(&json);
    if (!st)
        st = dp_doc_bool(r->doc, "norm_topk_prob", &norms, &is_found, r->err);
    if (!st && !norms)
        st = fail(r, "\"norm_topk_prob\" is not true, which is not converted");
    if (!st)
        st = expect_flag(r, "use_sliding_window", false);
    if (!st) /* published files say num_experts, newer code num_local_experts */
        st = dp_doc_u64(r->doc, "num_experts", 1, DP_EXPERTS_MAX, &count, &has_count, r->err);
    if (st)
        return st;
    return read_experts(r, has_count ? "num_experts" : "num_local_experts",
                        "moe_intermediate_size");
}

/* Even layers see a window, odd ones everything: the key only has the window. */
static dp_status check_layer_types(struct reader *r)
{
    dp_json json;
    dp_json_token token;
    bool is_found;
    uint32_t i = 0;
    dp_status st = dp_doc_find(r->doc, "layer_types", &json, &token, &is_found, r->err);

    if (is_found && token.kind == DP_JSON_ARRAY_BEGIN)
        while (dp_doc_next(&json, &token, &st, r->err)) {
            const char *wanted = i++ % 2 ? "full_attention" : "sliding_attention";

            if (token.kind != DP_JSON_STRING || !dp_str_is(token.text, wanted)) {
                st = fail(r, "\"layer_types\" does not alternate, beginning with a sliding layer");
                break;
            }
        }
    dp_json_deinit(&json);
    return st;
}

static dp_status read_gptoss(struct reader *r)
{
    double limit = SWIGLU_LIMIT;
    bool is_found;
    dp_status st = dp_doc_f64(r->doc, "swiglu_limit", 0, 1e6, &limit, &is_found, r->err);

    if (!st && limit != SWIGLU_LIMIT)
        st = fail(r, "\"swiglu_limit\" is not 7, which GGUF has no key for");
    if (!st)
        st = get32(r, "sliding_window", DP_CONTEXT_MAX, REQUIRED, &r->c->sliding_window);

    if (!st)
        st = check_layer_types(r);
    return st ? st : read_experts(r, "num_local_experts", "intermediate_size");
}

static dp_status read_deepseek_heads(struct reader *r)
{
    uint64_t *d = r->c->dims, rotated = 0, heads = d[DP_DIM_HEADS];
    dp_status st = get(r, "q_lora_rank", 0, DP_DIM_MAX, 0, &d[DP_DIM_Q_LORA]);

    if (!st)
        st = get(r, "kv_lora_rank", 1, DP_DIM_MAX, REQUIRED, &d[DP_DIM_KV_LORA]);
    if (!st)
        st = get(r, "qk_nope_head_dim", 1, DP_DIM_MAX, REQUIRED, &d[DP_DIM_PLAIN]);
    if (!st)
        st = get(r, "qk_rope_head_dim", 2, DP_DIM_MAX, REQUIRED, &rotated);
    if (!st)
        st = get(r, "v_head_dim", 1, DP_DIM_MAX, REQUIRED, &d[DP_DIM_VALUE]);
    if (st)
        return st;
    if (heads * (d[DP_DIM_PLAIN] + rotated) > DP_DIM_MAX || heads * d[DP_DIM_VALUE] > DP_DIM_MAX ||
        heads * (d[DP_DIM_PLAIN] + d[DP_DIM_VALUE]) > DP_DIM_MAX)
        return fail(r, "heads that are too wide");
    if (r->c->kv_head_count != heads)
        return fail(r, "\"num_key_value_heads\" is not \"num_attention_heads\"");
    r->c->rotated = (uint32_t)rotated;
    d[DP_DIM_KV_A] = d[DP_DIM_KV_LORA] + rotated;
    d[DP_DIM_KV_B] = heads * (d[DP_DIM_PLAIN] + d[DP_DIM_VALUE]);
    d[DP_DIM_MLA_Q] = heads * (d[DP_DIM_PLAIN] + rotated);
    d[DP_DIM_MLA_O] = heads * d[DP_DIM_VALUE];
    return DP_OK;
}

/* "model_type" and the like as a view of buf; empty where it is not there. */
static dp_str read_word(const struct reader *r, const char *path, dp_buf *buf, dp_status *st)
{
    bool is_found;

    dp_buf_reset(buf);
    if (!*st)
        *st = dp_doc_str(r->doc, path, buf, &is_found, r->err);
    return (dp_str){ buf->bytes ? buf->bytes : "", *st ? 0 : buf->size };
}

/* The two classes differ in what an absent member means. */
static dp_status read_deepseek_routing(struct reader *r, bool is_v3)
{
    dp_hf_config *c = r->c;
    bool is_found;
    dp_str word;
    dp_buf text;
    dp_status st = expect_word(r, "scoring_func", "softmax|sigmoid");

    dp_buf_init(&text, SHOWN);
    if (!st)
        st = expect_word(r, "topk_method", "greedy|group_limited_greedy|noaux_tc");
    word = read_word(r, "scoring_func", &text, &st);
    c->is_sigmoid = word.size ? dp_str_is(word, "sigmoid") : is_v3;
    word = read_word(r, "topk_method", &text, &st);
    c->has_bias = word.size ? dp_str_is(word, "noaux_tc") : is_v3;
    if (!c->has_bias && !dp_str_is(word, "group_limited_greedy"))
        c->group_count = c->group_used = 0; /* greedy: groups are there in name only */
    dp_buf_deinit(&text);
    c->norms_weights = is_v3;
    if (!st)
        st = dp_doc_bool(r->doc, "norm_topk_prob", &c->norms_weights, &is_found, r->err);
    c->weights_scale = is_v3 ? 2.5 : 1;
    if (!st)
        st = dp_doc_f64(r->doc, "routed_scaling_factor", 1e-6, 1e6, &c->weights_scale, &is_found,
                        r->err);
    return st;
}

static dp_status read_deepseek(struct reader *r)
{
    uint64_t step = 1;
    dp_hf_config *c = r->c;
    dp_status st = read_deepseek_heads(r);

    if (!st)
        st = read_experts(r, "n_routed_experts", "moe_intermediate_size");
    if (!st)
        st = get32(r, "first_k_dense_replace", c->layer_count, 0, &c->dense_count);
    if (!st)
        st = get32(r, "n_shared_experts", DP_EXPERTS_USED_MAX, 0, &c->shared_count);
    if (!st)
        st = get32(r, "n_group", DP_EXPERTS_MAX, 0, &c->group_count);
    if (!st)
        st = get32(r, "topk_group", DP_EXPERTS_MAX, 0, &c->group_used);
    if (!st)
        st = get(r, "moe_layer_freq", 0, DP_LAYERS_MAX, 1, &step);
    if (!st && step != 1)
        st = fail(r, "\"moe_layer_freq\" is not 1, which is not converted");
    if (!st)
        st = expect_flag(r, "rope_interleave", true);
    if (!st)
        st = read_deepseek_routing(r, c->is_v3);
    c->dims[DP_DIM_SHARED_FF] = c->dims[DP_DIM_EXPERT_FF] * c->shared_count;
    return st;
}

/* ---- how weights are stored ---- */

/* The block of FP8 scales: [rows, columns]. */
static dp_status read_tiles(struct reader *r)
{
    uint32_t *out[] = { &r->c->tile_rows, &r->c->tile_cols };
    dp_json json;
    dp_json_token token;
    bool is_found;
    size_t i = 0;
    int64_t value;
    dp_status st = dp_doc_find(r->doc, "quantization_config.weight_block_size", &json, &token,
                               &is_found, r->err);

    r->c->tile_rows = r->c->tile_cols = 128;
    if (is_found && token.kind == DP_JSON_ARRAY_BEGIN)
        while (dp_doc_next(&json, &token, &st, r->err)) {
            if (token.kind != DP_JSON_NUMBER || !dp_json_i64(&token, &value) || value < 1 ||
                value > DP_DIM_MAX || i == 2) {
                st = fail(r, "\"weight_block_size\" is not two numbers");
                break;
            }
            *out[i++] = (uint32_t)value;
        }
    dp_json_deinit(&json);
    if (!st && is_found && i != 2)
        st = fail(r, "\"weight_block_size\" is not two numbers");
    return st;
}

static dp_status read_storage(struct reader *r)
{
    static const char path[] = "quantization_config.quant_method";
    bool is_found;
    dp_buf text;
    dp_status st = expect_word(r, path, "fp8|mxfp4");

    dp_buf_init(&text, SHOWN);
    if (!st)
        st = dp_doc_str(r->doc, path, &text, &is_found, r->err);
    if (!st && is_found && dp_str_is((dp_str){ text.bytes, text.size }, "fp8"))
        st = read_tiles(r);
    dp_buf_deinit(&text);
    return st;
}

dp_status dp_hf_config_read(dp_hf_config *out, const dp_doc *doc, dp_error *err)
{
    struct reader r = { doc, out, err };
    dp_status st;

    *out = (dp_hf_config){ .arch = NULL };
    st = read_class(&r);
    if (!st)
        st = read_common(&r);
    if (!st)
        st = read_rope(&r);
    if (!st)
        st = read_storage(&r);
    if (!st && out->family != DP_HF_DEEPSEEK)
        st = read_heads(&r);
    if (st)
        return st;
    switch (out->family) {
    case DP_HF_MIXTRAL:
        return read_mixtral(&r);
    case DP_HF_QWEN3:
        return expect_flag(&r, "use_sliding_window", false);
    case DP_HF_QWEN3MOE:
        return read_qwen3moe(&r);
    case DP_HF_GPTOSS:
        return read_gptoss(&r);
    case DP_HF_DEEPSEEK:
        return read_deepseek(&r);
    default:
        return DP_OK;
    }
}
