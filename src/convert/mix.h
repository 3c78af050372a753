/* mix.h - which tensor of a model becomes which type.
 *
 * Room     A mix is a row of a table: a base type and rules that give more bits to
 *          tensors that matter more. Nothing here reads a weight.
 *
 * Source   The rules, and the numbers that "general.file_type" says, are those of
 *          the files in circulation (llama.cpp, llama_tensor_get_type); docs/quantize.md
 *          has them in words.
 *
 * Threads  Any.
 */
#ifndef DP_CONVERT_MIX_H
#define DP_CONVERT_MIX_H

#include "doppler/quantize.h"
#include "format/tensor.h"

typedef struct dp_mix dp_mix;

/* What the rules ask of a model. */
typedef struct dp_mix_model {
    uint32_t layer_count;
    uint32_t expert_count; /* 0: dense */
    bool has_output;       /* a head of its own; otherwise the embedding is the head */
} dp_mix_model;

const dp_mix *dp_mix_find(const char *name); /* NULL: none */
uint32_t dp_mix_file_type(const dp_mix *mix);

/* True for matrices: what mixes are about. Norms, biases, routers, sinks and all
 * vectors are not; they are kept as F32. */
bool dp_mix_is_matrix(const dp_tensor *t);

/* The type of a matrix under the mix, and in *wanted the one it would have had if its
 * rows were whole blocks of that (else the same). */
dp_dtype dp_mix_type(const dp_mix *mix, const dp_mix_model *model, const dp_tensor *t,
                     dp_dtype *wanted);

/* The first of "PATTERN=TYPE" [count] whose pattern matches the name; false: none. */
bool dp_mix_override(const char *const *overrides, size_t count, dp_str name, dp_dtype *type);
/* DP_E_INVALID names what is wrong: no "=", an unknown type, one without a quantizer. */
dp_status dp_mix_check_override(const char *text, dp_error *err);

#endif
