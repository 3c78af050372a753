/* args.h - words of a command line -> values, by tables; the same tables -> help and man page.
 *
 * Room     A program has commands; a command has options of its own and takes
 *          options shared with others (the engine's table, doppler/options.h).
 *          Nothing here knows any of them by name. Values of a command's own
 *          options are checked here; values of shared options are checked by
 *          whoever owns that table, so they are only collected.
 *
 * Words    --name VALUE, --name=VALUE, -n VALUE, -nVALUE; flags stand alone or
 *          say --name=off. "--" ends options; "-" alone is an operand. A later
 *          value wins, except where dp_args_next is used to see all of them.
 *
 * Memory   None of its own: values and operands are borrowed from argv.
 *
 * Threads  Any.
 */
#ifndef DP_APP_COMMON_ARGS_H
#define DP_APP_COMMON_ARGS_H

#include "base/buf.h"
#include "doppler/options.h"

#define DP_ARGS_VALUES_MAX   128 /* a command line that a person or a script writes */
#define DP_ARGS_OPERANDS_MAX 4

typedef struct dp_args_letter { /* -t is --threads in every command that takes it */
    char letter;
    const char *name;
} dp_args_letter;

typedef struct dp_args_exit {
    int code;
    const char *meaning;
} dp_args_exit;

struct dp_args;

typedef struct dp_args_command {
    const char *name;     /* "run" */
    const char *operands; /* as its usage line shows them: "MODEL [-]" */
    uint32_t operand_min, operand_max;
    const char *summary; /* one sentence, no full stop */
    const char *details; /* paragraphs separated by an empty line, or NULL */
    const dp_option *options;
    size_t option_count;
    bool takes_shared;                      /* the shared table but for two groups ... */
    bool takes_sampling;                    /* ... "sampling" ... */
    bool takes_swarm;                       /* ... and "swarm", which may come alone */
    int (*run)(const struct dp_args *args); /* for the program: nothing here calls it */
} dp_args_command;

typedef struct dp_args_program {
    const char *name, *version, *summary, *description;
    const dp_args_command *const *commands; /* ends with NULL */
    const dp_option *shared;
    size_t shared_count;
    const dp_args_letter *letters;
    size_t letter_count;
    const dp_args_exit *exits;
    size_t exit_count;
    const char *files, *examples; /* paragraphs of the man page */
} dp_args_program;

typedef struct dp_args_value {
    const dp_option *option;
    const char *text;
    bool is_shared;
} dp_args_value;

typedef struct dp_args {
    const dp_args_program *program;
    const dp_args_command *command;
    dp_args_value values[DP_ARGS_VALUES_MAX]; /* in the order given */
    size_t value_count;
    const char *operands[DP_ARGS_OPERANDS_MAX];
    uint32_t operand_count;
    bool wants_help; /* --help or -h came up: nothing behind it was read */
} dp_args;

/* The command of that name, or NULL with a sentence and a guess in *err. */
const dp_args_command *dp_args_find_command(const dp_args_program *program, const char *name,
                                            dp_error *err);

/* words [count]: what stands behind the command's name. DP_E_INVALID: unknown
 * option (with the nearest known one), missing or bad value, wrong number of
 * operands; DP_E_LIMIT: more than DP_ARGS_VALUES_MAX options. */
dp_status dp_args_parse(dp_args *out, const dp_args_program *program,
                        const dp_args_command *command, char *const *words, size_t count,
                        dp_error *err);

/* The value of an option of the command or of the shared table: the last one
 * given, else its default; NULL when it has none. */
const char *dp_args_text(const dp_args *args, const char *name);
bool dp_args_is_given(const dp_args *args, const char *name);
bool dp_args_flag(const dp_args *args, const char *name);
uint64_t dp_args_count(const dp_args *args, const char *name); /* of a COUNT of the command's own */
/* Steps through all values of one option: *at starts at 0; NULL at the end. */
const char *dp_args_next(const dp_args *args, const char *name, size_t *at);

/* Of names [count], the one a person who typed `word` most likely meant, or
 * NULL when none is near (edit distance above a third of its length). */
const char *dp_args_nearest(const char *word, const char *const *names, size_t count);

/* What a table row's value looks like: "BYTES", "auto|direct", "" for a flag. */
const char *dp_args_value_name(const dp_option *option);
/* "0 to 2; default 0.8", "" when there is nothing to say; writes to out[size]. */
void dp_args_value_limits(const dp_option *option, char *out, size_t size);
/* The letter of an option, 0: none. */
char dp_args_letter_of(const dp_args_program *program, const char *name);
/* True when the command takes the row of the shared table. */
bool dp_args_takes(const dp_args_command *command, const dp_option *shared);

/* Help of the program, of one command (80 columns); the whole man page in roff. */
dp_status dp_args_help_program(const dp_args_program *program, dp_buf *out);
dp_status dp_args_help_command(const dp_args_program *program, const dp_args_command *command,
                               dp_buf *out);
dp_status dp_args_man(const dp_args_program *program, dp_buf *out);

#endif
