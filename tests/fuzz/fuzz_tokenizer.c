/* Any bytes as text, and as a vocabulary. Text must come back from its tokens as it
 * was; a vocabulary of nonsense is refused or used, but never harms. */
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "text/chat.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_testing.h"

enum { TEXT_MAX = 1 << 20, RULES_MAX = 32 };

/* Special tokens in SPM's text put a space behind themselves, and a strange
 * vocabulary may lack bytes: then text does not come back as it was. */
static void there_and_back(const dp_tokenizer *t, dp_str text, uint32_t flags, bool is_lossless)
{
    dp_token_list list = { 0 };
    dp_decoder d;
    dp_buf out;

    dp_buf_init(&out, (size_t)TEXT_MAX << 5);
    DP_CHECK(dp_tokenizer_encode(t, text, flags, &list, NULL) == DP_OK);
    dp_decoder_init(&d, t, flags & DP_ENCODE_SPECIAL);
    for (size_t i = 0; i < list.count; i++) {
        DP_CHECK(list.ids[i] >= 0 && (uint32_t)list.ids[i] < dp_tokenizer_count(t));
        DP_CHECK(flags || dp_tokenizer_kind(t, list.ids[i]) != DP_TOKEN_CONTROL);
        DP_CHECK(dp_decoder_push(&d, list.ids[i], &out) == DP_OK);
    }
    DP_CHECK(dp_decoder_finish(&d, &out) == DP_OK);
    if (is_lossless)
        DP_CHECK(out.size == text.size &&
                 (!text.size || !memcmp(out.bytes, text.bytes, text.size)));
    dp_buf_deinit(&out);
    dp_token_list_deinit(&list);
}

/* One tokenizer a rule and SPM's behind them, opened once for all inputs. */
static dp_tokenizer *tokenizers[RULES_MAX + 1];
static uint32_t rule_count;

static void open_tokenizers(void)
{
    static test_vocab v;
    const dp_pretokenizer *rule;

    for (; (rule = dp_pretokenizer_at(rule_count)); rule_count++) {
        DP_CHECK(rule_count < RULES_MAX);
        test_vocab_bpe(&v, rule->name);
        DP_CHECK(dp_tokenizer_open(&tokenizers[rule_count], &v.tables, NULL) == DP_OK);
    }
    test_vocab_spm(&v);
    DP_CHECK(dp_tokenizer_open(&tokenizers[rule_count], &v.tables, NULL) == DP_OK);
}

static void as_text(dp_str text)
{
    if (rule_count == 0)
        open_tokenizers();
    for (uint32_t i = 0; i < rule_count; i++) {
        there_and_back(tokenizers[i], text, 0, true);
        there_and_back(tokenizers[i], text, DP_ENCODE_SPECIAL, true);
    }
    there_and_back(tokenizers[rule_count], text, 0, !memmem(text.bytes, text.size, "<mark>", 6));
    there_and_back(tokenizers[rule_count], text, DP_ENCODE_SPECIAL, false);
    dp_chat_format_detect(text, tokenizers[0]);
}

/* Lines: the first byte of each says what it is (its kind, or a merge), the rest is
 * its name; its second byte is the score as well. An empty line ends the vocabulary. */
static dp_str read_vocabulary(test_vocab *v, bool is_spm, dp_str text)
{
    test_vocab_begin(v, is_spm ? "llama" : "gpt2");
    while (text.size > 0 && v->tables.token_count < TEST_VOCAB_TOKENS &&
           v->tables.merge_count < TEST_VOCAB_TOKENS) {
        const char *end = memchr(text.bytes, '\n', text.size);
        size_t size = end ? (size_t)(end - text.bytes) : text.size;
        dp_str name = { text.bytes + 1, size - 1 };

        if (size > 0 && *text.bytes == 'm')
            v->merges[v->tables.merge_count++] = name;
        else if (size > 0)
            test_vocab_add(v, name, (dp_token_kind)(*text.bytes - '0'),
                           size > 1 ? name.bytes[0] : 0);
        text = (dp_str){ text.bytes + size + !!end, text.size - size - !!end };
        if (size == 0)
            break;
    }
    return text;
}

static void as_vocabulary(bool is_spm, dp_str text)
{
    static test_vocab v;
    dp_str rest = read_vocabulary(&v, is_spm, text);
    dp_tokenizer *t;

    v.tables.eos = (dp_token)(rest.size % 5) - 1;
    v.tables.bos = v.tables.eos;
    if (dp_tokenizer_open(&t, &v.tables, NULL) != DP_OK)
        return;
    for (uint32_t flags = 0; flags < 4; flags++)
        there_and_back(t, rest, flags, false);
    for (uint32_t i = 0; i < dp_tokenizer_count(t); i++) {
        dp_tokenizer_is_stop(t, (dp_token)i);
        there_and_back(t, dp_tokenizer_text(t, (dp_token)i), 0, false);
        DP_CHECK(dp_tokenizer_find(t, v.tokens[i]) < (dp_token)dp_tokenizer_count(t));
    }
    dp_tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    dp_str text = { (const char *)bytes + 1, size - 1 };

    if (size == 0 || size > TEXT_MAX)
        return 0;
    if (bytes[0] == 'g' || bytes[0] == 's')
        as_vocabulary(bytes[0] == 's', text);
    else
        as_text(text);
    return 0;
}
