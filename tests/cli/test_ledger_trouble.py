"""A server whose ledger cannot be written, and what it says of it: locked databases, full disks, files that may only be read,
places that are no ledger; names that are no UTF-8; who is asked for by name."""
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import pytest

from ledger_help import (CALL, SECRET, WAIT, Served, ask, bodies, chat, check_chain, connect, empty_disk, events, fill_disk,
                         ledger_metrics, until_taken)
from server import Server, smol_like, tiny_as

SERIN = os.environ["SERIN"]
NOBODY = 65534


def serin(*args, **kw):
    return subprocess.run([SERIN, *map(str, args)], capture_output=True, text=True, timeout=WAIT, **kw)


# ---- it cannot be written ----

@pytest.fixture
def locked():
    """locked(folder): the database is locked by another program until the connection that is returned is closed."""
    held = []

    def lock(folder):
        held.append(sqlite3.connect(folder / "ledger.db", isolation_level=None, timeout=60))
        held[-1].execute("BEGIN EXCLUSIVE")
        return held[-1]
    yield lock
    for db in held:
        db.close()


def ready(s):
    status, _, text = ask(s, "/health/ready", key=None)
    return status, json.loads(text).get("reason")


def test_required_refuses_while_the_database_is_locked(tiny, locked):
    s = tiny("--ledger-mode", "required")
    s.fence()
    before = len(bodies(s.folder, CALL))
    db = locked(s.folder)
    for stream in (True, False):
        for key, says in (("root", "locked"), ("alice", "the record of calls is out of order now")):
            status, headers, text = ask(s, "/v1/chat/completions", chat(stream=stream), key)
            assert status == 503 and headers["Retry-After"] and says in json.loads(text)["error"]["message"]
            assert "[DONE]" not in text and ("locked" in text) == (key == "root")
    assert "locked" in s.server.wait_log(event="ledger_failing")["detail"]
    assert ready(s) == (503, "ledger unavailable")
    assert ask(s, "/health/live", key=None)[0] == 200
    assert len(bodies(s.folder, CALL)) == before
    db.close()
    s.server.wait_log(event="ledger_recovered")  # by itself, while nobody asks
    assert ready(s) == (200, None)
    assert s.only(until_taken(s))["status"] == 200
    assert events(s.folder, "refused")
    assert s.server.stop() == 0
    check_chain(s.folder)


def test_buffered_keeps_what_comes_while_the_database_is_locked(tiny, locked, tmp_path):
    (tmp_path / "serin.yaml").write_text("ledger: {queue: 8, patience: 1h}\n")
    s = tiny("--config", tmp_path / "serin.yaml")
    s.fence()
    db = locked(s.folder)
    taken = []
    for _ in range(60):
        status, headers, _ = ask(s, "/v1/chat/completions", chat())
        if status != 200:
            break
        taken.append(headers["x-serin-call"])
    assert status == 503 and 4 <= len(taken) <= 8 and ready(s)[0] == 503
    assert not set(taken) & {b["id"] for b in bodies(s.folder, CALL)}  # and nothing says that they were there
    now = ledger_metrics(s)
    assert now["lost_total"] == 0 and now["refused_total"] >= 1 and now["queued"] >= 4
    db.close()
    taken.append(until_taken(s))
    s.fence()
    ids = [b["id"] for b in bodies(s.folder, CALL)]
    assert set(taken) <= set(ids) and len(ids) == len(set(ids)) and ready(s) == (200, None)
    check_chain(s.folder)


def test_a_full_disk_makes_a_required_server_unready_until_there_is_room(tiny):
    s = tiny("--ledger-mode", "required")
    s.fence()
    assert ready(s) == (200, None)
    fill_disk(s)
    assert ask(s, "/v1/chat/completions", chat())[0] == 503
    assert ready(s) == (503, "ledger unavailable")
    empty_disk(s)
    s.server.wait_log(event="ledger_recovered")
    assert ready(s) == (200, None)
    for e in events(s.folder, "recovered"):  # none, where the record of the refused call was the first to be written again
        assert e["by"] == "ledger" and e["since_us"] <= e["at_us"]


