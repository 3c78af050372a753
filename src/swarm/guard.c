#include "swarm/guard.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"
#include "swarm/listen.h"

typedef enum guard_state { GUARD_HEADER, GUARD_RESPONSE, GUARD_IDLE } guard_state;

struct dp_guard_connection {
    dp_guard *guard;
    dp_guard_connection *previous, *next;
    struct MHD_Connection *connection;
    int fd;
    uint32_t slot; /* of limits; DP_LIMITS_NONE: refused */
    guard_state state;
    uint64_t since_ns;   /* when the state began; of a response: of this window of progress */
    dp_tcp_counts since; /* what had passed then */
    bool is_cut, is_taken, is_paused;
    uint64_t resume_ns;
};

struct dp_guard {
    dp_guard_config config;
    dp_mutex lock;
    dp_cond changed; /* for the watch: something to wait for came */
    dp_limits *limits;
    dp_guard_connection *first; /* all that are open */
    dp_guard_stats stats;
    uint32_t live; /* not cut */
    bool is_stopping, has_watch, is_closing;
    dp_thread watch;
};

static uint64_t now_of(const dp_guard *guard)
{
    return dp_clock_now_ns(guard->config.clock);
}

/* Caller holds the lock. What it waited for, it need not any more: a paused connection is
 * resumed to be closed. */
static void cut_locked(dp_guard_connection *c)
{
    if (c->is_cut)
        return;
    c->is_cut = true;
    c->guard->live--;
    c->resume_ns = 0;
    dp_tcp_cut(c->fd); /* (2) */
    dp_cond_signal(&c->guard->changed);
}

static void set_state_locked(dp_guard_connection *c, guard_state state)
{
    c->state = state;
    c->since_ns = now_of(c->guard);
    dp_tcp_counts_read(c->fd, &c->since);
}

/* Whether a connection has been too slow. `now` was read under this lock, so no state began
 * after it, but the ones set here: they are not late. */
static bool is_late_locked(dp_guard_connection *c, uint64_t now)
{
    const dp_guard_config *config = &c->guard->config;
    dp_tcp_counts counts;

    DP_ASSERT(now >= c->since_ns);

    switch (c->state) {
    case GUARD_HEADER:
        return now - c->since_ns > config->header_ns;
    case GUARD_IDLE:
        if (!dp_tcp_counts_read(c->fd, &counts))
            return now - c->since_ns > config->idle_ns;
        if (counts.received > c->since.received) {
            set_state_locked(c, GUARD_HEADER);
            return false;
        }
        /* libmicrohttpd does not always see an end that came before its response. */
        return now - c->since_ns > (counts.has_ended ? config->header_ns : config->idle_ns);
    case GUARD_RESPONSE:
        if (now - c->since_ns <= config->progress_ns || c->is_paused)
            return false;
        if (dp_tcp_counts_read(c->fd, &counts) &&
            counts.acknowledged - c->since.acknowledged < config->progress_bytes)
            return true;
        set_state_locked(c, GUARD_RESPONSE); /* the next window */
        return false;
    }
    return false;
}

/* Resumes and cuts what is due; for how long nothing will be. */
static uint64_t sweep_locked(dp_guard *guard)
{
    uint64_t now = now_of(guard), wait_ns = DP_GUARD_TICK_NS;

    for (dp_guard_connection *c = guard->first; c; c = c->next) {
        if (!c->is_cut && is_late_locked(c, now)) {
            cut_locked(c);
            guard->stats.cut++;
        }
        if (!c->is_paused)
            continue;
        if (c->resume_ns > now) {
            wait_ns = DP_MIN(wait_ns, c->resume_ns - now);
            continue;
        }
        c->is_paused = false;
        set_state_locked(c, GUARD_RESPONSE);  /* a pause is not the client's slowness */
        MHD_resume_connection(c->connection); /* (3) */
    }
    return wait_ns;
}

static void watch_body(void *user)
{
    dp_guard *guard = user;

    dp_mutex_lock(&guard->lock);
    while (!guard->is_closing) {
        uint64_t wait_ns = sweep_locked(guard);

        if (guard->first)
            dp_cond_wait_for(&guard->changed, &guard->lock, wait_ns);
        else
            dp_cond_wait(&guard->changed, &guard->lock);
    }
    dp_mutex_unlock(&guard->lock);
}

dp_status dp_guard_open(dp_guard **out, const dp_guard_config *config, dp_error *err)
{
    dp_status st = DP_OK;
    dp_guard *guard = dp_alloc_zero(1, sizeof *guard);

    *out = NULL;
    if (!guard)
        return dp_fail(err, DP_E_NOMEM, "the guard of a server");
    guard->config = *config;
    dp_mutex_init(&guard->lock);
    dp_cond_init(&guard->changed);
    st = dp_limits_open(&guard->limits, &config->per_address, err);
    if (st)
        goto done;
    st = dp_thread_start(&guard->watch, "dp-guard", watch_body, guard, err);
    if (st)
        goto done;
    guard->has_watch = true;

    *out = guard;
    guard = NULL;
done:
    dp_guard_close(guard);
    return st;
}

void dp_guard_stop(dp_guard *guard)
{
    dp_mutex_lock(&guard->lock);
    guard->is_stopping = true;
    for (dp_guard_connection *c = guard->first; c; c = c->next)
        cut_locked(c);
    sweep_locked(guard); /* nothing is left paused */
    dp_mutex_unlock(&guard->lock);
}

void dp_guard_close(dp_guard *guard)
{
    if (!guard)
        return;
    DP_ASSERT(!guard->first);
    dp_mutex_lock(&guard->lock);
    guard->is_closing = true;
    dp_cond_signal(&guard->changed);
    dp_mutex_unlock(&guard->lock);
    if (guard->has_watch)
        dp_thread_join(&guard->watch);
    dp_limits_close(guard->limits);
    dp_cond_deinit(&guard->changed);
    dp_mutex_deinit(&guard->lock);
    dp_free(guard);
}

