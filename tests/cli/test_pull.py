"""serin pull against a local HTTP server that misbehaves: cuts connections, lies about lengths, redirects."""
import hashlib
import http.server
import json
import os
import random
import re
import signal
import subprocess
import threading

import pytest

SERIN = os.environ["SERIN"]
DATA = b"GGUF" + random.Random(7).randbytes(299_996)
SHA = hashlib.sha256(DATA).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.files, self.cuts, self.etag = [], {"/tiny.gguf": DATA}, [], '"v1"'
        self.behave = {}
        self.hold = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        hub = self.server
        hub.requests.append((self.path, dict(self.headers)))
        path = self.path.split("?")[0]
        how = hub.behave.get(path)
        if how == "loop" or isinstance(how, tuple):
            self.send_response(302)
            self.send_header("Location", how[0] if isinstance(how, tuple) else path)
            for name, value in how[1:] if isinstance(how, tuple) else ():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if isinstance(how, int):
            return self.send_error(how)
        if path not in hub.files:
            return self.send_error(404)
        body, start = hub.files[path], 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and self.headers.get("If-Range", hub.etag) == hub.etag and how != "no ranges":
            start = int(match[1])
            if start >= len(body):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start if how != 'wrong range' else 0}-{len(body) - 1}/{len(body)}")
        if hub.etag:
            self.send_header("ETag", hub.etag)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = hub.cuts.pop(0) if hub.cuts else None
        self.wfile.write(body[start:] if cut is None else body[start:start + cut])
        if how == "stall":
            self.wfile.flush()
            hub.hold.wait(60)
        self.close_connection = True


@pytest.fixture
def hub():
    server = Hub()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def pull(tmp_path, hub):
    def run(*args, code=0, **env):
        done = subprocess.run([SERIN, "pull", *args], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "SERIN_CACHE": str(tmp_path), "SERIN_HUB": hub.url,
                                   "SERIN_PULL_RETRY_MS": "1", "HF_TOKEN": "", **env})
        assert done.returncode == code, done.stderr
        return done
    run.models = tmp_path / "models"
    return run


def test_a_url_goes_into_the_cache(pull, hub):
    said = json.loads(pull(hub.url + "/tiny.gguf?download=1", "--json").stdout)
    assert (pull.models / "tiny.gguf").read_bytes() == DATA
    assert said == {"path": str(pull.models / "tiny.gguf"), "kept": False, "bytes": len(DATA), "resumed_from": 0,
                    "sha256": SHA, "verified": False}
    assert [p.name for p in pull.models.iterdir()] == ["tiny.gguf"]


def test_what_is_there_is_kept_unless_forced(pull, hub):
    pull(hub.url + "/tiny.gguf")
    hub.files["/tiny.gguf"] = b"GGUF other"
    assert "is there already" in pull(hub.url + "/tiny.gguf").stdout
    assert (pull.models / "tiny.gguf").read_bytes() == DATA
    pull(hub.url + "/tiny.gguf", "--force")
    assert (pull.models / "tiny.gguf").read_bytes() == b"GGUF other"


@pytest.mark.parametrize("cuts", [[100_000], [1, 1, 1, 50_000], [0, 10]])
def test_a_cut_connection_is_resumed_where_it_was_cut(pull, hub, cuts):
    hub.cuts = list(cuts)
    pull(hub.url + "/tiny.gguf", "--sha256", SHA.upper())
    assert (pull.models / "tiny.gguf").read_bytes() == DATA
    starts = [int(h["Range"][6:-1]) if "Range" in h else 0 for _, h in hub.requests]
    assert starts[-1] == sum(cuts) and len(starts) == len(cuts) + 1


