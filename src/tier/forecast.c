#include "tier/forecast.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

/* Found by replaying the demo model's trace; all are flat around these values
 * (docs/DECISIONS.md). */
#define DISCOUNT       0.82f
#define LEARNING_RATE  0.01f
#define SKETCH_RATE    0.002f
#define HASTE          2.0f /* added to the rate while young: HASTE / (HASTE_STEPS + demands) */
#define HASTE_STEPS    40
#define FAST_HALF_LIFE 128.0
#define SLOW_HALF_LIFE 1024.0
#define RATE_MIN       1e-4f
#define WEIGHT_MAX     100.0f /* none that was learned comes near */
#define WIDE_SET_PART  2      /* a set above 1/2 of the layer says nothing about what follows */

#define SKETCH DP_FORECAST_SKETCH

/* The sketch in parts: what the last step wanted, the last few, and the last dozen or two. */
typedef struct span {
    int first, count; /* of the sums */
    float keep;       /* of a sum from one step to the next */
} span;

#define SPAN_COUNT 3
static const span spans[SPAN_COUNT] = { { 0, 64, 0.2f }, { 64, 32, 0.6f }, { 96, 32, 0.9f } };

_Static_assert(SKETCH == 128, "the spans cover the sketch");

typedef struct layer_state {
    float *fast, *slow;    /* [expert_count] rates of demand per step */
    float *value;          /* [expert_count] as of the last demand */
    float *steps;          /* [expert_count] what is told */
    float *error;          /* [expert_count] of the value before, the sketch has yet to learn it */
    float *weights;        /* [expert_count from][expert_count to], NULL: too many experts */
    float *sketch_weights; /* [SKETCH][expert_count]: how each sum of the sketch changes them */
    float usual[SKETCH];   /* what a set of this layer adds to the sketch on the average */
    float seen[SKETCH];    /* the sketch at the last demand ... */
    float blamed[SKETCH];  /* ... and at the one before, whose error it is */
    uint32_t *last;        /* [last_count] the set wanted last; 0: none that counts */
    uint32_t last_count;
    uint32_t demand_count; /* up to where rates are plain means */
} layer_state;

struct dp_forecast {
    uint32_t layer_count, expert_count;
    float fast_keep, slow_keep; /* of a rate, per step */
    float keep[SPAN_COUNT];     /* of the sketch, per demand of any layer */
    float *before;              /* [expert_count] scratch */
    float sketch[SKETCH];       /* what all layers wanted lately */
    layer_state *layers;
};

static bool open_layer(layer_state *layer, uint32_t experts)
{
    layer->fast = dp_alloc_zero((size_t)5 * experts, sizeof(float));
    layer->last = dp_alloc_zero(experts, sizeof(uint32_t));
    layer->sketch_weights = dp_alloc_zero((size_t)SKETCH * experts, sizeof(float));
    if (experts <= DP_FORECAST_EXPERTS_MAX)
        layer->weights = dp_alloc_zero((size_t)experts * experts, sizeof(float));
    if (!layer->fast || !layer->last || !layer->sketch_weights ||
        (experts <= DP_FORECAST_EXPERTS_MAX && !layer->weights))
        return false;
    layer->slow = layer->fast + experts;
    layer->value = layer->slow + experts;
    layer->steps = layer->value + experts;
    layer->error = layer->steps + experts;
    for (uint32_t e = 0; e < experts; e++)
        layer->steps[e] = (float)DP_FORECAST_STEPS_MAX;
    return true;
}

