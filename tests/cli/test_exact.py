"""Exact means exact: on the real models the logits are the same bits for every thread count, every split of the
prompt into batches, every instruction set that this machine has, and every compiler that built a program here.
"""
import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # under the sanitizers test_exact_tiny.py and test_exact_shapes.py ask the same

MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))
ROOT = Path(__file__).resolve().parents[2]
FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma": "gemma-3-270m-q4_k_m.gguf"}
N_TOKENS = 70  # crosses a KV block of 64; the goldens cover windows
N_REF = {"smollm2": 70, "gemma": 12}  # the scalar reference takes its time over 262144 rows of head


def levels():
    """The instruction sets that run here: those that the program does not refuse."""
    return [c for c in ("ref", "avx2", "avx512", "avx512vnni") if run("smollm2", [1, 2], cpu=c, may_fail=True)]


def run(model, tokens, *options, cpu=None, program=None, may_fail=False):
    """SHA-256 of all logits."""
    work = Path(os.environ["PYTEST_WORK"])
    (work / "tokens.json").write_text(json.dumps(tokens))
    env = {k: v for k, v in os.environ.items() if k != "SERIN_CPU"} | ({"SERIN_CPU": cpu} if cpu else {})
    out = work / "logits.f32"
    done = subprocess.run([program or os.environ["SERIN"], "score", MODELS / FILES[model], "--tokens", work / "tokens.json",
                           "--logits", out, *map(str, options)], env=env, capture_output=True, text=True, timeout=600)
    if may_fail and done.returncode == 2:
        return None
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_WORK", str(tmp_path))


@pytest.fixture(scope="module")
def tokens():
    text = (ROOT / "tests/data/varied.txt").read_text()[:1200]
    found = {}
    for model in FILES:
        done = subprocess.run([os.environ["SERIN"], "tokenize", MODELS / FILES[model], "--text", text, "--json"],
                              capture_output=True, text=True, check=True)
        found[model] = json.loads(done.stdout)[:N_TOKENS]
        assert len(found[model]) == N_TOKENS
    return found


@pytest.mark.parametrize("model", FILES)
def test_logits_do_not_depend_on_threads_or_batches(model, tokens):
    want = run(model, tokens[model], "--threads", 1)
    assert run(model, tokens[model], "--threads", 2) == want
    assert run(model, tokens[model], "--threads", 3, "--batch", 1) == want
    assert run(model, tokens[model], "--threads", 2, "--batch", 7) == want
    assert run(model, tokens[model], "--threads", 5, "--batch", 33) == want


@pytest.mark.parametrize("model", FILES)
def test_logits_do_not_depend_on_the_instruction_set(model, tokens):
    found = levels()
    assert "ref" in found
    some = tokens[model][:N_REF[model]]
    want = run(model, some, cpu="ref")
    for level in found[1:]:
        assert run(model, some, cpu=level) == want, level


@pytest.mark.parametrize("model", FILES)
def test_logits_do_not_depend_on_the_compiler(model, tokens):
    other = os.environ.get("SERIN_OTHER")
    if not other:
        pytest.skip("SERIN_OTHER does not name a program that another compiler built")
    some = tokens[model][:N_REF[model]]
    for level in levels():
        assert run(model, some, cpu=level, program=other) == run(model, some, cpu=level), level


def test_a_different_token_gives_different_logits(tokens):
    """The comparison can fail."""
    changed = tokens["smollm2"][:-1] + [tokens["smollm2"][-1] ^ 1]
    assert run("smollm2", changed) != run("smollm2", tokens["smollm2"])


def test_the_cache_type_is_a_different_result_and_says_so(tokens):
    results = [run("smollm2", tokens["smollm2"])]
    for kv in ("f32", "q8_0"):
        results.append(run("smollm2", tokens["smollm2"], "--kv", kv))
        assert results.count(results[-1]) == 1
        done = subprocess.run([os.environ["SERIN"], "score", MODELS / FILES["smollm2"], "--tokens",
                               Path(os.environ["PYTEST_WORK"]) / "tokens.json", "--kv", kv, "--json"],
                              capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["engine"].endswith(f"/kv-{kv}")
