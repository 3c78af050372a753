/* pretokenizer_rules.c - the expressions of published vocabularies, and the names files use.
 *
 * Sources: the pre_tokenizer of each model's published tokenizer.json. */
#include "text/pretokenizer_impl.h"

#include "text/unicode.h"

/* Letters with case, as the authors of the first DeepSeek models listed them. */
static const dp_pre_range deepseek_letters[] = {
    { 0x0041, 0x005A },   { 0x0061, 0x007A },   { 0x00B5, 0x00B5 },   { 0x00C0, 0x00D6 },
    { 0x00D8, 0x00F6 },   { 0x00F8, 0x01BA },   { 0x01BC, 0x01BF },   { 0x01C4, 0x0293 },
    { 0x0295, 0x02AF },   { 0x0370, 0x0373 },   { 0x0376, 0x0377 },   { 0x037B, 0x037D },
    { 0x037F, 0x037F },   { 0x0386, 0x0386 },   { 0x0388, 0x038A },   { 0x038C, 0x038C },
    { 0x038E, 0x03A1 },   { 0x03A3, 0x03F5 },   { 0x03F7, 0x0481 },   { 0x048A, 0x052F },
    { 0x0531, 0x0556 },   { 0x10A0, 0x10C5 },   { 0x13A0, 0x13F5 },   { 0x13F8, 0x13FD },
    { 0x1C90, 0x1CBA },   { 0x1CBD, 0x1CBF },   { 0x1D00, 0x1D2B },   { 0x1D6B, 0x1D77 },
    { 0x1D79, 0x1D9A },   { 0x1E00, 0x1F15 },   { 0x1F18, 0x1F1D },   { 0x1F20, 0x1F45 },
    { 0x1F48, 0x1F4D },   { 0x1F50, 0x1F57 },   { 0x1F59, 0x1F59 },   { 0x1F5B, 0x1F5B },
    { 0x1F5D, 0x1F5D },   { 0x1F5F, 0x1F7D },   { 0x1F80, 0x1FB4 },   { 0x1FB6, 0x1FBC },
    { 0x1FBE, 0x1FBE },   { 0x1FC2, 0x1FC4 },   { 0x1FC6, 0x1FCC },   { 0x1FD0, 0x1FD3 },
    { 0x1FD6, 0x1FDB },   { 0x1FE0, 0x1FEC },   { 0x1FF2, 0x1FF4 },   { 0x1FF6, 0x1FFC },
    { 0x2102, 0x2102 },   { 0x2107, 0x2107 },   { 0x210A, 0x2113 },   { 0x2115, 0x2115 },
    { 0x2119, 0x211D },   { 0x2124, 0x2124 },   { 0x2126, 0x2126 },   { 0x2128, 0x2128 },
    { 0x212A, 0x212D },   { 0x212F, 0x2134 },   { 0x2139, 0x2139 },   { 0x213C, 0x213F },
    { 0x2145, 0x2149 },   { 0x214E, 0x214E },   { 0x2183, 0x2184 },   { 0x2C00, 0x2C7B },
    { 0x2C7E, 0x2CE4 },   { 0x2CEB, 0x2CEE },   { 0x2CF2, 0x2CF3 },   { 0xA640, 0xA66D },
    { 0xA680, 0xA69B },   { 0xA722, 0xA76F },   { 0xA771, 0xA787 },   { 0xA78B, 0xA78E },
    { 0xAB70, 0xABBF },   { 0xFB00, 0xFB06 },   { 0xFB13, 0xFB17 },   { 0xFF21, 0xFF3A },
    { 0xFF41, 0xFF5A },   { 0x10400, 0x1044F }, { 0x104B0, 0x104D3 }, { 0x104D8, 0x104FB },
    { 0x10C80, 0x10CB2 }, { 0x10CC0, 0x10CF2 }, { 0x118A0, 0x118DF }, { 0x1E900, 0x1E943 },
};
static const dp_pre_range deepseek_symbols[] = {
    { 0x0021, 0x002F }, { 0x003A, 0x007E }, { 0x2018, 0x201F },
    { 0x3000, 0x3002 }, { 0xFF01, 0xFF0F }, { 0xFF1A, 0xFF5E },
};
static const dp_pre_range deepseek_east[] = { { 0x0800, 0x9FA5 }, { 0xAC00, 0xD7FF } };
static const dp_pre_range deepseek3_east[] = { { 0x3040, 0x30FF }, { 0x4E00, 0x9FA5 } };
static const dp_pre_range youtu_hangul[] = { { 0x3131, 0x318E }, { 0xAC00, 0xD7A3 } };
static const dp_pre_range youtu_symbols[] = {
    { 0x2014, 0x2014 }, { 0x2018, 0x2019 }, { 0x201C, 0x201D },
    { 0x2026, 0x2026 }, { 0x3001, 0x303F }, { 0xFE30, 0xFE4F },
    { 0xFF01, 0xFF01 }, { 0xFF0C, 0xFF0C }, { 0xFF1A, 0xFF1B },
};
static const dp_pre_range youtu_bopomofo[] = { { 0x3105, 0x312F } };
static const dp_pre_range newlines[] = { { '\n', '\n' }, { '\r', '\r' } };

