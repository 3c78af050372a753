/* Lists and dicts; what Python says about truth, equality, order and length. */
#include <math.h>
#include <string.h>

#include "text/jinja_impl.h"

#define LINEAR_MAX 8 /* dicts up to this are searched without an index */

const char *dp_jinja_kind_name(dp_jvalue v)
{
    static const char *const names[] = {
        [DP_JV_ABSENT] = "nothing",
        [DP_JV_UNDEFINED] = "undefined",
        [DP_JV_NONE] = "None",
        [DP_JV_BOOL] = "bool",
        [DP_JV_INT] = "int",
        [DP_JV_FLOAT] = "float",
        [DP_JV_STR] = "str",
        [DP_JV_LIST] = "list",
        [DP_JV_TUPLE] = "tuple",
        [DP_JV_VIEW] = "view",
        [DP_JV_ITER] = "generator",
        [DP_JV_DICT] = "dict",
        [DP_JV_NAMESPACE] = "namespace",
        [DP_JV_LOOP] = "loop",
        [DP_JV_MACRO] = "macro",
        [DP_JV_FUNCTION] = "function",
        [DP_JV_METHOD] = "method",
    };

    return names[v.kind];
}

/* ---- lists ---- */

dp_jlist *dp_jinja_list(dp_jrun *x, size_t capacity)
{
    static dp_jlist none; /* stays empty: a failed run adds nothing */
    dp_jlist *l = dp_jinja_take(x, sizeof *l);

    if (!l)
        return &none;
    if (capacity > SIZE_MAX / sizeof *l->list)
        dp_jinja_fail(x, DP_E_LIMIT, "a list of %zu entries", capacity);
    else if (capacity > 0)
        l->list = dp_jinja_take(x, capacity * sizeof *l->list);
    l->capacity = l->list ? capacity : 0;
    return l;
}

void dp_jinja_list_add(dp_jrun *x, dp_jlist *l, dp_jvalue v)
{
    if (x->st)
        return;
    if (l->count == l->capacity) {
        size_t capacity = DP_MAX(2 * l->capacity, (size_t)8);
        dp_jvalue *list = dp_jinja_take(x, capacity * sizeof *list);

        if (!list)
            return;
        if (l->count > 0)
            memcpy(list, l->list, l->count * sizeof *list);
        l->list = list;
        l->capacity = capacity;
    }
    l->list[l->count++] = v;
    dp_jinja_pay(x, 0);
}

/* ---- dicts ---- */

dp_jdict *dp_jinja_dict(dp_jrun *x)
{
    static dp_jdict none;
    dp_jdict *d = dp_jinja_take(x, sizeof *d);

    return d ? d : &none;
}

/* 1, 1.0 and True are one key. False: no key at all. */
static bool hash_key(dp_jvalue key, uint64_t *hash)
{
    if (key.kind == DP_JV_STR)
        *hash = dp_hash_bytes(key.s->bytes, key.s->size);
    else if (dp_jv_is_whole(key))
        *hash = dp_hash_u64((uint64_t)dp_jv_whole(key));
    else if (key.kind == DP_JV_FLOAT && key.f == floor(key.f) && fabs(key.f) < 0x1p62)
        *hash = dp_hash_u64((uint64_t)(int64_t)key.f);
    else if (key.kind == DP_JV_FLOAT)
        *hash = dp_hash_bytes(&key.f, sizeof key.f);
    else if (key.kind == DP_JV_NONE || key.kind == DP_JV_UNDEFINED)
        *hash = key.kind;
    else
        return false;
    return true;
}

static bool is_key_equal(dp_jrun *x, dp_jvalue a, dp_jvalue b)
{
    if (a.kind == DP_JV_STR && b.kind == DP_JV_STR)
        return a.s->size == b.s->size &&
               (a.s == b.s || a.s->size == 0 || !memcmp(a.s->bytes, b.s->bytes, a.s->size));
    return dp_jinja_equal(x, a, b);
}

