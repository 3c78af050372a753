#include "vnet.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/assert.h"

#define FLOWS_CLIENT_MAX 64    /* of one receiver */
#define FIRST_WINDOW     14480 /* bytes of a new connection's first round trip (RFC 6928) */
#define RTT_MIN_MS       4

enum step { STEP_REQUEST, STEP_HEAD, STEP_FLOW, STEP_REFUSED, STEP_TIMER };

struct entry {
    uint64_t at_ns, serial;
    enum step step;
    uint32_t flow, version; /* an entry of another version of its flow is void */
    int code;
    uint64_t value;
};

struct flow {
    bool is_used, is_streaming;
    uint32_t client, server, version;
    uint64_t size, told, last_ns;
    uint64_t told_ns;       /* when it began, or was last told of */
    double sent, rate, cap; /* cap: of slow start; 0: none any more */
};

struct host {
    vnet_host config;
    uint32_t out[VNET_FLOWS_HOST], out_count; /* streaming flows it sends */
    uint32_t in[FLOWS_CLIENT_MAX], in_count;  /* and receives */
};

struct vnet {
    struct host *hosts;
    uint32_t host_count;
    struct flow *flows;
    uint32_t flow_count, flow_capacity;
    uint32_t *free_flows, free_count;
    struct entry *heap;
    size_t heap_count, heap_capacity;
    uint64_t now_ns, serial;
};

/* ---- events in order: a binary heap ---- */

static bool is_before(const struct entry *a, const struct entry *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->serial < b->serial;
}

static void *grown(void *old, size_t count, size_t size)
{
    void *now = realloc(old, count * size);

    if (!now)
        abort(); /* a simulation without memory has nothing to say */
    return now;
}

static void push(vnet *net, struct entry entry)
{
    size_t at = net->heap_count++;

    if (at == net->heap_capacity) {
        net->heap_capacity = net->heap_capacity ? net->heap_capacity * 2 : 1024;
        net->heap = grown(net->heap, net->heap_capacity, sizeof *net->heap);
    }
    entry.serial = net->serial++;
    for (; at > 0 && is_before(&entry, &net->heap[(at - 1) / 2]); at = (at - 1) / 2)
        net->heap[at] = net->heap[(at - 1) / 2];
    net->heap[at] = entry;
}

static struct entry pop(vnet *net)
{
    struct entry first = net->heap[0], last = net->heap[--net->heap_count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= net->heap_count)
            break;
        if (child + 1 < net->heap_count && is_before(&net->heap[child + 1], &net->heap[child]))
            child++;
        if (!is_before(&net->heap[child], &last))
            break;
        net->heap[at] = net->heap[child];
        at = child;
    }
    net->heap[at] = last;
    return first;
}

static void push_flow(vnet *net, uint64_t at_ns, enum step step, uint32_t flow, int code)
{
    push(net, (struct entry){ .at_ns = at_ns,
                              .step = step,
                              .flow = flow,
                              .version = net->flows[flow].version,
                              .code = code });
}

/* ---- sharing ---- */

static void account(vnet *net, struct flow *f)
{
    f->sent += f->rate * (double)(net->now_ns - f->last_ns) / 1e9;
    if (f->sent > (double)f->size)
        f->sent = (double)f->size;
    f->last_ns = net->now_ns;
}

/* When something of the flow is to be told: its end, a report, or a round trip that doubles
 * the window. A change of its rate moves its end alone. */
static void schedule(vnet *net, uint32_t id)
{
    struct flow *f = &net->flows[id];
    double left_ns = ((double)f->size - f->sent) / f->rate * 1e9;
    uint64_t wait = VNET_REPORT_NS, rtt = vnet_rtt_ns(net, f->client, f->server), at;

    if (f->cap > 0 && rtt < wait)
        wait = rtt;
    at = DP_MAX(f->told_ns + wait, net->now_ns);
    if (left_ns < (double)(at - net->now_ns))
        at = net->now_ns + (uint64_t)ceil(left_ns);
    f->version++;
    push_flow(net, at, STEP_FLOW, id, 0);
}

static double share_of_sender(const vnet *net, const struct flow *f)
{
    const struct host *server = &net->hosts[f->server];
    double share = server->config.up_bytes_s / server->out_count;

    return f->cap > 0 && f->cap < share ? f->cap : share;
}

