/* Sessions of one process on 127.0.0.1 over contents in memory. Every wait has an end. */
#include "swarm/torrent_testing.h"

static void pieces_arrive(bool is_hybrid, uint32_t file_count)
{
    model m;
    node seed, leech;

    model_init(&m, file_count, is_hybrid);
    node_init(&seed, &m, 0, 0, PIECES);
    node_init(&leech, &m, 0, 0, 0);
    connect_to(&leech, &seed);
    CHECK(wait_for(peer_has, &leech, 7), "the seed's piece is not seen");
    dp_torrent_want(leech.torrent, 7, 2000);
    CHECK(wait_for(has_arrived, &leech, 7), "a wanted piece");
    CHECK(wait_for(peer_has, &seed, 7), "it is announced");
    for (uint32_t i = 0; i < PIECES; i++) {
        if (i != 7 && i != 20)
            dp_torrent_want(leech.torrent, i, 0);
    }
    for (uint32_t i = 0; i < PIECES; i++)
        CHECK(i == 20 || wait_for(has_arrived, &leech, i), "piece %u", i);
    CHECK(!has_arrived(&leech, 20) && leech.wrong == 0, "%u wrong", leech.wrong);
    CHECK(dp_torrents_uploaded(seed.session) >= 38 * PIECE, "%llu bytes",
          (unsigned long long)dp_torrents_uploaded(seed.session));
    node_deinit(&leech);
    node_deinit(&seed);
    model_deinit(&m);
}

static void wanted_pieces_arrive_v2(void **state)
{
    pieces_arrive(false, 1);
}

static void wanted_pieces_arrive_hybrid(void **state)
{
    pieces_arrive(true, 2);
}

/* What was not kept is fetched again over the same connection, as often as it is wanted. */
static void what_is_not_kept_comes_again(bool is_hybrid, uint32_t piece)
{
    model m;
    node seed, leech;
    dp_torrent_peer peer;
    uint64_t id;

    model_init(&m, 2, is_hybrid);
    node_init(&seed, &m, 0, 0, PIECES);
    node_init(&leech, &m, 0, 0, 0);
    leech.refuses = true;
    connect_to(&leech, &seed);
    CHECK(wait_for(peer_has, &leech, piece), "the seed's piece is not seen");
    CHECK(dp_torrent_peers(leech.torrent, &peer, 1) == 1, "one peer");
    id = peer.id;
    for (int i = 0; i < 20; i++) {
        dp_mutex_lock(&leech.lock);
        leech.arrivals[piece] = 0;
        dp_mutex_unlock(&leech.lock);
        dp_torrent_want(leech.torrent, piece, i % 2 ? 2000 : 0);
        CHECK(wait_for(has_arrived, &leech, piece), "time %d", i);
    }
    CHECK(leech.wrong == 0, "%u wrong", leech.wrong);
    CHECK(dp_torrent_peers(leech.torrent, &peer, 1) == 1 && peer.id == id, "another connection");
    CHECK(peer_lacks(&seed, piece), "what is not kept is not announced");
    node_deinit(&leech);
    node_deinit(&seed);
    model_deinit(&m);
}

static void what_is_not_kept_comes_again_v2(void **state)
{
    what_is_not_kept_comes_again(false, 7);
}

/* The last piece of the first file, with padding behind it. */
static void what_is_not_kept_comes_again_hybrid(void **state)
{
    what_is_not_kept_comes_again(true, PIECES / 2 - 1);
}

static void peers_say_who_they_are(void **state)
{
    model m;
    node a, b;
    dp_torrent_peer peer;
    uint64_t generation;

    model_init(&m, 1, false);
    node_init(&a, &m, 4711, 0, PIECES);
    node_init(&b, &m, 0, 3, 5);
    generation = dp_torrent_generation(b.torrent);
    connect_to(&b, &a);
    CHECK(wait_for(peer_has, &b, 0) && wait_for(peer_has, &a, 3), "connected");
    CHECK(dp_torrent_generation(b.torrent) != generation, "generation");
    CHECK(peer_lacks(&a, 0) && peer_lacks(&a, 5) && peer_has(&a, 4), "bits of b");
    CHECK(dp_torrent_peers(b.torrent, &peer, 1) == 1, "one peer");
    CHECK(peer.http_port == 4711 && !peer.http_is_tls, "%u", peer.http_port);
    CHECK(peer.port == dp_torrents_port(a.session), "%u", peer.port);
    CHECK(!strcmp(peer.address, "127.0.0.1") && !strcmp(peer.client, "doppler"), "%s, %s",
          peer.address, peer.client);
    CHECK(dp_torrent_peers(a.torrent, &peer, 1) == 1 && peer.http_port == 0, "%u", peer.http_port);
    CHECK(peer.port == dp_torrents_port(b.session), "%u", peer.port);
    node_deinit(&a);
    CHECK(wait_for(has_peers, &b, 0), "it left");
    node_deinit(&b);
    model_deinit(&m);
}

