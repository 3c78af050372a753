#include "base/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"

#define PATH_BYTES 1024 /* a deeper group is read from the first that fits */
#define TEXT_BYTES 8192 /* memory.stat has about 2 KiB, /proc/self/cgroup less */

/* Version 1 writes "no limit" as the largest number of whole pages. */
#define V1_NO_LIMIT ((uint64_t)1 << 60)

bool dp_cgroup_read_text(char *out, size_t size, const char *root, const char *path)
{
    char full[2 * PATH_BYTES];
    size_t used = 0;
    ssize_t got = 0;
    int fd;

    if (snprintf(full, sizeof full, "%s%s", root, path) >= (int)sizeof full)
        return false;
    fd = open(full, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (used < size - 1) {
        got = read(fd, out + used, size - 1 - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    close(fd);
    out[used] = 0;
    return got >= 0;
}

/* The number at the start of text, after blanks. */
static bool leading_u64(uint64_t *out, const char *text, const char **end)
{
    size_t digits;

    text += strspn(text, " \t");
    digits = strspn(text, "0123456789");
    if (end)
        *end = text + digits;
    return dp_parse_u64((dp_str){ text, digits }, out);
}

bool dp_cgroup_find_u64(uint64_t *out, const char *text, const char *key)
{
    size_t size = strlen(key);

    for (const char *line = text; line && *line;) {
        if (strncmp(line, key, size) == 0 && (line[size] == ' ' || line[size] == '\t'))
            return leading_u64(out, line + size, NULL);
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return false;
}

/* A file of one group: folder + "/" + name. */
static bool read_group_text(char *out, size_t size, const char *root, const char *folder,
                            const char *name)
{
    char path[PATH_BYTES + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return dp_cgroup_read_text(out, size, root, path);
}

static bool read_group_u64(uint64_t *out, const char *root, const char *folder, const char *name)
{
    char text[64];

    return read_group_text(text, sizeof text, root, folder, name) && leading_u64(out, text, NULL);
}

/* Reads one group's limit into user. */
typedef void (*group_visit)(void *user, const char *root, const char *folder, bool is_v2);

/* Visits mount + path and every folder above it up to mount. */
static void walk_up(const char *root, const char *mount, dp_str path, bool is_v2, group_visit visit,
                    void *user)
{
    char folder[PATH_BYTES];
    size_t mount_size = strlen(mount);
    char *slash;

    if (mount_size + path.size >= sizeof folder)
        path.size = 0; /* at least the root says what holds for all */
    snprintf(folder, sizeof folder, "%s%.*s", mount, (int)path.size, path.bytes);
    for (;;) {
        visit(user, root, folder, is_v2);
        slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < mount_size)
            break;
        *slash = 0;
    }
}

/* "cpu,cpuacct" names controller "cpu". */
static bool list_has(dp_str list, const char *name)
{
    size_t size = strlen(name);

    for (size_t at = 0; at <= list.size;) {
        const char *comma = memchr(list.bytes + at, ',', list.size - at);
        size_t end = comma ? (size_t)(comma - list.bytes) : list.size;

        if (end - at == size && memcmp(list.bytes + at, name, size) == 0)
            return true;
        at = end + 1;
    }
    return false;
}

/* Visits every group on the way up, in each tree that knows the controller. A
 * line of /proc/self/cgroup is "id:controllers:path"; version 2's is "0::path". */
static void walk_groups(const char *root, const char *controller, group_visit visit, void *user)
{
    char text[TEXT_BYTES];
    char mount[64];
    char *rest = text;
    char *line;

    if (!dp_cgroup_read_text(text, sizeof text, root, "/proc/self/cgroup"))
        return;
    snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controller);
    while ((line = strsep(&rest, "\n"))) {
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        dp_str controllers;
        dp_str below;

        if (!path)
            continue;
        controllers = (dp_str){ list + 1, (size_t)(path - list - 1) };
        below = dp_str_from(path + 1);
        if (dp_str_is(below, "/"))
            below.size = 0;
        if (controllers.size == 0) {
            walk_up(root, "/sys/fs/cgroup", below, true, visit, user);
            walk_up(root, "/sys/fs/cgroup/unified", below, true, visit, user);
        } else if (list_has(controllers, controller)) {
            walk_up(root, mount, below, false, visit, user);
        }
    }
}

static const struct memory_files {
    const char *limit, *used, *inactive_file, *active_file, *pressure;
} memory_files[2] = {
    { "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file",
      NULL },
    { "memory.max", "memory.current", "inactive_file", "active_file", "memory.pressure" },
};

uint64_t dp_cgroup_stall_us(const char *text)
{
    const char *line = strstr(text, "some ");
    const char *total = line ? strstr(line, "total=") : NULL;
    uint64_t us;

    return total && leading_u64(&us, total + strlen("total="), NULL) ? us : 0;
}

static void visit_memory(void *user, const char *root, const char *folder, bool is_v2)
{
    const struct memory_files *files = &memory_files[is_v2];
    dp_cgroup_memory *least = user;
    char stat[TEXT_BYTES];
    uint64_t limit;
    uint64_t used = 0;
    uint64_t cache;

    if (files->pressure && read_group_text(stat, sizeof stat, root, folder, files->pressure))
        least->stall_us = DP_MAX(least->stall_us, dp_cgroup_stall_us(stat));
    /* Version 2 says "max", which is no number, for none. */
    if (!read_group_u64(&limit, root, folder, files->limit) || (!is_v2 && limit >= V1_NO_LIMIT))
        return;
    read_group_u64(&used, root, folder, files->used);
    if (read_group_text(stat, sizeof stat, root, folder, "memory.stat")) {
        if (dp_cgroup_find_u64(&cache, stat, files->inactive_file))
            used -= DP_MIN(used, cache);
        if (dp_cgroup_find_u64(&cache, stat, files->active_file))
            used -= DP_MIN(used, cache);
    }
    used = DP_MIN(used, limit);
    if (limit - used < least->limit_bytes - least->used_bytes) {
        least->limit_bytes = limit;
        least->used_bytes = used;
    }
}

void dp_cgroup_read_memory(dp_cgroup_memory *out, const char *root)
{
    *out = (dp_cgroup_memory){ .limit_bytes = UINT64_MAX };
    walk_groups(root, "memory", visit_memory, out);
}

static void visit_cpu(void *user, const char *root, const char *folder, bool is_v2)
{
    uint32_t *least = user;
    char text[64];
    const char *rest;
    uint64_t quota;
    uint64_t period;

    /* "max 100000" and -1 are no numbers: no quota. */
    if (is_v2) {
        if (!read_group_text(text, sizeof text, root, folder, "cpu.max") ||
            !leading_u64(&quota, text, &rest) || !leading_u64(&period, rest, NULL))
            return;
    } else if (!read_group_u64(&quota, root, folder, "cpu.cfs_quota_us") ||
               !read_group_u64(&period, root, folder, "cpu.cfs_period_us")) {
        return;
    }
    if (period == 0)
        return;
    quota = quota / period + (quota % period != 0);
    *least = (uint32_t)DP_MIN(*least, DP_MAX(quota, 1));
}

uint32_t dp_cgroup_read_cpu_quota(const char *root)
{
    uint32_t least = UINT32_MAX;

    walk_groups(root, "cpu", visit_cpu, &least);
    return least;
}
