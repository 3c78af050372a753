#include "engine/speculate.h"

#define PLAIN_STEPS 3    /* measured before the first draft */
#define PLAIN_EVERY 64   /* steps with drafts, then one without: its cost changes too */
#define PAUSE_MIN   64   /* drafts left out before one is tried: at twice the cost 1.5 % */
#define PAUSE_MAX   1024 /* of them */
#define FADE        8    /* a mean of so many steps ... */
#define STALE       512  /* ... fewer when the last was long ago */
#define JUMP        2.0  /* one step moves the mean as if it were at most so far off */

void dp_speculate_init(dp_speculate *s)
{
    *s = (dp_speculate){ .pause = PAUSE_MIN };
}

/* ---- cost ---- */

void dp_speculate_record(dp_speculate *s, uint32_t rows, bool has_draft, uint64_t ns)
{
    dp_row_cost *c;
    double x = (double)ns, share;

    s->steps++;
    s->drafted_since = has_draft ? s->drafted_since + 1 : 0;
    if (rows == 0 || rows > DP_SPECULATE_ROWS_MAX || ns == 0)
        return;
    c = &s->cost[rows];
    share = 1.0 / (double)DP_MIN(c->steps + 1, (uint32_t)FADE);
    share = DP_MAX(share, DP_MIN((double)(s->steps - c->at) / STALE, 1.0));
    if (c->steps >= FADE) { /* another program had the processor: no reason to believe it */
        x = DP_MIN(x, c->ns * JUMP);
        x = DP_MAX(x, c->ns / JUMP);
    }
    c->ns = c->steps ? c->ns + (x - c->ns) * share : x;
    c->steps++;
    c->at = s->steps;
}

/* Nearest measured numbers of rows below and above, 0: none. */
static void neighbours(const dp_speculate *s, uint32_t rows, uint32_t *below, uint32_t *above)
{
    *below = *above = 0;
    for (uint32_t r = rows; r > 0 && !*below; r--)
        if (s->cost[r].steps)
            *below = r;
    for (uint32_t r = rows; r <= DP_SPECULATE_ROWS_MAX && !*above; r++)
        if (s->cost[r].steps)
            *above = r;
}

double dp_speculate_cost(const dp_speculate *s, uint32_t rows)
{
    uint32_t a, b, before, unused;
    double slope = 0;

    if (rows == 0 || rows > DP_SPECULATE_ROWS_MAX)
        return 0;
    neighbours(s, rows, &a, &b);
    if (a == b)
        return a ? s->cost[a].ns : 0;
    if (!a)
        return s->cost[b].ns;
    if (b) {
        slope = (s->cost[b].ns - s->cost[a].ns) / (b - a);
    } else {
        /* Past what was measured: half as steep, so that it is tried. */
        neighbours(s, a - 1, &before, &unused);
        if (before)
            slope = DP_MAX((s->cost[a].ns - s->cost[before].ns) / (a - before), 0) / 2;
    }
    return s->cost[a].ns + slope * (rows - a);
}

/* ---- choice ---- */

/* The best number of tokens and what is gained by it. */
static uint32_t best_count(const dp_speculate *s, const dp_draft *draft, uint32_t rows,
                           double tokens, uint32_t count_max, double *gain)
{
    double plain = dp_speculate_cost(s, rows);
    uint32_t best = 0;

    *gain = 0;
    for (uint32_t k = 1; k <= count_max; k *= 2) {
        double with = dp_speculate_cost(s, rows + k);
        double now = (tokens + dp_draft_expect(draft, k)) / tokens * plain / with;
        uint32_t below, above;

        if (now > *gain) {
            *gain = now;
            best = k;
        }
        neighbours(s, rows + k, &below, &above);
        if (!above)
            break; /* one size past what was measured */
    }
    return best;
}

uint32_t dp_speculate_choose(dp_speculate *s, const dp_draft *draft, uint32_t rows, double tokens,
                             uint32_t count_max)
{
    uint32_t best;
    double gain;

    if (!draft->source || rows == 0 || rows >= DP_SPECULATE_ROWS_MAX || count_max == 0)
        return 0;
    if (s->steps < PLAIN_STEPS || dp_speculate_cost(s, rows) <= 0 ||
        s->drafted_since >= PLAIN_EVERY)
        return 0;
    count_max = DP_MIN(count_max, DP_SPECULATE_ROWS_MAX - rows);
    if (dp_draft_expect(draft, count_max) / tokens + 1 < DP_SPECULATE_START)
        return 0; /* not even if it cost nothing */
    best = best_count(s, draft, rows, tokens, count_max, &gain);
    if (gain > (s->is_on ? 1.0 : DP_SPECULATE_START)) {
        s->is_on = true;
        s->idle = 0;
        s->pause = PAUSE_MIN;
        return best;
    }
    s->is_on = false;
    if (++s->idle < s->pause)
        return 0;
    s->idle = 0;
    s->pause = DP_MIN(s->pause * 2, (uint32_t)PAUSE_MAX);
    return best;
}