#define RANGES(r) .match = dp_pre_match_set, .ranges = (r), .range_count = DP_ARRAY_LEN(r)
#define NOT(set)  (DP_IS_ANY & ~(set))

static const struct dp_pre_stage gpt2 = {
    .match = dp_pre_match_gpt2,
};
static const struct dp_pre_stage llama3 = {
    .match = dp_pre_match_words,
    .letters = DP_IS_L,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_FIRST,
    .count_max = 3,
};
static const struct dp_pre_stage qwen2 = {
    .match = dp_pre_match_words,
    .letters = DP_IS_L,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_FIRST,
    .count_max = 1,
};
static const struct dp_pre_stage qwen35 = {
    .match = dp_pre_match_words,
    .letters = DP_IS_L | DP_IS_M,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_M | DP_IS_N),
    .contractions = DP_CONTRACTION_FIRST,
    .count_max = 1,
};
static const struct dp_pre_stage gpt4o = {
    .match = dp_pre_match_words,
    .is_cased = true,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_BEHIND_WORD,
    .takes_slash = true,
    .count_max = 3,
};
static const struct dp_pre_stage youtu = {
    .match = dp_pre_match_words,
    .is_cased = true,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_BEHIND_WORD,
    .takes_slash = true,
    .count_max = 1,
};
static const struct dp_pre_stage kimi = {
    .match = dp_pre_match_words,
    .has_han_runs = true,
    .is_cased = true,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_BEHIND_WORD,
    .count_max = 3,
};
static const struct dp_pre_stage seed_coder = {
    .match = dp_pre_match_words,
    .letters = DP_IS_L,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .contractions = DP_CONTRACTION_FIRST,
    .leaves_newlines = true,
    .count_max = 1,
};
static const struct dp_pre_stage tekken = {
    .match = dp_pre_match_words,
    .is_cased = true,
    .word_prefix = NOT(DP_IS_L | DP_IS_N),
    .symbols = NOT(DP_IS_SPACE | DP_IS_L | DP_IS_N),
    .takes_slash = true,
    .count_max = 1,
};
static const struct dp_pre_stage deepseek3 = {
    .match = dp_pre_match_words,
    .letters = DP_IS_L | DP_IS_M,
    .word_prefix = NOT(DP_IS_L | DP_IS_P | DP_IS_S),
    .symbols = DP_IS_P | DP_IS_S,
    .has_symbol_words = true,
};
static const struct dp_pre_stage digit = {
    .match = dp_pre_match_set,
    .set = DP_IS_N,
    .count_max = 1,
};
static const struct dp_pre_stage digits3 = {
    .match = dp_pre_match_set,
    .set = DP_IS_N,
    .count_max = 3,
};
static const struct dp_pre_stage newline = {
    RANGES(newlines),
    .count_max = 1,
};
static const struct dp_pre_stage cased_words = {
    RANGES(deepseek_letters),
    .takes_space = true,
};
static const struct dp_pre_stage symbols = {
    RANGES(deepseek_symbols),
    .takes_space = true,
};
static const struct dp_pre_stage east = {
    RANGES(deepseek_east),
};
static const struct dp_pre_stage east3 = {
    RANGES(deepseek3_east),
};
static const struct dp_pre_stage hangul = {
    RANGES(youtu_hangul),
};
static const struct dp_pre_stage east_symbols = {
    RANGES(youtu_symbols),
};
static const struct dp_pre_stage bopomofo = {
    RANGES(youtu_bopomofo),
};
static const struct dp_pre_stage any_words = {
    .match = dp_pre_match_set,
    .set = DP_IS_L,
    .takes_space = true,
};
static const struct dp_pre_stage punctuation = {
    .match = dp_pre_match_set,
    .set = DP_IS_P,
    .takes_space = true,
};
static const struct dp_pre_stage trailing_space = {
    .match = dp_pre_match_trailing_space,
};

