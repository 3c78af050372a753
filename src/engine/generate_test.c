/* Generation on a model that follows a script: each token has one successor, so
 * that the text is known, and what is tested is stopping, holding back and counting. */
#include "engine/engine_testing.h"

#define VOCAB   (TEST_MODEL_PIECES + 16)
#define EOS     2
#define BYTE(b) (TEST_MODEL_BYTES_FIRST + (b))

static const char *const pieces[] = { "\u2581Hello", "\u2581wor", "ld",     "!",   "EN", "D",
                                      "x",           "abSTOPcd",  "E",      "ND",  "<",  "|stop|",
                                      "y",           "z",         "\u2581", "ENDE" };
enum {
    HELLO = TEST_MODEL_PIECES,
    WOR,
    LD,
    BANG,
    EN,
    D,
    X,
    AB_STOP_CD,
    E,
    ND,
    LESS,
    STOP,
    Y,
    Z,
    SPACE,
    ENDE
};

#define SCRIPT_MAX 12
#define CONTEXT    64

static char path[] = "/tmp/doppler-generate-XXXXXX";
static void (*more_keys)(dp_gguf_writer *w); /* of the next model */

static int teardown(void **unused)
{
    return test_model_memory_is_free();
}

static void set(test_model *m, const char *name, float value)
{
    test_tensor *t = test_model_find(m, name);

    for (size_t i = 0; i < test_tensor_values(t); i++)
        t->data[i] = value;
}

/* A tokenizer that nobody knows. */
static void strange_tokenizer(dp_gguf_writer *w)
{
    static const char *const names[] = { "a", "b" };

    dp_gguf_writer_str(w, "tokenizer.ggml.model", "hieroglyphs");
    dp_gguf_writer_str_array(w, "tokenizer.ggml.tokens", 2, names);
}

/* Token t's state is the t-th unit vector all the way; row n of the head points at
 * those whose successor is n. A script ends with token 0, 1 or 2, or just stops. */
static void write_model(const dp_token *script, uint32_t count, bool has_vocab)
{
    test_model m = { .layers = 1,
                     .dim = VOCAB,
                     .heads = 1,
                     .kv_heads = 1,
                     .head_dim = 16,
                     .ff = 16,
                     .vocab = VOCAB,
                     .context = CONTEXT,
                     .pieces = has_vocab ? pieces : NULL,
                     .more_keys = more_keys,
                     .piece_count = DP_ARRAY_LEN(pieces) };

    test_model_make(&m, 1);
    set(&m, "blk.0.attn_output.weight", 0);
    set(&m, "blk.0.ffn_down.weight", 0);
    set(&m, "output_norm.weight", 1);
    set(&m, "output.weight", 0);
    set(&m, "token_embd.weight", 0);
    for (uint32_t t = 0; t < VOCAB; t++)
        test_model_find(&m, "token_embd.weight")->data[t * VOCAB + t] = 1;
    for (uint32_t i = 0; i + 1 < count; i++)
        test_model_find(&m, "output.weight")->data[script[i + 1] * VOCAB + script[i]] = 1;
    strcpy(path, "/tmp/doppler-generate-XXXXXX");
    test_model_save(&m, path);
    test_model_free(&m);
}

/* What on_text was given, with a bar between calls. */
struct written {
    char text[256];
    size_t size;
    uint32_t calls_max; /* cancels at this one */
    uint32_t calls;
};

static bool write_text(void *user, const char *text, size_t size)
{
    struct written *w = user;

    CHECK(size > 0 && w->size + size + 1 < sizeof w->text, "%zu bytes", size);
    if (w->size)
        w->text[w->size++] = '|';
    memcpy(w->text + w->size, text, size);
    w->size += size;
    return ++w->calls < w->calls_max;
}

