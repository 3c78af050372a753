#include "tier/trace.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"

static const uint64_t page_bytes[4] = { 1000, 0, 2000, 3000 };
static const dp_trace_header plain = { 4, 300, 3, true, 123456789, 4000000, page_bytes };

/* Steps of every kind, the same for a seed: one token and many, uniform and not, without a
 * demand. Adds what was encoded to `kept`, if that is not NULL. */
static dp_status encode(dp_buf *out, const dp_trace_header *header, uint32_t steps,
                        dp_demands *kept, uint64_t *hits)
{
    dp_trace_encoder encoder;
    const void *bytes;
    size_t size;
    dp_rng rng;
    dp_status st;

    dp_rng_init(&rng, 11);
    dp_trace_encoder_init(&encoder, header);
    st = dp_trace_encode_header(header, out, NULL);
    for (uint32_t s = 0; !st && s < steps; s++) {
        uint32_t skip = s % 7 == 3 ? 2 : UINT32_MAX;
        bool begins = true;
        dp_trace_begin_step(&encoder, s % 5 ? 1 : 100, s % 50 == 0);
        for (uint32_t l = 0; l < header->layer_count; l++) {
            uint32_t set[DP_DEMANDS_SET_MAX], count = s % 5 ? header->expert_used : s % 300;
            uint8_t is_hit[DP_DEMANDS_SET_MAX];
            if (l == skip || header->page_bytes[l] == 0)
                continue;
            for (uint32_t i = 0; i < count; i++) {
                set[i] = (s + i * 7) % header->expert_count;
                is_hit[i] = dp_rng_below(&rng, 2) != 0;
                *hits += is_hit[i];
            }
            dp_trace_demand(&encoder, l, set, is_hit, count);
            CHECK(!kept || dp_demands_add(kept, begins, l, set, count), "memory");
            begins = false;
        }
        if (dp_trace_take_block(&encoder, false, &bytes, &size))
            st = dp_buf_append(out, bytes, size);
    }
    if (!st && dp_trace_take_block(&encoder, true, &bytes, &size))
        st = dp_buf_append(out, bytes, size);
    CHECK(!dp_trace_take_block(&encoder, true, &bytes, &size), "nothing is left");
    dp_trace_encoder_deinit(&encoder);
    return st;
}

static bool same_demands(const dp_demands *a, const dp_demands *b)
{
    return a->count == b->count && memcmp(a->words, b->words, a->count * sizeof *a->words) == 0;
}

static void test_what_was_written_is_read(void **unused)
{
    dp_trace_header headers[3] = { plain, plain, plain };

    headers[1].has_hits = false;
    headers[2].expert_count = 200; /* ids of one byte */
    for (size_t i = 0; i < 3; i++) {
        uint64_t hits = 0;
        dp_demands kept;
        dp_trace trace;
        dp_error err;
        dp_buf file;
        dp_buf_init(&file, SIZE_MAX / 2);
        dp_demands_init(&kept, SIZE_MAX / 4);
        headers[i].expert_used = i == 2 ? 8 : 3;
        /* sets above 200 of 200 experts would repeat */
        CHECK(encode(&file, &headers[i], i == 2 ? 200 : 3000, &kept, &hits) == DP_OK, "memory");
        CHECK(i == 2 || file.size > 2 * DP_TRACE_BLOCK_GOOD, "several blocks");
        CHECK_OK(dp_trace_parse(&trace, "t", (uint8_t *)file.bytes, file.size, &err), err);
        CHECK(same_demands(&kept, &trace.demands), "header %zu", i);
        CHECK(trace.header.layer_count == 4 && trace.header.page_bytes[3] == 3000 &&
                  trace.header.expert_used == headers[i].expert_used &&
                  trace.header.model_bytes == 123456789 && trace.header.cache_bytes == 4000000,
              "header %zu", i);
        CHECK(!trace.is_cut && trace.steps == (i == 2 ? 200 : 3000), "steps");
        CHECK(trace.tokens == trace.steps / 5 * 104 && trace.texts == trace.steps / 50, "tokens");
        CHECK(trace.hits == (headers[i].has_hits ? hits : 0), "%llu hits",
              (unsigned long long)trace.hits);
        dp_trace_deinit(&trace);
        dp_demands_deinit(&kept);
        dp_buf_deinit(&file);
    }
}

