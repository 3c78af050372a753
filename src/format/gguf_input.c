/* Headers are read piece by piece, for each read may be a fetch from far away; parts are read
 * in the order given and joined in the order of their numbers, so that a model is described
 * alike however its parts were listed. */
#include "format/gguf_impl.h"

#include <stdio.h>
#include <string.h>
#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"

#define FIRST_READ ((size_t)256 << 10) /* headers without a vocabulary; doubled until it is whole */

dp_status dp_gguf_read_part(dp_gguf **out, const dp_gguf_input *input, uint32_t part, dp_error *err)
{
    const char *name = input->name(input->user, part);
    uint64_t file_size = input->size(input->user, part);
    uint8_t *bytes = NULL, *grown;
    size_t have = 0, want = FIRST_READ, need;
    dp_status st;

    *out = NULL;
    do {
        want = (size_t)DP_MIN((uint64_t)want, DP_MIN(file_size, (uint64_t)DP_GGUF_HEADER_MAX));
        grown = dp_realloc(bytes, want, 1);
        if (!grown) {
            st = dp_fail(err, DP_E_NOMEM, "%s: a header of %zu bytes", name, want);
            goto done;
        }
        bytes = grown;
        st = input->read(input->user, part, have, bytes + have, want - have, err);
        if (st)
            goto done;
        have = want;
        st = dp_gguf_parse(out, name, bytes, have, file_size, &need, err);
        DP_ASSERT(st != DP_E_BUSY || need > have);
        want = DP_MAX(need, have * 2);
    } while (st == DP_E_BUSY);
done:
    dp_free(bytes);
    return st;
}

dp_status dp_gguf_split_number(const dp_gguf *g, const char *key, uint64_t fallback, uint64_t *out,
                               dp_error *err)
{
    if (!dp_gguf_find(g, key)) {
        *out = fallback;
        return DP_OK;
    }
    return dp_gguf_get_u64(g, key, 0, out, err);
}

/* The number that a name ends with; `otherwise` when it names none of `count`. */
static uint64_t number_of_name(const char *name, uint32_t count, uint64_t otherwise)
{
    size_t size = strlen(name);
    unsigned number, of;
    char suffix[32];

    if (size < DP_GGUF_PART_SUFFIX_SIZE)
        return otherwise;
    name += size - DP_GGUF_PART_SUFFIX_SIZE;
    if (sscanf(name, "-%5u-of-%5u.gguf", &number, &of) != 2 || of != count || number < 1 ||
        number > count)
        return otherwise;
    snprintf(suffix, sizeof suffix, DP_GGUF_PART_SUFFIX, number, of);
    return strcmp(suffix, name) ? otherwise : number - 1;
}

/* Which part of `count` it says it is; its name, where that has a number, has to agree. */
static dp_status check_part(uint32_t *number, const dp_gguf *g, uint32_t count, dp_error *err)
{
    const char *name = g->parts[0].path;
    uint64_t found, found_count, want;
    dp_status st;

    st = dp_gguf_split_number(g, "split.no", 0, &found, err);
    if (st)
        return st;
    st = dp_gguf_split_number(g, "split.count", 1, &found_count, err);
    if (st)
        return st;
    want = number_of_name(name, count, found < count ? found : 0);
    if (found != want || found_count != count)
        return dp_fail(err, DP_E_CORRUPT,
                       "%s: says it is part %llu of %llu (split.no, split.count), expected part "
                       "%llu of %u",
                       name, (unsigned long long)found + 1, (unsigned long long)found_count,
                       (unsigned long long)want + 1, count);
    *number = (uint32_t)found;
    return DP_OK;
}

/* Moves the tensors of a part behind those of g, as of file `place`; `part` is left to be
 * closed. */
static dp_status append_part(dp_gguf *g, dp_gguf *part, uint32_t place, dp_error *err)
{
    size_t count = g->tensor_count + part->tensor_count;
    dp_tensor *tensors;

    if (count > DP_GGUF_TENSORS_MAX)
        return dp_fail(err, DP_E_LIMIT, "%s: %zu tensors so far, at most %d", part->parts[0].path,
                       count, DP_GGUF_TENSORS_MAX);
    tensors = dp_realloc(g->tensors, count, sizeof *tensors);
    if (!tensors)
        return dp_fail(err, DP_E_NOMEM, "%s: %zu tensors", part->parts[0].path, count);
    g->tensors = tensors;
    g->parts[place] = part->parts[0];
    part->parts[0] = (dp_gguf_part){ 0 };
    for (size_t i = 0; i < part->tensor_count; i++) {
        dp_tensor *tensor = &g->tensors[g->tensor_count];
        uint32_t previous;
        dp_status st;

        *tensor = part->tensors[i];
        tensor->file_index = place;
        st = dp_map_str_add(&g->tensor_by_name, tensor->name, (uint32_t)g->tensor_count, &previous);
        if (st)
            return dp_fail(err, st, "%s: %zu tensors", g->parts[place].path, count);
        if (previous != DP_MAP_NONE)
            return dp_fail(err, DP_E_CORRUPT, "%s: tensor " DP_NAME_FMT " is already in %s",
                           g->parts[place].path, DP_NAME_ARG(tensor->name),
                           g->parts[g->tensors[previous].file_index].path);
        g->tensor_count++;
    }
    return DP_OK;
}

