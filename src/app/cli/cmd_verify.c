/* cmd_verify.c - doppler verify: are these files what a .torrent says? */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/json_text.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "app/cli/progress.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/swarm.h"

#define REPORT_BYTES_MAX ((size_t)1 << 20)

static dp_status write_text(const dp_verify_result *r, const char *bad_name, dp_buf *out)
{
    char all[16], bad[16];

    dp_format_size(all, r->bytes);
    if (!r->bad_pieces)
        return dp_buf_format(out, "ok: %s in %u pieces\n", all, r->pieces);
    return dp_buf_format(out, "bad: %s of %s in %u of %u pieces, the first at byte %llu of %s\n",
                         dp_format_size(bad, r->bad_bytes), all, r->bad_pieces, r->pieces,
                         (unsigned long long)r->first_bad, bad_name);
}

static dp_status write_json(const dp_verify_result *r, const char *bad_name, dp_buf *out)
{
    json_t *object = json_object();
    json_t *first = r->bad_pieces ? json_object() : json_null();
    dp_status st = DP_E_NOMEM;

    if (object && first &&
        (!r->bad_pieces || (dp_json_put_text(first, "file", bad_name) &&
                            dp_json_put_count(first, "offset", r->first_bad))) &&
        dp_json_put_flag(object, "is_ok", !r->bad_pieces) &&
        dp_json_put_count(object, "bytes", r->bytes) &&
        dp_json_put_count(object, "bad_bytes", r->bad_bytes) &&
        dp_json_put_count(object, "pieces", r->pieces) &&
        dp_json_put_count(object, "bad_pieces", r->bad_pieces) &&
        !json_object_set(object, "first_bad", first))
        st = dp_json_write(out, object, 2);
    json_decref(first);
    json_decref(object);
    return st;
}

static dp_status verify(const dp_args *args, dp_verify_result *r, dp_buf *out, dp_error *err)
{
    dp_torrent_file *torrent;
    const char *bad_name;
    dp_progress_bar bar;
    dp_status st = dp_torrent_file_open(&torrent, args->operands[1], err);

    if (st)
        return st;
    dp_interrupt_watch(NULL);
    dp_progress_bar_init(&bar, "hashing", NULL);
    st = dp_torrent_verify(args->operands[0], args->operands[1], r, dp_load_progress, &bar, err);
    dp_progress_bar_deinit(&bar);
    if (st)
        goto done;
    bad_name = dp_torrent_file_name(torrent, r->first_bad_file);
    bad_name = bad_name ? bad_name : args->operands[0];
    st = dp_args_flag(args, "json") ? write_json(r, bad_name, out) : write_text(r, bad_name, out);
    if (st)
        dp_fail(err, st, "verify: no memory for the report");
done:
    dp_torrent_file_close(torrent);
    return st;
}

static int verify_main(const dp_args *args)
{
    dp_verify_result r = { 0 };
    dp_error err = { 0 };
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    st = verify(args, &r, &out, &err);
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_buf_deinit(&out);
    return code == DP_EXIT_OK && r.bad_pieces ? DP_EXIT_FAILED : code;
}

static const dp_option options[] = {
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_verify = {
    .name = "verify",
    .operands = "MODEL TORRENT",
    .operand_min = 2,
    .operand_max = 2,
    .summary = "Says whether a model's files are what a .torrent says",
    .details = "MODEL is the file, any part of a split one, or the folder that holds it. Every "
               "piece is hashed; ends with 1 when one is not what it should be, or not there, and "
               "names the first.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = verify_main,
};
