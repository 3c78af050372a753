#include "app/cli/load.h"

#include <string.h>

#include "app/cli/command.h"
#include "app/cli/drives_file.h"
#include "app/cli/interrupt.h"
#include "app/cli/progress.h"
#include "app/cli/userdir.h"
#include "base/status.h"
#include "doppler/convert.h"

dp_status dp_load_heat(dp_options *options, const dp_args *args, dp_error *err)
{
    char folder[DP_USERDIR_PATH_MAX];

    if (strcmp(dp_args_text(args, "heat"), "auto") != 0)
        return DP_OK;
    dp_userdir_find(folder, "XDG_CACHE_HOME", ".cache", "doppler/heat/");
    return folder[0] ? dp_options_set(options, "heat", folder, err) : DP_OK;
}

dp_status dp_load_options(dp_options **out, const dp_args *args, dp_error *err)
{
    dp_options *options = dp_options_open();
    dp_status st = DP_OK;

    *out = NULL;
    if (!options)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory for options", args->command->name);
    for (size_t i = 0; i < args->value_count && !st; i++)
        if (args->values[i].is_shared)
            st = dp_options_set(options, args->values[i].option->name, args->values[i].text, err);
    if (!st && args->command->takes_sampling)
        st = dp_load_heat(options, args, err);
    if (st) {
        dp_options_close(options);
        return st;
    }
    *out = options;
    return DP_OK;
}

dp_status dp_load_check_path(const char *path, dp_error *err)
{
    if (!dp_convert_is_directory(path))
        return DP_OK;
    return dp_fail(err, DP_E_UNSUPPORTED,
                   "%s: is a Hugging Face directory: first make a file of it with doppler convert "
                   "%s MODEL.gguf",
                   path, path);
}

bool dp_load_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    dp_progress_bar_update(user, done_bytes, total_bytes);
    return !dp_interrupt_is_seen();
}

dp_status dp_load_engine(dp_engine **out, dp_mounts *mounts, const dp_args *args,
                         dp_options *options, dp_error *err)
{
    dp_progress_bar bar;
    dp_place place;
    dp_status st;

    *out = NULL;
    st = dp_mounts_find(mounts, args->operands[0], &place, err);
    if (st)
        return st;
    if (place.path)
        dp_drives_file_advise(options, place.path);
    dp_interrupt_watch(NULL);
    dp_progress_bar_init(&bar, "loading", NULL);
    if (place.path)
        st = dp_engine_open(out, place.path, options, dp_load_progress, &bar, err);
    else
        st = dp_engine_open_source(out, place.source, options, dp_load_progress, &bar, err);
    dp_progress_bar_deinit(&bar);
    dp_interrupt_watch_swarm(NULL); /* a step is canceled by the engine: the node goes on */
    if (!st)
        dp_interrupt_watch(*out);
    return st;
}

dp_status dp_load_vocab_file(dp_vocab **out, dp_mounts *mounts, const char *name, dp_error *err)
{
    dp_place place;
    dp_status st = dp_mounts_find(mounts, name, &place, err);

    *out = NULL;
    if (st)
        return st;
    return place.path ? dp_vocab_open(out, place.path, err)
                      : dp_vocab_open_source(out, place.source, err);
}

dp_status dp_load_inspect(dp_inspect **out, dp_mounts *mounts, const char *name, dp_error *err)
{
    dp_place place;
    dp_status st = dp_mounts_find(mounts, name, &place, err);

    *out = NULL;
    if (st)
        return st;
    return place.path ? dp_inspect_open(out, place.path, err)
                      : dp_inspect_open_source(out, place.source, err);
}

void dp_load_close(dp_engine *engine)
{
    dp_interrupt_watch(NULL);
    dp_engine_close(engine);
}

dp_status dp_load_vocab(const dp_vocab **out, const dp_engine *engine, const dp_args *args,
                        dp_error *err)
{
    *out = dp_engine_vocab(engine);
    if (*out)
        return DP_OK;
    return dp_fail(err, DP_E_UNSUPPORTED,
                   "%s: can neither read nor write text (doppler logits works on token ids): %s",
                   args->operands[0], dp_engine_vocab_problem(engine));
}
