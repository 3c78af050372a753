/* Methods of text, dicts, lists and loops. */
#include <string.h>

#include "base/utf8.h"
#include "text/casing.h"
#include "text/jinja_impl.h"
#include "text/unicode.h"

static bool is_given(dp_jvalue v)
{
    return v.kind != DP_JV_ABSENT && v.kind != DP_JV_NONE;
}

/* Argument i, which must be text; NULL when none was given. */
static const dp_jstr *text_arg(dp_jrun *x, const dp_jcall *c, size_t i)
{
    if (!is_given(c->arg[i]))
        return NULL;
    if (c->arg[i].kind == DP_JV_STR)
        return c->arg[i].s;
    dp_jinja_fail(x, DP_E_INVALID, "a method of str needs text, not %s",
                  dp_jinja_kind_name(c->arg[i]));
    return &dp_jinja_empty;
}

static int64_t whole_arg(dp_jrun *x, const dp_jcall *c, size_t i, int64_t missing)
{
    if (!is_given(c->arg[i]))
        return missing;
    if (!dp_jv_is_whole(c->arg[i]))
        dp_jinja_fail(x, DP_E_INVALID, "a method needs a whole number, not %s",
                      dp_jinja_kind_name(c->arg[i]));
    return x->st ? missing : dp_jv_whole(c->arg[i]);
}

/* ---- text: white space, case ---- */

static dp_jvalue do_strip(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_strip(x, c->self.s, text_arg(x, c, 0), true, true));
}

static dp_jvalue do_lstrip(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_strip(x, c->self.s, text_arg(x, c, 0), true, false));
}

static dp_jvalue do_rstrip(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_strip(x, c->self.s, text_arg(x, c, 0), false, true));
}

static dp_jvalue do_upper(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, c->self.s, DP_JCASE_UPPER));
}

static dp_jvalue do_lower(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, c->self.s, DP_JCASE_LOWER));
}

static dp_jvalue do_title(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, c->self.s, DP_JCASE_TITLE));
}

static dp_jvalue do_capitalize(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_str(dp_jinja_str_case(x, c->self.s, DP_JCASE_CAPITAL));
}

/* ---- text: looking ---- */

static bool has_affix(const dp_jstr *s, const dp_jstr *affix, bool at_end)
{
    if (affix->size > s->size)
        return false;
    return affix->size == 0 ||
           !memcmp(s->bytes + (at_end ? s->size - affix->size : 0), affix->bytes, affix->size);
}

/* One affix, or a tuple of which any will do. */
static dp_jvalue any_affix(dp_jrun *x, const dp_jcall *c, bool at_end)
{
    if (c->arg[0].kind != DP_JV_TUPLE)
        return dp_jv_bool(has_affix(c->self.s, text_arg(x, c, 0), at_end));
    for (size_t i = 0; i < c->arg[0].l->count && dp_jinja_pay(x, 0); i++) {
        dp_jvalue affix = c->arg[0].l->list[i];

        if (affix.kind != DP_JV_STR)
            dp_jinja_fail(x, DP_E_INVALID, "startswith and endswith need text, not %s",
                          dp_jinja_kind_name(affix));
        else if (has_affix(c->self.s, affix.s, at_end))
            return dp_jv_bool(true);
    }
    return dp_jv_bool(false);
}

static dp_jvalue do_startswith(dp_jrun *x, const dp_jcall *c)
{
    if (!is_given(c->arg[0]))
        dp_jinja_fail(x, DP_E_INVALID, "startswith needs text");
    return x->st ? dp_jv_none() : any_affix(x, c, false);
}

static dp_jvalue do_endswith(dp_jrun *x, const dp_jcall *c)
{
    if (!is_given(c->arg[0]))
        dp_jinja_fail(x, DP_E_INVALID, "endswith needs text");
    return x->st ? dp_jv_none() : any_affix(x, c, true);
}

static int64_t chars_before(dp_jrun *x, const dp_jstr *s, size_t at)
{
    dp_jstr part = { s->bytes, at, NULL, 0, true };

    return (int64_t)dp_jinja_str_chars(x, &part);
}

