/* drives_file.h - probes of drives, kept in the user's cache folder (docs/doctor.md).
 *
 * A file that is not what it should be is replaced when something is saved. */
#ifndef DP_APP_CLI_DRIVES_FILE_H
#define DP_APP_CLI_DRIVES_FILE_H

#include "doppler/doctor.h"

/* drives.json in the user's cache folder, which is made; "" when there is no such place. */
void dp_drives_file_find(char path[DP_PATH_MAX]);

/* dp_doctor_advise by that file. */
void dp_drives_file_advise(dp_options *options, const char *model);

/* Adds a probe, in place of the one of the same machine, device and file system. DP_E_IO,
 * DP_E_NOMEM. */
dp_status dp_drives_file_save(const char *path, const dp_drive_probe *probe, dp_error *err);

#endif
