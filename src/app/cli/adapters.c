#include "app/cli/adapters.h"

#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/status.h"

/* What stands behind the last "=" is a scale if it is a number: names may have "=" too. */
static float split_scale(dp_str *path)
{
    double scale = 1;
    size_t at = path->size;

    while (at > 0 && path->bytes[at - 1] != '=')
        at--;
    if (at == 0 || !dp_parse_f64((dp_str){ path->bytes + at, path->size - at }, &scale))
        return 1;
    path->size = at - 1;
    return (float)scale;
}

dp_status dp_adapters_read(dp_adapters *out, const dp_args *args, dp_error *err)
{
    const char *text;
    size_t at = 0;

    *out = (dp_adapters){ .count = 0 };
    while ((text = dp_args_next(args, "lora", &at))) {
        dp_str path = dp_str_from(text);
        float scale = split_scale(&path);

        if (out->count == DP_SESSION_ADAPTERS_MAX)
            return dp_fail(err, DP_E_INVALID, "%s: more than %d adapters", args->command->name,
                           DP_SESSION_ADAPTERS_MAX);
        if (path.size == 0 || !isfinite(scale))
            return dp_fail(err, DP_E_INVALID, "%s: --lora takes FILE or FILE=SCALE, not \"%s\"",
                           args->command->name, text);
        out->paths[out->count] = path;
        out->uses[out->count++].scale = scale;
    }
    return DP_OK;
}

dp_status dp_adapters_open(dp_adapters *a, dp_mounts *mounts, dp_engine *engine,
                           dp_session *session, dp_error *err)
{
    for (size_t i = 0; i < a->count; i++) {
        char *name = dp_strndup(a->paths[i].bytes, a->paths[i].size);
        const char *path;
        dp_status st;

        if (!name)
            return dp_fail(err, DP_E_NOMEM, "adapter: no memory for its name");
        st = dp_mounts_fetch(mounts, name, &path, err);
        if (!st)
            st = dp_adapter_open(&a->uses[i].adapter, engine, path, err);
        dp_free(name);
        if (st)
            return st;
        a->open_count++;
    }
    return dp_session_set_adapters(session, a->uses, a->count, err);
}

void dp_adapters_close(dp_adapters *a)
{
    while (a->open_count)
        dp_adapter_close(a->uses[--a->open_count].adapter);
}
