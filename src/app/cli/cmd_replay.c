/* cmd_replay.c - doppler replay: what caches of other policies and sizes would have held of a
 * recorded run. */
#include <stdio.h>
#include <string.h>
#include "app/cli/command.h"
#include "app/cli/json_text.h"
#include "app/cli/output.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/replay.h"

#define NAMES_MAX        16
#define SIZES_MAX        64
#define REPORT_BYTES_MAX ((size_t)16 << 20)
#define ALL_SIZES        "5%,10%,12.5%,25%,37.5%,50%,62.5%,75%"

static const char belady[] = "belady";

typedef struct replay_job {
    const dp_args *args;
    dp_replay *replay;
    dp_replay_info info;
    const char *names[NAMES_MAX]; /* columns; belady is the last */
    uint32_t name_count, size_count;
    uint64_t sizes[SIZES_MAX];
    dp_replay_cache *caches; /* [size_count][name_count] */
} replay_job;

/* The next word of a list with commas; false at its end. */
static bool next_word(const char **at, dp_str *word)
{
    size_t size = strcspn(*at, ",");

    if (!**at)
        return false;
    *word = (dp_str){ *at, size };
    *at += size + ((*at)[size] == ',');
    return true;
}

static const char *find_policy(dp_str word)
{
    const char *name = NULL;

    for (uint32_t i = 0; (name = dp_replay_policy(i, NULL)) != NULL; i++)
        if (dp_str_is(word, name))
            return name;
    return dp_str_is(word, belady) ? belady : NULL;
}

static dp_status read_names(replay_job *job, dp_error *err)
{
    const char *text = dp_args_text(job->args, "policy");
    bool is_all = strcmp(text, "all") == 0;
    dp_str word;

    for (uint32_t i = 0; is_all && dp_replay_policy(i, NULL); i++)
        job->names[job->name_count++] = dp_replay_policy(i, NULL);
    while (!is_all && next_word(&text, &word)) {
        const char *name = find_policy(word);
        if (!name)
            return dp_fail(err, DP_E_INVALID, "replay: there is no policy \"%.*s\" (--policy)",
                           (int)word.size, word.bytes);
        if (name == belady)
            continue;
        if (job->name_count == NAMES_MAX - 1)
            return dp_fail(err, DP_E_LIMIT, "replay: more than %d policies", NAMES_MAX - 1);
        job->names[job->name_count++] = name;
    }
    job->names[job->name_count++] = belady; /* the bound belongs to every table */
    return DP_OK;
}

/* "12.5%" of all experts, or bytes. */
static dp_status read_sizes(replay_job *job, dp_error *err)
{
    const char *text = dp_args_text(job->args, "cache");
    dp_str word;

    while (next_word(&text, &word)) {
        double percent;
        bool is_good;

        if (job->size_count == SIZES_MAX)
            return dp_fail(err, DP_E_LIMIT, "replay: more than %d sizes (--cache)", SIZES_MAX);
        if (dp_str_ends_with(word, "%")) {
            is_good = dp_parse_f64((dp_str){ word.bytes, word.size - 1 }, &percent) &&
                      percent > 0 && percent <= 100;
            job->sizes[job->size_count] =
                is_good ? (uint64_t)(percent / 100 * (double)job->info.expert_bytes + 0.5) : 0;
        } else {
            is_good = dp_parse_size(word, &job->sizes[job->size_count]) &&
                      job->sizes[job->size_count] > 0;
        }
        if (!is_good)
            return dp_fail(err, DP_E_INVALID,
                           "replay: --cache takes sizes as 12.5%% or 4GiB, not \"%.*s\"",
                           (int)word.size, word.bytes);
        job->size_count++;
    }
    return job->size_count ? DP_OK : dp_fail(err, DP_E_INVALID, "replay: --cache has no sizes");
}

static dp_status run_all(replay_job *job, dp_error *err)
{
    uint32_t count = job->size_count * job->name_count;

    job->caches = dp_alloc_zero(count, sizeof *job->caches);
    if (!job->caches)
        return dp_fail(err, DP_E_NOMEM, "replay: no memory for %u caches", count);
    for (uint32_t i = 0; i < count; i++)
        job->caches[i] = (dp_replay_cache){ .policy = job->names[i % job->name_count],
                                            .capacity_bytes = job->sizes[i / job->name_count] };
    return dp_replay_run(job->replay, job->caches, count, err);
}

static double hit_rate(const dp_replay_cache *cache)
{
    return cache->wants ? (double)cache->hits / (double)cache->wants : 0;
}

/* The column of lru, NULL: none. */
static const dp_replay_cache *find_lru(const replay_job *job, const dp_replay_cache *row)
{
    for (uint32_t i = 0; i < job->name_count; i++)
        if (strcmp(job->names[i], "lru") == 0)
            return &row[i];
    return NULL;
}

/* How much of what separates lru from Belady the cache gained; false: nothing separates them. */
static bool gap_closed(const replay_job *job, const dp_replay_cache *row,
                       const dp_replay_cache *cache, double *out)
{
    const dp_replay_cache *lru = find_lru(job, row);
    double gap = lru ? hit_rate(&row[job->name_count - 1]) - hit_rate(lru) : 0;

    if (gap <= 0)
        return false;
    *out = (hit_rate(cache) - hit_rate(lru)) / gap;
    return true;
}

static const dp_replay_cache *find_best(const replay_job *job, const dp_replay_cache *row)
{
    const dp_replay_cache *best = NULL;

    for (uint32_t i = 0; i + 1 < job->name_count; i++)
        if (!best || row[i].hits > best->hits)
            best = &row[i];
    return best;
}

