/* Reads of pieces over a supply that the test scripts. */
#include "base/fault.h"
#include "base/mem.h"
#include "swarm/supply_testing.h"

static void whole_pieces_arrive_in_place(void **unused)
{
    script p;
    dp_source *s;
    probe r;
    int bounced = 0;

    script_init(&p, 10);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&r, s, 0, PIECE / 2, 3 * PIECE, false);
    assert_int_equal(p.job_count, 4);
    assert_int_equal(p.batches, 1);
    for (uint32_t i = 0; i < p.job_count; i++) {
        uint8_t *out = p.jobs[i]->out;
        bool is_inside = out >= r.room && out < r.room + r.read.size;
        uint32_t piece = p.jobs[i]->piece;

        assert_int_equal(is_inside, piece == 1 || piece == 2);
        if (is_inside)
            CHECK(out == r.room + piece * PIECE - PIECE / 2, "piece %u", piece);
        bounced += !is_inside;
    }
    assert_int_equal(bounced, 2);
    while (p.job_count > 1) {
        end_job(&p, p.job_count - 1, DP_OK);
        assert_int_equal(r.ends, 0);
    }
    end_jobs(&p, DP_OK);
    wait_for(&r);
    assert_int_equal(r.error.status, DP_OK);
    assert_int_equal(p.keeps, 4);
    probe_free(&r);
    s->ops->close(s);
}

static void the_last_pieces_of_files_are_short(void **unused)
{
    script p;
    dp_source *s;
    probe r[3];

    script_init(&p, 3);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&r[0], s, 0, 0, p.files[0].pieces.file_size, false);
    probe_submit(&r[1], s, 1, 3 * PIECE, 5, false);
    probe_submit(&r[2], s, 1, 3 * PIECE + 4, 1, true);
    assert_int_equal(p.job_count, 4);
    end_jobs(&p, DP_OK);
    for (int i = 0; i < 3; i++) {
        wait_for(&r[i]);
        assert_int_equal(r[i].error.status, DP_OK);
        probe_free(&r[i]);
    }
    s->ops->close(s);
}

static void neighbours_share_a_piece(void **unused)
{
    script p;
    dp_source *s;
    probe a, b, c;

    script_init(&p, 10);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 0, PIECE + 10, true);
    probe_submit(&b, s, 0, PIECE + 10, PIECE, false);
    assert_int_equal(p.job_total, 3);        /* 0, 1 shared, 2 */
    assert_int_equal(p.promoted, 1);         /* a demand joined a prefetch's */
    probe_submit(&c, s, 0, 0, PIECE, false); /* its piece lies in a's room */
    assert_int_equal(p.job_total, 3);
    end_jobs(&p, DP_OK);
    wait_for(&a);
    wait_for(&b);
    wait_for(&c);
    probe_free(&a);
    probe_free(&b);
    probe_free(&c);
    s->ops->close(s);
}

static void what_is_kept_is_not_asked_for(void **unused)
{
    script p;
    dp_source *s;
    dp_source_swarm_stats stats;
    probe r;

    script_init(&p, 10);
    for (int i = 0; i < 10; i++)
        p.is_kept[i] = true;
    s = open_source(&p, &dp_clock_real);
    probe_submit(&r, s, 0, 10, 4 * PIECE, false);
    wait_for(&r);
    assert_int_equal(p.job_total, 0);
    assert_int_equal(p.keeps, 0);
    dp_source_swarm_stats_read(s, &stats);
    assert_int_equal(stats.kept_bytes, 5 * PIECE);
    probe_free(&r);
    s->ops->close(s);
}

static void a_rotten_piece_is_fetched_again(void **unused)
{
    script p;
    dp_source *s;
    probe r;

    script_init(&p, 10);
    for (int i = 0; i < 10; i++)
        p.is_kept[i] = p.is_rotten[i] = true;
    s = open_source(&p, &dp_clock_real);
    probe_submit(&r, s, 0, 10, 2 * PIECE, false);
    for (int i = 0; i < 10000000 && atomic_load(&r.ends) == 0; i++) {
        end_job(&p, 0, DP_OK);
        sched_yield();
    }
    wait_for(&r);
    assert_int_equal(r.error.status, DP_OK);
    assert_int_equal(p.job_total, 3);
    probe_free(&r);
    s->ops->close(s);
}

static void a_failure_reaches_all_who_wait(void **unused)
{
    script p;
    dp_source *s;
    probe a, b;

    script_init(&p, 10);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 0, PIECE + 10, false);
    probe_submit(&b, s, 0, PIECE + 10, PIECE, false);
    for (uint32_t i = 0; i < p.job_count; i++)
        if (p.jobs[i]->piece == 1) {
            end_job(&p, i, DP_E_CORRUPT);
            break;
        }
    /* The others were taken back: nobody else wants them. */
    assert_int_equal(p.job_count, 0);
    wait_for(&a);
    wait_for(&b);
    assert_int_equal(a.error.status, DP_E_CORRUPT);
    assert_string_equal(b.error.text, "the script says so");
    probe_free(&a);
    probe_free(&b);
    s->ops->close(s);
}

