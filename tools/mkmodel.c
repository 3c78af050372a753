#include "mkmodel.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"

static int usage(void)
{
    fprintf(stderr,
            "usage: mkmodel --preset NAME [option ...] -o FILE\n"
            "       mkmodel --list\n\n"
            "Writes a GGUF model of a real shape with weights made from a seed.\n\n"
            "  --type T         of matrices: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K\n"
            "                   Q4_K Q5_K Q6_K MXFP4, or Q4_K_M (Q4_K with some Q6_K)\n"
            "  --expert-type T  of experts' matrices (as --type)\n"
            "  --layers N, --experts N, --vocab N\n"
            "  --seed N         (1)\n"
            "  --set KEY=N      any number of the preset:\n                  ");
    for (size_t i = 0; mkmodel_field(i); i++)
        fprintf(stderr, " %s%s", mkmodel_field(i), i % 8 == 7 ? "\n                  " : "");
    fputc('\n', stderr);
    return 2;
}

static void print_totals(const mkmodel_shape *shape, const mkmodel_totals *totals)
{
    printf("%-18s %-10s %6llu tensors %8.2f G parameters %9.3f GB; %8.3f GB of experts; a token "
           "reads %7.3f GB\n",
           shape->name, shape->arch, (unsigned long long)totals->tensor_count,
           (double)totals->param_count / 1e9, (double)totals->bytes / 1e9,
           (double)totals->expert_bytes / 1e9, (double)totals->token_bytes / 1e9);
}

static int list(void)
{
    for (const mkmodel_shape *shape = mkmodel_presets; shape->name; shape++) {
        mkmodel_totals totals;

        if (mkmodel_build(NULL, shape, &totals, NULL) == DP_OK)
            print_totals(shape, &totals);
    }
    return 0;
}

/* "KEY=N" into the shape. */
static bool set_pair(mkmodel_shape *shape, const char *pair)
{
    const char *equals = strchr(pair, '=');
    char key[32];
    uint64_t value;

    if (!equals || (size_t)(equals - pair) >= sizeof key ||
        !dp_parse_u64(dp_str_from(equals + 1), &value))
        return false;
    snprintf(key, sizeof key, "%.*s", (int)(equals - pair), pair);
    return mkmodel_set(shape, key, value);
}

/* One option with its argument; false when it is not understood. */
static bool set_option(mkmodel_shape *shape, uint64_t *seed, const char **path, const char *option,
                       const char *argument)
{
    static const struct {
        const char *option, *field;
    } numbers[] = { { "--layers", "n_layer" },
                    { "--experts", "n_expert" },
                    { "--vocab", "n_vocab" } };
    uint64_t value;

    for (size_t i = 0; i < DP_ARRAY_LEN(numbers); i++)
        if (strcmp(option, numbers[i].option) == 0)
            return dp_parse_u64(dp_str_from(argument), &value) &&
                   mkmodel_set(shape, numbers[i].field, value);
    if (strcmp(option, "--type") == 0) {
        shape->type = argument;
        shape->expert_type = NULL;
    } else if (strcmp(option, "--expert-type") == 0) {
        shape->expert_type = argument;
    } else if (strcmp(option, "--seed") == 0) {
        return dp_parse_u64(dp_str_from(argument), seed);
    } else if (strcmp(option, "--set") == 0) {
        return set_pair(shape, argument);
    } else if (strcmp(option, "-o") == 0) {
        *path = argument;
    } else {
        return false;
    }
    return true;
}

static int write_model(const mkmodel_shape *shape, uint64_t seed, const char *path)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    uint64_t start = dp_clock_now_ns(&dp_clock_real), ns;
    mkmodel_totals totals;
    dp_error err = { .text = "out of memory" };
    dp_status st = DP_E_NOMEM;

    if (!w)
        goto done;
    st = mkmodel_build(w, shape, &totals, &err);
    if (st)
        goto done;
    if (!mkmodel_add_vocab(w, shape->n_vocab)) {
        st = DP_E_NOMEM;
        goto done;
    }
    st = dp_gguf_writer_save(w, path, seed, &err);
    if (st)
        goto done;
    ns = dp_clock_now_ns(&dp_clock_real) - start;
    print_totals(shape, &totals);
    printf("%s: %.1f s, %.0f MB/s\n", path, (double)ns / 1e9,
           (double)totals.bytes * 1e3 / (double)ns);
done:
    if (st)
        fprintf(stderr, "mkmodel: %s\n", err.text);
    dp_gguf_writer_close(w);
    return st ? 1 : 0;
}

int main(int argc, char **argv)
{
    const mkmodel_shape *preset;
    const char *path = NULL;
    mkmodel_shape shape;
    uint64_t seed = 1;

    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    if (argc < 3 || argc % 2 == 0 || strcmp(argv[1], "--preset") != 0)
        return usage();
    preset = mkmodel_preset(argv[2]);
    if (!preset) {
        fprintf(stderr, "mkmodel: no preset '%s'; mkmodel --list shows them\n", argv[2]);
        return 2;
    }
    shape = *preset;
    for (int i = 3; i + 1 < argc; i += 2)
        if (!set_option(&shape, &seed, &path, argv[i], argv[i + 1])) {
            fprintf(stderr, "mkmodel: '%s %s' is not understood\n", argv[i], argv[i + 1]);
            return usage();
        }
    return path ? write_model(&shape, seed, path) : usage();
}
