/* options.h - values of the public options table, as numbers (engine's side).
 *
 * Threads  A dp_options belongs to one. The table is static. */
#ifndef DP_ENGINE_OPTIONS_H
#define DP_ENGINE_OPTIONS_H

#include "base/base.h"
#include "doppler/options.h"

#define DP_SPECULATE_MAX 64 /* tokens of one draft; later ones are hardly ever right */

/* What DP_OPT_SPECULATE says beside a number. */
enum { DP_SPECULATE_AUTO = DP_SPECULATE_MAX + 1, DP_SPECULATE_OFF };

/* One name per row of the table, in its order. */
typedef enum dp_option_id {
    DP_OPT_RAM,
    DP_OPT_CTX,
    DP_OPT_SESSIONS,
    DP_OPT_KV_TYPE,
    DP_OPT_GOVERNOR,
    DP_OPT_POLICY,
    DP_OPT_LOOK_AHEAD,
    DP_OPT_HEAT,
    DP_OPT_TRACE,
    DP_OPT_MODEL_MIRROR,
    DP_OPT_IO,
    DP_OPT_IO_ENGINE,
    DP_OPT_IO_DEPTH,
    DP_OPT_IO_REQUEST,
    DP_OPT_THREADS,
    DP_OPT_BATCH,
    DP_OPT_KERNELS,
    DP_OPT_YARN_ROUNDING,
    DP_OPT_MLA_PREFILL,
    DP_OPT_SPECULATE,
    DP_OPT_DISK, /* from here to SWARM_WAIT read by programs, for doppler/swarm.h */
    DP_OPT_CACHE_DIR,
    DP_OPT_PEER,
    DP_OPT_LISTEN,
    DP_OPT_HTTP_LISTEN,
    DP_OPT_SHARE,
    DP_OPT_DHT,
    DP_OPT_LSD,
    DP_OPT_UPLOAD_RATE,
    DP_OPT_SWARM_TOKEN,
    DP_OPT_TLS_CERT,
    DP_OPT_TLS_KEY,
    DP_OPT_TLS_CA,
    DP_OPT_SWARM_WAIT,
    DP_OPT_TEMP,
    DP_OPT_TOP_K,
    DP_OPT_TOP_P,
    DP_OPT_MIN_P,
    DP_OPT_REPEAT_PENALTY,
    DP_OPT_PRESENCE_PENALTY,
    DP_OPT_FREQUENCY_PENALTY,
    DP_OPT_PENALTY_WINDOW,
    DP_OPT_SEED,
    DP_OPT_COUNT
} dp_option_id;

/* Values of a set; NULL reads the defaults. */
/* SIZE, COUNT; a size of auto is 0, the n-th word of a count is its maximum + 1 + n. */
uint64_t dp_options_u64(const dp_options *options, dp_option_id id);
double dp_options_f64(const dp_options *options, dp_option_id id); /* REAL */
/* CHOICE: the place of the value in the row's choices. */
unsigned dp_options_choice(const dp_options *options, dp_option_id id);
/* What a saved probe of the model's drive says, for values left to doppler. */
typedef struct dp_io_advice {
    bool is_there, is_buffered;
    unsigned engine; /* a place in the choices of --io-engine */
    uint32_t depth;
    uint64_t request_bytes;
} dp_io_advice;

void dp_options_set_advice(dp_options *options, const dp_io_advice *advice);
dp_io_advice dp_options_advice(const dp_options *options);

const char *dp_options_text(const dp_options *options, dp_option_id id); /* as set */

#endif
