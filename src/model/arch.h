/* arch.h - what a model family is: how its tensors bind and what a layer computes.
 *
 * A family is one file (arch_<name>.c) over the shared blocks of blocks.h, and
 * one row of the list in arch_list.c. */
#ifndef DP_MODEL_ARCH_H
#define DP_MODEL_ARCH_H

#include "model/bind.h"
#include "model/model.h"

struct dp_step;

struct dp_arch {
    const char *name; /* general.architecture */
    dp_rope_style rope_style;
    bool keeps_yarn_range;            /* YaRN's correction range is not rounded to whole pairs */
    float swiglu_alpha, swiglu_limit; /* of the clamped activation; 0: plain SwiGLU */
    /* Binds every tensor of every layer (the embedding, final norm and head are
     * the model's own); refuses dimensions the family doesn't know. Failures
     * are in the binder. */
    void (*bind)(dp_model *model, dp_binder *b);
    /* One layer: reads and updates step->x. */
    dp_status (*layer)(struct dp_step *step, uint32_t layer, dp_error *err);
};

const dp_arch *dp_arch_find(const char *name); /* NULL: not supported */
extern const dp_arch *const dp_arch_all[];     /* NULL-terminated */

extern const dp_arch dp_arch_deepseek2;
extern const dp_arch dp_arch_gpt_oss;
extern const dp_arch dp_arch_llama;
extern const dp_arch dp_arch_qwen3, dp_arch_qwen3moe;

#endif
