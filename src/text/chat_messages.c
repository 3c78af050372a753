#include "text/chat_messages.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

#define TEXT_MAX ((size_t)1 << 30)

/* While text grows it moves: fields are places in it first, 1 + offset; 0: none. */
enum { ROLE, CONTENT, THINKING, FIELDS };

typedef struct places {
    size_t at[FIELDS];
} places;

typedef struct reader {
    dp_json json;
    dp_chat_messages *out;
    places *found; /* [capacity] */
    size_t capacity;
    dp_error *err;
} reader;

static dp_status fail_memory(const reader *r, dp_status st)
{
    return dp_fail(r->err, st, "messages: no memory");
}

static dp_status keep_text(reader *r, size_t *place, dp_str text)
{
    dp_buf *buf = &r->out->text;
    dp_status st = dp_buf_append(buf, text.bytes, text.size);

    if (!st)
        st = dp_buf_append(buf, "", 1); /* its NUL */
    if (st)
        return fail_memory(r, st);
    *place = buf->size - text.size; /* 1 + its first byte */
    return DP_OK;
}

/* The value of one member. */
static dp_status read_member(reader *r, places *m, dp_str name)
{
    static const struct {
        const char *name;
        int field; /* FIELDS: calls of tools */
    } known[] = { { "role", ROLE },
                  { "content", CONTENT },
                  { "reasoning_content", THINKING },
                  { "thinking", THINKING },
                  { "tool_calls", FIELDS } };
    size_t i = 0;
    dp_json_token t;
    dp_status st;

    while (i < DP_ARRAY_LEN(known) && !dp_str_is(name, known[i].name))
        i++;
    st = dp_json_next(&r->json, &t, r->err);
    if (st || t.kind == DP_JSON_NULL)
        return st;
    if (i == DP_ARRAY_LEN(known))
        return dp_json_skip(&r->json, &t, r->err);
    if (known[i].field < FIELDS && t.kind == DP_JSON_STRING)
        return keep_text(r, &m->at[known[i].field], t.text);
    if (known[i].field == ROLE)
        return dp_fail(r->err, DP_E_INVALID, "messages: message %zu: \"role\" is no string",
                       r->out->count);
    return dp_fail(r->err, DP_E_UNSUPPORTED,
                   "messages: message %zu: \"%s\" in parts or calls is for templates, not for a "
                   "built-in format",
                   r->out->count, known[i].name);
}

/* Behind the '{' of a message. */
static dp_status read_message(reader *r, places *m)
{
    dp_json_token t;
    dp_status st;

    while (!(st = dp_json_next(&r->json, &t, r->err)) && t.kind == DP_JSON_KEY) {
        dp_str name = t.text;
        char copy[32]; /* the name is gone once its value is read; longer ones are not known */

        if (name.size >= sizeof copy) {
            st = dp_json_skip(&r->json, &t, r->err);
        } else {
            memcpy(copy, name.bytes, name.size);
            st = read_member(r, m, (dp_str){ copy, name.size });
        }
        if (st)
            return st;
    }
    if (!st && !m->at[ROLE])
        st = dp_fail(r->err, DP_E_INVALID, "messages: message %zu has no \"role\"", r->out->count);
    return st;
}

static dp_status grow(reader *r)
{
    size_t capacity = r->capacity ? 2 * r->capacity : 16;
    places *found;

    if (r->out->count < r->capacity)
        return DP_OK;
    if (r->out->count == DP_CHAT_MESSAGES_MAX)
        return dp_fail(r->err, DP_E_LIMIT, "messages: more than %zu", DP_CHAT_MESSAGES_MAX);
    found = dp_realloc(r->found, capacity, sizeof *found);
    if (!found)
        return fail_memory(r, DP_E_NOMEM);
    r->found = found;
    r->capacity = capacity;
    return DP_OK;
}

static dp_status read_all(reader *r)
{
    dp_json_token t;
    dp_status st = dp_json_next(&r->json, &t, r->err);

    if (st)
        return st;
    if (t.kind != DP_JSON_ARRAY_BEGIN)
        return dp_fail(r->err, DP_E_INVALID, "messages: expected an array of messages");
    while (!(st = dp_json_next(&r->json, &t, r->err)) && t.kind != DP_JSON_ARRAY_END) {
        if (t.kind != DP_JSON_OBJECT_BEGIN)
            return dp_fail(r->err, DP_E_INVALID, "messages: message %zu is no object",
                           r->out->count);
        st = grow(r);
        if (st)
            return st;
        r->found[r->out->count] = (places){ { 0 } };
        st = read_message(r, &r->found[r->out->count]);
        if (st)
            return st;
        r->out->count++;
    }
    return st ? st : dp_json_next(&r->json, &t, r->err); /* nothing behind it */
}

/* Text does not move any more: places become pointers. */
static dp_status point(reader *r)
{
    const char *text = r->out->text.bytes;
    dp_message *items = dp_alloc_zero(DP_MAX(r->out->count, 1), sizeof *items);

    if (!items)
        return fail_memory(r, DP_E_NOMEM);
    for (size_t i = 0; i < r->out->count; i++) {
        const size_t *at = r->found[i].at;
        items[i].role = text + at[ROLE] - 1;
        items[i].content = at[CONTENT] ? text + at[CONTENT] - 1 : NULL;
        items[i].thinking = at[THINKING] ? text + at[THINKING] - 1 : NULL;
    }
    r->out->items = items;
    return DP_OK;
}

dp_status dp_chat_messages_parse(dp_chat_messages *out, dp_str json, dp_error *err)
{
    reader r = { .out = out, .err = err };
    dp_status st;

    *out = (dp_chat_messages){ 0 };
    dp_buf_init(&out->text, TEXT_MAX);
    dp_json_init(&r.json, "messages", json.bytes, json.size);
    st = read_all(&r);
    if (!st)
        st = point(&r);
    dp_json_deinit(&r.json);
    dp_free(r.found);
    if (st)
        dp_chat_messages_deinit(out);
    return st;
}

void dp_chat_messages_deinit(dp_chat_messages *messages)
{
    dp_free(messages->items);
    dp_buf_deinit(&messages->text);
    *messages = (dp_chat_messages){ 0 };
}
