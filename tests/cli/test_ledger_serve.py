"""serin serve and its ledger: one record for each call, however it ends; what is acknowledged is recorded; kill -9, full
disks; content as the policy says; the commands' token, /v1/calls and feedback."""
import base64
import http.client
import json
import os
import random
import signal
import stat
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from ledger_help import (CALL, FEEDBACK, INTENT, MESSAGES, SECRET, WAIT, Served, ask, bodies, chat, check_chain,
                         connect, empty_disk, events, fill_disk, ledger_metrics, rows, until_taken)
from server import Server, smol_like, tiny_as


@pytest.fixture(scope="module")
def required(tmp_path_factory, keys_file):
    s = Served(tmp_path_factory.mktemp("ledger") / "l", smol_like(), "--alias", "smol", "--ctx", "2048", "--parallel", "4",
               "--keys", keys_file, "--ledger-mode", "required", "--ledger-content", "full")
    yield s
    assert s.server.stop() == 0
    check_chain(s.folder)


# ---- one record, with the right fields ----

APIS = [("/v1/chat/completions", chat(), "length"),
        ("/v1/completions", {"prompt": "The sea is", "max_tokens": 5, "temperature": 0, "ignore_eos": True}, "length"),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 16, "temperature": 0}, None),
        ("/v1/messages", {"messages": MESSAGES[1:], "max_tokens": 5, "temperature": 0}, None)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path, body, finish", APIS)
def test_a_call_leaves_one_record(required, path, body, finish, stream):
    status, headers, text = ask(required, path, {**body, "model": "smol", "stream": stream})
    assert status == 200
    intents, calls = required.records(headers["x-serin-call"])
    assert len(intents) == 1 and len(calls) == 1
    r = calls[0]
    assert r["endpoint"] == path and r["status"] == 200 and r["error"] is None and r["streamed"] is stream
    assert r["finish"] == finish or (finish is None and r["finish"] in ("stop", "length"))
    assert (r["key"], r["tenant"], r["asked"]) == ("alice", "alice", "smol")
    assert r["weights"] == headers["x-serin-model"] and r["prompt"]["hash"] == headers["x-serin-prompt"]
    assert r["prompt"]["name"] is None and r["prompt"]["version"] is None
    assert r["sampling"]["seed"] == headers["x-serin-seed"] and r["sampling"]["temperature"] == 0 and r["n"] == 1
    assert len(r["tokenizer"]) == 64 and r["numerics"] == 1 and r["kv"] == "f16" and r["engine"].startswith("serin ")
    assert r["config"] == events(required.folder, "config")[-1]["id"] and r["upstream"] is None
    loaded = events(required.folder, "model_loaded")[-1]
    assert all(loaded[k] == r[k] for k in ("weights", "tokenizer", "template", "quantisation", "engine", "kv"))
    assert r["tokens"]["input"] > 0 and r["tokens"]["output"] > 0 and r["tokens"]["cached"] <= r["tokens"]["input"]
    us = r["us"]
    assert 0 < us["ttft"] <= us["total"] and us["queue"] <= us["ttft"] and us["itl"] <= us["itl_max"] <= us["total"]
    assert r["policy"] == "full" and len(r["hashes"]["input"]) == 64 and len(r["hashes"]["output"]) == 64
    known = {k: v for k, v in r.items() if k in intents[0]}
    assert known == intents[0] and not {"tokens", "us", "status"} & set(intents[0])
    if not stream and path in ("/v1/chat/completions", "/v1/completions"):
        usage = json.loads(text)["usage"]
        assert (r["tokens"]["input"], r["tokens"]["output"]) == (usage["prompt_tokens"], usage["completion_tokens"])


