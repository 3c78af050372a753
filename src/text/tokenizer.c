#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer_impl.h"

#define NAME_SIZE_MAX 1024 /* of a name that dp_tokenizer_find decodes; real ones stay below 200 */

/* Tokens that end a turn in the formats models are trained on, whatever the file
 * says about them (many files name only one of several). */
static const char *const stop_names[] = {
    "<|eot_id|>",      /* Llama 3 */
    "<|eom_id|>",      /* Llama 3.1, a call of a tool */
    "<|end_of_text|>", /* Llama 3, Granite */
    "<|im_end|>",      /* ChatML */
    "<|endoftext|>",   /* GPT-2, Qwen */
    "<|return|>",      /* harmony, the end */
    "<|call|>",        /* harmony, a call of a tool */
    "<|end|>",         /* Phi-3; in harmony it ends a message only, see below */
    "<end_of_turn>",   /* Gemma */
    "<end_of_utterance>",
    "<EOT>",
    "[EOT]", /* Kimi K2 */
    "[EOS]",
    "</s>",                                    /* Llama 2, Mistral */
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", /* DeepSeek */
};

static const dp_family *const families[] = { &dp_family_bpe, &dp_family_spm };

dp_token_kind dp_tokenizer_kind(const dp_tokenizer *t, dp_token token)
{
    if (token < 0 || (uint32_t)token >= t->count)
        return DP_TOKEN_UNKNOWN;
    return (dp_token_kind)(t->kinds[token] & ~DP_TOKEN_IS_STOP);
}

bool dp_tokenizer_is_control(const dp_tokenizer *t, dp_token token)
{
    dp_token_kind kind = dp_tokenizer_kind(t, token);

    return kind == DP_TOKEN_CONTROL || kind == DP_TOKEN_UNKNOWN;
}

/* ---- open ---- */

static dp_status check_id(const char *what, dp_token id, uint32_t count, dp_error *err)
{
    if (id == DP_TOKEN_NONE || (id >= 0 && (uint32_t)id < count))
        return DP_OK;
    return dp_fail(err, DP_E_CORRUPT, "tokenizer: %s is token %d of %u", what, id, count);
}

static dp_status check_tables(const dp_vocab_tables *tables, dp_error *err)
{
    const struct {
        const char *what;
        dp_token id;
    } ids[] = { { "bos", tables->bos },
                { "eos", tables->eos },
                { "eot", tables->eot },
                { "unknown", tables->unknown } };
    dp_status st = DP_OK;

    if (tables->token_count == 0)
        return dp_fail(err, DP_E_CORRUPT, "tokenizer: no tokens");
    if (tables->token_count > DP_TOKEN_COUNT_MAX)
        return dp_fail(err, DP_E_LIMIT, "tokenizer: %u tokens, at most %u", tables->token_count,
                       DP_TOKEN_COUNT_MAX);
    for (size_t i = 0; i < DP_ARRAY_LEN(ids) && !st; i++)
        st = check_id(ids[i].what, ids[i].id, tables->token_count, err);
    for (uint32_t i = 0; i < tables->stop_count && !st; i++)
        st = check_id("a stop", tables->stops[i], tables->token_count, err);
    return st;
}

static void mark_stop(dp_tokenizer *t, dp_token token)
{
    if (token != DP_TOKEN_NONE)
        t->kinds[token] |= DP_TOKEN_IS_STOP;
}

/* Stops by name. A token named <|like this|> is a control token even where the file
 * forgot to say so; names that also are text (</s>) are believed to be text then.
 * Returns a token that must not be a stop, whatever else is said about it. */
static dp_token mark_stops_by_name(dp_tokenizer *t, const dp_vocab_tables *tables)
{
    dp_token end = DP_TOKEN_NONE;
    bool has_return = false, has_call = false;

    for (uint32_t i = 0; i < t->count; i++) {
        dp_str name = tables->tokens[i];

        if (name.size == 0 || (name.bytes[0] != '<' && name.bytes[0] != '['))
            continue;
        for (size_t j = 0; j < DP_ARRAY_LEN(stop_names); j++) {
            if (!dp_str_is(name, stop_names[j]))
                continue;
            if (t->kinds[i] == DP_TOKEN_NORMAL && !dp_str_starts_with(name, "<|"))
                continue;
            if (!dp_tokenizer_is_control(t, (dp_token)i))
                t->kinds[i] = DP_TOKEN_CONTROL;
            mark_stop(t, (dp_token)i);
            has_return |= dp_str_is(name, "<|return|>");
            has_call |= dp_str_is(name, "<|call|>");
            if (dp_str_is(name, "<|end|>"))
                end = (dp_token)i;
        }
    }
    /* Harmony: thoughts end with <|end|>, and the answer is still to come. */
    return has_return && has_call ? end : DP_TOKEN_NONE;
}

