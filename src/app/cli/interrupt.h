/* interrupt.h - Ctrl-C: the first asks to stop, the second stops.
 *
 * States   CLEAR --SIGINT--> SEEN (the engine's step is canceled and what waits in a swarm ends, the system's own
 *          handling is back, so another SIGINT ends the program)
 *          SEEN --dp_interrupt_clear--> CLEAR
 *
 * Threads  The main thread: workers of the engine have all signals blocked.
 */
#ifndef DP_APP_CLI_INTERRUPT_H
#define DP_APP_CLI_INTERRUPT_H

#include <stdbool.h>
#include "doppler/engine.h"
#include "doppler/swarm.h"

/* Begins watching (or goes on, with another engine). engine: what to cancel,
 * borrowed until the next call; NULL: only remember. */
void dp_interrupt_watch(dp_engine *engine);
/* The same for a node: only while a person waits for it, as canceling it is for good. */
void dp_interrupt_watch_swarm(dp_swarm *swarm);
bool dp_interrupt_is_seen(void);
void dp_interrupt_clear(void);

#endif