/* The first part, at `place`, becomes one of `count`. */
static dp_status widen(dp_gguf *g, uint32_t place, uint32_t count, dp_error *err)
{
    dp_gguf_part *parts = dp_alloc_zero(count, sizeof *parts);

    if (!parts)
        return dp_fail(err, DP_E_NOMEM, "%s: %u parts", g->parts[0].path, count);
    parts[place] = g->parts[0];
    dp_free(g->parts);
    g->parts = parts;
    g->part_count = count;
    for (size_t i = 0; i < g->tensor_count; i++)
        g->tensors[i].file_index = place;
    return DP_OK;
}

/* places[n] becomes where part n lies in the input, parsed[] what each says. */
static dp_status read_parts(dp_gguf **parsed, uint32_t *places, const dp_gguf_input *input,
                            dp_error *err)
{
    uint32_t count = input->part_count, number;

    memset(places, 0xff, count * sizeof *places);
    for (uint32_t i = 0; i < count; i++) {
        dp_status st = dp_gguf_read_part(&parsed[i], input, i, err);

        if (!st)
            st = check_part(&number, parsed[i], count, err);
        if (st)
            return st;
        if (places[number] != UINT32_MAX)
            return dp_fail(err, DP_E_CORRUPT, "%s: says it is part %u of %u (split.no), as %s does",
                           parsed[i]->parts[0].path, number + 1, count,
                           parsed[places[number]]->parts[0].path);
        parsed[i]->parts[0].number = number;
        places[number] = i;
        if (number != 0)
            dp_gguf_drop_vocab(parsed[i]); /* metadata is the first part's */
    }
    return DP_OK;
}

static dp_status join_parts(dp_gguf **parsed, const uint32_t *places, uint32_t count, dp_error *err)
{
    dp_gguf *g = parsed[places[0]];
    uint64_t tensor_count;
    dp_status st = widen(g, places[0], count, err);

    for (uint32_t n = 1; n < count && !st; n++)
        st = append_part(g, parsed[places[n]], places[n], err);
    if (st)
        return st;
    st = dp_gguf_split_number(g, "split.tensors.count", g->tensor_count, &tensor_count, err);
    if (st)
        return st;
    if (tensor_count != g->tensor_count)
        return dp_fail(
            err, DP_E_CORRUPT, "%s: the %u parts have %zu tensors, split.tensors.count is %llu",
            g->parts[places[0]].path, count, g->tensor_count, (unsigned long long)tensor_count);
    return DP_OK;
}

static dp_status open_split(dp_gguf **out, const dp_gguf_input *input, dp_error *err)
{
    uint32_t count = input->part_count;
    dp_gguf **parsed = dp_alloc_zero(count, sizeof(dp_gguf *));
    uint32_t *places = dp_alloc(count, sizeof *places);
    dp_status st;

    if (!parsed || !places) {
        st = dp_fail(err, DP_E_NOMEM, "%s: %u parts", input->name(input->user, 0), count);
        goto done;
    }
    st = read_parts(parsed, places, input, err);
    if (st)
        goto done;
    st = join_parts(parsed, places, count, err);
    if (st)
        goto done;

    *out = parsed[places[0]]; /* the caller owns it now */
    parsed[places[0]] = NULL;
done:
    for (uint32_t i = 0; parsed && i < count; i++)
        dp_gguf_close(parsed[i]);
    dp_free(parsed);
    dp_free(places);
    return st;
}

dp_status dp_gguf_open_input(dp_gguf **out, const dp_gguf_input *input, dp_error *err)
{
    uint64_t count;
    dp_status st;

    *out = NULL;
    if (input->part_count < 1 || input->part_count > DP_GGUF_PARTS_MAX)
        return dp_fail(err, DP_E_LIMIT, "a model of %u parts, from 1 to %d are possible",
                       input->part_count, DP_GGUF_PARTS_MAX);
    if (input->part_count > 1)
        return open_split(out, input, err);
    st = dp_gguf_read_part(out, input, 0, err);
    if (!st)
        st = dp_gguf_split_number(*out, "split.count", 1, &count, err);
    if (!st && count > 1)
        st = dp_fail(err, DP_E_NOTFOUND, "%s: one part of %llu, and the others are not here",
                     (*out)->parts[0].path, (unsigned long long)count);
    if (st) {
        dp_gguf_close(*out);
        *out = NULL;
    }
    return st;
}
