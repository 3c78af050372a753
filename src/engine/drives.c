#include "engine/drives.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/aio.h"
#include "base/drive.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/osinfo.h"
#include "base/status.h"
#include "engine/options.h"

#define REQUEST_LEAST 65536 /* as --io-request takes them */
#define REQUEST_MOST  DP_GIB

typedef enum field_kind { FIELD_TEXT, FIELD_U64, FIELD_U32, FIELD_FLAG, FIELD_REAL } field_kind;

typedef struct field {
    const char *key;
    field_kind kind;
    size_t at, size;
} field;

#define FIELD(type, kind, name)                                                                    \
    {                                                                                              \
#name, kind, offsetof(type, name), sizeof(((type *)0)->name)                               \
    }

static const field probe_fields[] = {
    FIELD(dp_drive_probe, FIELD_TEXT, machine),
    FIELD(dp_drive_probe, FIELD_TEXT, kernel),
    FIELD(dp_drive_probe, FIELD_TEXT, device),
    FIELD(dp_drive_probe, FIELD_TEXT, fs),
    FIELD(dp_drive_probe, FIELD_U32, version),
    FIELD(dp_drive_probe, FIELD_FLAG, is_quick),
    FIELD(dp_drive_probe, FIELD_U64, file_bytes),
    FIELD(dp_drive_probe, FIELD_REAL, seconds),
    FIELD(dp_drive_probe, FIELD_REAL, sustained_bytes_s),
    { 0 },
};

static const field row_fields[] = {
    FIELD(dp_probe_row, FIELD_TEXT, engine),       FIELD(dp_probe_row, FIELD_FLAG, is_direct),
    FIELD(dp_probe_row, FIELD_U64, request_bytes), FIELD(dp_probe_row, FIELD_U32, depth),
    FIELD(dp_probe_row, FIELD_REAL, bytes_s),      { 0 },
};

static const field latency_fields[] = {
    FIELD(dp_probe_latency, FIELD_U64, size_bytes), FIELD(dp_probe_latency, FIELD_U32, count),
    FIELD(dp_probe_latency, FIELD_U64, p50_ns),     FIELD(dp_probe_latency, FIELD_U64, p99_ns),
    FIELD(dp_probe_latency, FIELD_U64, mean_ns),    { 0 },
};

/* ---- the document ---- */

static dp_status wrong(const dp_json *json, const char *key, dp_error *err)
{
    return dp_fail(err, DP_E_CORRUPT, "%s: \"%s\" is not what it should be", json->name, key);
}

static dp_status set_field(const dp_json *json, const field *f, const dp_json_token *value,
                           void *to, dp_error *err)
{
    uint8_t *at = (uint8_t *)to + f->at;
    int64_t number = 0;
    double real = 0;
    bool is_ok = true;

    if (f->kind == FIELD_TEXT)
        is_ok = value->kind == DP_JSON_STRING && value->text.size < f->size;
    else if (f->kind == FIELD_FLAG)
        is_ok = value->kind == DP_JSON_TRUE || value->kind == DP_JSON_FALSE;
    else if (f->kind == FIELD_REAL)
        is_ok = value->kind == DP_JSON_NUMBER && dp_json_f64(value, &real) && real >= 0;
    else
        is_ok = value->kind == DP_JSON_NUMBER && dp_json_i64(value, &number) && number >= 0 &&
                (f->kind == FIELD_U64 || number <= UINT32_MAX);
    if (!is_ok)
        return wrong(json, f->key, err);
    if (f->kind == FIELD_TEXT) {
        memcpy(at, value->text.bytes, value->text.size);
        at[value->text.size] = 0;
    } else if (f->kind == FIELD_FLAG) {
        *(bool *)at = value->kind == DP_JSON_TRUE;
    } else if (f->kind == FIELD_REAL) {
        memcpy(at, &real, sizeof real);
    } else if (f->kind == FIELD_U64) {
        memcpy(at, &number, sizeof number);
    } else {
        memcpy(at, &(uint32_t){ (uint32_t)number }, sizeof(uint32_t));
    }
    return DP_OK;
}

