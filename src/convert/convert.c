#include "doppler/convert.h"

#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"
#include "convert/convert_tensor.h"
#include "convert/convert_tokenizer.h"
#include "kernel/kernel.h"

#define GGUF_VERSION         3
#define GGUF_ALIGNMENT       32
#define QUANTIZATION_VERSION 2 /* of the block formats, by GGUF's count */
#define GENERAL_NAME_MAX     256

struct conversion {
    const char *dir;
    const dp_convert_how *how;
    dp_dtype wanted;
    dp_doc config_doc;
    dp_hf_docs docs;
    dp_hf_config *config;
    dp_hf_dir *tensors;
    dp_plan *plan;
    dp_gguf_out *out;
    dp_error *err;
};

/* ---- what is asked for ---- */

/* Types of matrices and their general.file_type. */
static const struct {
    const char *name;
    dp_dtype type;
    uint32_t file_type;
} types[] = {
    { "auto", DP_DTYPE_END, 0 }, { "f32", DP_F32, 0 },   { "f16", DP_F16, 1 },
    { "bf16", DP_BF16, 32 },     { "q8_0", DP_Q8_0, 7 }, { NULL, DP_MXFP4, 38 },
};

static dp_status read_how(struct conversion *c)
{
    const char *name = c->how && c->how->type ? c->how->type : "auto";

    for (size_t i = 0; i < DP_ARRAY_LEN(types); i++)
        if (types[i].name && strcmp(types[i].name, name) == 0) {
            c->wanted = types[i].type;
            return DP_OK;
        }
    return dp_fail(c->err, DP_E_INVALID,
                   "convert: no type \"%s\"; there are auto, f32, f16, bf16, q8_0", name);
}

/* ---- the directory ---- */

static dp_status open_docs(struct conversion *c)
{
    dp_hf_docs *d = &c->docs;
    dp_status st = dp_doc_open(&c->config_doc, c->dir, "config.json", false, c->err);

    d->config = &c->config_doc;
    d->dir = c->dir;
    if (!st)
        st = dp_doc_open(&d->tokenizer, c->dir, "tokenizer.json", true, c->err);
    if (!st && !d->tokenizer.text)
        st =
            dp_fail(c->err, DP_E_NOTFOUND,
                    "%s: has no tokenizer.json, the only form of a tokenizer that is read", c->dir);
    if (!st)
        st = dp_doc_open(&d->tokenizer_config, c->dir, "tokenizer_config.json", true, c->err);
    if (!st)
        st = dp_doc_open(&d->generation_config, c->dir, "generation_config.json", true, c->err);
    return st;
}

static void close_docs(struct conversion *c)
{
    dp_doc_close(&c->docs.tokenizer);
    dp_doc_close(&c->docs.tokenizer_config);
    dp_doc_close(&c->docs.generation_config);
}

/* Everything that can be wrong with the request comes before anything is written. */
static dp_status open_all(struct conversion *c)
{
    dp_status st = read_how(c);

    if (!st)
        st = open_docs(c);
    if (st)
        return st;
    c->config = dp_alloc_zero(1, sizeof *c->config);
    c->out = dp_gguf_out_open(GGUF_VERSION, GGUF_ALIGNMENT);
    if (!c->config || !c->out)
        return dp_fail(c->err, DP_E_NOMEM, "convert: no memory");
    st = dp_hf_config_read(c->config, &c->config_doc, c->err);
    if (!st)
        st = dp_hf_dir_open(&c->tensors, c->dir, c->err);
    if (!st)
        st = dp_plan_open(&c->plan, c->tensors, c->config, c->wanted, c->err);
    return st;
}

/* ---- keys ---- */

/* The last part of the directory's path. */
static dp_str directory_name(const char *dir)
{
    size_t end = strlen(dir), begin;

    while (end > 1 && dir[end - 1] == '/')
        end--;
    for (begin = end; begin > 0 && dir[begin - 1] != '/';)
        begin--;
    return (dp_str){ dir + begin, DP_MIN(end - begin, GENERAL_NAME_MAX) };
}

