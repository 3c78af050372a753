/* fake_root.h - a folder that holds copies of /proc and /sys. Included by tests only.
 *
 * Rows of (path, text) become files below a new temporary folder.
 */
#ifndef DP_BASE_FAKE_ROOT_H
#define DP_BASE_FAKE_ROOT_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testing/check.h"
#include "testing/remove_folder.h"

typedef struct fake_file {
    const char *path; /* NULL ends the rows */
    const char *text;
} fake_file;

static inline void fake_root_make(char root[32], const fake_file *files)
{
    strcpy(root, "fake_root.XXXXXX");
    CHECK(mkdtemp(root), "no temporary folder");
    for (; files->path; files++) {
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s%s", root, files->path);
        for (char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
            *at = 0;
            mkdir(path, 0700); /* may be there already */
            *at = '/';
        }
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        CHECK(fd >= 0, "%s", path);
        CHECK(write(fd, files->text, strlen(files->text)) >= 0, "%s", path);
        close(fd);
    }
}

static inline void fake_root_remove(const char *root)
{
    CHECK(remove_folder(root) == 0, "%s stays", root);
}

#endif
