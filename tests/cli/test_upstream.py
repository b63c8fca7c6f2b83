"""Models that another server computes: what goes out, what comes back, what is recorded; and everything that the other one can
do wrong. The other one is a Serin, or a script that misbehaves."""
import json
import os
import subprocess
import threading
import urllib.request

import openai
import pytest

from ledger_help import CALL, bodies
from server import Server, serve, smol_like, tiny_as  # noqa: F401
from test_metrics import scrape, value
from upstream_help import USAGE, Other, chat, chunk, events, post, texts

KEY = "a-very-secret-upstream-key"


@pytest.fixture
def other():
    o = Other()
    yield o
    o.stop()


@pytest.fixture
def relay(serve, tmp_path):  # noqa: F811
    """relay(URL, ROUTES, ...): a server whose model `next` is another's `theirs`, with a ledger that keeps all."""
    def start(url, routes=(), more=None, mode="required", content="full"):
        model = {"name": "next", "upstream": url, "model": "theirs", "timeout": "20s", **(more or {})}
        small = {"name": "small", "path": str(tiny_as("small.gguf")), "ctx": 512, "parallel": 4}
        config = {"models": [model, small], "routes": list(routes), "metrics_open": True,
                  "ledger": {"where": str(tmp_path / "l"), "mode": mode, "content": content}}
        (tmp_path / "serin.yaml").write_text(json.dumps(config))  # JSON is YAML
        return serve("--config", tmp_path / "serin.yaml")
    return start


def record(tmp_path, call):
    return bodies(tmp_path / "l", CALL, call)[-1]


def sse(*pieces):
    return lambda body: (200, {"Content-Type": "text/event-stream"}, list(pieces))


# ---- another Serin ----

@pytest.fixture(scope="module")
def serin():
    s = Server(smol_like(), "--alias", "theirs", "--ctx", "1024", "--parallel", "4")
    yield s
    assert s.stop() == 0


def test_a_serin_answers_through_another_as_directly(serin, relay, tmp_path):
    s = relay(serin.base_url)
    body = chat(temperature=0, max_tokens=24, text="Name three birds.")
    _, direct, text = post(serin, "/v1/chat/completions", {**body, "model": "theirs"})
    status, headers, through = post(s, "/v1/chat/completions", body)
    want, got = json.loads(text), json.loads(through)
    assert status == 200 and got["choices"] == want["choices"]
    assert got["model"] == "next" and got["id"] == "chatcmpl-" + headers["x-serin-call"]
    assert headers["x-serin-model"] == direct["x-serin-model"] and headers["x-serin-engine"] == direct["x-serin-engine"]
    whole = want["choices"][0]["message"]["content"]
    status, headers, stream = post(s, "/v1/chat/completions", {**body, "stream": True})
    assert status == 200 and texts(stream) == whole and stream.endswith("data: [DONE]\n\n") and '"usage"' not in stream
    for path, more, where in (("/v1/completions", {"prompt": "Hello"}, lambda o: o["choices"][0]["text"]),
                              ("/v1/responses", {"input": "Hello"}, lambda o: o["output"][0]["content"][0]["text"]),
                              ("/v1/messages", {"messages": body["messages"], "max_tokens": 8}, lambda o: o["content"][0]["text"]),
                              ("/v1/embeddings", {"input": "Hello"}, lambda o: o["data"][0]["embedding"])):
        ask = {"temperature": 0, **more} if path != "/v1/embeddings" else more
        a, b = (json.loads(post(x, path, {**ask, "model": m})[2]) for x, m in ((serin, "theirs"), (s, "next")))
        if path == "/v1/embeddings" or any(a.get("choices", []) or a.get("output", []) or a.get("content", [])):
            assert where(a) == where(b), path
        assert b["model"] == "next"
    s.stop()
    r = record(tmp_path, headers["x-serin-call"])
    assert r["model"] == "next" and r["weights"] is None and r["tokens"]["input"] > 0
    assert r["tokens"]["output"] == want["usage"]["completion_tokens"] and r["finish"] == want["choices"][0]["finish_reason"]
    up = r["upstream"]
    assert up["address"] == serin.base_url and up["asked"] == "theirs" and up["weights"] == direct["x-serin-model"]
    assert up["engine"] == direct["x-serin-engine"] and len(up["call"]) == 26 and up["call"] != r["id"]
    if whole:
        assert r["us"]["ttft"] > 0  # pieces may come at once: the time between them is test_upstream_text's to check
    replay = subprocess.run([os.environ["SERIN"], "replay", r["id"], "--ledger", tmp_path / "l"], capture_output=True, text=True)
    assert replay.returncode != 0 and up["call"] in replay.stdout + replay.stderr, replay.stdout + replay.stderr