/* A member that is none of an object's plain fields: reads its value, or passes over it. */
typedef dp_status (*other_member)(dp_json *json, dp_str key, dp_json_token *value, void *to,
                                  dp_error *err);

/* The rest of an object whose begin was read. */
static dp_status read_object(dp_json *json, const field *fields, other_member other, void *to,
                             dp_error *err)
{
    dp_json_token token;
    dp_status st;

    for (;;) {
        const field *f = fields;
        char key[32];

        st = dp_json_next(json, &token, err);
        if (st || token.kind == DP_JSON_OBJECT_END)
            return st;
        snprintf(key, sizeof key, "%.*s", (int)DP_MIN(token.text.size, sizeof key - 1),
                 token.text.bytes);
        while (f->key && strcmp(f->key, key) != 0)
            f++;
        st = dp_json_next(json, &token, err);
        if (st)
            return st;
        if (f->key)
            st = set_field(json, f, &token, to, err);
        else if (other)
            st = other(json, dp_str_from(key), &token, to, err);
        else
            st = dp_json_skip(json, &token, err);
        if (st)
            return st;
    }
}

static dp_status read_latencies(dp_json *json, dp_drive_probe *probe, dp_error *err)
{
    dp_json_token token;
    dp_status st;

    probe->latency_count = 0;
    for (;;) {
        dp_probe_latency latency = { 0 };

        st = dp_json_next(json, &token, err);
        if (st || token.kind == DP_JSON_ARRAY_END)
            return st;
        if (token.kind != DP_JSON_OBJECT_BEGIN || probe->latency_count == DP_PROBE_SIZES_MAX)
            return wrong(json, "latencies", err);
        st = read_object(json, latency_fields, NULL, &latency, err);
        if (st)
            return st;
        probe->latencies[probe->latency_count++] = latency;
    }
}

static dp_status probe_member(dp_json *json, dp_str key, dp_json_token *value, void *to,
                              dp_error *err)
{
    dp_drive_probe *probe = to;

    if (dp_str_is(key, "best") && value->kind == DP_JSON_OBJECT_BEGIN)
        return read_object(json, row_fields, NULL, &probe->best, err);
    if (dp_str_is(key, "latencies") && value->kind == DP_JSON_ARRAY_BEGIN)
        return read_latencies(json, probe, err);
    return dp_json_skip(json, value, err);
}

static bool is_usable(const dp_probe_row *best)
{
    return (strcmp(best->engine, "io_uring") == 0 || strcmp(best->engine, "threads") == 0) &&
           best->depth >= 1 && best->depth <= DP_AIO_DEPTH_MAX &&
           best->request_bytes >= REQUEST_LEAST && best->request_bytes <= REQUEST_MOST &&
           best->request_bytes % DP_FILE_SECTOR == 0 && best->bytes_s > 0;
}

static bool holds(const dp_drive_probe *probe, const dp_drive_probe *key)
{
    return strcmp(probe->machine, key->machine) == 0 && strcmp(probe->kernel, key->kernel) == 0 &&
           strcmp(probe->device, key->device) == 0 && strcmp(probe->fs, key->fs) == 0 &&
           probe->version == key->version;
}

typedef struct document {
    uint32_t version;
    const dp_drive_probe *key;
    dp_drive_probe *found;
    bool is_found;
} document;

static dp_status document_member(dp_json *json, dp_str key, dp_json_token *value, void *to,
                                 dp_error *err)
{
    document *d = to;
    dp_json_token token;
    uint32_t count = 0;
    dp_status st;

    if (!dp_str_is(key, "drives") || value->kind != DP_JSON_ARRAY_BEGIN)
        return dp_json_skip(json, value, err);
    for (;; count++) {
        dp_drive_probe probe = { .is_saved = true };

        st = dp_json_next(json, &token, err);
        if (st || token.kind == DP_JSON_ARRAY_END)
            return st;
        if (count == DP_DRIVES_MAX)
            return dp_fail(err, DP_E_LIMIT, "%s: more than %d drives", json->name, DP_DRIVES_MAX);
        if (token.kind != DP_JSON_OBJECT_BEGIN)
            return wrong(json, "drives", err);
        st = read_object(json, probe_fields, probe_member, &probe, err);
        if (st)
            return st;
        if (!holds(&probe, d->key))
            continue;
        if (!is_usable(&probe.best) || probe.sustained_bytes_s <= 0)
            return wrong(json, "best", err);
        *d->found = probe;
        d->is_found = true;
    }
}

