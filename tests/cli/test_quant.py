"""quant: every tensor type against the gguf package (the bits), and the group codes against the values.

The functions under test are not exported from the library; tests/tools/dequant_main.c reaches them. SERIN_TOOLS names
the folder of such programs, by default the tests folder of the release build.
"""
import functools
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

TOOLS = Path(os.environ.get("SERIN_TOOLS", Path(__file__).parents[2] / "build/release/tests"))
SEED = int(os.environ.get("SERIN_TEST_SEED", "20240607"))

NONE, FLOAT, SCALE, SCALE_MIN, SUB, SUB_MIN, SPLIT = range(7)
GROUP = np.dtype([("q", "i1", 32), ("d", "<f4"), ("m", "<f4"), ("d2", "<f4", 2), ("sc", "<i2", 2), ("mn", "<i2", 2)])

TYPES = ["F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64", "Q1_0", "Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
         "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
         "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"]
CODED = TYPES[8:]

# Where a block keeps its half-precision numbers: most random bytes would make them huge or NaN. (IQ1_M has its half
# in four nibbles, see blocks_of.)
HALVES = {"F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0],
          "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64],
          "Q1_0": [0], "Q2_0": [0]}


def tool(*args, data=b""):
    exe = TOOLS / "dequant_tool"
    assert exe.exists(), f"{exe} is missing: build the tests, or set SERIN_TOOLS to the folder that has it"
    done = subprocess.run([exe, *args], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@functools.cache
def table():
    rows = {}
    for line in tool("table").decode().splitlines():
        cells = line.split("\t")
        if cells[2] != "refused":
            rows[cells[1]] = [int(cells[0])] + [int(c) for c in cells[2:]]
    return rows


def own_q1_0(blocks):
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
    return d * np.where(bits == 1, np.float32(1), np.float32(-1))


def own_q2_0(blocks):
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    codes = np.stack([blocks[:, 2:] >> s & 3 for s in (0, 2, 4, 6)], axis=-1).reshape(len(blocks), 64)
    return d * (codes.astype(np.float32) - np.float32(1))


# Types that the package cannot read: independent definitions.
OWN = {"Q1_0": own_q1_0, "Q2_0": own_q2_0,
       "F64": lambda b: b.view("<f8").astype(np.float32), "I8": lambda b: b.view("<i1").astype(np.float32),
       "I16": lambda b: b.view("<i2").astype(np.float32), "I32": lambda b: b.view("<i4").astype(np.float32),
       "I64": lambda b: b.view("<i8").astype(np.float32)}


def expected(name, blocks):
    with np.errstate(all="ignore"):
        if name in OWN:
            return OWN[name](blocks).reshape(-1)
        return quants.dequantize(blocks, GGMLQuantizationType[name]).reshape(-1)


def put_halves(name, blocks, halves):
    """Overwrites every half of every block; halves(count) gives them as uint16."""
    for at in HALVES.get(name, []):
        blocks[:, at:at + 2] = halves(len(blocks)).view(np.uint8).reshape(-1, 2)
    if name == "IQ1_M":
        words, half = blocks[:, 48:56].copy().view("<u2"), halves(len(blocks))
        for i in range(4):
            words[:, i] = words[:, i] & 0xFFF | (half >> 4 * i & 15) << 12
        blocks[:, 48:56] = words.view(np.uint8)


def blocks_of(name, kind, count=300):
    """count blocks: random bytes with plausible scales, any random bytes, or all bytes equal to kind."""
    size = table()[name][2]
    rng = np.random.default_rng([SEED, *name.encode()])
    if isinstance(kind, int):
        return np.full((8, size), kind, np.uint8)
    blocks = rng.integers(0, 256, (count, size), np.uint8)
    if kind == "plausible":
        put_halves(name, blocks, lambda n: (rng.standard_normal(n) * 10.0 ** rng.uniform(-7, 3, n)).astype("<f2")
                   .view("<u2"))
    if kind == "non-finite":
        specials = np.array([0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x8000, 0x0001, 0x7BFF, 0xFBFF], "<u2")
        put_halves(name, blocks, lambda n: rng.choice(specials, n))
    return blocks


KINDS = ["plausible", "random", "non-finite", 0x00, 0xFF, 0x7F, 0x80, 0x55]


def same_bits(got, want):
    """The uint32 views agree; which NaN an operation gives is left to the CPU."""
    same = (got.view(np.uint32) == want.view(np.uint32)) | (np.isnan(got) & np.isnan(want))
    bad = np.flatnonzero(~same)
    assert bad.size == 0, f"seed {SEED}: {bad.size} differ, first [{bad[0]}] {got[bad[0]]!r} for {want[bad[0]]!r}"


def test_table_has_the_types_and_sizes_of_the_package():
    rows = table()
    assert sorted(rows) == sorted(TYPES)
    for qtype, (elems, size) in GGML_QUANT_SIZES.items():
        if qtype.name in ("Q8_1", "Q8_K"):
            assert qtype.name not in rows
        else:
            assert rows[qtype.name][:3] == [qtype.value, elems, size], qtype.name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TYPES)