static const struct {
    const char *name;
    dp_token script[SCRIPT_MAX]; /* the first is the prompt */
    uint32_t script_count;
    const char *stops[3];
    uint32_t max_tokens;
    bool ignores_stop_tokens, shows_special;
    uint32_t calls_max;
    const char *want;
    dp_finish finish;
    uint32_t count; /* tokens on the timeline at the end */
} cases[] = {
    { "to the end of the turn",
      { HELLO, WOR, LD, BANG, EOS },
      5,
      { 0 },
      0,
      0,
      0,
      99,
      " wor|ld|!",
      DP_FINISH_STOP_TOKEN,
      4 },
    { "ended at once", { HELLO, EOS }, 2, { 0 }, 0, 0, 0, 99, "", DP_FINISH_STOP_TOKEN, 1 },
    { "max_tokens",
      { HELLO, WOR, LD, BANG, EOS },
      5,
      { 0 },
      2,
      0,
      0,
      99,
      " wor|ld",
      DP_FINISH_LENGTH,
      3 },
    { "max_tokens 1", { HELLO, WOR, LD }, 3, { 0 }, 1, 0, 0, 99, " wor", DP_FINISH_LENGTH, 2 },
    { "a stop across tokens",
      { HELLO, WOR, EN, D, X, EOS },
      6,
      { "END" },
      0,
      0,
      0,
      99,
      " wor",
      DP_FINISH_STOP_TEXT,
      3 },
    { "a stop across three",
      { HELLO, X, E, ND, Y, EOS },
      6,
      { "xEND" },
      0,
      0,
      0,
      99,
      "",
      DP_FINISH_STOP_TEXT,
      3 },
    { "held, and not a stop",
      { HELLO, WOR, EN, X, Y, EOS },
      6,
      { "END" },
      0,
      0,
      0,
      99,
      " wor|ENx|y",
      DP_FINISH_STOP_TOKEN,
      5 },
    { "held to the end",
      { HELLO, WOR, EN, EOS },
      4,
      { "END" },
      0,
      0,
      0,
      99,
      " wor|EN",
      DP_FINISH_STOP_TOKEN,
      3 },
    { "held at max_tokens",
      { HELLO, WOR, EN, D },
      4,
      { "END" },
      2,
      0,
      0,
      99,
      " wor|EN",
      DP_FINISH_LENGTH,
      3 },
    { "a beginning within a beginning",
      { HELLO, E, ND, EN, D, EOS },
      6,
      { "ENDENX", "NDEND" },
      0,
      0,
      0,
      99,
      "E",
      DP_FINISH_STOP_TEXT,
      4 },
    { "a false start",
      { HELLO, E, ENDE, X, EOS },
      5,
      { "ENDEx" },
      0,
      0,
      0,
      99,
      "E",
      DP_FINISH_STOP_TEXT,
      3 },
    { "a stop within a token",
      { HELLO, AB_STOP_CD, X, EOS },
      4,
      { "STOP" },
      0,
      0,
      0,
      99,
      "ab",
      DP_FINISH_STOP_TEXT,
      1 },
    { "the earlier of two stops",
      { HELLO, AB_STOP_CD, X, EOS },
      4,
      { "cd", "ST" },
      0,
      0,
      0,
      99,
      "ab",
      DP_FINISH_STOP_TEXT,
      1 },
    { "an empty stop is none",
      { HELLO, X, Y, EOS },
      4,
      { "", "nothing" },
      0,
      0,
      0,
      99,
      "x|y",
      DP_FINISH_STOP_TOKEN,
      3 },
    { "a character of three tokens",
      { HELLO, BYTE(0xE2), BYTE(0x82), BYTE(0xAC), X, EOS },
      6,
      { 0 },
      0,
      0,
      0,
      99,
      "\u20AC|x",
      DP_FINISH_STOP_TOKEN,
      5 },
    { "half a character",
      { HELLO, X, BYTE(0xE2), BYTE(0x82), EOS },
      5,
      { 0 },
      0,
      0,
      0,
      99,
      "x|\xE2\x82",
      DP_FINISH_STOP_TOKEN,
      4 },
    { "a stop behind half a character",
      { HELLO, BYTE(0xC3), BYTE(0xA9), BANG, X, EOS },
      6,
      { "\u00E9!" },
      0,
      0,
      0,
      99,
      "",
      DP_FINISH_STOP_TEXT,
      3 },
    { "past stop tokens",
      { HELLO, X, EOS, Y, EOS + 1 },
      4,
      { 0 },
      3,
      1,
      0,
      99,
      "x|y",
      DP_FINISH_LENGTH,
      4 },
    { "past stop tokens, shown",
      { HELLO, X, EOS, Y },
      4,
      { 0 },
      3,
      1,
      1,
      99,
      "x|</s>|y",
      DP_FINISH_LENGTH,
      4 },
    { "canceled by the reader",
      { HELLO, X, Y, Z, EOS },
      5,
      { 0 },
      0,
      0,
      0,
      2,
      "x|y",
      DP_FINISH_CANCELED,
      3 },
    { "canceled while held",
      { HELLO, X, EN, Y, Z, EOS },
      6,
      { "END" },
      0,
      0,
      0,
      2,
      "x|ENy",
      DP_FINISH_CANCELED,
      4 },
    { "until the context is full",
      { HELLO, X, Y, X },
      4,
      { 0 },
      0,
      0,
      0,
      99,
      NULL,
      DP_FINISH_LENGTH,
      64 },
};

