/* Any bytes as what a model answers, in any format: all of it comes out, and in the
 * same events however it is cut. The first byte chooses the format, the second how it
 * is cut and what the prompt was. */
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "text/chat_parse.h"

typedef struct record {
    dp_buf raw, said;
    int last;
} record;

static bool on_event(void *user, const dp_chat_event *event)
{
    record *r = user;

    DP_CHECK(r->last != DP_CHAT_EVENT_END);
    DP_CHECK(event->size > 0 || event->kind >= DP_CHAT_EVENT_CALL);
    if (event->kind != DP_CHAT_EVENT_CALL)
        DP_CHECK(dp_buf_append(&r->raw, event->text, event->size) == DP_OK);
    if (event->kind == DP_CHAT_EVENT_MARKUP)
        return true;
    if (event->kind == DP_CHAT_EVENT_CALL || (int)event->kind != r->last)
        DP_CHECK(dp_buf_format(&r->said, "\n%d %s %s %d ", (int)event->kind,
                               event->name ? event->name : "", event->id ? event->id : "",
                               event->is_broken) == DP_OK);
    DP_CHECK(dp_buf_append(&r->said, event->text, event->size) == DP_OK);
    r->last = (int)event->kind;
    return true;
}

static void parse(record *r, const dp_chat_rules *rules, dp_str text, size_t step, bool thinks)
{
    static const char tools[] = "[{\"name\": \"f\", \"parameters\": {\"properties\": "
                                "{\"a\": {\"type\": \"string\"}}}}]";
    static const char prompt[] = "<|start|>assistant<think>\n";
    dp_chat_parse how = { .prompt = prompt,
                          .prompt_size = thinks ? sizeof prompt - 1 : 0,
                          .tools = tools,
                          .tools_size = sizeof tools - 1,
                          .wants_markup = true,
                          .on_event = on_event,
                          .user = r };
    dp_chat_parser *p;

    *r = (record){ .last = -1 };
    dp_buf_init(&r->raw, SIZE_MAX / 2);
    dp_buf_init(&r->said, SIZE_MAX / 2);
    DP_CHECK(dp_chat_parser_open_rules(&p, rules, NULL, &how, NULL) == DP_OK);
    for (size_t at = 0; at < text.size; at += step)
        DP_CHECK(dp_chat_parser_feed(p, text.bytes + at, DP_MIN(step, text.size - at)) == DP_OK);
    DP_CHECK(dp_chat_parser_finish(p) == DP_OK && r->last == DP_CHAT_EVENT_END);
    dp_chat_parser_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const dp_chat_rules *rules;
    record whole, cut;
    dp_str text;
    uint32_t n = 0;

    if (size < 2 || size > 1 << 20)
        return 0;
    text = (dp_str){ (const char *)bytes + 2, size - 2 };
    while (dp_chat_rules_at(n))
        n++;
    rules = dp_chat_rules_at(bytes[0] % n);
    parse(&whole, rules, text, SIZE_MAX / 2, bytes[1] & 1);
    parse(&cut, rules, text, (bytes[1] >> 1) % 16 + 1, bytes[1] & 1);
    DP_CHECK(whole.raw.size == text.size && cut.raw.size == text.size);
    DP_CHECK(text.size == 0 || !memcmp(whole.raw.bytes, text.bytes, text.size));
    DP_CHECK(text.size == 0 || !memcmp(cut.raw.bytes, text.bytes, text.size));
    DP_CHECK(whole.said.size == cut.said.size);
    DP_CHECK(!memcmp(whole.said.bytes, cut.said.bytes, cut.said.size));
    dp_buf_deinit(&whole.raw);
    dp_buf_deinit(&whole.said);
    dp_buf_deinit(&cut.raw);
    dp_buf_deinit(&cut.said);
    return 0;
}
