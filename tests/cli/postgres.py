"""A real PostgreSQL server for tests: made in a folder that goes with it, on a port of 127.0.0.1 that the system picks, with
a password; run as nobody where the tests run as root, which the server refuses. `database()` is a new one in it."""
import ctypes
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

PASSWORD = "sesame-41"
NOBODY = 65534


def find():
    """The folder of the newest server's programs, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    return Path(found[-1]).parent if found else None


def become_nobody():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # it ends with the tests
    os.chdir("/")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    def __init__(self):
        self.programs = find()
        # in memory where that can be: there are many syncs, and what they are worth is not tested by them
        self.dir = Path(tempfile.mkdtemp(prefix="serin-postgres-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.port = free_port()
        self.process = None
        self.made = 0
        word = self.dir / "password"
        word.write_text(PASSWORD + "\n")
        if os.geteuid() == 0:
            os.chown(self.dir, NOBODY, NOBODY)
            os.chown(word, NOBODY, NOBODY)
        subprocess.run([self.programs / "initdb", "-D", self.dir / "data", "-U", "serin", "--pwfile", word, "-A",
                        "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"],
                       preexec_fn=become_nobody, check=True, capture_output=True, env={**os.environ, "LC_ALL": "C"})
        self.start()

    def start(self):
        """Returns when it takes connections."""
        while not self._begin():
            continue  # what a crash left of the server before is still going

    def _begin(self):
        settings = {"port": self.port, "unix_socket_directories": self.dir, "listen_addresses": "127.0.0.1",
                    "shared_buffers": "16MB", "log_min_messages": "log", "log_checkpoints": "off",
                    "max_connections": 40}
        args = [a for k, v in settings.items() for a in ("-c", f"{k}={v}")]
        self.process = subprocess.Popen([self.programs / "postgres", "-D", self.dir / "data", *args],
                                        preexec_fn=become_nobody, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env={**os.environ, "LC_ALL": "C"})
        said = b""
        for line in self.process.stderr:
            said += line
            if b"ready to accept connections" in line:
                return True
        self._ended()
        assert b"still in use" in said, said.decode()
        return False

    def _ended(self):
        self.process.wait()
        self.process.stderr.close()
        self.process = None

    def stop(self):
        """Connections are cut, what is committed is written."""
        if self.process:
            self.process.send_signal(signal.SIGINT)
            self._ended()

    def crash(self):
        """Every process of it at once, as when its machine stops."""
        self.process.send_signal(signal.SIGSTOP)  # so that nobody is born meanwhile
        for stat in glob.glob("/proc/[0-9]*/stat"):
            try:
                parent = int(Path(stat).read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    os.kill(int(stat.split("/")[2]), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue
        self.process.kill()
        self._ended()

    def url(self, database):
        return f"postgresql://serin:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def sql(self, text, database="postgres"):
        """Rows of the last statement, as lists of texts."""
        done = subprocess.run([self.programs / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text,
                               self.url(database)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()]

    def database(self):
        self.made += 1
        name = f"ledger{self.made}"
        self.sql(f"CREATE DATABASE {name}")
        return name


@pytest.fixture(scope="module")
def postgres():
    if not find():
        pytest.skip("no PostgreSQL is installed here; ./check installs it")
    server = Postgres()
    yield server
    server.stop()
    shutil.rmtree(server.dir, ignore_errors=True)
