/* chat_parse_harmony.c - gpt-oss: a message is several, each with a header that says what it is.
 *
 *   <|channel|>analysis<|message|>thoughts<|end|>
 *   <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>
 *   <|start|>assistant<|channel|>final<|message|>answer<|return|>
 *
 * States   HEADER --MESSAGE--> CONTENT, REASONING or CALL --END--> BETWEEN --START--> HEADER
 *
 * A commentary without a recipient is said to the user before calls: content. The
 * prompt ends with <|start|>assistant, so a message begins within a header. */
#include <string.h>

#include "text/chat_parse_impl.h"

#define HEADER_BYTES_MAX 1024 /* a name, a channel, a recipient, a type */

enum { HEADER, BETWEEN, CONTENT, REASONING, CALL };

static void enter(dp_chat_parser *p, int state)
{
    p->state = state;
    dp_chat_set_active(p, state == HEADER || state == BETWEEN
                              ? DP_MARK_START | DP_MARK_CHANNEL | DP_MARK_CONSTRAIN |
                                    DP_MARK_MESSAGE | DP_MARK_END
                              : DP_MARK_START | DP_MARK_END);
}

/* ---- headers ---- */

/* The word behind `before`, which begins a word itself; empty: it is not there. */
static dp_str word_behind(dp_str header, const char *before)
{
    size_t size = strlen(before);

    for (size_t at = 0; at + size <= header.size; at++) {
        dp_str word = { header.bytes + at + size, 0 };

        if (memcmp(header.bytes + at, before, size) != 0 ||
            (at > 0 && *before != '<' && !dp_chat_is_space(header.bytes[at - 1]) &&
             header.bytes[at - 1] != '>'))
            continue;
        while (at + size + word.size < header.size && !dp_chat_is_space(word.bytes[word.size]) &&
               word.bytes[word.size] != '<')
            word.size++;
        return word;
    }
    return dp_str_from("");
}

static dp_str tool_of_header(dp_str header)
{
    dp_str to = word_behind(header, "to=");

    if (dp_str_is(to, "user") || dp_str_is(to, "assistant") || dp_str_is(to, "all"))
        return dp_str_from("");
    if (dp_str_starts_with(to, "functions.")) {
        to.bytes += strlen("functions.");
        to.size -= strlen("functions.");
    }
    return to;
}

static int state_of_header(dp_str header)
{
    if (tool_of_header(header).size > 0)
        return CALL;
    return dp_str_is(word_behind(header, "<|channel|>"), "analysis") ? REASONING : CONTENT;
}

/* A prompt that ends within a message of the assistant has its header. */
void dp_chat_harmony_begin(dp_chat_parser *p, dp_str prompt)
{
    static const char start[] = "<|start|>", message[] = "<|message|>", end[] = "<|end|>";
    size_t at = prompt.size;
    const char *body;
    int state;

    enter(p, HEADER);
    if (!prompt.bytes || prompt.size == 0)
        return;
    while (at > 0 && !dp_str_starts_with((dp_str){ prompt.bytes + at, prompt.size - at }, start))
        at--;
    prompt = (dp_str){ prompt.bytes + at, prompt.size - at };
    body = memmem(prompt.bytes, prompt.size, message, sizeof message - 1);
    if (!body || memmem(prompt.bytes, prompt.size, end, sizeof end - 1))
        return;
    state = state_of_header((dp_str){ prompt.bytes, (size_t)(body - prompt.bytes) });
    enter(p, state == CALL ? CONTENT : state);
}

/* ---- messages ---- */

/* The header and what followed turned out to be nothing the format has. */
static void give_up(dp_chat_parser *p, int state)
{
    dp_chat_say(p, DP_CHAT_EVENT_CONTENT, p->call.bytes, p->call.size);
    dp_buf_reset(&p->call);
    enter(p, state);
}

