#include "swarm/piece_check.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"

#define REST_NS_MAX ((uint64_t)1000000000) /* a read that waited long is no reason to sleep long */

struct dp_piece_check {
    const dp_layout *layout;
    dp_store_file *const *files;
    const dp_clock *clock;
    uint8_t *bytes; /* of a piece */
    dp_mutex lock;
    dp_cond changed;
    bool is_over; /* under lock */
    dp_thread thread;
    bool has_thread;
};

/* False: it is over. */
static bool rest(dp_piece_check *check, uint64_t ns)
{
    uint64_t end_ns = dp_clock_now_ns(check->clock) + ns, now;
    bool goes_on;

    dp_mutex_lock(&check->lock);
    while (!check->is_over && (now = dp_clock_now_ns(check->clock)) < end_ns)
        dp_cond_wait_for(&check->changed, &check->lock, end_ns - now);
    goes_on = !check->is_over;
    dp_mutex_unlock(&check->lock);
    return goes_on;
}

static void run(void *user)
{
    dp_piece_check *check = user;
    uint32_t absent = 0, bad = 0;

    for (uint32_t i = 0; i < check->layout->piece_count; i++) {
        dp_layout_place place = dp_layout_find(check->layout, i);
        dp_store_file *file = check->files[place.file];
        uint64_t begin_ns = dp_clock_now_ns(check->clock), took_ns;

        if (!dp_store_has(file, place.piece)) {
            absent++;
            continue;
        }
        bad += dp_store_read(file, place.piece, check->bytes, NULL) != DP_OK;
        took_ns = dp_clock_now_ns(check->clock) - begin_ns;
        if (!rest(check, DP_MIN(took_ns * DP_PIECE_CHECK_RESTS, REST_NS_MAX)))
            return;
    }
    if (bad || absent)
        DP_LOG_WARN("swarm", "share=\"%s\" pieces=%u absent=%u damaged=%u",
                    check->layout->files[0].path, check->layout->piece_count, absent, bad);
}

dp_status dp_piece_check_open(dp_piece_check **out, const dp_layout *layout,
                              dp_store_file *const *files, const dp_clock *clock, dp_error *err)
{
    dp_piece_check *check = dp_alloc_zero(1, sizeof *check);
    dp_status st = DP_OK;

    *out = NULL;
    if (!check)
        return dp_fail(err, DP_E_NOMEM, "no memory to check what is shared");
    check->layout = layout;
    check->files = files;
    check->clock = clock;
    dp_mutex_init(&check->lock);
    dp_cond_init(&check->changed);
    check->bytes = dp_alloc(layout->piece_size, 1);
    if (!check->bytes)
        st = dp_fail(err, DP_E_NOMEM, "no memory for a piece");
    if (!st)
        st = dp_thread_start(&check->thread, "dp-check", run, check, err);
    if (st)
        goto done;
    check->has_thread = true;

    *out = check;
    check = NULL;
done:
    dp_piece_check_close(check);
    return st;
}

void dp_piece_check_close(dp_piece_check *check)
{
    if (!check)
        return;
    dp_mutex_lock(&check->lock);
    check->is_over = true;
    dp_cond_broadcast(&check->changed);
    dp_mutex_unlock(&check->lock);
    if (check->has_thread)
        dp_thread_join(&check->thread);
    dp_free(check->bytes);
    dp_cond_deinit(&check->changed);
    dp_mutex_deinit(&check->lock);
    dp_free(check);
}