/* The place in the index where the key is, or would be. */
static size_t index_slot(dp_jrun *x, const dp_jdict *d, dp_jvalue key, uint64_t hash)
{
    size_t at = hash & (d->index_size - 1);

    while (d->index[at] && !is_key_equal(x, d->list[d->index[at] - 1].key, key) &&
           dp_jinja_pay(x, 0))
        at = (at + 1) & (d->index_size - 1);
    return at;
}

static dp_jpair *find(dp_jrun *x, const dp_jdict *d, dp_jvalue key, uint64_t hash)
{
    if (d->index) {
        uint32_t place = d->index[index_slot(x, d, key, hash)];

        return place ? &d->list[place - 1] : NULL;
    }
    for (size_t i = 0; i < d->count; i++)
        if (is_key_equal(x, d->list[i].key, key))
            return &d->list[i];
    return NULL;
}

const dp_jpair *dp_jinja_dict_find(dp_jrun *x, const dp_jdict *d, dp_jvalue key)
{
    uint64_t hash;

    if (!dp_jinja_pay(x, key.kind == DP_JV_STR ? key.s->size : 0) || !hash_key(key, &hash))
        return NULL;
    return find(x, d, key, hash);
}

const dp_jpair *dp_jinja_dict_find_text(dp_jrun *x, const dp_jdict *d, const char *key)
{
    dp_jstr s = { key, strlen(key), NULL, 0, true };

    return dp_jinja_dict_find(x, d, dp_jv_str(&s));
}

/* Room for one more; the index is made anew when it would be more than half full. */
static bool reserve(dp_jrun *x, dp_jdict *d)
{
    size_t capacity = DP_MAX(2 * d->capacity, (size_t)8);
    dp_jpair *list;
    uint64_t hash;

    if (d->count < d->capacity)
        return true;
    if (capacity > UINT32_MAX / 2) {
        dp_jinja_fail(x, DP_E_LIMIT, "a dict of %zu entries", capacity);
        return false;
    }
    list = dp_jinja_take(x, capacity * sizeof *list);
    if (!list)
        return false;
    if (d->count > 0)
        memcpy(list, d->list, d->count * sizeof *list);
    d->list = list;
    d->capacity = capacity;
    if (capacity <= LINEAR_MAX)
        return true;
    d->index_size = 2 * capacity; /* a power of two, as capacity is */
    d->index = dp_jinja_take(x, d->index_size * sizeof *d->index);
    for (uint32_t i = 0; d->index && i < d->count; i++)
        if (hash_key(d->list[i].key, &hash))
            d->index[index_slot(x, d, d->list[i].key, hash)] = i + 1;
    return d->index != NULL;
}

void dp_jinja_dict_set(dp_jrun *x, dp_jdict *d, dp_jvalue key, dp_jvalue value)
{
    uint64_t hash = 0;
    dp_jpair *pair;

    if (!dp_jinja_pay(x, key.kind == DP_JV_STR ? key.s->size : 0))
        return;
    if (!hash_key(key, &hash)) {
        dp_jinja_fail(x, DP_E_INVALID, "a %s cannot be the key of a dict", dp_jinja_kind_name(key));
        return;
    }
    pair = find(x, d, key, hash);
    if (pair) {
        pair->value = value;
        return;
    }
    if (!reserve(x, d))
        return;
    d->list[d->count++] = (dp_jpair){ key, value };
    if (d->index)
        d->index[index_slot(x, d, key, hash)] = (uint32_t)d->count;
}

/* ---- questions ---- */

bool dp_jinja_truth(dp_jrun *x, dp_jvalue v)
{
    switch (v.kind) {
    case DP_JV_ABSENT:
    case DP_JV_UNDEFINED:
    case DP_JV_NONE:
        return false;
    case DP_JV_BOOL:
        return v.is;
    case DP_JV_INT:
        return v.i != 0;
    case DP_JV_FLOAT:
        return v.f != 0;
    case DP_JV_STR:
        return v.s->size > 0;
    case DP_JV_LIST:
    case DP_JV_TUPLE:
    case DP_JV_VIEW:
        return v.l->count > 0;
    case DP_JV_DICT:
        return v.d->count > 0;
    default:
        return true;
    }
}

