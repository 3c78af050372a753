#include "doppler/doppler.h"
#include "engine/vocab.h"
#include "testing/check.h"
#include "text/tokenizer_testing.h"

static dp_vocab open_vocab(const char *chat_template)
{
    static test_vocab v;
    dp_error err = { 0 };
    dp_vocab vocab = { .chat_template = (char *)chat_template };

    test_vocab_bpe(&v, "gpt-2");
    CHECK_OK(dp_tokenizer_open(&vocab.tokenizer, &v.tables, &err), err);
    return vocab;
}

/* By name, by another template, by the vocabulary's own, by nothing. */
static void test_which_format(void **state)
{
    static const struct {
        const char *own, *format, *other, *want;
    } rows[] = {
        { NULL, NULL, NULL, "none" },
        { "<tool_call>", NULL, NULL, "hermes" },
        { "<tool_call>", "auto", NULL, "hermes" },
        { "<tool_call>", "auto", "[TOOL_CALLS]", "mistral" },
        { "<tool_call>", "none", "[TOOL_CALLS]", "none" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_vocab vocab = open_vocab(rows[i].own);
        dp_chat_parse how = { .format = rows[i].format, .template_text = rows[i].other };
        dp_chat_parser *p;
        dp_error err = { 0 };

        CHECK_OK(dp_chat_parser_open(&p, &vocab, &how, &err), err);
        CHECK(!strcmp(dp_chat_parser_format(p), rows[i].want), "row %zu: %s", i,
              dp_chat_parser_format(p));
        CHECK(dp_chat_parser_feed(p, "a", 1) == DP_OK && dp_chat_parser_finish(p) == DP_OK,
              "nobody listens");
        dp_chat_parser_close(p);
        dp_tokenizer_close(vocab.tokenizer);
    }
}

static void test_refusals(void **state)
{
    dp_chat_parser *p;
    dp_error err = { 0 };

    CHECK(dp_chat_parser_open(&p, NULL, &(dp_chat_parse){ .format = "hermse" }, &err) ==
                  DP_E_INVALID &&
              !p,
          "a format that is none");
    CHECK(strstr(err.text, "hermse"), "%s", err.text);
    CHECK(dp_chat_parser_open(&p, NULL, &(dp_chat_parse){ .tools = "{", .tools_size = 1 }, &err) ==
                  DP_E_CORRUPT &&
              !p,
          "tools that are none");
    dp_chat_parser_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_format),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