def test_several_choices_and_prompts_are_one_record_with_sums(required):
    status, headers, text = ask(required, "/v1/completions",
                                {"prompt": ["one", "two", "three"], "n": 2, "max_tokens": 4, "ignore_eos": True})
    usage, r = json.loads(text)["usage"], required.only(headers["x-serin-call"])
    assert status == 200 and usage["completion_tokens"] == 24
    assert (r["tokens"]["input"], r["tokens"]["output"], r["n"]) == (usage["prompt_tokens"], 24, 2)
    _, headers, text = ask(required, "/v1/chat/completions", chat(n=3, stream=True))
    r = required.only(headers["x-serin-call"])
    ends = [c["finish_reason"] for e in chunks(text) for c in e["choices"] if c["finish_reason"]]
    assert r["tokens"]["output"] == 18 and ends == ["length"] * 3 and text.endswith("data: [DONE]\n\n")


def chunks(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_embeddings_leave_one_record(required):
    status, headers, text = ask(required, "/v1/embeddings", {"input": ["one", "two words", "and three words"]})
    intents, calls = required.records(headers["x-serin-call"])
    assert status == 200 and len(intents) == len(calls) == 1
    assert calls[0]["tokens"] == {"input": json.loads(text)["usage"]["prompt_tokens"], "cached": 0, "output": 0,
                                  "reasoning": 0, "draft": 0, "accepted": 0}
    assert calls[0]["finish"] is None and calls[0]["weights"] == headers["x-serin-model"] and calls[0]["status"] == 200


@pytest.mark.parametrize("path, body, key, status, error", [
    ("/v1/chat/completions", b"{", "alice", 400, "invalid_json"),
    ("/v1/chat/completions", chat(model="nobody"), "alice", 404, "model_not_found"),
    ("/v1/chat/completions", chat(messages=3), "alice", 400, "invalid_value"),
    ("/v1/chat/completions", chat(), None, 401, "missing_api_key"),
    ("/v1/chat/completions", chat(), "nobody-knows-this-key", 401, "invalid_api_key"),
    ("/v1/completions", {"prompt": "word " * 5000}, "alice", 400, "context_length_exceeded"),
    ("/v1/embeddings", {"input": []}, "alice", 400, "invalid_value"),
    ("/v1/messages", {"messages": []}, "alice", 400, None), ("/v1/responses", {"input": 3}, "alice", 400, None)])
def test_a_failed_call_leaves_one_record(required, path, body, key, status, error):
    got, headers, _ = ask(required, path, body, key=key)
    r = required.only(headers["x-serin-call"])
    assert got == r["status"] == status and r["endpoint"] == path and r["finish"] is None
    assert r["error"] == error or (error is None and r["error"])
    assert r["key"] == (key if key in SECRET else None) and r["tokens"]["output"] == 0


def test_what_is_no_call_leaves_no_record(required):
    ids = [ask(required, path, body)[1]["x-serin-call"] for path, body in
           [("/v1/models", None), ("/tokenize", {"content": "a"}), ("/nothing", None), ("/v1/chat/completions", None)]]
    required.fence()
    assert not [r for k in (INTENT, CALL) for r in bodies(required.folder, k) if r["id"] in ids]


def test_a_call_whose_client_left_is_recorded(required):
    c = connect(required)
    c.request("POST", "/v1/chat/completions", json.dumps(chat(max_tokens=1500, stream=True)),
              {"Authorization": f"Bearer {SECRET['bob']}"})
    r = c.getresponse()
    call = r.headers["x-serin-call"]
    r.readline()
    r.close()
    c.close()
    required.server.wait_log(call=call)
    r = required.only(call)
    assert r["finish"] == "abort" and r["status"] == 200 and r["key"] == "bob" and r["tokens"]["output"] < 1500


def test_a_call_that_ran_out_of_time_is_recorded(tiny, tmp_path):
    (tmp_path / "serin.yaml").write_text("routes: [{name: hasty, match: {header: {X-Hasty: '1'}}, timeout: 1ms, content: none}]\n")
    s = tiny("--config", tmp_path / "serin.yaml", "--ledger-mode", "required")
    status, headers, _ = ask(s, "/v1/chat/completions", chat(max_tokens=3000), headers={"X-Hasty": "1"})
    r = s.only(headers["x-serin-call"])
    assert status == r["status"] == 504 and r["finish"] == "error" and r["error"] == "ETIMEOUT"
    assert r["route"] == "hasty" and r["policy"] == "none" and r["hashes"] is None and r["subject"] is None


# ---- required: what the client sees is in the database ----

ENDS = {"/v1/chat/completions": '"finish_reason":"', "/v1/completions": '"finish_reason":"', "/v1/messages": '"stop_reason":"',
        "/v1/responses": "event: response.incomplete"}


@pytest.mark.parametrize("path, body, _", APIS)
def test_the_record_is_committed_before_the_client_sees_the_end(required, path, body, _):
    body = {**body, "model": "smol", "stream": True, "ignore_eos": True} if path != "/v1/messages" else {**body, "model": "smol", "stream": True}
    if path == "/v1/responses":
        body.pop("ignore_eos")
        ends = (ENDS[path], "event: response.completed")
    else:
        ends = (ENDS[path],)
    c = connect(required)
    c.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {SECRET['alice']}"})
    r = c.getresponse()
    call = r.headers["x-serin-call"]
    assert len(bodies(required.folder, INTENT, call)) == 1  # before the first byte
    seen = False
    while line := r.readline().decode():
        if not seen and any(e in line for e in ends) and '"stop_reason":null' not in line:
            seen = True
            assert len(bodies(required.folder, CALL, call)) == 1
    assert seen


def test_the_record_is_committed_before_an_answer_in_one_piece(required):
    for path, body in [("/v1/chat/completions", chat()), ("/v1/embeddings", {"input": "a"})]:
        _, headers, _ = ask(required, path, body)
        assert len(bodies(required.folder, CALL, headers["x-serin-call"])) == 1


# ---- kill -9 ----

class Client(threading.Thread):
    """Calls one after the other; acknowledged: those whose end it has seen."""

    def __init__(self, served, seed, on_ack):
        super().__init__(daemon=True)
        self.served, self.r, self.on_ack = served, random.Random(seed), on_ack
        self.acknowledged, self.begun = [], []

    def run(self):
        try:
            while True:
                self.call()
        except (OSError, http.client.HTTPException):
            pass  # the server is gone

    def call(self):
        stream = self.r.random() < 0.6
        c = connect(self.served)
        c.request("POST", "/v1/chat/completions", json.dumps(chat(stream=stream, max_tokens=self.r.randint(1, 40))),
                  {"Authorization": f"Bearer {SECRET['alice']}"})
        r = c.getresponse()
        call = r.headers["x-serin-call"]
        assert r.status == 200
        self.begun.append(call)
        if stream:
            for line in r:
                if b'"finish_reason":"' in line:
                    break
            else:
                raise http.client.HTTPException("the stream has no end")
        else:
            json.loads(r.read())
        self.acknowledged.append(call)
        self.on_ack()
        c.close()


def test_kill_minus_nine_loses_no_acknowledged_call(tiny, tmp_path):
    rounds, seed = int(os.environ.get("SERIN_KILLS", "5")), random.randrange(1 << 32)
    print("seed", seed)
    r = random.Random(seed)
    acknowledged, folder = set(), tmp_path / "l"
    for i in range(rounds):
        s = tiny("--ledger-mode", "required", "--ledger-content", "full")
        left, enough = [r.randint(1, 60)], threading.Event()

        def on_ack():
            left[0] -= 1
            if left[0] <= 0:
                enough.set()
        clients = [Client(s, seed + 100 * i + k, on_ack) for k in range(6)]
        for c in clients:
            c.start()
        assert enough.wait(WAIT)
        s.server.process.send_signal(signal.SIGKILL)
        s.server.process.wait()
        for c in clients:
            c.join(WAIT)
            acknowledged.update(c.acknowledged)
        recorded = {b["id"] for b in bodies(folder, CALL)}
        assert not acknowledged - recorded
        assert {x for c in clients for x in c.begun} <= {b["id"] for b in bodies(folder, INTENT)}
    s = tiny("--ledger-mode", "required")
    s.fence()
    calls = bodies(folder, CALL)
    assert sorted(b["id"] for b in bodies(folder, INTENT)) == sorted(b["id"] for b in calls if b["finish"] is not None)
    cut = [b for b in calls if b["finish"] == "interrupted"]
    assert not acknowledged & {b["id"] for b in cut}
    check_chain(folder)


# ---- a full disk ----

def test_required_refuses_while_the_disk_is_full(tiny):
    s = tiny("--ledger-mode", "required")
    s.fence()
    fill_disk(s)
    for stream in (True, False):
        status, headers, text = ask(s, "/v1/chat/completions", chat(stream=stream))
        assert status == 503 and headers["Retry-After"] and "[DONE]" not in text and json.loads(text)["error"]
    assert ask(s, "/v1/embeddings", {"input": "a"})[0] == 503
    assert ask(s, "/v1/models")[0] == 200
    empty_disk(s)
    call = until_taken(s)
    assert s.only(call)["status"] == 200 and events(s.folder, "refused")
    assert s.server.stop() == 0
    check_chain(s.folder)


def cut_off(s, path, body):
    """The text of a streamed answer while which the disk became full; None: it was quicker, and is recorded."""
    until_taken(s)
    c = connect(s)
    c.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {SECRET['alice']}"})
    r = c.getresponse()
    assert r.status == 200
    call = r.headers["x-serin-call"]
    r.readline()
    fill_disk(s)
    try:
        r.read()
    except http.client.IncompleteRead as e:
        assert not bodies(s.folder, CALL, call)
        return e.partial.decode()
    finally:
        c.close()
        empty_disk(s)
    assert bodies(s.folder, CALL, call)
    return None


@pytest.mark.parametrize("path, body", [
    ("/v1/chat/completions", chat(max_tokens=3000, stream=True)), ("/v1/completions", {"prompt": "a", "max_tokens": 3000, "stream": True}),
    ("/v1/messages", {"model": "tiny", "messages": MESSAGES[1:], "max_tokens": 3000, "stream": True}),
    ("/v1/responses", {"input": "Hi", "max_output_tokens": 3000, "stream": True})])
def test_an_answer_whose_record_fails_ends_without_a_clean_close(tiny, path, body):
    s = tiny("--ledger-mode", "required")
    text = next(t for t in (cut_off(s, path, body) for _ in range(50)) if t)
    assert "could not be recorded" in text and "[DONE]" not in text and '"finish_reason":"' not in text
    assert "message_stop" not in text and "response.completed" not in text
    until_taken(s)


def test_buffered_goes_on_until_its_queue_is_full(tiny, tmp_path):
    (tmp_path / "serin.yaml").write_text("ledger: {queue: 12, patience: 1h}\n")
    s = tiny("--config", tmp_path / "serin.yaml")
    s.fence()
    fill_disk(s)
    taken = []
    for _ in range(60):
        status, headers, _ = ask(s, "/v1/chat/completions", chat())
        if status != 200:
            break
        taken.append(headers["x-serin-call"])
    assert status == 503 and headers["Retry-After"] and 4 <= len(taken) <= 12
    for _ in range(30):  # what is refused anyway must not heap up in memory
        assert ask(s, "/v1/chat/completions", b"{")[0] == 400
    now = ledger_metrics(s)
    assert now["waiting"] <= 2 and now["refused_total"] >= 31
    empty_disk(s)
    taken.append(until_taken(s))
    s.fence()
    assert set(taken) <= {b["id"] for b in bodies(s.folder, CALL)}  # nothing that was taken is lost
    check_chain(s.folder)


# ---- content ----

def i32(text):
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}i", data))


