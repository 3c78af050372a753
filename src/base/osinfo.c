#include "base/osinfo.h"

#include <stdio.h>
#include <string.h>

#include "base/cgroup.h"

#define TEXT_BYTES 8192 /* /proc/meminfo has about 1.5 KiB */

/* The first word of a file; false when there is none or it does not fit. */
static bool read_word(char *out, size_t size, const char *root, const char *path)
{
    char text[256];
    size_t begin, length;

    if (!dp_cgroup_read_text(text, sizeof text, root, path))
        return false;
    begin = strspn(text, " \t\n");
    length = strcspn(text + begin, " \t\n");
    if (length == 0 || length >= size)
        return false;
    memcpy(out, text + begin, length);
    out[length] = 0;
    return true;
}

static uint64_t kib_of(const char *text, const char *key)
{
    uint64_t kib;

    if (!dp_cgroup_find_u64(&kib, text, key) || kib > UINT64_MAX / DP_KIB)
        return 0;
    return kib * DP_KIB;
}

/* "always [madvise] never": the one in brackets holds. */
static void read_huge_pages(dp_osinfo *out, const char *root)
{
    char text[128];
    const char *begin, *end;

    if (!dp_cgroup_read_text(text, sizeof text, root,
                             "/sys/kernel/mm/transparent_hugepage/enabled"))
        return;
    begin = strchr(text, '[');
    end = begin ? strchr(begin, ']') : NULL;
    if (end && (size_t)(end - begin - 1) < sizeof out->huge_pages)
        snprintf(out->huge_pages, sizeof out->huge_pages, "%.*s", (int)(end - begin - 1),
                 begin + 1);
}

void dp_osinfo_read(dp_osinfo *out, const char *root)
{
    static const char *const overcommits[] = { "heuristic", "always", "never" };
    char text[TEXT_BYTES];

    memset(out, 0, sizeof *out);
    if (!read_word(out->machine_id, sizeof out->machine_id, root, "/etc/machine-id"))
        read_word(out->machine_id, sizeof out->machine_id, root, "/var/lib/dbus/machine-id");
    read_word(out->kernel, sizeof out->kernel, root, "/proc/sys/kernel/osrelease");
    if (dp_cgroup_read_text(text, sizeof text, root, "/proc/meminfo")) {
        out->swap_bytes = kib_of(text, "SwapTotal:");
        out->swap_free_bytes = kib_of(text, "SwapFree:");
    }
    if (read_word(text, 2, root, "/proc/sys/vm/overcommit_memory") && text[0] >= '0' &&
        text[0] <= '2')
        strcpy(out->overcommit, overcommits[text[0] - '0']);
    read_huge_pages(out, root);
    out->has_pressure = dp_cgroup_read_text(text, sizeof text, root, "/proc/pressure/memory");
}
