/* Functions that every template has. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_impl.h"

static dp_jvalue do_raise(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *s = dp_jinja_text(x, c->arg[0]);

    dp_jinja_fail(x, DP_E_INVALID, "%.*s", (int)DP_MIN(s->size, 300), s->bytes);
    return dp_jv_none();
}

static void set_named(dp_jrun *x, dp_jdict *d, const dp_jargs *args)
{
    for (size_t i = 0; i < args->named_count && !x->st; i++)
        dp_jinja_dict_set(x, d, dp_jv_str(args->named[i].name), args->named[i].value);
}

/* Pairs of an argument that is a dict, or a sequence of pairs. */
static void set_pairs(dp_jrun *x, dp_jdict *d, dp_jvalue from)
{
    const dp_jlist *items;

    if (from.kind == DP_JV_DICT) {
        for (size_t i = 0; i < from.d->count && !x->st; i++)
            dp_jinja_dict_set(x, d, from.d->list[i].key, from.d->list[i].value);
        return;
    }
    items = dp_jinja_items(x, from);
    for (size_t i = 0; i < items->count && !x->st; i++) {
        const dp_jlist *pair = dp_jinja_items(x, items->list[i]);

        if (!x->st && pair->count != 2)
            dp_jinja_fail(x, DP_E_INVALID, "dict: entry %zu is no pair", i);
        if (!x->st)
            dp_jinja_dict_set(x, d, pair->list[0], pair->list[1]);
    }
}

static dp_jvalue make_dict(dp_jrun *x, const dp_jcall *c, dp_jkind kind)
{
    dp_jdict *d = dp_jinja_dict(x);

    if (c->all->count > 1)
        dp_jinja_fail(x, DP_E_INVALID, "dict and namespace take one argument, and named ones");
    else if (c->all->count == 1)
        set_pairs(x, d, c->all->list[0]);
    set_named(x, d, c->all);
    return (dp_jvalue){ .kind = kind, .d = d };
}

static dp_jvalue do_dict(dp_jrun *x, const dp_jcall *c)
{
    return make_dict(x, c, DP_JV_DICT);
}

static dp_jvalue do_namespace(dp_jrun *x, const dp_jcall *c)
{
    return make_dict(x, c, DP_JV_NAMESPACE);
}

/* range(end), range(begin, end, step=1). */
static dp_jvalue do_range(dp_jrun *x, const dp_jcall *c)
{
    int64_t part[3] = { 0, 0, 1 }, count = 0;
    dp_jlist *l = dp_jinja_list(x, 0);
    size_t given = 0;

    for (; given < 3 && c->arg[given].kind != DP_JV_ABSENT; given++) {
        if (!dp_jv_is_whole(c->arg[given]))
            dp_jinja_fail(x, DP_E_INVALID, "range needs whole numbers, not %s",
                          dp_jinja_kind_name(c->arg[given]));
        else
            part[given] = dp_jv_whole(c->arg[given]);
    }
    if (given == 1) {
        part[1] = part[0];
        part[0] = 0;
    }
    if (part[2] == 0)
        dp_jinja_fail(x, DP_E_INVALID, "range: a step of 0");
    for (int64_t i = part[0]; !x->st && (part[2] > 0 ? i < part[1] : i > part[1]); count++) {
        if (count == DP_JINJA_RANGE_MAX)
            dp_jinja_fail(x, DP_E_LIMIT, "a range of more than %d", DP_JINJA_RANGE_MAX);
        dp_jinja_list_add(x, l, dp_jv_int(i));
        if (__builtin_add_overflow(i, part[2], &i))
            break;
    }
    return dp_jv_list(DP_JV_VIEW, l);
}

/* ---- the date ---- */

typedef struct date {
    int64_t year;
    int month, day, weekday, yearday; /* from 0, but day; Sunday is 0 */
    int hour, minute, second;
} date;

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static date date_of(int64_t now_s)
{
    static const int month_days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    int64_t days = now_s / 86400, rest = now_s % 86400;
    date d = { .year = 1970 };

    d.hour = (int)(rest / 3600);
    d.minute = (int)(rest / 60 % 60);
    d.second = (int)(rest % 60);
    d.weekday = (int)((days + 4) % 7); /* a Thursday */
    while (days >= 365 + is_leap(d.year))
        days -= 365 + is_leap(d.year++);
    d.yearday = (int)days;
    for (; d.month < 11; d.month++) {
        int size = month_days[d.month] + (d.month == 1 && is_leap(d.year));

        if (days < size)
            break;
        days -= size;
    }
    d.day = (int)days + 1;
    return d;
}

