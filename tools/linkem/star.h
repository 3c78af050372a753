/* star.h - a switch and its cables in user space: when which packet comes out where.
 *
 * Room     Hosts hang on one switch, each by a cable of its own rate. A packet waits its turn
 *          on the sender's cable (a host never drops what it sends), then in the switch's
 *          queue before the receiver's cable, which drops at its tail, and arrives `delay_ns`
 *          after its last bit left. Time is a parameter: nothing here looks at a clock.
 *
 * Packets  A struct virtio_net_hdr and an IPv4 packet, as a tun device with IFF_VNET_HDR gives
 *          it. TCP comes as super-packets of up to 64 KiB; they count as the frames a wire
 *          would carry, with headers, FCS, preamble and gap, and a queue with room for some of
 *          these frames takes those and drops the rest.
 *
 * Threads  One at a time.
 */
#ifndef DP_LINKEM_STAR_H
#define DP_LINKEM_STAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAR_HOSTS_MAX    64
#define STAR_FRAME_EXTRA  38                 /* Ethernet: header, FCS, preamble, gap */
#define STAR_PACKET_MAX   (65536 + 64)       /* with the header of virtio */
#define STAR_UPLINK_BYTES ((size_t)64 << 20) /* windows of all sockets of a host; more is dropped */

typedef struct star_config {
    uint32_t host_count;
    uint64_t rate_bits_s, delay_ns, queue_ns; /* of every cable; queue: as time at its rate */
} star_config;

typedef struct star_packet {
    struct star_packet *next;
    uint64_t at_ns; /* when its last bit leaves where it is */
    uint32_t to, size;
    uint8_t bytes[]; /* [size] */
} star_packet;

typedef struct star_stats {
    uint64_t sent_bytes, received_bytes; /* on the wire, of this host */
    uint64_t received_packets;
    uint64_t dropped_frames; /* before this host's cable */
    uint64_t queue_ns_max;   /* longest wait before this host's cable since the last look */
} star_stats;

typedef struct star star;

star *star_open(const star_config *config); /* NULL: no memory */
void star_close(star *s);
void star_set_rate(star *s, uint32_t host, uint64_t rate_bits_s);

/* A packet leaves `from` for the host whose address ends in `to` + 1; copied. Ill-formed ones
 * and those for nobody are dropped. */
void star_send(star *s, uint32_t from, uint64_t now_ns, const uint8_t *bytes, size_t size);
/* When the next packet moves; UINT64_MAX: none is under way. */
uint64_t star_next_ns(const star *s);
/* The next packet that has arrived by now, or NULL. The caller frees it. */
star_packet *star_receive(star *s, uint64_t now_ns);
/* Reads and clears queue_ns_max. */
star_stats star_stats_read(star *s, uint32_t host);

/* Frames of a packet, and bytes on the wire of its first `frames`. 0: ill-formed. */
uint32_t star_frames(const uint8_t *bytes, size_t size);
uint64_t star_wire_bytes(const uint8_t *bytes, size_t size, uint32_t frames);
/* Keeps the first frames of a super-packet: its new size. 0 < frames < star_frames. */
size_t star_cut(uint8_t *bytes, size_t size, uint32_t frames);

#endif
