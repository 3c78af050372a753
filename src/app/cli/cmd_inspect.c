/* cmd_inspect.c - doppler inspect: what is in a model file, and what a budget would hold of it. */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/drives_file.h"
#include "app/cli/inspect_report.h"
#include "app/cli/json_text.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "base/status.h"

#define REPORT_BYTES_MAX ((size_t)1 << 30) /* a hundred bytes for each of millions of tensors */

static dp_status write_report(const dp_args *args, const dp_inspect *inspect,
                              const dp_plan_info *plan, dp_buf *out, dp_error *err)
{
    dp_inspect_parts parts = { .inspect = inspect,
                               .plan = plan,
                               .has_tensors = dp_args_flag(args, "tensors"),
                               .has_keys = dp_args_flag(args, "keys") };
    json_t *object;
    dp_status st;

    if (!dp_args_flag(args, "json")) {
        st = dp_inspect_text(&parts, out);
    } else {
        object = dp_inspect_json(&parts);
        st = dp_json_write(out, object, 2);
        json_decref(object);
    }
    return st ? dp_fail(err, st, "inspect: no memory for the report") : DP_OK;
}

static int inspect_main(const dp_args *args)
{
    dp_options *options = NULL;
    dp_mounts mounts = { .args = args, .is_lazy = true };
    dp_inspect *inspect = NULL;
    dp_error err = { 0 };
    dp_model_info model;
    dp_plan_info plan;
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    st = dp_load_options(&options, args, &err);
    if (st)
        goto done;
    st = dp_load_inspect(&inspect, &mounts, args->operands[0], &err);
    if (st)
        goto done;
    dp_inspect_model(inspect, &model);
    if (!mounts.model)
        dp_drives_file_advise(options, args->operands[0]);
    st = dp_load_heat(options, args, &err);
    if (!st && model.is_supported)
        st = dp_inspect_plan(inspect, options, &plan, &err);
    if (st)
        goto done;
    st = write_report(args, inspect, model.is_supported ? &plan : NULL, &out, &err);
done:
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_inspect_close(inspect);
    dp_mounts_close(&mounts);
    dp_options_close(options);
    dp_buf_deinit(&out);
    return code;
}

static const dp_option options[] = {
    { "tensors", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "list every tensor" },
    { "keys", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "list every metadata key" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_inspect = {
    .name = "inspect",
    .operands = "MODEL",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Shows what a model file holds and what a budget would hold of it",
    .details = "Reads the header only. With --ram, --ctx and the other options of memory it shows "
               "how that budget would be spent and the smallest one that would run.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_shared = true,
    .takes_swarm = true,
    .run = inspect_main,
};
