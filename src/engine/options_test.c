#include "engine/options.h"

#include <math.h>

#include "base/aio.h"
#include "base/cpu.h"
#include "base/fault.h"
#include "base/mem.h"
#include "device/device.h"
#include "testing/check.h"
#include "tier/policy.h"
#include "tier/source_file.h"

static int teardown(void **unused)
{
    dp_mem_stats mem;

    dp_mem_stats_read(&mem);
    return mem.heap_blocks != 0;
}

static void rows_make_sense(void **unused)
{
    size_t count;
    const dp_option *rows = dp_options_table(&count);

    CHECK(count == DP_OPT_COUNT, "%zu rows", count);
    for (size_t i = 0; i < count; i++) {
        const dp_option *o = &rows[i];
        size_t size = strlen(o->summary);

        CHECK(dp_options_find(o->name) == o, "%s is there twice", o->name);
        CHECK(size > 10 && o->summary[size - 1] != '.', "%s: \"%s\"", o->name, o->summary);
        CHECK(o->group[0] && o->unit, "%s", o->name);
        CHECK(o->choices ? o->type == DP_OPTION_CHOICE || o->type == DP_OPTION_COUNT
                         : o->type != DP_OPTION_CHOICE,
              "%s: choices", o->name);
        if (o->type == DP_OPTION_SIZE || o->type == DP_OPTION_COUNT || o->type == DP_OPTION_REAL)
            CHECK(o->min < o->max, "%s: from %g to %g", o->name, o->min, o->max);
    }
    CHECK(!dp_options_find("no-such") && !dp_options_find(""), "found");
}

static void defaults_are_values_that_can_be_set(void **unused)
{
    dp_options *options = dp_options_open();
    size_t count;
    const dp_option *rows = dp_options_table(&count);

    for (size_t i = 0; i < count; i++) {
        dp_option_id id = (dp_option_id)i;
        dp_error err;
        uint64_t number = dp_options_u64(options, id);
        double real = dp_options_f64(options, id);

        CHECK_OK(dp_options_set(options, rows[i].name, rows[i].default_value, &err), err);
        CHECK(dp_options_u64(options, id) == number && dp_options_f64(options, id) == real, "%s",
              rows[i].name);
        /* No set at all reads the same. */
        CHECK(dp_options_u64(NULL, id) == number && dp_options_f64(NULL, id) == real, "%s",
              rows[i].name);
        CHECK(strcmp(dp_options_text(NULL, id), rows[i].default_value) == 0 &&
                  strcmp(dp_options_text(options, id), rows[i].default_value) == 0,
              "%s", rows[i].name);
    }
    dp_options_close(options);
}

static const struct {
    const char *name, *value;
    dp_option_id id;
    double want; /* NAN: refused */
} values[] = {
    { "ram", "12GiB", DP_OPT_RAM, 12.0 * (1 << 30) },
    { "ram", "auto", DP_OPT_RAM, 0 },
    { "ram", "-1", DP_OPT_RAM, NAN },
    { "ram", "1e30", DP_OPT_RAM, NAN },
    { "ram", "2000TB", DP_OPT_RAM, NAN },
    { "ram", "", DP_OPT_RAM, NAN },
    { "io-request", "64KiB", DP_OPT_IO_REQUEST, 65536 },
    { "io-request", "65535", DP_OPT_IO_REQUEST, NAN },
    { "io-request", "auto", DP_OPT_IO_REQUEST, 0 },
    { "ctx", "8192", DP_OPT_CTX, 8192 },
    { "ctx", "16777217", DP_OPT_CTX, NAN },
    { "ctx", " 1", DP_OPT_CTX, NAN },
    { "ctx", "1.5", DP_OPT_CTX, NAN },
    { "ctx", "18446744073709551616", DP_OPT_CTX, NAN },
    { "sessions", "0", DP_OPT_SESSIONS, NAN },
    { "sessions", "1024", DP_OPT_SESSIONS, 1024 },
    { "threads", "257", DP_OPT_THREADS, NAN },
    { "temp", "0.7", DP_OPT_TEMP, 0.7 },
    { "temp", "-0.1", DP_OPT_TEMP, NAN },
    { "temp", "nan", DP_OPT_TEMP, NAN },
    { "temp", "1e-3", DP_OPT_TEMP, 1e-3 },
    { "top-p", "1.0001", DP_OPT_TOP_P, NAN },
    { "repeat-penalty", "0", DP_OPT_REPEAT_PENALTY, NAN },
    { "presence-penalty", "-2", DP_OPT_PRESENCE_PENALTY, -2 },
    { "policy", "lru", DP_OPT_POLICY, 1 },
    { "policy", "lfru", DP_OPT_POLICY, 3 },
    { "policy", "lf", DP_OPT_POLICY, NAN },
    { "policy", "lru|lfru", DP_OPT_POLICY, NAN },
    { "policy", "", DP_OPT_POLICY, NAN },
    { "speculate", "auto", DP_OPT_SPECULATE, DP_SPECULATE_AUTO },
    { "speculate", "off", DP_OPT_SPECULATE, DP_SPECULATE_OFF },
    { "speculate", "1", DP_OPT_SPECULATE, 1 },
    { "speculate", "64", DP_OPT_SPECULATE, 64 },
    { "speculate", "0", DP_OPT_SPECULATE, NAN },
    { "speculate", "65", DP_OPT_SPECULATE, NAN },
    { "speculate", "on", DP_OPT_SPECULATE, NAN },
    { "seed", "9007199254740992", DP_OPT_SEED, 9007199254740992.0 },
    { "seed", "1111111111111111111111111111111111111111111111111111111111111111111", DP_OPT_SEED,
      NAN },
};

