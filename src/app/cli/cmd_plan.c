/* cmd_plan.c - doppler plan: where a model's weights would lie, and how fast it would run. */
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "app/cli/drives_file.h"
#include "app/cli/inspect_report.h"
#include "app/cli/json_text.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/userdir.h"
#include "base/status.h"
#include "base/str.h"

#define REPORT_BYTES_MAX ((size_t)1 << 20)
#define SIZE(bytes)      dp_format_size((char[16]){ 0 }, bytes) /* lives as long as its block */

typedef struct plan {
    dp_mounts mounts;
    dp_inspect *inspect;
    dp_plan_info info;
    dp_prediction speed;
    dp_drive_probe probe;
    bool has_probe;
    char drive_path[DP_USERDIR_PATH_MAX];
} plan;

static dp_status write_hits(const plan *p, dp_buf *out)
{
    const dp_plan_info *i = &p->info;

    if (!i->experts_total)
        return DP_OK;
    return dp_buf_format(out, "hits          %.1f %% of experts expected: %s\n",
                         100 * p->speed.hit_rate,
                         p->speed.hit_is_from_heat
                             ? "what the most wanted got in runs so far (--heat)"
                             : "the share that is held; a text with favourites hits more often");
}

static dp_status write_speed(const plan *p, dp_buf *out)
{
    const dp_prediction *s = &p->speed;
    dp_status st;

    st = dp_buf_format(out, "a token       uses %s of weights: %s from memory, %s from the drive\n",
                       SIZE(s->token_bytes), SIZE(s->token_bytes - s->drive_bytes),
                       SIZE(s->drive_bytes));
    if (!st)
        st = dp_buf_format(out, "memory        %.1f GB/s: %.2f ms a token\n",
                           s->memory_bytes_s / 1e9, s->memory_s * 1e3);
    if (!st)
        st = dp_buf_format(out, "compute       %.2f ms a token; %.2f product by product\n",
                           s->compute_s * 1e3, s->step_s * 1e3);
    if (!st && p->has_probe)
        st = dp_buf_format(out, "drive         %.2f GB/s: %.2f ms a token\n",
                           p->probe.sustained_bytes_s / 1e9, s->drive_s * 1e3);
    else if (!st && s->drive_bytes)
        st = dp_buf_format(out, "drive         never probed: doppler doctor %s does\n",
                           p->mounts.model ? p->drive_path : "MODEL");
    if (!st && p->mounts.model)
        st = dp_buf_text(out, "peers         what the cache does not have yet comes as fast as "
                              "peers give it\n");
    if (!st && s->tok_s > 0)
        st = dp_buf_format(out, "expected      %.3g tok/s, bound by %s\n", s->tok_s,
                           strcmp(s->bottleneck, "drive") == 0    ? "the drive"
                           : strcmp(s->bottleneck, "memory") == 0 ? "memory bandwidth"
                                                                  : "compute");
    return st;
}

static json_t *speed_json(const plan *p)
{
    const dp_prediction *s = &p->speed;
    json_t *o = json_object();

    if (o && dp_json_put_count(o, "token_bytes", s->token_bytes) &&
        dp_json_put_count(o, "drive_bytes", s->drive_bytes) &&
        dp_json_put_real(o, "hit_rate", s->hit_rate) &&
        dp_json_put_flag(o, "hit_is_from_heat", s->hit_is_from_heat) &&
        dp_json_put_real(o, "memory_bytes_s", s->memory_bytes_s) &&
        dp_json_put_real(o, "drive_bytes_s", p->has_probe ? p->probe.sustained_bytes_s : 0) &&
        dp_json_put_real(o, "memory_ms", s->memory_s * 1e3) &&
        dp_json_put_real(o, "compute_ms", s->compute_s * 1e3) &&
        dp_json_put_real(o, "step_ms", s->step_s * 1e3) &&
        dp_json_put_real(o, "drive_ms", s->drive_s * 1e3) &&
        dp_json_put_real(o, "token_ms", s->token_s * 1e3) &&
        dp_json_put_real(o, "tok_s", s->tok_s) && dp_json_put_text(o, "bottleneck", s->bottleneck))
        return o;
    json_decref(o);
    return NULL;
}

static dp_status write_report(const dp_args *args, const plan *p, dp_buf *out, dp_error *err)
{
    dp_status st = DP_E_NOMEM;
    json_t *object;

    if (!dp_args_flag(args, "json")) {
        st = dp_inspect_plan_text(&p->info, out);
        if (!st && p->info.fits)
            st = write_hits(p, out);
        if (!st && p->info.fits)
            st = write_speed(p, out);
    } else {
        object = json_object();
        if (object && dp_json_put_text(object, "model", args->operands[0]) &&
            dp_json_put(object, "plan", dp_inspect_plan_json(&p->info)) &&
            dp_json_put(object, "speed", p->info.fits ? speed_json(p) : json_null()))
            st = dp_json_write(out, object, 2);
        json_decref(object);
    }
    return st ? dp_fail(err, st, "plan: no memory for the report") : DP_OK;
}

/* The saved probe of what the model lies on, or will: a model from elsewhere in the cache. */
static dp_status find_probe(plan *p, const dp_args *args, dp_options *options, dp_error *err)
{
    char probes[DP_PATH_MAX];
    dp_drive_info drive;
    dp_status st;

    if (p->mounts.model)
        dp_userdir_models(p->drive_path, dp_args_text(args, "cache-dir"));
    else
        snprintf(p->drive_path, sizeof p->drive_path, "%s", args->operands[0]);
    st = dp_doctor_drive(&drive, p->drive_path, err);
    if (st)
        return p->mounts.model ? DP_OK : st; /* the cache may not be there yet */
    dp_drives_file_find(probes);
    p->has_probe = probes[0] && dp_doctor_saved(&p->probe, probes, &drive);
    dp_drives_file_advise(options, p->drive_path);
    return DP_OK;
}

static dp_status make_plan(plan *p, const dp_args *args, dp_options *options, dp_error *err)
{
    dp_status st = dp_load_inspect(&p->inspect, &p->mounts, args->operands[0], err);

    if (!st)
        st = find_probe(p, args, options, err);
    if (!st)
        st = dp_load_heat(options, args, err);
    if (!st)
        st = dp_inspect_plan(p->inspect, options, &p->info, err);
    if (!st && p->info.fits)
        st = dp_inspect_predict(p->inspect, options, &p->info, p->has_probe ? &p->probe : NULL,
                                &p->speed, err);
    return st;
}

static int plan_main(const dp_args *args)
{
    dp_options *options = NULL;
    dp_error err = { 0 };
    plan p = { .mounts = { .args = args, .is_lazy = true } };
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    st = dp_load_options(&options, args, &err);
    if (!st)
        st = make_plan(&p, args, options, &err);
    if (!st)
        st = write_report(args, &p, &out, &err);
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_inspect_close(p.inspect);
    dp_mounts_close(&p.mounts);
    dp_options_close(options);
    dp_buf_deinit(&out);
    return code;
}

static const dp_option options[] = {
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_plan = {
    .name = "plan",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Shows where a budget would keep a model's weights and how fast it would run",
    .details =
        "The plan is the one a run makes of the same options. The speed is what memory, kernels "
        "and the drive were measured to do, the drive by doppler doctor; for one session "
        "and a short text.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_swarm = true,
    .run = plan_main,
};
