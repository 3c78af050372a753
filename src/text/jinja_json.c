/* JSON documents to values. Their text is not trusted. */
#include <string.h>

#include "base/json.h"
#include "text/jinja_impl.h"

typedef struct frame {
    dp_jvalue container;
    dp_jvalue key; /* the next value's, in a dict */
} frame;

static dp_jvalue number(dp_jrun *x, const dp_json_token *t)
{
    int64_t i;
    double f;

    if (dp_json_i64(t, &i))
        return dp_jv_int(i);
    if (!dp_json_f64(t, &f))
        dp_jinja_fail(x, DP_E_LIMIT, "the number %.*s is out of range",
                      (int)DP_MIN(t->text.size, 40), t->text.bytes);
    else if (!memchr(t->text.bytes, '.', t->text.size) &&
             !memchr(t->text.bytes, 'e', t->text.size) && !memchr(t->text.bytes, 'E', t->text.size))
        dp_jinja_fail(x, DP_E_LIMIT, "the integer %.*s does not fit in 64 bits",
                      (int)DP_MIN(t->text.size, 40), t->text.bytes);
    return dp_jv_float(f);
}

static dp_jvalue scalar(dp_jrun *x, const dp_json_token *t)
{
    switch (t->kind) {
    case DP_JSON_STRING:
        return dp_jv_str(dp_jinja_str_copy(x, t->text.bytes, t->text.size, false));
    case DP_JSON_NUMBER:
        return number(x, t);
    case DP_JSON_TRUE:
    case DP_JSON_FALSE:
        return dp_jv_bool(t->kind == DP_JSON_TRUE);
    case DP_JSON_OBJECT_BEGIN:
        return (dp_jvalue){ .kind = DP_JV_DICT, .d = dp_jinja_dict(x) };
    case DP_JSON_ARRAY_BEGIN:
        return dp_jv_list(DP_JV_LIST, dp_jinja_list(x, 0));
    default:
        return dp_jv_none();
    }
}

static void take_token(dp_jrun *x, const dp_json_token *t, frame *frames)
{
    frame *inside = t->depth > 0 ? &frames[t->depth] : NULL;
    dp_jvalue v;

    if (t->kind == DP_JSON_KEY) {
        inside->key = dp_jv_str(dp_jinja_str_copy(x, t->text.bytes, t->text.size, false));
        return;
    }
    if (t->kind == DP_JSON_OBJECT_END || t->kind == DP_JSON_ARRAY_END)
        return;
    v = scalar(x, t);
    if (!inside)
        frames[0].container = v;
    else if (inside->container.kind == DP_JV_DICT)
        dp_jinja_dict_set(x, inside->container.d, inside->key, v);
    else
        dp_jinja_list_add(x, inside->container.l, v);
    if (t->kind == DP_JSON_OBJECT_BEGIN || t->kind == DP_JSON_ARRAY_BEGIN)
        frames[t->depth + 1].container = v;
}

dp_jvalue dp_jinja_from_json(dp_jrun *x, const char *name, dp_str text)
{
    frame frames[DP_JSON_DEPTH_MAX + 2];
    dp_json_token token = { .kind = DP_JSON_NULL };
    dp_status st = DP_OK;
    dp_json json;

    frames[0].container = dp_jv_none();
    dp_json_init(&json, name, text.bytes, text.size);
    while (!st && !x->st && token.kind != DP_JSON_END) {
        st = dp_json_next(&json, &token, x->err);
        if (!st && token.kind != DP_JSON_END)
            take_token(x, &token, frames);
    }
    dp_json_deinit(&json);
    if (st && !x->st)
        x->st = st; /* the reader has said it */
    return frames[0].container;
}
