#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "base/rng.h"
#include "testing/check.h"
#include "text/pretokenizer.h"
#include "base/utf8.h"

/* The published expressions, run by PCRE2 stage after stage: what the scanners
 * must agree with, cut for cut. */
#define CASED_LETTERS                                                                              \
    "\\x{41}-\\x{5A}\\x{61}-\\x{7A}\\x{B5}-\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}"                  \
    "\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"                          \
    "\\x{370}-\\x{373}\\x{376}-\\x{377}\\x{37B}-\\x{37D}\\x{37F}-\\x{37F}"                         \
    "\\x{386}-\\x{386}\\x{388}-\\x{38A}\\x{38C}-\\x{38C}\\x{38E}-\\x{3A1}"                         \
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                         \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"                 \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"                 \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"                 \
    "\\x{1F50}-\\x{1F57}\\x{1F59}-\\x{1F59}\\x{1F5B}-\\x{1F5B}\\x{1F5D}-\\x{1F5D}"                 \
    "\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}-\\x{1FBE}"                 \
    "\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"                 \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}-\\x{2102}"                 \
    "\\x{2107}-\\x{2107}\\x{210A}-\\x{2113}\\x{2115}-\\x{2115}\\x{2119}-\\x{211D}"                 \
    "\\x{2124}-\\x{2124}\\x{2126}-\\x{2126}\\x{2128}-\\x{2128}\\x{212A}-\\x{212D}"                 \
    "\\x{212F}-\\x{2134}\\x{2139}-\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"                 \
    "\\x{214E}-\\x{214E}\\x{2183}-\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"                 \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}-\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                 \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                 \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"                 \
    "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"                              \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"                              \
    "\\x{1E900}-\\x{1E943}"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL         "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CAPITALS     "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define GPT2         "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define NOT_HAN "(?!\\p{sc:Han})"

