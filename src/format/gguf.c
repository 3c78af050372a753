/* Parsing takes two passes. The scan (gguf_scan.c) checks the caller's bytes and
 * leaves views into them; nothing is copied, so being told to come back with
 * more bytes costs little. Keeping then copies what was found into blocks of
 * our own, and needs no checks, because the same bytes passed the scan. */
#include "format/gguf_impl.h"

#include <string.h>
#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

static bool is_vocab(const dp_gguf_value *value)
{
    static const char *const keys[] = { "tokenizer.ggml.tokens", "tokenizer.ggml.merges",
                                        "tokenizer.ggml.scores", "tokenizer.ggml.token_type" };

    for (size_t i = 0; i < DP_ARRAY_LEN(keys); i++)
        if (value->is_array && dp_str_is(value->key, keys[i]))
            return true;
    return false;
}

/* Bytes of the value as it lies in the file; with `strings`, also fills views. */
static size_t walk_value(const dp_gguf_value *value, dp_str *strings)
{
    size_t at = 0;

    if (value->type != DP_GGUF_STRING)
        return (size_t)value->count * dp_gguf_type_size(value->type);
    for (uint64_t i = 0; i < value->count; i++) {
        size_t size = (size_t)dp_load_u64(value->bytes + at);

        if (strings)
            strings[i] = (dp_str){ (const char *)value->bytes + at + 8, size };
        at += 8 + size;
    }
    return at;
}

/* Copies the values of one block (the vocabulary's or all others) and lets them
 * point into the copy. */
static dp_status keep_values(dp_gguf *g, dp_gguf_block *block, bool want_vocab)
{
    size_t size = 0, string_count = 0, at = 0, string_at = 0;

    for (size_t i = 0; i < g->value_count; i++) {
        const dp_gguf_value *value = &g->values[i];

        if (is_vocab(value) != want_vocab)
            continue;
        size += walk_value(value, NULL);
        if (value->is_array && value->type == DP_GGUF_STRING)
            string_count += (size_t)value->count;
    }
    block->bytes = dp_alloc(size, 1);
    block->strings = dp_alloc(string_count, sizeof *block->strings);
    if (!block->bytes || !block->strings)
        return DP_E_NOMEM;
    for (size_t i = 0; i < g->value_count; i++) {
        dp_gguf_value *value = &g->values[i];
        size_t value_size;

        if (is_vocab(value) != want_vocab)
            continue;
        value_size = walk_value(value, NULL);
        memcpy(block->bytes + at, value->bytes, value_size);
        value->bytes = block->bytes + at;
        at += value_size;
        if (value->is_array && value->type == DP_GGUF_STRING) {
            value->strings = block->strings + string_at;
            walk_value(value, block->strings + string_at);
            string_at += (size_t)value->count;
        }
    }
    DP_ASSERT(at == size && string_at == string_count);
    return DP_OK;
}

static dp_status keep_keys(dp_gguf *g, const char *name, dp_error *err)
{
    size_t size = 0, at = 0;

    for (size_t i = 0; i < g->value_count; i++)
        size += g->values[i].key.size + 1;
    g->key_text = dp_alloc(size, 1);
    if (!g->key_text)
        return dp_fail(err, DP_E_NOMEM, "%s: %zu keys", name, g->value_count);
    for (size_t i = 0; i < g->value_count; i++) {
        dp_str *key = &g->values[i].key;
        uint32_t previous;
        dp_status st;

        memcpy(g->key_text + at, key->bytes, key->size);
        g->key_text[at + key->size] = '\0';
        key->bytes = g->key_text + at;
        at += key->size + 1;
        st = dp_map_str_add(&g->value_by_key, *key, (uint32_t)i, &previous);
        if (st)
            return dp_fail(err, st, "%s: %zu keys", name, g->value_count);
        if (previous != DP_MAP_NONE)
            return dp_fail(err, DP_E_CORRUPT, "%s: key " DP_NAME_FMT " appears twice", name,
                           DP_NAME_ARG(*key));
    }
    return DP_OK;
}

