#include "engine/predict.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

/* What a drive gives of the probe's rates while a step computes: who sends and takes requests
 * shares the processors with it, and what arrives shares memory's bandwidth. An efficiency, not
 * measured where the plan is made; found 0.7 to 0.9 (docs/doctor.md). */
#define BESIDE_COMPUTING 0.8

double dp_predict_read_s(const dp_drive_probe *drive, double bytes)
{
    double at = 0, at_s = 0;

    if (bytes <= 0)
        return 0;
    for (uint32_t i = 0; i < drive->latency_count; i++) {
        double size = (double)drive->latencies[i].size_bytes;
        double size_s = (double)drive->latencies[i].mean_ns / 1e9;

        if (i == 0)
            at_s = size_s; /* less than the smallest takes as long */
        if (bytes <= size)
            return at_s + (size_s - at_s) * DP_MAX(bytes - at, 0) / (size - at);
        at = size;
        at_s = size_s;
    }
    return drive->sustained_bytes_s > 0 ? at_s + (bytes - at) / drive->sustained_bytes_s : 0;
}

/* A layer whose `used` experts lack `missed`: until the last one that comes is computed with. A
 * page's first bytes take longer than those behind them, with every page: a queue that is kept
 * full would hide that, one of a page's few requests does not. */
static double experts_s(const dp_predict_request *r, uint32_t missed)
{
    double page_s = missed ? dp_predict_read_s(r->drive, (double)r->expert_bytes) : 0;
    double at_s = r->expert_s * (r->expert_used - missed);

    for (uint32_t i = 1; i <= missed; i++)
        at_s = DP_MAX(at_s, i * page_s / BESIDE_COMPUTING) + r->expert_s;
    return at_s;
}

/* The mean of what a layer's experts take more than their computing: it waits so long. */
static double layer_waits_s(const dp_predict_request *r)
{
    double miss = 1 - r->hit_rate, chance, sum_s = 0;

    for (uint32_t missed = 1; missed <= r->expert_used; missed++) {
        chance = pow(miss, missed) * pow(r->hit_rate, r->expert_used - missed);
        for (uint32_t i = 0; i < missed; i++) /* in how many ways */
            chance *= (double)(r->expert_used - i) / (i + 1);
        sum_s += chance * (experts_s(r, missed) - r->expert_s * r->expert_used);
    }
    return sum_s;
}

static void name_bottleneck(dp_prediction *out)
{
    const char *name = out->memory_s >= out->compute_s ? "memory" : "compute";

    if (out->drive_s > DP_MAX(out->step_s, DP_MAX(out->memory_s, out->compute_s)))
        name = "drive";
    strcpy(out->bottleneck, name);
}

void dp_predict(dp_prediction *out, const dp_predict_request *r)
{
    double experts = (double)r->expert_bytes * r->expert_used * r->expert_layers;
    double streamed = (double)(r->always_bytes - DP_MIN(r->always_held, r->always_bytes));
    double missed = r->is_mixture ? experts * (1 - r->hit_rate) : 0;
    double cpu_s, streamed_s;

    memset(out, 0, sizeof *out);
    out->hit_rate = r->is_mixture ? r->hit_rate : 0;
    out->token_bytes = r->always_bytes + (uint64_t)(r->is_mixture ? experts : 0);
    out->drive_bytes = (uint64_t)(streamed + missed);
    out->compute_s = r->compute_s;
    out->step_s = r->step_s;
    if (r->memory_bytes_s > 0)
        out->memory_s = (double)out->token_bytes / r->memory_bytes_s;
    cpu_s = DP_MAX(out->step_s, DP_MAX(out->memory_s, out->compute_s));
    if (out->drive_bytes && (!r->drive || r->drive->sustained_bytes_s <= 0))
        return; /* nobody knows */
    if (out->drive_bytes)
        out->drive_s = (streamed + missed) / r->drive->sustained_bytes_s;
    streamed_s = streamed > 0 ? streamed / r->drive->sustained_bytes_s / BESIDE_COMPUTING : 0;
    out->token_s = DP_MAX(cpu_s, streamed_s);
    if (missed > 0) /* what streams and what is asked for do not come at the same time */
        out->token_s = cpu_s + r->expert_layers * layer_waits_s(r) + streamed_s;
    out->token_s = DP_MAX(out->token_s, out->drive_s);
    name_bottleneck(out);
    if (out->token_s > 0)
        out->tok_s = 1 / out->token_s;
}
