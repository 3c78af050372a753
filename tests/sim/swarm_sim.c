/* swarm_sim - what a swarm of peers would do: page-ins, availability, faults, in virtual time.
 *
 * The decisions are the product's (picker, eviction), the network and the peers are made up:
 * vswarm.h and vnet.h say how. One seed gives one result on one machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/str.h"
#include "vswarm.h"

/* DeepSeek-V3: 58 layers of 256 experts of 44 million weights, at 1.56, 2.63 and 4.5 bits a
 * weight. Pieces as dp_metainfo_piece_size chooses them. */
#define LAYERS    58
#define EXPERTS   256
#define WEIGHTS   (3ull * 7168 * 2048)
#define BYTES_IQ1 (WEIGHTS * 156 / 800)
#define BYTES_Q2  (WEIGHTS * 263 / 800)
#define BYTES_Q4  (WEIGHTS * 450 / 800)
#define KIB       1024u
#define ORIGIN    5e9 /* bytes a second of a server with everything */

/* A thousand peers that each keep 2 % of the model; three quarters are here at a time. */
static const vswarm_config usual = {
    .peers = 1000,
    .neighbours = 200,
    .layers = LAYERS,
    .experts = EXPERTS,
    .expert_bytes = BYTES_Q2,
    .piece_size = 256 * KIB,
    .copies = 8,
    .cache = 300,
    .wants_s = 4,
    .skew = 0.8,
    .slow = 0.1,
    .session_s = 1800,
    .away_s = 600,
    .warm_up_s = 30,
    .run_s = 60,
    .warm_connections = 64,
};

typedef struct row {
    const char *table, *name;
    vswarm_config config;
} row;

#define ROWS_MAX 128

static row rows[ROWS_MAX];
static size_t row_count;

static vswarm_config *add(const char *table, const char *name)
{
    row *r = &rows[row_count++];

    r->table = table;
    r->name = name;
    r->config = usual;
    return &r->config;
}

static const char *name_of(const char *format, uint32_t a, uint32_t b)
{
    static char names[ROWS_MAX][48];
    char *name = names[row_count];

    snprintf(name, sizeof names[0], format, a, b);
    return name;
}

static void add_copies(void)
{
    static const uint32_t peers[] = { 100, 300, 1000, 2000 }, copies[] = { 1, 2, 4, 8, 16 };

    for (size_t p = 0; p < 4; p++)
        for (size_t c = 0; c < 5; c++) {
            vswarm_config *config =
                add("copies", name_of("%u peers, %u copies", peers[p], copies[c]));
            uint32_t share = LAYERS * EXPERTS * copies[c] / peers[p];

            config->peers = peers[p];
            config->copies = copies[c];
            /* Room for what the peer wants itself: nothing leaves. */
            config->cache = share * 11 / 9 + 64; /* nine of ten hold the copies */
        }
}

static void add_caches(void)
{
    static const uint32_t caches[] = { 37, 74, 148, 297, 742, 1485 }; /* 0.25 to 10 % */

    for (size_t i = 0; i < 6; i++) {
        vswarm_config *config = add("cache", name_of("%u experts a peer", caches[i], 0));

        config->cache = caches[i];
        config->copies = 0;
        config->history = 2 * caches[i];
        config->origin_bytes_s = ORIGIN;
    }
}

static void add_sizes(void)
{
    static const struct {
        const char *name;
        uint64_t bytes;
        uint32_t piece_size;
    } types[] = { { "8.6 MB (IQ1_S)", BYTES_IQ1, 256 * KIB },
                  { "14.5 MB (Q2_K)", BYTES_Q2, 256 * KIB },
                  { "24.8 MB (Q4_K)", BYTES_Q4, 512 * KIB } };

    for (size_t i = 0; i < 3; i++) {
        vswarm_config *config = add("size", types[i].name);

        config->expert_bytes = types[i].bytes;
        config->piece_size = types[i].piece_size;
        config->copies = 16;
    }
}

static void add_demands(void)
{
    static const uint32_t tenths[] = { 0, 8, 12 }, seconds[] = { 8, 2, 1 };

    for (size_t i = 0; i < 3; i++) {
        add("demand", name_of("skew %u.%u", tenths[i] / 10, tenths[i] % 10))->skew =
            tenths[i] / 10.;
        rows[row_count - 1].config.copies = 16;
    }
    for (size_t i = 0; i < 3; i++) {
        add("demand", name_of("a page each %u s", seconds[i], 0))->wants_s = seconds[i];
        rows[row_count - 1].config.copies = 16;
    }
    for (size_t i = 0; i < 3; i++) {
        static const uint32_t warm[] = { 16, 64, 256 };

        add("demand", name_of("%u warm connections", warm[i], 0))->warm_connections = warm[i];
        rows[row_count - 1].config.copies = 16;
    }
}

