"""`serin calls blame` over a ledger that a real server wrote: what changed between two of its lives is named, what did
not is left in peace.
"""
import json
import os
import subprocess

import pytest

from server import Server
from test_serve_models import TINY, ask

SERIN = os.environ["SERIN"]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """150 calls with answers of 2 tokens, then the server has another configuration and answers have 5."""
    folder = tmp_path_factory.mktemp("blame")
    for life, (tokens, grace) in enumerate([(2, "5s"), (2, "5s"), (5, "6s")]):
        config = folder / f"serin{life}.yaml"
        config.write_text(f"grace: {grace}\nmodels: [{{name: tiny, path: {TINY}}}]\n")
        s = Server("--config", config, "--ledger", folder / "ledger", env={"SERIN_CACHE": str(folder / "cache")})
        for i in range(75):
            status, _, answer = ask(s, "/v1/completions", {"model": "tiny", "prompt": "abc" * (1 + i % 3), "seed": i,
                                                           "max_tokens": tokens, "ignore_eos": True})
            assert status == 200, answer
        assert s.stop() == 0
    return folder / "ledger"


def blame(ledger, *args, code=0):
    r = subprocess.run([SERIN, "calls", "blame", *map(str, args), "--ledger", str(ledger)], capture_output=True, text=True,
                       timeout=120)
    assert r.returncode == code, r.stdout + r.stderr
    return r


def test_the_change_that_a_metric_moved_with_is_named(ledger):
    o = json.loads(blame(ledger, "output", "--json").stdout)
    assert (o["calls"], o["moved"], o["metric"]) == (225, True, "output")
    first = o["changes"][0]
    assert first["event"] == "config" and first["detail"].startswith("configuration ")
    assert (first["before"], first["after"], first["calls_before"], first["calls_after"]) == (2, 5, 150, 75)
    assert first["change"] == pytest.approx(1.5) and first["p"] <= 0.005
    # the restart before it, with the same configuration, is not accused: the second one alone
    assert {c["event"] for c in o["changes"]} <= {"config", "start"}
    assert all(c["calls_before"] == 150 for c in o["changes"])
    calls = [json.loads(line) for line in subprocess.run(
        [SERIN, "calls", "export", "--ledger", str(ledger)], capture_output=True, text=True, check=True).stdout.splitlines()]
    assert sorted(calls, key=lambda c: c["begun_us"])[150]["id"] == first["first_call"]
    text = blame(ledger, "output").stdout
    assert "config  configuration " in text and "output 2 -> 5, +150.0%" in text and first["first_call"] in text


def lives(folder, *all_of):
    """Calls whose answers have as many tokens as each life says; whatever is between them happens there."""
    for tokens, server, between in all_of:
        between()
        for i in range(110):
            body = {"model": "tiny", "prompt": "abc" * (1 + i % 3), "seed": i, "max_tokens": tokens, "ignore_eos": True}
            status, _, answer = ask(server(), "/v1/completions", body)
            assert status == 200, answer


def test_what_a_reload_changed_is_named(tmp_path):
    config, folder = tmp_path / "serin.yaml", tmp_path / "ledger"
    plain = f"models: [{{name: tiny, path: {TINY}}}]\n"
    config.write_text(plain)
    s = Server("--config", config, "--ledger", folder, env={"SERIN_CACHE": str(tmp_path / "cache")})

    def reload():
        config.write_text(plain + "limits: {stops: 3}\ngrace: 7s\n")
        subprocess.run([SERIN, "reload", "--ledger", folder], check=True, capture_output=True, timeout=120)
    lives(tmp_path, (2, lambda: s, lambda: None), (6, lambda: s, reload))
    assert s.stop() == 0
    (first,) = json.loads(blame(folder, "output", "--json").stdout)["changes"]
    assert first["event"] == "config" and first["detail"].endswith(": grace, limits.stops")


def test_another_platform_is_a_change_that_can_be_blamed(tmp_path):
    folder, now = tmp_path / "ledger", []

    def start(cpu):
        assert not now or now.pop().stop() == 0
        now.append(Server(TINY, "--ledger", folder, "--alias", "tiny",
                          env={"SERIN_CACHE": str(tmp_path / "cache"), **({"SERIN_CPU": cpu} if cpu else {})}))
    lives(tmp_path, (2, lambda: now[0], lambda: start("")), (6, lambda: now[0], lambda: start("ref")))
    assert now.pop().stop() == 0
    changes = json.loads(blame(folder, "output", "--json").stdout)["changes"]
    (driver,) = [c for c in changes if c["event"] == "driver"]
    assert driver["detail"].startswith("isa ") and driver["detail"].endswith(" to ref")
    assert [c["event"] for c in changes].index("driver") <= [c["event"] for c in changes].index("start")


def test_what_did_not_move_has_no_culprit(ledger):
    for metric in ("error", "input", "length"):
        r = blame(ledger, metric)
        assert r.stdout.startswith(f"{metric} did not move"), r.stdout
        o = json.loads(blame(ledger, metric, "--json").stdout)
        assert (o["moved"], o["since"], o["changes"]) == (False, None, [])


def test_what_cannot_be_told_is_refused(ledger):
    assert "0 calls have this metric, and at least 100" in blame(ledger, "score", code=2).stderr
    r = blame(ledger, "speed", code=2)
    assert "name a metric" in r.stderr and "itl_max" in r.stderr
    assert "serin calls blame itl --since 14d" in subprocess.run([SERIN, "calls", "blame", "--help"], capture_output=True,
                                                                 text=True).stdout
