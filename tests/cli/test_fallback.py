"""A route's fallback: another model answers where the one that was to cannot (it is not there, it is taken out, its queue is
full, its arithmetic fails), as long as nothing was sent. One level, never for the client's own mistakes, and every answer, record
and metric says so."""
import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tiny_model
from ledger_help import CALL, INTENT, bodies
from server import Server, serve  # noqa: F401
from test_canary_api import GUARDS, act, begin, call, trial
from test_canary_assign import arm
from test_canary_rerun import ASKED, REQUESTS, answering, config, metric, post, until, waiting, whole
from upstream_help import Other

ROUTES = "  - {name: chat, risk: low, fallback: small}\n  - {name: plain}\n"
CHAT = ASKED[0][1]


def to(other, **more):
    """What is asked of the model `other`, which the route lets `small` answer for."""
    return {"model": other, **more}


def check(server, headers, why, source="other"):
    assert headers["x-serin-fallback"] == f"{source}; why={why}"
    line = server.wait_log(call=headers["x-serin-call"])
    assert line["fallback"] == f"{source}; why={why}" and line["model"] == "small"


@pytest.mark.parametrize("routes, says", [
    ("  - {name: r, fallback: nobody}\n", "routes: 'r': fallback: there is no model 'nobody'"),
    ("  - {name: r, model: small, fallback: small}\n", "routes: 'r': fallback: 'small' is the route's own model"),
])
def test_a_fallback_that_is_none_is_refused(tmp_path, routes, says):
    with pytest.raises(RuntimeError) as e:
        Server("--config", config(tmp_path, routes=routes))
    assert says in str(e.value) and "serin.yaml:" in str(e.value)


def test_a_model_that_is_not_there_is_answered_for(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES))
    weights = post(s, "/v1/completions", {"prompt": "a", "max_tokens": 1})[1]["x-serin-model"]
    assert call(s, "/v1/models/unload", {"model": "other"})[0] == 200
    for path, body in ASKED:
        status, headers, text = post(s, path, to("other", **body))
        assert status == 200, text
        assert headers["x-serin-model"] == weights
        check(s, headers, "not_loaded")
        whole(body, text)
    assert metric(s, "serin_fallbacks_total") == len(ASKED)
    status, headers, text = post(s, "/v1/embeddings", {"model": "other", "input": "a"})  # vectors of another model mean nothing
    assert status == 503 and not headers["x-serin-fallback"]
    assert call(s, "/v1/models/unload", {"model": "small"})[0] == 200
    status, headers, text = post(s, *ASKED[0][:1], to("other", **CHAT))  # one level only
    assert status == 503 and "'small' is not loaded" in text
    s.stop()
    for name, n in (("other", len(ASKED) + 1), ("othe", 0), ("", 2)):  # by the model that it was to be
        listed = subprocess.run([os.environ["SERIN"], "calls", "list", f"fallback={name}", "--json", "--ledger",
                                 tmp_path / "ledger"], capture_output=True, text=True, check=True, timeout=120)
        assert len(json.loads(listed.stdout)["data"]) == n
    records = bodies(tmp_path / "ledger", CALL)
    fell = [r for r in records if r["fallback"]]
    assert len(fell) == len(ASKED) + 1 and len(records) == len(ASKED) + 3
    assert all(r["fallback"] == {"from": "other", "why": "not_loaded"} and r["asked"] == "other" for r in fell)
    assert {(r["model"], r["status"]) for r in fell} == {("small", 200), ("", 503)} or \
        {(r["model"], r["status"]) for r in fell} == {("small", 200), (None, 503)}


def test_a_model_whose_arithmetic_fails_is_answered_for_and_what_it_did_counts_nowhere(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES, broken=True, other="parallel: 4"))
    for path, body in ASKED:
        status, headers, text = post(s, path, to("other", **body))
        assert status == 200, text
        check(s, headers, "failed")
        whole(body, text)
    assert metric(s, "serin_fallbacks_total") == len(ASKED)
    assert metric(s, "vllm:request_success_total") == len(ASKED)
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    assert len(records) == len({r["id"] for r in records}) == len(ASKED)
    for r in records:
        assert r["fallback"] == {"from": "other", "why": "failed"} and r["model"] == "small" and r["error"] is None
        assert r["finish"] in ("stop", "length") and len(bodies(tmp_path / "ledger", INTENT, r["id"])) == 1


def test_without_a_fallback_the_failure_is_told(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes="  - {name: chat}\n", broken=True))
    status, headers, text = post(s, "/v1/chat/completions", to("other", **CHAT))
    assert status == 500 and "non_finite" in text and not headers["x-serin-fallback"]
    status, headers, text = post(s, "/v1/chat/completions", to("other", **CHAT, stream=True))
    assert status == 200 and "non_finite" in text


