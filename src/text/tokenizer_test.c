#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_testing.h"

#define STR(s) ((dp_str){ s, sizeof(s) - 1 })
#define S      DP_ENCODE_SPECIAL
#define B      DP_ENCODE_ADD_BOS

enum { IDS_MAX = 16, BUF_MAX = 1 << 24 };

static dp_tokenizer *open_tables(const dp_vocab_tables *tables)
{
    dp_tokenizer *t;
    dp_error err = { 0 };

    CHECK_OK(dp_tokenizer_open(&t, tables, &err), err);
    return t;
}

static dp_tokenizer *open_bpe(const char *pre)
{
    static test_vocab v;

    test_vocab_bpe(&v, pre);
    return open_tables(&v.tables);
}

static dp_tokenizer *open_spm(void)
{
    static test_vocab v;

    test_vocab_spm(&v);
    return open_tables(&v.tables);
}

static void decode(const dp_tokenizer *t, const dp_token_list *list, bool shows_special,
                   dp_buf *out)
{
    dp_decoder d;

    dp_decoder_init(&d, t, shows_special);
    for (size_t i = 0; i < list->count; i++)
        CHECK(dp_decoder_push(&d, list->ids[i], out) == DP_OK, "push %zu", i);
    CHECK(dp_decoder_finish(&d, out) == DP_OK, "finish");
}

/* ---- what texts become ---- */

typedef struct encode_case {
    const char *name;
    dp_str text;
    uint32_t flags;
    dp_token ids[IDS_MAX];
    size_t count;
} encode_case;

#define IDS(...) { __VA_ARGS__ }, sizeof((dp_token[]){ __VA_ARGS__ }) / sizeof(dp_token)

static void check_encode(const dp_tokenizer *t, const encode_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const encode_case *c = &cases[i];
        dp_token_list list = { 0 };
        dp_error err = { 0 };

        CHECK_OK(dp_tokenizer_encode(t, c->text, c->flags, &list, &err), err);
        for (size_t j = 0; j < list.count && list.count != c->count; j++)
            fprintf(stderr, "%d ", list.ids[j]);
        CHECK(list.count == c->count, "%s: %zu tokens, not %zu", c->name, list.count, c->count);
        for (size_t j = 0; j < list.count; j++)
            CHECK(list.ids[j] == c->ids[j], "%s: token %zu is %d", c->name, j, list.ids[j]);
        dp_token_list_deinit(&list);
    }
}

static void test_bpe(void **state)
{
    static const encode_case cases[] = {
        { "nothing", STR(""), 0, { 0 }, 0 },
        { "one byte", STR("z"), 0, IDS('z') },
        { "all merges", STR("hello"), 0, IDS(259) },
        { "space joins the word", STR("hello wor"), 0, IDS(259, 262) },
        { "best rank first, not leftmost", STR("hello world"), 0, IDS(259, 262, 263) },
        { "leftmost of equals", STR("aaa"), 0, IDS(267) },
        { "pairs of pairs", STR("aaaaaa"), 0, IDS(266, 265) },
        { "cuts stop merges", STR("1 2"), 0, IDS('1', ' ', '2') },
        { "two newlines", STR("a\n\nb"), 0, IDS('a', '\n', '\n', 'b') },
        { "a character of two bytes", STR("\xC3\xA9"), 0, IDS(269) },
        { "a token no merge makes", STR("ab"), 0, IDS('a', 'b') },
        { "invalid bytes", STR("\xFF\xC3"), 0, IDS(0xFF, 0xC3) },
        { "a zero", STR("\0z"), 0, IDS(0, 'z') },
        { "bos and eos are not wanted", STR("z"), B, IDS('z') },
        { "control tokens are text", STR("<|im_end|>"), 0,
          IDS('<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>') },
        { "control tokens where trusted", STR("z<|im_end|>z"), S, IDS('z', 272, 'z') },
        { "user-defined tokens always", STR("<|im|>z"), 0, IDS(274, 'z') },
        { "shorter where the longer is not trusted", STR("<|im|>!"), 0, IDS(274, '!') },
        { "longest where it is", STR("<|im|>!"), S, IDS(275) },
        { "a beginning of a name", STR("<|im_"), S, IDS('<', '|', 'i', 'm', '_') },
        { "side by side", STR("<|begin|><|im_start|>"), S, IDS(271, 273) },
        { "overlapping beginnings", STR("<<|<|im|>"), S, IDS('<', '<', '|', 274) },
    };
    dp_tokenizer *t = open_bpe("gpt-2");

    check_encode(t, cases, DP_ARRAY_LEN(cases));
    dp_tokenizer_close(t);
}

