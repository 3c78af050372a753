#include "swarm/socket_testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "base/clock.h"
#include "testing/check.h"

int test_connect(uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct timeval most = { TEST_WAIT_MS / 1000, 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "port %u", port);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    return fd;
}

void test_send(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return;
        bytes += sent;
        size -= (size_t)sent;
    }
}

const char *test_body(const char *response)
{
    const char *end = strstr(response, "\r\n\r\n");

    return end ? end + 4 : NULL;
}

/* How long the whole response is, SIZE_MAX while that is not known. */
static size_t response_size(const char *bytes, bool is_head)
{
    const char *body = test_body(bytes), *line;
    size_t size;

    if (!body)
        return SIZE_MAX;
    size = (size_t)(body - bytes);
    for (line = bytes; line < body && !is_head; line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, "Content-Length:", 15) == 0)
            size += strtoull(line + 15, NULL, 10);
    }
    return size;
}

size_t test_receive(int fd, char *out, size_t max, bool is_head)
{
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + (uint64_t)TEST_WAIT_MS * 1000000;
    size_t size = 0;

    out[0] = '\0';
    while (size < max - 1 && size < response_size(out, is_head)) {
        struct pollfd event = { fd, POLLIN, 0 };
        ssize_t got;

        CHECK(dp_clock_now_ns(&dp_clock_real) < end_ns, "no whole response: %zu bytes", size);
        if (poll(&event, 1, 100) <= 0)
            continue;
        got = recv(fd, out + size, max - 1 - size, 0);
        if (got <= 0)
            break;
        size += (size_t)got;
        out[size] = '\0';
    }
    return size;
}

bool test_is_closed(int fd, int ms)
{
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + (uint64_t)ms * 1000000;
    char dropped[4096];

    while (dp_clock_now_ns(&dp_clock_real) < end_ns) {
        struct pollfd event = { fd, POLLIN, 0 };

        if (poll(&event, 1, 20) > 0 && recv(fd, dropped, sizeof dropped, 0) <= 0)
            return true;
    }
    return false;
}

int test_ask(uint16_t port, const char *request, char *out, size_t max)
{
    static char response[65536];
    int fd = test_connect(port), status = 0;

    if (!out) {
        out = response;
        max = sizeof response;
    }
    test_send(fd, request, strlen(request));
    if (test_receive(fd, out, max, strncmp(request, "HEAD", 4) == 0))
        sscanf(out, "HTTP/1.%*d %d", &status);
    close(fd);
    return status;
}
