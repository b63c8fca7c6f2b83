"""Replay and regressions over HTTP: what the commands say, on the models that the server has, behind the calls of clients;
bounded, cancelled by whoever asked, by a drain and by the stop."""
import json
import os
import subprocess

import httpx
import pytest

import ledger_help
import server
from test_regress import models  # noqa: F401

ADMIN, USER = {"Authorization": "Bearer admin-secret-0123456789"}, {"Authorization": "Bearer user-secret-0123456789"}
TEXTS = ["Tell me of foxes.", "What is 2 + 2?", "Three colours, please."]
ENDLESS = {"prompt": "Once upon a time", "max_tokens": 900, "ignore_eos": True}


class Site:
    """A server with two models, a and b (a with thousands of flipped bits), that records everything."""

    def __init__(self, folder, ledger, *args):
        keys = folder / "keys.txt"
        keys.write_text("root admin-secret-0123456789 admin\nanna user-secret-0123456789\n")
        self.s = server.Server("--model", f"a={folder / 'a.gguf'}", "--model", f"b={folder / 'bad.gguf'}", "--ctx", "1024",
                               "--parallel", "4", "--keys", keys, "--ledger", ledger, "--ledger-content", "full", "--ledger-mode",
                               "required", *args)
        self.ledger = ledger

    def ask(self, method, path, body=None, headers=ADMIN):
        r = httpx.request(method, self.s.url + path, headers=headers, json=body, timeout=300)
        return r.status_code, r.json()

    def call(self, path, body):
        r = httpx.post(self.s.url + path, json=body, headers=USER, timeout=300)
        assert r.status_code == 200, r.text
        return r.headers["x-serin-call"]

    def ended(self, job):
        """The job once it has ended."""
        while True:
            status, j = self.ask("GET", f"/v1/regress/{job}")
            assert status == 200, j
            if j["state"] not in ("queued", "running"):
                return j


@pytest.fixture(scope="module")
def site(models, tmp_path_factory):  # noqa: F811
    s = Site(models, tmp_path_factory.mktemp("http") / "ledger")
    yield s
    assert s.s.stop() == 0


def command(*args):
    p = subprocess.run([os.environ["SERIN"], *map(str, args), "--json"], capture_output=True, text=True)
    assert p.stdout, p.stderr
    return json.loads(p.stdout)


def test_a_replay_says_what_the_command_says(site, models):  # noqa: F811
    calls = [site.call("/v1/chat/completions", {"messages": [{"role": "user", "content": t}], "max_tokens": 12, "temperature": 0.9, "n": 2})
             for t in TEXTS]
    calls.append(site.call("/v1/embeddings", {"input": TEXTS}))
    recorded = len(ledger_help.bodies(site.ledger, ledger_help.CALL))
    for call in calls:
        status, out = site.ask("POST", f"/v1/calls/{call}/replay")
        assert status == 200 and out["same"] == 1 and out["calls"][0]["verdict"] == "same", out
        assert out == command("replay", call, "--ledger", site.ledger)
    events = ledger_help.events(site.ledger, "replayed")
    assert [(e["call"], e["verdict"], e["by"]) for e in events][-4:] == [(c, "same", "root") for c in calls]
    assert len(ledger_help.bodies(site.ledger, ledger_help.CALL)) == recorded  # a replay is no call


def test_another_model_is_asked(site, models):  # noqa: F811
    call = site.call("/v1/completions", {"prompt": "the", "max_tokens": 20, "temperature": 0, "ignore_eos": True})
    status, out = site.ask("POST", f"/v1/calls/{call}/replay", {"model": "b"})
    one = out["calls"][0]
    assert status == 200 and one["verdict"] == "different" and one["parts_at"] < 20 and one["divergence"]["tokens"] == 20
    by_command = command("replay", call, "--model", models / "bad.gguf", "--ledger", site.ledger)["calls"][0]
    assert {**one, "model": ""} == {**by_command, "model": ""}
    same = site.ask("POST", f"/v1/calls/{call}/replay", {"model": "a"})[1]["calls"][0]
    assert same["verdict"] == "same" and same["divergence"]["max"] == 0
    one = site.ask("POST", f"/v1/calls/{call}/replay", {"model": "b", "divergence": False})[1]["calls"][0]
    assert one["divergence"] is None and "not asked" in one["no_divergence"]


def test_weights_that_the_server_does_not_have_prove_nothing(site, models, tmp_path):  # noqa: F811
    call = site.call("/v1/completions", {"prompt": "the", "max_tokens": 4, "ignore_eos": True})
    site.ask("POST", "/v1/models/unload", {"model": "a"})
    try:
        status, out = site.ask("POST", f"/v1/calls/{call}/replay")
        assert status == 200 and out["not_proven"] == 1 and "/v1/models/load" in out["calls"][0]["error"]
    finally:
        assert site.ask("POST", "/v1/models/load", {"model": "a"})[0] == 200
    assert site.ask("POST", f"/v1/calls/{call}/replay")[1]["same"] == 1


