/* cmd_doctor.c - doppler doctor: what this machine offers a model, and how fast its drives are. */
#include "app/cli/command.h"
#include "app/cli/doctor_report.h"
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "base/status.h"

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

static int doctor_main(const dp_args *args)
{
    static const char *const here[] = { "." };
    const char *const *paths = args->operand_count ? args->operands : here;
    dp_drive_info drives[DP_ARGS_OPERANDS_MAX];
    dp_doctor_parts parts = { .drives = drives, .drive_count = DP_MAX(args->operand_count, 1u) };
    dp_output *output = NULL;
    dp_error err = { 0 };
    dp_status st = DP_OK;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    for (size_t i = 0; i < parts.drive_count && !st; i++)
        st = dp_doctor_drive(&drives[i], paths[i], &err);
    if (st)
        goto done;
    dp_doctor_machine(&parts.machine);
    st = dp_doctor_bandwidth(&parts.machine.memory, 0, &err);
    if (st)
        goto done;
    st = write_report(args, &parts, &out, &err);
    if (st)
        goto done;
    st = dp_output_open(&output, "-", &err);
    if (!st)
        dp_output_write(output, out.bytes, out.size);
done:
    dp_buf_deinit(&out);
    return dp_output_end(output, st, &err);
}

static const dp_option options[] = {
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_doctor = {
    .name = "doctor",
    .operands = "[PATH ...]",
    .operand_min = 0,
    .operand_max = DP_ARGS_OPERANDS_MAX,
    .summary = "Shows what this machine offers a model: processor, memory, devices, drives",
    .details = "PATH is a model file or a folder for models (default: the current folder); the "
               "drive behind it is shown.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = doctor_main,
};
