#include "convert/convert_tables.h"

#define NORM(out, in)                                                                              \
    {                                                                                              \
        out ".weight", in ".weight", DP_DIM_ONE, DP_DIM_EMBED, 0, 0                                \
    }
#define MATRIX(out, in, r, c)                                                                      \
    {                                                                                              \
        out ".weight", in ".weight", DP_DIM_##r, DP_DIM_##c, 0, 0                                  \
    }
#define PAIRS(out, in, r)                                                                          \
    {                                                                                              \
        out ".weight", in ".weight", DP_DIM_##r, DP_DIM_EMBED, DP_LAYOUT_PAIRS, 0                  \
    }
#define BIAS(out, in, c)                                                                           \
    {                                                                                              \
        out ".bias", in ".bias", DP_DIM_ONE, DP_DIM_##c, 0, 0                                      \
    }
#define EACH(out, in, r, c)                                                                        \
    {                                                                                              \
        out ".weight", in ".weight", DP_DIM_##r, DP_DIM_##c, DP_LAYOUT_EACH, DP_WHEN_EXPERTS       \
    }

static const dp_name_row llama[] = {
    NORM("attn_norm", "input_layernorm"),
    PAIRS("attn_q", "self_attn.q_proj", Q),
    PAIRS("attn_k", "self_attn.k_proj", KV),
    MATRIX("attn_v", "self_attn.v_proj", KV, EMBED),
    MATRIX("attn_output", "self_attn.o_proj", EMBED, Q),
    NORM("ffn_norm", "post_attention_layernorm"),
    MATRIX("ffn_gate", "mlp.gate_proj", FF, EMBED),
    MATRIX("ffn_up", "mlp.up_proj", FF, EMBED),
    MATRIX("ffn_down", "mlp.down_proj", EMBED, FF),
    { 0 },
};

static const dp_name_row mixtral[] = {
    NORM("attn_norm", "input_layernorm"),
    PAIRS("attn_q", "self_attn.q_proj", Q),
    PAIRS("attn_k", "self_attn.k_proj", KV),
    MATRIX("attn_v", "self_attn.v_proj", KV, EMBED),
    MATRIX("attn_output", "self_attn.o_proj", EMBED, Q),
    NORM("ffn_norm", "post_attention_layernorm"),
    MATRIX("ffn_gate_inp", "block_sparse_moe.gate", EXPERTS, EMBED),
    EACH("ffn_gate_exps", "block_sparse_moe.experts.%u.w1", EXPERT_FF, EMBED),
    EACH("ffn_up_exps", "block_sparse_moe.experts.%u.w3", EXPERT_FF, EMBED),
    EACH("ffn_down_exps", "block_sparse_moe.experts.%u.w2", EMBED, EXPERT_FF),
    { 0 },
};

#define QWEN3_ATTENTION                                                                            \
    NORM("attn_norm", "input_layernorm"), MATRIX("attn_q", "self_attn.q_proj", Q, EMBED),          \
        MATRIX("attn_k", "self_attn.k_proj", KV, EMBED),                                           \
        MATRIX("attn_v", "self_attn.v_proj", KV, EMBED),                                           \
        MATRIX("attn_output", "self_attn.o_proj", EMBED, Q),                                       \
        MATRIX("attn_q_norm", "self_attn.q_norm", ONE, HEAD),                                      \
        MATRIX("attn_k_norm", "self_attn.k_norm", ONE, HEAD),                                      \
        NORM("ffn_norm", "post_attention_layernorm")

static const dp_name_row qwen3[] = {
    QWEN3_ATTENTION,
    MATRIX("ffn_gate", "mlp.gate_proj", FF, EMBED),
    MATRIX("ffn_up", "mlp.up_proj", FF, EMBED),
    MATRIX("ffn_down", "mlp.down_proj", EMBED, FF),
    { 0 },
};

static const dp_name_row qwen3moe[] = {
    QWEN3_ATTENTION,
    MATRIX("ffn_gate_inp", "mlp.gate", EXPERTS, EMBED),
    EACH("ffn_gate_exps", "mlp.experts.%u.gate_proj", EXPERT_FF, EMBED),
    EACH("ffn_up_exps", "mlp.experts.%u.up_proj", EXPERT_FF, EMBED),
    EACH("ffn_down_exps", "mlp.experts.%u.down_proj", EMBED, EXPERT_FF),
    { 0 },
};

/* Names of experts carry no ".weight": "_blocks", "_scales" and "_bias" follow. */
#define GPTOSS_EXPERTS(out, in, r, c, layout)                                                      \
    {                                                                                              \
        out, in, DP_DIM_##r, DP_DIM_##c, DP_LAYOUT_##layout, DP_WHEN_EXPERTS                       \
    }

