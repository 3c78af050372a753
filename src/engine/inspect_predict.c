#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/sysmem.h"
#include "engine/inspect_impl.h"
#include "engine/predict.h"
#include "engine/rates.h"
#include "model/lookahead.h"

#define MEASURE_NS   ((uint64_t)40000000) /* for each type of weights, and each shape */
#define REGION_BYTES (256 * DP_MIB)       /* more than caches hold ... */
#define REGION_LEAST (16 * DP_MIB)

/* Bytes of tensors a token uses, experts apart from the rest. */
typedef struct use {
    dp_rates_use *products; /* [tensor count] */
    uint64_t always_bytes, expert_bytes;
    uint64_t head_bytes; /* of always_bytes */
    uint32_t expert_layers;
} use;

/* Tensors of experts are stacks of as many matrices as there are experts. */
static bool is_experts(const dp_tensor *t, const dp_hparams *hp)
{
    return hp->expert_count > 1 && t->dim_count >= 3 && t->ne[2] == hp->expert_count;
}

static void measure_use(use *u, const dp_inspect *in)
{
    const dp_hparams *hp = &in->model->hp;

    for (size_t i = 0; i < dp_gguf_tensor_count(in->gguf); i++) {
        const dp_tensor *t = dp_gguf_tensor(in->gguf, i);

        u->products[i] = (dp_rates_use){ 1, t->ne[1] * t->ne[2] * t->ne[3] };
        if (is_experts(t, hp)) {
            u->products[i] = (dp_rates_use){ hp->expert_used, t->ne[1] };
            u->expert_bytes += t->size / hp->expert_count * hp->expert_used;
        } else if (!in->model->is_tied && dp_str_is(t->name, "token_embd.weight")) {
            u->products[i].products = 0; /* looked up, a row a token */
        } else {
            u->always_bytes += t->size;
        }
    }
    u->head_bytes = in->model->head.rows * in->model->head.row_bytes;
    for (uint32_t l = 0; l < hp->layer_count; l++)
        u->expert_layers += hp->expert_count && in->model->layers[l].expert_first != DP_PAGE_NONE;
}

/* A model that caches hold is read from caches. */
static uint64_t region_for(const use *u)
{
    dp_sysmem memory;
    uint64_t bytes = DP_MIN(dp_align_up(u->always_bytes + u->expert_bytes, DP_MIB), REGION_BYTES);

    dp_sysmem_read(&memory, "");
    return DP_MAX(DP_MIN(bytes, dp_sysmem_room(&memory) / 4), REGION_LEAST);
}

static dp_status measure_rates(dp_predict_request *r, const use *u, const dp_inspect *in,
                               const dp_options *options, dp_error *err)
{
    dp_rates_config config = { .kernels = dp_options_text(options, DP_OPT_KERNELS),
                               .threads = (uint32_t)dp_options_u64(options, DP_OPT_THREADS),
                               .measure_ns = MEASURE_NS,
                               .region_bytes = region_for(u) };
    dp_memory_info memory = { 0 };
    dp_rates rates;
    dp_status st;

    if (config.threads == 0)
        config.threads = dp_cpu_get()->thread_count;
    st = dp_doctor_bandwidth(&memory, config.threads, err);
    if (!st)
        st = dp_rates_measure(&rates, in->gguf, u->products, &config, err);
    if (st)
        return st;
    r->memory_bytes_s = memory.bandwidth_bytes_s;
    r->compute_s = rates.compute_s;
    r->step_s = rates.step_s;
    return DP_OK;
}

dp_status dp_inspect_predict(const dp_inspect *in, const dp_options *options,
                             const dp_plan_info *plan, const struct dp_drive_probe *drive,
                             dp_prediction *out, dp_error *err)
{
    use u = { .products = dp_alloc(dp_gguf_tensor_count(in->gguf), sizeof(dp_rates_use)) };
    dp_predict_request r = { .drive = drive };
    double byte_s;
    dp_status st;

    memset(out, 0, sizeof *out);
    if (!u.products)
        return dp_fail(err, DP_E_NOMEM, "inspect: no memory to predict");
    if (!in->model || !plan->fits) {
        st = dp_fail(err, DP_E_INVALID, "inspect: a plan that does not fit has no speed");
        goto done;
    }
    measure_use(&u, in);
    st = measure_rates(&r, &u, in, options, err);
    if (st)
        goto done;
    r.is_mixture = u.expert_layers > 0;
    r.looks_ahead = dp_options_choice(options, DP_OPT_LOOK_AHEAD) != DP_LOOKAHEAD_OFF;
    r.always_bytes = u.always_bytes;
    r.always_held = plan->pins_always ? u.always_bytes : DP_MIN(plan->kept_bytes, u.always_bytes);
    if (r.is_mixture) {
        r.expert_layers = u.expert_layers;
        r.expert_used = in->model->hp.expert_used;
        r.expert_bytes = u.expert_bytes / ((uint64_t)u.expert_layers * r.expert_used);
        byte_s = r.step_s / (double)(u.always_bytes + u.expert_bytes);
        r.expert_s = byte_s * (double)r.expert_bytes;
        r.head_s = byte_s * (double)u.head_bytes;
        r.hit_rate = plan->heat_share >= 0
                         ? plan->heat_share
                         : (double)plan->experts_held / DP_MAX(plan->experts_total, 1u);
    }
    dp_predict(out, &r);
    out->memory_bytes_s = r.memory_bytes_s;
    out->hit_is_from_heat = r.is_mixture && plan->heat_share >= 0;
done:
    dp_free(u.products);
    return st;
}