#define STAGES(...)                                                                                \
    .stages = (const struct dp_pre_stage *const[]){ __VA_ARGS__ },                                 \
    .stage_count = sizeof((const struct dp_pre_stage *const[]){ __VA_ARGS__ }) /                   \
                   sizeof(const struct dp_pre_stage *)

/* Rules that cut alike but differ in what else goes with the name are separate. */
static const dp_pretokenizer rules[] = {
    { "gpt-2", STAGES(&gpt2) },
    { "llama-bpe", STAGES(&llama3), .ignores_merges = true, .adds_bos = true },
    { "smaug-bpe", STAGES(&llama3) },
    { "qwen2", STAGES(&qwen2) },
    { "qwen35", STAGES(&qwen35) },
    { "gpt-4o", STAGES(&gpt4o) },
    { "tekken", STAGES(&tekken), .ignores_merges = true, .adds_bos = true },
    { "deepseek-v3", STAGES(&digits3, &east3, &deepseek3) },
    { "deepseek-llm", STAGES(&newline, &cased_words, &symbols, &trailing_space, &east, &digit) },
    { "deepseek-coder", STAGES(&newline, &any_words, &punctuation, &east, &digit) },
    { "starcoder", STAGES(&digit, &gpt2) },
    { "kimi-k2", STAGES(&kimi) },
    { "seed-coder", STAGES(&seed_coder) },
    { "minicpm5", STAGES(&digits3, &llama3), .ignores_merges = true },
    { "youtu", STAGES(&hangul, &east_symbols, &bopomofo, &east3, &youtu), .ignores_merges = true },
};

static const struct {
    const char *alias, *name;
} aliases[] = {
    { "", "gpt-2" },
    { "default", "gpt-2" },
    { "phi-2", "gpt-2" },
    { "mpt", "gpt-2" },
    { "olmo", "gpt-2" },
    { "jais", "gpt-2" },
    { "exaone4", "gpt-2" },
    { "gigachat", "gpt-2" },
    { "mellum", "gpt-2" },
    { "a.x-4.0", "gpt-2" },
    { "trillion", "gpt-2" },
    { "granite-docling", "gpt-2" },
    { "jina-es", "gpt-2" },
    { "jina-de", "gpt-2" },
    { "jina-v2-es", "gpt-2" },
    { "jina-v2-de", "gpt-2" },
    { "modern-bert", "gpt-2" },
    { "llama3", "llama-bpe" },
    { "llama-v3", "llama-bpe" },
    { "falcon3", "llama-bpe" },
    { "falcon-h1", "llama-bpe" },
    { "pixtral", "llama-bpe" },
    { "midm-2.0", "llama-bpe" },
    { "lfm2", "llama-bpe" },
    { "jina-v5-nano", "llama-bpe" },
    { "dbrx", "smaug-bpe" },
    { "glm4", "smaug-bpe" },
    { "chatglm-bpe", "smaug-bpe" },
    { "deepseek-r1-qwen", "qwen2" },
    { "stablelm2", "qwen2" },
    { "megrez", "qwen2" },
    { "hunyuan", "qwen2" },
    { "kormo", "qwen2" },
    { "grok-2", "qwen2" },
    { "solar-open", "qwen2" },
    { "f2llmv2", "qwen2" },
    { "llama4", "gpt-4o" },
    { "talkie", "gpt-4o" },
    { "kanana2", "gpt-4o" },
    { "minimax-m2", "gpt-4o" },
    { "hunyuan-dense", "deepseek-v3" },
    { "joyai-llm", "deepseek-v3" },
    { "hy_v4", "deepseek-v3" },
    { "refact", "starcoder" },
    { "command-r", "starcoder" },
    { "smollm", "starcoder" },
    { "codeshell", "starcoder" },
    { "exaone", "starcoder" },
    { "minerva-7b", "starcoder" },
    { "mellum2", "starcoder" },
};

const dp_pretokenizer *dp_pretokenizer_at(uint32_t i)
{
    return i < DP_ARRAY_LEN(rules) ? &rules[i] : NULL;
}

const dp_pretokenizer *dp_pretokenizer_find(dp_str name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(aliases); i++)
        if (dp_str_is(name, aliases[i].alias))
            name = dp_str_from(aliases[i].name);
    for (size_t i = 0; i < DP_ARRAY_LEN(rules); i++)
        if (dp_str_is(name, rules[i].name))
            return &rules[i];
    return NULL;
}
