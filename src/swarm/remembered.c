#include "swarm/remembered.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/file_out.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/piece_hash.h"

#define SUFFIX    ".origin"
#define ENTRY_MAX 65536
#define PATH_SIZE 4096

static bool path_of(char out[PATH_SIZE], const char *folder, const char *name)
{
    dp_hash hash = { .bytes = { 0 } };
    char hex[2 * DP_HASH_SIZE + 1];

    if (!folder || !EVP_Digest(name, strlen(name), hash.bytes, NULL, EVP_sha256(), NULL))
        return false;
    dp_hash_hex(hex, &hash);
    return snprintf(out, PATH_SIZE, "%s/%s%s", folder, hex, SUFFIX) < PATH_SIZE;
}

/* Makes room for one more. */
static void drop_oldest(const char *folder)
{
    dp_folder_entry *entries, *oldest = NULL;
    size_t count, kept = 0;
    char path[PATH_SIZE];

    if (dp_folder_list(&entries, &count, folder, ENTRY_MAX, NULL))
        return;
    for (size_t i = 0; i < count; i++) {
        if (!dp_str_ends_with(dp_str_from(entries[i].name), SUFFIX))
            continue;
        kept++;
        if (!oldest || entries[i].changed_unix < oldest->changed_unix)
            oldest = &entries[i];
    }
    if (kept >= DP_REMEMBERED_MAX &&
        snprintf(path, sizeof path, "%s/%s", folder, oldest->name) < PATH_SIZE)
        dp_folder_remove(path, NULL);
    dp_free(entries);
}

void dp_remembered_write(const char *folder, const char *name, const void *bytes, size_t size)
{
    dp_file_out out = { .path = NULL };
    char path[PATH_SIZE];
    dp_status st;

    if (!path_of(path, folder, name) || dp_folder_make(folder, NULL))
        return;
    drop_oldest(folder);
    st = dp_file_out_open(&out, path, NULL);
    if (!st)
        st = dp_file_out_write(&out, bytes, size, NULL);
    if (!st)
        dp_file_out_commit(&out, NULL);
    dp_file_out_close(&out);
}

char *dp_remembered_read(const char *folder, const char *name, size_t *size)
{
    char path[PATH_SIZE], *bytes;

    if (!path_of(path, folder, name) ||
        dp_file_read_all(&bytes, size, path, DP_REMEMBERED_BYTES_MAX, NULL))
        return NULL;
    return bytes;
}