/* The type most bytes of the file have. */
static uint32_t file_type(const struct conversion *c)
{
    uint64_t bytes[DP_DTYPE_END] = { 0 };
    dp_dtype most = DP_F32;

    for (size_t i = 0; i < c->plan->tensor_count; i++) {
        const dp_plan_tensor *t = &c->plan->tensors[i];
        uint64_t row_bytes = 0;

        dp_dtype_row_bytes(t->type, t->ne[0], &row_bytes);
        bytes[t->type] += row_bytes * t->ne[1] * t->ne[2];
    }
    for (size_t i = 0; i < DP_DTYPE_END; i++)
        if (bytes[i] > bytes[most])
            most = (dp_dtype)i;
    for (size_t i = 1; i < DP_ARRAY_LEN(types); i++)
        if (types[i].type == most)
            return types[i].file_type;
    return 0;
}

static dp_status declare(struct conversion *c)
{
    dp_gguf_out *out = c->out;
    dp_str name = directory_name(c->dir);

    if (c->how && c->how->name)
        name = dp_str_from(c->how->name);
    for (size_t i = 0; i < c->plan->tensor_count; i++) {
        const dp_plan_tensor *t = &c->plan->tensors[i];

        dp_gguf_out_tensor(out, t->name, t->type, t->dim_count, t->ne);
    }
    dp_gguf_out_str(out, "general.architecture", c->config->arch);
    dp_gguf_out_str(out, "general.type", "model");
    dp_gguf_out_text(out, "general.name", name);
    dp_gguf_out_u32(out, "general.quantization_version", QUANTIZATION_VERSION);
    dp_gguf_out_u32(out, "general.file_type", file_type(c));
    dp_hf_config_keys(c->config, out);
    return dp_hf_tokenizer_keys(&c->docs, (uint32_t)c->config->dims[DP_DIM_VOCAB], out, c->err);
}

/* ---- weights ---- */

static dp_status move_all(struct conversion *c)
{
    dp_mover mover = {
        .dir = c->tensors,
        .config = c->config,
        .plan = c->plan,
        .out = c->out,
        .kernels = dp_kernels_find(NULL),
        .err = c->err,
    };
    uint64_t done = 0, total = 0;
    dp_status st = DP_OK;

    for (size_t i = 0; i < c->plan->tensor_count; i++)
        total += dp_gguf_out_tensor_size(c->out, i);
    for (size_t i = 0; i < c->plan->tensor_count && !st; i++) {
        const dp_plan_tensor *t = &c->plan->tensors[i];

        if (c->how && c->how->progress && !c->how->progress(c->how->user, done, total)) {
            st = dp_fail(c->err, DP_E_CANCELED, "convert: canceled");
            break;
        }
        DP_LOG_DEBUG("convert", "tensor=%s type=%s bytes=%llu", t->name,
                     dp_dtype_get(t->type)->name,
                     (unsigned long long)dp_gguf_out_tensor_size(c->out, i));
        st = dp_move_tensor(&mover, t);
        done += dp_gguf_out_tensor_size(c->out, i);
    }
    dp_mover_deinit(&mover);
    if (!st && c->how && c->how->progress)
        c->how->progress(c->how->user, total, total);
    return st;
}

dp_status dp_convert(const char *dir, const char *path, const dp_convert_how *how,
                     dp_convert_report *report, dp_error *err)
{
    struct conversion c = { .dir = dir, .how = how, .err = err };
    dp_status st = open_all(&c);

    if (!st)
        st = declare(&c);
    close_docs(&c); /* tokenizers are large, and no longer needed */
    if (!st)
        st = dp_gguf_out_begin(c.out, path, err);
    if (!st)
        st = move_all(&c);
    if (!st)
        st = dp_gguf_out_finish(c.out, err);
    if (!st && report)
        *report = (dp_convert_report){ .architecture = c.config->arch,
                                       .tensor_count = c.plan->tensor_count,
                                       .file_bytes = dp_gguf_out_file_size(c.out) };
    dp_gguf_out_close(c.out);
    dp_plan_close(c.plan);
    dp_hf_dir_close(c.tensors);
    dp_free(c.config);
    dp_doc_close(&c.config_doc);
    return st;
}

bool dp_convert_is_directory(const char *path)
{
    char name[DP_DOC_NAME_MAX];
    dp_file file;
    int size = snprintf(name, sizeof name, "%s/config.json", path);

    if (size < 0 || (size_t)size >= sizeof name || dp_file_open(&file, name, false, NULL))
        return false;
    dp_file_close(&file);
    return true;
}
