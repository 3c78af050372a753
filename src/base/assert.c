#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void dp_assert_failed(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, text);
    fflush(NULL); /* abort does not: what was printed so far helps to find the cause */
    abort();
}
