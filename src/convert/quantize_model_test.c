/* quantize_model_test.c - whole files through dp_quantize, small ones with every corner. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/fault.h"
#include "base/file.h"
#include "base/mem.h"
#include "doppler/quantize.h"
#include "format/gguf.h"
#include "kernel/quantize.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define PATH_SIZE 96

static char folder[] = "/tmp/dp-quantize-XXXXXX";
static char in_path[PATH_SIZE], out_path[PATH_SIZE], partial_path[PATH_SIZE + 16],
    other_path[PATH_SIZE];

/* A model in miniature; `type` of its matrices. part: 0 whole, 1 and 2 its halves. */
static void write_model(const char *path, dp_dtype type, int part)
{
    const uint64_t norm[] = { 512 }, embd[] = { 512, 20 }, up[] = { 512, 40 }, down[] = { 96, 512 },
                   exps[] = { 256, 6, 4 }, gate[] = { 512, 4 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, part ? 32 : 64);
    dp_error err;

    CHECK(w, "out of memory");
    dp_gguf_writer_str(w, "general.architecture", "llama");
    dp_gguf_writer_u32(w, "general.file_type", 1);
    dp_gguf_writer_u32(w, "llama.block_count", 2);
    dp_gguf_writer_str(w, "general.name", "miniature");
    if (part) {
        dp_gguf_writer_u32(w, "split.no", (uint32_t)part - 1);
        dp_gguf_writer_u32(w, "split.count", 2);
        dp_gguf_writer_u32(w, "split.tensors.count", 7);
    }
    if (part != 2) {
        dp_gguf_writer_tensor(w, "token_embd.weight", type, 2, embd, DP_FILL_NORMAL, 1);
        dp_gguf_writer_tensor(w, "output_norm.weight", DP_F32, 1, norm, DP_FILL_ONES, 0.1f);
        dp_gguf_writer_tensor(w, "output.weight", type, 2, embd, DP_FILL_NORMAL, 0.1f);
        dp_gguf_writer_tensor(w, "blk.0.ffn_up.weight", type, 2, up, DP_FILL_NORMAL, 0.1f);
    }
    if (part != 1) {
        dp_gguf_writer_tensor(w, "blk.1.ffn_down.weight", type, 2, down, DP_FILL_NORMAL, 0.1f);
        dp_gguf_writer_tensor(w, "blk.1.ffn_gate_inp.weight", DP_BF16, 2, gate, DP_FILL_NORMAL, 1);
        dp_gguf_writer_tensor(w, "blk.1.ffn_up_exps.weight", type, 3, exps, DP_FILL_NORMAL, 0.1f);
    }
    CHECK_OK(dp_gguf_writer_save(w, path, 1, &err), err);
    dp_gguf_writer_close(w);
}

/* The values of a tensor. Freed by the caller. */
static float *read_values(const char *path, const char *name, size_t *count, dp_dtype *type)
{
    const dp_tensor *t;
    dp_gguf *gguf;
    dp_file file;
    dp_error err;
    uint8_t *bytes;
    float *x;

    CHECK_OK(dp_gguf_open(&gguf, path, &err), err);
    t = dp_gguf_find_tensor(gguf, name);
    CHECK(t, "%s: no %s", path, name);
    *type = t->dtype;
    *count = (size_t)(t->ne[0] * t->ne[1] * t->ne[2]);
    bytes = malloc(t->size);
    x = malloc(*count * sizeof *x);
    CHECK(bytes && x, "out of memory");
    CHECK_OK(dp_file_open(&file, dp_gguf_part_path(gguf, t->file_index), false, &err), err);
    CHECK_OK(dp_file_read(&file, path, t->offset, bytes, t->size, &err), err);
    CHECK(dp_dequantize_row(t->dtype, x, bytes, *count), "%s", name);
    dp_file_close(&file);
    free(bytes);
    dp_gguf_close(gguf);
    return x;
}

/* |a - b| / |b| of a tensor in two files, and its type in the first. */
static double distance(const char *path, const char *name, dp_dtype *type)
{
    dp_dtype type_in;
    size_t count, count_in;
    float *out = read_values(path, name, &count, type),
          *in = read_values(in_path, name, &count_in, &type_in);
    double off = 0, size = 0;

    CHECK(count == count_in, "%s", name);
    for (size_t i = 0; i < count; i++) {
        off += pow((double)out[i] - in[i], 2);
        size += pow(in[i], 2);
    }
    free(out);
    free(in);
    return sqrt(off / size);
}

static void check_same_files(const char *a, const char *b)
{
    char *x, *y;
    size_t x_size, y_size;
    dp_error err;

    CHECK_OK(dp_file_read_all(&x, &x_size, a, 1 << 24, &err), err);
    CHECK_OK(dp_file_read_all(&y, &y_size, b, 1 << 24, &err), err);
    CHECK(x_size == y_size && memcmp(x, y, x_size) == 0, "%s and %s differ", a, b);
    dp_free(x);
    dp_free(y);
}

