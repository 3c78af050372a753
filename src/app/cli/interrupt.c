#include "app/cli/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

/* A handler has no argument to find these by. All lock-free, relaxed: the
 * handler runs on the thread that reads them. */
static _Atomic(dp_engine *) watched;
static _Atomic(dp_swarm *) watched_swarm;
static atomic_bool is_seen;

static void on_interrupt(int number)
{
    dp_engine *engine = atomic_load_explicit(&watched, memory_order_relaxed);
    dp_swarm *swarm = atomic_load_explicit(&watched_swarm, memory_order_relaxed);

    (void)number;
    atomic_store_explicit(&is_seen, true, memory_order_relaxed);
    if (engine)
        dp_engine_cancel(engine);
    if (swarm)
        dp_swarm_cancel(swarm);
}

static void arm(void)
{
    /* No SA_RESTART: a read that waits for a person's line must return. */
    struct sigaction action = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void dp_interrupt_watch(dp_engine *engine)
{
    atomic_store_explicit(&watched, engine, memory_order_relaxed);
    if (!dp_interrupt_is_seen())
        arm();
}

void dp_interrupt_watch_swarm(dp_swarm *swarm)
{
    atomic_store_explicit(&watched_swarm, swarm, memory_order_relaxed);
    if (swarm && !dp_interrupt_is_seen())
        arm();
}

bool dp_interrupt_is_seen(void)
{
    return atomic_load_explicit(&is_seen, memory_order_relaxed);
}

void dp_interrupt_clear(void)
{
    atomic_store_explicit(&is_seen, false, memory_order_relaxed);
    arm();
}
