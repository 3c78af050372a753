/* Endpoints and jobs; pieces are judged here. See pager_inner.h for the parts. */
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/pager_inner.h"

_Static_assert(sizeof(work) <= sizeof(((dp_pager_job *)0)->_pager), "a job holds its work");
_Static_assert((int)DP_PAGER_DEMAND == (int)DP_PICKER_DEMAND &&
                   (int)DP_PAGER_FILL == (int)DP_PICKER_FILL,
               "classes are the picker's");

static work *work_of(dp_pager_job *job)
{
    return (work *)(void *)job->_pager;
}

/* ---- endpoints ------------------------------------------------------------------------------ */

site *dp_pager_site(dp_pager *pager, uint32_t id)
{
    for (uint32_t i = 0; i < DP_PAGER_ENDPOINTS_MAX; i++) {
        if (pager->sites[i].is_used && pager->sites[i].id == id)
            return &pager->sites[i];
    }
    return NULL;
}

static void free_site(dp_pager *pager, site *site)
{
    for (uint32_t i = 0; i < pager->config.layout->file_count; i++) {
        if (site->urls)
            dp_free(site->urls[i]);
        if (site->tags)
            dp_free(site->tags[i]);
    }
    dp_free(site->urls);
    dp_free(site->tags);
    if (site->is_used && site->cold_count < WARM_LINES) /* others are not known to the pager yet */
        pager->warm_sites--;
    memset(site, 0, sizeof *site);
}

void dp_pager_free_removed(dp_pager *pager, site *site)
{
    if (site->is_removed && site->transfer_count == 0)
        free_site(pager, site);
}

static dp_status fill_site(dp_pager *pager, site *site, const dp_pager_endpoint *endpoint,
                           dp_error *err)
{
    uint32_t count = pager->config.layout->file_count;

    site->is_peer = endpoint->is_peer;
    site->allows_private = endpoint->allows_private;
    snprintf(site->name, sizeof site->name, "%s", endpoint->name ? endpoint->name : "");
    site->urls = dp_alloc_zero(count, sizeof *site->urls);
    site->tags = dp_alloc_zero(count, sizeof *site->tags);
    if (!site->urls || !site->tags)
        return dp_fail(err, DP_E_NOMEM, "swarm: endpoint %s", site->name);
    for (uint32_t i = 0; i < count; i++) {
        const char *url = endpoint->urls[i], *tag = endpoint->tags ? endpoint->tags[i] : NULL;

        if (strlen(url) >= DP_PAGER_URL_MAX || (tag && strlen(tag) > DP_HTTP_TAG_MAX))
            return dp_fail(err, DP_E_LIMIT, "swarm: a URL of %s has %zu bytes, at most %d",
                           site->name, strlen(url), DP_PAGER_URL_MAX - 1);
        if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)
            return dp_fail(err, DP_E_INVALID, "swarm: \"%.80s\" is no http or https URL", url);
        site->urls[i] = dp_strndup(url, strlen(url));
        if (tag && tag[0])
            site->tags[i] = dp_strndup(tag, strlen(tag));
        if (!site->urls[i] || (tag && tag[0] && !site->tags[i]))
            return dp_fail(err, DP_E_NOMEM, "swarm: endpoint %s", site->name);
    }
    return DP_OK;
}

dp_status dp_pager_add(dp_pager *pager, const dp_pager_endpoint *endpoint, uint32_t *id,
                       dp_error *err)
{
    dp_status st = DP_OK;
    site filled = { 0 }, *at = NULL;

    *id = 0;
    st = fill_site(pager, &filled, endpoint, err);
    if (st) {
        free_site(pager, &filled);
        return st;
    }
    dp_mutex_lock(&pager->lock);
    for (uint32_t i = 0; i < DP_PAGER_ENDPOINTS_MAX && !at; i++)
        at = pager->sites[i].is_used ? NULL : &pager->sites[i];
    if (!at)
        st = dp_fail(err, DP_E_LIMIT, "swarm: more than %d endpoints", DP_PAGER_ENDPOINTS_MAX);
    else
        st = dp_picker_add(pager->picker, endpoint->have, id, err);
    if (!st) {
        *at = filled;
        at->is_used = true;
        at->id = *id;
        at->cold_count = WARM_LINES;
    }
    dp_mutex_unlock(&pager->lock);
    if (st)
        free_site(pager, &filled);
    else
        curl_multi_wakeup(pager->multi);
    return st;
}