/* Every mix: types and errors of three tensors, whatever the number of threads. */
static void test_mixes(void **state)
{
    static const struct {
        const char *type;
        dp_dtype embd, down, exps; /* down has rows of 96 */
        double error;
    } rows[] = {
        { "f32", DP_F32, DP_F32, DP_F32, 0 },
        { "f16", DP_F16, DP_F16, DP_F16, 3e-4 },
        { "bf16", DP_BF16, DP_BF16, DP_BF16, 0 },
        { "q8_0", DP_Q8_0, DP_Q8_0, DP_Q8_0, 7e-3 },
        { "q4_0", DP_Q4_0, DP_Q4_0, DP_Q4_0, 0.1 },
        { "q4_1", DP_Q4_1, DP_Q4_1, DP_Q4_1, 0.09 },
        { "q5_0", DP_Q5_0, DP_Q5_0, DP_Q5_0, 0.05 },
        { "q5_1", DP_Q5_1, DP_Q5_1, DP_Q5_1, 0.045 },
        { "q4_k_s", DP_Q4_K, DP_Q5_0, DP_Q4_K, 0.08 },
        { "q4_k_m", DP_Q4_K, DP_Q8_0, DP_Q4_K, 0.08 },
        { "q5_k_s", DP_Q5_K, DP_Q5_1, DP_Q5_K, 0.04 },
        { "q5_k_m", DP_Q5_K, DP_Q8_0, DP_Q5_K, 0.04 },
        { "q6_k", DP_Q6_K, DP_Q8_0, DP_Q6_K, 0.02 },
        { "mxfp4", DP_Q8_0, DP_MXFP4, DP_MXFP4, 0.13 },
    };

    write_model(in_path, DP_BF16, 0);
    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_quantize_how how = { .type = rows[i].type, .threads = 1 };
        dp_quantize_report report;
        double embd, down, exps, gate, norm;
        dp_dtype type;
        dp_error err;

        CHECK_OK(dp_quantize(in_path, out_path, &how, &report, &err), err);
        how.threads = 2;
        CHECK_OK(dp_quantize(in_path, other_path, &how, NULL, &err), err);
        check_same_files(out_path, other_path);
        CHECK(report.tensor_count == 7 && report.file_bytes > report.to_bytes, "report");
        embd = distance(out_path, "token_embd.weight", &type);
        CHECK(type == rows[i].embd, "%s: embedding %s", rows[i].type, dp_dtype_get(type)->name);
        down = distance(out_path, "blk.1.ffn_down.weight", &type);
        CHECK(type == rows[i].down, "%s: down %s", rows[i].type, dp_dtype_get(type)->name);
        exps = distance(out_path, "blk.1.ffn_up_exps.weight", &type);
        CHECK(type == rows[i].exps, "%s: experts %s", rows[i].type, dp_dtype_get(type)->name);
        CHECK(embd <= rows[i].error && down <= rows[i].error && exps <= rows[i].error,
              "%s: %g %g %g", rows[i].type, embd, down, exps);
        gate = distance(out_path, "blk.1.ffn_gate_inp.weight", &type);
        CHECK(gate == 0 && type == DP_F32, "the router is kept exactly");
        norm = distance(out_path, "output_norm.weight", &type);
        CHECK(norm == 0 && type == DP_F32, "the norm is kept");
    }
}

static void test_split(void **state)
{
    dp_quantize_how how = { .type = "q4_k_m", .threads = 2 };
    char part[2][PATH_SIZE];
    const char *names[] = { "split.count", "split.no", "split.tensors.count" };
    uint64_t value;
    dp_gguf *gguf;
    dp_error err;

    for (int i = 0; i < 2; i++) {
        snprintf(part[i], PATH_SIZE, "%s/p-0000%d-of-00002.gguf", folder, i + 1);
        write_model(part[i], DP_BF16, i + 1);
    }
    CHECK_OK(dp_quantize(part[1], out_path, &how, NULL, &err), err);
    write_model(in_path, DP_BF16, 0);
    CHECK_OK(dp_quantize(in_path, other_path, &how, NULL, &err), err);
    check_same_files(out_path, other_path);
    CHECK_OK(dp_gguf_open(&gguf, out_path, &err), err);
    for (size_t i = 0; i < DP_ARRAY_LEN(names); i++)
        CHECK(!dp_gguf_find(gguf, names[i]), "%s", names[i]);
    CHECK_OK(dp_gguf_get_u64(gguf, "general.file_type", 0, &value, &err), err);
    CHECK(value == 15, "file type %d", (int)value);
    CHECK_OK(dp_gguf_get_u64(gguf, "general.quantization_version", 0, &value, &err), err);
    CHECK(value == 2 && dp_gguf_find(gguf, "general.name"), "keys");
    dp_gguf_close(gguf);
    CHECK(dp_quantize(part[0], part[1], &how, NULL, &err) == DP_E_INVALID, "over an input");
    CHECK(strstr(err.text, "is the model to read"), "%s", err.text);
    unlink(part[0]);
    unlink(part[1]);
}