static void set_kinds(dp_tokenizer *t, const dp_vocab_tables *tables)
{
    const dp_token ends[] = { tables->eos, tables->eot };
    dp_token no_stop;

    for (uint32_t i = 0; i < t->count; i++) {
        int32_t kind = tables->kinds ? tables->kinds[i] : DP_TOKEN_NORMAL;

        t->kinds[i] =
            kind >= DP_TOKEN_NORMAL && kind <= DP_TOKEN_BYTE ? (uint8_t)kind : DP_TOKEN_NORMAL;
        if (t->unknown == DP_TOKEN_NONE && t->kinds[i] == DP_TOKEN_UNKNOWN)
            t->unknown = (dp_token)i;
    }
    if (!tables->kinds) {
        /* Nothing is said about any token, but these are no text. */
        const dp_token controls[] = { t->bos, t->eos, t->eot };

        if (t->unknown != DP_TOKEN_NONE)
            t->kinds[t->unknown] = DP_TOKEN_UNKNOWN;

        for (size_t i = 0; i < DP_ARRAY_LEN(controls); i++)
            if (controls[i] != DP_TOKEN_NONE)
                t->kinds[controls[i]] = DP_TOKEN_CONTROL;
    }
    no_stop = mark_stops_by_name(t, tables);
    if (dp_tokenizer_kind(t, t->unknown) == DP_TOKEN_CONTROL)
        t->unknown = DP_TOKEN_NONE; /* some files name the end of text; no byte may become that */
    for (size_t i = 0; i < DP_ARRAY_LEN(ends); i++)
        mark_stop(t, ends[i]);
    for (uint32_t i = 0; i < tables->stop_count; i++)
        mark_stop(t, tables->stops[i]);
    if (no_stop != DP_TOKEN_NONE)
        t->kinds[no_stop] &= (uint8_t)~DP_TOKEN_IS_STOP;
}

