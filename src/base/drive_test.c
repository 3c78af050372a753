#include "testing/check.h"

#include "base/drive.h"
#include "base/fake_root.h"

#define MOUNTS "/proc/self/mountinfo"
#define DEV    "/sys/dev/block/"
#define CLASS  "/sys/class/block/"

static const struct {
    const char *name;
    fake_file files[14];
    dp_drive_place place;
    const char *mount, *fs, *device, *layers;
    uint64_t read_ahead;
    bool is_network, is_memory, is_layer, is_encrypted, is_rotational;
    uint32_t device_count;
} rows[] = {
    { "nothing at all", { { 0 } }, { "/a", 1, 8, 1 }, "", "", "", "", 0, 0, 0, 0, 0, 0, 0 },
    { "a whole drive, by device",
      { { MOUNTS, "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
                  "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n" },
        { DEV "254:0/uevent", "MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n" },
        { DEV "254:0/queue/rotational", "1\n" },
        { DEV "254:0/queue/read_ahead_kb", "8192\n" } },
      { "/home/x", 0, 254, 0 },
      "/",
      "ext4",
      "vda",
      "vda",
      8 * DP_MIB,
      0,
      0,
      0,
      0,
      1,
      1 },
    { "encrypted, on a volume, on a partition; by mount id",
      { { MOUNTS, "30 1 253:1 / /data rw - xfs /dev/mapper/safe rw\n"
                  "31 1 253:1 / /data/bound\\040here rw - xfs /dev/mapper/safe rw\n" },
        { DEV "253:1/uevent", "DEVNAME=dm-1\n" },
        { DEV "253:1/dm/uuid", "CRYPT-LUKS2-0123-safe\n" },
        { DEV "253:1/queue/read_ahead_kb", "128\n" },
        { DEV "253:1/slaves/dm-0/x", "" },
        { CLASS "dm-0/uevent", "DEVNAME=dm-0\n" },
        { CLASS "dm-0/dm/uuid", "LVM-abc\n" },
        { CLASS "dm-0/slaves/nvme0n1/x", "" },
        { CLASS "nvme0n1/uevent", "DEVNAME=nvme0n1\n" },
        { CLASS "nvme0n1/queue/rotational", "0\n" },
        { CLASS "nvme0n1/device/model", "Fast Drive 990   \n" } },
      { "/data/bound here/m.gguf", 31, 253, 1 },
      "/data/bound here",
      "xfs",
      "nvme0n1",
      "dm-1 (crypt) > dm-0 (lvm) > nvme0n1",
      128 * DP_KIB,
      0,
      0,
      0,
      1,
      0,
      1 },
    { "a stripe of two",
      { { MOUNTS, "30 1 9:0 / /data rw - ext4 /dev/md0 rw\n" },
        { DEV "9:0/uevent", "DEVNAME=md0\n" },
        { DEV "9:0/slaves/sdb/x", "" },
        { DEV "9:0/slaves/sda/x", "" },
        { CLASS "sda/uevent", "DEVNAME=sda\n" },
        { CLASS "sda/queue/rotational", "1\n" } },
      { "/data", 0, 9, 0 },
      "/data",
      "ext4",
      "sda",
      "md0 > sda",
      0,
      0,
      0,
      0,
      0,
      1,
      2 },
    { "a partition",
      { { MOUNTS, "30 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n" },
        { DEV "259:2/uevent", "DEVNAME=nvme0n1p2\nDEVTYPE=partition\n" },
        { DEV "259:2/partition", "2\n" },
        { DEV "uevent", "DEVNAME=nvme0n1\n" },
        { DEV "queue/rotational", "0\n" },
        { DEV "queue/read_ahead_kb", "256\n" } },
      { "/x", 0, 259, 2 },
      "/",
      "ext4",
      "nvme0n1",
      "nvme0n1p2 > nvme0n1",
      256 * DP_KIB,
      0,
      0,
      0,
      0,
      0,
      1 },
    { "btrfs, whose number is no device's",
      { { MOUNTS, "40 1 0:45 /home /home rw - btrfs /dev/sdc1 rw\n" },
        { CLASS "sdc1/uevent", "DEVNAME=sdc1\n" } },
      { "/home/x", 40, 0, 46 },
      "/home",
      "btrfs",
      "sdc1",
      "sdc1",
      0,
      0,
      0,
      0,
      0,
      0,
      1 },
    { "a server's",
      { { MOUNTS, "41 1 0:50 / /models rw - nfs4 server:/models rw\n" } },
      { "/models/m", 41, 0, 50 },
      "/models",
      "nfs4",
      "",
      "",
      0,
      1,
      0,
      0,
      0,
      0,
      0 },
    { "memory, the later of two mounts",
      { { MOUNTS,
          "24 1 0:23 / /tmp rw - ext4 /dev/sda rw\n25 1 0:23 / /tmp rw - tmpfs tmpfs rw\n" } },
      { "/tmp/x", 0, 0, 23 },
      "/tmp",
      "tmpfs",
      "",
      "",
      0,
      0,
      1,
      0,
      0,
      0,
      0 },
    { "a container's",
      { { MOUNTS, "50 1 0:60 / / rw - overlay overlay rw,lowerdir=/a\n" } },
      { "/m", 50, 0, 60 },
      "/",
      "overlay",
      "",
      "",
      0,
      0,
      0,
      1,
      0,
      0,
      0 },
    { "a longer mount point fits better, a name that only begins alike does not",
      { { MOUNTS, "50 1 8:1 / / rw - ext4 /dev/sda rw\n51 1 8:1 /x /ab rw - ext4 /dev/sda rw\n"
                  "52 1 8:1 /y /a rw - ext4 /dev/sda rw\n" } },
      { "/ab/c", 0, 8, 1 },
      "/ab",
      "ext4",
      "",
      "",
      0,
      0,
      0,
      0,
      0,
      0,
      0 },
    { "layers in a circle, damaged lines",
      { { MOUNTS, "x\n1 2 3\n1 1 y:z / / rw - a b c\n1 1 7:7 / / rw nothing\n\n"
                  "60 1 7:7 / /\\9 rw - ext4 /dev/loop7\n" },
        { DEV "7:7/uevent", "DEVNAME=loop7\n" },
        { DEV "7:7/slaves/dm-9/x", "" },
        { CLASS "dm-9/uevent", "DEVNAME=dm-9\n" },
        { CLASS "dm-9/slaves/dm-9/x", "" } },
      { "/", 0, 7, 7 },
      "/\\9",
      "ext4",
      "",
      "loop7 > dm-9 > dm-9 > dm-9 > dm-9 > dm-9 > dm-9 > dm-9",
      0,
      0,
      0,
      0,
      0,
      0,
      1 },
};

