"""A ledger's folder as the tests read it: from SQLite directly, and the chain by the words of docs/ledger.md."""
import hashlib
import json
import sqlite3
import struct
from pathlib import Path

INTENT, CALL, EVENT, FEEDBACK = 1, 2, 3, 4


def rows(folder, columns="kind, body"):
    db = sqlite3.connect(f"file:{Path(folder) / 'ledger.db'}?mode=ro", uri=True, timeout=20)
    try:
        return db.execute(f"SELECT {columns} FROM records ORDER BY seq").fetchall()
    finally:
        db.close()


def bodies(folder, kind, call=None):
    all_of = [json.loads(b) for k, b in rows(folder) if k == kind]
    return [b for b in all_of if call is None or b["id"] == call]


def events(folder, name):
    return [e for e in bodies(folder, EVENT) if e["event"] == name]


def check_chain(folder):
    """Every record's hash follows from the one before; returns how many there are."""
    db = sqlite3.connect(f"file:{Path(folder) / 'ledger.db'}?mode=ro", uri=True, timeout=20)
    instance = db.execute("SELECT value FROM meta WHERE key = 'instance'").fetchone()[0]
    first = dict(db.execute("SELECT epoch, parent FROM epochs"))
    all_of = db.execute("SELECT seq, epoch, kind, t_us, body, content_sha, hash FROM records ORDER BY seq").fetchall()
    db.close()
    def number(n):
        return struct.pack("<Q", n)
    instance = instance if isinstance(instance, bytes) else instance.encode()
    before = hashlib.sha256(b"serin ledger 1" + instance + number(1) + (first[1] or bytes(32))).digest()
    for i, (seq, _, kind, t_us, body, content, digest) in enumerate(all_of):
        assert seq == i + 1
        body = body.encode()
        before = hashlib.sha256(before + number(seq) + number(kind) + number(t_us) + number(len(body)) + body +
                                (content or bytes(32))).digest()
        assert before == digest, (seq, body)
    return len(all_of)
