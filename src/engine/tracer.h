/* tracer.h - the trace file of a run (option "trace"; tier/trace.h has the format).
 *
 * Room     Encodes demands and writes blocks as they fill: memory stays bounded. A disk
 *          that fills ends the trace with one warning, and the run goes on. The
 *          file has its name when it is closed; a killed run leaves NAME.partial,
 *          which reads as far as it goes.
 *
 * Threads  The step thread.
 */
#ifndef DP_ENGINE_TRACER_H
#define DP_ENGINE_TRACER_H

#include "tier/trace.h"

typedef struct dp_tracer dp_tracer;

/* DP_E_IO ... when the file cannot be made. header: its page_bytes are borrowed until close. */
dp_status dp_tracer_open(dp_tracer **out, const char *path, const dp_trace_header *header,
                         dp_error *err);
/* Writes the rest and gives the file its name; NULL is fine. */
void dp_tracer_close(dp_tracer *tracer);

void dp_tracer_step(dp_tracer *tracer, uint32_t tokens, bool starts_text);
void dp_tracer_demand(dp_tracer *tracer, uint32_t layer, const uint32_t *experts,
                      const uint8_t *hits, uint32_t count);

#endif
