/* swarm_report.h - what a swarm did and who is in it, as text and as JSON. */
#ifndef DP_APP_CLI_SWARM_REPORT_H
#define DP_APP_CLI_SWARM_REPORT_H

#include <jansson.h>
#include "app/cli/mounts.h"
#include "base/buf.h"

/* A line of numbers: for people. DP_E_NOMEM. */
dp_status dp_swarm_report_text(const dp_mounts *mounts, dp_buf *out);
/* The object "swarm" of a run; NULL: no memory. The mounts have a swarm. */
json_t *dp_swarm_report_json(const dp_mounts *mounts);

/* What doppler peers prints. holders: [layers][experts], how many hold each. */
typedef struct dp_peers_report {
    dp_mount_info mount;
    const dp_peer_info *peers;
    size_t peer_count;
    const uint32_t *holders;
    uint32_t layers, experts;
} dp_peers_report;

dp_status dp_peers_text(const dp_peers_report *report, dp_buf *out);
json_t *dp_peers_json(const dp_peers_report *report);

#endif