/* One value, the third of row 5 of "blk.0.ffn_up.weight", is `bits`. */
static void spoil(uint16_t bits)
{
    const dp_tensor *t;
    dp_gguf *gguf;
    dp_error err;
    FILE *file;

    write_model(in_path, DP_BF16, 0);
    CHECK_OK(dp_gguf_open(&gguf, in_path, &err), err);
    t = dp_gguf_find_tensor(gguf, "blk.0.ffn_up.weight");
    file = fopen(in_path, "r+b");
    CHECK(file && fseek(file, (long)(t->offset + (5 * 512 + 3) * 2), SEEK_SET) == 0, "seek");
    CHECK(fwrite(&bits, 2, 1, file) == 1 && fclose(file) == 0, "write");
    dp_gguf_close(gguf);
}

static void test_refused(void **state)
{
    static const char *const bad_pattern[] = { "q4_k" }, *const no_fit[] = { "*ffn_down*=q4_k" };
    static const struct {
        dp_dtype in;
        uint16_t bits; /* spoiled by; 0: not */
        const char *type;
        const char *const *overrides;
        dp_status want;
        const char *words;
    } rows[] = {
        { DP_BF16, 0, "q3_x", NULL, DP_E_INVALID,
          "no type 'q3_x'; known are f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k_s q4_k_m" },
        { DP_BF16, 0, "q8_0", bad_pattern, DP_E_INVALID, "'q4_k' is not PATTERN=TYPE" },
        { DP_BF16, 0, "q8_0", no_fit, DP_E_INVALID,
          "'blk.1.ffn_down.weight' has rows of 96 values, which are not whole blocks of Q4_K" },
        { DP_Q4_0, 0, "q8_0", NULL, DP_E_INVALID, "'token_embd.weight' is Q4_0 already" },
        { DP_BF16, 0x7fc0, "q8_0", NULL, DP_E_CORRUPT,
          "'blk.0.ffn_up.weight' has nan at element 3 of row 5, which Q8_0 cannot hold" },
        { DP_BF16, 0xff80, "q4_k_m", NULL, DP_E_CORRUPT, "has -inf at element 3 of row 5" },
        { DP_BF16, 0x4780, "f16", NULL, DP_E_CORRUPT, "has 65536 at element 3 of row 5" },
    };

    for (size_t i = 0; i < DP_ARRAY_LEN(rows); i++) {
        dp_quantize_how how = { .type = rows[i].type,
                                .overrides = rows[i].overrides,
                                .override_count = rows[i].overrides != NULL,
                                .threads = 2 };
        dp_error err;
        dp_status st;

        if (rows[i].bits)
            spoil(rows[i].bits);
        else
            write_model(in_path, rows[i].in, 0);
        unlink(out_path);
        st = dp_quantize(in_path, out_path, &how, NULL, &err);
        CHECK(st == rows[i].want && strstr(err.text, rows[i].words), "row %zu: %s", i,
              st ? err.text : "accepted");
        CHECK(access(out_path, F_OK) != 0 && access(partial_path, F_OK) != 0, "row %zu", i);
    }
}

/* From Q4_0 when it is allowed; back to floats always. */
static void test_requantize(void **state)
{
    dp_quantize_how how = { .type = "q8_0", .allows_requantize = true };
    dp_dtype type;
    dp_error err;

    write_model(in_path, DP_Q4_0, 0);
    CHECK_OK(dp_quantize(in_path, out_path, &how, NULL, &err), err);
    CHECK(distance(out_path, "blk.0.ffn_up.weight", &type) < 7e-3 && type == DP_Q8_0, "q8_0");
    how = (dp_quantize_how){ .type = "f32" };
    CHECK_OK(dp_quantize(in_path, out_path, &how, NULL, &err), err);
    CHECK(distance(out_path, "blk.0.ffn_up.weight", &type) == 0 && type == DP_F32, "f32");
    how = (dp_quantize_how){ .type = "q4_0" };
    CHECK(dp_quantize(in_path, out_path, &how, NULL, &err) == DP_E_INVALID,
          "the head would be Q6_K");
}

typedef struct watch {
    uint64_t done, total;
    uint32_t tensors, fallbacks;
    bool wants_cancel;
} watch;

