"""`serin calls` over a ledger of invented calls: what is listed, counted, exported; what is refused, and how."""
import csv
import io
import json
import math
import os
import signal
import subprocess
from pathlib import Path

import pytest

SERIN = os.environ["SERIN"]
TOOLS = Path(os.environ.get("SERIN_TOOLS", Path(SERIN).parent / "tests"))
# Where sanitizers make every call slow, fewer of them.
N = 4000 if os.environ.get("SERIN_TEST_TINY") == "1" else 20_000
UNTIL = 1795340000  # 2026-11-22T07:33:20Z


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledger")
    subprocess.run([TOOLS / "ledger_tool", "fill", folder, "--calls", str(N), "--days", "3", "--until", str(UNTIL)],
                   check=True, capture_output=True)
    return folder


def calls(*args, code=0, ledger=None, **kw):
    args = [SERIN, "calls", *map(str, args)] + (["--ledger", str(ledger)] if ledger else [])
    r = subprocess.run(args, capture_output=True, text=True, timeout=120, **kw)
    assert r.returncode == code, r.stderr
    return r


def records(ledger, *filters):
    return [json.loads(line) for line in calls("export", *filters, ledger=ledger).stdout.splitlines()]


@pytest.fixture(scope="module")
def everything(ledger):
    return records(ledger)


def test_export_has_every_call_newest_first(everything):
    assert len(everything) == N
    assert len({c["id"] for c in everything}) == N
    begun = [c["begun_us"] for c in everything]
    assert begun == sorted(begun, reverse=True)


