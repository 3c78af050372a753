#include <string.h>
#include "app/cli/doctor_report.h"
#include "base/str.h"

#define SIZE(bytes) dp_format_size((char[16]){ 0 }, bytes) /* lives as long as its block */
#define GB          1e9

static dp_status write_cpu(const dp_cpu_info *c, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, "processor     %s: %u cores, %u threads%s, %u usable",
                       c->name[0] ? c->name : "unknown", c->core_count, c->thread_count,
                       c->has_smt ? " (SMT)" : "", c->usable_count);
    if (!st && c->affinity_count < c->thread_count)
        st = dp_buf_format(out, ", affinity allows %u", c->affinity_count);
    if (!st && c->quota_count)
        st = dp_buf_format(out, ", cgroup quota %u", c->quota_count);
    if (!st)
        st = dp_buf_format(out, "\nkernels       %s%s%s\n", c->kernels,
                           c->kernels_limit[0] ? ": " : ", the best there is", c->kernels_limit);
    if (!st && c->l1_bytes)
        st = dp_buf_format(out, "caches        %u x %s, %u x %s, %u x %s\n", c->l1_count,
                           SIZE(c->l1_bytes), c->l2_count, SIZE(c->l2_bytes), c->l3_count,
                           SIZE(c->l3_bytes));
    return st;
}

static dp_status write_memory(const dp_memory_info *m, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, "memory        %s, %s available, room for %s", SIZE(m->total_bytes),
                       SIZE(m->available_bytes), SIZE(m->room_bytes));
    if (!st && m->cgroup_limit_bytes)
        st = dp_buf_format(out, "; cgroup limit %s, %s used", SIZE(m->cgroup_limit_bytes),
                           SIZE(m->cgroup_used_bytes));
    if (!st && m->bandwidth_bytes_s > 0)
        st = dp_buf_format(out, "\nbandwidth     %.1f GB/s read by %u threads",
                           m->bandwidth_bytes_s / GB, m->bandwidth_threads);
    if (!st)
        st = dp_buf_format(out,
                           "\nsystem        swap %s, overcommit %s, huge pages %s, pressure %s\n",
                           SIZE(m->swap_bytes), m->overcommit[0] ? m->overcommit : "unknown",
                           m->huge_pages[0] ? m->huge_pages : "unknown",
                           m->has_pressure ? "reported" : "not reported");
    for (uint32_t i = 0; m->node_count > 1 && i < m->node_count && !st; i++)
        st = dp_buf_format(out, "node          %u: %s %s, %u threads near\n", m->nodes[i].id,
                           SIZE(m->nodes[i].bytes), m->nodes[i].kind, m->nodes[i].thread_count);
    return st;
}

static const char *verdict(dp_memory_model model)
{
    static const char *const texts[] = {
        [DP_MEMORY_UNKNOWN] = "unknown: a device is there, and nothing tells how it reaches memory",
        [DP_MEMORY_HOST] = "host: the processor computes, in its own memory",
        [DP_MEMORY_SEPARATE] = "separate: devices have memory of their own, bytes must be copied",
        [DP_MEMORY_UNIFIED] = "unified: devices compute in the system's memory",
        [DP_MEMORY_COHERENT] = "coherent: two memories, one address space",
    };

    return texts[model];
}

static dp_status write_gpus(const dp_gpus_info *g, dp_buf *out)
{
    dp_status st = dp_buf_format(out, "memory model  %s\n", verdict(g->model));

    for (uint32_t i = 0; i < g->evidence_count && !st; i++)
        st = dp_buf_format(out, "              - %s\n", g->evidence[i]);
    for (uint32_t i = 0; i < g->gpu_count && !st; i++) {
        const dp_gpu_info *gpu = &g->gpus[i];

        st = dp_buf_format(out, "device        %s, %s", gpu->name, dp_gpu_kind_name(gpu->kind));
        if (!st && gpu->own_bytes)
            st = dp_buf_format(out, ", own memory %s", SIZE(gpu->own_bytes));
        if (!st && gpu->shared_bytes)
            st = dp_buf_format(out, ", shared %s", SIZE(gpu->shared_bytes));
        if (!st)
            st = dp_buf_format(out, " (%s%s%s)\n", gpu->source, gpu->device[0] ? ", " : "",
                               gpu->device);
    }
    return st;
}

static dp_status write_kind(const dp_drive_info *d, dp_buf *out)
{
    dp_status st = DP_OK;

    if (d->is_network)
        st = dp_buf_text(out, ", a server's");
    if (!st && d->is_memory)
        st = dp_buf_text(out, ", memory");
    if (!st && d->is_layer)
        st = dp_buf_text(out, ", over another file system");
    if (!st && d->is_encrypted)
        st = dp_buf_text(out, ", encrypted");
    if (!st && d->device_count > 1)
        st = dp_buf_format(out, ", %u drives", d->device_count);
    if (!st && d->device[0] && d->is_rotational)
        st = dp_buf_text(out, ", rotational (as the system says)");
    return st;
}

