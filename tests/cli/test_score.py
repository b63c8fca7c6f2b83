"""serin score: the shape of its answer, what it computes, and what it refuses."""
import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MODEL = GOLDEN / "qwen3.gguf"
TOKENS = json.loads((GOLDEN / "qwen3.tokens.json").read_text())


def score(*options, tokens=TOKENS, tmp=None, code=0):
    if tokens is not None:
        (tmp / "t.json").write_text(tokens if isinstance(tokens, str) else json.dumps(tokens))
        options += ("--tokens", tmp / "t.json")
    done = subprocess.run([os.environ["SERIN"], "score", MODEL, *map(str, options)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def test_positions_hold_the_distribution_after_each_token(tmp_path):
    n_vocab = np.load(GOLDEN / "qwen3.logits.npy").shape[1]
    got = json.loads(score("--json", "--kv", "f32", "--top", n_vocab, tmp=tmp_path).stdout)
    want = np.load(GOLDEN / "qwen3.logits.npy").astype(np.float64)
    want = want - np.log(np.exp(want).sum(axis=1, keepdims=True))
    assert [p["token"] for p in got["positions"]] == TOKENS
    assert got["positions"][0]["logprob"] is None
    for i, p in enumerate(got["positions"]):
        ids, lps = zip(*p["top"])
        assert sorted(ids) == list(range(n_vocab))
        assert list(lps) == sorted(lps, reverse=True)
        assert math.isclose(sum(map(math.exp, lps)), 1, rel_tol=1e-6)
        assert max(abs(lp - want[i, t]) for t, lp in p["top"]) < 1e-3
        if i:
            assert p["logprob"] == dict(got["positions"][i - 1]["top"])[TOKENS[i]]
    lps = [p["logprob"] for p in got["positions"][1:]]
    assert math.isclose(got["mean_logprob"], sum(lps) / len(lps), rel_tol=1e-12)
    assert math.isclose(got["perplexity"], math.exp(-got["mean_logprob"]), rel_tol=1e-12)


def test_top_defaults_to_twenty(tmp_path):
    got = json.loads(score("--json", tmp=tmp_path).stdout)
    assert all(len(p["top"]) == 20 for p in got["positions"])


def test_windows_are_scored_each_on_its_own(tmp_path):
    whole = json.loads(score("--json", "--window", "10", tmp=tmp_path).stdout)["positions"]
    for start in range(0, len(TOKENS), 10):
        alone = json.loads(score("--json", tokens=TOKENS[start:start + 10], tmp=tmp_path).stdout)["positions"]
        assert whole[start:start + 10] == alone


def test_logits_go_to_a_file(tmp_path):
    score("--logits", tmp_path / "l.f32", tmp=tmp_path)
    want = np.load(GOLDEN / "qwen3.logits.npy")
    got = np.fromfile(tmp_path / "l.f32", "<f4").reshape(want.shape)
    assert np.abs(got - want).max() < 0.02 * want.std()


@pytest.mark.parametrize("tokens, words", [
    ("{", ["t.json", "line 1"]),
    ("{}", ["t.json", "array"]),
    ("[]", ["t.json", "non-empty"]),
    ('[1, "2"]', ["element 1"]),
    ("[1, -2]", ["element 1"]),
    ("[1, 99999999999]", ["element 1"]),
    ("[1, 2, 100000]", ["token 2", "100000"]),
    (json.dumps([1] * 100000), ["100000", "--ctx", "--window"]),
])
def test_bad_tokens_are_named(tokens, words, tmp_path):
    done = score(tokens=tokens, tmp=tmp_path, code=2)
    for word in words:
        assert word in done.stderr, done.stderr


def test_wrong_usage_is_said(tmp_path):
    assert "--tokens" in score(tokens=None, tmp=tmp_path, code=2).stderr
    assert "either" in score("--text", "x", tmp=tmp_path, code=2).stderr
    assert "f64" in score("--kv", "f64", tmp=tmp_path, code=2).stderr
    assert "nothere.json" in score("--tokens", "nothere.json", tokens=None, tmp=tmp_path, code=2).stderr
    assert score("--logits", tmp_path / "no" / "where", tmp=tmp_path, code=1).stderr.count("where") == 1


def test_a_full_disk_is_an_error(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    assert "full" in score("--logits", "/dev/full", tmp=tmp_path, code=1).stderr