def f32(text):
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def test_full_content_holds_the_request_and_the_tokens(required):
    body = json.dumps(chat(return_token_ids=True, logprobs=True, n=2, stop=["zzz"], user="u-1")).encode() + b"  "
    _, headers, text = ask(required, "/v1/chat/completions", body)
    answer, call = json.loads(text), headers["x-serin-call"]
    record = json.loads(ask(required, f"/v1/calls/{call}?content=1")[2])
    content = record["content"]
    assert content["request"] == body.decode() and content["user"] == "u-1" and content["stops"] == ["zzz"]
    assert [i32(p) for p in content["prompt"]] == [answer["prompt_token_ids"]]
    for kept, given in zip(content["choices"], answer["choices"], strict=True):
        assert i32(kept["tokens"]) == given["token_ids"] and kept["finish"] == "length"
        assert kept["text"] == given["message"]["content"] and len(f32(kept["logits"])) == 6
        assert f32(kept["logprobs"]) == pytest.approx([t["logprob"] for t in given["logprobs"]["content"]], abs=1e-6)
    plain = json.loads(ask(required, f"/v1/calls/{call}")[2])
    assert "content" not in plain and plain["kind"] == "call"
    _, headers, _ = ask(required, "/v1/chat/completions", chat())
    assert json.loads(ask(required, f"/v1/calls/{headers['x-serin-call']}?content=1")[2])["content"]["choices"][0]["logprobs"] is None


