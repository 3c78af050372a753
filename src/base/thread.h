/* thread.h - mutex, condition, thread. Platform: thread_posix.c. */
#ifndef DP_BASE_THREAD_H
#define DP_BASE_THREAD_H

#include <pthread.h>
#include "base/base.h"
#include "doppler/status.h"

typedef struct dp_mutex {
    pthread_mutex_t native;
#ifndef NDEBUG
    _Atomic(pthread_t) owner;
    _Atomic int is_held;
#endif
} dp_mutex;

typedef struct dp_cond {
    pthread_cond_t native; /* on the monotonic clock */
} dp_cond;

typedef struct dp_thread {
    pthread_t native;
} dp_thread;

void dp_mutex_init(dp_mutex *mutex);
void dp_mutex_deinit(dp_mutex *mutex);
void dp_mutex_lock(dp_mutex *mutex);
bool dp_mutex_try_lock(dp_mutex *mutex); /* false: somebody holds it */
void dp_mutex_unlock(dp_mutex *mutex);
/* True when the calling thread holds it; always true in release builds, so it
 * belongs inside DP_ASSERT only. */
bool dp_mutex_is_held(dp_mutex *mutex);

void dp_cond_init(dp_cond *cond);
void dp_cond_deinit(dp_cond *cond);
void dp_cond_wait(dp_cond *cond, dp_mutex *mutex);
/* False when timeout_ns passed first. */
bool dp_cond_wait_for(dp_cond *cond, dp_mutex *mutex, uint64_t timeout_ns);
void dp_cond_signal(dp_cond *cond);
void dp_cond_broadcast(dp_cond *cond);

/* Starts body(user) with all signals blocked (they are the program's). The name
 * shows in top; at most 15 characters. DP_E_NOMEM when the system has no thread. */
dp_status dp_thread_start(dp_thread *out, const char *name, void (*body)(void *user), void *user,
                          dp_error *err);
void dp_thread_join(dp_thread *thread);

/* The calling thread, whenever it is woken, has little to do that much waits for: it asks the
 * scheduler for short slices, so that it is let in before a thread that computes has used up its
 * own. Its share of the processor stays the same. Linux 6.12 and later (a custom slice of EEVDF);
 * elsewhere, and under another policy than the usual one, nothing changes. */
#define DP_THREAD_SLICE_NS 100000 /* the shortest there is */
void dp_thread_hurry(void);

#endif