@pytest.fixture
def others():
    """A folder that another user can reach, and how a command is run as him; as ourselves where we are not root."""
    folder = Path(tempfile.mkdtemp(prefix="serin-other-"))
    folder.chmod(0o755)
    how = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        subprocess.run([SERIN, "--version"], check=True, capture_output=True, cwd="/", **how)
    except OSError:
        pytest.skip("another user cannot run the program here")
    yield folder, how
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def test_a_file_that_may_only_be_read_is_refused_by_name(others):
    folder, how = others
    model = folder / "tiny.gguf"
    shutil.copy(tiny_as("tiny.gguf"), model)
    ledger = folder / "ledger"
    assert Server(model, "--ledger", ledger).stop() == 0
    for path in [ledger, *ledger.rglob("*")]:
        if how:
            os.chown(path, NOBODY, NOBODY)
    (ledger / "ledger.db").chmod(0o444)
    p = serin("serve", model, "--listen", "127.0.0.1:0", "--ledger", ledger, cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(folder)}, **how)
    assert p.returncode != 0 and f"{ledger}/ledger.db: may only be read" in p.stderr


def test_a_command_that_may_not_read_names_the_folder(others, tmp_path):
    folder, how = others
    ledger = folder / "ledger"
    assert Server(tiny_as("tiny.gguf"), "--ledger", ledger).stop() == 0
    ledger.chmod(0 if not how else 0o700)
    for words in (["calls", "list"], ["ledger", "status"], ["prompts", "list"], ["ps"]):
        p = serin(*words, "--ledger", ledger, cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(folder)}, **how)
        assert p.returncode != 0 and f"{ledger}" in p.stderr and "ermission" in p.stderr, (words, p.stderr)


# ---- what is no ledger ----

def test_a_refused_start_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("CREATE TABLE t(x)")
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(RuntimeError, match="is not a ledger of Serin's"):
        Server(tiny_as("tiny.gguf"), "--ledger", folder)
    assert sorted(p.name for p in folder.iterdir()) == before
    (folder / "ledger.db").write_text("these are my own notes")
    with pytest.raises(RuntimeError, match="is not a ledger of Serin's"):
        Server(tiny_as("tiny.gguf"), "--ledger", folder)
    assert (folder / "ledger.db").read_text() == "these are my own notes" and sorted(p.name for p in folder.iterdir()) == before


def test_days_left_counts_the_size_that_the_server_was_given(tmp_path):
    (tmp_path / "serin.yaml").write_text(f"ledger: {{where: {tmp_path / 'l'}, max_size: 1MiB}}\n")
    s = Server(tiny_as("tiny.gguf"), "--config", tmp_path / "serin.yaml")
    assert ask(s, "/v1/completions", {"prompt": "a", "max_tokens": 2}, key=None)[0] == 200
    assert s.stop() == 0
    with sqlite3.connect(tmp_path / "l/ledger.db") as db:  # as if it had run for some hours
        (call,) = db.execute("SELECT seq FROM records WHERE kind = 2").fetchone()
        db.execute("UPDATE records SET t_us = t_us - 6 * 3600 * 1000000 WHERE seq <= ?", [call])
    status = json.loads(serin("ledger", "status", "--ledger", tmp_path / "l", "--json").stdout)
    grows = status["disk_bytes"] / status["records"] * (status["last_seq"] - call + 1) / 0.25
    room = (2 ** 20 - status["disk_bytes"]) / grows
    assert status["max_bytes"] == 2 ** 20 and status["days_left"] == pytest.approx(room, rel=0.05)
    serin("prompts", "push", "x", "-", "--ledger", tmp_path / "l", input="messages: [{role: user, content: hi}]")
    assert json.loads(serin("ledger", "status", "--ledger", tmp_path / "l", "--json").stdout)["max_bytes"] == 2 ** 20
    assert "dropped for max_size" in serin("ledger", "status", "--ledger", tmp_path / "l").stdout


# ---- events ----

def test_names_that_are_no_utf8_are_in_the_event_of_the_load(tmp_path):
    model = os.fsencode(tmp_path) + b"/caf\xe9.gguf"
    shutil.copy(tiny_as("tiny.gguf"), model)
    s = Server("--model", "m=" + os.fsdecode(model), "--ledger", tmp_path / "l")
    assert s.stop() == 0
    (loaded,) = events(tmp_path / "l", "model_loaded")
    assert loaded["path"] == f"{tmp_path}/caf\ufffd.gguf" and len(loaded["weights"]) == 64 and loaded["model"] == "m"
    assert len(events(tmp_path / "l", "config")[0]["id"]) == 64


