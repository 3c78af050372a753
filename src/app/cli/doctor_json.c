#include "app/cli/doctor_report.h"
#include "app/cli/json_text.h"

#define TEXT(object, from, name)  dp_json_put_text(object, #name, (from)->name)
#define COUNT(object, from, name) dp_json_put_count(object, #name, (from)->name)
#define FLAG(object, from, name)  dp_json_put_flag(object, #name, (from)->name)
#define REAL(object, from, name)  dp_json_put_real(object, #name, (from)->name)

/* The object when all was put, else nothing. */
static json_t *whole(json_t *object, bool is_whole)
{
    if (object && is_whole)
        return object;
    json_decref(object);
    return NULL;
}

static json_t *cpu_json(const dp_cpu_info *c)
{
    json_t *o = json_object();

    return whole(o, o && TEXT(o, c, name) && TEXT(o, c, kernels) && TEXT(o, c, kernels_limit) &&
                        COUNT(o, c, package_count) && COUNT(o, c, core_count) &&
                        COUNT(o, c, thread_count) && FLAG(o, c, has_smt) &&
                        COUNT(o, c, affinity_count) && COUNT(o, c, quota_count) &&
                        COUNT(o, c, usable_count) && COUNT(o, c, l1_bytes) &&
                        COUNT(o, c, l2_bytes) && COUNT(o, c, l3_bytes) && COUNT(o, c, l1_count) &&
                        COUNT(o, c, l2_count) && COUNT(o, c, l3_count));
}

static json_t *nodes_json(const dp_memory_info *m)
{
    json_t *list = json_array();

    for (uint32_t i = 0; list && i < m->node_count; i++) {
        const dp_memory_node *n = &m->nodes[i];
        json_t *o = json_object();

        o = whole(o, o && COUNT(o, n, id) && COUNT(o, n, bytes) && COUNT(o, n, thread_count) &&
                         TEXT(o, n, kind));
        if (json_array_append_new(list, o))
            return whole(list, false);
    }
    return list;
}

static json_t *memory_json(const dp_memory_info *m)
{
    json_t *o = json_object();

    return whole(o, o && COUNT(o, m, total_bytes) && COUNT(o, m, available_bytes) &&
                        COUNT(o, m, room_bytes) && COUNT(o, m, cgroup_limit_bytes) &&
                        COUNT(o, m, cgroup_used_bytes) && COUNT(o, m, swap_bytes) &&
                        COUNT(o, m, swap_free_bytes) && TEXT(o, m, overcommit) &&
                        FLAG(o, m, has_pressure) && TEXT(o, m, huge_pages) &&
                        REAL(o, m, bandwidth_bytes_s) && COUNT(o, m, bandwidth_threads) &&
                        dp_json_put(o, "nodes", nodes_json(m)));
}

static json_t *gpu_json(const dp_gpu_info *g)
{
    json_t *o = json_object();

    return whole(o,
                 o && TEXT(o, g, name) && TEXT(o, g, vendor) && TEXT(o, g, source) &&
                     TEXT(o, g, device) && dp_json_put_text(o, "kind", dp_gpu_kind_name(g->kind)) &&
                     COUNT(o, g, own_bytes) && COUNT(o, g, shared_bytes) && COUNT(o, g, vendor_id));
}

static json_t *gpus_json(const dp_gpus_info *g)
{
    json_t *o = json_object(), *list = json_array(), *evidence = json_array();
    bool is_whole = o && list && evidence;

    for (uint32_t i = 0; is_whole && i < g->gpu_count; i++)
        is_whole = !json_array_append_new(list, gpu_json(&g->gpus[i]));
    for (uint32_t i = 0; is_whole && i < g->evidence_count; i++)
        is_whole = !json_array_append_new(evidence, json_string(g->evidence[i]));
    is_whole = is_whole && dp_json_put_text(o, "memory_model", dp_memory_model_name(g->model)) &&
               FLAG(o, g, has_vulkan) && !json_object_set(o, "evidence", evidence) &&
               !json_object_set(o, "gpus", list);
    json_decref(list);
    json_decref(evidence);
    return whole(o, is_whole);
}

