#include "swarm/supply_testing.h"

#include "base/mem.h"
#include "base/status.h"

static uint8_t byte_at(uint32_t file, uint64_t offset)
{
    return (uint8_t)((offset * 0x9e3779b97f4a7c15u + file + 1) >> 56);
}

void fill(const script *p, uint32_t piece, uint8_t *out)
{
    dp_layout_place place = dp_layout_find(&p->layout, piece);

    for (uint32_t i = 0; i < place.size; i++)
        out[i] = byte_at(place.file, place.offset + i);
}

static bool script_has(void *user, uint32_t piece)
{
    script *p = user;
    bool is_kept;

    dp_mutex_lock(&p->lock);
    is_kept = p->is_kept[piece];
    dp_mutex_unlock(&p->lock);
    return is_kept;
}

static dp_status script_read(void *user, uint32_t piece, void *out, dp_error *err)
{
    script *p = user;
    dp_layout_place place = dp_layout_find(&p->layout, piece);
    bool is_good;

    dp_mutex_lock(&p->lock);
    is_good = p->is_kept[piece] && !p->is_rotten[piece];
    p->is_kept[piece] = is_good;
    p->is_rotten[piece] = false;
    dp_mutex_unlock(&p->lock);
    memset(out, 0xee, place.size);
    if (!is_good)
        return dp_fail(err, DP_E_NOTFOUND, "piece %u is not here any more", piece);
    fill(p, piece, out);
    return DP_OK;
}

static dp_status script_keep(void *user, uint32_t piece, const void *bytes, dp_error *err)
{
    script *p = user;
    dp_layout_place place = dp_layout_find(&p->layout, piece);

    for (uint32_t i = 0; i < place.size; i++)
        CHECK(((const uint8_t *)bytes)[i] == byte_at(place.file, place.offset + i), "kept %u", i);
    dp_mutex_lock(&p->lock);
    p->keeps++;
    dp_mutex_unlock(&p->lock);
    if (p->contradicts)
        return dp_fail(err, DP_E_CORRUPT, "piece %u was another", piece);
    return DP_OK;
}

static void script_submit(void *user, dp_pager_job *const *jobs, size_t count)
{
    script *p = user;

    dp_mutex_lock(&p->lock);
    CHECK(p->job_count + count <= JOBS_MAX, "%zu jobs more", count);
    for (size_t i = 0; i < count; i++)
        p->jobs[p->job_count++] = jobs[i];
    p->job_total += (uint32_t)count;
    p->batches++;
    dp_mutex_unlock(&p->lock);
}

static void script_promote(void *user, dp_pager_job *job)
{
    script *p = user;

    dp_mutex_lock(&p->lock);
    p->promoted++;
    dp_mutex_unlock(&p->lock);
}

/* NULL: it is not there. Caller holds p->lock. */
static dp_pager_job *take_job_locked(script *p, uint32_t index)
{
    dp_pager_job *job = index < p->job_count ? p->jobs[index] : NULL;

    if (job)
        p->jobs[index] = p->jobs[--p->job_count];
    return job;
}

static bool script_cancel(void *user, dp_pager_job *job)
{
    script *p = user;
    bool is_taken = false;

    dp_mutex_lock(&p->lock);
    for (uint32_t i = 0; i < p->job_count && !is_taken; i++) {
        if (p->jobs[i] == job && dp_rng_below(&p->rng, 100) >= p->late_percent) {
            take_job_locked(p, i);
            is_taken = true;
        }
    }
    dp_mutex_unlock(&p->lock);
    return is_taken;
}

static bool script_want(void *user, uint32_t piece, uint32_t deadline_ms)
{
    script *p = user;
    bool is_possible;

    dp_mutex_lock(&p->lock);
    p->wants++;
    is_possible = p->gives_slowly;
    p->is_wanted[piece] = is_possible;
    dp_mutex_unlock(&p->lock);
    return is_possible;
}

static void script_unwant(void *user, uint32_t piece)
{
    script *p = user;

    dp_mutex_lock(&p->lock);
    CHECK(p->is_wanted[piece], "piece %u was never wanted", piece);
    p->is_wanted[piece] = false;
    p->unwants++;
    dp_mutex_unlock(&p->lock);
}

