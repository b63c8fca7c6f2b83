"""bench/ledger: alternating rounds of three servers, kept from run to run; what calls cost and whether that is little."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_model

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.repo, pytest.mark.skipif(not (ROOT / "build/release/tests/serve_load").exists(),
                                                   reason="serve_load is built with the release preset")]


@pytest.fixture
def bench(tmp_path):
    model = tiny_model.make(tmp_path / "m.gguf", ctx=4096)

    def go(*args):
        return subprocess.run([sys.executable, ROOT / "bench/ledger", model, "--serin", os.environ["SERIN"], "--clients", "2",
                               "--requests", "4", "--tokens", "2-4", "--threads", "1", "--folder", tmp_path, *map(str, args)],
                              capture_output=True, text=True, timeout=120)
    return go


def test_rounds_are_kept_from_run_to_run_and_say_what_a_call_costs(bench, tmp_path):
    kept = tmp_path / "rounds.json"
    first = bench("--rounds", 2, "--keep", kept, "--at-most", 1)
    assert first.returncode == 3, first.stderr
    assert len(json.loads(kept.read_text())) == 1 and " 1 rounds" in first.stdout
    second = bench("--rounds", 2, "--keep", kept, "--json")
    result = json.loads(second.stdout)
    assert result["rounds"] == 2 and len(json.loads(kept.read_text())) == 2
    off, buffered, required = (result["per_call"][mode] for mode in ("off", "buffered", "required"))
    assert off["cpu_ms"] > 0 and off["thread_ms"] == off["record_cpu_ms"] == off["wait_ms"] == 0
    assert all(m["thread_ms"] > 0 and m["record_cpu_ms"] > 0 for m in (buffered, required))
    assert buffered["wait_ms"] == 0 < required["wait_ms"]
    missed = any(c["difference"]["median"] >= c["bar"] for c in result["costs"].values())
    assert second.returncode == (1 if missed else 0)
    assert not list(tmp_path.glob("bench-ledger-*"))


def test_the_verdict_is_about_the_medians_of_the_kept_rounds(bench, tmp_path):
    def one(buffered, required, wait):
        row = {"commits": 9, "commit_ms": 1, "record_cpu_ms": 0.2, "call_ms": 1000, "thread_ms": 0.3, "wait_ms": 0}
        return {"off": row | {"cpu_ms": 100}, "buffered": row | {"cpu_ms": buffered},
                "required": row | {"cpu_ms": required, "wait_ms": wait}}
    kept = tmp_path / "rounds.json"
    good, bad = one(100.5, 101, 1), one(103, 102, 1.5)
    for rounds, status in (([good, good, bad], 0), ([good, bad, bad], 1)):
        kept.write_text(json.dumps(rounds))
        done = bench("--rounds", 3, "--keep", kept, "--json")
        costs = json.loads(done.stdout)["costs"]
        assert done.returncode == status
        assert costs["required"]["difference"]["median"] == pytest.approx(0.035 if status else 0.02)
        assert costs["required"]["own"]["median"] == pytest.approx(0.02 if status else 0.015)
        assert costs["buffered"]["difference"]["max"] == pytest.approx(0.03)
