"""Another configuration for a running server: by a signal, over HTTP and by `serin reload`; whole or not at all, and no
call that runs notices.
"""
import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess

import pytest

import tiny_model
from ledger_help import CALL, bodies, check_chain, events
from server import serve  # noqa: F401
from test_metrics import scrape, value
from test_serve_models import COMPLETION, KEYS, OTHER, TINY, ask, mapped, states

SERIN = os.environ["SERIN"]
ONE = f"models:\n  - {{name: tiny, path: {TINY}, aliases: [small]}}\n"
BIG = f"  - {{name: big, path: {OTHER}}}\n"


class Site:
    """A server of a file that is written anew."""

    def __init__(self, serve, tmp_path, config, *flags, **kw):  # noqa: F811
        self.file, self.keys, self.folder = tmp_path / "serin.yaml", tmp_path / "keys.txt", tmp_path / "ledger"
        self.keys.write_text(KEYS)
        self.write(config)
        self.server = serve("--config", self.file, "--ledger", self.folder, "--ledger-mode", "required", *flags, **kw)
        self.url = self.server.url

    def write(self, config):
        self.file.write_text(f"keys: {self.keys}\n" + config)

    def reload(self, config=None, status=200):
        if config is not None:
            self.write(config)
        got, _, answer = ask(self, "/v1/reload", {}, "boss")
        assert got == status, answer
        return answer

    def call(self, model="tiny", key="clerk", **more):
        return ask(self, "/v1/completions", {**COMPLETION, "model": model, **more}, key)

    def config_of(self, call):
        (record,) = bodies(self.folder, CALL, call)
        return record["config"]


@pytest.fixture
def site(serve, tmp_path):  # noqa: F811
    return lambda config=ONE, *flags, **kw: Site(serve, tmp_path, config, *flags, **kw)


def test_what_can_change_at_run_time_does_and_calls_say_which_configuration_they_had(site):
    s = site()
    _, headers, _ = s.call()
    before = s.config_of(headers["x-serin-call"])
    assert s.call("gpt")[0] == 404 and ask(s, "/metrics")[0] == 401
    s.keys.write_text(KEYS + "late late-secret-0123456789\n")
    answer = s.reload(ONE.replace("small", "gpt") + "metrics_open: true\nlimits: {max_tokens: 1, body: 2KiB}\n"
                      "routes:\n  - {name: few, match: {key: late}, content: none}\n")
    assert answer["previous"] == before and answer["needs_restart"] == []
    assert sorted(answer["changed"]) == ["keys.late (added)", "limits.body", "limits.max_tokens", "metrics_open",
                                         "models.tiny.aliases", "routes.few (added)"]
    status, headers, reply = s.call("gpt", "late")
    assert status == 200 and reply["usage"]["completion_tokens"] == 1
    (record,) = bodies(s.folder, CALL, headers["x-serin-call"])
    assert record["config"] == answer["config"] != before and record["route"] == "few"
    assert s.call("small")[0] == 404 and ask(s, "/metrics")[0] == 200
    assert s.call(prompt="a" * 3000)[0] == 413
    told = s.server.wait_log(event="reload")
    assert "boss" in told["detail"] and "limits.max_tokens" in told["detail"]
    m = scrape(s)
    assert value(m, "serin_config_reloads_total", result="done") == 1
    assert value(m, "serin_config_reloads_total", result="refused") == 0
    assert s.server.stop() == 0
    (event,) = events(s.folder, "reload")
    assert (event["by"], event["from"], event["to"], event["changed"]) == ("boss", before, answer["config"], answer["changed"])
    assert [e["id"] for e in events(s.folder, "config")] == [before, answer["config"]]
    assert "secret" not in json.dumps(events(s.folder, "config") + [event])
    check_chain(s.folder)


