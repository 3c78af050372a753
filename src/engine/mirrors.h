/* mirrors.h - further copies of a model's files, as --model-mirror names them.
 *
 * A copy is taken for one when it has the same parts with the same sizes, and everything
 * before the first byte of a weight is the same in each. Weights are not compared: that
 * would be reading the model.
 */
#ifndef DP_ENGINE_MIRRORS_H
#define DP_ENGINE_MIRRORS_H

#include "base/base.h"
#include "doppler/status.h"
#include "format/gguf.h"
#include "tier/copies.h"

#define DP_MIRRORS_MAX (DP_COPIES_MAX - 1)

typedef struct dp_mirrors {
    uint32_t count;
    dp_gguf *models[DP_MIRRORS_MAX]; /* whose parts they are */
    const char **paths;              /* [count][parts]; of the models */
} dp_mirrors;

/* `list` has a path a line. DP_E_INVALID: it is no copy, or the model itself; DP_E_LIMIT: too
 * many; the errors of dp_gguf_open. Closed in any case. */
dp_status dp_mirrors_open(dp_mirrors *out, const char *list, const dp_gguf *model, dp_error *err);
void dp_mirrors_close(dp_mirrors *mirrors);

#endif
