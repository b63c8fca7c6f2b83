"""The float64 oracle, which judges the engine on real weights, is itself judged by the goldens."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TOOLS = HERE.parent / "tools"
sys.path.insert(0, str(TOOLS))
import kl  # noqa: E402
import oracle  # noqa: E402

FEATURES = json.loads((HERE / "features.json").read_text())


def load(name):
    tokens = json.loads((HERE / f"{name}.tokens.json").read_text())
    return oracle.Model(str(HERE / f"{name}.gguf")), tokens, np.load(HERE / f"{name}.logits.npy").astype(np.float64)


@pytest.mark.parametrize("name", FEATURES)
def test_oracle_gives_the_logits_of_the_original_framework(name):
    model, tokens, want = load(name)
    assert np.abs(oracle.logits(model, tokens) - want).max() <= 2e-6 * want.std()


@pytest.mark.parametrize("name", FEATURES)
def test_exactly_the_listed_features_move_the_logits(name):
    model, tokens, want = load(name)
    moved = [f for f in oracle.OFF
             if np.abs(oracle.logits(model, tokens, off={f}) - want).max() > 1e-2 * want.std()]
    assert moved == FEATURES[name]


def test_command_line_cuts_a_file_into_contexts(tmp_path):
    model, tokens, _ = load("gemma2")
    (tmp_path / "t.json").write_text(json.dumps(tokens))
    for option, finish in ([], lambda x: x), (["--log-softmax"], oracle.log_softmax):
        out = tmp_path / "out.npy"
        subprocess.run([sys.executable, TOOLS / "oracle.py", model.path, "--tokens", tmp_path / "t.json", "--out", out,
                        "--window", "16", *option], check=True, capture_output=True)
        want = [finish(oracle.logits(model, tokens[i:i + 16])) for i in (0, 16, 32)]
        assert np.abs(np.load(out) - np.concatenate(want)).max() < 1e-5


def test_divergence_is_that_of_its_definition():
    exact, other = np.log([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]]), np.log([[0.25, 0.5, 0.25], [0.8, 0.1, 0.1]])
    side = kl.Side()
    side.add(exact, other, np.array([1, -1]))
    figures = side.figures()
    first = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert figures["mean_kl"] == pytest.approx(first / 2)
    assert figures["max_kl"] == pytest.approx(first)
    assert figures["top1_agreement"] == 0.5
    assert figures["perplexity"] == pytest.approx(2)