/* The receiver's cable in equal parts; who cannot take his leaves it to the others. */
static void share_receiver(vnet *net, uint32_t client)
{
    struct host *host = &net->hosts[client];
    double want[FLOWS_CLIENT_MAX], left = host->config.down_bytes_s;
    bool is_set[FLOWS_CLIENT_MAX] = { false };
    uint32_t open = host->in_count;
    double rate[FLOWS_CLIENT_MAX];

    for (uint32_t i = 0; i < host->in_count; i++)
        want[i] = share_of_sender(net, &net->flows[host->in[i]]);
    for (bool is_changed = true; is_changed && open;) {
        double part = left / open;

        is_changed = false;
        for (uint32_t i = 0; i < host->in_count; i++) {
            if (is_set[i] || want[i] > part)
                continue;
            rate[i] = want[i];
            left -= want[i];
            is_set[i] = is_changed = true;
            open--;
        }
    }
    for (uint32_t i = 0; i < host->in_count; i++) {
        struct flow *f = &net->flows[host->in[i]];
        double now = is_set[i] ? rate[i] : left / open;

        if (now == f->rate)
            continue;
        account(net, f);
        f->rate = now;
        schedule(net, host->in[i]);
    }
}

/* Whoever receives from this server gets another share. */
static void share_sender(vnet *net, uint32_t server)
{
    struct host *host = &net->hosts[server];

    for (uint32_t i = 0; i < host->out_count; i++)
        share_receiver(net, net->flows[host->out[i]].client);
}

static void list_remove(uint32_t *list, uint32_t *count, uint32_t id)
{
    for (uint32_t i = 0; i < *count; i++)
        if (list[i] == id) {
            list[i] = list[--*count];
            return;
        }
}

static void end_stream(vnet *net, uint32_t id)
{
    struct flow *f = &net->flows[id];
    struct host *server = &net->hosts[f->server], *client = &net->hosts[f->client];

    if (!f->is_streaming)
        return;
    f->is_streaming = false;
    list_remove(server->out, &server->out_count, id);
    list_remove(client->in, &client->in_count, id);
    share_receiver(net, f->client);
    share_sender(net, f->server);
}

/* ---- the caller's side ---- */

vnet *vnet_open(const vnet_host *hosts, uint32_t count)
{
    vnet *net = calloc(1, sizeof *net);

    if (!net)
        return NULL;
    net->hosts = calloc(count, sizeof *net->hosts);
    if (!net->hosts) {
        free(net);
        return NULL;
    }
    net->host_count = count;
    for (uint32_t i = 0; i < count; i++) {
        net->hosts[i].config = hosts[i];
        if (hosts[i].answers_max > VNET_FLOWS_HOST)
            net->hosts[i].config.answers_max = VNET_FLOWS_HOST;
    }
    return net;
}

void vnet_close(vnet *net)
{
    if (!net)
        return;
    free(net->hosts);
    free(net->flows);
    free(net->free_flows);
    free(net->heap);
    free(net);
}

uint64_t vnet_now_ns(const vnet *net)
{
    return net->now_ns;
}

uint64_t vnet_rtt_ns(const vnet *net, uint32_t a, uint32_t b)
{
    double x = net->hosts[a].config.x_ms - net->hosts[b].config.x_ms;
    double y = net->hosts[a].config.y_ms - net->hosts[b].config.y_ms;

    return (uint64_t)((RTT_MIN_MS + sqrt(x * x + y * y)) * 1e6);
}

uint32_t vnet_ask(vnet *net, uint32_t client, uint32_t server, uint64_t size, bool is_cold)
{
    uint32_t id;
    struct flow *f;
    uint64_t rtt = vnet_rtt_ns(net, client, server);

    if (!net->free_count) {
        uint32_t old = net->flow_capacity;

        net->flow_capacity = old ? old * 2 : 1024;
        net->flows = grown(net->flows, net->flow_capacity, sizeof *net->flows);
        net->free_flows = grown(net->free_flows, net->flow_capacity, sizeof *net->free_flows);
        memset(net->flows + old, 0, (net->flow_capacity - old) * sizeof *net->flows);
        for (uint32_t i = net->flow_capacity; i > old; i--)
            net->free_flows[net->free_count++] = i - 1;
    }
    id = net->free_flows[--net->free_count];
    f = &net->flows[id];
    *f = (struct flow){ .is_used = true,
                        .client = client,
                        .server = server,
                        .version = f->version + 1,
                        .size = size,
                        .cap = is_cold ? FIRST_WINDOW / ((double)rtt / 1e9) : 0 };
    push_flow(net, net->now_ns + rtt / 2 + (is_cold ? rtt : 0), STEP_REQUEST, id, 0);
    return id;
}

