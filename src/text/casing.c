#include "text/casing.h"

#include "text/unicode.h"

static uint32_t map_in(const dp_casing_range *ranges, size_t count, uint32_t cp)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (ranges[middle].last < cp)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || cp < ranges[low].first || (cp - ranges[low].first) % ranges[low].step != 0)
        return cp;
    return (uint32_t)((int32_t)cp + ranges[low].distance);
}

static const dp_casing_special *find_special(uint32_t cp, dp_casing casing)
{
    size_t low = 0, high = dp_casing_special_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (dp_casing_specials[middle].from < cp)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < dp_casing_special_count && dp_casing_specials[low].from == cp; low++)
        if (dp_casing_specials[low].casing == casing)
            return &dp_casing_specials[low];
    return NULL;
}

size_t dp_casing_map(uint32_t cp, dp_casing casing, uint32_t out[DP_CASING_MAX])
{
    const dp_casing_special *special = cp < 0x80 ? NULL : find_special(cp, casing);
    size_t count = 0;

    if (special) {
        while (count < DP_CASING_MAX && special->to[count]) {
            out[count] = special->to[count];
            count++;
        }
        return count;
    }
    out[0] = casing == DP_CASING_LOWER ? map_in(dp_casing_lower, dp_casing_lower_count, cp)
                                       : map_in(dp_casing_upper, dp_casing_upper_count, cp);
    return 1;
}

bool dp_casing_is_cased(uint32_t cp)
{
    return dp_unicode_bit(cp) & (DP_IS_LU | DP_IS_LL | DP_IS_LT);
}