static void test_bpe_whole_pieces(void **state)
{
    static const encode_case cases[] = {
        { "no merge, but a token", STR("ab"), 0, IDS(277) },
        { "not across pieces", STR("hello world"), B, IDS(271, 259, 262, 263) },
    };
    dp_tokenizer *t = open_bpe("llama-bpe");

    CHECK(dp_tokenizer_adds_bos(t), "llama-bpe adds bos");
    check_encode(t, cases, DP_ARRAY_LEN(cases));
    dp_tokenizer_close(t);
}

static void test_spm(void **state)
{
    static const encode_case cases[] = {
        { "nothing", STR(""), 0, { 0 }, 0 },
        { "a word", STR("hello"), 0, IDS(268) },
        { "bos", STR("hello"), B, IDS(1, 268) },
        { "bos alone", STR(""), B, IDS(1) },
        { "inside a text", STR("hello hello"), 0, IDS(268, 268) },
        { "best score first", STR("hlo"), 0, IDS(269, 270) },
        { "spaces of its own", STR("  h"), 0, IDS(271, 269) },
        { "leftmost of equal scores", STR("aaaa"), 0, IDS(259, 274, 272) },
        { "bytes for the rest", STR("\xE2\x82\xAC"), 0, IDS(259, 3 + 0xE2, 3 + 0x82, 3 + 0xAC) },
        { "invalid bytes", STR("\xC3h"), 0, IDS(259, 3 + 0xC3, 260) },
        { "whole characters merge", STR("e\xC3\xA9"), 0, IDS(259, 276) },
        { "U+2581 is no space", STR("\xE2\x96\x81"), 0, IDS(259, 3 + 0xE2, 3 + 0x96, 3 + 0x81) },
        { "a byte's name is text", STR("<0x41>"), 0,
          IDS(259, 3 + '<', 3 + '0', 3 + 'x', 3 + '4', 3 + '1', 3 + '>') },
        { "control tokens are text", STR("</s>"), 0, IDS(259, 3 + '<', 3 + '/', 3 + 's', 3 + '>') },
        { "a space behind each special", STR("h</s>h"), S, IDS(269, 2, 269) },
        { "user-defined always", STR("h<mark>h"), 0, IDS(269, 277, 269) },
        { "special first", STR("<s>hello"), S, IDS(1, 268) },
    };
    static test_vocab v;
    dp_tokenizer *t = open_spm();

    check_encode(t, cases, DP_ARRAY_LEN(cases));
    dp_tokenizer_close(t);

    /* A token that reaches over a space: texts are not cut there any more. */
    static const encode_case crossing[] = {
        { "over a space", STR("eoh h"), 0, IDS(259, 261, 263, 278) },
    };
    test_vocab_spm(&v);
    test_vocab_add(&v, dp_str_from("h\u2581h"), DP_TOKEN_NORMAL, -7.5f);
    t = open_tables(&v.tables);
    check_encode(t, crossing, 1);
    dp_tokenizer_close(t);

    static const encode_case bare[] = { { "no prefix", STR("hello"), B, IDS(267, 2) } };
    test_vocab_spm(&v);
    v.tables.add_space_prefix = 0;
    v.tables.add_bos = 0;
    v.tables.add_eos = 1;
    t = open_tables(&v.tables);
    check_encode(t, bare, 1);
    dp_tokenizer_close(t);
}

/* ---- against the obvious algorithm ---- */

