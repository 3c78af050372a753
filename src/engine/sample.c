#include "engine/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/status.h"

uint64_t dp_sampler_bytes(uint32_t vocab_size)
{
    return (uint64_t)vocab_size * sizeof(dp_candidate);
}

dp_status dp_sampler_init(dp_sampler *s, const dp_options *options, uint32_t vocab_size,
                          uint64_t drawn, dp_error *err)
{
    *s = (dp_sampler){
        .temp = dp_options_f64(options, DP_OPT_TEMP),
        .top_p = dp_options_f64(options, DP_OPT_TOP_P),
        .min_p = dp_options_f64(options, DP_OPT_MIN_P),
        .repeat_penalty = dp_options_f64(options, DP_OPT_REPEAT_PENALTY),
        .presence_penalty = dp_options_f64(options, DP_OPT_PRESENCE_PENALTY),
        .frequency_penalty = dp_options_f64(options, DP_OPT_FREQUENCY_PENALTY),
        .top_k = (uint32_t)dp_options_u64(options, DP_OPT_TOP_K),
        .penalty_window = (uint32_t)dp_options_u64(options, DP_OPT_PENALTY_WINDOW),
        .seed = dp_options_u64(options, DP_OPT_SEED),
        .vocab_size = vocab_size,
    };
    if (s->seed == 0)
        s->seed = drawn;
    dp_rng_init(&s->rng, s->seed);
    s->candidates = dp_map_acquire(dp_sampler_bytes(vocab_size));
    if (!s->candidates)
        return dp_fail(err, DP_E_NOMEM, "sampler: %u candidates", vocab_size);
    return DP_OK;
}

void dp_sampler_deinit(dp_sampler *s)
{
    dp_map_release(s->candidates, dp_sampler_bytes(s->vocab_size));
    *s = (dp_sampler){ 0 };
}

/* ---- candidates ---- */

/* Higher logit first, lower id first among equals; not-a-number last. */
static int compare(const void *a, const void *b)
{
    const dp_candidate *x = a, *y = b;

    if (x->logit != y->logit)
        return x->logit > y->logit   ? -1
               : y->logit > x->logit ? 1
                                     : isnan(x->logit) - isnan(y->logit);
    return (x->id > y->id) - (x->id < y->id);
}

static void penalize(dp_sampler *s, const dp_token *history, size_t count)
{
    size_t first = count > s->penalty_window ? count - s->penalty_window : 0;

    if (s->repeat_penalty == 1 && s->presence_penalty == 0 && s->frequency_penalty == 0)
        return;
    for (size_t i = first; i < count; i++) {
        dp_candidate *c = &s->candidates[history[i]];

        if (c->id >= 0) { /* its first time: a complemented id says that it was seen */
            /* A penalty must lower the logit whatever its sign (Keskar et al.
             * 2019, arXiv:1909.05858, §4.1, as every engine applies it). */
            c->logit =
                (float)(c->logit > 0 ? c->logit / s->repeat_penalty : c->logit * s->repeat_penalty);
            c->logit -= (float)s->presence_penalty;
            c->id = ~c->id;
        }
        c->logit -= (float)s->frequency_penalty;
    }
    for (size_t i = first; i < count; i++)
        s->candidates[history[i]].id = history[i];
}

static void sift_down(dp_candidate *c, size_t count, size_t i)
{
    for (;;) {
        size_t worst = i, left = 2 * i + 1, right = left + 1;
        dp_candidate swap = c[i];

        if (left < count && compare(&c[left], &c[worst]) > 0)
            worst = left;
        if (right < count && compare(&c[right], &c[worst]) > 0)
            worst = right;
        if (worst == i)
            return;
        c[i] = c[worst];
        c[worst] = swap;
        i = worst;
    }
}

/* Moves the n best to the front, in no order: a heap with the worst of them on
 * top; few of the rest beat it. */
static void select_best(dp_candidate *c, size_t count, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(c, n, i);
    for (size_t i = n; i < count; i++) {
        if (compare(&c[i], &c[0]) >= 0)
            continue;
        c[0] = c[i];
        sift_down(c, n, 0);
    }
}

static dp_status check_numbers(const dp_candidate *best, dp_error *err)
{
    if (isfinite(best->logit))
        return DP_OK;
    return dp_fail(err, DP_E_CORRUPT,
                   "the model's logits are not finite numbers: its weights are damaged");
}

static dp_token greedy(const dp_sampler *s, dp_error *err, dp_status *st)
{
    const dp_candidate *best = &s->candidates[0];

    for (uint32_t i = 1; i < s->vocab_size; i++)
        if (compare(&s->candidates[i], best) < 0)
            best = &s->candidates[i];
    *st = check_numbers(best, err);
    return best->id;
}

/* Cuts the sorted candidates to the fewest with probability >= top_p (Holtzman
 * et al. 2019, arXiv:1904.09751), then to those with at least min_p of the best
 * one's (Nguyen et al. 2024, arXiv:2407.01082). Returns how many stay. */
static size_t cut(const dp_sampler *s, size_t count)
{
    const dp_candidate *c = s->candidates;
    double total = 0, sum = 0;
    size_t kept = 0, n = 0;

    for (size_t i = 0; i < count; i++)
        total += exp((double)c[i].logit - c[0].logit);
    while (kept < count && (kept == 0 || sum < s->top_p * total))
        sum += exp((double)c[kept++].logit - c[0].logit);
    while (n < kept && exp((double)c[n].logit - c[0].logit) >= s->min_p)
        n++;
    return n;
}

static dp_token draw(dp_sampler *s, size_t count)
{
    const dp_candidate *c = s->candidates;
    double total = 0, at;

    for (size_t i = 0; i < count; i++)
        total += exp(((double)c[i].logit - c[0].logit) / s->temp);
    at = dp_rng_unit(&s->rng) * total;
    for (size_t i = 0; i + 1 < count; i++) {
        at -= exp(((double)c[i].logit - c[0].logit) / s->temp);
        if (at < 0)
            return c[i].id;
    }
    return c[count - 1].id;
}

dp_status dp_sampler_choose(dp_sampler *s, const float *logits, const dp_token *history,
                            size_t count, dp_token *out, dp_error *err)
{
    size_t kept = s->vocab_size;
    dp_status st = DP_OK;

    for (uint32_t i = 0; i < s->vocab_size; i++)
        s->candidates[i] = (dp_candidate){ logits[i], (dp_token)i };
    penalize(s, history, count);
    if (s->temp == 0) {
        *out = greedy(s, err, &st);
        return st;
    }
    if (s->top_k > 0 && s->top_k < kept) {
        select_best(s->candidates, kept, s->top_k);
        kept = s->top_k;
    }
    qsort(s->candidates, kept, sizeof *s->candidates, compare);
    st = check_numbers(&s->candidates[0], err);
    if (st)
        return st;
    while (isnan(s->candidates[kept - 1].logit)) /* sorted last: no part of any sum */
        kept--;
    *out = draw(s, cut(s, kept));
    return DP_OK;
}
