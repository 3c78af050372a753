#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/jinja_impl.h"

#define ALIGN          16
#define CHUNK_SIZE_MIN ((size_t)16 << 10)
#define CHUNK_SIZE_TOP ((size_t)1 << 20) /* chunks double up to this */

struct dp_jchunk {
    struct dp_jchunk *next;
    size_t size; /* of bytes */
    _Alignas(ALIGN) char bytes[];
};

void dp_jinja_memory_init(dp_jmemory *m, size_t size_max)
{
    *m = (dp_jmemory){ .size_max = size_max };
}

void dp_jinja_memory_deinit(dp_jmemory *m)
{
    dp_jarena *const arenas[] = { &m->objects, &m->text, &m->runs };

    for (size_t i = 0; i < DP_ARRAY_LEN(arenas); i++)
        while (arenas[i]->chunks) {
            struct dp_jchunk *chunk = arenas[i]->chunks;

            arenas[i]->chunks = chunk->next;
            dp_free(chunk);
        }
    dp_jinja_memory_init(m, m->size_max);
}

static dp_status add_chunk(dp_jmemory *m, dp_jarena *arena, size_t size)
{
    size_t chunk_size = CHUNK_SIZE_MIN;
    struct dp_jchunk *chunk;

    if (arena->chunks)
        chunk_size = DP_MIN(2 * arena->chunks->size, CHUNK_SIZE_TOP);
    chunk_size = DP_MAX(chunk_size, CHUNK_SIZE_MIN);
    if (size > chunk_size / 2) /* large ones get as much again, to grow into */
        chunk_size = size > m->size_max / 2 ? size : 2 * size;
    if (chunk_size > m->size_max - m->size)
        chunk_size = size;
    if (chunk_size > m->size_max - m->size)
        return DP_E_LIMIT;
    chunk = dp_alloc(1, sizeof *chunk + chunk_size);
    if (!chunk)
        return DP_E_NOMEM;
    chunk->size = chunk_size;
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = chunk->bytes;
    arena->end = chunk->bytes + chunk_size;
    m->size += chunk_size;
    return DP_OK;
}

void *dp_jinja_memory_take(dp_jmemory *m, dp_jarena *arena, size_t size, dp_status *st)
{
    size_t gap = arena->at ? (size_t)(-(uintptr_t)arena->at & (ALIGN - 1)) : 0;
    char *block;

    if (arena->at && gap <= (size_t)(arena->end - arena->at))
        arena->at += gap;
    if (!arena->at || size > (size_t)(arena->end - arena->at)) {
        *st = size > m->size_max ? DP_E_LIMIT : add_chunk(m, arena, size);
        if (*st)
            return NULL;
    }
    block = arena->at;
    arena->at += size;
    memset(block, 0, size);
    return block;
}

bool dp_jinja_memory_extend(dp_jarena *arena, const void *block, size_t size, size_t more)
{
    if (!arena->at || (const char *)block + size != arena->at ||
        more > (size_t)(arena->end - arena->at))
        return false;
    arena->at += more;
    return true;
}

/* ---- a run's failures and counts ---- */

void dp_jinja_fail(dp_jrun *x, dp_status st, const char *format, ...)
{
    char text[DP_ERROR_TEXT_MAX - 64];
    va_list args;

    if (x->st)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    x->st = dp_fail(x->err, st, "chat template, line %u: %s", x->line, text);
}

void dp_jinja_fail_undefined(dp_jrun *x, dp_jvalue v)
{
    dp_jinja_fail(x, DP_E_INVALID, "'%.*s' is undefined", v.s ? (int)DP_MIN(v.s->size, 64) : 0,
                  v.s ? v.s->bytes : "");
}

bool dp_jinja_pay(dp_jrun *x, size_t size)
{
    x->steps += 1 + size / 64; /* memory moves that many bytes in the time of a step */
    if (x->steps > DP_JINJA_STEPS_MAX)
        dp_jinja_fail(x, DP_E_LIMIT, "more than %llu steps",
                      (unsigned long long)DP_JINJA_STEPS_MAX);
    return !x->st;
}

bool dp_jinja_enter(dp_jrun *x)
{
    if (x->depth >= DP_JINJA_DEPTH_MAX)
        dp_jinja_fail(x, DP_E_LIMIT, "nested deeper than %d", DP_JINJA_DEPTH_MAX);
    if (x->st)
        return false;
    x->depth++;
    return true;
}

void dp_jinja_leave(dp_jrun *x)
{
    x->depth--;
}

void *dp_jinja_take(dp_jrun *x, size_t size)
{
    dp_status st = DP_OK;
    void *block = x->st ? NULL : dp_jinja_memory_take(&x->memory, &x->memory.objects, size, &st);

    if (st)
        dp_jinja_fail(x, st, st == DP_E_LIMIT ? "more than %zu bytes of values" : "no memory (%zu)",
                      st == DP_E_LIMIT ? DP_JINJA_MEMORY_MAX : size);
    return block;
}
