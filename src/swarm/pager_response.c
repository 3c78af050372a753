/* One response: whether it answers the question, and where its bytes go. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "swarm/pager_inner.h"

#define UNWANTED_MAX (64 << 10) /* of an error page: reading it keeps the connection */

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

const char *dp_pager_if_range(const transfer *t)
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
    uint64_t size = file->pieces.file_size, last = t->ask->offset + t->ask->size - 1;
    bool is_all = t->ask->offset == 0 && t->ask->size == size;
    double pretransfer_s = 0;
    uint64_t now = dp_pager_now(t->pager), past;

    if (head->status == 200 && dp_pager_if_range(t) &&
        strcmp(dp_pager_if_range(t), dp_http_head_tag(head)) != 0) {
        t->is_changed = true;
        return refuse(t, "changed on the server");
    }
    if (head->status == 200 && (!is_all || !head->has_length || head->length != size))
        return refuse(t, "gave the whole file instead of a range");
    if (head->status == 206) {
        if (!head->has_range || head->range_first != t->ask->offset || head->range_last > last)
            return refuse(t, "gave another range than the one asked for");
        if (!file->hashes && head->has_total && head->total != size)
            t->is_changed = true;
        if (head->has_total ? head->total != size : !file->hashes)
            return refuse(t, t->is_changed ? "changed on the server" : "tells another size");
    }
    if (!is_same_version(t, file))
        return false;
    /* A server may give less than was asked for (RFC 9110, 15.3.7): of ours what it has. */
    if (head->status == 206 && head->range_last < last &&
        !dp_picker_shortened(t->pager->picker, t->ask, head->range_last - t->ask->offset + 1))
        return refuse(t, "gave a part of the range that ends within a piece");
    curl_easy_getinfo(t->rules.easy, CURLINFO_PRETRANSFER_TIME, &pretransfer_s);
    past = now - t->begin_ns;
    past -= DP_MIN(past - 1, (uint64_t)(pretransfer_s * 1e9));
    dp_picker_answered(t->pager->picker, t->ask, past, now);
    t->is_accepted = true;
    t->site->wants_token = false;
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

size_t dp_pager_take_body(char *bytes, size_t one, size_t size, void *user)
{
    transfer *t = user;
    uint32_t status = t->rules.head.status;
    bool is_over = false;

    if (t->is_refused || !t->ask)
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