static bool on_progress(void *user, uint64_t done, uint64_t total)
{
    watch *w = user;

    CHECK(done > w->done && done <= total, "forwards");
    w->done = done;
    w->total = total;
    return !w->wants_cancel || done < total / 2;
}

static void on_tensor(void *user, const dp_quantize_tensor *t)
{
    watch *w = user;

    w->tensors++;
    w->fallbacks += t->instead_of != NULL;
    CHECK(t->name && t->from && t->to && t->from_bytes && t->to_bytes, "told");
}

static void test_watching(void **state)
{
    static const char *const overrides[] = { "output.*=Q4_K", "*norm*=bf16" };
    watch w = { 0 };
    dp_quantize_how how = { .type = "q6_k",
                            .overrides = overrides,
                            .override_count = 2,
                            .on_tensor = on_tensor,
                            .on_progress = on_progress,
                            .user = &w };
    dp_quantize_report report;
    dp_dtype type;
    dp_error err;

    write_model(in_path, DP_F16, 0);
    CHECK_OK(dp_quantize(in_path, out_path, &how, &report, &err), err);
    CHECK(w.tensors == 7 && w.fallbacks == 1 && report.fallback_count == 1, "%u", w.fallbacks);
    CHECK(w.done == w.total && w.total == report.from_bytes, "all of it");
    distance(out_path, "output.weight", &type);
    CHECK(type == DP_Q4_K, "override");
    distance(out_path, "output_norm.weight", &type);
    CHECK(type == DP_BF16, "override of a vector");
    unlink(out_path);
    w = (watch){ .wants_cancel = true };
    CHECK(dp_quantize(in_path, out_path, &how, &report, &err) == DP_E_CANCELED, "canceled");
    CHECK(access(out_path, F_OK) != 0 && access(partial_path, F_OK) != 0, "nothing is left");
}

/* More values than a chunk, with an end that is no whole tile. */
static void test_large(void **state)
{
    const uint64_t ne[] = { 1312, 1000 };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_quantize_how how = { .type = "q8_0", .threads = 2 };
    dp_dtype type;
    dp_error err;

    CHECK(w, "out of memory");
    dp_gguf_writer_tensor(w, "blk.0.ffn_up.weight", DP_BF16, 2, ne, DP_FILL_NORMAL, 1);
    CHECK_OK(dp_gguf_writer_save(w, in_path, 1, &err), err);
    dp_gguf_writer_close(w);
    CHECK_OK(dp_quantize(in_path, out_path, &how, NULL, &err), err);
    CHECK(distance(out_path, "blk.0.ffn_up.weight", &type) < 7e-3 && type == DP_Q8_0, "q8_0");
}

static void test_faults(void **state)
{
    static const struct {
        dp_fault fault;
        dp_status want;
    } rows[] = { { DP_FAULT_MEM, DP_E_NOMEM },
                 { DP_FAULT_READ, DP_E_IO },
                 { DP_FAULT_WRITE, DP_E_IO } };
    dp_quantize_how how = { .type = "q8_0", .threads = 1 };
    dp_mem_stats before, after;

    write_model(in_path, DP_BF16, 0);
    dp_mem_stats_read(&before);
    for (size_t f = 0; f < DP_ARRAY_LEN(rows); f++) {
        uint64_t failed = 1;

        for (uint64_t n = 0; failed; n++) {
            dp_error err;
            dp_status st;

            unlink(out_path);
            dp_fault_arm(rows[f].fault, n, 1);
            st = dp_quantize(in_path, out_path, &how, NULL, &err);
            failed = dp_fault_disarm(rows[f].fault);
            CHECK(st == (failed ? rows[f].want : DP_OK), "fault %zu, visit %d: %s", f, (int)n,
                  st ? err.text : "done");
            CHECK((access(out_path, F_OK) == 0) == !st, "fault %zu, visit %d", f, (int)n);
            CHECK(access(partial_path, F_OK) != 0, "fault %zu, visit %d", f, (int)n);
            dp_mem_stats_read(&after);
            CHECK(after.heap_blocks == before.heap_blocks &&
                      after.map_regions == before.map_regions,
                  "fault %zu, visit %d leaks", f, (int)n);
        }
    }
}

static int set_up(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    snprintf(in_path, PATH_SIZE, "%s/in.gguf", folder);
    snprintf(out_path, PATH_SIZE, "%s/out.gguf", folder);
    snprintf(other_path, PATH_SIZE, "%s/other.gguf", folder);
    snprintf(partial_path, sizeof partial_path, "%s.partial", out_path);
    return 0;
}

static int tear_down(void **state)
{
    unlink(in_path);
    unlink(out_path);
    unlink(other_path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixes),    cmocka_unit_test(test_split),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_requantize),
        cmocka_unit_test(test_watching), cmocka_unit_test(test_large),
        cmocka_unit_test(test_faults),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
