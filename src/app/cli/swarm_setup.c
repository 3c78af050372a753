#include "app/cli/swarm_setup.h"

#include <stdio.h>
#include <string.h>
#include "base/drive.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/cache.h"

#define FREE_SHARE 10

uint64_t dp_swarm_setup_disk_bytes(uint64_t free_bytes, uint64_t used_bytes)
{
    uint64_t bytes;

    if (!dp_u64_add(free_bytes, used_bytes, &bytes))
        bytes = UINT64_MAX;
    return DP_MIN(bytes / FREE_SHARE, DP_SWARM_SETUP_DISK_MAX);
}

/* Bytes free where the folder is, or will be; 0: nobody can tell. */
static uint64_t find_free(const char *folder)
{
    char path[DP_USERDIR_PATH_MAX];
    dp_drive_info drive;

    snprintf(path, sizeof path, "%s", folder);
    while (dp_drive_read(&drive, path, NULL)) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path)
            return dp_drive_read(&drive, slash ? "/" : ".", NULL) ? 0 : drive.free_bytes;
        *slash = 0;
    }
    return drive.free_bytes;
}

static uint64_t find_used(const char *folder)
{
    dp_cache_entry *entries;
    uint64_t bytes = 0;
    size_t count;

    if (dp_cache_list(folder, &entries, &count, NULL))
        return 0;
    for (size_t i = 0; i < count; i++)
        bytes += entries[i].used_bytes;
    dp_cache_free(entries);
    return bytes;
}

/* Ranges and words are the table's to judge. */
static dp_status check_values(const dp_args *args, dp_error *err)
{
    dp_options *options = dp_options_open();
    dp_status st = DP_OK;

    if (!options)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for options", args->command->name);
    for (size_t i = 0; i < args->value_count && !st; i++)
        if (args->values[i].is_shared)
            st = dp_options_set(options, args->values[i].option->name, args->values[i].text, err);
    dp_options_close(options);
    return st;
}

static uint64_t read_size(const dp_args *args, const char *name)
{
    uint64_t bytes = 0;

    dp_parse_size(dp_str_from(dp_args_text(args, name)), &bytes);
    return bytes;
}

/* NULL where nothing was said. */
static const char *read_text(const dp_args *args, const char *name)
{
    const char *text = dp_args_text(args, name);

    return text && text[0] ? text : NULL;
}

static const char *read_listen(const dp_args *args, const char *name, bool shares)
{
    const char *text = dp_args_text(args, name);

    if (strcmp(text, "auto") == 0)
        return shares ? "0.0.0.0:0" : NULL;
    return strcmp(text, "off") == 0 ? NULL : text;
}

static dp_status read_peers(dp_swarm_setup *out, const dp_args *args, dp_error *err)
{
    const char *text;
    size_t at = 0;

    while ((text = dp_args_next(args, "peer", &at))) {
        if (out->config.peer_count == DP_SWARM_SETUP_PEERS_MAX)
            return dp_fail(err, DP_E_INVALID, "%s: more than %d --peer", args->command->name,
                           DP_SWARM_SETUP_PEERS_MAX);
        if (!strrchr(text, ':'))
            return dp_fail(err, DP_E_INVALID, "%s: --peer takes HOST:PORT, not \"%.200s\"",
                           args->command->name, text);
        out->peers[out->config.peer_count++] = text;
    }
    return DP_OK;
}

static void read_cache(dp_swarm_setup *out, const dp_args *args)
{
    const char *disk = dp_args_text(args, "disk");

    dp_userdir_models(out->folder, dp_args_text(args, "cache-dir"));
    if (!out->folder[0])
        return;
    out->config.cache_folder = out->folder;
    out->config.disk_bytes =
        strcmp(disk, "auto") != 0
            ? read_size(args, "disk")
            : dp_swarm_setup_disk_bytes(find_free(out->folder), find_used(out->folder));
}

dp_status dp_swarm_setup_read(dp_swarm_setup *out, const dp_args *args, bool shares, dp_error *err)
{
    uint64_t wait_s = 0;
    dp_status st;

    memset(out, 0, sizeof *out);
    st = check_values(args, err);
    if (!st)
        st = read_peers(out, args, err);
    if (st)
        return st;
    dp_parse_u64(dp_str_from(dp_args_text(args, "swarm-wait")), &wait_s);
    out->config.peers = out->peers;
    out->config.shares = shares || dp_args_flag(args, "share");
    out->config.listen = read_listen(args, "listen", out->config.shares);
    out->config.http_listen = read_listen(args, "http-listen", out->config.shares);
    out->config.uses_dht = dp_args_flag(args, "dht");
    out->config.uses_lsd = dp_args_flag(args, "lsd");
    out->config.upload_bytes_s = read_size(args, "upload-rate");
    out->config.token = read_text(args, "swarm-token");
    out->config.tls_certificate = read_text(args, "tls-cert");
    out->config.tls_key = read_text(args, "tls-key");
    out->config.tls_authority = read_text(args, "tls-ca");
    out->config.wait_ms = (uint32_t)wait_s * 1000;
    if (!out->config.tls_certificate != !out->config.tls_key)
        return dp_fail(err, DP_E_INVALID, "%s: --tls-cert and --tls-key belong together",
                       args->command->name);
    read_cache(out, args);
    return DP_OK;
}
