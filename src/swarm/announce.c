#include "swarm/announce.h"

#include <string.h>
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "swarm/percent.h"

#define VALUE_MAX 64 /* decoded; of the parameters that matter none is longer */

/* One "name=value" of a query. Values that are too long are cut. */
typedef struct parameter {
    dp_str name;
    char value[VALUE_MAX + 1];
    size_t size;
} parameter;

/* The next parameter at *at. False: the end, or an ill-formed %HH (*is_bad). */
static bool next_parameter(const char **at, parameter *out, bool *is_bad)
{
    const char *start = *at;

    if (*start == '\0' || *start == '#')
        return false;
    out->name = (dp_str){ start, strcspn(start, "=&#") };
    out->size = 0;
    *at += out->name.size;
    if (**at == '=')
        (*at)++;
    while (**at && **at != '&' && **at != '#') {
        char c;

        if (!dp_percent_next(at, &c)) {
            *is_bad = true;
            return false;
        }
        if (out->size < VALUE_MAX)
            out->value[out->size++] = c;
    }
    out->value[out->size] = '\0';
    if (**at == '&')
        (*at)++;
    return true;
}

static bool parameter_number(const parameter *p, uint64_t *out)
{
    return dp_parse_u64((dp_str){ p->value, p->size }, out);
}

static bool take_parameter(dp_announce *out, const parameter *p, bool *has_info)
{
    uint64_t number = 0;

    if (dp_str_is(p->name, "info_hash")) {
        *has_info = p->size == DP_ANNOUNCE_INFO_SIZE;
        memcpy(out->info, p->value, DP_ANNOUNCE_INFO_SIZE);
        return *has_info;
    }
    if (dp_str_is(p->name, "port")) {
        if (!parameter_number(p, &number) || number == 0 || number > UINT16_MAX)
            return false;
        out->port = (uint16_t)number;
    } else if (dp_str_is(p->name, "left")) {
        out->is_complete = parameter_number(p, &number) && number == 0;
    } else if (dp_str_is(p->name, "numwant")) { /* -1: as many as usual */
        if (parameter_number(p, &number))
            out->wanted = (uint32_t)DP_MIN(number, DP_ANNOUNCE_WANTED_MAX);
    } else if (dp_str_is(p->name, "event")) {
        out->is_leaving = strcmp(p->value, "stopped") == 0;
    }
    return true;
}

dp_status dp_announce_parse(dp_announce *out, const char *target, dp_error *err)
{
    static const char path[] = "/announce";
    bool has_info = false, is_bad = false;
    parameter p = { { NULL, 0 }, "", 0 };

    *out = (dp_announce){ .wanted = DP_ANNOUNCE_WANTED };
    if (strncmp(target, path, sizeof path - 1) != 0)
        return dp_fail(err, DP_E_NOTFOUND, "the tracker answers %s", path);
    target += sizeof path - 1;
    if (*target && *target != '?' && *target != '#')
        return dp_fail(err, DP_E_NOTFOUND, "the tracker answers %s", path);
    if (*target == '?')
        target++;
    while (next_parameter(&target, &p, &is_bad)) {
        if (!take_parameter(out, &p, &has_info))
            return dp_fail(err, DP_E_INVALID, "%.*s has no sensible value", (int)p.name.size,
                           p.name.bytes);
    }
    if (is_bad)
        return dp_fail(err, DP_E_INVALID, "a percent sign without two hex digits");
    if (!has_info || !out->port)
        return dp_fail(err, DP_E_INVALID, "%s is missing", has_info ? "port" : "info_hash");
    return DP_OK;
}

bool dp_announce_info_from_hex(uint8_t out[DP_ANNOUNCE_INFO_SIZE], const char *hex)
{
    size_t size = strlen(hex);

    if ((size != 40 && size != 64) || strspn(hex, "0123456789abcdefABCDEF") != size)
        return false;
    for (size_t i = 0; i < DP_ANNOUNCE_INFO_SIZE; i++) {
        char escape[4] = { '%', hex[2 * i], hex[2 * i + 1], '\0' };
        const char *at = escape;

        (void)dp_percent_next(&at, (char *)&out[i]);
    }
    return true;
}

typedef struct entry {
    dp_announce_peer peer;
    bool is_complete;
    uint64_t seen_ns;
} entry;

