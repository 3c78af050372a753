#include "text/specials.h"

#include <string.h>

#include "base/mem.h"

#define NODES_MAX ((uint32_t)1 << 26) /* real vocabularies stay below 2^18 */

dp_status dp_specials_init(dp_specials *s, uint64_t name_bytes)
{
    memset(s, 0, sizeof *s);
    if (name_bytes >= NODES_MAX)
        return DP_E_LIMIT;
    s->nodes = dp_alloc(name_bytes + 1, sizeof *s->nodes);
    if (!s->nodes)
        return DP_E_NOMEM;
    s->node_capacity = (uint32_t)name_bytes + 1;
    s->nodes[s->node_count++] = (struct dp_special_end){ DP_TOKEN_NONE, 0 };
    return dp_map_u64_init(&s->children, 0);
}

void dp_specials_deinit(dp_specials *s)
{
    dp_map_u64_deinit(&s->children);
    dp_free(s->nodes);
    memset(s, 0, sizeof *s);
}

static uint64_t edge(uint32_t node, char byte)
{
    return (uint64_t)node << 8 | (uint8_t)byte;
}

dp_status dp_specials_add(dp_specials *s, dp_str name, dp_token id, uint8_t kind)
{
    uint32_t node = 0;

    if (name.size == 0)
        return DP_OK;
    for (size_t i = 0; i < name.size; i++) {
        uint32_t child;
        dp_status st =
            dp_map_u64_add(&s->children, edge(node, name.bytes[i]), s->node_count, &child);

        if (st)
            return st;
        if (child == DP_MAP_NONE) {
            child = s->node_count++;
            s->nodes[child] = (struct dp_special_end){ DP_TOKEN_NONE, 0 };
        }
        node = child;
    }
    if (s->nodes[node].id == DP_TOKEN_NONE)
        s->nodes[node] = (struct dp_special_end){ id, kind };
    s->first[(uint8_t)name.bytes[0]] |= kind;
    return DP_OK;
}

/* The longest name at the place `at`: its size, 0 for none. */
static size_t match(const dp_specials *s, const dp_special_scope *scope, size_t at, dp_token *id)
{
    uint32_t node = 0;
    size_t size = 0;

    for (size_t i = at; i < scope->text.size; i++) {
        uint8_t kinds =
            i < scope->trusted_end ? DP_SPECIAL_ALWAYS | DP_SPECIAL_TRUSTED : DP_SPECIAL_ALWAYS;

        node = dp_map_u64_get(&s->children, edge(node, scope->text.bytes[i]));
        if (node == DP_MAP_NONE)
            break;
        if (s->nodes[node].kind & kinds) {
            *id = s->nodes[node].id;
            size = i + 1 - at;
        }
    }
    return size;
}

bool dp_specials_find(const dp_specials *s, const dp_special_scope *scope, size_t *at, size_t *size,
                      dp_token *id)
{
    for (size_t i = 0; i < scope->begin_end; i++) {
        uint8_t kinds =
            i < scope->trusted_end ? DP_SPECIAL_ALWAYS | DP_SPECIAL_TRUSTED : DP_SPECIAL_ALWAYS;

        if (!(s->first[(uint8_t)scope->text.bytes[i]] & kinds))
            continue;
        *size = match(s, scope, i, id);
        if (*size > 0) {
            *at = i;
            return true;
        }
    }
    return false;
}