static bool are_lists_equal(dp_jrun *x, const dp_jlist *a, const dp_jlist *b)
{
    bool is = a->count == b->count;

    for (size_t i = 0; i < a->count && is && dp_jinja_pay(x, 0); i++)
        is = dp_jinja_equal(x, a->list[i], b->list[i]);
    return is;
}

static bool are_dicts_equal(dp_jrun *x, const dp_jdict *a, const dp_jdict *b)
{
    bool is = a->count == b->count;

    for (size_t i = 0; i < a->count && is && !x->st; i++) {
        const dp_jpair *pair = dp_jinja_dict_find(x, b, a->list[i].key);

        is = pair && dp_jinja_equal(x, a->list[i].value, pair->value);
    }
    return is;
}

static bool are_numbers_equal(dp_jvalue a, dp_jvalue b)
{
    if (dp_jv_is_whole(a) && dp_jv_is_whole(b))
        return dp_jv_whole(a) == dp_jv_whole(b);
    return dp_jv_real(a) == dp_jv_real(b);
}

bool dp_jinja_equal(dp_jrun *x, dp_jvalue a, dp_jvalue b)
{
    bool is = false;

    if (dp_jv_is_number(a) && dp_jv_is_number(b))
        return are_numbers_equal(a, b);
    if (a.kind != b.kind)
        return false;
    if (a.kind == DP_JV_STR)
        return a.s->size == b.s->size && dp_jinja_pay(x, a.s->size) &&
               (a.s->size == 0 || !memcmp(a.s->bytes, b.s->bytes, a.s->size));
    if (a.kind == DP_JV_NONE || a.kind == DP_JV_UNDEFINED)
        return true;
    if (!dp_jinja_enter(x))
        return false;
    if (a.kind == DP_JV_LIST || a.kind == DP_JV_TUPLE)
        is = are_lists_equal(x, a.l, b.l);
    else if (a.kind == DP_JV_DICT)
        is = are_dicts_equal(x, a.d, b.d);
    else
        is = a.l == b.l; /* the same thing */
    dp_jinja_leave(x);
    return is;
}

static int order_strings(dp_jrun *x, const dp_jstr *a, const dp_jstr *b)
{
    size_t size = DP_MIN(a->size, b->size);
    int order = dp_jinja_pay(x, size) && size > 0 ? memcmp(a->bytes, b->bytes, size) : 0;

    return order ? order : (a->size > b->size) - (a->size < b->size);
}

static int order_lists(dp_jrun *x, const dp_jlist *a, const dp_jlist *b, const char *op)
{
    for (size_t i = 0; i < a->count && i < b->count && dp_jinja_pay(x, 0); i++)
        if (!dp_jinja_equal(x, a->list[i], b->list[i]))
            return dp_jinja_order(x, a->list[i], b->list[i], op);
    return (a->count > b->count) - (a->count < b->count);
}

int dp_jinja_order(dp_jrun *x, dp_jvalue a, dp_jvalue b, const char *op)
{
    int order = 0;

    if (dp_jv_is_whole(a) && dp_jv_is_whole(b)) {
        int64_t i = dp_jv_whole(a), j = dp_jv_whole(b);

        return (i > j) - (i < j);
    }
    if (dp_jv_is_number(a) && dp_jv_is_number(b)) {
        double f = dp_jv_real(a), g = dp_jv_real(b);

        return (f > g) - (f < g);
    }
    if (a.kind == DP_JV_STR && b.kind == DP_JV_STR)
        return order_strings(x, a.s, b.s);
    if (a.kind == b.kind && (a.kind == DP_JV_LIST || a.kind == DP_JV_TUPLE)) {
        if (dp_jinja_enter(x)) {
            order = order_lists(x, a.l, b.l, op);
            dp_jinja_leave(x);
        }
        return order;
    }
    if (a.kind == DP_JV_UNDEFINED || b.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, a.kind == DP_JV_UNDEFINED ? a : b);
    dp_jinja_fail(x, DP_E_INVALID, "'%s' cannot compare %s with %s", op, dp_jinja_kind_name(a),
                  dp_jinja_kind_name(b));
    return 0;
}

