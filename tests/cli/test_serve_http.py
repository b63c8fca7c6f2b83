"""serin serve as a process: TLS, reloads by SIGHUP, the stop by signals, Host and Origin headers, systemd, and what
is refused before a model is loaded. What needs no process is in tests/unit/test_http.c.
"""
import http.client
import json
import os
import queue
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))
SERIN = os.environ["SERIN"]
WAIT = 60


@pytest.fixture(scope="session")
def smol():
    path = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if not path.exists():
        subprocess.run([sys.executable, ROOT / "tools/get-model", "smollm2"], check=True,
                       env={**os.environ, "SERIN_CACHE": str(MODELS.parent)})
    return path


class Server:
    """A running serin serve; its log lines come in a queue."""

    def __init__(self, model, *args, env=None):
        self.process = subprocess.Popen(
            [SERIN, "serve", str(model), "--listen", "127.0.0.1:0", "--json", "--ctx", "1024", "--parallel", "4", "-t", "2",
             *map(str, args)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self.log, self.lines = queue.Queue(), []
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()
        line = self.process.stdout.readline()
        assert line, "".join(self.lines)
        self.ready = json.loads(line)
        self.address = self.ready["address"]
        self.port = 0 if self.address.startswith("unix:") else int(self.address.rsplit(":", 1)[1])

    def read_log(self):
        for line in self.process.stderr:
            self.lines.append(line)
            self.log.put(line)

    def wait_log(self, **want):
        """The next line of the log that has these values."""
        while True:
            line = json.loads(self.log.get(timeout=WAIT))
            if all(line.get(k) == v for k, v in want.items()):
                return line

    def connect(self, context=None):
        if context:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=WAIT, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)

    def get(self, path="/health", headers=None, context=None):
        c = self.connect(context)
        c.request("GET", path, headers=headers or {})
        r = c.getresponse()
        body = r.read()
        c.close()
        return r, body

    def figure(self, name, headers=None, context=None):
        """A value of /metrics."""
        _, body = self.get("/metrics", headers, context)
        return sum(float(line.rsplit(" ", 1)[1]) for line in body.decode().splitlines() if line.startswith(name + "{"))

    def wait_figure(self, name, value, **kw):
        end = time.monotonic() + WAIT
        while (now := self.figure(name, **kw)) != value:
            assert time.monotonic() < end, f"{name} is {now}"

    def ask(self, prompt="Once upon a time", tokens=7000, stream=True, context=None, key=None):
        """A connection on which a completion was asked for."""
        c = self.connect(context)
        body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "stream": stream}
        c.request("POST", "/v1/completions", json.dumps(body), {"Authorization": f"Bearer {key}"} if key else {})
        return c

    def end(self, sig=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(timeout=WAIT)


@pytest.fixture
def serve(smol):
    servers = []

    def start(*args, **kw):
        servers.append(Server(smol, *args, **kw))
        return servers[-1]
    yield start
    for s in servers:
        s.process.kill()
        s.process.wait()


def make_cert(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                    "-out", cert], check=True, capture_output=True)
    return cert, key


def trust(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(cert))


def test_address_is_one_line_and_term_ends_with_success(serve):
    s = serve("--alias", "gpt-test")
    assert s.ready["models"] == ["SmolLM2-135M-Instruct.Q4_1"] and s.ready["pid"] == s.process.pid
    r, body = s.get("/health/ready")
    assert r.status == 200 and json.loads(body) == {"status": "ready"}
    line = s.wait_log(path="/health/ready")
    assert line["call"] == r.getheader("x-serin-call") and line["status"] == 200 and line["complete"] is True
    assert s.end() == 0
    assert s.process.stdout.read() == ""


def test_int_ends_with_success_too(serve):
    assert serve().end(signal.SIGINT) == 0


RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"


def events(response):
    """The data of each event of a stream."""
    for line in response:
        if line.startswith(b"data: "):
            yield line[6:].strip().decode()


