"""The arm64 program gives the bits of this machine's, with each of its instruction sets. It runs under qemu-user, so the
text is short: two steps, and more than one block of the cache."""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType

from gguf_edit import edit

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NAMES = sorted(p.stem for p in GOLDEN.glob("*.gguf"))
LEVELS = ["neon", "dotprod", "i8mm"]
N_TOKENS = 72


def logits(program, model, work, cpu=None, kv="f16"):
    env = {k: v for k, v in os.environ.items() if k != "SERIN_CPU"} | ({"SERIN_CPU": cpu} if cpu else {})
    out = work / "logits.f32"
    out.unlink(missing_ok=True)
    done = subprocess.run([*program, "score", model, "--tokens", work / "tokens.json", "--logits", out, "--kv", kv,
                           "--threads", "2", "--batch", "40"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_logits_do_not_depend_on_the_architecture(name, tmp_path):
    build = os.environ.get("SERIN_ARM64")
    if not build:
        pytest.skip("SERIN_ARM64 does not name a folder with the arm64 program: ./check arm64 does")
    emulated = ["qemu-aarch64", "-cpu", "max", "-L", f"{build}-root", f"{build}/serin"]
    source = GOLDEN / f"{name}.gguf"
    arch = GGUFReader(source).fields["general.architecture"].contents()
    model = edit(source, tmp_path / "m.gguf", keys={f"{arch}.context_length": (GGUFValueType.UINT32, 256)})
    tokens = np.random.default_rng(len(name)).integers(0, 112, N_TOKENS).tolist()
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    want = logits([os.environ["SERIN"]], model, tmp_path)
    assert len(set(np.frombuffer(want, "<f4"))) > N_TOKENS
    level = LEVELS[NAMES.index(name) % 3]
    assert logits(emulated, model, tmp_path, cpu=level) == want, level
    assert logits(emulated, model, tmp_path, kv="q8_0") == logits([os.environ["SERIN"]], model, tmp_path, kv="q8_0")
