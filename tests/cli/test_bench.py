"""serin bench: the figures that it prints and what it refuses, on a tiny model."""
import json
import os
import subprocess
from pathlib import Path

import jsonschema
from gguf import GGUFValueType

from gguf_edit import edit

TINY = Path(__file__).resolve().parents[1] / "golden/llama.gguf"
RATE = {"type": "number", "exclusiveMinimum": 0}
SCHEMA = {
    "type": "object", "required": ["machine", "model", "engine", "reps", "results"],
    "properties": {
        "machine": {"type": "object", "required": ["cpu", "threads", "isa"]},
        "results": {"type": "array", "items": {
            "type": "object", "required": ["test", "tok_per_s"],
            "properties": {"tok_per_s": {"type": "object", "required": ["median", "min", "max"],
                                         "properties": {"median": RATE, "min": RATE, "max": RATE}}}}}}}


def bench(*args, model=TINY, **env):
    return subprocess.run([os.environ["SERIN"], "bench", model, *map(str, args)], capture_output=True, text=True,
                          timeout=120, env={**os.environ, **env})


def test_json_has_both_tests_their_spread_and_the_machine():
    done = bench("--pp", 32, "--tg", 5, "--reps", 4, "--threads", 2, "--json", SERIN_CPU="ref")
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    jsonschema.validate(out, SCHEMA)
    assert [r["test"] for r in out["results"]] == ["pp32", "tg5"]
    for rates in (r["tok_per_s"] for r in out["results"]):
        assert rates["min"] <= rates["median"] <= rates["max"]
    assert out["machine"]["threads"] == 2 and out["machine"]["isa"] == "ref" and out["reps"] == 4
    assert out["model"]["architecture"] == "llama"


def test_a_count_of_zero_leaves_a_test_out():
    out = json.loads(bench("--pp", 0, "--tg", 3, "--reps", 1, "--json").stdout)
    assert [r["test"] for r in out["results"]] == ["tg3"]
    table = bench("--pp", 8, "--tg", 0, "--reps", 1).stdout
    assert "pp8" in table and "tg" not in table


def test_what_cannot_be_measured_is_refused():
    for args, word in ((("--pp", 0, "--tg", 0), "nothing to measure"), (("--pp", 65), "64"), (("--reps", 0), "--reps"),
                       (("--kv", "x"), "f16")):
        done = bench(*args)
        assert done.returncode == 2 and word in done.stderr, done.stderr


def test_parallel_answers_all_requests_and_tells_gaps():
    done = bench("--parallel", 3, "--prompt", 20, "--output", 12, "--requests", 7, "--threads", 2, "--json")
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert (out["parallel"], out["requests"], out["prompt_tokens"], out["output_tokens"]) == (3, 7, 20, 7 * 12)
    assert out["tok_per_s"] > 0
    for spread in (out["ttft_ms"], out["gap_ms"]):
        assert 0 < spread["p50"] <= spread["p95"] <= spread["p99"] <= spread["max"]
    table = bench("--parallel", 2, "--prompt", 20, "--output", 12, "--speculate", 4)
    assert table.returncode == 0 and "4 requests" in table.stdout and "drafts:" in table.stdout, table.stderr
    refused = bench("--parallel", 2, "--prompt", 60, "--output", 12)
    assert refused.returncode == 2 and "context" in refused.stderr


def test_a_long_prompt_is_read_beside_running_answers(tmp_path):
    model = edit(TINY, tmp_path / "long.gguf", {"llama.context_length": (GGUFValueType.UINT32, 4096)})
    done = bench("--parallel", 3, "--prompt", 10, "--output", 4000, "--long-prompt", 1000, "--json", model=model)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out["long_prompt"]["tokens"] == 1000 and out["long_prompt"]["ttft_ms"] > 0
    assert out["output_tokens"] >= 3 * 100  # each had that many before the prompt came
    for when in ("quiet", "beside", "after"):
        assert 0 < out[f"gap_{when}_ms"]["p50"] <= out[f"gap_{when}_ms"]["p99"]
    early = bench("--parallel", 2, "--prompt", 10, "--output", 50, "--long-prompt", 1000, model=model)
    assert early.returncode == 2 and "--output" in early.stderr
