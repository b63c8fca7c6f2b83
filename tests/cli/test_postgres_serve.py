"""serin serve with a ledger in PostgreSQL: all commands work with it, its password is shown nowhere, and while the database is
restarted or killed under load nothing that was acknowledged is lost, nothing is there twice, and refusals say what they are."""
import http.client
import json
import os
import random
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from ledger_help import SECRET, WAIT, ask, chat, connect, ledger_metrics
from postgres import PASSWORD, postgres  # noqa: F401
from server import Server, smol_like, tiny_as

PROMPT = "messages: [{role: user, content: 'Say something about {{what}}.'}]\nvariables: {what: {type: string}}\n"


class Kept:
    """A server whose ledger is in a database of its own; said: all that was printed by it and by commands."""

    def __init__(self, postgres, folder, keys_file, model, *args):
        self.postgres, self.name, self.folder = postgres, postgres.database(), Path(folder)
        self.args = (model, "--keys", keys_file, "--ledger", postgres.url(self.name), "--ledger-folder", folder, "--parallel", "4", *args)
        self.said = []
        self.start()

    def start(self):
        self.server = Server(*self.args)
        self.url = self.server.url

    def stop(self):
        status = self.server.stop()
        self.said += self.server.lines
        return status

    def serin(self, *args, code=0, place=None, env=None):
        where = ["--ledger", self.postgres.url(self.name), "--ledger-folder", self.folder] if place is None else place
        p = subprocess.run([os.environ["SERIN"], *map(str, [*args, *where])], capture_output=True, text=True, timeout=WAIT,
                           env={**os.environ, **(env or {})})
        self.said += [p.stdout, p.stderr]
        assert p.returncode == code, (args, p.stdout, p.stderr)
        return p.stdout

    def bodies(self, kind):
        rows = self.postgres.sql(f"SELECT encode(convert_to(body, 'UTF8'), 'hex') FROM serin.records WHERE kind = {kind} ORDER BY seq",
                                 self.name)
        return [json.loads(bytes.fromhex(r[0])) for r in rows]

    def verify(self):
        assert self.serin("ledger", "verify").startswith("whole: ")


@pytest.fixture
def kept(postgres, tmp_path, keys_file):
    made = []

    def start(*args, model=None):
        made.append(Kept(postgres, tmp_path / "here", keys_file, model or tiny_as("tiny.gguf"), *args))
        return made[-1]
    yield start
    if not postgres.process:
        postgres.start()
    for k in made:
        if k.server.process.returncode is None:
            k.stop()


def test_all_commands_work_and_none_shows_the_password(kept, tmp_path):
    k = kept("--ledger-mode", "required", "--ledger-content", "encrypted", model=smol_like())
    (tmp_path / "say.yaml").write_text(PROMPT)
    k.serin("prompts", "push", "say", tmp_path / "say.yaml", "--label", "production")  # through the server
    assert json.loads(k.serin("prompts", "list", "--json"))["data"][0]["name"] == "say"
    answers = []

    def call(path, body=None, key="alice"):
        status, headers, text = ask(k, path, body, key=key)
        answers.append(text)
        answers.extend(f"{n}: {v}" for n, v in headers.items())
        return status, headers, text
    status, headers, _ = call("/v1/chat/completions", {"prompt": {"id": "say", "variables": {"what": "the sea"}}, "max_tokens": 6, "ignore_eos": True, "user": "ann"})
    assert status == 200 and headers["x-serin-prompt"]
    first = headers["x-serin-call"]
    assert call("/v1/chat/completions", chat(user="bert", stream=True))[0] == 200
    assert call("/v1/chat/completions", b"{")[0] == 400
    assert call("/v1/feedback", {"call": first, "score": 1, "comment": "fine"})[0] == 200
    for path in ("/v1/calls", f"/v1/calls/{first}?content=1", "/v1/calls/stats", "/v1/calls/export", "/v1/prompts", "/v1/ps", "/v1/models",
                 "/health/ready", "/metrics"):
        assert call(path, key="root")[0] == 200, path
    listed = json.loads(k.serin("calls", "list", "--json"))["data"]
    assert len(listed) == 3 and listed[-1]["id"] == first and listed[-1]["prompt"]["name"] == "say"
    shown = json.loads(k.serin("calls", "show", first, "--content", "--json"))
    assert "the sea" in shown["content"]["request"] and shown["feedback"][0]["score"] == 1
    assert [r["id"] for r in json.loads(k.serin("calls", "list", "--subject", "ann", "--json"))["data"]] == [first]
    assert sum(g["calls"] for g in json.loads(k.serin("calls", "stats", "--json"))["data"]) == 3
    assert len(k.serin("calls", "export").splitlines()) == 3
    k.serin("calls", "blame", "ttft", code=2)  # it has read them: they are too few
    assert "at least 100 are needed" in k.said[-1]
    assert json.loads(k.serin("replay", first, "--json"))["same"] == 1
    status = json.loads(k.serin("ledger", "status", "--json"))
    assert status["writer"]["address"] == k.url and status["records"] >= 8 and status["ledger"].startswith("postgresql://serin@")
    k.serin("ledger", "status")
    k.verify()
    k.serin("ledger", "checkpoint", code=2 if not status["signed_seq"] else 0)
    k.serin("ledger", "forget", "--tenant", "alice", "--subject", "ann")
    assert json.loads(k.serin("calls", "show", first, "--content", "--json"))["content"] is None
    k.serin("ledger", "backup", tmp_path / "copy", code=2, place=["--ledger", k.postgres.url(k.name)])
    assert "pg_dump" in k.said[-1]
    assert json.loads(k.serin("ps", "--json"))["data"] == []
    k.serin("calls", "list", place=["--ledger", k.postgres.url("no-such-database"), "--ledger-folder", k.folder], code=1)
    k.serin("calls", "list", place=["--ledger", "postgresql://serin:" + PASSWORD + "@127.0.0.1:1/x", "--ledger-folder", k.folder], code=1)
    # found by the running server; its address there has no password, which libpq takes from elsewhere
    found = json.loads(k.serin("calls", "list", "--json", place=["--ledger-folder", k.folder], env={"PGPASSWORD": PASSWORD}))["data"]
    assert len(found) == 3
    command_line = Path(f"/proc/{k.server.process.pid}/cmdline").read_bytes()
    assert b"postgresql://serin@" in command_line and PASSWORD.encode() not in command_line
    with pytest.raises(RuntimeError) as refused:
        Server(*k.args)
    assert k.stop() == 0
    k.serin("ledger", "verify", "--json")
    k.serin("prompts", "history", "say")
    k.serin("ledger", "checkpoint")
    assert [e["event"] for e in k.bodies(3)][0] == "start"
    everything = "\n".join([*k.said, *answers, str(refused.value), *(p.read_text(errors="replace") for p in k.folder.rglob("*") if p.is_file()),
                            json.dumps([k.bodies(kind) for kind in (1, 2, 3, 4, 5)])])
    assert PASSWORD not in everything and len(everything) > 10000


