#include "reference.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_MAX_HERE 512

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);

    if (!root)
        fprintf(stderr, "%s:%d: %s\n", path, error.line, error.text);
    return root;
}

static bool read_ids(reference_ids *out, const json_t *array)
{
    size_t count = json_array_size(array);

    if (!json_is_array(array))
        return false;
    out->ids = calloc(count + 1, sizeof *out->ids);
    if (!out->ids)
        return false;
    for (size_t i = 0; i < count; i++)
        out->ids[i] = (dp_token)json_integer_value(json_array_get(array, i));
    out->count = (uint32_t)count;
    return true;
}

/* The file must hold exactly the rows from `first` on. */
static bool read_logits(reference_prompt *p, uint32_t vocab, const char *set_path, const char *name)
{
    const char *slash = strrchr(set_path, '/');
    size_t wanted = (size_t)(p->tokens.count - p->first) * vocab, got;
    char path[PATH_MAX_HERE];
    FILE *file;
    bool is_whole;

    snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - set_path) : 0, set_path, name);
    p->logits = malloc((wanted + 1) * sizeof *p->logits);
    file = fopen(path, "rb");
    if (!p->logits || !file) {
        perror(path);
        if (file)
            fclose(file);
        return false;
    }
    got = fread(p->logits, sizeof *p->logits, wanted + 1, file);
    is_whole = got == wanted;
    fclose(file);
    if (!is_whole)
        fprintf(stderr, "%s: %zu numbers or more, expected %zu\n", path, got, wanted);
    return is_whole;
}

static bool read_prompt(reference_prompt *p, const json_t *row, uint32_t vocab, const char *path)
{
    const char *name = json_string_value(json_object_get(row, "logits"));

    if (!read_ids(&p->tokens, json_object_get(row, "ids")) ||
        !read_ids(&p->argmax, json_object_get(row, "argmax")) ||
        !read_ids(&p->greedy, json_object_get(row, "greedy")))
        return false;
    p->nll = json_real_value(json_object_get(row, "nll"));
    p->first = (uint32_t)json_integer_value(json_object_get(row, "first"));
    if (p->argmax.count != p->tokens.count || p->first > p->tokens.count)
        return false;
    return !name || read_logits(p, vocab, path, name);
}

bool reference_open(reference *out, const char *path)
{
    json_t *root = load(path), *prompts = json_object_get(root, "prompts");
    size_t count = json_array_size(prompts);
    bool is_read = root && count > 0 && count <= REFERENCE_PROMPTS_MAX;

    memset(out, 0, sizeof *out);
    out->vocab = (uint32_t)json_integer_value(json_object_get(root, "vocab"));
    for (size_t i = 0; is_read && i < count; i++) {
        out->prompt_count++;
        is_read = read_prompt(&out->prompts[i], json_array_get(prompts, i), out->vocab, path);
    }
    if (root && !is_read)
        fprintf(stderr, "%s: not a reference set\n", path);
    json_decref(root);
    if (!is_read)
        reference_close(out);
    return is_read;
}

void reference_close(reference *r)
{
    for (uint32_t i = 0; i < r->prompt_count; i++) {
        reference_prompt *p = &r->prompts[i];
        free(p->tokens.ids);
        free(p->argmax.ids);
        free(p->greedy.ids);
        free(p->logits);
    }
    memset(r, 0, sizeof *r);
}

static bool read_text(reference_text *out, const json_t *row)
{
    const json_t *text = json_object_get(row, "text");

    if (!json_is_string(text) || !read_ids(&out->ids, json_object_get(row, "ids")))
        return false;
    out->size = json_string_length(text);
    out->text = malloc(out->size + 1);
    if (!out->text)
        return false;
    memcpy(out->text, json_string_value(text), out->size + 1);
    return true;
}

bool reference_texts_open(reference_texts *out, const char *path)
{
    json_t *root = load(path);
    size_t count = json_array_size(root);
    bool is_read = root && count > 0 && count <= REFERENCE_TEXTS_MAX;

    memset(out, 0, sizeof *out);
    for (size_t i = 0; is_read && i < count; i++) {
        out->count++;
        is_read = read_text(&out->rows[i], json_array_get(root, i));
    }
    json_decref(root);
    if (!is_read)
        reference_texts_close(out);
    return is_read;
}

void reference_texts_close(reference_texts *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        free(t->rows[i].text);
        free(t->rows[i].ids.ids);
    }
    memset(t, 0, sizeof *t);
}
