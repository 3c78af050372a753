/* quantized_test.c - what dp_quantize makes of trained models, against independent programs.
 *
 * Bytes    The quantised files of this folder were written by another program from the
 *          exact ones beside them: the same types must give the same bytes.
 * Logits   Every mix of a trained model runs, and stays as near to the float32 logits of the
 *          unquantised model as docs/quantize.md says.
 */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "play.h"
#include "reference.h"
#include "testing/check.h"

#define ORACLE "tests/oracle/"

static char folder[] = "/tmp/dp-quantized-XXXXXX";
static char out_path[64];

static void quantize(const char *in, const char *type, const char *override)
{
    const char *const overrides[] = { override };
    dp_quantize_how how = { .type = type,
                            .overrides = overrides,
                            .override_count = override != NULL };
    dp_error err;

    CHECK_OK(dp_quantize(in, out_path, &how, NULL, &err), err);
}

/* ---- bytes ---- */

/* A file and its description. */
typedef struct contents {
    char *bytes;
    dp_gguf *gguf;
} contents;

static void open_contents(contents *c, const char *path)
{
    size_t size;
    dp_error err;

    CHECK_OK(dp_file_read_all(&c->bytes, &size, path, 1 << 26, &err), err);
    CHECK_OK(dp_gguf_open(&c->gguf, path, &err), err);
}

static void close_contents(contents *c)
{
    dp_gguf_close(c->gguf);
    dp_free(c->bytes);
}

static void test_bytes(void **state)
{
    static const struct {
        const char *exact, *quantized, *type, *override;
    } rows[] = {
        { "llama/llama-f32", "llama/llama-q8_0", "q8_0", NULL },
        { "llama/llama-f32", "llama/llama-q4_0", "q4_0", "token_embd.weight=Q8_0" },
        { "mixtral/mixtral-bf16", "mixtral/mixtral-q4_0", "q4_0", "token_embd.weight=Q8_0" },
        { "qwen3moe/qwen3moe-bf16", "qwen3moe/qwen3moe-q8_0", "q8_0", NULL },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char exact[96], quantized[96];
        contents ours, theirs;

        snprintf(exact, sizeof exact, ORACLE "%s.gguf", rows[i].exact);
        snprintf(quantized, sizeof quantized, ORACLE "%s.gguf", rows[i].quantized);
        quantize(exact, rows[i].type, rows[i].override);
        open_contents(&ours, out_path);
        open_contents(&theirs, quantized);
        CHECK(dp_gguf_tensor_count(ours.gguf) == dp_gguf_tensor_count(theirs.gguf), "%s",
              quantized);
        for (size_t j = 0; j < dp_gguf_tensor_count(ours.gguf); j++) {
            const dp_tensor *a = dp_gguf_tensor(ours.gguf, j);
            const dp_tensor *b = dp_gguf_find_tensor(theirs.gguf, a->name.bytes);

            CHECK(b && a->dtype == b->dtype && a->size == b->size, "%s: %s", quantized,
                  a->name.bytes);
            CHECK(memcmp(ours.bytes + a->offset, theirs.bytes + b->offset, a->size) == 0,
                  "%s: %s differs", quantized, a->name.bytes);
        }
        close_contents(&ours);
        close_contents(&theirs);
    }
}

/* ---- logits ---- */

/* Mean over the reference's rows of |ours - theirs| / |theirs|. */
static double mean_error(const char *reference_path)
{
    static const play_setting settings[PLAY_SETTINGS_MAX] = { { "ram", "128MiB" } };
    dp_options *options = play_options(settings);
    dp_engine *engine = play_open(out_path, options);
    double sum = 0;
    uint32_t rows = 0;
    reference r;

    CHECK(reference_open(&r, reference_path), "%s", reference_path);
    for (uint32_t i = 0; i < r.prompt_count; i++) {
        const reference_prompt *p = &r.prompts[i];
        play_recorder ours;
        dp_session *session;

        if (!p->logits)
            continue;
        play_recorder_init(&ours, r.vocab, p->tokens.count);
        session = play_session(engine, &ours);
        play_tokens(session, p->tokens.ids, p->tokens.count);
        for (uint32_t j = p->first; j < p->tokens.count; j++, rows++) {
            const float *a = ours.logits + (size_t)j * r.vocab;
            const float *b = p->logits + (size_t)(j - p->first) * r.vocab;
            double off = 0, size = 0;

            for (uint32_t v = 0; v < r.vocab; v++) {
                off += ((double)a[v] - b[v]) * ((double)a[v] - b[v]);
                size += (double)b[v] * b[v];
            }
            CHECK(isfinite(off), "a logit is not a number");
            sum += sqrt(off / size);
        }
        dp_session_close(session);
        play_recorder_deinit(&ours);
    }
    CHECK(rows > 0, "%s: no logits", reference_path);
    reference_close(&r);
    dp_engine_close(engine);
    dp_options_close(options);
    return sum / rows;
}

static void test_logits(void **state)
{
    static const struct {
        const char *model, *reference, *type;
        double error_max; /* a tenth or so above what was measured (docs/quantize.md) */
    } rows[] = {
#define LLAMA   "llama/llama-f32.gguf", "llama/f32.json"
#define MIXTRAL "mixtral/mixtral-bf16.gguf", "mixtral/bf16.json"
#define QWEN    "qwen3moe/qwen3moe-bf16.gguf", "qwen3moe/bf16.json"
#define GPTOSS  "gptoss/gptoss-bf16.gguf", "gptoss/bf16.json"
        { LLAMA, "f16", 5e-4 },      { LLAMA, "q8_0", 0.016 },  { LLAMA, "q4_0", 0.15 },
        { LLAMA, "q4_1", 0.13 },     { LLAMA, "q5_0", 0.075 },  { LLAMA, "q5_1", 0.065 },
        { LLAMA, "q4_k_s", 0.07 },   { LLAMA, "q4_k_m", 0.07 }, { LLAMA, "q5_k_s", 0.065 },
        { LLAMA, "q5_k_m", 0.06 },   { LLAMA, "q6_k", 0.016 },  { LLAMA, "mxfp4", 0.18 },
        { QWEN, "q8_0", 0.02 },      { QWEN, "q4_k_m", 0.065 }, { MIXTRAL, "q4_k_m", 0.07 },
        { MIXTRAL, "mxfp4", 0.125 }, { GPTOSS, "mxfp4", 0.09 },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        char model[96], reference_path[96];
        double error;

        snprintf(model, sizeof model, ORACLE "%s", rows[i].model);
        snprintf(reference_path, sizeof reference_path, ORACLE "%s", rows[i].reference);
        quantize(model, rows[i].type, NULL);
        error = mean_error(reference_path);
        printf("%s of %s: relative error of logits %.4f\n", rows[i].type, rows[i].model, error);
        CHECK(error <= rows[i].error_max, "%s of %s: %g, at most %g", rows[i].type, rows[i].model,
              error, rows[i].error_max);
    }
}

static int set_up(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(out_path, sizeof out_path, "%s/out.gguf", folder);
    return 0;
}

static int tear_down(void **state)
{
    unlink(out_path);
    return rmdir(folder);
}

/* Usage: quantized_test ROOT, the folder with tests/. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_logits),
    };

    if (argc != 2 || chdir(argv[1]) != 0) {
        fprintf(stderr, "usage: quantized_test ROOT\n");
        return 2;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