dp_status dp_forecast_open(dp_forecast **out, uint32_t layer_count, uint32_t expert_count,
                           dp_error *err)
{
    dp_forecast *f = dp_alloc_zero(1, sizeof *f);
    bool has_memory = f != NULL;

    *out = NULL;
    if (f) {
        f->expert_count = expert_count;
        f->fast_keep = (float)exp2(-1 / FAST_HALF_LIFE);
        f->slow_keep = (float)exp2(-1 / SLOW_HALF_LIFE);
        for (int i = 0; i < SPAN_COUNT; i++)
            f->keep[i] = powf(spans[i].keep, 1 / (float)DP_MAX(layer_count, 1));
        f->before = dp_alloc_zero(expert_count, sizeof(float));
        f->layers = dp_alloc_zero(layer_count, sizeof *f->layers);
        has_memory = f->before && f->layers;
        for (; has_memory && f->layer_count < layer_count; f->layer_count++)
            if (!open_layer(&f->layers[f->layer_count], expert_count)) {
                f->layer_count++; /* half open: closed with the rest */
                has_memory = false;
                break;
            }
    }
    if (!has_memory) {
        dp_forecast_close(f);
        return dp_fail(err, DP_E_NOMEM, "forecast: no memory for %u layers of %u experts",
                       layer_count, expert_count);
    }
    *out = f;
    return DP_OK;
}

void dp_forecast_close(dp_forecast *forecast)
{
    if (!forecast)
        return;
    for (uint32_t i = 0; i < forecast->layer_count; i++) {
        dp_free(forecast->layers[i].fast);
        dp_free(forecast->layers[i].last);
        dp_free(forecast->layers[i].weights);
        dp_free(forecast->layers[i].sketch_weights);
    }
    dp_free(forecast->layers);
    dp_free(forecast->before);
    dp_free(forecast);
}

/* The value of an expert that is wanted at this rate, independently of everything. */
static float base_of(const layer_state *layer, uint32_t e)
{
    float rate = DP_MAX(0.5f * (layer->fast[e] + layer->slow[e]), RATE_MIN);

    return rate / (1 - DISCOUNT * (1 - rate));
}

/* The signs of an expert in 64 sums of the sketch, one a bit: a hash of where it is
 * (splitmix64). */
