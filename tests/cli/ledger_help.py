"""A ledger's folder as the tests read it: from SQLite directly, and the chain by the words of docs/ledger.md; servers that
write one, what is asked of them, and disks that are full for them alone."""
import hashlib
import http.client
import json
import resource
import sqlite3
import struct
from pathlib import Path

from server import Server

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


# ---- a server that writes one ----

KEYS = ("alice the-first-secret-of-all\nbob another-secret-of-many\nanna a-secret-of-alices tenant=alice\n"
        "root the-secret-of-the-admin admin\n")
SECRET = {line.split()[0]: line.split()[1] for line in KEYS.splitlines()}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something about the sea."}]
WAIT = 120


def connect(server):
    host, port = server.url.removeprefix("http://").split(":")
    return http.client.HTTPConnection(host, int(port), timeout=WAIT)


def ask(server, path, body=None, key="alice", method=None, headers=()):
    """Status, headers and text of a reply."""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    c = connect(server)
    c.request(method or ("POST" if data is not None else "GET"), path, data,
              {**({"Authorization": f"Bearer {SECRET.get(key, key)}"} if key else {}), **dict(headers)})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    return r.status, r.headers, text


def chat(**more):
    return {"messages": MESSAGES, "max_tokens": 6, "temperature": 0, "ignore_eos": True, **more}


class Served:
    def __init__(self, folder, *args, **kw):
        self.folder = Path(folder)
        self.server = Server(*args, "--ledger", folder, **kw)
        self.url = self.server.url

    def fence(self):
        """What was appended before is committed once this call's end is."""
        status, headers, _ = ask(self, "/v1/completions", {"prompt": "a", "max_tokens": 1}, key="root")
        assert status == 200 and ask(self, f"/v1/calls/{headers['x-serin-call']}", key="root")[0] == 200

    def records(self, call):
        self.fence()
        return bodies(self.folder, INTENT, call), bodies(self.folder, CALL, call)

    def only(self, call):
        records = self.records(call)[1]
        assert len(records) == 1, records
        return records[0]


# ---- its disk ----

def fill_disk(s):
    """Not one byte more can be written to a file by the server."""
    resource.prlimit(s.server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def ledger_metrics(s):
    lines = [line.split() for line in ask(s, "/metrics", key="root")[2].splitlines() if line.startswith("serin_ledger_")]
    return {name.removeprefix("serin_ledger_"): float(value) for name, value in lines}


def empty_disk(s):
    resource.prlimit(s.server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def until_taken(s):
    """Calls until one is taken again; the server tries by itself, a second apart."""
    for _ in range(2000):
        status, headers, _ = ask(s, "/v1/chat/completions", chat())
        if status == 200:
            return headers["x-serin-call"]
        assert status == 503 and headers["Retry-After"]
    raise AssertionError("calls are refused for ever")
