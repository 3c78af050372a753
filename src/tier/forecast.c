#include "tier/forecast.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

/* Found by replaying the demo model's trace; all are flat around these values
 * (docs/DECISIONS.md). */
#define DISCOUNT       0.5f
#define LEARNING_RATE  0.02f
#define HASTE          2.0f /* added to the rate while young: HASTE / (HASTE_STEPS + demands) */
#define HASTE_STEPS    40
#define NEAR_SHARE     0.6f /* of the learned value in the rate; the rest is the base */
#define FAST_HALF_LIFE 96.0
#define SLOW_HALF_LIFE 768.0
#define RATE_MIN       1e-4f
#define WEIGHT_MAX     100.0f /* none that was learned comes near */
#define WIDE_SET_PART  2      /* a set above 1/2 of the layer says nothing about what follows */

typedef struct layer_state {
    float *fast, *slow; /* [expert_count] rates of demand per step */
    float *value;       /* [expert_count] as of the last demand */
    float *steps;       /* [expert_count] what is told */
    float *weights;     /* [expert_count from][expert_count to], NULL: too many experts */
    uint32_t *last;     /* [last_count] the set wanted last; 0: none that counts */
    uint32_t last_count;
    uint32_t demand_count; /* up to where rates are plain means */
} layer_state;

struct dp_forecast {
    uint32_t layer_count, expert_count;
    float fast_keep, slow_keep; /* of a rate, per step */
    float *error;               /* [expert_count] scratch */
    layer_state *layers;
};

static bool open_layer(layer_state *layer, uint32_t experts)
{
    layer->fast = dp_alloc_zero((size_t)4 * experts, sizeof(float));
    layer->last = dp_alloc_zero(experts, sizeof(uint32_t));
    if (experts <= DP_FORECAST_EXPERTS_MAX)
        layer->weights = dp_alloc_zero((size_t)experts * experts, sizeof(float));
    if (!layer->fast || !layer->last || (experts <= DP_FORECAST_EXPERTS_MAX && !layer->weights))
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
    }
    dp_free(forecast->layers);
    dp_free(forecast->error);
    dp_free(forecast);
}

static float base_of(const layer_state *layer, uint32_t e)
{
    return DP_MAX(0.5f * (layer->fast[e] + layer->slow[e]), RATE_MIN);
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
    for (uint32_t e = 0; e < n; e++)
        value[e] = DP_MIN(DP_MAX(value[e], RATE_MIN), 1.0f);
}

/* Moves the rows of the set before by their part of the error. */
static void learn(dp_forecast *f, layer_state *layer)
{
    float haste = HASTE / (float)(HASTE_STEPS + layer->demand_count);
    float rate = (LEARNING_RATE + haste) / (float)layer->last_count;

    for (uint32_t i = 0; i < layer->last_count; i++) {
        float *restrict row = layer->weights + (size_t)layer->last[i] * f->expert_count;
        const float *restrict error = f->error;
        for (uint32_t e = 0; e < f->expert_count; e++)
            row[e] += rate * error[e];
    }
}

static void update_steps(dp_forecast *f, layer_state *layer)
{
    for (uint32_t e = 0; e < f->expert_count; e++) {
        float rate = NEAR_SHARE * layer->value[e] + (1 - NEAR_SHARE) * base_of(layer, e);
        layer->steps[e] = DP_MIN(1 / rate, (float)DP_FORECAST_STEPS_MAX);
    }
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
    update_rates(forecast, layer, experts, count);
    update_values(forecast, layer, experts, is_wide ? 0 : count);
    for (uint32_t e = 0; e < forecast->expert_count; e++)
        error[e] += DISCOUNT * layer->value[e];
    if (layer->last_count)
        learn(forecast, layer);
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

static size_t kept_weights(const dp_forecast *f)
{
    size_t count = (size_t)f->expert_count * f->expert_count;

    return count * f->layer_count <= DP_FORECAST_KEPT_MAX ? count : 0;
}

/* Of a layer: how long it learned, two rates an expert, weights. */
static size_t layer_numbers(const dp_forecast *f)
{
    return 1 + (size_t)2 * f->expert_count + kept_weights(f);
}

size_t dp_forecast_number_count(const dp_forecast *forecast)
{
    return layer_numbers(forecast) * forecast->layer_count;
}

void dp_forecast_store(const dp_forecast *forecast, float *out)
{
    size_t experts = forecast->expert_count;

    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        const layer_state *layer = &forecast->layers[l];
        *out++ = (float)layer->demand_count;
        memcpy(out, layer->fast, experts * sizeof *out);
        memcpy(out + experts, layer->slow, experts * sizeof *out);
        if (layer->weights)
            memcpy(out + 2 * experts, layer->weights, kept_weights(forecast) * sizeof *out);
        out += 2 * experts + kept_weights(forecast);
    }
}

static bool all_within(const float *in, size_t count, float low, float high)
{
    for (size_t i = 0; i < count; i++)
        if (!(in[i] >= low && in[i] <= high)) /* nor is a NaN */
            return false;
    return true;
}

bool dp_forecast_restore(dp_forecast *forecast, const float *in)
{
    size_t experts = forecast->expert_count, size = layer_numbers(forecast);

    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        const float *at = in + l * size;
        if (!all_within(at, 1, 0, (float)(2 * SLOW_HALF_LIFE)) ||
            !all_within(at + 1, 2 * experts, 0, 1) ||
            !all_within(at + 1 + 2 * experts, kept_weights(forecast), -WEIGHT_MAX, WEIGHT_MAX))
            return false;
    }
    for (uint32_t l = 0; l < forecast->layer_count; l++) {
        layer_state *layer = &forecast->layers[l];
        const float *at = in + l * size;
        layer->demand_count = (uint32_t)at[0];
        memcpy(layer->fast, at + 1, experts * sizeof *at);
        memcpy(layer->slow, at + 1 + experts, experts * sizeof *at);
        if (layer->weights)
            memcpy(layer->weights, at + 1 + 2 * experts, kept_weights(forecast) * sizeof *at);
        update_values(forecast, layer, NULL, 0);
        update_steps(forecast, layer);
    }
    return true;
}