static void open_message(dp_chat_parser *p)
{
    dp_str header = { p->call.bytes, p->call.size }, mark = dp_str_from("<|message|>");
    int state = state_of_header(header);

    p->arguments_mark = header.size;
    dp_chat_keep(p, &p->call, mark.bytes, mark.size);
    p->arguments_begin = p->call.size;
    if (state != CALL) {
        dp_chat_say(p, DP_CHAT_EVENT_MARKUP, p->call.bytes, p->call.size);
        dp_buf_reset(&p->call);
    }
    enter(p, state);
}

static void close_message(dp_chat_parser *p)
{
    dp_str name, arguments;
    bool is_call;

    if (p->state != CALL)
        return;
    name = tool_of_header((dp_str){ p->call.bytes, p->arguments_mark });
    arguments = dp_chat_trim(
        (dp_str){ p->call.bytes + p->arguments_begin, p->call.size - p->arguments_begin });
    p->is_dry = true;
    is_call = dp_chat_say_call(p, name, dp_str_from(""), arguments);
    p->is_dry = false;
    dp_chat_say(p, is_call ? DP_CHAT_EVENT_MARKUP : DP_CHAT_EVENT_CONTENT, p->call.bytes,
                p->call.size);
    if (is_call)
        dp_chat_say_call(p, name, dp_str_from(""), arguments);
    dp_buf_reset(&p->call);
}

static size_t between_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    size_t taken = 0;

    while (taken < size && dp_chat_is_space(bytes[taken]))
        taken++;
    dp_chat_say(p, DP_CHAT_EVENT_MARKUP, bytes, taken);
    if (taken == 0)
        enter(p, CONTENT); /* words where none should be */
    return taken ? taken : dp_chat_harmony_text(p, bytes, size);
}

size_t dp_chat_harmony_text(dp_chat_parser *p, const char *bytes, size_t size)
{
    size_t size_max = p->state == HEADER ? HEADER_BYTES_MAX : DP_CHAT_CALL_BYTES_MAX;
    size_t room = size_max - DP_MIN(p->call.size, size_max);

    if (p->state == BETWEEN)
        return between_text(p, bytes, size);
    if (p->state == CONTENT || p->state == REASONING) {
        dp_chat_say(p, p->state == CONTENT ? DP_CHAT_EVENT_CONTENT : DP_CHAT_EVENT_REASONING, bytes,
                    size);
        return size;
    }
    if (room == 0) {
        give_up(p, CONTENT);
        return dp_chat_harmony_text(p, bytes, size);
    }
    size = DP_MIN(size, room);
    dp_chat_keep(p, &p->call, bytes, size);
    return size;
}

void dp_chat_harmony_mark(dp_chat_parser *p, const dp_chat_mark *mark)
{
    dp_str text = dp_str_from(mark->text);

    if (p->state == HEADER && mark->role == DP_MARK_MESSAGE) {
        open_message(p);
    } else if (p->state == HEADER && mark->role & (DP_MARK_CHANNEL | DP_MARK_CONSTRAIN)) {
        dp_chat_keep(p, &p->call, text.bytes, text.size);
        if (p->call.size > HEADER_BYTES_MAX)
            give_up(p, CONTENT);
    } else if (p->state == BETWEEN && mark->role != DP_MARK_END) {
        enter(p, HEADER); /* <|start|>, or it was forgotten */
        if (mark->role == DP_MARK_START)
            dp_chat_keep(p, &p->call, text.bytes, text.size);
        else
            dp_chat_harmony_mark(p, mark);
    } else if (mark->role == DP_MARK_START && p->state != BETWEEN) {
        if (p->state == HEADER)
            give_up(p, HEADER);
        close_message(p);
        enter(p, HEADER);
        dp_chat_keep(p, &p->call, text.bytes, text.size);
    } else { /* END */
        if (p->state == HEADER)
            give_up(p, BETWEEN);
        close_message(p);
        dp_chat_say(p, DP_CHAT_EVENT_MARKUP, text.bytes, text.size);
        enter(p, BETWEEN);
    }
}

void dp_chat_harmony_end(dp_chat_parser *p)
{
    if (p->state == HEADER)
        give_up(p, BETWEEN);
    close_message(p);
}
