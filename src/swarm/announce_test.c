#include "swarm/announce.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define S    ((uint64_t)1000000000)
#define INFO "%00%01+%ff0123456789abcdef" /* 20 bytes */

static const struct {
    const char *target, *error;
    uint16_t port;
    uint32_t wanted;
    bool is_complete, is_leaving;
} targets[] = {
    { "/announce?info_hash=" INFO "&port=6881", NULL, 6881, 50, false, false },
    { "/announce?port=1&info_hash=" INFO "&left=0", NULL, 1, 50, true, false },
    { "/announce?info_hash=" INFO "&port=65535&left=7&event=stopped&ip=1.2.3.4&x", NULL, 65535, 50,
      false, true },
    { "/announce?info_hash=" INFO "&port=2&numwant=3&event=started&compact=0", NULL, 2, 3, false,
      false },
    { "/announce?info_hash=" INFO "&port=2&numwant=999999", NULL, 2, 200, false, false },
    { "/announce?info_hash=" INFO "&port=2&numwant=-1", NULL, 2, 50, false, false },
    { "/announce?info_hash=" INFO "&&=&port=2#port=3", NULL, 2, 50, false, false },
    { "/announce", "info_hash is missing", 0, 0, false, false },
    { "/announce?port=6881", "info_hash is missing", 0, 0, false, false },
    { "/announce?info_hash=" INFO, "port is missing", 0, 0, false, false },
    { "/announce?info_hash=" INFO "0&port=1", "info_hash has no sensible value", 0, 0, 0, 0 },
    { "/announce?info_hash=abc&port=1", "info_hash has no sensible value", 0, 0, 0, 0 },
    { "/announce?info_hash=" INFO "&port=0", "port has no sensible value", 0, 0, 0, 0 },
    { "/announce?info_hash=" INFO "&port=65536", "port has no sensible value", 0, 0, 0, 0 },
    { "/announce?info_hash=" INFO "&port=1%", "a percent sign without two hex digits", 0, 0, 0, 0 },
    { "/announcement?info_hash=" INFO "&port=1", "the tracker answers /announce", 0, 0, 0, 0 },
    { "/scrape", "the tracker answers /announce", 0, 0, 0, 0 },
    { "", "the tracker answers /announce", 0, 0, 0, 0 },
};

static void announces_are_read(void **unused)
{
    static const uint8_t info[] = "\0\1+\377"
                                  "0123456789abcdef";

    for (size_t i = 0; i < DP_ARRAY_LEN(targets); i++) {
        dp_announce a;
        dp_error err = { 0 };
        dp_status st = dp_announce_parse(&a, targets[i].target, &err);

        CHECK((st != DP_OK) == (targets[i].error != NULL), "%s: %s", targets[i].target, err.text);
        if (st) {
            CHECK(strcmp(err.text, targets[i].error) == 0, "%s: %s", targets[i].target, err.text);
            continue;
        }
        CHECK(memcmp(a.info, info, sizeof a.info) == 0 && a.port == targets[i].port &&
                  a.wanted == targets[i].wanted && a.is_complete == targets[i].is_complete &&
                  a.is_leaving == targets[i].is_leaving,
              "%s: port %u, wanted %u", targets[i].target, a.port, a.wanted);
    }
}

static void info_hashes_are_hex(void **unused)
{
    uint8_t info[DP_ANNOUNCE_INFO_SIZE];

    CHECK(dp_announce_info_from_hex(info, "00112233445566778899aABBccddeeff01020304"), "v1");
    CHECK(info[0] == 0 && info[9] == 0x99 && info[10] == 0xaa && info[19] == 4, "bytes");
    CHECK(dp_announce_info_from_hex(
              info, "00112233445566778899aabbccddeeff01020304ffffffffffffffffffffffff"),
          "v2 is cut");
    CHECK(info[19] == 4, "%d", info[19]);
    CHECK(!dp_announce_info_from_hex(info, "0011") &&
              !dp_announce_info_from_hex(info, "0011223344556677889900112233445566778g"
                                               "aa"),
          "neither");
}

