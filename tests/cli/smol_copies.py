"""Copies of SmolLM2 that differ from it in a known way: in one byte of metadata, in weights cut to two bits, in weights
stored in eight bits."""
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

import gguf_edit


def renamed(source: Path, target: Path) -> Path:
    data = bytearray(source.read_bytes())
    at = data.index(b"general.name") + len(b"general.name") + 4 + 8  # after the type and the length: its text
    data[at] ^= 0x20
    target.write_bytes(data)
    return target


def cut(source: Path, target: Path) -> Path:
    target.write_bytes(source.read_bytes())
    n = 0
    reader = GGUFReader(target, "r+")
    for tensor in reader.tensors:
        if tensor.tensor_type == Type.Q4_1:  # 32 weights: two f16 and 16 bytes of two nibbles each
            blocks = np.asarray(tensor.data).reshape(-1, 20)
            blocks[:, 4:] &= 0xCC
            n += len(blocks)
    assert n > 1000000
    return target


def in_eight_bits(source: Path, target: Path) -> Path:
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    gguf_edit.copy_keys(reader, writer)
    for tensor in reader.tensors:
        if tensor.tensor_type == Type.Q4_1:
            exact = dequantize(np.array(tensor.data), tensor.tensor_type)
            writer.add_tensor(tensor.name, quantize(exact, Type.Q8_0), raw_dtype=Type.Q8_0)
        else:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    gguf_edit.finish(writer)
    return target