@pytest.mark.parametrize("method, path, body, status, says", [
    ("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay", None, 404, "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ("POST", "/v1/calls/nonsense/replay", None, 404, "nonsense"),
    ("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay", {"model": "none"}, 404, "none"),
    ("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay", {"model": 3}, 400, "model"),
    ("GET", "/v1/regress/none", None, 404, "none"), ("DELETE", "/v1/regress/none", None, 404, "none"),
    ("POST", "/v1/regress", {}, 400, "calls"), ("POST", "/v1/regress", {"from": "a", "to": "b"}, 400, "calls"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "modle=x"}, 400, "modle"),
    ("POST", "/v1/regress", {"from": "a", "calls": ""}, 400, "to"), ("POST", "/v1/regress", {"from": "a", "to": "c", "calls": ""}, 404, "c"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": [{"prompt": "x"}, {}]}, 400, "prompts[1]"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": [{"prompt": "x"}] * 1001}, 400, "1000"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "", "prompts": []}, 400, "calls"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "", "limit": 5000}, 400, "limit"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "", "checks": [{"regex": "("}]}, 400, "checks[0]"),
    ("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "", "checks": [{"command": ["true"]}]}, 400, "no programs"),
    ("POST", "/v1/regress", {"from": "a", "from_prompt": "x@1", "calls": ""}, 400, "to_prompt"),
])
def test_what_is_wrong_is_named(site, method, path, body, status, says):
    got, error = site.ask(method, path, body)
    assert got == status and says in error["error"]["message"], error


@pytest.mark.parametrize("method, path", [("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay"), ("POST", "/v1/regress"),
                                          ("GET", "/v1/regress"), ("DELETE", "/v1/regress/x")])
def test_only_administrators_may(site, method, path):
    assert site.ask(method, path, headers=USER)[0] == 403
    assert site.ask(method, path, headers={})[0] == 401


def without_times(result):
    def plain(o):
        if isinstance(o, dict):
            return {k: plain(v) for k, v in o.items() if k not in ("ttft_us", "total_us", "model")}
        return [plain(v) for v in o] if isinstance(o, list) else o
    return plain(result)


def test_a_regression_says_what_the_command_says(site, models, tmp_path):  # noqa: F811
    lines = [{"id": f"case {i}", "messages": [{"role": "user", "content": t}], "max_tokens": 12, "checks": [{"contains": "e"}]}
             for i, t in enumerate(TEXTS)]
    status, job = site.ask("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": lines, "checks": [{"regex": ".", "name": "any"}]})
    assert status == 202 and job["state"] == "queued" and "result" not in job
    job = site.ended(job["id"])
    assert job["state"] == "done" and job["error"] is None and job["progress"] == {"what": "comparing", "done": 3, "total": 3}, job
    assert job["created_us"] <= job["started_us"] <= job["ended_us"]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (tmp_path / "checks.json").write_text('[{"regex": ".", "name": "any"}]')
    by_command = command("regress", "--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", tmp_path / "c.jsonl", "--checks",
                         tmp_path / "checks.json")
    assert without_times(job["result"]) == without_times(by_command)
    assert job["result"]["total"]["divergence"]["mean"] > 0 and job["result"]["weights_differ"]["differ"] >= 1
    event = ledger_help.events(site.ledger, "regressed")[-1]
    assert (event["id"], event["state"], event["items"], event["by"]) == (job["id"], "done", 3, "root")
    assert job["id"] in [j["id"] for j in site.ask("GET", "/v1/regress")[1]["data"]]
    assert site.ask("DELETE", f"/v1/regress/{job['id']}") == (200, {"id": job["id"], "state": "deleted"})
    assert site.ask("GET", f"/v1/regress/{job['id']}")[0] == 404


