#include "testing/check.h"

#include "base/fault.h"
#include "base/mem.h"
#include "engine/drives.h"

#define KEY                                                                                        \
    "\"machine\": \"m\", \"kernel\": \"k\", \"device\": \"d\", \"fs\": \"ext4\", \"version\": 2"
#define BEST(depth)                                                                                \
    "\"best\": {\"engine\": \"threads\", \"is_direct\": true, \"request_bytes\": 1048576, "        \
    "\"depth\": " depth ", \"bytes_s\": 1.5e9}, \"sustained_bytes_s\": 1e9"
#define DOC(drives) "{\"version\": 1, \"drives\": [" drives "]}"

static const dp_drive_probe key = { "m", "k", "d", "ext4", 2 };

static const struct {
    const char *name, *text;
    dp_status want;
    uint32_t depth;
} rows[] = {
    { "one", DOC("{" KEY ", " BEST("8") "}"), DP_OK, 8 },
    { "the last of two", DOC("{" KEY ", " BEST("8") "}, {" KEY ", " BEST("4") "}"), DP_OK, 4 },
    { "members that are not known",
      "{\"more\": [{}], \"drives\": [{\"x\": {\"y\": []}, " BEST(
          "2") ", " KEY ", \"rows\": [1]}], \"version\": 1}",
      DP_OK, 2 },
    { "latencies",
      DOC("{" KEY ", " BEST("8") ", \"latencies\": [{\"size_bytes\": 4096, \"p50_ns\": 5}]}"),
      DP_OK, 8 },
    { "another kernel",
      DOC("{\"machine\": \"m\", \"kernel\": \"j\", \"device\": \"d\", \"fs\": \"ext4\", "
          "\"version\": 2, " BEST("8") "}"),
      DP_E_NOTFOUND, 0 },
    { "another way of probing",
      DOC("{\"machine\": \"m\", \"kernel\": \"k\", \"device\": \"d\", \"fs\": \"ext4\", "
          "\"version\": 3, " BEST("8") "}"),
      DP_E_NOTFOUND, 0 },
    { "none", DOC(""), DP_E_NOTFOUND, 0 },
    { "nothing", "", DP_E_CORRUPT, 0 },
    { "a list", "[]", DP_E_CORRUPT, 0 },
    { "more behind", DOC("") "x", DP_E_CORRUPT, 0 },
    { "another version", "{\"version\": 2, \"drives\": []}", DP_E_UNSUPPORTED, 0 },
    { "no version", "{\"drives\": []}", DP_E_UNSUPPORTED, 0 },
    { "no best", DOC("{" KEY "}"), DP_E_CORRUPT, 0 },
    { "depth 0", DOC("{" KEY ", " BEST("0") "}"), DP_E_CORRUPT, 0 },
    { "depth too large", DOC("{" KEY ", " BEST("1025") "}"), DP_E_CORRUPT, 0 },
    { "depth below 0", DOC("{" KEY ", " BEST("-1") "}"), DP_E_CORRUPT, 0 },
    { "depth past 32 bits", DOC("{" KEY ", " BEST("4294967297") "}"), DP_E_CORRUPT, 0 },
    { "depth a text", DOC("{" KEY ", " BEST("\"8\"") "}"), DP_E_CORRUPT, 0 },
    { "a name that does not fit", DOC("{\"fs\": \"0123456789012345678901234567890123456789\"}"),
      DP_E_CORRUPT, 0 },
    { "more latencies than there are sizes", DOC("{\"latencies\": [{}, {}, {}, {}, {}]}"),
      DP_E_CORRUPT, 0 },
    { "drives that are numbers", DOC("1"), DP_E_CORRUPT, 0 },
};

static void documents(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_drive_probe found;
        dp_error err = { 0 };
        dp_status st =
            dp_drives_find(&found, &key, "drives.json", rows[i].text, strlen(rows[i].text), &err);

        CHECK(st == rows[i].want, "%s: %d, %s", rows[i].name, st, err.text);
        CHECK(found.best.depth == rows[i].depth && found.is_saved == (st == DP_OK), "%s: depth %u",
              rows[i].name, found.best.depth);
    }
}

static void a_document_of_too_many(void **state)
{
    static char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"version\": 1, \"drives\": [{}");
    dp_drive_probe found;
    dp_error err;

    for (int i = 0; i < DP_DRIVES_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, ",{}");
    snprintf(text + used, sizeof text - used, "]}");
    CHECK(dp_drives_find(&found, &key, "x", text, strlen(text), &err) == DP_E_LIMIT, "%s",
          err.text);
}

static void cut_anywhere_it_is_not_found(void **state)
{
    const char *text = rows[0].text;
    dp_drive_probe found;
    dp_error err;

    for (size_t size = 0; size < strlen(text); size++)
        CHECK(dp_drives_find(&found, &key, "x", text, size, &err) != DP_OK && !found.best.depth,
              "%zu bytes", size);
}

static void failing_memory(void **state)
{
    const char *text = rows[0].text;
    dp_drive_probe found;
    uint64_t n = 0;
    dp_status st;

    do {
        dp_mem_stats stats;
        dp_error err;

        dp_fault_arm(DP_FAULT_MEM, n++, 1);
        st = dp_drives_find(&found, &key, "x", text, strlen(text), &err);
        dp_fault_disarm(DP_FAULT_MEM);
        dp_mem_stats_read(&stats);
        CHECK(st == DP_OK || st == DP_E_NOMEM, "%d: %s", st, err.text);
        CHECK(stats.heap_blocks == 0, "leaked at %llu", (unsigned long long)n);
    } while (st);
}

static void what_a_probe_would_hold_for(void **state)
{
    dp_drive_info drive = { .layers = "dm-0 > sda", .source = "/dev/mapper/x", .fs = "xfs" };
    dp_drive_probe probe;

    dp_drives_key(&probe, &drive);
    CHECK(strcmp(probe.device, "dm-0 > sda") == 0 && strcmp(probe.fs, "xfs") == 0, "%s",
          probe.device);
    CHECK(probe.version == DP_PROBE_VERSION && probe.kernel[0], "%u", probe.version);
    drive.layers[0] = 0;
    dp_drives_key(&probe, &drive);
    CHECK(strcmp(probe.device, "/dev/mapper/x") == 0, "%s", probe.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents),
        cmocka_unit_test(a_document_of_too_many),
        cmocka_unit_test(cut_anywhere_it_is_not_found),
        cmocka_unit_test(failing_memory),
        cmocka_unit_test(what_a_probe_would_hold_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
