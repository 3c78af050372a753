#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/status.h"

#define NAME_MAX_BYTES 16 /* with the NUL; the kernel's limit */

/* Errors of these calls are misuse by our own code, and going on without the
 * lock would damage memory. */
static void must(int errnum)
{
    DP_CHECK(errnum == 0);
}

#ifdef NDEBUG
static void note_held(dp_mutex *mutex, bool is_held)
{
}

bool dp_mutex_is_held(dp_mutex *mutex)
{
    return true;
}
#else
static void note_held(dp_mutex *mutex, bool is_held)
{
    if (is_held)
        mutex->owner = pthread_self();
    mutex->is_held = is_held;
}

bool dp_mutex_is_held(dp_mutex *mutex)
{
    return mutex->is_held && pthread_equal(mutex->owner, pthread_self());
}
#endif

void dp_mutex_init(dp_mutex *mutex)
{
    memset(mutex, 0, sizeof *mutex);
    must(pthread_mutex_init(&mutex->native, NULL));
}

void dp_mutex_deinit(dp_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->native));
}

void dp_mutex_lock(dp_mutex *mutex)
{
    must(pthread_mutex_lock(&mutex->native));
    note_held(mutex, true);
}

bool dp_mutex_try_lock(dp_mutex *mutex)
{
    int error = pthread_mutex_trylock(&mutex->native);

    if (error == EBUSY)
        return false;
    must(error);
    note_held(mutex, true);
    return true;
}

void dp_mutex_unlock(dp_mutex *mutex)
{
    DP_ASSERT(dp_mutex_is_held(mutex));
    note_held(mutex, false);
    must(pthread_mutex_unlock(&mutex->native));
}

void dp_cond_init(dp_cond *cond)
{
    pthread_condattr_t attr;

    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
    must(pthread_cond_init(&cond->native, &attr));
    must(pthread_condattr_destroy(&attr));
}

void dp_cond_deinit(dp_cond *cond)
{
    must(pthread_cond_destroy(&cond->native));
}

void dp_cond_wait(dp_cond *cond, dp_mutex *mutex)
{
    DP_ASSERT(dp_mutex_is_held(mutex));
    note_held(mutex, false);
    must(pthread_cond_wait(&cond->native, &mutex->native));
    note_held(mutex, true);
}

bool dp_cond_wait_for(dp_cond *cond, dp_mutex *mutex, uint64_t timeout_ns)
{
    struct timespec until;
    uint64_t ns;
    int errnum;

    DP_ASSERT(dp_mutex_is_held(mutex));
    clock_gettime(CLOCK_MONOTONIC, &until);
    ns = (uint64_t)until.tv_nsec + timeout_ns % 1000000000u;
    until.tv_sec += (time_t)(timeout_ns / 1000000000u + ns / 1000000000u);
    until.tv_nsec = (long)(ns % 1000000000u);

    note_held(mutex, false);
    errnum = pthread_cond_timedwait(&cond->native, &mutex->native, &until);
    note_held(mutex, true);
    if (errnum == ETIMEDOUT)
        return false;
    must(errnum);
    return true;
}

void dp_cond_signal(dp_cond *cond)
{
    must(pthread_cond_signal(&cond->native));
}

void dp_cond_broadcast(dp_cond *cond)
{
    must(pthread_cond_broadcast(&cond->native));
}

struct start {
    void (*body)(void *user);
    void *user;
    char name[NAME_MAX_BYTES];
};

static void *run_start(void *moved)
{
    struct start start = *(struct start *)moved;

    dp_free(moved);
    pthread_setname_np(pthread_self(), start.name); /* fails only where names do not show */
    start.body(start.user);
    return NULL;
}

dp_status dp_thread_start(dp_thread *out, const char *name, void (*body)(void *user), void *user,
                          dp_error *err)
{
    struct start *start = dp_alloc(1, sizeof *start);
    sigset_t all;
    sigset_t before;
    int errnum = 0;

    if (!start)
        return dp_fail(err, DP_E_NOMEM, "thread %s: no memory to start it", name);
    start->body = body;
    start->user = user;
    snprintf(start->name, sizeof start->name, "%s", name);

    /* A new thread inherits the mask: blocking here leaves no moment in which a
     * signal could reach it. */
    sigfillset(&all);
    must(pthread_sigmask(SIG_SETMASK, &all, &before));
    if (dp_fault_visit(DP_FAULT_THREAD))
        errnum = EAGAIN;
    else
        errnum = pthread_create(&out->native, NULL, run_start, start);
    must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (errnum) {
        dp_free(start);
        return dp_fail_errno(err, DP_E_NOMEM, errnum, "thread %s: cannot start it", name);
    }
    return DP_OK;
}

void dp_thread_join(dp_thread *thread)
{
    must(pthread_join(thread->native, NULL));
}

/* What sched_setattr(2) takes, in its first version; the C library has no such call, and the
 * kernel's header does not go with the library's. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void dp_thread_hurry(void)
{
    struct scheduling mine;

    if (syscall(SYS_sched_getattr, 0, &mine, sizeof mine, 0) || mine.policy != SCHED_OTHER)
        return;
    mine.runtime_ns = DP_THREAD_SLICE_NS; /* older kernels take no notice */
    syscall(SYS_sched_setattr, 0, &mine, 0);
}
