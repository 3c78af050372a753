#include "mkmodel.h"

#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/status.h"

#define PARTS_MAX 1000

static int usage(void)
{
    fprintf(stderr,
            "usage: mkmodel --preset NAME [option ...] -o FILE\n"
            "       mkmodel --list\n\n"
            "Writes a GGUF model of a real shape with weights made from a seed.\n\n"
            "  --type T         of matrices: F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K\n"
            "                   Q4_K Q5_K Q6_K MXFP4 IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS\n"
            "                   IQ3_S IQ4_NL IQ4_XS TQ1_0 TQ2_0, or Q4_K_M (Q4_K with some Q6_K)\n"
            "  --expert-type T  of experts' matrices (as --type)\n"
            "  --layers N, --experts N, --vocab N\n"
            "  --seed N         (1)\n"
            "  --split N        parts; FILE's name ends with -00001-of-0000N.gguf\n"
            "  --sparse BYTES   fill so many of a matrix, leave holes behind them\n"
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

struct output {
    const char *path;
    uint64_t seed, sparse_bytes, part_count;
};

/* One option with its argument; false when it is not understood. */
static bool set_option(mkmodel_shape *shape, struct output *to, const char *option,
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
        return dp_parse_u64(dp_str_from(argument), &to->seed);
    } else if (strcmp(option, "--sparse") == 0) {
        return dp_parse_size(dp_str_from(argument), &to->sparse_bytes);
    } else if (strcmp(option, "--split") == 0) {
        return dp_parse_u64(dp_str_from(argument), &to->part_count) && to->part_count >= 1 &&
               to->part_count <= PARTS_MAX;
    } else if (strcmp(option, "--set") == 0) {
        return set_pair(shape, argument);
    } else if (strcmp(option, "-o") == 0) {
        to->path = argument;
    } else {
        return false;
    }
    return true;
}

/* The name of part `no` (from 1): "m-00001-of-00002.gguf" with the number in place.
 * The file's own name when there is one part; false when it has another form. */
static bool part_path(char *out, size_t size, const struct output *to, uint64_t no)
{
    char end[32];
    size_t length = strlen(to->path), end_length;

    end_length = (size_t)snprintf(end, sizeof end, "-00001-of-%05u.gguf", (unsigned)to->part_count);
    if (to->part_count == 1)
        return snprintf(out, size, "%s", to->path) < (int)size;
    if (length < end_length || strcmp(to->path + length - end_length, end) != 0)
        return false;
    return snprintf(out, size, "%.*s-%05u-of-%05u.gguf", (int)(length - end_length), to->path,
                    (unsigned)no, (unsigned)to->part_count) < (int)size;
}

static dp_status write_part(const mkmodel_shape *shape, const struct output *to, uint64_t no,
                            const mkmodel_totals *totals, dp_error *err)
{
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    mkmodel_totals unused;
    char path[4096];
    dp_status st = dp_fail(err, DP_E_NOMEM, "out of memory");

    if (!w)
        goto done;
    if (!part_path(path, sizeof path, to, no + 1)) {
        st = dp_fail(err, DP_E_INVALID,
                     "%s: %llu parts need a name that ends with "
                     "-00001-of-%05llu.gguf",
                     to->path, (unsigned long long)to->part_count,
                     (unsigned long long)to->part_count);
        goto done;
    }
    dp_gguf_writer_sparse(w, to->sparse_bytes);
    if (to->part_count > 1)
        dp_gguf_writer_split(w, (uint16_t)no, (uint16_t)to->part_count,
                             (uint32_t)totals->tensor_count);
    st = mkmodel_build(w, shape, &unused, err);
    if (!st && no == 0 && !mkmodel_add_vocab(w, shape->n_vocab))
        st = dp_fail(err, DP_E_NOMEM, "out of memory");
    if (!st)
        st = dp_gguf_writer_save(w, path, to->seed, err);
done:
    dp_gguf_writer_close(w);
    return st;
}

static int write_model(const mkmodel_shape *shape, const struct output *to)
{
    uint64_t start = dp_clock_now_ns(&dp_clock_real), ns;
    mkmodel_totals totals;
    dp_error err;
    dp_status st = mkmodel_build(NULL, shape, &totals, &err);

    for (uint64_t no = 0; no < to->part_count && !st; no++)
        st = write_part(shape, to, no, &totals, &err);
    if (st) {
        fprintf(stderr, "mkmodel: %s\n", err.text);
        return 1;
    }
    ns = dp_clock_now_ns(&dp_clock_real) - start;
    print_totals(shape, &totals);
    printf("%s: %.1f s, %.0f MB/s\n", to->path, (double)ns / 1e9,
           (double)totals.bytes * 1e3 / (double)ns);
    return 0;
}

int main(int argc, char **argv)
{
    const mkmodel_shape *preset;
    struct output to = { .seed = 1, .part_count = 1 };
    mkmodel_shape shape;

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
        if (!set_option(&shape, &to, argv[i], argv[i + 1])) {
            fprintf(stderr, "mkmodel: '%s %s' is not understood\n", argv[i], argv[i + 1]);
            return usage();
        }
    return to.path ? write_model(&shape, &to) : usage();
}
