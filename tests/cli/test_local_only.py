"""Calls of a route that is local_only open no socket to anywhere, whatever they ask for and whatever fails: seen at the
process's own calls of connect and send."""
import os
import subprocess
from pathlib import Path

import pytest

from server import serve, tiny_as  # noqa: F401
from test_canary_upstream import ASKED, BEARER, HOME, LOCAL, away, begin, config  # noqa: F401
from upstream_help import post

SOURCE = Path(__file__).parent / "watch_sockets.c"


def watched(tmp_path) -> list:
    file = tmp_path / "sockets"
    return file.read_text().split() if file.exists() else []


@pytest.mark.skipif(os.environ.get("SERIN_TEST_TINY") == "1", reason="a sanitizer's library has to come first")
def test_a_local_only_call_opens_no_socket(tmp_path, serve, away):  # noqa: F811
    library = tmp_path / "watch_sockets.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", SOURCE, "-o", library, "-ldl"], check=True)
    (tmp_path / "broken.gguf").write_text("no model")
    models = [{"name": "next", "upstream": away.url}, {"name": "broken", "path": str(tmp_path / "broken.gguf"), "lazy": True}]
    telemetry = {"endpoint": away.url, "delay": "0ms", "metrics_interval": "1h", "content": True}
    env = {"SERIN_CACHE": str(tmp_path / "cache"), "LD_PRELOAD": str(library), "WATCH_SOCKETS": str(tmp_path / "sockets")}
    s = serve("--config", config(tmp_path, models, [LOCAL, {"name": "any", "risk": "low", "fallback": "next"}], telemetry=telemetry),
              env=env)
    assert begin(s)[0] == 200
    before = len(watched(tmp_path))
    for i in range(4):
        for path, body in ASKED:
            for model in ("small", "next", "broken", "nothing"):
                status, headers, text = post(s, path, {**body, "model": model, "stream": i % 2 == 0, "user": f"u{i}"}, **HOME)
                assert status == {"small": 200, "next": 403, "broken": 503, "nothing": 404}[model], text
    assert watched(tmp_path)[before:] == [] and not away.asked
    for path, body in ASKED:  # and of others it is seen where they go
        assert post(s, path, {**body, "model": "next"}, **BEARER)[0] in (200, 502)
    assert "0.0.0.0" in watched(tmp_path)
