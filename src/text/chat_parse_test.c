#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"
#include "testing/check.h"
#include "text/chat_parse.h"
#include "text/tokenizer_testing.h"

#define DS(words) "<\uFF5C" words "\uFF5C>"
#define SP        "\u2581"
#define CALLS     DS("tool" SP "calls" SP "begin")
#define CALLS_END DS("tool" SP "calls" SP "end")
#define CALL      DS("tool" SP "call" SP "begin")
#define CALL_END  DS("tool" SP "call" SP "end")
#define SEP       DS("tool" SP "sep")
#define TOOLS                                                                                      \
    "[{\"type\": \"function\", \"function\": {\"name\": \"find\", \"parameters\": {\"type\": "     \
    "\"object\", \"properties\": {\"zip\": {\"type\": \"string\"}, \"n\": {\"type\": "             \
    "\"integer\"}}}}}]"

/* What a parser said, as one text: R(reasoning) C(content) T(name|id|arguments), T! when
 * broken. Neighbours of one kind are one. */
typedef struct record {
    dp_buf text, raw;
    dp_chat_event_kind last;
    uint32_t ends, left; /* left: events until a cancel, 0: none */
} record;

static bool on_event(void *user, const dp_chat_event *event)
{
    static const char letters[] = "CR";
    record *r = user;

    CHECK(r->ends == 0, "an event behind the end");
    switch (event->kind) {
    case DP_CHAT_EVENT_MARKUP:
        break;
    case DP_CHAT_EVENT_END:
        r->ends++;
        break;
    case DP_CHAT_EVENT_CALL:
        CHECK(strlen(event->name) > 0 && event->text[event->size] == '\0', "a call");
        if (dp_buf_format(&r->text, "T%s(%s|%s|", event->is_broken ? "!" : "", event->name,
                          event->id) ||
            dp_buf_append(&r->text, event->text, event->size) || dp_buf_text(&r->text, ")"))
            return false;
        break;
    default:
        CHECK(event->size > 0, "an event of nothing");
        if (r->last == event->kind && r->text.size > 0)
            r->text.bytes[--r->text.size] = '\0';
        else if (dp_buf_format(&r->text, "%c(", letters[event->kind]))
            return false;
        if (dp_buf_append(&r->text, event->text, event->size) || dp_buf_text(&r->text, ")"))
            return false;
    }
    if (event->kind != DP_CHAT_EVENT_MARKUP)
        r->last = event->kind;
    if (event->kind != DP_CHAT_EVENT_CALL && dp_buf_append(&r->raw, event->text, event->size))
        return false;
    return r->left == 0 || --r->left > 0;
}

static void record_init(record *r)
{
    *r = (record){ .last = DP_CHAT_EVENT_END };
    dp_buf_init(&r->text, SIZE_MAX / 2);
    dp_buf_init(&r->raw, SIZE_MAX / 2);
}

static void record_deinit(record *r)
{
    dp_buf_deinit(&r->text);
    dp_buf_deinit(&r->raw);
}

typedef struct parse_case {
    const char *name, *format, *prompt;
    const char *text; /* what the model writes */
    const char *want;
    bool has_no_tools;
} parse_case;

static dp_chat_parser *open_case(const parse_case *c, const dp_tokenizer *t, record *r)
{
    dp_chat_parse how = { .prompt = c->prompt,
                          .prompt_size = c->prompt ? strlen(c->prompt) : 0,
                          .tools = c->has_no_tools ? NULL : TOOLS,
                          .tools_size = strlen(TOOLS),
                          .wants_markup = true,
                          .on_event = on_event,
                          .user = r };
    dp_chat_parser *p;
    dp_error err = { 0 };

    CHECK_OK(dp_chat_parser_open_rules(&p, dp_chat_rules_find(c->format), t, &how, &err), err);
    return p;
}

