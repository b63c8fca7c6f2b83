"""Servers that a measurement starts, loads and ends: what the scripts beside this file share."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOAD = ROOT / "build/release/tests/serve_load"


def find_model(name: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    base = os.environ.get("SERIN_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serin"
    found = [p for p in sorted((Path(base) / "models").glob("*.gguf")) if p.name.lower().startswith(name.lower())]
    if len(found) != 1:
        sys.exit(f"bench: there is no model '{name}'; `tools/get-model smollm2` fetches one")
    return found[0]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Side:
    """A server of one of the two kinds, started for a measurement and ended by its id."""

    def __init__(self, name: str, command: list, port: int):
        self.name, self.port = name, port
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).read()
                models = json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5))
                self.model = models["data"][0]["id"]
                return self
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"bench: {self.name} ended with {self.process.returncode}")
                time.sleep(0.1)
        sys.exit(f"bench: {self.name} does not answer")

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait()

    def load(self, clients: int, requests: int, tokens: int | str = 64, words: int = 100, background: int = 0,
             salt: int | None = None) -> dict:
        """With a salt the same requests come each time."""
        command = [LOAD, self.port, self.model, clients, requests, tokens, words]
        command += [background, salt] if salt is not None else [background] if background else []
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"bench: load of {self.name} failed: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)
