/* forecast.h - when an expert will be wanted again, learned from the demands themselves.
 *
 * Room     Keeps, for every layer, how often each expert is wanted (two aged
 *          rates) and how the set wanted now changes that: a matrix
 *          weights[from][to], learned online. Gives for each expert the steps
 *          until its next demand. Policies order pages by it (policy "next").
 *
 * Idea     value(e) is what g^(T - 1) is expected to be, T the steps until e's next demand: the
 *          value of e's rate, plus the weights of the experts wanted now, plus what follows
 *          from a sketch: 128 sums to which every expert that any layer wanted lately adds
 *          1 or -1, by a hash of which it is, less what that layer usually adds (a random
 *          projection: Johnson and Lindenstrauss 1984); half of them remember the last step, a
 *          quarter the last few, a quarter a dozen or two. After each step value is compared
 *          with what came: 1 if e did, else g times the value seen from there (temporal
 *          differences, Sutton 1988), and what it was summed from is moved by a part of the
 *          error. g = 0.82 looks some five or six steps ahead, about as long as a page stays.
 *
 * Cost     A demand for k of n experts: about (2 k + 256) n multiply-adds, and 4 n^2 + 512 n
 *          bytes of weights a layer.
 *
 * Threads  One at a time.
 */
#ifndef DP_TIER_FORECAST_H
#define DP_TIER_FORECAST_H

#include "base/base.h"
#include "doppler/status.h"

#define DP_FORECAST_EXPERTS_MAX 1024 /* 4 MiB of weights a layer; more go without */
#define DP_FORECAST_SKETCH      128  /* sums in the sketch: one a bit of an expert's signs */
#define DP_FORECAST_STEPS_MAX   1e5  /* until a next demand: "not in sight" */

typedef struct dp_forecast dp_forecast;

/* DP_E_NOMEM. Layers are 0 .. layer_count - 1, experts 0 .. expert_count - 1 of each. */
dp_status dp_forecast_open(dp_forecast **out, uint32_t layer_count, uint32_t expert_count,
                           dp_error *err);
void dp_forecast_close(dp_forecast *forecast); /* NULL is fine */

/* A step wants these experts of a layer, distinct; once a step and layer. */
void dp_forecast_demand(dp_forecast *forecast, uint32_t layer, const uint32_t *experts,
                        uint32_t count);

/* Steps from the layer's last demand to the next one of the expert: >= 1, at most
 * DP_FORECAST_STEPS_MAX. */
float dp_forecast_steps(const dp_forecast *forecast, uint32_t layer, uint32_t expert);
/* The whole layer, [expert_count]; borrowed until its next demand. */
const float *dp_forecast_layer(const dp_forecast *forecast, uint32_t layer);

/* What was learned, as numbers, and back. Weights go along when they are few
 * (DP_FORECAST_KEPT_MAX numbers). restore is false, and nothing has changed, when one is out of
 * bounds. */
#define DP_FORECAST_KEPT_MAX ((size_t)1 << 20)
size_t dp_forecast_number_count(const dp_forecast *forecast);
void dp_forecast_store(const dp_forecast *forecast, float *out);
bool dp_forecast_restore(dp_forecast *forecast, const float *in);

#endif
