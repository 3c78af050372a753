/* Any bytes as JSON: read token by token, and skipped value by value. */
#include "base/assert.h"
#include "base/json.h"
#include "fuzz.h"

/* How many tokens there are; skipping every `skip_every`th value. */
static uint64_t read_all(const char *bytes, size_t size, uint64_t skip_every, dp_status *st)
{
    uint64_t count = 0;
    dp_json_token t;
    dp_json json;

    dp_json_init(&json, "fuzz", bytes, size);
    while (!(*st = dp_json_next(&json, &t, NULL)) && t.kind != DP_JSON_END) {
        int64_t integer;
        double real;

        DP_CHECK(t.depth < DP_JSON_DEPTH_MAX || t.kind >= DP_JSON_KEY);
        DP_CHECK(t.depth <= DP_JSON_DEPTH_MAX && t.text.size <= size);
        DP_CHECK(!dp_json_i64(&t, &integer) || dp_json_f64(&t, &real));
        if (++count % skip_every == 0 && (*st = dp_json_skip(&json, &t, NULL)))
            break;
    }
    dp_json_deinit(&json);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_status whole, skipped;
    uint64_t count = read_all((const char *)bytes, size, UINT64_MAX, &whole);

    /* Skipping reads the same text: it ends in the same way, with fewer tokens. */
    for (uint64_t every = 1; every <= 3; every++) {
        DP_CHECK(read_all((const char *)bytes, size, every, &skipped) <= count);
        DP_CHECK(skipped == whole);
    }
    return 0;
}
