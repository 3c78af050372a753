/* Descriptions of published tokenizer.json files -> the names GGUF has for them. */
#include "convert/convert_pre.h"

#include <stdlib.h>
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

#define SPLIT(regex)                                                                               \
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex                                          \
    "\"},\"behavior\":\"Isolated\",\"invert\":false},"
#define SEQUENCE(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "]}"
#define LEVEL                                                                                      \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":"      \
    "false}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true},"
#define SHORT  "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL   "|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define UPPER  "[\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define LOWER  "[\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}]"
#define WORD   "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define LLAMA3                                                                                     \
    SEQUENCE(SPLIT(SHORT "|" WORD                                                                  \
                         "\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*" TAIL)  \
                 LEVEL)
/* A class of letters as the first DeepSeek models have it. */
#define CASED                                                                                      \
    "\\\\s?[A-Za-z\\u00b5\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u01ba\\u01bc-"                    \
    "\\u01bf\\u01c4-\\u0293\\u0295-\\u02af\\u0370-\\u0373\\u0376\\u0377\\u037b-"                   \
    "\\u037d\\u037f\\u0386\\u0388-\\u038a\\u038c\\u038e-\\u03a1\\u03a3-\\u03f5\\u03f7-"            \
    "\\u0481\\u048a-\\u052f\\u0531-\\u0556\\u10a0-\\u10c5\\u13a0-\\u13f5\\u13f8-"                  \
    "\\u13fd\\u1c90-\\u1cba\\u1cbd-\\u1cbf\\u1d00-\\u1d2b\\u1d6b-\\u1d77\\u1d79-"                  \
    "\\u1d9a\\u1e00-\\u1f15\\u1f18-\\u1f1d\\u1f20-\\u1f45\\u1f48-\\u1f4d\\u1f50-"                  \
    "\\u1f57\\u1f59\\u1f5b\\u1f5d\\u1f5f-\\u1f7d\\u1f80-\\u1fb4\\u1fb6-\\u1fbc\\u1fbe"             \
    "\\u1fc2-\\u1fc4\\u1fc6-\\u1fcc\\u1fd0-\\u1fd3\\u1fd6-\\u1fdb\\u1fe0-\\u1fec\\u1ff2-"          \
    "\\u1ff4\\u1ff6-\\u1ffc\\u2102\\u2107\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124"             \
    "\\u2126\\u2128\\u212a-\\u212d\\u212f-\\u2134\\u2139\\u213c-\\u213f\\u2145-"                   \
    "\\u2149\\u214e\\u2183\\u2184\\u2c00-\\u2c7b\\u2c7e-\\u2ce4\\u2ceb-\\u2cee\\u2cf2"             \
    "\\u2cf3\\ua640-\\ua66d\\ua680-\\ua69b\\ua722-\\ua76f\\ua771-\\ua787\\ua78b-"                  \
    "\\ua78e\\uab70-\\uabbf\\ufb00-\\ufb06\\ufb13-\\ufb17\\uff21-\\uff3a\\uff41-"                  \
    "\\uff5a\\ud801\\udc00-\\ud801\\udc4f\\ud801\\udcb0-\\ud801\\udcd3\\ud801\\udcd8-"             \
    "\\ud801\\udcfb\\ud803\\udc80-\\ud803\\udcb2\\ud803\\udcc0-\\ud803\\udcf2"                     \
    "\\ud806\\udca0-\\ud806\\udcdf\\ud83a\\udd00-\\ud83a\\udd43]+"

static const struct {
    const char *name, *pre;
    bool ignores_merges;
} rows[] = {
    { "gpt-2", "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}", false },
    { "starcoder",
      SEQUENCE(DIGITS "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"),
      false },
    { "llama-bpe", LLAMA3, true },
    { "smaug-bpe", LLAMA3, false },
    { "qwen2",
      SEQUENCE(SPLIT(
          SHORT "|" WORD "\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*" TAIL) LEVEL),
      false },
    { "qwen35",
      SEQUENCE(SPLIT(SHORT "|" WORD
                           "[\\\\p{L}\\\\p{M}]+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+"
                           "[\\\\r\\\\n]*" TAIL) LEVEL),
      false },
    { "gpt-4o",
      SEQUENCE(SPLIT(WORD UPPER "*" LOWER "+" SHORT "?|" WORD UPPER "+" LOWER "*" SHORT
                                "?|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*" TAIL)
                   LEVEL),
      true },
    { "tekken",
      SEQUENCE(SPLIT(WORD UPPER "*" LOWER "+|" WORD UPPER "+" LOWER
                                "*|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*" TAIL) LEVEL),
      true },
    { "deepseek-v3",
      SEQUENCE(SPLIT("\\\\p{N}{1,3}") SPLIT("[\\u4e00-\\u9fa5\\u3040-\\u309f\\u30a0-\\u30ff]+")
                   SPLIT("[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|"
                         "[^\\r\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| "
                         "?[\\\\p{P}\\\\p{S}]+[\\r\\n]*|"
                         "\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+") LEVEL),
      false },
    { "deepseek-llm",
      SEQUENCE(SPLIT("[\\r\\n]") SPLIT(CASED) SPLIT(
          "\\\\s?[!-/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3000-\\u3002]+")
                   SPLIT("\\\\s+$") SPLIT("[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+")
                       DIGITS LEVEL),
      false },
    { "deepseek-coder",
      SEQUENCE(SPLIT("[\\r\\n]") SPLIT("\\\\s?\\\\p{L}+") SPLIT("\\\\s?\\\\p{P}+")
                   SPLIT("[\\u4e00-\\u9fa5\\u0800-\\u4e00\\uac00-\\ud7ff]+") DIGITS LEVEL),
      false },
    { NULL, SEQUENCE(SPLIT("\\\\p{L}+") LEVEL), false },
    { NULL, "{\"type\":\"Metaspace\"}", false },
    { NULL, "[]", false },
    { NULL,
      SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}"),
      false },
    { NULL, "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", false },
};

static dp_doc make_doc(size_t i)
{
    dp_doc doc = { .name = "tokenizer.json" };
    size_t size = strlen(rows[i].pre) + 100;

    doc.text = dp_alloc(size, 1);
    CHECK(doc.text, "out of memory");
    doc.size = (size_t)snprintf(doc.text, size,
                                "{\"model\":{\"ignore_merges\":%s},\"pre_tokenizer\":%s,\"x\":1}",
                                rows[i].ignores_merges ? "true" : "false", rows[i].pre);
    return doc;
}

static void test_names(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_doc doc = make_doc(i);
        dp_error err = { 0 };
        const char *name;
        dp_status st = dp_hf_pre_find(&name, &doc, &err);

        if (rows[i].name) {
            CHECK_OK(st, err);
            CHECK(strcmp(name, rows[i].name) == 0, "%s, expected %s", name, rows[i].name);
        } else
            CHECK(st == DP_E_UNSUPPORTED && !name, "row %zu: %s", i, err.text);
        dp_doc_close(&doc);
    }
}

static void test_faults(void **state)
{
    for (uint64_t n = 0;; n++) {
        dp_doc doc = make_doc(9);
        dp_mem_stats before, after;
        dp_error err = { 0 };
        const char *name;
        dp_status st;
        uint64_t failed;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_hf_pre_find(&name, &doc, &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "visit %llu leaks", (unsigned long long)n);
        dp_doc_close(&doc);
        if (!failed) {
            CHECK_OK(st, err);
            CHECK(n > 2, "only %llu visits", (unsigned long long)n);
            break;
        }
        CHECK(st == DP_E_NOMEM && err.text[0], "%d %s", st, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
