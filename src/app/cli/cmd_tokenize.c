/* cmd_tokenize.c - doppler tokenize: text -> token ids, and back. */
#include "app/cli/command.h"
#include "app/cli/input.h"
#include "app/cli/load.h"
#include "app/cli/output.h"
#include "base/mem.h"
#include "base/status.h"
#include "doppler/vocab.h"

#define LINE_BYTES_MAX ((size_t)2 << 30) /* of the largest text: an id and a space a byte */

static dp_status encode(const dp_vocab *vocab, const dp_args *args, const char *text, size_t size,
                        dp_buf *out, dp_error *err)
{
    bool knows_special = !dp_args_flag(args, "no-special");
    bool adds_bos = knows_special && !dp_args_flag(args, "no-bos");
    dp_token *tokens = NULL;
    size_t count = 0;
    dp_status st;

    st = dp_vocab_encode(vocab, text, size,
                         (knows_special ? DP_ENCODE_SPECIAL : 0) |
                             (adds_bos ? DP_ENCODE_ADD_BOS : 0),
                         &tokens, &count, err);
    for (size_t i = 0; i < count && !st; i++) {
        st = dp_buf_format(out, "%s%d", i ? " " : "", (int)tokens[i]);
        if (st)
            dp_fail(err, st, "tokenize: no memory for %zu ids", count);
    }
    dp_tokens_free(tokens);
    return st ? st : dp_buf_text(out, "\n");
}

static dp_status decode(const dp_vocab *vocab, const dp_args *args, const char *text, size_t size,
                        dp_buf *out, dp_error *err)
{
    dp_text_stream *stream = NULL;
    int32_t *ids = NULL;
    const char *piece;
    size_t count, piece_size;
    dp_status st;

    st = dp_input_parse_ids(&ids, &count, text, size, "tokenize", err);
    if (st)
        goto done;
    stream = dp_text_stream_open(vocab, !dp_args_flag(args, "no-special"));
    if (!stream) {
        st = dp_fail(err, DP_E_NOMEM, "tokenize: no memory for %zu ids", count);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        if ((uint32_t)ids[i] >= dp_vocab_count(vocab)) {
            st = dp_fail(err, DP_E_INVALID, "tokenize: the vocabulary has ids 0 to %u, not %d",
                         dp_vocab_count(vocab) - 1, (int)ids[i]);
            goto done;
        }
        st = dp_text_stream_push(stream, ids[i], &piece, &piece_size);
        if (!st)
            st = dp_buf_append(out, piece, piece_size);
        if (st)
            break;
    }
    if (!st)
        st = dp_text_stream_finish(stream, &piece, &piece_size);
    if (!st)
        st = dp_buf_append(out, piece, piece_size);
    if (st)
        dp_fail(err, st, "tokenize: no memory for the text of %zu ids", count);
done:
    dp_text_stream_close(stream);
    dp_free(ids);
    return st;
}

static int tokenize_main(const dp_args *args)
{
    dp_mounts mounts = { .args = args, .is_lazy = true };
    dp_vocab *vocab = NULL;
    char *text = NULL;
    dp_error err = { 0 };
    dp_status st;
    int code;
    size_t size;
    dp_buf out;

    dp_buf_init(&out, LINE_BYTES_MAX);
    st = dp_input_read(&text, &size, args, &err);
    if (st)
        goto done;
    st = dp_load_vocab_file(&vocab, &mounts, args->operands[0], &err);
    if (st)
        goto done;
    st = dp_args_flag(args, "decode") ? decode(vocab, args, text, size, &out, &err)
                                      : encode(vocab, args, text, size, &out, &err);
done:
    code = dp_output_report(out.bytes, out.size, st, &err);
    dp_vocab_close(vocab);
    dp_mounts_close(&mounts);
    dp_buf_deinit(&out);
    dp_free(text);
    return code;
}

static const dp_option options[] = {
    DP_COMMAND_PROMPT,
    DP_COMMAND_FILE,
    { "no-special", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "names of control tokens are plain text, and none is added" },
    { "no-bos", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "add no token that begins or ends the text" },
    { "decode", "", DP_OPTION_FLAG, "", 0, 0, "off", NULL,
      "the other way: the text is token ids, print what they say" },
    DP_COMMAND_LOG,
};

const dp_args_command dp_command_tokenize = {
    .name = "tokenize",
    .operands = "MODEL [-]",
    .operand_min = 1,
    .operand_max = 2,
    .summary = "Prints the token ids of a text, on one line",
    .details = "Every byte of the text counts, a last newline too. Names of control tokens in it "
               "become those tokens, and the token that begins a text is added where the "
               "vocabulary asks for it. MODEL may be a file with nothing but a vocabulary.",
    .options = options,
    .option_count = DP_ARRAY_LEN(options),
    .takes_swarm = true,
    .run = tokenize_main,
};