static void drop(node *n, uint32_t piece)
{
    dp_mutex_lock(&n->lock);
    n->has[piece] = false;
    n->arrivals[piece] = 0;
    dp_mutex_unlock(&n->lock);
    dp_torrent_gone(n->torrent, piece);
}

static void keep(node *n, uint32_t piece)
{
    dp_mutex_lock(&n->lock);
    n->has[piece] = true;
    dp_mutex_unlock(&n->lock);
    dp_torrent_have(n->torrent, piece);
}

/* One session that re-adds nothing, so that only messages can tell. */
static void what_leaves_and_returns_is_told(void **state)
{
    dp_torrents_config config = { .listen = "127.0.0.1:0", .shares = true };
    dp_torrent_content content = { content_has, content_read, content_arrived, NULL };
    model m;
    node a = { 0 }, b, late;
    dp_torrent_peer peer;
    uint64_t id;
    dp_error err;

    model_init(&m, 1, true);
    a.model = &m;
    dp_mutex_init(&a.lock);
    for (uint32_t i = 0; i < PIECES - 1; i++)
        a.has[i] = true;
    content.user = &a;
    CHECK_OK(dp_torrents_open(&a.session, &config, &err), err);
    CHECK_OK(dp_torrent_add(&a.torrent, a.session, m.info, &content, &err), err);
    node_init(&b, &m, 0, 0, 0);
    connect_to(&b, &a);
    CHECK(wait_for(peer_has, &b, 11), "connected");
    CHECK(dp_torrent_peers(b.torrent, &peer, 1) == 1, "one peer");
    id = peer.id;
    drop(&a, 11);
    drop(&a, 12);
    CHECK(wait_for(peer_lacks, &b, 11) && wait_for(peer_lacks, &b, 12), "don't-have");
    CHECK(peer_has(&b, 10), "others stay");
    node_init(&late, &m, 0, 0, 0);
    connect_to(&late, &a);
    CHECK(wait_for(peer_has, &late, 10) && wait_for(peer_lacks, &late, 11), "a late peer is told");
    keep(&a, 11);
    CHECK(wait_for(peer_has, &b, 11) && wait_for(peer_has, &late, 11), "have again");
    CHECK(peer_lacks(&b, 12), "12 is gone");
    dp_torrent_want(b.torrent, 11, 1000);
    CHECK(wait_for(has_arrived, &b, 11) && !b.wrong, "it can be had");
    /* came by another way: libtorrent hashes it and tells */
    keep(&a, PIECES - 1);
    CHECK(wait_for(peer_has, &b, PIECES - 1), "fed");
    dp_torrent_want(b.torrent, PIECES - 1, 1000);
    CHECK(wait_for(has_arrived, &b, PIECES - 1) && !b.wrong, "fed, and fetched");
    CHECK(!has_arrived(&a, PIECES - 1), "what was fed has not arrived");
    CHECK(dp_torrent_peers(b.torrent, &peer, 1) == 1 && peer.id == id, "no connection was lost");
    node_deinit(&late);
    node_deinit(&b);
    node_deinit(&a);
    model_deinit(&m);
}

