#include "text/chat_messages.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

static void messages_are_read(void **state)
{
    static const char json[] =
        "[{\"role\":\"system\",\"content\":\"Be \\u00e9xact.\"},"
        "{\"content\":null,\"role\":\"user\",\"x\":{\"role\":[1,2]},\"tool_calls\":null},"
        "{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":\"why\","
        "\"a name that is longer than any that is known\":1}]";
    static const char *const want[][3] = {
        { "system", "Be \xC3\xA9xact.", NULL },
        { "user", NULL, NULL },
        { "assistant", "", "why" },
    };
    dp_chat_messages m;
    dp_error err;

    CHECK_OK(dp_chat_messages_parse(&m, dp_str_from(json), &err), err);
    CHECK(m.count == DP_ARRAY_LEN(want), "%zu messages", m.count);
    for (size_t i = 0; i < m.count; i++) {
        const char *found[] = { m.items[i].role, m.items[i].content, m.items[i].thinking };
        for (int f = 0; f < 3; f++)
            CHECK(want[i][f] ? found[f] && strcmp(found[f], want[i][f]) == 0 : !found[f],
                  "message %zu, field %d: %s", i, f, found[f] ? found[f] : "(none)");
    }
    dp_chat_messages_deinit(&m);
    CHECK_OK(dp_chat_messages_parse(&m, dp_str_from("[]"), &err), err);
    CHECK(m.count == 0, "%zu messages", m.count);
    dp_chat_messages_deinit(&m);
}

static void what_is_no_message_is_refused(void **state)
{
    static const struct {
        const char *json;
        dp_status status;
        const char *text;
    } rows[] = {
        { "{}", DP_E_INVALID, "expected an array" },
        { "[1]", DP_E_INVALID, "message 0 is no object" },
        { "[{\"role\":\"user\"},{\"content\":\"x\"}]", DP_E_INVALID, "message 1 has no \"role\"" },
        { "[{\"role\":1}]", DP_E_INVALID, "\"role\" is no string" },
        { "[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", DP_E_UNSUPPORTED, "content" },
        { "[{\"role\":\"assistant\",\"tool_calls\":[]}]", DP_E_UNSUPPORTED, "tool_calls" },
        { "[{\"role\":\"user\"}", DP_E_CORRUPT, "messages:1:" },
        { "[] x", DP_E_CORRUPT, "expected the end" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_chat_messages m;
        dp_error err;

        CHECK(dp_chat_messages_parse(&m, dp_str_from(rows[i].json), &err) == rows[i].status,
              "%s: %s", rows[i].json, err.text);
        CHECK(strstr(err.text, rows[i].text), "%s: %s", rows[i].json, err.text);
        CHECK(!m.items && !m.text.bytes, "%s leaves something", rows[i].json);
    }
}

static void every_allocation_may_fail(void **state)
{
    dp_mem_stats before, after;
    char json[2000] = "[";
    uint64_t failed = 1;

    for (int i = 0; i < 40; i++)
        strcat(json, i ? ",{\"role\":\"user\",\"content\":\"hello\"}"
                       : "{\"role\":\"user\",\"content\":\"hello\"}");
    strcat(json, "]");
    dp_mem_stats_read(&before);
    for (uint64_t visit = 0; failed; visit++) {
        dp_chat_messages m;
        dp_error err;
        dp_status st;

        dp_fault_arm(DP_FAULT_MEM, visit, 1);
        st = dp_chat_messages_parse(&m, dp_str_from(json), &err);
        failed = dp_fault_disarm(DP_FAULT_MEM);
        CHECK(st == (failed ? DP_E_NOMEM : DP_OK), "visit %d: %s", (int)visit, err.text);
        dp_chat_messages_deinit(&m);
        dp_mem_stats_read(&after);
        CHECK(after.heap_blocks == before.heap_blocks, "visit %d leaks", (int)visit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
