/* chat_parse_tagged.c - answers whose parts stand between tags: thoughts, then content, then calls.
 *
 * States   CONTENT --THINK--> REASONING --THINK_END--> CONTENT
 *          CONTENT --SECTION--> SECTION --SECTION_END--> CONTENT
 *          CONTENT, SECTION --CALL--> CALL --CALL_END--> where it came from
 *          CONTENT --'{' first, tools exist--> WHOLE, until the end
 *
 * Thoughts come first in a message or not at all: later, a model that writes <think>
 * speaks about it. A call's text is kept, marks and all, until its end; if it is no
 * call it is content, with the mark of the section before it. */
#include "text/chat_parse_impl.h"

enum { CONTENT, REASONING, SECTION, CALL, WHOLE };

/* The marks that count follow from the state. They may only become fewer while text
 * is taken: what was passed over as text is not looked at again. */
static void enter(dp_chat_parser *p, int state)
{
    uint32_t roles = 0;

    p->state = state;
    if (state == CONTENT)
        roles = DP_MARK_SECTION | DP_MARK_CALL | DP_MARK_FUNCTION |
                (p->is_start ? DP_MARK_THINK : 0) | (p->is_bare ? DP_MARK_CALL_END : 0);
    else if (state == REASONING)
        roles = DP_MARK_THINK_END;
    else if (state == SECTION)
        roles = DP_MARK_CALL | DP_MARK_SECTION_END;
    else if (state == CALL)
        roles = (p->arguments_begin ? 0 : DP_MARK_ARGUMENTS) |
                (p->arguments_begin || p->id_begin ? 0 : DP_MARK_ID) |
                (p->is_in_section ? DP_MARK_SECTION_END : 0) |
                (p->is_bare        ? DP_MARK_FUNCTION_END
                 : p->has_call_end ? DP_MARK_CALL_END
                                   : DP_MARK_CALL); /* the next one begins: this one ended */
    dp_chat_set_active(p, roles);
}

void dp_chat_tagged_begin(dp_chat_parser *p, dp_str prompt)
{
    int state = CONTENT;

    p->is_start = p->may_be_whole = true;
    prompt = dp_chat_trim(prompt);
    for (size_t i = 0; i < DP_CHAT_MARKS_MAX && p->rules->marks[i].text; i++) {
        const dp_chat_mark *mark = &p->rules->marks[i];

        if (mark->role == DP_MARK_CALL_END)
            p->has_call_end = true;
        if (mark->role == DP_MARK_THINK && dp_str_ends_with(prompt, mark->text))
            state = REASONING;
    }
    p->drops_space = state == REASONING;
    enter(p, state);
}

/* ---- white space, which may belong to what follows ---- */

static dp_chat_event_kind kind_of_text(const dp_chat_parser *p)
{
    return p->state == REASONING ? DP_CHAT_EVENT_REASONING : DP_CHAT_EVENT_CONTENT;
}

static void take_space(dp_chat_parser *p, const char *bytes, size_t size)
{
    if (p->drops_space) {
        dp_chat_say(p, DP_CHAT_EVENT_MARKUP, bytes, size);
    } else if (p->space_overflow || p->space.size + size > DP_CHAT_SPACE_BYTES_MAX) {
        dp_chat_say(p, kind_of_text(p), p->space.bytes, p->space.size);
        dp_chat_say(p, kind_of_text(p), bytes, size);
        dp_buf_reset(&p->space);
        p->space_overflow = true;
    } else {
        dp_chat_keep(p, &p->space, bytes, size);
    }
}

static void give_space(dp_chat_parser *p, dp_chat_event_kind kind)
{
    dp_chat_say(p, kind, p->space.bytes, p->space.size);
    dp_buf_reset(&p->space);
    p->space_overflow = false;
}

/* ---- calls ---- */

