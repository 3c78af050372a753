/* page_server - a file given by the range server, as a node gives a model it has whole.
 *
 * usage: page_server FILE ADDRESS:PORT PIECE_SIZE
 * Prints its port and serves until standard input ends. */
#include <stdio.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "page_bench.h"
#include "store/store.h"
#include "swarm/range_server.h"

typedef struct server {
    dp_store *store;
    dp_store_file *file;
    dp_range_server *http;
    dp_layout_file part;
    dp_layout layout;
} server;

static dp_status open_server(server *s, const char *path, const char *listen, uint32_t piece_size,
                             dp_error *err)
{
    dp_store_config store = { .clock = &dp_clock_real };
    dp_store_file_config file = { .key = PAGE_KEY, .name = PAGE_NAME, .whole_path = path };
    dp_range_server_config http = { .listen = listen, .clock = &dp_clock_real };
    dp_status st = page_shape(&s->part, &s->layout, path, piece_size, err);

    if (st)
        return st;
    file.pieces = s->part.pieces;
    st = dp_store_open(&s->store, &store, err);
    if (st)
        return st;
    st = dp_store_file_open(&s->file, s->store, &file, err);
    if (st)
        return st;
    st = dp_range_server_open(&s->http, &http, err);
    if (st)
        return st;
    return dp_range_server_add(s->http, PAGE_KEY, &s->layout, &s->file, err);
}

int main(int argc, char **argv)
{
    server s = { 0 };
    dp_error err = { 0 };
    uint64_t piece_size;
    char byte;

    if (argc != 4 || !dp_parse_u64(dp_str_from(argv[3]), &piece_size) || piece_size > UINT32_MAX) {
        fputs("usage: page_server FILE ADDRESS:PORT PIECE_SIZE\n", stderr);
        return 2;
    }
    if (open_server(&s, argv[1], argv[2], (uint32_t)piece_size, &err)) {
        fprintf(stderr, "page_server: %s\n", err.text);
    } else {
        printf("%u\n", dp_range_server_port(s.http));
        fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0)
            ;
    }
    dp_range_server_close(s.http);
    dp_store_file_close(s.file);
    dp_store_close(s.store);
    return err.text[0] ? 1 : 0;
}
