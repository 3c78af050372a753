/* A read that waits: data, errors, and being told to stop. */
#include "tier/source_wait.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/status.h"
#include "testing/check.h"
#include "tier/source_fake.h"

/* Ends reads until stopped, on a thread as sources have. */
typedef struct helper {
    dp_source_fake fake;
    dp_thread thread;
    uint32_t fail_percent;
} helper;

static void help(void *user)
{
    helper *h = user;

    while (dp_source_fake_end_any(&h->fake, h->fail_percent, true))
        ;
}

static void start(helper *h, uint32_t fail_percent)
{
    dp_error err;

    h->fail_percent = fail_percent;
    CHECK_OK(dp_thread_start(&h->thread, "fake", help, h, &err), err);
}

static void stop(helper *h)
{
    dp_source_fake_stop(&h->fake);
    dp_thread_join(&h->thread);
}

static void gives_bytes(void **unused)
{
    static const size_t sizes[] = { 0, 1, 64, 4095, 4096, 4097, 1 << 20 };
    uint8_t *out = dp_alloc(1 << 20, 1);
    dp_mem_stats before, after;

    dp_mem_stats_read(&before);
    for (int is_direct = 0; is_direct < 2; is_direct++) {
        helper h;
        dp_error err;

        dp_source_fake_init(&h.fake, 1);
        h.fake.is_direct = is_direct;
        start(&h, 0);
        for (size_t i = 0; i < DP_ARRAY_LEN(sizes); i++) {
            uint64_t offset = 77 * i;
            CHECK_OK(dp_source_wait_read(&h.fake.base, 3, offset, out, sizes[i], NULL, &err), err);
            for (size_t at = 0; at < sizes[i]; at++)
                CHECK(out[at] == dp_source_fake_byte(3, offset + at), "%zu of %zu", at, sizes[i]);
        }
        stop(&h);
        dp_source_fake_deinit(&h.fake);
    }
    dp_mem_stats_read(&after);
    CHECK(after.map_bytes == before.map_bytes && after.heap_blocks == before.heap_blocks, "leaks");
    dp_free(out);
}

static void passes_errors_on(void **unused)
{
    uint8_t out[100];
    dp_error err;
    helper h;

    dp_source_fake_init(&h.fake, 1);
    start(&h, 100);
    CHECK(dp_source_wait_read(&h.fake.base, 0, 5, out, sizeof out, NULL, &err) == DP_E_IO &&
              strstr(err.text, "byte 5"),
          "%s", err.text);
    stop(&h);
    dp_source_fake_deinit(&h.fake);
    dp_source_fake_init(&h.fake, 1);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_source_wait_read(&h.fake.base, 0, 5, out, sizeof out, NULL, &err) == DP_E_NOMEM, "%s",
          err.text);
    dp_fault_disarm(DP_FAULT_MEM);
    dp_source_fake_deinit(&h.fake);
}

/* The flag is set before; nobody answers, and the source lets go at once or later. */
static void stops_when_told(void **unused)
{
    atomic_bool cancel = true;
    uint8_t out[100];
    dp_error err;
    helper h;

    dp_source_fake_init(&h.fake, 1);
    CHECK(dp_source_wait_read(&h.fake.base, 0, 5, out, sizeof out, &cancel, &err) == DP_E_CANCELED,
          "%s", err.text);
    CHECK(h.fake.cancel_count == 1 && h.fake.waiting_count == 0, "taken back");
    dp_source_fake_deinit(&h.fake);

    for (uint64_t seed = 0; seed < 8; seed++) { /* too late: ends canceled or as if untold */
        dp_status st;

        dp_source_fake_init(&h.fake, seed);
        h.fake.late_percent = 100;
        start(&h, 0);
        st = dp_source_wait_read(&h.fake.base, 0, 5, out, sizeof out, &cancel, &err);
        CHECK(st == DP_OK || st == DP_E_CANCELED, "%d", st);
        CHECK(st != DP_OK || out[99] == dp_source_fake_byte(0, 104), "data");
        stop(&h);
        dp_source_fake_deinit(&h.fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_bytes),
        cmocka_unit_test(passes_errors_on),
        cmocka_unit_test(stops_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
