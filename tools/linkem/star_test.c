#include "star.h"

#include <linux/virtio_net.h>
#include <stdlib.h>
#include "testing/check.h"

#define VIRTIO   sizeof(struct virtio_net_hdr)
#define MSS      1448
#define FRAME    (MSS + 52 + STAR_FRAME_EXTRA) /* 52: IP and TCP with timestamps */
#define FRAME_NS ((uint64_t)FRAME * 8)         /* at 1 Gbit/s */
#define MS       1000000ull

static uint8_t packet[STAR_PACKET_MAX];

/* A super-packet of TCP to host `to` whose payload is `payload` bytes: its size. */
static size_t make_packet(uint32_t to, uint32_t payload)
{
    struct virtio_net_hdr virtio = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                     .gso_type = payload > MSS ? VIRTIO_NET_HDR_GSO_TCPV4
                                                               : VIRTIO_NET_HDR_GSO_NONE,
                                     .gso_size = payload > MSS ? MSS : 0,
                                     .csum_start = 20,
                                     .csum_offset = 16 };
    static const uint8_t ip[20] = { 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 9 };
    uint32_t total = 20 + 32 + payload;

    memset(packet, 0, sizeof packet);
    memcpy(packet, &virtio, sizeof virtio);
    memcpy(packet + VIRTIO, ip, sizeof ip);
    packet[VIRTIO + 2] = (uint8_t)(total >> 8);
    packet[VIRTIO + 3] = (uint8_t)total;
    packet[VIRTIO + 16] = 10;
    packet[VIRTIO + 17] = 77;
    packet[VIRTIO + 19] = (uint8_t)(to + 1);
    packet[VIRTIO + 20 + 12] = 8 << 4;      /* header of 32 bytes */
    packet[VIRTIO + 20 + 13] = 0x10 | 0x09; /* ACK, PSH, FIN */
    return VIRTIO + total;
}

static star *open_star(uint32_t hosts)
{
    star_config config = {
        .host_count = hosts, .rate_bits_s = 1000000000, .delay_ns = 10 * MS, .queue_ns = 30 * MS
    };
    star *s = star_open(&config);

    CHECK(s, "no memory");
    return s;
}

/* The next packet, and when it came. */
static uint64_t receive(star *s, star_packet **out)
{
    uint64_t at = 0;

    *out = NULL;
    for (int i = 0; i < 1000 && !*out; i++) {
        at = star_next_ns(s);
        if (at == UINT64_MAX)
            return 0;
        *out = star_receive(s, at);
    }
    return at;
}

static void test_wire_bytes(void **state)
{
    static const struct {
        uint32_t payload, frames;
        uint64_t wire;
    } rows[] = {
        { 0, 1, 90 }, /* an ACK */
        { 1, 1, 91 },
        { MSS, 1, FRAME },
        { MSS + 1, 2, FRAME + 91 },
        { 40 * MSS, 40, 40ull * FRAME },
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t size = make_packet(0, rows[i].payload);

        CHECK(star_frames(packet, size) == rows[i].frames, "payload %u: %u frames", rows[i].payload,
              star_frames(packet, size));
        CHECK(star_wire_bytes(packet, size, rows[i].frames) == rows[i].wire, "payload %u",
              rows[i].payload);
    }
}

static void test_ill_formed(void **state)
{
    size_t size = make_packet(1, 100);
    star *s = open_star(2);

    CHECK(star_frames(packet, VIRTIO + 19) == 0, "short");
    CHECK(star_frames(packet, STAR_PACKET_MAX + 1) == 0, "long");
    packet[VIRTIO] = 0x65;
    CHECK(star_frames(packet, size) == 0, "version 6");
    packet[VIRTIO] = 0x4f;
    packet[VIRTIO + 60 + 12] = 0xf0;
    CHECK(star_frames(packet, VIRTIO + 110) == 0, "headers longer than the packet");
    make_packet(2, 100);
    star_send(s, 0, 0, packet, size);
    make_packet(0, 100);
    star_send(s, 0, 0, packet, size);
    CHECK(star_next_ns(s) == UINT64_MAX, "sent to nobody and to itself");
    star_close(s);
}

/* One packet: its own time on the wire once (frames go through the switch while later ones
 * come), and the delay. */
static void test_alone(void **state)
{
    star *s = open_star(2);
    size_t size = make_packet(1, 10 * MSS);
    star_packet *got;

    star_send(s, 0, 5 * MS, packet, size);
    CHECK(!star_receive(s, 15 * MS), "earlier than the delay");
    uint64_t at = receive(s, &got);
    CHECK(got && at == 15 * MS + 10 * FRAME_NS, "at %llu", (unsigned long long)at);
    CHECK(got->size == size && !memcmp(got->bytes, packet, size), "other bytes");
    free(got);
    star_close(s);
}