/* Merges by looking through all pairs again and again: (rank, place) decides. */
static size_t merge_slowly(dp_token *ids, size_t count, const dp_token (*merges)[3],
                           size_t merge_count)
{
    for (;;) {
        size_t best_rank = merge_count, best_at = 0;

        for (size_t at = 0; at + 1 < count; at++)
            for (size_t rank = 0; rank < best_rank; rank++)
                if (merges[rank][0] == ids[at] && merges[rank][1] == ids[at + 1]) {
                    best_rank = rank;
                    best_at = at;
                }
        if (best_rank == merge_count)
            return count;
        ids[best_at] = merges[best_rank][2];
        memmove(ids + best_at + 1, ids + best_at + 2, (count - best_at - 2) * sizeof *ids);
        count--;
    }
}

/* Vocabularies of random merges over three letters, texts of those letters. */
static void test_bpe_against_the_obvious(void **state)
{
    enum { MERGES = 24, LENGTH_MAX = 40 };
    static test_vocab v;
    dp_rng rng;

    dp_rng_init(&rng, 7);
    for (int round = 0; round < 100; round++) {
        char names[3 + MERGES][64] = { "a", "b", "c" };
        dp_token merges[MERGES][3];
        size_t merge_count = 0;
        dp_tokenizer *t;

        test_vocab_bpe(&v, "gpt-2");
        v.tables.merge_count = 0;
        v.tables.token_count = 256; /* bytes alone */
        v.used = 2048;
        for (int tries = 0; tries < 200 && merge_count < MERGES; tries++) {
            const char *left = names[dp_rng_below(&rng, 3 + merge_count)];
            const char *right = names[dp_rng_below(&rng, 3 + merge_count)];
            char whole[25];
            bool is_known = strlen(left) + strlen(right) > 12; /* long enough */

            sprintf(whole, "%.12s%.12s", left, right);
            for (size_t i = 0; i < 3 + merge_count; i++)
                is_known |= !strcmp(names[i], whole);
            if (is_known)
                continue;
            for (int side = 0; side < 2; side++) {
                const char *name = side ? right : left;
                merges[merge_count][side] = name[0];
                for (size_t i = 3; i < 3 + merge_count; i++)
                    if (!strcmp(names[i], name))
                        merges[merge_count][side] = (dp_token)(256 + i - 3);
            }
            merges[merge_count][2] = test_vocab_merge(&v, left, right);
            strcpy(names[3 + merge_count++], whole);
        }
        t = open_tables(&v.tables);
        for (int n = 0; n < 100; n++) {
            char text[LENGTH_MAX];
            dp_token want[LENGTH_MAX];
            size_t size = dp_rng_below(&rng, LENGTH_MAX + 1), count;
            dp_token_list list = { 0 };
            dp_error err = { 0 };

            for (size_t i = 0; i < size; i++)
                want[i] = text[i] = (char)('a' + dp_rng_below(&rng, 3));
            count = merge_slowly(want, size, merges, merge_count);
            CHECK_OK(dp_tokenizer_encode(t, (dp_str){ text, size }, 0, &list, &err), err);
            CHECK(list.count == count &&
                      (count == 0 || !memcmp(list.ids, want, count * sizeof *want)),
                  "round %d: %.*s", round, (int)size, text);
            dp_token_list_deinit(&list);
        }
        dp_tokenizer_close(t);
    }
}

/* ---- there and back ---- */

static void check_round_trip(const dp_tokenizer *t, dp_str text, uint32_t flags)
{
    dp_token_list list = { 0 };
    dp_error err = { 0 };
    dp_buf out;

    dp_buf_init(&out, BUF_MAX);
    CHECK_OK(dp_tokenizer_encode(t, text, flags, &list, &err), err);
    decode(t, &list, flags & S, &out);
    CHECK(out.size == text.size && (text.size == 0 || !memcmp(out.bytes, text.bytes, text.size)),
          "%zu bytes came back as %zu", text.size, out.size);
    dp_token_list_deinit(&list);
    dp_buf_deinit(&out);
}