static int64_t find_char(dp_jrun *x, const dp_jcall *c, bool is_last)
{
    const dp_jstr *s = c->self.s, *part = text_arg(x, c, 0);
    size_t found = SIZE_MAX, at = 0;

    if (!part || x->st)
        return -1;
    while ((found == SIZE_MAX || is_last) && at <= s->size) {
        size_t next = dp_jinja_str_find(x, s, part, at);

        if (next == SIZE_MAX)
            break;
        found = next;
        at = next + 1;
    }
    return found == SIZE_MAX ? -1 : chars_before(x, s, found);
}

static dp_jvalue do_find(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_int(find_char(x, c, false));
}

static dp_jvalue do_rfind(dp_jrun *x, const dp_jcall *c)
{
    return dp_jv_int(find_char(x, c, true));
}

static dp_jvalue do_index(dp_jrun *x, const dp_jcall *c)
{
    int64_t at = find_char(x, c, false);

    if (at < 0)
        dp_jinja_fail(x, DP_E_INVALID, "index: the text is not there");
    return dp_jv_int(at);
}

static dp_jvalue do_count(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = c->self.s, *part = text_arg(x, c, 0);
    int64_t count = 0;
    size_t at = 0;

    if (!part || part->size == 0)
        return dp_jv_int((int64_t)dp_jinja_str_chars(x, s) + 1);
    while ((at = dp_jinja_str_find(x, s, part, at)) != SIZE_MAX && !x->st) {
        at += part->size;
        count++;
    }
    return dp_jv_int(count);
}

/* True when there are characters, and all of them are in the classes. */
static dp_jvalue all_are(dp_jrun *x, const dp_jstr *s, uint32_t classes)
{
    uint32_t cp;

    for (size_t at = 0; at < s->size && dp_jinja_pay(x, 0);) {
        at += dp_utf8_decode(s->bytes + at, s->size - at, &cp);
        if (!(dp_unicode_bit(cp) & classes))
            return dp_jv_bool(false);
    }
    return dp_jv_bool(s->size > 0);
}

static dp_jvalue do_isdigit(dp_jrun *x, const dp_jcall *c)
{
    return all_are(x, c->self.s, DP_IS_N);
}

static dp_jvalue do_isalpha(dp_jrun *x, const dp_jcall *c)
{
    return all_are(x, c->self.s, DP_IS_L);
}

static dp_jvalue do_isalnum(dp_jrun *x, const dp_jcall *c)
{
    return all_are(x, c->self.s, DP_IS_L | DP_IS_N);
}

static dp_jvalue do_isspace(dp_jrun *x, const dp_jcall *c)
{
    return all_are(x, c->self.s, DP_IS_SPACE);
}

static dp_jvalue case_check(dp_jrun *x, const dp_jcall *c, const char *name)
{
    const dp_jargs none = { 0 };

    return dp_jinja_call_row(x, dp_jinja_check_find(dp_str_from(name)), c->self, &none);
}

static dp_jvalue do_isupper(dp_jrun *x, const dp_jcall *c)
{
    return case_check(x, c, "upper");
}

static dp_jvalue do_islower(dp_jrun *x, const dp_jcall *c)
{
    return case_check(x, c, "lower");
}

/* ---- text: parts ---- */

static void add_part(dp_jrun *x, dp_jlist *l, const dp_jstr *s, size_t begin, size_t end)
{
    dp_jinja_list_add(x, l, dp_jv_str(dp_jinja_str_part(x, s, begin, end)));
}

static void reverse(dp_jlist *l)
{
    for (size_t i = 0; i < l->count / 2; i++) {
        dp_jvalue v = l->list[i];

        l->list[i] = l->list[l->count - 1 - i];
        l->list[l->count - 1 - i] = v;
    }
}

/* The size of the character at `at` when it is white space, else 0. */
static size_t space_at(const dp_jstr *s, size_t at)
{
    uint32_t cp;
    size_t size = at < s->size ? dp_utf8_decode(s->bytes + at, s->size - at, &cp) : 0;

    return size && dp_jinja_is_space(cp) ? size : 0;
}

