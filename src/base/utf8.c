#include "base/utf8.h"

/* What the first byte promises: the length (0: never first) and the range of the
 * second byte. The range alone excludes long forms, surrogates and too large
 * numbers; all later bytes are 80..BF. */
typedef struct lead {
    uint8_t size, second_min, second_max;
} lead;

static lead lead_of(uint8_t byte)
{
    if (byte < 0x80)
        return (lead){ 1, 0, 0 };
    if (byte < 0xC2)
        return (lead){ 0, 0, 0 };
    if (byte < 0xE0)
        return (lead){ 2, 0x80, 0xBF };
    if (byte < 0xF0)
        return (lead){ 3, byte == 0xE0 ? 0xA0 : 0x80, byte == 0xED ? 0x9F : 0xBF };
    if (byte < 0xF5)
        return (lead){ 4, byte == 0xF0 ? 0x90 : 0x80, byte == 0xF4 ? 0x8F : 0xBF };
    return (lead){ 0, 0, 0 };
}

/* True when bytes [size] agree with the lead as far as they go. */
static bool agrees(lead l, const char *bytes, size_t size)
{
    if (l.size == 0)
        return false;
    if (size > 1 && ((uint8_t)bytes[1] < l.second_min || (uint8_t)bytes[1] > l.second_max))
        return false;
    for (size_t i = 2; i < size; i++)
        if (((uint8_t)bytes[i] & 0xC0) != 0x80)
            return false;
    return true;
}

size_t dp_utf8_decode(const char *bytes, size_t size, uint32_t *cp)
{
    uint8_t first = (uint8_t)bytes[0];
    lead l = lead_of(first);

    if (l.size == 1) {
        *cp = first;
        return 1;
    }
    if (l.size > size || !agrees(l, bytes, l.size)) {
        *cp = DP_UTF8_REPLACEMENT;
        return 1;
    }
    *cp = first & (0x7Fu >> l.size);
    for (size_t i = 1; i < l.size; i++)
        *cp = *cp << 6 | ((uint8_t)bytes[i] & 0x3F);
    return l.size;
}

size_t dp_utf8_encode(uint32_t cp, char out[DP_UTF8_SIZE_MAX])
{
    size_t size;

    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000))
        cp = DP_UTF8_REPLACEMENT;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (cp & 0x3F));
        cp >>= 6;
    }
    out[0] = (char)(0xF00 >> size | cp); /* size ones, then a zero */
    return size;
}

bool dp_utf8_is_valid(dp_str text)
{
    for (size_t at = 0; at < text.size;) {
        lead l = lead_of((uint8_t)text.bytes[at]);

        if (l.size > text.size - at || !agrees(l, text.bytes + at, l.size))
            return false;
        at += l.size;
    }
    return true;
}

size_t dp_utf8_partial_size(const char *bytes, size_t size)
{
    for (size_t back = 1; back < DP_UTF8_SIZE_MAX && back <= size; back++) {
        const char *at = bytes + size - back;

        if (((uint8_t)*at & 0xC0) == 0x80)
            continue;
        lead l = lead_of((uint8_t)*at);
        return l.size > back && agrees(l, at, back) ? back : 0;
    }
    return 0;
}
