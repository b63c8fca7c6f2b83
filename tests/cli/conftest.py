"""Fixtures of which the whole session has one; servers of tests keep their ledgers in a folder that goes with it."""
import os
import shutil
import tempfile

import pytest
from ledger_help import KEYS, Served
from server import smol_server, tiny_as  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def state_folder():
    folder = tempfile.mkdtemp(prefix="serin-state-")
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = folder
    yield folder
    os.environ.pop("XDG_STATE_HOME")
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(KEYS)
    return file


@pytest.fixture
def tiny(tmp_path, keys_file):
    """tiny(ARGS...): a server of the tiny model with a ledger in tmp_path / "l"."""
    made = []

    def start(*args, folder=None):
        made.append(Served(folder or tmp_path / "l", tiny_as("tiny.gguf"), "--keys", keys_file, "--parallel", "4", *args))
        return made[-1]
    yield start
    assert not any([s.server.stop() for s in made if s.server.process.returncode is None])
