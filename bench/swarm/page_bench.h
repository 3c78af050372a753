/* page_bench.h - the file that page_server gives and page_client reads. */
#ifndef DP_BENCH_PAGE_BENCH_H
#define DP_BENCH_PAGE_BENCH_H

#include "base/file.h"
#include "swarm/layout.h"

#define PAGE_KEY  "0123456789abcdef"
#define PAGE_NAME "model.gguf"

/* The file at `path` as a model of one file without hashes. */
static inline dp_status page_shape(dp_layout_file *part, dp_layout *layout, const char *path,
                                   uint32_t piece_size, dp_error *err)
{
    dp_file file;
    dp_status st = dp_file_open(&file, path, false, err);

    if (st)
        return st;
    *part = (dp_layout_file){ .path = PAGE_NAME,
                              .pieces = { .file_size = file.size, .piece_size = piece_size } };
    *layout = (dp_layout){ .files = part,
                           .file_count = 1,
                           .piece_size = piece_size,
                           .piece_count = dp_pieces_count(part->pieces) };
    dp_file_close(&file);
    return DP_OK;
}

#endif