/* Fed in pieces that end at first, first + step, first + 2 * step ... */
static void check_case(const parse_case *c, size_t first, size_t step)
{
    size_t size = strlen(c->text), at = 0;
    dp_chat_parser *p;
    record r;

    record_init(&r);
    p = open_case(c, NULL, &r);
    for (size_t end = first; at < size; end += step) {
        end = DP_MIN(end, size);
        CHECK(dp_chat_parser_feed(p, c->text + at, end - at) == DP_OK, "%s", c->name);
        at = end;
    }
    CHECK(dp_chat_parser_finish(p) == DP_OK && r.ends == 1, "%s", c->name);
    dp_chat_parser_close(p);
    CHECK(!strcmp(r.text.bytes ? r.text.bytes : "", c->want), "%s, cut at %zu, %zu:\n%s\nnot\n%s",
          c->name, first, step, r.text.bytes, c->want);
    CHECK(r.raw.size == size && (!size || !memcmp(r.raw.bytes, c->text, size)),
          "%s: not all came out", c->name);
    record_deinit(&r);
}

#define HEAD "<|start|>assistant"

static const parse_case cases[] = {
    { "nothing", "none", NULL, "", "" },
    { "text", "none", NULL, "a <think> b", "C(a <think> b)" },
    { "white space at both ends", "hermes", NULL, " a b \n", "C( a b \n)" },

    { "thoughts", "think", NULL, "<think>\nwell\n</think>\n\nyes", "R(well)C(yes)" },
    { "no thoughts", "think", NULL, "<think>\n\n</think>\n\nyes", "C(yes)" },
    { "thoughts that the prompt begins", "think", "<|Assistant|><think>\n", "well\n</think>\nyes",
      "R(well)C(yes)" },
    { "thoughts that the prompt ends", "think", "<think>\n\n</think>\n\n", "yes", "C(yes)" },
    { "thoughts without an end", "think", NULL, "<think>well \n", "R(well)" },
    { "a tag that is spoken of", "think", NULL, "the tag <think> is", "C(the tag <think> is)" },
    { "half a tag", "think", NULL, "<thi", "C(<thi)" },
    { "half a tag in thoughts", "think", NULL, "<think>a</thin</think>b", "R(a</thin)C(b)" },
    { "a tag that begins again", "think", NULL, "<<think>a", "C(<<think>a)" },

    { "hermes: a call", "hermes", NULL,
      "<tool_call>\n{\"name\": \"find\", \"arguments\": {\"zip\": \"1\"}}\n</tool_call>",
      "T(find||{\"zip\": \"1\"})" },
    { "hermes: thoughts, words and two calls", "hermes", NULL,
      "<think>\na</think>\n\nI look.\n<tool_call>\n{\"name\": \"find\", \"arguments\": {}}\n"
      "</tool_call>\n<tool_call>\n{\"arguments\": [1], \"name\": \"g\"}\n</tool_call>\n",
      "R(a)C(I look.)T(find||{})T(g||[1])" },
    { "hermes: no arguments", "hermes", NULL, "<tool_call>{\"name\":\"find\"}</tool_call>",
      "T(find||{})" },
    { "hermes: an id", "hermes", NULL,
      "<tool_call>{\"id\":\"x\",\"name\":\"find\",\"arguments\":{}}</tool_call>", "T(find|x|{})" },
    { "hermes: arguments in a string", "hermes", NULL,
      "<tool_call>{\"name\":\"find\",\"arguments\":\"{\\\"a\\\":1}\"}</tool_call>",
      "T(find||{\"a\":1})" },
    { "hermes: a brace is missing", "hermes", NULL,
      "<tool_call>{\"name\":\"find\",\"arguments\":{\"a\":1}</tool_call>", "T(find||{\"a\":1})" },
    { "hermes: a brace too many", "hermes", NULL,
      "<tool_call>{\"name\":\"find\",\"arguments\":{\"a\":1}}}</tool_call>", "T(find||{\"a\":1})" },
    { "hermes: broken arguments", "hermes", NULL,
      "<tool_call>{\"name\":\"find\",\"arguments\":{\"a\":}}</tool_call>", "T!(find||{\"a\":}})" },
    { "hermes: a newline in a string", "hermes", NULL,
      "<tool_call>{\"name\":\"find\",\"arguments\":{\"a\":\"\n\"}}</tool_call>",
      "T!(find||{\"a\":\"\n\"}})" },
    { "hermes: cut off", "hermes", NULL, "<tool_call>{\"name\":\"find\",\"arguments\":{\"a\"",
      "T!(find||{\"a\")" },
    { "hermes: no name", "hermes", NULL, "so <tool_call>{\"nam\": 1}</tool_call> it",
      "C(so <tool_call>{\"nam\": 1}</tool_call> it)" },
    { "hermes: no JSON", "hermes", NULL, "<tool_call>\nfind()\n</tool_call>",
      "C(<tool_call>\nfind()\n</tool_call>)" },
    { "hermes: a name that is none", "hermes", NULL, "<tool_call>{\"name\":\"a b\"}</tool_call>",
      "C(<tool_call>{\"name\":\"a b\"}</tool_call>)" },
    { "hermes: empty", "hermes", NULL, "<tool_call></tool_call>", "C(<tool_call></tool_call>)" },
    { "hermes: an end alone", "hermes", NULL, "a</tool_call>", "C(a</tool_call>)" },
    { "hermes: words behind a call", "hermes", NULL,
      "<tool_call>{\"name\":\"f\"}</tool_call>\n\nDone", "T(f||{})C(Done)" },

    { "coder: a call", "qwen3-coder", NULL,
      "I look.\n<tool_call>\n<function=find>\n<parameter=zip>\n01234\n</parameter>\n<parameter=n>"
      "\n7\n</parameter>\n<parameter=why>\na \"b\"\n\tc\\\n</parameter>\n</function>\n</tool_call>",
      "C(I look.)T(find||{\"zip\": \"01234\", \"n\": 7, \"why\": \"a "
      "\\\"b\\\"\\n\\u0009c\\\\\"})" },
    { "coder: no tools, so numbers are numbers", "qwen3-coder", NULL,
      "<tool_call>\n<function=find>\n<parameter=zip>\n1234\n</parameter>\n</function>\n</"
      "tool_call>",
      "T(find||{\"zip\": 1234})", .has_no_tools = true },
    { "coder: no arguments", "qwen3-coder", NULL,
      "<tool_call>\n<function=find>\n</function>\n</tool_call>", "T(find||{})" },
    { "coder: the outer tag was forgotten", "qwen3-coder", NULL,
      "x\n<function=find>\n<parameter=n>\n1\n</parameter>\n</function>\n</tool_call>\n",
      "C(x)T(find||{\"n\": 1})" },
    { "coder: an inner tag was forgotten", "qwen3-coder", NULL,
      "<tool_call><function=find><parameter=n>1<parameter=zip>2</function></tool_call>",
      "T(find||{\"n\": 1, \"zip\": \"2\"})" },
    { "coder: a value that speaks of tags", "qwen3-coder", NULL,
      "<tool_call><function=find><parameter=zip>a</parameter>b</parameter></function></tool_call>",
      "T(find||{\"zip\": \"a</parameter>b\"})" },
    { "coder: JSON", "qwen3-coder", NULL, "<tool_call>{\"name\":\"f\"}</tool_call>", "T(f||{})" },
    { "coder: words", "qwen3-coder", NULL, "write <function=f> there",
      "C(write <function=f> there)" },

    { "llama: a call", "llama3", NULL, "{\"name\": \"find\", \"parameters\": {\"n\": 1}}",
      "T(find||{\"n\": 1})" },
    { "llama: two", "llama3", NULL,
      " {\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", "
      "\"parameters\": {}} ",
      "T(f||{})T(g||{})" },
    { "llama: JSON that is no call", "llama3", NULL, "{\"name\": \"Ann\", \"age\": 3}",
      "C({\"name\": \"Ann\", \"age\": 3})" },
    { "llama: a call and words", "llama3", NULL, "{\"name\":\"f\",\"parameters\":{}} so",
      "C({\"name\":\"f\",\"parameters\":{}} so)" },
    { "llama: a call behind words", "llama3", NULL, "I: {\"name\":\"f\",\"parameters\":{}}",
      "C(I: {\"name\":\"f\",\"parameters\":{}})" },
    { "llama: JSON without tools", "llama3", NULL, "{\"name\":\"f\",\"parameters\":{}}",
      "C({\"name\":\"f\",\"parameters\":{}})", .has_no_tools = true },
    { "llama: cut off", "llama3", NULL, "{\"name\":\"f\",\"parameters\":{",
      "C({\"name\":\"f\",\"parameters\":{)" },
    { "llama: a tag", "llama3", NULL, "<|python_tag|>{\"name\": \"f\", \"parameters\": {\"a\":1}}",
      "T(f||{\"a\":1})" },
    { "llama: a builtin tool", "llama3", NULL,
      "<|python_tag|>brave_search.call(query=\"a, b\", n='1')",
      "T(brave_search||{\"query\": \"a, b\", \"n\": \"1\"})" },
    { "llama: thoughts of a model made of it", "llama3", NULL, "<think>a</think>b", "R(a)C(b)" },
    { "llama: a call behind thoughts", "llama3", "<think>\n",
      "{a</think>\n{\"name\":\"f\",\"parameters\":{}}", "R({a)T(f||{})" },
    { "llama: JSON in thoughts", "llama3", "<think>\n", "a <{\"name\":\"f\",\"parameters\":{}}",
      "R(a <{\"name\":\"f\",\"parameters\":{}})" },
    { "llama: a program", "llama3", NULL, "<|python_tag|>print(\"a\")\nx.call(1)",
      "T(code_interpreter||{\"code\": \"print(\\\"a\\\")\\nx.call(1)\"})" },

    { "mistral: a list", "mistral", NULL,
      "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}, "
      "{\"name\": \"g\", \"arguments\": {}}]",
      "T(f|abcdefghi|{\"a\": 1})T(g||{})" },
    { "mistral: new", "mistral", NULL, "Hm[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}",
      "C(Hm)T(f||{\"a\": 1})T(g||{})" },
    { "mistral: new, with ids", "mistral", NULL,
      "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"a\": \"[ARGS]\"}",
      "T(f|abcdefghi|{\"a\": \"[ARGS]\"})" },
    { "mistral: no mark of arguments", "mistral", NULL, "[TOOL_CALLS]f{\"a\": 1}",
      "T(f||{\"a\": 1})" },
    { "mistral: cut off", "mistral", NULL, "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a",
      "T!(f||{\"a)" },
    { "mistral: nothing", "mistral", NULL, "[TOOL_CALLS]f", "C([TOOL_CALLS]f)" },
    { "mistral: thoughts", "mistral", NULL, "[THINK]a[/THINK]b", "R(a)C(b)" },
    { "mistral: brackets", "mistral", NULL, "a[0] = [TOOL", "C(a[0] = [TOOL)" },

    { "deepseek: V3", "deepseek", NULL,
      "I look." CALLS CALL "function" SEP "find\n```json\n{\"n\": 1}\n```" CALL_END "\n" CALL
      "function" SEP "g\n```json\n{}\n```" CALL_END CALLS_END,
      "C(I look.)T(find||{\"n\": 1})T(g||{})" },
    { "deepseek: R1", "deepseek", DS("Assistant") "<think>\n",
      "Hm.\n</think>\n\n" CALLS CALL "function" SEP "f\n```json\n{}\n```" CALL_END CALLS_END,
      "R(Hm.)T(f||{})" },
    { "deepseek: V3.1", "deepseek", DS("Assistant") "</think>",
      CALLS CALL "find" SEP "{\"a\": \"```\"}" CALL_END CALL "g" SEP "{}" CALL_END CALLS_END,
      "T(find||{\"a\": \"```\"})T(g||{})" },
    { "deepseek: broken", "deepseek", NULL, CALLS CALL "f" SEP "{]" CALL_END CALLS_END,
      "T!(f||{])" },
    { "deepseek: no mark of arguments", "deepseek", NULL, "a " CALLS CALL "f" CALL_END CALLS_END,
      "C(a " CALLS CALL "f" CALL_END ")" },
    { "deepseek: an end is missing", "deepseek", NULL, CALLS CALL "f" SEP "{}" CALLS_END "b",
      "T(f||{})C(b)" },
    { "deepseek: words in a section", "deepseek", NULL, CALLS "\nwell", "C(" CALLS "\nwell)" },
    { "deepseek: an empty section", "deepseek", NULL, "a" CALLS CALLS_END, "C(a)" },
    { "deepseek: a mark that goes wrong", "deepseek", NULL, "<\uFF5Ctool" SP "c\uFF5C>",
      "C(<\uFF5Ctool" SP "c\uFF5C>)" },

    { "kimi: two calls", "kimi-k2", NULL,
      "I look.<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0"
      "<|tool_call_argument_begin|>{\"n\": 1}<|tool_call_end|><|tool_call_begin|>functions.g:12"
      "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>",
      "C(I look.)T(find|functions.find:0|{\"n\": 1})T(g|functions.g:12|{})" },
    { "kimi: a bare name", "kimi-k2", NULL,
      "<|tool_calls_section_begin|><|tool_call_begin|>find<|tool_call_argument_begin|>{}",
      "T(find|find|{})" },

    { "harmony: an answer", "harmony", HEAD,
      "<|channel|>analysis<|message|>Hm.<|end|>" HEAD "<|channel|>final<|message|> Yes. <|return|>",
      "R(Hm.)C( Yes. )" },
    { "harmony: a call", "harmony", HEAD,
      "<|channel|>analysis<|message|>Hm.<|end|>" HEAD "<|channel|>commentary to=functions.find "
      "<|constrain|>json<|message|>{\"n\": 1}<|call|>",
      "R(Hm.)T(find||{\"n\": 1})" },
    { "harmony: the recipient first", "harmony", HEAD,
      " to=functions.find<|channel|>commentary json<|message|>{}<|call|>", "T(find||{})" },
    { "harmony: said before a call", "harmony", HEAD,
      "<|channel|>commentary<|message|>I look.<|end|>" HEAD
      "<|channel|>commentary to=functions.f<|message|>{<|call|>",
      "C(I look.)T!(f||{)" },
    { "harmony: a tool of its own", "harmony", HEAD,
      "<|channel|>analysis to=browser.search code<|message|>{\"query\":\"a\"}<|call|>",
      "T(browser.search||{\"query\":\"a\"})" },
    { "harmony: for the user", "harmony", HEAD, "<|channel|>final to=user<|message|>a<|end|>",
      "C(a)" },
    { "harmony: two calls", "harmony", NULL,
      "<|channel|>commentary to=functions.f<|message|>{}<|end|>" HEAD
      "<|channel|>commentary to=functions.g<|message|>{}",
      "T(f||{})T(g||{})" },
    { "harmony: cut off", "harmony", HEAD, "<|channel|>analysis<|message|>a < b<|en",
      "R(a < b<|en)" },
    { "harmony: an end was forgotten", "harmony", HEAD,
      "<|channel|>analysis<|message|>a" HEAD "<|channel|>final<|message|>b", "R(a)C(b)" },
    { "harmony: no start", "harmony", HEAD,
      "<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b", "R(a)C(b)" },
    { "harmony: a prompt within a message", "harmony",
      "<|start|>user<|message|>x<|end|>" HEAD "<|channel|>analysis<|message|>", "a<|end|>",
      "R(a)" },
    { "harmony: no header", "harmony", HEAD, "Hello there.", "C(Hello there.)" },
    { "harmony: a header alone", "harmony", HEAD, "<|channel|>final<|end|>",
      "C(<|channel|>final)" },
    { "harmony: words between", "harmony", HEAD, "<|message|>a<|end|>\nb", "C(ab)" },
    { "harmony: a name that is none", "harmony", HEAD, " to=a,b<|message|>{}<|call|>",
      "C( to=a,b<|message|>{})" },
};

