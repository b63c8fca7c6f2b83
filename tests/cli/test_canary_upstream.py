"""Roll-outs of which an arm is another server: measured alike from outside, taken back when it dies, without a request that
fails for it; and calls that may not leave the machine, seen at the sockets of servers that would have got them."""
import concurrent.futures
import json
import re
import threading
import time

import pytest

from ledger_help import CALL, bodies, events
from server import TINY, Server, serve, smol_like, tiny_as  # noqa: F401
from test_canary_api import ADMIN, GUARDS, call
from upstream_help import Other, chat, post, texts

BEARER = {"Authorization": f"Bearer {ADMIN}"}


@pytest.fixture
def other():
    o = Other()
    yield o
    o.stop()


def config(tmp_path, models, routes=({"name": "chat", "risk": "low"},), path=None, **more):
    (tmp_path / "keys.txt").write_text(f"alice the-first-secret-of-all\nroot {ADMIN} admin\n")
    small = {"name": "small", "path": str(path or tiny_as("small.gguf")), "ctx": 1024, "parallel": 8}
    (tmp_path / "serin.yaml").write_text(json.dumps({
        "keys": str(tmp_path / "keys.txt"), "default_model": "small", "models": [small, *models], "routes": list(routes),
        "metrics_open": True, "ledger": {"where": str(tmp_path / "ledger"), "content": "full"}, **more}))
    return tmp_path / "serin.yaml"


def begin(s, canary="next", share="50%", guards=GUARDS, **more):
    return call(s, "/v1/rollouts", {"declaration": {
        "name": "trial", "kind": "different", "baseline": "small", "canary": canary, "steps": [share], "max_share": "100%",
        "evidence": {"subjects": 20, "calls": 20, "time": "1s"}, "guardrails": guards, **more}})


def phase(s):
    return call(s, "/v1/rollouts/trial")[1]["phase"]


def ask(s, user, **more):
    status, headers, text = post(s, "/v1/chat/completions", chat("small", user=user, **more), **BEARER)
    return status, (headers.get("x-serin-arm") or "").split(";")[0], text, headers


def test_both_arms_are_measured_from_outside(tmp_path, serve):  # noqa: F811
    theirs = serve(tiny_as("next.gguf"), "--ctx", "512", "--parallel", "4", "--ledger", "off")
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": theirs.url}]))
    assert begin(s)[0] == 200
    for i in range(24):
        status, arm, text, _ = ask(s, f"user {i}", stream=i % 2 == 0)
        assert status == 200 and arm in ("canary", "control")
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    assert {r["arm"] for r in records} == {"canary", "control"}
    for r in records:
        wall, canary = r["rollout"]["wall_us"], r["arm"] == "canary"
        assert (r["model"] == "next") == canary == (r["upstream"] is not None)
        assert 0 <= (r["rollout"]["repetition"] or 0) <= 1 and r["rollout"]["uncertainty"] is None
        if r["tokens"]["output"] > 1:
            assert (wall["itl"] or 1) > 0 and wall["ttft"] <= r["us"]["total"] and (r["streamed"] or wall["ttft"] == r["us"]["total"])
        assert r["upstream"] is None or len(r["upstream"]["call"]) == 26


def test_what_needs_the_weights_is_refused_at_the_start(tmp_path, serve, other):  # noqa: F811
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": other.url}]))
    status, o = begin(s, kind="equivalent")
    assert status == 400 and "divergence: off" in o["error"]["message"]
    status, o = begin(s, guards={**GUARDS, "uncertainty": 0.2})
    assert status == 400 and "uncertainty" in o["error"]["message"]
    assert begin(s, kind="equivalent", guards={**GUARDS, "divergence": "off"})[0] == 200


def refusing(status):
    return lambda body: (status, {"Content-Type": "application/json"}, b'{"error": {"message": "no"}}')


@pytest.mark.parametrize("answer", [refusing(500), refusing(429), refusing(400), refusing(404), None,
                                    lambda b: (200, {"Content-Type": "text/event-stream"}, [b": nothing yet\n\n", None])])
