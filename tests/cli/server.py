"""A running `serin serve` for tests: a process on a port of its own, ended by its pid.

    from server import serve   # smol_server, one for the whole session, comes by itself (conftest.py)
"""
import atexit
import functools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import tiny_model

ROOT = Path(__file__).resolve().parents[2]
# Where sanitizers make a model of 135 million weights slow, a tiny one takes its place: no path of the program is left
# out, only its answers make less sense. Tests that are about the words take real_model.
TINY = os.environ.get("SERIN_TEST_TINY") == "1"
MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))


def real_model(name: str, file: str) -> Path:
    if not (MODELS / file).exists():
        subprocess.run([sys.executable, ROOT / "tools/get-model", name], check=True,
                       env={**os.environ, "SERIN_CACHE": str(MODELS.parent)})
    return MODELS / file


@functools.cache
def tiny_as(file: str) -> Path:
    """The tiny model under a real one's file name, which is its name in answers."""
    folder = tempfile.mkdtemp(prefix="serin-tiny-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(tiny_model.make(Path(folder) / file, ctx=8192))


def smol_like() -> Path:
    """SmolLM2, or the tiny model in its place: for tests to which it does not matter what the model says."""
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    return tiny_as(file) if TINY else real_model("smollm2", file)


def with_template(source: Path, target: Path, template: str) -> Path:
    """A copy of a GGUF file with another chat template; blanks keep the alignment of what follows."""
    data, key = source.read_bytes(), b"tokenizer.chat_template"
    at = data.index(key) + len(key)
    kind, size = struct.unpack_from("<IQ", data, at)
    assert kind == 8  # a string
    text = template.encode()
    text += b"{#" + b" " * ((size - len(text) - 4) % 32) + b"#}"
    target.write_bytes(data[:at] + struct.pack("<IQ", kind, len(text)) + text + data[at + 12 + size:])
    return target


class Server:
    """url and base_url (with /v1); lines: what it has written to standard error so far."""

    def __init__(self, *args, env=None):
        self.process = subprocess.Popen([os.environ["SERIN"], "serve", *map(str, args), "--listen", "127.0.0.1:0", "--json"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.lines, self.more = [], threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        first = self.process.stdout.readline()
        if not first:
            self.process.wait()
            self.reader.join()
            raise RuntimeError("serin serve did not start: " + "".join(self.lines))
        self.url = json.loads(first)["address"]
        self.base_url = self.url + "/v1"

    def _read(self):
        for line in self.process.stderr:
            with self.more:
                self.lines.append(line)
                self.more.notify_all()

    def wait_log(self, timeout=60, **want):
        """The first line of the log that has these values, when it is there."""
        def find():
            for line in self.lines:
                entry = json.loads(line) if line.startswith("{") else {}
                if all(entry.get(k) == v for k, v in want.items()):
                    return entry
            return None
        with self.more:
            found = self.more.wait_for(find, timeout)
        assert found, f"no {want} in the log:\n" + "".join(self.lines)
        return found

    def stop(self):
        """Ends it as an operator would; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.reader.join(timeout=10)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


@pytest.fixture
def serve(tmp_path):
    """serve(ARGS...) starts a server that ends with the test."""
    servers = []

    def start(*args, **kw):
        kw.setdefault("env", {"SERIN_CACHE": str(tmp_path / "cache")})
        servers.append(Server(*args, **kw))
        return servers[-1]
    yield start
    assert not any([s.stop() for s in servers])  # under sanitizers a leak is an exit status


@pytest.fixture(scope="session")
def smol_server():
    """SmolLM2 (smol_like) under the names smol and gpt-4o-mini."""
    s = Server(smol_like(), "--alias", "smol", "--alias", "gpt-4o-mini",
               "--ctx", "4096", "--parallel", "8")
    yield s
    assert s.stop() == 0
