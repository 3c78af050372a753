#include "app/cli/conversation.h"

#include <string.h>
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "base/mem.h"
#include "base/status.h"

void dp_conversation_init(dp_conversation *c)
{
    *c = (dp_conversation){ 0 };
}

void dp_conversation_deinit(dp_conversation *c)
{
    while (c->count > 0)
        dp_conversation_drop_last(c);
    dp_free(c->messages);
    dp_conversation_init(c);
}

static size_t system_count(const dp_conversation *c)
{
    return c->count > 0 && strcmp(c->messages[0].role, "system") == 0; /* (1) */
}

void dp_conversation_reset(dp_conversation *c)
{
    while (c->count > system_count(c))
        dp_conversation_drop_last(c);
}

static dp_status reserve_one(dp_conversation *c, dp_error *err)
{
    size_t capacity = DP_MAX(c->capacity * 2, (size_t)16);
    dp_message *grown;

    if (c->count < c->capacity)
        return DP_OK;
    if (c->count >= DP_CONVERSATION_MESSAGES_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: more than %d messages",
                       DP_CONVERSATION_MESSAGES_MAX);
    grown = dp_realloc(c->messages, capacity, sizeof *grown);
    if (!grown)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for %zu messages", capacity);
    c->messages = grown;
    c->capacity = capacity;
    return DP_OK;
}

static dp_status insert(dp_conversation *c, size_t at, const char *role, const char *text,
                        size_t size, dp_error *err)
{
    char *copy;
    dp_status st;

    if (size > DP_CONVERSATION_TEXT_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: a message of %zu bytes, at most %zu", size,
                       DP_CONVERSATION_TEXT_MAX);
    st = reserve_one(c, err);
    if (st)
        return st;
    copy = dp_strndup(size ? text : "", size);
    if (!copy)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for a message of %zu bytes", size);
    memmove(c->messages + at + 1, c->messages + at, (c->count - at) * sizeof *c->messages);
    c->messages[at] = (dp_message){ role, copy };
    c->count++;
    return DP_OK;
}

static void remove_at(dp_conversation *c, size_t at)
{
    dp_free((char *)c->messages[at].content); /* made by insert */
    c->count--;
    memmove(c->messages + at, c->messages + at + 1, (c->count - at) * sizeof *c->messages);
}

dp_status dp_conversation_add(dp_conversation *c, const char *role, const char *text, size_t size,
                              dp_error *err)
{
    return insert(c, c->count, role, text, size, err);
}

dp_status dp_conversation_set_system(dp_conversation *c, const char *text, dp_error *err)
{
    size_t old_count = system_count(c);
    dp_status st = DP_OK;

    if (text[0])
        st = insert(c, 0, "system", text, strlen(text), err);
    if (!st && old_count)
        remove_at(c, text[0] ? 1 : 0);
    return st;
}

void dp_conversation_drop_last(dp_conversation *c)
{
    remove_at(c, c->count - 1);
}

bool dp_conversation_drop_oldest(dp_conversation *c)
{
    size_t at = system_count(c);

    if (c->count <= at + 1)
        return false;
    remove_at(c, at);
    if (c->count > at + 1 && strcmp(c->messages[at].role, "assistant") == 0) /* (2) */
        remove_at(c, at);
    return true;
}

dp_status dp_conversation_encode(const dp_conversation *c, const dp_chat *chat, dp_token **tokens,
                                 size_t *count, dp_error *err)
{
    dp_chat_input input = { .messages = c->messages, .message_count = c->count };

    return dp_chat_tokens(chat, &input, tokens, count, err);
}

static json_t *to_json(const dp_conversation *c, const char *model)
{
    json_t *object = json_object(), *list = json_array();
    bool is_ok = object && list && !json_object_set(object, "messages", list) &&
                 !json_object_set_new(object, "model", dp_json_text(model, strlen(model)));

    for (size_t i = 0; i < c->count && is_ok; i++) {
        const dp_message *message = &c->messages[i];
        json_t *row = json_object();

        is_ok = row && !json_object_set_new(row, "role", json_string(message->role)) &&
                !json_object_set_new(row, "content",
                                     dp_json_text(message->content, strlen(message->content))) &&
                !json_array_append(list, row);
        json_decref(row);
    }
    json_decref(list);
    if (is_ok)
        return object;
    json_decref(object);
    return NULL;
}

dp_status dp_conversation_save(const dp_conversation *c, const char *model, const char *path,
                               dp_error *err)
{
    json_t *object = to_json(c, model);
    dp_output *output = NULL;
    dp_buf page;
    dp_status st;

    dp_buf_init(&page, SIZE_MAX / 2);
    st = dp_json_write(&page, object, 2);
    if (st)
        dp_fail(err, st, "chat: no memory to write %s", path);
    else
        st = dp_output_open(&output, path, err);
    if (!st) {
        dp_output_write(output, page.bytes, page.size);
        st = dp_output_close(output, err);
    }
    dp_buf_deinit(&page);
    json_decref(object);
    return st;
}
