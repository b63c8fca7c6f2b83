"""The forward pass against the original framework: goldens of tiny random models of every architecture.

Each golden must be met to 1e-4 of its logits' standard deviation, and each feature that it has must matter:
with SERIN_TEST_OFF=FEATURE the engine leaves it out, and the logits must then be wrong by 100 times as much.
"""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
FEATURES = json.loads((HERE / "features.json").read_text())
TOLERANCE = 1e-4  # of the standard deviation of the golden's logits
MUST_MOVE = 100 * TOLERANCE
# LongRoPE chooses its factors by the size of the context; here it is one that needs the short ones.
OPTIONS = {"phi3-short": ["--ctx", "16"]}


def deviation(name, tmp_path, off=None):
    """The largest difference of a logit, in standard deviations."""
    out = tmp_path / "logits.f32"
    env = {k: v for k, v in os.environ.items() if k != "SERIN_TEST_OFF"}
    if off:
        env["SERIN_TEST_OFF"] = off
    command = [os.environ["SERIN"], "score", HERE / f"{name}.gguf", "--tokens", HERE / f"{name}.tokens.json",
               "--kv", "f32", "--logits", out, *OPTIONS.get(name, [])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    want = np.load(HERE / f"{name}.logits.npy").astype(np.float64)
    got = np.fromfile(out, "<f4")
    assert got.size == want.size, f"{got.size} logits instead of {want.shape}"
    return float(np.abs(got.reshape(want.shape) - want).max() / want.std())


@pytest.mark.parametrize("name", FEATURES)
def test_logits_are_those_of_the_original_framework(name, tmp_path):
    assert deviation(name, tmp_path) <= TOLERANCE


@pytest.mark.parametrize("name, feature", [(n, f) for n, features in FEATURES.items() for f in features])
def test_golden_notices_when_a_feature_is_left_out(name, feature, tmp_path):
    assert deviation(name, tmp_path, off=feature) > MUST_MOVE


def test_every_golden_is_listed():
    assert sorted(FEATURES) == sorted(p.stem for p in HERE.glob("*.gguf"))
