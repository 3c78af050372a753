/* cmd_tracker.c - doppler tracker: tells nodes of each other. */
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/output.h"
#include "app/cli/serve.h"
#include "base/mem.h"
#include "base/status.h"
#include "doppler/swarm.h"

#define TORRENTS_MAX 64

typedef struct tracked {
    dp_torrent_file *torrents[TORRENTS_MAX];
    const char *infos[2 * TORRENTS_MAX]; /* v2, and v1 of hybrids */
    size_t count, info_count;
} tracked;

static bool is_info(const char *text)
{
    size_t size = strlen(text);

    return (size == 40 || size == 64) && strspn(text, "0123456789abcdefABCDEF") == size;
}

/* --torrent FILE or HASH: what is tracked; without any, everything. */
static dp_status read_torrents(tracked *t, const dp_args *args, dp_error *err)
{
    dp_torrent_info info;
    const char *text;
    dp_status st;
    size_t at = 0;

    while ((text = dp_args_next(args, "torrent", &at))) {
        if (t->info_count + 2 > DP_ARRAY_LEN(t->infos) || t->count == TORRENTS_MAX)
            return dp_fail(err, DP_E_INVALID, "tracker: more than %d --torrent", TORRENTS_MAX);
        if (is_info(text)) {
            t->infos[t->info_count++] = text;
            continue;
        }
        st = dp_torrent_file_open(&t->torrents[t->count], text, err);
        if (st)
            return st;
        dp_torrent_file_info(t->torrents[t->count++], &info);
        t->infos[t->info_count++] = info.info_v2;
        if (info.info_v1)
            t->infos[t->info_count++] = info.info_v1;
    }
    return DP_OK;
}

static void show_line(void *user, char out[DP_SERVE_LINE_MAX])
{
    dp_tracker_stats stats;

    dp_tracker_stats_read(user, &stats);
    snprintf(out, DP_SERVE_LINE_MAX, "tracking: %u torrents, %u peers, %llu announces",
             stats.torrents, stats.peers, (unsigned long long)stats.announces);
}

static dp_status print_address(const dp_tracker *tracker, const char *listen, dp_error *err)
{
    size_t host = (size_t)(strrchr(listen, ':') ? strrchr(listen, ':') - listen : 0);
    dp_output *output;
    dp_status st = dp_output_open(&output, "-", err);
    char line[256];

    if (st)
        return st;
    snprintf(line, sizeof line, "http://%.*s:%u/announce\n", (int)DP_MIN(host, (size_t)200), listen,
             dp_tracker_port(tracker));
    dp_output_text(output, line);
    return dp_output_close(output, err);
}

static int tracker_main(const dp_args *args)
{
    tracked *t = dp_alloc_zero(1, sizeof *t);
    dp_tracker_config config = { .listen = dp_args_text(args, "listen"),
                                 .interval_s = (uint32_t)dp_args_count(args, "interval") };
    dp_tracker *tracker = NULL;
    dp_error err = { 0 };
    dp_status st;

    st = t ? read_torrents(t, args, &err) : dp_fail(&err, DP_E_NOMEM, "tracker: no memory");
    if (st)
        goto done;
    config.infos = t->infos;
    config.info_count = t->info_count;
    st = dp_tracker_open(&tracker, &config, &err);
    if (st)
        goto done;
    dp_interrupt_watch(NULL);
    st = print_address(tracker, config.listen, &err);
    if (!st)
        dp_serve(show_line, tracker, 0);
done:
    dp_tracker_close(tracker);
    for (size_t i = 0; t && i < t->count; i++)
        dp_torrent_file_close(t->torrents[i]);
    dp_free(t);
    return dp_exit_report(st, &err);
}

static const dp_option options[] = {
    { "listen", "", DP_OPTION_TEXT, "ADDRESS:PORT", 0, 0, "0.0.0.0:6969", NULL,
      "where to answer; port 0 for any" },
    { "torrent", "", DP_OPTION_TEXT, "FILE|HASH", 0, 0, NULL, NULL,
      "track this torrent only: a .torrent, or an info-hash in hex; may be given up to 64 times; "
      "without it every torrent that is announced" },
    { "interval", "", DP_OPTION_COUNT, "SECONDS", 0, 86400, "0", NULL,
      "how often nodes announce themselves; 0 is half an hour" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_tracker = {
    .name = "tracker",
    .operands = "",
    .summary = "Tells nodes that share a model of each other, until Ctrl-C",
    .details = "A small HTTP tracker for groups of one's own. Prints its address, which goes into "
               "doppler share --tracker. It keeps nothing on disk.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = tracker_main,
};
