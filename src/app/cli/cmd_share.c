/* cmd_share.c - doppler share: publishes a model as a .torrent and gives it to others. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/progress.h"
#include "app/cli/serve.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/inspect.h"

#define PARTS_MAX       1024 /* a split model's */
#define URLS_MAX        64   /* trackers, web seeds: of each */
#define PATH_BYTES_MAX  4096
#define PART_SUFFIX_LEN 20 /* "-00001-of-00002.gguf" */

typedef struct share {
    const dp_args *args;
    dp_mounts mounts;
    dp_inspect *inspect; /* owns the paths of the parts */
    dp_torrent_config config;
    const char *paths[PARTS_MAX];
    const char *trackers[URLS_MAX], *web_seeds[URLS_MAX];
    char torrent[PATH_BYTES_MAX];
    dp_swarm_stats before;
} share;

/* What says how a .torrent is made, and nothing of one that is there. */
static const char *const making[] = { "tracker", "web-seed", "v2-only", "private", "piece-size" };

static dp_status read_urls(const dp_args *args, const char *name, const char **urls, size_t *count,
                           dp_error *err)
{
    const char *text;
    size_t at = 0;

    while ((text = dp_args_next(args, name, &at))) {
        if (*count == URLS_MAX)
            return dp_fail(err, DP_E_INVALID, "share: more than %d --%s", URLS_MAX, name);
        urls[(*count)++] = text;
    }
    return DP_OK;
}

/* MODEL.gguf.torrent; of a split model PREFIX.torrent. */
static dp_status name_torrent(share *s, dp_error *err)
{
    const char *given = dp_args_text(s->args, "torrent");
    const char *model = s->args->operands[0];
    size_t size = strlen(model);
    int written;

    if (s->config.path_count > 1 && size > PART_SUFFIX_LEN)
        size -= PART_SUFFIX_LEN;
    written = given ? snprintf(s->torrent, PATH_BYTES_MAX, "%s", given)
                    : snprintf(s->torrent, PATH_BYTES_MAX, "%.*s.torrent", (int)size, model);
    if (written < 0 || written >= PATH_BYTES_MAX)
        return dp_fail(err, DP_E_LIMIT, "share: the name of the .torrent is longer than %d bytes",
                       PATH_BYTES_MAX);
    return DP_OK;
}

static dp_status read_config(share *s, dp_error *err)
{
    dp_torrent_config *c = &s->config;
    uint64_t piece_size = 0;
    dp_status st = dp_inspect_open(&s->inspect, s->args->operands[0], err);

    if (st)
        return st;
    while (c->path_count < PARTS_MAX &&
           (s->paths[c->path_count] = dp_inspect_part(s->inspect, (uint32_t)c->path_count)))
        c->path_count++;
    st = name_torrent(s, err);
    if (!st)
        st = read_urls(s->args, "tracker", s->trackers, &c->tracker_count, err);
    if (!st)
        st = read_urls(s->args, "web-seed", s->web_seeds, &c->web_seed_count, err);
    if (st)
        return st;
    dp_parse_size(dp_str_from(dp_args_text(s->args, "piece-size")), &piece_size);
    c->paths = s->paths;
    c->trackers = s->trackers;
    c->web_seeds = s->web_seeds;
    c->piece_size = (uint32_t)piece_size;
    c->is_v2_only = dp_args_flag(s->args, "v2-only");
    c->is_private = dp_args_flag(s->args, "private");
    return DP_OK;
}

static dp_status write_torrent(share *s, dp_error *err)
{
    dp_progress_bar bar;
    dp_status st;

    if (access(s->torrent, F_OK) == 0) {
        for (size_t i = 0; i < DP_ARRAY_LEN(making); i++)
            if (dp_args_is_given(s->args, making[i]))
                return dp_fail(err, DP_E_INVALID,
                               "share: %s is there already and --%s would make another: remove "
                               "it, or name another with --torrent",
                               s->torrent, making[i]);
        return DP_OK;
    }
    dp_progress_bar_init(&bar, "hashing", NULL);
    st = dp_torrent_write(s->torrent, &s->config, dp_load_progress, &bar, err);
    dp_progress_bar_deinit(&bar);
    if (!st)
        fprintf(stderr, "doppler: wrote %s\n", s->torrent);
    return st;
}

