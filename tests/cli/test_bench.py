"""serin bench: the figures that it prints and what it refuses, on a tiny model."""
import hashlib
import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest
from gguf import GGUFValueType

from gguf_edit import edit

TINY = Path(__file__).resolve().parents[1] / "golden/llama.gguf"
RATE = {"type": "number", "exclusiveMinimum": 0}
SPREAD = {"type": "object", "required": ["median", "min", "max"], "additionalProperties": False,
          "properties": {"median": RATE, "min": RATE, "max": RATE}}
LIMITS = ["cpu", "isa", "threads", "read_bytes_per_s", "int8_macs_per_s", "f32_macs_per_s", "probe_bytes",
          "huge_page_share"]
SCHEMA = {
    "type": "object", "required": ["machine", "model", "reps", "results"], "additionalProperties": False,
    "properties": {
        "machine": {"type": "object", "required": LIMITS},
        "model": {"type": "object", "required": ["path", "architecture", "quantisation", "weights_id", "parameters",
                                                 "weights_bytes", "engine", "numerics", "kv"]},
        "reps": {"type": "integer"},
        "results": {"type": "array", "items": {
            "type": "object", "required": ["test", "tok_per_s", "limit_share", "limit", "shares", "per_token"],
            "properties": {"test": {"type": "string"}, "tok_per_s": SPREAD, "limit_share": RATE,
                           "limit": {"enum": ["read", "compute"]},
                           "shares": {"type": "object", "required": ["read", "int8", "f32"]},
                           "per_token": {"type": "object", "required": ["int8_macs", "f32_macs", "weights_bytes",
                                                                        "kv_bytes"]}}}}}}
SMALL = ("--pp", 32, "--tg", 5, "--reps", 1)


def bench(*args, model=TINY, **env):
    return subprocess.run([os.environ["SERIN"], "bench", *([model] if model else []), *map(str, args)],
                          capture_output=True, text=True, timeout=120, env={**os.environ, **env})


def bench_json(*args, **more):
    done = bench(*args, "--json", **more)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    jsonschema.validate(out, SCHEMA)
    return out


def test_json_has_both_tests_their_spread_and_the_machine():
    out = bench_json("--pp", 32, "--tg", 5, "--reps", 4, "--threads", 2, SERIN_CPU="ref")
    assert [r["test"] for r in out["results"]] == ["pp32", "tg5"]
    for r in out["results"]:
        rates, shares = r["tok_per_s"], r["shares"]
        assert rates["min"] <= rates["median"] <= rates["max"]
        assert r["limit_share"] == pytest.approx(max(shares["read"], shares["int8"] + shares["f32"]), rel=1e-4)
    assert out["machine"]["threads"] == 2 and out["machine"]["isa"] == "ref" and out["reps"] == 4
    model = out["model"]
    assert model["architecture"] == "llama" and model["kv"] == "f16" and model["numerics"] == 1
    assert model["weights_id"] == hashlib.sha256(TINY.read_bytes()).hexdigest()
    assert model["engine"].endswith("cpu-ref/kv-f16") and model["quantisation"] == "F32 (100 %)"


def test_sequences_together_and_depths_are_tests_of_their_own():
    out = bench_json(*SMALL, "--batch", "1,3", "--depth", "0,20")
    assert [r["test"] for r in out["results"]] == ["pp32", "tg5", "tg5@3", "pp32 d20", "tg5 d20", "tg5@3 d20"]
    cost = {r["test"]: r["per_token"] for r in out["results"]}
    assert cost["tg5@3"]["weights_bytes"] == pytest.approx(cost["tg5"]["weights_bytes"] / 3, rel=1e-4)
    assert cost["tg5@3"]["kv_bytes"] == cost["tg5"]["kv_bytes"]
    # The mean of 1 to 5 positions, and of 21 to 25.
    assert cost["tg5 d20"]["kv_bytes"] == pytest.approx(cost["tg5"]["kv_bytes"] * 23 / 3, rel=1e-4)
    halved = bench_json(*SMALL, "--kv", "f32")["results"][1]["per_token"]
    assert halved["kv_bytes"] == pytest.approx(2 * cost["tg5"]["kv_bytes"], rel=1e-4)


def test_a_windowed_model_is_measured_at_a_depth_again_and_again(tmp_path):
    model = edit(TINY.with_name("gemma3.gguf"), tmp_path / "m.gguf", {
        "gemma3.context_length": (GGUFValueType.UINT32, 2048)})
    out = bench_json("--pp", 16, "--tg", 200, "--batch", "2", "--depth", "300", "--reps", 2, model=model)
    assert [r["test"] for r in out["results"]] == ["pp16 d300", "tg200@2 d300"]


