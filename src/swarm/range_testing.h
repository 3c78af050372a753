/* range_testing.h - a range server in front of a store with two files, on 127.0.0.1, by a
 * clock that the test turns. Included by tests only. */
#ifndef DP_SWARM_RANGE_TESTING_H
#define DP_SWARM_RANGE_TESTING_H

#include <stdatomic.h>
#include "store/store_testing.h"
#include "swarm/range_server.h"
#include "swarm/socket_testing.h"

#define S         ((uint64_t)1000000000)
#define KEY       "0123abcd"
#define SMALL     (20 * (uint64_t)PIECE + 1000) /* "name/a.gguf": content 1, 21 pieces */
#define SMALL_B   5                             /* "name/sub b": content 2 */
#define BIG_PIECE ((uint32_t)256 << 10)
#define BIG       (40 * (uint64_t)BIG_PIECE) /* "big": content 3, more than sockets hold */

/* No two readings are the same, as with a real one. */
typedef struct test_clock {
    dp_clock clock;
    _Atomic uint64_t ns;
} test_clock;

static inline uint64_t test_clock_now(const dp_clock *clock)
{
    return atomic_fetch_add(&((test_clock *)(uintptr_t)clock)->ns, 1);
}

typedef struct world {
    test_clock clock;
    dp_store *store;
    dp_store_file *files[2];
    dp_layout_file parts[2];
    dp_layout layout;
    dp_range_server *server;
    uint16_t port;
} world;

static inline void advance(world *w, uint64_t seconds)
{
    atomic_fetch_add(&w->clock.ns, seconds * S);
}

static inline dp_store_file *open_whole(dp_store *store, const char *name, uint32_t which,
                                        dp_pieces pieces)
{
    dp_store_file_config config = { .key = KEY, .name = name, .pieces = pieces };
    dp_store_file *file;
    dp_error err;

    CHECK_OK(dp_store_file_open(&file, store, &config, &err), err);
    for (uint32_t i = 0; i < dp_pieces_count(pieces); i++)
        CHECK(put_piece(file, which, i), "%s: piece %u", name, i);
    return file;
}

static inline void open_files(world *w, bool is_big)
{
    uint32_t piece_size = is_big ? BIG_PIECE : PIECE;
    dp_pieces first = { is_big ? BIG : SMALL, piece_size }, second = { SMALL_B, piece_size };
    uint32_t count = dp_pieces_count(first);

    w->parts[0] = (dp_layout_file){ is_big ? "big" : "name/a.gguf", first, 0,
                                    make_hashes(is_big ? 3 : 1, first) };
    w->parts[1] = (dp_layout_file){ "name/sub b", second, count, NULL };
    w->layout = (dp_layout){ w->parts, 2, piece_size, count + 1 };
    w->files[0] = open_whole(w->store, "a.gguf", is_big ? 3 : 1, first);
    w->files[1] = open_whole(w->store, "b", 2, second);
}

/* config NULL: all defaults. listen and clock are the world's. */
static inline world *open_world(bool is_big, const dp_range_server_config *config)
{
    dp_range_server_config c = config ? *config : (dp_range_server_config){ .listen = NULL };
    world *w = calloc(1, sizeof *w);
    dp_error err;

    CHECK(w, "memory");
    w->clock.clock.now_ns = test_clock_now;
    advance(w, 1000);
    w->store = open_store(DP_GIB);
    open_files(w, is_big);
    c.listen = "127.0.0.1:0";
    c.clock = &w->clock.clock;
    CHECK_OK(dp_range_server_open(&w->server, &c, &err), err);
    CHECK_OK(dp_range_server_add(w->server, KEY, &w->layout, w->files, &err), err);
    w->port = dp_range_server_port(w->server);
    return w;
}

static inline void close_world(world *w)
{
    dp_range_server_close(w->server);
    for (size_t i = 0; i < 2; i++)
        dp_store_file_close(w->files[i]);
    dp_store_close(w->store);
    dp_free((void *)(uintptr_t)w->parts[0].hashes);
    free(w);
    check_no_leak();
}

static inline dp_range_server_stats range_stats(world *w)
{
    dp_range_server_stats stats;

    dp_range_server_stats_read(w->server, &stats);
    return stats;
}

/* Until the server has `count` connections. False: not in time. */
static inline bool await_connections(world *w, uint64_t count, int ms)
{
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + (uint64_t)ms * 1000000;

    while (range_stats(w).connections != count) {
        if (dp_clock_now_ns(&dp_clock_real) > end_ns)
            return false;
        usleep(1000);
    }
    return true;
}

/* Until no response is under way: a client may have all of one before the server is done. */
static inline void await_idle(world *w)
{
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + (uint64_t)TEST_WAIT_MS * 1000000;

    while (range_stats(w).responses) {
        CHECK(dp_clock_now_ns(&dp_clock_real) < end_ns, "a response that does not end");
        usleep(1000);
    }
}

/* Until the server has handed out so many bytes. */
static inline void await_bytes(world *w, uint64_t bytes)
{
    uint64_t end_ns = dp_clock_now_ns(&dp_clock_real) + (uint64_t)TEST_WAIT_MS * 1000000;

    while (range_stats(w).bytes < bytes) {
        CHECK(dp_clock_now_ns(&dp_clock_real) < end_ns, "%llu bytes do not come",
              (unsigned long long)bytes);
        usleep(1000);
    }
}

/* A GET of the first file with a line of headers more, or "". */
static inline const char *get_request(world *w, const char *header_line)
{
    static char request[512];

    snprintf(request, sizeof request, "GET /" KEY "/%s HTTP/1.1\r\nHost: x\r\n%s\r\n",
             w->parts[0].path, header_line);
    return request;
}

#endif