/* "<0x41>" -> 0x41; -1: no byte. */
static int byte_of_name(dp_str name)
{
    int byte = 0;

    if (name.size != 6 || !dp_str_starts_with(name, "<0x") || name.bytes[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        char c = name.bytes[i];

        if (c >= '0' && c <= '9')
            byte = byte * 16 + c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            byte = byte * 16 + (c | 0x20) - 'a' + 10;
        else
            return -1;
    }
    return byte;
}

/* Decodes token i to `out` and files it. Returns how many bytes were written, at
 * most its stored size plus one. */
static size_t add_text(dp_tokenizer *t, uint32_t i, dp_str stored, char *out, dp_status *st)
{
    dp_token_kind kind = dp_tokenizer_kind(t, (dp_token)i);
    dp_str text = { out, stored.size };
    size_t written = stored.size;
    int byte = kind == DP_TOKEN_BYTE ? byte_of_name(stored) : -1;

    if (kind == DP_TOKEN_NORMAL || kind == DP_TOKEN_UNUSED) {
        text.size = written = t->family->decode(stored, out);
    } else {
        if (stored.size > 0)
            memcpy(out, stored.bytes, stored.size);
        *st = dp_map_str_add(&t->by_name, text, i, NULL);
        if (byte >= 0) {
            out[written] = (char)byte;
            text = (dp_str){ out + written++, 1 };
        }
    }
    t->texts[i] = text;
    t->text_size_max = DP_MAX(t->text_size_max, text.size);
    if (!*st && !dp_tokenizer_is_control(t, (dp_token)i) &&
        !(kind == DP_TOKEN_BYTE && t->family->is_spm) && text.size > 0)
        *st = dp_map_str_add(&t->by_text, text, i, NULL);
    if (!*st && (dp_tokenizer_is_control(t, (dp_token)i) || kind == DP_TOKEN_USER_DEFINED))
        *st =
            dp_specials_add(&t->specials, text, (dp_token)i,
                            kind == DP_TOKEN_USER_DEFINED ? DP_SPECIAL_ALWAYS : DP_SPECIAL_TRUSTED);
    return written;
}

/* texts, by_text, by_name and specials. */
static dp_status add_texts(dp_tokenizer *t, const dp_vocab_tables *tables, dp_error *err)
{
    dp_status st = DP_OK;
    uint64_t size = t->count, special_size = 0;
    size_t at = 0;

    for (uint32_t i = 0; i < t->count; i++) {
        size += tables->tokens[i].size; /* they are in memory: no wrap */
        if (dp_tokenizer_is_control(t, (dp_token)i) ||
            dp_tokenizer_kind(t, (dp_token)i) == DP_TOKEN_USER_DEFINED)
            special_size += tables->tokens[i].size;
    }
    t->bytes = dp_alloc(size, 1);
    st = t->bytes ? dp_map_str_init(&t->by_text, t->count) : DP_E_NOMEM;
    if (!st)
        st = dp_map_str_init(&t->by_name, 0);
    if (!st)
        st = dp_specials_init(&t->specials, special_size);
    for (uint32_t i = 0; i < t->count && !st; i++)
        at += add_text(t, i, tables->tokens[i], t->bytes + at, &st);
    return st ? dp_fail(err, st, "tokenizer: %u tokens of %llu bytes", t->count,
                        (unsigned long long)size)
              : DP_OK;
}

dp_status dp_tokenizer_open(dp_tokenizer **out, const dp_vocab_tables *tables, dp_error *err)
{
    dp_status st = DP_OK;
    dp_tokenizer *t = NULL;
    const dp_family *family = NULL;

    *out = NULL;
    for (size_t i = 0; i < DP_ARRAY_LEN(families); i++)
        if (dp_str_is(tables->model, families[i]->model))
            family = families[i];
    if (!family)
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "tokenizer: unknown model \"%.*s\", not gpt2 or llama",
                       (int)DP_MIN(tables->model.size, 64), tables->model.bytes);
    st = check_tables(tables, err);
    if (st)
        goto done;

    t = dp_alloc_zero(1, sizeof *t);
    if (t) {
        t->family = family;
        t->count = tables->token_count;
        t->texts = dp_alloc_zero(t->count, sizeof *t->texts);
        t->kinds = dp_alloc_zero(t->count, sizeof *t->kinds);
    }
    if (!t || !t->texts || !t->kinds) {
        st = dp_fail(err, DP_E_NOMEM, "tokenizer: %u tokens", tables->token_count);
        goto done;
    }
    t->bos = tables->bos;
    t->eos = tables->eos;
    t->eot = tables->eot;
    t->unknown = tables->unknown;
    for (size_t i = 0; i < DP_ARRAY_LEN(t->byte_tokens); i++)
        t->byte_tokens[i] = DP_TOKEN_NONE;
    set_kinds(t, tables);
    st = add_texts(t, tables, err);
    if (!st)
        st = family->open(t, tables, err);
    if (st)
        goto done;
    t->adds_bos = tables->add_bos < 0 ? family->is_spm || t->pre->adds_bos : tables->add_bos > 0;
    t->adds_eos = tables->add_eos > 0;
    t->adds_space_prefix = family->is_spm && tables->add_space_prefix != 0;

    *out = t; /* the caller owns it now */
    t = NULL;
done:
    dp_tokenizer_close(t);
    return st;
}

void dp_tokenizer_close(dp_tokenizer *t)
{
    if (!t)
        return;
    t->family->close(t);
    dp_specials_deinit(&t->specials);
    dp_map_str_deinit(&t->by_name);
    dp_map_str_deinit(&t->by_text);
    dp_free(t->bytes);
    dp_free(t->kinds);
    dp_free(t->texts);
    dp_free(t);
}

/* ---- questions ---- */

uint32_t dp_tokenizer_count(const dp_tokenizer *t)
{
    return t->count;
}

dp_token dp_tokenizer_bos(const dp_tokenizer *t)
{
    return t->bos;
}

dp_token dp_tokenizer_eos(const dp_tokenizer *t)
{
    return t->eos;
}

dp_token dp_tokenizer_eot(const dp_tokenizer *t)
{
    return t->eot;
}

bool dp_tokenizer_adds_bos(const dp_tokenizer *t)
{
    return t->adds_bos && t->bos != DP_TOKEN_NONE;
}

bool dp_tokenizer_is_stop(const dp_tokenizer *t, dp_token token)
{
    return token >= 0 && (uint32_t)token < t->count && t->kinds[token] & DP_TOKEN_IS_STOP;
}

dp_str dp_tokenizer_text(const dp_tokenizer *t, dp_token token)
{
    if (token < 0 || (uint32_t)token >= t->count)
        return (dp_str){ NULL, 0 };
    return t->texts[token];
}