def test_a_count_of_zero_leaves_a_test_out():
    assert [r["test"] for r in bench_json("--pp", 0, "--tg", 3, "--reps", 1)["results"]] == ["tg3"]
    table = bench("--pp", 8, "--tg", 0, "--reps", 1).stdout
    assert "pp8" in table and "tg" not in table


def test_the_table_and_markdown_say_the_same_tests():
    table, md = (bench(*SMALL, "-o", form).stdout for form in ("table", "md"))
    assert [line.split()[0] for line in table.splitlines() if line.startswith(("pp", "tg"))] == ["pp32", "tg5"]
    rows = [line for line in md.splitlines() if line.startswith("|")]
    assert rows[0].startswith("| test |") and rows[2].startswith("| pp32 |") and len({r.count("|") for r in rows}) == 1
    assert "%" in table and "llama" in table


def test_the_machine_alone_needs_no_model():
    done = bench("--machine", "--json", "--reps", 1, "--threads", 2, model=None)
    assert done.returncode == 0, done.stderr
    machine = json.loads(done.stdout)["machine"]
    assert set(LIMITS) <= set(machine) and machine["barrier_us"] >= 0
    assert [t["threads"] for t in machine["read_by_threads"]] == [1, 2]
    assert [t["isa"] for t in machine["by_isa"]][-1] == machine["isa"]
    assert machine["by_isa"][-1]["int8_macs_per_s"] == machine["int8_macs_per_s"] > 0
    assert machine["read_by_threads"][-1]["bytes_per_s"] == machine["read_bytes_per_s"] > 0
    low = bench("--machine", "--reps", 1, model=None, SERIN_CPU="ref")
    assert low.returncode == 0 and "GB/s" in low.stdout and "avx" not in low.stdout


def test_what_cannot_be_measured_is_refused():
    for args, word in ((("--pp", 0, "--tg", 0), "nothing to measure"), (("--pp", 65), "64"), (("--reps", 0), "--reps"),
                       (("--kv", "x"), "f16"), (("--batch", 0), "from 1 to 512"), (("--batch", "2,"), "--batch"),
                       (("--batch", "1,513"), "512"), (("--depth", "-1"), "--depth"), (("--depth", "60"), "--depth"),
                       (("--batch", ",".join("1" * 17)), "more than 16"), (("-o", "csv"), "md"),
                       (("--machine",), "the machine alone"),
                       (("--parallel", 2, "--depth", 4), "--parallel"), (("--parallel", 2, "--pp", 4), "--parallel"),
                       (("--prompt", 4), "--parallel"), (("--speculate", 0), "--parallel"),
                       (("--quant", "Q4_0"), "of its own"), (("--json", "-o", "md"), "--json")):
        done = bench(*args)
        assert done.returncode == 2 and word in done.stderr, (args, done.stderr)
    done = bench("--pp", 4, model=None)
    assert done.returncode == 2 and "MODEL is missing" in done.stderr
    assert bench("--machine", model=None, SERIN_CPU="x").returncode == 2
    for option in (("--pp", 8), ("--quant", "Q4_0"), ("--kv", "f16"), ("--parallel", 2), ("--depth", 0)):
        done = bench("--machine", *option, model=None)
        assert done.returncode == 2 and option[0] in done.stderr and "needs a model" in done.stderr, done.stderr


def test_a_shape_is_refused_before_a_model_is_made_of_it(tmp_path):
    """The model would be larger than any memory, so whoever begins to make it says something else."""
    shape = tmp_path / "large.json"
    large = {"arch": "llama", "n_vocab": 1 << 20, "n_embd": 1 << 16, "n_layer": 1024, "n_head": 512, "n_ff": 1 << 20,
             "n_ctx": 1000}
    for change, args, word in (({}, ("--batch", 0), "from 1 to 512"), ({}, ("--kv", "x"), "q8_0"),
                               ({}, ("--depth", 600), "context of 1112 tokens"), ({}, ("--pp", 0, "--tg", 0), "nothing"),
                               ({}, ("--prompt", 3), "--parallel"), ({}, (), "available"),
                               ({"arch": "gpt-oss", "n_expert": 2, "n_expert_used": 1, "window": 128}, (), "gpt-oss")):
        shape.write_text(json.dumps({**large, **change}))
        done = bench("--shape", shape, *args, model=None)
        assert done.returncode in (1, 2) and word in done.stderr, (args, done.stderr)


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
