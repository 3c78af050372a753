/* swarm_testing.h - processes that give the demo model on 127.0.0.1, and runs of it. */
#ifndef DP_TESTS_SWARM_TESTING_H
#define DP_TESTS_SWARM_TESTING_H

#include <stdbool.h>
#include <sys/types.h>

#include "../oracle/play.h"

#define PIECE  16384u /* an expert of the demo model has three or four */
#define TOKENS 24
#define VOCAB  4096
#define WAIT_S 60 /* nothing takes so long */

typedef struct path {
    char text[512];
} path;

extern char folder[64]; /* of this test, made by setup */
extern char model[512]; /* the demo model */

const char *in_folder(path *out, const char *name);
int make_folder(void **state); /* and m.torrent of the model in it */
int drop_folder(void **state);

/* Another process of this program. It says a line when it is ready. */
typedef struct child {
    pid_t pid;
    int to, from;
    char line[256];
} child;

/* args: up to a NULL. */
void child_start(child *c, const char *const *args);
/* The next line, without its end; false: it has ended. */
bool child_line(child *c);
void child_kill(child *c); /* SIGKILL, and waits */

/* What a child of that role does; never returns. */
void node_main(int argc, char **argv);
void runner_main(int argc, char **argv);

/* A node whose cache holds the header and every `of`-th piece from `which` on; of 1: all. */
void start_node(child *c, int which, int of);
/* Its two addresses, from its line. */
void addresses(const child *c, char torrent[64], char http[64]);

/* The same tokens through an engine: logits [TOKENS][VOCAB], the caller frees. */
float *play_path(const char *at);
float *play_mount(dp_mount *mount, const char *ram);
void check_logits(const float *a, const float *b);

/* nginx with the model's folder at /m/, and at /none/ without ranges; *port. */
void start_nginx(child *c, int *port);

#endif
