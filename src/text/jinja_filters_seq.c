/* Filters on sequences and dicts. Like Jinja's, map, select, items and their kin make
 * iterators: they go through once, and have no length. */
#include <string.h>

#include "text/jinja_impl.h"

static dp_jvalue iterator(dp_jlist *l)
{
    return dp_jv_list(DP_JV_ITER, l);
}

static bool is_given(dp_jvalue v)
{
    return v.kind != DP_JV_ABSENT && v.kind != DP_JV_NONE;
}

static bool flag(dp_jrun *x, dp_jvalue v)
{
    return is_given(v) && dp_jinja_truth(x, v);
}

/* The attribute of an item that a filter was told to look at, or the item. */
static dp_jvalue looked_at(dp_jrun *x, dp_jvalue item, dp_jvalue attribute)
{
    return is_given(attribute) ? dp_jinja_path(x, item, attribute) : item;
}

static dp_jvalue without_case(dp_jrun *x, dp_jvalue v, bool is_sensitive)
{
    if (v.kind == DP_JV_STR && !is_sensitive)
        return dp_jv_str(dp_jinja_str_case(x, v.s, DP_JCASE_LOWER));
    return v;
}

static dp_jlist *copy(dp_jrun *x, const dp_jlist *from)
{
    dp_jlist *l = dp_jinja_list(x, from->count);

    for (size_t i = 0; i < from->count && !x->st; i++)
        dp_jinja_list_add(x, l, from->list[i]);
    return l;
}

/* ---- picking one ---- */

static dp_jvalue do_first(dp_jrun *x, const dp_jcall *c)
{
    if (c->self.kind == DP_JV_ITER) /* takes just this one */
        return c->self.l->at < c->self.l->count ? c->self.l->list[c->self.l->at++]
                                                : dp_jv_undefined(NULL);
    const dp_jlist *items = dp_jinja_items(x, c->self);

    return items->count > 0 ? items->list[0] : dp_jv_undefined(NULL);
}

static dp_jvalue do_last(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items;

    if (c->self.kind == DP_JV_ITER) {
        dp_jinja_fail(x, DP_E_INVALID, "last: %s cannot be reversed", dp_jinja_kind_name(c->self));
        return dp_jv_none();
    }
    items = dp_jinja_items(x, c->self);
    return items->count > 0 ? items->list[items->count - 1] : dp_jv_undefined(NULL);
}

static dp_jvalue pick_extreme(dp_jrun *x, const dp_jcall *c, int sign)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    bool is_sensitive = flag(x, c->arg[0]);
    dp_jvalue best = dp_jv_undefined(NULL), best_key = best;

    for (size_t i = 0; i < items->count && dp_jinja_pay(x, 0); i++) {
        dp_jvalue key = without_case(x, looked_at(x, items->list[i], c->arg[1]), is_sensitive);

        if (i == 0 || sign * dp_jinja_order(x, key, best_key, "<") < 0) {
            best = items->list[i];
            best_key = key;
        }
    }
    return best;
}

static dp_jvalue do_min(dp_jrun *x, const dp_jcall *c)
{
    return pick_extreme(x, c, 1);
}

static dp_jvalue do_max(dp_jrun *x, const dp_jcall *c)
{
    return pick_extreme(x, c, -1);
}

/* ---- folding ---- */

static dp_jvalue do_join(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    const dp_jstr *between =
        c->arg[0].kind == DP_JV_ABSENT ? &dp_jinja_empty : dp_jinja_text(x, c->arg[0]);
    const dp_jstr *s;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (size_t i = 0; i < items->count && dp_jinja_pay(x, 0); i++) {
        if (i)
            dp_jinja_put(x, &p, between);
        dp_jinja_put_value(x, &p, looked_at(x, items->list[i], c->arg[1]));
    }
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(s);
}

static dp_jvalue do_sum(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    dp_jvalue sum = c->arg[1].kind == DP_JV_ABSENT ? dp_jv_int(0) : c->arg[1];

    for (size_t i = 0; i < items->count && dp_jinja_pay(x, 0); i++)
        sum = dp_jinja_binary(x, DP_JOP_ADD, sum, looked_at(x, items->list[i], c->arg[0]));
    return sum;
}

