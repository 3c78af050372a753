/* The network thread: asks become range requests, and what comes goes where it belongs.
 *
 * libcurl keeps the connections: one a range at a time (HTTP/1.1), or several ranges on one
 * (HTTP/2 of web seeds). A request that ends in order leaves its connection warm for the
 * next; only what the picker drops closes one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/pager_inner.h"

#define RECEIVE_SIZE  (256L << 10) /* bytes libcurl hands over at a time, at most */
#define UNWANTED_MAX  (64 << 10)   /* of an error page: reading it keeps the connection */
#define POLL_MS_MAX   1000
#define AUTHORIZATION "Authorization: Bearer "

/* ---- one response ---------------------------------------------------------------------------- */

static bool refuse(transfer *t, const char *why)
{
    t->is_refused = true;
    if (!t->rules.problem[0])
        snprintf(t->rules.problem, sizeof t->rules.problem, "%s", why);
    return false;
}

/* Files without hashes: all bytes must be of one version. */
static bool is_same_version(transfer *t, const dp_layout_file *file)
{
    const char *tag = dp_http_head_tag(&t->rules.head);
    char **first = &t->site->tags[t->ask->file];

    if (file->hashes)
        return true;
    if (!*first && !tag[0])
        return true;
    if (!*first) {
        *first = dp_strndup(tag, strlen(tag));
        return *first || refuse(t, "no memory for a version");
    }
    if (strcmp(*first, tag) == 0)
        return true;
    t->is_changed = true;
    return refuse(t, "changed on the server");
}

/* The version that the range must be of, where bytes are not hashed. */
static const char *if_range(const transfer *t)
{
    const dp_layout_file *file = &t->pager->config.layout->files[t->ask->file];
    const char *tag = file->hashes ? NULL : t->site->tags[t->ask->file];

    return tag && dp_http_tag_is_strong(tag) ? tag : NULL;
}

/* Whether the head answers the question. Caller holds the lock. */
static bool accept_head(transfer *t)
{
    const dp_http_head *head = &t->rules.head;
    const dp_layout_file *file = &t->pager->config.layout->files[t->ask->file];
    uint64_t size = file->pieces.file_size;
    bool is_all = t->ask->offset == 0 && t->ask->size == size;
    double pretransfer_s = 0;
    uint64_t now = dp_pager_now(t->pager), past;

    if (head->status == 200 && if_range(t) && strcmp(if_range(t), dp_http_head_tag(head)) != 0) {
        t->is_changed = true;
        return refuse(t, "changed on the server");
    }
    if (head->status == 200 && (!is_all || !head->has_length || head->length != size))
        return refuse(t, "gave the whole file instead of a range");
    if (head->status == 206) {
        if (!head->has_range || head->range_first != t->ask->offset ||
            head->range_last != t->ask->offset + t->ask->size - 1)
            return refuse(t, "gave another range than the one asked for");
        if (!file->hashes && head->has_total && head->total != size)
            t->is_changed = true;
        if (head->has_total ? head->total != size : !file->hashes)
            return refuse(t, t->is_changed ? "changed on the server" : "tells another size");
    }
    if (!is_same_version(t, file))
        return false;
    curl_easy_getinfo(t->rules.easy, CURLINFO_PRETRANSFER_TIME, &pretransfer_s);
    past = now - t->begin_ns;
    past -= DP_MIN(past - 1, (uint64_t)(pretransfer_s * 1e9));
    dp_picker_answered(t->pager->picker, t->ask, past, now);
    t->is_accepted = true;
    return true;
}

static void take_bytes(transfer *t, const uint8_t *bytes, size_t size, bool *is_over)
{
    dp_pager *pager = t->pager;

    while (size > 0) {
        dp_picker_want *want;
        uint32_t offset;
        bool is_full;
        size_t n;

        dp_mutex_lock(&pager->lock);
        n = dp_picker_arrived(pager->picker, t->ask, size, dp_pager_now(pager), &want, &offset);
        is_full = want && want->state == DP_PICKER_FULL;
        dp_mutex_unlock(&pager->lock);
        if (n == 0) {
            *is_over = true;
            return;
        }
        if (want) /* it ends on this thread or after it was full: its memory is there */
            memcpy((uint8_t *)((work *)want)->job->out + offset, bytes, n);
        if (is_full) {
            dp_mutex_lock(&pager->lock);
            dp_pager_push_full(pager, (work *)want);
            dp_mutex_unlock(&pager->lock);
        }
        bytes += n;
        size -= n;
    }
}

