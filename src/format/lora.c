#include "format/lora.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

static bool key_is(const dp_gguf *gguf, const char *key, const char *value)
{
    dp_str text;

    return !dp_gguf_get_str(gguf, key, &text, NULL) && dp_str_equal(text, dp_str_from(value));
}

bool dp_lora_is_adapter(const dp_gguf *gguf)
{
    return key_is(gguf, "general.type", "adapter");
}

static dp_status read_keys(dp_lora_info *info, const dp_gguf *gguf, dp_error *err)
{
    const char *path = dp_gguf_part_path(gguf, 0);
    dp_str arch;
    double alpha = 0;
    dp_status st;

    if (!dp_lora_is_adapter(gguf))
        return dp_fail(err, DP_E_INVALID,
                       "%s: not an adapter: general.type is not \"adapter\" (is it a model?)",
                       path);
    if (!key_is(gguf, "adapter.type", "lora"))
        return dp_fail(err, DP_E_UNSUPPORTED, "%s: key adapter.type is not \"lora\"", path);
    if (dp_gguf_part_count(gguf) > 1)
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "%s: the adapter is split into %u files: merge them into one first", path,
                       dp_gguf_part_count(gguf));
    /* Active only behind certain tokens: always on would be another adapter. */
    if (dp_gguf_find(gguf, "adapter.alora.invocation_tokens"))
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "%s: key adapter.alora.invocation_tokens: activated adapters are not "
                       "supported",
                       path);
    st = dp_gguf_get_str(gguf, "general.architecture", &arch, err);
    if (st)
        return st;
    if (arch.size >= sizeof info->arch)
        return dp_fail(err, DP_E_LIMIT, "%s: key general.architecture: %zu bytes, at most %zu",
                       path, arch.size, sizeof info->arch - 1);
    memcpy(info->arch, arch.bytes, arch.size);
    if (dp_gguf_find(gguf, "adapter.lora.alpha"))
        st = dp_gguf_get_f64(gguf, "adapter.lora.alpha", 0, &alpha, err);
    if (st)
        return st;
    info->alpha = (float)alpha;
    if (!isfinite(info->alpha))
        return dp_fail(err, DP_E_CORRUPT, "%s: key adapter.lora.alpha: not a finite number", path);
    return DP_OK;
}

/* "blk.0.attn_q.weight.lora_a": the same with b. False: no such name. */
static bool partner_name(char out[DP_GGUF_NAME_MAX], const dp_tensor *t, bool *is_a)
{
    *is_a = dp_str_ends_with(t->name, DP_LORA_A);
    if ((!*is_a && !dp_str_ends_with(t->name, DP_LORA_B)) || t->name.size >= DP_GGUF_NAME_MAX)
        return false;
    memcpy(out, t->name.bytes, t->name.size);
    out[t->name.size] = 0;
    out[t->name.size - 1] = *is_a ? 'b' : 'a';
    return true;
}

static dp_status check_pair(dp_lora_info *info, const dp_tensor *a, const dp_tensor *b,
                            dp_error *err)
{
    uint64_t rank = a->ne[1];

    if (rank != b->ne[0])
        return dp_fail(err, DP_E_CORRUPT,
                       "tensor %s: %" PRIu64 " rows, but %s has %" PRIu64 " columns: both are the "
                       "rank",
                       a->name.bytes, rank, b->name.bytes, b->ne[0]);
    if (a->ne[2] != b->ne[2] || a->ne[3] != 1 || b->ne[3] != 1)
        return dp_fail(err, DP_E_CORRUPT,
                       "tensor %s: %" PRIu64 " matrices, but %s has %" PRIu64 " (and no fourth "
                       "dimension)",
                       a->name.bytes, a->ne[2], b->name.bytes, b->ne[2]);
    if (rank > DP_LORA_RANK_MAX)
        return dp_fail(err, DP_E_LIMIT, "tensor %s: rank %" PRIu64 ", at most %d", a->name.bytes,
                       rank, DP_LORA_RANK_MAX);
    info->rank_max = DP_MAX(info->rank_max, (uint32_t)rank);
    info->rank_min = info->pair_count ? DP_MIN(info->rank_min, (uint32_t)rank) : (uint32_t)rank;
    info->pair_count++;
    return DP_OK;
}

static dp_status read_tensor(dp_lora_info *info, const dp_gguf *gguf, const dp_tensor *t,
                             dp_error *err)
{
    char name[DP_GGUF_NAME_MAX];
    const dp_tensor *partner;
    bool is_a;

    if (!partner_name(name, t, &is_a))
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "tensor %s: an adapter holds pairs of " DP_LORA_A " and " DP_LORA_B
                       " and nothing else as doppler knows it",
                       t->name.bytes);
    /* Its halves are the other way round: rows are looked up, not multiplied. */
    if (dp_str_starts_with(t->name, "token_embd."))
        return dp_fail(err, DP_E_UNSUPPORTED,
                       "tensor %s: adapters of the embedding are not supported", t->name.bytes);
    partner = dp_gguf_find_tensor(gguf, name);
    if (!partner)
        return dp_fail(err, DP_E_CORRUPT, "tensor %s: missing from the adapter, which has %s", name,
                       t->name.bytes);
    return is_a ? check_pair(info, t, partner, err) : DP_OK;
}

dp_status dp_lora_read(dp_lora_info *out, const dp_gguf *gguf, dp_error *err)
{
    dp_lora_info info = { .alpha = 0 };
    dp_status st = read_keys(&info, gguf, err);

    *out = (dp_lora_info){ .alpha = 0 };
    for (size_t i = 0; i < dp_gguf_tensor_count(gguf) && !st; i++)
        st = read_tensor(&info, gguf, dp_gguf_tensor(gguf, i), err);
    if (!st && info.pair_count == 0)
        st = dp_fail(err, DP_E_CORRUPT, "%s: an adapter without tensors",
                     dp_gguf_part_path(gguf, 0));
    if (!st)
        *out = info;
    return st;
}

float dp_lora_factor(float alpha, uint32_t rank, float scale)
{
    return alpha != 0 ? (float)((double)alpha / rank * scale) : scale;
}