bool dp_jinja_contains(dp_jrun *x, dp_jvalue container, dp_jvalue item)
{
    const dp_jlist *l;
    uint64_t hash;

    if (container.kind == DP_JV_STR) {
        if (item.kind != DP_JV_STR)
            dp_jinja_fail(x, DP_E_INVALID, "'in' looks for text in text, not for %s",
                          dp_jinja_kind_name(item));
        return !x->st && dp_jinja_str_find(x, container.s, item.s, 0) != SIZE_MAX;
    }
    if (container.kind == DP_JV_DICT) {
        if (!hash_key(item, &hash))
            dp_jinja_fail(x, DP_E_INVALID, "a %s cannot be the key of a dict",
                          dp_jinja_kind_name(item));
        return dp_jinja_dict_find(x, container.d, item) != NULL;
    }
    l = dp_jinja_items(x, container);
    for (size_t i = 0; i < l->count && dp_jinja_pay(x, 0); i++)
        if (dp_jinja_equal(x, l->list[i], item))
            return true;
    return false;
}

int64_t dp_jinja_length(dp_jrun *x, dp_jvalue v)
{
    if (v.kind == DP_JV_STR)
        return (int64_t)dp_jinja_str_chars(x, v.s);
    if (dp_jv_is_sequence(v))
        return (int64_t)v.l->count;
    if (v.kind == DP_JV_DICT)
        return (int64_t)v.d->count;
    if (v.kind == DP_JV_LOOP)
        return (int64_t)v.loop->items->count;
    return v.kind == DP_JV_UNDEFINED ? 0 : -1;
}

bool dp_jinja_is_iterable(dp_jvalue v)
{
    return dp_jv_is_sequence(v) || v.kind == DP_JV_STR || v.kind == DP_JV_ITER ||
           v.kind == DP_JV_DICT || v.kind == DP_JV_UNDEFINED || v.kind == DP_JV_LOOP;
}

static const dp_jlist *chars_of(dp_jrun *x, const dp_jstr *s)
{
    dp_jlist *l = dp_jinja_list(x, dp_jinja_str_chars(x, s));
    size_t at = 0;

    while (at < s->size && !x->st) {
        size_t end = at + 1;

        while (end < s->size && ((uint8_t)s->bytes[end] & 0xC0) == 0x80)
            end++;
        dp_jinja_list_add(x, l, dp_jv_str(dp_jinja_str_part(x, s, at, end)));
        at = end;
    }
    return l;
}

const dp_jlist *dp_jinja_items(dp_jrun *x, dp_jvalue v)
{
    dp_jlist *l;

    if (dp_jv_is_sequence(v))
        return v.l;
    if (v.kind == DP_JV_STR)
        return chars_of(x, v.s);
    l = dp_jinja_list(x, v.kind == DP_JV_DICT ? v.d->count : 0);
    if (v.kind == DP_JV_ITER) {
        for (; v.l->at < v.l->count && !x->st; v.l->at++)
            dp_jinja_list_add(x, l, v.l->list[v.l->at]);
    } else if (v.kind == DP_JV_DICT) {
        for (size_t i = 0; i < v.d->count && !x->st; i++)
            dp_jinja_list_add(x, l, v.d->list[i].key);
    } else if (v.kind != DP_JV_UNDEFINED) {
        dp_jinja_fail(x, DP_E_INVALID, "%s is not something to go through", dp_jinja_kind_name(v));
    }
    return l;
}
