/* range_bench.c - what giving ranges costs: 13 MB ranges (an expert) over loopback.
 *
 * usage: bench_range [FOLDER [CLIENTS [RANGES]]]
 *
 * A file of 512 MiB, warm in the page cache, in pieces of 1 MiB; clients are processes of
 * their own that throw bytes away, so that this process's time is the server's. Hashing alone is
 * timed before, in one thread, for its share. Prints one JSON line. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/mem.h"
#include "swarm/range_server.h"

#define FILE_BYTES  ((uint64_t)512 << 20)
#define RANGE_BYTES ((uint64_t)13000000)

static const dp_pieces pieces = { FILE_BYTES, 1 << 20 };

static double now_s(void)
{
    return (double)dp_clock_now_ns(&dp_clock_real) * 1e-9;
}

static double cpu_s(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_range: %s: %s\n", what, why);
    exit(1);
}

/* Writes the file and hashes it; processor seconds of hashing. */
static double make_file(const char *path, dp_hash *hashes)
{
    FILE *file = fopen(path, "wb");
    uint8_t *piece = dp_alloc(pieces.piece_size, 1);
    double hash_s = 0;
    uint64_t x = 1;

    if (!file || !piece)
        fail(path, "can't be written");
    for (uint32_t i = 0; i < dp_pieces_count(pieces); i++) {
        double start_s;

        for (uint32_t k = 0; k < pieces.piece_size; k += 8) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            memcpy(piece + k, &x, 8);
        }
        if (fwrite(piece, pieces.piece_size, 1, file) != 1)
            fail(path, "can't be written");
        start_s = cpu_s();
        if (dp_piece_hash(&hashes[i], pieces, i, piece, NULL))
            fail(path, "can't be hashed");
        hash_s += cpu_s() - start_s;
    }
    fclose(file);
    dp_free(piece);
    return hash_s;
}

/* One client: ranges one after another on one connection. */
static int run_client(uint16_t port, uint32_t ranges, uint32_t seed)
{
    static char bytes[1 << 20];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char request[256];

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to))
        return 1;
    for (uint32_t i = 0; i < ranges; i++) {
        uint64_t first = (seed + i) * 79 % (512 - 13) * pieces.piece_size;
        uint64_t left = UINT64_MAX; /* until the header is there */
        size_t size = 0;

        snprintf(request, sizeof request,
                 "GET /00/file HTTP/1.1\r\nHost: x\r\nRange: bytes=%llu-%llu\r\n\r\n",
                 (unsigned long long)first, (unsigned long long)(first + RANGE_BYTES - 1));
        if (write(fd, request, strlen(request)) != (ssize_t)strlen(request))
            return 1;
        while (left > 0) {
            ssize_t got = recv(fd, bytes + size, sizeof bytes - 1 - size, 0);
            char *body;

            if (got <= 0)
                return 1;
            if (left != UINT64_MAX) {
                left -= (uint64_t)got;
                continue;
            }
            size += (size_t)got;
            bytes[size] = '\0';
            body = strstr(bytes, "\r\n\r\n");
            if (!body)
                continue;
            if (strncmp(bytes, "HTTP/1.1 206", 12) != 0)
                return 1;
            left = RANGE_BYTES - (size - (size_t)(body + 4 - bytes));
            size = 0;
        }
    }
    close(fd);
    return 0;
}

static void run_clients(uint16_t port, uint32_t clients, uint32_t ranges)
{
    int status;

    for (uint32_t i = 0; i < clients; i++) {
        if (fork() == 0)
            _exit(run_client(port, ranges, i * 31));
    }
    for (uint32_t i = 0; i < clients; i++) {
        if (wait(&status) < 0 || status != 0)
            fail("client", "a range did not come");
    }
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    uint32_t clients = argc > 2 ? (uint32_t)atoi(argv[2]) : 1;
    uint32_t ranges = argc > 3 ? (uint32_t)atoi(argv[3]) : 200;
    dp_hash *hashes = dp_alloc(dp_pieces_count(pieces), sizeof *hashes);
    dp_layout_file part = { "file", pieces, 0, hashes };
    dp_layout layout = { &part, 1, pieces.piece_size, dp_pieces_count(pieces) };
    dp_range_server_config config = { .listen = "127.0.0.1:0",
                                      .requests_s_per_address = 100000,
                                      .clock = &dp_clock_real };
    dp_store_config store_config = { .clock = &dp_clock_real };
    double hash_s, start_s, start_cpu_s, gb = (double)clients * ranges * RANGE_BYTES * 1e-9;
    dp_range_server *server;
    dp_store_file *file;
    dp_store *store;
    char path[512];
    dp_error err;

    snprintf(path, sizeof path, "%s/bench_range.%d", folder, (int)getpid());
    hash_s = make_file(path, hashes) / (double)FILE_BYTES * 1e9;
    if (dp_store_open(&store, &store_config, &err) ||
        dp_store_file_open(&file, store,
                           &(dp_store_file_config){ .key = "00",
                                                    .name = "file",
                                                    .pieces = pieces,
                                                    .hashes = hashes,
                                                    .whole_path = path },
                           &err) ||
        dp_range_server_open(&server, &config, &err) ||
        dp_range_server_add(server, "00", &layout, &file, &err))
        fail(path, err.text);
    run_clients(dp_range_server_port(server), 1, 40); /* warm */

    start_s = now_s();
    start_cpu_s = cpu_s();
    run_clients(dp_range_server_port(server), clients, ranges);
    printf("{\"bench\": \"range\", \"clients\": %u, \"gb\": %.2f, \"gb_s\": %.3f, "
           "\"cpu_s_per_gb\": %.3f, \"hash_s_per_gb\": %.3f}\n",
           clients, gb, gb / (now_s() - start_s), (cpu_s() - start_cpu_s) / gb, hash_s);
    dp_range_server_close(server);
    dp_store_file_close(file);
    dp_store_close(store);
    dp_free(hashes);
    unlink(path);
    return 0;
}