def test_a_later_call_goes_on(pull, hub):
    hub.cuts = [200_000] + [0] * 20
    assert "after 6 tries" in pull(hub.url + "/tiny.gguf", code=1).stderr
    assert (pull.models / "tiny.gguf.part").stat().st_size == 200_000
    hub.cuts = []
    assert json.loads(pull(hub.url + "/tiny.gguf", "--json").stdout)["resumed_from"] == 200_000
    assert (pull.models / "tiny.gguf").read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_fetched_anew(pull, hub):
    hub.cuts = [200_000] + [0] * 20
    pull(hub.url + "/tiny.gguf", code=1)
    hub.cuts, hub.etag, hub.files["/tiny.gguf"] = [], '"v2"', b"GGUF new" * 1000
    pull(hub.url + "/tiny.gguf")
    assert (pull.models / "tiny.gguf").read_bytes() == b"GGUF new" * 1000


def test_without_a_validator_or_ranges_it_starts_over(pull, hub):
    hub.etag, hub.cuts = None, [1000]
    pull(hub.url + "/tiny.gguf")
    assert (pull.models / "tiny.gguf").read_bytes() == DATA
    assert all("Range" not in h for _, h in hub.requests)
    hub.etag, hub.cuts, hub.behave = '"v1"', [1000], {"/tiny.gguf": "no ranges"}
    pull(hub.url + "/tiny.gguf", "--force")
    assert (pull.models / "tiny.gguf").read_bytes() == DATA


def test_a_range_other_than_asked_for_is_refused(pull, hub):
    hub.cuts, hub.behave = [1000], {"/tiny.gguf": "wrong range"}
    assert "1000 were asked for" in pull(hub.url + "/tiny.gguf", code=1).stderr
    assert not (pull.models / "tiny.gguf").exists()


def test_a_wrong_digest_leaves_nothing(pull, hub):
    said = pull(hub.url + "/tiny.gguf", "--sha256", "0" * 64, code=2).stderr
    assert SHA in said and "0" * 64 in said
    assert list(pull.models.iterdir()) == []


@pytest.mark.parametrize("sent,seems", [(b"<!DOCTYPE html><p>Log in" + b" " * 100_000, "an HTML page"),
                                        (b"<html>", "an HTML page"), (b"PK\3\4" + b"x" * 5000, "a zip archive"),
                                        (b"GG", "cut off"), (b"", "is empty"), (b"xxxx" + DATA, "begins with the bytes 78787878")])
def test_what_is_not_gguf_is_not_kept(pull, hub, sent, seems):
    hub.files["/tiny.gguf"] = sent
    said = pull(hub.url + "/tiny.gguf", code=2).stderr
    assert "nothing was kept" in said and "/tiny.gguf" in said and seems in said
    assert list(pull.models.iterdir()) == []
    hub.files["/tiny.gguf"] = DATA
    pull(hub.url + "/tiny.gguf")
    hub.files["/tiny.gguf"] = sent  # nor does it take the place of a file that is there
    assert seems in pull(hub.url + "/tiny.gguf", "--force", code=2).stderr
    assert (pull.models / "tiny.gguf").read_bytes() == DATA and len(list(pull.models.iterdir())) == 1


def test_a_page_in_place_of_the_file_is_refused_by_its_first_bytes(pull, hub):
    hub.files["/tiny.gguf"], hub.cuts = b"<html>" + b"x" * 300_000, [100, 100, 100_000]
    pull(hub.url + "/tiny.gguf", code=2)  # in pieces; the last connection is cut in vain
    assert [h.get("Range") for _, h in hub.requests[:3]] == [None, "bytes=100-", "bytes=200-"] and len(hub.requests) == 3
    assert list(pull.models.iterdir()) == []


def test_errors_say_what_to_do(pull, hub):
    assert "there is no such file (HTTP 404)" in pull(hub.url + "/none.gguf", code=2).stderr
    assert not list(pull.models.glob("none.gguf*"))
    hub.behave = {"/tiny.gguf": 403, "/busy.gguf": 503, "/loop.gguf": "loop"}
    assert "HF_TOKEN" in pull(hub.url + "/tiny.gguf", code=2).stderr
    assert "HTTP 503" in pull(hub.url + "/busy.gguf", code=1).stderr
    assert len([p for p, _ in hub.requests if p == "/busy.gguf"]) == 6
    assert "without end" in pull(hub.url + "/loop.gguf", code=1).stderr
    assert "online" in pull("http://127.0.0.1:1/x.gguf", code=1).stderr
    assert "http://" in pull("ftp://127.0.0.1/x.gguf", code=2).stderr
    assert "--to FILE" in pull(hub.url + "/", code=2).stderr
    assert "neither a URL nor" in pull("tiny", code=2).stderr
    assert "64 hexadecimal" in pull(hub.url + "/tiny.gguf", "--sha256", "12", code=2).stderr