/* What libtorrent thinks it has it cannot fetch: it is told by being added again. */
static void a_piece_that_left_can_be_fetched_again(void **state)
{
    model m;
    node seed, leech;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES);
    node_init(&leech, &m, 0, 0, 0);
    connect_to(&leech, &seed);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 4; i < 8; i++)
            dp_torrent_want(leech.torrent, i, 1000);
        for (uint32_t i = 4; i < 8; i++)
            CHECK(wait_for(has_arrived, &leech, i), "round %d: piece %u", round, i);
        for (uint32_t i = 4; i < 8; i++)
            drop(&leech, i);
        CHECK(wait_for(peer_lacks, &seed, 5), "round %d: announced", round);
    }
    CHECK(!leech.wrong, "%u wrong", leech.wrong);
    node_deinit(&leech);
    node_deinit(&seed);
    model_deinit(&m);
}

static void what_the_store_refuses_is_taken_back(void **state)
{
    model m;
    node seed, leech;

    model_init(&m, 1, false);
    node_init(&seed, &m, 0, 0, PIECES);
    node_init(&leech, &m, 0, 0, 1);
    leech.refuses = true;
    connect_to(&leech, &seed);
    CHECK(wait_for(peer_has, &seed, 0), "connected");
    dp_torrent_want(leech.torrent, 9, 1000);
    CHECK(wait_for(has_arrived, &leech, 9), "arrived");
    CHECK(wait_for(peer_lacks, &seed, 9), "taken back");
    node_deinit(&leech);
    node_deinit(&seed);
    model_deinit(&m);
}

static void liars_spoil_nothing(void **state)
{
    model m;
    node liar, seed, leech;
    char address[64];
    dp_error err;

    model_init(&m, 1, true);
    node_init(&liar, &m, 0, 0, PIECES);
    node_init_at(&seed, &m, "127.0.0.2:0", 0, 0, PIECES);
    liar.lies = true;
    node_init(&leech, &m, 0, 0, 0);
    connect_to(&leech, &liar);
    CHECK(wait_for(peer_has, &leech, 3), "connected");
    dp_torrent_want(leech.torrent, 3, 1000);
    CHECK(wait_for(has_peers, &leech, 0), "libtorrent drops the liar");
    CHECK_OK(dp_torrent_connect(leech.torrent, node_address(address, &seed, "127.0.0.2"), &err),
             err);
    CHECK(wait_for(has_arrived, &leech, 3) && !leech.wrong, "the honest one has it");
    node_deinit(&leech);
    node_deinit(&seed);
    node_deinit(&liar);
    model_deinit(&m);
}

static bool has_one_from_127_0_0_2(node *n, uint32_t unused)
{
    dp_torrent_peer peer;

    return dp_torrent_peers(n->torrent, &peer, 1) == 1 && !strcmp(peer.address, "127.0.0.2");
}

static void who_is_banned_stays_out(void **state)
{
    model m;
    node a, b, c;
    dp_torrent_peer peers[3];
    char address[64];
    dp_error err;

    model_init(&m, 1, false);
    node_init(&a, &m, 0, 0, PIECES);
    node_init_at(&b, &m, "127.0.0.2:0", 0, 0, PIECES);
    node_init(&c, &m, 0, 0, 0);
    connect_to(&c, &a);
    CHECK_OK(dp_torrent_connect(c.torrent, node_address(address, &b, "127.0.0.2"), &err), err);
    CHECK(wait_for(has_peers, &c, 2), "connected");
    CHECK(dp_torrent_peers(c.torrent, peers, 3) == 2, "two");
    dp_torrent_ban(c.torrent, peers[!strcmp(peers[0].address, "127.0.0.2")].id, 2);
    CHECK(wait_for(has_one_from_127_0_0_2, &c, 0), "the other stays");
    CHECK(wait_for(has_peers, &c, 2), "a ban ends");
    dp_torrent_ban(c.torrent, 12345, 2); /* nobody */
    node_deinit(&c);
    node_deinit(&b);
    node_deinit(&a);
    model_deinit(&m);
}

