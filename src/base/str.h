/* str.h - views of text, and numbers written by people. */
#ifndef DP_BASE_STR_H
#define DP_BASE_STR_H

#include "base/base.h"

typedef struct dp_str { /* borrowed, not NUL-terminated */
    const char *bytes;
    size_t size;
} dp_str;

dp_str dp_str_from(const char *text); /* NUL-terminated; NULL gives an empty view */
bool dp_str_equal(dp_str a, dp_str b);
bool dp_str_is(dp_str a, const char *text);
bool dp_str_starts_with(dp_str a, const char *prefix);
bool dp_str_ends_with(dp_str a, const char *suffix);

/* Decimal number, whole text or false. No sign, no space, no overflow. */
bool dp_parse_u64(dp_str text, uint64_t *out);
/* Decimal real with optional sign, fraction, exponent; finite; locale-free. */
bool dp_parse_f64(dp_str text, double *out);
/* "4096", "12GiB", "1.5G", "300MB", "64k": K, M, G, T and KiB ... are powers of
 * 1024, KB, MB, GB, TB powers of 1000 (as disks are sold); case is ignored. */
bool dp_parse_size(dp_str text, uint64_t *out_bytes);

/* "11.0 MiB": three significant digits, binary unit; writes to out[16]. */
const char *dp_format_size(char out[16], uint64_t bytes);

#endif
