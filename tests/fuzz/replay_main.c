/* Runs a fuzz target over the files of the folders and the files given, so that
 * what once failed is tried in every build, with any compiler. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

#define INPUT_MAX ((size_t)16 << 20)

static int replay_file(const char *path)
{
    char *bytes;
    uint8_t *exact;
    size_t size;
    dp_error err;

    if (dp_file_read_all(&bytes, &size, path, INPUT_MAX, &err) != DP_OK) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    exact = malloc(size ? size : 1); /* without the NUL that would hide reading past the end */
    if (!exact) {
        fprintf(stderr, "%s: no memory for %zu bytes\n", path, size);
        dp_free(bytes);
        return -1;
    }
    memcpy(exact, bytes, size);
    dp_free(bytes);
    fprintf(stderr, "%s (%zu bytes)\n", path, size); /* the last line is the one that failed */
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

/* The number of files replayed, or -1. */
static int replay_folder(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    int count = 0;

    if (!folder)
        return replay_file(path) ? -1 : 1;
    while ((entry = readdir(folder)) != NULL) {
        char file[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (replay_file(file)) {
            count = -1;
            break;
        }
        count++;
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        int count = replay_folder(argv[i]);

        if (count < 0)
            return 1;
        total += count;
    }
    printf("corpus: %d passed, 0 failed\n", total); /* counted by tools/run_tests.py */
    return total > 0 ? 0 : 1;                       /* an empty corpus is a mistake in the build */
}
