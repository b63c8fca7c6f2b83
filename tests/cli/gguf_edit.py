"""Writes a copy of a small GGUF file with keys or tensors changed, for tests of what is refused."""
import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

ELEMENT = {str: GGUFValueType.STRING, float: GGUFValueType.FLOAT32, int: GGUFValueType.UINT32}


def copy_keys(reader, writer, but=()):
    """All keys of one file into another, but the architecture, which a writer has from its beginning."""
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in but:
            continue
        kind = field.types[0]
        writer.add_key_value(name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def edit(source, target, keys=None, drop_keys=(), tensors=None, drop_tensors=()):
    """keys: {name: (GGUFValueType, value)} to add or replace; tensors: {name: array} likewise (float32)."""
    reader = GGUFReader(source)
    keys, tensors = dict(keys or {}), dict(tensors or {})
    arch = keys.pop("general.architecture", (None, reader.fields["general.architecture"].contents()))[1]
    writer = GGUFWriter(target, arch)
    copy_keys(reader, writer, {*keys, *drop_keys})
    for name, (kind, value) in keys.items():
        array = kind == GGUFValueType.ARRAY
        writer.add_key_value(name, value, kind, ELEMENT[type(value[0])] if array else None)
    for tensor in reader.tensors:
        if tensor.name not in tensors and tensor.name not in drop_tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    for name, array in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(array))
    finish(writer)
    return target
