/* socket_testing.h - a client of raw bytes, on 127.0.0.1, with a deadline for everything. */
#ifndef DP_SWARM_SOCKET_TESTING_H
#define DP_SWARM_SOCKET_TESTING_H

#include "base/base.h"

#define TEST_WAIT_MS 10000 /* a test that waits longer has failed */

int test_connect(uint16_t port); /* receiving and sending wait TEST_WAIT_MS at most */
void test_send(int fd, const char *bytes, size_t size); /* errors show up when reading */
/* Bytes until the end of the connection or of the response (by Content-Length, 0 without), at
 * most max; fails the test at the deadline. Header and body. */
size_t test_receive(int fd, char *out, size_t max, bool is_head);
/* Whether the other end closed within ms; what came meanwhile is dropped. */
bool test_is_closed(int fd, int ms);
/* Sends `request` on a connection of its own; the status, and the response in out (may be
 * NULL). 0: closed without one. */
int test_ask(uint16_t port, const char *request, char *out, size_t max);
/* After the header. NULL: it has no end. */
const char *test_body(const char *response);

#endif
