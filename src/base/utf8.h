/* utf8.h - reading and writing UTF-8, and cutting it between characters.
 *
 * Valid means RFC 3629: shortest form, no surrogates, nothing past U+10FFFF.
 *
 * Threads  Any.
 */
#ifndef DP_BASE_UTF8_H
#define DP_BASE_UTF8_H

#include "base/str.h"

#define DP_UTF8_REPLACEMENT 0xFFFDu /* what an invalid byte reads as */
#define DP_UTF8_SIZE_MAX    4

/* Reads one character of bytes [size > 0]. Returns its length; an invalid or cut
 * sequence is one byte long and reads as DP_UTF8_REPLACEMENT. */
size_t dp_utf8_decode(const char *bytes, size_t size, uint32_t *cp);

/* Writes a code point, returns how many bytes; what is no code point, and a
 * surrogate, is written as DP_UTF8_REPLACEMENT. */
size_t dp_utf8_encode(uint32_t cp, char out[DP_UTF8_SIZE_MAX]);

bool dp_utf8_is_valid(dp_str text);

/* How many bytes at the end of bytes [size], 0 to 3, begin a character that
 * further bytes may complete. 0 when they never can. */
size_t dp_utf8_partial_size(const char *bytes, size_t size);

#endif
