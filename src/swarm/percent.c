#include "swarm/percent.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool dp_percent_next(const char **at, char *out)
{
    int high, low;

    if (**at != '%') {
        *out = *(*at)++;
        return true;
    }
    high = hex_digit((*at)[1]);
    low = high < 0 ? -1 : hex_digit((*at)[2]);
    if (low < 0)
        return false;
    *out = (char)(high * 16 + low);
    *at += 3;
    return true;
}

dp_status dp_percent_append(dp_buf *out, const char *path)
{
    static const char hex[] = "0123456789ABCDEF";
    dp_status st = DP_OK;

    for (; *path && !st; path++) {
        unsigned char c = (unsigned char)*path;
        char encoded[3] = { '%', hex[c >> 4], hex[c & 15] };
        bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                        (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~' ||
                        c == '/';

        st = is_plain ? dp_buf_append(out, &c, 1) : dp_buf_append(out, encoded, 3);
    }
    return st;
}