def test_recorded_calls_and_versions_of_a_prompt_are_compared(site):
    for text in ("Greet {{who}}", "Please greet {{who}}"):
        version = {"messages": [{"role": "user", "content": text}], "variables": {"who": {"type": "string"}},
                   "checks": [{"command": ["false"]}]}
        assert site.ask("POST", "/v1/prompts", {"name": "greet", "document": version})[0] in (200, 201)
    for who in ("Ann", "Bob"):
        site.call("/v1/chat/completions", {"prompt": {"id": "greet", "version": 1, "variables": {"who": who}}, "messages": [], "max_tokens": 5,
                                           "ignore_eos": True})
    job = site.ended(site.ask("POST", "/v1/regress", {"from": "a", "to": "a", "calls": "prompt=greet"})[1]["id"])
    total = job["result"]["total"]
    assert total["items"] == total["same_bits"] == 2 and job["result"]["differs"] == [] and total["divergence"]["max"] == 0
    assert total["checked"] == 0  # a server runs no programs, whoever pushed them
    job = site.ended(site.ask("POST", "/v1/regress", {"from": "a", "from_prompt": "greet@1", "to_prompt": "greet@2", "calls": ""})[1]["id"])
    assert job["result"]["differs"] == ["prompt"] and job["result"]["total"]["items"] == 2
    job = site.ended(site.ask("POST", "/v1/regress", {"from": "a", "to": "b", "calls": "prompt=nobody"})[1]["id"])
    assert job["state"] == "failed" and "serin calls list" in job["error"] and job["result"] is None


def endless(site, n=50):
    status, job = site.ask("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": [ENDLESS] * n})
    assert status == 202, job
    return job["id"]


def test_jobs_are_cancelled_and_bounded(site):
    jobs = [endless(site)]
    while site.ask("GET", f"/v1/regress/{jobs[0]}")[1]["state"] == "queued":
        pass
    jobs += [endless(site) for _ in range(4)]  # wait behind it
    status, error = site.ask("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": [ENDLESS]})
    assert status == 429 and "4" in error["error"]["message"]
    call = site.call("/v1/completions", {"prompt": "the", "max_tokens": 4, "ignore_eos": True})  # clients are served meanwhile
    assert site.ask("POST", f"/v1/calls/{call}/replay")[1]["same"] == 1
    for job in reversed(jobs):
        assert site.ask("DELETE", f"/v1/regress/{job}") == (202, {"id": job, "state": "cancelling"})
    assert {site.ended(j)["state"] for j in jobs} == {"cancelled"}
    first = site.ended(site.ask("POST", "/v1/regress", {"from": "a", "to": "a", "prompts": [{"prompt": "x", "max_tokens": 1}]})[1]["id"])["id"]
    for _ in range(16):
        site.ended(site.ask("POST", "/v1/regress", {"from": "a", "to": "a", "prompts": [{"prompt": "x", "max_tokens": 1}]})[1]["id"])
    assert site.ask("GET", f"/v1/regress/{first}")[0] == 404  # of those that ended sixteen are kept
    assert len(site.ask("GET", "/v1/regress")[1]["data"]) == 16


def test_a_drain_ends_them(site):
    job = endless(site)
    assert site.ask("POST", "/v1/drain", {"on": True})[0] == 200
    try:
        assert site.ended(job)["state"] == "cancelled"
        assert site.ask("POST", "/v1/regress", {"from": "a", "to": "b", "prompts": [ENDLESS]})[0] == 503
        assert site.ask("POST", "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay")[0] == 503
    finally:
        site.ask("POST", "/v1/drain", {"on": False})
    assert site.ended(site.ask("POST", "/v1/regress", {"from": "a", "to": "a", "prompts": [{"prompt": "x", "max_tokens": 1}]})[1]["id"])["state"] == "done"


def test_the_stop_ends_them(models, tmp_path):  # noqa: F811
    site = Site(models, tmp_path / "ledger", "--grace", "3600")  # nobody waits for them
    endless(site, 500)
    endless(site, 500)
    assert site.s.stop() == 0
    assert [e["state"] for e in ledger_help.events(tmp_path / "ledger", "regressed")] == ["cancelled"] * 2
    assert ledger_help.check_chain(tmp_path / "ledger") > 0


def test_without_a_ledger_requests_can_still_be_compared(models, tmp_path):  # noqa: F811
    keys = tmp_path / "keys.txt"
    keys.write_text("root admin-secret-0123456789 admin\n")
    s = server.Server(models / "a.gguf", "--ctx", "256", "--keys", keys, "--ledger", "off")
    try:
        def ask(path, body=None):
            return httpx.request("POST" if body else "GET", s.url + path, headers=ADMIN, json=body, timeout=300).json()
        job = ask("/v1/regress", {"from": "a", "to": "a", "prompts": [{"prompt": "x", "max_tokens": 3}]})["id"]
        while (j := ask(f"/v1/regress/{job}"))["state"] in ("queued", "running"):
            pass
        assert j["result"]["total"]["same_bits"] == 1
        assert "no ledger" in ask("/v1/regress", {"from": "a", "to": "a", "calls": ""})["error"]["message"]
        assert "no ledger" in ask("/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV/replay", {"model": "a"})["error"]["message"]
    finally:
        assert s.stop() == 0
