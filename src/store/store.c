#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "store/store_impl.h"

/* Tries out what the folder can do; what it cannot becomes the store's problem. */
static void try_folder(dp_store *store)
{
    dp_folder_ability ability;
    dp_error err;
    char text[sizeof err.text + 64];

    if (dp_folder_try(&ability, store->folder, &err)) {
        dp_store_break_locked(store, err.text);
        return;
    }
    store->can_punch = ability.can_punch;
    store->is_writable = ability.has_holes;
    if (!ability.has_holes) {
        snprintf(text, sizeof text, "%s: files there cannot have holes", store->folder);
        dp_store_break_locked(store, text);
    }
}

static dp_status open_folder(dp_store *store, const char *folder, dp_error *err)
{
    dp_status st = dp_folder_make(folder, err);

    if (st)
        return st;
    store->folder = dp_strndup(folder, strlen(folder));
    store->victims.items = dp_alloc(DP_STORE_VICTIMS, sizeof *store->victims.items);
    store->victims.capacity = DP_STORE_VICTIMS;
    if (!store->folder || !store->victims.items)
        return dp_fail(err, DP_E_NOMEM, "store: no memory for %s", folder);
    dp_mutex_lock(&store->lock);
    try_folder(store);
    st = dp_store_look_locked(store, err);
    dp_mutex_unlock(&store->lock);
    return st;
}

dp_status dp_store_open(dp_store **out, const dp_store_config *config, dp_error *err)
{
    dp_store *store = dp_alloc_zero(1, sizeof *store);
    dp_status st = DP_OK;

    *out = NULL;
    if (!store)
        return dp_fail(err, DP_E_NOMEM, "store: no memory");
    dp_mutex_init(&store->lock);
    dp_cond_init(&store->idle);
    store->budget_bytes = config->budget_bytes;
    store->clock = config->clock;
    store->on_gone = config->on_gone;
    store->user = config->user;
    store->unix_at_open = dp_clock_unix_s();
    store->ns_at_open = dp_clock_now_ns(store->clock);
    if (config->folder && config->budget_bytes > 0)
        st = open_folder(store, config->folder, err);
    else
        snprintf(store->problem, sizeof store->problem, "no folder or no bytes were given");
    if (st) {
        dp_store_close(store);
        return st;
    }
    *out = store;
    return DP_OK;
}

void dp_store_close(dp_store *store)
{
    if (!store)
        return;
    DP_CHECK(!store->files && !store->keys);
    dp_free(store->closed);
    dp_free(store->victims.items);
    dp_free(store->folder);
    dp_cond_deinit(&store->idle);
    dp_mutex_deinit(&store->lock);
    dp_free(store);
}

double dp_store_now_s(const dp_store *store)
{
    uint64_t ns = dp_clock_now_ns(store->clock) - store->ns_at_open;

    return (double)store->unix_at_open + (double)ns * 1e-9;
}

void dp_store_break_locked(dp_store *store, const char *reason)
{
    store->is_writable = false;
    if (store->problem[0])
        return;
    snprintf(store->problem, sizeof store->problem, "%.*s", (int)sizeof store->problem - 1, reason);
    DP_LOG_WARN("store", "nothing more is kept: %s", store->problem);
}

void dp_store_enter_locked(dp_store_file *file)
{
    file->user_count++;
}

void dp_store_leave_locked(dp_store_file *file)
{
    if (--file->user_count == 0)
        dp_cond_broadcast(&file->store->idle);
}

dp_pieces dp_store_file_pieces(const dp_store_file *file)
{
    return file->head.pieces;
}

const char *dp_store_file_name(const dp_store_file *file)
{
    return file->name;
}

bool dp_store_has(const dp_store_file *file, uint32_t piece)
{
    bool is_here;

    DP_ASSERT(piece < file->count);
    dp_mutex_lock(&file->store->lock);
    is_here = file->pieces[piece].state == PIECE_HERE;
    dp_mutex_unlock(&file->store->lock);
    return is_here;
}

void dp_store_have_bits(const dp_store_file *file, uint8_t *bits)
{
    memset(bits, 0, ((size_t)file->count + 7) / 8);
    dp_mutex_lock(&file->store->lock);
    for (uint32_t i = 0; i < file->count; i++) {
        if (file->pieces[i].state == PIECE_HERE)
            bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
    dp_mutex_unlock(&file->store->lock);
}

void dp_store_set_class(dp_store_file *file, uint32_t first, uint32_t count, dp_piece_class class_)
{
    DP_ASSERT(first <= file->count && count <= file->count - first);
    dp_mutex_lock(&file->store->lock);
    for (uint32_t i = first; i < first + count; i++) {
        if (file->pieces[i].class_ == class_)
            continue;
        file->pieces[i].class_ = (uint8_t)class_;
        file->pieces[i].is_newer = true;
        dp_store_colder_locked(file, i);
    }
    dp_mutex_unlock(&file->store->lock);
}

void dp_store_touch(dp_store_file *file, uint32_t first, uint32_t count)
{
    double now_s = dp_store_now_s(file->store);

    DP_ASSERT(first <= file->count && count <= file->count - first);
    dp_mutex_lock(&file->store->lock);
    for (uint32_t i = first; i < first + count; i++) {
        file->pieces[i].warmth = dp_evict_touch(file->pieces[i].warmth, now_s, 1);
        file->pieces[i].is_newer = true;
        dp_store_colder_locked(file, i);
    }
    dp_mutex_unlock(&file->store->lock);
}

void dp_store_stats_read(dp_store *store, dp_store_stats *out)
{
    dp_mutex_lock(&store->lock);
    *out = store->stats;
    out->used_bytes = store->foreign_bytes + store->own_bytes;
    out->budget_bytes = store->budget_bytes;
    out->is_writable = store->is_writable;
    memcpy(out->problem, store->problem, sizeof out->problem);
    dp_mutex_unlock(&store->lock);
}
