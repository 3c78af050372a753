/* cmd_convert.c - doppler convert: a published directory -> a GGUF file. */
#include <stdio.h>
#include "app/cli/command.h"
#include "app/cli/interrupt.h"
#include "app/cli/progress.h"
#include "base/str.h"
#include "doppler/convert.h"

static bool on_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    dp_progress_bar_update(user, done_bytes, total_bytes);
    return !dp_interrupt_is_seen();
}

static int convert_main(const dp_args *args)
{
    const char *path = args->operands[1];
    dp_progress_bar bar;
    dp_convert_report report;
    dp_convert_how how = { .type = dp_args_text(args, "type"),
                           .name = dp_args_text(args, "name"),
                           .progress = on_progress,
                           .user = &bar };
    dp_error err = { 0 };
    char size[16];
    dp_status st;

    dp_interrupt_watch(NULL);
    dp_progress_bar_init(&bar, "converting", NULL);
    st = dp_convert(args->operands[0], path, &how, &report, &err);
    dp_progress_bar_deinit(&bar);
    if (!st && !dp_args_flag(args, "quiet"))
        fprintf(stderr, "doppler: %s: %s, %llu tensors, %s\n", path, report.architecture,
                (unsigned long long)report.tensor_count, dp_format_size(size, report.file_bytes));
    return dp_exit_report(st, &err);
}

static const dp_option options[] = {
    { "type", "", DP_OPTION_CHOICE, "", 0, 0, "auto", "auto|f32|f16|bf16|q8_0",
      "type of matrices; auto: as they are published, FP8 as BF16" },
    { "name", "", DP_OPTION_TEXT, "TEXT", 0, 0, NULL, NULL,
      "name of the model in the file; the directory's own by default" },
    { "quiet", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL, "do not say what was written" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_convert = {
    .name = "convert",
    .operands = "DIR FILE",
    .operand_min = 2,
    .operand_max = 2,
    .summary = "Makes a GGUF file of a model in a Hugging Face directory",
    .details =
        "DIR has config.json, tokenizer.json and the weights as safetensors files, and is of class "
        "Llama, Mixtral, Qwen3, Qwen3Moe, GptOss, DeepseekV2 or DeepseekV3 (ForCausalLM). Weights "
        "stream: memory stays below 512 MiB however large the model is. FILE appears when it is "
        "whole, and replaces a file of that name.\n\n"
        "Vectors and routers are always F32, and MXFP4 experts stay MXFP4. Whatever is not "
        "understood is refused and named: a class, a setting, a tensor without a place, the "
        "expression of an unknown pre-tokenizer.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .run = convert_main,
};
