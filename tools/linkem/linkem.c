/* linkem - hosts on emulated links, for measuring what a network does to a program.
 *
 * Makes network namespaces of its own, each with one interface (10.77.0.1, 10.77.0.2, ...),
 * and carries packets between them with the rate, delay and queue of star.h, in user space:
 * it needs /dev/net/tun and the right to make namespaces, and no module of the kernel.
 *
 * Namespaces have no names. A program joins one by nsenter --net=PATH with the path that is
 * printed at the start; nothing is left when linkem and those programs have ended.
 *
 * Lines on standard input: "rate HOST MBIT", "stats". Its end ends linkem.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "star.h"

#define READS_IN_ROW 32  /* of one host before the others get their turn */
#define LINE_MAX_    256 /* of standard input */
#define NICE         (-15)

static const char usage_text[] =
    "usage: linkem [option ...]\n\n"
    "  --hosts N         2 to 64 (4)\n"
    "  --rate-mbit N     of every cable (1000)\n"
    "  --delay-us N      one way (10000)\n"
    "  --queue-ms N      before each host, drop-tail (30)\n"
    "  --congestion NAME of TCP in the namespaces (as the system's)\n"
    "  --idle-restart 0|1  net.ipv4.tcp_slow_start_after_idle (as the system's)\n\n"
    "Prints a JSON line a host, then {\"ready\":true}; standard input takes \"rate HOST MBIT\"\n"
    "and \"stats\", and its end ends the program.\n";

struct options {
    star_config star;
    const char *congestion, *idle_restart;
};

struct linkem {
    struct options options;
    star *star;
    int tun[STAR_HOSTS_MAX], space[STAR_HOSTS_MAX];
    int epoll, timer;
    uint64_t armed_ns;
    char line[LINE_MAX_];
    size_t line_size;
    uint64_t write_failures;
};

static void die(const char *format, ...)
{
    va_list args;

    fputs("linkem: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(EXIT_FAILURE);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- a host: namespace, device, address ---- */

static void write_setting(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        die("%s: cannot be set to %s: %s%s", path, value, strerror(errno),
            errno == EPERM ? " (is it in net.ipv4.tcp_allowed_congestion_control?)" : "");
    close(fd);
}

static void read_setting(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, size - 1);

    if (got < 0)
        die("%s: %s", path, strerror(errno));
    out[got] = 0;
    out[strcspn(out, "\n")] = 0;
    close(fd);
}

static void set_up(int socket, const char *name)
{
    struct ifreq request = { 0 };

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_flags = IFF_UP;
    if (ioctl(socket, SIOCSIFFLAGS, &request))
        die("%s cannot be brought up: %s", name, strerror(errno));
}

static void set_address(int socket, const char *name, unsigned long request_code,
                        const char *address)
{
    struct ifreq request = { 0 };
    struct sockaddr_in in = { .sin_family = AF_INET };

    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    inet_pton(AF_INET, address, &in.sin_addr);
    memcpy(&request.ifr_addr, &in, sizeof in);
    if (ioctl(socket, request_code, &request))
        die("%s cannot get %s: %s", name, address, strerror(errno));
}

/* The device of the namespace that this thread is in. */
static int open_tun(void)
{
    struct ifreq request = { .ifr_name = "tun0" };
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    int header = sizeof(struct virtio_net_hdr);

    if (fd < 0)
        die("/dev/net/tun: %s", strerror(errno));
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(fd, TUNSETIFF, &request))
        die("a tun device cannot be made: %s (it takes CAP_NET_ADMIN)", strerror(errno));
    /* Super-packets of TCP come through whole: a tenth of the system calls. */
    if (ioctl(fd, TUNSETVNETHDRSZ, &header) || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4))
        die("the tun device takes no super-packets: %s", strerror(errno));
    return fd;
}