static void values_are_checked_and_kept(void **unused)
{
    for (size_t i = 0; i < DP_ARRAY_LEN(values); i++) {
        dp_options *options = dp_options_open();
        bool is_real = dp_options_find(values[i].name)->type == DP_OPTION_REAL;
        dp_error err = { 0 };
        dp_status st = dp_options_set(options, values[i].name, values[i].value, &err);

        if (isnan(values[i].want)) {
            char flag[32];
            snprintf(flag, sizeof flag, "--%s", values[i].name);
            CHECK(st == DP_E_INVALID, "%s %s: status %d", flag, values[i].value, st);
            CHECK(strstr(err.text, flag) && strstr(err.text, values[i].value) &&
                      strstr(err.text, "takes"),
                  "\"%s\"", err.text);
            CHECK(strcmp(dp_options_text(options, values[i].id),
                         dp_options_find(values[i].name)->default_value) == 0,
                  "%s changed", flag);
        } else {
            double found = is_real ? dp_options_f64(options, values[i].id)
                                   : (double)dp_options_u64(options, values[i].id);
            CHECK_OK(st, err);
            CHECK(found == values[i].want, "%s %s: %g", values[i].name, values[i].value, found);
            CHECK(strcmp(dp_options_text(options, values[i].id), values[i].value) == 0, "text");
        }
        dp_options_close(options);
    }
}

static void unknown_names_are_not_found(void **unused)
{
    dp_options *options = dp_options_open();
    dp_error err;

    CHECK(dp_options_set(options, "speed", "11", &err) == DP_E_NOTFOUND, "set");
    CHECK(strstr(err.text, "\"speed\""), "%s", err.text);
    dp_options_close(options);
}

/* Calls f with each choice of an option and its place. */
static void each_choice(dp_option_id id, void (*f)(const char *choice, unsigned place))
{
    size_t count;
    const dp_option *o = &dp_options_table(&count)[id];
    const char *at = o->choices;

    for (unsigned place = 0; at; place++) {
        size_t size = strcspn(at, "|");
        char choice[32];
        dp_options *options = dp_options_open();
        dp_error err;

        snprintf(choice, sizeof choice, "%.*s", (int)size, at);
        CHECK_OK(dp_options_set(options, o->name, choice, &err), err);
        CHECK(dp_options_choice(options, id) == place, "%s %s", o->name, choice);
        dp_options_close(options);
        f(choice, place);
        at = at[size] ? at + size + 1 : NULL;
    }
}

static void check_policy(const char *choice, unsigned place)
{
    CHECK(place == 0 ? !strcmp(choice, "auto") : dp_policy_find(choice) != NULL, "%s", choice);
}

static void check_kernels(const char *choice, unsigned place)
{
    const dp_device_limits limits = { 1, 32, 32 };
    const dp_cpu *cpu = dp_cpu_get();
    bool can = strncmp(choice, "x86.", 4) != 0 || (!strcmp(choice, "x86.avx2") && cpu->has_avx2) ||
               (!strcmp(choice, "x86.avx512") && cpu->has_avx512) ||
               (!strcmp(choice, "x86.avx512vnni") && cpu->has_avx512_vnni) ||
               (!strcmp(choice, "x86.avx512vbmi") && cpu->has_avx512_vnni && cpu->has_avx512_vbmi);
    dp_device *d;
    dp_error err;
    dp_status st = dp_device_cpu_open(&d, choice, 1, &limits, &err);

    CHECK(st == (can ? DP_OK : DP_E_UNSUPPORTED), "%s: status %d", choice, st);
    if (d) {
        CHECK(place == 0 || strstr(d->name, choice), "%s for %s", d->name, choice);
        d->ops->close(d);
    }
}

static void check_io(const char *choice, unsigned place)
{
    static const char *const names[] = {
        [DP_IO_AUTO] = "auto", [DP_IO_DIRECT] = "direct", [DP_IO_BUFFERED] = "buffered"
    };

    CHECK(place < DP_ARRAY_LEN(names) && strcmp(names[place], choice) == 0, "%s", choice);
}

static void check_io_engine(const char *choice, unsigned place)
{
    static const char *const names[] = {
        [DP_AIO_AUTO] = "auto", [DP_AIO_URING] = "io_uring", [DP_AIO_THREADS] = "threads"
    };

    CHECK(place < DP_ARRAY_LEN(names) && strcmp(names[place], choice) == 0, "%s", choice);
}

static void choices_exist_below(void **unused)
{
    each_choice(DP_OPT_POLICY, check_policy);
    each_choice(DP_OPT_KERNELS, check_kernels);
    each_choice(DP_OPT_IO, check_io);
    each_choice(DP_OPT_IO_ENGINE, check_io_engine);
}

static void short_memory_is_refused(void **unused)
{
    dp_fault_arm(DP_FAULT_MEM, 0, 1);
    CHECK(!dp_options_open(), "opened");
    dp_fault_disarm(DP_FAULT_MEM);
    dp_options_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_make_sense),
        cmocka_unit_test(defaults_are_values_that_can_be_set),
        cmocka_unit_test(values_are_checked_and_kept),
        cmocka_unit_test(unknown_names_are_not_found),
        cmocka_unit_test(choices_exist_below),
        cmocka_unit_test(short_memory_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
