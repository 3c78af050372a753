/* engine_testing.h - engines on small models made for tests. Included by tests only. */
#ifndef DP_ENGINE_ENGINE_TESTING_H
#define DP_ENGINE_ENGINE_TESTING_H

#include "doppler/doppler.h"
#include "model/model_testing.h"

#define TEST_SETTINGS 8

/* { "ram", "4MiB" }; the first without a name ends the list. */
typedef struct test_setting {
    const char *name, *value;
} test_setting;

static inline dp_options *test_options(const test_setting *settings)
{
    dp_options *options = dp_options_open();
    dp_error err;

    CHECK(options, "no memory");
    for (int i = 0; i < TEST_SETTINGS && settings[i].name; i++)
        CHECK_OK(dp_options_set(options, settings[i].name, settings[i].value, &err), err);
    return options;
}

static inline dp_engine *test_engine(const char *path, const test_setting *settings)
{
    dp_options *options = test_options(settings);
    dp_engine *engine;
    dp_error err;

    CHECK_OK(dp_engine_open(&engine, path, options, NULL, NULL, &err), err);
    dp_options_close(options);
    return engine;
}

static inline dp_session *test_session(dp_engine *engine, const test_setting *settings)
{
    dp_options *options = test_options(settings);
    dp_session *session;
    dp_error err;

    CHECK_OK(dp_session_open(&session, engine, options, &err), err);
    dp_options_close(options);
    return session;
}

#endif