/* However it is cut, the same comes out: at every place once, and into pieces of every size. */
static void test_formats(void **state)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(cases); i++) {
        size_t size = strlen(cases[i].text);

        for (size_t first = 0; first <= size; first++)
            check_case(&cases[i], first, size + 1);
        for (size_t step = 1; step < 8; step++)
            check_case(&cases[i], step, step);
    }
}

/* Marks, beginnings of marks and other text in any order: all of it comes out, and
 * in the same events however it is cut. */
static void test_any_order(void **state)
{
    static const char *const parts[] = { "<think>",
                                         "</think>",
                                         "<tool_call>",
                                         "</tool_call>",
                                         "{\"name\":\"f\",\"arguments\":{}}",
                                         "<function=f>",
                                         "<parameter=a>",
                                         "</function>",
                                         "<|python_tag|>",
                                         "[TOOL_CALLS]",
                                         "[ARGS]",
                                         CALLS,
                                         CALL,
                                         SEP,
                                         CALL_END,
                                         CALLS_END,
                                         "<|start|>",
                                         "<|channel|>",
                                         "<|message|>",
                                         "<|end|>",
                                         " to=f",
                                         "analysis",
                                         "<|tool_calls_section_begin|>",
                                         "<|tool_call_begin|>",
                                         "<|tool_call_argument_begin|>",
                                         "<|tool_call_end|>",
                                         "<|tool_calls_section_end|>",
                                         " ",
                                         "\n",
                                         "a",
                                         "<",
                                         "[",
                                         "{",
                                         "```" };
    dp_rng rng;

    dp_rng_init(&rng, 5);
    for (int n = 0; n < 3000; n++) {
        for (uint32_t f = 0; dp_chat_rules_at(f); f++) {
            parse_case c = { "random", dp_chat_rules_name(dp_chat_rules_at(f)) };
            dp_chat_parser *p;
            char text[512] = "";
            record r;

            for (uint64_t i = dp_rng_below(&rng, 12); i > 0; i--)
                strcat(text, parts[dp_rng_below(&rng, DP_ARRAY_LEN(parts))]);
            record_init(&r);
            p = open_case(&c, NULL, &r);
            CHECK(dp_chat_parser_feed(p, text, strlen(text)) == DP_OK, "%s", text);
            CHECK(dp_chat_parser_finish(p) == DP_OK, "%s", text);
            dp_chat_parser_close(p);
            c.text = text;
            c.want = r.text.bytes ? r.text.bytes : "";
            check_case(&c, 1, 1);
            check_case(&c, (size_t)dp_rng_below(&rng, 20), 3);
            record_deinit(&r);
        }
    }
}

