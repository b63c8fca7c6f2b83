"""Fixtures of which the whole session has one; servers of tests keep their ledgers in a folder that goes with it."""
import os
import shutil
import tempfile

import pytest
from server import smol_server  # noqa: F401


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