/* Of those that wait for a request, the one that did longest makes room. (1) */
static bool make_room_locked(dp_guard *guard)
{
    dp_guard_connection *oldest = NULL;

    if (guard->live < guard->config.connections_max)
        return true;
    for (dp_guard_connection *c = guard->first; c; c = c->next) {
        if (!c->is_cut && c->state != GUARD_RESPONSE &&
            (!oldest || c->since_ns <= oldest->since_ns))
            oldest = c;
    }
    if (!oldest)
        return false;
    cut_locked(oldest);
    guard->stats.cut++;
    return true;
}

static bool may_enter_locked(dp_guard *guard, dp_guard_connection *c, const dp_address *address)
{
    c->slot = DP_LIMITS_NONE;
    if (guard->is_stopping)
        return false;
    c->slot = dp_limits_enter(guard->limits, address, now_of(guard));
    return c->slot != DP_LIMITS_NONE && make_room_locked(guard);
}

static void enter_locked(dp_guard *guard, dp_guard_connection *c, const dp_address *address)
{
    bool may_enter = may_enter_locked(guard, c, address);

    c->next = guard->first;
    if (c->next)
        c->next->previous = c;
    guard->first = c;
    guard->live++;
    guard->stats.connections++;
    set_state_locked(c, GUARD_HEADER);
    if (!may_enter) {
        cut_locked(c);
        guard->stats.refused++;
    }
    dp_cond_signal(&guard->changed);
}

static void leave_locked(dp_guard *guard, dp_guard_connection *c)
{
    if (c->next)
        c->next->previous = c->previous;
    if (c->previous)
        c->previous->next = c->next;
    else
        guard->first = c->next;
    guard->stats.connections--;
    if (!c->is_cut)
        guard->live--;
    if (c->state == GUARD_RESPONSE) /* it was not told of the end, which comes with this one */
        guard->stats.responses--;
    if (c->slot != DP_LIMITS_NONE)
        dp_limits_leave(guard->limits, c->slot);
}

/* A connection that there is no memory for is cut at once, and answers nothing. */
static void started(dp_guard *guard, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *fd, *from;
    dp_guard_connection *c = dp_alloc_zero(1, sizeof *c);
    dp_address address;

    *context = c;
    fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    from = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (!c) {
        dp_tcp_cut(fd->connect_fd);
        return;
    }
    c->guard = guard;
    c->connection = connection;
    c->fd = fd->connect_fd;
    (void)dp_address_from(&address, from->client_addr); /* those of no kind share one entry */
    dp_mutex_lock(&guard->lock);
    enter_locked(guard, c, &address);
    dp_mutex_unlock(&guard->lock);
}

void dp_guard_notify(void *user, struct MHD_Connection *connection, void **context,
                     enum MHD_ConnectionNotificationCode code)
{
    dp_guard *guard = user;
    dp_guard_connection *c = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        started(guard, connection, context);
    } else if (c) {
        dp_mutex_lock(&guard->lock);
        leave_locked(guard, c);
        dp_mutex_unlock(&guard->lock);
        dp_free(c);
        *context = NULL;
    }
}

dp_guard_connection *dp_guard_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    dp_guard_connection *c = info ? info->socket_context : NULL;
    bool is_cut = true;

    if (c) {
        dp_mutex_lock(&c->guard->lock);
        is_cut = c->is_cut;
        dp_mutex_unlock(&c->guard->lock);
    }
    return is_cut ? NULL : c;
}

uint64_t dp_guard_begin(dp_guard_connection *c)
{
    uint64_t wait_ns;

    dp_mutex_lock(&c->guard->lock);
    c->guard->stats.responses++;
    set_state_locked(c, GUARD_RESPONSE);
    wait_ns = dp_limits_request(c->guard->limits, c->slot, c->since_ns);
    dp_mutex_unlock(&c->guard->lock);
    return wait_ns;
}

void dp_guard_end(dp_guard_connection *c)
{
    dp_mutex_lock(&c->guard->lock);
    if (c->is_taken)
        dp_limits_end(c->guard->limits, c->slot);
    c->is_taken = false;
    c->guard->stats.responses--;
    set_state_locked(c, GUARD_IDLE);
    dp_mutex_unlock(&c->guard->lock);
}

bool dp_guard_take(dp_guard_connection *c)
{
    dp_mutex_lock(&c->guard->lock);
    DP_ASSERT(!c->is_taken);
    c->is_taken = dp_limits_begin(c->guard->limits, c->slot);
    dp_mutex_unlock(&c->guard->lock);
    return c->is_taken;
}

bool dp_guard_pause(dp_guard_connection *c, uint64_t wait_ns)
{
    dp_guard *guard = c->guard;
    bool may_pause;

    dp_mutex_lock(&guard->lock);
    may_pause = !c->is_cut;
    if (may_pause) {
        MHD_suspend_connection(c->connection);
        c->is_paused = true;
        c->resume_ns = now_of(guard) + wait_ns;
        dp_cond_signal(&guard->changed);
    }
    dp_mutex_unlock(&guard->lock);
    return may_pause;
}

void dp_guard_cut(dp_guard_connection *c)
{
    dp_mutex_lock(&c->guard->lock);
    cut_locked(c);
    dp_mutex_unlock(&c->guard->lock);
}

void dp_guard_stats_read(dp_guard *guard, dp_guard_stats *out)
{
    dp_mutex_lock(&guard->lock);
    *out = guard->stats;
    dp_mutex_unlock(&guard->lock);
}
