/* vocab.h - a tokenizer built from a GGUF file's tables (engine's side of doppler/vocab.h). */
#ifndef DP_ENGINE_VOCAB_H
#define DP_ENGINE_VOCAB_H

#include "doppler/vocab.h"
#include "format/gguf.h"
#include "text/chat.h"

struct dp_vocab {
    dp_tokenizer *tokenizer;
    char *chat_template; /* NULL: the file has none */
};

/* DP_E_NOTFOUND when the file has no vocabulary (tokenizer.ggml.model). Owned:
 * dp_vocab_close. */
dp_status dp_vocab_from_gguf(dp_vocab **out, const dp_gguf *gguf, dp_error *err);

#endif
