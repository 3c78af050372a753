/* args_help.c - help texts from the tables of args.h, 80 columns wide. */
#include "app/common/args.h"

#include <stdio.h>
#include <string.h>
#include "base/str.h"

#define COLUMNS     80
#define TEXT_COLUMN 28 /* where the sentence about an option begins */

/* A maximum that nobody will meet is not worth a word. */
#define COUNT_LIMIT_MAX 1.0e7
#define SIZE_LIMIT_MAX  1.0e14

const char *dp_args_value_name(const dp_option *option)
{
    static const char *const names[] = {
        [DP_OPTION_SIZE] = "BYTES", [DP_OPTION_COUNT] = "N", [DP_OPTION_REAL] = "X",
        [DP_OPTION_FLAG] = "",      [DP_OPTION_CHOICE] = "", [DP_OPTION_TEXT] = "TEXT",
        [DP_OPTION_TEXTS] = "TEXT",
    };

    if (option->type == DP_OPTION_FLAG)
        return "";
    if (option->type == DP_OPTION_CHOICE)
        return option->choices;
    return option->unit && option->unit[0] ? option->unit : names[option->type];
}

static int format_limit(char out[24], const dp_option *option, double value)
{
    if (option->type == DP_OPTION_SIZE)
        return snprintf(out, 24, "%s", dp_format_size((char[16]){ 0 }, (uint64_t)value));
    return snprintf(out, 24, "%.15g", value);
}

void dp_args_value_limits(const dp_option *option, char *out, size_t size)
{
    const char *value = option->default_value;
    bool is_number = option->type == DP_OPTION_COUNT || option->type == DP_OPTION_REAL ||
                     option->type == DP_OPTION_SIZE;
    bool has_default =
        value && value[0] && (option->type != DP_OPTION_FLAG || strcmp(value, "on") == 0);
    double limit_max = option->type == DP_OPTION_SIZE ? SIZE_LIMIT_MAX : COUNT_LIMIT_MAX;
    char least[24] = "", most[24] = "", range[64] = "";

    if (is_number && option->max > option->min) {
        format_limit(least, option, option->min);
        format_limit(most, option, option->max < limit_max ? option->max : 0);
        if (option->max < limit_max)
            snprintf(range, sizeof range, "%s to %s", least, most);
        else if (option->min > 0)
            snprintf(range, sizeof range, "at least %s", least);
    }
    snprintf(out, size, "%s%s%s%s", range, range[0] && has_default ? "; " : "",
             has_default ? "default " : "", has_default ? value : "");
}

/* Appends text from column `at`, broken at spaces, later lines indented. */
static dp_status write_wrapped(dp_buf *out, const char *text, size_t at, size_t indent)
{
    dp_status st = DP_OK;

    while (*text && !st) {
        size_t size = strcspn(text, " \n");

        if (at > indent && at + 1 + size > COLUMNS) {
            st = dp_buf_format(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            st = dp_buf_text(out, " ");
            at++;
        }
        if (!st)
            st = dp_buf_append(out, text, size);
        at += size;
        text += size;
        if (text[0] == '\n' && text[1] == '\n' && !st) { /* an empty line: a new paragraph */
            st = dp_buf_format(out, "\n\n%*s", (int)indent, "");
            at = indent;
        }
        text += strspn(text, " \n");
    }
    return st ? st : dp_buf_text(out, "\n");
}

static dp_status write_option(const dp_args_program *program, const dp_option *option, dp_buf *out)
{
    char letter = dp_args_letter_of(program, option->name);
    char head[160], limits[128], text[512];
    const char *value = dp_args_value_name(option);
    size_t at;
    dp_status st;

    snprintf(head, sizeof head, "  %c%c%c --%s%s%s", letter ? '-' : ' ', letter ? letter : ' ',
             letter ? ',' : ' ', option->name, value[0] ? " " : "", value);
    dp_args_value_limits(option, limits, sizeof limits);
    snprintf(text, sizeof text, "%s%s%s%s", option->summary, limits[0] ? " (" : "", limits,
             limits[0] ? ")" : "");
    at = strlen(head);
    if (at + 2 > TEXT_COLUMN) {
        st = dp_buf_format(out, "%s\n%*s", head, TEXT_COLUMN, "");
    } else {
        st = dp_buf_format(out, "%-*s", TEXT_COLUMN, head);
    }
    return st ? st : write_wrapped(out, text, TEXT_COLUMN, TEXT_COLUMN);
}

/* The shared options a command takes, a heading wherever the group changes. */
static dp_status write_shared(const dp_args_program *program, const dp_args_command *command,
                              dp_buf *out)
{
    const char *group = "";
    dp_status st = DP_OK;

    for (size_t i = 0; i < program->shared_count && !st; i++) {
        const dp_option *option = &program->shared[i];

        if (!dp_args_takes(command, option))
            continue;
        if (strcmp(option->group, group) != 0)
            st = dp_buf_format(out, "\n%c%s:\n", option->group[0] - 'a' + 'A', option->group + 1);
        group = option->group;
        if (!st)
            st = write_option(program, option, out);
    }
    return st;
}

dp_status dp_args_help_command(const dp_args_program *program, const dp_args_command *command,
                               dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(
        out, "Usage: %s %s%s%s%s\n\n", program->name, command->name,
        command->option_count || command->takes_shared || command->takes_swarm ? " [OPTIONS]" : "",
        command->operands[0] ? " " : "", command->operands);
    if (!st)
        st = dp_buf_format(out, "%s.\n", command->summary);
    if (!st && command->details) {
        st = dp_buf_text(out, "\n");
        if (!st)
            st = write_wrapped(out, command->details, 0, 0);
    }
    if (!st && command->option_count)
        st = dp_buf_text(out, "\nOptions:\n");
    for (size_t i = 0; i < command->option_count && !st; i++)
        st = write_option(program, &command->options[i], out);
    return st ? st : write_shared(program, command, out);
}

dp_status dp_args_help_program(const dp_args_program *program, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, "%s %s - %s\n\nUsage: %s COMMAND [OPTIONS] ...\n\nCommands:\n",
                       program->name, program->version, program->summary, program->name);
    for (size_t i = 0; program->commands[i] && !st; i++)
        st = dp_buf_format(out, "  %-12s %s\n", program->commands[i]->name,
                           program->commands[i]->summary);
    return st ? st
              : dp_buf_format(out, "\n%s help COMMAND shows the options of a command.\n",
                              program->name);
}
