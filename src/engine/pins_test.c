#include "engine/pins.h"

#include "model/step.h"
#include "testing/check.h"

#define MB ((uint64_t)1000000)

/* Layers of two pages, attention and feed-forward, then the final norm and a head. */
static uint32_t make_order(uint64_t *bytes, uint32_t layers, uint64_t attn, uint64_t ffn,
                           uint32_t head_pages)
{
    uint32_t count = 0;

    for (uint32_t l = 0; l < layers; l++) {
        bytes[count++] = attn;
        bytes[count++] = l % 3 ? ffn : ffn + ffn / 8; /* some tensors of another type */
    }
    bytes[count++] = 1000;
    for (uint32_t i = 0; i < head_pages; i++)
        bytes[count++] = 16 * MB;
    return count;
}

static uint64_t sum_of(const uint64_t *bytes, uint32_t count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += bytes[i];
    return sum;
}

/* The window by its definition: every run of ahead + 1 passing pages, over the end. */
static uint64_t window_by_hand(const dp_pins *pins, const uint64_t *bytes)
{
    uint64_t most = 0;

    for (uint32_t begin = 0; begin < pins->count; begin++) {
        uint64_t sum = 0;
        uint32_t taken = 0;

        for (uint32_t i = 0; i < pins->count && taken <= pins->ahead; i++) {
            uint32_t page = (begin + i) % pins->count;
            if (dp_pins_has(pins, page))
                continue;
            sum += bytes[page];
            taken++;
        }
        most = DP_MAX(most, sum);
    }
    return most;
}

static void check_choice(const dp_pins_request *r, const dp_pins *pins)
{
    uint64_t kept_bytes = 0, beside = r->other_bytes;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < r->count; i++)
        if (dp_pins_has(pins, i)) {
            kept++;
            kept_bytes += r->bytes[i];
        }
    CHECK(kept == pins->kept && kept_bytes == pins->kept_bytes, "%u pages of %llu bytes stay", kept,
          (unsigned long long)kept_bytes);
    for (uint32_t i = r->count - r->last_first; i < r->count && kept < r->last_first; i++)
        beside = DP_MAX(beside, r->bytes[i]);
    CHECK(pins->window_bytes == window_by_hand(pins, r->bytes) + beside,
          "window of %llu, by hand %llu", (unsigned long long)pins->window_bytes,
          (unsigned long long)window_by_hand(pins, r->bytes));
    if (pins->kept || pins->ahead)
        CHECK(kept_bytes + pins->window_bytes <= r->slot_bytes, "more than there is");
    CHECK(pins->ahead <= DP_AHEAD_MAX, "%u ahead", pins->ahead);
}

static void any_room_is_divided(void **unused)
{
    static uint64_t bytes[512];

    for (uint32_t layers = 1; layers < 90; layers += 11)
        for (uint32_t tied = 0; tied < 2; tied++) {
            dp_pins_request r = { .bytes = bytes, .other_bytes = 70000, .streams = true };
            uint64_t all;
            dp_pins pins;

            r.count = make_order(bytes, layers, 14 * MB, 45 * MB, 9);
            r.last_first = tied ? 10 : 0;
            all = sum_of(bytes, r.count) + r.other_bytes;
            for (uint64_t part = 0; part <= 40; part++) {
                r.slot_bytes = all * part / 40;
                dp_pins_choose(&pins, &r);
                check_choice(&r, &pins);
                CHECK((pins.kept == r.count) == (part == 40), "%u of %u stay at %llu of 40",
                      pins.kept, r.count, (unsigned long long)part);
            }
        }
}

static void most_of_the_room_is_used(void **unused)
{
    uint64_t bytes[256];
    dp_pins_request r = { .bytes = bytes, .streams = true };
    dp_pins pins;

    /* 40 layers of 475 MB: 19 GB, of which 16 may stay. */
    r.count = make_order(bytes, 40, 110 * MB, 365 * MB, 40);
    r.slot_bytes = 16000 * MB;
    dp_pins_choose(&pins, &r);
    check_choice(&r, &pins);
    CHECK(pins.ahead == 3, "%u ahead", pins.ahead);
    CHECK(pins.kept_bytes >= 14400 * MB, "%llu MB stay",
          (unsigned long long)(pins.kept_bytes / MB));
}

/* No run of the order has much more of the kept pages than another. */
static void kept_pages_are_spread(void **unused)
{
    uint64_t bytes[256];
    dp_pins_request r = { .bytes = bytes, .streams = true };

    r.count = make_order(bytes, 60, 20 * MB, 20 * MB, 0);
    for (uint64_t part = 1; part < 20; part++) {
        uint32_t quarter[4] = { 0 };
        dp_pins pins;

        r.slot_bytes = sum_of(bytes, r.count) * part / 20;
        dp_pins_choose(&pins, &r);
        for (uint32_t i = 0; i < r.count; i++)
            quarter[i * 4 / r.count] += dp_pins_has(&pins, i);
        for (int q = 0; q < 4; q++)
            CHECK(quarter[q] * 4 <= pins.kept + 12 && quarter[q] * 4 + 12 >= pins.kept,
                  "%u of %u in quarter %d", quarter[q], pins.kept, q);
    }
}

static void a_head_that_embeds_stays_first(void **unused)
{
    uint64_t bytes[64];
    dp_pins_request r = { .bytes = bytes, .streams = true, .last_first = 10 };
    dp_pins pins;

    r.count = make_order(bytes, 20, 14 * MB, 45 * MB, 9);
    r.slot_bytes = 500 * MB;
    dp_pins_choose(&pins, &r);
    for (uint32_t i = r.count - 10; i < r.count; i++)
        CHECK(dp_pins_has(&pins, i), "page %u does not stay", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_room_is_divided),
        cmocka_unit_test(most_of_the_room_is_used),
        cmocka_unit_test(kept_pages_are_spread),
        cmocka_unit_test(a_head_that_embeds_stays_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
