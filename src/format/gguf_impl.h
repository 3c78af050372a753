/* gguf_impl.h - what stands behind dp_gguf; for gguf*.c alone.
 *
 * Owns     Several blocks, so that each can go on its own:
 *            key_text, meta   keys; values, but the vocabulary's
 *            vocab            the token arrays: most of a header, freed by drop_vocab
 *            names            tensor names, one block a part, NUL behind each
 *            values, tensors, parts, maps: the tables over them
 *
 * Invariants
 *   (1) Every key, value and name points into a block of the same description.
 *   (2) value.bytes is NULL if and only if the value was dropped.
 *   (3) tensors[i].file_index < part_count.
 */
#ifndef DP_FORMAT_GGUF_IMPL_H
#define DP_FORMAT_GGUF_IMPL_H

#include "base/map.h"
#include "format/gguf.h"

typedef struct dp_gguf_part {
    char *path;
    char *names;
    uint64_t size;
    uint32_t number; /* split.no: parts may be listed in any order */
} dp_gguf_part;

typedef struct dp_gguf_block {
    uint8_t *bytes;
    dp_str *strings; /* views of the arrays of strings in bytes */
} dp_gguf_block;

struct dp_gguf {
    uint32_t version;
    dp_gguf_value *values;
    size_t value_count;
    char *key_text;
    dp_gguf_block meta;
    dp_gguf_block vocab;
    dp_map_str value_by_key;
    dp_tensor *tensors;
    size_t tensor_count;
    dp_map_str tensor_by_name;
    dp_gguf_part *parts;
    uint32_t part_count;
};

/* Little-endian loads; bytes need no alignment. */
static inline uint16_t dp_load_u16(const uint8_t *b)
{
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t dp_load_u32(const uint8_t *b)
{
    return (uint32_t)dp_load_u16(b) | (uint32_t)dp_load_u16(b + 2) << 16;
}

static inline uint64_t dp_load_u64(const uint8_t *b)
{
    return (uint64_t)dp_load_u32(b) | (uint64_t)dp_load_u32(b + 4) << 32;
}

/* Bytes of one element, 0 for strings and arrays. The type is known. */
uint32_t dp_gguf_type_size(dp_gguf_type type);

/* Checks the header and fills version, values and tensors of an all-zero g with
 * views into `bytes`. After an error g is only good for closing. Otherwise as
 * dp_gguf_parse; need is not NULL. */
dp_status dp_gguf_scan(dp_gguf *g, const char *name, const uint8_t *bytes, size_t size,
                       uint64_t file_size, size_t *need, dp_error *err);

/* Split models are named PREFIX-00002-of-00005.gguf, numbers from 1. */
#define DP_GGUF_PART_SUFFIX      "-%05u-of-%05u.gguf"
#define DP_GGUF_PART_SUFFIX_SIZE 20

/* One part, whatever it says of others. */
dp_status dp_gguf_read_part(dp_gguf **out, const dp_gguf_input *input, uint32_t part,
                            dp_error *err);
/* A number of a split model: `fallback` when the key is missing. */
dp_status dp_gguf_split_number(const dp_gguf *g, const char *key, uint64_t fallback, uint64_t *out,
                               dp_error *err);

/* How error sentences show a name: names hold no control bytes, but may be long. */
#define DP_NAME_FMT      "'%.*s'"
#define DP_NAME_ARG(str) (int)DP_MIN((str).size, (size_t)80), (str).bytes

#endif
