"""A GGUF model that says what a test wants: every token has one successor.

Token t's state is the t-th unit vector all the way through (attention and feed-forward
add nothing), and the head's row n points at the tokens whose successor is n. The
vocabulary is SPM's: <unk> <s> </s>, the 256 bytes, then the pieces given here."""
import struct

U32, I32, F32, STRING, ARRAY = 4, 5, 6, 8, 9
NORMAL, CONTROL, BYTE = 1, 3, 6
FIRST_BYTE, FIRST_PIECE = 3, 259
ALIGNMENT = 32


def _string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind, value):
    if kind == STRING:
        return _string(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f"}[kind], value)


def _key(name, kind, value):
    if isinstance(value, list):
        body = struct.pack("<IIQ", ARRAY, kind, len(value))
        return _string(name) + body + b"".join(_value(kind, item) for item in value)
    return _string(name) + struct.pack("<I", kind) + _value(kind, value)


def _tensors(successors, size):
    """(name, shape with the row length first, {place: value} of a matrix or a gain)."""
    identity = {t * size + t: 1.0 for t in range(size)}
    head = {after * size + before: 1.0 for before, after in successors.items()}
    gain = dict.fromkeys(range(size), 1.0)
    rows = [("token_embd.weight", [size, size], identity), ("output.weight", [size, size], head),
            ("output_norm.weight", [size], gain), ("blk.0.attn_norm.weight", [size], gain),
            ("blk.0.ffn_norm.weight", [size], gain)]
    rows += [(f"blk.0.{name}.weight", shape, {}) for name, shape in [
        ("attn_q", [size, 16]), ("attn_k", [size, 16]), ("attn_v", [size, 16]),
        ("attn_output", [16, size]), ("ffn_gate", [size, 16]), ("ffn_up", [size, 16]),
        ("ffn_down", [16, size])]]
    return rows


def scripted_model(path, says, controls, chat_template, tokenizer="llama"):
    """Behind a newline, the model says the pieces of `says`, in turn (each piece once). What
    of these and of `controls` is in `controls` is a control token; the last ends the turn."""
    pieces = list(dict.fromkeys(says + controls))
    names = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    names += [piece if piece in controls else piece.replace(" ", "\u2581") for piece in pieces]
    kinds = [2, CONTROL, CONTROL] + [BYTE] * 256
    kinds += [CONTROL if piece in controls else NORMAL for piece in pieces]
    chain = [FIRST_BYTE + ord("\n")] + [FIRST_PIECE + pieces.index(piece) for piece in says]
    tensors = _tensors(dict(zip(chain, chain[1:])), len(names))
    keys = [_key("general.architecture", STRING, "llama"),
            _key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
            _key("llama.rope.freq_base", F32, 10000.0)]
    keys += [_key("llama." + name, U32, value) for name, value in [
        ("block_count", 1), ("context_length", 2048), ("embedding_length", len(names)),
        ("feed_forward_length", 16), ("attention.head_count", 1), ("attention.head_count_kv", 1),
        ("attention.key_length", 16), ("attention.value_length", 16)]]
    keys += [_key("tokenizer.ggml.model", STRING, tokenizer),
             _key("tokenizer.ggml.tokens", STRING, names),
             _key("tokenizer.ggml.scores", F32, [-1.0 - i for i in range(len(names))]),
             _key("tokenizer.ggml.token_type", I32, kinds),
             _key("tokenizer.ggml.bos_token_id", U32, 1),
             _key("tokenizer.ggml.eos_token_id", U32, chain[-1]),
             _key("tokenizer.chat_template", STRING, chat_template)]
    infos, offset = b"", 0
    for name, shape, _ in tensors:
        size = 4 * (shape[0] * shape[1] if len(shape) > 1 else shape[0])
        infos += _string(name) + struct.pack("<I", len(shape))
        infos += b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", 0, offset)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos)
        for _, shape, values in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            count = shape[0] * shape[1] if len(shape) > 1 else shape[0]
            data = [0.0] * count
            for place, value in values.items():
                data[place] = value
            file.write(struct.pack("<%df" % count, *data))
