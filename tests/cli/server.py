"""A running `serin serve` for tests: a process on a port of its own, ended by its pid.

    from server import serve, smol_server   # smol_server: one for the whole session, the real SmolLM2
"""
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))


def real_model(name: str, file: str) -> Path:
    if not (MODELS / file).exists():
        subprocess.run([sys.executable, ROOT / "tools/get-model", name], check=True,
                       env={**os.environ, "SERIN_CACHE": str(MODELS.parent)})
    return MODELS / file


class Server:
    """url and base_url (with /v1), log(): what it has written to standard error so far."""

    def __init__(self, *args, env=None):
        self.process = subprocess.Popen([os.environ["SERIN"], "serve", *map(str, args), "--listen", "127.0.0.1:0", "--json"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self.lines = []
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
            self.lines.append(line)

    def log(self):
        """The log's JSON lines."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

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
    for s in servers:
        s.stop()


@pytest.fixture(scope="session")
def smol_server():
    """The real SmolLM2 under the names smol and gpt-4o-mini."""
    s = Server(real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"), "--alias", "smol", "--alias", "gpt-4o-mini",
               "--ctx", "4096", "--parallel", "8")
    yield s
    s.stop()
