#include "vswarm.h"

#include "testing/check.h"

/* Small, but with everything in it: peers know a third of the others. */
static const vswarm_config small = {
    .peers = 60,
    .neighbours = 20,
    .layers = 4,
    .experts = 32,
    .expert_bytes = 6 << 20,
    .piece_size = 256 << 10,
    .copies = 6,
    .cache = 30,
    .wants_s = 1,
    .skew = 0.8,
    .session_s = 600,
    .away_s = 200,
    .warm_up_s = 5,
    .run_s = 30,
    .warm_connections = 32,
    .seed = 1,
};

static vswarm_result run(const vswarm_config *config)
{
    vswarm_result result;
    char why[200];

    CHECK(vswarm_run(config, &result, why), "%s", why);
    CHECK(result.wrong_pages == 0, "%llu pages were taken with bytes of a liar in them",
          (unsigned long long)result.wrong_pages);
    CHECK(result.misattributed == 0, "%llu pieces ascribed to others than who sent them",
          (unsigned long long)result.misattributed);
    CHECK(result.bans_of_honest == 0, "%llu honest peers banned",
          (unsigned long long)result.bans_of_honest);
    CHECK(result.pages > 200, "%llu pages only", (unsigned long long)result.pages);
    return result;
}

static void test_a_seed_is_a_run(void **state)
{
    vswarm_config config = small;
    uint64_t digest = run(&config).digest;

    CHECK(run(&config).digest == digest, "the same seed, something else");
    config.seed = 2;
    CHECK(run(&config).digest != digest, "another seed, the same");
}

/* Everybody well and within reach: everything arrives, and not much later than it could. */
static void test_all_well(void **state)
{
    vswarm_config config = small;

    config.neighbours = 60;
    config.session_s = 0;
    vswarm_result r = run(&config);

    CHECK(r.availability == 1 && r.bans == 0 && r.skipped == 0, "%f, %llu bans, %llu skipped",
          r.availability, (unsigned long long)r.bans, (unsigned long long)r.skipped);
    /* Most connections are cold: 20 to 150 ms of round trip, some of them before the rate. */
    CHECK(r.ratio_p50 >= 1 && r.ratio_p50 < 8, "%.2f times the floor", r.ratio_p50);
    CHECK(r.wasted_share < 0.25, "%.0f %% came twice", 100 * r.wasted_share);
}

/* What a page's neighbours hold decides whether there is one: 1 - (1 - 1/3)^copies. */
static void test_copies(void **state)
{
    static const uint32_t copies[] = { 1, 2, 4, 8, 12 };
    double before = 0;

    for (size_t i = 0; i < 5; i++) {
        vswarm_config config = small;

        config.copies = copies[i];
        config.cache = 80; /* nothing has to leave */
        double now = run(&config).availability;

        CHECK(now > before - 0.03, "%u copies: %.3f, fewer: %.3f", copies[i], now, before);
        CHECK(i > 0 || now < 0.8, "one copy: %.3f", now);
        before = now;
    }
    CHECK(before > 0.95, "12 copies: %.3f", before);
}

static void test_cache(void **state)
{
    static const uint32_t caches[] = { 6, 12, 30 };
    double before = -1;

    for (size_t i = 0; i < 3; i++) {
        vswarm_config config = small;

        config.copies = 2;
        config.cache = caches[i];
        vswarm_result r = run(&config);
        double local = (double)r.local / (double)r.wants;

        CHECK(local > before, "%u experts: %.3f here, fewer: %.3f", caches[i], local, before);
        before = local;
    }
}

static void test_liars(void **state)
{
    vswarm_config config = small;
    double honest = run(&config).availability;

    config.liars = 0.3;
    vswarm_result r = run(&config);

    CHECK(r.bad_pieces > 50 && r.bans > 50, "%llu bad pieces, %llu bans",
          (unsigned long long)r.bad_pieces, (unsigned long long)r.bans);
    /* Who was caught is not asked again: one ask and its spare at most. */
    CHECK(r.liar_pieces_max <= 2 * (6 << 20) / (256 << 10), "%llu bad pieces of one liar",
          (unsigned long long)r.liar_pieces_max);
    /* The same neighbours' places, of which liars take a third. */
    CHECK(r.availability > honest - 0.15, "%.3f, without liars %.3f", r.availability, honest);
}

/* Whoever holds back cannot keep a page from arriving that somebody else has. */
static void test_nobody_starves(void **state)
{
    vswarm_config config = small;

    config.neighbours = 60;
    config.session_s = 0;
    config.stallers = config.freeloaders = 0.25;
    vswarm_result r = run(&config);

    CHECK(r.timed_out == 0, "%llu of %llu pages timed out", (unsigned long long)r.timed_out,
          (unsigned long long)r.pages);
    CHECK(r.stalls > 50, "%llu stalls", (unsigned long long)r.stalls);
    CHECK(r.availability > 0.99, "%.4f", r.availability);
}

static void test_origin(void **state)
{
    vswarm_config config = small;

    config.copies = 0;
    config.cache = 10;
    config.origin_bytes_s = 250e6;
    vswarm_result r = run(&config);

    CHECK(r.availability > 0.99, "%.4f with a server that has everything", r.availability);
    CHECK(r.origin_share > 0.1 && r.origin_share < 1, "%.2f from it", r.origin_share);
}

static void test_refuses(void **state)
{
    vswarm_config config = small;
    vswarm_result result;
    char why[200];

    config.copies = 59;
    CHECK(!vswarm_run(&config, &result, why) && strstr(why, "no room"), "%s", why);
    config = small;
    config.expert_bytes = 1000;
    CHECK(!vswarm_run(&config, &result, why) && strstr(why, "pieces"), "%s", why);
    config = small;
    config.warm_connections = 3;
    CHECK(!vswarm_run(&config, &result, why) && strstr(why, "warm"), "%s", why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_seed_is_a_run), cmocka_unit_test(test_all_well),
        cmocka_unit_test(test_copies),          cmocka_unit_test(test_cache),
        cmocka_unit_test(test_liars),           cmocka_unit_test(test_nobody_starves),
        cmocka_unit_test(test_origin),          cmocka_unit_test(test_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