/* ---- tokens ---- */

/* A vocabulary of bytes with a format's marks as control tokens. */
static dp_tokenizer *open_marks(const char *const *marks)
{
    static test_vocab v;
    dp_tokenizer *t;
    dp_error err = { 0 };

    test_vocab_bpe(&v, "gpt-2");
    for (; *marks; marks++)
        test_vocab_add(&v, dp_str_from(*marks), DP_TOKEN_CONTROL, 0);
    CHECK_OK(dp_tokenizer_open(&t, &v.tables, &err), err);
    return t;
}

/* Control tokens are marks, and text that spells them is text. */
static void test_tokens(void **state)
{
    static const char *const marks[] = { "<|start|>",  "<|channel|>", "<|message|>",   "<|end|>",
                                         "<|return|>", "<|call|>",    "<|constrain|>", NULL };
    static const parse_case c = { "tokens", "harmony", HEAD };
    static const char *const pieces[] = { "<|channel|>", "analysis",    "<|message|>",
                                          "a <|end|> b", "<|end|>",     "<|start|>",
                                          "assistant",   "<|channel|>", "final",
                                          "<|message|>", "<|",          "<|return|>" };
    static const bool is_control[] = { true,  false, true,  false, true,  true,
                                       false, true,  false, true,  false, true };
    dp_tokenizer *t = open_marks(marks);
    dp_chat_parser *p;
    record r;

    record_init(&r);
    p = open_case(&c, t, &r);
    for (size_t i = 0; i < DP_ARRAY_LEN(pieces); i++) {
        dp_str piece = dp_str_from(pieces[i]);

        if (is_control[i])
            dp_chat_parser_feed_token(p, dp_tokenizer_find(t, piece));
        else
            dp_chat_parser_feed(p, piece.bytes, piece.size);
    }
    dp_chat_parser_feed_token(p, 'a'); /* not a control token */
    dp_chat_parser_feed_token(p, 271); /* one that is no mark */
    dp_chat_parser_feed_token(p, 1 << 30);
    CHECK(dp_chat_parser_finish(p) == DP_OK, "finish");
    CHECK(!strcmp(r.text.bytes, "R(a <|end|> b)C(<|)"), "%s", r.text.bytes);
    CHECK(strstr(r.raw.bytes, "<|<|return|><|begin|>"), "%s", r.raw.bytes);
    dp_chat_parser_close(p);
    dp_tokenizer_close(t);
    record_deinit(&r);
}