dp_token dp_tokenizer_find(const dp_tokenizer *t, dp_str name)
{
    char text[NAME_SIZE_MAX];
    uint32_t id = dp_map_str_get(&t->by_name, name);

    if (id == DP_MAP_NONE && name.size <= sizeof text)
        id = dp_map_str_get(&t->by_text, (dp_str){ text, t->family->decode(name, text) });
    return id == DP_MAP_NONE ? DP_TOKEN_NONE : (dp_token)id;
}

/* ---- encode ---- */

void dp_token_list_deinit(dp_token_list *list)
{
    dp_free(list->ids);
    *list = (dp_token_list){ 0 };
}

dp_status dp_token_list_add(dp_token_list *list, dp_token id)
{
    if (list->count == list->capacity) {
        size_t capacity = DP_MAX(2 * list->capacity, 64);
        dp_token *ids = dp_realloc(list->ids, capacity, sizeof *ids);

        if (!ids)
            return DP_E_NOMEM;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return DP_OK;
}

dp_status dp_tokenizer_add_byte(const dp_tokenizer *t, char byte, dp_token_list *list)
{
    dp_token id = t->byte_tokens[(uint8_t)byte];

    if (id == DP_TOKEN_NONE)
        id = t->unknown;
    return id == DP_TOKEN_NONE ? DP_OK : dp_token_list_add(list, id);
}

/* The first special token of text [from, size), run by run: names of control tokens
 * count only where they lie in one trusted run. *run follows. */
static bool find_special(const dp_tokenizer *t, const dp_runs *runs, dp_str text, size_t from,
                         size_t *run, size_t *at, size_t *size, dp_token *id)
{
    for (; from < text.size; (*run)++) {
        size_t end = runs->list[*run].end;
        dp_special_scope scope = { { text.bytes + from, text.size - from }, 0, 0 };

        if (end <= from)
            continue;
        scope.begin_end = end - from;
        scope.trusted_end = runs->list[*run].is_trusted ? scope.begin_end : 0;
        if (dp_specials_find(&t->specials, &scope, at, size, id)) {
            *at += from;
            return true;
        }
        from = end;
    }
    return false;
}

/* Special tokens by name, and the family's tokens for the text between them, which
 * may be of several runs: where text came from does not change how it merges. */
static dp_status encode_text(const dp_tokenizer *t, dp_str text, const dp_runs *runs,
                             dp_merge_scratch *scratch, dp_token_list *list)
{
    size_t from = 0, run = 0;
    dp_status st = DP_OK;

    while (from < text.size && !st) {
        dp_token special = DP_TOKEN_NONE;
        size_t at = text.size, size = 0;

        find_special(t, runs, text, from, &run, &at, &size, &special);
        if (at > from)
            st = t->family->encode(t, (dp_str){ text.bytes + from, at - from }, scratch, list);
        if (!st && special != DP_TOKEN_NONE)
            st = dp_token_list_add(list, special);
        from = at + size;
    }
    return st;
}

dp_status dp_tokenizer_encode_runs(const dp_tokenizer *t, dp_str text, const dp_runs *runs,
                                   uint32_t flags, dp_token_list *list, dp_error *err)
{
    dp_merge_scratch scratch = { 0 };
    size_t count = list->count;
    dp_status st = DP_OK;

    if (text.size > DP_ENCODE_SIZE_MAX)
        return dp_fail(err, DP_E_LIMIT, "tokenizer: %zu bytes of text, at most %zu", text.size,
                       (size_t)DP_ENCODE_SIZE_MAX);
    DP_ASSERT(text.size == 0 || runs->list[runs->count - 1].end == text.size);
    if (flags & DP_ENCODE_ADD_BOS && dp_tokenizer_adds_bos(t))
        st = dp_token_list_add(list, t->bos);
    if (!st)
        st = encode_text(t, text, runs, &scratch, list);
    if (!st && flags & DP_ENCODE_ADD_BOS && t->adds_eos && t->eos != DP_TOKEN_NONE)
        st = dp_token_list_add(list, t->eos);
    if (st) {
        list->count = count;
        dp_fail(err, st, "tokenizer: %zu bytes of text", text.size);
    }
    dp_merge_scratch_deinit(&scratch);
    return st;
}

dp_status dp_tokenizer_encode(const dp_tokenizer *t, dp_str text, uint32_t flags,
                              dp_token_list *list, dp_error *err)
{
    dp_run run = { text.size, flags & DP_ENCODE_SPECIAL };
    dp_runs runs = { .list = &run, .count = 1 };

    return dp_tokenizer_encode_runs(t, text, &runs, flags, list, err);
}
