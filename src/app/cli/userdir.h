/* userdir.h - where the user keeps what programs leave behind: the XDG base directory rules. The
 * only place that looks into the environment. Any thread. */
#ifndef DP_APP_CLI_USERDIR_H
#define DP_APP_CLI_USERDIR_H

#define DP_USERDIR_PATH_MAX 4096

/* $variable/name, without that variable ~/fallback/name, into out; its folders are made. "" when the
 * user has no such place. */
void dp_userdir_find(char out[DP_USERDIR_PATH_MAX], const char *variable, const char *fallback,
                     const char *name);

#endif
