/* args_man.c - the man page from the tables of args.h, in the "man" macros of roff. */
#include "app/common/args.h"

#include <ctype.h>
#include <string.h>

/* Text where roff has no surprises: hyphens stay hyphens, a line never begins
 * with a control character, an empty line begins a paragraph. */
static dp_status write_text(dp_buf *out, const char *text)
{
    bool is_line_start = true;
    dp_status st = DP_OK;

    for (; *text && !st; text++) {
        if (*text == '\n' && text[1] == '\n') {
            st = dp_buf_text(out, "\n.PP");
        } else if (*text == '-') {
            st = dp_buf_text(out, "\\-");
        } else if (*text == '\\') {
            st = dp_buf_text(out, "\\e");
        } else {
            if (is_line_start && (*text == '.' || *text == '\''))
                st = dp_buf_text(out, "\\&");
            if (!st)
                st = dp_buf_append(out, text, 1);
        }
        is_line_start = *text == '\n';
    }
    return st;
}

/* before, text and after, the text made harmless. */
static dp_status write_around(dp_buf *out, const char *before, const char *text, const char *after)
{
    dp_status st = dp_buf_text(out, before);

    if (!st)
        st = write_text(out, text);
    return st ? st : dp_buf_text(out, after);
}

static dp_status write_heading(dp_buf *out, const char *macro, const char *text)
{
    dp_status st = dp_buf_format(out, ".%s \"", macro);

    for (; *text && !st; text++) {
        char c = (char)(strcmp(macro, "SH") == 0 ? toupper((unsigned char)*text) : *text);

        st = dp_buf_append(out, &c, 1);
    }
    return st ? st : dp_buf_text(out, "\"\n");
}

static dp_status write_option(const dp_args_program *program, const dp_option *option, dp_buf *out)
{
    char letter = dp_args_letter_of(program, option->name);
    const char *value = dp_args_value_name(option);
    char limits[128];
    dp_status st = dp_buf_text(out, ".TP\n");

    if (letter && !st)
        st = dp_buf_format(out, "\\fB\\-%c\\fR, ", letter);
    if (!st)
        st = write_around(out, "\\fB\\-\\-", option->name, "\\fR");
    if (!st && value[0])
        st = write_around(out, " \\fI", value, "\\fR");
    if (!st)
        st = write_around(out, "\n", option->summary, "");
    dp_args_value_limits(option, limits, sizeof limits);
    if (!st && limits[0])
        st = write_around(out, " (", limits, ")");
    return st ? st : dp_buf_text(out, ".\n");
}

/* Which of the options below a command takes. */
static const char *shared_text(const dp_args_command *command)
{
    if (!command->takes_shared)
        return "the options of the swarm below.";
    if (command->takes_sampling)
        return command->takes_swarm ? "every option below."
                                    : "the options below but those of the swarm.";
    return command->takes_swarm ? "the options below but those of sampling."
                                : "the options below but those of sampling and the swarm.";
}

static dp_status write_command(const dp_args_program *program, const dp_args_command *command,
                               dp_buf *out)
{
    dp_status st = write_heading(out, "SS", command->name);

    if (!st)
        st = dp_buf_format(out, "\\fB%s %s\\fR", program->name, command->name);
    if (!st && (command->option_count || command->takes_shared || command->takes_swarm))
        st = dp_buf_text(out, " [\\fIOPTIONS\\fR]");
    if (!st && command->operands[0])
        st = write_around(out, " \\fI", command->operands, "\\fR");
    if (!st)
        st = write_around(out, "\n.PP\n", command->summary, ".\n");
    if (!st && command->details)
        st = write_around(out, ".PP\n", command->details, "\n");
    for (size_t i = 0; i < command->option_count && !st; i++)
        st = write_option(program, &command->options[i], out);
    if (!st && (command->takes_shared || command->takes_swarm))
        st = write_around(out, ".PP\nIt also takes ", shared_text(command), "\n");
    return st;
}

static dp_status write_shared(const dp_args_program *program, dp_buf *out)
{
    const char *group = "";
    dp_status st = DP_OK;

    for (size_t i = 0; i < program->shared_count && !st; i++) {
        const dp_option *option = &program->shared[i];

        if (strcmp(option->group, group) != 0)
            st = write_heading(out, "SS", option->group);
        group = option->group;
        if (!st)
            st = write_option(program, option, out);
    }
    return st;
}

static dp_status write_section(dp_buf *out, const char *heading, const char *text)
{
    dp_status st = write_heading(out, "SH", heading);

    return st ? st : write_around(out, "", text, "\n");
}

dp_status dp_args_man(const dp_args_program *program, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, ".TH %s 1 \"\" \"%s %s\" \"User Commands\"\n", program->name,
                       program->name, program->version);
    if (!st)
        st = dp_buf_format(out, ".SH NAME\n%s \\- %s\n", program->name, program->summary);
    if (!st)
        st = dp_buf_format(out, ".SH SYNOPSIS\n\\fB%s\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] ...\n",
                           program->name);
    if (!st)
        st = write_section(out, "description", program->description);
    if (!st)
        st = write_heading(out, "SH", "commands");
    for (size_t i = 0; program->commands[i] && !st; i++)
        st = write_command(program, program->commands[i], out);
    if (!st)
        st = write_heading(out, "SH", "options");
    if (!st)
        st = write_shared(program, out);
    if (!st)
        st = write_heading(out, "SH", "exit status");
    for (size_t i = 0; i < program->exit_count && !st; i++) {
        st = dp_buf_format(out, ".TP\n.B %d\n", program->exits[i].code);
        if (!st)
            st = write_around(out, "", program->exits[i].meaning, ".\n");
    }
    if (!st)
        st = write_section(out, "files", program->files);
    return st ? st : write_section(out, "examples", program->examples);
}
