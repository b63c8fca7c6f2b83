#!/usr/bin/env python3
"""Breaks `serin serve`, or shows that it holds: random clients, good, bad and rude, for a while, and at the end the books.

    SERIN=build/release/serin tests/tools/soak.py MODEL [--seconds 1200] [--clients 24] [--second MODEL] [--tls] [--json]

Every well-formed request has one right answer (soak_requests.py): the first that came is compared with all later ones,
whatever ran beside them, and at the end with that of a quiet server. Meanwhile others leave at any moment, stop reading,
drip bytes, send garbage; models are loaded and unloaded, keys read again. Checked are, by the server's log, line by line,
and its metrics: that every exchange was counted once and as its client saw it, that no slot and no block is held, that
memory and descriptors are back where they were, and that SIGTERM with an answer running ends with that answer and 0.
Ends with 1 and what was found if anything was. A run is not repeatable to the byte (time decides what meets what), but
what is asked follows from --seed.
"""
import argparse
import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from soak_clients import Clients, request_bytes  # noqa: E402

KEYS = {"alice": "the-first-secret-of-all", "bob": "another-secret-of-many", "carol": "a-third-secret-for-her",
        "root": "the-secret-of-the-admin"}
RUNNING, WAITING, HELD = "vllm:num_requests_running", "vllm:num_requests_waiting", "serin_kv_blocks_held"


class Server:
    """The process, its log as a ledger of exchanges, and what /proc says of it."""

    def __init__(self, o, folder):
        keys, config = folder / "keys.txt", folder / "serin.yaml"
        keys.write_text("".join(f"{n} {k}{' admin' if n == 'root' else ''}{' priority=5' if n == 'carol' else ''}\n"
                                for n, k in KEYS.items()))
        models = [{"name": "first", "path": str(o.model), "ctx": o.ctx, "parallel": o.parallel, "cache_tokens": o.cache_tokens}]
        if o.second:
            models.append({"name": "second", "path": str(o.second), "ctx": 512, "parallel": 2, "cache_tokens": 1024, "lazy": True})
        for m in models:
            m.update({"threads": o.threads} if o.threads else {})
        conf = {"listen": "127.0.0.1:0", "ledger": str(folder / "ledger"), "keys": str(keys), "default_model": "first", "models": models, "grace": "60s",
                "routes": [{"name": "hasty", "match": {"header": {"x-hasty": "1"}}, "timeout": "40ms"}],
                "limits": {"body": "1MiB", "queue": 4 * o.parallel, "header_timeout": f"{o.patience}s",
                           "body_timeout": f"{o.patience}s", "idle_timeout": f"{o.patience}s"}}
        self.tls = None
        if o.tls:
            cert, key = folder / "cert.pem", folder / "key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "2", "-subj", "/CN=a", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
                            cert], check=True, capture_output=True)
            conf["tls"] = {"cert": str(cert), "key": str(key)}
            self.tls = ssl.create_default_context(cafile=str(cert))
        config.write_text(json.dumps(conf))  # JSON is YAML
        self.process = subprocess.Popen([o.serin, "serve", "--config", config, "--json"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.more = threading.Condition()  # guards what follows, which the reader writes
        self.by_status, self.by_finish = Counter(), Counter()
        self.open, self.other_lines = {}, []  # exchanges that no client has claimed yet
        self.lines = self.output_tokens = self.gone = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        first = self.process.stdout.readline()
        if not first:
            self.process.wait()
            self.reader.join()
            sys.exit("serin serve did not start:\n" + "".join(self.other_lines))
        self.port = int(json.loads(first)["address"].rsplit(":", 1)[1])

    def _read(self):
        for line in self.process.stderr:
            with self.more:
                e = json.loads(line) if line.startswith("{") else {}
                if "call" in e:
                    self.lines += 1
                    self.by_status[e["route"] or "other", e["status"]] += 1
                    self.gone += not e["complete"]
                    if e["model"] and e["finish"]:
                        self.by_finish[e["finish"]] += 1
                    if e["model"] == "first":
                        self.output_tokens += e["output_tokens"]
                    self.open[e["call"]] = (e["route"], e["status"], e["complete"], e["output_tokens"])
                elif not e:
                    self.other_lines.append(line)
                self.more.notify_all()

    def claim(self, call, timeout=30):
        """The log's entry of a call, once."""
        with self.more:
            return self.open.pop(call) if self.more.wait_for(lambda: call in self.open, timeout) else None

    def rss(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))


def figures(text):
    """Prometheus text as {(name, labels): value}."""
    found = {}
    for line in text.decode().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name] = float(value)
    return found


