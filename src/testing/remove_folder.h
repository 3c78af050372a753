/* remove_folder.h - away with what a test wrote. Included by tests only. */
#ifndef DP_TESTING_REMOVE_FOLDER_H
#define DP_TESTING_REMOVE_FOLDER_H

#include <ftw.h>
#include <stdio.h>

#define REMOVE_FOLDERS_OPEN 16 /* of nested ones, at a time */

static inline int remove_entry(const char *path, const struct stat *info, int kind,
                               struct FTW *place)
{
    return remove(path);
}

/* The folder and all that is in it; links are removed, not followed. 0, or -1: something stays. */
static inline int remove_folder(const char *folder)
{
    return nftw(folder, remove_entry, REMOVE_FOLDERS_OPEN, FTW_PHYS | FTW_DEPTH);
}

#endif
