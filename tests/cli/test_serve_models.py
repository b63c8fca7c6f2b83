"""serin serve with a few tiny models: loading and unloading at run time, routes, keys and priorities for every API, what
the log says of an answer that failed or was left, and statuses that clients turn into their exceptions.
"""
import ctypes
import hashlib
import http.client
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import tiny_model
from server import real_model, serve  # noqa: F401
from test_metrics import scrape, value

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TINY, OTHER = GOLDEN / "llama.gguf", GOLDEN / "llama-gqa.gguf"
KEYS = "boss boss-secret-0123456789 admin\nclerk clerk-secret-0123456789 tenant=office\n"


def ask(server, path, body=None, key=None, headers=None):
    """Status, headers, JSON (or text) of a request."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}-secret-0123456789"} if key else {}),
               **(headers or {})}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode() if body is not None else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            status, headers, text = r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        status, headers, text = e.code, e.headers, e.read().decode()
    return status, headers, json.loads(text) if text.startswith("{") else text


def start(serve, tmp_path, config, keys=KEYS):  # noqa: F811
    (tmp_path / "keys.txt").write_text(keys or "")
    (tmp_path / "serin.yaml").write_text(config)
    return serve("--config", tmp_path / "serin.yaml", *(["--keys", tmp_path / "keys.txt"] if keys else []))


TWO = (f"models:\n  - {{name: tiny, path: {TINY}, aliases: [small]}}\n"
       f"  - {{name: other, path: {OTHER}, lazy: true}}\n")
COMPLETION = {"model": "tiny", "prompt": "abc", "max_tokens": 2, "ignore_eos": True, "temperature": 0}


def states(server):
    return {m["id"]: m["loaded"] for m in ask(server, "/v1/models", key="boss")[2]["data"]}


def mapped(server, path):
    return str(path) in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_models_come_and_go_at_run_time(serve, tmp_path):  # noqa: F811
    s = start(serve, tmp_path, TWO)
    assert states(s) == {"tiny": True, "other": False}
    assert ask(s, "/v1/models/load", {"model": "other"}, "boss")[2] == {"model": "other", "state": "loaded"}
    assert states(s)["other"] and ask(s, "/v1/completions", {**COMPLETION, "model": "other"}, "clerk")[0] == 200
    assert ask(s, "/v1/models/load", {"model": "other"}, "boss")[0] == 409  # it is there already
    # every API lets go of the model that it used
    for path, body in (("/v1/completions", {"prompt": "a"}), ("/v1/completions", {"prompt": ["a", "b"], "n": 2}),
                       ("/v1/embeddings", {"input": ["a", "b"]}), ("/tokenize", {"content": "a"}), ("/detokenize", {"tokens": [1]}),
                       ("/v1/responses", {"input": "a"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
                       ("/v1/messages", {"max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}),
                       ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]})):
        status = ask(s, path, {"model": "other", **body}, "clerk")[0]
        assert status in (200, 400, 501), (path, status)  # chats: the tiny model has no template
    assert mapped(s, OTHER)
    assert ask(s, "/v1/models/unload", {"model": "other"}, "boss")[2] == {"model": "other", "state": "unloaded"}
    s.wait_log(event="model_unloaded", detail="other")
    assert not mapped(s, OTHER)
    assert states(s) == {"tiny": True, "other": False}
    assert ask(s, "/v1/models/unload", {"model": "other"}, "boss")[0] == 409
    assert ask(s, "/v1/models/unload", {"model": "tiny"}, "boss")[0] == 200  # it is not lazy: it stays away
    status, headers, error = ask(s, "/v1/completions", COMPLETION, "clerk")
    assert status == 503 and error["error"]["code"] == "model_not_loaded" and headers["Retry-After"]
    assert ask(s, "/v1/models/load", {"model": "tiny"}, "boss")[0] == 200
    assert ask(s, "/v1/completions", COMPLETION, "clerk")[0] == 200


def at_once(n, f):
    """What n calls of f give that begin together."""
    got, start_all = [], threading.Barrier(n)

    def one(i):
        start_all.wait()
        got.append(f(i))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return got


@pytest.mark.parametrize("path,body", [("/v1/completions", {"prompt": "abc", "max_tokens": 2}), ("/v1/embeddings", {"input": "abc"}),
                                       ("/tokenize", {"content": "abc"}), ("/v1/responses", {"input": "abc"}),
                                       ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]})])
def test_the_first_request_loads_a_lazy_model(serve, tmp_path, path, body):  # noqa: F811
    s = start(serve, tmp_path, TWO, keys=None)
    assert states(s) == {"tiny": True, "other": False}
    assert ask(s, path, {"model": "other", **body})[0] in (200, 400)  # the tiny model has no template for chats
    assert states(s) == {"tiny": True, "other": True}


def test_requests_wait_for_the_lazy_model_that_is_being_loaded(serve, tmp_path):  # noqa: F811
    big = real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    s = start(serve, tmp_path, TWO + f"  - {{name: big, path: {big}, ctx: 256, lazy: true}}\n")
    seen = at_once(24, lambda i: ask(s, "/v1/completions", {**COMPLETION, "model": ("big", "other", "tiny")[i % 3]}, "clerk"))
    assert [status for status, *_ in seen] == [200] * 24  # more than there are workers
    answers = {a["model"]: a["choices"][0]["text"] for *_, a in seen}
    assert sorted(answers) == ["big", "other", "tiny"] and all(states(s).values())
    assert sum('"event":"model_loaded"' in line for line in s.lines) == 3
    assert ask(s, "/v1/models/unload", {"model": "other"}, "boss")[0] == 200
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "other"}, "clerk")[2]["choices"][0]["text"] == answers["other"]


def test_a_lazy_model_that_cannot_be_loaded_fails_its_requests_alone(serve, tmp_path):  # noqa: F811
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(TINY.read_bytes()[:5000])
    s = start(serve, tmp_path, TWO + f"  - {{name: broken, path: {broken}, lazy: true}}\n")
    seen = at_once(12, lambda i: ask(s, "/v1/completions", {**COMPLETION, "model": ("broken", "tiny")[i % 2]}, "clerk"))
    assert sorted(status for status, *_ in seen) == [200] * 6 + [503] * 6
    for status, headers, error in seen:
        if status == 503:
            assert error["error"]["code"] == "model_not_loaded" and headers["Retry-After"]
            assert "log" in error["error"]["message"] and str(tmp_path) not in error["error"]["message"]
    assert str(broken) in s.wait_log(event="model_failed")["detail"]
    broken.write_bytes(TINY.read_bytes())
    assert ask(s, "/v1/models/load", {"model": "broken"}, "boss")[0] == 200
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "broken"}, "clerk")[0] == 200


def test_a_client_that_leaves_while_a_lazy_model_is_loaded_leaves_nothing(serve, tmp_path):  # noqa: F811
    big = real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    s = start(serve, tmp_path, TWO + f"  - {{name: big, path: {big}, ctx: 256, lazy: true}}\n", keys=None)
    left = []
    for i in range(12):
        c = http.client.HTTPConnection(s.url.split("//")[1], timeout=120)
        c.request("POST", "/v1/completions", json.dumps({**COMPLETION, "model": ("big", "other")[i % 2]}))
        left.append(c)
    for c in left:
        c.close()
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "big"})[0] == 200
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "other"})[0] == 200


def test_a_failed_load_changes_nothing(serve, tmp_path):  # noqa: F811
    s = start(serve, tmp_path, TWO)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(TINY.read_bytes()[:5000])
    before = states(s)
    for body, status in (({"model": "new", "path": str(broken)}, 400), ({"model": "new", "path": str(tmp_path / "none.gguf")}, 404),
                         ({"model": "new"}, 404), ({"model": "tiny", "path": str(OTHER)}, 400), ({"model": ""}, 400),
                         ({"model": "new", "path": 3}, 400)):
        assert ask(s, "/v1/models/load", body, "boss")[0] == status, body
    assert states(s) == before and ask(s, "/v1/completions", COMPLETION, "clerk")[0] == 200
    assert ask(s, "/v1/models/load", {"model": "new", "path": str(OTHER)}, "boss")[0] == 200
    assert states(s) == {**before, "new": True}


def test_only_administrators_load_and_unload(serve, tmp_path):  # noqa: F811
    s = start(serve, tmp_path, TWO)
    for path in ("/v1/models/load", "/v1/models/unload"):
        assert ask(s, path, {"model": "tiny"})[0] == 401
        status, _, error = ask(s, path, {"model": "tiny"}, "clerk")
        assert status == 403 and error["error"]["code"] == "admin_key_needed"
    assert states(s)["tiny"]


def test_many_loads_at_once_leave_workers_for_requests(serve, tmp_path):  # noqa: F811
    s = start(serve, tmp_path, TWO)
    seen = []

    def load(i):
        name = real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
        seen.append(ask(s, "/v1/models/load", {"model": f"m{i}", "path": str(name)}, "boss")[0])
    threads = [threading.Thread(target=load, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    assert ask(s, "/v1/completions", COMPLETION, "clerk")[0] == 200
    for t in threads:
        t.join()
    assert set(seen) <= {200, 409} and 200 in seen
    assert list(states(s).values()).count(True) == 1 + seen.count(200)


@pytest.mark.parametrize("path,body", [("/v1/completions", {"prompt": "abc", "max_tokens": 2}),
                                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
                                       ("/v1/responses", {"input": "abc"}), ("/v1/embeddings", {"input": "abc"}),
                                       ("/v1/messages", {"max_tokens": 2, "messages": [{"role": "user", "content": "a"}]})])
def test_an_unknown_model_is_a_404_everywhere(serve, tmp_path, path, body):  # noqa: F811
    s = start(serve, tmp_path, TWO, keys=None)
    status, headers, error = ask(s, path, {"model": "none", **body})
    assert status == 404 and "tiny" in error["error"]["message"]
    if path == "/v1/messages":
        assert error["error"]["type"] == "not_found_error" and headers["request-id"] == headers["x-serin-call"]
    else:
        assert error["error"]["code"] == "model_not_found" and headers["x-request-id"] == headers["x-serin-call"]


# ---- one real model, for what needs time or a chat template ----

CHAT = {"messages": [{"role": "user", "content": "Tell a long story."}]}
LONG = {"/v1/completions": {"prompt": "Once", "max_tokens": 3000}, "/v1/chat/completions": {**CHAT, "max_tokens": 3000},
        "/v1/responses": {"input": "Tell a long story.", "max_output_tokens": 3000},
        "/v1/messages": {**CHAT, "max_tokens": 3000}}
NO_END = {"ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def smol(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smol")
    from server import Server
    path = real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    (folder / "serin.yaml").write_text(
        f"models:\n  - {{name: smol, path: {path}, ctx: 4096, parallel: 1}}\nmetrics_open: true\nlimits: {{queue: 1}}\n"
        "routes:\n  - name: hurry\n    match: {header: {x-hurry: '1'}}\n    timeout: 1ms\n"
        "  - name: few\n    match: {header: {x-few: '1'}}\n    max_tokens: 3\n")
    (folder / "keys.txt").write_text(KEYS)
    s = Server("--config", folder / "serin.yaml", "--keys", folder / "keys.txt", env={"SERIN_CACHE": str(folder / "cache")})
    yield s
    assert s.stop() == 0


def stream(server, path, body, key="clerk"):
    """A stream that has begun to give text: connection, answer."""
    until(lambda: not value(scrape(server), "vllm:num_requests_waiting") + value(scrape(server), "vllm:num_requests_running"))
    c = http.client.HTTPConnection(server.url.split("//")[1], timeout=120)
    c.request("POST", path, json.dumps({"model": "smol", **NO_END, **body, "stream": True}),
              {"Authorization": f"Bearer {key}-secret-0123456789"})
    r = c.getresponse()
    assert r.status == 200, r.read()
    while True:
        line = r.readline()
        assert line
        if b'"content":""' not in line and any(w in line for w in (b'"text":"', b'"content":"', b'"delta":"', b"text_delta")):
            return c, r


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end


@pytest.mark.parametrize("path", LONG)
def test_an_answer_that_is_left_is_an_abort(smol, path):
    def aborts():
        return value(scrape(smol), "vllm:request_success_total", finished_reason="abort")
    before = aborts()
    c, r = stream(smol, path, LONG[path])
    r.close()
    c.close()
    line = smol.wait_log(call=r.headers["x-serin-call"])
    assert line["finish"] == "abort" and not line["complete"] and line["model"] == "smol" and line["key"] == "clerk"
    assert 0 < line["output_tokens"] < 3000 and line["prompt_tokens"] > 0 and line["ttft_ms"] > 0
    assert aborts() == before + 1


@pytest.mark.parametrize("path", LONG)
def test_routes_give_every_api_its_time_and_tokens(smol, path):
    body = {"model": "smol", **NO_END, **LONG[path]}
    before = value(scrape(smol), "vllm:request_success_total", finished_reason="error")
    status, headers, error = ask(smol, path, body, "clerk", {"x-hurry": "1"})
    assert status == 504 and error["error"]["type"] == "timeout_error"
    line = smol.wait_log(call=headers["x-serin-call"])
    assert line["finish"] == "error" and line["error"] == "ETIMEOUT" and line["status"] == 504
    assert value(scrape(smol), "vllm:request_success_total", finished_reason="error") == before + 1
    status, headers, answer = ask(smol, path, body, "clerk", {"x-few": "1"})
    usage = answer["usage"]
    assert status == 200 and usage.get("completion_tokens", usage.get("output_tokens")) == 3
    line = smol.wait_log(call=headers["x-serin-call"])
    assert line["finish"] == "length" and line["output_tokens"] == 3


def test_the_time_of_a_route_holds_for_embeddings(smol):
    status, _, error = ask(smol, "/v1/embeddings", {"input": ["many words " * 400] * 8}, "clerk", {"x-hurry": "1"})
    assert status == 504 and error["error"]["code"] == "timeout"


def test_a_full_queue_is_a_429_everywhere(smol):
    c, r = stream(smol, "/v1/completions", LONG["/v1/completions"])
    waits = threading.Thread(target=ask, args=(smol, "/v1/completions", {"model": "smol", "prompt": "x", "max_tokens": 1}, "clerk"))
    try:
        waits.start()
        until(lambda: value(scrape(smol), "vllm:num_requests_waiting") == 1)
        for path, body in {**LONG, "/v1/embeddings": {"input": "abc"}}.items():
            status, headers, error = ask(smol, path, {"model": "smol", **body}, "clerk")
            assert status == 429 and int(headers["Retry-After"]) >= 1, path
            assert error["error"]["type"] == "rate_limit_error"
    finally:
        r.close()
        c.close()
        waits.join()


@pytest.mark.parametrize("path", [p for p in LONG if p != "/v1/messages"])
def test_going_before_everybody_is_for_administrators(smol, path):
    body = {"model": "smol", **LONG[path], "priority": -1}
    status, _, error = ask(smol, path, body, "clerk", {"x-few": "1"})
    assert status == 400 and error["error"]["param"] == "priority"
    assert ask(smol, path, body, "boss", {"x-few": "1"})[0] == 200
    assert ask(smol, path, {**body, "priority": 1}, "clerk", {"x-few": "1"})[0] == 200


def test_tenants_share_no_prefix(smol):
    body = {"model": "smol", "prompt": "A sentence of an office that nobody else may know of. " * 12, "max_tokens": 1}
    usages = [ask(smol, "/v1/completions", body, key)[2]["usage"] for key in ("clerk", "clerk", "boss", "boss")]
    seen = [u["prompt_tokens_details"]["cached_tokens"] for u in usages]
    assert seen[0] == seen[2] == 0 and seen[1] == seen[3] > 64


# ---- health ----

def hold_thread(pid, name):
    """Stops one thread of a process as a debugger would; returns what lets it go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    seize, interrupt, detach = 0x4206, 0x4207, 17
    [thread] = [int(t.name) for t in Path(f"/proc/{pid}/task").iterdir() if (t / "comm").read_text().strip() == name]
    if libc.ptrace(seize, thread, None, None):
        pytest.skip(f"threads cannot be held here: {os.strerror(ctypes.get_errno())}")
    assert libc.ptrace(interrupt, thread, None, None) == 0
    os.waitpid(thread, 0x40000000)  # __WALL
    return lambda: libc.ptrace(detach, thread, None, None)