def test_mistakes_of_the_client_are_answered_by_nobody_else(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES))
    for body in ({"messages": "none"}, {**CHAT, "temperature": -1}, {**CHAT, "response_format": {"type": "what"}}):
        status, headers, text = post(s, "/v1/chat/completions", to("other", **body))
        assert status == 400 and not headers["x-serin-fallback"], text
    assert post(s, "/v1/chat/completions", to("nobody", **CHAT))[0] == 404
    assert metric(s, "serin_fallbacks_total") == 0


def test_a_full_queue_is_left_to_the_fallback(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES, more="limits: {queue: 1}\n"))
    with answering(s), ThreadPoolExecutor(1) as pool:
        waits = pool.submit(post, s, "/v1/chat/completions", to("other", **CHAT))
        waiting(s, 1)
        for path, body in ((p, b) for p, b in ASKED if "n" not in b and not isinstance(b.get("prompt"), list)):
            status, headers, text = post(s, path, to("other", **body))
            assert status == 200, text
            check(s, headers, "queue_full")
        assert not waits.done()
        assert call(s, "/v1/models/unload", {"model": "other", "grace_ms": 0})[0] == 200
        status, headers, text = waits.result()
        assert status == 200
        check(s, headers, "unloading")


def test_what_waits_for_a_model_that_is_unloaded_is_answered_by_the_fallback(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES))
    with answering(s) as begun, ThreadPoolExecutor(len(ASKED)) as pool:
        got = [pool.submit(post, s, path, to("other", **body)) for path, body in ASKED]
        waiting(s, REQUESTS)
        assert call(s, "/v1/models/unload", {"model": "other", "grace_ms": 0})[0] == 200
        for (_, body), g in zip(ASKED, got):
            status, headers, text = g.result()
            assert status == 200, text
            check(s, headers, "unloading")
            whole(body, text)
        rest = begun.read().decode()
        assert '"error"' in rest and not begun.headers["x-serin-fallback"]  # it has begun, and cannot go elsewhere


def test_a_request_that_only_the_fallback_refuses_is_not_called_the_clients_mistake(tmp_path, serve):
    s = serve("--config", config(tmp_path, routes=ROUTES))
    assert call(s, "/v1/models/unload", {"model": "other"})[0] == 200
    status, headers, text = post(s, "/v1/completions", to("other", prompt="a" * 2000, max_tokens=1))  # small holds 512 tokens
    error = json.loads(text)["error"]
    assert status == 503 and error["code"] == "model_unavailable" and "'other' is not loaded" in error["message"]
    assert "and 'small', its fallback, refuses: the prompt" in error["message"]


def test_an_arm_that_fails_is_a_failure_of_that_arm_whoever_answers(tmp_path, serve):
    file = config(tmp_path, routes="  - {name: chat, risk: low, fallback: third}\n", broken=True, other="parallel: 4",
                  more="canary:\n  - " + json.dumps(trial(steps=["50%"], guardrails={**GUARDS, "error": "off", "cut": "50%"})) + "\n")
    third = tiny_model.make(tmp_path / "third.gguf", seed=3)
    file.write_text(file.read_text().replace("\nroutes:", f"\n  - {{name: third, path: {third}, ctx: 512}}\nroutes:"))
    s = serve("--config", file)
    seen = {}
    for i in range(12):
        status, headers, text = post(s, "/v1/chat/completions", {**CHAT, "user": f"user {i}"})
        assert status == 200, text
        seen[headers["x-serin-call"]] = arm(headers["x-serin-arm"]), json.loads(text)["model"], headers["x-serin-fallback"]
    # The canary's arithmetic fails: the baseline answers. The third is for when that one cannot either.
    assert set(seen.values()) == {("canary", "small", "other; why=failed"), ("control", "small", None)}
    assert call(s, "/v1/models/unload", {"model": "small"})[0] == 200
    for i in range(12):
        status, headers, text = post(s, "/v1/chat/completions", {**CHAT, "user": f"user {i}"})
        assert status == 200, text
        seen[headers["x-serin-call"]] = arm(headers["x-serin-arm"]), json.loads(text)["model"], headers["x-serin-fallback"]
    assert {v for v in seen.values() if v[1] == "third"} == {(a, "third", "small; why=not_loaded") for a in ("canary", "control")}
    s.stop()
    for r in bodies(tmp_path / "ledger", CALL):
        fell = seen[r["id"]][2] is not None
        assert r["rollout"]["fallback"] == fell and r["rollout"]["counted"] and (r["why"] == "fallback") == fell


# ---- with models that another server computes ----

@pytest.fixture
def away():
    o = Other()
    yield o
    o.stop()


def with_next(file, url):
    """A third model, `next`, which another server computes."""
    file.write_text(file.read_text().replace("\nroutes:", f"\n  - {{name: next, upstream: '{url}'}}\nroutes:"))
    return file