/* Where the character that ends at `end` begins. */
static size_t char_before(const dp_jstr *s, size_t end)
{
    size_t at = end - 1;

    while (at > 0 && ((uint8_t)s->bytes[at] & 0xC0) == 0x80)
        at--;
    return at;
}

static void split_words(dp_jrun *x, dp_jlist *l, const dp_jstr *s, int64_t max)
{
    size_t at = 0, size;

    while (dp_jinja_pay(x, 0)) {
        size_t begin;

        while ((size = space_at(s, at)) > 0)
            at += size;
        if (at >= s->size)
            break;
        begin = at;
        if (max >= 0 && (int64_t)l->count == max) {
            add_part(x, l, s, begin, s->size);
            break;
        }
        while (at < s->size && space_at(s, at) == 0)
            at++;
        add_part(x, l, s, begin, at);
    }
}

static void rsplit_words(dp_jrun *x, dp_jlist *l, const dp_jstr *s, int64_t max)
{
    size_t end = s->size;

    while (dp_jinja_pay(x, 0)) {
        size_t last;

        while (end > 0 && space_at(s, char_before(s, end)) > 0)
            end = char_before(s, end);
        if (end == 0)
            break;
        last = end;
        if (max >= 0 && (int64_t)l->count == max) {
            add_part(x, l, s, 0, last);
            break;
        }
        while (end > 0 && space_at(s, char_before(s, end)) == 0)
            end = char_before(s, end);
        add_part(x, l, s, end, last);
    }
    reverse(l);
}

static void split_by(dp_jrun *x, dp_jlist *l, const dp_jstr *s, const dp_jstr *by, int64_t max)
{
    size_t at = 0;

    while ((max < 0 || (int64_t)l->count < max) && !x->st) {
        size_t found = dp_jinja_str_find(x, s, by, at);

        if (found == SIZE_MAX)
            break;
        add_part(x, l, s, at, found);
        at = found + by->size;
    }
    add_part(x, l, s, at, s->size);
}

static void rsplit_by(dp_jrun *x, dp_jlist *l, const dp_jstr *s, const dp_jstr *by, int64_t max)
{
    size_t end = s->size;

    for (size_t at = s->size;
         at >= by->size && (max < 0 || (int64_t)l->count < max) && dp_jinja_pay(x, by->size);) {
        size_t begin = at - by->size;

        if (memcmp(s->bytes + begin, by->bytes, by->size)) {
            at--;
            continue;
        }
        add_part(x, l, s, at, end);
        end = at = begin;
    }
    add_part(x, l, s, 0, end);
    reverse(l);
}

/* split(sep=None, maxsplit=-1), from the left or the right. */
static dp_jvalue split(dp_jrun *x, const dp_jcall *c, bool from_right)
{
    const dp_jstr *by = text_arg(x, c, 0);
    int64_t max = whole_arg(x, c, 1, -1);
    dp_jlist *l = dp_jinja_list(x, 0);

    if (by && by->size == 0)
        dp_jinja_fail(x, DP_E_INVALID, "split: an empty separator");
    if (x->st)
        return dp_jv_none();
    if (by)
        (from_right ? rsplit_by : split_by)(x, l, c->self.s, by, max);
    else
        (from_right ? rsplit_words : split_words)(x, l, c->self.s, max);
    return dp_jv_list(DP_JV_LIST, l);
}

static dp_jvalue do_split(dp_jrun *x, const dp_jcall *c)
{
    return split(x, c, false);
}

static dp_jvalue do_rsplit(dp_jrun *x, const dp_jcall *c)
{
    return split(x, c, true);
}

/* How many bytes of a line's end stand at `at`: 0, 1, 2 (\r\n) or more (U+2028). */
static size_t line_end(const dp_jstr *s, size_t at)
{
    uint32_t cp;
    size_t size = dp_utf8_decode(s->bytes + at, s->size - at, &cp);

    if (cp == '\r' && at + 1 < s->size && s->bytes[at + 1] == '\n')
        return 2;
    return (cp >= '\n' && cp <= '\r') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 ||
                   cp == 0x2029
               ? size
               : 0;
}