/* ---- which format ---- */

static void test_detection(void **state)
{
    static const struct {
        const char *chat_template, *name;
    } rows[] = {
        { "", "none" },
        { "{{ '<|im_start|>' }}", "none" },
        { "{{ '<|im_start|>' }}... </think>", "think" },
        { "<|im_start|> <tool_call> </think>", "hermes" },
        { "<|im_start|> <tool_call> <function=f>", "qwen3-coder" },
        { "<|start_header_id|>", "llama3" },
        { "[INST] [TOOL_CALLS]", "mistral" },
        { "[INST]", "none" },
        { DS("Assistant") "<think>", "deepseek" },
        { "<|channel|> <|message|>", "harmony" },
        { "<|tool_call_argument_begin|>", "kimi-k2" },
    };
    static const char *const harmony[] = { "<|channel|>", NULL }, *const plain[] = { NULL };
    dp_tokenizer *t = open_marks(plain);

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        const dp_chat_rules *rules = dp_chat_rules_detect(dp_str_from(rows[i].chat_template), t);

        CHECK(!strcmp(dp_chat_rules_name(rules), rows[i].name), "%s: %s", rows[i].chat_template,
              dp_chat_rules_name(rules));
    }
    dp_tokenizer_close(t);
    t = open_marks(harmony);
    CHECK(dp_chat_rules_detect(dp_str_from(""), t) == dp_chat_rules_find("harmony"), "vocabulary");
    CHECK(dp_chat_rules_detect(dp_str_from("x"), t) == dp_chat_rules_find("none"), "a template");
    CHECK(!dp_chat_rules_find("nothing"), "no such format");
    for (uint32_t n = 0; dp_chat_parse_format_at(n); n++)
        CHECK(dp_chat_rules_find(dp_chat_parse_format_at(n)) == dp_chat_rules_at(n), "%u", n);
    dp_tokenizer_close(t);
}

