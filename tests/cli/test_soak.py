"""A short soak: random clients against a server with a tiny model, and the books at the end (tests/tools/soak.py)."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tiny_model

SOAK = Path(__file__).resolve().parents[1] / "tools/soak.py"


@pytest.mark.parametrize("how", [[], ["--tls"]], ids=["plain", "tls"])
def test_a_server_holds_and_its_books_add_up(tmp_path, how):
    model = tiny_model.make(tmp_path / "tiny.gguf")
    sanitized = "asan" in os.environ["SERIN"] or "tsan" in os.environ["SERIN"]
    args = ["--seconds", os.environ.get("SOAK_SECONDS", "8"), "--laps", "4", "--alone", "8", "--second", model, "--json",
            *(["--no-memory"] if sanitized else []), *how]
    done = subprocess.run([sys.executable, SOAK, model, *map(str, args)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-8000:]
    report = json.loads(done.stdout)
    assert report["requests"] > 50 and report["cancelled"] > 3 and report["refused"] > 3 and report["answers_compared"] > 3
    assert report["generation_tokens"] >= report["usage_tokens"] > 100
