/* What models answer: the api's chat_parse.h over text/chat_parse.h. */
#include <string.h>

#include "base/status.h"
#include "engine/vocab.h"
#include "text/chat_parse.h"

dp_status dp_chat_parser_open(dp_chat_parser **out, const dp_vocab *vocab, const dp_chat_parse *how,
                              dp_error *err)
{
    const dp_tokenizer *t = vocab ? vocab->tokenizer : NULL;
    const char *text = how->template_text || !vocab ? how->template_text : vocab->chat_template;
    const dp_chat_rules *rules;

    *out = NULL;
    if (!how->format || !strcmp(how->format, "auto"))
        rules = dp_chat_rules_detect(dp_str_from(text), t);
    else
        rules = dp_chat_rules_find(how->format);
    if (!rules)
        return dp_fail(err, DP_E_INVALID, "chat: there is no format \"%.64s\" of answers",
                       how->format);
    return dp_chat_parser_open_rules(out, rules, t, how, err);
}
