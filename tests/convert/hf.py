"""What the tests of convert share: GGUF files read, Hugging Face directories written.

Written apart from doppler's own code, in plain Python: each transform here is the
inverse of what convert does, said in another way."""
import json
import pathlib
import struct

F32, F16, BF16, MXFP4 = 0, 1, 30, 39
BLOCK = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), 8: (32, 34), MXFP4: (32, 17)}
SAFE = {F32: "F32", F16: "F16", BF16: "BF16"}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
           10: "Q", 11: "q", 12: "d"}


class Tensor:
    """dims slowest first, as Python and safetensors count; data: bytes."""

    def __init__(self, dims, kind, data):
        self.dims, self.kind, self.data = list(dims), kind, data

    def __eq__(self, other):
        return (self.dims, self.kind, self.data) == (other.dims, other.kind, other.data)

    def part(self, i):
        """The i-th of the slowest dimension."""
        size = len(self.data) // self.dims[0]
        return Tensor(self.dims[1:], self.kind, self.data[i * size:(i + 1) * size])

    def parts(self):
        return [self.part(i) for i in range(self.dims[0])]


def stack(parts):
    return Tensor([len(parts)] + parts[0].dims, parts[0].kind, b"".join(p.data for p in parts))


def transposed(t):
    """Of a matrix of whole elements."""
    rows, columns = t.dims
    size = BLOCK[t.kind][1]
    at = [t.data[i:i + size] for i in range(0, len(t.data), size)]
    return Tensor([columns, rows], t.kind,
                  b"".join(at[r * columns + c] for c in range(columns) for r in range(rows)))