static void make_host(struct linkem *l, uint32_t host)
{
    char address[32], congestion[64], idle[16];
    int sock;

    if (unshare(CLONE_NEWNET))
        die("a network namespace cannot be made: %s (it takes CAP_SYS_ADMIN, or a start by "
            "unshare --user --map-root-user)",
            strerror(errno));
    l->space[host] = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (l->space[host] < 0 || sock < 0)
        die("namespace %u: %s", host, strerror(errno));
    l->tun[host] = open_tun();
    snprintf(address, sizeof address, "10.77.0.%u", host + 1);
    set_address(sock, "tun0", SIOCSIFADDR, address);
    set_address(sock, "tun0", SIOCSIFNETMASK, "255.255.255.0");
    set_up(sock, "tun0");
    set_up(sock, "lo");
    close(sock);

    if (l->options.congestion)
        write_setting("/proc/sys/net/ipv4/tcp_congestion_control", l->options.congestion);
    if (l->options.idle_restart)
        write_setting("/proc/sys/net/ipv4/tcp_slow_start_after_idle", l->options.idle_restart);
    read_setting("/proc/sys/net/ipv4/tcp_congestion_control", congestion, sizeof congestion);
    read_setting("/proc/sys/net/ipv4/tcp_slow_start_after_idle", idle, sizeof idle);
    printf("{\"host\":%u,\"address\":\"%s\",\"netns\":\"/proc/%d/fd/%d\",\"congestion\":\"%s\","
           "\"idle_restart\":%s}\n",
           host, address, (int)getpid(), l->space[host], congestion, idle);
}

/* ---- the loop ---- */

static void print_stats(struct linkem *l)
{
    printf("{\"write_failures\":%llu,\"hosts\":[", (unsigned long long)l->write_failures);
    for (uint32_t i = 0; i < l->options.star.host_count; i++) {
        star_stats s = star_stats_read(l->star, i);

        printf("%s{\"sent_bytes\":%llu,\"received_bytes\":%llu,\"received_packets\":%llu,"
               "\"dropped_frames\":%llu,\"queue_ms_max\":%.3f}",
               i ? "," : "", (unsigned long long)s.sent_bytes, (unsigned long long)s.received_bytes,
               (unsigned long long)s.received_packets, (unsigned long long)s.dropped_frames,
               (double)s.queue_ns_max / 1e6);
    }
    puts("]}");
    fflush(stdout);
}

static void obey(struct linkem *l, const char *line)
{
    unsigned host, mbit;

    if (!strcmp(line, "stats")) {
        print_stats(l);
    } else if (sscanf(line, "rate %u %u", &host, &mbit) == 2 && mbit > 0 &&
               host < l->options.star.host_count) {
        star_set_rate(l->star, host, (uint64_t)mbit * 1000000);
        puts("{}");
        fflush(stdout);
    } else {
        die("\"%s\" is neither \"stats\" nor \"rate HOST MBIT\"", line);
    }
}

/* False: standard input ended. */
static bool read_lines(struct linkem *l)
{
    ssize_t got = read(STDIN_FILENO, l->line + l->line_size, sizeof l->line - 1 - l->line_size);
    char *end;

    if (got <= 0)
        return false;
    l->line_size += (size_t)got;
    l->line[l->line_size] = 0;
    while ((end = strchr(l->line, '\n'))) {
        *end = 0;
        obey(l, l->line);
        l->line_size -= (size_t)(end + 1 - l->line);
        memmove(l->line, end + 1, l->line_size + 1);
    }
    if (l->line_size == sizeof l->line - 1)
        die("a line of standard input is longer than %zu bytes", sizeof l->line - 2);
    return true;
}

static void read_host(struct linkem *l, uint32_t host)
{
    static uint8_t bytes[STAR_PACKET_MAX];
    uint64_t now = now_ns();

    for (int i = 0; i < READS_IN_ROW; i++) {
        ssize_t got = read(l->tun[host], bytes, sizeof bytes);

        if (got <= 0)
            return;
        star_send(l->star, host, now, bytes, (size_t)got);
    }
}

