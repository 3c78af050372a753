#include "text/chat_parse_impl.h"

#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

#define SLICE_BYTES ((size_t)64 << 10) /* of a long text, looked at in one go */

/* ---- what goes out ---- */

static void send(dp_chat_parser *p, const dp_chat_event *event)
{
    if (p->on_event && !p->st && !p->on_event(p->user, event))
        p->st = DP_E_CANCELED;
}

void dp_chat_say(dp_chat_parser *p, dp_chat_event_kind kind, const char *bytes, size_t size)
{
    if (size > 0 && (kind != DP_CHAT_EVENT_MARKUP || p->wants_markup))
        send(p, &(dp_chat_event){ .kind = kind, .text = bytes, .size = size });
}

void dp_chat_keep(dp_chat_parser *p, dp_buf *buf, const void *bytes, size_t size)
{
    if (!p->st)
        p->st = dp_buf_append(buf, bytes, size);
}

static bool is_name(dp_str name)
{
    if (name.size == 0 || name.size > DP_CHAT_NAME_BYTES_MAX)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if ((uint8_t)name.bytes[i] <= ' ' || strchr("\"'`{}[]()<>,;", name.bytes[i]))
            return false;
    return true;
}

bool dp_chat_say_call(dp_chat_parser *p, dp_str name, dp_str id, dp_str arguments)
{
    if (!is_name(name))
        return false;
    if (p->is_dry)
        return true;
    if (!is_name(id))
        id = dp_str_from("");
    /* Copies end with a NUL. Where they come from may be one of the buffers itself. */
    if (name.bytes != p->name.bytes) {
        dp_buf_reset(&p->name);
        dp_chat_keep(p, &p->name, name.bytes, name.size);
    }
    if (id.bytes != p->id.bytes) {
        dp_buf_reset(&p->id);
        dp_chat_keep(p, &p->id, id.bytes, id.size);
    }
    if (arguments.bytes != p->arguments.bytes) {
        dp_buf_reset(&p->arguments);
        dp_chat_keep(p, &p->arguments, arguments.bytes, arguments.size);
    }
    if (p->st)
        return true;
    send(p, &(dp_chat_event){ .kind = DP_CHAT_EVENT_CALL,
                              .text = p->arguments.bytes,
                              .size = p->arguments.size,
                              .name = p->name.bytes,
                              .id = p->id.bytes,
                              .is_broken = !dp_chat_json_is_whole(arguments) });
    return true;
}

/* ---- marks ---- */

void dp_chat_set_active(dp_chat_parser *p, uint32_t roles)
{
    if (roles == p->active)
        return;
    p->active = roles;
    memset(p->begins_mark, 0, sizeof p->begins_mark);
    for (size_t i = 0; i < DP_CHAT_MARKS_MAX && p->rules->marks[i].text; i++)
        if (p->rules->marks[i].role & roles && !p->is_control[i])
            p->begins_mark[(uint8_t)p->rules->marks[i].text[0]] = true;
}

/* The mark that bytes [size] begin with. *is_open: more bytes may make it one. */
static const dp_chat_mark *find_mark(const dp_chat_parser *p, const char *bytes, size_t size,
                                     bool *is_open)
{
    *is_open = false;
    for (size_t i = 0; i < DP_CHAT_MARKS_MAX && p->rules->marks[i].text; i++) {
        const dp_chat_mark *mark = &p->rules->marks[i];
        size_t mark_size = strlen(mark->text);

        if (!(mark->role & p->active) || p->is_control[i] ||
            memcmp(mark->text, bytes, DP_MIN(size, mark_size)) != 0)
            continue;
        if (size >= mark_size)
            return mark;
        *is_open = true;
    }
    return NULL;
}

/* Gives the machine what is held: marks, and the text between them. What may become
 * a mark stays, unless nothing can follow it. */
static void scan(dp_chat_parser *p, bool is_last)
{
    size_t at = 0, size = p->held.size;

    while (at < size && !p->st) {
        const char *bytes = p->held.bytes + at;
        size_t plain = 0;
        const dp_chat_mark *mark;
        bool is_open;

        while (at + plain < size && !p->begins_mark[(uint8_t)bytes[plain]])
            plain++;
        if (plain > 0) {
            at += p->rules->on_text(p, bytes, plain);
            continue;
        }
        mark = find_mark(p, bytes, size - at, &is_open);
        if (mark) {
            p->rules->on_mark(p, mark);
            at += strlen(mark->text);
        } else if (is_open && !is_last) {
            break;
        } else {
            at += p->rules->on_text(p, bytes, 1);
        }
    }
    if (at > 0) {
        memmove(p->held.bytes, p->held.bytes + at, size - at);
        p->held.size -= at;
    }
}

dp_status dp_chat_parser_feed(dp_chat_parser *parser, const char *text, size_t size)
{
    while (size > 0 && !parser->st) {
        size_t part = DP_MIN(size, SLICE_BYTES);

        dp_chat_keep(parser, &parser->held, text, part);
        scan(parser, false);
        text += part;
        size -= part;
    }
    return parser->st;
}

