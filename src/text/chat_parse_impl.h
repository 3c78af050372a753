/* chat_parse_impl.h - what the files of chat_parse share. Private to the room. */
#ifndef DP_TEXT_CHAT_PARSE_IMPL_H
#define DP_TEXT_CHAT_PARSE_IMPL_H

#include "text/chat_parse.h"

#define DP_CHAT_MARKS_MAX      12
#define DP_CHAT_ARGUMENTS_MAX  1024 /* of one call in tags: each looks through the tools */
#define DP_CHAT_NAME_BYTES_MAX 256  /* of a tool or an id; OpenAI allows 64 */

/* What a mark means; sets of them say which count. */
enum {
    DP_MARK_THINK = 1 << 0,
    DP_MARK_THINK_END = 1 << 1,
    DP_MARK_SECTION = 1 << 2, /* around calls */
    DP_MARK_SECTION_END = 1 << 3,
    DP_MARK_CALL = 1 << 4,
    DP_MARK_CALL_END = 1 << 5,
    DP_MARK_ARGUMENTS = 1 << 6,    /* within a call: what follows */
    DP_MARK_ID = 1 << 7,           /* within a call: what follows */
    DP_MARK_FUNCTION = 1 << 8,     /* a call whose CALL was forgotten ... */
    DP_MARK_FUNCTION_END = 1 << 9, /* ... and its end */
    /* harmony */
    DP_MARK_START = 1 << 10,
    DP_MARK_CHANNEL = 1 << 11,
    DP_MARK_CONSTRAIN = 1 << 12,
    DP_MARK_MESSAGE = 1 << 13,
    DP_MARK_END = 1 << 14,
};

typedef struct dp_chat_mark {
    const char *text; /* NULL behind the last */
    uint32_t role;
} dp_chat_mark;

/* The text of one call, cut at its marks. */
typedef struct dp_chat_call_text {
    dp_str head; /* before the mark of the arguments, or all */
    dp_str id;   /* between the mark of the id and the one of the arguments */
    dp_str arguments;
    bool has_arguments; /* the mark was there */
} dp_chat_call_text;

struct dp_chat_rules {
    const char *name;
    const char *template_marks[3];         /* all of them in a template, or NULL */
    const char *vocabulary_mark;           /* without a template: a token of this name, or NULL */
    dp_chat_mark marks[DP_CHAT_MARKS_MAX]; /* none begins with another */
    bool takes_whole_json;                 /* a message that is JSON is a call, where tools exist */

    void (*begin)(dp_chat_parser *p, dp_str prompt);
    /* Takes some of bytes [size > 0] as text, at least one; returns how many. */
    size_t (*on_text)(dp_chat_parser *p, const char *bytes, size_t size);
    void (*on_mark)(dp_chat_parser *p, const dp_chat_mark *mark);
    void (*on_end)(dp_chat_parser *p);
    /* Says the calls in the text; false: there is none, and nothing was said. */
    bool (*read_calls)(dp_chat_parser *p, const dp_chat_call_text *text);
};

struct dp_chat_parser {
    const dp_chat_rules *rules;
    const dp_tokenizer *tokenizer; /* NULL: none */
    dp_chat_event_sink on_event;
    void *user;
    bool wants_markup, has_tools;
    bool has_call_end; /* calls of the format end with a mark */
    bool is_dry;       /* calls are looked at, not said */
    dp_status st;
    dp_buf tools;

    /* marks */
    bool is_control[DP_CHAT_MARKS_MAX]; /* of rules->marks: text cannot spell it */
    uint32_t active;                    /* roles that count now */
    bool begins_mark[256];              /* first bytes of these in text */
    dp_buf held;                        /* what may begin a mark */

    /* the machines' */
    int state;
    bool is_start;       /* nothing but white space came yet */
    bool may_be_whole;   /* the content has not begun: all of it may be a call */
    bool drops_space;    /* white space next to a mark belongs to the format */
    bool space_overflow; /* so much white space that it went out already */
    bool is_bare;        /* the last call began with FUNCTION */
    bool is_in_section;  /* of calls */
    dp_buf space;        /* waits for what follows */
    dp_buf call;         /* of a call (harmony: or a header), with its marks */
    size_t call_begin;   /* in call: behind the mark that began it */
    size_t id_mark, id_begin, arguments_mark, arguments_begin; /* in call; 0: not there */

    /* of the call that is said */
    dp_buf name, id, arguments;
};

/* ---- chat_parse.c ---- */

void dp_chat_set_active(dp_chat_parser *p, uint32_t roles);
/* Gives out bytes [size] once, as CONTENT, REASONING or MARKUP; none: no event. */
void dp_chat_say(dp_chat_parser *p, dp_chat_event_kind kind, const char *bytes, size_t size);
/* A call; arguments are checked. False: not a name. */
bool dp_chat_say_call(dp_chat_parser *p, dp_str name, dp_str id, dp_str arguments);
/* Appends, and keeps the first failure in p->st. */
void dp_chat_keep(dp_chat_parser *p, dp_buf *buf, const void *bytes, size_t size);

/* ---- chat_parse_tagged.c, chat_parse_harmony.c ---- */

void dp_chat_tagged_begin(dp_chat_parser *p, dp_str prompt);
size_t dp_chat_tagged_text(dp_chat_parser *p, const char *bytes, size_t size);
void dp_chat_tagged_mark(dp_chat_parser *p, const dp_chat_mark *mark);
void dp_chat_tagged_end(dp_chat_parser *p);

void dp_chat_harmony_begin(dp_chat_parser *p, dp_str prompt);
size_t dp_chat_harmony_text(dp_chat_parser *p, const char *bytes, size_t size);
void dp_chat_harmony_mark(dp_chat_parser *p, const dp_chat_mark *mark);
void dp_chat_harmony_end(dp_chat_parser *p);

/* ---- chat_parse_call.c ---- */

bool dp_chat_is_space(char c);
dp_str dp_chat_trim(dp_str text);
bool dp_chat_json_is_whole(dp_str text); /* one well-formed value */
/* {"name", "arguments" or "parameters", "id"}: one, several behind each other or a list. */
bool dp_chat_calls_hermes(dp_chat_parser *p, const dp_chat_call_text *text); /* or Qwen's XML */
bool dp_chat_calls_llama(dp_chat_parser *p, const dp_chat_call_text *text);
bool dp_chat_calls_mistral(dp_chat_parser *p, const dp_chat_call_text *text);
bool dp_chat_calls_deepseek(dp_chat_parser *p, const dp_chat_call_text *text);
bool dp_chat_calls_kimi(dp_chat_parser *p, const dp_chat_call_text *text);
/* A message that is nothing but complete calls as JSON. */
bool dp_chat_calls_whole(dp_chat_parser *p, dp_str text);

/* ---- chat_parse_xml.c ---- */

/* <function=NAME><parameter=KEY>value</parameter>...</function> */
bool dp_chat_calls_xml(dp_chat_parser *p, dp_str text);

/* ---- chat_parse_json.c: slices of JSON text ---- */

/* The text of object's first member `key`; false: none, or not well-formed up to there. */
bool dp_chat_json_member(dp_str object, const char *key, dp_str *value);
/* Appends a string with its quotes. */
void dp_chat_json_quote(dp_chat_parser *p, dp_buf *out, dp_str text);
/* Whether the tools say that argument `key` of tool `name` is a string. */
bool dp_chat_json_is_string_argument(dp_str tools, dp_str name, dp_str key);

#endif
