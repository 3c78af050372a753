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
