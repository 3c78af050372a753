/* range_request.h - what a request for a range of a file asks for.
 *
 * Room     Pure reading of a request's target, its Range, If-Range and Authorization. Paths
 *          are found by look-up among the files of a layout and never reach this machine's
 *          file system, so "..", "//" and the like are names that nothing has.
 *
 * Ranges   One range of bytes is answered with 206: "0-99", "100-", "-100". A server may ignore
 *          or reject several ranges and ill-formed ones (RFC 9110, 14.2); whoever wants parts
 *          of a 40 GB file is not served by all of it, so both are DP_RANGE_BAD, a 416. Units
 *          other than bytes are ignored, as they have to be: the whole file.
 *
 * Threads  Any.
 *
 * Source   RFC 9110, 13.1.5, 14; RFC 6750, 2.1; BEP 19; BEP 47 for padding files.
 */
#ifndef DP_SWARM_RANGE_REQUEST_H
#define DP_SWARM_RANGE_REQUEST_H

#include "store/store.h"
#include "swarm/layout.h"

#define DP_RANGE_PATH_MAX 4096 /* of a file in its torrent, decoded */

/* "/KEY/PATH?ignored", percent-decoded; '+' stands for itself. */
typedef struct dp_range_path {
    char key[DP_STORE_KEY_MAX + 1];
    char path[DP_RANGE_PATH_MAX + 1];
} dp_range_path;

/* DP_E_INVALID: a '%' without two hex digits, or %00. DP_E_NOTFOUND: well formed, but nothing is
 * called that: no key, no path, or too long. */
dp_status dp_range_path_parse(dp_range_path *out, const char *target);

/* What a path names: a file of the layout, or padding. Clients put the name of a torrent of
 * several files in front (BEP 19), which layouts leave out: any one folder there is passed over.
 * A hybrid torrent fills the last piece of a file with a padding file of zeros, ".pad/SIZE",
 * that layouts leave out, too, but that clients without v2 ask for. It is shorter than a piece. */
typedef struct dp_range_name {
    bool is_padding;
    uint32_t file;
    uint64_t size; /* bytes of either */
} dp_range_name;

bool dp_range_find(dp_range_name *out, const dp_layout *layout, const char *path);

typedef enum dp_range_kind { DP_RANGE_WHOLE, DP_RANGE_PART, DP_RANGE_BAD } dp_range_kind;

/* header: the value of Range, NULL: none. For DP_RANGE_PART, [*first, *first + *size) lies in
 * the file and is not empty; for DP_RANGE_WHOLE it is all of it. */
dp_range_kind dp_range_parse(const char *header, uint64_t file_size, uint64_t *first,
                             uint64_t *size);

/* Whether If-Range (NULL: none) lets the range stand: it names exactly this strong tag
 * ("\"...\"", NULL: the file has none). Dates never do, because no Last-Modified is given. */
bool dp_range_if_stands(const char *header, const char *tag);

/* Whether Authorization (NULL: none) is "Bearer TOKEN". The time it takes tells of the given
 * token's size alone. */
bool dp_range_is_authorized(const char *header, const char *token);

#endif
