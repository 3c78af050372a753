/* The network thread: asks become range requests, and what comes goes where it belongs.
 *
 * libcurl keeps the connections: one a range at a time (HTTP/1.1), or several ranges on one
 * (HTTP/2 of web seeds). A request that ends in order leaves its connection warm for the
 * next; only what the picker drops closes one. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "swarm/pager_inner.h"

#define RECEIVE_SIZE   (256L << 10) /* bytes libcurl hands over at a time, at most */
#define POLL_MS_MAX    1000
#define WARMING_MS_MAX 5000L
#define AUTHORIZATION  "Authorization: Bearer "

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

/* What requests and warming have in common. */
static bool set_up(transfer *t, uint32_t file)
{
    const char *url = t->site->urls[file];
    CURL *easy = t->rules.easy;
    bool is_tls = strncmp(url, "https:", 6) == 0;

    /* Peers are followed nowhere; a server that a person named shall not lead inside from outside. */
    dp_http_reset(&t->rules,
                  !t->site->allows_private ? DP_HTTP_PUBLIC
                  : t->site->is_peer       ? DP_HTTP_ANYWHERE
                                           : DP_HTTP_ORIGIN,
                  !t->site->is_peer);
    if (t->site->is_peer && t->pager->token && !add_header(t, AUTHORIZATION, t->pager->token))
        return false;
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION,
                     is_tls && !t->site->is_peer ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1);
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK;
}

static bool set_up_ask(transfer *t)
{
    const char *tag = dp_pager_if_range(t);
    CURL *easy = t->rules.easy;
    char range[64];

    if (!set_up(t, t->ask->file) || (tag && !add_header(t, "If-Range: ", tag)))
        return false;
    snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, t->ask->offset,
             t->ask->offset + t->ask->size - 1);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 0L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 0L);
    return curl_easy_setopt(easy, CURLOPT_RANGE, range) == CURLE_OK;
}

/* HEAD over a new connection, which is kept. */
static bool set_up_warming(transfer *t)
{
    CURL *easy = t->rules.easy;

    if (!set_up(t, 0))
        return false;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(easy, CURLOPT_RANGE, NULL);
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, WARMING_MS_MAX);
    return true;
}

/* The handle stays, its connection too. Caller holds the lock. */
static void free_transfer(transfer *t)
{
    site *site = t->site;

    curl_slist_free_all(t->headers);
    t->headers = NULL;
    t->ask = NULL;
    t->site = NULL;
    site->transfer_count--;
    dp_pager_free_removed(t->pager, site);
}

/* Gives the ask back to the picker. Caller holds the lock. */
static void end_transfer(transfer *t, dp_picker_end end, uint64_t retry_ns)
{
    dp_picker_ended(t->pager->picker, t->ask, end, retry_ns, dp_pager_now(t->pager));
    free_transfer(t);
}

static transfer *take_transfer(dp_pager *pager, site *site)
{
    transfer *t = pager->transfers;

    while (t->site)
        t++;
    t->site = site;
    site->transfer_count++;
    t->is_accepted = t->is_refused = t->is_changed = false;
    t->unwanted = 0;
    t->begin_ns = dp_pager_now(pager);
    return t;
}

static void begin_transfer(dp_pager *pager, dp_picker_ask *ask)
{
    transfer *t = take_transfer(pager, dp_pager_site(pager, ask->endpoint));

    t->ask = ask;
    ask->user = t;
    pager->requests++;
    if (!set_up_ask(t) || curl_multi_add_handle(pager->multi, t->rules.easy))
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
    if (status == 416)
        return DP_PICKER_END_PAST;
    if (status == 429 || status / 100 == 5)
        return DP_PICKER_END_BUSY;
    return status >= 300 && code == CURLE_OK ? DP_PICKER_END_REFUSED : DP_PICKER_END_CUT;
}

/* A web seed is told no token, so none is missing. */
static bool wants_token(const transfer *t)
{
    return t->site->is_peer && t->rules.head.status == 401;
}

