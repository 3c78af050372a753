#include "star.h"

#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S  1000000000ull
#define VIRTIO    sizeof(struct virtio_net_hdr)
#define IP_PROTO  9
#define IP_MIN    20
#define TCP_MIN   20
#define PROTO_TCP 6
#define TCP_FLAGS 13
#define TCP_CHECK 16
#define FLAG_FIN  0x01
#define FLAG_PUSH 0x08

struct fifo {
    star_packet *head, *tail;
};

struct cable {
    uint64_t rate_bits_s;
    uint64_t up_free_ns, down_free_ns; /* when the last bit accepted so far will have left */
    size_t up_bytes;
    struct fifo up, down; /* both in order of at_ns */
    star_stats stats;
};

struct star {
    star_config config;
    struct cable cables[STAR_HOSTS_MAX];
};

/* ---- packets ---- */

struct shape {
    uint32_t headers, payload, segment; /* bytes; segment: payload of one frame */
};

static uint32_t read_u16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static void write_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static bool read_shape(struct shape *out, const uint8_t *bytes, size_t size)
{
    struct virtio_net_hdr virtio;
    const uint8_t *ip = bytes + VIRTIO;
    size_t ip_size = size - VIRTIO, headers;

    if (size < VIRTIO + IP_MIN || size > STAR_PACKET_MAX || ip[0] >> 4 != 4)
        return false;
    memcpy(&virtio, bytes, sizeof virtio);
    headers = (size_t)(ip[0] & 15) * 4;
    if (ip[IP_PROTO] == PROTO_TCP) {
        if (ip_size < headers + TCP_MIN)
            return false;
        headers += (size_t)(ip[headers + 12] >> 4) * 4;
    }
    if (headers < IP_MIN || headers > ip_size)
        return false;
    out->headers = (uint32_t)headers;
    out->payload = (uint32_t)(ip_size - headers);
    out->segment = virtio.gso_type != VIRTIO_NET_HDR_GSO_NONE && virtio.gso_size
                       ? virtio.gso_size
                       : (uint32_t)ip_size;
    return true;
}

uint32_t star_frames(const uint8_t *bytes, size_t size)
{
    struct shape shape;

    if (!read_shape(&shape, bytes, size))
        return 0;
    return shape.payload ? (shape.payload + shape.segment - 1) / shape.segment : 1;
}

uint64_t star_wire_bytes(const uint8_t *bytes, size_t size, uint32_t frames)
{
    struct shape shape;
    uint64_t payload;

    if (!read_shape(&shape, bytes, size))
        return 0;
    payload = (uint64_t)frames * shape.segment;
    if (payload > shape.payload)
        payload = shape.payload;
    return payload + (uint64_t)frames * (shape.headers + STAR_FRAME_EXTRA);
}