dp_status dp_chat_parser_feed_token(dp_chat_parser *parser, dp_token token)
{
    dp_str name;

    if (!parser->tokenizer || dp_tokenizer_kind(parser->tokenizer, token) != DP_TOKEN_CONTROL)
        return parser->st;
    name = dp_tokenizer_text(parser->tokenizer, token);
    scan(parser, true);
    for (size_t i = 0; i < DP_CHAT_MARKS_MAX && parser->rules->marks[i].text && !parser->st; i++)
        if (dp_str_is(name, parser->rules->marks[i].text) &&
            parser->rules->marks[i].role & parser->active) {
            parser->rules->on_mark(parser, &parser->rules->marks[i]);
            return parser->st;
        }
    dp_chat_say(parser, DP_CHAT_EVENT_MARKUP, name.bytes, name.size);
    return parser->st;
}

dp_status dp_chat_parser_finish(dp_chat_parser *parser)
{
    scan(parser, true);
    if (!parser->st)
        parser->rules->on_end(parser);
    send(parser, &(dp_chat_event){ .kind = DP_CHAT_EVENT_END, .text = "" });
    return parser->st;
}

/* ---- open ---- */

/* A list that has something in it. */
static dp_status take_tools(dp_chat_parser *p, dp_str tools, dp_error *err)
{
    dp_json json;
    dp_json_token token;
    dp_status st;
    uint64_t count = 0;

    if (tools.size > DP_CHAT_TOOLS_BYTES_MAX)
        return dp_fail(err, DP_E_LIMIT, "chat: %zu bytes of tools, at most %zu", tools.size,
                       DP_CHAT_TOOLS_BYTES_MAX);
    dp_json_init(&json, "tools", tools.bytes, tools.size);
    st = dp_json_next(&json, &token, err);
    if (!st && token.kind != DP_JSON_ARRAY_BEGIN)
        st = dp_fail(err, DP_E_CORRUPT, "tools: not a JSON list");
    while (!st && token.kind != DP_JSON_END) {
        count += token.depth == 1 && token.kind == DP_JSON_OBJECT_BEGIN;
        st = dp_json_next(&json, &token, err);
    }
    dp_json_deinit(&json);
    if (st)
        return st;
    p->has_tools = count > 0;
    st = dp_buf_append(&p->tools, tools.bytes, tools.size);
    return st ? dp_fail(err, st, "chat: no memory for %zu bytes of tools", tools.size) : DP_OK;
}

static void init(dp_chat_parser *p, const dp_chat_rules *rules, const dp_tokenizer *t,
                 const dp_chat_parse *how)
{
    p->rules = rules;
    p->tokenizer = t;
    p->on_event = how->on_event;
    p->user = how->user;
    p->wants_markup = how->wants_markup;
    dp_buf_init(&p->tools, DP_CHAT_TOOLS_BYTES_MAX);
    dp_buf_init(&p->held, SLICE_BYTES + DP_CHAT_NAME_BYTES_MAX);
    dp_buf_init(&p->space, DP_CHAT_SPACE_BYTES_MAX + SLICE_BYTES);
    dp_buf_init(&p->call, DP_CHAT_CALL_BYTES_MAX);
    dp_buf_init(&p->name, DP_CHAT_NAME_BYTES_MAX);
    dp_buf_init(&p->id, DP_CHAT_NAME_BYTES_MAX);
    /* An escaped byte takes six. */
    dp_buf_init(&p->arguments, DP_CHAT_CALL_BYTES_MAX * 6 + DP_CHAT_NAME_BYTES_MAX);
    for (size_t i = 0; i < DP_CHAT_MARKS_MAX && rules->marks[i].text && t; i++)
        p->is_control[i] =
            dp_tokenizer_kind(t, dp_tokenizer_find(t, dp_str_from(rules->marks[i].text))) ==
            DP_TOKEN_CONTROL;
}

dp_status dp_chat_parser_open_rules(dp_chat_parser **out, const dp_chat_rules *rules,
                                    const dp_tokenizer *t, const dp_chat_parse *how, dp_error *err)
{
    dp_status st = DP_OK;
    dp_chat_parser *p;

    *out = NULL;
    p = dp_alloc_zero(1, sizeof *p);
    if (!p)
        return dp_fail(err, DP_E_NOMEM, "chat: no memory for a parser");
    init(p, rules, t, how);
    if (how->tools)
        st = take_tools(p, (dp_str){ how->tools, how->tools_size }, err);
    if (st)
        goto done;
    rules->begin(p, (dp_str){ how->prompt, how->prompt ? how->prompt_size : 0 });
    st = p->st;
    if (st) {
        dp_fail(err, st, "chat: no memory for a parser");
        goto done;
    }

    *out = p;
    p = NULL;
done:
    dp_chat_parser_close(p);
    return st;
}

const char *dp_chat_parser_format(const dp_chat_parser *parser)
{
    return parser->rules->name;
}

void dp_chat_parser_close(dp_chat_parser *parser)
{
    if (!parser)
        return;
    dp_buf_deinit(&parser->tools);
    dp_buf_deinit(&parser->held);
    dp_buf_deinit(&parser->space);
    dp_buf_deinit(&parser->call);
    dp_buf_deinit(&parser->name);
    dp_buf_deinit(&parser->id);
    dp_buf_deinit(&parser->arguments);
    dp_free(parser);
}
