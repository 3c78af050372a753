#include "text/prompt.h"

#include "base/mem.h"

void dp_prompt_init(dp_prompt *prompt, size_t size_max)
{
    *prompt = (dp_prompt){ 0 };
    dp_buf_init(&prompt->text, size_max);
}

void dp_prompt_deinit(dp_prompt *prompt)
{
    dp_buf_deinit(&prompt->text);
    dp_free(prompt->runs.list);
    prompt->runs = (dp_runs){ 0 };
}

static dp_status reserve_run(dp_runs *runs)
{
    size_t capacity = DP_MAX(2 * runs->capacity, (size_t)32);
    dp_run *list;

    if (runs->count < runs->capacity)
        return DP_OK;
    list = dp_realloc(runs->list, capacity, sizeof *list);
    if (!list)
        return DP_E_NOMEM;
    runs->list = list;
    runs->capacity = capacity;
    return DP_OK;
}

dp_status dp_prompt_add(dp_prompt *prompt, dp_str text, bool is_trusted)
{
    dp_runs *runs = &prompt->runs;
    dp_status st;

    if (text.size == 0)
        return DP_OK;
    st = reserve_run(runs);
    if (!st)
        st = dp_buf_append(&prompt->text, text.bytes, text.size);
    if (st)
        return st;
    if (runs->count == 0 || runs->list[runs->count - 1].is_trusted != is_trusted) /* (2) */
        runs->list[runs->count++].is_trusted = is_trusted;
    runs->list[runs->count - 1].end = prompt->text.size;
    return DP_OK;
}

void dp_prompt_cut(dp_prompt *prompt, size_t size)
{
    dp_runs *runs = &prompt->runs;

    prompt->text.size = size;
    if (prompt->text.bytes)
        prompt->text.bytes[size] = '\0';
    while (runs->count > 0 && (runs->count > 1 ? runs->list[runs->count - 2].end : 0) >= size)
        runs->count--;
    if (runs->count > 0)
        runs->list[runs->count - 1].end = size;
}