def test_large_content_is_kept_whole(required):
    for more, status in [({}, 200), ({"max_tokens": "x"}, 400)]:
        body = json.dumps({**chat(metadata={"pad": "€" * 90000}, n=2), **more}).encode()
        got, headers, _ = ask(required, "/v1/chat/completions", body)
        record = json.loads(ask(required, f"/v1/calls/{headers['x-serin-call']}?content=1")[2])
        assert got == status
        assert record.get("status") == status, record
        assert record["content"]["request"] == body.decode()
        assert len(record["content"]["choices"]) == (2 if status == 200 else 0)


def test_hashes_group_what_is_equal_and_tell_nothing(tiny):
    s = tiny()
    records = [s.only(ask(s, "/v1/chat/completions", chat(user="u", seed=1, temperature=t))[1]["x-serin-call"])
               for t in (0, 0)]
    other = s.only(ask(s, "/v1/chat/completions", chat(messages=MESSAGES[:1], user="v"))[1]["x-serin-call"])
    assert records[0]["policy"] == "hash" and records[0]["hashes"] == records[1]["hashes"]
    assert other["hashes"]["input"] != records[0]["hashes"]["input"] and other["subject"] != records[0]["subject"]
    assert records[0]["subject"] == records[1]["subject"] and records[0]["prompt"] == other["prompt"]
    assert not rows(s.folder, "content_sha")[-1][0]
    text = (s.folder / "ledger.db").read_bytes() + (s.folder / "ledger.db-wal").read_bytes()
    assert b"Be brief" not in text and b"about the sea" not in text