/* The answer: the link. */
static dp_status print_magnet(const share *s, dp_error *err)
{
    dp_torrent_file *torrent;
    dp_torrent_info info;
    dp_output *output;
    dp_status st = dp_torrent_file_open(&torrent, s->torrent, err);

    if (st)
        return st;
    dp_torrent_file_info(torrent, &info);
    st = dp_output_open(&output, "-", err);
    if (!st) {
        dp_output_text(output, info.magnet);
        dp_output_text(output, "\n");
        st = dp_output_close(output, err);
    }
    dp_torrent_file_close(torrent);
    return st;
}

static void show_line(void *user, char out[DP_SERVE_LINE_MAX])
{
    const share *s = user;
    dp_swarm_stats now;
    char given[16];

    dp_swarm_stats_read(s->mounts.swarm, &now);
    snprintf(out, DP_SERVE_LINE_MAX, "sharing: %s given, Ctrl-C ends",
             dp_format_size(given, now.uploaded_bytes - s->before.uploaded_bytes));
}

static dp_status serve(share *s, dp_error *err)
{
    char torrent[64], http[64];
    dp_status st = dp_mounts_open_swarm(&s->mounts, err);

    if (st)
        return st;
    dp_interrupt_watch_swarm(s->mounts.swarm);
    st = dp_swarm_share(s->mounts.swarm, s->args->operands[0], s->torrent, err);
    if (st)
        return st;
    dp_swarm_addresses(s->mounts.swarm, torrent, http);
    if (!dp_args_flag(s->args, "quiet"))
        fprintf(stderr, "doppler: sharing %s: peers at %s, ranges at %s\n", s->args->operands[0],
                torrent[0] ? torrent : "no address", http[0] ? http : "no address");
    dp_swarm_stats_read(s->mounts.swarm, &s->before);
    dp_serve(show_line, s, 0);
    return DP_OK;
}

static int share_main(const dp_args *args)
{
    share *s = dp_alloc_zero(1, sizeof *s);
    dp_error err = { 0 };
    dp_status st;

    if (!s) {
        st = dp_fail(&err, DP_E_NOMEM, "share: no memory");
        return dp_exit_report(st, &err);
    }
    s->args = args;
    s->mounts = (dp_mounts){ .args = args, .shares = true };
    dp_interrupt_watch(NULL);
    st = read_config(s, &err);
    if (!st)
        st = write_torrent(s, &err);
    if (!st)
        st = print_magnet(s, &err);
    if (!st && !dp_args_flag(args, "no-serve"))
        st = serve(s, &err);
    dp_mounts_close(&s->mounts);
    dp_inspect_close(s->inspect);
    dp_free(s);
    return dp_exit_report(st, &err);
}

static const dp_option options[] = {
    { "torrent", "", DP_OPTION_TEXT, "FILE", 0, 0, NULL, NULL,
      "the .torrent; without it, MODEL.torrent; written if it is not there" },
    { "tracker", "", DP_OPTION_TEXT, "URL", 0, 0, NULL, NULL,
      "a tracker to name in it; may be given up to 64 times" },
    { "web-seed", "", DP_OPTION_TEXT, "URL", 0, 0, NULL, NULL,
      "where the same files are by HTTP; may be given up to 64 times" },
    { "v2-only", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "write a smaller .torrent that older clients and browsers cannot load" },
    { "private", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "mark it private: peers come from its trackers and by hand only" },
    { "piece-size", "", DP_OPTION_SIZE, "BYTES", 0, 67108864, "0", NULL,
      "bytes of a piece, a power of two; 0 fits it to the model's experts" },
    { "no-serve", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "only write the .torrent" },
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_share = {
    .name = "share",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Gives a model to others by a .torrent, until Ctrl-C",
    .details = "MODEL is a GGUF file, or any part of a split one. Writes MODEL.torrent if it is "
               "not there, prints its magnet link, and serves both BitTorrent and range requests. "
               "Nothing is announced but to the trackers it names, and with --dht or --lsd.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_swarm = true,
    .run = share_main,
};