static void nothing_is_given_unless_asked_for(void **state)
{
    dp_torrents_config config = { .listen = "127.0.0.1:0" };
    dp_torrent_content content = { content_has, content_read, content_arrived, NULL };
    model m;
    node a = { 0 }, b;
    dp_error err;

    model_init(&m, 1, false);
    a.model = &m;
    dp_mutex_init(&a.lock);
    a.has[1] = true;
    content.user = &a;
    CHECK_OK(dp_torrents_open(&a.session, &config, &err), err);
    CHECK_OK(dp_torrent_add(&a.torrent, a.session, m.info, &content, &err), err);
    node_init(&b, &m, 0, 2, 3);
    connect_to(&b, &a);
    CHECK(wait_for(peer_has, &a, 2), "connected");
    dp_torrent_want(b.torrent, 1, 100);
    dp_torrent_want(a.torrent, 2, 100);
    CHECK(wait_for(has_arrived, &a, 2), "it takes");
    CHECK(peer_lacks(&b, 1) && !has_arrived(&b, 1), "it does not give");
    CHECK(dp_torrents_uploaded(a.session) == 0, "it does not give");
    node_deinit(&b);
    node_deinit(&a);
    model_deinit(&m);
}

static void an_upload_cap_holds(void **state)
{
    dp_torrents_config config = { .listen = "127.0.0.1:0", .shares = true };
    dp_torrent_content content = { content_has, content_read, content_arrived, NULL };
    model m;
    node a = { 0 }, b;
    uint64_t begin, ns, bytes;
    dp_error err;

    config.upload_bytes_s = 100000;
    model_init(&m, 1, false);
    a.model = &m;
    dp_mutex_init(&a.lock);
    memset(a.has, true, sizeof a.has);
    content.user = &a;
    CHECK_OK(dp_torrents_open(&a.session, &config, &err), err);
    CHECK_OK(dp_torrent_add(&a.torrent, a.session, m.info, &content, &err), err);
    node_init(&b, &m, 0, 0, 0);
    connect_to(&b, &a);
    CHECK(wait_for(peer_has, &b, 0), "connected");
    begin = dp_clock_now_ns(&dp_clock_real);
    for (uint32_t i = 0; i < 8; i++)
        dp_torrent_want(b.torrent, i, 100);
    for (uint32_t i = 0; i < 8; i++)
        CHECK(wait_for(has_arrived, &b, i), "piece %u", i);
    ns = dp_clock_now_ns(&dp_clock_real) - begin;
    bytes = dp_torrents_uploaded(a.session);
    /* libtorrent saves up at most a second's worth while nothing is asked for */
    CHECK(bytes >= 8 * PIECE && bytes * 1000 < 100000 * (ns / 1000000 + 1100),
          "%llu bytes, %llu ms", (unsigned long long)bytes, (unsigned long long)ns / 1000000);
    node_deinit(&b);
    node_deinit(&a);
    model_deinit(&m);
}

static void hex(char *out, const uint8_t *bytes, int size)
{
    for (int i = 0; i < size; i++)
        sprintf(out + 2 * i, "%02x", bytes[i]);
}

static bool stop_soon(void *user)
{
    return ++*(int *)user > 3;
}

static void metadata_comes_from_a_magnet_link(void **state)
{
    for (int kind = 0; kind < 3; kind++) { /* v2, hybrid by both hashes, hybrid by v1 alone */
        dp_torrents_config config = { .shares = false };
        dp_torrents *session;
        dp_metainfo *got;
        model m;
        node seed;
        char address[64], magnet[300], v1[41] = "", v2[65];
        const char *peers[1];
        uint8_t sha1[20];
        dp_error err;
        int polls = 0;

        model_init(&m, kind ? 2 : 1, kind > 0);
        node_init(&seed, &m, 0, 0, PIECES);
        peers[0] = node_address(address, &seed, "127.0.0.1");
        if (dp_metainfo_info_v1(m.info, sha1))
            hex(v1, sha1, 20);
        dp_hash_hex(v2, dp_metainfo_info_v2(m.info));
        if (kind == 0)
            snprintf(magnet, sizeof magnet, "magnet:?xt=urn:btmh:1220%s", v2);
        else if (kind == 1)
            snprintf(magnet, sizeof magnet, "magnet:?xt=urn:btih:%s&xt=urn:btmh:1220%s", v1, v2);
        else
            snprintf(magnet, sizeof magnet, "magnet:?xt=urn:btih:%s", v1);
        CHECK_OK(dp_torrents_open(&session, &config, &err), err);
        CHECK(dp_torrents_port(session) == 0, "nobody is let in");
        CHECK_OK(dp_torrent_fetch_metainfo(&got, session, magnet, peers, 1, WAIT_S * 1000, NULL,
                                           NULL, &err),
                 err);
        CHECK(dp_hash_equal(dp_metainfo_info_v2(got), dp_metainfo_info_v2(m.info)), "kind %d",
              kind);
        CHECK(dp_metainfo_layout(got)->piece_count == PIECES, "kind %d", kind);
        for (uint32_t f = 0; f < dp_metainfo_layout(got)->file_count; f++) {
            const dp_layout_file *a = &dp_metainfo_layout(got)->files[f];
            const dp_layout_file *b = &dp_metainfo_layout(m.info)->files[f];

            CHECK(!memcmp(a->hashes, b->hashes, dp_pieces_count(a->pieces) * DP_HASH_SIZE),
                  "kind %d: file %u", kind, f);
        }
        dp_metainfo_close(got);
        magnet[strlen(magnet) - 1] ^= 1; /* a torrent nobody has */
        CHECK(dp_torrent_fetch_metainfo(&got, session, magnet, peers, 1, 100, NULL, NULL, &err) ==
                      DP_E_TIMEOUT &&
                  !got,
              "%s", err.text);
        CHECK(dp_torrent_fetch_metainfo(&got, session, magnet, peers, 1, 60000, stop_soon, &polls,
                                        &err) == DP_E_CANCELED,
              "%s", err.text);
        dp_torrents_close(session);
        node_deinit(&seed);
        model_deinit(&m);
    }
}