static dp_jvalue do_splitlines(dp_jrun *x, const dp_jcall *c)
{
    bool keeps = is_given(c->arg[0]) && dp_jinja_truth(x, c->arg[0]);
    dp_jlist *l = dp_jinja_list(x, 0);
    const dp_jstr *s = c->self.s;
    size_t begin = 0;

    for (size_t at = 0; at < s->size && dp_jinja_pay(x, 0);) {
        size_t size = line_end(s, at);

        if (size) {
            add_part(x, l, s, begin, keeps ? at + size : at);
            begin = at + size;
        }
        at += size ? size : 1;
    }
    if (begin < s->size)
        add_part(x, l, s, begin, s->size);
    return dp_jv_list(DP_JV_LIST, l);
}

static dp_jvalue partition(dp_jrun *x, const dp_jcall *c, bool is_last)
{
    const dp_jstr *s = c->self.s, *by = text_arg(x, c, 0);
    size_t found = SIZE_MAX, at = 0;
    dp_jlist *l = dp_jinja_list(x, 3);

    if (!x->st && (!by || by->size == 0))
        dp_jinja_fail(x, DP_E_INVALID, "partition: an empty separator");
    while (!x->st && (at = dp_jinja_str_find(x, s, by, at)) != SIZE_MAX) {
        found = at++;
        if (!is_last)
            break;
    }
    if (x->st)
        return dp_jv_none();
    if (found == SIZE_MAX) {
        dp_jinja_list_add(x, l, dp_jv_str(is_last ? &dp_jinja_empty : s));
        dp_jinja_list_add(x, l, dp_jv_str(&dp_jinja_empty));
        dp_jinja_list_add(x, l, dp_jv_str(is_last ? s : &dp_jinja_empty));
    } else {
        add_part(x, l, s, 0, found);
        add_part(x, l, s, found, found + by->size);
        add_part(x, l, s, found + by->size, s->size);
    }
    return dp_jv_list(DP_JV_TUPLE, l);
}

static dp_jvalue do_partition(dp_jrun *x, const dp_jcall *c)
{
    return partition(x, c, false);
}

static dp_jvalue do_rpartition(dp_jrun *x, const dp_jcall *c)
{
    return partition(x, c, true);
}

/* ---- text: making ---- */

static dp_jvalue do_replace(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *old = text_arg(x, c, 0), *new = text_arg(x, c, 1);

    if (!x->st && (!old || !new))
        dp_jinja_fail(x, DP_E_INVALID, "replace needs two texts");
    return x->st ? dp_jv_none()
                 : dp_jv_str(dp_jinja_str_replace(x, c->self.s, old, new, whole_arg(x, c, 2, -1)));
}

static dp_jvalue do_join(dp_jrun *x, const dp_jcall *c)
{
    const dp_jlist *items = dp_jinja_items(x, c->arg[0]);
    const dp_jstr *s;
    dp_prompt p;

    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (size_t i = 0; i < items->count && dp_jinja_pay(x, 0); i++) {
        if (items->list[i].kind != DP_JV_STR)
            dp_jinja_fail(x, DP_E_INVALID, "str.join: entry %zu is %s", i,
                          dp_jinja_kind_name(items->list[i]));
        if (i)
            dp_jinja_put(x, &p, c->self.s);
        dp_jinja_put_value(x, &p, items->list[i]);
    }
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(s);
}

static dp_jvalue without_affix(dp_jrun *x, const dp_jcall *c, bool at_end)
{
    const dp_jstr *s = c->self.s, *affix = text_arg(x, c, 0);

    if (!affix || x->st || !has_affix(s, affix, at_end))
        return c->self;
    return dp_jv_str(dp_jinja_str_part(x, s, at_end ? 0 : affix->size,
                                       at_end ? s->size - affix->size : s->size));
}

