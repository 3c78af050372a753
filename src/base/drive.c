#include "base/drive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cgroup.h"
#include "base/status.h"
#include "base/str.h"

#define MOUNTS_BYTES ((size_t)1 << 20) /* containers' hosts have thousands of mounts */
#define LAYERS_MAX   8
#define TRIAL_BYTES  4096
#define FOLDER_BYTES 640 /* of a device below /sys: its name and a few steps up */
#define FILE_BYTES   (FOLDER_BYTES + 64)

/* ---- mountinfo: "36 35 98:0 /root /mount options - type source super" ---- */

typedef struct mount_line {
    uint64_t id;
    uint32_t major, minor;
    char *mount, *fs, *source;
} mount_line;

/* Blanks, tabs, newlines and backslashes are written as \ooo. */
static void unescape(char *text)
{
    char *to = text;

    for (char *at = text; *at; at++) {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' &&
            at[3] >= '0' && at[3] <= '7') {
            *to++ = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
            at += 3;
        } else {
            *to++ = *at;
        }
    }
    *to = 0;
}

static bool parse_mount(mount_line *out, char *line)
{
    char *words[5];
    char *rest = line;

    for (int i = 0; i < 5; i++) {
        words[i] = strsep(&rest, " ");
        if (!rest)
            return false;
    }
    rest = strstr(rest, " - ");
    if (!rest || sscanf(words[2], "%u:%u", &out->major, &out->minor) != 2)
        return false;
    rest += strlen(" - ");
    out->id = strtoull(words[0], NULL, 10);
    out->mount = words[4];
    out->fs = strsep(&rest, " ");
    out->source = strsep(&rest, " ");
    if (!out->source)
        return false;
    unescape(out->mount);
    unescape(out->source);
    return true;
}

/* "/a" begins "/a" and "/a/b", not "/ab". */
static bool begins(const char *mount, const char *path)
{
    size_t size = strlen(mount);

    if (strcmp(mount, "/") == 0)
        return path[0] == '/';
    return strncmp(path, mount, size) == 0 && (path[size] == 0 || path[size] == '/');
}

/* How well a mount fits, 0: not at all. A later line lies over an earlier one. */
static size_t fitness(const mount_line *m, const dp_drive_place *place)
{
    if (place->mount_id && m->id == place->mount_id)
        return SIZE_MAX;
    if (m->major != place->major || m->minor != place->minor)
        return 0;
    return begins(m->mount, place->path) ? 2 + strlen(m->mount) : 1;
}

static void copy_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

static void read_mount(dp_drive_info *out, const char *root, const dp_drive_place *place)
{
    size_t best = 0;
    char *rest, *line;
    dp_buf text;

    dp_buf_init(&text, MOUNTS_BYTES + 1);
    if (!dp_buf_reserve(&text, MOUNTS_BYTES) &&
        dp_cgroup_read_text(text.bytes, MOUNTS_BYTES, root, "/proc/self/mountinfo")) {
        rest = text.bytes;
        while ((line = strsep(&rest, "\n"))) {
            mount_line m;
            size_t fits;

            if (!parse_mount(&m, line))
                continue;
            fits = fitness(&m, place);
            if (fits == 0 || fits < best)
                continue;
            best = fits;
            copy_text(out->mount, sizeof out->mount, m.mount);
            copy_text(out->fs, sizeof out->fs, m.fs);
            copy_text(out->source, sizeof out->source, m.source);
        }
    }
    dp_buf_deinit(&text);
}

/* ---- file systems ---- */

static bool is_one_of(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (strcmp(name, *names) == 0)
            return true;
    return false;
}

static void judge_fs(dp_drive_info *out)
{
    static const char *const networks[] = {
        "nfs",       "nfs4", "cifs",       "smb3",           "smbfs",
        "9p",        "ceph", "lustre",     "beegfs",         "glusterfs",
        "afs",       "gfs2", "fuse.sshfs", "fuse.rclone",    "ocfs2",
        "fuse.s3fs", "gpfs", "virtiofs",   "fuse.glusterfs", NULL
    };
    static const char *const memories[] = { "tmpfs", "ramfs", "hugetlbfs", NULL };
    static const char *const layers[] = { "overlay",    "aufs",           "unionfs", "ecryptfs",
                                          "fuse.encfs", "fuse.gocryptfs", NULL };

    out->is_network = is_one_of(out->fs, networks);
    out->is_memory = is_one_of(out->fs, memories);
    out->is_layer = is_one_of(out->fs, layers);
    out->is_encrypted = strcmp(out->fs, "ecryptfs") == 0 || strcmp(out->fs, "fuse.encfs") == 0 ||
                        strcmp(out->fs, "fuse.gocryptfs") == 0;
}

