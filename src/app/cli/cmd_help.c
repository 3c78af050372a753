/* cmd_help.c - doppler help, doppler version: made from the tables. */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/output.h"
#include "base/status.h"

#define PAGE_BYTES_MAX ((size_t)1 << 20)

static int help_main(const dp_args *args)
{
    const dp_args_command *command = NULL;
    dp_error err = { 0 };
    dp_status st;
    dp_buf page;
    int code;

    dp_buf_init(&page, PAGE_BYTES_MAX);
    if (args->operand_count) {
        command = dp_args_find_command(args->program, args->operands[0], &err);
        if (!command)
            return dp_exit_report(DP_E_INVALID, &err);
    }
    if (dp_args_flag(args, "man"))
        st = dp_args_man(args->program, &page);
    else if (command)
        st = dp_args_help_command(args->program, command, &page);
    else
        st = dp_args_help_program(args->program, &page);
    if (st) {
        dp_fail(&err, st, "help: no memory for the page");
        code = dp_exit_report(st, &err);
    } else {
        code = dp_output_print(page.bytes, page.size);
    }
    dp_buf_deinit(&page);
    return code;
}

static int version_main(const dp_args *args)
{
    char line[64];
    int size = snprintf(line, sizeof line, "%s %s\n", args->program->name, args->program->version);

    return dp_output_print(line, (size_t)size);
}

static const dp_option help_options[] = {
    { "man", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print the manual page, in roff" },
};

const dp_args_command dp_command_help = {
    .name = "help",
    .operands = "[COMMAND]",
    .operand_max = 1,
    .summary = "Shows the commands, or the options of one",
    .options = help_options,
    .option_count = DP_ARRAY_LEN(help_options),
    .run = help_main,
};

const dp_args_command dp_command_version = {
    .name = "version",
    .operands = "",
    .summary = "Prints the version",
    .run = version_main,
};