/* ---- bounds and failures ---- */

/* What is too long to wait comes out as content, all of it. */
static void test_bounds(void **state)
{
    static const struct {
        const char *format, *before, *pattern;
        size_t size;
        char first; /* of the events */
    } rows[] = {
        { "hermes", "<tool_call>", "{", DP_CHAT_CALL_BYTES_MAX + 100, 'C' },
        { "hermes", "<tool_call>", "<", DP_CHAT_CALL_BYTES_MAX + 100, 'C' },
        { "llama3", "", "{", DP_CHAT_CALL_BYTES_MAX + 100, 'C' },
        { "hermes", "", " ", DP_CHAT_SPACE_BYTES_MAX + 1, 'C' },
        { "hermes", "<think>a", "\n", 3 * DP_CHAT_SPACE_BYTES_MAX, 'R' },
        { "harmony", "", "a", 5000, 'C' },
        { "harmony", " to=f<|message|>", "{", DP_CHAT_CALL_BYTES_MAX + 100, 'C' },
        { "harmony", "", "<|channel|>", 11 * 500, 'C' },
        { "qwen3-coder", "<tool_call><function=f>", "<parameter=a>", 13 * 2000, 'C' },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        size_t before = strlen(rows[i].before), size = strlen(rows[i].pattern);
        char *text = malloc(before + rows[i].size + 1);

        CHECK(text, "memory");
        memcpy(text, rows[i].before, before);
        for (size_t at = 0; at < rows[i].size; at++)
            text[before + at] = rows[i].pattern[at % size];
        text[before + rows[i].size] = '\0';
        for (size_t step = 777; step < 100000; step *= 10) {
            parse_case c = { rows[i].pattern, rows[i].format };
            dp_chat_parser *p;
            record r;

            record_init(&r);
            p = open_case(&c, NULL, &r);
            for (size_t at = 0; at < before + rows[i].size; at += step)
                CHECK(dp_chat_parser_feed(p, text + at, DP_MIN(step, before + rows[i].size - at)) ==
                          DP_OK,
                      "%zu", i);
            CHECK(dp_chat_parser_finish(p) == DP_OK, "%zu", i);
            CHECK(r.raw.size == before + rows[i].size && !memcmp(r.raw.bytes, text, r.raw.size),
                  "row %zu: not all came out", i);
            CHECK(r.text.bytes[0] == rows[i].first && r.text.size > rows[i].size, "row %zu: %.40s",
                  i, r.text.bytes);
            dp_chat_parser_close(p);
            record_deinit(&r);
        }
        free(text);
    }
}