void dp_pager_set_have(dp_pager *pager, uint32_t id, const uint8_t *have)
{
    bool is_set;

    dp_mutex_lock(&pager->lock);
    is_set = dp_picker_set_have(pager->picker, id, have);
    dp_mutex_unlock(&pager->lock);
    if (!is_set)
        DP_LOG_WARN("swarm", "no memory for what endpoint id=%u has", id);
    curl_multi_wakeup(pager->multi);
}

void dp_pager_remove(dp_pager *pager, uint32_t id)
{
    site *site;

    dp_mutex_lock(&pager->lock);
    site = dp_pager_site(pager, id);
    if (site) {
        dp_picker_remove(pager->picker, id);
        site->is_removed = true;
        dp_pager_free_removed(pager, site);
    }
    dp_mutex_unlock(&pager->lock);
    curl_multi_wakeup(pager->multi);
}

/* ---- jobs --------------------------------------------------------------------------------- */

void dp_pager_submit(dp_pager *pager, dp_pager_job *const *jobs, size_t count)
{
    dp_mutex_lock(&pager->lock);
    for (size_t i = 0; i < count; i++) {
        dp_pager_job *job = jobs[i];
        work *w = work_of(job);

        memset(w, 0, sizeof *w);
        w->job = job;
        w->want.piece = job->piece;
        w->want.class_ = job->class_;
        w->want.deadline_ns = job->deadline_ns;
        dp_link_init(&w->link);
        if (pager->is_closing || !dp_picker_want_add(pager->picker, &w->want))
            dp_link_insert(&pager->twins, &w->link);
    }
    dp_mutex_unlock(&pager->lock);
    curl_multi_wakeup(pager->multi);
}

void dp_pager_promote(dp_pager *pager, dp_pager_job *job)
{
    work *w = work_of(job);

    dp_mutex_lock(&pager->lock);
    if (w->want.state != DP_PICKER_OUT) {
        dp_picker_promote(pager->picker, &w->want, DP_PICKER_DEMAND);
    } else if (!dp_link_is_alone(&w->link)) {
        dp_picker_want *first = dp_picker_find(pager->picker, w->want.piece);

        w->want.class_ = DP_PICKER_DEMAND;
        if (first)
            dp_picker_promote(pager->picker, first, DP_PICKER_DEMAND);
    }
    dp_mutex_unlock(&pager->lock);
    curl_multi_wakeup(pager->multi);
}

bool dp_pager_cancel(dp_pager *pager, dp_pager_job *job)
{
    work *w = work_of(job);
    bool is_back = false;

    dp_mutex_lock(&pager->lock);
    if (w->want.state != DP_PICKER_OUT) {
        is_back = dp_picker_cancel(pager->picker, &w->want);
        if (is_back)
            dp_pager_settle_twins(pager);
    } else if (!dp_link_is_alone(&w->link) && w->status == DP_OK) {
        dp_link_remove(&w->link); /* a twin */
        is_back = true;
    }
    dp_mutex_unlock(&pager->lock);
    curl_multi_wakeup(pager->multi);
    return is_back;
}

void dp_pager_settle_twins(dp_pager *pager)
{
    dp_link *at = pager->twins.next, *next;

    for (; at != &pager->twins; at = next) {
        work *w = DP_LISTED(at, work, link);

        next = at->next;
        if (!pager->is_closing && dp_picker_want_add(pager->picker, &w->want))
            dp_link_remove(at);
    }
}

