/* Any bytes as tokenizer.json and as config.json: what is accepted is held to the
 * promises of convert_tokenizer.h and convert_config.h. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "convert/convert_tokenizer.h"
#include "convert/convert_config.h"
#include "fuzz.h"

#define TOKENS 64 /* rows of the embedding */

static void read_tokenizer(const dp_doc *doc)
{
    const dp_doc none = { .name = "none" };
    dp_hf_docs docs = { .config = doc,
                        .tokenizer = *doc,
                        .tokenizer_config = *doc,
                        .generation_config = none,
                        .dir = "/nonexistent" };
    dp_gguf_out *out = dp_gguf_out_open(3, 32);
    dp_hf_vocab v;

    DP_CHECK(out);
    if (dp_hf_vocab_read(&v, doc, TOKENS, NULL) == DP_OK)
        for (uint32_t i = 0; i < TOKENS; i++) {
            DP_CHECK(v.tokens[i].kind >= 1 && v.tokens[i].kind <= 6);
            DP_CHECK(v.tokens[i].at + v.tokens[i].size <= v.text.size);
            DP_CHECK(v.is_spm == (v.scores != NULL) && v.is_spm == (v.pre == NULL));
        }
    dp_hf_vocab_deinit(&v);
    dp_hf_tokenizer_keys(&docs, TOKENS, out, NULL);
    dp_gguf_out_close(out);
}

static void read_config(const dp_doc *doc)
{
    static dp_hf_config c;

    if (dp_hf_config_read(&c, doc, NULL) != DP_OK)
        return;
    DP_CHECK(c.arch && c.layer_count >= 1 && c.layer_count <= DP_LAYERS_MAX);
    for (int i = 0; i < DP_DIM_COUNT; i++)
        DP_CHECK(c.dims[i] <= DP_VOCAB_MAX);
    DP_CHECK(c.rope_theta >= 2 && c.rope_factor > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_doc doc = { .name = "fuzz", .text = dp_alloc(size, 1), .size = size };
    dp_mem_stats before, after;

    DP_CHECK(doc.text);
    memcpy(doc.text, bytes, size);
    dp_mem_stats_read(&before);
    read_tokenizer(&doc);
    read_config(&doc);
    dp_mem_stats_read(&after);
    DP_CHECK(after.heap_blocks == before.heap_blocks);
    dp_doc_close(&doc);
    return 0;
}
