#include "convert/convert_pre.h"

#include <stdio.h>
#include <string.h>
#include "base/status.h"
#include "base/utf8.h"

#define DESCRIPTION_MAX ((size_t)16 << 10) /* DeepSeek's first is 1 KiB */
#define SHOWN_MAX       300                /* of it, in an error sentence */
#define DEPTH_MAX       4                  /* sequences in sequences */

/* One line a step: S and an expression (cut at its matches), D (each digit alone),
 * B (GPT-2's own expression). */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-"                 \
    "\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-"                  \
    "\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"               \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}"                 \
    "\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-"                  \
    "\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"                  \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}"                 \
    "\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}"                   \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-"                  \
    "\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}"                   \
    "\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"                  \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}"                 \
    "\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}"                 \
    "\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"           \
    "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-"                   \
    "\\x{1E943}"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL         "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\n"
#define CAPITALS     "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define SMALL        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define WORD         "[^\\r\\n\\p{L}\\p{N}]?"
#define GPT4         "S" CONTRACTIONS "|" WORD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL

static const struct {
    const char *name, *description;
    int ignores_merges; /* 1, 0; -1: whatever the file says */
} rules[] = {
    { "gpt-2", "B\n", -1 },
    { "starcoder", "D\nB\n", -1 },
    { "llama-bpe", GPT4, 1 },
    { "smaug-bpe", GPT4, 0 },
    { "qwen2", "S" CONTRACTIONS "|" WORD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL, -1 },
    { "qwen35",
      "S" CONTRACTIONS "|" WORD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL,
      -1 },
    { "gpt-4o",
      "S" WORD CAPITALS "*" SMALL "+" CONTRACTIONS "?|" WORD CAPITALS "+" SMALL "*" CONTRACTIONS
      "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL,
      -1 },
    { "tekken",
      "S" WORD CAPITALS "*" SMALL "+|" WORD CAPITALS "+" SMALL
      "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL,
      -1 },
    { "deepseek-v3",
      "S\\p{N}{1,3}\n"
      "S[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+\n"
      "S[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
      "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL,
      -1 },
    { "deepseek-llm",
      "S[\\r\\n]\nS\\s?[" CASED_LETTERS "]+\n"
      "S\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-"
      "\\x{3002}]+\n"
      "S\\s+$\nS[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+\nD\n",
      -1 },
    { "deepseek-coder",
      "S[\\r\\n]\nS\\s?\\p{L}+\nS\\s?\\p{P}+\n"
      "S[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+\nD\n",
      -1 },
};

struct reader {
    const dp_doc *doc;
    dp_json json;
    dp_buf steps; /* the description so far */
    dp_error *err;
};

/* What is known of a step when its object ends. */
struct step {
    char type[32];
    bool has_regex, is_isolated, is_inverted, is_removed, uses_regex, is_single;
};

static dp_status fail_memory(struct reader *r, dp_status st)
{
    return dp_fail(r->err, st, "%s: a pre-tokenizer of more than %zu bytes, or no memory for it",
                   r->doc->name, DESCRIPTION_MAX);
}

/* Published files have a newline in an expression as itself or as \n. */
static dp_status put_expression(struct reader *r, dp_str text)
{
    dp_status st = dp_buf_text(&r->steps, "S");

    for (size_t at = 0; at < text.size && !st;) {
        uint32_t cp;
        size_t size = dp_utf8_decode(text.bytes + at, text.size - at, &cp);

        if (cp == '\n' || cp == '\r')
            st = dp_buf_text(&r->steps, cp == '\n' ? "\\n" : "\\r");
        else if (cp >= 0x20 && cp < 0x7f)
            st = dp_buf_append(&r->steps, text.bytes + at, 1);
        else
            st = dp_buf_format(&r->steps, "\\x{%X}", (unsigned)cp);
        at += size;
    }
    if (!st)
        st = dp_buf_text(&r->steps, "\n");
    return st ? fail_memory(r, st) : DP_OK;
}

/* {"Regex": text}. */
static dp_status read_pattern(struct reader *r, struct step *step)
{
    dp_json_token token;
    dp_status st = dp_json_next(&r->json, &token, r->err);

    if (st || token.kind != DP_JSON_OBJECT_BEGIN)
        return st;
    while (dp_doc_next(&r->json, &token, &st, r->err)) {
        bool is_regex = dp_str_is(token.text, "Regex");

        st = dp_json_next(&r->json, &token, r->err);
        if (!st && is_regex && token.kind == DP_JSON_STRING) {
            step->has_regex = true;
            st = put_expression(r, token.text);
        } else if (!st) {
            st = dp_json_skip(&r->json, &token, r->err);
        }
    }
    return st;
}

static dp_status read_sequence(struct reader *r, int depth);

