"""bench/side-by-side: alternates the sides and reports medians, spreads and ratios of what they printed."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
SCRIPT = Path(__file__).resolve().parents[2] / "bench/side-by-side"

# Each call takes the next speed from the side's list and notes its turn.
FAKE = """#!{python}
import json, sys
from pathlib import Path
here = Path(__file__).resolve().parent
turns = here / "turns"
turns.write_text((turns.read_text() if turns.exists() else "") + "{side}")
speed = {speeds}[turns.read_text().count("{side}") - 1]
(here / "{side}.args").write_text(json.dumps(sys.argv[1:]))
{reply}
"""
SERIN = """print(json.dumps({"machine": {"threads": 3}, "results": [
    {"test": "pp64", "tok_per_s": {"median": speed, "min": speed, "max": speed}},
    {"test": "tg8", "tok_per_s": {"median": speed / 10, "min": 1, "max": 9}}]}))"""
PEER = """print(json.dumps([{"n_prompt": 64, "n_gen": 0, "avg_ts": speed, "build_number": 7, "build_commit": "abc"},
                  {"n_prompt": 0, "n_gen": 8, "avg_ts": speed / 5, "build_number": 7, "build_commit": "abc"}]))"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"12345")
    for side, name, speeds, reply in (("s", "serin", [100, 300, 200], SERIN), ("p", "llama-bench", [50, 100, 200], PEER)):
        path = tmp_path / name
        path.write_text(FAKE.format(python=sys.executable, side=side, speeds=speeds, reply=reply))
        path.chmod(0o755)

    def go(*args: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, SCRIPT, tmp_path / "m.gguf", "--serin", tmp_path / "serin", "--pp", "64", "--tg", "8",
             "--threads", "3", *args], capture_output=True, text=True, env={"PATH": "/nowhere", "HOME": str(tmp_path), **env})

    go.folder = tmp_path
    return go


def test_sides_alternate_on_equal_terms_and_ratios_are_per_round(run):
    done = run("--json", PEERS_BIN=str(run.folder), SERIN_CPU="avx2")
    assert done.returncode == 0, done.stderr
    assert (run.folder / "turns").read_text() == "spps" "sp"
    assert json.loads((run.folder / "s.args").read_text())[1:] == [
        str(run.folder / "m.gguf"), "--pp", "64", "--tg", "8", "--reps", "1", "--threads", "3", "--json"]
    peer = json.loads((run.folder / "p.args").read_text())
    assert peer[peer.index("-t") + 1] == "3" and peer[peer.index("-p") + 1] == "64" and peer[peer.index("-n") + 1] == "8"
    report = json.loads(done.stdout)[0]
    prefill, decode = report["results"]
    assert prefill["serin"] == {"median": 200, "min": 100, "max": 300}
    assert prefill["ratio"] == {"median": 2, "min": 1, "max": 3}
    assert decode["test"] == "tg8" and decode["ratio"]["median"] == pytest.approx(1)
    assert (report["SERIN_CPU"], report["rounds"], report["threads"], report["bytes"]) == ("avx2", 3, 3, 5)


def test_the_table_names_the_machine_and_the_peer(run):
    out = run(PEERS_BIN=str(run.folder)).stdout
    assert "3 threads, 3 rounds" in out and "SERIN_CPU=unset" in out and "llama.cpp 7 abc" in out
    assert "200.0 (100.0-300.0)" in out and "2.00 (1.00-3.00)" in out


def test_without_a_peer_it_says_so_and_gives_its_own_figures(run):
    done = run()
    assert done.returncode == 0 and "no llama-bench" in done.stderr and "200.0 (100.0-300.0)" in done.stdout


def test_a_wrong_peers_folder_and_a_failing_side_are_errors(run):
    assert run(PEERS_BIN="/nowhere").returncode != 0
    (run.folder / "serin").write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    done = run()
    assert done.returncode != 0 and "out of luck" in done.stderr