@pytest.mark.parametrize("wrong,says", [
    ("models: [}\n", "serin.yaml:"),
    (ONE + "limitz: {}\n", "limitz: there is no such key"),
    (ONE + "routes:\n  - {name: r, model: nobody}\n", "there is no model 'nobody'"),
    (ONE + "  - {name: two, path: /nowhere/two.gguf}\n", "two.gguf"),
    (ONE + "  - {name: two, path: BROKEN}\n", "model 'two'"),
    (ONE + "routes:\n  - {name: r, match: {key: stranger}}\n", "has no key 'stranger'"),
])
def test_what_is_wrong_changes_nothing_and_says_why(site, tmp_path, wrong, says):
    s = site(ONE + "limits: {max_tokens: 2}\n")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(TINY.read_bytes()[:5000])
    error = s.reload(wrong.replace("BROKEN", str(broken)), 400)["error"]
    assert error["code"] == "invalid_configuration" and says in error["message"]
    assert says in s.server.wait_log(event="reload_refused")["detail"]
    _, headers, reply = s.call(max_tokens=9)
    assert reply["usage"]["completion_tokens"] == 2 and states(s) == {"tiny": True}
    (first,) = events(s.folder, "config")
    assert s.config_of(headers["x-serin-call"]) == first["id"]
    (event,) = events(s.folder, "reload_refused")
    assert says in event["what"] and event["by"] == "boss" and event["config"] == first["id"]
    assert not events(s.folder, "reload")
    assert 'serin_config_reloads_total{result="refused"} 1\n' in ask(s, "/metrics", key="boss")[2]


def test_broken_keys_keep_the_old_ones(site):
    s = site()
    s.keys.write_text("boss\n")
    message = s.reload(ONE + "metrics_open: true\n", 400)["error"]["message"]
    assert "keys.txt:1" in message
    assert s.call()[0] == 200 and ask(s, "/metrics")[0] == 401


def test_what_needs_a_restart_is_named_and_stays(site):
    s = site()
    fixed = ("listen: 127.0.0.1:1\ntls: {cert: CERT, key: KEY}\nledger: {queue: 50, patience: 1s, mode: buffered}\n"
             "limits: {queue: 7, connections: 9, connections_per_ip: 3, header: 16KiB, stops: 3}\n")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", s.folder / "key.pem", "-out",
                    s.folder / "cert.pem", "-subj", "/CN=localhost", "-days", "2"], check=True, capture_output=True)
    fixed = fixed.replace("CERT", str(s.folder / "cert.pem")).replace("KEY", str(s.folder / "key.pem"))
    # Flags win over the file, as at the start: the address, the ledger's place and its mode stay whatever it says.
    answer = s.reload(ONE + fixed)
    assert answer["changed"] == ["limits.stops"]
    assert sorted(answer["needs_restart"]) == sorted(
        ["tls.cert", "tls.key", "ledger.queue", "ledger.patience", "limits.queue", "limits.connections",
         "limits.connections_per_ip", "limits.header"])
    assert s.call()[0] == 200
    again = s.reload()  # what stayed is said again, and is still not in force
    assert again["changed"] == [] and again["needs_restart"] == answer["needs_restart"]
    assert again["config"] == again["previous"] == answer["config"]


def test_models_come_go_and_are_exchanged(site):
    s = site()
    tiny = {m["id"]: m for m in ask(s, "/v1/models", key="boss")[2]["data"]}["tiny"]["weights"]
    assert s.reload(ONE + BIG)["changed"] == ["models.big (added)"]
    assert states(s) == {"tiny": True, "big": True}
    first = s.call("big")[2]["choices"][0]["text"]
    # the same name for other weights; the old ones go
    assert sorted(s.reload(f"models:\n  - {{name: tiny, path: {OTHER}}}\n")["changed"]) == [
        "models.big (removed)", "models.tiny.aliases", "models.tiny.path"]
    assert states(s) == {"tiny": True} and s.call("big")[0] == 404
    assert s.call()[2]["choices"][0]["text"] == first
    now = {m["id"]: m for m in ask(s, "/v1/models", key="boss")[2]["data"]}["tiny"]["weights"]
    assert now != tiny
    s.server.wait_log(event="model_unloaded", detail="tiny")
    s.server.wait_log(event="model_unloaded", detail="big")
    assert not mapped(s.server, TINY)
    # a lazy one waits for its first request, and one that was added at run time stays
    assert ask(s, "/v1/models/load", {"model": "extra", "path": str(TINY)}, "boss")[0] == 200
    s.reload(f"models:\n  - {{name: tiny, path: {OTHER}}}\n  - {{name: slow, path: {TINY}, lazy: true}}\n")
    assert states(s) == {"tiny": True, "slow": False, "extra": True}
    assert s.call("slow")[0] == 200 and states(s)["slow"]
    # what was lazy and is not any more is loaded before anybody asks; what was added gets a place in the file
    assert ask(s, "/v1/models/unload", {"model": "slow"}, "boss")[0] == 200
    s.reload(f"models:\n  - {{name: slow, path: {TINY}}}\n  - {{name: extra, path: {TINY}, aliases: [e]}}\n")
    assert states(s) == {"slow": True, "extra": True} and s.call("e")[0] == 200


