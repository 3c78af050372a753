/* cmd_quantize.c - doppler quantize: the same model in fewer bits. */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/progress.h"
#include "base/status.h"
#include "base/str.h"
#include "doppler/quantize.h"

#define OVERRIDES_MAX 64

typedef struct work {
    dp_progress_bar bar;
    bool is_verbose, is_quiet;
} work;

static void on_tensor(void *user, const dp_quantize_tensor *t)
{
    work *w = user;
    char from[16], to[16];

    /* A fallback is said even without --verbose: the file is larger than its name promises. */
    if (!w->is_verbose && (!t->instead_of || w->is_quiet))
        return;
    dp_progress_bar_deinit(&w->bar);
    fprintf(stderr, "%s: %s -> %s, %s -> %s", t->name, t->from, t->to,
            dp_format_size(from, t->from_bytes), dp_format_size(to, t->to_bytes));
    if (t->instead_of)
        fprintf(stderr, " (its rows are not whole blocks of %s)", t->instead_of);
    fputc('\n', stderr);
}

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    work *w = user;

    dp_progress_bar_update(&w->bar, done, total);
    return !dp_interrupt_is_seen();
}

static void print_summary(const dp_quantize_report *r)
{
    double seconds = (double)r->ns / 1e9;
    char from[16], to[16];

    fprintf(stderr, "%llu tensors, %s -> %s, %.2f bits a weight, %.1f s, read %.0f MB/s",
            (unsigned long long)r->tensor_count, dp_format_size(from, r->from_bytes),
            dp_format_size(to, r->to_bytes),
            r->value_count ? 8 * (double)r->to_bytes / (double)r->value_count : 0, seconds,
            seconds > 0 ? (double)r->from_bytes / 1e6 / seconds : 0);
    if (r->fallback_count)
        fprintf(stderr, ", %llu in another type than asked for",
                (unsigned long long)r->fallback_count);
    fputc('\n', stderr);
}

static int quantize_main(const dp_args *args)
{
    work w = { .is_verbose = dp_args_flag(args, "verbose"),
               .is_quiet = dp_args_flag(args, "quiet") };
    const char *overrides[OVERRIDES_MAX], *text;
    dp_quantize_how how = { .type = args->operands[2],
                            .overrides = overrides,
                            .threads = (uint32_t)dp_args_count(args, "threads"),
                            .allows_requantize = dp_args_flag(args, "allow-requantize"),
                            .on_tensor = on_tensor,
                            .on_progress = on_progress,
                            .user = &w };
    dp_quantize_report report;
    dp_error err = { 0 };
    dp_status st;
    size_t at = 0;

    while ((text = dp_args_next(args, "tensor-type", &at))) {
        if (how.override_count == OVERRIDES_MAX) {
            st = dp_fail(&err, DP_E_INVALID, "quantize: at most %d --tensor-type", OVERRIDES_MAX);
            return dp_exit_report(st, &err);
        }
        overrides[how.override_count++] = text;
    }
    dp_interrupt_watch(NULL);
    dp_progress_bar_init(&w.bar, "quantizing", NULL);
    st = dp_quantize(args->operands[0], args->operands[1], &how, &report, &err);
    dp_progress_bar_deinit(&w.bar);
    if (!st && !w.is_quiet)
        print_summary(&report);
    return dp_exit_report(st, &err);
}

static const dp_option options[] = {
    { "tensor-type", "", DP_OPTION_TEXT, "PATTERN=TYPE", 0, 0, NULL, NULL,
      "tensors whose name matches PATTERN (* is any text, ? any character) become TYPE; may be "
      "given up to 64 times, the first that matches counts" },
    { "allow-requantize", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "take an input of less than eight bits; errors add up" },
    { "threads", "", DP_OPTION_COUNT, "N", 0, 256, "0", NULL,
      "threads that compute; 0: as many as the process may use" },
    { "verbose", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "a line for every tensor" },
    DP_COMMAND_QUIET,
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_quantize = {
    .name = "quantize",
    .operands = "IN OUT TYPE",
    .operand_min = 3,
    .operand_max = 3,
    .summary = "Writes a model in fewer bits",
    .details = "IN is a GGUF file, or any part of a split one, and may be larger than memory; OUT "
               "is one file, which appears when it is whole. TYPE is one of f32, f16, bf16, q8_0, "
               "q4_0, q4_1, q5_0, q5_1, q4_k_s, q4_k_m, q5_k_s, q5_k_m, q6_k, mxfp4; "
               "docs/quantize.md says what each makes of which tensor. The same bytes come out for "
               "every number of threads.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = quantize_main,
};
