/* Peers that speak to harm: raw sockets against a node that shares. Whatever they send, memory
 * stays bounded and an honest peer is served. */
#include "swarm/torrent_testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/rng.h"

#define GROWTH_MAX ((long)24 << 20) /* of resident memory, by one hostile peer */

/* 0 under a sanitizer, which keeps memory for reasons of its own. */
static long resident_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#else
    FILE *file = fopen("/proc/self/statm", "r");
    long total, resident = 0;

    if (file && fscanf(file, "%ld %ld", &total, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
#endif
}

/* A connection from 127.0.0.`from`; writes that would wait for long fail. */
static int dial(const node *n, int from)
{
    struct sockaddr_in local = { .sin_family = AF_INET }, remote = { .sin_family = AF_INET };
    struct timeval patience = { .tv_usec = 300000 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    local.sin_addr.s_addr = htonl(0x7f000000u + (uint32_t)from);
    remote.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    remote.sin_port = htons(dp_torrents_port(n->session));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    CHECK(!bind(fd, (struct sockaddr *)&local, sizeof local), "bind: %s", strerror(errno));
    CHECK(!connect(fd, (struct sockaddr *)&remote, sizeof remote), "connect: %s", strerror(errno));
    return fd;
}

/* False: the other side closed, or takes no more. */
static bool say(int fd, const void *bytes, size_t size)
{
    const uint8_t *at = bytes;

    while (size) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Handshake with the fast and the extension protocol. */
static bool say_handshake(int fd, const model *m)
{
    uint8_t text[68] = "\023BitTorrent protocol\0\0\0\0\0\020\0\004";

    memcpy(text + 28, dp_metainfo_info_v2(m->info)->bytes, 20);
    memcpy(text + 48, "-XX0000-abcdefgh", 16); /* a name of its own for every connection */
    put32(text + 64, (uint32_t)fd);
    return say(fd, text, sizeof text);
}

static bool say_message(int fd, uint8_t id, const void *body, uint32_t size)
{
    uint8_t text[64];

    put32(text, size + 1);
    text[4] = id;
    memcpy(text + 5, body, size);
    return say(fd, text, size + 5);
}

/* Whether the other side closes within WAIT_S. */
static bool is_closed(int fd)
{
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + WAIT_S * 1000000000ull;
    char sink[4096];

    while (dp_clock_now_ns(&dp_clock_real) < end) {
        ssize_t got = recv(fd, sink, sizeof sink, 0);

        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return true;
    }
    return false;
}

/* An honest peer from another address gets a piece. */
static void check_serves(node *seed, const model *m)
{
    node honest;

    node_init(&honest, m, 0, 0, 0);
    connect_to(&honest, seed);
    dp_torrent_want(honest.torrent, 17, 1000);
    CHECK(wait_for(has_arrived, &honest, 17) && !honest.wrong, "an honest peer is served");
    node_deinit(&honest);
}

static void many_connections_are_few_peers(void **state)
{
    enum { COUNT = 120 };
    model m;
    node seed;
    dp_torrent_peer peers[DP_TORRENT_PEERS_MAX];
    int fds[COUNT];
    size_t count;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial(&seed, 2);
        say_handshake(fds[i], &m);
    }
    for (int i = 0, open = COUNT; i < COUNT; i++) {
        struct pollfd p = { .fd = fds[i], .events = POLLIN };

        CHECK(poll(&p, 1, WAIT_S * 1000) == 1, "connection %d: no answer of %d", i, open);
    }
    CHECK(wait_for(has_peers, &seed, DP_TORRENT_PER_ADDRESS_MAX), "one address");
    count = dp_torrent_peers(seed.torrent, peers, DP_TORRENT_PEERS_MAX);
    CHECK(count == DP_TORRENT_PER_ADDRESS_MAX, "%zu", count);
    check_serves(&seed, &m);
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    node_deinit(&seed);
    model_deinit(&m);
}

static void garbage_ends_the_connection(void **state)
{
    static const struct {
        const char *name;
        uint8_t bytes[16];
        uint32_t size;
    } rows[] = {
        { "a message of 2 GiB", { 0x7f, 0xff, 0xff, 0xff, 5 }, 5 },
        { "a bitfield of 100 MB", { 0x05, 0xf5, 0xe1, 0x00, 5 }, 5 },
        { "a bitfield too short", { 0, 0, 0, 2, 5, 0xff }, 6 },
        { "a cut request", { 0, 0, 0, 2, 6, 0 }, 6 },
        { "a have of nothing", { 0, 0, 0, 1, 4 }, 5 },
        { "a have of the piece 2^31", { 0, 0, 0, 5, 4, 0x80, 0, 0, 0 }, 9 },
        { "extension that is no bencoding", { 0, 0, 0, 6, 20, 0, 'x', 'x', 'x', 'x' }, 10 },
    };
    model m;
    node seed;
    dp_rng rng;
    long before;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES);
    check_serves(&seed, &m);
    before = resident_bytes();
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        uint8_t noise[4096];
        int fd = dial(&seed, 2);

        CHECK(say_handshake(fd, &m), "%s", rows[i].name);
        say(fd, rows[i].bytes, rows[i].size);
        dp_rng_init(&rng, i);
        for (int k = 0; k < 64; k++) {
            for (size_t b = 0; b < sizeof noise; b++)
                noise[b] = (uint8_t)dp_rng_u64(&rng);
            if (!say(fd, noise, sizeof noise))
                break;
        }
        CHECK(is_closed(fd), "%s", rows[i].name);
        close(fd);
    }
    CHECK(resident_bytes() - before < GROWTH_MAX, "%ld bytes", resident_bytes() - before);
    check_serves(&seed, &m);
    node_deinit(&seed);
    model_deinit(&m);
}