def test_stop_lets_running_answers_finish(serve):
    s = serve()
    stream = events(s.ask(tokens=40).getresponse())
    next(stream)
    s.process.send_signal(signal.SIGTERM)
    rest = list(stream)
    assert rest[-1] == "[DONE]" and json.loads(rest[-2])["choices"][0]["finish_reason"] == "length"
    assert s.process.wait(timeout=WAIT) == 0


def test_while_it_stops_it_refuses_and_a_second_signal_ends_streams_properly(serve):
    s = serve("--ctx", 8192)
    stream = events(s.ask().getresponse())
    whole = s.ask(stream=False)  # an answer that is not streamed
    next(stream)
    s.wait_figure(RUNNING, 2)
    s.process.send_signal(signal.SIGTERM)
    s.wait_log(event="stopping")
    while (reply := s.get("/v1/models"))[0].status == 200:  # the line is logged just before it is so
        pass
    assert reply[0].status == 503 and reply[0].getheader("Retry-After") == "1"
    assert reply[0].getheader("Connection") == "close"
    assert json.loads(reply[1])["error"]["code"] == "draining"
    assert s.get("/health")[0].status == 200
    r, body = s.get("/health/ready")
    assert r.status == 503 and json.loads(body)["reason"] == "draining"
    s.process.send_signal(signal.SIGTERM)
    rest = list(stream)
    assert rest[-1] == "[DONE]" and "error" in json.loads(rest[-2])
    r = whole.getresponse()
    assert r.status == 503 and "error" in json.loads(r.read())
    assert s.process.wait(timeout=WAIT) == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("when", ["streaming", "whole", "prefill", "queued"])
def test_a_client_that_leaves_ends_its_work(serve, tmp_path, tls, when):
    args, context = [], None
    if tls:
        cert, key = make_cert(tmp_path, "a")
        args, context = ["--tls-cert", cert, "--tls-key", key], trust(cert)
    s = serve("--ctx", 8192, "--parallel", 1, *args)
    first = s.ask(context=context, stream=when != "whole",
                  prompt="word " * 6000 if when == "prefill" else "Once", tokens=1000 if when == "prefill" else 7000)
    s.wait_figure(RUNNING, 1, context=context)
    if when == "streaming":
        next(events(first.getresponse()))
    if when == "queued":
        second = s.ask(context=context)
        s.wait_figure(WAITING, 1, context=context)
        second.close()
        s.wait_log(path="/v1/completions", complete=False)
        s.wait_figure(WAITING, 0, context=context)
        assert s.figure(RUNNING, context=context) == 1
    first.sock.close() if first.sock else None
    first.close()
    line = s.wait_log(path="/v1/completions", complete=False)
    assert line["output_tokens"] < 7000
    s.wait_figure(RUNNING, 0, context=context)
    assert s.end() == 0


def test_tls_serves_and_reload_changes_the_certificate(serve, tmp_path):
    cert, key = make_cert(tmp_path, "old")
    s = serve("--tls-cert", cert, "--tls-key", key)
    assert s.address.startswith("https://")
    old = trust(cert)
    r, _ = s.get("/health", context=old)
    assert r.status == 200
    kept = s.connect(old)  # a session that was begun with the old certificate goes on
    kept.request("GET", "/health")
    assert kept.getresponse().read()

    new_cert, new_key = make_cert(tmp_path, "new")
    fresh = trust(new_cert)
    shutil.copy(new_cert, cert)
    s.process.send_signal(signal.SIGHUP)  # a certificate without its key
    assert "not that of the first certificate" in s.wait_log(event="reload_refused")["detail"]
    assert s.get("/health", context=old)[0].status == 200

    shutil.copy(new_key, key)
    s.process.send_signal(signal.SIGHUP)
    s.wait_log(event="reload")
    assert s.get("/health", context=fresh)[0].status == 200
    with pytest.raises(ssl.SSLError):
        s.get("/health", context=old)
    kept.request("GET", "/health")
    assert kept.getresponse().status == 200
    kept.close()
    # Plain HTTP gets nothing there, and harms nothing.
    plain = socket.create_connection(("127.0.0.1", s.port), timeout=WAIT)
    plain.sendall(b"GET /health HTTP/1.0\r\n\r\n")
    assert b"200" not in plain.recv(1000)
    plain.close()
    assert s.get("/health", context=fresh)[0].status == 200
    assert s.end() == 0