bool vnet_answer(vnet *net, uint32_t flow)
{
    struct flow *f = &net->flows[flow];

    if (net->hosts[f->server].out_count >= net->hosts[f->server].config.answers_max)
        return false;
    push_flow(net, net->now_ns + vnet_rtt_ns(net, f->client, f->server) / 2, STEP_HEAD, flow, 0);
    return true;
}

void vnet_refuse(vnet *net, uint32_t flow, int code)
{
    struct flow *f = &net->flows[flow];

    push_flow(net, net->now_ns + vnet_rtt_ns(net, f->client, f->server) / 2, STEP_REFUSED, flow,
              code);
}

void vnet_stop(vnet *net, uint32_t flow)
{
    struct flow *f = &net->flows[flow];

    DP_ASSERT(f->is_used);
    end_stream(net, flow);
    f->is_used = false;
    f->version++;
    net->free_flows[net->free_count++] = flow;
}

void vnet_freeze(vnet *net, uint32_t flow)
{
    end_stream(net, flow);
    net->flows[flow].version++;
}

void vnet_timer(vnet *net, uint64_t at_ns, int code, uint64_t value)
{
    push(net, (struct entry){ .at_ns = at_ns < net->now_ns ? net->now_ns : at_ns,
                              .step = STEP_TIMER,
                              .code = code,
                              .value = value });
}

/* The head arrived: from now on bytes do. False: the server or the client has too many. */
static bool begin_stream(vnet *net, uint32_t id)
{
    struct flow *f = &net->flows[id];
    struct host *server = &net->hosts[f->server], *client = &net->hosts[f->client];

    if (server->out_count == server->config.answers_max || client->in_count == FLOWS_CLIENT_MAX)
        return false;
    server->out[server->out_count++] = id;
    client->in[client->in_count++] = id;
    f->is_streaming = true;
    f->last_ns = f->told_ns = net->now_ns;
    share_sender(net, f->server);
    return true;
}

/* Bytes of a flow up to now. */
static void tell(vnet *net, uint32_t id, vnet_event *out)
{
    struct flow *f = &net->flows[id];
    uint64_t sent;

    account(net, f);
    /* Rounding of less than a byte must not keep a flow alive. */
    sent = f->sent + 1 > (double)f->size ? f->size : (uint64_t)f->sent;
    out->bytes = sent - f->told;
    out->is_end = sent == f->size;
    f->told = sent;
    f->told_ns = net->now_ns;
    if (out->is_end) {
        vnet_stop(net, id);
        return;
    }
    schedule(net, id);
    if (f->cap > 0) {
        f->cap *= 2;
        if (f->cap > net->hosts[f->server].config.up_bytes_s)
            f->cap = 0;
        share_receiver(net, f->client);
    }
}

bool vnet_next(vnet *net, uint64_t end_ns, vnet_event *out)
{
    while (net->heap_count && net->heap[0].at_ns <= end_ns) {
        struct entry e = pop(net);
        struct flow *f = e.step == STEP_TIMER ? NULL : &net->flows[e.flow];

        if (f && (!f->is_used || f->version != e.version))
            continue;
        net->now_ns = e.at_ns;
        *out = (vnet_event){ .flow = e.flow, .code = e.code, .value = e.value };
        if (f) {
            out->client = f->client;
            out->server = f->server;
        }
        switch (e.step) {
        case STEP_REQUEST:
            out->kind = VNET_REQUEST;
            return true;
        case STEP_HEAD:
            out->kind = begin_stream(net, e.flow) ? VNET_HEAD : VNET_REFUSED;
            out->code = VNET_TOO_MANY;
            if (out->kind == VNET_REFUSED)
                vnet_stop(net, e.flow);
            return true;
        case STEP_FLOW:
            out->kind = VNET_DATA;
            tell(net, e.flow, out);
            return true;
        case STEP_REFUSED:
            out->kind = VNET_REFUSED;
            vnet_stop(net, e.flow);
            return true;
        case STEP_TIMER:
            out->kind = VNET_TIMER;
            return true;
        }
    }
    net->now_ns = end_ns;
    return false;
}
