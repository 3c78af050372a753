/* generate.c - libdoppler in one page: a model inside a memory budget tells a story.
 *
 *   cc generate.c -ldoppler -o generate && ./generate model.gguf "Once upon a time" 16MiB
 */
#include <doppler/doppler.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* While the always-used weights load. Returning false would cancel. */
static bool on_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    return fprintf(user, "\rloading %3.0f %%", 100.0 * (double)done_bytes / (double)total_bytes) >
           0;
}

/* Whole UTF-8 characters, as they come. */
static bool on_text(void *user, const char *text, size_t size)
{
    return fwrite(text, 1, size, user) == size && fflush(user) == 0;
}

int main(int argc, char **argv)
{
    dp_generate how = { .max_tokens = 60, .on_text = on_text, .user = stdout };
    dp_options *options = dp_options_open();
    dp_error err = { DP_E_INVALID, "usage: generate MODEL PROMPT RAM" };
    dp_status st = argc == 4 && options ? DP_OK : DP_E_INVALID;
    dp_engine *engine = NULL;
    dp_session *session = NULL;
    dp_token *tokens = NULL;
    dp_finish finish;
    dp_stats stats;
    size_t count;

    if (!st)
        st = dp_options_set(options, "ram", argv[3], &err);
    if (!st)
        st = dp_options_set(options, "seed", "7", &err);
    if (!st)
        st = dp_engine_open(&engine, argv[1], options, on_progress, stderr, &err);
    if (!st)
        st = dp_vocab_encode(dp_engine_vocab(engine), argv[2], strlen(argv[2]),
                             DP_ENCODE_SPECIAL | DP_ENCODE_ADD_BOS, &tokens, &count, &err);
    if (!st)
        st = dp_session_open(&session, engine, options, &err);
    if (!st)
        st = dp_session_append(session, tokens, count, &err);
    if (!st)
        st = dp_session_generate(session, &how, &finish, &err);
    if (st) {
        fprintf(stderr, "\n%s\n", err.text);
    } else {
        dp_engine_stats(engine, &stats);
        fprintf(stderr,
                "\n%" PRIu64 " tokens, %" PRIu64 " experts held, %" PRIu64 " read, peak %" PRIu64
                "\n",
                stats.decode_tokens, stats.expert_hits, stats.expert_misses, stats.peak_bytes);
    }
    dp_tokens_free(tokens);
    dp_session_close(session);
    dp_engine_close(engine);
    dp_options_close(options);
    return st ? 1 : 0;
}