/* ---- /sys/class/block ---- */

static bool read_block(char *out, size_t size, const char *root, const char *device,
                       const char *name)
{
    char path[FILE_BYTES];

    snprintf(path, sizeof path, "%s/%s", device, name);
    out[0] = 0;
    if (!dp_cgroup_read_text(out, size, root, path))
        return false;
    out[strcspn(out, "\n")] = 0;
    return true;
}

static uint64_t block_u64(const char *root, const char *device, const char *name)
{
    char text[64];
    uint64_t value;

    return read_block(text, sizeof text, root, device, name) &&
                   dp_parse_u64(dp_str_from(text), &value)
               ? value
               : 0;
}

/* The last part of a path. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The name of a device folder such as /sys/dev/block/259:2, from its uevent. */
static bool block_name(char out[DP_NAME_MAX], const char *root, const char *device)
{
    char path[FILE_BYTES], text[2048];
    const char *name;

    snprintf(path, sizeof path, "%s/uevent", device);
    if (!dp_cgroup_read_text(text, sizeof text, root, path))
        return false;
    name = strstr(text, "DEVNAME=");
    if (!name)
        return false;
    name += strlen("DEVNAME=");
    snprintf(out, DP_NAME_MAX, "%.*s", (int)DP_MIN(strcspn(name, "\n"), (size_t)63), name);
    return out[0] != 0;
}

/* The first device below a layer, and how many there are. */
static uint32_t first_slave(char out[DP_NAME_MAX], const char *root, const char *device)
{
    char path[PATH_MAX];
    struct dirent *entry;
    uint32_t count = 0;
    DIR *folder;

    out[0] = 0;
    snprintf(path, sizeof path, "%s%s/slaves", root, device);
    folder = opendir(path);
    if (!folder)
        return 0;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        /* In the order of names, so that the answer is the same every time. */
        if (count == 0 || strcmp(entry->d_name, out) < 0)
            snprintf(out, DP_NAME_MAX, "%.63s", entry->d_name);
        count++;
    }
    closedir(folder);
    return count;
}

static void add_layer(dp_drive_info *out, const char *name, const char *what)
{
    size_t used = strlen(out->layers);

    snprintf(out->layers + used, sizeof out->layers - used, "%s%s%s%s%s", used ? " > " : "", name,
             what[0] ? " (" : "", what, what[0] ? ")" : "");
}

/* What a device mapper's table makes: "crypt", "lvm", ...: the first word of its uuid. */
static void mapper_kind(char *out, size_t size, const char *root, const char *device)
{
    char uuid[256];

    out[0] = 0;
    if (!read_block(uuid, sizeof uuid, root, device, "dm/uuid") || !uuid[0])
        return;
    uuid[strcspn(uuid, "-")] = 0;
    for (char *at = uuid; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at - 'A' + 'a');
    snprintf(out, size, "%.15s", uuid);
}

/* From a device folder down to the drive. */
static void walk_down(dp_drive_info *out, const char *root, const char *first)
{
    char device[FOLDER_BYTES], name[DP_NAME_MAX], below[DP_NAME_MAX], kind[16];

    snprintf(device, sizeof device, "%s", first);
    for (int i = 0; i < LAYERS_MAX && block_name(name, root, device); i++) {
        uint32_t slaves = first_slave(below, root, device);

        mapper_kind(kind, sizeof kind, root, device);
        out->is_encrypted = out->is_encrypted || strcmp(kind, "crypt") == 0;
        add_layer(out, name, kind);
        if (slaves) {
            out->device_count = slaves;
            snprintf(device, sizeof device, "/sys/class/block/%s", below);
            continue;
        }
        out->device_count = DP_MAX(out->device_count, 1u);
        if (block_u64(root, device, "partition")) {
            size_t length = strlen(device);

            snprintf(device + length, sizeof device - length, "/..");
            continue;
        }
        copy_text(out->device, sizeof out->device, base_name(name));
        out->is_rotational = block_u64(root, device, "queue/rotational") != 0;
        read_block(out->model, sizeof out->model, root, device, "device/model");
        out->model[strcspn(out->model, "\n")] = 0;
        for (size_t n = strlen(out->model); n > 0 && out->model[n - 1] == ' '; n--)
            out->model[n - 1] = 0;
        return;
    }
}