/* IPv4 10.0.0.N, or IPv6 from 100 on. */
static void make_ip(uint8_t ip[16], uint32_t n)
{
    memset(ip, 0, 16);
    if (n < 100) {
        ip[10] = ip[11] = 0xff;
        ip[12] = 10;
    } else {
        ip[0] = 0x20;
    }
    ip[14] = (uint8_t)(n >> 8);
    ip[15] = (uint8_t)n;
}

/* The answer to peer n; its first info byte names the torrent. */
static const char *ask(dp_announces *table, uint8_t info, uint32_t n, bool is_complete,
                       bool is_leaving, uint64_t now_ns, size_t *size)
{
    static char text[DP_ANNOUNCE_REPLY_MAX + 1];
    dp_announce a = { { info }, (uint16_t)(1000 + n), 50, is_complete, is_leaving };
    dp_buf reply;
    uint8_t ip[16];

    make_ip(ip, n);
    dp_buf_init(&reply, DP_ANNOUNCE_REPLY_MAX);
    CHECK(dp_announces_answer(table, &a, ip, now_ns, &reply) == DP_OK, "peer %u", n);
    memcpy(text, reply.bytes, reply.size + 1);
    *size = reply.size;
    dp_buf_deinit(&reply);
    return text;
}

#define HEAD(complete, incomplete)                                                                 \
    "d8:completei" #complete "e10:incompletei" #incomplete "e8:intervali60e5:peers"

static void check_answer(dp_announces *table, uint32_t n, bool is_complete, bool is_leaving,
                         uint64_t now_ns, const char *want, size_t want_size)
{
    size_t size;
    const char *got = ask(table, 7, n, is_complete, is_leaving, now_ns, &size);

    CHECK(size == want_size && memcmp(got, want, size) == 0, "peer %u: %zu bytes: %s", n, size,
          got);
}

#define ANSWER(table, n, complete, leaving, now, text)                                             \
    check_answer(table, n, complete, leaving, now, text, sizeof text - 1)

static void peers_hear_of_each_other(void **unused)
{
    dp_announces *table;
    uint32_t torrents, peers;
    size_t size;
    dp_error err;

    CHECK_OK(dp_announces_open(&table, NULL, 0, 60, &err), err);
    ANSWER(table, 1, false, false, S, HEAD(0, 1) "0:e");
    ANSWER(table, 2, true, false, S, HEAD(1, 1) "6:\12\0\0\1\3\351e");
    ANSWER(table, 200, false, false, S,
           HEAD(1, 2) "12:\12\0\0\1\3\351\12\0\0\2\3\352e"); /* addresses of both kinds */
    ANSWER(table, 2, true, false, S,
           HEAD(1, 2) "6:\12\0\0\1\3\351"
                      "6:peers618:\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\310\4\260e");
    ask(table, 8, 3, false, false, S, &size); /* another torrent */
    dp_announces_count(table, S, &torrents, &peers);
    CHECK(torrents == 2 && peers == 4, "%u torrents, %u peers", torrents, peers);

    ANSWER(table, 200, false, true, S, HEAD(1, 1) "0:e"); /* goodbye */
    ANSWER(table, 2, false, false, 100 * S, HEAD(0, 2) "6:\12\0\0\1\3\351e");
    ANSWER(table, 2, false, false, 152 * S, HEAD(0, 1) "0:e"); /* 1 was silent */
    dp_announces_count(table, 1000 * S, &torrents, &peers);
    CHECK(torrents == 0 && peers == 0, "%u torrents, %u peers", torrents, peers);
    dp_announces_close(table);
}