/* For the sentence of a job that ends without its bytes. */
static void note_problem(transfer *t, CURLcode code)
{
    dp_pager *pager = t->pager;

    if (t->rules.problem[0])
        snprintf(pager->problem, sizeof pager->problem, "%.90s: %.150s", t->site->name,
                 t->rules.problem);
    else if (wants_token(t))
        snprintf(pager->problem, sizeof pager->problem, "%.90s wants a token (--swarm-token)",
                 t->site->name);
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
    if (wants_token(t) && !t->site->wants_token) {
        t->site->wants_token = true;
        DP_LOG_WARN("swarm", "%s", pager->problem);
    }
    /* Nothing it gives is of the file that was begun; or it gives nothing. */
    if (t->is_changed || wants_token(t))
        dp_picker_ban(pager->picker, t->ask->endpoint, dp_pager_now(pager));
    end_transfer(t, end, (uint64_t)t->rules.head.retry_s * 1000000000);
    dp_mutex_unlock(&pager->lock);
}

/* ---- warm connections --------------------------------------------------------------------------- */

/* The first page that somebody waits for should find connections made and latencies known. What
 * is asked already makes its own. Caller holds the lock. */
static void warm_site(dp_pager *pager, site *site)
{
    bool is_shared = !site->is_peer && strncmp(site->urls[0], "https:", 6) == 0;
    uint32_t lines = is_shared ? 1 : WARM_LINES; /* HTTP/2 carries several ranges on one */
    uint32_t busy = site->transfer_count;

    pager->warm_sites++;
    site->cold_count = 0;
    for (uint32_t i = busy; i < lines; i++) {
        transfer *t = take_transfer(pager, site);

        if (!set_up_warming(t) || curl_multi_add_handle(pager->multi, t->rules.easy))
            free_transfer(t);
    }
}

static void warm(dp_pager *pager)
{
    uint32_t warming = 0;

    dp_mutex_lock(&pager->lock);
    for (size_t i = 0; i < DP_ARRAY_LEN(pager->transfers); i++)
        warming += pager->transfers[i].site && !pager->transfers[i].ask;
    for (uint32_t i = 0; i < DP_PAGER_ENDPOINTS_MAX && pager->warm_sites < WARM_SITES_MAX &&
                         warming + WARM_LINES <= WARMING_MAX;
         i++) {
        if (pager->sites[i].is_used && !pager->sites[i].is_removed && pager->sites[i].cold_count) {
            warm_site(pager, &pager->sites[i]);
            warming += WARM_LINES;
        }
    }
    dp_mutex_unlock(&pager->lock);
}

static void finish_warming(transfer *t, CURLcode code)
{
    dp_pager *pager = t->pager;
    curl_off_t sent_us = 0, answered_us = 0;
    long connects = 0;

    curl_easy_getinfo(t->rules.easy, CURLINFO_PRETRANSFER_TIME_T, &sent_us);
    curl_easy_getinfo(t->rules.easy, CURLINFO_STARTTRANSFER_TIME_T, &answered_us);
    curl_easy_getinfo(t->rules.easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_multi_remove_handle(pager->multi, t->rules.easy);
    dp_mutex_lock(&pager->lock);
    pager->connects += (uint64_t)connects;
    if (code == CURLE_OK && answered_us > sent_us)
        dp_picker_warmed(pager->picker, t->site->id, (uint64_t)(answered_us - sent_us) * 1000,
                         dp_pager_now(pager));
    free_transfer(t);
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
        if (t->ask)
            finish_transfer(t, code);
        else
            finish_warming(t, code);
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
        warm(pager);
        curl_multi_perform(pager->multi, &running);
        if (finish_all(pager) || wake <= now)
            continue;
        wait_ms = DP_MIN((wake - now + 999999) / 1000000, POLL_MS_MAX);
        curl_multi_poll(pager->multi, NULL, 0, (int)wait_ms, NULL);
    }
    dp_mutex_lock(&pager->lock);
    for (size_t i = 0; i < DP_ARRAY_LEN(pager->transfers); i++) {
        transfer *t = &pager->transfers[i];

        if (t->site)
            curl_multi_remove_handle(pager->multi, t->rules.easy);
        if (t->ask)
            end_transfer(t, DP_PICKER_END_DROPPED, 0);
        else if (t->site)
            free_transfer(t);
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
        curl_easy_setopt(t->rules.easy, CURLOPT_WRITEFUNCTION, dp_pager_take_body);
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