static void begin_call(dp_chat_parser *p, const dp_chat_mark *mark)
{
    dp_str text = dp_str_from(mark->text);

    p->is_bare = mark->role == DP_MARK_FUNCTION;
    dp_chat_keep(p, &p->call, p->space.bytes, p->space.size);
    dp_buf_reset(&p->space);
    p->space_overflow = false;
    p->call_begin = p->call.size + (p->is_bare ? 0 : text.size);
    dp_chat_keep(p, &p->call, text.bytes, text.size);
    p->id_mark = p->id_begin = p->arguments_mark = p->arguments_begin = 0;
    enter(p, CALL);
}

static dp_str slice(const dp_chat_parser *p, size_t begin, size_t end)
{
    return (dp_str){ p->call.bytes + begin, end - begin };
}

static dp_chat_call_text cut_call(const dp_chat_parser *p)
{
    dp_chat_call_text text = { 0 };
    size_t end = p->call.size;

    text.has_arguments = p->arguments_begin > 0;
    if (text.has_arguments) {
        text.arguments = slice(p, p->arguments_begin, end);
        end = p->arguments_mark;
    }
    if (p->id_begin > 0) {
        text.id = slice(p, p->id_begin, end);
        end = p->id_mark;
    }
    text.head = slice(p, p->call_begin, end);
    return text;
}

/* All that was kept, as calls if it is, and otherwise as content. Only then is it
 * given out: a call that turns out to be none must not have been said. */
static void say_kept(dp_chat_parser *p, bool is_call)
{
    dp_chat_say(p, is_call ? DP_CHAT_EVENT_MARKUP : DP_CHAT_EVENT_CONTENT, p->call.bytes,
                p->call.size);
}

static void close_call(dp_chat_parser *p, const char *mark)
{
    dp_chat_call_text text = cut_call(p);
    dp_str end = dp_str_from(mark);
    bool is_call;

    p->is_dry = true;
    is_call = !p->st && p->rules->read_calls(p, &text);
    p->is_dry = false;
    say_kept(p, is_call);
    dp_chat_say(p, is_call ? DP_CHAT_EVENT_MARKUP : DP_CHAT_EVENT_CONTENT, end.bytes, end.size);
    if (is_call)
        p->rules->read_calls(p, &text);
    dp_buf_reset(&p->call);
    p->is_start = p->may_be_whole = false;
    p->is_bare = p->is_bare && is_call;
    p->drops_space = is_call;
    enter(p, p->is_in_section ? SECTION : CONTENT);
}

static void close_whole(dp_chat_parser *p)
{
    dp_str text = { p->call.bytes, p->call.size };
    bool is_call;

    p->is_dry = true;
    is_call = dp_chat_calls_whole(p, text);
    p->is_dry = false;
    say_kept(p, is_call);
    if (is_call)
        dp_chat_calls_whole(p, text);
    dp_buf_reset(&p->call);
}

/* ---- text ---- */

static size_t content_text(dp_chat_parser *p, const char *bytes, size_t size);

/* Of a call, or of what may be one. Too long for that, it is content. */
static size_t kept_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    size_t room = DP_CHAT_CALL_BYTES_MAX - DP_MIN(p->call.size, DP_CHAT_CALL_BYTES_MAX);

    if (room > 0) {
        size = DP_MIN(size, room);
        dp_chat_keep(p, &p->call, bytes, size);
        return size;
    }
    say_kept(p, false);
    dp_buf_reset(&p->call);
    p->is_start = p->may_be_whole = p->is_bare = p->is_in_section = p->drops_space = false;
    enter(p, CONTENT);
    return content_text(p, bytes, size);
}

