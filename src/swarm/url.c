/* One request at a time, for what is looked at once: a URL's facts, a small whole thing. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "swarm/http.h"

#define STOP_MS 50 /* how often `stop` is asked */

typedef struct request {
    dp_http_rules rules;
    CURLM *multi;
    const char *url; /* for sentences */
    dp_buf body;
    bool is_over; /* the body has more than it may */
    CURLcode code;
} request;

static size_t take_body(char *bytes, size_t one, size_t size, void *user)
{
    request *r = user;

    if (dp_buf_append(&r->body, bytes, size) == DP_OK)
        return size;
    r->is_over = r->body.size + size > r->body.size_max;
    return 0;
}

static dp_status request_init(request *r, const char *url, const dp_pager_config *config,
                              size_t size_max, dp_error *err)
{
    dp_status st = dp_http_begin(err);

    memset(r, 0, sizeof *r);
    r->url = url;
    dp_buf_init(&r->body, size_max);
    if (st)
        return st;
    if (strlen(url) >= DP_PAGER_URL_MAX)
        return dp_fail(err, DP_E_LIMIT, "%.80s...: a URL of %zu bytes, at most %d", url,
                       strlen(url), DP_PAGER_URL_MAX - 1);
    r->multi = curl_multi_init();
    r->rules.easy = curl_easy_init();
    if (!r->multi || !r->rules.easy)
        return dp_fail(err, DP_E_NOMEM, "%s: libcurl gives no handle", url);
    r->rules.tls_authority = config->tls_authority;
    r->rules.user_agent = config->user_agent;
    dp_http_apply(&r->rules);
    dp_http_reset(&r->rules, DP_HTTP_ORIGIN, true);
    curl_easy_setopt(r->rules.easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(r->rules.easy, CURLOPT_WRITEDATA, r);
    if (curl_easy_setopt(r->rules.easy, CURLOPT_URL, url))
        return dp_fail(err, DP_E_NOMEM, "%s: libcurl takes no URL", url);
    return DP_OK;
}

static void request_deinit(request *r)
{
    if (r->multi && r->rules.easy)
        curl_multi_remove_handle(r->multi, r->rules.easy);
    curl_easy_cleanup(r->rules.easy);
    curl_multi_cleanup(r->multi);
    dp_buf_deinit(&r->body);
}

/* Until the response is there, was refused, or nobody wants it any more. */
static dp_status request_run(request *r, uint32_t timeout_ms, bool (*stop)(void *user), void *user,
                             dp_error *err)
{
    int running = 1, left;
    CURLMsg *message;

    curl_easy_setopt(r->rules.easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (curl_multi_add_handle(r->multi, r->rules.easy))
        return dp_fail(err, DP_E_NOMEM, "%s: libcurl takes no request", r->url);
    while (running) {
        if (stop && stop(user))
            return dp_fail(err, DP_E_CANCELED, "%s: canceled", r->url);
        curl_multi_perform(r->multi, &running);
        if (running)
            curl_multi_poll(r->multi, NULL, 0, STOP_MS, NULL);
    }
    message = curl_multi_info_read(r->multi, &left);
    r->code = message ? message->data.result : CURLE_FAILED_INIT;
    if (r->code && r->rules.problem[0])
        return dp_fail(err, DP_E_IO, "%s: %s", r->url, r->rules.problem);
    if (r->code == CURLE_OPERATION_TIMEDOUT)
        return dp_fail(err, DP_E_TIMEOUT, "%s: no answer in %u ms", r->url, timeout_ms);
    if (r->code && r->code != CURLE_WRITE_ERROR)
        return dp_fail(err, DP_E_IO, "%s: %s", r->url, curl_easy_strerror(r->code));
    if (r->rules.head.status == 404 || r->rules.head.status == 410)
        return dp_fail(err, DP_E_NOTFOUND, "%s: the server has no such file (%u)", r->url,
                       r->rules.head.status);
    return DP_OK;
}

dp_status dp_url_look_at(dp_url_look *out, const char *url, const dp_pager_config *config,
                         uint32_t timeout_ms, bool (*stop)(void *user), void *user, dp_error *err)
{
    const dp_http_head *head;
    const char *last = NULL;
    request r;
    dp_status st;

    memset(out, 0, sizeof *out);
    st = request_init(&r, url, config, 1, err);
    head = &r.rules.head;
    if (st)
        goto done;
    curl_easy_setopt(r.rules.easy, CURLOPT_RANGE, "0-0");
    st = request_run(&r, timeout_ms, stop, user, err);
    if (st)
        goto done;
    curl_easy_getinfo(r.rules.easy, CURLINFO_EFFECTIVE_URL, &last);
    if (head->status == 200) {
        st = dp_fail(err, DP_E_UNSUPPORTED, "%s: the server gives no ranges of the file", url);
    } else if (head->status == 416) {
        st = dp_fail(err, DP_E_CORRUPT, "%s: the file is empty", url);
    } else if (head->status != 206) {
        st = dp_fail(err, DP_E_IO, "%s: the server answered %u", url, head->status);
    } else if (!head->has_range || head->range_first != 0 || head->range_last != 0 ||
               !head->has_total) {
        st = dp_fail(err, DP_E_UNSUPPORTED, "%s: the server does not tell the file's size", url);
    } else if (!last || strlen(last) >= sizeof out->url) {
        st = dp_fail(err, DP_E_LIMIT, "%s: leads to a URL of more than %zu bytes", url,
                     sizeof out->url - 1);
    }
    if (st)
        goto done;
    snprintf(out->url, sizeof out->url, "%s", last);
    snprintf(out->tag, sizeof out->tag, "%s", dp_http_head_tag(head));
    out->is_strong = head->etag[0] && dp_http_tag_is_strong(head->etag);
    out->size = head->total;
done:
    request_deinit(&r);
    return st;
}

dp_status dp_url_get(uint8_t **out, size_t *size, const char *url, size_t size_max,
                     const dp_pager_config *config, uint32_t timeout_ms, bool (*stop)(void *user),
                     void *user, dp_error *err)
{
    request r;
    dp_status st;

    *out = NULL;
    *size = 0;
    st = request_init(&r, url, config, size_max, err);
    if (st)
        goto done;
    st = request_run(&r, timeout_ms, stop, user, err);
    if (st)
        goto done;
    if (r.is_over)
        st = dp_fail(err, DP_E_LIMIT, "%s: more than %zu bytes", url, size_max);
    else if (r.code)
        st = dp_fail(err, DP_E_NOMEM, "%s: %zu bytes", url, r.body.size);
    else if (r.rules.head.status != 200)
        st = dp_fail(err, DP_E_IO, "%s: the server answered %u", url, r.rules.head.status);
    else if (!(*out = dp_alloc(DP_MAX(r.body.size, 1), 1)))
        st = dp_fail(err, DP_E_NOMEM, "%s: %zu bytes", url, r.body.size);
    if (st)
        goto done;
    if (r.body.size)
        memcpy(*out, r.body.bytes, r.body.size);
    *size = r.body.size;
done:
    request_deinit(&r);
    return st;
}