static dp_status keep_names(dp_gguf *g, const char *name, dp_error *err)
{
    char *names;
    size_t size = 0;

    for (size_t i = 0; i < g->tensor_count; i++)
        size += g->tensors[i].name.size + 1;
    names = dp_alloc(size, 1);
    if (!names)
        return dp_fail(err, DP_E_NOMEM, "%s: %zu tensors", name, g->tensor_count);
    g->parts[0].names = names;
    for (size_t i = 0; i < g->tensor_count; i++) {
        dp_str *text = &g->tensors[i].name;
        uint32_t previous;
        dp_status st;

        memcpy(names, text->bytes, text->size);
        names[text->size] = '\0';
        text->bytes = names;
        names += text->size + 1;
        st = dp_map_str_add(&g->tensor_by_name, *text, (uint32_t)i, &previous);
        if (st)
            return dp_fail(err, st, "%s: %zu tensors", name, g->tensor_count);
        if (previous != DP_MAP_NONE)
            return dp_fail(err, DP_E_CORRUPT, "%s: tensor " DP_NAME_FMT " appears twice", name,
                           DP_NAME_ARG(*text));
    }
    return DP_OK;
}

static dp_status keep(dp_gguf *g, const char *name, uint64_t file_size, dp_error *err)
{
    dp_status st;

    g->parts = dp_alloc_zero(1, sizeof *g->parts);
    if (!g->parts)
        return dp_fail(err, DP_E_NOMEM, "%s: its description", name);
    g->part_count = 1;
    g->parts[0].size = file_size;
    g->parts[0].path = dp_strndup(name, strlen(name));
    if (!g->parts[0].path || dp_map_str_init(&g->value_by_key, (uint32_t)g->value_count) ||
        dp_map_str_init(&g->tensor_by_name, (uint32_t)g->tensor_count) ||
        keep_values(g, &g->meta, false) || keep_values(g, &g->vocab, true))
        return dp_fail(err, DP_E_NOMEM, "%s: %zu keys and %zu tensors", name, g->value_count,
                       g->tensor_count);
    st = keep_keys(g, name, err);
    if (st)
        return st;
    return keep_names(g, name, err);
}

dp_status dp_gguf_parse(dp_gguf **out, const char *name, const uint8_t *bytes, size_t size,
                        uint64_t file_size, size_t *need, dp_error *err)
{
    dp_status st;
    dp_gguf *g = NULL;
    size_t need_unused;

    DP_ASSERT(size <= file_size);
    *out = NULL;
    g = dp_alloc_zero(1, sizeof *g);
    if (!g) {
        st = dp_fail(err, DP_E_NOMEM, "%s: its description", name);
        goto done;
    }
    st = dp_gguf_scan(g, name, bytes, size, file_size, need ? need : &need_unused, err);
    if (st)
        goto done;
    st = keep(g, name, file_size, err);
    if (st)
        goto done;

    *out = g; /* the caller owns it now */
    g = NULL;
done:
    dp_gguf_close(g);
    return st;
}

static void block_free(dp_gguf_block *block)
{
    dp_free(block->bytes);
    dp_free(block->strings);
    *block = (dp_gguf_block){ 0 };
}

void dp_gguf_close(dp_gguf *gguf)
{
    if (!gguf)
        return;
    for (uint32_t i = 0; i < gguf->part_count; i++) {
        dp_free(gguf->parts[i].path);
        dp_free(gguf->parts[i].names);
    }
    dp_free(gguf->parts);
    dp_map_str_deinit(&gguf->tensor_by_name);
    dp_map_str_deinit(&gguf->value_by_key);
    dp_free(gguf->tensors);
    dp_free(gguf->key_text);
    block_free(&gguf->vocab);
    block_free(&gguf->meta);
    dp_free(gguf->values);
    dp_free(gguf);
}

void dp_gguf_drop_vocab(dp_gguf *gguf)
{
    for (size_t i = 0; i < gguf->value_count; i++) {
        dp_gguf_value *value = &gguf->values[i];

        if (!is_vocab(value))
            continue;
        value->count = 0;
        value->bytes = NULL; /* (2) */
        value->strings = NULL;
    }
    block_free(&gguf->vocab);
}