/* ---- rearranging ---- */

static dp_jvalue do_list(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_list(DP_JV_LIST, copy(x, dp_jinja_items(x, c->self)));
}

typedef struct sorting {
    dp_jvalue key, item;
} sorting;

/* Merge sort: stable, as Python's. from is sorted into to; both hold count. */
static void merge_sort(dp_jrun *x, sorting *from, sorting *to, size_t count, int sign)
{
    size_t half = count / 2, i = 0, j = half;

    if (count < 2 || !dp_jinja_pay(x, 0))
        return;
    merge_sort(x, to, from, half, sign);
    merge_sort(x, to + half, from + half, count - half, sign);
    for (size_t at = 0; at < count && dp_jinja_pay(x, 0); at++) {
        bool takes_right =
            i == half || (j < count && sign * dp_jinja_order(x, from[j].key, from[i].key, "<") < 0);

        to[at] = from[takes_right ? j++ : i++];
    }
}

/* items in the order of keys, into a list. */
static dp_jlist *sorted(dp_jrun *x, const dp_jlist *items, const dp_jlist *keys, bool reverses)
{
    dp_jlist *l = dp_jinja_list(x, items->count);
    sorting *a = dp_jinja_take(x, (items->count + 1) * sizeof *a);
    sorting *b = dp_jinja_take(x, (items->count + 1) * sizeof *b);

    if (!a || !b)
        return l;
    for (size_t i = 0; i < items->count; i++)
        a[i] = b[i] = (sorting){ keys->list[i], items->list[i] };
    merge_sort(x, a, b, items->count, reverses ? -1 : 1);
    for (size_t i = 0; i < items->count && !x->st; i++)
        dp_jinja_list_add(x, l, b[i].item);
    return l;
}

/* sort(reverse=False, case_sensitive=False, attribute=None). */
static dp_jvalue do_sort(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    dp_jlist *keys = dp_jinja_list(x, items->count);

    for (size_t i = 0; i < items->count && !x->st; i++)
        dp_jinja_list_add(
            x, keys, without_case(x, looked_at(x, items->list[i], c->arg[2]), flag(x, c->arg[1])));
    return dp_jv_list(DP_JV_LIST, sorted(x, items, keys, flag(x, c->arg[0])));
}

static dp_jvalue make_pair(dp_jrun *x, dp_jvalue key, dp_jvalue value)
{
    dp_jlist *pair = dp_jinja_list(x, 2);

    dp_jinja_list_add(x, pair, key);
    dp_jinja_list_add(x, pair, value);
    return dp_jv_list(DP_JV_TUPLE, pair);
}

static void need_dict(dp_jrun *x, const char *name, dp_jvalue v)
{
    if (v.kind == DP_JV_UNDEFINED)
        dp_jinja_fail_undefined(x, v);
    else if (v.kind != DP_JV_DICT)
        dp_jinja_fail(x, DP_E_INVALID, "%s needs a dict, not %s", name, dp_jinja_kind_name(v));
}

/* dictsort(case_sensitive=False, by="key"|"value", reverse=False). */
static dp_jvalue do_dictsort(dp_jrun *x, const dp_jcall *c)
{
    dp_jlist *items = dp_jinja_list(x, 0), *keys = dp_jinja_list(x, 0);
    bool by_value = false;

    need_dict(x, "dictsort", c->self);
    if (is_given(c->arg[1])) {
        const dp_jstr *by = dp_jinja_text(x, c->arg[1]);

        by_value = dp_str_is((dp_str){ by->bytes, by->size }, "value");
    }
    for (size_t i = 0; !x->st && i < c->self.d->count; i++) {
        const dp_jpair *pair = &c->self.d->list[i];

        dp_jinja_list_add(x, items, make_pair(x, pair->key, pair->value));
        dp_jinja_list_add(x, keys,
                          without_case(x, by_value ? pair->value : pair->key, flag(x, c->arg[0])));
    }
    return dp_jv_list(DP_JV_LIST, sorted(x, items, keys, flag(x, c->arg[2])));
}

