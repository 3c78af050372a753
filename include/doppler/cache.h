/* cache.h - what is kept on disk of models from peers and URLs: listed, checked, given up.
 *
 * A folder as dp_swarm_config.cache_folder names it. Runs that use it may go on meanwhile:
 * what they have open is not touched, or DP_E_BUSY says so.
 *
 * Threads  Any; calls on one folder one at a time.
 */
#ifndef DOPPLER_CACHE_H
#define DOPPLER_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DP_CACHE_KEY_MAX    64
#define DP_CACHE_NAME_MAX   200
#define DP_CACHE_ORIGIN_MAX 2048

typedef struct dp_cache_entry {                /* a file of a model */
    char key[DP_CACHE_KEY_MAX + 1];            /* files of one model have one key */
    char name[DP_CACHE_NAME_MAX + 1];          /* of the file */
    char origin[DP_CACHE_ORIGIN_MAX + 1];      /* what the model was named by; "": unknown */
    uint64_t file_bytes, used_bytes;           /* in full; on disk */
    uint32_t piece_size, pieces, present, bad; /* bad: found by dp_cache_verify */
    int64_t used_unix;                         /* seconds since 1970, when it was last open */
    bool is_open;                              /* by some process */
} dp_cache_entry;

/* Every file, in the order of keys and names; a folder that is not there is empty. The caller
 * frees *out with dp_cache_free. DP_E_IO, DP_E_NOMEM. */
DP_API dp_status dp_cache_list(const char *folder, dp_cache_entry **out, size_t *count,
                               dp_error *err);
DP_API void dp_cache_free(dp_cache_entry *entries);

/* Hashes what is there; pieces that are not what they should be are dropped. Renews the entry:
 * `present` and `bad` say the outcome. DP_E_BUSY, DP_E_NOTFOUND, DP_E_IO. */
DP_API dp_status dp_cache_verify(const char *folder, dp_cache_entry *entry, dp_error *err);

/* Frees at least `bytes` of a key, or of all (NULL), what was used least first, or all there is.
 * Whatever the status, *freed says how much. */
DP_API dp_status dp_cache_evict(const char *folder, const char *key, uint64_t bytes,
                                uint64_t *freed, dp_error *err);

/* Removes a model with all its files. DP_E_BUSY while a process has it open. */
DP_API dp_status dp_cache_remove(const char *folder, const char *key, dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