# ---- who may see a call, feedback, the commands' token ----

def test_a_call_is_its_tenants(required):
    _, headers, _ = ask(required, "/v1/chat/completions", chat())
    path = f"/v1/calls/{headers['x-serin-call']}"
    assert [ask(required, path, key=k)[0] for k in ("alice", "anna", "root", "bob")] == [200, 200, 200, 404]
    assert ask(required, "/v1/calls/01ARZ3NDEKTSV4RRFFQ69G5FAV")[0] == 404 and ask(required, "/v1/calls/x")[0] == 404


def test_feedback_is_recorded_with_the_call(required):
    _, headers, _ = ask(required, "/v1/chat/completions", chat())
    call = headers["x-serin-call"]
    status, _, text = ask(required, "/v1/feedback", {"call": call, "label": "my name is Ann"})
    assert status == 400 and json.loads(text)["error"]["param"] == "label"  # a label is a word, for it is no content
    status, _, text = ask(required, "/v1/feedback", {"call": call, "score": 0.5, "label": "dull", "comment": "zu kurz"})
    assert status == 200 and json.loads(text)["comment_kept"] is True
    assert ask(required, "/v1/feedback", {"call": call, "score": -1}, key="bob")[0] == 404
    assert ask(required, "/v1/feedback", {"call": call})[0] == 400 and ask(required, "/v1/feedback", {"score": 1})[0] == 400
    assert ask(required, "/v1/feedback", {"call": call, "score": "x"})[0] == 400
    given = bodies(required.folder, FEEDBACK, call)
    assert len(given) == 1 and (given[0]["score"], given[0]["label"], given[0]["by"]) == (0.5, "dull", "alice")
    assert "zu kurz" not in json.dumps(given)


