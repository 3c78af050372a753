/* How much work odd texts make, counted in steps, not in seconds: twice the text, twice
 * the steps. The scanners and the merge loop are compiled into this test with a counter
 * where they look at a character and where they ask for a rank. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "testing/check.h"
#include "text/tokenizer_testing.h"
#include "text/unicode.h"

static uint64_t steps;

#define dp_unicode_bit(cp) (steps++, (dp_unicode_bit)(cp))
#include "text/pretokenizer.c" /* with the counter */
#undef dp_unicode_bit
#define rank_of(...) (steps++, (rank_of)(__VA_ARGS__))
#include "text/token_merge.c"
#undef rank_of

enum { MIB = 1 << 20, CUT_LENGTH_MAX = 1 << 17, STEPS_A_BYTE_MAX = 16, BUF_MAX = 1 << 22 };

#define ZWJ_FAMILY "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466"

static const struct {
    const char *name, *bytes;
    size_t size, length; /* of the pattern, of the text */
} patterns[] = {
    { "spaces", " ", 1, MIB },
    { "one letter", "a", 1, MIB },
    { "newlines", "\n", 1, MIB },
    { "digits", "7", 1, 100000 },
    { "NULs", "\0", 1, 1 << 16 },
    { "invalid bytes", "\xFF", 1, 1 << 16 },
    { "halves of characters", "\xE2\x82", 2, 1 << 16 },
    { "an emoji of a family", ZWJ_FAMILY, sizeof ZWJ_FAMILY - 1, 1 << 16 },
    { "flags", "\U0001F1E9\U0001F1EA", 8, 1 << 16 },
    { "ideographs", "\u6F22\u5B57", 6, 1 << 16 },
    { "kana and words", "\u3042\u30A2 ab\u4E00", 12, 1 << 16 },
    { "marks on a letter", "\u0301", 2, 1 << 16 },
    { "letters with marks", "e\u0301", 3, 1 << 16 },
    { "capitals", "A", 1, 1 << 16 },
    { "apostrophes", "'", 1, 1 << 16 },
    { "slashes", "/\n", 2, 1 << 16 },
    { "lines of spaces", " \n", 2, 1 << 16 },
    { "wide spaces", "\u3000\t", 4, 1 << 16 },
    { "the beginning of a name", "<|im_", 5, 1 << 16 },
};

/* `length` bytes of pattern p and an x, so that white space is not at the end. */
static dp_str make_text(size_t p, size_t length)
{
    char *text = malloc(length + 1);

    CHECK(text, "memory");
    for (size_t i = 0; i < length; i++)
        text[i] = patterns[p].bytes[i % patterns[p].size];
    text[length] = 'x';
    return (dp_str){ text, length + 1 };
}

static uint64_t steps_of_pieces(const dp_pretokenizer *rule, dp_str text)
{
    dp_pieces pieces;
    dp_str piece;
    size_t size = 0;

    steps = 0;
    dp_pieces_init(&pieces, rule, text);
    while (dp_pieces_next(&pieces, &piece))
        size += piece.size;
    CHECK(size == text.size, "%s: %zu bytes of %zu", rule->name, size, text.size);
    return steps;
}

static void check_steps(const char *rule, const char *pattern, size_t length, uint64_t half,
                        uint64_t whole, uint64_t a_byte_max)
{
    CHECK(half > 0 && whole <= a_byte_max * length, "%s: %s: %d steps for %zu bytes", rule, pattern,
          (int)whole, length);
    CHECK(10 * whole <= 21 * half, "%s: %s: %d steps, %d for half of it", rule, pattern, (int)whole,
          (int)half);
}

static void test_cutting(void **state)
{
    const dp_pretokenizer *rule;

    for (size_t p = 0; p < DP_ARRAY_LEN(patterns); p++) {
        dp_str half = make_text(p, patterns[p].length / 2),
               whole = make_text(p, patterns[p].length);

        for (uint32_t r = 0; (rule = dp_pretokenizer_at(r)); r++)
            check_steps(rule->name, patterns[p].name, whole.size, steps_of_pieces(rule, half),
                        steps_of_pieces(rule, whole),
                        STEPS_A_BYTE_MAX * (uint64_t)rule->stage_count);
        free((char *)half.bytes);
        free((char *)whole.bytes);
    }
}

/* There and back, exactly; the steps of the way there. */
static uint64_t steps_of_round_trip(const dp_tokenizer *t, const char *name, dp_str text)
{
    dp_token_list list = { 0 };
    dp_error err = { 0 };
    uint64_t count;
    dp_decoder d;
    dp_buf out;

    steps = 0;
    CHECK_OK(dp_tokenizer_encode(t, text, DP_ENCODE_SPECIAL, &list, &err), err);
    count = steps;
    dp_buf_init(&out, BUF_MAX);
    dp_decoder_init(&d, t, true);
    for (size_t i = 0; i < list.count; i++)
        CHECK(dp_decoder_push(&d, list.ids[i], &out) == DP_OK, "%s", name);
    CHECK(dp_decoder_finish(&d, &out) == DP_OK, "%s", name);
    CHECK(out.size == text.size && !memcmp(out.bytes, text.bytes, text.size),
          "%s: %zu bytes came back as %zu", name, text.size, out.size);
    dp_buf_deinit(&out);
    dp_token_list_deinit(&list);
    return count;
}

static void test_round_trips(void **state)
{
    static const char *const pres[] = { "kimi-k2", NULL }; /* NULL: SPM */
    static test_vocab v;
    dp_mem_stats stats;

    for (size_t i = 0; i < DP_ARRAY_LEN(pres); i++) {
        dp_error err = { 0 };
        dp_tokenizer *t;

        if (pres[i])
            test_vocab_bpe(&v, pres[i]);
        else
            test_vocab_spm(&v);
        CHECK_OK(dp_tokenizer_open(&t, &v.tables, &err), err);
        for (size_t p = 0; p < DP_ARRAY_LEN(patterns); p++) {
            dp_str half = make_text(p, patterns[p].length / 2);
            dp_str whole = make_text(p, patterns[p].length);
            uint64_t half_steps = steps_of_round_trip(t, patterns[p].name, half);

            check_steps(pres[i] ? pres[i] : "spm", patterns[p].name, whole.size, half_steps,
                        steps_of_round_trip(t, patterns[p].name, whole), 2 * STEPS_A_BYTE_MAX);
            free((char *)half.bytes);
            free((char *)whole.bytes);
        }
        dp_tokenizer_close(t);
    }
    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cutting),
        cmocka_unit_test(test_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
