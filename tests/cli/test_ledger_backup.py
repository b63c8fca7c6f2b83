"""serin ledger backup, restore and forget, and what a command says where it cannot."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

SERIN = os.environ["SERIN"]


def serin(*args):
    return subprocess.run([SERIN, *map(str, args)], capture_output=True, text=True)


@pytest.fixture
def ledger(tmp_path):
    tool = Path(os.environ.get("SERIN_TOOLS", Path(SERIN).parent / "tests")) / "ledger_bench"
    where = tmp_path / "ledger"
    subprocess.run([tool, where, "--records", "25"], check=True, capture_output=True)
    return where


def test_a_backup_is_restored_and_goes_on_in_a_new_epoch(ledger, tmp_path):
    to, back = tmp_path / "backup", tmp_path / "back"
    out = serin("ledger", "backup", to, "--ledger", ledger, "--json")
    assert out.returncode == 0, out.stderr
    made = json.loads(out.stdout)
    assert made["seq"] == 26 and made["epoch"] == 1 and made["verified"] is True
    assert sorted(p.name for p in to.iterdir()) == ["checkpoints.jsonl", "ledger.db"]
    assert serin("ledger", "verify", "--ledger", to).returncode == 0
    out = serin("ledger", "restore", to, "--ledger", back)
    assert out.returncode == 2 and "--new-keys" in out.stderr and "keys" in out.stderr
    back.mkdir(exist_ok=True)
    shutil.copytree(ledger / "keys", back / "keys")
    out = serin("ledger", "restore", to, "--ledger", back, "--json")
    assert out.returncode == 0, out.stderr
    made_again = json.loads(out.stdout)
    assert made_again["epoch"] == 2 and made_again["parent"]["hash"] == made["hash"]
    out = serin("ledger", "verify", "--ledger", back)
    assert out.returncode == 0 and out.stdout.startswith("whole: 28 records, 2 signed checkpoints")
    assert json.loads(serin("ledger", "status", "--ledger", back, "--json").stdout)["epoch"] == 2
    assert serin("calls", "list", "--ledger", back).stdout == serin("calls", "list", "--ledger", ledger).stdout


def test_what_is_there_is_not_written_over(ledger, tmp_path):
    to = tmp_path / "backup"
    assert serin("ledger", "backup", to, "--ledger", ledger).returncode == 0
    before = (to / "ledger.db").read_bytes()
    out = serin("ledger", "backup", to, "--ledger", ledger)
    assert out.returncode != 0 and "already" in out.stderr
    out = serin("ledger", "restore", to, "--ledger", ledger)
    assert out.returncode != 0 and "already" in out.stderr
    out = serin("ledger", "restore", tmp_path / "nothing", "--ledger", tmp_path / "x")
    assert out.returncode == 2 and "no backup" in out.stderr
    assert (to / "ledger.db").read_bytes() == before


def test_a_broken_ledger_makes_a_backup_that_says_so(ledger, tmp_path):
    import sqlite3
    with sqlite3.connect(ledger / "ledger.db") as db:
        db.execute("UPDATE records SET body = replace(body, 'small', 'large') WHERE seq = 9")
    out = serin("ledger", "backup", tmp_path / "backup", "--ledger", ledger)
    assert out.returncode != 0 and "record 9" in out.stderr


def test_forgetting_somebody_of_whom_nothing_is_kept_says_so(ledger):
    out = serin("ledger", "forget", "--ledger", ledger, "--tenant", "acme", "--subject", "ann")
    assert out.returncode == 2 and "no key of this subject" in out.stderr
    out = serin("ledger", "forget", "--ledger", ledger, "--tenant", "acme")
    assert out.returncode == 2 and "--subject" in out.stderr


@pytest.mark.parametrize("word", ["backup", "restore", "forget"])
def test_help_has_examples(word):
    out = serin("ledger", word, "--help")
    assert out.returncode == 0 and f"serin ledger {word} " in out.stdout
    assert word in serin("ledger", "--help").stdout
