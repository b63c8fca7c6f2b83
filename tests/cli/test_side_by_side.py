"""bench/side-by-side: alternates the sides on equal terms and reports medians, spreads and ratios of what they printed."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
SCRIPT = Path(__file__).resolve().parents[2] / "bench/side-by-side"

# Each call takes the next speed from the side's list and notes its turn and its arguments.
FAKE = """#!{python}
import json, sys
from pathlib import Path
here = Path(__file__).resolve().parent
turns = here / "turns"
turns.write_text((turns.read_text() if turns.exists() else "") + "{side}")
speed = {speeds}[(turns.read_text().count("{side}") - 1) % 3]
(here / "{name}.args").write_text(json.dumps(sys.argv[1:]))
arg = lambda key: int(sys.argv[sys.argv.index(key) + 1])
{reply}
"""
SERIN = """
if sys.argv[1] == "run":
    wasted = bytearray(b"x" * 30_000_000)
    import time; time.sleep(0.1)
    sys.exit()
pp, tg, seqs, depth = (arg("--" + k) for k in ("pp", "tg", "batch", "depth"))
name = (f"pp{pp}" if pp else f"tg{tg}") + (f"@{seqs}" if seqs > 1 else "") + (f" d{depth}" if depth else "")
print(json.dumps({"machine": {"threads": 3}, "results": [
    {"test": name, "tok_per_s": {"median": speed, "min": 1, "max": 999}, "limit": "read", "limit_share": speed / 1000,
     "shares": {"read": speed / 1000, "int8": 0.25}}]}))"""
PEER = """print(json.dumps([{"n_prompt": arg("-p"), "n_gen": arg("-n"), "avg_ts": speed}]))"""
BATCHED = """print("build: 7")
print(json.dumps({"pl": arg("-npl"), "speed_pp": 1, "speed_tg": speed})) if speed > 50 else None"""
WHOLE = "import time; time.sleep(0.05)"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"12345")
    for side, name, speeds, reply in (("s", "serin", [100, 300, 200], SERIN), ("p", "llama-bench", [50, 100, 200], PEER),
                                      ("b", "llama-batched-bench", [50, 100, 200], BATCHED),
                                      ("c", "llama-completion", [1, 1, 1], WHOLE)):
        path = tmp_path / name
        path.write_text(FAKE.format(python=sys.executable, side=side, name=name, speeds=speeds, reply=reply))
        path.chmod(0o755)

    def go(*args: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, SCRIPT, tmp_path / "m.gguf", "--serin", tmp_path / "serin", "--threads", "3", *args],
            capture_output=True, text=True, env={"PATH": "/nowhere", "HOME": str(tmp_path), **env})

    go.folder = tmp_path
    go.args = lambda name: json.loads((tmp_path / f"{name}.args").read_text())
    return go


def options(args: list) -> dict:
    return {a: b for a, b in zip(args, args[1:]) if a.startswith("-")}


def test_sides_alternate_on_equal_terms_and_ratios_are_per_round(run):
    done = run("--json", "--tests", "pp64", PEERS_BIN=str(run.folder), SERIN_CPU="avx2")
    assert done.returncode == 0, done.stderr
    assert (run.folder / "turns").read_text() == "spps" "sp"
    ours, theirs = run.args("serin"), options(run.args("llama-bench"))
    assert ours[:2] == ["bench", str(run.folder / "m.gguf")] and "--json" in ours
    ours = options(ours)
    assert [ours[k] for k in ("--pp", "--tg", "--reps", "--threads", "--kv")] == ["64", "0", "1", "3", "f16"]
    assert [theirs[k] for k in ("-p", "-n", "-t", "-r", "-ctk", "-ctv", "-d")] == ["64", "0", "3", "1", "f16", "f16", "0"]
    report = json.loads(done.stdout)[0]
    row, = report["results"]
    assert row["serin"] == {"median": 200, "min": 100, "max": 300} and row["unit"] == "tok/s"
    assert row["ratio"] == {"median": 2, "min": 1, "max": 3}
    assert row["limit_share"] == pytest.approx(0.2) and row["shares"]["int8"] == 0.25
    assert (report["SERIN_CPU"], report["rounds"], report["threads"], report["bytes"]) == ("avx2", 3, 3, 5)


def test_each_test_is_asked_of_the_program_that_has_it(run):
    done = run("--json", "--tests", "tg8,tg8@16,tg8 d900", "--rounds", "1", "--kv", "q8_0", PEERS_BIN=str(run.folder))
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)[0]
    assert [r["test"] for r in report["results"]] == ["tg8", "tg8@16", "tg8 d900"]
    assert report["peers"] == ["llama-batched-bench", "llama-bench"]
    deep, batched = options(run.args("llama-bench")), options(run.args("llama-batched-bench"))
    assert (deep["-d"], deep["-n"], deep["-p"], deep["-ctv"]) == ("900", "8", "0", "q8_0")
    assert (batched["-npl"], batched["-ntg"]) == ("16", "8") and int(batched["-c"]) >= 16 * 9
    # Its first call printed nothing, and was repeated.
    assert report["results"][1]["peer"]["median"] == 100


def test_whole_processes_are_timed_and_their_memory_watched(run):
    done = run("--json", "--tests", "start,memory", "--rounds", "2", PEERS_BIN=str(run.folder))
    assert done.returncode == 0, done.stderr
    rows = {r["test"]: r for r in json.loads(done.stdout)[0]["results"]}
    assert list(rows) == ["start", "memory", "memory anonymous", "memory file"]
    assert rows["start"]["unit"] == "s" and rows["start"]["serin"]["median"] > 0.1 > 0.05 < rows["start"]["peer"]["median"]
    ours, theirs = (rows["memory anonymous"][side]["median"] for side in ("serin", "peer"))
    assert 30 < ours < 200 and ours - theirs > 25
    assert rows["memory"]["serin"]["median"] >= ours
    ours, theirs = options(run.args("serin")), options(run.args("llama-completion"))
    assert ours["--ctx"] == theirs["-c"] and ours["-f"] == theirs["-f"] and ours["--kv"] == theirs["-ctk"]


def test_the_table_names_the_machine_and_the_terms(run):
    out = run("--tests", "pp64", PEERS_BIN=str(run.folder)).stdout
    assert "3 threads, f16 cache, 3 rounds" in out and "SERIN_CPU=unset" in out
    assert "200.0 (100.0-300.0)" in out and "2.00 (1.00-3.00)" in out and "20 % (read)" in out


def test_without_a_peer_it_says_so_and_gives_its_own_figures(run):
    done = run("--tests", "pp64")
    assert done.returncode == 0 and "no llama-bench" in done.stderr and "200.0 (100.0-300.0)" in done.stdout


def test_unknown_tests_a_wrong_folder_and_a_failing_side_are_errors(run):
    assert run(PEERS_BIN="/nowhere").returncode != 0
    for name in ("pp0", "pp64@4", "tg8@0", "tg8@513", "tg", "speed", ""):
        done = run("--tests", name)
        assert done.returncode != 0 and (name == "" or name in done.stderr), name
    (run.folder / "serin").write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    done = run()
    assert done.returncode != 0 and "out of luck" in done.stderr
