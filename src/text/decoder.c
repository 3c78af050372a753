/* decoder.c - tokens -> text, character by character (tokenizer.h). */
#include <string.h>

#include "text/tokenizer_impl.h"
#include "base/utf8.h"

void dp_decoder_init(dp_decoder *d, const dp_tokenizer *t, bool shows_special)
{
    *d = (dp_decoder){ .tokenizer = t, .shows_special = shows_special, .is_first = true };
}

dp_status dp_decoder_push(dp_decoder *d, dp_token token, dp_buf *out)
{
    dp_str text = dp_tokenizer_text(d->tokenizer, token);
    bool is_shown = d->shows_special || !dp_tokenizer_is_control(d->tokenizer, token);
    bool is_text = !dp_tokenizer_is_control(d->tokenizer, token);
    uint32_t held = d->held_count;
    size_t size, partial;
    dp_status st;

    if (!is_shown || text.size == 0)
        return DP_OK;
    if (is_text && d->is_first && d->tokenizer->adds_space_prefix && text.bytes[0] == ' ')
        text = (dp_str){ text.bytes + 1, text.size - 1 };
    st = dp_buf_reserve(out, held + text.size);
    if (st)
        return st;
    if (is_text)
        d->is_first = false;

    /* All goes out, then an unfinished character at the end is taken back. */
    size = out->size;
    st = dp_buf_append(out, d->held, held);
    if (!st)
        st = dp_buf_append(out, text.bytes, text.size);
    if (st)
        return st;
    partial = dp_utf8_partial_size(out->bytes + size, out->size - size);
    out->size -= partial;
    memcpy(d->held, out->bytes + out->size, partial);
    d->held_count = (uint32_t)partial;
    out->bytes[out->size] = '\0';
    return DP_OK;
}

dp_status dp_decoder_finish(dp_decoder *d, dp_buf *out)
{
    dp_status st = dp_buf_append(out, d->held, d->held_count);

    if (!st)
        d->held_count = 0;
    return st;
}
