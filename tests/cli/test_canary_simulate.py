"""`serin canary simulate`: what a policy would do, on traffic that is described or learnt from the ledger."""
import json
import os
import subprocess
from pathlib import Path

import pytest

SERIN = os.environ["SERIN"]
TOOLS = Path(os.environ.get("SERIN_TOOLS", Path(SERIN).parent / "tests"))
RUNS = 5 if os.environ.get("SERIN_TEST_TINY") == "1" else 40
POLICY = """\
canary:
  - {name: other, kind: different, baseline: a, canary: b}
  - name: q8-trial
    kind: equivalent
    baseline: small
    canary: small-q8
    guardrails: {error: 0.5%, itl: 5%, divergence: 0.02}
"""


@pytest.fixture
def policy(tmp_path):
    file = tmp_path / "serin.yaml"
    file.write_text(POLICY)
    return file


def simulate(*args, code=0):
    r = subprocess.run([SERIN, "canary", "simulate", *map(str, args)], capture_output=True, text=True, timeout=200)
    assert r.returncode == code, r.stderr
    return r


def quick(policy, *args):
    return simulate("--policy", policy, "--name", "q8-trial", "--share", 50, "--max-calls", 2000, "--runs", RUNS, *args)


def test_what_is_as_good_stays_and_what_is_worse_is_caught(policy):
    out = json.loads(quick(policy, "--effect", "itl=+30%", "--effect", "error=+20%", "--json").stdout)
    assert out["policy"] == "q8-trial" and len(out["hash"]) == 64
    as_good, slow, faulty = out["results"]
    assert as_good["effect"] is None and as_good["rolled_back"] <= 1 / RUNS and as_good["calls_median"] is None
    assert as_good["held"] == 0 or as_good["held_why"]
    assert slow["rolled_back"] > 0.9 and set(slow["by_metric"]) == {"itl"}
    assert faulty["rolled_back"] > 0.9 and set(faulty["by_metric"]) == {"error"}
    assert 0 < slow["calls_median"] <= slow["calls_p95"] <= 2000
    for r in out["results"]:
        assert abs(r["rolled_back"] + r["promoted"] + r["held"] - 1) < 1e-9


def test_the_same_seed_gives_the_same_figures_and_another_one_others(policy):
    args = ("--effect", "itl=+15%", "--json")
    assert quick(policy, *args).stdout == quick(policy, *args).stdout
    assert quick(policy, *args).stdout != quick(policy, "--seed", 2, *args).stdout


def test_in_words(policy):
    text = quick(policy, "--effect", "itl=+30%").stdout
    assert text.startswith("q8-trial: ") and "as good: rolled back 0.0 %" in text and "itl=+30%: rolled back" in text
    assert "undecided at the end, for one: " in text


def test_traffic_is_described(policy, tmp_path):
    file = tmp_path / "traffic.json"
    file.write_text('{"subjects": 50, "icc": 0.1, "itl": {"rate": 30000, "sd": 0.2}}')
    out = json.loads(quick(policy, "--traffic", file, "--json").stdout)
    assert out["traffic"]["subjects"] == 50 and out["traffic"]["icc"] == 0.1


def test_traffic_is_learnt_from_the_ledger(policy, tmp_path):
    subprocess.run([TOOLS / "ledger_tool", "fill", tmp_path / "l", "--calls", "2000", "--days", "2"], check=True,
                   capture_output=True)
    out = json.loads(quick(policy, "--calls", "status<600", "--ledger", tmp_path / "l", "--json").stdout)
    assert 800 < out["traffic"]["calls_per_day"] < 1300
    assert 2 <= out["traffic"]["subjects"] <= 2000 and 0 <= out["traffic"]["icc"] <= 0.5


@pytest.mark.parametrize("args, says", [
    ((), "--policy FILE"),
    (("--policy", "{policy}", "--name", "none"), "declares no roll-out named none"),
    (("--policy", "{policy}", "--effect", "itm=+5%"), "'itm=+5%' is no effect"),
    (("--policy", "{policy}", "--effect", "itl=0.15"), "itl needs percent"),
    (("--policy", "{policy}", "--traffic", "{policy}"), "canary: there is no such key"),
    (("--policy", "{policy}", "--traffic", "x", "--calls", "since=1d"), "give one"),
    (("--policy", "{policy}", "--calls", "since=1d", "--ledger", "{folder}"), "there is no ledger"),
])
def test_what_is_wrong_is_said(policy, tmp_path, args, says):
    args = [a.format(policy=policy, folder=tmp_path / "none") for a in args]
    assert says in simulate(*args, code=2).stderr


def test_words_are_listed_and_guessed():
    r = subprocess.run([SERIN, "canary", "--help"], capture_output=True, text=True)
    assert r.returncode == 0 and "simulate" in r.stdout
    r = subprocess.run([SERIN, "canary", "simulat"], capture_output=True, text=True)
    assert r.returncode == 2 and "did you mean 'simulate'" in r.stderr


def test_a_configuration_without_roll_outs_is_called_that(tmp_path):
    file = tmp_path / "serin.yaml"
    file.write_text("listen: 127.0.0.1:0\nmodels:\n  - {name: small, path: small.gguf}\n")
    said = simulate("--policy", file, code=2).stderr
    assert f"{file}: declares no roll-out" in said and "canary:" in said