static const test_setting greedy[TEST_SETTINGS] = { { "temp", "0" } };
static const test_setting small[TEST_SETTINGS] = { { "ram", "64MiB" }, { "threads", "1" } };
static const test_setting drafting[TEST_SETTINGS] = { { "ram", "64MiB" },
                                                      { "threads", "1" },
                                                      { "speculate", "7" } };

/* The script's first token; with drafts behind the script twice over, so that all that
 * follows is guessed right. Returns how many tokens come before. */
static uint32_t append_script(dp_session *session, const dp_token *script, uint32_t count,
                              bool drafts)
{
    dp_error err;

    for (int i = 0; drafts && i < 2; i++)
        CHECK_OK(dp_session_append(session, script, count, &err), err);
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    return drafts ? 2 * count : 0;
}

/* What a draft could give was taken from it. */
static void check_drafts(dp_engine *engine, const char *name, uint32_t made)
{
    dp_stats stats;

    dp_engine_stats(engine, &stats);
    CHECK(made < 3 || stats.draft_accepted, "%s: nothing of %d tokens was drafted right", name,
          (int)made);
}

static void check_case(size_t c, bool drafts)
{
    struct written w = { .calls_max = cases[c].calls_max };
    dp_generate how = { .max_tokens = cases[c].max_tokens,
                        .stops = cases[c].stops,
                        .ignores_stop_tokens = cases[c].ignores_stop_tokens,
                        .shows_special = cases[c].shows_special,
                        .on_text = write_text,
                        .user = &w };
    dp_finish finish = (dp_finish)-1;
    uint32_t before, want = cases[c].count;
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    while (how.stop_count < 3 && cases[c].stops[how.stop_count])
        how.stop_count++;
    write_model(cases[c].script, cases[c].script_count, true);
    engine = test_engine(path, drafts ? drafting : small);
    unlink(path);
    session = test_session(engine, greedy);
    before = append_script(session, cases[c].script, cases[c].script_count, drafts);
    if (!cases[c].want)
        how.on_text = NULL; /* nobody listens: fine */
    CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
    CHECK(finish == cases[c].finish, "%s: finish %d", cases[c].name, finish);
    want = DP_MIN(want + before, (uint32_t)CONTEXT);
    CHECK(dp_session_count(session) == want, "%s: %u tokens", cases[c].name,
          dp_session_count(session));
    CHECK(!cases[c].want || strcmp(w.text, cases[c].want) == 0, "%s: \"%s\"", cases[c].name,
          w.text);
    if (drafts)
        check_drafts(engine, cases[c].name, want - before - 1);
    dp_session_close(session);
    dp_engine_close(engine);
}

static void texts_end_as_they_should(void **unused)
{
    for (size_t c = 0; c < DP_ARRAY_LEN(cases); c++) {
        check_case(c, false);
        check_case(c, true);
    }
}

