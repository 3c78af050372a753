#include "app/cli/serve.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "app/cli/interrupt.h"
#include "base/clock.h"

#define TURN_NS   200000000 /* SIGINT ends the sleep: this bounds one that came just before it */
#define REDRAW_NS 1000000000u

void dp_serve(void (*line)(void *user, char out[DP_SERVE_LINE_MAX]), void *user, unsigned seconds)
{
    uint64_t begin_ns = dp_clock_now_ns(&dp_clock_real), drawn_ns = 0, now_ns;
    bool is_shown = line && isatty(STDERR_FILENO);
    char text[DP_SERVE_LINE_MAX];

    while (!dp_interrupt_is_seen()) {
        now_ns = dp_clock_now_ns(&dp_clock_real);
        if (seconds && now_ns - begin_ns >= seconds * (uint64_t)1000000000)
            break;
        if (is_shown && (!drawn_ns || now_ns - drawn_ns >= REDRAW_NS)) {
            line(user, text);
            fprintf(stderr, "\r%s\033[K", text);
            drawn_ns = now_ns;
        }
        nanosleep(&(struct timespec){ .tv_nsec = TURN_NS }, NULL);
    }
    if (drawn_ns)
        fputs("\r\033[K", stderr);
}