def test_a_drain_is_in_the_chain(tiny):
    s = tiny()
    for on in (True, True, False):
        assert ask(s, "/v1/drain", {"on": on}, key="root")[0] == 200
    assert s.server.stop() == 0
    assert [e["by"] for e in events(s.folder, "drain")] == ["root"] == [e["by"] for e in events(s.folder, "in_service")]


# ---- a call that runs, and who made it ----

def test_a_comment_on_a_running_call_is_kept(tmp_path, keys_file):
    s = Served(tmp_path / "l", smol_like(), "--keys", keys_file, "--ledger-mode", "required", "--ledger-content", "full",
               "--ctx", "8192")
    c = connect(s)
    c.request("POST", "/v1/chat/completions", json.dumps(chat(max_tokens=7000, stream=True)), {"Authorization": f"Bearer {SECRET['alice']}"})
    r = c.getresponse()
    call = r.headers["x-serin-call"]
    try:
        assert json.loads(ask(s, f"/v1/calls/{call}")[2])["policy"] == "full"
        status, _, text = ask(s, "/v1/feedback", {"call": call, "comment": "zu lang"})
        assert status == 200 and json.loads(text)["comment_kept"] is True
    finally:
        c.close()
    assert s.server.stop() == 0


def test_calls_of_a_user_are_found_by_his_name(tiny):
    s = tiny("--ledger-mode", "required")
    calls = {user: ask(s, "/v1/completions", {"prompt": "a", "max_tokens": 2, "user": user})[1]["x-serin-call"]
             for user in ("ann@example.org", "bert")}
    listed = serin("calls", "list", "--subject", "ann@example.org", "--json", "--ledger", s.folder)
    (record,) = json.loads(listed.stdout)["data"]
    assert record["id"] == calls["ann@example.org"]
    subject = record["subject"]
    for words in (["--subject", subject], [f"subject={subject[:12]}"], ["subject!=ffff", "subject=" + subject]):
        p = serin("calls", "list", *words, "--json", "--ledger", s.folder)
        assert [r["id"] for r in json.loads(p.stdout)["data"]] == [record["id"]], words
    assert subject in serin("calls", "show", record["id"], "--ledger", s.folder).stdout
    counted = json.loads(serin("calls", "stats", "--subject", "bert", "--json", "--ledger", s.folder).stdout)["data"]
    assert sum(g["calls"] for g in counted) == 1
    p = serin("calls", "list", "subject~ab", "--ledger", s.folder)
    assert p.returncode == 2 and "'subject' takes = and !=" in p.stderr
    status, _, text = ask(s, f"/v1/calls?filter=subject={subject}", key="root")
    assert status == 200 and [r["id"] for r in json.loads(text)["data"]] == [record["id"]]
    _, headers, _ = ask(s, "/v1/completions", {"prompt": "a", "max_tokens": 2}, key=None)
    p = serin("calls", "list", "subject=", "--json", "--ledger", s.folder)
    assert [r["id"] for r in json.loads(p.stdout)["data"]] == [headers["x-serin-call"]]


def test_one_call_is_not_called_several(tiny, tmp_path):
    s = tiny("--ledger-mode", "required")
    ask(s, "/v1/completions", {"prompt": "a", "max_tokens": 2})
    out = serin("calls", "export", "--output", tmp_path / "one.jsonl", "--ledger", s.folder)
    assert out.returncode == 0 and out.stderr.startswith("1 call in ")


def test_an_error_of_prompts_names_a_parameter_or_none(tiny):
    s = tiny()
    wrong = [{"name": "a b", "text": "messages: []"}, {"name": "x", "text": "messages: [{role: user, content: hi}]", "by": "x" * 100}]
    for body in wrong:
        status, _, text = ask(s, "/v1/prompts", body, key="root")
        assert status == 400 and json.loads(text)["error"]["param"] != ""
    fill_disk(s)
    status, _, text = ask(s, "/v1/prompts/x/labels", {"label": "production", "version": None}, key="root")
    assert json.loads(text)["error"]["param"] != ""