static dp_jvalue do_items(dp_jrun *x, const dp_jcall *c)
{
    dp_jlist *l = dp_jinja_list(x, 0);

    if (c->self.kind == DP_JV_UNDEFINED)
        return iterator(l);
    need_dict(x, "items", c->self);
    for (size_t i = 0; !x->st && i < c->self.d->count; i++)
        dp_jinja_list_add(x, l, make_pair(x, c->self.d->list[i].key, c->self.d->list[i].value));
    return iterator(l);
}

static dp_jvalue do_reverse(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items;
    dp_jlist *l;

    if (c->self.kind == DP_JV_STR)
        return dp_jinja_slice(x, c->self, (dp_jvalue){ .kind = DP_JV_ABSENT },
                              (dp_jvalue){ .kind = DP_JV_ABSENT }, dp_jv_int(-1));
    items = dp_jinja_items(x, c->self);
    l = dp_jinja_list(x, items->count);
    for (size_t i = items->count; i-- > 0 && !x->st;)
        dp_jinja_list_add(x, l, items->list[i]);
    return iterator(l);
}

/* unique(case_sensitive=False, attribute=None): the first of each. */
static dp_jvalue do_unique(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    dp_jlist *l = dp_jinja_list(x, 0);
    dp_jdict *seen = dp_jinja_dict(x);

    for (size_t i = 0; i < items->count && !x->st; i++) {
        dp_jvalue key =
            without_case(x, looked_at(x, items->list[i], c->arg[1]), flag(x, c->arg[0]));

        if (dp_jinja_dict_find(x, seen, key))
            continue;
        dp_jinja_dict_set(x, seen, key, dp_jv_none());
        dp_jinja_list_add(x, l, items->list[i]);
    }
    return iterator(l);
}

/* batch(linecount, fill_with=None): lists of that many. */
static dp_jvalue do_batch(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    dp_jlist *l = dp_jinja_list(x, 0), *batch = NULL;
    int64_t size = dp_jv_is_whole(c->arg[0]) ? dp_jv_whole(c->arg[0]) : 0;

    if (size < 1)
        dp_jinja_fail(x, DP_E_INVALID, "batch needs a number above 0");
    for (size_t i = 0; i < items->count && !x->st; i++) {
        if (!batch || (int64_t)batch->count == size) {
            batch = dp_jinja_list(x, 0);
            dp_jinja_list_add(x, l, dp_jv_list(DP_JV_LIST, batch));
        }
        dp_jinja_list_add(x, batch, items->list[i]);
    }
    while (batch && is_given(c->arg[1]) && (int64_t)batch->count < size && !x->st)
        dp_jinja_list_add(x, batch, c->arg[1]);
    return iterator(l);
}

/* ---- map, select and their kin ---- */

/* The arguments behind the first `skipped`, for the filter or test that those name. */
static dp_jargs rest_of(const dp_jargs *args, size_t skipped)
{
    dp_jargs rest = *args;

    skipped = DP_MIN(skipped, rest.count);
    rest.list = rest.count > 0 ? rest.list + skipped : NULL;
    rest.count -= skipped;
    return rest;
}

static const dp_jvar *named(const dp_jargs *args, const char *name)
{
    for (size_t i = 0; i < args->named_count; i++)
        if (dp_str_is((dp_str){ args->named[i].name->bytes, args->named[i].name->size }, name))
            return &args->named[i];
    return NULL;
}

static const dp_jcallable *row_named(dp_jrun *x, dp_jvalue name, bool is_filter)
{
    const dp_jstr *s = dp_jinja_text(x, name);
    dp_str text = { s->bytes, s->size };
    const dp_jcallable *row = is_filter ? dp_jinja_filter_find(text) : dp_jinja_check_find(text);

    if (!row)
        dp_jinja_fail(x, DP_E_UNSUPPORTED, "the %s \"%.*s\" is not supported",
                      is_filter ? "filter" : "test", (int)DP_MIN(s->size, 40), s->bytes);
    return row;
}

