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

static void free_message(const dp_message *m)
{
    dp_free((char *)m->content); /* made by copy_message */
    dp_free((char *)m->thinking);
    dp_free((char *)m->tool_calls);
    dp_free((char *)m->name);
    dp_free((char *)m->tool_call_id);
}

/* NULL stays NULL. False: no memory. */
static bool copy_text(const char **out, const char *text, size_t size)
{
    *out = text ? dp_strndup(text, size) : NULL;
    return *out || !text;
}

static bool copy_message(dp_message *out, const dp_message *m, size_t content_size)
{
    const struct {
        const char **to, *from;
    } texts[] = { { &out->thinking, m->thinking },
                  { &out->tool_calls, m->tool_calls },
                  { &out->name, m->name },
                  { &out->tool_call_id, m->tool_call_id } };
    bool is_ok;

    *out = (dp_message){ .role = m->role };
    is_ok = copy_text(&out->content, m->content, content_size);
    for (size_t i = 0; i < DP_ARRAY_LEN(texts) && is_ok; i++)
        is_ok = copy_text(texts[i].to, texts[i].from, texts[i].from ? strlen(texts[i].from) : 0);
    if (!is_ok)
        free_message(out);
    return is_ok;
}

static dp_status insert(dp_conversation *c, size_t at, const dp_message *message,
                        size_t content_size, dp_error *err)
{
    dp_message copy;
    dp_status st;

    if (content_size > DP_CONVERSATION_TEXT_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: a message of %zu bytes, at most %zu", content_size,
                       DP_CONVERSATION_TEXT_MAX);
    st = reserve_one(c, err);
    if (st)
        return st;
    if (!copy_message(&copy, message, content_size))
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for a message of %zu bytes", content_size);
    memmove(c->messages + at + 1, c->messages + at, (c->count - at) * sizeof *c->messages);
    c->messages[at] = copy;
    c->count++;
    return DP_OK;
}

static void remove_at(dp_conversation *c, size_t at)
{
    free_message(&c->messages[at]);
    c->count--;
    memmove(c->messages + at, c->messages + at + 1, (c->count - at) * sizeof *c->messages);
}

dp_status dp_conversation_add(dp_conversation *c, const char *role, const char *text, size_t size,
                              dp_error *err)
{
    return insert(c, c->count, &(dp_message){ .role = role, .content = size ? text : "" }, size,
                  err);
}

dp_status dp_conversation_add_message(dp_conversation *c, const dp_message *message, dp_error *err)
{
    return insert(c, c->count, message, message->content ? strlen(message->content) : 0, err);
}

dp_status dp_conversation_set_system(dp_conversation *c, const char *text, dp_error *err)
{
    size_t old_count = system_count(c);
    dp_status st = DP_OK;

    if (text[0])
        st = insert(c, 0, &(dp_message){ .role = "system", .content = text }, strlen(text), err);
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
    size_t at = system_count(c), end = at + 1;

    while (end < c->count && strcmp(c->messages[end].role, "user") != 0) /* (2) */
        end++;
    if (end >= c->count)
        return false;
    for (; end > at; end--)
        remove_at(c, at);
    return true;
}

dp_chat_input dp_conversation_input(const dp_conversation *c, const char *tools)
{
    return (
        dp_chat_input){ .messages = c->messages, .message_count = c->count, .tools_json = tools };
}

static bool set_text(json_t *row, const char *key, const char *text)
{
    return !text || !json_object_set_new(row, key, dp_json_text(text, strlen(text)));
}

static json_t *message_to_json(const dp_message *m)
{
    json_t *row = json_object();
    bool is_ok = row && !json_object_set_new(row, "role", json_string(m->role)) &&
                 set_text(row, "content", m->content) && set_text(row, "reasoning", m->thinking) &&
                 set_text(row, "name", m->name) && set_text(row, "tool_call_id", m->tool_call_id) &&
                 (!m->tool_calls ||
                  !json_object_set_new(row, "tool_calls", json_loads(m->tool_calls, 0, NULL)));

    if (is_ok)
        return row;
    json_decref(row);
    return NULL;
}

static json_t *to_json(const dp_conversation *c, const char *model)
{
    json_t *object = json_object(), *list = json_array();
    bool is_ok = object && list && !json_object_set(object, "messages", list) &&
                 !json_object_set_new(object, "model", dp_json_text(model, strlen(model)));

    for (size_t i = 0; i < c->count && is_ok; i++)
        is_ok = !json_array_append_new(list, message_to_json(&c->messages[i]));
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