/* Rows of one engine and mode as a table: requests down, depths across. */
static dp_status write_grid(const dp_drive_probe *p, dp_buf *out)
{
    dp_status st =
        dp_buf_text(out, "              GB/s by depth       1     2     4     8    16    32\n");

    for (uint64_t request = 256 << 10; request <= (16 << 20) && !st; request *= 2) {
        bool is_there = false;

        for (uint32_t i = 0; i < p->row_count; i++)
            is_there = is_there || p->rows[i].request_bytes == request;
        if (!is_there)
            continue;
        st = dp_buf_format(out, "              %-8s requests", SIZE(request));
        for (uint32_t depth = 1; depth <= 32 && !st; depth *= 2) {
            const dp_probe_row *row = NULL;

            for (uint32_t i = 0; i < p->row_count && !row; i++)
                if (p->rows[i].request_bytes == request && p->rows[i].depth == depth &&
                    p->rows[i].bytes_s > 0 && p->rows[i].is_direct == p->best.is_direct &&
                    strcmp(p->rows[i].engine, p->best.engine) == 0)
                    row = &p->rows[i];
            st = row ? dp_buf_format(out, " %5.2f", row->bytes_s / GB) : dp_buf_text(out, "     -");
        }
        if (!st)
            st = dp_buf_text(out, "\n");
    }
    return st;
}

/* The fastest of the other ways, to see what direct reads and io_uring are worth. */
static dp_status write_others(const dp_drive_probe *p, dp_buf *out)
{
    dp_status st = DP_OK;

    for (int way = 0; way < 4 && !st; way++) {
        bool is_direct = way & 1;
        const char *engine = way & 2 ? "io_uring" : "threads";
        double best = 0;

        if (is_direct == p->best.is_direct && strcmp(engine, p->best.engine) == 0)
            continue;
        for (uint32_t i = 0; i < p->row_count; i++)
            if (p->rows[i].is_direct == is_direct && strcmp(p->rows[i].engine, engine) == 0)
                best = p->rows[i].bytes_s > best ? p->rows[i].bytes_s : best;
        if (best > 0)
            st = dp_buf_format(out, "              %s, %s: at best %.2f GB/s\n", engine,
                               is_direct ? "direct" : "through the page cache", best / GB);
    }
    return st;
}

static dp_status write_probe(const dp_drive_probe *p, dp_buf *out)
{
    dp_status st;

    if (p->skipped[0])
        return dp_buf_format(out, "  not probed  %s\n", p->skipped);
    if (p->best.bytes_s <= 0)
        return DP_OK;
    st =
        dp_buf_format(out,
                      "  best        %.2f GB/s: requests of %s, %u at a time, %s, %s (%s%s in %.1f "
                      "s)\n",
                      p->best.bytes_s / GB, SIZE(p->best.request_bytes), p->best.depth,
                      p->best.is_direct ? "direct" : "through the page cache", p->best.engine,
                      p->is_saved ? "saved, " : "", p->is_quick ? "quick" : "probed", p->seconds);
    if (!st)
        st = dp_buf_format(out, "  goes on at  %.2f GB/s\n", p->sustained_bytes_s / GB);
    if (!st && p->row_count)
        st = write_grid(p, out);
    if (!st)
        st = write_others(p, out);
    for (uint32_t i = 0; i < p->latency_count && !st; i++)
        st = dp_buf_format(out, "  a read of   %-8s %8.2f ms median, %8.2f ms for 99 of 100\n",
                           SIZE(p->latencies[i].size_bytes), (double)p->latencies[i].p50_ns / 1e6,
                           (double)p->latencies[i].p99_ns / 1e6);
    return st;
}

static dp_status write_drive(const dp_drive_info *d, const dp_drive_probe *probe, dp_buf *out)
{
    dp_status st;

    st = dp_buf_format(out, "\n%s\n", d->path);
    if (!st)
        st = dp_buf_format(out, "  lies on     %s at %s from %s, %s free of %s\n", d->fs, d->mount,
                           d->source, SIZE(d->free_bytes), SIZE(d->size_bytes));
    if (!st)
        st = dp_buf_format(out, "  drive       %s%s%s%s", d->layers[0] ? d->layers : "none",
                           d->model[0] ? " \"" : "", d->model, d->model[0] ? "\"" : "");
    if (!st)
        st = write_kind(d, out);
    if (!st)
        st = dp_buf_format(out, "\n  reads       read-ahead %s; ", SIZE(d->read_ahead_bytes));
    if (!st && d->has_direct)
        st = dp_buf_format(out, "direct, aligned to %u in the file and %u in memory\n",
                           d->direct_offset_align, d->direct_memory_align);
    else if (!st)
        st = dp_buf_text(out, "through the page cache only\n");
    return st ? st : write_probe(probe, out);
}

dp_status dp_doctor_text(const dp_doctor_parts *parts, dp_buf *out)
{
    dp_status st = write_cpu(&parts->machine.cpu, out);

    if (!st)
        st = write_memory(&parts->machine.memory, out);
    if (!st)
        st = write_gpus(&parts->machine.gpus, out);
    for (size_t i = 0; i < parts->drive_count && !st; i++)
        st = write_drive(&parts->drives[i], &parts->probes[i], out);
    return st;
}
