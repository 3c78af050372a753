/* predict.h - how long a token takes, from what a plan holds and what a machine was measured
 * to do.
 *
 * Room     Pure arithmetic. A token multiplies every weight it uses once, from memory: what
 *          its products take there, one by one, is what a resident model runs at. What is not
 *          resident comes from the drive first.
 *
 *          Dense      pages that pass through are read ahead while others are
 *                     computed with, so that the slower of drive and processor counts.
 *          Mixtures   a layer's missing experts are asked for once its router has spoken. Those
 *                     that are there are computed with meanwhile, then each of the missing ones
 *                     as it comes. How many are missing differs from layer to layer and token
 *                     to token, as if each were drawn for itself (binomially): that a layer
 *                     lacks none is as good as its turn, and four are more than one. With
 *                     the look-ahead they are asked for some layers before, and the drive rests
 *                     only while the head is computed.
 *
 * Without knowledge of what a text asks for, every expert is as likely as any other, so
 * that the share of experts held is the share of hits. Texts do have favourites: a
 * policy hits more often (docs/DECISIONS.md), which saved heat can tell.
 */
#ifndef DP_ENGINE_PREDICT_H
#define DP_ENGINE_PREDICT_H

#include "doppler/doctor.h"
#include "doppler/inspect.h"

typedef struct dp_predict_request {
    bool is_mixture;
    uint64_t always_bytes, always_held; /* used by every token; of them in memory */
    uint64_t expert_bytes;              /* of one, in the mean */
    uint32_t expert_layers, expert_used;
    double hit_rate;             /* of experts */
    bool looks_ahead;            /* for experts */
    double memory_bytes_s;       /* read by all threads */
    double compute_s;            /* to multiply a token's weights, were they in caches */
    double step_s;               /* to multiply them from memory, product by product ... */
    double expert_s;             /* ... of which one expert of one layer takes so much ... */
    double head_s;               /* ... and the head */
    const dp_drive_probe *drive; /* NULL: not known */
} dp_predict_request;

/* Fills everything but memory_bytes_s and hit_is_from_heat. */
void dp_predict(dp_prediction *out, const dp_predict_request *request);

/* Seconds until one read of so many bytes has come, by the probe's latencies: straight lines
 * between them, and the best rate beyond. */
double dp_predict_read_s(const dp_drive_probe *drive, double bytes);

#endif
