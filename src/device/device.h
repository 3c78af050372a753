/* device.h - what can compute: one vtable, one folder a backend.
 *
 * Room     The operations a transformer is made of, over memory the device can
 *          read. Models are written against this table and nothing below it; a
 *          backend is a folder (cpu/) that fills it in. Weights arrive as leased
 *          page bytes, activations live in buffers the caller got from `acquire`.
 *
 * Memory   Addresses are the device's own. On the CPU they are plain pointers.
 *
 * Results  Each output value depends on its own inputs alone: a token's result
 *          is the same bits whichever tokens it is computed with, on any number
 *          of threads (kernel/kernel.h says how the CPU does it).
 *
 * Shapes   x[t] is row t of a matrix with a row stride; strides count floats.
 *
 * Threads  One caller at a time (the step thread). Operations are complete when
 *          the call returns. They cannot fail: shapes were checked at binding.
 */
#ifndef DP_DEVICE_DEVICE_H
#define DP_DEVICE_DEVICE_H

#include "base/base.h"
#include "doppler/status.h"
#include "format/dtype.h"

typedef struct dp_device dp_device;

/* A weight matrix as it lies in a page: rows of k elements. Borrowed bytes. */
typedef struct dp_mat {
    const void *bytes;
    dp_dtype dtype;
    uint32_t rows, k;
    uint64_t row_bytes;
} dp_mat;

/* y[t][r] = w[r] . x[t] (+ bias[r]). Several products share one input. */
#define DP_MATMUL_PARTS_MAX 4

typedef struct dp_matmul_part {
    dp_mat w;
    const float *bias; /* [rows] or NULL */
    float *y;
    size_t y_stride;
} dp_matmul_part;

typedef struct dp_op_matmul {
    const float *x;
    size_t x_stride;
    const uint32_t *x_rows; /* [tokens]: which rows of x, NULL: 0, 1, 2 ... */
    uint32_t tokens;
    uint32_t part_count;
    dp_matmul_part part[DP_MATMUL_PARTS_MAX]; /* all of the same k */
} dp_op_matmul;

/* A product of its own for each head: y[t][h] = W_h x[t][h], with rows [row_first +
 * h * row_step, + rows) of w for W_h; then the `tail` values that lie behind x[t][h]'s are
 * copied behind y[t][h]'s.
 *
 * is_transposed: y[t][h] = W_h^T x[t][h]. Each output is summed over the rows of W_h, which
 * are de-quantised, in the order in which a matrix of floats that holds W_h^T would be
 * multiplied (kernel.h: 16 lanes by index, a tree). So a file that keeps it the other way
 * round gives the same bits, as long as its weights are floats. */
typedef struct dp_op_matmul_heads {
    dp_mat w;
    uint32_t row_first, row_step, rows;
    bool is_transposed;
    const float *x; /* [tokens][heads][w.k, transposed: rows; + tail] */
    size_t x_stride, x_head;
    float *y; /* [tokens][heads][rows, transposed: w.k; + tail] */
    size_t y_stride, y_head;
    uint32_t tokens, heads, tail;
} dp_op_matmul_heads;

typedef enum dp_rope_style {
    DP_ROPE_STYLE_PAIRS, /* neighbours: GGUF files of llama */
    DP_ROPE_STYLE_HALVES /* i and i + dim/2: neox */
} dp_rope_style;

/* Rotates the first rope_dim values of each head, in place. */
typedef struct dp_op_rope {
    float *x; /* [tokens][heads * head_dim] */
    size_t x_stride;
    uint32_t tokens, heads, head_dim, rope_dim;
    dp_rope_style style;
    const float *cos, *sin; /* [tokens][rope_dim / 2] */
} dp_op_rope;

#define DP_KV_BLOCK_TOKENS 32 /* positions per block of keys and values */

/* One layer's keys and values of one sequence: block b holds positions
 * [b*32, b*32+32) as K [kv_heads][32][key_dim], then V [kv_heads][32][value_dim], of one
 * type: F16 (rounded when stored) or F32. With value_in_key there is no V: values are the
 * first value_dim of each key. */
typedef struct dp_kv_layer {
    uint8_t *const *rows; /* [blocks]: the block's memory, all layers ... */
    uint64_t offset;      /* ... and where this layer's part begins in it */
    dp_dtype type;
} dp_kv_layer;

