/* vnet.h - a network in virtual time: hosts, distances, and answers that share cables.
 *
 * Room     Events in order of time, those of one moment in the order they were made, so that
 *          a seed gives one run. An answer is a flow of bytes, not of packets: its rate is
 *          its share of the sender's cable, of the receiver's (what others cannot use is
 *          divided among those who can), and on a new connection what TCP's slow start
 *          allows. What bytes mean is vswarm.h.
 *
 * Threads  One at a time.
 */
#ifndef DP_SIM_VNET_H
#define DP_SIM_VNET_H

#include "base/base.h"

#define VNET_MS         ((uint64_t)1000000)
#define VNET_S          ((uint64_t)1000000000)
#define VNET_FLOWS_HOST 1024           /* answers at a time of one host at most */
#define VNET_TOO_MANY   0              /* code of a refusal by that limit */
#define VNET_REPORT_NS  (50 * VNET_MS) /* bytes are told at least so often */

typedef struct vnet vnet;

typedef struct vnet_host {
    double up_bytes_s, down_bytes_s;
    uint32_t answers_max; /* at a time; it refuses more */
    double x_ms, y_ms;    /* a round trip is 4 ms and the way between two places */
} vnet_host;

typedef enum vnet_kind {
    VNET_REQUEST, /* reached the server: vnet_answer, vnet_refuse, or silence */
    VNET_HEAD,    /* the head of an answer reached the client */
    VNET_DATA,    /* more bytes did; is_end: these were the last */
    VNET_REFUSED, /* the refusal did; it is over */
    VNET_TIMER,
} vnet_kind;

typedef struct vnet_event {
    vnet_kind kind;
    uint32_t flow, client, server; /* of flows */
    uint64_t bytes;
    bool is_end;
    int code;       /* of vnet_refuse, of vnet_timer */
    uint64_t value; /* of vnet_timer */
} vnet_event;

/* NULL: no memory. hosts [count], copied. */
vnet *vnet_open(const vnet_host *hosts, uint32_t count);
void vnet_close(vnet *net);

uint64_t vnet_now_ns(const vnet *net);
uint64_t vnet_rtt_ns(const vnet *net, uint32_t a, uint32_t b);

/* A request leaves the client; a cold connection has to be made first. Its flow, which is
 * the caller's name for it until it ended or vnet_stop. */
uint32_t vnet_ask(vnet *net, uint32_t client, uint32_t server, uint64_t size, bool is_cold);
bool vnet_answer(vnet *net, uint32_t flow); /* false: too many answers under way there */
void vnet_refuse(vnet *net, uint32_t flow, int code);
void vnet_stop(vnet *net, uint32_t flow);
void vnet_freeze(vnet *net, uint32_t flow); /* nothing more comes of it, and nobody is told */
void vnet_timer(vnet *net, uint64_t at_ns, int code, uint64_t value);

/* The next event not later than end_ns; false: none. */
bool vnet_next(vnet *net, uint64_t end_ns, vnet_event *out);

#endif