static dp_jvalue do_removeprefix(dp_jrun *x, const dp_jcall *c)
{
    return without_affix(x, c, false);
}

static dp_jvalue do_removesuffix(dp_jrun *x, const dp_jcall *c)
{
    return without_affix(x, c, true);
}

/* ---- dicts, lists, loops ---- */

static dp_jvalue view(dp_jrun *x, const dp_jdict *d, bool has_keys, bool has_values)
{
    dp_jlist *l = dp_jinja_list(x, d->count);

    for (size_t i = 0; i < d->count && !x->st; i++) {
        dp_jlist *pair = has_keys && has_values ? dp_jinja_list(x, 2) : NULL;

        if (pair) {
            dp_jinja_list_add(x, pair, d->list[i].key);
            dp_jinja_list_add(x, pair, d->list[i].value);
        }
        dp_jinja_list_add(x, l,
                          pair       ? dp_jv_list(DP_JV_TUPLE, pair)
                          : has_keys ? d->list[i].key
                                     : d->list[i].value);
    }
    return dp_jv_list(DP_JV_VIEW, l);
}

static dp_jvalue do_items(dp_jrun *x, const dp_jcall *c)
{
    return view(x, c->self.d, true, true);
}

static dp_jvalue do_keys(dp_jrun *x, const dp_jcall *c)
{
    return view(x, c->self.d, true, false);
}

static dp_jvalue do_values(dp_jrun *x, const dp_jcall *c)
{
    return view(x, c->self.d, false, true);
}

static dp_jvalue do_get(dp_jrun *x, const dp_jcall *c)
{
    const dp_jpair *pair = dp_jinja_dict_find(x, c->self.d, c->arg[0]);

    if (pair)
        return pair->value;
    return c->arg[1].kind == DP_JV_ABSENT ? dp_jv_none() : c->arg[1];
}

static dp_jvalue do_copy(dp_jrun *x, const dp_jcall *c)
{
    return c->self; /* nothing changes, so one is as good as two */
}

static dp_jvalue do_list_index(dp_jrun *x, const dp_jcall *c)
{
    for (size_t i = 0; i < c->self.l->count && dp_jinja_pay(x, 0); i++)
        if (dp_jinja_equal(x, c->self.l->list[i], c->arg[0]))
            return dp_jv_int((int64_t)i);
    dp_jinja_fail(x, DP_E_INVALID, "index: the value is not there");
    return dp_jv_none();
}

static dp_jvalue do_list_count(dp_jrun *x, const dp_jcall *c)
{
    int64_t count = 0;

    for (size_t i = 0; i < c->self.l->count && dp_jinja_pay(x, 0); i++)
        count += dp_jinja_equal(x, c->self.l->list[i], c->arg[0]);
    return dp_jv_int(count);
}

static dp_jvalue do_cycle(dp_jrun *x, const dp_jcall *c)
{
    if (c->all->count == 0)
        dp_jinja_fail(x, DP_E_INVALID, "loop.cycle needs values");
    return x->st ? dp_jv_none() : c->all->list[c->self.loop->at % c->all->count];
}

static dp_jvalue do_changed(dp_jrun *x, const dp_jcall *c)
{
    dp_jlist *l = dp_jinja_list(x, c->all->count);
    dp_jvalue now = dp_jv_list(DP_JV_TUPLE, l);
    bool is_same;

    for (size_t i = 0; i < c->all->count; i++)
        dp_jinja_list_add(x, l, c->all->list[i]);
    is_same = dp_jinja_equal(x, now, c->self.loop->changed);
    c->self.loop->changed = now;
    return dp_jv_bool(!is_same);
}