@pytest.mark.parametrize("filters, keep", [
    (["model=small"], lambda c: c["model"] == "small"),
    (["--model", "small", "--status", "5xx"], lambda c: c["model"] == "small" and c["status"] >= 500),
    (["status=429,500..503"], lambda c: c["status"] == 429 or 500 <= c["status"] <= 503),
    (["model!=small", "tenant=acme"], lambda c: c["model"] != "small" and c["tenant"] == "acme"),
    (["--prompt", "summary@2"], lambda c: c["prompt"]["name"] == "summary" and c["prompt"]["version"] == 2),
    (["prompt="], lambda c: not c["prompt"]["name"]),
    (["--prompt", "classify", "--version", "3"],
     lambda c: c["prompt"]["name"] == "classify" and c["prompt"]["version"] == 3),
    (["weights=2222", "weights~CD"], lambda c: c["weights"].startswith("2222") and "cd" in c["weights"]),
    (["--slow", "2s"], lambda c: c["us"]["total"] > 2_000_000),
    (["ttft<=100ms"], lambda c: 0 < c["us"]["ttft"] <= 100_000),
    (["tokens>1k"], lambda c: c["tokens"]["input"] + c["tokens"]["output"] > 1000),
    (["error~^ebu"], lambda c: (c["error"] or "").lower().startswith("ebu")),
    (["streamed=true", "finish=length"], lambda c: c["streamed"] and c["finish"] == "length"),
    (["--since", "2026-11-21T00:00", "until=2026-11-21T12:00"],
     lambda c: 1795219200 <= c["begun_us"] / 1e6 < 1795262400),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_filters_keep_what_they_say(ledger, everything, filters, keep):
    want = [c["id"] for c in everything if keep(c)]
    assert 0 < len(want) < N
    assert [c["id"] for c in records(ledger, *filters)] == want


def test_pages_of_a_list_hold_every_call_once(ledger, everything):
    want, got, before = [c["id"] for c in everything if c["status"] != 200], [], []
    while True:
        page = json.loads(calls("list", "status!=200", "--limit", 17, "--json", *before, ledger=ledger).stdout)
        got += [c["id"] for c in page["data"]]
        if not page["has_more"]:
            break
        before = ["--before", page["next"]]
    assert got == want


def test_the_table_shows_the_newest_and_how_to_go_on(ledger, everything):
    r = calls("list", "--limit", 3, ledger=ledger)
    lines = r.stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == [c["id"] for c in everything[:3]]
    assert f"--before {everything[2]['id']}" in r.stderr


def quantile(values, q):
    return sorted(values)[math.ceil(q * len(values)) - 1]


@pytest.mark.parametrize("filters", [[], ["since=2026-11-21T13:37:11"], ["--slow", "1s"], ["status=200", "until=2026-11-21"]],
                         ids=" ".join)
def test_stats_are_those_of_the_calls(ledger, everything, filters):
    rows = json.loads(calls("stats", *filters, "--json", ledger=ledger).stdout)["data"]
    chosen = records(ledger, *filters)
    groups = {}
    for c in chosen:
        groups.setdefault((c["model"], c["prompt"]["name"] or "", c["prompt"]["version"] or 0), []).append(c)
    assert {(r["model"], r["prompt"], r["version"]) for r in rows} == set(groups)
    for r in rows:
        of = groups[(r["model"], r["prompt"], r["version"])]
        assert r["calls"] == len(of)
        assert r["errors"] == sum(c["status"] >= 400 for c in of)
        for name in ("input", "cached", "output", "reasoning"):
            assert r["tokens"][name] == sum(c["tokens"][name] for c in of)
        for name in ("ttft", "itl", "total", "queue"):
            times = [c["us"][name] for c in of if c["us"][name]]
            got = r[name + "_us"]
            assert got["n"] == len(times)
            for q in (50, 90, 95, 99) if times else ():
                assert abs(got[f"p{q}"] / quantile(times, q / 100) - 1) < 0.01, (name, q)


def test_stats_over_time_add_up_to_all_of_them(ledger):
    rows = json.loads(calls("stats", "--by", "status", "--step", "hour", "--json", ledger=ledger).stdout)["data"]
    assert sum(r["calls"] for r in rows) == N
    assert all(r["start_us"] % 3_600_000_000 == 0 for r in rows)
    assert [r["start_us"] for r in rows] == sorted(r["start_us"] for r in rows)
    assert len(rows) > 48


def test_csv_has_a_row_for_each_call(ledger, everything):
    rows = list(csv.DictReader(io.StringIO(calls("export", "--format", "csv", "--limit", 50, ledger=ledger).stdout)))
    assert [(r["id"], int(r["total_us"]), r["prompt"]) for r in rows] == [
        (c["id"], c["us"]["total"], c["prompt"]["name"] or "") for c in everything[:50]]


def test_an_export_into_a_file_does_not_write_over_one(ledger, tmp_path):
    target = tmp_path / "calls.jsonl"
    r = calls("export", "--output", target, "model=tiny", ledger=ledger)
    n = len(target.read_text().splitlines())
    assert f"{n} calls in" in r.stderr and n > 100
    assert "exists" in calls("export", "--output", target, ledger=ledger, code=1).stderr.lower()
    assert len(target.read_text().splitlines()) == n


def test_calls_without_content_are_no_lines_of_an_evaluation(ledger):
    r = calls("export", "--format", "eval", "--limit", 5, ledger=ledger)
    assert r.stdout == "" and "5 more have no content" in r.stderr


def test_show_tells_all_of_one_call(ledger, everything):
    c = everything[7]
    text = calls("show", c["id"], ledger=ledger).stdout
    for want in (c["id"], c["model"], c["weights"], str(c["status"]), f"input {c['tokens']['input']}"):
        assert want in text
    got = json.loads(calls("show", c["id"].lower(), "--json", ledger=ledger).stdout)
    assert got["record"]["us"] == c["us"] and got["feedback"] == [] and got["content"] is None
    assert json.loads(calls("show", "last", "--json", ledger=ledger).stdout)["record"]["id"] == everything[0]["id"]
    assert "was not kept" in calls("show", c["id"], "--content", ledger=ledger).stderr


@pytest.mark.parametrize("args, want", [
    (["list", "modle=small"], "column 1: there is no field 'modle'"),
    (["list", "model=small", "ttft>2"], "column 18: '2' is no value of 'ttft'"),
    (["list", "--status", "many"], "'many' is no value of 'status'"),
    (["list", "--before", "x"], "--before needs the id of a call"),
    (["stats", "--by", "modle"], "cannot be grouped by 'modle'; there are model"),
    (["stats", "--step", "year"], "minute, hour or day"),
    (["export", "--format", "xml"], "jsonl, csv or eval"),
    (["show", "17"], "is no id of a call"),
    (["show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"], "there is no call 01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    (["show"], "CALL is missing"),
    (["lits"], "did you mean 'list'"),
], ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_what_is_wrong_is_named(ledger, args, want):
    r = calls(*args, code=2, ledger=None if args == ["lits"] else ledger)
    assert want in r.stderr and r.stdout == ""


def test_without_a_ledger_the_next_command_is_named(tmp_path):
    for where in ([], ["--ledger", str(tmp_path / "none")]):
        r = calls("list", *where, code=2, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)})
        assert "there is no ledger" in r.stderr and "serin serve" in r.stderr


def test_an_empty_ledger_says_so(tmp_path):
    subprocess.run([TOOLS / "ledger_tool", "fill", tmp_path, "--calls", "0"], check=True, capture_output=True)
    assert "empty" in calls("list", ledger=tmp_path).stderr
    assert "empty" in calls("stats", ledger=tmp_path).stderr
    assert json.loads(calls("list", "--json", ledger=tmp_path).stdout)["data"] == []


def test_reading_leaves_the_ledger_as_it_is(ledger):
    def state():
        return {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in ledger.iterdir() if not p.name.endswith("-shm")}
    before = state()
    for args in (["list"], ["stats"], ["show", "last"]):
        calls(*args, ledger=ledger)
    assert state() == before


def test_watch_prints_what_comes_and_ends_with_the_number_asked_for(tmp_path):
    def fill(seed, until):
        subprocess.run([TOOLS / "ledger_tool", "fill", tmp_path, "--calls", "40", "--days", "2", "--seed", str(seed),
                        "--until", str(until)], check=True, capture_output=True)
    fill(1, UNTIL)
    p = subprocess.Popen([SERIN, "calls", "watch", "status=200", "--limit", "5", "--json", "--ledger", tmp_path],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "watching" in p.stderr.readline()
    fill(2, UNTIL + 100)
    out, _ = p.communicate(timeout=60)
    got = [json.loads(line) for line in out.splitlines()]
    assert p.returncode == 0 and len(got) == 5
    assert all(c["seq"] > 40 and c["status"] == 200 for c in got)


def test_watch_ends_with_an_interrupt(ledger):
    p = subprocess.Popen([SERIN, "calls", "watch", "--ledger", ledger], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "watching" in p.stderr.readline()
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=60)
    assert p.returncode == 0 and out == ""


def test_where_no_ledger_can_be_looked_for_that_is_said(tmp_path):
    r = calls("list", code=2, env={})
    assert "neither XDG_STATE_HOME nor HOME is set" in r.stderr
    r = calls("list", "--ledger-folder", tmp_path / "none", code=2, env={"HOME": str(tmp_path)})
    assert f"no server runs with {tmp_path / 'none'} now" in r.stderr
