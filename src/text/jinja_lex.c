/* Templates to tokens: text, and what stands in {{ }}, {% %} and {# #}.
 *
 * White space: "-" beside a tag removes all of it on that side; a block's line is
 * removed when nothing else stands on it (lstrip_blocks, trim_blocks), unless "+"
 * says to keep it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "text/jinja_impl.h"

#define BRACES_MAX 256

typedef struct lexer {
    dp_jparser *p;
    dp_str text;
    size_t at;
    uint32_t line;
    bool begins_line; /* what was read last ended a line, or nothing was read */
    char braces[BRACES_MAX];
    size_t brace_count;
} lexer;

void dp_jinja_parse_fail(dp_jparser *p, dp_status st, uint32_t line, const char *format, ...)
{
    char text[DP_ERROR_TEXT_MAX - 64];
    va_list args;

    if (p->st)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->st = dp_fail(p->err, st, "chat template, line %u: %s", line, text);
}

static void add(lexer *l, dp_jtoken_kind kind, size_t begin, size_t end)
{
    dp_jparser *p = l->p;

    if (p->token_count == p->token_capacity && !p->st) {
        size_t capacity = DP_MAX(2 * p->token_capacity, (size_t)256);
        dp_jtoken *tokens = dp_realloc(p->tokens, capacity, sizeof *tokens);

        if (!tokens) {
            dp_jinja_parse_fail(p, DP_E_NOMEM, l->line, "no memory for %zu tokens", capacity);
            return;
        }
        p->tokens = tokens;
        p->token_capacity = capacity;
    }
    if (!p->st)
        p->tokens[p->token_count++] =
            (dp_jtoken){ kind, l->line, { l->text.bytes + begin, end - begin } };
}

static bool looking_at(const lexer *l, size_t at, const char *what)
{
    size_t size = strlen(what);

    return l->text.size - at >= size && !memcmp(l->text.bytes + at, what, size);
}

static size_t find(const lexer *l, size_t from, const char *what)
{
    const char *found = from < l->text.size
                            ? memmem(l->text.bytes + from, l->text.size - from, what, strlen(what))
                            : NULL;

    return found ? (size_t)(found - l->text.bytes) : l->text.size;
}

static size_t skip_space(const lexer *l, size_t at)
{
    uint32_t cp;

    while (at < l->text.size) {
        size_t size = dp_utf8_decode(l->text.bytes + at, l->text.size - at, &cp);

        if (!dp_jinja_is_space(cp))
            break;
        at += size;
    }
    return at;
}

/* The end of [begin, end) without white space at its end. */
static size_t trim_end(const lexer *l, size_t begin, size_t end)
{
    while (end > begin) {
        size_t at = end - 1;
        uint32_t cp;

        while (at > begin && ((uint8_t)l->text.bytes[at] & 0xC0) == 0x80)
            at--;
        dp_utf8_decode(l->text.bytes + at, end - at, &cp);
        if (!dp_jinja_is_space(cp))
            break;
        end = at;
    }
    return end;
}

static void move_to(lexer *l, size_t at)
{
    for (size_t i = l->at; i < at; i++)
        l->line += l->text.bytes[i] == '\n';
    l->begins_line = at > 0 && at > l->at ? l->text.bytes[at - 1] == '\n' : l->begins_line;
    l->at = at;
}

/* Text before a tag whose sign is '-', '+' or 0. */
static void add_data(lexer *l, size_t end, char sign, bool is_block)
{
    size_t begin = l->at, kept = end;

    if (sign == '-') {
        kept = trim_end(l, begin, end);
    } else if (sign != '+' && is_block) {
        size_t line = end;

        while (line > begin && l->text.bytes[line - 1] != '\n')
            line--;
        if ((line > begin || l->begins_line) && trim_end(l, line, end) == line)
            kept = line;
    }
    if (kept > begin)
        add(l, DP_JT_DATA, begin, kept);
}

static char sign_at(const lexer *l, size_t at)
{
    return at < l->text.size && (l->text.bytes[at] == '-' || l->text.bytes[at] == '+')
               ? l->text.bytes[at]
               : 0;
}