static const dp_jcallable str_methods[] = {
    { "capitalize", do_capitalize, 0, false, { NULL } },
    { "count", do_count, 1, false, { "sub" } },
    { "endswith", do_endswith, 1, false, { "suffix" } },
    { "find", do_find, 1, false, { "sub" } },
    { "format", dp_jinja_str_format, 0, true, { NULL } },
    { "index", do_index, 1, false, { "sub" } },
    { "isalnum", do_isalnum, 0, false, { NULL } },
    { "isalpha", do_isalpha, 0, false, { NULL } },
    { "isdigit", do_isdigit, 0, false, { NULL } },
    { "islower", do_islower, 0, false, { NULL } },
    { "isspace", do_isspace, 0, false, { NULL } },
    { "isupper", do_isupper, 0, false, { NULL } },
    { "join", do_join, 1, false, { "iterable" } },
    { "lower", do_lower, 0, false, { NULL } },
    { "lstrip", do_lstrip, 0, false, { "chars" } },
    { "partition", do_partition, 1, false, { "sep" } },
    { "removeprefix", do_removeprefix, 1, false, { "prefix" } },
    { "removesuffix", do_removesuffix, 1, false, { "suffix" } },
    { "replace", do_replace, 2, false, { "old", "new", "count" } },
    { "rfind", do_rfind, 1, false, { "sub" } },
    { "rpartition", do_rpartition, 1, false, { "sep" } },
    { "rsplit", do_rsplit, 0, false, { "sep", "maxsplit" } },
    { "rstrip", do_rstrip, 0, false, { "chars" } },
    { "split", do_split, 0, false, { "sep", "maxsplit" } },
    { "splitlines", do_splitlines, 0, false, { "keepends" } },
    { "startswith", do_startswith, 1, false, { "prefix" } },
    { "strip", do_strip, 0, false, { "chars" } },
    { "title", do_title, 0, false, { NULL } },
    { "upper", do_upper, 0, false, { NULL } },
    { NULL, NULL, 0, false, { NULL } },
};

static const dp_jcallable dict_methods[] = {
    { "copy", do_copy, 0, false, { NULL } },     { "get", do_get, 1, false, { "key", "default" } },
    { "items", do_items, 0, false, { NULL } },   { "keys", do_keys, 0, false, { NULL } },
    { "values", do_values, 0, false, { NULL } }, { NULL, NULL, 0, false, { NULL } },
};

static const dp_jcallable list_methods[] = {
    { "copy", do_copy, 0, false, { NULL } },
    { "count", do_list_count, 1, false, { "value" } },
    { "index", do_list_index, 1, false, { "value" } },
    { NULL, NULL, 0, false, { NULL } },
};

static const dp_jcallable loop_methods[] = {
    { "changed", do_changed, 0, true, { NULL } },
    { "cycle", do_cycle, 0, true, { NULL } },
    { NULL, NULL, 0, false, { NULL } },
};

/* What the sandbox of transformers forbids: templates may not change their input. */
static const struct {
    dp_jkind kind;
    const char *name;
} unsafe[] = {
    { DP_JV_LIST, "append" },  { DP_JV_LIST, "clear" },   { DP_JV_LIST, "extend" },
    { DP_JV_LIST, "insert" },  { DP_JV_LIST, "pop" },     { DP_JV_LIST, "remove" },
    { DP_JV_LIST, "reverse" }, { DP_JV_LIST, "sort" },    { DP_JV_DICT, "clear" },
    { DP_JV_DICT, "pop" },     { DP_JV_DICT, "popitem" }, { DP_JV_DICT, "setdefault" },
    { DP_JV_DICT, "update" },
};

const dp_jcallable *dp_jinja_method_find(dp_jvalue v, dp_str name, bool *is_unsafe)
{
    const dp_jcallable *row = NULL;

    if (v.kind == DP_JV_STR)
        row = str_methods;
    else if (v.kind == DP_JV_DICT)
        row = dict_methods;
    else if (v.kind == DP_JV_LIST || v.kind == DP_JV_TUPLE)
        row = list_methods;
    else if (v.kind == DP_JV_LOOP)
        row = loop_methods;
    *is_unsafe = false;
    for (size_t i = 0; i < DP_ARRAY_LEN(unsafe); i++)
        *is_unsafe |= v.kind == unsafe[i].kind && dp_str_is(name, unsafe[i].name);
    for (; row && row->name; row++)
        if (dp_str_is(name, row->name))
            return row;
    return NULL;
}