static dp_status read_member(struct reader *r, struct step *step, dp_json_token *token, int depth)
{
    char name[32];
    dp_status st;

    snprintf(name, sizeof name, "%.*s", (int)DP_MIN(token->text.size, sizeof name - 1),
             token->text.bytes);
    if (strcmp(name, "pattern") == 0)
        return read_pattern(r, step);
    if (strcmp(name, "pretokenizers") == 0)
        return read_sequence(r, depth + 1);
    st = dp_json_next(&r->json, token, r->err);
    if (st)
        return st;
    if (strcmp(name, "type") == 0 && token->kind == DP_JSON_STRING)
        snprintf(step->type, sizeof step->type, "%.*s",
                 (int)DP_MIN(token->text.size, sizeof step->type - 1), token->text.bytes);
    else if (strcmp(name, "behavior") == 0 && token->kind == DP_JSON_STRING) {
        step->is_isolated = dp_str_is(token->text, "Isolated");
        step->is_removed = dp_str_is(token->text, "Removed");
    } else if (strcmp(name, "invert") == 0)
        step->is_inverted = token->kind == DP_JSON_TRUE;
    else if (strcmp(name, "use_regex") == 0)
        step->uses_regex = token->kind == DP_JSON_TRUE;
    else if (strcmp(name, "individual_digits") == 0)
        step->is_single = token->kind == DP_JSON_TRUE;
    else if (strcmp(name, "add_prefix_space") == 0 && token->kind == DP_JSON_TRUE)
        return dp_fail(r->err, DP_E_UNSUPPORTED,
                       "%s: \"add_prefix_space\" of a byte-level tokenizer is not converted",
                       r->doc->name);
    return dp_json_skip(&r->json, token, r->err);
}

/* The object whose BEGIN was just read: one step, or a sequence of them. */
static dp_status read_step(struct reader *r, int depth)
{
    struct step step = { .uses_regex = true };
    dp_json_token token;
    dp_status st = DP_OK;

    while (dp_doc_next(&r->json, &token, &st, r->err))
        st = read_member(r, &step, &token, depth);
    if (st || strcmp(step.type, "Sequence") == 0)
        return st;
    if (strcmp(step.type, "Split") == 0 && step.has_regex &&
        ((step.is_isolated && !step.is_inverted) || (step.is_removed && step.is_inverted)))
        return DP_OK;
    if (strcmp(step.type, "ByteLevel") == 0)
        st = step.uses_regex ? dp_buf_text(&r->steps, "B\n") : DP_OK;
    else if (strcmp(step.type, "Digits") == 0 && step.is_single)
        st = dp_buf_text(&r->steps, "D\n");
    else
        return dp_fail(r->err, DP_E_UNSUPPORTED,
                       "%s: a pre-tokenizer step of type %s is not converted", r->doc->name,
                       step.type[0] ? step.type : "(none)");
    return st ? fail_memory(r, st) : DP_OK;
}

static dp_status read_sequence(struct reader *r, int depth)
{
    dp_json_token token;
    dp_status st = dp_json_next(&r->json, &token, r->err);

    if (!st && (token.kind != DP_JSON_ARRAY_BEGIN || depth > DEPTH_MAX))
        st = dp_fail(r->err, DP_E_CORRUPT, "%s: \"pretokenizers\" is not a list of steps",
                     r->doc->name);
    while (dp_doc_next(&r->json, &token, &st, r->err)) {
        if (token.kind != DP_JSON_OBJECT_BEGIN)
            return dp_fail(r->err, DP_E_CORRUPT, "%s: a step of \"pretokenizers\" is no object",
                           r->doc->name);
        st = read_step(r, depth);
    }
    return st;
}

static dp_status look_up(struct reader *r, bool ignores_merges, const char **out)
{
    const char *text = r->steps.bytes ? r->steps.bytes : "";
    char shown[SHOWN_MAX];
    size_t size = 0;

    for (size_t i = 0; i < DP_ARRAY_LEN(rules); i++)
        if (strcmp(rules[i].description, text) == 0 &&
            (rules[i].ignores_merges < 0 || rules[i].ignores_merges == ignores_merges)) {
            *out = rules[i].name;
            return DP_OK;
        }
    for (; text[size] && size < sizeof shown - 1; size++)
        shown[size] = text[size] == '\n' ? ' ' : text[size];
    shown[size] = '\0';
    return dp_fail(r->err, DP_E_UNSUPPORTED, "%s: this pre-tokenizer is not known: %s",
                   r->doc->name, shown);
}

dp_status dp_hf_pre_find(const char **out, const dp_doc *tokenizer, dp_error *err)
{
    struct reader r = { .doc = tokenizer, .err = err };
    bool ignores_merges = false, is_found;
    dp_json_token token;
    dp_status st;

    *out = NULL;
    dp_buf_init(&r.steps, DESCRIPTION_MAX);
    st = dp_doc_find(tokenizer, "pre_tokenizer", &r.json, &token, &is_found, err);
    if (!st && (!is_found || token.kind != DP_JSON_OBJECT_BEGIN))
        st = dp_fail(err, DP_E_UNSUPPORTED, "%s: has no \"pre_tokenizer\"", tokenizer->name);
    if (!st)
        st = read_step(&r, 0);
    dp_json_deinit(&r.json);
    if (!st)
        st = dp_doc_bool(tokenizer, "model.ignore_merges", &ignores_merges, &is_found, err);
    if (!st)
        st = look_up(&r, ignores_merges, out);
    dp_buf_deinit(&r.steps);
    return st;
}
