"""What a command prints to somebody who sits before it."""
import os
import pty
import subprocess
from pathlib import Path

SERIN = os.environ.get("SERIN", str(Path(__file__).parents[2] / "build/release/serin"))


def on_terminal(*args, **env) -> str:
    terminal, ours = pty.openpty()
    with subprocess.Popen([SERIN, *map(str, args)], stdin=subprocess.DEVNULL, stdout=ours, stderr=ours,
                          env={**os.environ, "TERM": "xterm", **env}) as p:
        os.close(ours)
        out = b""
        try:
            while chunk := os.read(terminal, 65536):
                out += chunk
        except OSError:
            pass
    os.close(terminal)
    assert p.returncode == 0, out
    return out.decode()