def test_a_stuck_engine_is_alive_and_not_ready(smol):
    assert ask(smol, "/health/ready")[0] == 200
    c, r = stream(smol, "/v1/completions", LONG["/v1/completions"])
    go_on = hold_thread(smol.process.pid, "serin-sched")
    try:
        until(lambda: ask(smol, "/health/ready")[0] == 503)
        status, headers, body = ask(smol, "/health/ready")
        assert body == {"status": "unready", "reason": "engine stuck"} and headers["Retry-After"]
        assert ask(smol, "/health")[0] == ask(smol, "/health/live")[0] == 200
        assert value(scrape(smol), "serin_scheduler_silence_seconds") > 9
    finally:
        go_on()
    until(lambda: ask(smol, "/health/ready")[0] == 200)
    assert r.readline()
    r.close()
    c.close()


# ---- that models are what their ids say ----

def plant_digest(cache, model, digest):
    """Enters a digest for a model as it is now."""
    st = model.stat()
    (cache / "digests").mkdir(parents=True, exist_ok=True)
    entry = cache / "digests" / f"{st.st_dev:x}-{st.st_ino:x}"
    entry.write_text("serin-digest 1 %d %d.%09d %d.%09d sha256 %s\n" % (
        st.st_size, *divmod(st.st_mtime_ns, 10**9), *divmod(st.st_ctime_ns, 10**9), digest))
    entry.chmod(0o600)


