"""Judging with real weights: the answers of a model are compared, beside a load of requests on the baseline, with what
the baseline expects. A model is exactly nothing apart from itself and from a copy that differs in a byte of metadata;
weights cut to two bits are far from it, the same weights in Q8_0 are near."""
import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

import gguf_edit
from server import TINY, real_model

TOOL = Path(os.environ.get("SERIN_TOOLS", Path(os.environ["SERIN"]).parent / "tests")) / "judge_tool"
pytestmark = pytest.mark.skipif(TINY, reason="the tiny model has no quantised weights; tests/unit/test_judge.c judges it")


@pytest.fixture(scope="module")
def smol():
    return real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def judged(baseline, canary, share=0.4):
    p = subprocess.run([TOOL, baseline, canary, "2", "3", "32", str(share)], capture_output=True, text=True, timeout=280)
    assert p.returncode == 0, p.stderr
    out = json.loads(p.stdout)
    n = sum(a["tokens"] for a in out["answers"])
    assert n == out["judged_tokens"] == 3 * 32 and out["busy_tokens"] <= out["judge_computed"]
    assert all(0 <= a["jsd"] <= a["tokens"] * math.log(2) and a["max_jsd"] <= math.log(2) for a in out["answers"])
    assert all(a["cached"][1] >= 20 for a in out["answers"])  # of its prompt, which the canary has just answered
    jsd, kl = (sum(a[key] for a in out["answers"]) / n for key in ("jsd", "kl"))
    print(f"{canary.name}: JSD {jsd:.5f}, KL {kl:.5f} nats a token")
    return out, jsd, kl


def test_a_model_is_exactly_nothing_apart_from_itself(smol, tmp_path):
    data = bytearray(smol.read_bytes())
    at = data.index(b"general.name") + len(b"general.name") + 4 + 8  # after the type and the length: its text
    data[at] ^= 0x20
    other = tmp_path / "other.gguf"
    other.write_bytes(data)
    out, jsd, kl = judged(smol, other)
    assert jsd == 0 and kl == 0 and all(a["same_top"] == a["tokens"] for a in out["answers"])


def test_weights_cut_to_two_bits_are_far_away(smol, tmp_path):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(smol.read_bytes())
    n = 0
    reader = GGUFReader(cut, "r+")
    for tensor in reader.tensors:
        if tensor.tensor_type == Type.Q4_1:  # 32 weights: two f16 and 16 bytes of two nibbles each
            blocks = np.asarray(tensor.data).reshape(-1, 20)
            blocks[:, 4:] &= 0xCC
            n += len(blocks)
    assert n > 1000000
    del reader
    _, jsd, kl = judged(smol, cut)
    assert jsd > 0.1 and kl > 0.5


def test_the_same_weights_in_8_bits_are_near(smol, tmp_path):
    near = tmp_path / "q8.gguf"
    reader = GGUFReader(smol)
    writer = GGUFWriter(near, reader.fields["general.architecture"].contents())
    gguf_edit.copy_keys(reader, writer)
    for tensor in reader.tensors:
        if tensor.tensor_type == Type.Q4_1:
            exact = dequantize(np.array(tensor.data), tensor.tensor_type)
            writer.add_tensor(tensor.name, quantize(exact, Type.Q8_0), raw_dtype=Type.Q8_0)
        else:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    gguf_edit.finish(writer)
    _, jsd, _ = judged(smol, near)
    assert 0 < jsd < 0.02
