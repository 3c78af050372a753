#include "app/cli/chat_setup.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

/* "2025-06-30" -> noon of that day. */
static bool parse_date(const char *text, int64_t *now_s)
{
    struct tm date = { .tm_hour = 12 };
    const char *end = strptime(text, "%Y-%m-%d", &date);

    if (!end || *end || date.tm_year < 70)
        return false;
    *now_s = (int64_t)timegm(&date);
    return true;
}

/* NAME=VALUE, where the value is JSON, or else the text itself. */
static dp_status add_arg(json_t *object, const char *text, dp_error *err)
{
    const char *equals = strchr(text, '=');
    json_t *value;
    char *name;
    int failed;

    if (!equals || equals == text)
        return dp_fail(err, DP_E_INVALID, "--chat-arg takes NAME=JSON, not \"%.64s\"", text);
    name = dp_strndup(text, (size_t)(equals - text));
    if (!name)
        return dp_fail(err, DP_E_NOMEM, "--chat-arg: no memory");
    value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    if (!value)
        value = json_string(equals + 1);
    failed = !value || json_object_set_new(object, name, value);
    dp_free(name);
    return failed ? dp_fail(err, DP_E_INVALID, "--chat-arg %.64s: neither JSON nor UTF-8", text)
                  : DP_OK;
}

static dp_status read_args(char **out, const dp_args *args, dp_error *err)
{
    dp_status st = DP_OK;
    json_t *object = NULL;
    const char *text;
    char *written;
    size_t at = 0;

    while (!st && (text = dp_args_next(args, "chat-arg", &at)) != NULL) {
        if (!object)
            object = json_object();
        st =
            object ? add_arg(object, text, err) : dp_fail(err, DP_E_NOMEM, "--chat-arg: no memory");
    }
    if (!st && object) {
        written = json_dumps(object, 0);
        *out = written ? dp_strndup(written, strlen(written)) : NULL;
        free(written);
        if (!*out)
            st = dp_fail(err, DP_E_NOMEM, "--chat-arg: no memory");
    }
    json_decref(object);
    return st;
}

dp_status dp_chat_setup_init(dp_chat_setup *s, const dp_vocab *vocab, const dp_args *args,
                             dp_error *err)
{
    const char *path = dp_args_text(args, "chat-template"), *date = dp_args_text(args, "chat-date");
    char *text = NULL;
    dp_status st = DP_OK;
    size_t size;

    *s = (dp_chat_setup){ .now_s = dp_clock_wall_s() };
    if (date && !parse_date(date, &s->now_s))
        return dp_fail(err, DP_E_INVALID, "--chat-date takes a day like 2025-06-30, not \"%.64s\"",
                       date);
    if (path)
        st = dp_file_read_all(&text, &size, path, DP_CHAT_SETUP_TEMPLATE_MAX, err);
    if (!st)
        st = read_args(&s->args_json, args, err);
    if (!st)
        st = dp_chat_open(&s->chat, vocab, dp_args_text(args, "chat-format"), text, err);
    if (!st && dp_chat_warning(s->chat))
        fprintf(stderr, "doppler: %s: %s\n", args->operands[0], dp_chat_warning(s->chat));
    dp_free(text);
    return st;
}

void dp_chat_setup_deinit(dp_chat_setup *s)
{
    dp_chat_close(s->chat);
    dp_free(s->args_json);
    *s = (dp_chat_setup){ 0 };
}

void dp_chat_setup_fill(const dp_chat_setup *s, dp_chat_input *input)
{
    input->args_json = s->args_json;
    input->now_s = s->now_s;
}
