"""serin serve with its ledger in PostgreSQL: calls are recorded there, commands read them there, a database that crashes
under load loses nothing that was acknowledged, and the password is nowhere to be seen."""
import http.client
import json
import os
import subprocess
import threading
import urllib.error
import urllib.request

import pytest

from postgres import PASSWORD, postgres  # noqa: F401
from server import Server, tiny_as

WAIT = 120
CALL = 2


class Recorded:
    """A server of the tiny model with a database of its own."""

    def __init__(self, postgres, folder, *args):
        self.postgres, self.database = postgres, postgres.database()
        self.url, self.state = postgres.url(self.database), folder / "state"
        self.env = {"XDG_STATE_HOME": str(self.state)}
        self.args = args
        self.start()

    def start(self):
        self.server = Server(tiny_as("tiny.gguf"), "--parallel", "4", "--ledger", self.url, "--ledger-keys",
                             self.state / "keys", *self.args, env=self.env)

    def ask(self, **more):
        """Status and id of a call."""
        body = {"messages": [{"role": "user", "content": "the sea"}], "max_tokens": 6, "ignore_eos": True, **more}
        request = urllib.request.Request(self.server.base_url + "/chat/completions", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=WAIT) as r:
                json.loads(r.read())
                return r.status, r.headers["x-serin-call"]
        except urllib.error.HTTPError as e:
            return e.code, e.headers["x-serin-call"]

    def bodies(self, kind):
        rows = self.postgres.sql(f"SELECT body FROM serin.records WHERE kind = {kind} ORDER BY seq", self.database)
        return [json.loads("|".join(row)) for row in rows]

    def command(self, *args, status=0):
        done = subprocess.run([os.environ["SERIN"], *args, "--ledger", self.url, "--keys", self.state / "keys"],
                              capture_output=True, text=True, timeout=WAIT, env={**os.environ, **self.env})
        assert done.returncode == status, done.stdout + done.stderr
        assert PASSWORD not in done.stderr
        return done.stdout


@pytest.fixture
def recorded(postgres, tmp_path):
    made = []

    def start(*args):
        made.append(Recorded(postgres, tmp_path, *args))
        return made[-1]
    yield start
    assert not any([r.server.stop() for r in made if r.server.process.returncode is None])


def test_calls_are_recorded_and_read_again(recorded):
    s = recorded("--ledger-mode", "required")
    ids = [s.ask(max_tokens=n)[1] for n in range(1, 6)]
    listed = json.loads(s.command("calls", "list", "--json"))["data"]
    assert [c["id"] for c in listed] == ids[::-1]
    assert ids[2] in s.command("calls", "show", ids[2])
    assert json.loads(s.command("calls", "stats", "--json"))
    assert json.loads(s.command("ledger", "status", "--json"))["records"] >= 10
    assert s.server.stop() == 0
    verified = json.loads(s.command("ledger", "verify", "--json"))
    assert verified["ok"] and verified["checkpoints"] >= 1
    assert PASSWORD not in "".join(s.server.lines)
    assert not [b for kind in range(1, 7) for b in s.bodies(kind) if PASSWORD in json.dumps(b)]


def test_a_start_goes_on_where_the_last_one_ended(recorded):
    s = recorded("--ledger-mode", "required")
    first = s.ask()[1]
    assert s.server.stop() == 0
    s.start()
    second = s.ask()[1]
    assert s.server.stop() == 0
    assert [b["id"] for b in s.bodies(CALL)] == [first, second]
    assert json.loads(s.command("ledger", "verify", "--json"))["ok"]


def test_a_database_that_crashes_under_load_loses_nothing_that_was_acknowledged(recorded, postgres):
    s = recorded("--ledger-mode", "required")
    lock, ending, told = threading.Lock(), threading.Event(), threading.Condition()
    acknowledged, refused = [], []

    def client():
        while not ending.is_set():
            try:
                status, call = s.ask(max_tokens=3)
            except (OSError, http.client.HTTPException):
                continue  # cut off: nothing was acknowledged
            assert status in (200, 503), status
            with told:
                (acknowledged if status == 200 else refused).append(call)
                told.notify_all()

    def wait_more(n):
        with told:
            enough = len(acknowledged) + n
            assert told.wait_for(lambda: len(acknowledged) >= enough, WAIT), "no call is taken any more"
    clients = [threading.Thread(target=client, daemon=True) for _ in range(4)]
    for c in clients:
        c.start()
    for _ in range(2):
        wait_more(15)
        postgres.crash()
        with told:
            before = len(refused)
            assert told.wait_for(lambda: len(refused) > before, WAIT), "nothing is refused without a database"
        postgres.start()
    wait_more(15)
    ending.set()
    for c in clients:
        c.join(WAIT)
    assert s.server.stop() == 0
    recorded_ids = [b["id"] for b in s.bodies(CALL)]
    assert len(recorded_ids) == len(set(recorded_ids))
    assert not set(acknowledged) - set(recorded_ids)
    assert json.loads(s.command("ledger", "verify", "--json"))["ok"]
    assert PASSWORD not in "".join(s.server.lines)


def test_a_server_with_other_keys_is_refused_without_the_password(recorded, postgres, tmp_path):
    s = recorded()
    with pytest.raises(RuntimeError, match="copy the keys folder") as why:
        Server(tiny_as("tiny.gguf"), "--ledger", s.url, "--ledger-keys", tmp_path / "other",
               env={"XDG_STATE_HOME": str(tmp_path / "other")})
    assert PASSWORD not in str(why.value)