void dp_pager_expire_twins(dp_pager *pager, dp_link *ended, uint64_t now_ns, uint64_t *wake_ns)
{
    dp_link *at = pager->twins.next, *next;

    for (; at != &pager->twins; at = next) {
        work *w = DP_LISTED(at, work, link);

        next = at->next;
        if (w->want.deadline_ns > now_ns) {
            *wake_ns = DP_MIN(*wake_ns, w->want.deadline_ns);
            continue;
        }
        dp_link_remove(at);
        w->status = DP_E_TIMEOUT;
        dp_link_insert(ended, at);
    }
}

static void say_why(dp_pager *pager, const work *w, dp_error *err)
{
    dp_layout_place place = dp_layout_find(pager->config.layout, w->want.piece);
    const char *path = pager->config.layout->files[place.file].path;
    char problem[sizeof pager->problem];
    bool is_changed;

    dp_mutex_lock(&pager->lock);
    is_changed = w->status == DP_E_NOTFOUND && pager->changed[0];
    snprintf(problem, sizeof problem, "%s", is_changed ? pager->changed : pager->problem);
    dp_mutex_unlock(&pager->lock);
    if (is_changed)
        (void)dp_fail(err, DP_E_CORRUPT, "%s", problem);
    else if (w->status == DP_E_CANCELED)
        (void)dp_fail(err, w->status, "%s: piece %u was canceled", path, place.piece);
    else
        (void)dp_fail(err, w->status, "%s: %s piece %u%s%s%s", path,
                      w->status == DP_E_NOTFOUND ? "nobody has" : "nobody gave in time",
                      place.piece, problem[0] ? " (last: " : "", problem, problem[0] ? ")" : "");
}

void dp_pager_end_works(dp_pager *pager, dp_link *ended)
{
    while (!dp_link_is_alone(ended)) {
        work *w = DP_LISTED(ended->next, work, link);
        dp_error err = { 0 };

        dp_link_remove(&w->link);
        say_why(pager, w, &err);
        w->job->done(w->job, 0, &err);
    }
}

/* ---- judging ------------------------------------------------------------------------------- */

void dp_pager_push_full(dp_pager *pager, work *work)
{
    dp_link_insert(&pager->full, &work->link);
    dp_cond_signal(&pager->has_full);
}

/* What tells one endpoint's part from what it should have been. */
static void digest_parts(const dp_pager_job *job, const dp_picker_part *parts, uint32_t count,
                         uint64_t *out)
{
    uint32_t begin = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t sum[EVP_MAX_MD_SIZE] = { 0 };

        EVP_Digest((const uint8_t *)job->out + begin, parts[i].end - begin, sum, NULL, EVP_sha256(),
                   NULL);
        memcpy(&out[i], sum, sizeof out[i]);
        begin = parts[i].end;
    }
}

/* Compares the piece with its hash; the lock is not held. */
static dp_status check_piece(const dp_pager *pager, const work *w, bool *is_right, dp_error *err)
{
    const dp_layout *layout = pager->config.layout;
    dp_layout_place place = dp_layout_find(layout, w->want.piece);
    const dp_layout_file *file = &layout->files[place.file];
    dp_status st = DP_OK;
    dp_hash hash;

    *is_right = true;
    if (file->hashes) {
        st = dp_piece_hash(&hash, file->pieces, place.piece, w->job->out, err);
        *is_right = !st && dp_hash_equal(&hash, &file->hashes[place.piece]);
    }
    return st;
}

static void note_liars(dp_pager *pager, const work *w, uint32_t banned)
{
    if (banned == 0)
        return;
    snprintf(pager->problem, sizeof pager->problem, "an endpoint was banned for wrong bytes");
    DP_LOG_WARN("swarm", "wrong bytes piece=%u endpoints_banned=%u", w->want.piece, banned);
}

