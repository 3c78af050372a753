/* inspect_report.h - what doppler inspect prints: text for people, JSON for scripts. */
#ifndef DP_APP_CLI_INSPECT_REPORT_H
#define DP_APP_CLI_INSPECT_REPORT_H

#include <jansson.h>
#include "base/buf.h"
#include "doppler/inspect.h"

typedef struct dp_inspect_parts {
    const dp_inspect *inspect;
    const dp_plan_info *plan; /* NULL: the model cannot run, so there is none */
    bool has_tensors, has_keys;
} dp_inspect_parts;

/* DP_E_NOMEM, DP_E_LIMIT. */
dp_status dp_inspect_text(const dp_inspect_parts *parts, dp_buf *out);
/* A new reference, NULL when memory is short. */
json_t *dp_inspect_json(const dp_inspect_parts *parts);

/* The plan alone. */
dp_status dp_inspect_plan_text(const dp_plan_info *plan, dp_buf *out);
json_t *dp_inspect_plan_json(const dp_plan_info *plan);

#endif