static bool write_control(void *user, dp_token token)
{
    char name[16];

    return write_text(user, name, (size_t)snprintf(name, sizeof name, "[%d]", token));
}

/* Control tokens come in their place, behind the text that was held back. */
static void control_tokens_have_their_place(void **unused)
{
    static const struct {
        const char *name;
        dp_token script[SCRIPT_MAX];
        uint32_t script_count, calls_max;
        const char *want;
        dp_finish finish;
    } rows[] = {
        { "the last", { HELLO, X, EOS }, 3, 99, "x|[2]", DP_FINISH_STOP_TOKEN },
        { "one between", { HELLO, X, 1, Y, EOS }, 5, 99, "x|[1]|y|[2]", DP_FINISH_STOP_TOKEN },
        { "behind what is held",
          { HELLO, X, EN, 1, D, EOS },
          6,
          99,
          "x|EN|[1]|D|[2]",
          DP_FINISH_STOP_TOKEN },
        { "behind half a character",
          { HELLO, BYTE(0xE2), 1, X, EOS },
          5,
          99,
          "\xE2|[1]|x|[2]",
          DP_FINISH_STOP_TOKEN },
        { "canceled", { HELLO, X, 1, Y, EOS }, 5, 2, "x|[1]", DP_FINISH_CANCELED },
        { "canceled by what was held", { HELLO, EN, 1, Y, EOS }, 5, 1, "EN", DP_FINISH_CANCELED },
        { "canceled at the end", { HELLO, EOS }, 2, 1, "[2]", DP_FINISH_CANCELED },
    };
    static const char *const stops[] = { "END" };

    for (size_t n = 0; n < 2 * DP_ARRAY_LEN(rows); n++) {
        size_t i = n / 2;
        bool drafts = n % 2;
        struct written w = { .calls_max = rows[i].calls_max };
        dp_generate how = { .stops = stops,
                            .stop_count = 1,
                            .on_text = write_text,
                            .on_control = write_control,
                            .user = &w };
        dp_finish finish = (dp_finish)-1;
        dp_engine *engine;
        dp_session *session;
        dp_error err;

        write_model(rows[i].script, rows[i].script_count, true);
        engine = test_engine(path, drafts ? drafting : small);
        unlink(path);
        session = test_session(engine, greedy);
        append_script(session, rows[i].script, rows[i].script_count, drafts);
        CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
        CHECK(finish == rows[i].finish && strcmp(w.text, rows[i].want) == 0, "%s: %d \"%s\"",
              rows[i].name, finish, w.text);
        dp_session_close(session);
        dp_engine_close(engine);
    }
}

/* In parts of one token each: the same text and timeline as at once. */
static void generation_goes_on_where_it_ended(void **unused)
{
    static const dp_token script[] = { HELLO, WOR, LD, BANG, X, Y, EOS };
    struct written w = { .calls_max = 99 };
    dp_generate how = { .max_tokens = 1, .on_text = write_text, .user = &w };
    dp_finish finish = DP_FINISH_LENGTH;
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    write_model(script, DP_ARRAY_LEN(script), true);
    engine = test_engine(path, small);
    unlink(path);
    session = test_session(engine, greedy);
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    while (finish == DP_FINISH_LENGTH)
        CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
    CHECK(finish == DP_FINISH_STOP_TOKEN && strcmp(w.text, " wor|ld|!|x|y") == 0, "\"%s\"", w.text);
    CHECK(dp_session_count(session) == 6 &&
              memcmp(dp_session_tokens(session), script, 6 * sizeof *script) == 0,
          "%u tokens", dp_session_count(session));
    /* Everything stands; asking again gives the same end. */
    CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
    CHECK(finish == DP_FINISH_STOP_TOKEN, "finish %d", finish);
    dp_session_close(session);
    dp_engine_close(engine);
}

