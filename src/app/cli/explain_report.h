/* explain_report.h - what --explain prints, as text and as JSON. */
#ifndef DP_APP_CLI_EXPLAIN_REPORT_H
#define DP_APP_CLI_EXPLAIN_REPORT_H

#include <jansson.h>
#include "base/buf.h"
#include "doppler/explain.h"

/* Lines for a person. DP_E_NOMEM. */
dp_status dp_explain_text(const dp_explain *explain, dp_buf *out);
/* A new reference, NULL when memory is short. */
json_t *dp_explain_json(const dp_explain *explain);

#endif