dp_status dp_drives_find(dp_drive_probe *out, const dp_drive_probe *key, const char *name,
                         const char *bytes, size_t size, dp_error *err)
{
    static const field fields[] = { FIELD(document, FIELD_U32, version), { 0 } };
    dp_drive_probe found;
    document d = { .key = key, .found = &found };
    dp_json_token token;
    dp_json json;
    dp_status st;

    memset(out, 0, sizeof *out);
    dp_json_init(&json, name, bytes, size);
    st = dp_json_next(&json, &token, err);
    if (!st && token.kind != DP_JSON_OBJECT_BEGIN)
        st = dp_fail(err, DP_E_CORRUPT, "%s: no JSON object", name);
    if (!st)
        st = read_object(&json, fields, document_member, &d, err);
    if (!st)
        st = dp_json_next(&json, &token, err); /* nothing may follow */
    dp_json_deinit(&json);
    if (st)
        return st;
    if (d.version != DP_DRIVES_VERSION)
        return dp_fail(err, DP_E_UNSUPPORTED, "%s: version %u, not %d", name, d.version,
                       DP_DRIVES_VERSION);
    if (!d.is_found)
        return dp_fail(err, DP_E_NOTFOUND, "%s: no probe of %s here and now", name, key->device);
    *out = found;
    return DP_OK;
}

/* ---- this machine ---- */

void dp_drives_key(dp_drive_probe *out, const dp_drive_info *drive)
{
    dp_osinfo os;

    memset(out, 0, sizeof *out);
    dp_osinfo_read(&os, "");
    out->version = DP_PROBE_VERSION;
    memcpy(out->machine, os.machine_id, sizeof out->machine);
    memcpy(out->kernel, os.kernel, sizeof out->kernel);
    snprintf(out->device, sizeof out->device, "%.*s", (int)sizeof out->device - 1,
             drive->layers[0] ? drive->layers : drive->source);
    memcpy(out->fs, drive->fs, sizeof out->fs);
}

bool dp_doctor_saved(dp_drive_probe *out, const char *file, const dp_drive_info *drive)
{
    dp_drive_probe key;
    char *bytes = NULL;
    size_t size;
    dp_error err;
    dp_status st;

    memset(out, 0, sizeof *out);
    st = dp_file_read_all(&bytes, &size, file, DP_DRIVES_BYTES_MAX, &err);
    if (st == DP_E_NOTFOUND)
        return false;
    dp_drives_key(&key, drive);
    if (!st)
        st = dp_drives_find(out, &key, file, bytes, size, &err);
    dp_free(bytes);
    if (st == DP_E_NOTFOUND)
        DP_LOG_INFO("drives", "%s", err.text);
    else if (st)
        DP_LOG_WARN("drives", "saved probes are ignored: %s", err.text);
    return st == DP_OK;
}

void dp_doctor_advise(dp_options *options, const char *file, const char *model)
{
    dp_drive_info drive;
    dp_drive_probe probe;
    dp_io_advice advice = { 0 };

    if (dp_drive_read(&drive, model, NULL) || !dp_doctor_saved(&probe, file, &drive))
        return;
    advice.is_there = true;
    advice.is_buffered = !probe.best.is_direct;
    advice.engine = strcmp(probe.best.engine, "io_uring") == 0 ? DP_AIO_URING : DP_AIO_THREADS;
    advice.depth = probe.best.depth;
    advice.request_bytes = probe.best.request_bytes;
    dp_options_set_advice(options, &advice);
}
