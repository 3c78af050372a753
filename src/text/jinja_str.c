/* Text with its origin: runs say which bytes the template wrote (prompt.h). */
#include <string.h>

#include "base/utf8.h"
#include "text/casing.h"
#include "text/jinja_impl.h"
#include "text/unicode.h"

const dp_jstr dp_jinja_empty = { "", 0, NULL, 0, true };

/* ---- making ---- */

static void *take(dp_jrun *x, dp_jarena *arena, size_t size)
{
    dp_status st = DP_OK;
    void *block = x->st ? NULL : dp_jinja_memory_take(&x->memory, arena, size, &st);

    if (st == DP_E_LIMIT)
        dp_jinja_fail(x, st, "more than %zu bytes of values", DP_JINJA_MEMORY_MAX);
    else if (st)
        dp_jinja_fail(x, st, "no memory for %zu bytes of text", size);
    return block;
}

static const dp_jstr *make(dp_jrun *x, const char *bytes, size_t size, const dp_run *runs,
                           size_t run_count, bool is_trusted)
{
    dp_jstr *s = size > 0 ? dp_jinja_take(x, sizeof *s) : NULL;

    if (!s)
        return &dp_jinja_empty;
    *s = (dp_jstr){ bytes, size, run_count > 1 ? runs : NULL, run_count > 1 ? run_count : 0,
                    run_count == 1 ? runs->is_trusted : is_trusted };
    return s;
}

const dp_jstr *dp_jinja_str_view(dp_jrun *x, const char *bytes, size_t size, bool is_trusted)
{
    return make(x, bytes, size, NULL, 0, is_trusted);
}

const dp_jstr *dp_jinja_str_copy(dp_jrun *x, const char *bytes, size_t size, bool is_trusted)
{
    char *copy = size > 0 && dp_jinja_pay(x, size) ? take(x, &x->memory.text, size) : NULL;

    if (!copy)
        return &dp_jinja_empty;
    memcpy(copy, bytes, size);
    return make(x, copy, size, NULL, 0, is_trusted);
}

const dp_jstr *dp_jinja_str_literal(dp_jrun *x, const char *text)
{
    return make(x, text, strlen(text), NULL, 0, true);
}

