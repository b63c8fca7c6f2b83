"""What a server leaves in its ledger's folder at its start, and what commands do through it."""
import json
import os
import sqlite3
import subprocess

import httpx

import server

SERIN = os.environ["SERIN"]


def events(folder, name):
    con = sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True)
    rows = [json.loads(b) for (b,) in con.execute("SELECT body FROM records WHERE kind = 3 ORDER BY seq")]
    con.close()
    return [e for e in rows if e["event"] == name]


def test_another_program_is_an_event_and_the_same_one_is_not(tmp_path):
    ledger = tmp_path / "ledger"
    for _ in range(2):
        server.Server(server.smol_like(), "--ctx", "512", "--ledger", ledger).stop()
    found = events(ledger, "binary")
    assert len(found) == 1 and len(found[0]["sha256"]) == 64
    digest = subprocess.run(["sha256sum", SERIN], capture_output=True, text=True).stdout.split()[0]
    assert found[0]["sha256"] == digest
    (ledger / "program").write_text("0" * 64 + "\n")  # as another one would have left it
    server.Server(server.smol_like(), "--ctx", "512", "--ledger", ledger).stop()
    assert len(events(ledger, "binary")) == 2


def test_another_platform_is_an_event_and_the_same_one_is_not(tmp_path):
    ledger, kernel = tmp_path / "ledger", os.uname()
    for limit in ("", "", "ref", "ref", ""):
        env = {"SERIN_CPU": limit} if limit else {}
        assert server.Server(server.smol_like(), "--ctx", "64", "--lazy", "--ledger", ledger, env=env).stop() == 0
    first, lower, back = events(ledger, "driver")
    assert first["before"] is None and first["now"]["kernel"] == f"{kernel.sysname} {kernel.release}"
    assert first["host"] == kernel.nodename and "cpu" in first["changed"] and first["now"]["libc"].startswith("glibc ")
    assert lower["before"] == first["now"] and lower["now"] == {**first["now"], "isa": "ref"} and lower["changed"] == ["isa"]
    assert back["now"] == first["now"] and back["before"] == lower["now"]


def test_a_second_server_is_told_where_the_first_one_listens(tmp_path):
    s = server.Server(server.smol_like(), "--ctx", "512", "--ledger", tmp_path / "ledger")
    try:
        p = subprocess.run([SERIN, "serve", str(server.smol_like()), "--listen", "127.0.0.1:0", "--ledger", str(tmp_path / "ledger")],
                           capture_output=True, text=True)
    finally:
        s.stop()
    assert p.returncode != 0 and s.url in p.stderr


def test_a_person_is_forgotten_through_the_server_that_writes(tmp_path):
    ledger = tmp_path / "ledger"
    s = server.Server(server.smol_like(), "--ctx", "512", "--ledger", ledger, "--ledger-content", "encrypted",
                      "--ledger-mode", "required")  # on record before the client has its answer
    try:
        calls = {}
        for user in ("anna", "bert"):
            r = httpx.post(s.url + "/v1/completions", json={"prompt": "The sky", "max_tokens": 4, "user": user}, timeout=300)
            calls[user] = r.headers["x-serin-call"]

        def content(user):
            return subprocess.run([SERIN, "calls", "show", calls[user], "--content", "--json", "--ledger", str(ledger)],
                                  capture_output=True, text=True).stdout

        assert "The sky" in content("anna") and "The sky" in content("bert")
        p = subprocess.run([SERIN, "ledger", "forget", "--subject", "anna", "--ledger", str(ledger)], capture_output=True, text=True)
        assert p.returncode == 0, p.stderr
        assert "The sky" not in content("anna") and "The sky" in content("bert")
        p = subprocess.run([SERIN, "ledger", "forget", "--subject", "anna", "--ledger", str(ledger)], capture_output=True, text=True)
        assert p.returncode == 2
        token = json.loads((ledger / "server.json").read_text())["token"]
        admin = {"authorization": f"Bearer {token}"}
        assert httpx.post(s.url + "/v1/ledger/forget", json={"subject": "bert"}).status_code in (401, 403)
        assert httpx.post(s.url + "/v1/ledger/forget", json={}, headers=admin).json()["error"]["param"] == "subject"
        assert [e["by"] for e in events(ledger, "forgotten")] == ["local"]
    finally:
        s.stop()
    assert subprocess.run([SERIN, "ledger", "verify", "--ledger", str(ledger)], capture_output=True).returncode == 0