static void what_changed_at_its_origin_is_an_error(void **unused)
{
    script p;
    dp_source *s;
    probe a;

    script_init(&p, 10);
    p.contradicts = true;
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 5, 10, false);
    end_jobs(&p, DP_OK);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_E_CORRUPT);
    assert_string_equal(a.error.text, "piece 0 was another");
    probe_free(&a);
    s->ops->close(s);
}

static void a_room_is_kept_until_nothing_writes(void **unused)
{
    script p;
    dp_source *s;
    probe a;

    script_init(&p, 10);
    p.late_percent = 100;
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 0, 2 * PIECE, false);
    end_job(&p, 0, DP_E_IO);
    assert_int_equal(a.ends, 0); /* the other still writes into its room */
    end_job(&p, 0, DP_OK);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_E_IO);
    probe_free(&a);

    probe_submit(&a, s, 0, 0, 2 * PIECE, false);
    assert_false(s->ops->cancel(s, &a.read));
    end_job(&p, 0, DP_OK);
    assert_int_equal(a.ends, 0);
    end_job(&p, 0, DP_E_CANCELED);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_E_CANCELED);
    probe_free(&a);
    s->ops->close(s);
}

static void canceled_reads_leave_others_theirs(void **unused)
{
    script p;
    dp_source *s;
    probe a, b;

    script_init(&p, 10);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 5, PIECE, false); /* 0 and 1, both bounce */
    probe_submit(&b, s, 0, PIECE + 5, 10, true);
    assert_true(s->ops->cancel(s, &a.read));
    assert_int_equal(p.job_count, 1);
    end_jobs(&p, DP_OK);
    assert_int_equal(a.ends, 0);
    wait_for(&b);
    assert_int_equal(b.error.status, DP_OK);
    probe_free(&a);
    probe_free(&b);

    probe_submit(&a, s, 0, 0, PIECE, false); /* the piece lies in a's room, b copies from it */
    probe_submit(&b, s, 0, 5, 10, false);
    assert_false(s->ops->cancel(s, &a.read));
    end_jobs(&p, DP_OK);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_E_CANCELED);
    wait_for(&b);
    assert_int_equal(b.error.status, DP_OK);
    probe_free(&a);
    probe_free(&b);
    s->ops->close(s);
}

static void who_is_slower_is_asked_next(void **unused)
{
    script p;
    dp_source *s;
    dp_clock clock;
    probe r;
    uint8_t bytes[PIECE];

    dp_clock_init_virtual(&clock);
    script_init(&p, 10);
    p.gives_slowly = true;
    s = open_source(&p, &clock);
    probe_submit(&r, s, 0, 5, 10, true);
    end_jobs(&p, DP_E_NOTFOUND);
    assert_int_equal(p.wants, 1);
    assert_int_equal(p.job_count, 0);
    dp_source_swarm_tick(s, false);
    assert_int_equal(p.job_count, 0);
    dp_source_swarm_tick(s, true); /* somebody came */
    assert_int_equal(p.job_count, 1);
    end_jobs(&p, DP_E_NOTFOUND);
    clock.virtual_ns += DP_SOURCE_SWARM_RETRY_MS * (uint64_t)1000000;
    dp_source_swarm_tick(s, false); /* and now and then anyway */
    assert_int_equal(p.job_count, 1);
    end_jobs(&p, DP_E_NOTFOUND);
    assert_int_equal(p.wants, 1);
    assert_int_equal(r.ends, 0);
    fill(&p, 0, bytes);
    dp_source_swarm_arrived(s, 0, bytes);
    wait_for(&r);
    assert_int_equal(r.error.status, DP_OK);
    assert_int_equal(p.unwants, 1);
    dp_source_swarm_arrived(s, 0, bytes); /* nobody waits any more */
    probe_free(&r);
    s->ops->close(s);
}

static void waiting_has_an_end(void **unused)
{
    script p;
    dp_source *s;
    dp_clock clock;
    probe a, b;

    dp_clock_init_virtual(&clock);
    script_init(&p, 10);
    s = open_source(&p, &clock);
    probe_submit(&a, s, 0, PIECE, PIECE, false);
    probe_submit(&b, s, 0, 3 * PIECE, PIECE, true);
    end_jobs(&p, DP_E_NOTFOUND);
    wait_for(&b); /* a prefetch that nobody can give */
    assert_int_equal(b.error.status, DP_E_NOTFOUND);
    assert_int_equal(a.ends, 0);
    clock.virtual_ns += (uint64_t)60000 * 1000000 - 1;
    dp_source_swarm_tick(s, false);
    assert_int_equal(p.job_count, 1);
    end_jobs(&p, DP_E_NOTFOUND);
    clock.virtual_ns += 1;
    dp_source_swarm_tick(s, false);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_E_TIMEOUT);
    assert_string_equal(a.error.text,
                        "piece 1 of a.gguf: nobody gave it within 60 s (3 peers, none holds it)");
    probe_free(&a);
    probe_free(&b);
    s->ops->close(s);
}