/* The sum of 16-bit words, ones' complement, not yet complemented. RFC 1071. */
static uint32_t sum_words(const uint8_t *bytes, size_t size, uint32_t sum)
{
    for (size_t i = 0; i + 1 < size; i += 2)
        sum += read_u16(bytes + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

size_t star_cut(uint8_t *bytes, size_t size, uint32_t frames)
{
    struct shape shape;
    struct virtio_net_hdr virtio;
    uint8_t *ip = bytes + VIRTIO, *tcp;
    uint32_t ip_size, ip_headers;

    if (!read_shape(&shape, bytes, size))
        return 0;
    ip_headers = (uint32_t)(ip[0] & 15) * 4;
    tcp = ip + ip_headers;
    ip_size = shape.headers + frames * shape.segment;
    write_u16(ip + 2, ip_size);
    write_u16(ip + 10, 0);
    write_u16(ip + 10, ~sum_words(ip, ip_headers, 0) & 0xffff);

    /* These belong to the last frame, which is gone. */
    tcp[TCP_FLAGS] &= (uint8_t) ~(FLAG_FIN | FLAG_PUSH);
    /* What the receiver completes is the sum of addresses, protocol and length. */
    write_u16(tcp + TCP_CHECK, sum_words(ip + 12, 8, PROTO_TCP + ip_size - ip_headers));

    memcpy(&virtio, bytes, sizeof virtio);
    if (frames == 1)
        virtio.gso_type = VIRTIO_NET_HDR_GSO_NONE;
    memcpy(bytes, &virtio, sizeof virtio);
    return VIRTIO + ip_size;
}

/* ---- queues ---- */

static void push(struct fifo *fifo, star_packet *packet)
{
    packet->next = NULL;
    if (fifo->tail)
        fifo->tail->next = packet;
    else
        fifo->head = packet;
    fifo->tail = packet;
}

static star_packet *pop(struct fifo *fifo)
{
    star_packet *packet = fifo->head;

    fifo->head = packet->next;
    if (!fifo->head)
        fifo->tail = NULL;
    return packet;
}

static uint64_t wire_ns(const struct cable *cable, uint64_t bytes)
{
    return bytes * 8 * NS_PER_S / cable->rate_bits_s;
}

star *star_open(const star_config *config)
{
    star *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->config = *config;
    for (uint32_t i = 0; i < config->host_count; i++)
        s->cables[i].rate_bits_s = config->rate_bits_s;
    return s;
}

void star_close(star *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->config.host_count; i++) {
        while (s->cables[i].up.head)
            free(pop(&s->cables[i].up));
        while (s->cables[i].down.head)
            free(pop(&s->cables[i].down));
    }
    free(s);
}

void star_set_rate(star *s, uint32_t host, uint64_t rate_bits_s)
{
    s->cables[host].rate_bits_s = rate_bits_s;
}

void star_send(star *s, uint32_t from, uint64_t now_ns, const uint8_t *bytes, size_t size)
{
    struct cable *cable = &s->cables[from];
    uint32_t frames = star_frames(bytes, size), to;
    star_packet *packet;
    uint64_t wire;

    if (!frames)
        return;
    to = (uint32_t)bytes[VIRTIO + 19] - 1; /* the last byte of the address */
    if (to >= s->config.host_count || to == from || cable->up_bytes + size > STAR_UPLINK_BYTES)
        return;
    packet = malloc(sizeof *packet + size);
    if (!packet)
        return; /* as a full queue */
    memcpy(packet->bytes, bytes, size);
    packet->size = (uint32_t)size;
    packet->to = to;
    wire = star_wire_bytes(bytes, size, frames);
    if (cable->up_free_ns < now_ns)
        cable->up_free_ns = now_ns;
    cable->up_free_ns += wire_ns(cable, wire);
    cable->up_bytes += size;
    cable->stats.sent_bytes += wire;
    packet->at_ns = cable->up_free_ns;
    push(&cable->up, packet);
}

/* From a sender's cable into the queue before the receiver's, as much of it as has room. */
static void forward(star *s, struct cable *from)
{
    star_packet *packet = pop(&from->up);
    struct cable *to = &s->cables[packet->to];
    uint32_t frames = star_frames(packet->bytes, packet->size), kept = frames;
    uint64_t at = packet->at_ns, wait = to->down_free_ns > at ? to->down_free_ns - at : 0;

    from->up_bytes -= packet->size;
    /* A frame has room when it would wait no longer than the queue is. */
    while (kept && wait + wire_ns(to, star_wire_bytes(packet->bytes, packet->size, kept - 1)) >
                       s->config.queue_ns)
        kept--;
    to->stats.dropped_frames += frames - kept;
    if (!kept) {
        free(packet);
        return;
    }
    if (kept < frames)
        packet->size = (uint32_t)star_cut(packet->bytes, packet->size, kept);
    /* Its first bits went through while its last ones were still coming: a packet that finds
     * the cable free ends when it ends on the sender's, if the receiver's is as fast. */
    uint64_t wire = star_wire_bytes(packet->bytes, packet->size, kept);
    uint64_t end = to->down_free_ns + wire_ns(to, wire);
    uint64_t slower =
        wire_ns(to, wire) > wire_ns(from, wire) ? at + wire_ns(to, wire) - wire_ns(from, wire) : at;

    to->down_free_ns = end > slower ? end : slower;
    if (to->down_free_ns - at > to->stats.queue_ns_max)
        to->stats.queue_ns_max = to->down_free_ns - at;
    to->stats.received_bytes += wire;
    to->stats.received_packets++;
    packet->at_ns = to->down_free_ns + s->config.delay_ns;
    push(&to->down, packet);
}

/* The sender whose cable gives its next packet first; NULL: none. */
static struct cable *first_up(star *s)
{
    struct cable *first = NULL;

    for (uint32_t i = 0; i < s->config.host_count; i++) {
        struct cable *cable = &s->cables[i];

        if (cable->up.head && (!first || cable->up.head->at_ns < first->up.head->at_ns))
            first = cable;
    }
    return first;
}

uint64_t star_next_ns(const star *s)
{
    uint64_t next = UINT64_MAX;

    for (uint32_t i = 0; i < s->config.host_count; i++) {
        const struct cable *cable = &s->cables[i];

        /* A packet on a sender's cable arrives no earlier than its delay later, so what is
         * on its way out need not be looked at before. */
        if (cable->up.head && cable->up.head->at_ns + s->config.delay_ns < next)
            next = cable->up.head->at_ns + s->config.delay_ns;
        if (cable->down.head && cable->down.head->at_ns < next)
            next = cable->down.head->at_ns;
    }
    return next;
}

star_packet *star_receive(star *s, uint64_t now_ns)
{
    struct cable *up;

    for (up = first_up(s); up && up->up.head->at_ns <= now_ns; up = first_up(s))
        forward(s, up);
    for (uint32_t i = 0; i < s->config.host_count; i++)
        if (s->cables[i].down.head && s->cables[i].down.head->at_ns <= now_ns)
            return pop(&s->cables[i].down);
    return NULL;
}

star_stats star_stats_read(star *s, uint32_t host)
{
    star_stats stats = s->cables[host].stats;

    s->cables[host].stats.queue_ns_max = 0;
    return stats;
}