static void test_round_trip(void **state)
{
    static const char *const parts[] = {
        "hello", " ",        "\n",     "aa", "\xC3\xA9", "\xE2\x96\x81", "\xF0\x9F\x98\x80",
        "\xFF",  "\xE2\x82", "<0x41>", "'s", "12",       "\u3000",       "<|im_end|>",
        "</s>"
    };
    static const char *const pres[] = { "gpt-2", "llama-bpe", "gpt-4o", "deepseek-v3",
                                        "deepseek-llm" };
    dp_tokenizer *tokenizers[DP_ARRAY_LEN(pres) + 1];
    dp_rng rng;

    for (size_t i = 0; i < DP_ARRAY_LEN(pres); i++)
        tokenizers[i] = open_bpe(pres[i]);
    tokenizers[DP_ARRAY_LEN(pres)] = open_spm();
    dp_rng_init(&rng, 11);
    for (int n = 0; n < 5000; n++) {
        char text[256];
        size_t size = 0;

        for (uint64_t i = dp_rng_below(&rng, 12); i > 0; i--) {
            if (dp_rng_below(&rng, 4)) {
                const char *part = parts[dp_rng_below(&rng, DP_ARRAY_LEN(parts))];
                memcpy(text + size, part, strlen(part));
                size += strlen(part);
            } else {
                text[size++] = (char)dp_rng_u64(&rng);
            }
        }
        for (size_t i = 0; i < DP_ARRAY_LEN(tokenizers); i++) {
            check_round_trip(tokenizers[i], (dp_str){ text, size }, 0);
            if (i < DP_ARRAY_LEN(pres)) /* SPM adds a space behind specials */
                check_round_trip(tokenizers[i], (dp_str){ text, size }, S);
        }
    }
    for (size_t i = 0; i < DP_ARRAY_LEN(tokenizers); i++)
        dp_tokenizer_close(tokenizers[i]);
}

/* No text may take long, whatever it repeats. A quadratic loop would need minutes. */
static void test_long_runs(void **state)
{
    static const char *const patterns[] = { "a", " ", "hello", "<|im_", "\n", "\xC3\xA9", "\xFF" };
    enum { SIZE = 1 << 18 };
    dp_tokenizer *tokenizers[] = { open_bpe("gpt-2"), open_spm() };
    char *text = malloc(SIZE);

    CHECK(text, "memory");
    for (size_t p = 0; p < DP_ARRAY_LEN(patterns); p++) {
        for (size_t i = 0, size = strlen(patterns[p]); i < SIZE; i++)
            text[i] = patterns[p][i % size];
        for (size_t i = 0; i < DP_ARRAY_LEN(tokenizers); i++)
            check_round_trip(tokenizers[i], (dp_str){ text, SIZE }, S);
    }
    free(text);
    for (size_t i = 0; i < DP_ARRAY_LEN(tokenizers); i++)
        dp_tokenizer_close(tokenizers[i]);
}

/* ---- tokens ---- */

static void test_names(void **state)
{
    static const struct {
        bool is_spm;
        dp_str name;
        dp_token id;
        dp_str text;
    } cases[] = {
        { false, STR("hell"), 258, STR("hell") },
        { false, STR("\u0120w"), 260, STR(" w") },
        { false, STR("\u010A\u010A"), 270, STR("\n\n") },
        { false, STR("<|im_end|>"), 272, STR("<|im_end|>") },
        { false, STR("<|im|>"), 274, STR("<|im|>") },
        { false, STR("nothing"), DP_TOKEN_NONE, STR("") },
        { true, STR("\u2581hello"), 268, STR(" hello") },
        { true, STR("<0x41>"), 3 + 0x41, STR("A") },
        { true, STR("<unk>"), 0, STR("<unk>") },
        { true, STR("</s>"), 2, STR("</s>") },
        { true, STR(""), DP_TOKEN_NONE, STR("") },
    };
    dp_tokenizer *tokenizers[] = { open_bpe("gpt-2"), open_spm() };
    char long_name[4000];

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        const dp_tokenizer *t = tokenizers[cases[i].is_spm];
        dp_token id = dp_tokenizer_find(t, cases[i].name);

        CHECK(id == cases[i].id, "%s: %d", cases[i].name.bytes, id);
        CHECK(dp_str_equal(dp_tokenizer_text(t, id), cases[i].text), "%s", cases[i].name.bytes);
    }
    memset(long_name, 'a', sizeof long_name);
    for (size_t i = 0; i < 2; i++) {
        const dp_tokenizer *t = tokenizers[i];

        CHECK(dp_tokenizer_find(t, (dp_str){ long_name, sizeof long_name }) == DP_TOKEN_NONE,
              "long");
        CHECK(dp_tokenizer_text(t, -1).size == 0 && dp_tokenizer_text(t, 9999).size == 0, "range");
        CHECK(dp_tokenizer_kind(t, 9999) == DP_TOKEN_UNKNOWN, "range");
        CHECK(!dp_tokenizer_is_stop(t, -1) && !dp_tokenizer_is_stop(t, 9999), "range");
        CHECK(dp_tokenizer_count(t) == 278, "%u tokens", dp_tokenizer_count(t));
        CHECK(dp_tokenizer_eot(t) == DP_TOKEN_NONE, "no eot");
        dp_tokenizer_close(tokenizers[i]);
    }
    dp_tokenizer_close(NULL);
}