static void print_head(const replay_job *job, dp_buf *out)
{
    const dp_replay_info *info = &job->info;
    char bytes[16], cache[16];

    dp_buf_format(out, "%llu steps, %llu tokens; %u layers, %u of %u experts a token, %s in all\n",
                  (unsigned long long)info->steps, (unsigned long long)info->tokens,
                  info->layer_count, info->expert_used, info->expert_count,
                  dp_format_size(bytes, info->expert_bytes));
    if (info->has_hits && info->wants)
        dp_buf_format(out, "recorded: %.1f%% of %llu hit, with %s for experts\n",
                      100.0 * (double)info->hits / (double)info->wants,
                      (unsigned long long)info->wants, dp_format_size(cache, info->cache_bytes));
    if (info->is_cut)
        dp_buf_text(out, "the end of the file is missing or damaged; this is the rest\n");
    dp_buf_text(out, "\nhits in %:\n    cache");
    for (uint32_t i = 0; i < job->name_count; i++)
        dp_buf_format(out, " %7s", job->names[i]);
    dp_buf_text(out, "   best, of lru to belady\n");
}

static dp_status print_text(const replay_job *job, dp_buf *out)
{
    print_head(job, out);
    for (uint32_t s = 0; s < job->size_count; s++) {
        const dp_replay_cache *row = &job->caches[s * job->name_count];
        const dp_replay_cache *best = find_best(job, row);
        double gap;
        dp_buf_format(out, "  %6.2f%%",
                      100.0 * (double)row->capacity_bytes / (double)job->info.expert_bytes);
        for (uint32_t i = 0; i < job->name_count; i++)
            dp_buf_format(out, " %7.2f", 100 * hit_rate(&row[i]));
        if (best && gap_closed(job, row, best, &gap))
            dp_buf_format(out, "   %s %.0f%%", best->policy, 100 * gap);
        dp_buf_text(out, "\n");
    }
    return out->size ? DP_OK : DP_E_NOMEM;
}

static json_t *cache_json(const replay_job *job, const dp_replay_cache *row,
                          const dp_replay_cache *cache)
{
    double gap = 0;
    bool has_gap = gap_closed(job, row, cache, &gap);

    return json_pack("{s:s, s:I, s:f, s:I, s:I, s:I, s:f, s:o}", "policy", cache->policy,
                     "cache_bytes", (json_int_t)cache->capacity_bytes, "cache_share",
                     (double)cache->capacity_bytes / (double)job->info.expert_bytes, "wants",
                     (json_int_t)cache->wants, "hits", (json_int_t)cache->hits, "missed_bytes",
                     (json_int_t)cache->missed_bytes, "hit_rate", hit_rate(cache), "gap_closed",
                     has_gap ? json_real(gap) : json_null());
}

static dp_status print_json(const replay_job *job, dp_buf *out)
{
    const dp_replay_info *info = &job->info;
    json_t *rows = json_array(), *object;
    dp_status st = DP_E_NOMEM;

    for (uint32_t s = 0; s < job->size_count; s++)
        for (uint32_t i = 0; i < job->name_count; i++) {
            const dp_replay_cache *row = &job->caches[s * job->name_count];
            if (json_array_append_new(rows, cache_json(job, row, &row[i])))
                goto done;
        }
    object = json_pack(
        "{s:I, s:I, s:I, s:i, s:i, s:i, s:I, s:o, s:b, s:O}", "steps", (json_int_t)info->steps,
        "tokens", (json_int_t)info->tokens, "wants", (json_int_t)info->wants, "layer_count",
        (int)info->layer_count, "expert_count", (int)info->expert_count, "expert_used",
        (int)info->expert_used, "expert_bytes", (json_int_t)info->expert_bytes, "recorded_hits",
        info->has_hits ? json_integer((json_int_t)info->hits) : json_null(), "is_cut", info->is_cut,
        "caches", rows);
    if (object)
        st = dp_json_write(out, object, 2);
    json_decref(object);
done:
    json_decref(rows);
    return st;
}

static int replay_main(const dp_args *args)
{
    replay_job job = { .args = args };
    dp_error err = { 0 };
    dp_status st;
    int code;
    dp_buf out;

    dp_buf_init(&out, REPORT_BYTES_MAX);
    st = read_names(&job, &err);
    if (st)
        goto done;
    st = dp_replay_open(&job.replay, args->operands[0], &err);
    if (st)
        goto done;
    dp_replay_info_read(job.replay, &job.info);
    st = read_sizes(&job, &err);
    if (st)
        goto done;
    st = run_all(&job, &err);
    if (st)
        goto done;
    st = dp_args_flag(args, "json") ? print_json(&job, &out) : print_text(&job, &out);
    if (st)
        dp_fail(&err, st, "replay: no memory for the report");
done:
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_replay_close(job.replay);
    dp_free(job.caches);
    dp_buf_deinit(&out);
    return code;
}

static const dp_option options[] = {
    { "policy", "", DP_OPTION_TEXT, "NAME,...", 0, 0, "all", NULL,
      "policies to replay, or all; belady, which knows the future, is always shown" },
    { "cache", "", DP_OPTION_TEXT, "SIZE,...", 0, 0, ALL_SIZES, NULL,
      "memory for experts: shares of all of them as 12.5%, or bytes as 4GiB" },
    { "json", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "print one JSON object" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_replay = {
    .name = "replay",
    .operands = "TRACE",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "Shows how often other policies and cache sizes would have hit in a recorded run",
    .details = "TRACE was written by run, chat, perplexity or logits with --trace. No model is "
               "needed. A hit is an expert that is held when its layer asks for it; the last "
               "column says how much of the way from lru to the bound the best policy goes.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = replay_main,
};
