#include "engine/predict.h"

#include <string.h>

#include "base/base.h"

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

static void name_bottleneck(dp_prediction *out)
{
    const char *name = out->memory_s >= out->compute_s ? "memory" : "compute";

    if (out->drive_s > out->memory_s && out->drive_s > out->compute_s)
        name = "drive";
    strcpy(out->bottleneck, name);
}

void dp_predict(dp_prediction *out, const dp_predict_request *r)
{
    double missed = (1 - r->hit_rate) * r->expert_used; /* experts a layer */
    double experts = (double)r->expert_bytes * r->expert_used * r->expert_layers;
    double streamed = (double)(r->always_bytes - DP_MIN(r->always_held, r->always_bytes));
    double cpu_s;

    memset(out, 0, sizeof *out);
    out->hit_rate = r->is_mixture ? r->hit_rate : 0;
    out->token_bytes = r->always_bytes + (uint64_t)(r->is_mixture ? experts : 0);
    out->drive_bytes = (uint64_t)(streamed + (r->is_mixture ? experts * (1 - r->hit_rate) : 0));
    out->compute_s = r->compute_s;
    if (r->memory_bytes_s > 0)
        out->memory_s = (double)out->token_bytes / r->memory_bytes_s;
    cpu_s = DP_MAX(out->memory_s, out->compute_s);
    if (out->drive_bytes && (!r->drive || r->drive->sustained_bytes_s <= 0))
        return; /* nobody knows */
    if (streamed > 0)
        out->drive_s = streamed / r->drive->sustained_bytes_s;
    if (!r->is_mixture) {
        out->token_s = DP_MAX(cpu_s, out->drive_s);
    } else {
        /* Fewer than one expert a layer: some layers wait, others do not. And what a drive gives
         * to one read after a pause it may not be able to go on with. */
        if (missed > 0)
            out->drive_s +=
                DP_MAX(r->expert_layers * DP_MIN(missed, 1) *
                           dp_predict_read_s(r->drive, (double)r->expert_bytes * DP_MAX(missed, 1)),
                       experts * (1 - r->hit_rate) / r->drive->sustained_bytes_s);
        out->token_s = cpu_s + out->drive_s;
    }
    name_bottleneck(out);
    if (out->token_s > 0)
        out->tok_s = 1 / out->token_s;
}
