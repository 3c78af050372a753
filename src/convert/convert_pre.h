/* convert_pre.h - which of the engine's pre-tokenizers a tokenizer.json describes.
 *
 * Room     GGUF names a pre-tokenizer, tokenizer.json describes one: a list of
 *          expressions. Here the description is written in one way (every
 *          character that is not printable ASCII as an escape) and looked up among
 *          those of published models. One that is unknown is refused with its
 *          expression: a vocabulary cut by the wrong rule works, and is wrong.
 *
 * Threads  Any.
 *
 * Source   The pre_tokenizer of published tokenizer.json files, as
 *          text/pretokenizer_rules.c has them.
 */
#ifndef DP_CONVERT_CONVERT_PRE_H
#define DP_CONVERT_CONVERT_PRE_H

#include "convert/convert_doc.h"

/* *out: the value for tokenizer.ggml.pre, static. DP_E_UNSUPPORTED names the
 * expression or the kind of step that is unknown. */
dp_status dp_hf_pre_find(const char **out, const dp_doc *tokenizer, dp_error *err);

#endif
