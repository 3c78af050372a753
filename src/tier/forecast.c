#include "tier/forecast.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

/* Found by replaying the demo model's trace; all are flat around these values
 * (docs/DECISIONS.md). */
#define DISCOUNT       0.8f
#define LEARNING_RATE  0.02f
#define SKETCH_RATE    0.003f
#define SKETCH_KEEP    0.5f /* of the sketch from one step to the next */
#define HASTE          2.0f /* added to the rate while young: HASTE / (HASTE_STEPS + demands) */
#define HASTE_STEPS    40
#define FAST_HALF_LIFE 96.0
#define SLOW_HALF_LIFE 768.0
#define RATE_MIN       1e-4f
#define WEIGHT_MAX     100.0f /* none that was learned comes near */
#define WIDE_SET_PART  2      /* a set above 1/2 of the layer says nothing about what follows */

#define SKETCH DP_FORECAST_SKETCH

typedef struct layer_state {
    float *fast, *slow;    /* [expert_count] rates of demand per step */
    float *value;          /* [expert_count] as of the last demand */
    float *steps;          /* [expert_count] what is told */
    float *weights;        /* [expert_count from][expert_count to], NULL: too many experts */
    float *sketch_weights; /* [SKETCH][expert_count]: how each sum of the sketch changes them */
    float usual[SKETCH];   /* what a set of this layer adds to the sketch on the average */
    float seen[SKETCH];    /* the sketch at the last demand */
    uint32_t *last;        /* [last_count] the set wanted last; 0: none that counts */
    uint32_t last_count;
    uint32_t demand_count; /* up to where rates are plain means */
} layer_state;

struct dp_forecast {
    uint32_t layer_count, expert_count;
    float fast_keep, slow_keep; /* of a rate, per step */
    float sketch_keep;          /* per demand of any layer */
    float *error;               /* [expert_count] scratch */
    float sketch[SKETCH];       /* what all layers wanted lately */
    layer_state *layers;
};

static bool open_layer(layer_state *layer, uint32_t experts)
{
    layer->fast = dp_alloc_zero((size_t)4 * experts, sizeof(float));
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
        f->sketch_keep = powf(SKETCH_KEEP, 1 / (float)DP_MAX(layer_count, 1));
        f->error = dp_alloc_zero(expert_count, sizeof(float));
        f->layers = dp_alloc_zero(layer_count, sizeof *f->layers);
        has_memory = f->error && f->layers;
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
    dp_free(forecast->error);
    dp_free(forecast);
}

static float base_of(const layer_state *layer, uint32_t e)
{
    return DP_MAX(0.5f * (layer->fast[e] + layer->slow[e]), RATE_MIN);
}

/* The signs of an expert in the sketch, one a bit: a hash of where it is (splitmix64). */
static uint64_t signs_of(uint32_t layer, uint32_t expert)
{
    uint64_t x = ((uint64_t)layer << 32 | expert) + UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

static void add_signs(float *sums, uint64_t signs, float amount)
{
    for (int j = 0; j < SKETCH; j++)
        sums[j] += signs >> j & 1 ? amount : -amount;
}

/* The layer's set goes into the sketch as far as it is unusual; older sets fade. */
static void update_sketch(dp_forecast *f, uint32_t layer_index, const uint32_t *experts,
                          uint32_t count)
{
    layer_state *layer = &f->layers[layer_index];
    float slow = DP_MIN(f->slow_keep, 1 - 1 / (float)(layer->demand_count + 2));
    float set[SKETCH] = { 0 };

    for (uint32_t i = 0; i < count; i++)
        add_signs(set, signs_of(layer_index, experts[i]), 1);
    for (int j = 0; j < SKETCH; j++) {
        f->sketch[j] *= f->sketch_keep;
        if (!count)
            continue;
        f->sketch[j] += (1 - SKETCH_KEEP) * (set[j] - layer->usual[j]);
        layer->usual[j] = slow * layer->usual[j] + (1 - slow) * set[j];
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
    for (int j = 0; j < SKETCH; j++) {
        const float *restrict row = layer->sketch_weights + (size_t)j * n;
        for (uint32_t e = 0; e < n; e++)
            value[e] += f->sketch[j] * row[e];
    }
    for (uint32_t e = 0; e < n; e++)
        value[e] = DP_MIN(DP_MAX(value[e], RATE_MIN), 1.0f);
}

/* Moves the rows of what was seen at the demand before by their part of the error. */
static void learn(dp_forecast *f, layer_state *layer)
{
    float haste = HASTE / (float)(HASTE_STEPS + layer->demand_count);
    float rate = (LEARNING_RATE + haste) / (float)DP_MAX(layer->last_count, 1);
    const float *restrict error = f->error;

    for (int j = 0; j < SKETCH; j++) {
        float *restrict row = layer->sketch_weights + (size_t)j * f->expert_count;
        float part = SKETCH_RATE / SKETCH * layer->seen[j];
        for (uint32_t e = 0; e < f->expert_count; e++)
            row[e] += part * error[e];
    }
    for (uint32_t i = 0; i < layer->last_count; i++) {
        float *restrict row = layer->weights + (size_t)layer->last[i] * f->expert_count;
        for (uint32_t e = 0; e < f->expert_count; e++)
            row[e] += rate * error[e];
    }
}

static void update_steps(dp_forecast *f, layer_state *layer)
{
    for (uint32_t e = 0; e < f->expert_count; e++)
        layer->steps[e] = DP_MIN(1 / layer->value[e], (float)DP_FORECAST_STEPS_MAX);
}

void dp_forecast_demand(dp_forecast *forecast, uint32_t layer_index, const uint32_t *experts,
                        uint32_t count)
{
    layer_state *layer = &forecast->layers[layer_index];
    bool is_wide = count > forecast->expert_count / WIDE_SET_PART || !layer->weights;
    float *error = forecast->error;

    DP_ASSERT(layer_index < forecast->layer_count && count <= forecast->expert_count);
    /* What came, plus what is in sight from here, less what was expected. */
    for (uint32_t e = 0; e < forecast->expert_count; e++)
        error[e] = -layer->value[e];
    for (uint32_t i = 0; i < count; i++)
        error[experts[i]] += 1 - DISCOUNT;
    update_sketch(forecast, layer_index, experts, is_wide ? 0 : count);
    update_rates(forecast, layer, experts, count);
    update_values(forecast, layer, experts, is_wide ? 0 : count);
    for (uint32_t e = 0; e < forecast->expert_count; e++)
        error[e] += DISCOUNT * layer->value[e];
    if (layer->demand_count > 1)
        learn(forecast, layer);
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
        update_values(forecast, layer, NULL, 0);
        update_steps(forecast, layer);
    }
    return true;
}