class Client(threading.Thread):
    """Calls one after the other until it is told to stop. acknowledged: whose end it saw; refused: sentences of 503s."""

    def __init__(self, kept, seed, on_call):
        super().__init__(daemon=True)
        self.kept, self.r, self.on_call, self.ended = kept, random.Random(seed), on_call, False
        self.acknowledged, self.refused, self.wrong = [], [], []

    def run(self):
        while not self.ended:
            try:
                self.call()
            except (OSError, http.client.HTTPException, ValueError) as e:
                self.wrong.append(repr(e))
                return
            self.on_call(self)

    def call(self):
        stream = self.r.random() < 0.5
        c = connect(self.kept)
        c.request("POST", "/v1/chat/completions", json.dumps(chat(stream=stream, max_tokens=self.r.randint(1, 20))),
                  {"Authorization": f"Bearer {SECRET['alice']}"})
        r = c.getresponse()
        call = r.headers["x-serin-call"]
        try:
            text = r.read().decode()
        except http.client.IncompleteRead as e:
            text = e.partial.decode()
            if "could not be recorded" not in text or "[DONE]" in text:
                raise
        c.close()
        if r.status == 503:
            self.refused.append(json.loads(text)["error"]["message"])
        elif r.status != 200:
            self.wrong.append(text)
        elif not stream or '"finish_reason":"' in text:
            assert not stream or text.endswith("data: [DONE]\n\n")
            self.acknowledged.append(call)


class Load:
    def __init__(self, kept, n=6):
        seed = random.randrange(1 << 32)
        print("seed", seed)
        self.kept, self.moved = kept, threading.Condition()
        self.clients = [Client(kept, seed + i, self.on_call) for i in range(n)]
        for c in self.clients:
            c.start()

    def on_call(self, client):
        with self.moved:
            self.moved.notify_all()

    def counts(self):
        return sum(len(c.acknowledged) for c in self.clients), sum(len(c.refused) for c in self.clients)

    def until(self, more):
        """Until so many more calls were acknowledged."""
        with self.moved:
            goal = self.counts()[0] + more
            assert self.moved.wait_for(lambda: self.counts()[0] >= goal or any(c.wrong for c in self.clients), WAIT)

    def until_refused(self):
        with self.moved:
            goal = self.counts()[1] + 1
            assert self.moved.wait_for(lambda: self.counts()[1] >= goal or any(c.wrong for c in self.clients), WAIT)

    def end(self):
        for c in self.clients:
            c.ended = True
        for c in self.clients:
            c.join(WAIT)
        assert not any(c.wrong for c in self.clients), [c.wrong for c in self.clients]
        return [x for c in self.clients for x in c.acknowledged], [x for c in self.clients for x in c.refused]


