/* assert.h - statements about our own code, never about bytes from outside.
 *
 * DP_ASSERT  debug and test builds (NDEBUG not defined)
 * DP_CHECK   all builds: going on would damage memory
 */
#ifndef DP_BASE_ASSERT_H
#define DP_BASE_ASSERT_H

/* Prints where and what to standard error and aborts. */
_Noreturn void dp_assert_failed(const char *file, int line, const char *text);

#define DP_CHECK(c) ((c) ? (void)0 : dp_assert_failed(__FILE__, __LINE__, #c))
#ifdef NDEBUG
#define DP_ASSERT(c) ((void)sizeof(c))
#else
#define DP_ASSERT(c) DP_CHECK(c)
#endif

#endif
