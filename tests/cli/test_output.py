"""What a file, a message or an argument says cannot steer the terminal that a command prints to."""
import json
import os
import subprocess
from pathlib import Path

import pytest
from on_terminal import on_terminal

SERIN = os.environ.get("SERIN", str(Path(__file__).parents[2] / "build/release/serin"))
MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))
SMOL = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
EVIL = "\x1b]0;x\x07\x9b2J\r\u202e\u200bend\nserin template: done"
SHOWN = r"\x1b]0;x\x07\xc2\x9b2J\x0d\xe2\x80\xae\xe2\x80\x8bend\nserin template: done"


def piped(*args, **kw):
    return subprocess.run([SERIN, *map(str, args)], capture_output=True, timeout=60, **kw)


@pytest.fixture
def chat(tmp_path):
    path = tmp_path / "chat.json"
    path.write_text(json.dumps([{"role": "user", "content": EVIL}]))
    return path


def template(tmp_path, text):
    path = tmp_path / "t.jinja"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", ["template", "json", "ids", "argument"])
def test_errors_show_control_characters_and_stay_one_line(tmp_path, chat, case):
    shown = r"\x1b"
    if case == "template":
        args = ["template", "--template", template(tmp_path, "{{ raise_exception(messages[0].content) }}"), "-m", chat]
        shown = SHOWN
    elif case == "json":
        bad = tmp_path / "bad.json"
        bad.write_text("[ \x1b[31m")
        args = ["template", "--template", template(tmp_path, ""), "-m", bad]
    elif case == "ids":
        ids = tmp_path / "ids"
        ids.write_text("\x1b[31m")
        args = ["detokenize", SMOL, ids]
    else:
        args = ["info", tmp_path / EVIL]
        shown = SHOWN
    done = piped(*args)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert shown in said and said.startswith(f"serin {args[0]}: ")
    assert said.endswith("\n") and said[:-1].isprintable(), repr(said)


def test_a_result_is_untouched_in_a_pipe_and_shown_on_a_terminal(tmp_path, chat):
    args = ["template", "--template", template(tmp_path, "a\tb\n{{ messages[0].content }}\x1b[2J"), "-m", chat]
    assert piped(*args).stdout.decode() == f"a\tb\n{EVIL}\x1b[2J"
    safe = EVIL.translate(dict.fromkeys(map(ord, "\x1b\x07\x9b\r"), "\ufffd"))
    assert on_terminal(*args).replace("\r\n", "\n") == f"a\tb\n{safe}\ufffd[2J"


def test_detokenized_text_is_untouched_in_a_pipe_and_shown_on_a_terminal(tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_bytes(piped("tokenize", SMOL, "--json", "--text", "é\x1b[2J").stdout)
    assert piped("detokenize", SMOL, ids).stdout.decode() == "é\x1b[2J"
    assert on_terminal("detokenize", SMOL, ids) == "é\ufffd[2J"