/* Bytes of `count` elements of such a type. */
static inline uint64_t dp_kv_bytes(dp_dtype type, uint64_t count)
{
    return count * (type == DP_F32 ? sizeof(float) : sizeof(uint16_t));
}

/* Keys [first, first + count) of a layer with one key/value head, as floats; of one block. */
typedef struct dp_op_kv_load {
    float *out; /* [count][key_dim] */
    dp_kv_layer kv;
    uint32_t first, count, key_dim;
} dp_op_kv_load;

typedef struct dp_op_kv_store {
    const float *k, *v; /* [tokens][kv_heads * key_dim], [tokens][kv_heads * value_dim] */
    size_t k_stride, v_stride;
    uint32_t tokens, kv_heads, key_dim, value_dim;
    const dp_kv_layer *kv;    /* [tokens]: the sequence of each token */
    const uint32_t *position; /* [tokens] */
    bool value_in_key; /* a key is v's values, then k's: [kv_heads * (key_dim - value_dim)] */
} dp_op_kv_store;

/* Grouped-query attention of each token over its own sequence's positions
 * 0..position (or the last `window` of them). Query head h reads key/value head
 * h / (heads / kv_heads). Ainslie et al. 2023, arXiv:2305.13245. */
typedef struct dp_op_attention {
    const float *q; /* [tokens][heads * key_dim] */
    size_t q_stride;
    float *out; /* [tokens][heads * value_dim] */
    size_t out_stride;
    uint32_t tokens, heads, kv_heads, key_dim, value_dim;
    float scale;
    uint32_t window;    /* 0: all */
    const float *sinks; /* [heads] or NULL */
    const dp_kv_layer *kv;
    const uint32_t *position;
    bool value_in_key;
} dp_op_attention;

/* A block of keys and values of `heads` heads, positions from `first` on, joins the
 * running softmax of each token that sees some of it: what dp_op_attention does block by
 * block, for blocks that do not stay. Before the first block max is -INFINITY. */
typedef struct dp_op_attend_block {
    const float *q; /* [tokens][heads * key_dim] */
    size_t q_stride;
    float *out; /* [tokens][heads * value_dim]: sums, and after is_last the result */
    size_t out_stride;
    float *max, *sum;     /* [tokens][heads] */
    const uint8_t *block; /* as dp_kv_layer's */
    dp_dtype type;
    uint32_t first;
    bool is_last; /* no token sees a later one */
    uint32_t tokens, heads, key_dim, value_dim;
    float scale;
    const uint32_t *position; /* [tokens], ascending */
} dp_op_attend_block;

/* out [heads][w.k][rows] = the matrix of each head, turned round, as floats: rows
 * [h * rows, + rows) of w. */
typedef struct dp_op_turn_heads {
    float *out;
    dp_mat w;
    uint32_t heads, rows;
} dp_op_turn_heads;

/* What an expert's score is, made from its router logit z. */
typedef enum dp_route_gate {
    DP_ROUTE_SOFTMAX,       /* softmax over all experts */
    DP_ROUTE_SIGMOID,       /* 1 / (1 + exp(-z)) */
    DP_ROUTE_SOFTMAX_CHOSEN /* z; the weights are a softmax over the chosen alone */
} dp_route_gate;

#define DP_ROUTE_EXPERTS_MAX    4096
#define DP_ROUTE_WEIGHT_SUM_MIN 0x1p-14f /* ~6.1e-5: sigmoids may all be next to 0 */

/* Chooses experts from router logits, token by token:
 *
 *   1. score of each expert, by gate
 *   2. choice = score + select_bias, which only serves to choose. NaN is last
 *   3. groups > 0: experts lie in `groups` runs of neighbours; a group is worth the
 *      sum of its group_best largest choices (largest first), the groups_used worthiest
 *      stay in the running
 *   4. the `used` largest choices of those in the running
 *   5. weight = score (SOFTMAX_CHOSEN: softmax of the chosen scores, in order of rank)
 *   6. norm_weights: weight /= max(sum of weights in order of rank, WEIGHT_SUM_MIN)
 *   7. weight *= scale
 *
 * Among equals the lowest index comes first, in 3 and in 4. Ids are distinct and in
 * range whatever the logits are. groups * (experts / groups) = experts, and the groups
 * in use hold at least `used` experts.
 * Jiang et al. 2024, arXiv:2401.04088, §2.1 (softmax); DeepSeek-AI 2024,
 * arXiv:2405.04434, §2.1 (groups worth their largest: group_best 1) and
 * arXiv:2412.19437, §2.1.2 (sigmoid, bias, groups worth their two largest). */