static void what_cannot_be_is_said(void **state)
{
    static const char *const listens[] = { "",           "127.0.0.1",       "localhost:1",
                                           "1.2.3.4:x",  "127.0.0.1:65536", "eth0:7",
                                           "127.0.0.1:", "[::1:1",          "127.0.0.1:1,[::]:2" };
    static const char *const peers[] = {
        "", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:-1", ":1", "127.0.0.1:99999999999999999999"
    };
    dp_torrents_config config = { .shares = true };
    dp_torrent_content content = { content_has, content_read, content_arrived, NULL };
    model m;
    node a;
    dp_torrent *twice;
    dp_torrents *session;
    char address[64];
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(listens); i++) {
        config.listen = listens[i];
        CHECK(dp_torrents_open(&session, &config, &err) == DP_E_INVALID && !session, "%s",
              listens[i]);
    }
    model_init(&m, 1, false);
    node_init(&a, &m, 0, 0, 1);
    config.listen = node_address(address, &a, "127.0.0.1");
    CHECK(dp_torrents_open(&session, &config, &err) == DP_E_IO && !session, "a taken port");
    CHECK(strstr(err.text, address), "%s", err.text);
    for (size_t i = 0; i < DP_ARRAY_LEN(peers); i++)
        CHECK(dp_torrent_connect(a.torrent, peers[i], &err) == DP_E_INVALID, "%s", peers[i]);
    content.user = &a;
    CHECK(dp_torrent_add(&twice, a.session, m.info, &content, &err) == DP_E_BUSY && !twice,
          "twice");
    dp_torrent_want(a.torrent, 0, 1); /* it is here */
    dp_torrent_unwant(a.torrent, 1);
    dp_torrent_want(a.torrent, 2, 0);
    dp_torrent_unwant(a.torrent, 2);
    dp_torrent_remove(NULL);
    dp_torrents_close(NULL);
    node_deinit(&a);
    model_deinit(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wanted_pieces_arrive_v2),
        cmocka_unit_test(wanted_pieces_arrive_hybrid),
        cmocka_unit_test(what_is_not_kept_comes_again_v2),
        cmocka_unit_test(what_is_not_kept_comes_again_hybrid),
        cmocka_unit_test(peers_say_who_they_are),
        cmocka_unit_test(what_leaves_and_returns_is_told),
        cmocka_unit_test(a_piece_that_left_can_be_fetched_again),
        cmocka_unit_test(what_the_store_refuses_is_taken_back),
        cmocka_unit_test(liars_spoil_nothing),
        cmocka_unit_test(who_is_banned_stays_out),
        cmocka_unit_test(nothing_is_given_unless_asked_for),
        cmocka_unit_test(an_upload_cap_holds),
        cmocka_unit_test(metadata_comes_from_a_magnet_link),
        cmocka_unit_test(what_cannot_be_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