static void test_rows(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char root[32];
        dp_drive_info d;

        fake_root_make(root, rows[i].files);
        dp_drive_find(&d, root, &rows[i].place);
        fake_root_remove(root);
        CHECK(strcmp(d.mount, rows[i].mount) == 0, "%s: mount %s", rows[i].name, d.mount);
        CHECK(strcmp(d.fs, rows[i].fs) == 0, "%s: fs %s", rows[i].name, d.fs);
        CHECK(strcmp(d.device, rows[i].device) == 0, "%s: device %s", rows[i].name, d.device);
        CHECK(strcmp(d.layers, rows[i].layers) == 0, "%s: layers %s", rows[i].name, d.layers);
        CHECK(d.read_ahead_bytes == rows[i].read_ahead, "%s: read-ahead %llu", rows[i].name,
              (unsigned long long)d.read_ahead_bytes);
        CHECK(d.is_network == rows[i].is_network && d.is_memory == rows[i].is_memory &&
                  d.is_layer == rows[i].is_layer && d.is_encrypted == rows[i].is_encrypted &&
                  d.is_rotational == rows[i].is_rotational,
              "%s: flags %d %d %d %d %d", rows[i].name, d.is_network, d.is_memory, d.is_layer,
              d.is_encrypted, d.is_rotational);
        CHECK(d.device_count == rows[i].device_count, "%s: %u drives", rows[i].name,
              d.device_count);
    }
}

static void a_model_on_another_machine(void **state)
{

    char root[32];
    dp_drive_info d;

    fake_root_make(root, rows[2].files);
    dp_drive_find(&d, root, &rows[2].place);
    fake_root_remove(root);
    CHECK(strcmp(d.model, "Fast Drive 990") == 0, "\"%s\"", d.model);
}

static void this_machine(void **state)
{
    static const char *const paths[] = { ".", "/proc", "drive_test.none" };
    dp_drive_info d;
    dp_error err;

    CHECK_OK(dp_drive_read(&d, paths[0], &err), err);
    CHECK(d.size_bytes > 0 && d.fs[0] && d.mount[0] == '/', "%s on %s", d.fs, d.mount);
    CHECK(!d.has_direct || (d.direct_offset_align && d.direct_memory_align), "alignment");
    CHECK_OK(dp_drive_read(&d, paths[1], &err), err);
    CHECK(strcmp(d.fs, "proc") == 0 && !d.has_direct, "%s", d.fs);
    CHECK(dp_drive_read(&d, paths[2], &err) == DP_E_NOTFOUND, "%s", err.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(a_model_on_another_machine),
        cmocka_unit_test(this_machine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
