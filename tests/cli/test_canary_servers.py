"""Several servers that share a ledger in PostgreSQL: one subject has one arm on all of them, their evidence adds up, what ends a
roll-out on one ends it on the others within two seconds, labels follow, and one that is killed takes nobody's calls with it."""
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from ledger_help import connect
from postgres import postgres  # noqa: F401
from server import TINY, Server, tiny_as
from test_canary_api import ADMIN, act, begin, call, config, findings, gate, kill_with_a_canary_in_flight, webhook  # noqa: F401
from test_canary_assign import arm, ask

WITHIN = 20 if TINY else 2  # seconds; a sanitizer is slow
USERS = [f"user {i}" for i in range(24)]


class Fleet:
    """Servers of two tiny models, with one database and one key; each has a folder."""

    def __init__(self, postgres, folder):
        self.postgres, self.name, self.folder, self.servers = postgres, postgres.database(), folder, {}

    def place(self, which):
        return ["--ledger", self.postgres.url(self.name), "--ledger-folder", self.folder / which]

    def start(self, which, more=""):
        if self.servers and not (self.folder / which / "keys").exists():
            first = next(iter(self.servers))
            shutil.copytree(self.folder / first / "keys", self.folder / which / "keys")
        self.servers[which] = Server("--config", config(self.folder, more), *self.place(which), "--ledger-mode", "required")
        return self.servers[which]

    def kill(self, which):
        self.servers[which].process.kill()
        self.servers[which].stop()

    def sql(self, text):
        return self.postgres.sql(text, self.name)

    def events(self, name):
        rows = self.sql("SELECT body FROM serin.records WHERE kind = 3 ORDER BY seq")
        return [e for e in (json.loads("|".join(r)) for r in rows) if e["event"] == name]

    def end(self):
        assert not any([s.stop() for s in self.servers.values() if s.process.returncode is None])
        done = subprocess.run([os.environ["SERIN"], "ledger", "verify", *map(str, self.place(next(iter(self.servers))))],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and done.stdout.startswith("whole: "), done.stdout + done.stderr
        assert self.sql("SELECT count(*) FROM serin.open") == [["0"]]


@pytest.fixture
def fleet(postgres, tmp_path):
    f = Fleet(postgres, tmp_path)
    yield f
    f.end()


def until(what):
    """Asks until it is so; the seconds that it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < 60, "it does not come"
    return time.monotonic() - began


def seen(server):
    return sum(findings(server).get("error", {"calls": []})["calls"])


def begin_for(a, b, **more):
    """On a; b has it too."""
    begin(a, **more)
    until(lambda: call(b, "/v1/rollouts")[1]["data"])


def test_a_subject_has_one_arm_on_all_servers_and_the_evidence_is_of_all(fleet):
    a, b = fleet.start("a"), fleet.start("b")
    begin_for(a, b, steps=["50%"])
    arms = {u: arm(ask(a, user=u)[0]) for u in USERS}
    assert set(arms.values()) == {"canary", "control"}
    assert {u: arm(ask(b, "Another conversation.", user=u)[0]) for u in USERS} == arms
    for s in (a, b):
        until(lambda: seen(s) == 2 * len(USERS))
    assert findings(a)["error"]["calls"] == findings(b)["error"]["calls"]
    n = Counter(arms.values())
    assert sorted(findings(a)["error"]["calls"]) == sorted(2 * c for c in n.values())


def test_a_conversation_keeps_its_arm_on_the_next_server_whatever_the_share_does(fleet):
    a, b = fleet.start("a"), fleet.start("b")
    begin_for(a, b, steps=["10%", "50%"])
    arms = {u: arm(ask(a, user=u)[0]) for u in USERS}
    assert "baseline" in arms.values()
    until(lambda: seen(b) == len(USERS))  # so it knows these conversations
    assert act(a, "step", step=1)[0] == 200
    for u in USERS:
        header = ask(b, user=u)[0]
        assert arm(header) == arms[u] and "why=pinned" in header
    assert {arm(ask(b, "Another conversation.", user=u)[0]) for u in USERS} == {"canary", "control"}


def test_a_roll_back_on_one_server_ends_the_canary_on_the_other(fleet):
    a, b = fleet.start("a"), fleet.start("b")
    begin_for(a, b, steps=["50%"])
    user = next(u for u in USERS if arm(ask(b, user=u)[0]) == "canary")
    assert act(a, "roll_back", why="enough")[0] == 200
    took = until(lambda: arm(ask(b, user=user)[0]) != "canary")
    print(f"after {1000 * took:.0f} ms")
    assert took < WITHIN
    assert call(b, "/v1/rollouts/trial")[1]["why"] == "enough"


def test_a_verdict_is_one_for_all_and_its_webhook_is_called_once(fleet, webhook):
    got, url = webhook
    a, b = fleet.start("a"), fleet.start("b")
    begin_for(a, b, steps=["50%"], webhook=url)
    for s in (a, b):
        call(s, "/v1/models/unload", {"model": "other"})  # every call of the canary falls back, which is its failure
    for i in range(400):
        if ask((a, b)[i % 2], user=f"user {i}")[0] == "":
            break
    for s in (a, b):
        until(lambda: call(s, "/v1/rollouts/trial")[1]["phase"] == "rolled_back")
        took = until(lambda: ask(s, user="user 3")[0] == "")
        assert took < WITHIN
    fleet.end()
    assert got.get(timeout=60)[1]["event"] == "rollout_rolled_back" and got.empty()
    said = [line for s in (a, b) for line in s.lines if '"rollout_rolled_back"' in line]
    assert len(said) == 1
    assert 1 <= len(fleet.events("rollout_rolled_back")) <= 2


def test_of_two_that_act_at_once_one_is_told_that_the_other_was_faster(fleet):
    servers = [fleet.start("a"), fleet.start("b")]
    begin_for(*servers, steps=["50%"])
    for action in ("pause", "resume") * 4:
        ready, told = threading.Barrier(2), []

        def go(s):
            ready.wait()
            told.append(act(s, action)[0])
        threads = [threading.Thread(target=go, args=(s,)) for s in servers]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert min(told) == 200 and max(told) in (400, 409), (action, told)


def test_servers_with_one_file_begin_its_roll_out_once(fleet):
    declared = ("canary:\n  - {name: trial, kind: different, baseline: small, canary: other, steps: [50%]}\n")
    started = []
    fleet.start("a").stop()  # makes the keys
    fleet.servers.clear()
    for which in ("b", "c"):
        shutil.copytree(fleet.folder / "a" / "keys", fleet.folder / which / "keys")
    threads = [threading.Thread(target=lambda w=w: started.append(fleet.start(w, declared))) for w in ("b", "c")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(started) == 2
    for s in started:
        assert call(s, "/v1/rollouts/trial")[1]["phase"] == "running"
        names = [e["event"] for e in call(s, "/v1/rollouts/trial/history")[1]["data"]]
        assert set(names) == {"rollout_started"}


def prompt(content):
    return {"name": "p", "text": f"messages: [{{role: system, content: {content}}}]"}


def test_prompts_and_labels_of_one_server_are_those_of_the_other(fleet):
    a, b = fleet.start("a"), fleet.start("b")
    assert call(a, "/v1/prompts", prompt("One."))[1]["version"] == 1
    assert call(b, "/v1/prompts", prompt("Two."))[1]["version"] == 2  # whether it has seen the first or not
    assert call(a, "/v1/prompts/p/labels", {"label": "production", "version": 2})[0] == 200
    took = until(lambda: call(b, "/v1/prompts/p")[1].get("labels") == {"production": 2})
    assert took < WITHIN
    assert call(b, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 200
    assert call(a, "/v1/prompts/p/labels", {"label": "production", "version": 2})[0] == 200
    assert until(lambda: call(b, "/v1/prompts/p")[1]["labels"] == {"production": 2}) < WITHIN
    assert [e["to"] for e in fleet.events("label_moved")] == [2, 1, 2]
    assert call(a, "/v1/freeze", {"on": True, "why": "audit"})[0] == 200
    assert until(lambda: call(b, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 409) < WITHIN


class Open:
    """A call under way, of a server that stands still in its midst: it is recorded as open, and lives."""

    def __init__(self, fleet, which):
        self.fleet, self.server = fleet, fleet.servers[which]
        while True:
            self.connection = connect(self.server)
            self.connection.request("POST", "/v1/chat/completions", json.dumps(
                {"model": "small", "stream": True, "ignore_eos": True, "max_tokens": 480,
                 "messages": [{"role": "user", "content": "Hello."}]}),
                {"Authorization": f"Bearer {ADMIN}"})
            self.answer = self.connection.getresponse()
            self.answer.readline()
            self.id = self.answer.headers["x-serin-call"]
            self.server.process.send_signal(signal.SIGSTOP)
            if self.is_open() and not self.commits():
                return
            self.server.process.send_signal(signal.SIGCONT)
            self.answer.read()

    def is_open(self):
        return self.fleet.sql("SELECT r.body FROM serin.open o JOIN serin.records r ON r.seq = o.seq"
                              f" WHERE r.body LIKE '%{self.id}%'") != []

    def commits(self):
        """Whether somebody has the chain: the call has just ended, and others would wait for who stands still."""
        return self.fleet.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1397902924 AND objid = 1") != []

    def finish(self):
        rows = self.fleet.sql("SELECT body FROM serin.records r JOIN serin.calls c USING (seq)"
                              f" WHERE r.body LIKE '%{self.id}%'")
        return json.loads("|".join(rows[0]))["finish"] if rows else None


def test_a_server_that_is_killed_takes_nobodys_calls_with_it(fleet):
    fleet.start("a"), fleet.start("b")
    dies, lives = Open(fleet, "a"), Open(fleet, "b")
    fleet.kill("a")
    again = fleet.start("a")  # closes what it has left itself
    assert dies.finish() == "interrupted" and lives.is_open()
    lives.server.process.send_signal(signal.SIGCONT)
    assert b"[DONE]" in lives.answer.read()
    assert lives.finish() == "length"
    dies = Open(fleet, "a")
    fleet.kill("a")
    assert again.process.returncode is not None and dies.is_open()
    until(lambda: dies.finish())  # by the other one, after a while
    assert dies.finish() == "interrupted"
    lives.server.wait_log(event="ledger_interrupted")
    assert ask(lives.server, "Still here.")[1]


def test_a_server_that_is_killed_pauses_the_roll_out_of_all_when_it_is_back(fleet):
    a, b = fleet.start("a"), fleet.start("b")
    begin_for(a, b, steps=["50%"])
    kill_with_a_canary_in_flight(a)
    assert call(b, "/v1/rollouts/trial")[1]["phase"] == "running"
    fleet.start("a")
    assert len(fleet.events("rollout_crashed")) == 1
    assert until(lambda: "why=paused" in ask(b, "New.", user="somebody new")[0]) < WITHIN
