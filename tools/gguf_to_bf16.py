#!/usr/bin/env python3
"""Halves a GGUF file of F32 matrices by storing them as BF16, where no bit is lost.

usage: gguf_to_bf16.py IN.gguf OUT.gguf

Tensors of two and more dimensions become BF16, but for routers and biases (F32 as
in files in circulation). A tensor with a value that BF16 cannot hold exactly
stops the program: the output always means the same numbers. Standard library
only; made for the small models of tests/oracle.
"""
import struct
import sys

SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9
F32, BF16 = 0, 30
FILE_TYPE_BF16 = 32
ALIGNMENT = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self):
        return self.take(self.number("Q"))

    def skip_value(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(element)
        else:
            self.take(SCALAR_BYTES[kind])


def read_keys(reader, count):
    """The metadata's bytes with general.file_type replaced."""
    out = bytearray()
    for _ in range(count):
        start = reader.at
        key, kind = reader.string(), reader.number("I")
        value = reader.at
        reader.skip_value(kind)
        if key == b"general.file_type":
            out += reader.data[start:value] + struct.pack("<I", FILE_TYPE_BF16)
        else:
            out += reader.data[start:reader.at]
        if key == b"general.alignment":
            sys.exit("a file with an alignment of its own is not handled")
    return out


def read_tensors(reader, count):
    rows = []
    for _ in range(count):
        name = reader.string()
        dims = [reader.number("Q") for _ in range(reader.number("I"))]
        kind, offset = reader.number("I"), reader.number("Q")
        if kind != F32:
            sys.exit(f"{name.decode()}: type {kind}, only F32 files are converted")
        rows.append((name, dims, offset))
    return rows


def as_bf16(name, data):
    if any(data[0::4]) or any(data[1::4]):
        sys.exit(f"{name.decode()}: a value needs more than BF16 holds")
    out = bytearray(len(data) // 2)
    out[0::2], out[1::2] = data[2::4], data[3::4]
    return bytes(out)


def padded(data):
    return bytes(data) + bytes(-len(data) % ALIGNMENT)


def main(source, target):
    reader = Reader(open(source, "rb").read())
    magic, version = reader.take(4), reader.number("I")
    if magic != b"GGUF" or version != 3:
        sys.exit(f"{source}: not GGUF version 3")
    tensor_count, key_count = reader.number("Q"), reader.number("Q")
    keys = read_keys(reader, key_count)
    rows = read_tensors(reader, tensor_count)
    base = reader.at + -reader.at % ALIGNMENT

    infos, body = bytearray(), bytearray()
    for name, dims, offset in rows:
        size = 4
        for ne in dims:
            size *= ne
        data, kind = reader.data[base + offset:base + offset + size], F32
        if len(dims) > 1 and b"ffn_gate_inp" not in name and not name.endswith(b".bias"):
            data, kind = as_bf16(name, data), BF16
        infos += struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dims))
        infos += struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, len(body))
        body += padded(data)
    head = magic + struct.pack("<IQQ", version, tensor_count, key_count) + keys + infos
    with open(target, "wb") as out:
        out.write(padded(head) + body)
    print(f"{target}: {len(padded(head)) + len(body)} bytes")


if len(sys.argv) != 3:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2])
