#include <string.h>

#include "model/arch.h"

const dp_arch *const dp_arch_all[] = { &dp_arch_deepseek2, &dp_arch_gpt_oss,  &dp_arch_llama,
                                       &dp_arch_qwen3,     &dp_arch_qwen3moe, NULL };

const dp_arch *dp_arch_find(const char *name)
{
    for (const dp_arch *const *a = dp_arch_all; *a; a++)
        if (strcmp((*a)->name, name) == 0)
            return *a;
    return NULL;
}