static void cancel_is_an_ordinary_end(void **unused)
{
    static const dp_token script[] = { HELLO, WOR, LD, EOS };
    struct written w = { .calls_max = 99 };
    dp_generate how = { .on_text = write_text, .user = &w };
    dp_finish finish;
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    write_model(script, DP_ARRAY_LEN(script), true);
    engine = test_engine(path, small);
    unlink(path);
    session = test_session(engine, greedy);
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    dp_engine_cancel(engine);
    CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
    CHECK(finish == DP_FINISH_CANCELED && w.size == 0, "finish %d", finish);
    CHECK_OK(dp_session_generate(session, &how, &finish, &err), err);
    CHECK(finish == DP_FINISH_STOP_TOKEN && strcmp(w.text, " wor|ld") == 0, "\"%s\"", w.text);
    dp_session_close(session);
    dp_engine_close(engine);
}

static void requests_without_sense_are_refused(void **unused)
{
    static const dp_token script[] = { HELLO, X };
    const char *stops[DP_STOPS_MAX + 1];
    char stop[DP_STOP_BYTES_MAX + 2];
    dp_generate how = { .stops = stops };
    dp_finish finish;
    dp_engine *engine;
    dp_session *session;
    dp_error err;

    memset(stop, 'a', sizeof stop - 1);
    stop[sizeof stop - 1] = 0;
    for (size_t i = 0; i < DP_ARRAY_LEN(stops); i++)
        stops[i] = stop;
    write_model(script, 2, true);
    engine = test_engine(path, small);
    unlink(path);
    session = test_session(engine, greedy);
    CHECK(dp_session_generate(session, &how, &finish, &err) == DP_E_INVALID, "no prompt");
    CHECK(strstr(err.text, "no prompt"), "%s", err.text);
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    how.stop_count = 1;
    CHECK(dp_session_generate(session, &how, &finish, &err) == DP_E_LIMIT, "a long stop");
    CHECK(strstr(err.text, "256 bytes"), "%s", err.text);
    how.stop_count = DP_STOPS_MAX + 1;
    CHECK(dp_session_generate(session, &how, &finish, &err) == DP_E_LIMIT, "many stops");
    CHECK(strstr(err.text, "at most 16"), "%s", err.text);
    dp_session_close(session);
    dp_engine_close(engine);

    write_model(script, 2, false);
    engine = test_engine(path, small);
    unlink(path);
    session = test_session(engine, greedy);
    CHECK(!dp_engine_vocab(engine), "a vocabulary");
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    how.stop_count = 0;
    CHECK(dp_session_generate(session, &how, &finish, &err) == DP_E_UNSUPPORTED, "no vocabulary");
    CHECK(strstr(err.text, "no vocabulary"), "%s", err.text);
    dp_session_close(session);
    dp_engine_close(engine);
}

/* Without a tokenizer that can be used a model opens all the same: ids go in, logits
 * come out, and what needs text says what is wrong. */
static void ids_need_no_tokenizer(void **unused)
{
    static const dp_token script[] = { HELLO, X, EOS };
    dp_generate how = { 0 };
    dp_finish finish;
    dp_engine *engine;
    dp_session *session;
    dp_token next;
    dp_error err;

    more_keys = strange_tokenizer;
    write_model(script, DP_ARRAY_LEN(script), false);
    more_keys = NULL;
    engine = test_engine(path, small);
    unlink(path);
    session = test_session(engine, greedy);
    CHECK(!dp_engine_vocab(engine) && strstr(dp_engine_vocab_problem(engine), "hieroglyphs"),
          "a vocabulary");
    CHECK_OK(dp_session_append(session, script, 1, &err), err);
    CHECK_OK(dp_session_eval(session, &err), err);
    CHECK_OK(dp_session_sample(session, &next, &err), err);
    CHECK(next == X, "token %d", next);
    CHECK(dp_session_generate(session, &how, &finish, &err) == DP_E_UNSUPPORTED &&
              strstr(err.text, "hieroglyphs"),
          "%s", err.text);
    dp_session_close(session);
    dp_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_end_as_they_should),
        cmocka_unit_test(control_tokens_have_their_place),
        cmocka_unit_test(ids_need_no_tokenizer),
        cmocka_unit_test(generation_goes_on_where_it_ended),
        cmocka_unit_test(cancel_is_an_ordinary_end),
        cmocka_unit_test(requests_without_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
