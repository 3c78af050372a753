#include "tier/source_join.h"

#include "base/mem.h"
#include "base/status.h"
#include "base/list.h"

typedef struct joined {
    dp_source base;
    dp_source_ops ops; /* without `count` where the first can't tell */
    dp_source *first, *second;
    uint32_t split;
} joined;

static joined *joined_of(dp_source *s)
{
    return DP_LISTED(s, joined, base);
}

static dp_source *source_for(dp_source *s, uint32_t file_index)
{
    joined *j = joined_of(s);

    return file_index < j->split ? j->first : j->second;
}

static dp_source_fit joined_fit(dp_source *s, uint32_t file_index, uint64_t offset, uint64_t size)
{
    dp_source *to = source_for(s, file_index);

    return to->ops->fit(to, file_index, offset, size);
}

static void joined_submit(dp_source *s, dp_source_read *read)
{
    dp_source *to = source_for(s, read->file_index);

    to->ops->submit(to, read);
}

static void joined_promote(dp_source *s, dp_source_read *read)
{
    dp_source *to = source_for(s, read->file_index);

    to->ops->promote(to, read);
}

static bool joined_cancel(dp_source *s, dp_source_read *read)
{
    dp_source *to = source_for(s, read->file_index);

    return to->ops->cancel(to, read);
}

static void joined_close(dp_source *s)
{
    if (s)
        dp_free(joined_of(s));
}

static const dp_source_part *joined_parts(dp_source *s, uint32_t *count)
{
    dp_source *first = joined_of(s)->first;

    return first->ops->parts(first, count);
}

static void joined_count(dp_source *s, dp_source_counts *out)
{
    joined *j = joined_of(s);
    dp_source_counts more = { 0 };

    j->first->ops->count(j->first, out);
    if (j->second->ops->count)
        j->second->ops->count(j->second, &more);
    out->disk_bytes += more.disk_bytes;
    out->swarm_bytes += more.swarm_bytes;
}

static const dp_source_ops joined_ops = { joined_fit,    joined_submit, joined_promote,
                                          joined_cancel, joined_close,  joined_parts,
                                          joined_count };

dp_status dp_source_join_open(dp_source **out, dp_source *first, dp_source *second, uint32_t split,
                              dp_error *err)
{
    joined *j = dp_alloc(1, sizeof *j);

    *out = NULL;
    if (!j)
        return dp_fail(err, DP_E_NOMEM, "no memory for a reader of two sources");
    *j = (joined){ { &j->ops, first->name, first->own_bytes + second->own_bytes },
                   joined_ops,
                   first,
                   second,
                   split };
    if (!first->ops->count)
        j->ops.count = NULL;
    *out = &j->base;
    return DP_OK;
}
