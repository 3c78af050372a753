/* The pager against nginx: ranges, kept connections, TLS with an authority of our own, HTTP/2.
 * nginx inherits its listening sockets from this program, so no port has to be guessed. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/thread.h"
#include "swarm/pager.h"
#include "testing/check.h"

#define PIECE   ((uint32_t)256 << 10)
#define SIZE    ((size_t)9 * PIECE + 12345)
#define PIECES  10
#define WAIT_NS ((uint64_t)10000000000)

static const char conf[] = "daemon off; user root; worker_processes 1; pid nginx.pid;\n"
                           "error_log error.log;\n"
                           "events { worker_connections 64; }\n"
                           "http { access_log off; keepalive_requests 10000;\n"
                           "  client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;\n"
                           "  uwsgi_temp_path t; scgi_temp_path t;\n"
                           "  server { listen 127.0.0.1:%u; listen 127.0.0.1:%u ssl http2;\n"
                           "    ssl_certificate cert.pem; ssl_certificate_key key.pem;\n"
                           "    root .; location = /old { return 302 /file; } } }\n";

static const char make_certificate[] =
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem "
    ">openssl.log 2>&1";

static char folder[] = "nginx_test.XXXXXX";
static uint8_t contents[SIZE], out[PIECES * (size_t)PIECE];
static dp_hash hashes[PIECES];
static uint16_t ports[2];
static pid_t server;

static int listen_on(uint16_t *port)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0 && listen(fd, 16) == 0 &&
              getsockname(fd, (struct sockaddr *)&in, &size) == 0,
          "no socket");
    *port = ntohs(in.sin_port);
    return fd;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(name, "wb");

    CHECK(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, "%s", name);
}

static int start_nginx(void **state)
{
    dp_pieces pieces = { SIZE, PIECE };
    char text[1024], inherited[32];
    int fds[2], size;
    dp_rng rng;

    dp_rng_init(&rng, 3);
    for (size_t i = 0; i < SIZE; i++)
        contents[i] = (uint8_t)dp_rng_u64(&rng);
    for (uint32_t i = 0; i < PIECES; i++)
        CHECK(dp_piece_hash(&hashes[i], pieces, i, contents + (size_t)i * PIECE, NULL) == 0,
              "hash");
    CHECK(mkdtemp(folder) && chdir(folder) == 0, "no folder");
    CHECK(system(make_certificate) == 0, "openssl makes no certificate");
    write_file("file", contents, SIZE);
    for (int i = 0; i < 2; i++)
        fds[i] = listen_on(&ports[i]);
    size = snprintf(text, sizeof text, conf, ports[0], ports[1]);
    write_file("nginx.conf", text, (size_t)size);
    server = fork();
    CHECK(server >= 0, "no process");
    if (server == 0) {
        snprintf(inherited, sizeof inherited, "%d;%d;", fds[0], fds[1]);
        setenv("NGINX", inherited, 1);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive a test that is killed */
        execlp("nginx", "nginx", "-e", "error.log", "-p", ".", "-c", "nginx.conf", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 2; i++)
        close(fds[i]);
    return 0;
}