/* Whatever is offered, a second of a cable carries a second's bits. */
static void test_rate(void **state)
{
    star *s = open_star(3);
    size_t size;
    star_packet *got;
    uint64_t last = 0;

    for (int i = 0; i < 100; i++) {
        size = make_packet(2, 10 * MSS);
        star_send(s, (uint32_t)i % 2, 0, packet, size);
    }
    for (int i = 0; i < 100; i++) {
        last = receive(s, &got);
        CHECK(got, "packet %d", i);
        free(got);
    }
    /* 1000 frames of two senders wait before one cable, the first 10 of both come together. */
    CHECK(last == 10 * MS + 10 * FRAME_NS + 990 * FRAME_NS, "%llu", (unsigned long long)last);
    CHECK(star_stats_read(s, 2).dropped_frames == 0, "dropped");
    star_close(s);
}

static void test_slower_port(void **state)
{
    star *s = open_star(2);
    size_t size = make_packet(1, 10 * MSS);
    star_packet *got;

    star_set_rate(s, 1, 500000000);
    star_send(s, 0, 0, packet, size);
    uint64_t at = receive(s, &got);
    CHECK(got && at == 10 * MS + 20 * FRAME_NS, "at %llu", (unsigned long long)at);
    free(got);
    star_close(s);
}

/* The queue keeps the frames that have room and drops the others, inside a packet too. */
static void test_drop_tail(void **state)
{
    star *s = open_star(3);
    star_packet *got;
    uint64_t frames = 0, offered = 0;

    for (int i = 0; i < 200; i++) {
        size_t size = make_packet(2, 40 * MSS);

        star_send(s, (uint32_t)i % 2, 0, packet, size);
        offered += 40;
    }
    while (receive(s, &got) && got) {
        frames += star_frames(got->bytes, got->size);
        free(got);
    }
    star_stats stats = star_stats_read(s, 2);
    CHECK(frames + stats.dropped_frames == offered, "%llu + %llu", (unsigned long long)frames,
          (unsigned long long)stats.dropped_frames);
    /* Two cables give for 4000 frames' time what one takes, and 30 ms may wait at the end. */
    uint64_t most = 4000 + 30 * MS / FRAME_NS + 2;
    CHECK(frames <= most && frames > most - 80, "%llu of %llu", (unsigned long long)frames,
          (unsigned long long)most);
    CHECK(stats.queue_ns_max <= 30 * MS + 40 * FRAME_NS, "%llu",
          (unsigned long long)stats.queue_ns_max);
    CHECK(star_stats_read(s, 2).queue_ns_max == 0, "is cleared");
    star_close(s);
}

/* The sum of all 16-bit words of a header with its checksum is 0xffff (RFC 1071). */
static uint32_t ones_sum(const uint8_t *bytes, size_t size)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i += 2)
        sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

static void test_cut(void **state)
{
    size_t size = make_packet(1, 40 * MSS), cut = star_cut(packet, size, 3);
    const uint8_t *ip = packet + VIRTIO, *tcp = ip + 20;
    struct virtio_net_hdr virtio;

    CHECK(cut == VIRTIO + 52 + 3 * MSS, "%zu bytes", cut);
    CHECK(((uint32_t)ip[2] << 8 | ip[3]) == 52 + 3 * MSS, "length in the header");
    CHECK(ones_sum(ip, 20) == 0xffff, "checksum of the header");
    /* 10.77 + 0.9 + 10.77 + 0.2 + 6 + length, by hand */
    CHECK(((uint32_t)tcp[16] << 8 | tcp[17]) == 2637 + 9 + 2637 + 2 + 6 + 32 + 3 * MSS,
          "sum of the pseudo-header");
    CHECK((tcp[13] & 0x09) == 0 && (tcp[13] & 0x10), "flags %x", tcp[13]);
    CHECK(star_cut(packet, cut, 1) == VIRTIO + 52 + MSS, "to one frame");
    memcpy(&virtio, packet, sizeof virtio);
    CHECK(virtio.gso_type == VIRTIO_NET_HDR_GSO_NONE, "one frame is no super-packet");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_bytes),  cmocka_unit_test(test_ill_formed),
        cmocka_unit_test(test_alone),       cmocka_unit_test(test_rate),
        cmocka_unit_test(test_slower_port), cmocka_unit_test(test_drop_tail),
        cmocka_unit_test(test_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