static void judge(dp_pager *pager, work *w)
{
    uint64_t digests[DP_PICKER_PARTS_MAX] = { 0 };
    uint32_t endpoint = w->want.parts[w->want.part_count - 1].endpoint;
    dp_error err = { 0 };
    bool is_right;
    dp_status st = check_piece(pager, w, &is_right, &err);

    if (!st && is_right && w->want.suspect_count)
        digest_parts(w->job, w->want.suspects, w->want.suspect_count, digests);
    if (!st && !is_right)
        digest_parts(w->job, w->want.parts, w->want.part_count, digests);

    dp_mutex_lock(&pager->lock);
    if (st)
        dp_picker_take_out(pager->picker, &w->want);
    else if (is_right)
        note_liars(pager, w,
                   dp_picker_right(pager->picker, &w->want, digests, dp_pager_now(pager)));
    else
        note_liars(pager, w,
                   dp_picker_wrong(pager->picker, &w->want, digests, dp_pager_now(pager)));
    if (st || is_right)
        dp_pager_settle_twins(pager);
    dp_mutex_unlock(&pager->lock);
    curl_multi_wakeup(pager->multi);
    if (st || is_right)
        w->job->done(w->job, endpoint, st ? &err : NULL);
}

static void hash_main(void *user)
{
    dp_pager *pager = user;

    dp_mutex_lock(&pager->lock);
    for (;;) {
        work *w;

        while (dp_link_is_alone(&pager->full) && !pager->is_hashing_over)
            dp_cond_wait(&pager->has_full, &pager->lock);
        if (dp_link_is_alone(&pager->full))
            break;
        w = DP_LISTED(pager->full.next, work, link);
        dp_link_remove(&w->link);
        dp_mutex_unlock(&pager->lock);
        judge(pager, w);
        dp_mutex_lock(&pager->lock);
    }
    dp_mutex_unlock(&pager->lock);
}

/* ---- open, close ---------------------------------------------------------------------------- */

static bool copy_text(char **out, const char *text)
{
    *out = text ? dp_strndup(text, strlen(text)) : NULL;
    return *out || !text;
}

static dp_status start_threads(dp_pager *pager, dp_error *err)
{
    uint32_t want = pager->config.hash_threads ? pager->config.hash_threads : 2;
    dp_status st = DP_OK;

    want = DP_MIN(want, DP_PAGER_HASH_THREADS_MAX);
    while (pager->hash_thread_count < want && !st) {
        st = dp_thread_start(&pager->hash_threads[pager->hash_thread_count], "dp-hash", hash_main,
                             pager, err);
        pager->hash_thread_count += !st;
    }
    if (!st)
        st = dp_thread_start(&pager->network, "dp-pager", dp_pager_http_main, pager, err);
    pager->has_network = !st;
    return st;
}

dp_status dp_pager_open(dp_pager **out, const dp_pager_config *config, dp_error *err)
{
    dp_picker_config picker = { config->layout, DP_PAGER_ENDPOINTS_MAX, DP_PAGER_CONNECTIONS_MAX,
                                2 };
    dp_pager *pager = NULL;
    dp_status st = dp_http_begin(err);

    *out = NULL;
    if (st)
        return st;
    pager = dp_alloc_zero(1, sizeof *pager);
    if (!pager)
        return dp_fail(err, DP_E_NOMEM, "swarm: a pager");
    pager->config = *config;
    dp_mutex_init(&pager->lock);
    dp_cond_init(&pager->has_full);
    dp_link_init(&pager->full);
    dp_link_init(&pager->twins);
    if (!copy_text(&pager->token, config->token) ||
        !copy_text(&pager->tls_authority, config->tls_authority) ||
        !copy_text(&pager->user_agent, config->user_agent)) {
        st = dp_fail(err, DP_E_NOMEM, "swarm: a pager");
        goto done;
    }
    st = dp_picker_open(&pager->picker, &picker, err);
    if (st)
        goto done;
    st = dp_pager_http_open(pager, err);
    if (st)
        goto done;
    st = start_threads(pager, err);
    if (st)
        goto done;

    *out = pager;
    pager = NULL;
done:
    dp_pager_close(pager);
    return st;
}

