/* doctor_report.h - what doppler doctor prints: text for people, JSON for scripts. */
#ifndef DP_APP_CLI_DOCTOR_REPORT_H
#define DP_APP_CLI_DOCTOR_REPORT_H

#include <jansson.h>
#include "base/buf.h"
#include "doppler/doctor.h"

typedef struct dp_doctor_parts {
    dp_machine_info machine;
    const dp_drive_info *drives;  /* [drive_count] */
    const dp_drive_probe *probes; /* [drive_count] */
    size_t drive_count;
} dp_doctor_parts;

/* DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_doctor_text(const dp_doctor_parts *parts, dp_buf *out);
/* A new reference, NULL when memory is short. */
json_t *dp_doctor_json(const dp_doctor_parts *parts);
json_t *dp_doctor_probe_json(const dp_drive_probe *probe); /* also what is saved */

#endif