/* Behind a closing tag that ends at `at`: a block's newline goes, with '-' all space. */
static size_t after_tag(const lexer *l, size_t at, char sign, bool trims_newline)
{
    if (sign == '-')
        return skip_space(l, at);
    if (trims_newline && sign != '+' && at < l->text.size && l->text.bytes[at] == '\n')
        return at + 1;
    return at;
}

static void lex_comment(lexer *l)
{
    size_t begin = l->at + 2 + (sign_at(l, l->at + 2) != 0);
    size_t end = find(l, begin, "#}");
    char sign = 0;

    if (end == l->text.size) {
        dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "a comment without an end");
        return;
    }
    if (end > begin)
        sign = sign_at(l, end - 1);
    move_to(l, after_tag(l, end + 2, sign, true));
}

/* ---- {% raw %} ---- */

/* At "{%": where "word" with its closing tag ends; 0: it is another block. The sign
 * of the closing tag goes to *sign. */
static size_t match_word_block(const lexer *l, size_t at, const char *word, char *sign)
{
    at += 2;
    at = skip_space(l, at + (sign_at(l, at) != 0));
    if (!looking_at(l, at, word))
        return 0;
    at = skip_space(l, at + strlen(word));
    *sign = sign_at(l, at);
    at += *sign != 0;
    return looking_at(l, at, "%}") ? at + 2 : 0;
}

/* True when a raw block stood here, and is done. */
static bool lex_raw(lexer *l)
{
    char sign, end_sign;
    size_t begin = match_word_block(l, l->at, "raw", &sign), end, after = 0;

    if (!begin || sign == '+')
        return false;
    move_to(l, after_tag(l, begin, sign, false));
    for (end = l->at; end < l->text.size && !after; end += after ? 0 : 2) {
        end = find(l, end, "{%");
        if (end < l->text.size)
            after = match_word_block(l, end, "endraw", &end_sign);
        if (after)
            break;
    }
    if (!after) {
        dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "raw without endraw");
        return true;
    }
    add_data(l, end, sign_at(l, end + 2), true);
    move_to(l, after_tag(l, after, end_sign, true));
    return true;
}

/* ---- inside tags ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' ||
           (uint8_t)c >= 0x80;
}

static char byte_at(const lexer *l, size_t at)
{
    return at < l->text.size ? l->text.bytes[at] : '\0';
}

/* Digits with single underscores between them; the same place when there are none. */
static size_t skip_digits(const lexer *l, size_t at)
{
    while (is_digit(byte_at(l, at)) ||
           (byte_at(l, at) == '_' && is_digit(byte_at(l, at + 1)) && at > l->at))
        at++;
    return at;
}

static void lex_number(lexer *l)
{
    size_t at = skip_digits(l, l->at), end;
    char base = (char)(byte_at(l, l->at + 1) | 0x20);
    bool is_after_dot = l->at > 0 && l->text.bytes[l->at - 1] == '.';
    dp_jtoken_kind kind = DP_JT_INT;

    if (byte_at(l, l->at) == '0' && (base == 'x' || base == 'o' || base == 'b')) {
        for (at = l->at + 2; is_word(byte_at(l, at)) && (uint8_t)byte_at(l, at) < 0x80;)
            at++;
        add(l, DP_JT_INT, l->at, at);
        move_to(l, at);
        return;
    }
    if (!is_after_dot && byte_at(l, at) == '.' && is_digit(byte_at(l, at + 1))) {
        at = skip_digits(l, at + 1);
        kind = DP_JT_FLOAT;
    }
    if (!is_after_dot && (byte_at(l, at) | 0x20) == 'e') {
        end = at + 1 + (byte_at(l, at + 1) == '+' || byte_at(l, at + 1) == '-');
        if (is_digit(byte_at(l, end))) {
            at = skip_digits(l, end);
            kind = DP_JT_FLOAT;
        }
    }
    add(l, kind, l->at, at);
    move_to(l, at);
}