def test_another_server_answers_for_a_model_of_this_one(tmp_path, serve, away):
    routes = "  - {name: chat, fallback: next}\n"
    s = serve("--config", with_next(config(tmp_path, routes=routes, broken=True), away.url))
    for stream in (False, True):
        status, headers, text = post(s, "/v1/chat/completions", to("other", **CHAT, stream=stream))
        assert status == 200 and headers["x-serin-fallback"] == "other; why=failed", text
        assert "Hello" in text or "Hel" in text
    assert len(away.asked) == 2
    away.answer = lambda body: (500, {}, b"{}")
    status, headers, text = post(s, "/v1/chat/completions", to("other", **CHAT))  # one level only
    assert status == 502 and headers["x-serin-fallback"] == "other; why=failed"
    s.stop()
    for r in bodies(tmp_path / "ledger", CALL):
        assert r["fallback"] == {"from": "other", "why": "failed"} and r["model"] == "next"
        assert r["upstream"]["address"] == away.url


@pytest.mark.parametrize("answer, why", [((500, {}, b"{}"), "upstream_error"), ((429, {}, b"{}"), "upstream_overloaded"),
                                         (None, "upstream_unreachable")])
def test_a_model_of_this_server_answers_for_another_one(tmp_path, serve, away, answer, why):
    s = serve("--config", with_next(config(tmp_path, routes="  - {name: chat, fallback: small}\n"), away.url))
    away.answer = lambda body: answer
    if not answer:
        away.stop()
    for path, body in ASKED:
        status, headers, text = post(s, path, to("next", **body))
        assert status == 200, text
        check(s, headers, why, "next")
        whole(body, text)
    s.stop()
    for r in bodies(tmp_path / "ledger", CALL):
        assert r["fallback"] == {"from": "next", "why": why} and r["model"] == "small" and r["upstream"] is None


def test_what_another_server_finds_wrong_with_a_request_is_the_clients(tmp_path, serve, away):
    s = serve("--config", with_next(config(tmp_path, routes="  - {name: chat, fallback: small}\n"), away.url))
    away.answer = lambda body: (400, {}, b'{"error": {"message": "no such thing"}}')
    status, headers, text = post(s, "/v1/chat/completions", to("next", **CHAT))
    assert status == 400 and "no such thing" in text and not headers["x-serin-fallback"]


@pytest.mark.parametrize("stream", (False, True))
def test_no_other_model_is_asked_once_the_calls_time_is_over(tmp_path, serve, away, stream):
    routes = "  - {name: chat, timeout: 300ms, fallback: small}\n"
    s = serve("--config", with_next(config(tmp_path, routes=routes), away.url))
    never, hello = threading.Event(), away.answer
    away.answer = lambda body: (200, hello(body)[1], [never])
    status, headers, text = post(s, "/v1/chat/completions", to("next", **CHAT, stream=stream))
    assert status == 504 and json.loads(text)["error"]["code"] == "upstream_timeout" and not headers["x-serin-fallback"]
    never.set()


def test_a_request_that_only_a_fallback_elsewhere_refuses_is_not_called_the_clients_mistake(tmp_path, serve, away):
    away.answer = lambda body: (400, {}, b'{"error": {"message": "no such thing"}}')
    s = serve("--config", with_next(config(tmp_path, routes="  - {name: chat, fallback: next}\n", broken=True), away.url))
    status, headers, text = post(s, "/v1/chat/completions", to("other", **CHAT))
    error = json.loads(text)["error"]
    assert status == 503 and error["code"] == "model_unavailable" and headers["x-serin-fallback"] == "other; why=failed"
    assert "and 'next', its fallback, refuses" in error["message"] and "no such thing" in error["message"]


def test_a_route_that_is_local_only_has_no_fallback_elsewhere(tmp_path):
    file = with_next(config(tmp_path, routes="  - {name: chat, local_only: true, fallback: next}\n"), "http://192.0.2.1:1")
    with pytest.raises(RuntimeError) as e:
        Server("--config", file)
    assert "routes: 'chat': fallback: the route is local_only, and 'next' is computed on another machine" in str(e.value)


def test_a_roll_back_does_not_wait_for_another_server_that_is_silent(tmp_path, serve, away):
    s = serve("--config", with_next(config(tmp_path), away.url))
    never, hello = threading.Event(), away.answer
    away.answer = lambda body: (200, hello(body)[1], [never])
    begin(s, canary="next")
    assert act(s, "step", step=1)[1]["share"] == 1
    with ThreadPoolExecutor(len(ASKED)) as pool:
        got = [pool.submit(post, s, path, {**body, "user": f"user {i}"}) for i, (path, body) in enumerate(ASKED)]
        until(lambda: away.asked and metric(s, "serin_rollout_open_calls") == len(ASKED))
        assert act(s, "roll_back", why="enough")[0] == 200
        for (_, body), g in zip(ASKED, got):
            status, headers, text = g.result()
            assert status == 200 and headers["x-serin-arm"] == "baseline; rollout=trial; why=rolled_back", text
            whole(body, text)
    never.set()
    s.stop()
    assert all(r["model"] == "small" and r["upstream"] is None for r in bodies(tmp_path / "ledger", CALL))