class Gguf:
    def __init__(self, path):
        self.data, self.at = pathlib.Path(path).read_bytes(), 4
        version, tensors, keys = self.number("I"), self.number("Q"), self.number("Q")
        assert self.data[:4] == b"GGUF" and version == 3
        self.keys = {}
        for _ in range(keys):
            name, kind = self.string(), self.number("I")
            self.keys[name] = self.value(kind)
        rows = []
        for _ in range(tensors):
            name = self.string()
            dims = [self.number("Q") for _ in range(self.number("I"))]
            rows.append((name, dims[::-1], self.number("I"), self.number("Q")))
        base = self.at + -self.at % 32
        self.tensors = {}
        for name, dims, kind, offset in rows:
            elements, size = BLOCK[kind]
            for dim in dims:
                size *= dim
            size //= elements
            self.tensors[name] = Tensor(dims, kind, self.data[base + offset:base + offset + size])

    def number(self, code):
        size = struct.calcsize("<" + code)
        self.at += size
        return struct.unpack("<" + code, self.data[self.at - size:self.at])[0]

    def string(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind == 9:
            kind, count = self.number("I"), self.number("Q")
            return [self.value(kind) for _ in range(count)]
        return self.number(SCALARS[kind])


def write_safetensors(path, tensors):
    """tensors: name -> (dtype, dims, data)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, dims, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": dims, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            out.write(data)


def write_model(folder, tensors, files=1):
    """One file, or several with an index."""
    if files == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    where, names = {}, list(tensors)
    for i in range(files):
        mine = names[i * len(names) // files:(i + 1) * len(names) // files]
        file = f"model-{i + 1:05}-of-{files:05}.safetensors"
        write_safetensors(folder / file, {name: tensors[name] for name in mine})
        where.update({name: file for name in mine})
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": 0}, "weight_map": where}))


# ---- inverse transforms ----

def halves(t, head):
    """Rows of each head 0 1 2 3 ... as the pairs of a rotation -> its halves: 0 2 ... 1 3 ..."""
    rows = t.parts()
    order = [h + i for h in range(0, len(rows), head)
             for i in [*range(0, head, 2), *range(1, head, 2)]]
    return stack([rows[i] for i in order])


def woven(gate, up):
    """Rows of two matrices in turns."""
    return stack([row for pair in zip(gate.parts(), up.parts()) for row in pair])


def published_blocks(t):
    """MXFP4 of GGUF -> (blocks, scales): neighbours in a byte, even in the low half."""
    blocks, scales = bytearray(), bytearray()
    for at in range(0, len(t.data), 17):
        scales.append(t.data[at])
        nibbles = t.data[at + 1:at + 17]
        values = [b & 15 for b in nibbles] + [b >> 4 for b in nibbles]
        blocks += bytes(values[i] | values[i + 1] << 4 for i in range(0, 32, 2))
    shape = t.dims[:-1] + [t.dims[-1] // 32]
    return ("U8", shape + [16], bytes(blocks)), ("U8", shape, bytes(scales))


class Names:
    """The tensors of a GGUF model under the names of its published form."""

    def __init__(self, gguf):
        self.g, self.out = gguf, {}
        self.layers = gguf.keys[gguf.keys["general.architecture"] + ".block_count"]

    def put(self, name, t):
        self.out[name] = (SAFE[t.kind], t.dims, t.data)

    def move(self, name, source):
        if source in self.g.tensors:
            self.put(name, self.g.tensors[source])

    def ends(self):
        self.move("model.embed_tokens.weight", "token_embd.weight")
        self.move("model.norm.weight", "output_norm.weight")
        self.move("lm_head.weight", "output.weight")

    def attention(self, layer, head=0, biases=False):
        for ours, theirs in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"),
                             ("attn_output", "o_proj")):
            t = self.g.tensors[f"blk.{layer}.{ours}.weight"]
            turned = head and theirs in ("q_proj", "k_proj")
            self.put(f"model.layers.{layer}.self_attn.{theirs}.weight",
                     halves(t, head) if turned else t)
            if biases:
                self.move(f"model.layers.{layer}.self_attn.{theirs}.bias",
                          f"blk.{layer}.{ours}.bias")

    def experts(self, layer, pattern, names):
        for ours, theirs in names:
            for e, part in enumerate(self.g.tensors[f"blk.{layer}.ffn_{ours}_exps.weight"].parts()):
                self.put(f"model.layers.{layer}." + pattern.format(e, theirs), part)


def as_llama(g):
    n = Names(g)
    head = g.keys["llama.attention.key_length"]
    n.ends()
    for i in range(n.layers):
        m, b = f"model.layers.{i}.", f"blk.{i}."
        n.attention(i, head)
        n.move(m + "input_layernorm.weight", b + "attn_norm.weight")
        n.move(m + "post_attention_layernorm.weight", b + "ffn_norm.weight")
        for part in ("gate", "up", "down"):
            n.move(f"{m}mlp.{part}_proj.weight", f"{b}ffn_{part}.weight")
        if "llama.expert_count" in g.keys:
            n.move(m + "block_sparse_moe.gate.weight", b + "ffn_gate_inp.weight")
            n.experts(i, "block_sparse_moe.experts.{}.{}.weight",
                      (("gate", "w1"), ("up", "w3"), ("down", "w2")))
    return n.out


def as_qwen3moe(g):
    n = Names(g)
    n.ends()
    for i in range(n.layers):
        m, b = f"model.layers.{i}.", f"blk.{i}."
        n.attention(i)
        n.move(m + "input_layernorm.weight", b + "attn_norm.weight")
        n.move(m + "post_attention_layernorm.weight", b + "ffn_norm.weight")
        n.move(m + "self_attn.q_norm.weight", b + "attn_q_norm.weight")
        n.move(m + "self_attn.k_norm.weight", b + "attn_k_norm.weight")
        n.move(m + "mlp.gate.weight", b + "ffn_gate_inp.weight")
        n.experts(i, "mlp.experts.{}.{}_proj.weight",
                  (("gate", "gate"), ("up", "up"), ("down", "down")))
    return n.out


def as_gptoss(g, blocks=None):
    """blocks: a model with MXFP4 experts to take these from."""
    n = Names(g)
    n.ends()
    for i in range(n.layers):
        m, b = f"model.layers.{i}.", f"blk.{i}."
        n.attention(i, biases=True)
        n.move(m + "self_attn.sinks", b + "attn_sinks.weight")
        n.move(m + "input_layernorm.weight", b + "attn_norm.weight")
        n.move(m + "post_attention_layernorm.weight", b + "post_attention_norm.weight")
        n.move(m + "mlp.router.weight", b + "ffn_gate_inp.weight")
        n.move(m + "mlp.router.bias", b + "ffn_gate_inp.bias")
        gate, up, down = ((blocks or g).tensors[f"{b}ffn_{part}_exps.weight"].parts()
                          for part in ("gate", "up", "down"))
        both = [woven(x, y) for x, y in zip(gate, up)]
        for name, parts in (("gate_up_proj", both), ("down_proj", down)):
            if blocks:
                n.out[f"{m}mlp.experts.{name}_blocks"], n.out[f"{m}mlp.experts.{name}_scales"] = \
                    published_blocks(stack(parts))
            else:
                n.put(f"{m}mlp.experts.{name}", stack([transposed(p) for p in parts]))
        gate, up = (g.tensors[f"{b}ffn_{part}_exps.bias"].parts() for part in ("gate", "up"))
        n.put(m + "mlp.experts.gate_up_proj_bias",
              stack([Tensor([2 * x.dims[0]], x.kind,
                            b"".join(x.data[j:j + 4] + y.data[j:j + 4]
                                     for j in range(0, len(x.data), 4)))
                     for x, y in zip(gate, up)]))
        n.move(m + "mlp.experts.down_proj_bias", b + "ffn_down_exps.bias")
    return n.out


def as_deepseek(g):
    n = Names(g)
    n.ends()
    for i in range(n.layers):
        m, b = f"model.layers.{i}.", f"blk.{i}."
        a = m + "self_attn."
        for ours, theirs in (("attn_q", "q_proj"), ("attn_q_a", "q_a_proj"),
                             ("attn_q_a_norm", "q_a_layernorm"), ("attn_q_b", "q_b_proj"),
                             ("attn_kv_a_mqa", "kv_a_proj_with_mqa"),
                             ("attn_kv_a_norm", "kv_a_layernorm"), ("attn_output", "o_proj")):
            n.move(f"{a}{theirs}.weight", f"{b}{ours}.weight")
        heads = zip(g.tensors[b + "attn_k_b.weight"].parts(),
                    g.tensors[b + "attn_v_b.weight"].parts())
        rows = [row for k, v in heads for row in transposed(k).parts() + v.parts()]
        n.put(a + "kv_b_proj.weight", stack(rows))
        n.move(m + "input_layernorm.weight", b + "attn_norm.weight")
        n.move(m + "post_attention_layernorm.weight", b + "ffn_norm.weight")
        for part in ("gate", "up", "down"):
            n.move(f"{m}mlp.{part}_proj.weight", f"{b}ffn_{part}.weight")
            n.move(f"{m}mlp.shared_experts.{part}_proj.weight", f"{b}ffn_{part}_shexp.weight")
        if b + "ffn_gate_inp.weight" in g.tensors:
            n.move(m + "mlp.gate.weight", b + "ffn_gate_inp.weight")
            n.move(m + "mlp.gate.e_score_correction_bias", b + "exp_probs_b.bias")
            n.experts(i, "mlp.experts.{}.{}_proj.weight",
                      (("gate", "gate"), ("up", "up"), ("down", "down")))
    return n.out


# ---- tokenizers ----

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
          r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(regex):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
              "use_regex": False}


def tokenizer_of(g, count, merges_as_lists):
    """tokenizer.json of a GGUF vocabulary, its first `count` tokens."""
    tokens, kinds = g.keys["tokenizer.ggml.tokens"][:count], g.keys["tokenizer.ggml.token_type"]
    known = set(tokens)
    merges = [m.split(" ") for m in g.keys["tokenizer.ggml.merges"]]
    merges = [m for m in merges if "".join(m) in known]
    added = [{"id": i, "content": t, "special": True}
             for i, t in enumerate(tokens) if kinds[i] == 3]
    bos = tokens[g.keys["tokenizer.ggml.bos_token_id"]]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(LLAMA3), BYTE_LEVEL]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "x", "type_id": 0}}]},
        "model": {"type": "BPE", "ignore_merges": True, "byte_fallback": False,
                  "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": merges if merges_as_lists else [" ".join(m) for m in merges]},
    }
