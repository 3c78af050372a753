#include "engine/options.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

#define VALUE_MAX 64   /* longer than any number or choice */
#define TEXT_MAX  4096 /* a path */

static const dp_option table[] = {
    [DP_OPT_RAM] = { "ram", "memory", DP_OPTION_SIZE, "BYTES", 0, 1e15, "auto", NULL,
                     "memory for weights, keys and values, buffers and tables together; auto takes "
                     "what is available or the cgroup allows, less a reserve" },
    [DP_OPT_CTX] = { "ctx", "memory", DP_OPTION_COUNT, "TOKENS", 0, 16777216, "0", NULL,
                     "longest text of a session; 0 takes the model's own, at most 4096" },
    [DP_OPT_SESSIONS] = { "sessions", "memory", DP_OPTION_COUNT, "N", 1, 1024, "1", NULL,
                          "sessions that room is kept for" },
    [DP_OPT_KV_TYPE] = { "kv-type", "memory", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|f16|f32",
                         "how keys and values are kept: rounded to 16 bits, or exactly in twice "
                         "the memory; auto: exactly where heads share one latent" },
    [DP_OPT_GOVERNOR] = { "governor", "memory", DP_OPTION_CHOICE, "", 0, 0, "on", "on|off",
                          "give memory for weights back while other programs run short of it, and "
                          "take it again later" },
    [DP_OPT_POLICY] = { "policy", "memory", DP_OPTION_CHOICE, "", 0, 0, "auto",
                        "auto|lru|slru|lfru|lfu|hot|next",
                        "which expert leaves when room is needed: by recency (lru, slru), by "
                        "frequency (lfru, lfu, hot), whose next use is forecast latest (next), or "
                        "as the one of these that would have hit most (auto)" },
    [DP_OPT_LOOK_AHEAD] = { "look-ahead", "memory", DP_OPTION_CHOICE, "", 0, 0, "auto",
                            "auto|on|off",
                            "read experts that the next layers will probably want; auto tries now "
                            "and then whether that is slower" },
    [DP_OPT_HEAT] = { "heat", "memory", DP_OPTION_TEXT, "FILE", 0, 0, "auto", NULL,
                      "keep which experts were wanted in FILE (in a folder, when it ends in /), so "
                      "that the next run begins warm; off: don't; auto: run and chat do in the "
                      "user's cache folder" },
    [DP_OPT_TRACE] = { "trace", "memory", DP_OPTION_TEXT, "FILE", 0, 0, "off", NULL,
                       "write which experts each step wants to FILE, for doppler replay" },
    [DP_OPT_MODEL_MIRROR] = { "model-mirror", "disk", DP_OPTION_TEXTS, "PATH", 0, 0, "", NULL,
                              "a copy of the model on another drive: both are read at once, each "
                              "as fast as it can; may be given several times" },
    [DP_OPT_IO] = { "io", "disk", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|direct|buffered",
                    "read the model past the page cache (direct) or through it (buffered)" },
    [DP_OPT_IO_ENGINE] = { "io-engine", "disk", DP_OPTION_CHOICE, "", 0, 0, "auto",
                           "auto|io_uring|threads", "how reads reach the system" },
    [DP_OPT_IO_DEPTH] = { "io-depth", "disk", DP_OPTION_COUNT, "N", 0, 1024, "0", NULL,
                          "reads with the system at a time; 0 takes what doctor measured, or 16" },
    [DP_OPT_IO_REQUEST] = { "io-request", "disk", DP_OPTION_SIZE, "BYTES", 65536, 1073741824,
                            "auto", NULL,
                            "longest single read, a page takes several; auto takes what doctor "
                            "measured, or 1MiB" },
    [DP_OPT_THREADS] = { "threads", "compute", DP_OPTION_COUNT, "N", 0, 256, "0", NULL,
                         "threads that compute; 0 takes every processor this process may use" },
    [DP_OPT_BATCH] = { "batch", "compute", DP_OPTION_COUNT, "TOKENS", 0, 4096, "0", NULL,
                       "most tokens in one pass; 0 takes up to 512, fewer when memory is short" },
    [DP_OPT_KERNELS] = { "kernels", "compute", DP_OPTION_CHOICE, "", 0, 0, "auto",
                         "auto|ref|x86.avx2|x86.avx512|x86.avx512vnni|x86.avx512vbmi",
                         "instruction set; all give the same bits" },
    [DP_OPT_YARN_ROUNDING] = { "yarn-rounding", "compute", DP_OPTION_CHOICE, "", 0, 0, "auto",
                               "auto|on|off",
                               "round the range of positions' speeds that YaRN blends to whole "
                               "pairs: auto does as the model's authors do, on as llama.cpp does" },
    [DP_OPT_MLA_PREFILL] = { "mla-prefill", "compute", DP_OPTION_CHOICE, "", 0, 0, "absorbed",
                             "absorbed|expanded",
                             "how long prompts of DeepSeek attend: to what is kept (absorbed), or "
                             "to "
                             "keys and values made from it (expanded): faster from about 1000 "
                             "tokens, "
                             "but logits then depend on how a prompt is cut into passes" },
    [DP_OPT_SPECULATE] = { "speculate", "compute", DP_OPTION_COUNT, "auto|off|N", 1,
                           DP_SPECULATE_MAX, "auto", "auto|off",
                           "guess the next tokens from earlier text and check them in one pass: "
                           "while it pays (auto), never, or always up to N; the text is the same" },
    [DP_OPT_DISK] = { "disk", "swarm", DP_OPTION_SIZE, "BYTES", 0, 1e15, "auto", NULL,
                      "most bytes of models from peers and URLs to keep on disk; 0 keeps nothing; "
                      "auto takes a tenth of the free room, at most 64GiB" },
    [DP_OPT_CACHE_DIR] = { "cache-dir", "swarm", DP_OPTION_TEXT, "FOLDER", 0, 0, "auto", NULL,
                           "where they are kept; auto: in the user's cache folder" },
    [DP_OPT_PEER] = { "peer", "swarm", DP_OPTION_TEXT, "HOST:PORT", 0, 0, "", NULL,
                      "connect to this BitTorrent peer; may be given up to 64 times" },
    [DP_OPT_LISTEN] = { "listen", "swarm", DP_OPTION_TEXT, "ADDRESS:PORT", 0, 0, "auto", NULL,
                        "where peers may connect, port 0 for any; off: nowhere; auto: 0.0.0.0:0 "
                        "while sharing, else off" },
    [DP_OPT_HTTP_LISTEN] = { "http-listen", "swarm", DP_OPTION_TEXT, "ADDRESS:PORT", 0, 0, "auto",
                             NULL, "the same for range requests by HTTP, the fast way" },
    [DP_OPT_SHARE] = { "share", "swarm", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
                       "give peers what is here of the model while it runs" },
    [DP_OPT_DHT] = { "dht", "swarm", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
                     "look for peers in the public DHT, which tells others what is looked for" },
    [DP_OPT_LSD] = { "lsd", "swarm", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
                     "look for peers in the local network" },
    [DP_OPT_UPLOAD_RATE] = { "upload-rate", "swarm", DP_OPTION_SIZE, "BYTES", 0, 1e12, "0", NULL,
                             "most bytes a second given to peers; 0 is no limit" },
    [DP_OPT_SWARM_TOKEN] = { "swarm-token", "swarm", DP_OPTION_TEXT, "TEXT", 0, 0, "", NULL,
                             "secret that range requests carry, ours and those we answer" },
    [DP_OPT_TLS_CERT] = { "tls-cert", "swarm", DP_OPTION_TEXT, "FILE", 0, 0, "", NULL,
                          "answer range requests by TLS with this certificate, PEM" },
    [DP_OPT_TLS_KEY] = { "tls-key", "swarm", DP_OPTION_TEXT, "FILE", 0, 0, "", NULL,
                         "its key, PEM" },
    [DP_OPT_TLS_CA] = { "tls-ca", "swarm", DP_OPTION_TEXT, "FILE", 0, 0, "", NULL,
                        "certificate to trust beside the system's, PEM" },
    [DP_OPT_SWARM_WAIT] = { "swarm-wait", "swarm", DP_OPTION_COUNT, "SECONDS", 1, 110, "60", NULL,
                            "give up on a page that nobody gave for so long" },
    [DP_OPT_TEMP] = { "temp", "sampling", DP_OPTION_REAL, "", 0, 100, "0.8", NULL,
                      "temperature; 0 always takes the most probable token" },
    [DP_OPT_TOP_K] = { "top-k", "sampling", DP_OPTION_COUNT, "N", 0, 16777216, "40", NULL,
                       "keep the N most probable tokens; 0 keeps all" },
    [DP_OPT_TOP_P] = { "top-p", "sampling", DP_OPTION_REAL, "", 0, 1, "0.95", NULL,
                       "keep the fewest tokens whose probabilities sum to this" },
    [DP_OPT_MIN_P] = { "min-p", "sampling", DP_OPTION_REAL, "", 0, 1, "0.05", NULL,
                       "drop tokens less probable than this share of the best one" },
    [DP_OPT_REPEAT_PENALTY] = { "repeat-penalty", "sampling", DP_OPTION_REAL, "", 0.01, 100, "1",
                                NULL, "divide the logits of recent tokens by this; 1 is off" },
    [DP_OPT_PRESENCE_PENALTY] = { "presence-penalty", "sampling", DP_OPTION_REAL, "", -100, 100,
                                  "0", NULL, "subtract this from the logits of recent tokens" },
    [DP_OPT_FREQUENCY_PENALTY] = { "frequency-penalty", "sampling", DP_OPTION_REAL, "", -100, 100,
                                   "0", NULL,
                                   "subtract this once for each time a token came up recently" },
    [DP_OPT_PENALTY_WINDOW] = { "penalty-window", "sampling", DP_OPTION_COUNT, "TOKENS", 0,
                                16777216, "64", NULL, "how many tokens back count as recent" },
    [DP_OPT_SEED] = { "seed", "sampling", DP_OPTION_COUNT, "N", 0, 9007199254740992.0, "0", NULL,
                      "the same seed gives the same text; 0 draws one" },
};
_Static_assert(DP_ARRAY_LEN(table) == DP_OPT_COUNT, "a row for every option");