static size_t take_body(char *bytes, size_t one, size_t size, void *user)
{
    transfer *t = user;
    uint32_t status = t->rules.head.status;
    bool is_over = false;

    if (t->is_refused)
        return 0;
    if (status != 206 && status != 200) {
        t->unwanted += (uint32_t)DP_MIN(size, UNWANTED_MAX);
        return t->unwanted < UNWANTED_MAX ? size : 0;
    }
    if (!t->is_accepted) {
        dp_mutex_lock(&t->pager->lock);
        accept_head(t);
        dp_mutex_unlock(&t->pager->lock);
    }
    if (!t->is_accepted)
        return 0;
    take_bytes(t, (const uint8_t *)bytes, size, &is_over);
    if (is_over)
        refuse(t, "gave more than was asked for");
    return is_over ? 0 : size;
}

/* ---- begin and end of a request -------------------------------------------------------------- */

static bool add_header(transfer *t, const char *name, const char *value)
{
    char line[1024];
    struct curl_slist *longer;

    if ((size_t)snprintf(line, sizeof line, "%s%s", name, value) >= sizeof line)
        return false;
    longer = curl_slist_append(t->headers, line);
    if (longer)
        t->headers = longer;
    return longer != NULL;
}

static bool set_up(transfer *t)
{
    const site *site = t->site;
    const char *url = site->urls[t->ask->file], *tag = if_range(t);
    CURL *easy = t->rules.easy;
    char range[64];
    bool is_tls = strncmp(url, "https:", 6) == 0;

    dp_http_reset(&t->rules, site->allows_private ? DP_HTTP_ANYWHERE : DP_HTTP_PUBLIC,
                  !site->is_peer);
    if (site->is_peer && t->pager->token && !add_header(t, AUTHORIZATION, t->pager->token))
        return false;
    if (tag && !add_header(t, "If-Range: ", tag))
        return false;
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, t->ask->offset,
             t->ask->offset + t->ask->size - 1);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     is_tls && !site->is_peer ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_RANGE, range) == CURLE_OK;
}

/* Gives the ask back to the picker; the handle stays, its connection too. Caller holds the lock. */
static void end_transfer(transfer *t, dp_picker_end end, uint64_t retry_ns)
{
    dp_pager *pager = t->pager;

    dp_picker_ended(pager->picker, t->ask, end, retry_ns, dp_pager_now(pager));
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    t->ask = NULL;
    t->site->transfer_count--;
    dp_pager_free_removed(pager, t->site);
    t->site = NULL;
}

static void begin_transfer(dp_pager *pager, dp_picker_ask *ask)
{
    transfer *t = pager->transfers;

    while (t->ask)
        t++;
    t->ask = ask;
    ask->user = t;
    t->site = dp_pager_site(pager, ask->endpoint);
    t->site->transfer_count++;
    t->is_accepted = t->is_refused = t->is_changed = false;
    t->unwanted = 0;
    t->begin_ns = dp_pager_now(pager);
    pager->requests++;
    if (!set_up(t) || curl_multi_add_handle(pager->multi, t->rules.easy))
        end_transfer(t, DP_PICKER_END_CUT, 0);
}

static void drop_transfer(dp_pager *pager, dp_picker_ask *ask)
{
    transfer *t = ask->user;

    curl_multi_remove_handle(pager->multi, t->rules.easy);
    end_transfer(t, DP_PICKER_END_DROPPED, 0);
}

static dp_picker_end end_of(const transfer *t, CURLcode code)
{
    uint32_t status = t->rules.head.status;

    if (t->is_refused)
        return DP_PICKER_END_REFUSED;
    if (t->is_accepted)
        return code == CURLE_OK ? DP_PICKER_END_WHOLE : DP_PICKER_END_CUT;
    if (code && t->rules.problem[0])
        return DP_PICKER_END_REFUSED;
    if (status == 404 || status == 410)
        return DP_PICKER_END_GONE;
    if (status == 429 || status / 100 == 5)
        return DP_PICKER_END_BUSY;
    return status >= 300 && code == CURLE_OK ? DP_PICKER_END_REFUSED : DP_PICKER_END_CUT;
}

/* For the sentence of a job that ends without its bytes. */
static void note_problem(transfer *t, CURLcode code)
{
    dp_pager *pager = t->pager;

    if (t->rules.problem[0])
        snprintf(pager->problem, sizeof pager->problem, "%.90s: %.150s", t->site->name,
                 t->rules.problem);
    else if (code && !t->unwanted)
        snprintf(pager->problem, sizeof pager->problem, "%s: %s", t->site->name,
                 curl_easy_strerror(code));
    else
        snprintf(pager->problem, sizeof pager->problem, "%s answered %u", t->site->name,
                 t->rules.head.status);
    if (t->is_changed)
        snprintf(pager->changed, sizeof pager->changed, "%.120s of %.90s changed on the server",
                 pager->config.layout->files[t->ask->file].path, t->site->name);
    DP_LOG_DEBUG("swarm", "request failed endpoint=%u offset=%" PRIu64 " size=%" PRIu64 " why=%s",
                 t->ask->endpoint, t->ask->offset, t->ask->size, pager->problem);
}