static void deliver(struct linkem *l)
{
    uint64_t now = now_ns();
    star_packet *packet;

    while ((packet = star_receive(l->star, now))) {
        if (write(l->tun[packet->to], packet->bytes, packet->size) != (ssize_t)packet->size)
            l->write_failures++;
        free(packet);
    }
}

static void arm(struct linkem *l)
{
    uint64_t next = star_next_ns(l->star);
    struct itimerspec at = { 0 };

    if (next == l->armed_ns)
        return;
    l->armed_ns = next;
    if (next != UINT64_MAX) {
        at.it_value.tv_sec = (time_t)(next / 1000000000ull);
        at.it_value.tv_nsec = (long)(next % 1000000000ull);
    }
    if (timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &at, NULL))
        die("timer: %s", strerror(errno));
}

static void watch(struct linkem *l, int fd, uint32_t id)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = id };

    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event))
        die("epoll: %s", strerror(errno));
}

static void carry(struct linkem *l)
{
    enum { TIMER = STAR_HOSTS_MAX, INPUT };
    struct epoll_event events[STAR_HOSTS_MAX + 2];
    uint64_t ticks;

    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    l->armed_ns = UINT64_MAX;
    for (uint32_t i = 0; i < l->options.star.host_count; i++)
        watch(l, l->tun[i], i);
    watch(l, l->timer, TIMER);
    watch(l, STDIN_FILENO, INPUT);
    for (;;) {
        int count = epoll_wait(l->epoll, events, STAR_HOSTS_MAX + 2, -1);

        for (int i = 0; i < count; i++) {
            uint32_t id = events[i].data.u32;

            if (id < STAR_HOSTS_MAX)
                read_host(l, id);
            else if (id == INPUT && !read_lines(l))
                return;
            else if (id == TIMER && read(l->timer, &ticks, sizeof ticks) > 0)
                l->armed_ns = UINT64_MAX;
        }
        deliver(l);
        arm(l);
    }
}

/* ---- start ---- */

static unsigned long long number(const char *option, const char *text, unsigned long long min,
                                 unsigned long long max)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (!*text || *end || *text == '-' || value < min || value > max)
        die("%s is %s: a number from %llu to %llu is expected", option, text, min, max);
    return value;
}

static void read_options(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        const char *option = argv[i], *value = argv[i + 1];

        if (!value) {
            fputs(usage_text, stderr);
            exit(2);
        }
        if (!strcmp(option, "--hosts"))
            o->star.host_count = (uint32_t)number(option, value, 2, STAR_HOSTS_MAX);
        else if (!strcmp(option, "--rate-mbit"))
            o->star.rate_bits_s = number(option, value, 1, 100000) * 1000000;
        else if (!strcmp(option, "--delay-us"))
            o->star.delay_ns = number(option, value, 0, 10000000) * 1000;
        else if (!strcmp(option, "--queue-ms"))
            o->star.queue_ns = number(option, value, 1, 10000) * 1000000;
        else if (!strcmp(option, "--congestion"))
            o->congestion = value;
        else if (!strcmp(option, "--idle-restart"))
            o->idle_restart = value;
        else
            die("%s: no such option\n%s", option, usage_text);
    }
}

int main(int argc, char **argv)
{
    static struct linkem l = {
        .options.star = { .host_count = 4,
                          .rate_bits_s = 1000000000,
                          .delay_ns = 10000000,
                          .queue_ns = 30000000 },
    };

    read_options(&l.options, argc, argv);
    /* A late packet is a slower network: go before what is measured, where that is allowed,
     * and never wait for a page of our own. */
    if (setpriority(PRIO_PROCESS, 0, NICE) || prctl(PR_SET_TIMERSLACK, 1) || mlockall(MCL_CURRENT))
        fprintf(stderr, "linkem: runs at the priority of others: %s\n", strerror(errno));
    for (uint32_t i = 0; i < l.options.star.host_count; i++)
        make_host(&l, i);
    l.star = star_open(&l.options.star);
    if (!l.star)
        die("no memory");
    puts("{\"ready\":true}");
    fflush(stdout);
    carry(&l);
    star_close(l.star);
    return 0;
}