typedef struct dp_op_route {
    float *logits; /* [tokens][experts], overwritten */
    uint32_t tokens, experts, used;
    dp_route_gate gate;
    const float *select_bias;                 /* [experts] or NULL */
    uint32_t groups, groups_used, group_best; /* groups 0: all experts are in the running */
    bool norm_weights;
    float scale;
    uint32_t *ids;  /* [tokens][used], best choice first */
    float *weights; /* [tokens][used] */
} dp_op_route;

/* Adds up what the experts made, in order of rank whatever order they ran in:
 * out[t] += sum over r of weights[t][r] * y[rows[t][r]], r ascending. */
typedef struct dp_op_mix {
    float *out;           /* [tokens][n] */
    const float *y;       /* [..][n] */
    const uint32_t *rows; /* [tokens][used]: which row of y */
    const float *weights; /* [tokens][used] */
    uint32_t tokens, used, n;
} dp_op_mix;

typedef struct dp_device_ops {
    /* Activation memory, zeroed, 64-byte aligned; NULL when it is short. */
    void *(*acquire)(dp_device *d, size_t size);
    void (*release)(dp_device *d, void *memory, size_t size);

    bool (*has_dtype)(const dp_device *d, dp_dtype type); /* matmul and embed know it */

    /* out[k] = row `row` of the table, as floats. */
    void (*embed)(dp_device *d, float *out, const dp_mat *table, uint32_t row);
    void (*rmsnorm)(dp_device *d, float *out, const float *x, const float *gain, uint32_t rows,
                    uint32_t n, float eps); /* dense rows; out may be x */
    void (*matmul)(dp_device *d, const dp_op_matmul *op);
    void (*matmul_heads)(dp_device *d, const dp_op_matmul_heads *op);
    void (*rope)(dp_device *d, const dp_op_rope *op);
    void (*kv_store)(dp_device *d, const dp_op_kv_store *op);
    void (*kv_load)(dp_device *d, const dp_op_kv_load *op);
    void (*attention)(dp_device *d, const dp_op_attention *op);
    void (*attend_block)(dp_device *d, const dp_op_attend_block *op);
    void (*turn_heads)(dp_device *d, const dp_op_turn_heads *op);
    void (*route)(dp_device *d, const dp_op_route *op);
    void (*swiglu)(dp_device *d, float *out, const float *gate, const float *up, size_t n);
    /* Gate at most `limit`, up within +-limit: out = gate sigmoid(alpha gate) (up + 1). */
    void (*swiglu_clamped)(dp_device *d, float *out, const float *gate, const float *up, size_t n,
                           float alpha, float limit);
    void (*add)(dp_device *d, float *out, const float *x, size_t n); /* out += x */
    void (*mix)(dp_device *d, const dp_op_mix *op);
    void (*close)(dp_device *d);
} dp_device_ops;

struct dp_device {
    const dp_device_ops *ops;
    const char *name; /* "cpu (x86.avx512vnni, 2 threads)" */
};

/* The largest shapes a device will meet: it sizes its scratch memory by them. */
typedef struct dp_device_limits {
    uint32_t tokens;    /* per operation */
    uint32_t k_max;     /* widest matmul input */
    uint32_t value_dim; /* widest attention head */
    uint32_t head_k;    /* widest input or output of matmul_heads; 0: there is none */
} dp_device_limits;

/* Bytes of scratch a device with these limits takes (part of the budget). */
uint64_t dp_device_cpu_scratch_bytes(const dp_device_limits *limits, uint32_t threads);

/* The CPU: kernels "auto" or a table's name. DP_E_UNSUPPORTED names the table
 * this CPU can't run; DP_E_NOMEM. Owned: ops->close. */
dp_status dp_device_cpu_open(dp_device **out, const char *kernels, uint32_t threads,
                             const dp_device_limits *limits, dp_error *err);

/* The table of kernels that a name chooses ("auto": the best this CPU can run); NULL: none. */
const char *dp_device_cpu_kernels(const char *name);

/* What a table of kernels can multiply, without opening a device. */
bool dp_device_cpu_has_dtype(dp_dtype type);

#endif
