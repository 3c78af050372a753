#include "app/cli/swarm_report.h"

#include <stdlib.h>
#include "app/cli/json_text.h"
#include "base/mem.h"
#include "base/str.h"

#define SIZE(bytes) dp_format_size((char[16]){ 0 }, bytes) /* lives as long as its block */

/* ---- of a run ---- */

dp_status dp_swarm_report_text(const dp_mounts *mounts, dp_buf *out)
{
    dp_swarm_stats s;

    dp_swarm_stats_read(mounts->swarm, &s);
    return dp_buf_format(out,
                         "swarm: %s from peers, %s from the cache, %s kept, %s given; page ms p50 "
                         "%.2f p99 %.2f; %llu stalls, %llu hedges, %llu bans, %llu bad pieces\n",
                         SIZE(s.swarm_read_bytes), SIZE(s.cache_read_bytes),
                         SIZE(s.cache_written_bytes), SIZE(s.uploaded_bytes), s.page_ms_p50,
                         s.page_ms_p99, (unsigned long long)s.stalls, (unsigned long long)s.hedges,
                         (unsigned long long)s.bans, (unsigned long long)s.pieces_bad);
}

static bool put_counts(json_t *object, const dp_swarm_stats *s)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        { "swarm_read_bytes", s->swarm_read_bytes },
        { "cache_read_bytes", s->cache_read_bytes },
        { "cache_written_bytes", s->cache_written_bytes },
        { "cache_used_bytes", s->cache_used_bytes },
        { "uploaded_bytes", s->uploaded_bytes },
        { "pieces_bad", s->pieces_bad },
        { "pieces_gone", s->pieces_gone },
        { "stalls", s->stalls },
        { "hedges", s->hedges },
        { "bans", s->bans },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++)
        if (!dp_json_put_count(object, rows[i].key, rows[i].value))
            return false;
    return true;
}

static bool put_mount(json_t *object, const dp_mount_info *m)
{
    return dp_json_put_text(object, "name", m->name) &&
           dp_json_put_text(object, "info_v2", m->info_v2) &&
           dp_json_put_text(object, "check", m->check) &&
           dp_json_put_count(object, "file_bytes", m->file_bytes) &&
           dp_json_put_count(object, "present_bytes", m->present_bytes) &&
           dp_json_put_count(object, "piece_bytes", m->piece_size);
}

json_t *dp_swarm_report_json(const dp_mounts *mounts)
{
    json_t *object = json_object();
    dp_mount_info info;
    dp_swarm_stats s;

    dp_swarm_stats_read(mounts->swarm, &s);
    if (mounts->model)
        dp_mount_info_read(mounts->model, &info);
    if (object && (!mounts->model || put_mount(object, &info)) && put_counts(object, &s) &&
        dp_json_put_real(object, "page_ms_p50", s.page_ms_p50) &&
        dp_json_put_real(object, "page_ms_p99", s.page_ms_p99) &&
        dp_json_put_text(object, "cache_problem", s.cache_problem))
        return object;
    json_decref(object);
    return NULL;
}

/* ---- peers ---- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* "3, 17, 20-25": the experts of a layer that nobody holds. */
static dp_status write_missing(const uint32_t *holders, uint32_t count, dp_buf *out)
{
    const char *comma = "; by nobody: ";
    dp_status st = DP_OK;

    for (uint32_t i = 0, end; i < count && !st; i = end) {
        end = i + 1;
        if (holders[i])
            continue;
        while (end < count && !holders[end])
            end++;
        st = end == i + 1 ? dp_buf_format(out, "%s%u", comma, i)
                          : dp_buf_format(out, "%s%u-%u", comma, i, end - 1);
        comma = ", ";
    }
    return st;
}

static dp_status write_layer(const uint32_t *holders, uint32_t layer, uint32_t count, dp_buf *out)
{
    uint32_t *sorted = dp_alloc(count, sizeof *sorted);
    dp_status st;

    if (!sorted)
        return DP_E_NOMEM;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = holders[i];
    qsort(sorted, count, sizeof *sorted, by_value);
    st = dp_buf_format(out, "layer %3u: each expert held by %u", layer, sorted[0]);
    if (!st && sorted[0] != sorted[count - 1])
        st = dp_buf_format(out, " to %u, half of them by %u or more", sorted[count - 1],
                           sorted[count / 2]);
    dp_free(sorted);
    if (!st)
        st = write_missing(holders, count, out);
    return st ? st : dp_buf_text(out, "\n");
}

