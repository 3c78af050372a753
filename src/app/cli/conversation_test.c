#include "app/cli/conversation.h"

#include <stdio.h>
#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"

/* "s:x u:a a:b": first letters of roles, and texts. */
static const char *picture(const dp_conversation *c)
{
    static char text[256];
    size_t used = 0;

    text[0] = 0;
    for (size_t i = 0; i < c->count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%c:%s", i ? " " : "",
                                 c->messages[i].role[0], c->messages[i].content);
    return text;
}

/* A script of what happens: + adds a user's, * an assistant's message, = sets the
 * system message, ? a call of a tool, # its result, - drops the last, < the oldest, ! resets. */
static dp_status play(dp_conversation *c, const char *script, dp_error *err)
{
    dp_status st = DP_OK;

    for (; *script && !st; script++) {
        if (*script == '+')
            st = dp_conversation_add(c, "user", ++script, 1, err);
        else if (*script == '*')
            st = dp_conversation_add(c, "assistant", ++script, 1, err);
        else if (*script == '?') /* a call of a tool, without words */
            st = dp_conversation_add_message(
                c, &(dp_message){ .role = "assistant", .thinking = "x", .tool_calls = "[]" }, err);
        else if (*script == '#')
            st = dp_conversation_add_message(
                c,
                &(dp_message){ .role = "tool", .content = "x", .name = "n", .tool_call_id = "i" },
                err);
        else if (*script == '=')
            st = dp_conversation_set_system(c, (char[]){ *++script, 0 }, err);
        else if (*script == '-')
            dp_conversation_drop_last(c);
        else if (*script == '<')
            dp_conversation_drop_oldest(c);
        else if (*script == '!')
            dp_conversation_reset(c);
        else if (*script == '0')
            st = dp_conversation_set_system(c, "", err);
    }
    return st;
}

static void test_scripts(void **state)
{
    static const struct {
        const char *script, *want;
    } rows[] = {
        { "", "" },
        { "+a*b+c", "u:a a:b u:c" },
        { "+a-", "" },
        { "=x+a", "s:x u:a" },
        { "+a=x", "s:x u:a" },
        { "=x+a=y", "s:y u:a" },
        { "=x+a0", "u:a" },
        { "0+a", "u:a" },
        { "=x+a*b!", "s:x" },
        { "+a*b!", "" },
        { "+a*b+c<", "u:c" },
        { "=x+a*b+c<", "s:x u:c" },
        { "=x+a*b+c*d+e<<", "s:x u:e" },
        { "=x+a<", "s:x u:a" }, /* the newest question stays */
        { "+a<", "u:a" },
        { "+a*b<", "u:a a:b" },
        { "+a?##*b+c<", "u:c" },
        { "+a?#<", "u:a a:(null) t:x" }, /* calls belong to the question */
        { "=x<", "s:x" },
        { "<", "" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_conversation c;
        dp_error err;

        dp_conversation_init(&c);
        CHECK_OK(play(&c, rows[i].script, &err), err);
        CHECK(strcmp(picture(&c), rows[i].want) == 0, "%s: %s", rows[i].script, picture(&c));
        dp_conversation_deinit(&c);
    }
}

static void test_failing_memory(void **state)
{
    dp_mem_stats stats;
    bool is_through = false;

    for (uint64_t n = 0; !is_through; n++) {
        dp_conversation c;
        dp_error err;
        dp_status st;

        dp_conversation_init(&c);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = play(&c, "=x+a?#*b+c*d=y+e*f+g*h+i*j+k*l+m*n+o*p+q*r", &err);
        is_through = dp_fault_disarm(DP_FAULT_MEM) == 0;
        CHECK(st == (is_through ? DP_OK : DP_E_NOMEM), "allocation %d gave %d", (int)n, st);
        CHECK(c.count <= 1 || strcmp(c.messages[1].role, "user") == 0, "%s", picture(&c));
        dp_conversation_deinit(&c);
        dp_mem_stats_read(&stats);
        CHECK(stats.heap_blocks == 0, "%d blocks leaked", (int)stats.heap_blocks);
    }
}

static void test_limits(void **state)
{
    dp_conversation c;
    dp_error err;

    dp_conversation_init(&c);
    for (size_t i = 0; i < DP_CONVERSATION_MESSAGES_MAX; i++)
        CHECK_OK(dp_conversation_add(&c, "user", "", 0, &err), err);
    CHECK(dp_conversation_add(&c, "user", "", 0, &err) == DP_E_LIMIT, "a message too many");
    CHECK(dp_conversation_add(&c, "user", "a", DP_CONVERSATION_TEXT_MAX + 1, &err) == DP_E_LIMIT,
          "a message too long");
    dp_conversation_deinit(&c);
}

static void test_save_says_why_not(void **state)
{
    dp_conversation c;
    dp_error err;

    dp_conversation_init(&c);
    CHECK(dp_conversation_save(&c, "m", "/no/such/folder/x", &err) == DP_E_NOTFOUND, "%s",
          err.text);
    CHECK(strstr(err.text, "/no/such/folder/x"), "%s", err.text);
    CHECK(dp_conversation_save(&c, "m", "/dev/full", &err) == DP_E_IO, "%s", err.text);
    dp_conversation_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_failing_memory),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_save_says_why_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
