#include "convert/convert_doc.h"

#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"

dp_status dp_doc_open(dp_doc *doc, const char *dir, const char *file, bool is_optional,
                      dp_error *err)
{
    dp_status st;
    int size;

    *doc = (dp_doc){ .text = NULL };
    size = snprintf(doc->name, sizeof doc->name, "%s/%s", dir, file);
    if (size < 0 || (size_t)size >= sizeof doc->name)
        return dp_fail(err, DP_E_LIMIT, "%.80s...: a path of more than %zu bytes", dir,
                       sizeof doc->name - 1);
    st = dp_file_read_all(&doc->text, &doc->size, doc->name, DP_DOC_SIZE_MAX, err);
    return st == DP_E_NOTFOUND && is_optional ? DP_OK : st;
}

void dp_doc_close(dp_doc *doc)
{
    dp_free(doc->text);
    doc->text = NULL;
    doc->size = 0;
}

bool dp_doc_next(dp_json *json, dp_json_token *token, dp_status *st, dp_error *err)
{
    if (*st)
        return false;
    *st = dp_json_next(json, token, err);
    return !*st && token->kind != DP_JSON_OBJECT_END && token->kind != DP_JSON_ARRAY_END;
}

/* Within the object whose BEGIN was just read, goes to the value of `key`. */
static dp_status find_member(dp_json *json, dp_str key, dp_json_token *token, bool *is_found,
                             dp_error *err)
{
    dp_status st = DP_OK;

    *is_found = false;
    while (dp_doc_next(json, token, &st, err)) {
        if (dp_str_equal(token->text, key)) {
            *is_found = true;
            return dp_json_next(json, token, err);
        }
        st = dp_json_skip(json, token, err);
    }
    return st;
}

dp_status dp_doc_find(const dp_doc *doc, const char *path, dp_json *json, dp_json_token *token,
                      bool *is_found, dp_error *err)
{
    dp_status st;

    *is_found = false;
    dp_json_init(json, doc->name, doc->text ? doc->text : "null", doc->text ? doc->size : 4);
    st = dp_json_next(json, token, err);
    while (!st) {
        size_t size = strcspn(path, ".");

        if (token->kind != DP_JSON_OBJECT_BEGIN)
            break;
        st = find_member(json, (dp_str){ path, size }, token, is_found, err);
        if (st || !*is_found || path[size] == '\0')
            break;
        *is_found = false;
        path += size + 1;
    }
    *is_found = *is_found && !st && token->kind != DP_JSON_NULL;
    return st;
}

/* ---- values ---- */

static dp_status fail_kind(const dp_doc *doc, const char *path, const char *wanted, dp_error *err)
{
    return dp_fail(err, DP_E_CORRUPT, "%s: \"%s\" is not %s", doc->name, path, wanted);
}

/* Finds the value; deals with absence. */
static dp_status open_value(const dp_doc *doc, const char *path, dp_json *json,
                            dp_json_token *token, bool *is_found, dp_error *err)
{
    bool found;
    dp_status st = dp_doc_find(doc, path, json, token, &found, err);

    if (!st && !found && !is_found)
        st = dp_fail(err, DP_E_NOTFOUND, "%s: \"%s\" is missing", doc->name, path);
    if (is_found)
        *is_found = found && !st;
    if (st || !found)
        token->kind = DP_JSON_END;
    return st;
}

dp_status dp_doc_u64(const dp_doc *doc, const char *path, uint64_t min, uint64_t max, uint64_t *out,
                     bool *is_found, dp_error *err)
{
    dp_json json;
    dp_json_token token;
    int64_t value;
    dp_status st = open_value(doc, path, &json, &token, is_found, err);

    if (!st && token.kind != DP_JSON_END) {
        if (token.kind != DP_JSON_NUMBER || !dp_json_i64(&token, &value) || value < 0)
            st = fail_kind(doc, path, "a whole number from 0", err);
        else if ((uint64_t)value < min || (uint64_t)value > max)
            st = dp_fail(err, DP_E_LIMIT, "%s: \"%s\" is %llu, expected %llu to %llu", doc->name,
                         path, (unsigned long long)value, (unsigned long long)min,
                         (unsigned long long)max);
        else
            *out = (uint64_t)value;
    }
    dp_json_deinit(&json);
    return st;
}

dp_status dp_doc_f64(const dp_doc *doc, const char *path, double min, double max, double *out,
                     bool *is_found, dp_error *err)
{
    dp_json json;
    dp_json_token token;
    double value;
    dp_status st = open_value(doc, path, &json, &token, is_found, err);

    if (!st && token.kind != DP_JSON_END) {
        if (token.kind != DP_JSON_NUMBER || !dp_json_f64(&token, &value))
            st = fail_kind(doc, path, "a number", err);
        else if (!(value >= min && value <= max))
            st = dp_fail(err, DP_E_LIMIT, "%s: \"%s\" is %g, expected %g to %g", doc->name, path,
                         value, min, max);
        else
            *out = value;
    }
    dp_json_deinit(&json);
    return st;
}

dp_status dp_doc_bool(const dp_doc *doc, const char *path, bool *out, bool *is_found, dp_error *err)
{
    dp_json json;
    dp_json_token token;
    dp_status st = open_value(doc, path, &json, &token, is_found, err);

    if (!st && token.kind != DP_JSON_END) {
        if (token.kind != DP_JSON_TRUE && token.kind != DP_JSON_FALSE)
            st = fail_kind(doc, path, "true or false", err);
        else
            *out = token.kind == DP_JSON_TRUE;
    }
    dp_json_deinit(&json);
    return st;
}

dp_status dp_doc_str(const dp_doc *doc, const char *path, dp_buf *out, bool *is_found,
                     dp_error *err)
{
    dp_json json;
    dp_json_token token;
    dp_status st = open_value(doc, path, &json, &token, is_found, err);

    if (!st && token.kind != DP_JSON_END) {
        if (token.kind != DP_JSON_STRING) {
            st = fail_kind(doc, path, "a string", err);
        } else {
            st = dp_buf_append(out, token.text.bytes, token.text.size);
            if (st)
                dp_fail(err, st, "%s: \"%s\" is a text of %zu bytes", doc->name, path,
                        token.text.size);
        }
    }
    dp_json_deinit(&json);
    return st;
}
