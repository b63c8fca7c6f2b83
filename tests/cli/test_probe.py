"""serin probe: what it measures, keeps and shows, and what it refuses."""
import json
import os
import subprocess

import pytest


def probe(cache, *args):
    return subprocess.run([os.environ["SERIN"], "probe", *args], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "SERIN_CACHE": str(cache)})


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    if os.environ.get("SERIN_TEST_TINY"):
        pytest.skip("sanitizers take minutes over models of 100 MB")
    cache = tmp_path_factory.mktemp("cache")
    first = probe(cache, "--quick", "--types", "q4_0", "--json")
    assert first.returncode == 0, first.stderr
    return cache, json.loads(first.stdout)


def test_figures_are_measured_and_kept_by_the_machines_id(measured):
    cache, first = measured
    assert [p["type"] for p in first["products"]] == ["Q4_0", "Q8_0"]
    for p in first["products"]:
        assert len(p["ps"]) == len(p["ps_two"]) == len(first["columns"]) == 7
        assert p["ps"][0] < p["ps"][-1], "512 columns take longer than one"
    assert {(a["kv"], a["d"], a["queries"], a["group"]) for a in first["attention"]} == {
        ("f16", d, *q) for d in (64, 128, 256) for q in ((1, 1), (1, 4), (512, 4))}
    assert first["limits"]["read_bytes_per_s"] == first["limits"]["read_by_threads"][-1]["bytes_per_s"] > 0
    kept = list((cache / "figures").iterdir())
    assert [p.name for p in kept] == [
        f"{first['id']}-{first['limits']['isa']}-{first['limits']['threads']}.json"]
    shown = probe(cache, "--show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == first
    table = probe(cache, "--show").stdout
    assert "Q4_0" in table and "reads from memory" in table and "prefill" in table


def test_what_was_not_measured_is_said_to_be_so(tmp_path):
    none = probe(tmp_path, "--show")
    assert none.returncode == 2 and "run `serin probe`" in none.stderr
    wrong = probe(tmp_path, "--types", "Q4_0,Q99")
    assert wrong.returncode == 2 and "'Q99' is no type" in wrong.stderr
    assert not (tmp_path / "figures").exists()
