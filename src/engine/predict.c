#include "engine/predict.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

/* What a drive gives of the probe's rates while a step computes: where kernels set the pace, and
 * where memory does, which what arrives shares with them (docs/DECISIONS.md). Efficiencies, not
 * measured where the plan is made. */
#define BESIDE_KERNELS 0.9
#define BESIDE_MEMORY  0.7

/* How much of a step's computing its products are: the rest is attention, norms, routers and
 * threads that wait for each other (perf; resident runs of docs/benchmarks.md). */
#define PRODUCTS_PART 0.88

/* Layers, in the mean, from when the look-ahead asks for an expert until it is wanted. */
#define LEAD_LAYERS 1.5

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

/* What the parts of a token have in common. */
typedef struct step_times {
    double cpu_s;  /* its computing */
    double beside; /* of the drive's rates, meanwhile */
    double page_s; /* an expert's read, meanwhile */
} step_times;

static step_times times_of(const dp_predict_request *r, const dp_prediction *p)
{
    double products_s = DP_MAX(p->step_s, DP_MAX(p->memory_s, p->compute_s));
    double kernels = products_s > 0 ? p->compute_s / products_s : 1;
    step_times t = { products_s / PRODUCTS_PART,
                     BESIDE_MEMORY + (BESIDE_KERNELS - BESIDE_MEMORY) * kernels, 0 };

    if (r->is_mixture && r->drive)
        t.page_s = dp_predict_read_s(r->drive, (double)r->expert_bytes) / t.beside;
    return t;
}

/* A layer whose `used` experts lack `missed`, which were asked for lead_s ago: until the last one
 * that comes is computed with. A page's first bytes take longer than those behind them, with
 * every page: a queue that is kept full would hide that, one of a page's few requests does not. */
static double experts_s(const dp_predict_request *r, double page_s, uint32_t missed, double lead_s)
{
    double at_s = r->expert_s * (r->expert_used - missed);

    for (uint32_t i = 1; i <= missed; i++)
        at_s = DP_MAX(at_s, i * page_s - lead_s) + r->expert_s;
    return at_s;
}

/* The mean of what a layer's experts take more than their computing: it waits so long. */
static double layer_waits_s(const dp_predict_request *r, double page_s, double lead_s)
{
    double miss = 1 - r->hit_rate, chance, sum_s = 0;

    for (uint32_t missed = 1; missed <= r->expert_used; missed++) {
        chance = pow(miss, missed) * pow(r->hit_rate, r->expert_used - missed);
        for (uint32_t i = 0; i < missed; i++) /* in how many ways */
            chance *= (double)(r->expert_used - i) / (i + 1);
        sum_s += chance * (experts_s(r, page_s, missed, lead_s) - r->expert_s * r->expert_used);
    }
    return sum_s;
}

/* A token of a mixture whose layers ask when their routers have spoken. */
static double asking_s(const dp_predict_request *r, const step_times *t)
{
    return t->cpu_s + r->expert_layers * layer_waits_s(r, t->page_s, 0);
}

/* With the look-ahead: a layer's experts are asked for some layers before, the first ones' with
 * the token. The drive is never without more to do, but for the head, which finds out what token
 * comes next. */
static double ahead_s(const dp_predict_request *r, const step_times *t, double missed)
{
    double head_s = r->head_s / PRODUCTS_PART;
    double layer_s = (t->cpu_s - head_s) / r->expert_layers;
    double layers_s = t->cpu_s - head_s;

    for (uint32_t i = 0; i < r->expert_layers; i++)
        layers_s += layer_waits_s(r, t->page_s, DP_MIN(i + 0.5, LEAD_LAYERS) * layer_s);
    return head_s + DP_MAX(layers_s, missed / r->drive->sustained_bytes_s / t->beside);
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
    double streamed_s;
    step_times t;

    memset(out, 0, sizeof *out);
    out->hit_rate = r->is_mixture ? r->hit_rate : 0;
    out->token_bytes = r->always_bytes + (uint64_t)(r->is_mixture ? experts : 0);
    out->drive_bytes = (uint64_t)(streamed + missed);
    out->compute_s = r->compute_s;
    out->step_s = r->step_s;
    if (r->memory_bytes_s > 0)
        out->memory_s = (double)out->token_bytes / r->memory_bytes_s;
    t = times_of(r, out);
    if (out->drive_bytes && (!r->drive || r->drive->sustained_bytes_s <= 0))
        return; /* nobody knows */
    if (out->drive_bytes)
        out->drive_s = (streamed + missed) / r->drive->sustained_bytes_s;
    streamed_s = streamed > 0 ? streamed / r->drive->sustained_bytes_s / t.beside : 0;
    out->token_s = DP_MAX(t.cpu_s, streamed_s);
    if (missed > 0) /* what streams and what is asked for do not come at the same time */
        out->token_s = (r->looks_ahead ? ahead_s(r, &t, missed) : asking_s(r, &t)) + streamed_s;
    out->token_s = DP_MAX(out->token_s, out->drive_s);
    name_bottleneck(out);
    if (out->token_s > 0)
        out->tok_s = 1 / out->token_s;
}