def test_a_stale_digest_loads_at_once_and_raises_the_alarm(serve, tmp_path):  # noqa: F811
    good, bad = TINY.read_bytes(), tmp_path / "bad.gguf"
    bad.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    plant_digest(tmp_path / "cache", bad, hashlib.sha256(good).hexdigest())
    s = serve(bad, TINY)
    line = s.wait_log(event="digest_mismatch")
    assert hashlib.sha256(bad.read_bytes()).hexdigest() in line["detail"]
    rows = {m["id"]: m for m in ask(s, "/v1/models")[2]["data"]}
    assert rows["bad"]["weights"] == rows["llama"]["weights"] == hashlib.sha256(good).hexdigest()
    assert rows["bad"]["weights_verified"] is False and rows["llama"]["weights_verified"] is True
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "bad"})[0] == 200
    m = {dict(labels)["model_name"]: v for (name, labels), v in scrape(s).items() if name == "serin_weights_verified"}
    assert m == {"bad": 0, "llama": 1}


def test_without_a_digest_one_bit_is_another_id(serve, tmp_path):  # noqa: F811
    good, bad = TINY.read_bytes(), tmp_path / "bad.gguf"
    bad.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    rows = {m["id"]: m for m in ask(serve(bad, TINY), "/v1/models")[2]["data"]}
    assert rows["bad"]["weights"] == hashlib.sha256(bad.read_bytes()).hexdigest() != rows["llama"]["weights"]
    assert rows["bad"]["weights_verified"] is True


