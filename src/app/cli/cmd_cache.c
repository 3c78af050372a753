/* cmd_cache.c - doppler cache: what is kept of models from peers and URLs, checked, given up. */
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "app/cli/userdir.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/cache.h"

#define REPORT_BYTES_MAX ((size_t)256 << 20)
#define KEY_SHOWN        12 /* digits of a key: enough to tell and to name a model */
#define KEY_MIN          4
#define AGE_SIZE         40
#define SIZE(bytes)      dp_format_size((char[16]){ 0 }, bytes) /* lives as long as its block */

typedef struct cache {
    const dp_args *args;
    char folder[DP_USERDIR_PATH_MAX];
    dp_cache_entry *entries;
    size_t count;
    const char *which; /* NULL: all */
    dp_buf out;
    bool is_json, found_bad;
} cache;

/* ---- which ---- */

/* A model by its key or the beginning of it, the name of a file, or what it was named by. */
static bool is_meant(const cache *c, const dp_cache_entry *e)
{
    size_t size = c->which ? strlen(c->which) : 0;

    return !c->which || strcmp(c->which, e->name) == 0 ||
           (e->origin[0] && strcmp(c->which, e->origin) == 0) ||
           (size >= KEY_MIN && strncmp(c->which, e->key, size) == 0);
}

static bool is_same_model(const dp_cache_entry *a, const dp_cache_entry *b)
{
    return strcmp(a->key, b->key) == 0;
}

/* One model is meant: its first file. */
static dp_status find_one(const cache *c, const dp_cache_entry **out, dp_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < c->count; i++) {
        const dp_cache_entry *e = &c->entries[i];
        if (!is_meant(c, e))
            continue;
        if (*out && !is_same_model(*out, e))
            return dp_fail(err, DP_E_INVALID,
                           "cache: \"%.200s\" may be %.12s or %.12s: give more of the key",
                           c->which, (*out)->key, e->key);
        *out = *out ? *out : e;
    }
    if (*out)
        return DP_OK;
    return dp_fail(err, DP_E_NOTFOUND, "cache: %s holds nothing called \"%.200s\"", c->folder,
                   c->which);
}

/* ---- ls, verify ---- */

static void format_age(char out[AGE_SIZE], int64_t used_unix)
{
    int64_t s = DP_MAX(dp_clock_unix_s() - used_unix, 0);

    if (s < 3600)
        snprintf(out, AGE_SIZE, "%d min ago", (int)(s / 60));
    else if (s < 86400)
        snprintf(out, AGE_SIZE, "%d h ago", (int)(s / 3600));
    else
        snprintf(out, AGE_SIZE, "%lld days ago", (long long)(s / 86400));
}

static dp_status write_row(cache *c, const dp_cache_entry *e)
{
    char pieces[32], age[AGE_SIZE];
    dp_status st;

    snprintf(pieces, sizeof pieces, "%u/%u", e->present, e->pieces);
    format_age(age, e->used_unix);
    st = dp_buf_format(&c->out, "%.*s  %10s  %10s  %15s  %12s  %s%s", KEY_SHOWN, e->key,
                       SIZE(e->used_bytes), SIZE(e->file_bytes), pieces,
                       e->is_open ? "in use" : age, e->name, e->bad ? "" : "\n");
    if (!st && e->bad)
        st = dp_buf_format(&c->out, ": %u pieces were bad and are gone\n", e->bad);
    return st;
}

static dp_status write_list(cache *c)
{
    uint64_t used = 0;
    uint32_t models = 0;
    dp_status st = DP_OK;

    for (size_t i = 0; i < c->count && !st; i++) {
        const dp_cache_entry *e = &c->entries[i];
        bool is_first = i == 0 || !is_same_model(e, e - 1);
        if (!is_meant(c, e))
            continue;
        used += e->used_bytes;
        models += is_first;
        st = write_row(c, e);
        if (!st && e->origin[0] && (i + 1 == c->count || !is_same_model(e, e + 1)))
            st = dp_buf_format(&c->out, "%*s%s\n", KEY_SHOWN + 2, "", e->origin);
    }
    if (st)
        return st;
    return dp_buf_format(&c->out, "%s of %u model%s in %s\n", SIZE(used), models,
                         models == 1 ? "" : "s", c->folder);
}

static json_t *entry_json(const dp_cache_entry *e)
{
    json_t *o = json_object();

    if (o && dp_json_put_text(o, "key", e->key) && dp_json_put_text(o, "name", e->name) &&
        dp_json_put_text(o, "origin", e->origin[0] ? e->origin : NULL) &&
        dp_json_put_count(o, "file_bytes", e->file_bytes) &&
        dp_json_put_count(o, "used_bytes", e->used_bytes) &&
        dp_json_put_count(o, "piece_bytes", e->piece_size) &&
        dp_json_put_count(o, "pieces", e->pieces) && dp_json_put_count(o, "present", e->present) &&
        dp_json_put_count(o, "bad", e->bad) &&
        dp_json_put_count(o, "used_unix", (uint64_t)DP_MAX(e->used_unix, 0)) &&
        dp_json_put_flag(o, "is_open", e->is_open))
        return o;
    json_decref(o);
    return NULL;
}