static const char *const months[] = { "January",   "February", "March",    "April",
                                      "May",       "June",     "July",     "August",
                                      "September", "October",  "November", "December" };
static const char *const weekdays[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday" };

/* One letter behind "%" ("-" before it: no zero in front); false: unknown. */
static bool format_part(const date *d, char letter, bool is_short, char *out, size_t size)
{
    const char *two = is_short ? "%d" : "%02d";
    int hour12 = d->hour % 12 ? d->hour % 12 : 12;

    switch (letter) {
    case 'Y':
        return snprintf(out, size, "%lld", (long long)d->year) > 0;
    case 'y':
        return snprintf(out, size, two, (int)(d->year % 100)) > 0;
    case 'm':
        return snprintf(out, size, two, d->month + 1) > 0;
    case 'd':
        return snprintf(out, size, two, d->day) > 0;
    case 'e':
        return snprintf(out, size, "%2d", d->day) > 0;
    case 'H':
        return snprintf(out, size, two, d->hour) > 0;
    case 'I':
        return snprintf(out, size, two, hour12) > 0;
    case 'M':
        return snprintf(out, size, two, d->minute) > 0;
    case 'S':
        return snprintf(out, size, two, d->second) > 0;
    case 'j':
        return snprintf(out, size, is_short ? "%d" : "%03d", d->yearday + 1) > 0;
    case 'p':
        return snprintf(out, size, "%s", d->hour < 12 ? "AM" : "PM") > 0;
    case 'B':
        return snprintf(out, size, "%s", months[d->month]) > 0;
    case 'b':
        return snprintf(out, size, "%.3s", months[d->month]) > 0;
    case 'A':
        return snprintf(out, size, "%s", weekdays[d->weekday]) > 0;
    case 'a':
        return snprintf(out, size, "%.3s", weekdays[d->weekday]) > 0;
    case 'F':
        return snprintf(out, size, "%lld-%02d-%02d", (long long)d->year, d->month + 1, d->day) > 0;
    case 'T':
        return snprintf(out, size, "%02d:%02d:%02d", d->hour, d->minute, d->second) > 0;
    case '%':
        return snprintf(out, size, "%%") > 0;
    default:
        return false;
    }
}

static dp_jvalue do_strftime(dp_jrun *x, const dp_jcall *c)
{
    const dp_jstr *format = dp_jinja_text(x, c->arg[0]), *s;
    date d;
    dp_prompt p;

    if (x->now_s < 0 || x->now_s > (int64_t)1 << 40)
        dp_jinja_fail(x, DP_E_INVALID, "strftime_now: a time out of range");
    if (x->st)
        return dp_jv_none();
    d = date_of(x->now_s);
    dp_prompt_init(&p, DP_JINJA_MEMORY_MAX);
    for (size_t at = 0; at < format->size && dp_jinja_pay(x, 0); at++) {
        bool is_short = at + 1 < format->size && format->bytes[at + 1] == '-';
        char text[32], letter;

        if (format->bytes[at] != '%') {
            dp_jinja_put(x, &p, dp_jinja_str_part(x, format, at, at + 1));
            continue;
        }
        at += 1 + is_short;
        letter = at < format->size ? format->bytes[at] : '\0';
        if (!format_part(&d, letter, is_short, text, sizeof text))
            dp_jinja_fail(x, DP_E_UNSUPPORTED, "strftime_now: %%%c is not supported", letter);
        else
            dp_jinja_put_text(x, &p, text);
    }
    s = dp_jinja_str_finish(x, &p, 0);
    dp_prompt_deinit(&p);
    return dp_jv_str(s);
}

static const dp_jcallable globals[] = {
    { "dict", do_dict, 0, true, { NULL } },
    { "namespace", do_namespace, 0, true, { NULL } },
    { "raise_exception", do_raise, 1, false, { "message" } },
    { "range", do_range, 1, false, { "start", "stop", "step" } },
    { "strftime_now", do_strftime, 1, false, { "format" } },
};

const dp_jcallable *dp_jinja_global_find(dp_str name)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(globals); i++)
        if (dp_str_is(name, globals[i].name))
            return &globals[i];
    return NULL;
}
