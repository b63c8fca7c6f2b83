"""Exact means exact, for every architecture: tiny models with the goldens' weights and a longer context, so that blocks
of the cache, attention segments, windows and experts meet every split of the work. The logits are the same bits for
every thread count, every split of the text into batches and every instruction set of this machine."""
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
N_TOKENS = 600  # ten blocks of 64, three segments of 256, more than one step of 512
SPLITS = [(2, 1), (3, 7), (5, 64), (16, 512)]  # threads, tokens at once


def logits(model, work, cpu=None, threads=1, batch=512, kv="f16"):
    env = {k: v for k, v in os.environ.items() if k != "SERIN_CPU"} | ({"SERIN_CPU": cpu} if cpu else {})
    out = work / "logits.f32"
    done = subprocess.run([os.environ["SERIN"], "score", model, "--tokens", work / "tokens.json", "--logits", out, "--kv", kv,
                           "--threads", str(threads), "--batch", str(batch)], env=env, capture_output=True, text=True, timeout=300)
    if cpu and done.returncode == 2 and "its best is" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_logits_do_not_depend_on_how_the_work_is_split(name, tmp_path):
    source = GOLDEN / f"{name}.gguf"
    arch = GGUFReader(source).fields["general.architecture"].contents()
    model = edit(source, tmp_path / "m.gguf", keys={f"{arch}.context_length": (GGUFValueType.UINT32, 1024)})
    tokens = np.random.default_rng(len(name)).integers(0, 112, N_TOKENS).tolist()
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    want = logits(model, tmp_path, cpu="ref")
    assert len(set(np.frombuffer(want, "<f4"))) > N_TOKENS
    for level in ("avx2", "avx512", "avx512vnni", None):
        assert logits(model, tmp_path, cpu=level, threads=2) in (want, None), level
    for threads, batch in SPLITS:
        assert logits(model, tmp_path, threads=threads, batch=batch) == want, (threads, batch)
    wide = logits(model, tmp_path, kv="f32")
    assert wide != want
    assert logits(model, tmp_path, kv="f32", threads=3, batch=33) == wide
    narrow = logits(model, tmp_path, kv="q8_0", cpu="ref")
    assert narrow not in (want, wide)
    for level in ("avx2", "avx512", None):
        assert logits(model, tmp_path, cpu=level, kv="q8_0", threads=3, batch=33) in (narrow, None), level
