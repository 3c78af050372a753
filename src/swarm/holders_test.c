#include "swarm/holders.h"

#include "base/fault.h"
#include "base/mem.h"
#include "testing/check.h"
#include "testing/gguf_writer.h"

#define PIECE DP_PIECE_SIZE_MIN

/* A model of two layers of four experts: stacked in the first, tensors of their own in the
 * second, and a matrix that everybody needs. f32 rows of 64. */
static dp_gguf *make(dp_buf *header, uint64_t *file_size)
{
    static const uint64_t stack[] = { 64, 256, 4 }, own[] = { 64, 256 }, always[] = { 64, 512 };
    static const uint64_t bias[] = { 64, 4 };
    static const char *const names[] = { "blk.1.ffn_up.0.weight", "blk.1.ffn_up.1.weight",
                                         "blk.1.ffn_up.2.weight", "blk.1.ffn_up.3.weight" };
    dp_gguf_writer *w = dp_gguf_writer_open(3, 32);
    dp_gguf *gguf;
    dp_error err;
    const dp_tensor *last;

    dp_gguf_writer_str(w, "general.architecture", "none");
    dp_gguf_writer_tensor(w, "blk.0.ffn_up_exps.weight", DP_F32, 3, stack, DP_FILL_ZERO, 1);
    dp_gguf_writer_tensor(w, "blk.0.ffn_up_exps.bias", DP_F32, 2, bias, DP_FILL_ZERO, 1);
    for (int i = 0; i < 4; i++)
        dp_gguf_writer_tensor(w, names[i], DP_F32, 2, own, DP_FILL_ZERO, 1);
    dp_gguf_writer_tensor(w, "output.weight", DP_F32, 2, always, DP_FILL_ZERO, 1);
    dp_buf_init(header, 1 << 20);
    CHECK_OK(dp_gguf_writer_header(w, header, &err), err);
    dp_gguf_writer_close(w);
    *file_size = header->size + 4u * 65536 + 1024 + 4u * 65536 + 131072;
    CHECK_OK(dp_gguf_parse(&gguf, "m", (const uint8_t *)header->bytes, header->size, *file_size,
                           NULL, &err),
             err);
    last = dp_gguf_find_tensor(gguf, "output.weight");
    assert_int_equal(last->offset + last->size, *file_size);
    return gguf;
}

/* It and where it lies, in one file. */
typedef struct shared_model {
    dp_buf header;
    dp_gguf *gguf;
    dp_layout_file file;
    dp_layout layout;
} shared_model;

static const uint32_t files[] = { 0 };

static void model_open(shared_model *m)
{
    uint64_t file_size;

    m->gguf = make(&m->header, &file_size);
    m->file = (dp_layout_file){ "m.gguf", { file_size, PIECE }, 0, NULL };
    m->layout = (dp_layout){ &m->file, 1, PIECE, dp_pieces_count(m->file.pieces) };
}

static void model_close(shared_model *m)
{
    dp_gguf_close(m->gguf);
    dp_buf_deinit(&m->header);
}

static void experts_lie_in_pieces(void **unused)
{
    shared_model m;
    dp_holders *h;
    uint8_t bits[8];
    uint32_t counts[8] = { 0 };
    dp_error err;

    model_open(&m);
    CHECK_OK(dp_holders_open(&h, m.gguf, &m.layout, files, &err), err);
    assert_int_equal(dp_holders_layers(h), 2);
    assert_int_equal(dp_holders_experts(h), 4);
    assert_int_equal(dp_holders_slice(m.gguf), 65536);
    /* Experts begin a header into the first piece, so each has five pieces; the header's is the
     * first, and the matrix has the last eight and shares one before. */
    assert_int_equal(dp_holders_class(h, 0), DP_PIECE_HEADER);
    assert_int_equal(dp_holders_class(h, 1), DP_PIECE_EXPERT);
    assert_int_equal(dp_holders_class(h, 31), DP_PIECE_EXPERT);
    assert_int_equal(dp_holders_class(h, 32), DP_PIECE_ALWAYS);
    assert_int_equal(dp_holders_class(h, m.layout.piece_count - 1), DP_PIECE_ALWAYS);

    memset(bits, 0xff, sizeof bits);
    dp_holders_add(h, bits, counts);
    for (int i = 0; i < 8; i++)
        assert_int_equal(counts[i], 1);
    /* Without piece 4 experts 0 and 1 of the first layer are not whole, and without 16 the last
     * of them lacks its end and its bias, which all others of the layer have there too. */
    bits[0] &= (uint8_t)~0x08;
    dp_holders_add(h, bits, counts);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 1);
    for (int i = 2; i < 8; i++)
        assert_int_equal(counts[i], 2);
    bits[2] &= (uint8_t)~0x80;
    dp_holders_add(h, bits, counts);
    for (int i = 0; i < 4; i++)
        assert_int_equal(counts[i], i < 2 ? 1 : 2);
    assert_int_equal(counts[4], 2); /* it begins in piece 16 */
    assert_int_equal(counts[5], 3);
    dp_holders_close(h);
    model_close(&m);
}

static void open_survives_every_failure(void **unused)
{
    shared_model m;
    dp_holders *h;

    model_open(&m);
    for (uint64_t n = 0;; n++) {
        dp_error err;
        dp_mem_stats before, after;
        dp_status st;

        dp_mem_stats_read(&before);
        dp_fault_arm(DP_FAULT_MEM, n, 1);
        st = dp_holders_open(&h, m.gguf, &m.layout, files, &err);
        if (dp_fault_disarm(DP_FAULT_MEM) == 0)
            break;
        dp_mem_stats_read(&after);
        assert_int_equal(st, DP_E_NOMEM);
        assert_int_equal(after.heap_blocks, before.heap_blocks);
    }
    dp_holders_close(h);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts_lie_in_pieces),
        cmocka_unit_test(open_survives_every_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