def test_the_official_client_gets_the_same_stream_through_it(serin, relay):
    s = relay(serin.url)
    clients = [openai.OpenAI(base_url=x.base_url, api_key="none") for x in (serin, s)]
    got = []
    for client, model in zip(clients, ("theirs", "next")):
        stream = client.chat.completions.create(model=model, messages=chat()["messages"], max_tokens=24, temperature=0, stream=True,
                                                stream_options={"include_usage": True})
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        got.append((text, chunks[-1].usage.completion_tokens, chunks[-1].usage.prompt_tokens))
    assert got[0] == got[1]


def test_a_registered_prompt_goes_out_filled(other, relay, tmp_path):
    s = relay(other.url)
    token = json.loads((tmp_path / "l/server.json").read_text())["token"]
    text = ("messages:\n  - {role: system, content: 'Greet {{who}}.'}\nvariables:\n  who: {type: string}\n"
            "sampling: {temperature: 0.25}\n")
    status, _, said = post(s, "/v1/prompts", {"name": "greet", "text": text}, Authorization=f"Bearer {token}")
    assert status == 200, said
    named = {"prompt": {"id": "greet", "version": 1, "variables": {"who": "Ada"}}}
    status, headers, _ = post(s, "/v1/chat/completions", {**chat(), **named})
    assert status == 200 and headers["x-serin-prompt"] == "greet@1"
    body = other.asked[-1][1]
    assert [m["content"] for m in body["messages"]] == ["Greet Ada.", "Hello."]
    assert body["temperature"] == 0.25 and "prompt" not in body
    message = {"id": "m", "type": "message", "role": "assistant", "model": "theirs", "stop_reason": "end_turn",
               "content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 1, "output_tokens": 1}}
    other.answer = lambda body: (200, {"Content-Type": "application/json"}, json.dumps(message).encode())
    assert post(s, "/v1/messages", {**chat(), **named})[0] == 200
    body = other.asked[-1][1]
    assert body["system"] == [{"type": "text", "text": "Greet Ada."}] and body["messages"][-1]["content"] == "Hello."
    other.answer = lambda body: (200, {"Content-Type": "application/json"}, json.dumps(
        {"id": "r", "object": "response", "model": "theirs", "status": "completed", "output": []}).encode())
    assert post(s, "/v1/responses", {"model": "next", "input": "Hello.", **named})[0] == 200
    assert [m["content"] for m in other.asked[-1][1]["input"]] == ["Greet Ada.", "Hello."]


# ---- what goes out ----

def test_what_goes_out_and_comes_back(other, relay, tmp_path):
    (tmp_path / "key").write_text(KEY + "\n")
    s = relay(other.url + "/v1/", [{"name": "short", "match": {"header": {"X-Short": "yes"}}, "max_tokens": 3}],
              {"key_file": str(tmp_path / "key")})
    status, headers, text = post(s, "/v1/chat/completions", chat(stream=True, top_k=5, priority=3, seed=1))
    assert status == 200 and texts(text) == "Hello" and "usage" not in text and '"theirs"' not in text
    path, body = other.asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "theirs" and body["stream_options"] == {"include_usage": True}
    assert body["top_k"] == 5 and "priority" not in body  # it may be a Serin
    assert other.headers[0]["Authorization"] == "Bearer " + KEY
    status, _, text = post(s, "/v1/chat/completions", chat(top_k=5, seed=1, stream=True, stream_options={"include_usage": True}),
                           **{"X-Short": "yes"})
    body = other.asked[1][1]
    assert "top_k" not in body and body["seed"] == 1 and body["max_tokens"] == 3  # it is none, and is not asked for such
    assert json.loads(text.split("data: ")[-2])["usage"] == USAGE
    s.stop()
    r = record(tmp_path, headers["x-serin-call"])
    assert r["tokens"]["input"] == 7 and r["tokens"]["output"] == 2 and r["finish"] == "stop" and r["upstream"]["model"] == "theirs"
    assert r["upstream"]["weights"] is None and r["upstream"]["call"] is None
    out = subprocess.run([os.environ["SERIN"], "calls", "export", "--ledger", tmp_path / "l", "--content"],
                         capture_output=True, text=True).stdout
    assert KEY not in out + "".join(s.lines) and KEY.encode() not in (tmp_path / "l/ledger.db").read_bytes()


def test_fields_that_another_server_refuses_are_left_out_at_the_second_try(other, relay):
    def picky(body):
        if "top_k" in body:
            return 400, {"Content-Type": "application/json"}, b'{"error": {"message": "unknown field top_k"}}'
        return Other.hello(body)
    other.answer = picky
    s = relay(other.url)
    assert post(s, "/v1/chat/completions", chat(top_k=5))[0] == 200
    assert ["top_k" in b for _, b in other.asked] == [True, False]


def test_an_alias_and_the_default_name_lead_there(other, relay):
    s = relay(other.url, more={"aliases": ["best"]})
    for model in ("best", None):
        status, _, text = post(s, "/v1/chat/completions", {**chat(), "model": model})
        assert status == 200 and json.loads(text)["model"] == "next"
    status, _, text = post(s, "/tokenize", {"model": "next", "content": "x"})
    assert status == 400 and "another server" in text


# ---- what goes wrong before anything was sent ----

def status_of(n, headers=None, body=b'{"error": {"message": "because", "code": "their_code"}}'):
    return lambda _: (n, {"Content-Type": "application/json", **(headers or {})}, body)


def found_of(s):
    """What is known of the upstream of `next`."""
    (found,) = [m["upstream"] for m in json.load(urllib.request.urlopen(s.base_url + "/models"))["data"] if m["id"] == "next"]
    return found


@pytest.mark.parametrize("answer, status, code", [
    (status_of(500), 502, "upstream_error"), (status_of(529), 502, "upstream_error"), (status_of(504), 504, "upstream_error"),
    (status_of(503), 503, "upstream_overloaded"), (status_of(429, {"Retry-After": "17"}), 429, "upstream_overloaded"),
    (status_of(401), 502, "upstream_refused"), (status_of(404), 502, "upstream_refused"),
    (status_of(302, {"Location": "http://127.0.0.1:1/"}), 502, "upstream_refused"), (status_of(422), 422, "their_code"),
    (status_of(200, body=b"<html>hello</html>"), 502, "upstream_invalid"), (status_of(200, body=b"[1]"), 502, "upstream_invalid"),
    (status_of(200, body=b'{"error": {"message": "because"}}'), 502, "upstream_error"),
    (lambda _: (200, {"Content-Type": "application/json"}, [b'{"choices": [', None]), 502, "upstream_broken")])
def test_each_failure_has_a_status_of_its_own(other, relay, tmp_path, answer, status, code):
    other.answer = answer
    s = relay(other.url)
    got, headers, text = post(s, "/v1/chat/completions", chat())
    assert got == status and json.loads(text)["error"]["code"] == code, text
    if status == 429:
        assert headers["Retry-After"] == "17"
    if code != "their_code":
        assert "'next'" in text and other.url in text and "because" in text or status == 502
    got, _, text = post(s, "/v1/messages", chat())
    assert got == status and json.loads(text).get("type", "error") == "error"
    s.stop()
    r = record(tmp_path, headers["x-serin-call"])
    assert r["status"] == status and r["model"] == "next" and r["upstream"]["address"] == other.url


@pytest.mark.parametrize("status", (400, 401, 503))
def test_a_key_that_a_refusal_quotes_is_shown_to_nobody(other, relay, tmp_path, status):
    (tmp_path / "key").write_text(KEY + "\n")
    escaped = KEY.replace("s", "\\u0073")
    s = relay(other.url, more={"key_file": str(tmp_path / "key")})
    for named in (KEY, escaped):
        other.answer = status_of(status, body=b'{"error": {"message": "wrong key: %s", "type": "%s"}}' % ((named.encode(),) * 2))
        got, headers, text = post(s, "/v1/chat/completions", chat())
        assert got == (502 if status == 401 else status) and KEY not in text + str(headers) and "'next'" in text, text
    other.answer = status_of(status)
    assert "because" in post(s, "/v1/chat/completions", chat())[2]  # what quotes none is told
    s.stop()
    assert KEY not in "".join(s.lines) and KEY.encode() not in (tmp_path / "l/ledger.db").read_bytes()


def test_a_server_that_is_away_or_not_trusted(relay, tmp_path):
    s = relay("http://127.0.0.1:9")
    status, _, text = post(s, "/v1/chat/completions", chat(stream=True))
    assert status == 502 and json.loads(text)["error"]["code"] == "upstream_unreachable"
    found = found_of(s)
    assert found["reachable"] is False and "127.0.0.1" in found["why"]
    assert s.wait_log(event="upstream_lost")
    metrics = scrape(s)
    assert value(metrics, "serin_upstream_failures_total", model_name="next") == 1
    assert value(metrics, "serin_upstream_reachable", model_name="next") == 0


def test_a_certificate_that_nobody_signed_is_refused(relay, serve, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", tmp_path / "key.pem",
                    "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    theirs = serve(tiny_as("theirs.gguf"), "--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem", "--ctx", "512",
                   "--ledger", "off")
    s = relay(theirs.url)
    status, _, text = post(s, "/v1/chat/completions", chat())
    assert status == 502 and json.loads(text)["error"]["code"] == "upstream_tls", text
    s.stop()
    s = relay(theirs.url, more={"ca": str(tmp_path / "cert.pem")})
    assert post(s, "/v1/chat/completions", chat())[0] == 200


def test_a_call_whose_own_time_is_over_says_nothing_of_the_other_server(other, relay):
    never, routes = threading.Event(), [{"name": "quick", "match": {"header": {"X-Quick": "yes"}}, "timeout": "200ms"}]
    hello, other.answer = other.answer, lambda body: (never.wait(60), other.hello(body))[1]
    s = relay(other.url, routes)
    assert post(s, "/v1/chat/completions", chat(), **{"X-Quick": "yes"})[0] == 504
    assert found_of(s)["reachable"] is None and not any("upstream_lost" in line for line in s.lines)
    never.set()
    other.answer = hello
    assert post(s, "/v1/chat/completions", chat())[0] == 200 and found_of(s)["reachable"] is True


def test_one_that_is_silent_is_given_up(other, relay):
    never = threading.Event()
    other.answer = sse(never)
    s = relay(other.url, [{"name": "quick", "match": {"header": {"X-Quick": "yes"}}, "timeout": "200ms"}], {"timeout": "300ms"})
    for headers in ({}, {"X-Quick": "yes"}):
        status, _, text = post(s, "/v1/chat/completions", chat(stream=True), **headers)
        assert status == 504 and json.loads(text)["error"]["code"] == "upstream_timeout"
    never.set()


# ---- what goes wrong later ----

@pytest.mark.parametrize("rest, what", [
    ([None], "broke off"), ([b"data: nonsense\n\n"], "no JSON"), ([b"data: " + b"x" * (17 << 20)], "16777216"), ([], "broke off")])
def test_a_stream_that_breaks_ends_as_others_do(other, relay, tmp_path, rest, what):
    other.answer = sse(events(chunk("Hel"), done=False), *rest)
    s = relay(other.url)
    status, headers, text = post(s, "/v1/chat/completions", chat(stream=True))
    if status == 200:  # else the break was seen before anything was sent
        last = json.loads(text.split("data: ")[-2])
        assert texts(text) == "Hel" and what in last["error"]["message"] and text.endswith("data: [DONE]\n\n"), text
    else:
        assert status == 502 and what in text
    s.stop()
    r = record(tmp_path, headers["x-serin-call"])
    assert r["error"] in ("upstream_broken", "upstream_invalid") and (status == 502 or r["finish"] == "error")


def test_a_stream_that_breaks_after_its_first_words_was_sent_is_broken_in_its_api(other, relay):
    gate = threading.Event()
    start = {"type": "message_start", "message": {"id": "m", "model": "theirs", "usage": {"input_tokens": 3, "output_tokens": 1}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}
    text = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in (start, delta)).encode()
    other.answer = sse(text, gate, None)
    s = relay(other.url)
    r = urllib.request.Request(s.url + "/v1/messages", json.dumps(chat(stream=True)).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=60) as a:
        first = a.read1()
        gate.set()
        text = (first + a.read()).decode()
    assert '"next"' in text and '"theirs"' not in text and text.rstrip().splitlines()[-2] == "event: error"


def test_a_client_that_leaves_ends_the_request_there(other, relay, tmp_path):
    gate, gone = threading.Event(), threading.Event()

    def slowly(body):
        def pieces():
            yield events(chunk("Hel"), done=False)
            gate.wait(60)
            try:
                for _ in range(100000):
                    yield events(chunk("lo"), done=False)
            finally:
                gone.set()
        return 200, {"Content-Type": "text/event-stream"}, pieces()
    other.answer = slowly
    s = relay(other.url)
    r = urllib.request.Request(s.url + "/v1/chat/completions", json.dumps(chat(stream=True)).encode(),
                               {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=60) as a:
        assert b"Hel" in a.read1()
        call = a.headers["x-serin-call"]
    gate.set()
    assert gone.wait(60)
    s.wait_log(call=call)
    s.stop()
    assert record(tmp_path, call)["finish"] == "abort"


def test_a_client_that_does_not_read_holds_the_other_end_back(other, relay):
    sent, most = [0], 4000
    piece = events(chunk("x" * 16000), done=False)

    def much(body):
        def pieces():
            for _ in range(most):
                yield piece
                sent[0] += 1
            yield events(chunk(finish="stop"))
        return 200, {"Content-Type": "text/event-stream"}, pieces()
    other.answer = much
    s = relay(other.url)
    r = urllib.request.Request(s.url + "/v1/chat/completions", json.dumps(chat(stream=True)).encode(),
                               {"Content-Type": "application/json"})
    with urllib.request.urlopen(r, timeout=60) as a:
        a.read1(1)
        assert post(s, "/v1/chat/completions", chat("small", max_tokens=1))[0] == 200  # others go on meanwhile
        assert sent[0] < most
        n = 1
        while data := a.read1(1 << 20):
            n += len(data)
    assert n > most * 16000 and sent[0] == most


def test_calls_that_wait_end_with_the_server(other, relay):
    never = threading.Event()
    other.answer = sse(never)
    s = relay(other.url, mode="buffered")
    got = []
    t = threading.Thread(target=lambda: got.append(post(s, "/v1/chat/completions", chat(stream=True))))
    t.start()
    while not other.asked:
        pass
    ps = json.loads(subprocess.run([os.environ["SERIN"], "ps", "--server", s.url, "--json"], capture_output=True, text=True).stdout
                    or "{}")
    assert not ps or ps["data"][0]["model"] == "next"
    s.process.send_signal(2)
    assert s.stop() == 0  # by the second signal; a third one would kill
    t.join(60)
    never.set()
    assert got and got[0][0] in (200, 503)


# ---- the configuration ----

@pytest.mark.parametrize("model, what", [
    ("{name: a, upstream: 'ftp://x'}", "no address"), ("{name: a, upstream: 'http://u:secret-word@x'}", "key_file"),
    ("{name: a, upstream: 'http://x', path: y}", "path"), ("{name: a, upstream: 'http://x', ctx: 5}", "ctx"),
    ("{name: a, path: x, key_file: y}", "key_file"), ("{name: a, upstream: 'http://x', key_file: /nowhere}", "/nowhere"),
    ("{name: a, upstream: 'http://x', key_env: NO_SUCH_KEY}", "NO_SUCH_KEY"), ("{name: a}", "upstream"),
    ("{name: a, upstream: 'unix:x'}", "no address")])
def test_what_is_wrong_with_an_upstream_is_said(tmp_path, model, what):
    model = model.replace("path: x", f"path: {tiny_as('small.gguf')}")
    (tmp_path / "c.yaml").write_text(f"models:\n  - {model}\nledger: off\n")
    bad = subprocess.run([os.environ["SERIN"], "serve", "--config", tmp_path / "c.yaml", "--check-config"], capture_output=True,
                         text=True)
    assert bad.returncode == 2 and what in bad.stderr and "c.yaml:2" in bad.stderr and "secret-word" not in bad.stderr, bad.stderr


def test_a_unix_socket_and_the_command_line(other, serve, tmp_path):
    theirs = subprocess.Popen([os.environ["SERIN"], "serve", tiny_as("theirs.gguf"), "--ctx", "256", "--ledger", "off", "--listen",
                               f"unix:{tmp_path / 's'}", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert theirs.stdout.readline()
    s = serve("--model", f"theirs=unix:{tmp_path / 's'}", "--ledger", "off")
    assert post(s, "/v1/chat/completions", chat("theirs"))[0] == 200
    theirs.terminate()
    assert theirs.wait(60) == 0
    theirs.stdout.close()


def test_another_address_is_in_force_after_a_reload(relay, other, tmp_path):
    s = relay(other.url)
    second = Other()
    assert post(s, "/v1/chat/completions", chat())[0] == 200
    text = (tmp_path / "serin.yaml").read_text().replace(other.url, second.url)
    (tmp_path / "serin.yaml").write_text(text)
    s.process.send_signal(1)
    assert s.wait_log(event="reload")
    assert post(s, "/v1/chat/completions", chat())[0] == 200
    assert len(other.asked) == 1 and len(second.asked) == 1
    second.stop()
