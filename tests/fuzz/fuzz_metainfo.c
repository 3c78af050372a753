/* Any bytes as a .torrent; what is accepted must hang together, and made again from its own
 * parts it is the same model. The same bytes as a magnet link. */
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "fuzz.h"
#include "swarm/metainfo.h"

static void check_layout(const dp_layout *layout)
{
    uint32_t next = 0;

    DP_CHECK(layout->file_count > 0 && layout->file_count <= DP_LAYOUT_FILES_MAX);
    DP_CHECK(layout->piece_count <= DP_LAYOUT_PIECES_MAX);
    for (uint32_t f = 0; f < layout->file_count; f++) {
        const dp_layout_file *file = &layout->files[f];
        uint32_t count = dp_pieces_count(file->pieces);
        dp_hash root;

        DP_CHECK(file->first_piece == next && file->path[0] && file->hashes);
        if (count)
            DP_CHECK(dp_file_root(&root, file->pieces, file->hashes, NULL) == DP_OK);
        next += count;
    }
    DP_CHECK(next == layout->piece_count);
}

/* Files that are empty or not in order cannot be made, all others give the same hashes. */
static void make_again(const dp_metainfo *m)
{
    const dp_layout *layout = dp_metainfo_layout(m), *made_layout;
    const char *names[DP_LAYOUT_FILES_MAX];
    dp_metainfo_config config = { .name = dp_metainfo_name(m), .names = names, .layout = layout };
    dp_metainfo *made;

    for (uint32_t f = 0; f < layout->file_count; f++)
        names[f] = layout->files[f].path;
    if (dp_metainfo_make(&made, &config, NULL) != DP_OK)
        return;
    made_layout = dp_metainfo_layout(made);
    DP_CHECK(made_layout->piece_count == layout->piece_count);
    for (uint32_t f = 0; f < layout->file_count; f++)
        DP_CHECK(!memcmp(made_layout->files[f].hashes, layout->files[f].hashes,
                         dp_pieces_count(layout->files[f].pieces) * sizeof(dp_hash)));
    dp_metainfo_close(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *uri = dp_strndup((const char *)bytes, size);
    dp_metainfo *m;
    dp_magnet magnet;

    DP_CHECK(uri);
    if (dp_metainfo_parse(&m, "fuzz", bytes, size, NULL) == DP_OK) {
        const char *const *urls;

        check_layout(dp_metainfo_layout(m));
        DP_CHECK(dp_metainfo_trackers(m, &urls) <= DP_METAINFO_URLS_MAX);
        DP_CHECK(dp_metainfo_web_seeds(m, &urls) <= DP_METAINFO_URLS_MAX);
        make_again(m);
    }
    dp_metainfo_close(m);
    if (dp_magnet_parse(&magnet, uri, NULL) == DP_OK)
        DP_CHECK(magnet.has_v1 || magnet.has_v2);
    dp_free(uri);
    return 0;
}