static void test_refusals(void **state)
{
    static const struct {
        const char *tools;
        dp_status want;
    } rows[] = { { "[]", DP_OK },      { "[{}]", DP_OK },       { "{}", DP_E_CORRUPT },
                 { "", DP_E_CORRUPT }, { "[{]", DP_E_CORRUPT }, { "[] []", DP_E_CORRUPT } };
    dp_chat_parser *p;
    dp_error err;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_chat_parse how = { .tools = rows[i].tools, .tools_size = strlen(rows[i].tools) };

        CHECK(dp_chat_parser_open_rules(&p, dp_chat_rules_find("llama3"), NULL, &how, &err) ==
                  rows[i].want,
              "%s", rows[i].tools);
        CHECK(!p == (rows[i].want != DP_OK), "%s", rows[i].tools);
        dp_chat_parser_close(p);
    }
}

static void test_cancel(void **state)
{
    static const parse_case c = { "cancel", "hermes" };
    dp_chat_parser *p;
    record r;

    record_init(&r);
    r.left = 1;
    p = open_case(&c, NULL, &r);
    CHECK(dp_chat_parser_feed(p, "a", 1) == DP_E_CANCELED, "at the first");
    CHECK(dp_chat_parser_feed(p, "b", 1) == DP_E_CANCELED && r.raw.size == 1, "and again");
    CHECK(dp_chat_parser_finish(p) == DP_E_CANCELED && r.ends == 0, "and at the end");
    dp_chat_parser_close(p);
    record_deinit(&r);
}

