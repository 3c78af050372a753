/* cmd_doctor.c - doppler doctor: what this machine offers a model, and how fast its drives are. */
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "app/cli/doctor_report.h"
#include "app/cli/drives_file.h"
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

#define REPORT_BYTES_MAX ((size_t)1 << 20)

static dp_status write_report(const dp_args *args, const dp_doctor_parts *parts, dp_buf *out,
                              dp_error *err)
{
    json_t *object;
    dp_status st;

    if (!dp_args_flag(args, "json")) {
        st = dp_doctor_text(parts, out);
    } else {
        object = dp_doctor_json(parts);
        st = dp_json_write(out, object, 2);
        json_decref(object);
    }
    return st ? dp_fail(err, st, "doctor: no memory for the report") : DP_OK;
}

/* The saved probe, or a new one, which is saved. That saving fails is no reason not to
 * show it. */
static dp_status probe_drive(const dp_args *args, const dp_drive_info *drive, dp_drive_probe *out,
                             dp_error *err)
{
    const char *when = dp_args_text(args, "probe");
    dp_probe_options how = { .is_quick = dp_args_flag(args, "quick") };
    char path[DP_PATH_MAX];
    dp_error why;
    dp_status st;

    memset(out, 0, sizeof *out);
    dp_drives_file_find(path);
    if (strcmp(when, "always") != 0 && path[0] && dp_doctor_saved(out, path, drive))
        return DP_OK;
    if (strcmp(when, "never") == 0) {
        snprintf(out->skipped, sizeof out->skipped, "--probe never, and none was saved");
        return DP_OK;
    }
    if (!dp_parse_size(dp_str_from(dp_args_text(args, "probe-size")), &how.scratch_bytes))
        return dp_fail(err, DP_E_INVALID, "doctor: --probe-size takes a size, not \"%s\"",
                       dp_args_text(args, "probe-size"));
    st = dp_doctor_probe(out, drive, &how, err);
    if (st || out->skipped[0] || !path[0])
        return st;
    if (dp_drives_file_save(path, out, &why))
        fprintf(stderr, "doppler: the probe is not saved: %s\n", why.text);
    return DP_OK;
}

static dp_status look(const dp_args *args, dp_doctor_parts *parts, dp_drive_info *drives,
                      dp_drive_probe *probes, dp_error *err)
{
    static const char *const here[] = { "." };
    const char *const *paths = args->operand_count ? args->operands : here;
    dp_status st = DP_OK;

    for (size_t i = 0; i < parts->drive_count && !st; i++)
        st = dp_doctor_drive(&drives[i], paths[i], err);
    if (st)
        return st;
    dp_doctor_machine(&parts->machine);
    st = dp_doctor_bandwidth(&parts->machine.memory, 0, err);
    for (size_t i = 0; i < parts->drive_count && !st; i++)
        st = probe_drive(args, &drives[i], &probes[i], err);
    return st;
}

static int doctor_main(const dp_args *args)
{
    dp_doctor_parts parts = { .drive_count = DP_MAX(args->operand_count, 1u) };
    dp_drive_info *drives = dp_alloc_zero(parts.drive_count, sizeof *drives);
    dp_drive_probe *probes = dp_alloc_zero(parts.drive_count, sizeof *probes);
    dp_error err = { 0 };
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    parts.drives = drives;
    parts.probes = probes;
    st = drives && probes ? look(args, &parts, drives, probes, &err)
                          : dp_fail(&err, DP_E_NOMEM, "doctor: no memory");
    if (st)
        goto done;
    st = write_report(args, &parts, &out, &err);
done:
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_buf_deinit(&out);
    dp_free(drives);
    dp_free(probes);
    return code;
}

static const dp_option options[] = {
    { "probe", "", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|always|never",
      "measure the drives: auto where nothing that still holds is saved" },
    { "quick", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "probe a drive in less than 2 seconds instead of 10, in fewer ways" },
    { "probe-size", "", DP_OPTION_SIZE, "BYTES", 0, 1e13, "0", NULL,
      "size of the temporary file that is written where PATH is a folder or a small file; 0: 1 "
      "GiB, "
      "less where room is short" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_doctor = {
    .name = "doctor",
    .operands = "[PATH ...]",
    .operand_min = 0,
    .operand_max = DP_ARGS_OPERANDS_MAX,
    .summary = "Shows what this machine offers a model and measures the drives it may lie on",
    .details =
        "PATH is a model file, which is read, or a folder for models, where a temporary file "
        "is written and read (default: the current folder). What was measured is kept in the "
        "user's cache folder and used by every run: --io, --io-depth and --io-request "
        "follow it where they are not given.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = doctor_main,
};