/* Pieces asked for by somebody who never reads: `piece` of them, many times. */
static void flood(const model *m, node *seed, uint32_t piece, uint32_t length)
{
    long before = resident_bytes(), grown = 0;
    int fd = dial(seed, 2);
    uint8_t request[12], messages[17 * 256];
    bool is_taken;

    put32(request, piece);
    put32(request + 4, 0);
    put32(request + 8, length);
    CHECK(say_handshake(fd, m) && say_message(fd, 15, "", 0) && say_message(fd, 2, "", 0), "flood");
    for (int i = 0; i < 256; i++) {
        put32(messages + 17 * i, 13);
        messages[17 * i + 4] = 6;
        memcpy(messages + 17 * i + 5, request, 12);
    }
    is_taken = true;
    for (int i = 0; i < 4000 && is_taken; i++) /* a million requests */
        is_taken = say(fd, messages, sizeof messages);
    check_serves(seed, m);
    grown = resident_bytes() - before;
    CHECK(grown < GROWTH_MAX, "piece %u: %ld bytes more", piece, grown);
    print_message("piece %u, %u bytes: %ld KiB more, %s\n", piece, length, grown >> 10,
                  is_taken ? "all taken" : "cut off");
    close(fd);
}

static void who_asks_and_never_reads_costs_little(void **state)
{
    model m;
    node seed;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES - 2);
    check_serves(&seed, &m);
    flood(&m, &seed, 3, 16384);           /* here */
    flood(&m, &seed, PIECES - 1, 16384);  /* not here */
    flood(&m, &seed, 0x7ffffff0u, 16384); /* nowhere */
    flood(&m, &seed, 3, 0x7fffffff);      /* too much of one */
    node_deinit(&seed);
    model_deinit(&m);
}

