/* serve.h - commands that go on until Ctrl-C, with a line on the terminal that says how it goes. */
#ifndef DP_APP_CLI_SERVE_H
#define DP_APP_CLI_SERVE_H

#define DP_SERVE_LINE_MAX 160

/* Returns after Ctrl-C, or after `seconds` (0: never). line fills what is shown, at most once a
 * second and on a terminal only; may be NULL. */
void dp_serve(void (*line)(void *user, char out[DP_SERVE_LINE_MAX]), void *user, unsigned seconds);

#endif
