/* cmd_peers.c - doppler peers: who has a model, and which experts nobody has. */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "app/cli/serve.h"
#include "app/cli/swarm_report.h"
#include "base/mem.h"
#include "base/status.h"

#define REPORT_BYTES_MAX ((size_t)256 << 20) /* hundreds of layers of hundreds of experts */

static void show_line(void *user, char out[DP_SERVE_LINE_MAX])
{
    dp_mounts *mounts = user;

    snprintf(out, DP_SERVE_LINE_MAX, "waiting for peers: %zu so far, Ctrl-C waits no longer",
             dp_mount_peers(mounts->model, NULL, 0));
}

static dp_status write_report(const dp_args *args, const dp_peers_report *report, dp_buf *out,
                              dp_error *err)
{
    dp_status st;

    if (dp_args_flag(args, "json")) {
        json_t *object = dp_peers_json(report);
        st = object ? dp_json_write(out, object, 2) : DP_E_NOMEM;
        json_decref(object);
    } else {
        st = dp_peers_text(report, out);
    }
    return st ? dp_fail(err, st, "peers: no memory for the report") : DP_OK;
}

static dp_status look(dp_mounts *mounts, const dp_args *args, dp_buf *out, dp_error *err)
{
    dp_peer_info *peers = NULL;
    uint32_t *holders = NULL;
    dp_peers_report report = { 0 };
    dp_status st;

    dp_serve(show_line, mounts, (unsigned)dp_args_count(args, "for"));
    peers = dp_alloc(DP_PEERS_MAX, sizeof *peers);
    if (!peers)
        return dp_fail(err, DP_E_NOMEM, "peers: no memory for a list of them");
    report.peer_count = DP_MIN(dp_mount_peers(mounts->model, peers, DP_PEERS_MAX), DP_PEERS_MAX);
    report.peers = peers;
    dp_mount_info_read(mounts->model, &report.mount);
    st = dp_mount_holders(mounts->model, &holders, &report.layers, &report.experts, err);
    report.holders = holders;
    if (!st)
        st = write_report(args, &report, out, err);
    dp_swarm_free(holders);
    dp_free(peers);
    return st;
}

static int peers_main(const dp_args *args)
{
    dp_mounts mounts = { .args = args, .is_lazy = true };
    dp_error err = { 0 };
    dp_place place;
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    st = dp_mounts_find(&mounts, args->operands[0], &place, &err);
    if (!st && !mounts.model)
        st = dp_fail(&err, DP_E_INVALID,
                     "peers: %s is a file: give its .torrent, a magnet link or a URL",
                     args->operands[0]);
    if (!st)
        st = look(&mounts, args, &out, &err);
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_mounts_close(&mounts);
    dp_buf_deinit(&out);
    return code;
}

static const dp_option options[] = {
    { "for", "", DP_OPTION_COUNT, "SECONDS", 1, 3600, "5", NULL,
      "how long to wait for peers before looking" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_peers = {
    .name = "peers",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Shows who has a model, and which experts nobody has",
    .details = "MODEL is a .torrent, a magnet link or a URL. Shown are peers with what they gave, "
               "how fast, their failures and bans, and for each layer how many hold each expert, "
               "this node among them.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_swarm = true,
    .run = peers_main,
};
