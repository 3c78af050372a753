/* Any bytes as a request for a range: lines of target, Range, If-Range and Authorization. */
#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "fuzz.h"
#include "swarm/range_request.h"

static const dp_layout_file files[] = { { "a.gguf", { 70000, 65536 }, 0, NULL },
                                        { "sub/b", { 0, 65536 }, 2, NULL } };
static const dp_layout layout = { files, 2, 65536, 2 };

static void check_target(const char *target)
{
    dp_range_path path;
    dp_range_name name;

    if (dp_range_path_parse(&path, target))
        return;
    DP_CHECK(strlen(path.key) > 0 && strlen(path.path) > 0 && strlen(target) > 3);
    if (!dp_range_find(&name, &layout, path.path))
        return;
    if (name.is_padding)
        DP_CHECK(name.size < layout.piece_size && strstr(path.path, ".pad/"));
    else
        DP_CHECK(strstr(path.path, files[name.file].path));
}

/* What was understood, written in the plainest way, is understood the same. */
static void check_range(const char *header, uint64_t file_size)
{
    uint64_t first, size, again_first, again_size;
    char plain[64];

    if (dp_range_parse(header, file_size, &first, &size) != DP_RANGE_PART) {
        DP_CHECK(first == 0 && size == file_size);
        return;
    }
    DP_CHECK(size > 0 && first < file_size && size <= file_size - first);
    snprintf(plain, sizeof plain, "bytes=%llu-%llu", (unsigned long long)first,
             (unsigned long long)(first + size - 1));
    DP_CHECK(dp_range_parse(plain, file_size, &again_first, &again_size) == DP_RANGE_PART);
    DP_CHECK(again_first == first && again_size == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint64_t sizes[] = { 0, 1, 1000, UINT64_MAX };
    static char text[8192];
    char *lines[4], *at = text;

    size = DP_MIN(size, sizeof text - 1);
    memcpy(text, bytes, size);
    text[size] = '\0';
    for (size_t i = 0; i < DP_ARRAY_LEN(lines); i++) {
        lines[i] = at;
        at += strcspn(at, "\n");
        if (*at)
            *at++ = '\0';
    }
    check_target(lines[0]);
    for (size_t i = 0; i < DP_ARRAY_LEN(sizes); i++)
        check_range(lines[1], sizes[i]);
    DP_CHECK(!dp_range_if_stands(lines[2], NULL));
    if (dp_range_if_stands(lines[2], "\"tag\""))
        DP_CHECK(strstr(lines[2], "\"tag\""));
    if (dp_range_is_authorized(lines[3], "token"))
        DP_CHECK(strcmp(lines[3] + strlen(lines[3]) - 5, "token") == 0);
    return 0;
}