static void script_explain(void *user, uint32_t piece, char *out, size_t size)
{
    snprintf(out, size, "3 peers, none holds it");
}

bool end_job(script *p, uint32_t index, dp_status st)
{
    dp_pager_job *job;
    dp_layout_place place;
    dp_error error;

    dp_mutex_lock(&p->lock);
    job = take_job_locked(p, index);
    dp_mutex_unlock(&p->lock);
    if (!job)
        return false;
    place = dp_layout_find(&p->layout, job->piece);
    memset(job->out, 0xdd, place.size);
    if (st == DP_OK)
        fill(p, job->piece, job->out);
    else
        dp_fail(&error, st, "the script says so");
    job->done(job, 1, st ? &error : NULL);
    return true;
}

void end_jobs(script *p, dp_status st)
{
    while (end_job(p, 0, st))
        ;
}

static void script_stop(void *user)
{
    script *p = user;

    p->is_stopped = true;
    end_jobs(p, DP_E_CANCELED);
}

void script_init(script *p, uint32_t pieces)
{
    *p = (script){ .supply = { p, script_has, script_read, script_keep, script_submit,
                               script_promote, script_cancel, script_want, script_unwant,
                               script_explain, script_stop } };
    p->files[0] = (dp_layout_file){ "a.gguf", { (uint64_t)pieces * PIECE - 100, PIECE }, 0, NULL };
    p->files[1] = (dp_layout_file){ "b.gguf", { 3 * PIECE + 5, PIECE }, pieces, NULL };
    p->layout = (dp_layout){ p->files, 2, PIECE, pieces + 4 };
    dp_mutex_init(&p->lock);
    dp_rng_init(&p->rng, 7);
}

dp_source *open_source(script *p, const dp_clock *clock)
{
    static const uint32_t files[] = { 0, 1 };
    dp_source_part parts[] = { { "a.gguf", p->files[0].pieces.file_size },
                               { "b.gguf", p->files[1].pieces.file_size } };
    dp_source_swarm_config config = { .layout = &p->layout,
                                      .files = files,
                                      .parts = parts,
                                      .part_count = 2,
                                      .supply = &p->supply,
                                      .wait_ms = 60000,
                                      .clock = clock,
                                      .name = "script" };
    dp_source *source;
    dp_error err;

    CHECK_OK(dp_source_swarm_open(&source, &config, &err), err);
    return source;
}

static void check_room(const probe *r)
{
    for (uint64_t i = 0; i < r->read.size; i++)
        CHECK(r->room[i] == byte_at(r->read.file_index, r->read.offset + i),
              "wrong byte %llu of a read at %llu", (unsigned long long)i,
              (unsigned long long)r->read.offset);
    CHECK(r->room[r->read.size] == 0xaa, "wrote behind the room");
}

static void probe_done(dp_source_read *read, const dp_error *error)
{
    probe *r = DP_LISTED(read, probe, read);

    r->error = error ? *error : (dp_error){ 0 };
    if (!error)
        check_room(r);
    memset(r->room, 0xbb, read->size); /* the room is another's from now on */
    r->room[read->size] = 0xaa;
    atomic_fetch_add(&r->ends, 1);
}

void probe_submit(probe *r, dp_source *s, uint32_t file, uint64_t offset, uint64_t size,
                  bool is_prefetch)
{
    *r = (probe){ .read = { .file_index = file,
                            .offset = offset,
                            .size = size,
                            .is_prefetch = is_prefetch,
                            .done = probe_done } };
    r->room = dp_alloc(size + 1, 1);
    memset(r->room, 0xcc, size);
    r->room[size] = 0xaa;
    r->read.room = r->room;
    s->ops->submit(s, &r->read);
}

void probe_free(probe *r)
{
    dp_free(r->room);
}

void wait_for(probe *r)
{
    for (int i = 0; i < 10000000 && atomic_load(&r->ends) == 0; i++)
        sched_yield();
    CHECK(atomic_load(&r->ends) == 1, "ended %d times", atomic_load(&r->ends));
}