static dp_status write_list_json(cache *c)
{
    json_t *object = json_object(), *files = json_array();
    bool is_in = object && files && dp_json_put_text(object, "folder", c->folder);
    dp_status st = DP_E_NOMEM;

    for (size_t i = 0; is_in && i < c->count; i++)
        if (is_meant(c, &c->entries[i]))
            is_in = !json_array_append_new(files, entry_json(&c->entries[i]));
    if (is_in && !json_object_set(object, "files", files))
        st = dp_json_write(&c->out, object, 2);
    json_decref(files);
    json_decref(object);
    return st;
}

static dp_status list(cache *c, dp_error *err)
{
    dp_status st = c->is_json ? write_list_json(c) : write_list(c);

    return st ? dp_fail(err, st, "cache: no memory for the list") : DP_OK;
}

static dp_status verify(cache *c, dp_error *err)
{
    for (size_t i = 0; i < c->count; i++) {
        dp_status st;
        if (!is_meant(c, &c->entries[i]))
            continue;
        st = dp_cache_verify(c->folder, &c->entries[i], err);
        if (st)
            return st;
        c->found_bad = c->found_bad || c->entries[i].bad;
    }
    return list(c, err);
}

/* ---- evict, rm ---- */

static dp_status say_freed(cache *c, uint64_t bytes, dp_error *err)
{
    dp_status st =
        c->is_json ? dp_buf_format(&c->out, "{\"freed_bytes\": %llu}\n", (unsigned long long)bytes)
                   : dp_buf_format(&c->out, "%s freed\n", SIZE(bytes));

    return st ? dp_fail(err, st, "cache: no memory") : DP_OK;
}

static dp_status evict(cache *c, const char *amount, dp_error *err)
{
    const dp_cache_entry *one = NULL;
    uint64_t bytes, freed = 0;
    dp_status st = DP_OK;

    if (!amount || !dp_parse_size(dp_str_from(amount), &bytes))
        return dp_fail(err, DP_E_INVALID,
                       "cache: evict takes how much to free, like 10GiB, not \"%.64s\"",
                       amount ? amount : "");
    if (c->which)
        st = find_one(c, &one, err);
    if (!st)
        st = dp_cache_evict(c->folder, one ? one->key : NULL, bytes, &freed, err);
    return st ? st : say_freed(c, freed, err);
}

static dp_status remove_model(cache *c, dp_error *err)
{
    const dp_cache_entry *one;
    uint64_t bytes = 0;
    dp_status st;

    if (!c->which)
        return dp_fail(err, DP_E_INVALID,
                       "cache: rm takes which model: a key, a name or where it is from, as "
                       "doppler cache ls shows them");
    st = find_one(c, &one, err);
    if (st)
        return st;
    for (size_t i = 0; i < c->count; i++)
        bytes += is_same_model(one, &c->entries[i]) ? c->entries[i].used_bytes : 0;
    st = dp_cache_remove(c->folder, one->key, err);
    return st ? st : say_freed(c, bytes, err);
}

/* ---- the command ---- */

static dp_status work(cache *c, dp_error *err)
{
    const dp_args *args = c->args;
    const char *verb = args->operand_count ? args->operands[0] : "ls";
    bool is_evict = strcmp(verb, "evict") == 0;
    uint32_t which_at = is_evict ? 2 : 1;
    dp_status st;

    dp_userdir_models(c->folder, dp_args_text(args, "cache-dir"));
    if (!c->folder[0])
        return dp_fail(err, DP_E_NOTFOUND, "cache: no place for one is known: give --cache-dir");
    c->which = args->operand_count > which_at ? args->operands[which_at] : NULL;
    if (args->operand_count > which_at + 1)
        return dp_fail(err, DP_E_INVALID, "cache: \"%.64s\" is one argument too many",
                       args->operands[which_at + 1]);
    st = dp_cache_list(c->folder, &c->entries, &c->count, err);
    if (st)
        return st;
    if (is_evict)
        return evict(c, args->operand_count > 1 ? args->operands[1] : NULL, err);
    if (strcmp(verb, "ls") == 0)
        return list(c, err);
    if (strcmp(verb, "verify") == 0)
        return verify(c, err);
    if (strcmp(verb, "rm") == 0)
        return remove_model(c, err);
    return dp_fail(err, DP_E_INVALID, "cache: ls, verify, evict or rm, not \"%.64s\"", verb);
}

static int cache_main(const dp_args *args)
{
    cache c = { .args = args, .is_json = dp_args_flag(args, "json") };
    dp_error err = { 0 };
    dp_status st;
    int code;

    dp_buf_init(&c.out, REPORT_BYTES_MAX);
    st = work(&c, &err);
    code = dp_output_report(c.out.bytes, c.out.size, st, &err);
    dp_cache_free(c.entries);
    dp_buf_deinit(&c.out);
    return code == DP_EXIT_OK && c.found_bad ? DP_EXIT_FAILED : code;
}

static const dp_option options[] = {
    { "cache-dir", "", DP_OPTION_TEXT, "FOLDER", 0, 0, "auto", NULL,
      "where models are kept; auto: in the user's cache folder" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_cache = {
    .name = "cache",
    .operands = "[ls|verify [WHICH] | evict BYTES [WHICH] | rm WHICH]",
    .operand_max = 3,
    .summary = "Shows what is kept of models from peers and URLs, checks it, makes room",
    .details = "ls lists it: key, bytes on disk and in full, pieces, when it was last used. verify "
               "hashes what is there, drops what is wrong and then ends with 1. evict frees at "
               "least BYTES, what was used least first. rm removes a model. WHICH is a key or its "
               "beginning, the name of a file, or what the model was named by.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = cache_main,
};