static const struct {
    const char *name;
    const char *stages[DP_PRETOKENIZER_STAGES_MAX];
} oracles[] = {
    { "gpt-2", { GPT2 } },
    { "starcoder", { "\\p{N}", GPT2 } },
    { "llama-bpe",
      { CONTRACTIONS
        "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL } },
    { "smaug-bpe",
      { CONTRACTIONS
        "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL } },
    { "qwen2",
      { CONTRACTIONS
        "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL } },
    { "qwen35",
      { CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}|"
                     " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL } },
    { "gpt-4o",
      { "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+" CONTRACTIONS "?|"
        "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALL "*" CONTRACTIONS "?|"
        "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL } },
    { "tekken",
      { "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+|[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALL
        "*|"
        "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL } },
    { "deepseek-v3",
      { "\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
        "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL } },
    { "deepseek-llm",
      { "[\\r\\n]", "\\s?[" CASED_LETTERS "]+",
        "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+",
        "\\s+$", "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}" } },
    { "deepseek-coder",
      { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
        "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}" } },
    { "kimi-k2",
      { "\\p{sc:Han}+|"
        "[^\\r\\n\\p{L}\\p{N}]?(?:" NOT_HAN CAPITALS ")*(?:" NOT_HAN SMALL ")+" CONTRACTIONS "?|"
        "[^\\r\\n\\p{L}\\p{N}]?(?:" NOT_HAN CAPITALS ")+(?:" NOT_HAN SMALL ")*" CONTRACTIONS "?|"
        "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL } },
    { "seed-coder",
      { CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}|"
                     " ?[^\\s\\p{L}\\p{N}\\r\\n]+" TAIL } },
    { "minicpm5",
      { "\\p{N}{1,3}", CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}+|"
                                    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL } },
    { "youtu",
      { "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}"
        "\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}"
        "\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|"
        "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
        "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "*" SMALL "+" CONTRACTIONS "?|"
        "[^\\r\\n\\p{L}\\p{N}]?" CAPITALS "+" SMALL "*" CONTRACTIONS "?|"
        "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL } },
};

/* Every class a scanner asks for, every kind of white space, every letter of the
 * contractions in both cases with the two that fold into ASCII, the edges of the
 * listed ranges, and code points nobody assigned. U+180E is left out: PCRE2 counts
 * it as white space, Unicode no longer does. */
static const uint32_t alphabet[] = {
    'a',    'b',    'z',     'A',     'B',     'Z',      's',     'S',    't',     'T',
    'r',    'R',    'e',     'E',     'v',     'V',      'm',     'M',    'l',     'L',
    'd',    'D',    0x17F,   0x212A,  0xDF,    0x1C5,    0x1F88,  0x2B0,  0xAA,    0x5D0,
    0x627,  0x0E01, 0x10D0,  0x1C90,  0x3B1,   0x391,    0x416,   0x3B9,  0x1FBE,  0x294,
    0x1BB,  0x1C0,  0x10400, 0x1E900, 0x118E0, 0x2C7C,   0xFB03,  0xFF21, 0x300,   0x301,
    0x903,  0x20DD, 0xFE0F,  0x1F3FB, 0x0E31,  0x302A,   0x1F1E6, '0',    '1',     '5',
    '9',    0x661,  0x966,   0xBD,    0x2167,  0x3007,   0x2460,  0xFF11, 0x1D7D8, 0x4E00,
    0x9FA5, 0x9FA6, 0x3042,  0x30A2,  0x30FF,  0x3100,   0x3041,  0xAC00, 0xD7A3,  0xD7FF,
    0x800,  0x7FF,  0x20000, 0x1F600, 0x1F468, 0x200D,   0x1F999, 0x2705, ' ',     ' ',
    ' ',    ' ',    '\t',    '\n',    '\n',    '\r',     0x0B,    0x0C,   0x85,    0xA0,
    0x1680, 0x2003, 0x2028,  0x2029,  0x202F,  0x205F,   0x3000,  0x200B, 0x1C,    0x1F,
    0xFEFF, '\'',   '\'',    '\'',    0x2019,  '.',      ',',     '!',    '?',     '-',
    '_',    '/',    '/',     '"',     '(',     '#',      '@',     '\\',   '%',     '*',
    '&',    ';',    ':',     '[',     '`',     '{',      '~',     '|',    '^',     '<',
    '=',    '>',    '+',     '$',     0x20AC,  0xA9,     0xB4,    0x2026, 0x3001,  0x3002,
    0x3003, 0xFF01, 0xFF0C,  0xFF5E,  0x2018,  0x2020,   0xBF,    0x0,    0x7F,    0xAD,
    0x378,  0xE000, 0xFFFE,  0xFFFD,  0xE0041, 0x10FFFF, 0x2FE0,  0x2E80, 0x2E9A,  0x2F00,
    0x3005, 0x3006, 0x16FE2, 0x16FF0, 0x3131,  0x3105,   0xFE30,
};

enum { STRINGS = 20000, LENGTH_MAX = 16, CUTS_MAX = LENGTH_MAX * DP_UTF8_SIZE_MAX + 1 };

typedef struct oracle {
    pcre2_code *stages[DP_PRETOKENIZER_STAGES_MAX];
    pcre2_match_data *match;
} oracle;

static void oracle_init(oracle *o, const char *const *stages)
{
    memset(o, 0, sizeof *o);
    for (int i = 0; i < DP_PRETOKENIZER_STAGES_MAX && stages[i]; i++) {
        int error = 0;
        PCRE2_SIZE at = 0;

        o->stages[i] =
            pcre2_compile((PCRE2_SPTR)stages[i], PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &error, &at, NULL);
        CHECK(o->stages[i], "stage %d: error %d at %zu", i, error, (size_t)at);
        pcre2_jit_compile(o->stages[i], PCRE2_JIT_COMPLETE); /* for speed alone */
    }
    o->match = pcre2_match_data_create(1, NULL);
    CHECK(o->match, "match data");
}

static void oracle_deinit(oracle *o)
{
    for (int i = 0; i < DP_PRETOKENIZER_STAGES_MAX; i++)
        pcre2_code_free(o->stages[i]);
    pcre2_match_data_free(o->match);
}

/* Cuts text [size], whose first byte is at `base`, from stage `depth` on; the ends
 * of its pieces go to ends [*count]. */
static void oracle_split(const oracle *o, int depth, const char *text, size_t size, size_t base,
                         size_t *ends, size_t *count)
{
    size_t at = 0;

    if (depth == DP_PRETOKENIZER_STAGES_MAX || !o->stages[depth]) {
        ends[(*count)++] = base + size;
        return;
    }
    while (at < size) {
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(o->match);
        int got = pcre2_match(o->stages[depth], (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK,
                              o->match, NULL);
        size_t start = got > 0 ? found[0] : size, end = got > 0 ? found[1] : size;

        if (start > at)
            oracle_split(o, depth + 1, text + at, start - at, base + at, ends, count);
        if (end > start)
            oracle_split(o, depth + 1, text + start, end - start, base + start, ends, count);
        at = end;
    }
}

static size_t split(const dp_pretokenizer *rule, dp_str text, size_t *ends)
{
    dp_pieces pieces;
    dp_str piece;
    size_t count = 0, at = 0;

    dp_pieces_init(&pieces, rule, text);
    while (dp_pieces_next(&pieces, &piece)) {
        CHECK(piece.bytes == text.bytes + at && piece.size > 0, "%s: a gap at %zu", rule->name, at);
        at += piece.size;
        if (ends)
            ends[count] = at;
        count++;
    }
    CHECK(at == text.size, "%s: ends at %zu of %zu", rule->name, at, text.size);
    return count;
}

static void print_cuts(const char *who, dp_str text, const size_t *ends, size_t count)
{
    size_t at = 0;

    fprintf(stderr, "%s:", who);
    for (size_t i = 0; i < count; at = ends[i++]) {
        fprintf(stderr, " [");
        for (size_t j = at; j < ends[i];) {
            uint32_t cp;
            j += dp_utf8_decode(text.bytes + j, text.size - j, &cp);
            fprintf(stderr, cp > 32 && cp < 127 ? "%c" : "<%X>", cp);
        }
        fprintf(stderr, "]");
    }
    fprintf(stderr, "\n");
}

static void test_agrees_with_the_expressions(void **state)
{
    size_t want[CUTS_MAX], got[CUTS_MAX];
    char text[LENGTH_MAX * DP_UTF8_SIZE_MAX];

    for (size_t r = 0; r < DP_ARRAY_LEN(oracles); r++) {
        const dp_pretokenizer *rule = dp_pretokenizer_find(dp_str_from(oracles[r].name));
        oracle o;
        dp_rng rng;

        CHECK(rule, "%s", oracles[r].name);
        oracle_init(&o, oracles[r].stages);
        dp_rng_init(&rng, 20220914 + r);
        for (int n = 0; n < STRINGS; n++) {
            /* Few different characters a string, so that runs form. */
            uint32_t letters[6], kinds = 1 + (uint32_t)dp_rng_below(&rng, DP_ARRAY_LEN(letters));
            uint32_t length = (uint32_t)dp_rng_below(&rng, LENGTH_MAX + 1);
            size_t size = 0, want_count = 0, got_count;

            for (uint32_t i = 0; i < kinds; i++)
                letters[i] = alphabet[dp_rng_below(&rng, DP_ARRAY_LEN(alphabet))];
            for (uint32_t i = 0; i < length; i++)
                size += dp_utf8_encode(letters[dp_rng_below(&rng, kinds)], text + size);
            oracle_split(&o, 0, text, size, 0, want, &want_count);
            got_count = split(rule, (dp_str){ text, size }, got);
            if (got_count != want_count || memcmp(got, want, want_count * sizeof *want)) {
                print_cuts("want", (dp_str){ text, size }, want, want_count);
                print_cuts("got ", (dp_str){ text, size }, got, got_count);
                CHECK(false, "%s: string %d", rule->name, n);
            }
        }
        oracle_deinit(&o);
    }
}

/* What has no oracle: bytes that are not UTF-8 are one character each and get lost nowhere. */
static void test_takes_any_bytes(void **state)
{
    const dp_pretokenizer *rule;

    for (uint32_t r = 0; (rule = dp_pretokenizer_at(r)); r++) {
        dp_rng rng;

        dp_rng_init(&rng, r);
        for (int n = 0; n < 20000; n++) {
            static const uint8_t often[] = { ' ', '\'', 's', 0xE2, 0x80, 0x99, 0xFF, '\n' };
            uint8_t text[24];
            size_t size = dp_rng_below(&rng, sizeof text + 1);

            for (size_t i = 0; i < size; i++)
                text[i] =
                    n % 2 ? often[dp_rng_below(&rng, sizeof often)] : (uint8_t)dp_rng_u64(&rng);
            split(rule, (dp_str){ (const char *)text, size }, NULL);
        }
    }
}

/* Hostile runs: what a scanner reads again and again would take hours here. */
static void test_is_linear(void **state)
{
    static const char *const patterns[] = { " ",    "a",  "A",      "\n",         " \n",   "\n ",
                                            "'",    "1",  "\u0301", "A\u0301",    "/",     "\u3000",
                                            "\xFF", " a", "\u4E00", "\t\xC2\xA0", "\u0378" };
    enum { SIZE = 1 << 16 };
    char *text = malloc(SIZE + 1);
    const dp_pretokenizer *rule;

    CHECK(text, "memory");
    for (size_t p = 0; p < DP_ARRAY_LEN(patterns); p++) {
        size_t size = strlen(patterns[p]);

        for (size_t i = 0; i < SIZE; i++)
            text[i] = patterns[p][i % size];
        text[SIZE] = 'x'; /* white space is not at the end */
        for (uint32_t r = 0; (rule = dp_pretokenizer_at(r)); r++)
            split(rule, (dp_str){ text, SIZE + 1 }, NULL);
    }
    free(text);
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *rule;
        bool ignores_merges, adds_bos;
    } cases[] = {
        { "", "gpt-2", false, false },           { "default", "gpt-2", false, false },
        { "llama3", "llama-bpe", true, true },   { "smaug-bpe", "smaug-bpe", false, false },
        { "llama4", "gpt-4o", false, false },    { "deepseek-r1-qwen", "qwen2", false, false },
        { "refact", "starcoder", false, false }, { "tekken", "tekken", true, true },
        { "kimi-k2", "kimi-k2", false, false },  { "hy_v4", "deepseek-v3", false, false },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        const dp_pretokenizer *rule = dp_pretokenizer_find(dp_str_from(cases[i].name));

        CHECK(rule && !strcmp(rule->name, cases[i].rule), "%s", cases[i].name);
        CHECK(rule->ignores_merges == cases[i].ignores_merges, "%s", cases[i].name);
        CHECK(rule->adds_bos == cases[i].adds_bos, "%s", cases[i].name);
    }
    CHECK(!dp_pretokenizer_find(dp_str_from("gpt-5")), "an unknown name");
    for (uint32_t r = 0; dp_pretokenizer_at(r); r++) {
        size_t seen = 0;

        for (size_t i = 0; i < DP_ARRAY_LEN(oracles); i++)
            seen += !strcmp(oracles[i].name, dp_pretokenizer_at(r)->name);
        CHECK(seen == 1, "%s has no oracle", dp_pretokenizer_at(r)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_the_expressions),
        cmocka_unit_test(test_takes_any_bytes),
        cmocka_unit_test(test_is_linear),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