static uint64_t signs_of(uint32_t layer, uint32_t expert, uint32_t word)
{
    uint64_t place = (uint64_t)layer << 32 | expert;
    uint64_t x = (2 * place + word) * UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

static void add_signs(float *sums, uint32_t layer, uint32_t expert)
{
    for (uint32_t word = 0; word < SKETCH / 64; word++) {
        uint64_t signs = signs_of(layer, expert, word);
        for (int j = 0; j < 64; j++)
            sums[64 * word + j] += signs >> j & 1 ? 1.0f : -1.0f;
    }
}

/* The layer's set goes into the sketch as far as it is unusual; older sets fade. */
static void update_sketch(dp_forecast *f, uint32_t layer_index, const uint32_t *experts,
                          uint32_t count)
{
    layer_state *layer = &f->layers[layer_index];
    float slow = DP_MIN(f->slow_keep, 1 - 1 / (float)(layer->demand_count + 2));
    float set[SKETCH] = { 0 };

    for (uint32_t i = 0; i < count; i++)
        add_signs(set, layer_index, experts[i]);
    for (int i = 0; i < SPAN_COUNT; i++) {
        int end = spans[i].first + spans[i].count;
        for (int j = spans[i].first; j < end; j++) {
            f->sketch[j] *= f->keep[i];
            if (!count)
                continue;
            f->sketch[j] += (1 - spans[i].keep) * (set[j] - layer->usual[j]);
            layer->usual[j] = slow * layer->usual[j] + (1 - slow) * set[j];
        }
    }
}

/* Rates forget by half-lives; before they have seen one, they are plain means. */
static void update_rates(dp_forecast *f, layer_state *layer, const uint32_t *experts,
                         uint32_t count)
{
    float young = 1 - 1 / (float)(layer->demand_count + 2);
    float fast = DP_MIN(f->fast_keep, young);
    float slow = DP_MIN(f->slow_keep, young);

    for (uint32_t e = 0; e < f->expert_count; e++) {
        layer->fast[e] *= fast;
        layer->slow[e] *= slow;
    }
    for (uint32_t i = 0; i < count; i++) {
        layer->fast[experts[i]] += 1 - fast;
        layer->slow[experts[i]] += 1 - slow;
    }
    if (layer->demand_count < (uint32_t)(2 * SLOW_HALF_LIFE))
        layer->demand_count++;
}

/* What the sketch adds to the values. Its weights are most of all there is, and go through the
 * processor once: they first learn what the demand before left to learn. */
static void add_sketch(const dp_forecast *f, layer_state *layer)
{
    float *restrict value = layer->value;
    const float *restrict error = layer->error;

    for (int i = 0; i < SPAN_COUNT; i++)
        for (int j = spans[i].first; j < spans[i].first + spans[i].count; j++) {
            float *restrict row = layer->sketch_weights + (size_t)j * f->expert_count;
            float part = SKETCH_RATE / (float)spans[i].count * layer->blamed[j];
            float sum = f->sketch[j];
            for (uint32_t e = 0; e < f->expert_count; e++) {
                row[e] += part * error[e];
                value[e] += sum * row[e];
            }
        }
}

/* The value each expert has now that this set was wanted. */
static void update_values(dp_forecast *f, layer_state *layer, const uint32_t *experts,
                          uint32_t count)
{
    float *restrict value = layer->value;
    uint32_t n = f->expert_count;

    for (uint32_t e = 0; e < n; e++)
        value[e] = base_of(layer, e);
    for (uint32_t i = 0; i < count; i++) {
        const float *restrict row = layer->weights + (size_t)experts[i] * n;
        for (uint32_t e = 0; e < n; e++)
            value[e] += row[e];
    }
    add_sketch(f, layer);
    for (uint32_t e = 0; e < n; e++)
        value[e] = DP_MIN(DP_MAX(value[e], RATE_MIN), 1.0f);
}

/* Moves the rows of the set wanted before by their part of the error. */
static void learn(const dp_forecast *f, layer_state *layer)
{
    float haste = HASTE / (float)(HASTE_STEPS + layer->demand_count);
    float rate = (LEARNING_RATE + haste) / (float)DP_MAX(layer->last_count, 1);
    const float *restrict error = layer->error;

    for (uint32_t i = 0; i < layer->last_count; i++) {
        float *restrict row = layer->weights + (size_t)layer->last[i] * f->expert_count;
        for (uint32_t e = 0; e < f->expert_count; e++)
            row[e] += rate * error[e];
    }
}

/* A value v is what an expert of rate p = v (1 - g) / (1 - g v) has, due every 1 / p steps. */
static void update_steps(dp_forecast *f, layer_state *layer)
{
    for (uint32_t e = 0; e < f->expert_count; e++) {
        float value = layer->value[e];
        float steps = (1 - DISCOUNT * value) / (value * (1 - DISCOUNT));
        layer->steps[e] = DP_MIN(DP_MAX(steps, 1.0f), (float)DP_FORECAST_STEPS_MAX);
    }
}

/* What the values before should have been, from here: 1 for what came, and of the others
 * the value they have now, a step farther away. Keeps by how much they were wrong. */
static void judge(const dp_forecast *f, layer_state *layer, const float *before,
                  const uint32_t *experts, uint32_t count)
{
    for (uint32_t e = 0; e < f->expert_count; e++)
        layer->error[e] = DISCOUNT * layer->value[e] - before[e];
    for (uint32_t i = 0; i < count; i++)
        layer->error[experts[i]] = 1 - before[experts[i]];
}

void dp_forecast_demand(dp_forecast *forecast, uint32_t layer_index, const uint32_t *experts,
                        uint32_t count)
{
    layer_state *layer = &forecast->layers[layer_index];
    bool is_wide = count > forecast->expert_count / WIDE_SET_PART || !layer->weights;
    bool is_young = layer->demand_count == 0;

    DP_ASSERT(layer_index < forecast->layer_count && count <= forecast->expert_count);
    update_sketch(forecast, layer_index, experts, is_wide ? 0 : count);
    update_rates(forecast, layer, experts, count);
    memcpy(forecast->before, layer->value, forecast->expert_count * sizeof(float));
    update_values(forecast, layer, experts, is_wide ? 0 : count);
    judge(forecast, layer, forecast->before, experts, count);
    if (is_young) /* of nothing: there was no value yet */
        memset(layer->error, 0, forecast->expert_count * sizeof(float));
    learn(forecast, layer);
    memcpy(layer->blamed, layer->seen, sizeof layer->seen);
    memcpy(layer->seen, forecast->sketch, sizeof layer->seen);
    layer->last_count = is_wide ? 0 : count;
    memcpy(layer->last, experts, layer->last_count * sizeof *experts);
    update_steps(forecast, layer);
}

float dp_forecast_steps(const dp_forecast *forecast, uint32_t layer, uint32_t expert)
{
    DP_ASSERT(layer < forecast->layer_count && expert < forecast->expert_count);
    return forecast->layers[layer].steps[expert];
}

const float *dp_forecast_layer(const dp_forecast *forecast, uint32_t layer)
{
    DP_ASSERT(layer < forecast->layer_count);
    return forecast->layers[layer].steps;
}

/* ---- keeping ---- */

/* A layer's part of them, in order: how long it learned, two rates an expert, and where that is
 * not too much, the weights. */
typedef struct layer_part {
    size_t rates, usual, sketch, weights; /* numbers of each */
} layer_part;

static layer_part part_of(const dp_forecast *f)
{
    size_t n = f->expert_count;
    layer_part part = { 2 * n, SKETCH, SKETCH * n, n * n };

    if ((part.usual + part.sketch + part.weights) * f->layer_count > DP_FORECAST_KEPT_MAX)
        part.usual = part.sketch = part.weights = 0;
    return part;
}

static size_t layer_numbers(const dp_forecast *f)
{
    layer_part part = part_of(f);

    return 1 + part.rates + part.usual + part.sketch + part.weights;
}

size_t dp_forecast_number_count(const dp_forecast *forecast)
{
    return layer_numbers(forecast) * forecast->layer_count;
}

static float *put(float *out, const float *numbers, size_t count)
{
    if (count)
        memcpy(out, numbers, count * sizeof *out);
    return out + count;
}

void dp_forecast_store(const dp_forecast *forecast, float *out)
{
    layer_part part = part_of(forecast);

    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        const layer_state *layer = &forecast->layers[l];
        *out++ = (float)layer->demand_count;
        out = put(out, layer->fast, part.rates); /* and slow, behind it */
        out = put(out, layer->usual, part.usual);
        out = put(out, layer->sketch_weights, part.sketch);
        out = put(out, layer->weights, part.weights);
    }
}