typedef struct torrent {
    uint8_t info[DP_ANNOUNCE_INFO_SIZE];
    bool is_allowed; /* stays without peers */
    uint32_t count, capacity;
    uint32_t next; /* where the next answer begins, so that all are named in turn */
    entry *entries;
} torrent;

struct dp_announces {
    torrent torrents[DP_ANNOUNCE_TORRENTS_MAX];
    uint32_t torrent_count, peer_count;
    uint32_t interval_s;
    bool is_open; /* to every torrent */
};

dp_status dp_announces_open(dp_announces **out, const uint8_t (*allowed)[DP_ANNOUNCE_INFO_SIZE],
                            size_t allowed_count, uint32_t interval_s, dp_error *err)
{
    dp_announces *table;

    *out = NULL;
    if (allowed_count > DP_ANNOUNCE_TORRENTS_MAX)
        return dp_fail(err, DP_E_LIMIT, "a tracker of %zu torrents, at most %d", allowed_count,
                       DP_ANNOUNCE_TORRENTS_MAX);
    table = dp_alloc_zero(1, sizeof *table);
    if (!table)
        return dp_fail(err, DP_E_NOMEM, "a tracker");
    table->interval_s = interval_s;
    table->is_open = allowed == NULL;
    for (size_t i = 0; allowed && i < allowed_count; i++) {
        memcpy(table->torrents[i].info, allowed[i], DP_ANNOUNCE_INFO_SIZE);
        table->torrents[i].is_allowed = true;
        table->torrent_count++;
    }
    *out = table;
    return DP_OK;
}

void dp_announces_close(dp_announces *table)
{
    for (uint32_t i = 0; table && i < table->torrent_count; i++)
        dp_free(table->torrents[i].entries);
    dp_free(table);
}

static void drop_entry(dp_announces *table, torrent *t, uint32_t index)
{
    t->entries[index] = t->entries[--t->count];
    table->peer_count--;
}

/* Forgets who was silent for two and a half intervals. */
static void expire(dp_announces *table, torrent *t, uint64_t now_ns)
{
    uint64_t most_ns = (uint64_t)table->interval_s * 2500000000u;

    for (uint32_t i = t->count; i-- > 0;) {
        if (now_ns - t->entries[i].seen_ns > most_ns)
            drop_entry(table, t, i);
    }
}

static void drop_torrent(dp_announces *table, torrent *t)
{
    dp_free(t->entries);
    *t = table->torrents[--table->torrent_count];
}

static void expire_all(dp_announces *table, uint64_t now_ns)
{
    for (uint32_t i = table->torrent_count; i-- > 0;) {
        torrent *t = &table->torrents[i];

        expire(table, t, now_ns);
        if (!t->count && !t->is_allowed)
            drop_torrent(table, t);
    }
}

/* NULL: not tracked, or no room. */
static torrent *find_torrent(dp_announces *table, const uint8_t *info, uint64_t now_ns)
{
    torrent *t;

    for (uint32_t i = 0; i < table->torrent_count; i++) {
        if (memcmp(table->torrents[i].info, info, DP_ANNOUNCE_INFO_SIZE) == 0)
            return &table->torrents[i];
    }
    if (!table->is_open)
        return NULL;
    if (table->torrent_count == DP_ANNOUNCE_TORRENTS_MAX)
        expire_all(table, now_ns);
    if (table->torrent_count == DP_ANNOUNCE_TORRENTS_MAX)
        return NULL;
    t = &table->torrents[table->torrent_count++];
    *t = (torrent){ .count = 0 };
    memcpy(t->info, info, DP_ANNOUNCE_INFO_SIZE);
    return t;
}

static bool peer_equal(const dp_announce_peer *a, const dp_announce_peer *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static entry *find_entry(torrent *t, const dp_announce_peer *peer, uint32_t *of_address)
{
    entry *found = NULL;

    *of_address = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        *of_address += memcmp(t->entries[i].peer.ip, peer->ip, sizeof peer->ip) == 0;
        if (peer_equal(&t->entries[i].peer, peer))
            found = &t->entries[i];
    }
    return found;
}

/* A place at the end; NULL: there is no room or memory. */
static entry *add_entry(dp_announces *table, torrent *t)
{
    if (t->count == DP_ANNOUNCE_PEERS_MAX || table->peer_count == DP_ANNOUNCE_TABLE_MAX)
        return NULL;
    if (t->count == t->capacity) {
        uint32_t capacity = t->capacity ? 2 * t->capacity : 4;
        entry *entries = dp_realloc(t->entries, capacity, sizeof *entries);

        if (!entries)
            return NULL;
        t->entries = entries;
        t->capacity = capacity;
    }
    table->peer_count++;
    return &t->entries[t->count++];
}

