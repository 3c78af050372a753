/* A template, a NUL, and a JSON object of its variables. Whatever both say, rendering
 * ends, fails with a sentence or not, and its runs cover what came out. */
#include <string.h>

#include "base/assert.h"
#include "fuzz.h"
#include "text/jinja.h"

enum { INPUT_MAX = 1 << 16, OUTPUT_MAX = 1 << 20 };

static void check_runs(const dp_prompt *p)
{
    size_t at = 0;

    for (size_t i = 0; i < p->runs.count; i++) {
        DP_CHECK(p->runs.list[i].end > at);
        DP_CHECK(i == 0 || p->runs.list[i].is_trusted != p->runs.list[i - 1].is_trusted);
        at = p->runs.list[i].end;
    }
    DP_CHECK(at == p->text.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *text = (const char *)bytes;
    size_t end = strnlen(text, size), behind = end < size ? end + 1 : end;
    const dp_jinja_var vars[] = {
        { NULL, { text + behind, size - behind }, true },
        { "bos_token", { "<s>", 3 }, false },
    };
    dp_error err = { 0 };
    dp_jinja *jinja;
    dp_prompt out;
    dp_status st;

    if (size > INPUT_MAX)
        return 0;
    st = dp_jinja_open(&jinja, (dp_str){ text, end }, &err);
    DP_CHECK(!st == !!jinja);
    if (st) {
        DP_CHECK(err.text[0]);
        return 0;
    }
    dp_prompt_init(&out, OUTPUT_MAX);
    st = dp_jinja_render(jinja, vars + (behind == size), 2 - (behind == size), 0, &out, &err);
    DP_CHECK(!st || (err.text[0] && out.text.size == 0));
    check_runs(&out);
    dp_prompt_deinit(&out);
    dp_jinja_close(jinja);
    return 0;
}
