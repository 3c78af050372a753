/* Reads of pieces from many threads at once, everything at random: never a wrong byte, each
 * ended once. */
#include "base/mem.h"
#include "swarm/supply_testing.h"

enum { STRESS_READS = 48, STRESS_ROUNDS = 150, STRESS_PIECES = 60 };

typedef struct stress {
    script script;
    dp_source *source;
    _Atomic bool is_over;
    _Atomic uint64_t served, failed, taken_back;
} stress;

static void stress_ends(void *user)
{
    stress *t = user;
    dp_rng rng;
    uint8_t *bytes = dp_alloc(1, PIECE);

    dp_rng_init(&rng, (uint64_t)(uintptr_t)&rng);
    while (!atomic_load(&t->is_over)) {
        static const dp_status ends[] = { DP_OK, DP_OK,         DP_OK,   DP_OK,       DP_OK,
                                          DP_OK, DP_E_NOTFOUND, DP_E_IO, DP_E_TIMEOUT };
        uint32_t piece = (uint32_t)dp_rng_below(&rng, STRESS_PIECES);

        end_job(&t->script, (uint32_t)dp_rng_below(&rng, 8), ends[dp_rng_below(&rng, 9)]);
        if (dp_rng_below(&rng, 4) == 0) {
            fill(&t->script, piece, bytes);
            dp_source_swarm_arrived(t->source, piece, bytes);
        }
        if (dp_rng_below(&rng, 8) == 0)
            dp_source_swarm_tick(t->source, dp_rng_below(&rng, 2));
        dp_mutex_lock(&t->script.lock);
        t->script.is_kept[piece] = dp_rng_below(&rng, 2);
        t->script.is_rotten[piece] = dp_rng_below(&rng, 4) == 0;
        dp_mutex_unlock(&t->script.lock);
    }
    dp_free(bytes);
}

/* Submits reads of its own, promotes and cancels some, and sees each of them end once. */
static void stress_reads(void *user)
{
    stress *t = user;
    dp_source *s = t->source;
    probe r[STRESS_READS];
    dp_rng rng;

    dp_rng_init(&rng, (uint64_t)(uintptr_t)&rng);
    for (int round = 0; round < STRESS_ROUNDS; round++) {
        uint32_t count = 1 + (uint32_t)dp_rng_below(&rng, STRESS_READS);
        bool is_taken_back[STRESS_READS] = { false };

        for (uint32_t i = 0; i < count; i++) {
            uint64_t file_size = t->script.files[0].pieces.file_size;
            uint64_t offset = dp_rng_below(&rng, file_size - 1);
            uint64_t size = 1 + dp_rng_below(&rng, DP_MIN(file_size - offset, 5 * PIECE));
            probe_submit(&r[i], s, 0, offset, size, dp_rng_below(&rng, 2));
        }
        for (uint32_t i = 0; i < count; i++) {
            uint64_t what = dp_rng_below(&rng, 4);
            if (atomic_load(&r[i].ends))
                continue; /* its owner knows, so it would not ask */
            if (what == 0)
                is_taken_back[i] = s->ops->cancel(s, &r[i].read);
            else if (what == 1)
                s->ops->promote(s, &r[i].read);
        }
        for (uint32_t i = 0; i < count; i++) {
            if (!is_taken_back[i])
                wait_for(&r[i]);
            else
                assert_int_equal(r[i].ends, 0);
            t->taken_back += is_taken_back[i];
            t->served += !is_taken_back[i] && r[i].error.status == DP_OK;
            t->failed += r[i].error.status != DP_OK;
            probe_free(&r[i]);
        }
    }
}

static void any_order_any_fault_never_a_wrong_byte(void **unused)
{
    stress t = { .is_over = false };
    dp_thread ends[2], reads[2];
    dp_error err;

    script_init(&t.script, STRESS_PIECES);
    t.script.late_percent = 50;
    t.script.gives_slowly = true;
    t.source = open_source(&t.script, &dp_clock_real);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(dp_thread_start(&ends[i], "ends", stress_ends, &t, &err), err);
        CHECK_OK(dp_thread_start(&reads[i], "reads", stress_reads, &t, &err), err);
    }
    for (int i = 0; i < 2; i++)
        dp_thread_join(&reads[i]);
    atomic_store(&t.is_over, true);
    for (int i = 0; i < 2; i++)
        dp_thread_join(&ends[i]);
    assert_true(t.served > 0 && t.failed > 0 && t.taken_back > 0);
    t.source->ops->close(t.source);
    assert_int_equal(t.script.job_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_any_fault_never_a_wrong_byte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
