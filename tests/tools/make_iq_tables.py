#!/usr/bin/env python3
"""Writes src/quant/iq_tables.c from the constants of the gguf Python package.

    python3 tests/tools/make_iq_tables.py > src/quant/iq_tables.c && clang-format -i src/quant/iq_tables.c

The package stores each grid as hex digits of bytes, first weight in the lowest bits: 2 bits a weight for IQ1 and IQ2
(8 weights a point), 4 bits for IQ3 (4 weights a point). A point is therefore one little-endian 16-bit word.
"""
import numpy as np
from gguf import quants

HEAD = """/* Grids of the codebook types: constants of the GGUF formats. Written by tests/tools/make_iq_tables.py; change that
 * file and run it again. quant_internal.h says how a word holds a point.
 */
#include "quant/quant_internal.h"

/* clang-format off */"""

TABLES = [("srn__iq1_grid", quants.IQ1_S, (-1, 0, 1)),
          ("srn__iq2_xxs_grid", quants.IQ2_XXS, (8, 25, 43)),
          ("srn__iq2_xs_grid", quants.IQ2_XS, (8, 25, 43)),
          ("srn__iq2_s_grid", quants.IQ2_S, (8, 25, 43)),
          ("srn__iq3_xxs_grid", quants.IQ3_XXS, (4, 12, 20, 28, 36, 44, 52, 62)),
          ("srn__iq3_s_grid", quants.IQ3_S, (1, 3, 5, 7, 9, 11, 13, 15))]


def main():
    print(HEAD)
    for name, cls, levels in TABLES:
        assert tuple(cls.grid_map) == levels, f"{name}: the package's levels are not those that codebooks.c has"
        words = np.frombuffer(bytes.fromhex(cls.grid_hex.decode()), dtype="<u2")
        assert len(words) == cls.grid_shape[0], name
        print(f"const uint16_t {name}[{len(words)}] = {{")
        for i in range(0, len(words), 13):
            print("    " + " ".join(f"0x{w:04X}," for w in words[i:i + 13]))
        print("};")
    signs = [i | (bin(i).count("1") & 1) << 7 for i in range(128)]
    assert bytes(signs) == bytes(quants.IQ2_XXS.ksigns), "the sign table is not the parity rule of codebooks.c"
    print("/* clang-format on */")


main()
