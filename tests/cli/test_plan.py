"""serin plan: memory, what fits, speeds from recorded figures, and what it refuses."""
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "golden/llama-gqa.gguf"
MACHINE = ROOT / "data/machines/four-v100.json"
COLUMNS = [1, 2, 4, 8, 16, 64, 512]


@pytest.fixture
def figures(tmp_path):
    """A machine on which a weight takes 10 ps at one column and 1 ps more for each column."""
    path = tmp_path / "figures.json"
    path.write_text(json.dumps({
        "serin_figures": 1, "id": "elsewhere", "columns": COLUMNS,
        "limits": {"cpu": "a processor", "isa": "ref", "threads": 2,
                   "read_by_threads": [{"threads": 2, "bytes_per_s": 5e10}]},
        "products": [{"type": t, "ps": [9 + n for n in COLUMNS], "ps_two": [9 + 2 * n for n in COLUMNS]}
                     for t in ("F32", "F16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K")],
        "attention": [{"kv": "f16", "d": 128, "queries": q, "group": 4, "ps": p} for q, p in ((1, 4000), (512, 2000))],
        "rest": [{"us": 5, "ps_per_element": 100}] * 7}))
    return path


@pytest.fixture
def plan(tmp_path):
    def run(*args):
        return subprocess.run([os.environ["SERIN"], "plan", *map(str, args)], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "SERIN_CACHE": str(tmp_path / "cache")})
    return run


def placement(done):
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert len(out["placements"]) == 1
    return out, out["placements"][0]


def test_a_shape_is_planned_for_without_making_it(plan, figures):
    out, p = placement(plan("--shape", "llama-3.3-70b", "--ctx", 8192, "--figures", figures, "--json"))
    memory = p["memory"]
    assert 40e9 < memory["weights_bytes"] < 50e9
    parts = ("weights", "kv", "work", "scheduler", "vocabulary", "process")
    assert sum(memory[f"{k}_bytes"] for k in parts) == memory["all_bytes"]
    assert memory["kv_bytes"] == 80 * 8 * 128 * 2 * 2 * 8192
    assert p["fits"] == (memory["all_bytes"] <= memory["available_bytes"] - memory["headroom_bytes"])
    assert out["machine"]["predicted"] is True
    assert {(s["kind"], s["sequences"], s["context"]) for s in p["speeds"]} == {
        (k, n, c) for k, n in (("prefill", 1), ("decode", 1), ("decode", 8)) for c in (512, 4096, 8192)}
    for s in p["speeds"]:
        t = s["seconds"]
        assert t["all"] == pytest.approx(t["products"] + t["attention"] + t["rest"] + t["head"], rel=1e-4)
        tokens = s["context"] if s["kind"] == "prefill" else s["sequences"]
        assert s["tok_per_s"] == pytest.approx(tokens / t["all"], rel=1e-4)


def test_what_fits_is_the_most_that_fits(plan, figures):
    args = ("--shape", "llama-3.2-1b", "--figures", figures, "--from", MACHINE, "--json")
    out, p = placement(plan(*args, "--parallel", 64))
    budget = p["memory"]["available_bytes"] - p["memory"]["headroom_bytes"]
    assert p["memory"]["available_bytes"] == sum(n["bytes"] for n in json.loads(MACHINE.read_text())["nodes"])
    longest = p["longest_context"]
    _, at = placement(plan(*args, "--parallel", 64, "--ctx", longest))
    assert at["fits"] and at["memory"]["all_bytes"] <= budget
    if longest < 131072:
        _, beyond = placement(plan(*args, "--parallel", 64, "--ctx", longest + 64))
        assert not beyond["fits"]
    most = p["most_sequences"]
    _, at = placement(plan(*args, "--parallel", most))
    assert at["fits"]
    if most < 512:
        _, beyond = placement(plan(*args, "--parallel", most + 1))
        assert not beyond["fits"]


def test_other_quantisations_of_a_model_are_compared(plan, figures):
    done = plan("--shape", "llama-3.2-1b", "--quants", "--figures", figures, "--json")
    assert done.returncode == 0, done.stderr
    rows = {r["quant"]: r for r in json.loads(done.stdout)["quants"]}
    assert rows["F16"]["tensor_bytes"] > rows["Q8_0"]["tensor_bytes"] > rows["Q4_K_M"]["tensor_bytes"]
    assert rows["Q4_0"]["placement"]["speeds"]
    assert rows["Q2_K"]["placement"]["speeds"] is None
    assert rows["Q2_K"]["placement"]["unmeasured_type"] in ("Q2_K", "Q3_K")
    table = plan("--shape", "llama-3.2-1b", "--quants", "--figures", figures).stdout
    assert "serin probe --types" in table and "Q4_K_M" in table


def test_a_model_runs_beside_its_prediction(plan, figures):
    done = plan(TINY, "--check", "--figures", figures, "--ctx", 64, "--parallel", 8, "--json")
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert {(r["kind"], r["sequences"], r["context"]) for r in out["speeds"]} == {
        ("prefill", 1, 64), ("decode", 1, 64), ("decode", 8, 64)}
    for r in out["speeds"]:
        assert r["measured"] > 0 and r["error"] == pytest.approx(r["predicted"] / r["measured"] - 1, abs=1e-3)


def test_memory_of_a_model_is_foretold_within_two_percent(plan, figures, tmp_path):
    if os.environ.get("SERIN_TEST_TINY"):
        pytest.skip("sanitizers allocate for themselves")
    model = tmp_path / "model.gguf"
    subprocess.run([os.environ["SERIN"], "synth", "--shape", "smollm2-135m", "--quant", "Q4_0", "-o", model], check=True,
                   capture_output=True, timeout=120)
    done = plan(model, "--check", "--figures", figures, "--ctx", 128, "--parallel", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert abs(json.loads(done.stdout)["memory"]["error"]) < 0.02


def test_speeds_that_nobody_measured_are_unknown(plan):
    done = plan(TINY)
    assert done.returncode == 0, done.stderr
    assert "run `serin probe`" in done.stdout and "vocabulary" in done.stdout


@pytest.mark.parametrize("args, say", [
    ((), "give a model or --shape"),
    ((TINY, "--shape", "llama-3.2-1b"), "not both"),
    ((TINY, "--ctx", 10 ** 6), "was trained for"),
    ((TINY, "--kv-type", "q9"), "use f16, q8_0 or f32"),
    ((TINY, "--check"), "run `serin probe`"),
    ((TINY, "--check", "--quants"), "--check runs the model here"),
    ((TINY, "--figures", MACHINE), "serin probe --record"),
    (("--shape", "llama-3.2-1c"), "did you mean"),
])
def test_what_cannot_be_is_refused(plan, args, say):
    done = plan(*args)
    assert done.returncode == 2 and say in done.stderr, done.stderr
