#!/usr/bin/env python3
"""Writes a recorded routing as a doppler trace (docs/formats/trace.md).

usage: routing_to_trace.py ROUTING.bin LAYERS EXPERTS TOP_K PAGE_BYTES OUT [TEXT_START ...]

ROUTING.bin holds one byte an expert: [token][layer][k], as a router's dump has it. TEXT_START are
the tokens at which a new text begins."""
import struct
import sys
import zlib

BLOCK_GOOD = 64 << 10
ONE_TOKEN, STARTS_TEXT, UNIFORM = 1, 2, 4


def header(layers, experts, used, page_bytes):
    size = 48 + 8 * layers + 4
    fixed = b"DPTRACE1" + struct.pack("<IIIIQQII", size, layers, experts, used,
                                      layers * experts * page_bytes, 0, 0, 0)
    fixed += struct.pack("<Q", page_bytes) * layers
    return fixed + struct.pack("<I", zlib.crc32(fixed))


def block(payload, steps):
    return struct.pack("<IIII", 0x50455453, len(payload), steps, zlib.crc32(payload)) + payload


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    layers, experts, used, page_bytes = map(int, sys.argv[2:6])
    starts = set(map(int, sys.argv[7:]))
    with open(sys.argv[1], "rb") as file:
        routing = file.read()
    step_bytes = layers * used
    if experts > 256 or len(routing) % step_bytes or max(routing) >= experts:
        sys.exit(f"{sys.argv[1]}: not {layers} layers of {used} of {experts} experts a token")
    with open(sys.argv[6], "wb") as out:
        out.write(header(layers, experts, used, page_bytes))
        payload, steps = bytearray(), 0
        for token in range(len(routing) // step_bytes):
            payload.append(ONE_TOKEN | UNIFORM | (STARTS_TEXT if token in starts else 0))
            payload += routing[token * step_bytes:(token + 1) * step_bytes]
            steps += 1
            if len(payload) >= BLOCK_GOOD:
                out.write(block(bytes(payload), steps))
                payload, steps = bytearray(), 0
        if steps:
            out.write(block(bytes(payload), steps))


if __name__ == "__main__":
    main()