typedef struct option_value {
    uint64_t number; /* SIZE, COUNT, FLAG; CHOICE: its place */
    double real;
    char text[VALUE_MAX];
    char *path; /* TEXT: owned, in place of `text` */
} option_value;

struct dp_options {
    option_value values[DP_OPT_COUNT];
    dp_io_advice advice;
};

const dp_option *dp_options_table(size_t *count)
{
    *count = DP_ARRAY_LEN(table);
    return table;
}

const dp_option *dp_options_find(const char *name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* ---- parsing ---- */

static bool parse_choice(const char *choices, dp_str value, uint64_t *out)
{
    uint64_t place = 0;

    for (const char *at = choices;; place++) {
        size_t size = strcspn(at, "|");
        if (size == value.size && memcmp(at, value.bytes, size) == 0) {
            *out = place;
            return true;
        }
        if (!at[size])
            return false;
        at += size + 1;
    }
}

static bool parse_flag(dp_str value, uint64_t *out)
{
    *out = dp_str_is(value, "on");
    return *out || dp_str_is(value, "off");
}

static bool in_range(const dp_option *o, double x)
{
    return x >= o->min && x <= o->max;
}

static bool parse_value(const dp_option *o, dp_str value, option_value *out)
{
    switch (o->type) {
    case DP_OPTION_SIZE:
        if (dp_str_is(value, "auto") && strcmp(o->default_value, "auto") == 0)
            return out->number = 0, true;
        return dp_parse_size(value, &out->number) && in_range(o, (double)out->number);
    case DP_OPTION_COUNT:
        if (o->choices && parse_choice(o->choices, value, &out->number))
            return out->number += (uint64_t)o->max + 1, true;
        return dp_parse_u64(value, &out->number) && in_range(o, (double)out->number);
    case DP_OPTION_REAL:
        return dp_parse_f64(value, &out->real) && in_range(o, out->real);
    case DP_OPTION_FLAG:
        return parse_flag(value, &out->number);
    case DP_OPTION_CHOICE:
        return parse_choice(o->choices, value, &out->number);
    case DP_OPTION_TEXT:
        return true;
    case DP_OPTION_TEXTS:
        return value.size == strcspn(value.bytes, "\n");
    }
    return false;
}

static dp_status refuse(const dp_option *o, const char *value, dp_error *err)
{
    char min[16], max[16];

    switch (o->type) {
    case DP_OPTION_SIZE:
        return dp_fail(err, DP_E_INVALID,
                       "--%s takes a size like 12GiB, from %s to %s%s, not \"%s\"", o->name,
                       dp_format_size(min, (uint64_t)o->min), dp_format_size(max, (uint64_t)o->max),
                       strcmp(o->default_value, "auto") == 0 ? ", or auto" : "", value);
    case DP_OPTION_COUNT:
        return dp_fail(err, DP_E_INVALID,
                       "--%s takes a whole number from %.0f to %.0f%s%s, not \"%s\"", o->name,
                       o->min, o->max, o->choices ? " or one of " : "",
                       o->choices ? o->choices : "", value);
    case DP_OPTION_REAL:
        return dp_fail(err, DP_E_INVALID, "--%s takes a number from %g to %g, not \"%s\"", o->name,
                       o->min, o->max, value);
    case DP_OPTION_FLAG:
        return dp_fail(err, DP_E_INVALID, "--%s takes on or off, not \"%s\"", o->name, value);
    case DP_OPTION_CHOICE:
        return dp_fail(err, DP_E_INVALID, "--%s takes one of %s, not \"%s\"", o->name, o->choices,
                       value);
    case DP_OPTION_TEXT:
    case DP_OPTION_TEXTS:
        break;
    }
    return dp_fail(err, DP_E_INVALID, "--%s: \"%s\"", o->name, value);
}

static bool is_text(const dp_option *o)
{
    return o->type == DP_OPTION_TEXT || o->type == DP_OPTION_TEXTS;
}

/* Lines: what was there before (NULL: nothing is), and one more; an empty one alone. Owned. */
static char *append_text(const char *before, const char *value)
{
    size_t size = strlen(value), before_size = before && value[0] ? strlen(before) : 0;
    char *text = dp_alloc(before_size + size + 2, 1);

    if (!text)
        return NULL;
    if (before_size) {
        memcpy(text, before, before_size);
        text[before_size++] = '\n';
    }
    memcpy(text + before_size, value, size + 1);
    return text;
}

dp_status dp_options_set(dp_options *options, const char *name, const char *value, dp_error *err)
{
    const dp_option *o = dp_options_find(name);
    option_value parsed = { 0 };

    if (!o)
        return dp_fail(err, DP_E_NOTFOUND, "there is no option \"%s\"", name);
    if (strlen(value) >= (is_text(o) ? TEXT_MAX : VALUE_MAX) ||
        !parse_value(o, dp_str_from(value), &parsed))
        return refuse(o, value, err);
    if (is_text(o)) {
        const char *before = o->type == DP_OPTION_TEXTS ? options->values[o - table].path : NULL;
        if (before && strlen(before) + 1 + strlen(value) >= TEXT_MAX)
            return dp_fail(err, DP_E_LIMIT, "--%s: more than %d bytes in all", name, TEXT_MAX);
        parsed.path = append_text(before, value);
        if (!parsed.path)
            return dp_fail(err, DP_E_NOMEM, "--%s: no memory", name);
        dp_free(options->values[o - table].path);
    } else {
        strcpy(parsed.text, value);
    }
    options->values[o - table] = parsed;
    return DP_OK;
}

dp_options *dp_options_open(void)
{
    dp_options *options = dp_alloc_zero(1, sizeof *options);

    for (size_t i = 0; options && i < DP_ARRAY_LEN(table); i++) {
        dp_status st = dp_options_set(options, table[i].name, table[i].default_value, NULL);
        DP_CHECK(st == DP_OK || st == DP_E_NOMEM);
        if (st) {
            dp_options_close(options);
            options = NULL;
        }
    }
    return options;
}

void dp_options_close(dp_options *options)
{
    if (!options)
        return;
    for (size_t i = 0; i < DP_ARRAY_LEN(table); i++)
        dp_free(options->values[i].path);
    dp_free(options);
}

/* ---- reading ---- */

static option_value value_of(const dp_options *options, dp_option_id id)
{
    option_value value = { 0 };

    if (options)
        return options->values[id];
    parse_value(&table[id], dp_str_from(table[id].default_value), &value);
    return value;
}

uint64_t dp_options_u64(const dp_options *options, dp_option_id id)
{
    return value_of(options, id).number;
}

double dp_options_f64(const dp_options *options, dp_option_id id)
{
    return value_of(options, id).real;
}

unsigned dp_options_choice(const dp_options *options, dp_option_id id)
{
    return (unsigned)value_of(options, id).number;
}

const char *dp_options_text(const dp_options *options, dp_option_id id)
{
    const option_value *value = options ? &options->values[id] : NULL;

    return !value ? table[id].default_value : value->path ? value->path : value->text;
}

void dp_options_set_advice(dp_options *options, const dp_io_advice *advice)
{
    options->advice = *advice;
}

dp_io_advice dp_options_advice(const dp_options *options)
{
    return options ? options->advice : (dp_io_advice){ 0 };
}
