#include "engine/origin.h"

#include "tier/source_wait.h"

typedef struct parts {
    dp_source *source;
    const dp_source_part *parts;
} parts;

static const char *part_name(void *user, uint32_t part)
{
    return ((const parts *)user)->parts[part].name;
}

static uint64_t part_size(void *user, uint32_t part)
{
    return ((const parts *)user)->parts[part].size;
}

static dp_status part_read(void *user, uint32_t part, uint64_t offset, void *out, size_t size,
                           dp_error *err)
{
    return dp_source_wait_read(((parts *)user)->source, part, offset, out, size, NULL, err);
}

dp_status dp_origin_describe(dp_gguf **out, const dp_origin *origin, dp_error *err)
{
    parts parts = { .source = origin->source };
    dp_gguf_input input = {
        .user = &parts, .name = part_name, .size = part_size, .read = part_read
    };

    if (origin->path)
        return dp_gguf_open(out, origin->path, err);
    parts.parts = parts.source->ops->parts(parts.source, &input.part_count);
    return dp_gguf_open_input(out, &input, err);
}