static bool all_within(const float *in, size_t count, float low, float high)
{
    for (size_t i = 0; i < count; i++)
        if (!(in[i] >= low && in[i] <= high)) /* nor is a NaN */
            return false;
    return true;
}

static const float *take(float *numbers, const float *in, size_t count)
{
    if (count)
        memcpy(numbers, in, count * sizeof *in);
    return in + count;
}

bool dp_forecast_restore(dp_forecast *forecast, const float *in)
{
    layer_part part = part_of(forecast);
    size_t size = layer_numbers(forecast), behind = 1 + part.rates + part.usual;

    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        const float *at = in + l * size;
        if (!all_within(at, 1, 0, (float)(2 * SLOW_HALF_LIFE)) ||
            !all_within(at + 1, part.rates, 0, 1) ||
            !all_within(at + 1 + part.rates, part.usual, -(float)forecast->expert_count,
                        (float)forecast->expert_count) ||
            !all_within(at + behind, part.sketch + part.weights, -WEIGHT_MAX, WEIGHT_MAX))
            return false;
    }
    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        layer_state *layer = &forecast->layers[l];
        layer->demand_count = (uint32_t)*in++;
        in = take(layer->fast, in, part.rates);
        in = take(layer->usual, in, part.usual);
        in = take(layer->sketch_weights, in, part.sketch);
        in = take(layer->weights, in, part.weights);
        memset(layer->error, 0, forecast->expert_count * sizeof(float)); /* of other weights */
        update_values(forecast, layer, NULL, 0);
        update_steps(forecast, layer);
    }
    return true;
}
