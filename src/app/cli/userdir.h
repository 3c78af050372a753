/* userdir.h - where the user keeps what programs leave behind: the XDG base directory rules. The
 * only place that looks into the environment. Any thread. */
#ifndef DP_APP_CLI_USERDIR_H
#define DP_APP_CLI_USERDIR_H

#define DP_USERDIR_PATH_MAX 4096

/* $variable/name, without that variable ~/fallback/name, into out; its folders are made. "" when the
 * user has no such place. */
void dp_userdir_find(char out[DP_USERDIR_PATH_MAX], const char *variable, const char *fallback,
                     const char *name);

/* Where models from elsewhere are kept (--cache-dir): `given`, or for "auto" the user's place, ""
 * when there is none. No '/' ends it. */
void dp_userdir_models(char out[DP_USERDIR_PATH_MAX], const char *given);

#endif
