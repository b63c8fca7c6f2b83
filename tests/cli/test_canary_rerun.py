"""What a roll-back does to calls that are under way: those of which nothing was sent get the baseline, those that have begun
go on, and no call fails by it. And what else may bring a call to another model than its arm's: a canary that is gone, or is
not there yet. A stream that holds the canary's only place is what the others wait for, so that no test depends on speed."""
import contextlib
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

import tiny_model
from ledger_help import CALL, INTENT, bodies, events
from server import serve, tiny_as  # noqa: F401
from test_canary_api import ADMIN, act, begin, call, trial  # noqa: F401
from test_canary_assign import arm, ask

LONG = 1 << 17  # tokens of context: an answer of so many outlasts every test
KEYS = f"alice the-first-secret-of-all\nroot {ADMIN} admin\n"


def config(tmp_path, other="parallel: 1", more="", ledger="required", routes="  - {name: chat, risk: low}\n", broken=False):
    """Two models, of which `other` has a context that an answer does not fill in the time of a test."""
    keys, file = tmp_path / "keys.txt", tmp_path / "serin.yaml"
    keys.write_text(KEYS)
    long = tiny_model.make(tmp_path / "other.gguf", ctx=LONG, seed=2, broken=broken)
    file.write_text(f"""keys: {keys}
default_model: small
metrics_open: true
models:
  - {{name: small, path: {tiny_as("small.gguf")}, ctx: 512, parallel: 4}}
  - {{name: other, path: {long}, ctx: {LONG}, {other}}}
routes:
{routes}ledger: {{where: {tmp_path / "ledger"}, mode: {ledger}}}
{more}""")
    return file


def metric(server, name):
    """The sum of a metric's values over its labels."""
    with urllib.request.urlopen(server.url + "/metrics", timeout=120) as r:
        lines = [line for line in r.read().decode().splitlines() if line.split("{")[0].split(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def until(holds):
    """Waits for what comes by itself, by asking."""
    for _ in range(20000):
        if holds():
            return
    raise AssertionError("it never came")


@contextlib.contextmanager
def answering(server, model="other", **more):
    """A stream that has begun, and goes on for as long as the test wants; its response."""
    body = {"model": model, "prompt": "a", "max_tokens": LONG - 64, "ignore_eos": True, "stream": True, **more}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN}"})
    with urllib.request.urlopen(request, timeout=120) as r:
        assert r.readline().startswith(b"data: {")
        yield r


def begin_for_all(server, **more):
    begin(server, **more)
    assert act(server, "step", step=1)[1]["share"] == 1


def waiting(server, n):
    """n requests are in the queue."""
    until(lambda: metric(server, "vllm:num_requests_waiting") == n)


SAY = [{"role": "user", "content": "Hello."}]
ASKED = [  # path, body
    ("/v1/chat/completions", {"messages": SAY, "max_tokens": 3}),
    ("/v1/chat/completions", {"messages": SAY, "max_tokens": 3, "stream": True}),
    ("/v1/chat/completions", {"messages": SAY, "max_tokens": 3, "n": 3}),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 3}),
    ("/v1/completions", {"prompt": "a", "max_tokens": 3, "stream": True, "n": 2}),
    ("/v1/responses", {"input": "Hello.", "max_output_tokens": 3}),
    ("/v1/responses", {"input": "Hello.", "max_output_tokens": 3, "stream": True}),
    ("/v1/messages", {"messages": SAY, "max_tokens": 3}),
    ("/v1/messages", {"messages": SAY, "max_tokens": 3, "stream": True}),
]
REQUESTS = sum(b.get("n", 1) * (len(b["prompt"]) if isinstance(b.get("prompt"), list) else 1) for _, b in ASKED)


