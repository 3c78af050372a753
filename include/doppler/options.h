/* options.h - every tunable of doppler in one table.
 *
 * Command line flags, help texts, the man page and the documentation are made
 * from this table; an embedding program sets the same names. Nothing is read
 * from the environment.
 */
#ifndef DOPPLER_OPTIONS_H
#define DOPPLER_OPTIONS_H

#include <stddef.h>
#include "doppler/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dp_option_type {
    DP_OPTION_SIZE,  /* bytes: "4096", "12GiB", or "auto" where 0 means that */
    DP_OPTION_COUNT, /* whole number, or one of `choices` where there are some */
    DP_OPTION_REAL,
    DP_OPTION_FLAG,   /* on, off */
    DP_OPTION_CHOICE, /* one of `choices` */
    DP_OPTION_TEXT,
    DP_OPTION_TEXTS /* each value set is one more; an empty one forgets them all */
} dp_option_type;

typedef struct dp_option {
    const char *name;  /* "ram": --ram BYTES */
    const char *group; /* "memory", "disk", "compute", "swarm", "sampling" */
    dp_option_type type;
    const char *unit;          /* "BYTES", "N", "" */
    double min, max;           /* of numbers */
    const char *default_value; /* as one would type it */
    const char *choices;       /* "auto|direct|buffered": all, or words beside a number; or NULL */
    const char *summary;       /* one sentence, no full stop */
} dp_option;

/* The table, [*count] rows, static. Any thread. */
DP_API const dp_option *dp_options_table(size_t *count);
DP_API const dp_option *dp_options_find(const char *name); /* NULL: no such option */

/* A set of values, each at its default until set. Owned by the caller. */
typedef struct dp_options dp_options;

DP_API dp_options *dp_options_open(void); /* NULL: no memory */
DP_API void dp_options_close(dp_options *options);
/* Checks and keeps a value. DP_E_NOTFOUND: no such name; DP_E_INVALID: the
 * sentence names the option, what it takes and what it got. */
DP_API dp_status dp_options_set(dp_options *options, const char *name, const char *value,
                                dp_error *err);

#ifdef __cplusplus
}
#endif
#endif