static void add_faults(void)
{
    vswarm_config *c;

    add("faults", "none, nobody leaves")->session_s = 0;
    add("faults", "peers leave after 30 min");
    add("faults", "peers leave after 5 min")->session_s = 300;
    rows[row_count - 1].config.away_s = 100;
    add("faults", "slow: 50 %")->slow = 0.5;
    add("faults", "freeloaders: 50 %")->freeloaders = 0.5;
    add("faults", "liars: 5 %")->liars = 0.05;
    add("faults", "liars: 30 %")->liars = 0.3;
    add("faults", "stallers: 5 %")->stallers = 0.05;
    add("faults", "stallers: 30 %")->stallers = 0.3;
    c = add("faults", "10 % of each");
    c->slow = c->freeloaders = c->liars = c->stallers = 0.1;
    for (size_t i = 0; i < row_count; i++)
        if (!strcmp(rows[i].table, "faults")) {
            rows[i].config.copies = 16;
            rows[i].config.cache = 600;
        }
}

/* ---- output ---- */

static void print_row(const row *r, const vswarm_result *x, double s, bool is_json)
{
    if (is_json) {
        printf("{\"table\":\"%s\",\"name\":\"%s\",\"peers\":%u,\"copies\":%u,\"cache\":%u,"
               "\"expert_bytes\":%llu,\"pages\":%llu,\"availability\":%.4f,\"timed_out\":%llu,"
               "\"local_share\":%.4f,\"ms_p50\":%.1f,\"ms_p90\":%.1f,\"ms_p99\":%.1f,"
               "\"ms_max\":%.1f,\"floor_ms\":%.1f,\"ratio_p50\":%.3f,\"ratio_p99\":%.3f,\"origin_"
               "share\":%.4f,\"wasted_share\":%.4f,"
               "\"bad_pieces\":%llu,\"bans\":%llu,\"bans_of_honest\":%llu,\"wrong_pages\":%llu,"
               "\"misattributed\":%llu,\"liar_pieces_max\":%llu,\"stalls\":%llu,\"hedges\":%llu,"
               "\"skipped\":%llu,\"copies_mean\":%.2f,\"extinct\":%u,\"events\":%llu,"
               "\"digest\":\"%016llx\",\"run_s\":%.2f}\n",
               r->table, r->name, r->config.peers, r->config.copies, r->config.cache,
               (unsigned long long)r->config.expert_bytes, (unsigned long long)x->pages,
               x->availability, (unsigned long long)x->timed_out,
               x->wants ? (double)x->local / (double)x->wants : 0, x->ms_p50, x->ms_p90, x->ms_p99,
               x->ms_max, x->floor_ms, x->ratio_p50, x->ratio_p99, x->origin_share, x->wasted_share,
               (unsigned long long)x->bad_pieces, (unsigned long long)x->bans,
               (unsigned long long)x->bans_of_honest, (unsigned long long)x->wrong_pages,
               (unsigned long long)x->misattributed, (unsigned long long)x->liar_pieces_max,
               (unsigned long long)x->stalls, (unsigned long long)x->hedges,
               (unsigned long long)x->skipped, x->copies_mean, x->extinct,
               (unsigned long long)x->events, (unsigned long long)x->digest, s);
    } else {
        printf(
            "%-8s %-26s %7llu %6.1f%% %6.1f%% %6.0f %6.0f %6.0f %6.0f %6.2f %6.1f %6.1f%% %6.1f%% "
            "%5llu %6.1f %6u\n",
            r->table, r->name, (unsigned long long)x->pages, 100 * x->availability,
            x->wants ? 100.0 * (double)x->local / (double)x->wants : 0, x->floor_ms, x->ms_p50,
            x->ms_p90, x->ms_p99, x->ratio_p50, x->ratio_p99, 100 * x->origin_share,
            100 * x->wasted_share, (unsigned long long)x->bans, x->copies_mean, x->extinct);
    }
    fflush(stdout);
}

static int run_rows(const char *table, uint64_t seed, bool is_json)
{
    if (!is_json)
        printf("%-8s %-26s %7s %7s %7s %6s %6s %6s %6s %6s %6s %7s %7s %5s %6s %6s\n", "table",
               "row", "pages", "whole", "local", "floor", "p50", "p90", "p99", "x50", "x99",
               "origin", "wasted", "bans", "copies", "lost");
    for (size_t i = 0; i < row_count; i++) {
        vswarm_result result;
        char why[200];
        uint64_t begin = dp_clock_now_ns(&dp_clock_real);

        if (table && !strstr(rows[i].table, table) && !strstr(rows[i].name, table))
            continue;
        rows[i].config.seed = seed;
        if (!vswarm_run(&rows[i].config, &result, why)) {
            fprintf(stderr, "swarm_sim: %s: %s\n", rows[i].name, why);
            return 1;
        }
        print_row(&rows[i], &result, (double)(dp_clock_now_ns(&dp_clock_real) - begin) / 1e9,
                  is_json);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *table = NULL;
    uint64_t seed = 1;
    bool is_json = false, is_ok = true;

    for (int i = 1; i < argc && is_ok; i++) {
        if (!strcmp(argv[i], "--json"))
            is_json = true;
        else if (!strcmp(argv[i], "--table") && i + 1 < argc)
            table = argv[++i];
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            is_ok = dp_parse_u64(dp_str_from(argv[++i]), &seed);
        else
            is_ok = false;
    }
    if (!is_ok) {
        fputs("usage: swarm_sim [--table copies|cache|size|demand|faults] [--seed N] [--json]\n"
              "Times are milliseconds; pages: experts that were not in the own cache.\n",
              stderr);
        return 2;
    }
    add_copies();
    add_caches();
    add_sizes();
    add_demands();
    add_faults();
    return run_rows(table, seed, is_json);
}
