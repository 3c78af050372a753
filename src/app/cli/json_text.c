#include "app/cli/json_text.h"

#include <math.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Length of the UTF-8 character at bytes, 0: there is none; *bad_size is then how
 * many bytes to replace. Ranges of the second byte: Unicode 15, table 3-7. */
static size_t character_size(const uint8_t *bytes, size_t size, size_t *bad_size)
{
    uint8_t lead = bytes[0], low = 0x80, high = 0xBF;
    size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;

    *bad_size = 1;
    if (lead > 0xF4)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* shorter forms exist */
    if (lead == 0xED)
        high = 0x9F; /* surrogates */
    if (lead == 0xF0)
        low = 0x90; /* shorter forms exist */
    if (lead == 0xF4)
        high = 0x8F; /* above U+10FFFF */
    for (size_t i = 1; i < length; i++) {
        if (i == size || bytes[i] < low || bytes[i] > high)
            return 0;
        *bad_size = i + 1;
        low = 0x80;
        high = 0xBF;
    }
    return length;
}

json_t *dp_json_text(const char *bytes, size_t size)
{
    const uint8_t *at = (const uint8_t *)bytes;
    json_t *text = NULL;
    size_t bad_size;
    dp_buf clean;

    dp_buf_init(&clean, SIZE_MAX / 2);
    if (dp_buf_reserve(&clean, size + 1))
        goto done;
    while (size > 0) {
        size_t length = character_size(at, size, &bad_size);
        dp_status st = length ? dp_buf_append(&clean, at, length)
                              : dp_buf_append(&clean, REPLACEMENT, strlen(REPLACEMENT));

        if (st)
            goto done;
        length = length ? length : bad_size;
        at += length;
        size -= length;
    }
    text = json_stringn_nocheck(clean.bytes, clean.size);
done:
    dp_buf_deinit(&clean);
    return text;
}

json_t *dp_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static int append_piece(const char *bytes, size_t size, void *user)
{
    return dp_buf_append(user, bytes, size) ? -1 : 0;
}

dp_status dp_json_write(dp_buf *out, const json_t *value, size_t indent)
{
    size_t flags = JSON_INDENT(indent) | JSON_REAL_PRECISION(9);

    if (!value || json_dump_callback(value, append_piece, out, flags))
        return DP_E_NOMEM;
    return dp_buf_append(out, "\n", 1);
}

bool dp_json_put(json_t *object, const char *key, json_t *value)
{
    return !json_object_set_new(object, key, value);
}

bool dp_json_put_count(json_t *object, const char *key, uint64_t value)
{
    return dp_json_put(object, key, json_integer((json_int_t)value));
}

bool dp_json_put_flag(json_t *object, const char *key, bool value)
{
    return dp_json_put(object, key, json_boolean(value));
}

bool dp_json_put_text(json_t *object, const char *key, const char *value)
{
    return dp_json_put(object, key, value ? dp_json_text(value, strlen(value)) : json_null());
}

bool dp_json_put_real(json_t *object, const char *key, double value)
{
    return dp_json_put(object, key, dp_json_number(value));
}