static const dp_name_row gptoss[] = {
    NORM("attn_norm", "input_layernorm"),
    MATRIX("attn_q", "self_attn.q_proj", Q, EMBED),
    BIAS("attn_q", "self_attn.q_proj", Q),
    MATRIX("attn_k", "self_attn.k_proj", KV, EMBED),
    BIAS("attn_k", "self_attn.k_proj", KV),
    MATRIX("attn_v", "self_attn.v_proj", KV, EMBED),
    BIAS("attn_v", "self_attn.v_proj", KV),
    MATRIX("attn_output", "self_attn.o_proj", EMBED, Q),
    BIAS("attn_output", "self_attn.o_proj", EMBED),
    { "attn_sinks.weight", "self_attn.sinks", DP_DIM_ONE, DP_DIM_HEADS, 0, 0 },
    NORM("post_attention_norm", "post_attention_layernorm"),
    MATRIX("ffn_gate_inp", "mlp.router", EXPERTS, EMBED),
    BIAS("ffn_gate_inp", "mlp.router", EXPERTS),
    GPTOSS_EXPERTS("ffn_gate_exps.weight", "mlp.experts.gate_up_proj", EXPERT_FF, EMBED, GATE),
    GPTOSS_EXPERTS("ffn_gate_exps.bias", "mlp.experts.gate_up_proj_bias", EXPERTS, EXPERT_FF,
                   GATE_BIAS),
    GPTOSS_EXPERTS("ffn_up_exps.weight", "mlp.experts.gate_up_proj", EXPERT_FF, EMBED, UP),
    GPTOSS_EXPERTS("ffn_up_exps.bias", "mlp.experts.gate_up_proj_bias", EXPERTS, EXPERT_FF,
                   UP_BIAS),
    GPTOSS_EXPERTS("ffn_down_exps.weight", "mlp.experts.down_proj", EMBED, EXPERT_FF, DOWN),
    GPTOSS_EXPERTS("ffn_down_exps.bias", "mlp.experts.down_proj_bias", EXPERTS, EMBED, PLAIN),
    { 0 },
};

#define DEEPSEEK(out, in, r, c, layout, when)                                                      \
    {                                                                                              \
        out ".weight", in ".weight", DP_DIM_##r, DP_DIM_##c, DP_LAYOUT_##layout, DP_WHEN_##when    \
    }

static const dp_name_row deepseek[] = {
    NORM("attn_norm", "input_layernorm"),
    DEEPSEEK("attn_q", "self_attn.q_proj", MLA_Q, EMBED, PLAIN, NO_Q_LORA),
    DEEPSEEK("attn_q_a", "self_attn.q_a_proj", Q_LORA, EMBED, PLAIN, Q_LORA),
    DEEPSEEK("attn_q_a_norm", "self_attn.q_a_layernorm", ONE, Q_LORA, PLAIN, Q_LORA),
    DEEPSEEK("attn_q_b", "self_attn.q_b_proj", MLA_Q, Q_LORA, PLAIN, Q_LORA),
    MATRIX("attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa", KV_A, EMBED),
    MATRIX("attn_kv_a_norm", "self_attn.kv_a_layernorm", ONE, KV_LORA),
    DEEPSEEK("attn_k_b", "self_attn.kv_b_proj", KV_B, KV_LORA, K_B, ALWAYS),
    DEEPSEEK("attn_v_b", "self_attn.kv_b_proj", KV_B, KV_LORA, V_B, ALWAYS),
    MATRIX("attn_output", "self_attn.o_proj", EMBED, MLA_O),
    NORM("ffn_norm", "post_attention_layernorm"),
    DEEPSEEK("ffn_gate", "mlp.gate_proj", FF, EMBED, PLAIN, DENSE),
    DEEPSEEK("ffn_up", "mlp.up_proj", FF, EMBED, PLAIN, DENSE),
    DEEPSEEK("ffn_down", "mlp.down_proj", EMBED, FF, PLAIN, DENSE),
    DEEPSEEK("ffn_gate_inp", "mlp.gate", EXPERTS, EMBED, PLAIN, EXPERTS),
    { "exp_probs_b.bias", "mlp.gate.e_score_correction_bias", DP_DIM_ONE, DP_DIM_EXPERTS, 0,
      DP_WHEN_BIAS },
    EACH("ffn_gate_exps", "mlp.experts.%u.gate_proj", EXPERT_FF, EMBED),
    EACH("ffn_up_exps", "mlp.experts.%u.up_proj", EXPERT_FF, EMBED),
    EACH("ffn_down_exps", "mlp.experts.%u.down_proj", EMBED, EXPERT_FF),
    DEEPSEEK("ffn_gate_shexp", "mlp.shared_experts.gate_proj", SHARED_FF, EMBED, PLAIN, SHARED),
    DEEPSEEK("ffn_up_shexp", "mlp.shared_experts.up_proj", SHARED_FF, EMBED, PLAIN, SHARED),
    DEEPSEEK("ffn_down_shexp", "mlp.shared_experts.down_proj", EMBED, SHARED_FF, PLAIN, SHARED),
    { 0 },
};

const dp_name_row *const dp_name_tables[DP_HF_FAMILY_COUNT] = {
    [DP_HF_LLAMA] = llama,       [DP_HF_MIXTRAL] = mixtral, [DP_HF_QWEN3] = qwen3,
    [DP_HF_QWEN3MOE] = qwen3moe, [DP_HF_GPTOSS] = gptoss,   [DP_HF_DEEPSEEK] = deepseek,
};
