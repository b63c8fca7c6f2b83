"""Judging with real weights: the answers of a model are compared, beside a load of requests on the baseline, with what
the baseline expects. A model is exactly nothing apart from itself and from a copy that differs in a byte of metadata;
weights cut to two bits are far from it, the same weights in Q8_0 are near."""
import json
import math
import os
import subprocess
from pathlib import Path

import pytest

import smol_copies
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
    out, jsd, kl = judged(smol, smol_copies.renamed(smol, tmp_path / "other.gguf"))
    assert jsd == 0 and kl == 0 and all(a["same_top"] == a["tokens"] for a in out["answers"])


def test_weights_cut_to_two_bits_are_far_away(smol, tmp_path):
    _, jsd, kl = judged(smol, smol_copies.cut(smol, tmp_path / "cut.gguf"))
    assert jsd > 0.1 and kl > 0.5


def test_the_same_weights_in_8_bits_are_near(smol, tmp_path):
    _, jsd, _ = judged(smol, smol_copies.in_eight_bits(smol, tmp_path / "q8.gguf"))
    assert 0 < jsd < 0.02