static void test_stops(void **state)
{
    static const struct {
        const char *names[4];
        dp_token_kind kind;
        bool is_stop[4];
    } cases[] = {
        { { "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|python_tag|>" },
          DP_TOKEN_CONTROL,
          { true, true, true, false } },
        { { "<|end|>", "<|user|>" }, DP_TOKEN_CONTROL, { true, false } },
        { { "<|return|>", "<|call|>", "<|end|>", "<|channel|>" },
          DP_TOKEN_CONTROL,
          { true, true, false, false } },
        { { "</s>", "<end_of_turn>" }, DP_TOKEN_NORMAL, { false, false } },
        { { "</s>", "<end_of_turn>" }, DP_TOKEN_USER_DEFINED, { true, true } },
        { { "<|im_end|>", "<|endoftext|>" }, DP_TOKEN_NORMAL, { true, true } },
        { { "[EOS]", "[EOT]", "[BOS]", "<|im_end|>" },
          DP_TOKEN_CONTROL,
          { true, true, false, true } },
        { { "[EOS]", "[EOT]" }, DP_TOKEN_NORMAL, { false, false } },
        { { "<\uFF5Cend\u2581of\u2581sentence\uFF5C>" }, DP_TOKEN_CONTROL, { true } },
    };
    static test_vocab v;
    const dp_token further = 'x';

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        dp_tokenizer *t;

        test_vocab_bpe(&v, "gpt-2");
        v.tables.token_count = 256;
        v.tables.merge_count = 0;
        v.tables.bos = DP_TOKEN_NONE;
        v.tables.eos = 'e';
        v.tables.eot = 't';
        v.tables.stops = &further;
        v.tables.stop_count = 1;
        for (size_t j = 0; j < 4 && cases[i].names[j]; j++)
            test_vocab_add(&v, dp_str_from(cases[i].names[j]), cases[i].kind, 0);
        t = open_tables(&v.tables);
        for (size_t j = 0; j < 4 && cases[i].names[j]; j++)
            CHECK(dp_tokenizer_is_stop(t, (dp_token)(256 + j)) == cases[i].is_stop[j],
                  "case %zu: %s", i, cases[i].names[j]);
        CHECK(dp_tokenizer_is_stop(t, 'e') && dp_tokenizer_is_stop(t, 't') &&
                  dp_tokenizer_is_stop(t, 'x'),
              "the file's own");
        CHECK(!dp_tokenizer_is_stop(t, 'a'), "a letter");
        CHECK(dp_tokenizer_kind(t, 'e') == DP_TOKEN_NORMAL, "the mark is not part of the kind");
        dp_tokenizer_close(t);
    }
}

