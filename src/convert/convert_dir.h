/* convert_dir.h - the tensors of a Hugging Face directory, wherever its files put them.
 *
 * Room     One model.safetensors, or the files that model.safetensors.index.json
 *          names. All headers are read at the start; no weight is. Whatever is in
 *          these files counts, and a name in two of them is refused. The index may
 *          not name a tensor that its file lacks.
 *
 * Owns     Descriptions, and a few open files at a time.
 *
 * Threads  One at a time.
 */
#ifndef DP_CONVERT_CONVERT_DIR_H
#define DP_CONVERT_CONVERT_DIR_H

#include "format/safetensors.h"

#define DP_HF_SHARDS_MAX 4096 /* DeepSeek-V3: 163 */

typedef struct dp_hf_tensor {
    const dp_safetensor *info;
    uint32_t shard;
    bool is_used; /* by a tensor of the output; the caller's to set */
} dp_hf_tensor;

typedef struct dp_hf_dir dp_hf_dir;

/* DP_E_NOTFOUND: no safetensors there, or a file that the index names is missing;
 * DP_E_CORRUPT and the rest: of the header at fault. */
dp_status dp_hf_dir_open(dp_hf_dir **out, const char *path, dp_error *err);
void dp_hf_dir_close(dp_hf_dir *dir); /* NULL is fine */

size_t dp_hf_dir_count(const dp_hf_dir *dir);
dp_hf_tensor *dp_hf_dir_at(dp_hf_dir *dir, size_t i);
dp_hf_tensor *dp_hf_dir_find(dp_hf_dir *dir, const char *name); /* NULL: none */
const char *dp_hf_dir_shard_path(const dp_hf_dir *dir, uint32_t shard);

/* size bytes from byte `offset` of the tensor. DP_E_IO, DP_E_CORRUPT. */
dp_status dp_hf_dir_read(dp_hf_dir *dir, const dp_hf_tensor *tensor, uint64_t offset, void *out,
                         size_t size, dp_error *err);

#endif
