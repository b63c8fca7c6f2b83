"""serin ledger: status, verify and checkpoint of a folder, beside a server and without one."""
import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

SERIN = os.environ["SERIN"]


def serin(*args, env=None):
    return subprocess.run([SERIN, *args], capture_output=True, text=True, env={**os.environ, **(env or {})})


@pytest.fixture
def ledger(tmp_path):
    """A ledger with a few events, as a stop leaves it: `checkpoint` needs one, and only the library makes it."""
    tool = Path(os.environ.get("SERIN_TOOLS", Path(SERIN).parent / "tests")) / "ledger_bench"
    where = tmp_path / "ledger"
    subprocess.run([tool, where, "--records", "25"], check=True, capture_output=True)
    return where


def test_status_tells_what_there_is(ledger):
    out = serin("ledger", "status", "--ledger", str(ledger), "--json")
    status = json.loads(out.stdout)
    assert out.returncode == 0 and status["records"] == 26 and status["signed_seq"] == 25
    assert status["writer"] is None and status["epoch"] == 1 and len(status["instance"]) == 32
    text = serin("ledger", "status", "--ledger", str(ledger)).stdout
    assert "26, the last one 26" in text and "by nobody now" in text


def test_verify_holds_and_then_names_the_record(ledger):
    out = serin("ledger", "verify", "--ledger", str(ledger))
    assert out.returncode == 0 and out.stdout.startswith("whole: 26 records, 1 signed checkpoint\n")
    with sqlite3.connect(ledger / "ledger.db") as db:
        db.execute("UPDATE records SET body = replace(body, 'small', 'large') WHERE seq = 9")
    out = serin("ledger", "verify", "--ledger", str(ledger))
    assert out.returncode == 1 and "broken: record 9" in out.stdout
    out = serin("ledger", "verify", "--ledger", str(ledger), "--json")
    found = json.loads(out.stdout)
    assert out.returncode == 1 and found["ok"] is False and found["bad_seq"] == 9 and "edited" in found["what"]


def test_a_checkpoint_that_was_kept_sees_the_cut(ledger, tmp_path):
    kept = tmp_path / "kept.json"
    out = serin("ledger", "checkpoint", "--ledger", str(ledger))
    assert out.returncode == 0 and json.loads(out.stdout)["seq"] == 25
    kept.write_text(out.stdout)
    assert serin("ledger", "verify", "--ledger", str(ledger), "--checkpoint", str(kept)).returncode == 0
    with sqlite3.connect(ledger / "ledger.db") as db:
        db.execute("DELETE FROM records WHERE seq > 20")
        db.execute("DELETE FROM calls WHERE seq > 20")
    (ledger / "checkpoints.jsonl").unlink()
    assert serin("ledger", "verify", "--ledger", str(ledger)).returncode == 0
    out = serin("ledger", "verify", "--ledger", str(ledger), "--checkpoint", str(kept))
    assert out.returncode == 1 and "record 21" in out.stdout and "cut off" in out.stdout


def test_errors_say_what_to_do(tmp_path):
    out = serin("ledger", "verify", "--ledger", str(tmp_path))
    assert out.returncode == 2 and "there is no ledger here" in out.stderr
    out = serin("ledger", "checkpoint", "--ledger", str(tmp_path / "none"))
    assert out.returncode == 2 and not (tmp_path / "none").exists()
    out = serin("ledger", "status", env={"XDG_STATE_HOME": str(tmp_path)})
    assert out.returncode == 2 and f"{tmp_path}/serin/ledger" in out.stderr
    assert "did you mean 'verify'" in serin("ledger", "verfy").stderr
    assert serin("ledger").returncode == 2
    (tmp_path / "ledger.db").write_bytes(b"not a database, but longer than a header of one is" * 40)
    out = serin("ledger", "verify", "--ledger", str(tmp_path))
    assert out.returncode == 2 and "ledger.db: is not a ledger of Serin's; give another folder" in out.stderr
    out = serin("ledger", "verify", "--ledger", str(tmp_path / "ledger.db"))
    assert out.returncode == 2 and "is not a folder" in out.stderr
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE t(x)")
    os.replace(tmp_path / "other.db", tmp_path / "ledger.db")
    out = serin("ledger", "verify", "--ledger", str(tmp_path))
    assert out.returncode == 2 and "is not a ledger of Serin's" in out.stderr


def test_help_shows_examples():
    assert "checkpoint" in serin("ledger", "--help").stdout
    for word in ("status", "verify", "checkpoint"):
        out = serin("ledger", word, "--help")
        assert out.returncode == 0 and "examples:" in out.stdout
