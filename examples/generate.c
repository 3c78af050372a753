/* generate.c - libdoppler in one page: a model inside a memory budget tells a story.
 *
 *   cc generate.c -ldoppler -o generate
 *   ./generate model.gguf "Once upon a time" 16MiB
 */
#include <doppler/doppler.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* While the always-used weights load. Returning false would cancel. */
static bool on_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    fprintf(stderr, "\rloading %3.0f %%", 100.0 * (double)done_bytes / (double)total_bytes);
    return true;
}

/* Whole UTF-8 characters, as they come. */
static bool on_text(void *user, const char *text, size_t size)
{
    return fwrite(text, 1, size, user) == size && fflush(user) == 0;
}

static void print_stats(dp_engine *engine)
{
    dp_stats stats;

    dp_engine_stats(engine, &stats);
    fprintf(stderr,
            "%" PRIu64 " tokens in %.0f ms; expert pages: %" PRIu64 " held, %" PRIu64 " read; "
            "budget %" PRIu64 " bytes, peak %" PRIu64 "\n",
            stats.decode_tokens, (double)stats.decode_ns / 1e6, stats.expert_hits,
            stats.expert_misses, stats.budget_bytes, stats.peak_bytes);
}

static dp_status tell(dp_engine *engine, const dp_options *options, const char *prompt,
                      dp_error *err)
{
    dp_generate how = { .max_tokens = 60, .on_text = on_text, .user = stdout };
    dp_session *session = NULL;
    dp_token *tokens = NULL;
    dp_finish finish;
    size_t count;
    dp_status st;

    st = dp_vocab_encode(dp_engine_vocab(engine), prompt, strlen(prompt),
                         DP_ENCODE_SPECIAL | DP_ENCODE_ADD_BOS, &tokens, &count, err);
    if (!st)
        st = dp_session_open(&session, engine, options, err);
    if (!st)
        st = dp_session_append(session, tokens, count, err);
    if (!st)
        st = dp_session_generate(session, &how, &finish, err);
    dp_tokens_free(tokens);
    dp_session_close(session);
    return st;
}

int main(int argc, char **argv)
{
    dp_options *options = dp_options_open();
    dp_engine *engine = NULL;
    dp_error err = { DP_E_NOMEM, "out of memory" };
    dp_status st = options ? DP_OK : DP_E_NOMEM;

    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL PROMPT RAM\n", argv[0]);
        dp_options_close(options);
        return 2;
    }
    if (!st)
        st = dp_options_set(options, "ram", argv[3], &err);
    if (!st)
        st = dp_options_set(options, "seed", "7", &err);
    if (!st)
        st = dp_engine_open(&engine, argv[1], options, on_progress, NULL, &err);
    fputc('\n', stderr);
    if (!st)
        st = tell(engine, options, argv[2], &err);
    putchar('\n');
    if (st)
        fprintf(stderr, "%s\n", err.text);
    else
        print_stats(engine);
    dp_engine_close(engine);
    dp_options_close(options);
    return st ? 1 : 0;
}