static dp_status write_peer(const dp_peer_info *p, dp_buf *out)
{
    char rate[24] = "-", rtt[24] = "-";
    dp_status st;

    if (p->bytes_s > 0)
        snprintf(rate, sizeof rate, "%s/s", SIZE((uint64_t)p->bytes_s));
    if (p->rtt_ms > 0)
        snprintf(rtt, sizeof rtt, "%.1f ms", p->rtt_ms);
    st = dp_buf_format(out, "%-28s %-10s %8u %10s %13s %10s %6u %5u", p->name, p->kind, p->pieces,
                       SIZE(p->bytes), rate, rtt, p->failures, p->bad_pieces);
    if (!st && p->banned_s > 0)
        st = dp_buf_format(out, "  banned for %.0f s", p->banned_s);
    return st ? st : dp_buf_text(out, "\n");
}

dp_status dp_peers_text(const dp_peers_report *report, dp_buf *out)
{
    const dp_peers_report *r = report;
    uint32_t unheld = 0;
    dp_status st;

    st = dp_buf_format(out, "%s: %s, of it here %s, checked by %s\n", r->mount.name,
                       SIZE(r->mount.file_bytes), SIZE(r->mount.present_bytes), r->mount.check);
    if (!st && !r->peer_count)
        st = dp_buf_text(out, "no peers\n");
    if (!st && r->peer_count)
        st = dp_buf_format(out, "%-28s %-10s %8s %10s %13s %10s %6s %5s\n", "peer", "kind",
                           "pieces", "received", "rate", "rtt", "failed", "bad");
    for (size_t i = 0; i < r->peer_count && !st; i++)
        st = write_peer(&r->peers[i], out);
    for (uint32_t i = 0; i < r->layers && !st && r->experts; i++)
        st = write_layer(r->holders + (size_t)i * r->experts, i, r->experts, out);
    for (size_t i = 0; i < (size_t)r->layers * r->experts; i++)
        unheld += r->holders[i] == 0;
    if (!st && r->layers && r->experts)
        st = dp_buf_format(out, "%u of %u experts are held by nobody\n", unheld,
                           r->layers * r->experts);
    return st;
}

static json_t *peer_json(const dp_peer_info *p)
{
    json_t *object = json_object();

    if (object && dp_json_put_text(object, "name", p->name) &&
        dp_json_put_text(object, "kind", p->kind) && dp_json_put_count(object, "bytes", p->bytes) &&
        dp_json_put_real(object, "bytes_s", p->bytes_s) &&
        dp_json_put_real(object, "rtt_ms", p->rtt_ms) &&
        dp_json_put_count(object, "pieces", p->pieces) &&
        dp_json_put_count(object, "failures", p->failures) &&
        dp_json_put_count(object, "bad_pieces", p->bad_pieces) &&
        dp_json_put_real(object, "banned_s", p->banned_s))
        return object;
    json_decref(object);
    return NULL;
}

static json_t *peers_json(const dp_peers_report *r)
{
    json_t *list = json_array();

    for (size_t i = 0; list && i < r->peer_count; i++) {
        if (json_array_append_new(list, peer_json(&r->peers[i]))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *holders_json(const dp_peers_report *r)
{
    json_t *list = json_array();

    for (uint32_t l = 0; list && r->experts && l < r->layers; l++) {
        json_t *row = json_array();
        bool is_in = row;
        for (uint32_t e = 0; is_in && e < r->experts; e++)
            is_in = !json_array_append_new(row, json_integer(r->holders[l * r->experts + e]));
        if (json_array_append_new(list, row) || !is_in) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *dp_peers_json(const dp_peers_report *report)
{
    json_t *object = json_object();

    if (object && put_mount(object, &report->mount) &&
        dp_json_put(object, "peers", peers_json(report)) &&
        dp_json_put(object, "holders", holders_json(report)))
        return object;
    json_decref(object);
    return NULL;
}