def test_a_canary_that_does_not_answer_gives_way_and_is_taken_back(tmp_path, serve, other, answer):  # noqa: F811
    url = other.url
    if answer:
        other.answer = answer
    else:
        url = "http://127.0.0.1:9"
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": url}]))
    assert begin(s)[0] == 200
    n = 0
    while phase(s) == "running" and n < 400:
        status, _, text, headers = ask(s, f"user {n}", stream=n % 2 == 0)
        assert status == 200 and "error" not in text, text
        n += 1
    assert phase(s) == "rolled_back"
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    fell = [r for r in records if r.get("rollout", {}).get("fallback")]
    assert fell and all(r["model"] == "small" and r["upstream"] is None and r["why"] == "fallback" for r in fell)
    assert all(r["status"] == 200 for r in records) and not [r for r in records if r["model"] == "next"]
    assert "error" in events(tmp_path / "ledger", "rollout_rolled_back")[0]["why"]


def test_a_mistake_of_the_client_is_nobodys(tmp_path, serve, other):  # noqa: F811
    other.answer = refusing(400)
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": other.url}]))
    assert begin(s)[0] == 200
    for i in range(12):
        status, _, text, _ = ask(s, f"user {i}", messages=[{"role": "user", "content": "x " * 4000}])  # beyond both contexts
        assert status == 400 and "context" in text
    assert phase(s) == "running"
    assert other.asked


def test_a_canary_killed_under_load_fails_no_request_and_is_taken_back(tmp_path, serve):  # noqa: F811
    theirs = Server(smol_like(), "--ctx", "1024", "--parallel", "8", "--ledger", "off")
    name = smol_like().name.removesuffix(".gguf")
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": theirs.url, "model": name}], path=smol_like()))
    assert begin(s)[0] == 200
    done = threading.Event()
    answered, broken = [], []

    def client(k):
        while not done.is_set():
            status, arm, text, _ = ask(s, f"user {k} {len(answered)}", stream=True, max_tokens=24, text="Tell me a story.")
            whole = '"finish_reason":"' in text
            (answered if whole else broken).append((status, arm, text))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [pool.submit(client, k) for k in range(6)]
        while sum(a == "canary" for _, a, _ in answered) < 10:
            pass
        theirs.process.kill()
        until = time.monotonic() + 120
        while phase(s) != "rolled_back" and not any(c.done() for c in clients) and time.monotonic() < until:
            pass
        done.set()
        for c in clients:
            c.result()
    theirs.stop()
    assert phase(s) == "rolled_back", call(s, "/v1/rollouts/trial")[1]
    assert not [t for status, _, t in answered if status != 200]
    for status, arm, text in broken:  # only answers that had begun
        assert status == 200 and arm == "canary" and texts(text) or TINY, text
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    assert [r for r in records if r.get("rollout", {}).get("fallback")]
    assert all(r["status"] == 200 for r in records)


# ---- what never leaves the machine ----

LOCAL = {"name": "home", "match": {"header": {"X-Home": "yes"}}, "risk": "low", "local_only": True}
HOME = {**BEARER, "X-Home": "yes"}


@pytest.fixture
def away():
    """A server whose address does not say that it is of this machine, though it leads there."""
    o = Other()
    o.url = o.url.replace("127.0.0.1", "0.0.0.0")
    yield o
    o.stop()


@pytest.mark.parametrize("role", ["named", "canary", "promoted", "baseline"])
def test_a_local_only_call_reaches_no_other_machine(tmp_path, serve, role, away):  # noqa: F811
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": away.url}], [LOCAL, {"name": "any", "risk": "low"}]))
    assert post(s, "/v1/chat/completions", chat(), **BEARER)[0] == 200 and away.connections == 1  # it can be reached
    if role in ("canary", "promoted"):
        assert begin(s)[0] == 200
    if role == "promoted":
        assert call(s, "/v1/rollouts/trial", {"action": "promote", "why": "test"})[0] == 200
        assert post(s, "/v1/chat/completions", chat("small"), **BEARER)[0] == 200 and len(away.asked) == 2
    if role == "baseline":
        assert call(s, "/v1/rollouts", {"declaration": {
            "name": "trial", "kind": "different", "baseline": "next", "canary": "small", "steps": ["50%"], "max_share": "100%",
            "guardrails": GUARDS}})[0] == 200
    before = away.connections, len(away.asked)  # connections are kept
    for i in range(16):
        for path, body in (("/v1/chat/completions", chat("small" if role in ("canary", "promoted") else "next", stream=i % 2 == 0)),
                           ("/v1/messages", chat("small" if role in ("canary", "promoted") else "next"))):
            status, headers, text = post(s, path, {**body, "user": f"user {i}"}, **HOME)
            if role in ("canary", "promoted"):
                assert status == 200 and "x-serin-arm" not in headers, text
            elif role == "baseline":
                assert status in (200, 403), text  # the canary is here, the baseline is not
            else:
                assert status == 403 and "local_only" in text
    assert (away.connections, len(away.asked)) == before


