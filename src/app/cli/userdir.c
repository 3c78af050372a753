#include "app/cli/userdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Whether it worked shows when the file is opened. */
static void make_folders(char *path)
{
    for (char *at = path + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
}

void dp_userdir_find(char out[DP_USERDIR_PATH_MAX], const char *variable, const char *fallback,
                     const char *name)
{
    const char *folder = getenv(variable);
    const char *home = getenv("HOME");
    int size = 0;

    if (folder && folder[0] == '/')
        size = snprintf(out, DP_USERDIR_PATH_MAX, "%s/%s", folder, name);
    else if (home && home[0] == '/')
        size = snprintf(out, DP_USERDIR_PATH_MAX, "%s/%s/%s", home, fallback, name);
    if (size <= 0 || size >= DP_USERDIR_PATH_MAX)
        out[0] = 0;
    else
        make_folders(out);
}

void dp_userdir_models(char out[DP_USERDIR_PATH_MAX], const char *given)
{
    if (strcmp(given, "auto") == 0)
        dp_userdir_find(out, "XDG_CACHE_HOME", ".cache", "doppler/models/");
    else
        snprintf(out, DP_USERDIR_PATH_MAX, "%s", given);
    for (size_t size = strlen(out); size > 1 && out[size - 1] == '/'; size--)
        out[size - 1] = 0;
}