def stream(s, **more):
    """A streamed answer that has begun: its connection and its response, read up to the first event."""
    c = http.client.HTTPConnection(s.url.removeprefix("http://"), timeout=120)
    c.request("POST", "/v1/completions", json.dumps({**COMPLETION, "stream": True, **more}),
              {"Authorization": "Bearer clerk-secret-0123456789"})
    r = c.getresponse()
    assert r.status == 200
    first = r.readline()
    assert first.startswith(b"data: ")
    return c, r


def test_a_running_answer_keeps_its_model_and_its_limits(site, tmp_path):
    path = tiny_model.make(tmp_path / "long.gguf", ctx=8192)
    s = site(f"models:\n  - {{name: tiny, path: {path}}}\n  - {{name: big, path: {OTHER}}}\n")
    c, r = stream(s, max_tokens=6000)
    call = r.getheader("x-serin-call")
    answer = s.reload(f"models:\n  - {{name: big, path: {OTHER}}}\nlimits: {{max_tokens: 3}}\n")
    assert states(s) == {"big": True} and s.call("tiny")[0] == 404
    assert s.call("big", max_tokens=9)[2]["usage"]["completion_tokens"] == 3
    rest = r.read().decode()
    assert rest.rstrip().endswith("data: [DONE]") and '"finish_reason":"length"' in rest
    c.close()
    assert s.config_of(call) == answer["previous"]
    (record,) = bodies(s.folder, CALL, call)
    assert record["tokens"]["output"] == 6000
    s.server.wait_log(event="model_unloaded", detail="tiny")  # only once nobody needs it


def test_a_request_whose_body_is_still_to_come_has_begun(site):
    s = site(ONE + BIG)
    body = json.dumps({**COMPLETION, "model": "big", "max_tokens": 5}).encode()
    host, port = s.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as c:
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
                  b"Authorization: Bearer clerk-secret-0123456789\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert c.recv(100).startswith(b"HTTP/1.1 100")
        s.keys.write_text(KEYS.splitlines()[0] + "\n")
        answer = s.reload(ONE + "limits: {max_tokens: 2}\n")
        assert states(s) == {"tiny": True} and s.call("big")[0] == 401
        c.sendall(body)
        reply = b"".join(iter(lambda: c.recv(65536), b"")).decode()
    assert reply.startswith("HTTP/1.1 200") and '"completion_tokens":5' in reply
    (record,) = [b for b in bodies(s.folder, CALL) if b["status"] == 200]
    assert (record["config"], record["key"], record["model"]) == (answer["previous"], "clerk", "big")
    s.server.wait_log(event="model_unloaded", detail="big")