static int stop_nginx(void **state)
{
    char command[64];

    kill(server, SIGTERM);
    waitpid(server, NULL, 0);
    CHECK(chdir("..") == 0, "no way back");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static dp_mutex lock;
static dp_cond changed;
static uint32_t done_count;

typedef struct job {
    dp_pager_job job;
    dp_status status;
    char text[DP_ERROR_TEXT_MAX];
} job;

static void on_done(dp_pager_job *pager_job, uint32_t endpoint, const dp_error *error)
{
    job *j = pager_job->user;

    dp_mutex_lock(&lock);
    j->status = error ? error->status : DP_OK;
    snprintf(j->text, sizeof j->text, "%s", error ? error->text : "");
    done_count++;
    dp_cond_broadcast(&changed);
    dp_mutex_unlock(&lock);
}

/* All pieces once; every one ends with `want`. */
static void fetch(const char *name, dp_pager *pager, uint32_t wait_ms, dp_status want)
{
    static job jobs[PIECES];
    dp_pager_job *list[PIECES];
    uint64_t end = dp_clock_now_ns(&dp_clock_real) + WAIT_NS;

    memset(jobs, 0, sizeof jobs);
    memset(out, 0, sizeof out);
    done_count = 0;
    for (uint32_t i = 0; i < PIECES; i++) {
        jobs[i].job = (dp_pager_job){ .piece = i,
                                      .out = out + (size_t)i * PIECE,
                                      .deadline_ns = dp_clock_now_ns(&dp_clock_real) +
                                                     (uint64_t)wait_ms * 1000000,
                                      .done = on_done,
                                      .user = &jobs[i] };
        list[i] = &jobs[i].job;
    }
    dp_pager_submit(pager, list, PIECES);
    dp_mutex_lock(&lock);
    while (done_count < PIECES) {
        uint64_t now = dp_clock_now_ns(&dp_clock_real);

        CHECK(now < end, "%s: %u ended", name, done_count);
        dp_cond_wait_for(&changed, &lock, end - now);
    }
    dp_mutex_unlock(&lock);
    for (uint32_t i = 0; i < PIECES; i++)
        CHECK(jobs[i].status == want, "%s: piece %u: %s", name, i, jobs[i].text);
    CHECK(want != DP_OK || memcmp(out, contents, SIZE) == 0, "%s: bytes", name);
}

static const struct {
    const char *name;
    const char *scheme, *path;
    bool is_peer, is_hashed, trusts;
    dp_status want;
} rows[] = {
    { "a peer", "http", "file", true, true, false, DP_OK },
    { "a web seed", "http", "file", false, true, false, DP_OK },
    { "a URL", "http", "file", false, false, false, DP_OK },
    { "a URL that leads on", "http", "old", false, false, false, DP_OK },
    { "a peer with TLS", "https", "file", true, true, true, DP_OK },
    { "a web seed with HTTP/2", "https", "file", false, true, true, DP_OK },
    { "TLS of nobody we trust", "https", "file", true, true, false, DP_E_TIMEOUT },
    { "no such file", "http", "else", false, true, false, DP_E_NOTFOUND },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_layout_file file = { "file", { SIZE, PIECE }, 0, rows[i].is_hashed ? hashes : NULL };
        dp_layout layout = { &file, 1, PIECE, PIECES };
        dp_pager_config config = { .layout = &layout,
                                   .clock = &dp_clock_real,
                                   .tls_authority = rows[i].trusts ? "cert.pem" : NULL };
        char url[64];
        const char *urls = url;
        dp_pager_endpoint endpoint = {
            .urls = &urls, .name = "nginx", .is_peer = rows[i].is_peer, .allows_private = true
        };
        dp_pager_stats stats;
        dp_pager *pager;
        dp_error err = { 0 };
        uint32_t id;

        snprintf(url, sizeof url, "%s://127.0.0.1:%u/%s", rows[i].scheme,
                 ports[rows[i].scheme[4] == 's'], rows[i].path);
        CHECK_OK(dp_pager_open(&pager, &config, &err), err);
        CHECK_OK(dp_pager_add(pager, &endpoint, &id, &err), err);
        for (int round = 0; round < (rows[i].want ? 1 : 5); round++)
            fetch(rows[i].name, pager, rows[i].want ? 300 : 8000, rows[i].want);
        dp_pager_stats_read(pager, &stats);
        CHECK(rows[i].want || (stats.connects <= 3 && stats.wasted_bytes == 0),
              "%s: %llu connections for %llu requests", rows[i].name,
              (unsigned long long)stats.connects, (unsigned long long)stats.requests);
        dp_pager_close(pager);
    }
}

static void test_look(void **state)
{
    dp_pager_config config = { .tls_authority = "cert.pem" };
    char url[64];
    dp_url_look look, again;
    dp_error err = { 0 };
    uint8_t *bytes;
    size_t size;

    for (int i = 0; i < 2; i++) {
        snprintf(url, sizeof url, "http%s://127.0.0.1:%u/old", i ? "s" : "", ports[i]);
        CHECK_OK(dp_url_look_at(&look, url, &config, 8000, NULL, NULL, &err), err);
        CHECK(look.size == SIZE && look.is_strong && strstr(look.url, "/file"), "%s", look.url);
        CHECK_OK(dp_url_look_at(&again, look.url, &config, 8000, NULL, NULL, &err), err);
        CHECK(strcmp(look.tag, again.tag) == 0, "%s, then %s", look.tag, again.tag);
        CHECK_OK(dp_url_get(&bytes, &size, url, SIZE, &config, 8000, NULL, NULL, &err), err);
        CHECK(size == SIZE && memcmp(bytes, contents, SIZE) == 0, "bytes");
        dp_free(bytes);
    }
    config.tls_authority = NULL;
    CHECK(dp_url_look_at(&look, url, &config, 8000, NULL, NULL, &err) == DP_E_IO, "trusted");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_look),
    };

    if (system("nginx -v 2>/dev/null") != 0 || system("openssl version >/dev/null") != 0) {
        printf("pager_nginx: 0 passed, 0 failed, %zu skipped\n", DP_ARRAY_LEN(tests));
        fprintf(stderr, "SKIPPED: no nginx or no openssl here\n");
        return 0;
    }
    dp_mutex_init(&lock);
    dp_cond_init(&changed);
    return cmocka_run_group_tests(tests, start_nginx, stop_nginx);
}