/* The run that byte `at` of s is in, by bisection. */
static size_t run_of(const dp_jstr *s, size_t at)
{
    size_t low = 0, high = s->run_count - 1;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (s->runs[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const dp_jstr *dp_jinja_str_part(dp_jrun *x, const dp_jstr *s, size_t begin, size_t end)
{
    size_t first, last;
    dp_run *runs;

    if (begin == 0 && end == s->size)
        return s;
    if (end <= begin)
        return &dp_jinja_empty;
    if (!s->runs)
        return make(x, s->bytes + begin, end - begin, NULL, 0, s->is_trusted);
    first = run_of(s, begin);
    last = run_of(s, end - 1);
    if (!dp_jinja_pay(x, last - first))
        return &dp_jinja_empty;
    if (first == last)
        return make(x, s->bytes + begin, end - begin, NULL, 0, s->runs[first].is_trusted);
    runs = take(x, &x->memory.runs, (last - first + 1) * sizeof *runs);
    if (!runs)
        return &dp_jinja_empty;
    for (size_t i = first; i <= last; i++)
        runs[i - first] = (dp_run){ DP_MIN(s->runs[i].end, end) - begin, s->runs[i].is_trusted };
    return make(x, s->bytes + begin, end - begin, runs, last - first + 1, false);
}

static size_t run_count_of(const dp_jstr *s)
{
    return s->runs ? s->run_count : 1;
}

static dp_run run_at(const dp_jstr *s, size_t i)
{
    return s->runs ? s->runs[i] : (dp_run){ s->size, s->is_trusted };
}

/* The runs of a, then those of b; in place behind a's where there is room. */
static const dp_run *join_runs(dp_jrun *x, const dp_jstr *a, const dp_jstr *b, size_t *count)
{
    size_t a_count = run_count_of(a), b_count = run_count_of(b), skipped = 0;
    bool is_merged = run_at(a, a_count - 1).is_trusted == run_at(b, 0).is_trusted;
    dp_run *runs;

    skipped = is_merged; /* a's last run goes on: it must be written anew */
    *count = a_count + b_count - skipped;
    if (a->runs && !is_merged &&
        dp_jinja_memory_extend(&x->memory.runs, a->runs, a_count * sizeof *runs,
                               b_count * sizeof *runs)) {
        runs = (dp_run *)a->runs; /* bytes behind a's own, which nobody has yet */
    } else {
        runs = dp_jinja_pay(x, a_count) ? take(x, &x->memory.runs, *count * sizeof *runs) : NULL;
        for (size_t i = 0; runs && i < a_count - skipped; i++)
            runs[i] = run_at(a, i);
    }
    for (size_t i = 0; runs && i < b_count; i++) {
        dp_run run = run_at(b, i);

        runs[a_count - skipped + i] = (dp_run){ a->size + run.end, run.is_trusted };
    }
    return runs;
}

/* Text that grows piece by piece (a = a + b) is not copied each time: a's bytes are
 * the last that were taken, so that b's can stand right behind them. */
const dp_jstr *dp_jinja_str_join(dp_jrun *x, const dp_jstr *a, const dp_jstr *b)
{
    const dp_run *runs = NULL;
    size_t run_count = 0;
    char *bytes;

    if (a->size == 0 || b->size == 0)
        return a->size == 0 ? b : a;
    if (!dp_jinja_pay(x, b->size))
        return &dp_jinja_empty;
    if (dp_jinja_memory_extend(&x->memory.text, a->bytes, a->size, b->size)) {
        bytes = (char *)a->bytes;
    } else {
        bytes = dp_jinja_pay(x, a->size) ? take(x, &x->memory.text, a->size + b->size) : NULL;
        if (!bytes)
            return &dp_jinja_empty;
        memcpy(bytes, a->bytes, a->size);
    }
    memcpy(bytes + a->size, b->bytes, b->size);
    if (a->runs || b->runs || a->is_trusted != b->is_trusted) {
        runs = join_runs(x, a, b, &run_count);
        if (!runs)
            return &dp_jinja_empty;
    }
    return make(x, bytes, a->size + b->size, runs, run_count, a->is_trusted);
}

const dp_jstr *dp_jinja_str_finish(dp_jrun *x, dp_prompt *p, size_t begin)
{
    dp_jstr all = { p->text.bytes, p->text.size, p->runs.list, p->runs.count, false };
    const dp_jstr *s = &dp_jinja_empty, *part;
    char *bytes;

    if (p->text.size > begin && !x->st) {
        part = dp_jinja_str_part(x, &all, begin, p->text.size);
        bytes = dp_jinja_pay(x, part->size) ? take(x, &x->memory.text, part->size) : NULL;
        if (bytes && part == &all) { /* its runs are the prompt's */
            dp_run *runs = take(x, &x->memory.runs, all.run_count * sizeof *runs);

            memcpy(bytes, all.bytes, all.size);
            if (runs) {
                memcpy(runs, all.runs, all.run_count * sizeof *runs);
                s = make(x, bytes, all.size, runs, all.run_count, false);
            }
        } else if (bytes) {
            memcpy(bytes, part->bytes, part->size);
            s = make(x, bytes, part->size, part->runs, part->run_count, part->is_trusted);
        }
    }
    dp_prompt_cut(p, begin);
    return s;
}

static void put(dp_jrun *x, dp_prompt *p, const char *bytes, size_t size, bool is_trusted)
{
    dp_status st =
        !dp_jinja_pay(x, size) ? DP_OK : dp_prompt_add(p, (dp_str){ bytes, size }, is_trusted);

    if (st == DP_E_LIMIT)
        dp_jinja_fail(x, st, "more than %zu bytes of text", p->text.size_max);
    else if (st)
        dp_jinja_fail(x, st, "no memory for %zu bytes of text", size);
}

void dp_jinja_put(dp_jrun *x, dp_prompt *p, const dp_jstr *s)
{
    size_t at = 0;

    for (size_t i = 0; i < run_count_of(s) && !x->st; i++) {
        put(x, p, s->bytes + at, run_at(s, i).end - at, run_at(s, i).is_trusted);
        at = run_at(s, i).end;
    }
}

void dp_jinja_put_text(dp_jrun *x, dp_prompt *p, const char *text)
{
    put(x, p, text, strlen(text), true);
}

bool dp_jinja_str_is_trusted(const dp_jstr *s)
{
    return s->size == 0 || (!s->runs && s->is_trusted);
}

/* ---- characters ---- */

size_t dp_jinja_str_chars(dp_jrun *x, const dp_jstr *s)
{
    size_t count = 0;

    if (!dp_jinja_pay(x, s->size))
        return 0;
    for (size_t i = 0; i < s->size; i++)
        count += i == 0 || ((uint8_t)s->bytes[i] & 0xC0) != 0x80;
    return count;
}

size_t dp_jinja_str_offset(dp_jrun *x, const dp_jstr *s, size_t at)
{
    size_t offset = 0;

    if (at > s->size)
        at = s->size;
    if (!dp_jinja_pay(x, at))
        return 0;
    for (; offset < s->size; offset++)
        if (offset == 0 || ((uint8_t)s->bytes[offset] & 0xC0) != 0x80) {
            if (at == 0)
                break;
            at--;
        }
    return offset;
}

bool dp_jinja_is_space(uint32_t cp)
{
    return (dp_unicode_bit(cp) & DP_IS_SPACE) != 0 || (cp >= 0x1C && cp <= 0x1F);
}

/* ---- operations ---- */

static bool is_stripped(const char *bytes, size_t size, const dp_jstr *chars)
{
    uint32_t cp;

    if (chars)
        return chars->size > 0 && memmem(chars->bytes, chars->size, bytes, size) != NULL;
    dp_utf8_decode(bytes, size, &cp);
    return dp_jinja_is_space(cp);
}

const dp_jstr *dp_jinja_str_strip(dp_jrun *x, const dp_jstr *s, const dp_jstr *chars, bool left,
                                  bool right)
{
    size_t begin = 0, end = s->size;
    uint32_t cp;

    while (left && begin < end && dp_jinja_pay(x, chars ? chars->size : 0)) {
        size_t size = dp_utf8_decode(s->bytes + begin, end - begin, &cp);

        if (!is_stripped(s->bytes + begin, size, chars))
            break;
        begin += size;
    }
    while (right && end > begin && dp_jinja_pay(x, chars ? chars->size : 0)) {
        size_t at = end - 1;

        while (at > begin && ((uint8_t)s->bytes[at] & 0xC0) == 0x80)
            at--;
        if (!is_stripped(s->bytes + at, end - at, chars))
            break;
        end = at;
    }
    return dp_jinja_str_part(x, s, begin, end);
}

size_t dp_jinja_str_find(dp_jrun *x, const dp_jstr *s, const dp_jstr *part, size_t from)
{
    const char *found;

    if (part->size == 0)
        return from <= s->size ? from : SIZE_MAX;
    if (from >= s->size)
        return SIZE_MAX;
    found = memmem(s->bytes + from, s->size - from, part->bytes, part->size);
    dp_jinja_pay(x, found ? (size_t)(found - s->bytes) - from : s->size - from);
    return found ? (size_t)(found - s->bytes) : SIZE_MAX;
}

static size_t char_size(const dp_jstr *s, size_t at)
{
    uint32_t cp;

    return at < s->size ? dp_utf8_decode(s->bytes + at, s->size - at, &cp) : 0;
}

const dp_jstr *dp_jinja_str_replace(dp_jrun *x, const dp_jstr *s, const dp_jstr *old,
                                    const dp_jstr *new, int64_t count_max)
{
    size_t at = 0;
    const dp_jstr *out;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (int64_t count = 0; (count_max < 0 || count < count_max) && !x->st; count++) {
        /* Nothing is found before each character and at the end. */
        size_t found = dp_jinja_str_find(x, s, old, at);
        size_t next = found + (old->size ? old->size : char_size(s, found));

        if (found == SIZE_MAX)
            break;
        dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at, found));
        dp_jinja_put(x, &p, new);
        if (old->size == 0)
            dp_jinja_put(x, &p, dp_jinja_str_part(x, s, found, next));
        at = next;
        if (old->size == 0 && found == s->size) {
            at = s->size;
            break;
        }
    }
    dp_jinja_put(x, &p, dp_jinja_str_part(x, s, at, s->size));
    out = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return out;
}

const dp_jstr *dp_jinja_str_repeat(dp_jrun *x, const dp_jstr *s, int64_t count)
{
    const dp_jstr *out;
    dp_prompt p;

    if (count <= 0 || s->size == 0)
        return &dp_jinja_empty;
    if ((uint64_t)count > DP_JINJA_MEMORY_MAX / s->size) {
        dp_jinja_fail(x, DP_E_LIMIT, "more than %zu bytes of text", DP_JINJA_MEMORY_MAX);
        return &dp_jinja_empty;
    }
    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (int64_t i = 0; i < count && !x->st; i++)
        dp_jinja_put(x, &p, s);
    out = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return out;
}

/* One character as `how` says, behind one that is a letter or is not. */
static size_t put_case(const dp_jstr *s, size_t at, dp_jcase how, bool is_inside, char *out,
                       size_t *written)
{
    uint32_t cp;
    size_t size = dp_utf8_decode(s->bytes + at, s->size - at, &cp);
    bool lowers = how == DP_JCASE_LOWER || (how == DP_JCASE_TITLE && is_inside) ||
                  (how == DP_JCASE_CAPITAL && at > 0);
    uint32_t cps[DP_CASING_MAX];
    size_t count;

    *written = 0;
    if (cp == DP_UTF8_REPLACEMENT && size == 1) { /* no character: stays as it is */
        out[(*written)++] = s->bytes[at];
        return size;
    }
    count = dp_casing_map(cp,
                          lowers                  ? DP_CASING_LOWER
                          : how == DP_JCASE_UPPER ? DP_CASING_UPPER
                                                  : DP_CASING_TITLE,
                          cps);
    for (size_t i = 0; i < count; i++)
        *written += dp_utf8_encode(cps[i], out + *written);
    return size;
}

const dp_jstr *dp_jinja_str_case(dp_jrun *x, const dp_jstr *s, dp_jcase how)
{
    char out[DP_CASING_MAX * DP_UTF8_SIZE_MAX];
    bool is_inside = false, is_trusted = dp_jinja_str_is_trusted(s);
    const dp_jstr *result;
    size_t at = 0, written;
    uint32_t cp;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    while (at < s->size && dp_jinja_pay(x, 0)) {
        dp_utf8_decode(s->bytes + at, s->size - at, &cp);
        at += put_case(s, at, how, is_inside, out, &written);
        put(x, &p, out, written, is_trusted);
        is_inside = dp_casing_is_cased(cp);
    }
    result = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return result;
}