def test_old_tls_versions_are_refused(serve, tmp_path):
    cert, key = make_cert(tmp_path, "old")
    s = serve("--tls-cert", cert, "--tls-key", key)
    context = trust(cert)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert s.get("/health", context=context)[0].status == 200
    # Python's own OpenSSL may refuse 1.1 before it is sent; either way nothing is served.
    result = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.port}", "-tls1_1", "-cipher",
                             "ALL:@SECLEVEL=0"], stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT)
    assert result.returncode != 0


def test_reload_changes_keys(serve, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("alice a-secret-of-alice-1234\n")
    s = serve("--keys", keys)
    alice, bob = ({"Authorization": f"Bearer {k}"} for k in ("a-secret-of-alice-1234", "a-secret-of-bob-123456"))
    assert s.get("/metrics")[0].status == 401
    assert s.get("/metrics", alice)[0].status == 200
    assert s.wait_log(path="/metrics", status=200)["key"] == "alice"
    keys.write_text("bob a-secret-of-bob-123456\n")
    s.process.send_signal(signal.SIGHUP)
    assert "keys.alice (removed), keys.bob (added)" in s.wait_log(event="reload")["detail"]
    assert s.get("/metrics", alice)[0].status == 401
    assert s.get("/metrics", bob)[0].status == 200
    keys.write_text("broken\n")
    s.process.send_signal(signal.SIGHUP)
    assert "a-secret" not in s.wait_log(event="reload_refused")["detail"]
    assert s.get("/metrics", bob)[0].status == 200
    assert s.get("/health")[0].status == 200
    assert s.end() == 0


def test_hosts_and_origins(serve):
    s = serve("--host", "models.example", "--cors", "https://app.example")
    assert s.get("/metrics", {"Host": "models.example"})[0].status == 200
    r, body = s.get("/metrics", {"Host": "rebound.example"})
    assert r.status == 403 and json.loads(body)["error"]["code"] == "host_not_allowed"
    r, _ = s.get("/metrics", {"Host": "models.example", "Origin": "https://app.example"})
    assert r.status == 200 and r.getheader("Access-Control-Allow-Origin") == "https://app.example"
    r, body = s.get("/metrics", {"Host": "models.example", "Origin": "https://other.example"})
    assert r.status == 403 and json.loads(body)["error"]["code"] == "origin_not_allowed"


def test_unix_socket_is_served_and_removed(smol):
    folder = tempfile.TemporaryDirectory(prefix="serin-")  # a socket's path must be short
    path = Path(folder.name) / "serin.sock"
    s = Server(smol, "--listen", f"unix:{path}")
    try:
        assert s.address == f"unix:{path}"
        c = socket.socket(socket.AF_UNIX)
        c.settimeout(WAIT)
        c.connect(str(path))
        c.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert c.recv(1000).startswith(b"HTTP/1.1 200")
        c.close()
        assert s.wait_log(path="/health")["client"] == "unix"
        assert s.end() == 0
        assert not path.exists()
    finally:
        s.process.kill()
        folder.cleanup()


def test_systemd_is_told(serve, tmp_path):
    path = tmp_path / "notify"
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(path))
    notify.settimeout(WAIT)

    def told(*, but=b"WATCHDOG=1"):
        while (text := notify.recv(1000)) == but:
            pass
        return text
    s = serve(env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"})
    assert told() == b"READY=1"
    assert told(but=b"") == b"WATCHDOG=1"
    s.process.send_signal(signal.SIGHUP)
    assert told().startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert told() == b"READY=1"
    assert s.end() == 0
    assert told() == b"STOPPING=1"


def refused(*args, model=None):
    r = subprocess.run([SERIN, "serve", *([str(model)] if model else []), *map(str, args)], capture_output=True,
                       text=True, timeout=WAIT, stdin=subprocess.DEVNULL)
    assert r.returncode == 2 and r.stdout == "", r
    return r.stderr


def test_what_cannot_be_served_is_refused_before_loading(smol, tmp_path):
    cert, key = make_cert(tmp_path, "a")
    other, _ = make_cert(tmp_path, "b")
    assert "--allow-open" in refused("--listen", "0.0.0.0:0", model=smol)
    assert "HOST:PORT" in refused("--listen", "8080", "--allow-open", model=smol)
    assert "at most 65535" in refused("--listen", "127.0.0.1:99999", model=smol)
    assert "--listen 127.0.0.1:PORT" in refused("--port", "8080", model=smol)
    assert "write NAME=MODEL" in refused("-m", "small=")
    assert "--parallel N" in refused("-np", "4", model=smol)
    assert "serin serve MODEL" in refused()
    assert "nosuch" in refused(model="nosuch")
    assert "key is missing" in refused("--tls-cert", cert, model=smol)
    assert "not that of the first certificate" in refused("--tls-cert", other, "--tls-key", key, model=smol)
    assert "must hold one to" in refused("--tls-cert", key, "--tls-key", key, model=smol)
    assert "ngram" in refused("--speculate", "magic", model=smol)
    assert "f16, q8_0 or f32" in refused("--kv", "f8", model=smol)
    assert "NAME=VALUE" in refused("--limit", "body", model=smol)
    assert "known are" in refused("--limit", "bodies=1", model=smol)
    assert "--alias" in refused("--alias", "x")
    short = tmp_path / "keys.txt"
    short.write_text("# keys\nalice short\n")
    message = refused("--keys", short, model=smol)
    assert f"{short}:2" in message and "short\n" not in message


def test_a_port_that_is_taken_is_said(smol):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        r = subprocess.run([SERIN, "serve", str(smol), "--listen", f"127.0.0.1:{taken.getsockname()[1]}"],
                           capture_output=True, text=True, timeout=WAIT)
    assert r.returncode == 1 and "another program has it" in r.stderr


def test_check_config_names_what_is_wrong(smol, tmp_path):
    file = tmp_path / "serin.yaml"
    file.write_text(f"models:\n  - name: a\n    path: {smol}\nlimits:\n  body: 1 MiB\n")
    good = subprocess.run([SERIN, "serve", "--config", str(file), "--check-config"], capture_output=True, text=True,
                          timeout=WAIT)
    assert good.returncode == 0 and "good" in good.stdout and " a\n" in good.stdout
    file.write_text(f"models:\n  - name: a\n    path: {smol}\n    colour: red\n")
    assert f"{file}:4" in refused("--config", file, "--check-config")
    file.write_text("models:\n  - name: a\n    path: nosuch\n")
    assert f"{file}:3:11" in refused("--config", file, "--check-config")
    keys = tmp_path / "keys.txt"
    keys.write_text("clerk clerk-secret-0123456789\n")
    for match, word in (("endpoint: /v1/chat/completion", "no requests for a model come to"), ("endpoint: /metrics", "no requests"),
                        ("key: nobody", "has no key 'nobody'")):
        file.write_text(f"models:\n  - {{name: a, path: {smol}}}\nroutes:\n  - name: r\n    match: {{{match}}}\n")
        said = refused("--config", file, "--keys", keys, "--check-config")
        assert f"{file}:5:" in said and word in said
    file.write_text(f"models:\n  - {{name: a, path: {smol}}}\nroutes:\n  - {{name: r, match: {{key: clerk}}}}\n")
    assert "no file of keys" in refused("--config", file, "--check-config")


def test_flags_win_over_the_file(smol, tmp_path):
    file = tmp_path / "serin.yaml"
    file.write_text(f"listen: 127.0.0.1:1\nmodels:\n  - {{name: other, path: {smol}, lazy: true}}\n")
    s = Server(smol, "--config", file)
    try:
        assert s.ready["models"] == ["SmolLM2-135M-Instruct.Q4_1", "other"]
        assert s.get()[0].status == 200
        assert s.end() == 0
    finally:
        s.process.kill()
