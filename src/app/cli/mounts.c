#include "app/cli/mounts.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "app/cli/interrupt.h"
#include "app/cli/load.h"
#include "app/cli/swarm_setup.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

dp_status dp_mounts_open_swarm(dp_mounts *m, dp_error *err)
{
    dp_swarm_setup *setup;
    dp_status st;

    if (m->swarm)
        return DP_OK;
    setup = dp_alloc(1, sizeof *setup);
    if (!setup)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for a node", m->args->command->name);
    st = dp_swarm_setup_read(setup, m->args, m->shares, err);
    setup->config.is_lazy = m->is_lazy;
    if (!st)
        st = dp_swarm_open(&m->swarm, &setup->config, err);
    m->keeps = setup->config.cache_folder && setup->config.disk_bytes;
    dp_free(setup);
    return st;
}

/* A line that goes when the work is over: nobody can tell how long it takes. */
static void show_work(const char *work, const char *name)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s %.60s ...\033[K", work, name);
}

static void hide_work(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

static void describe(const dp_mounts *m, const dp_mount *mount)
{
    dp_mount_info info;
    char all[16], here[16];

    if (dp_args_flag(m->args, "quiet"))
        return;
    dp_mount_info_read(mount, &info);
    fprintf(stderr, "doppler: %s: %s, of it here %s, checked by %s\n", info.name,
            dp_format_size(all, info.file_bytes), dp_format_size(here, info.present_bytes),
            info.check);
}

static dp_status add_mount(dp_mounts *m, const char *name, dp_mount **out, dp_error *err)
{
    dp_status st;

    if (m->count == DP_MOUNTS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: more than %d models and adapters from elsewhere",
                       m->args->command->name, DP_MOUNTS_MAX);
    st = dp_mounts_open_swarm(m, err);
    if (st)
        return st;
    dp_interrupt_watch_swarm(m->swarm);
    show_work("looking for", name);
    st = dp_mount_open(&m->mounts[m->count], m->swarm, name, err);
    hide_work();
    if (st)
        return st;
    *out = m->mounts[m->count++];
    describe(m, *out);
    return DP_OK;
}

dp_status dp_mounts_find(dp_mounts *m, const char *name, dp_place *out, dp_error *err)
{
    dp_status st;

    *out = (dp_place){ .path = name };
    if (!dp_swarm_is_name(name))
        return dp_load_check_path(name, err);
    st = add_mount(m, name, &m->model, err);
    if (!st)
        *out = (dp_place){ .source = dp_mount_source(m->model) };
    return st;
}

dp_status dp_mounts_fetch(dp_mounts *m, const char *name, const char **path, dp_error *err)
{
    dp_mount *mount;
    dp_status st;

    *path = name;
    if (!dp_swarm_is_name(name))
        return DP_OK;
    st = add_mount(m, name, &mount, err);
    if (!st) {
        show_work("fetching", name);
        st = dp_mount_fetch(mount, 0, path, err);
        hide_work();
    }
    dp_interrupt_watch_swarm(NULL);
    return st;
}

void dp_mounts_close(dp_mounts *m)
{
    dp_swarm_stats stats;

    dp_interrupt_watch_swarm(NULL);
    if (!m->swarm)
        return;
    dp_swarm_stats_read(m->swarm, &stats);
    if (m->keeps && stats.cache_problem[0])
        fprintf(stderr, "doppler: the cache keeps nothing any more: %s\n", stats.cache_problem);
    while (m->count)
        dp_mount_close(m->mounts[--m->count]);
    dp_swarm_close(m->swarm);
    m->swarm = NULL;
    m->model = NULL;
}