/* Cut at any place of the second block it reads as the first; a flipped bit anywhere is seen. */
static void test_cut_and_damaged(void **unused)
{
    uint64_t hits = 0, first;
    uint8_t *bytes;
    size_t size, header_end = 48 + 4 * 8 + 4, block_end;
    dp_trace trace;
    dp_error err;
    dp_buf file;

    dp_buf_init(&file, SIZE_MAX / 2);
    CHECK(encode(&file, &plain, 1400, NULL, &hits) == DP_OK, "memory");
    bytes = (uint8_t *)file.bytes;
    size = file.size;
    first = (uint64_t)bytes[header_end + 8] | (uint64_t)bytes[header_end + 9] << 8;
    block_end = header_end + 16 + bytes[header_end + 4] + 256u * bytes[header_end + 5] +
                65536u * bytes[header_end + 6];
    CHECK(block_end + 60000 < size, "two blocks");
    for (size_t cut = block_end; cut < block_end + 60000; cut += 997) {
        CHECK_OK(dp_trace_parse(&trace, "t", bytes, cut, &err), err);
        CHECK(trace.steps == first && trace.is_cut == (cut > block_end), "cut at %zu", cut);
        dp_trace_deinit(&trace);
    }
    for (size_t at = 0; at < block_end; at += at < header_end + 16 ? 1 : 1013) {
        dp_status st;
        bytes[at] ^= 0x10;
        st = dp_trace_parse(&trace, "t", bytes, size, &err);
        CHECK(st == DP_OK ? at >= header_end && (trace.steps == 0 || st) : at < header_end + 16,
              "byte %zu: %s", at, st ? err.text : "accepted");
        bytes[at] ^= 0x10;
        dp_trace_deinit(&trace);
    }
    for (size_t cut = 0; cut < header_end; cut++)
        CHECK(dp_trace_parse(&trace, "t", bytes, cut, &err) == DP_E_CORRUPT, "cut at %zu", cut);
    bytes[7] = '2';
    CHECK(dp_trace_parse(&trace, "t", bytes, size, &err) == DP_E_UNSUPPORTED, "version 2");
    dp_buf_deinit(&file);
}

static void test_geometry_is_checked(void **unused)
{
    static const uint64_t huge[1] = { (uint64_t)1 << 41 }, small[1] = { 1 };
    static const dp_trace_header rows[] = {
        { 0, 1, 1, false, 0, 0, small },     { 1, 0, 0, false, 0, 0, small },
        { 1, 4, 5, false, 0, 0, small },     { 1, 4, 0, false, 0, 0, small },
        { 1, 65536, 1, false, 0, 0, small }, { 1, 60000, 5000, false, 0, 0, small },
        { 1, 4, 1, false, 0, 0, huge },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_trace trace;
        dp_buf file;
        dp_buf_init(&file, SIZE_MAX / 2);
        CHECK(dp_trace_encode_header(&rows[i], &file, NULL) == DP_OK, "memory");
        CHECK(dp_trace_parse(&trace, "t", (uint8_t *)file.bytes, file.size, NULL) == DP_E_LIMIT,
              "row %zu", i);
        dp_buf_deinit(&file);
    }
}

/* Any allocation may fail: a step is left out while encoding, parsing says so. */
static void test_memory_is_short(void **unused)
{
    dp_status st = DP_E_NOMEM;
    dp_mem_stats before, after;
    uint64_t hits = 0;
    dp_trace trace;
    dp_buf file;

    dp_mem_stats_read(&before);
    dp_buf_init(&file, SIZE_MAX / 2);
    for (uint64_t n = 0;; n++) {
        uint64_t failed;
        dp_buf_reset(&file);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = encode(&file, &plain, 200, NULL, &hits);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        if (st == DP_OK) {
            CHECK(dp_trace_parse(&trace, "t", (uint8_t *)file.bytes, file.size, NULL) == DP_OK,
                  "allocation %d", (int)n);
            CHECK(trace.steps == 200 || failed, "%d steps", (int)trace.steps);
            dp_trace_deinit(&trace);
        }
        if (!failed)
            break;
    }
    st = DP_E_NOMEM;
    for (uint64_t n = 0; st == DP_E_NOMEM; n++) {
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_trace_parse(&trace, "t", (uint8_t *)file.bytes, file.size, NULL);
        dp_fault_disarm(DP_FAULT_MEM);
    }
    CHECK(st == DP_OK && trace.steps == 200, "it gets through");
    dp_trace_deinit(&trace);
    dp_buf_deinit(&file);
    dp_mem_stats_read(&after);
    CHECK(before.heap_blocks == after.heap_blocks, "nothing leaked");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_written_is_read),
        cmocka_unit_test(test_cut_and_damaged),
        cmocka_unit_test(test_geometry_is_checked),
        cmocka_unit_test(test_memory_is_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