/* What nobody will bring any more: the threads have ended. */
static void cancel_rest(dp_pager *pager)
{
    dp_link ended;

    dp_link_init(&ended);
    for (;;) {
        dp_mutex_lock(&pager->lock);
        dp_picker_cancel_all(pager->picker);
        for (;;) {
            dp_picker_act act = dp_picker_next(pager->picker, dp_pager_now(pager));

            if (act.kind != DP_PICKER_FAIL)
                break;
            dp_link_insert(&ended, &((work *)act.want)->link);
        }
        while (!dp_link_is_alone(&pager->twins)) {
            dp_link *first = pager->twins.next;

            dp_link_remove(first);
            dp_link_insert(&ended, first);
        }
        for (dp_link *at = ended.next; at != &ended; at = at->next)
            DP_LISTED(at, work, link)->status = DP_E_CANCELED;
        dp_mutex_unlock(&pager->lock);
        if (dp_link_is_alone(&ended))
            break;
        dp_pager_end_works(pager, &ended); /* a done may have submitted */
    }
}

void dp_pager_close(dp_pager *pager)
{
    if (!pager)
        return;
    dp_mutex_lock(&pager->lock);
    pager->is_closing = true;
    dp_mutex_unlock(&pager->lock);
    if (pager->has_network) {
        curl_multi_wakeup(pager->multi);
        dp_thread_join(&pager->network);
    }
    dp_mutex_lock(&pager->lock);
    pager->is_hashing_over = true;
    dp_cond_broadcast(&pager->has_full);
    dp_mutex_unlock(&pager->lock);
    for (uint32_t i = 0; i < pager->hash_thread_count; i++)
        dp_thread_join(&pager->hash_threads[i]);
    if (pager->picker)
        cancel_rest(pager);
    dp_pager_http_close(pager);
    for (uint32_t i = 0; i < DP_PAGER_ENDPOINTS_MAX; i++)
        free_site(pager, &pager->sites[i]);
    dp_picker_close(pager->picker);
    dp_cond_deinit(&pager->has_full);
    dp_mutex_deinit(&pager->lock);
    dp_free(pager->token);
    dp_free(pager->tls_authority);
    dp_free(pager->user_agent);
    dp_free(pager);
}

/* ---- reports ------------------------------------------------------------------------------ */

static double seconds_until(uint64_t ns, uint64_t now_ns)
{
    return ns > now_ns ? (double)(ns - now_ns) * 1e-9 : 0;
}

size_t dp_pager_peers(dp_pager *pager, dp_pager_peer_stats *out, size_t max)
{
    dp_picker_endpoint list[DP_PAGER_ENDPOINTS_MAX];
    uint64_t now = dp_pager_now(pager);
    size_t count;

    dp_mutex_lock(&pager->lock);
    count = dp_picker_endpoints(pager->picker, list, DP_ARRAY_LEN(list));
    for (size_t i = 0; i < count && i < max; i++) {
        const dp_picker_endpoint *e = &list[i];
        const site *site = dp_pager_site(pager, e->id);

        out[i] = (dp_pager_peer_stats){
            .id = e->id,
            .is_peer = site->is_peer,
            .bytes = e->bytes,
            .bytes_s = e->bytes_s,
            .rtt_ms = (double)e->latency_ns * 1e-6,
            .pieces = e->pieces,
            .failures = e->failures,
            .stalls = e->stalls,
            .bad_pieces = e->bad_pieces,
            .banned_s = seconds_until(e->banned_until_ns, now),
            .backoff_s = seconds_until(e->backoff_until_ns, now),
            .wants_token = site->wants_token,
        };
        memcpy(out[i].name, site->name, sizeof out[i].name);
    }
    dp_mutex_unlock(&pager->lock);
    return count;
}

void dp_pager_stats_read(dp_pager *pager, dp_pager_stats *out)
{
    dp_picker_stats s;

    dp_mutex_lock(&pager->lock);
    s = dp_picker_stats_read(pager->picker);
    *out = (dp_pager_stats){
        .bytes = s.bytes,
        .wasted_bytes = s.wasted_bytes,
        .pieces = s.pieces,
        .pieces_bad = s.pieces_bad,
        .stalls = s.stalls,
        .hedges = s.hedges,
        .bans = s.bans,
        .requests = pager->requests,
        .connects = pager->connects,
    };
    dp_mutex_unlock(&pager->lock);
}
