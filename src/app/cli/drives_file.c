#include "app/cli/drives_file.h"

#include <string.h>
#include "app/cli/doctor_report.h"
#include "app/cli/json_text.h"
#include "app/cli/userdir.h"
#include "base/file_out.h"
#include "base/status.h"

#define FILE_VERSION   1
#define DRIVES_MAX     64 /* kept: the latest */
#define FILE_BYTES_MAX ((size_t)4 << 20)

void dp_drives_file_find(char path[DP_PATH_MAX])
{
    char found[DP_USERDIR_PATH_MAX];

    path[0] = 0;
    dp_userdir_find(found, "XDG_CACHE_HOME", ".cache", "doppler/drives.json");
    if (strlen(found) < DP_PATH_MAX)
        strcpy(path, found);
}

void dp_drives_file_advise(dp_options *options, const char *model)
{
    char path[DP_PATH_MAX];

    dp_drives_file_find(path);
    if (path[0])
        dp_doctor_advise(options, path, model);
}

static bool has_text(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));

    return value && strcmp(value, text) == 0;
}

/* The list that is saved so far, without the probe's predecessor; a new one where the
 * file says nothing that can be used. */
static json_t *read_list(const char *path, const dp_drive_probe *probe)
{
    json_t *document = json_load_file(path, 0, NULL);
    json_t *list = json_object_get(document, "drives");

    if (!json_is_array(list) ||
        json_integer_value(json_object_get(document, "version")) != FILE_VERSION)
        list = NULL;
    list = list ? json_incref(list) : json_array();
    json_decref(document);
    for (size_t i = json_array_size(list); list && i > 0; i--) {
        json_t *other = json_array_get(list, i - 1);

        if (!json_is_object(other) ||
            (has_text(other, "machine", probe->machine) &&
             has_text(other, "device", probe->device) && has_text(other, "fs", probe->fs)))
            json_array_remove(list, i - 1);
    }
    while (json_array_size(list) >= DRIVES_MAX)
        json_array_remove(list, 0);
    return list;
}

dp_status dp_drives_file_save(const char *path, const dp_drive_probe *probe, dp_error *err)
{
    json_t *document = json_object();
    json_t *list = read_list(path, probe);
    dp_status st = DP_E_NOMEM;
    dp_file_out file = { 0 };
    dp_buf text;

    dp_buf_init(&text, FILE_BYTES_MAX);
    if (document && list && !json_array_append_new(list, dp_doctor_probe_json(probe)) &&
        dp_json_put_count(document, "version", FILE_VERSION) &&
        !json_object_set(document, "drives", list))
        st = dp_json_write(&text, document, 1);
    if (st) {
        dp_fail(err, st, "%s: no memory to write it", path);
        goto done;
    }
    st = dp_file_out_open(&file, path, err);
    if (!st)
        st = dp_file_out_write(&file, text.bytes, text.size, err);
    if (!st)
        st = dp_file_out_commit(&file, err);
done:
    dp_file_out_close(&file);
    dp_buf_deinit(&text);
    json_decref(document);
    json_decref(list);
    return st;
}
