"""What operators ask of a running server: the ledger over HTTP, what runs now, ending a call, the drain."""
import csv
import io
import json
import os
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import pytest

import tiny_model
from server import Server

SERIN = os.environ["SERIN"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("operate")


@pytest.fixture(scope="module")
def server(folder):
    model = tiny_model.make(folder / "tiny.gguf", ctx=8192)
    s = Server(model, "--ledger", folder / "ledger", "--ledger-content", "full", "--ctx", "8192",
               "--parallel", "1", env={"SERIN_CACHE": str(folder / "cache")})
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def token(folder, server):
    return json.loads((folder / "ledger/server.json").read_text())["token"]


def ask(server, path, body=None, token=None):
    """(status, headers, text)"""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(server.url + path, data=None if body is None else json.dumps(body).encode(),
                                     headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            return r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def complete(server, prompt, **more):
    status, headers, text = ask(server, "/v1/completions", {"model": "tiny", "prompt": prompt, "max_tokens": 4, **more})
    return headers["x-serin-call"], status, text


def serin(*args, code=0):
    r = subprocess.run([SERIN, *map(str, args)], capture_output=True, text=True, timeout=120)
    assert r.returncode == code, r.stderr
    return r


@pytest.fixture(scope="module")
def answered(folder, server):
    """Ids of calls whose records are there: five that went well and one that did not."""
    ids = [complete(server, f"call number {i}")[0] for i in range(5)]
    ids.append(complete(server, "x", temperature="hot")[0])
    serin("calls", "list", "--ledger", folder / "ledger")
    for _ in range(1000):
        got = json.loads(serin("calls", "list", "--json", "--ledger", folder / "ledger").stdout)["data"]
        if {c["id"] for c in got} >= set(ids):
            return ids
    raise AssertionError("the records did not come")


def test_lists_over_http_are_those_of_the_command(folder, server, token, answered):
    for query, words in (("", []), ("?limit=2", ["--limit", "2"]), ("?filter=" + urllib.parse.quote("status>=400"), ["status>=400"])):
        status, _, text = ask(server, "/v1/calls" + query, token=token)
        mine = json.loads(serin("calls", "list", "--json", *words, "--ledger", folder / "ledger").stdout)
        assert status == 200 and json.loads(text)["data"] == mine["data"] and mine["data"]


def test_pages_and_what_came_since_can_be_followed(server, token, answered):
    first = json.loads(ask(server, "/v1/calls?limit=4", token=token)[2])
    assert first["has_more"] and first["next"] == first["data"][-1]["id"]
    second = json.loads(ask(server, f"/v1/calls?before={first['next']}", token=token)[2])
    assert {c["id"] for c in first["data"] + second["data"]} >= set(answered)
    seq, seen = 0, []
    while True:
        page = json.loads(ask(server, f"/v1/calls?after={seq}&limit=2", token=token)[2])
        seen += [c["id"] for c in page["data"]]
        seq = page["seq"]
        if not page["has_more"]:
            break
    assert [i for i in seen if i in answered] == answered


def test_stats_over_http_are_those_of_the_command(folder, server, token, answered):
    query = "?by=model,status&filter=" + urllib.parse.quote("endpoint=/v1/completions until=now")
    rows = json.loads(ask(server, "/v1/calls/stats" + query, token=token)[2])["data"]
    mine = json.loads(serin("calls", "stats", "endpoint=/v1/completions", "--by", "model,status", "--json",
                            "--ledger", folder / "ledger").stdout)["data"]
    assert rows == mine and sum(r["calls"] for r in rows) >= len(answered)
    assert any(r["status"] == 200 and r["ttft_us"]["n"] >= 5 for r in rows)


def test_exports_have_content_and_lines_for_evaluations(server, token, answered):
    lines = [json.loads(x) for x in ask(server, "/v1/calls/export?format=eval", token=token)[2].splitlines()]
    one = next(x for x in lines if x["id"] == answered[2])
    assert one["messages"] == [{"role": "user", "content": "call number 2"}] and one["output"]
    status, headers, text = ask(server, "/v1/calls/export?content=true&limit=3", token=token)
    page = [json.loads(x) for x in text.splitlines()]
    assert status == 200 and len(page) == 3 and headers["x-serin-next"] == page[-1]["id"]
    _, headers, text = ask(server, f"/v1/calls/export?content=true&before={page[-1]['id']}", token=token)
    page += [json.loads(x) for x in text.splitlines()]
    assert {c["id"] for c in page} >= set(answered)
    assert all("content" in c for c in page if c["has_content"]) and any(c["has_content"] for c in page)
    rows = list(csv.DictReader(io.StringIO(ask(server, "/v1/calls/export?format=csv", token=token)[2])))
    assert {r["id"] for r in rows} >= set(answered)


def test_show_prints_the_content_that_was_kept(folder, answered):
    got = json.loads(serin("calls", "show", answered[1], "--content", "--json", "--ledger", folder / "ledger").stdout)
    assert "call number 1" in json.dumps(got["content"])
    text = serin("calls", "show", answered[1], "--content", "--ledger", folder / "ledger").stdout
    assert "call number 1" in text and answered[1] in text


@pytest.mark.parametrize("path, status, want", [
    ("/v1/calls?filter=modle%3Da", 400, "column 1: there is no field 'modle'"),
    ("/v1/calls?limit=x", 400, "limit needs a whole number"),
    ("/v1/calls?limit=1001", 400, "limit needs a whole number up to 1000"),
    ("/v1/calls?before=x", 400, "before needs the id of a call"),
    ("/v1/calls/stats?by=x", 400, "cannot be grouped by 'x'"),
    ("/v1/calls/stats?step=61", 400, "whole minutes"),
    ("/v1/calls/export?format=xml", 400, "jsonl, csv or eval"),
])
def test_what_is_wrong_is_named(server, token, path, status, want):
    got, _, text = ask(server, path, token=token)
    assert got == status and want in json.loads(text)["error"]["message"]


def test_without_an_admin_key_nothing_is_told(server):
    for path, body in (("/v1/calls", None), ("/v1/calls/stats", None), ("/v1/calls/export", None), ("/v1/ps", None),
                       ("/v1/drain", {}), ("/v1/calls/x/cancel", {})):
        assert ask(server, path, body)[0] == 403, path


class Long(threading.Thread):
    """A call that runs until it is cancelled: of a long answer, that begins when its first bytes are there."""

    def __init__(self, server):
        super().__init__()
        body = {"model": "tiny", "prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": True}
        self.response = urllib.request.urlopen(urllib.request.Request(
            server.url + "/v1/completions", data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}),
            timeout=120)
        self.id = self.response.headers["x-serin-call"]
        self.first = self.response.readline()
        self.text = b""
        self.start()

    def run(self):
        try:
            self.text = self.response.read()
        except OSError:
            pass


def running(folder):
    return {c["id"]: c for c in json.loads(serin("ps", "--json", "--ledger", folder / "ledger").stdout)["data"]}


def test_ps_shows_what_runs_and_waits_and_cancel_ends_it(folder, server, token):
    first = Long(server)
    waiting = threading.Thread(target=complete, args=(server, "behind it"))
    waiting.start()
    seen = running(folder)
    while len(seen) < 2:
        seen = running(folder)
    one = seen[first.id]
    assert one["state"] == "running" and one["model"] == "tiny" and one["streamed"]
    assert one["endpoint"] == "/v1/completions" and one["tokens"]["output"] > 0 and one["age_us"] > 0
    assert "tiny" in serin("ps", "--ledger", folder / "ledger").stdout
    assert first.id in serin("cancel", first.id.lower(), "--ledger", folder / "ledger").stdout
    first.join()
    waiting.join()
    assert b"[DONE]" not in first.text or b"error" in first.text
    record = json.loads(ask(server, f"/v1/calls/{first.id}", token=token)[2])
    assert "abort" in json.dumps(record)
    assert "nothing runs" in serin("ps", "--ledger", folder / "ledger").stderr or running(folder) == {}
    assert "runs here" in serin("cancel", first.id, "--ledger", folder / "ledger", code=2).stderr


def test_a_drained_server_ends_what_runs_and_refuses_new_work(folder, server, token):
    call = Long(server)
    where = ["--ledger", folder / "ledger"]
    assert "no new work" in serin("drain", *where).stdout
    try:
        got, headers, text = ask(server, "/v1/completions", {"model": "tiny", "prompt": "x"})
        assert got == 503 and "draining" in text and headers["Retry-After"]
        assert ask(server, "/health/ready")[0] == 503 and ask(server, "/v1/models")[0] == 200
        assert "draining" in serin("ps", *where).stderr and call.id in running(folder)
        serin("cancel", call.id, *where)
        serin("drain", "--wait", *where)
        assert running(folder) == {}
    finally:
        assert "takes new work" in serin("drain", "--off", *where).stdout
        call.join()
    assert ask(server, "/health/ready")[0] == 200 and complete(server, "again")[1] == 200


def test_a_server_that_is_not_there_is_named(tmp_path, server):
    assert "no server writes the ledger" in serin("ps", "--ledger", tmp_path, code=2).stderr
    assert "http://127.0.0.1:9" in serin("ps", "--server", "http://127.0.0.1:9", code=1).stderr
    assert "admin key" in serin("ps", "--server", server.url + "/v1", code=2).stderr
    assert "is no address" in serin("ps", "--server", "gpu1", code=2).stderr