static void note(dp_announces *table, torrent *t, const dp_announce *announce,
                 const dp_announce_peer *peer, uint64_t now_ns)
{
    uint32_t of_address;
    entry *e = find_entry(t, peer, &of_address);

    if (announce->is_leaving) {
        if (e)
            drop_entry(table, t, (uint32_t)(e - t->entries));
        return;
    }
    if (!e && of_address < DP_ANNOUNCE_ADDRESS_MAX)
        e = add_entry(table, t);
    if (e)
        *e = (entry){ *peer, announce->is_complete, now_ns };
}

/* Others of the torrent, at most `wanted`, in BEP 23's and BEP 7's form. */
typedef struct chosen {
    uint8_t v4[DP_ANNOUNCE_WANTED_MAX * 6], v6[DP_ANNOUNCE_WANTED_MAX * 18];
    size_t v4_size, v6_size;
} chosen;

static void choose_one(chosen *out, const dp_announce_peer *peer)
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    uint8_t port[2] = { (uint8_t)(peer->port >> 8), (uint8_t)peer->port };

    if (memcmp(peer->ip, mapped, sizeof mapped) == 0) {
        memcpy(out->v4 + out->v4_size, peer->ip + 12, 4);
        memcpy(out->v4 + out->v4_size + 4, port, 2);
        out->v4_size += 6;
    } else {
        memcpy(out->v6 + out->v6_size, peer->ip, 16);
        memcpy(out->v6 + out->v6_size + 16, port, 2);
        out->v6_size += 18;
    }
}

static void choose(chosen *out, torrent *t, const dp_announce_peer *self, uint32_t wanted)
{
    uint32_t named = 0, i;

    out->v4_size = out->v6_size = 0;
    for (i = 0; i < t->count && named < wanted; i++) {
        const entry *e = &t->entries[(t->next + i) % t->count];

        if (peer_equal(&e->peer, self))
            continue;
        choose_one(out, &e->peer);
        named++;
    }
    t->next = t->count ? (t->next + i) % t->count : 0;
}

static dp_status append_bytes(dp_buf *reply, const char *key, const uint8_t *bytes, size_t size)
{
    dp_status st = dp_buf_format(reply, "%zu:%s%zu:", strlen(key), key, size);

    return st ? st : dp_buf_append(reply, bytes, size);
}

static dp_status answer(const dp_announces *table, const torrent *t, const chosen *peers,
                        dp_buf *reply)
{
    uint32_t complete = 0;
    dp_status st;

    for (uint32_t i = 0; i < t->count; i++)
        complete += t->entries[i].is_complete;
    st = dp_buf_format(reply, "d8:completei%ue10:incompletei%ue8:intervali%ue", complete,
                       t->count - complete, table->interval_s);
    if (!st)
        st = append_bytes(reply, "peers", peers->v4, peers->v4_size);
    if (!st && peers->v6_size)
        st = append_bytes(reply, "peers6", peers->v6, peers->v6_size);
    return st ? st : dp_buf_text(reply, "e");
}

dp_status dp_announce_failure(dp_buf *reply, const char *reason)
{
    return dp_buf_format(reply, "d14:failure reason%zu:%se", strlen(reason), reason);
}

dp_status dp_announces_answer(dp_announces *table, const dp_announce *announce,
                              const uint8_t ip[16], uint64_t now_ns, dp_buf *reply)
{
    torrent *t = find_torrent(table, announce->info, now_ns);
    dp_announce_peer self = { .port = announce->port };
    chosen peers;

    if (!t)
        return dp_announce_failure(reply, table->is_open ? "this tracker is full"
                                                         : "this torrent is not tracked here");
    memcpy(self.ip, ip, sizeof self.ip);
    expire(table, t, now_ns);
    note(table, t, announce, &self, now_ns);
    choose(&peers, t, &self, announce->is_leaving ? 0 : announce->wanted);
    return answer(table, t, &peers, reply);
}

void dp_announces_count(dp_announces *table, uint64_t now_ns, uint32_t *torrents, uint32_t *peers)
{
    expire_all(table, now_ns);
    *torrents = 0;
    for (uint32_t i = 0; i < table->torrent_count; i++)
        *torrents += table->torrents[i].count > 0;
    *peers = table->peer_count;
}