/* A file without kinds: bos and eos are still no text. */
/* Some files of gpt-oss call <|end|> the end of the turn. */
static void test_harmony_goes_on_behind_thoughts(void **state)
{
    static test_vocab v;
    dp_token names[3];
    dp_tokenizer *t;

    test_vocab_bpe(&v, "gpt-4o");
    names[0] = test_vocab_add(&v, dp_str_from("<|return|>"), DP_TOKEN_CONTROL, 0);
    names[1] = test_vocab_add(&v, dp_str_from("<|end|>"), DP_TOKEN_CONTROL, 0);
    names[2] = test_vocab_add(&v, dp_str_from("<|call|>"), DP_TOKEN_CONTROL, 0);
    v.tables.eos = names[0];
    v.tables.eot = names[1];
    v.tables.stops = &names[1];
    v.tables.stop_count = 1;
    t = open_tables(&v.tables);
    CHECK(dp_tokenizer_is_stop(t, names[0]) && dp_tokenizer_is_stop(t, names[2]), "the ends");
    CHECK(!dp_tokenizer_is_stop(t, names[1]), "<|end|>");
    dp_tokenizer_close(t);
}

static void test_without_kinds(void **state)
{
    static const encode_case lossy[] = { { "no token for z", STR("azb"), 0, IDS('a', 'b') } };
    static test_vocab v;
    dp_tokenizer *t;

    test_vocab_bpe(&v, "llama-bpe");
    v.tables.kinds = NULL;
    v.tables.bos = 1;
    v.tables.eos = 2;
    v.tables.unknown = 1;
    t = open_tables(&v.tables);
    CHECK(dp_tokenizer_kind(t, 1) == DP_TOKEN_CONTROL &&
              dp_tokenizer_kind(t, 2) == DP_TOKEN_CONTROL,
          "kinds");
    dp_tokenizer_close(t);

    test_vocab_bpe(&v, "gpt-2");
    v.tokens['z'] = STR("");
    t = open_tables(&v.tables);
    check_encode(t, lossy, 1);
    dp_tokenizer_close(t);

    /* Some files call the end of text their unknown token: no text may become it. */
    v.tables.unknown = 271;
    t = open_tables(&v.tables);
    check_encode(t, lossy, 1);
    dp_tokenizer_close(t);

    static const encode_case unknown[] = { { "z is unknown", STR("azb"), 0, IDS('a', 271, 'b') } };
    v.kinds[271] = DP_TOKEN_UNKNOWN;
    t = open_tables(&v.tables);
    check_encode(t, unknown, 1);
    dp_tokenizer_close(t);
}

/* ---- open ---- */

static void test_refuses(void **state)
{
    static const struct {
        const char *name;
        dp_status want;
        const char *says;
    } cases[] = {
        { "model", DP_E_UNSUPPORTED, "bert" },
        { "pre", DP_E_UNSUPPORTED, "kimi" },
        { "no tokens", DP_E_CORRUPT, "no tokens" },
        { "too many", DP_E_LIMIT, "16777217" },
        { "bos", DP_E_CORRUPT, "bos" },
        { "stop", DP_E_CORRUPT, "stop" },
        { "merge without a space", DP_E_CORRUPT, "merge 15" },
        { "merge of no token", DP_E_CORRUPT, "merge 15" },
        { "merge to no token", DP_E_CORRUPT, "merge 15" },
        { "empty merge", DP_E_CORRUPT, "merge 15" },
    };
    static const char *const bad_merges[] = { [6] = "he", [7] = "he zz", [8] = "z z", [9] = "" };
    static test_vocab v;
    const dp_token stop = -2;

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        dp_error err = { 0 };
        dp_tokenizer *t;
        dp_status st;

        test_vocab_bpe(&v, "gpt-2");
        if (i == 0)
            v.tables.model = dp_str_from("bert");
        if (i == 1)
            v.tables.pre = dp_str_from("kimi-k3");
        if (i == 2)
            v.tables.token_count = 0;
        if (i == 3)
            v.tables.token_count = DP_TOKEN_COUNT_MAX + 1;
        if (i == 4)
            v.tables.bos = (dp_token)v.tables.token_count;
        if (i == 5) {
            v.tables.stops = &stop;
            v.tables.stop_count = 1;
        }
        if (i >= 6)
            v.merges[v.tables.merge_count++] = dp_str_from(bad_merges[i]);
        st = dp_tokenizer_open(&t, &v.tables, &err);
        CHECK(st == cases[i].want && !t, "%s: %d", cases[i].name, st);
        CHECK(strstr(err.text, cases[i].says), "%s: %s", cases[i].name, err.text);
    }
}