static void lex_string(lexer *l)
{
    char quote = l->text.bytes[l->at];
    size_t end = l->at + 1;

    while (end < l->text.size && l->text.bytes[end] != quote)
        end += l->text.bytes[end] == '\\' ? 2 : 1;
    if (end >= l->text.size) {
        dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "a string without an end");
        return;
    }
    add(l, DP_JT_STRING, l->at + 1, end); /* the parser reads escapes */
    move_to(l, end + 1);
}

static void lex_operator(lexer *l)
{
    static const char *const operators[] = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "*",
                                             "/",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                             ">",  "<",  "=",  ".",  ":",  "|",  ",", ";" };
    const char *op = NULL;

    for (size_t i = 0; i < DP_ARRAY_LEN(operators) && !op; i++)
        if (looking_at(l, l->at, operators[i]))
            op = operators[i];
    if (!op) {
        dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "unexpected byte 0x%02x",
                            (uint8_t)l->text.bytes[l->at]);
        return;
    }
    if (strchr("([{", op[0])) {
        if (l->brace_count == BRACES_MAX)
            dp_jinja_parse_fail(l->p, DP_E_LIMIT, l->line, "more than %d open braces", BRACES_MAX);
        else
            l->braces[l->brace_count++] = op[0] == '(' ? ')' : (char)(op[0] + 2);
    } else if (strchr(")]}", op[0])) {
        if (l->brace_count == 0 || l->braces[l->brace_count - 1] != op[0])
            dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "'%c' closes nothing", op[0]);
        else
            l->brace_count--;
    }
    add(l, DP_JT_OP, l->at, l->at + strlen(op));
    move_to(l, l->at + strlen(op));
}

/* From behind the opening tag to behind the closing one. */
static void lex_inside(lexer *l, const char *closing, dp_jtoken_kind end_kind)
{
    bool is_block = end_kind == DP_JT_BLOCK_END;

    l->brace_count = 0;
    while (!l->p->st) {
        char c, sign;

        move_to(l, skip_space(l, l->at));
        sign = sign_at(l, l->at);
        if (sign == '+' && !is_block)
            sign = 0;
        if (l->brace_count == 0 && looking_at(l, l->at + (sign != 0), closing)) {
            add(l, end_kind, l->at, l->at);
            move_to(l, after_tag(l, l->at + (sign != 0) + 2, sign, is_block));
            return;
        }
        c = byte_at(l, l->at);
        if (l->at >= l->text.size)
            dp_jinja_parse_fail(l->p, DP_E_INVALID, l->line, "a tag without its %s", closing);
        else if (is_digit(c))
            lex_number(l);
        else if (c == '\'' || c == '"')
            lex_string(l);
        else if (is_word(c)) {
            size_t end = l->at;

            while (is_word(byte_at(l, end)))
                end++;
            add(l, DP_JT_NAME, l->at, end);
            move_to(l, end);
        } else {
            lex_operator(l);
        }
    }
}

void dp_jinja_lex(dp_jparser *p, dp_str text)
{
    lexer l = { .p = p, .text = text, .line = 1, .begins_line = true };

    while (l.at < text.size && !p->st) {
        size_t open = l.at;
        char kind, sign;

        do { /* the next {{, {% or {# */
            open = find(&l, open, "{");
            kind = byte_at(&l, open + 1);
        } while (open < text.size && kind != '{' && kind != '%' && kind != '#' && ++open);
        if (open >= text.size) {
            add(&l, DP_JT_DATA, l.at, text.size);
            break;
        }
        sign = sign_at(&l, open + 2);
        add_data(&l, open, sign, kind != '{');
        move_to(&l, open);
        if (kind == '#') {
            lex_comment(&l);
        } else if (kind == '{') {
            add(&l, DP_JT_VARIABLE_BEGIN, open, open);
            move_to(&l, open + 2 + (sign != 0));
            lex_inside(&l, "}}", DP_JT_VARIABLE_END);
        } else if (!lex_raw(&l)) {
            add(&l, DP_JT_BLOCK_BEGIN, open, open);
            move_to(&l, open + 2 + (sign != 0));
            lex_inside(&l, "%}", DP_JT_BLOCK_END);
        }
    }
    add(&l, DP_JT_END, text.size, text.size);
}