/* map(attribute="x", default=...) or map("filter", arguments). */
static dp_jvalue do_map(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    const dp_jvar *attribute = named(c->all, "attribute"), *missing = named(c->all, "default");
    dp_jargs rest = rest_of(c->all, 1);
    const dp_jcallable *row = NULL;
    dp_jlist *l = dp_jinja_list(x, 0);

    if (!attribute && c->all->count == 0)
        dp_jinja_fail(x, DP_E_INVALID, "map needs a filter or an attribute");
    else if (!attribute)
        row = row_named(x, c->all->list[0], true);
    for (size_t i = 0; i < items->count && !x->st; i++) {
        dp_jvalue v = items->list[i];

        if (row)
            v = dp_jinja_call_row(x, row, v, &rest);
        else
            v = dp_jinja_path(x, v, attribute->value);
        if (!row && missing && v.kind == DP_JV_UNDEFINED)
            v = missing->value;
        dp_jinja_list_add(x, l, v);
    }
    return iterator(l);
}

/* The items, or their attributes, that pass a test (truth, when none is named). */
static dp_jvalue choose(dp_jrun *x, const dp_jcall *c, bool by_attribute, bool keeps)
{
    const dp_jlist *items = dp_jinja_items(x, c->self);
    size_t skipped = by_attribute ? 1 : 0;
    dp_jargs rest = rest_of(c->all, skipped + 1);
    const dp_jcallable *row = NULL;
    dp_jlist *l = dp_jinja_list(x, 0);

    if (c->all->count < skipped)
        dp_jinja_fail(x, DP_E_INVALID, "selectattr and rejectattr need an attribute");
    else if (c->all->count > skipped)
        row = row_named(x, c->all->list[skipped], false);
    for (size_t i = 0; i < items->count && dp_jinja_pay(x, 0); i++) {
        dp_jvalue v = items->list[i];

        if (by_attribute)
            v = dp_jinja_path(x, v, c->all->list[0]);
        if (row)
            v = dp_jinja_call_row(x, row, v, &rest);
        if (dp_jinja_truth(x, v) == keeps)
            dp_jinja_list_add(x, l, items->list[i]);
    }
    return iterator(l);
}

static dp_jvalue do_select(dp_jrun *x, const dp_jcall *c)
{
    return choose(x, c, false, true);
}

static dp_jvalue do_reject(dp_jrun *x, const dp_jcall *c)
{
    return choose(x, c, false, false);
}

static dp_jvalue do_selectattr(dp_jrun *x, const dp_jcall *c)
{
    return choose(x, c, true, true);
}

static dp_jvalue do_rejectattr(dp_jrun *x, const dp_jcall *c)
{
    return choose(x, c, true, false);
}

static const dp_jcallable filters[] = {
    { "batch", do_batch, 1, false, { "linecount", "fill_with" } },
    { "dictsort", do_dictsort, 0, false, { "case_sensitive", "by", "reverse" } },
    { "first", do_first, 0, false, { NULL } },
    { "items", do_items, 0, false, { NULL } },
    { "join", do_join, 0, false, { "d", "attribute" } },
    { "last", do_last, 0, false, { NULL } },
    { "list", do_list, 0, false, { NULL } },
    { "map", do_map, 0, true, { NULL } },
    { "max", do_max, 0, false, { "case_sensitive", "attribute" } },
    { "min", do_min, 0, false, { "case_sensitive", "attribute" } },
    { "reject", do_reject, 0, true, { NULL } },
    { "rejectattr", do_rejectattr, 0, true, { NULL } },
    { "reverse", do_reverse, 0, false, { NULL } },
    { "select", do_select, 0, true, { NULL } },
    { "selectattr", do_selectattr, 0, true, { NULL } },
    { "sort", do_sort, 0, false, { "reverse", "case_sensitive", "attribute" } },
    { "sum", do_sum, 0, false, { "attribute", "start" } },
    { "unique", do_unique, 0, false, { "case_sensitive", "attribute" } },
};

const dp_jcallable *dp_jinja_filter_seq_find(dp_str name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(filters); i++)
        if (dp_str_is(name, filters[i].name))
            return &filters[i];
    return NULL;
}