@pytest.mark.parametrize("keys", [True, False])
def test_the_token_of_the_folder_is_an_admins(tmp_path, keys_file, keys):
    s = Served(tmp_path / "l", tiny_as("tiny.gguf"), *(["--keys", keys_file] if keys else []))
    file = tmp_path / "l/server.json"
    told = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert told["address"] == s.url and told["pid"] == s.server.process.pid
    name = tiny_as("tiny.gguf").stem
    assert ask(s, "/v1/models/unload", {"model": name}, key=told["token"])[0] == 200
    assert ask(s, "/v1/models/load", {"model": name}, key="0" * 64)[0] == (401 if keys else 403)
    assert ask(s, "/v1/models/load", {"model": name}, key=told["token"])[0] == 200
    _, headers, _ = ask(s, "/v1/chat/completions", chat(), key=told["token"])
    assert s.only(headers["x-serin-call"])["key"] == "local" if keys else True
    assert s.server.stop() == 0 and not file.exists()
    names = [e["event"] for e in bodies(s.folder, 3)]
    assert names[0] == "start" and names[-1] == "stop" and names.count("model_loaded") == names.count("model_unloaded") == 2


def test_a_reload_by_a_signal_is_an_event(tiny):
    s = tiny()
    s.server.process.send_signal(signal.SIGHUP)
    s.server.wait_log(event="reload")
    assert s.server.stop() == 0
    (reload,) = events(s.folder, "reload")
    assert reload["by"] == "signal" and reload["from"] == reload["to"] and reload["changed"] == reload["needs_restart"] == []


# ---- folders ----

def test_a_second_server_takes_the_next_default_folder(tmp_path):
    env = {"XDG_STATE_HOME": str(tmp_path)}
    servers = [Server(tiny_as("tiny.gguf"), env=env) for _ in range(3)]
    assert sorted(p.name for p in (tmp_path / "serin").iterdir()) == ["ledger", "ledger-2", "ledger-3"]
    detail = servers[1].wait_log(event="ledger_elsewhere")["detail"]
    assert "ledger-2" in detail and servers[0].url in detail
    listed = subprocess.run([os.environ["SERIN"], "calls", "list"], env={**os.environ, **env}, capture_output=True, text=True)
    assert listed.returncode == 0 and "is empty" in listed.stderr and "--ledger" in listed.stderr
    assert not any([s.stop() for s in servers])


def test_commands_find_the_server_by_the_lock_of_its_folder(tmp_path):
    def serin(*args):
        return subprocess.run([os.environ["SERIN"], *args], env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
                              capture_output=True, text=True)
    env = {"XDG_STATE_HOME": str(tmp_path)}
    first, second = (Server(tiny_as("tiny.gguf"), env=env) for _ in range(2))
    first.process.kill()  # its server.json stays behind
    first.process.wait()
    assert (tmp_path / "serin/ledger/server.json").exists()
    found = serin("drain")
    assert found.returncode == 0, found.stderr
    second.wait_log(event="draining")
    assert second.stop() == 0
    gone = serin("ps")
    assert gone.returncode == 2 and f"no server writes the ledger in {tmp_path}/serin/ledger now" in gone.stderr
    named = serin("ps", "--ledger", str(tmp_path / "serin/ledger"))
    assert named.returncode == 2 and "no server writes" in named.stderr


def test_a_folder_that_was_named_and_is_in_use_is_an_error(tiny):
    s = tiny()
    with pytest.raises(RuntimeError) as e:
        Server(tiny_as("tiny.gguf"), "--ledger", s.folder)
    assert str(s.server.process.pid) in str(e.value) and "--ledger" in str(e.value)


def test_off_means_no_ledger(tmp_path):
    s = Server(tiny_as("tiny.gguf"), "--ledger", "off", env={"XDG_STATE_HOME": str(tmp_path)})
    status, headers, _ = ask(s, "/v1/chat/completions", chat(), key=None)
    assert status == 200 and len(headers["x-serin-prompt"]) == 64 and not list(tmp_path.iterdir())
    assert ask(s, f"/v1/calls/{headers['x-serin-call']}", key=None)[0] == 404
    assert s.stop() == 0
