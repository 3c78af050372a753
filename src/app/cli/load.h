/* load.h - from a command line to an open engine. */
#ifndef DP_APP_CLI_LOAD_H
#define DP_APP_CLI_LOAD_H

#include "app/cli/mounts.h"
#include "doppler/doppler.h"

/* A set of options with all shared values of the command line in it. The
 * statuses of dp_options_set. Owned: dp_options_close. */
dp_status dp_load_options(dp_options **out, const dp_args *args, dp_error *err);

/* Heat is kept in the user's cache folder, unless the command line says where or not to.
 * Options of commands that write text have it already; those that plan such a run ask for it. */
dp_status dp_load_heat(dp_options *options, const dp_args *args, dp_error *err);

/* Refuses a directory that has to be converted first (DP_E_UNSUPPORTED), in words
 * that say how. For every path of a model that a person gave. */
dp_status dp_load_check_path(const char *path, dp_error *err);

/* Opens the model named by the first operand, with progress on a terminal;
 * from here on Ctrl-C cancels its steps. How its drive is read follows a saved probe where
 * the options leave that open. Owned: dp_load_close, after the sessions and before
 * dp_mounts_close. */
dp_status dp_load_engine(dp_engine **out, dp_mounts *mounts, const dp_args *args,
                         dp_options *options, dp_error *err);
void dp_load_close(dp_engine *engine);

/* The same for commands that need less of a model. Owned: dp_vocab_close, dp_inspect_close. */
dp_status dp_load_vocab_file(dp_vocab **out, dp_mounts *mounts, const char *name, dp_error *err);
dp_status dp_load_inspect(dp_inspect **out, dp_mounts *mounts, const char *name, dp_error *err);

/* A dp_progress that draws on the bar `user` and ends when Ctrl-C was seen. */
bool dp_load_progress(void *user, uint64_t done_bytes, uint64_t total_bytes);

/* The vocabulary of an engine; DP_E_UNSUPPORTED when its file has none that can be used. Borrowed. */
dp_status dp_load_vocab(const dp_vocab **out, const dp_engine *engine, const dp_args *args,
                        dp_error *err);

#endif