/* The 1st, 2nd ... allocation fails: a status, and nothing leaks. */
static void test_no_memory(void **state)
{
    static const parse_case *const rows[] = { &cases[12], &cases[27], &cases[60], &cases[63] };
    dp_mem_stats stats;

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        for (uint64_t n = 0;; n++) {
            const parse_case *c = rows[i];
            dp_chat_parse how = { .prompt = c->prompt,
                                  .prompt_size = c->prompt ? strlen(c->prompt) : 0,
                                  .tools = TOOLS,
                                  .tools_size = strlen(TOOLS) };
            dp_chat_parser *p;
            dp_error err = { 0 };
            dp_status st;

            dp_fault_arm(DP_FAULT_MEM, n, 1);
            st = dp_chat_parser_open_rules(&p, dp_chat_rules_find(c->format), NULL, &how, &err);
            if (!st) {
                dp_chat_parser_feed(p, c->text, strlen(c->text));
                st = dp_chat_parser_finish(p);
            }
            dp_chat_parser_close(p);
            if (dp_fault_disarm(DP_FAULT_MEM) == 0) {
                CHECK(!st && n > 2, "%s: after %d", c->name, (int)n);
                break;
            }
            CHECK(st == DP_OK || st == DP_E_NOMEM, "%s: %d", c->name, st);
        }
    }
    dp_mem_stats_read(&stats);
    CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats), cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_tokens),  cmocka_unit_test(test_detection),
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_cancel),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
