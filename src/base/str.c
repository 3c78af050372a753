#include "base/str.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL_TEXT_MAX 400 /* the longest double written in full, without exponent, has 330 */

dp_str dp_str_from(const char *text)
{
    return (dp_str){ text, text ? strlen(text) : 0 };
}

bool dp_str_equal(dp_str a, dp_str b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.bytes, b.bytes, a.size) == 0);
}

bool dp_str_is(dp_str a, const char *text)
{
    return dp_str_equal(a, dp_str_from(text));
}

bool dp_str_starts_with(dp_str a, const char *prefix)
{
    size_t size = strlen(prefix);

    return a.size >= size && (size == 0 || memcmp(a.bytes, prefix, size) == 0);
}

bool dp_str_ends_with(dp_str a, const char *suffix)
{
    size_t size = strlen(suffix);

    return a.size >= size && (size == 0 || memcmp(a.bytes + a.size - size, suffix, size) == 0);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digits_from(dp_str text, size_t at)
{
    size_t count = 0;

    while (at + count < text.size && is_digit(text.bytes[at + count]))
        count++;
    return count;
}

bool dp_parse_u64(dp_str text, uint64_t *out)
{
    uint64_t value = 0;

    if (text.size == 0 || digits_from(text, 0) != text.size)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!dp_u64_mul(value, 10, &value) ||
            !dp_u64_add(value, (uint64_t)(text.bytes[i] - '0'), &value))
            return false;
    *out = value;
    return true;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit somewhere before the e. */
static bool is_real(dp_str text)
{
    size_t at = 0;
    size_t digit_count;

    if (at < text.size && (text.bytes[at] == '-' || text.bytes[at] == '+'))
        at++;
    digit_count = digits_from(text, at);
    at += digit_count;
    if (at < text.size && text.bytes[at] == '.') {
        at++;
        digit_count += digits_from(text, at);
        at += digits_from(text, at);
    }
    if (digit_count == 0)
        return false;
    if (at < text.size && (text.bytes[at] == 'e' || text.bytes[at] == 'E')) {
        at++;
        if (at < text.size && (text.bytes[at] == '-' || text.bytes[at] == '+'))
            at++;
        digit_count = digits_from(text, at);
        if (digit_count == 0)
            return false;
        at += digit_count;
    }
    return at == text.size;
}

bool dp_parse_f64(dp_str text, double *out)
{
    char copy[REAL_TEXT_MAX + 1];
    locale_t c_locale;
    double value;

    if (text.size > REAL_TEXT_MAX || !is_real(text))
        return false;
    memcpy(copy, text.bytes, text.size);
    copy[text.size] = 0;

    /* The C locale costs nothing to make: it is a constant of the C library. */
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c_locale)
        return false;
    value = strtod_l(copy, NULL, c_locale);
    freelocale(c_locale);
    if (!isfinite(value))
        return false;
    *out = value;
    return true;
}

/* Letters of a unit, compared without case. */
static bool unit_is(dp_str text, const char *unit)
{
    if (text.size != strlen(unit))
        return false;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.bytes[i];
        char lower = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
        if (lower != unit[i])
            return false;
    }
    return true;
}

static bool parse_unit(dp_str text, uint64_t *out)
{
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {
        { "", 1 },
        { "b", 1 },
        { "k", DP_KIB },
        { "kib", DP_KIB },
        { "kb", 1000 },
        { "m", DP_MIB },
        { "mib", DP_MIB },
        { "mb", 1000000 },
        { "g", DP_GIB },
        { "gib", DP_GIB },
        { "gb", 1000000000 },
        { "t", DP_GIB * 1024 },
        { "tib", DP_GIB * 1024 },
        { "tb", 1000000000000 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(units); i++)
        if (unit_is(text, units[i].name)) {
            *out = units[i].bytes;
            return true;
        }
    return false;
}

/* 0.digits * unit, rounded down. Digits past the 18th are worth less than a byte
 * in every unit there is. */
static uint64_t fraction_of(dp_str digits, uint64_t unit)
{
    unsigned __int128 numerator = 0;
    uint64_t denominator = 1;

    for (size_t i = 0; i < digits.size && i < 18; i++) {
        numerator = numerator * 10 + (unsigned)(digits.bytes[i] - '0');
        denominator *= 10;
    }
    return (uint64_t)(numerator * unit / denominator);
}

bool dp_parse_size(dp_str text, uint64_t *out_bytes)
{
    dp_str whole = { text.bytes, digits_from(text, 0) };
    dp_str fraction = { NULL, 0 };
    size_t at = whole.size;
    uint64_t bytes;
    uint64_t unit;

    if (!dp_parse_u64(whole, &bytes))
        return false;
    if (at < text.size && text.bytes[at] == '.') {
        at++;
        fraction = (dp_str){ text.bytes + at, digits_from(text, at) };
        at += fraction.size;
        if (fraction.size == 0)
            return false;
    }
    if (!parse_unit((dp_str){ text.bytes + at, text.size - at }, &unit))
        return false;
    if (unit == 1 && fraction.size > 0)
        return false; /* there is no half byte: more likely a unit was forgotten */
    if (!dp_u64_mul(bytes, unit, &bytes) || !dp_u64_add(bytes, fraction_of(fraction, unit), &bytes))
        return false;
    *out_bytes = bytes;
    return true;
}

const char *dp_format_size(char out[16], uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

    if (bytes < 1024) {
        snprintf(out, 16, "%u B", (unsigned)bytes);
        return out;
    }
    /* Integers, because printf writes reals as the locale likes them. */
    for (size_t i = 0;; i++) {
        unsigned shift = 10 * (unsigned)(i + 1);
        unsigned __int128 half = (unsigned __int128)1 << (shift - 1);
        uint64_t hundredths = (uint64_t)(((unsigned __int128)bytes * 100 + half) >> shift);
        uint64_t tenths = (uint64_t)(((unsigned __int128)bytes * 10 + half) >> shift);
        uint64_t ones = (uint64_t)(((unsigned __int128)bytes + half) >> shift);

        if (ones >= 1024 && i + 1 < DP_ARRAY_LEN(units))
            continue;
        if (hundredths < 1000)
            snprintf(out, 16, "%u.%02u %s", (unsigned)(hundredths / 100),
                     (unsigned)(hundredths % 100), units[i]);
        else if (tenths < 1000)
            snprintf(out, 16, "%u.%u %s", (unsigned)(tenths / 10), (unsigned)(tenths % 10),
                     units[i]);
        else
            snprintf(out, 16, "%u %s", (unsigned)ones, units[i]);
        return out;
    }
}