def test_redirects_are_followed_and_the_token_stays_at_home(pull, hub):
    other = Hub()
    other.files["/cdn"] = DATA
    hub.behave["/tiny.gguf"] = (other.url.replace("127.0.0.1", "localhost") + "/cdn", ("X-Linked-ETag", f'"{SHA}"'))
    said = json.loads(pull(hub.url + "/tiny.gguf", "--json", HF_TOKEN="secret").stdout)
    assert said["verified"] and said["sha256"] == SHA
    assert hub.requests[0][1]["Authorization"] == "Bearer secret"
    assert "Authorization" not in other.requests[0][1]
    other.files["/other.gguf"] = DATA
    for url in (other.url, other.url.replace("http://", f"http://{hub.url[7:]}@")):  # another server is told no token
        pull(url + "/other.gguf", "--force", HF_TOKEN="secret")
        assert "secret" not in str(other.requests[-1][1]) and other.requests[-1][0] == "/other.gguf"
    hub.behave["/tiny.gguf"] = (other.url + "/cdn", ("X-Linked-ETag", f'"{"1" * 64}"'))
    assert "was expected" in pull(hub.url + "/tiny.gguf", "--force", code=2).stderr
    assert (pull.models / "tiny.gguf").read_bytes() == DATA
    other.shutdown()
    other.server_close()


def test_a_quantisation_is_found_in_a_repository(pull, hub):
    names = ["README.md", "m-Q4_K_M.gguf", "m-IQ4_K_M.gguf", "m-Q8_0.gguf", "sub/m-Q5_0-00001-of-00002.gguf",
             "sub/m-Q5_0-00002-of-00002.gguf"]
    hub.files["/api/models/o/r/revision/main"] = json.dumps({"siblings": [{"rfilename": n} for n in names]}).encode()
    for n in names:
        hub.files[f"/o/r/resolve/main/{n}"] = f"GGUF {n}".encode()
    pull("o/r:q4_k_m")
    pull("o/r:Q5_0")
    pull("o/r:m-Q8_0.gguf", "--to", str(pull.models / "x.gguf"))
    assert {p.name: p.read_text().removeprefix("GGUF ") for p in pull.models.iterdir()} == {
        "m-Q4_K_M.gguf": names[1], "x.gguf": names[3], "m-Q5_0-00001-of-00002.gguf": names[4],
        "m-Q5_0-00002-of-00002.gguf": names[5]}
    assert "its GGUF files are: m-Q4_K_M.gguf" in pull("o/r:Q2_K", code=2).stderr
    assert "--to must name a folder" in pull("o/r:Q5_0", "--to", "y", code=2).stderr
    assert "HTTP 404" in pull("o/none:Q4_0", code=2).stderr


def test_two_downloads_of_one_file_do_not_meet(pull, hub, tmp_path):
    hub.behave["/tiny.gguf"], hub.cuts = "stall", [1000]
    env = {**os.environ, "SERIN_CACHE": str(tmp_path)}
    first = subprocess.Popen([SERIN, "pull", hub.url + "/tiny.gguf"], env=env, stderr=subprocess.PIPE, text=True)
    part = pull.models / "tiny.gguf.part"
    while not part.exists() or part.stat().st_size < 1000:
        assert first.poll() is None
    assert "another process" in pull(hub.url + "/tiny.gguf", code=1).stderr
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130 and "goes on from" in first.stderr.read()
    assert part.stat().st_size == 1000