static size_t content_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    size_t taken = 0;

    while (taken < size && dp_chat_is_space(bytes[taken]))
        taken++;
    if (taken > 0) {
        take_space(p, bytes, taken);
        return taken;
    }
    if (p->state == CONTENT && p->may_be_whole && p->rules->takes_whole_json && p->has_tools &&
        *bytes == '{') {
        dp_chat_keep(p, &p->call, p->space.bytes, p->space.size);
        dp_buf_reset(&p->space);
        enter(p, WHOLE);
        return kept_text(p, bytes, size);
    }
    give_space(p, kind_of_text(p));
    p->drops_space = false;
    taken = size;
    while (dp_chat_is_space(bytes[taken - 1]))
        taken--;
    dp_chat_say(p, kind_of_text(p), bytes, taken);
    if (p->state == CONTENT) {
        p->is_start = p->may_be_whole = p->is_bare = false;
        enter(p, CONTENT);
    }
    return taken;
}

/* Between calls there is nothing but white space; other text ends the section. */
static size_t section_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    size_t taken = 0;

    while (taken < size && dp_chat_is_space(bytes[taken]))
        taken++;
    if (taken > 0 && p->call.size > 0)
        dp_chat_keep(p, &p->call, bytes, taken);
    else
        dp_chat_say(p, DP_CHAT_EVENT_MARKUP, bytes, taken);
    if (taken > 0)
        return taken;
    say_kept(p, false);
    dp_buf_reset(&p->call);
    p->is_in_section = false;
    enter(p, CONTENT);
    return content_text(p, bytes, size);
}

size_t dp_chat_tagged_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    if (p->state == SECTION)
        return section_text(p, bytes, size);
    if (p->state == CALL || p->state == WHOLE)
        return kept_text(p, bytes, size);
    return content_text(p, bytes, size);
}

/* ---- marks ---- */

static void mark_in_call(dp_chat_parser *p, const dp_chat_mark *mark)
{
    size_t at = p->call.size;

    if (mark->role & (DP_MARK_ARGUMENTS | DP_MARK_ID)) {
        dp_str text = dp_str_from(mark->text);
        bool is_id = mark->role == DP_MARK_ID;

        dp_chat_keep(p, &p->call, text.bytes, text.size);
        *(is_id ? &p->id_mark : &p->arguments_mark) = at;
        *(is_id ? &p->id_begin : &p->arguments_begin) = at + text.size;
        enter(p, CALL);
    } else if (mark->role & (DP_MARK_CALL_END | DP_MARK_FUNCTION_END)) {
        close_call(p, mark->text);
    } else {
        close_call(p, NULL);
        dp_chat_tagged_mark(p, mark);
    }
}

void dp_chat_tagged_mark(dp_chat_parser *p, const dp_chat_mark *mark)
{
    dp_str text = dp_str_from(mark->text);

    if (p->state == CALL) {
        mark_in_call(p, mark);
    } else if (mark->role & (DP_MARK_CALL | DP_MARK_FUNCTION)) {
        begin_call(p, mark);
    } else if (mark->role == DP_MARK_SECTION) {
        dp_chat_keep(p, &p->call, p->space.bytes, p->space.size);
        dp_buf_reset(&p->space);
        p->space_overflow = false;
        dp_chat_keep(p, &p->call, text.bytes, text.size);
        p->is_in_section = true;
        enter(p, SECTION);
    } else { /* THINK, THINK_END, SECTION_END, CALL_END of a bare call */
        say_kept(p, true);
        dp_buf_reset(&p->call);
        give_space(p, DP_CHAT_EVENT_MARKUP);
        dp_chat_say(p, DP_CHAT_EVENT_MARKUP, text.bytes, text.size);
        p->drops_space = true;
        p->is_start = p->is_bare = p->is_in_section = false;
        enter(p, mark->role == DP_MARK_THINK ? REASONING : CONTENT);
    }
}

void dp_chat_tagged_end(dp_chat_parser *p)
{
    if (p->state == CALL)
        close_call(p, NULL);
    if (p->state == WHOLE)
        close_whole(p);
    if (p->state == SECTION)
        say_kept(p, true);
    give_space(p, p->state == REASONING ? DP_CHAT_EVENT_MARKUP : DP_CHAT_EVENT_CONTENT);
}