static void who_has_everything_that_never_was_costs_little(void **state)
{
    model m;
    node seed;
    uint8_t have[9 * 256];
    long before;
    int fd;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES);
    check_serves(&seed, &m);
    before = resident_bytes();
    fd = dial(&seed, 2);
    CHECK(say_handshake(fd, &m) && say_message(fd, 15, "", 0), "handshake");
    for (uint32_t round = 0; round < 2000; round++) {
        for (uint32_t i = 0; i < 256; i++) {
            put32(have + 9 * i, 5);
            have[9 * i + 4] = 4;
            put32(have + 9 * i + 5, (round * 256 + i) % PIECES);
        }
        if (!say(fd, have, sizeof have))
            break;
    }
    check_serves(&seed, &m);
    CHECK(resident_bytes() - before < GROWTH_MAX, "%ld bytes", resident_bytes() - before);
    close(fd);
    node_deinit(&seed);
    model_deinit(&m);
}

typedef struct fetching {
    dp_torrents *session;
    char magnet[200], peer[64];
    dp_status status;
    _Atomic bool is_over;
} fetching;

static void fetch(void *user)
{
    fetching *f = user;
    const char *peers[] = { f->peer };
    dp_metainfo *got;

    f->status =
        dp_torrent_fetch_metainfo(&got, f->session, f->magnet, peers, 1, 1500, NULL, NULL, NULL);
    dp_metainfo_close(got);
    f->is_over = true;
}

/* Metadata of 2 GiB are offered, then of what is allowed, all zeros. */
static void metadata_that_lie_cost_little(void **state)
{
    static const char *const sizes[] = { "2147483647", "48000000", "-5", "0" };
    dp_torrents_config config = { 0 };
    model m;
    long before = 0;

    model_init(&m, 1, false);
    for (size_t i = 0; i < DP_ARRAY_LEN(sizes); i++) {
        struct sockaddr_in local = { .sin_family = AF_INET };
        struct timeval patience = { .tv_sec = WAIT_S };
        int listener = socket(AF_INET, SOCK_STREAM, 0), fd;
        socklen_t size = sizeof local;
        fetching f = { 0 };
        char text[200], hello[128], hash[65];
        dp_thread thread;
        dp_error err;

        local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        CHECK(!bind(listener, (struct sockaddr *)&local, sizeof local) && !listen(listener, 8) &&
                  !getsockname(listener, (struct sockaddr *)&local, &size),
              "%s", strerror(errno));
        dp_hash_hex(hash, dp_metainfo_info_v2(m.info));
        snprintf(f.magnet, sizeof f.magnet, "magnet:?xt=urn:btmh:1220%s", hash);
        snprintf(f.peer, sizeof f.peer, "127.0.0.1:%u", ntohs(local.sin_port));
        CHECK_OK(dp_torrents_open(&f.session, &config, &err), err);
        before = before ? before : resident_bytes();
        CHECK_OK(dp_thread_start(&thread, "fetch", fetch, &f, &err), err);
        fd = accept(listener, NULL, NULL);
        CHECK(fd >= 0, "accept: %s", strerror(errno));
        snprintf(hello, sizeof hello, "d1:md11:ut_metadatai2ee13:metadata_sizei%see", sizes[i]);
        CHECK(say_handshake(fd, &m), "handshake");
        put32((uint8_t *)text, (uint32_t)strlen(hello) + 2);
        memcpy(text + 4, "\024\000", 2);
        memcpy(text + 6, hello, strlen(hello));
        say(fd, text, strlen(hello) + 6);
        dp_thread_join(&thread);
        CHECK(f.status == DP_E_TIMEOUT, "size %s: %d", sizes[i], f.status);
        CHECK(resident_bytes() - before < GROWTH_MAX, "size %s: %ld bytes", sizes[i],
              resident_bytes() - before);
        close(fd);
        close(listener);
        dp_torrents_close(f.session);
    }
    model_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_connections_are_few_peers),
        cmocka_unit_test(garbage_ends_the_connection),
        cmocka_unit_test(who_asks_and_never_reads_costs_little),
        cmocka_unit_test(who_has_everything_that_never_was_costs_little),
        cmocka_unit_test(metadata_that_lie_cost_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