def test_no_request_fails_during_50_reloads(site):
    s = site()
    configs = [ONE + "limits: {max_tokens: 4}\n", ONE + BIG, ONE.replace("small", "small, s2") + "metrics_open: true\n",
               ONE + "routes:\n  - {name: r, match: {alias: small}, model: tiny, content: none}\n"]
    over, ids = [], set()

    def ask_on(i):
        n = 0
        while not over:
            status, headers, reply = s.call(("tiny", "small")[i % 2])
            assert status == 200, reply
            ids.add(headers["x-serin-call"])
            n += 1
        return n

    def reload_on():
        seen = []
        for i in range(50):
            if i % 10 == 9:
                s.server.process.send_signal(signal.SIGHUP)
            answer = s.reload(configs[i % len(configs)])
            seen += [answer["previous"], answer["config"]]
        return seen
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        askers = [pool.submit(ask_on, i) for i in range(8)]
        try:
            configurations = reload_on()
        finally:
            over.append(True)
        assert sum(a.result() for a in askers) == len(ids)
    assert s.server.stop() == 0
    records = {b["id"]: b for b in bodies(s.folder, CALL)}
    assert set(records) == ids
    assert {r["config"] for r in records.values()} <= set(configurations)
    told = events(s.folder, "reload")
    assert len([e for e in told if e["by"] == "boss"]) == 50 and all(a["to"] == b["from"] for a, b in zip(told, told[1:]))
    check_chain(s.folder)


def test_retention_changes_without_a_restart(site):
    s = site()
    answer = s.reload(ONE + "ledger: {retention: 30d, max_size: 1GiB, keep_weights: true, content: full}\n")
    assert sorted(answer["changed"]) == ["ledger.content", "ledger.keep_weights", "ledger.max_size", "ledger.retention"]
    _, headers, _ = s.call()
    record = bodies(s.folder, CALL, headers["x-serin-call"])[0]
    assert record["policy"] == "full" or record["content"]["policy"] == "full"


def test_connections_wait_for_requests_as_long_as_the_new_configuration_says(site):
    short = ONE + "limits: {idle_timeout: 1s, header_timeout: 3s}\n"
    s = site(short)
    host, port = s.url.removeprefix("http://").split(":")
    old, kept, slow = (socket.create_connection((host, int(port)), timeout=60) for _ in range(3))
    hello = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask_on(c):
        c.sendall(hello)
        return c.recv(65536)
    assert all(b" 200 " in ask_on(c) for c in (old, kept, slow))
    assert s.reload(short.replace("1s", "1min"))["changed"] == ["limits.idle_timeout"]
    assert b" 200 " in ask_on(kept) and b" 200 " in ask_on(slow)
    slow.sendall(b"GET /health HTTP/1.1\r\n")
    assert old.recv(100) == b"" and b" 408 " in slow.recv(1000)  # so the old time is over, by far
    assert b" 200 " in ask_on(kept)
    for c in (old, kept, slow):
        c.close()


def test_only_admins_reload(site):
    s = site()
    assert ask(s, "/v1/reload", {}, "clerk")[0] == 403 and ask(s, "/v1/reload", {})[0] == 401


def test_serin_reload_says_what_changed(site, tmp_path):
    s = site()

    def reload(*args):
        return subprocess.run([SERIN, "reload", "--ledger", s.folder, *args], capture_output=True, text=True, timeout=120)
    same = reload()
    assert same.returncode == 0 and "nothing changed" in same.stdout
    s.write(ONE + "limits: {stops: 3, queue: 5}\n")
    done = reload()
    assert done.returncode == 0 and "changed: limits.stops\n" in done.stdout
    assert "needs a restart, and stays as it was: limits.queue" in done.stderr
    s.write(ONE + "limits: {stops: 5000}\n")
    wrong = reload()
    assert wrong.returncode != 0 and "stops: must be from 0 to 64" in wrong.stderr and "serin.yaml:" in wrong.stderr
    s.write(ONE)
    answer = json.loads(reload("--json").stdout)
    assert answer["changed"] == ["limits.stops"] and answer["needs_restart"] == []
    assert s.server.stop() == 0
    assert {e["by"] for e in events(s.folder, "reload")} == {"local"}


def test_systemd_is_told_of_a_reload_and_of_its_end(site, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(60)
        s = site(env={"NOTIFY_SOCKET": str(path), "SERIN_CACHE": str(tmp_path / "cache")})
        assert told.recv(200) == b"READY=1"
        s.server.process.send_signal(signal.SIGHUP)
        assert told.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=") and told.recv(200) == b"READY=1"
        s.server.wait_log(event="reload")