/* A merge of a control token is in some files. It must not let text make that token. */
static void test_merges_of_control_tokens_are_idle(void **state)
{
    static const encode_case cases[] = { { "l l", STR("ll"), 0, IDS('l', 'l') } };
    static test_vocab v;
    dp_tokenizer *t;

    test_vocab_bpe(&v, "gpt-2");
    v.kinds[256] = DP_TOKEN_CONTROL;
    t = open_tables(&v.tables);
    check_encode(t, cases, 1);
    dp_tokenizer_close(t);
}

/* ---- decode ---- */

/* Each byte a token: whatever the text, what has come out is whole characters, and
 * nothing is held that could not still become one. */
static void test_decoder_never_splits(void **state)
{
    static const dp_str texts[] = { STR("h\xC3\xA9llo"),
                                    STR("\xE2\x82\xAC\xF0\x9F\x98\x80z"),
                                    STR("\xF0\x9F\x98"),
                                    STR("\xE2\x41\x80"),
                                    STR("\xE0\x80\x80"),
                                    STR("\xED\xA0\x80"),
                                    STR("\xF0\x9F\xC3\xA9"),
                                    STR("\xC3\xC3\xA9"),
                                    STR("\x80\xBF\xFF\xC1\xE2\x82") };
    dp_tokenizer *t = open_bpe("gpt-2");

    for (size_t i = 0; i < DP_ARRAY_LEN(texts); i++) {
        bool is_valid = dp_utf8_is_valid(texts[i]);
        dp_decoder d;
        dp_buf out;

        dp_buf_init(&out, BUF_MAX);
        dp_decoder_init(&d, t, false);
        for (size_t at = 0; at < texts[i].size; at++) {
            size_t partial = dp_utf8_partial_size(texts[i].bytes, at + 1);

            CHECK(dp_decoder_push(&d, (uint8_t)texts[i].bytes[at], &out) == DP_OK, "push");
            CHECK(out.size == at + 1 - partial, "text %zu: %zu bytes out after %zu", i, out.size,
                  at + 1);
            CHECK(!is_valid || dp_utf8_is_valid((dp_str){ out.bytes, out.size }), "text %zu: cut",
                  i);
        }
        CHECK(dp_decoder_finish(&d, &out) == DP_OK, "finish");
        CHECK(out.size == texts[i].size && !memcmp(out.bytes, texts[i].bytes, out.size), "text %zu",
              i);
        dp_buf_deinit(&out);
    }
    dp_tokenizer_close(t);
}

static void test_decoder_and_special_tokens(void **state)
{
    static const struct {
        const char *name;
        bool is_spm, shows_special;
        dp_token ids[6];
        size_t count;
        const char *want;
    } cases[] = {
        { "control tokens are silent", false, false, IDS(271, 259, 272), "hello" },
        { "control tokens are shown", false, true, IDS(271, 259, 272), "<|begin|>hello<|im_end|>" },
        { "user-defined ones are text", false, false, IDS(259, 274), "hello<|im|>" },
        { "half a character, then a name", false, true, IDS(0xC3, 272, 0xA9),
          "\xC3<|im_end|>\xA9" },
        { "half a character over a silent token", false, false, IDS(0xC3, 272, 0xA9), "\xC3\xA9" },
        { "the first space is not text", true, false, IDS(1, 268, 268), "hello hello" },
        { "but what follows is", true, false, IDS(271, 268), "  hello" },
        { "a byte first", true, false, IDS(3 + 'A', 268), "A hello" },
        { "bytes make characters", true, false, IDS(3 + 0xC3, 3 + 0xA9), "\xC3\xA9" },
        { "out of range", true, false, IDS(268, 9999, -1), "hello" },
    };
    dp_tokenizer *tokenizers[] = { open_bpe("gpt-2"), open_spm() };

    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        dp_token_list list = { (dp_token *)cases[i].ids, cases[i].count, cases[i].count };
        dp_buf out;

        dp_buf_init(&out, BUF_MAX);
        decode(tokenizers[cases[i].is_spm], &list, cases[i].shows_special, &out);
        CHECK(!strcmp(out.bytes, cases[i].want), "%s: \"%s\"", cases[i].name, out.bytes);
        dp_buf_deinit(&out);
    }
    for (size_t i = 0; i < 2; i++)
        dp_tokenizer_close(tokenizers[i]);
}

