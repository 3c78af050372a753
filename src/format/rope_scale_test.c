#include "format/rope_scale.h"

#include <math.h>

#include "testing/check.h"

/* Worked out by hand from the definition, for heads of 128 and base 500000. */
static void divisors_of_llama_3_1(void **unused)
{
    static const double between[] = { 1.2075, 1.5534, 2.0263, 2.6945, 3.6843, 5.2573 };
    float divisors[64];

    dp_llama3_divisors(divisors, 64, 500000, &dp_llama31_scaling);
    for (uint32_t i = 0; i < 64; i++) {
        double want = i < 29 ? 1 : i > 34 ? 8 : between[i - 29];

        CHECK(fabs(divisors[i] - want) <= 5e-5, "pair %u: %.9g, expected %g", i, divisors[i], want);
    }
}

static void only_llama_3_1_is_taken_for_it(void **unused)
{
    const dp_hparams early = {
        .arch = "llama", .vocab_size = 128256, .context_max = 131072, .rope_base = 500000
    };
    dp_hparams llama3 = early, longer = early, scaled = early, other = early;

    llama3.context_max = 8192;
    longer.rope_base = 283461213;
    scaled.rope_scaling = DP_ROPE_LINEAR;
    other.vocab_size = 128000;
    CHECK(dp_is_llama31(&early), "the early file");
    CHECK(!dp_is_llama31(&llama3), "Llama 3");
    CHECK(!dp_is_llama31(&longer), "a finetune that raised the base");
    CHECK(!dp_is_llama31(&scaled), "a file whose keys say how it scales");
    CHECK(!dp_is_llama31(&other), "another vocabulary");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(divisors_of_llama_3_1),
        cmocka_unit_test(only_llama_3_1_is_taken_for_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