def test_values_equal_the_package_to_the_bit(name, kind):
    blocks = blocks_of(name, kind)
    got = np.frombuffer(tool("values", name, data=blocks.tobytes()), np.float32)
    want = expected(name, blocks)
    assert want.dtype == np.float32 and got.shape == want.shape
    same_bits(got, want)


def rebuilt(form, g):
    """Weights from groups, in float64, where every product and every sum is exact."""
    q = g["q"].astype(np.float64).reshape(-1, 2, 16)
    d, m = (g[k].astype(np.float64).reshape(-1, 1, 1) for k in "dm")
    sc, mn, d2 = (g[k].astype(np.float64).reshape(-1, 2, 1) for k in ("sc", "mn", "d2"))
    w = {SCALE: lambda: d * q, SCALE_MIN: lambda: d * q + m, SUB: lambda: d * sc * q,
         SUB_MIN: lambda: d * sc * q + m * mn, SPLIT: lambda: d2 * q}[form]()
    return w.reshape(-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CODED)
def test_groups_rebuild_the_values_and_stay_in_range(name, kind):
    _, _, _, form, low, high = table()[name]
    blocks = blocks_of(name, kind)
    g = np.frombuffer(tool("groups", name, data=blocks.tobytes()), GROUP)
    assert g["q"].min() >= low and g["q"].max() <= high
    unused = {SCALE: ["m", "d2", "sc", "mn"], SCALE_MIN: ["d2", "sc", "mn"], SUB: ["m", "d2", "mn"], SUB_MIN: ["d2"],
              SPLIT: ["d", "m", "sc", "mn"]}[form]
    for field in unused:
        assert not g[field].any(), field
    assert (g["mn"] >= 0).all()
    with np.errstate(all="ignore"):
        want = expected(name, blocks)
        got = rebuilt(form, g)
        # One rounding of the exact value gives w; without a minimum there is nothing to round but overflow.
        np.testing.assert_array_equal(got.astype(np.float32), want, err_msg=f"seed {SEED}")
        if form not in (SCALE_MIN, SUB_MIN):
            fits = np.isfinite(want)
            np.testing.assert_array_equal(got[fits], want[fits].astype(np.float64), err_msg=f"seed {SEED}")


@pytest.mark.parametrize("name", CODED)
def test_range_of_codes_is_tight(name):
    _, _, _, _, low, high = table()[name]
    g = np.frombuffer(tool("groups", name, data=blocks_of(name, "random", 2000).tobytes()), GROUP)
    assert (g["q"].min(), g["q"].max()) == (low, high)


def test_tool_refuses_part_blocks():
    done = subprocess.run([TOOLS / "dequant_tool", "values", "Q4_0"], input=b"x" * 19, capture_output=True)
    assert done.returncode == 2 and b"whole number of blocks" in done.stderr


def test_f16_to_f32_equals_numpy_for_every_value():
    h = np.arange(65536, dtype="<u2")
    got = np.frombuffer(tool("f16-to-f32", data=h.tobytes()), np.float32)
    same_bits(got, h.view("<f2").astype(np.float32))


def test_bf16_to_f32_is_the_upper_half_for_every_value():
    h = np.arange(65536, dtype="<u2")
    got = np.frombuffer(tool("bf16-to-f32", data=h.tobytes()), np.uint32)
    np.testing.assert_array_equal(got, h.astype(np.uint32) << 16)


def test_f32_to_f16_equals_numpy_at_every_value_tie_and_neighbour():
    exact = np.arange(0x7C01, dtype="<u2").view("<f2").astype(np.float64)
    exact[-1] = 65536.0  # where the next value would be, so that the last tie is the border of overflow
    ties = ((exact[:-1] + exact[1:]) / 2).astype(np.float32)
    points = np.concatenate([exact.astype(np.float32), ties]).view(np.uint32).astype(np.int64)
    points = np.concatenate([points, points - 1, points + 1, [0x7F800000, 0x7F7FFFFF, 1, 0x33000000, 0x33000001]])
    points = points[points >= 0].astype(np.uint32)
    rng = np.random.default_rng(SEED)
    f = np.concatenate([points, points | np.uint32(1 << 31), rng.integers(0, 2**32, 200000, np.uint32)])
    f = f.astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        want = f.astype(np.float16)
    got = np.frombuffer(tool("f32-to-f16", data=f.tobytes()), np.float16)
    nan = np.isnan(f)
    assert np.isnan(got[nan]).all() and (got[nan].view(np.uint16) & 0x200).all()
    np.testing.assert_array_equal(got[~nan].view(np.uint16), want[~nan].view(np.uint16), err_msg=f"seed {SEED}")
