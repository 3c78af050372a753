#include "swarm_testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "doppler/swarm.h"
#include "store/store.h"
#include "swarm/local_files.h"
#include "testing/check.h"
#include "testing/remove_folder.h"

char folder[64];
char model[512];

const char *in_folder(path *out, const char *name)
{
    snprintf(out->text, sizeof out->text, "%s/%s", folder, name);
    return out->text;
}

int make_folder(void **state)
{
    const char *paths[] = { model };
    dp_torrent_config config = { .paths = paths, .path_count = 1, .piece_size = PIECE };
    dp_error err;
    path torrent;

    strcpy(folder, "/tmp/doppler_swarm.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    CHECK_OK(dp_torrent_write(in_folder(&torrent, "m.torrent"), &config, NULL, NULL, &err), err);
    return 0;
}

int drop_folder(void **state)
{
    return remove_folder(folder);
}

/* Children. */

static void start(child *c, const char *program, const char *const *args)
{
    const char *argv[24] = { program };
    int to[2], from[2];

    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    CHECK(pipe(to) == 0 && pipe(from) == 0, "no pipes");
    c->pid = fork();
    CHECK(c->pid >= 0, "no process");
    if (c->pid == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        close(to[1]);
        close(from[0]);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    c->to = to[1];
    c->from = from[0];
}

void child_start(child *c, const char *const *args)
{
    start(c, "/proc/self/exe", args);
}

bool child_line(child *c)
{
    size_t n = 0;

    while (n + 1 < sizeof c->line) {
        struct pollfd poll_fd = { .fd = c->from, .events = POLLIN };
        CHECK(poll(&poll_fd, 1, WAIT_S * 1000) == 1, "a child said nothing for %d s", WAIT_S);
        if (read(c->from, c->line + n, 1) != 1)
            return false;
        if (c->line[n] == '\n')
            break;
        n++;
    }
    c->line[n] = 0;
    return true;
}

void child_kill(child *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->to);
    close(c->from);
}

/* A node that has a part. */

static void fill_part(const char *cache, const dp_metainfo *metainfo, uint32_t which, uint32_t of)
{
    const dp_layout_file *file = &dp_metainfo_layout(metainfo)->files[0];
    char key[65];
    dp_store_config config = { .folder = cache, .budget_bytes = 1 << 30, .clock = &dp_clock_real };
    dp_store_file_config file_config = {
        .key = key, .name = file->path, .pieces = file->pieces, .hashes = file->hashes
    };
    dp_store *store;
    dp_store_file *mirror;
    uint8_t *bytes = dp_alloc(PIECE, 1);
    dp_file from;
    dp_error err;

    dp_hash_hex(key, dp_metainfo_info_v2(metainfo));
    CHECK_OK(dp_store_open(&store, &config, &err), err);
    CHECK_OK(dp_store_file_open(&mirror, store, &file_config, &err), err);
    CHECK_OK(dp_file_open(&from, model, false, &err), err);
    for (uint32_t i = 0; i < dp_pieces_count(file->pieces); i++) {
        if (i % of != which && i * PIECE >= 1 << 18) /* the header is 230 KB */
            continue;
        CHECK_OK(dp_file_read(&from, model, (uint64_t)i * PIECE, bytes,
                              dp_pieces_size(file->pieces, i), &err),
                 err);
        CHECK_OK(dp_store_write(mirror, i, bytes, NULL, &err), err);
    }
    dp_file_close(&from);
    dp_store_file_close(mirror);
    dp_store_close(store);
    dp_free(bytes);
}

static void wait_for_end(void)
{
    char byte;

    while (read(0, &byte, 1) > 0)
        ;
}

/* --node FOLDER MODEL WHICH OF */
void node_main(int argc, char **argv)
{
    dp_swarm_config config = {
        .disk_bytes = 1 << 30, .listen = "127.0.0.1:0", .http_listen = "127.0.0.1:0", .shares = true
    };
    char cache_name[32], torrent_at[64], http_at[64];
    path cache, torrent;
    dp_metainfo *metainfo;
    dp_swarm *node;
    dp_mount *mount;
    dp_error err;

    snprintf(folder, sizeof folder, "%s", argv[2]);
    snprintf(model, sizeof model, "%s", argv[3]);
    snprintf(cache_name, sizeof cache_name, "node%s", argv[4]);
    config.cache_folder = in_folder(&cache, cache_name);
    CHECK_OK(dp_local_metainfo(&metainfo, in_folder(&torrent, "m.torrent"), &err), err);
    fill_part(cache.text, metainfo, (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]));
    dp_metainfo_close(metainfo);
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, torrent.text, &err), err);
    dp_swarm_addresses(node, torrent_at, http_at);
    printf("%s %s\n", torrent_at, http_at);
    fflush(stdout);
    wait_for_end();
    dp_mount_close(mount);
    dp_swarm_close(node);
    exit(0);
}