def test_the_log_says_what_was_loaded(serve):  # noqa: F811
    s = serve(TINY)
    (row,) = ask(s, "/v1/models")[2]["data"]
    detail = s.wait_log(event="model_loaded")["detail"]
    assert f"weights id {row['weights']}, tokenizer id {row['tokenizer']}, template id none" in detail


# ---- several by flags ----

def test_several_models_are_named_on_the_command_line(serve, tmp_path):  # noqa: F811
    odd = tmp_path / "a=b.gguf"  # a path may have any sign
    odd.write_bytes(TINY.read_bytes())
    s = serve(TINY, OTHER, "--model", f"third={TINY}", "--model", odd, "--alias", "first")
    assert list(states(s).items()) == [("llama", True), ("llama-gqa", True), ("third", True), ("a=b", True)]
    answers = [ask(s, "/v1/completions", {**COMPLETION, "model": m})[2] for m in (None, "first", "llama-gqa", "third", "a=b")]
    assert [a["model"] for a in answers] == ["llama", "llama", "llama-gqa", "third", "a=b"]
    rows = ask(s, "/v1/models")[2]["data"]
    assert {(len(m["tokenizer"]), m["template"], m["quantisation"]) for m in rows} == {(64, None, "F32 (100 %)")}
    weights = {m["id"]: m["weights"] for m in rows}
    assert weights["llama"] == weights["third"] == weights["a=b"] != weights["llama-gqa"]


