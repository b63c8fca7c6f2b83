#!/usr/bin/env python3
"""Writes the seeds of fuzz/corpus/gguf: small whole files, each with one feature of the format.

usage: tests/tools/make_gguf_seeds.py [FOLDER]
Needs nothing but Python: the writer is a dozen lines, and some seeds are what no writer would produce.
"""
import struct
import sys
from pathlib import Path

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q",
        F64: "<d"}
# id: elements and bytes of a block
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 12: (256, 144), 14: (256, 210), 24: (1, 1),
         30: (1, 2), 39: (32, 17)}


def string(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    return string(v) if kind == STR else struct.pack(PACK[kind], v)


def key(name, kind, v, elem=None):
    head = string(name) + struct.pack("<I", kind)
    if kind != ARR:
        return head + value(kind, v)
    return head + struct.pack("<IQ", elem, len(v)) + b"".join(value(elem, x) for x in v)


def gguf(keys, tensors=(), version=3, align=32):
    """tensors: (name, type, shape with columns first)"""
    table, data = b"", b""
    for name, kind, shape in tensors:
        data += bytes(-len(data) % align)
        n = 1
        for d in shape:
            n *= d
        elems, size = TYPES[kind]
        table += string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", d) for d in shape)
        table += struct.pack("<IQ", kind, len(data))
        data += bytes((i * 37 + len(data)) % 256 for i in range(n // elems * size))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + table
    return head + bytes(-len(head) % align if tensors else 0) + data


ARCH = key("general.architecture", STR, "llama")
SCALARS = [key(f"k.{k}", k, 1) for k in PACK]
VOCAB = [ARCH, key("tokenizer.ggml.model", STR, "gpt2"),
         key("tokenizer.ggml.tokens", ARR, ["a", "b", "Ġc", b"\xff\x00"], STR),
         key("tokenizer.ggml.scores", ARR, [0.5, -1.0, 2.0, 0.0], F32),
         key("tokenizer.ggml.token_type", ARR, [1, 1, 3, 6], I32)]

SEEDS = {
    "empty": gguf([]),
    "scalars": gguf([ARCH, *SCALARS]),
    "arrays": gguf([key(f"a.{k}", ARR, [0, 1, 1], k) for k in PACK]),
    "vocabulary": gguf(VOCAB),
    "tensors": gguf([ARCH], [("token_embd.weight", 8, (32, 2)), ("blk.0.attn_norm.weight", 0, (4,)),
                             ("blk.0.ffn.weight", 24, (2, 1, 1, 2)), ("scalar", 0, ())]),
    "blocks": gguf([ARCH], [("q4_0", 2, (64, 1)), ("q4_k", 12, (256,)), ("q6_k", 14, (256,)), ("mxfp4", 39, (32,)),
                            ("f16", 1, (3,)), ("bf16", 30, (5,))]),
    "aligned": gguf([key("general.alignment", U32, 64)], [("a", 24, (1,)), ("b", 24, (1,))], align=64),
    "version2": gguf([ARCH], [("a", 0, (1,))], version=2),
    "version1": gguf([ARCH], version=1),
    "split": gguf([ARCH, key("split.no", U16, 0), key("split.count", U16, 3), key("split.tensors.count", I32, 1)],
                  [("a", 0, (1,))]),
    "duplicate_key": gguf([ARCH, ARCH]),
    "duplicate_tensor": gguf([], [("a", 0, (1,)), ("a", 0, (1,))]),
    "nested": gguf([string("n") + struct.pack("<IIQIQ", ARR, ARR, 1, U8, 0)]),
    "big_endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "safetensors": struct.pack("<Q", 16) + b'{"__metadata__":{}}',
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    "html": b"\n<!DOCTYPE html><title>Sign in</title>",
}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "fuzz/corpus/gguf"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        (folder / name).write_bytes(data)
    print(f"{len(SEEDS)} seeds in {folder}")