def test_a_local_only_call_may_go_to_another_server_of_this_machine(tmp_path, serve, other):  # noqa: F811
    s = serve("--config", config(tmp_path, [{"name": "next", "upstream": other.url}], [LOCAL]))
    status, _, text = post(s, "/v1/chat/completions", chat(), **HOME)
    assert status == 200 and other.connections == 1, text


def test_a_local_only_call_stays_when_the_local_model_fails(tmp_path, serve, away, other):  # noqa: F811
    (tmp_path / "broken.gguf").write_text("no model")
    models = [{"name": "away", "upstream": away.url}, {"name": "near", "upstream": other.url},
              {"name": "broken", "path": str(tmp_path / "broken.gguf"), "lazy": True}]
    for key in ("model", "fallback"):
        with pytest.raises(RuntimeError, match=f"routes: 'home': {key}: the route is local_only"):
            serve("--config", config(tmp_path, models, [{**LOCAL, key: "away"}]))
    routes = [{**LOCAL, "match": {"header": {"X-Home": "near"}}, "name": "spared", "fallback": "near"}, LOCAL]
    s = serve("--config", config(tmp_path, models, routes))
    for stream in (True, False):
        status, headers, _ = post(s, "/v1/chat/completions", chat("broken", stream=stream), **{**BEARER, "X-Home": "near"})
        assert status == 200 and headers["x-serin-fallback"].startswith("broken")  # a fallback there is
        status, _, text = post(s, "/v1/chat/completions", chat("broken", stream=stream), **HOME)
        assert status == 503 and "broken" in text
    assert other.asked and away.connections == 0


ASKED = [("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2}),
         ("/v1/completions", {"prompt": "Hello.", "max_tokens": 2}),
         ("/v1/responses", {"input": "Hello.", "max_output_tokens": 2}),
         ("/v1/messages", {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 2})]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_answers_model_is_the_name_that_was_asked_for_whoever_answers(tmp_path, serve, elsewhere):  # noqa: F811
    theirs = serve(tiny_as("next.gguf"), "--ctx", "512", "--ledger", "off") if elsewhere else None
    twin = {"name": "next", **({"upstream": theirs.url} if theirs else {"path": str(tiny_as("next.gguf")), "ctx": 512})}
    s = serve("--config", config(tmp_path, [twin]))

    def names(path, body):
        _, headers, text = post(s, path, {**body, "model": "small"}, **BEARER)
        return set(re.findall(r'"model": ?"([^"]*)"', text)), (headers["x-serin-arm"] or "").split(";")[0]

    whole_and_streamed = [(path, {**body, "stream": stream}) for path, body in ASKED for stream in (False, True)]
    assert begin(s)[0] == 200
    seen = set()
    for i in range(6):
        for path, body in whole_and_streamed:
            user = {"metadata": {"user_id": f"u{i}"}} if path == "/v1/messages" else {"user": f"u{i}"}
            said, arm = names(path, {**body, **user})
            assert said == {"small"}
            seen.add((arm, path, body["stream"]))
    assert {(path, body["stream"]) for path, body in whole_and_streamed} == {k[1:] for k in seen if k[0] == "canary"}
    assert call(s, "/v1/rollouts/trial", {"action": "promote"})[1]["phase"] == "promoted"
    assert [names(path, body) for path, body in whole_and_streamed] == [({"small"}, "")] * 8
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    assert all(r["model"] == "next" for r in records[-8:]) and {r["model"] for r in records} == {"small", "next"}
