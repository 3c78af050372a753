/* fuzz.h - what a fuzz target is: one function over any bytes, which returns 0 or
 * aborts. libFuzzer calls it with -Dfuzz=true; replay_main.c calls it with every
 * file of its corpus in ordinary builds. */
#ifndef DP_TESTS_FUZZ_H
#define DP_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