/* ---- lack of memory ---- */

static void test_open_survives_lack_of_memory(void **state)
{
    static test_vocab v;
    dp_mem_stats stats;

    for (int family = 0; family < 2; family++) {
        uint64_t failed = 1;

        if (family == 0)
            test_vocab_bpe(&v, "gpt-2");
        else
            test_vocab_spm(&v);
        for (int n = 0; failed > 0; n++) {
            dp_error err = { 0 };
            dp_tokenizer *t;
            dp_status st;

            dp_fault_arm(DP_FAULT_MEM, (uint64_t)n, 1);
            st = dp_tokenizer_open(&t, &v.tables, &err);
            failed = dp_fault_disarm(DP_FAULT_MEM);
            CHECK(st == (failed ? DP_E_NOMEM : DP_OK) && !t == !!failed, "allocation %d: %d", n,
                  st);
            dp_tokenizer_close(t);
            dp_mem_stats_read(&stats);
            CHECK(stats.heap_blocks == 0, "allocation %d leaks", n);
        }
    }
}

static void test_encode_survives_lack_of_memory(void **state)
{
    static char text[4000];
    dp_tokenizer *tokenizers[] = { open_bpe("gpt-2"), open_spm() };
    dp_mem_stats before, after;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "hello hello aaaa<|im_end|></s>"[i % 30];
    dp_mem_stats_read(&before);
    for (int family = 0; family < 2; family++) {
        uint64_t failed = 1;

        for (int n = 0; failed > 0; n++) {
            dp_token_list list = { 0 };
            dp_error err = { 0 };
            dp_status st;

            dp_fault_arm(DP_FAULT_MEM, (uint64_t)n, 1);
            st = dp_tokenizer_encode(tokenizers[family], (dp_str){ text, sizeof text }, S | B,
                                     &list, &err);
            failed = dp_fault_disarm(DP_FAULT_MEM);
            CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "allocation %d: %d", n, st);
            CHECK(!failed || list.count == 0, "allocation %d: %zu tokens stayed", n, list.count);
            dp_token_list_deinit(&list);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks, "allocation %d leaks", n);
        }
        dp_tokenizer_close(tokenizers[family]);
        dp_mem_stats_read(&before);
    }
}

static void test_decoder_survives_lack_of_memory(void **state)
{
    dp_tokenizer *t = open_spm();
    dp_decoder d;
    dp_buf out;

    /* The push that failed can be done again: nothing was lost, nothing doubled. */
    dp_buf_init(&out, BUF_MAX);
    dp_decoder_init(&d, t, false);
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(dp_decoder_push(&d, 268, &out) == DP_E_NOMEM, "push");
    CHECK(dp_fault_disarm(DP_FAULT_MEM) == 1, "one failed");
    CHECK(dp_decoder_push(&d, 268, &out) == DP_OK, "push");
    CHECK(dp_decoder_finish(&d, &out) == DP_OK, "finish");
    CHECK(!strcmp(out.bytes, "hello"), "%s", out.bytes);
    dp_buf_deinit(&out);
    dp_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe),
        cmocka_unit_test(test_bpe_whole_pieces),
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_bpe_against_the_obvious),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_harmony_goes_on_behind_thoughts),
        cmocka_unit_test(test_without_kinds),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_merges_of_control_tokens_are_idle),
        cmocka_unit_test(test_decoder_never_splits),
        cmocka_unit_test(test_decoder_and_special_tokens),
        cmocka_unit_test(test_open_survives_lack_of_memory),
        cmocka_unit_test(test_encode_survives_lack_of_memory),
        cmocka_unit_test(test_decoder_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