/* Read-ahead is the setting of what is mounted, not of what lies below. */
static void read_ahead_of(dp_drive_info *out, const char *root, const char *device)
{
    uint64_t kib = block_u64(root, device, "queue/read_ahead_kb");

    if (!kib) /* a partition has its drive's */
        kib = block_u64(root, device, "../queue/read_ahead_kb");
    out->read_ahead_bytes = kib < UINT64_MAX / DP_KIB ? kib * DP_KIB : 0;
}

void dp_drive_find(dp_drive_info *out, const char *root, const dp_drive_place *place)
{
    uint32_t major = place->major, minor = place->minor;
    char device[FOLDER_BYTES - 64];
    struct stat info;

    memset(out, 0, sizeof *out);
    copy_text(out->path, sizeof out->path, place->path);
    read_mount(out, root, place);
    judge_fs(out);
    /* Number 0 is no device's: what was mounted names it. */
    if (major == 0 && strncmp(out->source, "/dev/", 5) == 0) {
        if (root[0] == 0 && stat(out->source, &info) == 0 && S_ISBLK(info.st_mode)) {
            major = major(info.st_rdev);
            minor = minor(info.st_rdev);
        }
    }
    if (major)
        snprintf(device, sizeof device, "/sys/dev/block/%u:%u", major, minor);
    else if (strncmp(out->source, "/dev/", 5) == 0)
        snprintf(device, sizeof device, "/sys/class/block/%s", base_name(out->source));
    else
        return;
    walk_down(out, root, device);
    read_ahead_of(out, root, device);
}

/* ---- direct reads ---- */

/* Tries one read past the page cache, where the system does not tell. */
static void try_direct(dp_drive_info *out, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    void *room = NULL;

    if (fd < 0)
        return;
    if (posix_memalign(&room, TRIAL_BYTES, TRIAL_BYTES) == 0 &&
        pread(fd, room, TRIAL_BYTES, 0) >= 0) {
        out->has_direct = true;
        out->direct_offset_align = out->direct_memory_align = TRIAL_BYTES;
    }
    free(room);
    close(fd);
}

static bool ask_direct(dp_drive_info *out, const char *path)
{
#ifdef STATX_DIOALIGN
    struct statx info;

    if (statx(AT_FDCWD, path, 0, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN)) {
        out->has_direct = info.stx_dio_offset_align != 0;
        out->direct_offset_align = info.stx_dio_offset_align;
        out->direct_memory_align = info.stx_dio_mem_align;
        return true;
    }
#endif
    return false;
}

/* A file that is there, or one made without a name in a folder. */
static void read_direct(dp_drive_info *out, const char *path, bool is_folder)
{
    char file[PATH_MAX];
    int fd;

    if (!is_folder) {
        if (!ask_direct(out, path))
            try_direct(out, path);
        return;
    }
    fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
    if (!ask_direct(out, file))
        try_direct(out, file);
    close(fd);
}

dp_status dp_drive_read(dp_drive_info *out, const char *path, dp_error *err)
{
    char real[PATH_MAX];
    dp_drive_place place = { .path = real };
    struct statvfs room;
    struct statx info;

    memset(out, 0, sizeof *out);
    if (!realpath(path, real) || statx(AT_FDCWD, real, 0, STATX_BASIC_STATS | STATX_MNT_ID, &info))
        return dp_fail_errno(err, DP_E_IO, errno, "%s: cannot look at it", path);
    place.major = info.stx_dev_major;
    place.minor = info.stx_dev_minor;
    if (info.stx_mask & STATX_MNT_ID)
        place.mount_id = info.stx_mnt_id;
    dp_drive_find(out, "", &place);
    copy_text(out->path, sizeof out->path, path);
    if (statvfs(real, &room) == 0) {
        out->size_bytes = (uint64_t)room.f_blocks * room.f_frsize;
        out->free_bytes = (uint64_t)room.f_bavail * room.f_frsize;
    }
    read_direct(out, real, S_ISDIR(info.stx_mode));
    return DP_OK;
}
