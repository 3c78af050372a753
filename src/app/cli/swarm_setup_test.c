/* From a command line to what a node is opened with. */
#include "app/cli/swarm_setup.h"

#include <stdlib.h>
#include <unistd.h>

#include "testing/check.h"

static const dp_args_command command = { .name = "run", .takes_shared = true, .takes_swarm = true };
static const dp_args_command *const commands[] = { &command, NULL };
static dp_args_program program = { .name = "doppler", .commands = commands };
static char folder[] = "/tmp/doppler-setup-XXXXXX";

static dp_status read_words(dp_swarm_setup *out, const char *const *words, size_t count,
                            bool shares, dp_error *err)
{
    static dp_args args;

    program.shared = dp_options_table(&program.shared_count);
    CHECK_OK(dp_args_parse(&args, &program, &command, (char *const *)words, count, err), *err);
    return dp_swarm_setup_read(out, &args, shares, err);
}

static void nothing_is_given_away_unasked(void **state)
{
    dp_swarm_setup setup;
    char want[sizeof folder + 32];
    dp_error err;

    CHECK_OK(read_words(&setup, NULL, 0, false, &err), err);
    CHECK(!setup.config.shares && !setup.config.uses_dht && !setup.config.uses_lsd, "sharing");
    CHECK(!setup.config.listen && !setup.config.http_listen && !setup.config.token, "listening");
    CHECK(setup.config.peer_count == 0 && setup.config.wait_ms == 60000, "peers");
    snprintf(want, sizeof want, "%s/doppler/models", folder);
    CHECK(!strcmp(setup.config.cache_folder, want), "%s", setup.config.cache_folder);
    CHECK(setup.config.disk_bytes > 0 && setup.config.disk_bytes <= DP_SWARM_SETUP_DISK_MAX, "%llu",
          (unsigned long long)setup.config.disk_bytes);
    CHECK(!setup.config.tls_certificate && !setup.config.tls_key && !setup.config.tls_authority,
          "TLS");

    CHECK_OK(read_words(&setup, NULL, 0, true, &err), err); /* doppler share */
    CHECK(setup.config.shares && !setup.config.uses_dht && !setup.config.uses_lsd, "sharing");
    CHECK(!strcmp(setup.config.listen, "0.0.0.0:0") &&
              !strcmp(setup.config.http_listen, "0.0.0.0:0"),
          "%s %s", setup.config.listen, setup.config.http_listen);
}

static void what_is_asked_for(void **state)
{
    static const char *const words[] = {
        "--share",        "--listen=off",  "--http-listen", "127.0.0.1:8080", "--peer=a:1",
        "--peer=[::1]:2", "--disk=3GiB",   "--cache-dir",   "/a/b//",         "--dht",
        "--lsd=on",       "--upload-rate", "2MiB",          "--swarm-token",  "secret",
        "--tls-cert=c",   "--tls-key=k",   "--tls-ca=a",    "--swarm-wait=7",
    };
    dp_swarm_setup setup;
    const dp_swarm_config *c = &setup.config;
    dp_error err;

    CHECK_OK(read_words(&setup, words, DP_ARRAY_LEN(words), false, &err), err);
    CHECK(c->shares && !c->listen && !strcmp(c->http_listen, "127.0.0.1:8080"), "%s",
          c->http_listen);
    CHECK(c->peer_count == 2 && !strcmp(c->peers[0], "a:1") && !strcmp(c->peers[1], "[::1]:2"),
          "%zu peers", c->peer_count);
    CHECK(c->disk_bytes == 3 * DP_GIB && !strcmp(c->cache_folder, "/a/b"), "%s", c->cache_folder);
    CHECK(c->uses_dht && c->uses_lsd && c->upload_bytes_s == 2 * DP_MIB && c->wait_ms == 7000,
          "numbers");
    CHECK(!strcmp(c->token, "secret") && !strcmp(c->tls_certificate, "c") &&
              !strcmp(c->tls_key, "k") && !strcmp(c->tls_authority, "a"),
          "texts");
    CHECK_OK(read_words(&setup, (const char *[]){ "--disk=0" }, 1, false, &err), err);
    CHECK(c->disk_bytes == 0, "nothing is kept");
}

static void what_makes_no_sense(void **state)
{
    static const struct {
        const char *word, *says;
    } rows[] = {
        { "--disk=lots", "--disk takes a size" },
        { "--upload-rate=-1", "--upload-rate takes a size" },
        { "--swarm-wait=0", "from 1 to 110" },
        { "--swarm-wait=111", "from 1 to 110" },
        { "--dht=maybe", "on or off" },
        { "--peer=host", "HOST:PORT" },
        { "--tls-cert=c", "belong together" },
        { "--tls-key=k", "belong together" },
        { "--ram=much", "--ram takes a size" },
    };
    const char *many[DP_SWARM_SETUP_PEERS_MAX + 1];
    dp_swarm_setup setup;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_status st = read_words(&setup, &rows[i].word, 1, false, &err);
        CHECK(st == DP_E_INVALID && strstr(err.text, rows[i].says), "%s: %s", rows[i].word,
              err.text);
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(many); i++)
        many[i] = "--peer=a:1";
    CHECK_OK(read_words(&setup, many, DP_SWARM_SETUP_PEERS_MAX, false, &err), err);
    CHECK(read_words(&setup, many, DP_ARRAY_LEN(many), false, &err) == DP_E_INVALID, "%s",
          err.text);
}

/* What the cache has of the drive counts as free: or each run would leave less to the next. */
static void a_tenth_of_what_is_free(void **state)
{
    CHECK(dp_swarm_setup_disk_bytes(100, 0) == 10 && dp_swarm_setup_disk_bytes(90, 10) == 10, "10");
    CHECK(dp_swarm_setup_disk_bytes(UINT64_MAX, 5) == DP_SWARM_SETUP_DISK_MAX, "at most");
    CHECK(dp_swarm_setup_disk_bytes(0, 0) == 0, "none");
}

static int set_home(void **state)
{
    return mkdtemp(folder) ? setenv("XDG_CACHE_HOME", folder, 1) : -1;
}

static int remove_home(void **state)
{
    char path[sizeof folder + 16];

    snprintf(path, sizeof path, "%s/doppler/models", folder);
    rmdir(path);
    snprintf(path, sizeof path, "%s/doppler", folder);
    return rmdir(path) || rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_given_away_unasked),
        cmocka_unit_test(what_is_asked_for),
        cmocka_unit_test(what_makes_no_sense),
        cmocka_unit_test(a_tenth_of_what_is_free),
    };

    return cmocka_run_group_tests(tests, set_home, remove_home);
}