static void finish_transfer(transfer *t, CURLcode code)
{
    dp_pager *pager = t->pager;
    dp_picker_end end = end_of(t, code);
    long connects = 0;

    curl_easy_getinfo(t->rules.easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_multi_remove_handle(pager->multi, t->rules.easy);
    dp_mutex_lock(&pager->lock);
    pager->connects += (uint64_t)connects;
    if (end != DP_PICKER_END_WHOLE)
        note_problem(t, code);
    if (t->is_changed) /* nothing it gives is of the file that was begun */
        dp_picker_ban(pager->picker, t->ask->endpoint, dp_pager_now(pager));
    end_transfer(t, end, (uint64_t)t->rules.head.retry_s * 1000000000);
    dp_mutex_unlock(&pager->lock);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Does what the picker says; when it is to be asked again. */
static uint64_t act(dp_pager *pager, uint64_t *now_ns)
{
    dp_picker_act act;
    dp_link ended;

    dp_link_init(&ended);
    dp_mutex_lock(&pager->lock);
    *now_ns = dp_pager_now(pager);
    do {
        act = dp_picker_next(pager->picker, *now_ns);
        if (act.kind == DP_PICKER_ASK) {
            begin_transfer(pager, act.ask);
        } else if (act.kind == DP_PICKER_DROP) {
            drop_transfer(pager, act.ask);
        } else if (act.kind == DP_PICKER_FAIL) {
            work *w = (work *)act.want;

            w->status = act.status;
            dp_link_insert(&ended, &w->link);
        }
    } while (act.kind != DP_PICKER_NOTHING);
    dp_pager_expire_twins(pager, &ended, *now_ns, &act.wake_ns);
    if (!dp_link_is_alone(&ended)) {
        dp_pager_settle_twins(pager);
        act.wake_ns = *now_ns; /* a done may submit, and twins are wanted now */
    }
    dp_mutex_unlock(&pager->lock);
    dp_pager_end_works(pager, &ended);
    return act.wake_ns;
}

static bool finish_all(dp_pager *pager)
{
    CURLMsg *message;
    bool is_any = false;
    int left;

    while ((message = curl_multi_info_read(pager->multi, &left))) {
        CURLcode code = message->data.result;
        transfer *t = NULL;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        finish_transfer(t, code);
        is_any = true;
    }
    return is_any;
}

static bool is_closing(dp_pager *pager)
{
    bool closing;

    dp_mutex_lock(&pager->lock);
    closing = pager->is_closing;
    dp_mutex_unlock(&pager->lock);
    return closing;
}

void dp_pager_http_main(void *user)
{
    dp_pager *pager = user;

    while (!is_closing(pager)) {
        uint64_t now, wake, wait_ms;
        int running;

        /* First what has come: an answer that waits in the socket is not silent. */
        curl_multi_perform(pager->multi, &running);
        finish_all(pager);
        wake = act(pager, &now);
        curl_multi_perform(pager->multi, &running);
        if (finish_all(pager) || wake <= now)
            continue;
        wait_ms = DP_MIN((wake - now + 999999) / 1000000, POLL_MS_MAX);
        curl_multi_poll(pager->multi, NULL, 0, (int)wait_ms, NULL);
    }
    dp_mutex_lock(&pager->lock);
    for (size_t i = 0; i < DP_ARRAY_LEN(pager->transfers); i++) {
        if (pager->transfers[i].ask)
            drop_transfer(pager, pager->transfers[i].ask);
    }
    dp_mutex_unlock(&pager->lock);
}

dp_status dp_pager_http_open(dp_pager *pager, dp_error *err)
{
    pager->multi = curl_multi_init();
    if (!pager->multi)
        return dp_fail(err, DP_E_NOMEM, "swarm: libcurl gives no handle");
    curl_multi_setopt(pager->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)DP_PAGER_CONNECTIONS_MAX);
    curl_multi_setopt(pager->multi, CURLMOPT_MAXCONNECTS, (long)DP_PAGER_CONNECTIONS_MAX);
    for (size_t i = 0; i < DP_ARRAY_LEN(pager->transfers); i++) {
        transfer *t = &pager->transfers[i];

        t->pager = pager;
        t->rules.easy = curl_easy_init();
        if (!t->rules.easy)
            return dp_fail(err, DP_E_NOMEM, "swarm: libcurl gives no handle");
        t->rules.user_agent = pager->user_agent;
        t->rules.tls_authority = pager->tls_authority;
        dp_http_apply(&t->rules);
        curl_easy_setopt(t->rules.easy, CURLOPT_PRIVATE, t);
        curl_easy_setopt(t->rules.easy, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(t->rules.easy, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(t->rules.easy, CURLOPT_BUFFERSIZE, RECEIVE_SIZE);
    }
    return DP_OK;
}

void dp_pager_http_close(dp_pager *pager)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(pager->transfers); i++)
        curl_easy_cleanup(pager->transfers[i].rules.easy);
    curl_multi_cleanup(pager->multi);
}