static json_t *row_json(const dp_probe_row *r)
{
    json_t *o = json_object();

    return whole(o, o && TEXT(o, r, engine) && FLAG(o, r, is_direct) &&
                        COUNT(o, r, request_bytes) && COUNT(o, r, depth) && REAL(o, r, bytes_s));
}

static json_t *latency_json(const dp_probe_latency *l)
{
    json_t *o = json_object();

    return whole(o, o && COUNT(o, l, size_bytes) && COUNT(o, l, count) && COUNT(o, l, p50_ns) &&
                        COUNT(o, l, p99_ns) && COUNT(o, l, mean_ns));
}

json_t *dp_doctor_probe_json(const dp_drive_probe *p)
{
    json_t *o = json_object(), *rows = json_array(), *latencies = json_array();
    bool is_whole = o && rows && latencies;

    for (uint32_t i = 0; is_whole && i < p->row_count; i++)
        if (p->rows[i].bytes_s > 0)
            is_whole = !json_array_append_new(rows, row_json(&p->rows[i]));
    for (uint32_t i = 0; is_whole && i < p->latency_count; i++)
        is_whole = !json_array_append_new(latencies, latency_json(&p->latencies[i]));
    is_whole = is_whole && TEXT(o, p, machine) && TEXT(o, p, kernel) && TEXT(o, p, device) &&
               TEXT(o, p, fs) && COUNT(o, p, version) && FLAG(o, p, is_quick) &&
               FLAG(o, p, is_saved) && TEXT(o, p, skipped) && COUNT(o, p, file_bytes) &&
               REAL(o, p, seconds) && REAL(o, p, sustained_bytes_s) &&
               dp_json_put(o, "best", p->best.bytes_s > 0 ? row_json(&p->best) : json_null()) &&
               !json_object_set(o, "latencies", latencies) && !json_object_set(o, "rows", rows);
    json_decref(rows);
    json_decref(latencies);
    return whole(o, is_whole);
}

static json_t *drive_json(const dp_drive_info *d, const dp_drive_probe *probe)
{
    json_t *o = json_object();

    return whole(o, o && TEXT(o, d, path) && TEXT(o, d, mount) && TEXT(o, d, source) &&
                        TEXT(o, d, fs) && TEXT(o, d, device) && TEXT(o, d, model) &&
                        TEXT(o, d, layers) && FLAG(o, d, is_network) && FLAG(o, d, is_memory) &&
                        FLAG(o, d, is_layer) && FLAG(o, d, is_encrypted) &&
                        FLAG(o, d, is_rotational) && COUNT(o, d, device_count) &&
                        COUNT(o, d, size_bytes) && COUNT(o, d, free_bytes) &&
                        COUNT(o, d, read_ahead_bytes) && FLAG(o, d, has_direct) &&
                        COUNT(o, d, direct_offset_align) && COUNT(o, d, direct_memory_align) &&
                        dp_json_put(o, "probe", dp_doctor_probe_json(probe)));
}

json_t *dp_doctor_json(const dp_doctor_parts *parts)
{
    const dp_machine_info *m = &parts->machine;
    json_t *o = json_object(), *drives = json_array();
    bool is_whole = o && drives;

    for (size_t i = 0; is_whole && i < parts->drive_count; i++)
        is_whole = !json_array_append_new(drives, drive_json(&parts->drives[i], &parts->probes[i]));
    is_whole = is_whole && TEXT(o, m, id) && TEXT(o, m, kernel) &&
               dp_json_put(o, "cpu", cpu_json(&m->cpu)) &&
               dp_json_put(o, "memory", memory_json(&m->memory)) &&
               dp_json_put(o, "devices", gpus_json(&m->gpus)) &&
               !json_object_set(o, "drives", drives);
    json_decref(drives);
    return whole(o, is_whole);
}
