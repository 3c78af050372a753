/* check.h - assertions of unit tests, on top of cmocka. Included by tests only. */
#ifndef DP_TESTING_CHECK_H
#define DP_TESTING_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* CHECK(condition, format, ...): on failure prints both and ends the test. */
#define CHECK(cond, ...)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: CHECK(%s): ", __FILE__, __LINE__, #cond);                      \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            _fail(__FILE__, __LINE__);                                                             \
        }                                                                                          \
    } while (0)

/* The call gives DP_OK; otherwise prints err.text. */
#define CHECK_OK(status, err) CHECK((status) == DP_OK, "%s", (err).text)

#endif