void start_node(child *c, int which, int of)
{
    char which_text[8], of_text[8];
    const char *args[] = { "--node", folder, model, which_text, of_text, NULL };

    snprintf(which_text, sizeof which_text, "%d", which);
    snprintf(of_text, sizeof of_text, "%d", of);
    child_start(c, args);
}

void addresses(const child *c, char torrent[64], char http[64])
{
    CHECK(sscanf(c->line, "%63s %63s", torrent, http) == 2, "a node said \"%s\"", c->line);
}

/* Runs. */

static float *play(dp_engine *engine)
{
    dp_token tokens[TOKENS];
    play_recorder r;
    dp_session *session;
    uint32_t x = 1;

    for (int i = 0; i < TOKENS; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (dp_token)((x >> 8) % VOCAB);
    }
    play_recorder_init(&r, VOCAB, TOKENS);
    session = play_session(engine, &r);
    play_tokens(session, tokens, TOKENS / 2);
    for (int i = TOKENS / 2; i < TOKENS; i++)
        play_tokens(session, &tokens[i], 1);
    dp_session_close(session);
    return r.logits;
}

float *play_path(const char *at)
{
    static const play_setting settings[PLAY_SETTINGS_MAX] = { { "ram", "64MiB" }, { "ctx", "64" } };
    dp_options *options = play_options(settings);
    dp_engine *engine = play_open(at, options);
    float *logits = play(engine);

    dp_engine_close(engine);
    dp_options_close(options);
    return logits;
}

float *play_mount(dp_mount *mount, const char *ram)
{
    play_setting settings[PLAY_SETTINGS_MAX] = { { "ram", ram }, { "ctx", "64" } };
    dp_options *options = play_options(settings);
    dp_engine *engine;
    float *logits;
    dp_error err;

    CHECK_OK(dp_engine_open_source(&engine, dp_mount_source(mount), options, NULL, NULL, &err),
             err);
    logits = play(engine);
    dp_engine_close(engine);
    dp_options_close(options);
    return logits;
}

void check_logits(const float *a, const float *b)
{
    for (size_t i = 0; i < (size_t)TOKENS * VOCAB; i++)
        CHECK(memcmp(&a[i], &b[i], sizeof *a) == 0, "logit %zu of token %zu: %a, %a", i % VOCAB,
              i / VOCAB, (double)a[i], (double)b[i]);
}

/* --run FOLDER MODEL PEER: plays until it is killed, and says so each time. */
void runner_main(int argc, char **argv)
{
    const char *peers[] = { argv[4] };
    path cache, torrent;
    dp_swarm_config config = { .disk_bytes = 3 << 20, .peers = peers, .peer_count = 1 };
    dp_swarm *node;
    dp_mount *mount;
    dp_error err;

    snprintf(folder, sizeof folder, "%s", argv[2]);
    snprintf(model, sizeof model, "%s", argv[3]);
    config.cache_folder = in_folder(&cache, "killed");
    CHECK_OK(dp_swarm_open(&node, &config, &err), err);
    CHECK_OK(dp_mount_open(&mount, node, in_folder(&torrent, "m.torrent"), &err), err);
    for (;;) {
        printf("ready\n");
        fflush(stdout);
        free(play_mount(mount, "8MiB"));
    }
}

/* nginx. */

static int free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(bind(fd, (struct sockaddr *)&address, size) == 0 &&
              getsockname(fd, (struct sockaddr *)&address, &size) == 0,
          "no port");
    close(fd);
    return ntohs(address.sin_port);
}

static bool answers(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                   .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool is_there = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;

    close(fd);
    return is_there;
}

void start_nginx(child *c, int *port)
{
    path conf, prefix;
    const char *args[] = { "-p", in_folder(&prefix, "."), "-c", in_folder(&conf, "nginx.conf"),
                           NULL };
    char files[512];
    FILE *out = fopen(conf.text, "w");

    *port = free_port();
    snprintf(files, sizeof files, "%s", model);
    *strrchr(files, '/') = 0;
    fprintf(out,
            "daemon off; master_process off; pid %s/nginx.pid; error_log %s/error.log;\n"
            "events {}\n"
            "http { access_log off; client_body_temp_path %s; proxy_temp_path %s;\n"
            " fastcgi_temp_path %s; uwsgi_temp_path %s; scgi_temp_path %s;\n"
            " server { listen 127.0.0.1:%d;\n"
            "  location /m/ { alias %s/; }\n"
            "  location /none/ { alias %s/; max_ranges 0; } } }\n",
            folder, folder, folder, folder, folder, folder, folder, *port, files, files);
    fclose(out);
    start(c, "/usr/sbin/nginx", args);
    for (int i = 0; i < WAIT_S * 100 && !answers(*port); i++)
        usleep(10000); /* another program's start: there is no event to wait for */
    CHECK(answers(*port), "nginx does not answer");
}