static void others_are_refused_by_a_list(void **unused)
{
    static const uint8_t allowed[][DP_ANNOUNCE_INFO_SIZE] = { { 7 }, { 9 } };
    dp_announces *table;
    size_t size;
    dp_error err;

    CHECK_OK(dp_announces_open(&table, allowed, 2, 60, &err), err);
    ANSWER(table, 1, false, false, S, HEAD(0, 1) "0:e");
    CHECK(strcmp(ask(table, 8, 1, false, false, S, &size),
                 "d14:failure reason32:this torrent is not tracked heree") == 0,
          "torrent 8");
    ANSWER(table, 2, false, false, 1000 * S, HEAD(0, 1) "0:e"); /* stays without peers */
    dp_announces_close(table);
    CHECK(dp_announces_open(&table, allowed, DP_ANNOUNCE_TORRENTS_MAX + 1, 60, &err) == DP_E_LIMIT,
          "too many");
}

/* As many of an address, of a torrent, and torrents, as there may be, and one more. */
static void the_table_is_bounded(void **unused)
{
    dp_announces *table;
    dp_announce a = { { 7 }, 1, 50, false, false };
    uint32_t torrents, peers;
    uint8_t ip[16];
    dp_buf reply;
    dp_error err;

    CHECK_OK(dp_announces_open(&table, NULL, 0, 60, &err), err);
    dp_buf_init(&reply, DP_ANNOUNCE_REPLY_MAX);
    for (uint32_t i = 0; i < 3000; i++) {
        make_ip(ip, 100 + i / 100);
        a.port = (uint16_t)(1 + i);
        a.wanted = DP_ANNOUNCE_WANTED_MAX;
        dp_buf_reset(&reply);
        CHECK(dp_announces_answer(table, &a, ip, S, &reply) == DP_OK, "%u", i);
    }
    dp_announces_count(table, S, &torrents, &peers);
    CHECK(peers == 30 * DP_ANNOUNCE_ADDRESS_MAX, "%u peers", peers);
    for (uint32_t i = 0; i < 3000; i++) {
        make_ip(ip, 300 + i);
        dp_buf_reset(&reply);
        CHECK(dp_announces_answer(table, &a, ip, S, &reply) == DP_OK, "%u", i);
    }
    dp_announces_count(table, S, &torrents, &peers);
    CHECK(peers == DP_ANNOUNCE_PEERS_MAX, "%u peers", peers);

    for (uint32_t i = 0; i < 2 * DP_ANNOUNCE_TORRENTS_MAX; i++) {
        memcpy(a.info + 4, &i, 4);
        dp_buf_reset(&reply);
        CHECK(dp_announces_answer(table, &a, ip, S, &reply) == DP_OK, "%u", i);
        CHECK((strstr(reply.bytes, "tracker is full") != NULL) == (i >= DP_ANNOUNCE_TORRENTS_MAX),
              "%u: %s", i, reply.bytes);
    }
    dp_buf_reset(&reply); /* a torrent whose peers are silent makes room */
    CHECK(dp_announces_answer(table, &a, ip, 1000 * S, &reply) == DP_OK, "later");
    CHECK(strstr(reply.bytes, "complete"), "%s", reply.bytes);
    dp_buf_deinit(&reply);
    dp_announces_close(table);
}

/* Without memory a peer is answered, only not remembered. */
static void no_memory_forgets_a_peer(void **unused)
{
    dp_announces *table;
    dp_announce a = { { 7 }, 1, 50, false, false };
    uint32_t torrents, peers;
    uint8_t ip[16];
    char room[DP_ANNOUNCE_REPLY_MAX];
    dp_buf reply = { room, 0, sizeof room, sizeof room };
    dp_error err;

    CHECK_OK(dp_announces_open(&table, NULL, 0, 60, &err), err);
    make_ip(ip, 1);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_announces_answer(table, &a, ip, S, &reply) == DP_OK, "answered");
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1, "it asked for memory");
    dp_announces_count(table, S, &torrents, &peers);
    CHECK(peers == 0, "%u peers", peers);
    dp_announces_close(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(announces_are_read),       cmocka_unit_test(info_hashes_are_hex),
        cmocka_unit_test(peers_hear_of_each_other), cmocka_unit_test(others_are_refused_by_a_list),
        cmocka_unit_test(the_table_is_bounded),     cmocka_unit_test(no_memory_forgets_a_peer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