def post(server, path, body, key=ADMIN, **headers):
    """Status, headers and text."""
    request = urllib.request.Request(server.url + path, json.dumps({"model": "small", **body}).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {key}", **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            return r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def whole(body, text):
    """A stream has one beginning and one end, and no error; an answer all its choices."""
    assert '"error": {' not in text and '"error":{' not in text, text
    if body.get("stream"):
        assert sum(text.count(end) for end in ("data: [DONE]", "event: message_stop")) == 1, text
        assert text.count("response.created\n") <= 1 and text.count("event: message_start") <= 1
    elif "choices" in json.loads(text):
        n = body.get("n", 1) * (len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1)
        assert len(json.loads(text)["choices"]) == n


@pytest.mark.parametrize("action, ledger", [("roll_back", "required"), ("abort", "buffered")])
def test_what_the_canary_has_not_begun_to_answer_is_answered_by_the_baseline(tmp_path, serve, action, ledger):
    s = serve("--config", config(tmp_path, ledger=ledger))
    weights = post(s, "/v1/completions", {"prompt": "a", "max_tokens": 1})[1]["x-serin-model"]
    begin_for_all(s)
    with answering(s, "small", user="the first") as begun, ThreadPoolExecutor(len(ASKED)) as pool:
        assert arm(begun.headers["x-serin-arm"]) == "canary" and begun.headers["x-serin-model"] != weights
        got = [pool.submit(post, s, path, {**body, "user": f"user {i}"}) for i, (path, body) in enumerate(ASKED)]
        waiting(s, REQUESTS)
        assert metric(s, "serin_rollout_open_calls") == len(ASKED) + 1
        assert act(s, action, why="enough")[0] == 200
        for (path, body), g in zip(ASKED, got):
            status, headers, text = g.result()
            assert status == 200, text
            assert headers["x-serin-arm"] == "baseline; rollout=trial; why=rolled_back"
            assert headers["x-serin-model"] == weights and not headers["x-serin-fallback"]
            whole(body, text)
        for _ in range(100):  # what had begun goes on, by the canary
            assert begun.readline().startswith((b"data: {", b"\n"))
        assert not post(s, "/v1/chat/completions", ASKED[0][1])[1]["x-serin-arm"]
    ids = [g.result()[1]["x-serin-call"] for g in got]
    s.wait_log(call=begun.headers["x-serin-call"])
    s.stop()
    (end,) = events(tmp_path / "ledger", "rollout_rolled_back" if action == "roll_back" else "rollout_aborted")
    assert end["rerun"] == len(ASKED) and end["running"] == 1
    records = bodies(tmp_path / "ledger", CALL)
    for i in ids:
        (r,) = [r for r in records if r["id"] == i]  # one call, one record, one intent
        assert r["model"] == "small" and r["weights"] == weights and r["status"] == 200 and r["fallback"] is None
        assert r["arm"] == "baseline" and r["why"] == "rolled_back" and not r["rollout"]["counted"]
        assert not r["rollout"]["fallback"] and r["finish"] in ("length", "stop")
        assert len(bodies(tmp_path / "ledger", INTENT, i)) == (ledger == "required")
    n = {i: body.get("n", 1) * (len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1)
         for i, (_, body) in zip(ids, ASKED)}
    assert all(r["tokens"]["output"] <= 3 * n[r["id"]] for r in records if r["id"] in n)  # nothing counts twice
    (r,) = [r for r in records if r["id"] == begun.headers["x-serin-call"]]
    assert r["arm"] == "canary" and r["why"] == "hash" and r["finish"] == "abort"  # the test has left it


def test_no_call_of_sixteen_clients_fails_by_a_roll_back(tmp_path, serve):
    s = serve("--config", config(tmp_path, other="parallel: 4"))
    begin(s, steps=["50%"])
    stop, more, seen = threading.Event(), threading.Condition(), {}

    def client(i):
        n = 0
        while not stop.is_set():
            path, body = ASKED[(i + n) % len(ASKED)]
            status, headers, text = post(s, path, {**body, "user": f"user {i} {n}"})
            assert status == 200, text
            whole(body, text)
            with more:
                seen[headers["x-serin-call"]] = arm(headers["x-serin-arm"] or "")
                more.notify_all()
            n += 1
    with ThreadPoolExecutor(16) as pool:
        got = [pool.submit(client, i) for i in range(16)]
        try:
            with more:
                assert more.wait_for(lambda: list(seen.values()).count("canary") >= 16, 120)
            assert act(s, "roll_back", why="enough")[0] == 200
            after = {ask(s, user=f"new {i}", key=ADMIN)[0] for i in range(8)}
        finally:
            stop.set()
        for g in got:
            g.result()
    assert after == {""} and "canary" in seen.values()
    s.stop()
    at = events(tmp_path / "ledger", "rollout_rolled_back")[0]["at_us"]
    records = [r for r in bodies(tmp_path / "ledger", CALL) if r["id"] in seen]
    assert len(records) == len(seen) and all(r["status"] == 200 for r in records)
    assert all(r["arm"] != "canary" or r["begun_us"] <= at + 100000 for r in records)
    assert all((r["arm"] or "") == seen[r["id"]] for r in records)


def test_a_prompts_canary_that_is_gone_is_answered_by_the_baselines_version_of_the_prompt(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    for text in ("First.", "Second."):
        document = {"messages": [{"role": "system", "content": text}]}
        assert call(s, "/v1/prompts", {"name": "support", "document": document})[0] == 200
    assert call(s, "/v1/prompts/support/labels", {"label": "live", "version": 1})[0] == 200
    begin_for_all(s, prompt={"id": "support", "baseline": 1, "canary": 2})
    body = {**ASKED[0][1], "prompt": {"id": "support@live"}}
    for version, why in ((2, "hash"), (1, "fallback")):
        status, headers, text = post(s, "/v1/chat/completions", {**body, "user": f"of {version}"})
        assert status == 200, text
        assert headers["x-serin-prompt"] == f"support@{version}" and json.loads(text)["model"] == "small"  # what was asked for
        assert headers["x-serin-arm"] == f"canary; rollout=trial; why={why}"
        assert headers["x-serin-fallback"] == (None if version == 2 else "other; why=not_loaded")
        call(s, "/v1/models/unload", {"model": "other"})
    s.stop()
    r = bodies(tmp_path / "ledger", CALL, headers["x-serin-call"])[0]
    assert r["prompt"]["version"] == 1 and r["prompt"]["label"] == "live" and r["model"] == "small"
    assert r["rollout"]["fallback"] and r["rollout"]["counted"] and r["fallback"] == {"from": "other", "why": "not_loaded"}


def test_calls_wait_for_a_canary_that_is_loaded_when_it_is_first_asked_for(tmp_path, serve):
    more = "canary:\n  - " + json.dumps(trial()) + "\n"
    s = serve("--config", config(tmp_path, other="parallel: 4, lazy: true", more=more))
    assert act(s, "step", step=1)[1]["share"] == 1
    together = threading.Barrier(12)

    def one(i):
        together.wait()
        path, body = ASKED[i % len(ASKED)]
        return body, post(s, path, {**body, "user": f"user {i}"})
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(one, range(12)))
    for body, (status, headers, text) in got:
        assert status == 200, text
        assert headers["x-serin-arm"] == "canary; rollout=trial; why=hash" and not headers["x-serin-fallback"]
        whole(body, text)
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    assert sorted(r["id"] for r in records) == sorted(h["x-serin-call"] for _, (_, h, _) in got)
    assert {r["model"] for r in records} == {"other"} and all(r["rollout"]["counted"] for r in records)


def test_several_choices_are_one_call_of_their_arm(tmp_path, serve):
    s = serve("--config", config(tmp_path, other="parallel: 4"))
    begin(s, steps=["50%"])
    got = [post(s, "/v1/chat/completions", {**ASKED[0][1], "n": 3, "user": f"user {i}", "max_tokens": 8, "ignore_eos": True}) for i in range(12)]
    assert {arm(h["x-serin-arm"]) for _, h, _ in got} == {"canary", "control"}
    s.stop()
    for _, headers, text in got:
        r = bodies(tmp_path / "ledger", CALL, headers["x-serin-call"])
        assert len(r) == 1 and r[0]["n"] == 3 and r[0]["tokens"]["output"] == 24 and len(json.loads(text)["choices"]) == 3
        assert r[0]["arm"] == arm(headers["x-serin-arm"]) and r[0]["rollout"]["counted"]
        assert r[0]["rollout"]["engine_us"]["ttft"] and r[0]["rollout"]["repetition"] is not None


def test_a_reload_leaves_everybody_with_his_arm(tmp_path, serve):
    file = config(tmp_path, other="parallel: 4")
    s = serve("--config", file)
    begin(s, steps=["50%"])

    def arms():
        return [arm(ask(s, user=f"user {i}", key=ADMIN)[0]) for i in range(16)]
    before = arms()
    assert set(before) == {"canary", "control"}
    file.write_text(file.read_text() + "limits: {max_tokens: 7}\n")
    status, o = call(s, "/v1/reload", {})
    assert status == 200 and o["changed"] == ["limits.max_tokens"], o
    assert arms() == before