static void a_promoted_prefetch_has_a_demands_time(void **unused)
{
    script p;
    dp_source *s;
    dp_clock clock;
    probe a;

    dp_clock_init_virtual(&clock);
    script_init(&p, 10);
    s = open_source(&p, &clock);
    probe_submit(&a, s, 0, 0, PIECE, true);
    clock.virtual_ns += (uint64_t)59000 * 1000000;
    s->ops->promote(s, &a.read);
    s->ops->promote(s, &a.read);
    assert_int_equal(p.promoted, 1);
    clock.virtual_ns += (uint64_t)2000 * 1000000;
    end_job(&p, 0, DP_E_TIMEOUT);
    assert_int_equal(p.job_count, 1); /* asked for again */
    assert_int_equal(a.ends, 0);
    end_jobs(&p, DP_OK);
    wait_for(&a);
    assert_int_equal(a.error.status, DP_OK);
    probe_free(&a);
    s->ops->close(s);
}

static void pools_bound_what_is_under_way(void **unused)
{
    enum { PIECES = 380 };
    script p;
    dp_source *s;
    probe a, b, c[64];

    script_init(&p, PIECES);
    s = open_source(&p, &dp_clock_real);
    probe_submit(&a, s, 0, 0, (uint64_t)PIECES * PIECE - 100, true);
    assert_int_equal(p.job_count, DP_SOURCE_SWARM_FETCHES / 2);
    probe_submit(&b, s, 0, 0, (uint64_t)PIECES * PIECE - 100, false);
    assert_int_equal(p.job_count, DP_SOURCE_SWARM_FETCHES);
    for (int i = 0; i < 64; i++)
        probe_submit(&c[i], s, 1, (uint64_t)i * 700, 900, i % 2);
    assert_int_equal(p.job_count, DP_SOURCE_SWARM_FETCHES);
    end_jobs(&p, DP_OK);
    wait_for(&a);
    wait_for(&b);
    probe_free(&a);
    probe_free(&b);
    for (int i = 0; i < 64; i++) {
        wait_for(&c[i]);
        probe_free(&c[i]);
    }
    s->ops->close(s);
}

static void close_ends_every_read(void **unused)
{
    script p;
    dp_source *s;
    probe r[8];

    script_init(&p, 300);
    p.gives_slowly = true;
    p.late_percent = 50;
    for (int i = 0; i < 50; i++)
        p.is_kept[i] = true;
    s = open_source(&p, &dp_clock_real);
    for (uint64_t i = 0; i < 8; i++)
        probe_submit(&r[i], s, 0, i * 20 * PIECE + i, 60 * PIECE, i % 3 == 0);
    for (int i = 0; i < 20; i++)
        end_job(&p, 3, DP_E_NOTFOUND);
    s->ops->close(s);
    assert_true(p.is_stopped);
    for (int i = 0; i < 8; i++) {
        wait_for(&r[i]);
        probe_free(&r[i]);
    }
    assert_int_equal(p.wants, p.unwants);
}

static void open_survives_every_failure(void **unused)
{
    dp_mem_stats before, after;
    static const dp_fault points[] = { DP_FAULT_MEM, DP_FAULT_THREAD };

    for (size_t k = 0; k < DP_ARRAY_LEN(points); k++) {
        for (uint64_t n = 0;; n++) {
            script p;
            static const uint32_t file = 0;
            dp_source_part part = { "a.gguf", 1 };
            dp_source_swarm_config config = { .layout = &p.layout,
                                              .files = &file,
                                              .parts = &part,
                                              .part_count = 1,
                                              .supply = &p.supply,
                                              .clock = &dp_clock_real };
            dp_source *s;
            dp_error err;
            dp_status st;

            script_init(&p, 10);
            dp_mem_stats_read(&before);
            dp_fault_arm(points[k], n, 1);
            st = dp_source_swarm_open(&s, &config, &err);
            if (dp_fault_disarm(points[k]) == 0) {
                CHECK_OK(st, err);
                s->ops->close(s);
                break;
            }
            assert_int_equal(st, DP_E_NOMEM);
            assert_null(s);
            assert_false(p.is_stopped);
            dp_mem_stats_read(&after);
            assert_int_equal(after.heap_blocks, before.heap_blocks);
            assert_int_equal(after.map_regions, before.map_regions);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_pieces_arrive_in_place),
        cmocka_unit_test(the_last_pieces_of_files_are_short),
        cmocka_unit_test(neighbours_share_a_piece),
        cmocka_unit_test(what_is_kept_is_not_asked_for),
        cmocka_unit_test(a_rotten_piece_is_fetched_again),
        cmocka_unit_test(a_failure_reaches_all_who_wait),
        cmocka_unit_test(what_changed_at_its_origin_is_an_error),
        cmocka_unit_test(a_room_is_kept_until_nothing_writes),
        cmocka_unit_test(canceled_reads_leave_others_theirs),
        cmocka_unit_test(who_is_slower_is_asked_next),
        cmocka_unit_test(waiting_has_an_end),
        cmocka_unit_test(a_promoted_prefetch_has_a_demands_time),
        cmocka_unit_test(pools_bound_what_is_under_way),
        cmocka_unit_test(close_ends_every_read),
        cmocka_unit_test(open_survives_every_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