def test_required_loses_nothing_while_the_database_restarts_and_crashes(kept, postgres, tmp_path):
    (tmp_path / "serin.yaml").write_text("ledger: {patience: 1s}\n")  # so long a commit of which nobody knows is waited for
    k = kept("--config", tmp_path / "serin.yaml", "--ledger-mode", "required")
    load = Load(k)
    for end in (postgres.stop, postgres.crash, postgres.crash):
        load.until(15)
        end()
        load.until_refused()
        assert ask(k, "/health/ready", key=None)[0] == 503 and ask(k, "/health/live", key=None)[0] == 200
        postgres.start()  # and it comes back by itself
    load.until(15)
    acknowledged, refused = load.end()
    assert refused and all(len(text) > 20 and PASSWORD not in text for text in refused)
    assert ask(k, "/health/ready", key=None)[0] == 200
    assert k.stop() == 0
    calls, intents = [b["id"] for b in k.bodies(2)], [b["id"] for b in k.bodies(1)]
    assert len(calls) == len(set(calls)) and len(intents) == len(set(intents))
    assert set(acknowledged) <= set(calls) & set(intents) and len(acknowledged) == len(set(acknowledged))
    assert not [b for b in k.bodies(2) if b["id"] in set(acknowledged) and (b["status"], b["error"]) != (200, None)]
    assert [e for e in k.bodies(3) if e["event"] == "refused"][-1]["calls"] >= 1
    k.verify()


def test_a_server_that_is_killed_beside_its_database_leaves_every_acknowledged_call(kept, postgres):
    k = kept("--ledger-mode", "required")
    load = Load(k)
    load.until(20)
    postgres.crash()
    k.server.process.kill()
    k.server.process.wait()
    for c in load.clients:
        c.join(WAIT)
    postgres.start()
    k.start()
    assert ask(k, "/v1/chat/completions", chat())[0] == 200
    assert k.stop() == 0
    calls = {b["id"]: b for b in k.bodies(2)}
    acknowledged = {x for c in load.clients for x in c.acknowledged}
    assert len(acknowledged) >= 20 and acknowledged <= set(calls)
    assert not [x for x in acknowledged if calls[x]["finish"] == "interrupted"]
    assert set(calls) >= {b["id"] for b in k.bodies(1)}
    k.verify()


def test_buffered_answers_within_its_bounds_while_the_database_is_away(kept, postgres, tmp_path):
    (tmp_path / "serin.yaml").write_text("ledger: {queue: 10, patience: 1h}\n")
    k = kept("--config", tmp_path / "serin.yaml")
    taken = [ask(k, "/v1/chat/completions", chat())[1]["x-serin-call"]]
    postgres.crash()
    for _ in range(80):
        status, headers, text = ask(k, "/v1/chat/completions", chat())
        if status != 200:
            break
        taken.append(headers["x-serin-call"])
    assert status == 503 and headers["Retry-After"] and json.loads(text)["error"]["message"] and 4 <= len(taken) <= 12
    for _ in range(20):  # what is refused anyway must not heap up in memory
        assert ask(k, "/v1/chat/completions", b"{")[0] == 400
    now = ledger_metrics(k)
    assert now["lost_total"] == 0 and now["refused_total"] >= 1 and now["waiting"] <= 2 and now["queued"] <= 10
    assert ask(k, "/health/ready", key=None)[0] == 503
    postgres.start()
    k.server.wait_log(event="ledger_recovered")
    status, headers, _ = ask(k, "/v1/chat/completions", chat())
    assert status == 200
    taken.append(headers["x-serin-call"])
    assert k.stop() == 0
    calls = [b["id"] for b in k.bodies(2)]
    assert set(taken) <= set(calls) and len(calls) == len(set(calls))
    k.verify()


def test_a_database_that_hangs_does_not_keep_the_server_from_answering(kept):
    k = kept()
    status, headers, _ = ask(k, "/v1/chat/completions", chat(max_tokens=4))
    assert status == 200
    asked = "/v1/calls/" + headers["x-serin-call"]
    ended, moved = [], threading.Condition()

    def look():
        status, _, text = ask(k, asked)
        with moved:
            ended.append((status, text))
            moved.notify_all()

    k.postgres.process.send_signal(signal.SIGSTOP)  # who connects now waits
    try:
        threads = [threading.Thread(target=look) for _ in range(12)]
        for t in threads:
            t.start()
        with moved:
            assert moved.wait_for(lambda: len(ended) >= 10, WAIT)
            assert all(status == 503 for status, _ in ended), ended
            assert all("out of order now" in text and "127.0.0.1" not in text for _, text in ended), ended  # of a tenant's key
            assert any("others wait for its answer" in line for line in k.server.lines), k.server.lines
        assert ask(k, "/v1/chat/completions", chat(max_tokens=4))[0] == 200
    finally:
        k.postgres.process.send_signal(signal.SIGCONT)
    for t in threads:
        t.join()
    assert len(ended) == 12
    assert k.stop() == 0
    k.verify()
