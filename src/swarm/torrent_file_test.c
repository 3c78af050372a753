/* What a .torrent says, as text: against the vectors of an independent program. */
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "doppler/swarm.h"
#include "swarm/metainfo_vectors.h"
#include "testing/check.h"

static char path[] = "/tmp/doppler-torrent-XXXXXX";

/* For new_testing.cpp. */
bool new_fails(void);
long new_live(void);

bool new_fails(void)
{
    return dp_fault_visit(DP_FAULT_MEM);
}

static void save(const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    CHECK(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, "%s", path);
}

static void says_it_as_text(void **state)
{
    for (size_t i = 0; i < METAINFO_VECTORS; i++) {
        dp_torrent_file *torrent;
        char want[512];
        dp_torrent_info info;
        dp_error err;

        save(vectors[i].bytes, vectors[i].size);
        CHECK_OK(dp_torrent_file_open(&torrent, path, &err), err);
        dp_torrent_file_info(torrent, &info);
        CHECK(!strcmp(info.name, vectors[i].name) && !strcmp(info.info_v2, vectors[i].v2),
              "row %zu", i);
        CHECK(!vectors[i].v1 == !info.info_v1 &&
                  (!info.info_v1 || !strcmp(info.info_v1, vectors[i].v1)),
              "row %zu", i);
        CHECK(info.file_count == vectors[i].files && info.piece_count == vectors[i].pieces &&
                  info.piece_size == 32768 && info.file_bytes == vectors[i].file_bytes &&
                  info.is_private == vectors[i].is_private,
              "row %zu: %u files, %u pieces, %llu bytes", i, info.file_count, info.piece_count,
              (unsigned long long)info.file_bytes);
        CHECK(!strcmp(dp_torrent_file_name(torrent, info.file_count - 1), vectors[i].last_file) &&
                  !dp_torrent_file_name(torrent, info.file_count),
              "row %zu: %s", i, dp_torrent_file_name(torrent, info.file_count - 1));
        snprintf(want, sizeof want, "magnet:?xt=urn:btmh:1220%s%s%s&dn=%s", vectors[i].v2,
                 vectors[i].v1 ? "&xt=urn:btih:" : "", vectors[i].v1 ? vectors[i].v1 : "",
                 vectors[i].name);
        CHECK(!strncmp(info.magnet, want, strlen(want)), "%s, not %s", info.magnet, want);
        CHECK(strcspn(info.magnet + 9, " /#") == strlen(info.magnet + 9), "%s", info.magnet);
        if (vectors[i].trackers) /* two */
            CHECK(strstr(info.magnet, "&tr=http%3A%2F%2F") &&
                      strstr(strstr(info.magnet, "&tr=") + 4, "&tr="),
                  "%s", info.magnet);
        if (vectors[i].web_seeds)
            CHECK(strstr(info.magnet, "&ws=http%3A%2F%2F") || strstr(info.magnet, "&ws=https%3A"),
                  "%s", info.magnet);
        dp_torrent_file_close(torrent);
    }
}

static void refuses(void **state)
{
    dp_torrent_file *torrent;
    dp_error err;

    save("d4:spam4:eggse", 14);
    CHECK(dp_torrent_file_open(&torrent, path, &err) == DP_E_CORRUPT && !torrent &&
              strstr(err.text, path),
          "%s", err.text);
    CHECK(dp_torrent_file_open(&torrent, "/no/such.torrent", &err) == DP_E_NOTFOUND && !torrent,
          "%s", err.text);
}

static void memory_fails(void **state)
{
    uint64_t failed = 1;

    save(vectors[2].bytes, vectors[2].size);
    for (uint64_t n = 0; failed; n++) {
        dp_mem_stats before, after;
        dp_torrent_file *torrent;
        dp_error err;
        dp_status st;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_torrent_file_open(&torrent, path, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == DP_OK || (st == DP_E_NOMEM && failed && !torrent), "visit %d: %d", (int)n, st);
        dp_torrent_file_close(torrent);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "visit %d leaks", (int)n);
    }
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_it_as_text),
        cmocka_unit_test(refuses),
        cmocka_unit_test(memory_fails),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