def total(found, name, label=""):
    return sum(v for k, v in found.items() if (k == name or k.startswith(name + "{")) and label in k)


class Soak:
    def __init__(self, o, folder):
        self.o, self.server, self.problems = o, Server(o, folder), []
        self.samples, self.final = [], {}

    def problem(self, text):
        self.problems.append(text)
        if len(self.problems) <= 20:
            print("soak: " + text, file=sys.stderr, flush=True)

    async def scrape(self):
        r = await self.clients.ask("GET", "/metrics", key=KEYS["root"])
        return figures(r.body)

    async def quiet(self):
        """Waits until nothing runs, waits, or holds a block."""
        end = time.monotonic() + 60
        while True:
            m = await self.scrape()
            left = {n: total(m, n) for n in (RUNNING, WAITING, HELD)}
            if not any(left.values()) and self.server.fds() <= self.fds:
                return m
            if time.monotonic() > end:
                self.problem(f"after everybody left: {left}, {self.server.fds()} descriptors (at the start {self.fds})")
                return m
            await asyncio.sleep(0.05)

    async def lap(self, number):
        """Everybody at once, then silence: what is left in memory then is kept for good."""
        await self.clients.run(number, self.o.seconds / self.o.laps)
        if self.server.process.poll() is not None:
            raise EOFError(f"the server ended with {self.server.process.returncode}")
        await self.quiet()
        self.samples.append(self.server.rss())

    def check_memory(self):
        """After a warm-up of a quarter of the laps memory may vary, but neither grow nor climb."""
        warm = self.samples[len(self.samples) // 4:]
        n, middle, mean = len(warm), (len(warm) - 1) / 2, sum(warm) / len(warm)
        slope = sum((i - middle) * (v - mean) for i, v in enumerate(warm)) / max(1, sum((i - middle) ** 2 for i in range(n)))
        self.final.update(rss_start=self.rss_start, rss_warm=warm[0], rss_end=warm[-1], rss_most=max(self.samples),
                          rss_slope_per_minute=round(slope * self.o.laps / self.o.seconds * 60))
        room = self.o.room_mib << 20
        if not self.o.no_memory and (warm[-1] > warm[0] + room or slope * n > room):
            self.problem(f"memory grew: {[v >> 20 for v in self.samples]} MiB after each lap")

    async def check_books(self, m):
        """The metrics are the log's sums, and the log's entries are what the clients saw. m is the last scrape."""
        s, c = self.server, self.clients
        await c.settle()  # that scrape alone: what came before is settled
        with s.more:
            logged, finishes, gone, left = Counter(s.by_status), Counter(s.by_finish), s.gone, dict(s.open)
        logged["/metrics", 200] -= 1  # the scrape that is not in itself
        for (route, status), n in logged.items():
            have = total(m, "serin_http_requests_total", f'{{endpoint="{route}",status="{status}"}}')
            if have != n:
                self.problem(f"serin_http_requests_total of {route} {status} is {have:g}, the log has {n}")
        if total(m, "serin_http_requests_total") != sum(logged.values()):
            self.problem("serin_http_requests_total has more than the log")
        if total(m, "serin_clients_gone_total") != gone:
            self.problem(f"serin_clients_gone_total is {total(m, 'serin_clients_gone_total'):g}, the log has {gone}")
        for finish in ("stop", "length", "tool_calls"):
            have = total(m, "vllm:request_success_total", f'finished_reason="{finish}"')
            if have != finishes[finish]:
                self.problem(f"vllm:request_success_total of {finish} is {have:g}, the log has {finishes[finish]}")
        # What the clients saw and what they did not wait for.
        for route, status, complete, _ in left.values():
            c.unseen[route] += 1
        if sum(c.unseen.values()) > sum(c.left.values()):
            self.problem(f"{sum(c.unseen.values())} exchanges in the log that no client had; {sum(c.left.values())} were left")
        made = total(m, "vllm:generation_tokens_total", 'model_name="first"')
        self.final.update(generation_tokens=int(made), logged_output_tokens=s.output_tokens, usage_tokens=c.usage_tokens)
        if not c.usage_tokens <= s.output_tokens <= made <= c.usage_tokens + c.left_tokens:
            self.problem(f"tokens: {c.usage_tokens} in whole answers, {s.output_tokens} in the log, {made:g} made, at most "
                         f"{c.left_tokens} for those who left")

    async def check_alone(self):
        """Some of the answers again, on a quiet server and without its cache."""
        r = random.Random(self.o.seed)
        seen = sorted(self.clients.answers)
        for number in r.sample(seen, min(len(seen), self.o.alone)):
            await self.clients.check_one(number, alone=True)
        self.final["answers_again_alone"] = min(len(seen), self.o.alone)

    async def stop(self):
        """SIGTERM while an answer streams, another connection idles and a third has sent half a request."""
        idle, half = await self.clients.connect(), await self.clients.connect()
        half.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        stream = await self.clients.connect()
        body = {"prompt": "Once", "max_tokens": 200, "ignore_eos": True, "stream": True}
        stream.write(request_bytes("POST", "/v1/completions", json.dumps(body).encode(), key=KEYS["bob"]))
        reply = await stream.head()
        await stream.some(reply)
        self.server.process.send_signal(signal.SIGTERM)
        await stream.rest(reply)
        if not reply.body.endswith(b"data: [DONE]\n\n") or b'"finish_reason":"length"' not in reply.body:
            self.problem(f"the stream at the stop ends with {reply.body[-300:]!r}")
        status = await asyncio.to_thread(self.server.process.wait, 90)
        if status != 0:
            self.problem(f"the server ended with {status}")
        for c in (idle, half, stream):
            c.abort()
        await asyncio.to_thread(self.server.reader.join, 10)

    async def run(self):
        o, s = self.o, self.server
        self.clients = Clients(o, s, KEYS, self.problem)
        await self.scrape()
        self.fds = s.fds() + 2  # a descriptor or two of connections that are just being closed
        begun, self.rss_start = time.monotonic(), s.rss()
        try:
            for i in range(o.laps):
                await self.lap(i)
            await self.check_alone()
            await self.quiet()
            self.check_memory()
            self.final.update(fds_start=self.fds - 2, fds_end=s.fds(), threads=s.threads())
            await self.clients.settle()
            await self.check_books(await self.scrape())
            await self.stop()
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, EOFError) as e:
            self.problem(f"no way on: {type(e).__name__} {e}")
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()
        if s.other_lines:
            self.problem("on standard error:\n" + "".join(s.other_lines[:200]))
        return self.report(time.monotonic() - begun)

    def report(self, took):
        c = self.clients
        return {"seconds": round(took, 1), "seed": self.o.seed, "requests": self.server.lines, "connections": c.connections,
                "answers_compared": c.compared, "recipes": len(c.answers), "cancelled": c.cancelled, "refused": c.refused,
                "busy": c.busy, "by_action": dict(c.did), "by_status": {str(k): v for k, v in sorted(c.statuses.items())},
                **self.final, "problems": len(self.problems)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path)
    p.add_argument("--serin", default=os.environ.get("SERIN", "build/release/serin"))
    p.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", 20)))
    p.add_argument("--laps", type=int, default=8, help="times that everybody stops, so that what is left over is seen")
    p.add_argument("--clients", type=int, default=24)
    p.add_argument("--parallel", type=int, default=8)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--ctx", type=int, default=4096)
    p.add_argument("--cache-tokens", type=int, default=8192)
    p.add_argument("--second", type=Path, help="a model that is loaded and unloaded all the time")
    p.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    p.add_argument("--long", type=int, default=500, help="words of a long prompt")
    p.add_argument("--recipes", type=int, default=400, help="different requests")
    p.add_argument("--alone", type=int, default=30, help="answers that are checked again at the end")
    p.add_argument("--patience", type=int, default=20, help="seconds that the server waits for slow clients")
    p.add_argument("--room-mib", type=int, default=32, help="by how much memory may vary")
    p.add_argument("--no-memory", action="store_true", help="memory is not judged (sanitizers hold on to what was freed)")
    p.add_argument("--tls", action="store_true")
    p.add_argument("--seed", type=int, default=int(os.environ.get("SERIN_TEST_SEED", time.time_ns() % 1000000)))
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    print(f"soak: seed {o.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="serin-soak-") as folder:
        report = asyncio.run(Soak(o, Path(folder)).run())
    if o.json:
        print(json.dumps(report, indent=1))
    else:
        for k, v in report.items():
            print(f"{k:24} {v}")
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