def test_lazy_models_of_the_command_line_are_loaded_by_their_requests(serve):  # noqa: F811
    s = serve(TINY, "-m", f"other={OTHER}", "--lazy")
    assert not any(states(s).values())
    assert ask(s, "/v1/completions", {**COMPLETION, "model": "other"})[0] == 200
    assert states(s) == {"llama": False, "other": True}


def test_models_that_cannot_be_told_apart_are_refused(tmp_path):
    def said(*args):
        done = subprocess.run([os.environ["SERIN"], "serve", *map(str, args)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        return done.stderr
    assert "'llama' is used more than once" in said(TINY, TINY) and "--model NAME=MODEL" in said(TINY, TINY)
    for wrong in ("=" + str(TINY), "name="):
        assert f"--model {wrong}: write NAME=MODEL" in said("--model", wrong)


# ---- sizes that do not go together ----

@pytest.fixture(scope="module")
def long_tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    tiny_model.make(path)
    return path


def test_a_cache_smaller_than_the_context_is_said_and_counts(serve, long_tiny):  # noqa: F811
    s = serve(long_tiny, "--ctx", "256", "--cache-tokens", "128")
    warned = s.wait_log(event="cache_too_small")["detail"]
    assert all(word in warned for word in ("128 tokens", "context of 256", "--cache-tokens", "--ctx) to 128"))
    assert [m["max_model_len"] for m in ask(s, "/v1/models")[2]["data"]] == [128]
    assert ask(s, "/tokenize", {"content": "abc"})[2]["max_model_len"] == 128
    body = {"prompt": [3] * 100, "max_tokens": 200, "ignore_eos": True}
    answer = ask(s, "/v1/completions", body)[2]  # as at the end of the context
    assert answer["usage"]["total_tokens"] == 128 and answer["choices"][0]["finish_reason"] == "length"
    for path, refused in (("/v1/completions", {**body, "prompt": [3] * 128}), ("/v1/embeddings", {"input": [3] * 129})):
        status, _, error = ask(s, path, refused)
        assert status == 400 and error["error"]["code"] == "context_length_exceeded" and "holds 128" in error["error"]["message"]
    assert ask(s, "/v1/embeddings", {"input": [3] * 128})[0] == 200


def test_a_cache_as_large_as_the_context_is_not_warned_of(serve, long_tiny):  # noqa: F811
    s = serve(long_tiny, "--ctx", "128", "--cache-tokens", "128")
    s.wait_log(event="model_loaded")
    assert ask(s, "/v1/models")[2]["data"][0]["max_model_len"] == 128
    assert not any("cache_too_small" in line for line in s.lines)


def test_what_the_queue_could_never_hold_is_not_told_to_come_again(serve):  # noqa: F811
    s = serve(TINY, "--limit", "queue=8")
    body = {"prompt": ["abc"] * 4, "n": 2, "max_tokens": 1}
    assert ask(s, "/v1/completions", body)[0] == 200
    for wish, param in (({"n": 3}, "prompt"), ({"prompt": "abc", "n": 9}, "n")):
        status, headers, error = ask(s, "/v1/completions", {**body, **wish})
        assert status == 400 and not headers["Retry-After"]
        assert error["error"]["code"] == "limit_exceeded" and error["error"]["param"] == param
        assert "the queue holds 8" in error["error"]["message"] and "--limit queue=N" in error["error"]["message"]
    assert ask(s, "/v1/embeddings", {"input": ["abc"] * 30})[0] == 200  # goes in by and by
