#include "engine/tracer.h"

#include "base/file_out.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"

struct dp_tracer {
    dp_file_out file;
    dp_trace_encoder encoder;
    bool is_stopped; /* a write failed */
};

/* What is whole on the disk is kept, if the disk takes its name. */
static void stop(dp_tracer *tracer, const dp_error *why)
{
    dp_error err;

    tracer->is_stopped = true;
    DP_LOG_WARN("trace", "tracing stops, the run goes on: %s", why->text);
    if (dp_file_out_commit(&tracer->file, &err))
        DP_LOG_WARN("trace", "nothing of the trace is kept: %s", err.text);
    dp_file_out_close(&tracer->file);
}

static dp_status write_header(dp_tracer *tracer, const dp_trace_header *header, dp_error *err)
{
    dp_buf bytes;
    dp_status st;

    dp_buf_init(&bytes, DP_TRACE_BLOCK_MAX);
    st = dp_trace_encode_header(header, &bytes, err);
    if (!st)
        st = dp_file_out_write(&tracer->file, bytes.bytes, bytes.size, err);
    dp_buf_deinit(&bytes);
    return st;
}

dp_status dp_tracer_open(dp_tracer **out, const char *path, const dp_trace_header *header,
                         dp_error *err)
{
    dp_tracer *tracer = dp_alloc_zero(1, sizeof *tracer);
    dp_status st;

    *out = NULL;
    if (!tracer)
        return dp_fail(err, DP_E_NOMEM, "%s: no memory to write a trace", path);
    dp_trace_encoder_init(&tracer->encoder, header);
    st = dp_file_out_open(&tracer->file, path, err);
    if (!st)
        st = write_header(tracer, header, err);
    if (st) {
        dp_file_out_close(&tracer->file);
        dp_trace_encoder_deinit(&tracer->encoder);
        dp_free(tracer);
        return st;
    }
    *out = tracer;
    return DP_OK;
}

static void write_block(dp_tracer *tracer, bool is_last)
{
    const void *bytes;
    dp_error err;
    size_t size;

    if (!tracer->is_stopped && dp_trace_take_block(&tracer->encoder, is_last, &bytes, &size) &&
        dp_file_out_write(&tracer->file, bytes, size, &err))
        stop(tracer, &err);
}

void dp_tracer_close(dp_tracer *tracer)
{
    dp_error err;

    if (!tracer)
        return;
    write_block(tracer, true);
    if (!tracer->is_stopped && dp_file_out_commit(&tracer->file, &err))
        DP_LOG_WARN("trace", "the trace is lost: %s", err.text);
    dp_file_out_close(&tracer->file);
    dp_trace_encoder_deinit(&tracer->encoder);
    dp_free(tracer);
}

void dp_tracer_step(dp_tracer *tracer, uint32_t tokens, bool starts_text)
{
    if (tracer->is_stopped)
        return;
    dp_trace_begin_step(&tracer->encoder, tokens, starts_text);
    write_block(tracer, false);
}

void dp_tracer_demand(dp_tracer *tracer, uint32_t layer, const uint32_t *experts,
                      const uint8_t *hits, uint32_t count)
{
    if (!tracer->is_stopped)
        dp_trace_demand(&tracer->encoder, layer, experts, hits, count);
}
