"""The soak's clients: bare HTTP over sockets, so that everything that a client can do wrong can be done, and a count of
what each of them was told.
"""
import asyncio
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from types import SimpleNamespace

from soak_requests import Wrong, answer_of, need, recipe

WAIT = 900  # seconds for what must come; a server that is only slow, or starves who has a low priority, does not fail


class Reply:
    def __init__(self, status, headers, has_body):
        self.status, self.headers, self.body = status, headers, bytearray()
        self.chunked = headers.get("transfer-encoding") == "chunked"
        self.left = int(headers["content-length"]) if "content-length" in headers else None
        self.done = not has_body or (self.left == 0 and not self.chunked)


def request_bytes(method, path, body=None, key=None, version="1.1", chunked=False, headers=()):
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        lines += ["Content-Type: application/json", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"]
    lines += [f"{k}: {v}" for k, v in headers]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode()
    if body is None:
        return data
    if not chunked:
        return data + body
    half = len(body) // 2
    return data + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:half], body[half:]) if p) + b"0\r\n\r\n"


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer, self.write = reader, writer, writer.write

    async def line(self):
        text = await asyncio.wait_for(self.reader.readline(), WAIT)
        if not text.endswith(b"\n"):
            raise EOFError(f"the connection ended in {text!r}")
        return text.rstrip(b"\r\n")

    async def head(self, method="POST"):
        while True:
            first = (await self.line()).decode("latin-1")
            need(first.startswith("HTTP/1."), f"not HTTP: {first[:100]!r}")
            headers = {}
            while text := (await self.line()).decode("latin-1"):
                name, value = text.split(":", 1)
                headers[name.lower()] = value.strip()
            status = int(first.split()[1])
            if status != 100:
                return Reply(status, headers, method != "HEAD" and status not in (204, 304))

    async def some(self, r):
        """The next piece of the body; False: that was all."""
        if r.done:
            return False
        if r.chunked:
            size = int((await self.line()).split(b";")[0], 16)
            if size:
                r.body += await asyncio.wait_for(self.reader.readexactly(size), WAIT)
            need(await self.line() == b"", "a chunk longer than it said")
            r.done = size == 0
        else:
            data = await asyncio.wait_for(self.reader.read(65536 if r.left is None else min(r.left, 65536)), WAIT)
            r.body += data
            if not data and r.left is not None:
                raise EOFError(f"{r.left} bytes of the body are missing")
            r.left = None if r.left is None else r.left - len(data)
            r.done = not data or r.left == 0
        return not r.done

    async def rest(self, r):
        while await self.some(r):
            pass
        return r

    async def reply(self, method="POST"):
        return await self.rest(await self.head(method))

    def abort(self):
        self.writer.transport.abort()


# (path, body, statuses): what a parser or a check must refuse, before any work.
MALFORMED = [
    ("/v1/chat/completions", b'{"messages": [', {400}), ("/v1/chat/completions", b"", {400}),
    ("/v1/chat/completions", b'{"messages": "x"}', {400}), ("/v1/chat/completions", b"[1,2]", {400}),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', {400}),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a\\u0000b"}], "max_tokens": -1}', {400}),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"a"}],"n":100000}', {400}),
    ("/v1/chat/completions", b'{"a":1,"a":2,"messages":[]}', {400}), ("/v1/completions", b"[" * 5000, {400}),
    ("/v1/completions", b'{"prompt": ' + b'{"a":' * 500, {400}), ("/v1/completions", b'{"prompt": 3.5}', {400}),
    ("/v1/completions", b'{"prompt": [999999999]}', {400}), ("/v1/completions", b'{"prompt":"a","temperature":99}', {400}),
    ("/v1/completions", b'{"prompt":"a","guided_regex":"((((("}', {400}),
    ("/v1/completions", b'{"prompt":"a","grammar":"root ::= nothing"}', {400}),
    ("/v1/completions", b'{"prompt":"a","model":"nobody"}', {404}), ("/v1/completions", b"null", {400}),
    ("/v1/completions", b'{"prompt":"' + b"word " * 20000 + b'"}', {400}),
    ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":'
     b'{"name":"a","schema":{"type":"object","patternProperties":{"(":{}}}}}}', {400}),
    ("/v1/responses", b'{"input": 1}', {400}), ("/v1/responses", b'{"previous_response_id": "x", "input": "a"}', {400}),
    ("/v1/messages", b'{"model":"first","messages":[]}', {400}), ("/v1/messages", b"{", {400}),
    ("/v1/embeddings", b'{"input": []}', {400}), ("/v1/embeddings", b'{"input": {"a": 1}}', {400}),
    ("/tokenize", b'{"content": 1}', {400}), ("/detokenize", b'{"tokens": [-1]}', {400}),
    ("/v1/models/load", b'{"model": "nobody"}', {400, 403, 404}), ("/v1/nothing", b"{}", {404}),
]

# What is no request. A reply, if one comes, is an error; the connection ends.
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET\r\n\r\n", b"\x00" * 300, b"GET / HTTP/9.9\r\n\r\n",
    b"GET /health HTTP/1.1\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"b" * 200000 + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"A%d: 1\r\n" % i for i in range(9000)) + b"\r\n",
    b"GET /health?%zz=%&&&=&a HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


class Clients:
    """answers: {number of a recipe: its answer}. Counts: see what the soak prints."""

    def __init__(self, o, server, keys, problem):
        self.o, self.server, self.problem = o, server, problem
        self.admin, self.keys = keys["root"], [k for n, k in keys.items() if n != "root"]
        self.key_text = None
        self.options = SimpleNamespace(tokens=o.tokens, long=o.long, model="first")
        self.answers, self.claims = {}, []
        self.did, self.statuses, self.left, self.unseen = Counter(), Counter(), Counter(), Counter()
        self.connections = self.compared = self.cancelled = self.refused = self.busy = 0
        self.usage_tokens = self.left_tokens = 0
        self.until = 0

    # ---- one exchange ----

    async def connect(self, small=False):
        s = socket.socket()
        s.setblocking(False)
        if small:  # what is not read soon fills up the server's side
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(s, ("127.0.0.1", self.server.port)), WAIT)
        self.connections += 1
        return Connection(*await asyncio.wait_for(asyncio.open_connection(
            sock=s, limit=4096 if small else 1 << 18, ssl=self.server.tls,
            server_hostname="127.0.0.1" if self.server.tls else None), WAIT))

    def saw(self, reply, tokens=0, whole=True):
        """A reply of the server's own was read; the log will have it."""
        self.statuses[reply.status] += 1
        need("x-serin-call" in reply.headers, f"a reply without x-serin-call: {reply.status} {reply.headers}")
        self.claims.append((reply.headers["x-serin-call"], reply.status, tokens, whole))
        if len(self.claims) > 500:
            self.claims = [c for c in self.claims if not self.settle_one(c, 0)]

    def settle_one(self, claim, timeout):
        call, status, tokens, whole = claim
        e = self.server.claim(call, timeout)
        if not e:
            return False
        if e[1] != status or (whole and not e[2]):
            self.problem(f"{call}: the client saw {status}, the log has {e}")
        if whole and tokens is not None and e[3] != tokens:
            self.problem(f"{call}: the client was told of {tokens} tokens, the log has {e}")
        return True

    async def settle(self):
        for claim in self.claims:
            if not await asyncio.to_thread(self.settle_one, claim, 30):
                self.problem(f"{claim[0]} is not in the log")
        self.claims = []

    def leave(self, recipe):
        """A client that goes without having read its reply to the end."""
        self.left[recipe.path] += 1
        self.left_tokens += self.most(recipe)

    def most(self, recipe):
        """How many tokens may be computed for it."""
        b = recipe.body
        prompts = b.get("prompt")
        prompts = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str) else 1
        return (b.get("max_tokens", b.get("max_output_tokens", 0)) or 1) * b.get("n", 1) * prompts

    async def ask(self, method, path, body=None, key=None, expect=(200,), **kw):
        c = await self.connect()
        try:
            c.write(request_bytes(method, path, body, key, **kw))
            r = await c.reply(method)
        finally:
            c.abort()
        self.saw(r, tokens=None)
        need(r.status in expect, f"{method} {path}: {r.status} {bytes(r.body[:300])!r}")
        return r

    def check_answer(self, recipe, stream, reply):
        """Whether it is the right answer, or a refusal that a full server may give."""
        if reply.status in (429, 503):
            need("retry-after" in reply.headers and b'"error"' in reply.body, f"{recipe.path}: {reply.status} without Retry-After: {bytes(reply.body[:300])!r}")
            self.saw(reply)
            self.busy += 1
            return
        need(reply.status == 200, f"{reply.status}: {bytes(reply.body[:500]).decode(errors='replace')}")
        try:
            told, _, made = answer_of(recipe, bytes(reply.body), stream)
        except Exception as e:
            raise Wrong(f"{type(e).__name__} {e}\n  {json.dumps(recipe.body)}\n  {bytes(reply.body)!r}") from e
        only_scored = recipe.body.get("max_tokens") == 0  # a token is drawn all the same, and kept to itself
        self.saw(reply, None if only_scored else made)
        self.usage_tokens += made
        self.left_tokens += self.most(recipe) if only_scored else 0
        if recipe.number < 0:
            return
        if recipe.number in self.answers:
            self.compared += 1
            need(self.answers[recipe.number] == told, f"another answer than before (stream: {stream}):\n  {told}\n  "
                                                      f"{self.answers[recipe.number]}")
        self.answers[recipe.number] = told

    async def check_one(self, number, alone=False):
        rec = self.recipe(number)
        more = {"cache_prompt": False} if alone and rec.form in ("chat", "completion") else {}
        c = await self.connect()
        try:
            c.write(request_bytes("POST", rec.path, rec.text(**more), self.keys[0]))
            self.check_answer(rec, False, await c.reply())
        except Wrong as e:
            self.problem(f"recipe {number} {'alone ' if alone else ''}{rec.path} {json.dumps(rec.body)[:600]}: {e}")
        finally:
            c.abort()

    # ---- what clients do ----

    def recipe(self, number):
        return recipe(self.o.seed, number, self.options)

    def pick(self, r, streamed=False):
        while True:
            rec = self.recipe(r.randrange(self.o.recipes))
            if rec.can_stream or not streamed:
                return rec

    async def sleep(self, r, most):
        await asyncio.sleep(min(r.random() * most, max(0, self.until - time.monotonic())))

    async def do_answers(self, r):
        """One request after the other on a connection, as it should be."""
        c = await self.connect()
        for _ in range(r.randint(1, 4)):
            rec = self.pick(r)
            stream = rec.can_stream and r.random() < 0.5
            c.write(request_bytes("POST", rec.path, rec.text(stream), r.choice(self.keys), chunked=r.random() < 0.2))
            self.check_answer(rec, stream, await c.reply())
        c.abort()

    async def do_leave_early(self, r):
        """Goes while the request is on its way, queued, or its prompt is computed."""
        rec = self.pick(r)
        c = await self.connect()
        c.write(request_bytes("POST", rec.path, rec.text(r.random() < 0.5 and rec.can_stream), r.choice(self.keys)))
        self.leave(rec)
        self.cancelled += 1
        await self.sleep(r, r.choice([0.001, 0.02, 0.2, 1]))
        c.abort()

    async def do_leave_midway(self, r):
        rec = self.pick(r, streamed=True)
        c = await self.connect()
        c.write(request_bytes("POST", rec.path, rec.text(True, **r.choice([{}, {"ignore_eos": True}])), r.choice(self.keys)))
        reply = await c.head()
        for _ in range(r.randint(0, 6)):
            if not await c.some(reply):
                break
        self.left_tokens += self.most(rec)
        self.saw(reply, None, whole=False)
        self.cancelled += 1
        if not self.server.tls and r.random() < 0.3:
            c.writer.write_eof()  # closing one half counts as leaving
            try:
                await c.rest(reply)
            except (EOFError, OSError, asyncio.IncompleteReadError):
                pass
        c.abort()

    async def do_stall(self, r):
        """Reads nothing for a while, with much to be read, and then goes on or leaves."""
        c = await self.connect(small=True)
        rec = self.pick(r, streamed=True)
        if r.random() < 0.4:
            rec.number, rec.form, rec.path = -1, "json", "/tokenize"
            rec.body, rec.can_stream = {"content": "abc " * 40000, "with_pieces": True}, False
        stream = rec.can_stream
        c.write(request_bytes("POST", rec.path, rec.text(stream), r.choice(self.keys)))
        await self.sleep(r, 4)
        if r.random() < 0.5:
            self.check_answer(rec, stream, await c.reply())
        else:
            self.leave(rec)
        c.abort()

    async def do_drip(self, r):
        """A request that comes in small pieces."""
        rec = self.pick(r)
        c = await self.connect()
        data = request_bytes("POST", rec.path, rec.text(), r.choice(self.keys), chunked=r.random() < 0.5)
        cuts = sorted(r.randrange(len(data)) for _ in range(r.randint(1, 12)))
        for a, b in zip([0, *cuts], [*cuts, len(data)]):
            c.write(data[a:b])
            await asyncio.sleep(0.01)
        self.check_answer(rec, False, await c.reply())
        c.abort()

    async def do_half(self, r):
        """Half a request, and then nothing, or the end."""
        rec = self.pick(r)
        c = await self.connect()
        data = request_bytes("POST", rec.path, rec.text(), r.choice(self.keys))
        c.write(data[:r.randrange(1, len(data))])
        self.left[rec.path] += 1
        if r.random() < 0.1 and self.until - time.monotonic() > 2 * self.o.patience:
            try:
                need((await c.reply()).status == 408, "half a request has a reply that is not 408")
            except (EOFError, OSError):  # closed without a word: TLS, or before the headers
                pass
        else:
            await self.sleep(r, 2)
        c.abort()

    async def do_pipeline(self, r):
        """Several requests at once, without waiting for replies; they come in order."""
        c = await self.connect()
        recipes = [self.pick(r) for _ in range(r.randint(2, 6))]
        c.write(b"".join(request_bytes("POST", x.path, x.text(x.can_stream), r.choice(self.keys)) for x in recipes))
        stay = r.random() < 0.7
        for i, rec in enumerate(recipes):
            if not stay and r.random() < 0.3:
                for x in recipes[i:]:
                    self.leave(x)
                break
            self.check_answer(rec, rec.can_stream, await c.reply())
        c.abort()

    async def do_old(self, r):
        """HTTP/1.0: the connection ends with the reply."""
        rec = self.pick(r)
        stream = rec.can_stream and r.random() < 0.5
        c = await self.connect()
        c.write(request_bytes("POST", rec.path, rec.text(stream), r.choice(self.keys), version="1.0"))
        reply = await c.reply()
        need(not reply.chunked, "chunks in a reply to HTTP/1.0")
        self.check_answer(rec, stream, reply)
        need(await asyncio.wait_for(c.reader.read(), WAIT) == b"", "HTTP/1.0: more than one reply")
        c.abort()

    async def do_malformed(self, r):
        """Bodies that must be refused; the connection stays usable."""
        c = await self.connect()
        for path, body, statuses in r.sample(MALFORMED, 3):
            c.write(request_bytes("POST", path, body, r.choice(self.keys), chunked=r.random() < 0.3))
            reply = await c.reply()
            need(reply.status in statuses, f"{path} {body[:200]!r}: {reply.status} {bytes(reply.body[:300])!r}")
            need("error" in json.loads(reply.body), "an error without an object")
            self.saw(reply)
            self.refused += 1
        c.abort()

    async def do_garbage(self, r):
        data = r.choice(GARBAGE)
        c = await self.connect()
        try:
            c.write(data)
            if data.endswith(b"\n") or len(data) > 1000 or r.random() < 0.2:
                reply = await c.reply()
                need(400 <= reply.status < 600, f"{data[:100]!r}: {reply.status}")
                self.refused += 1
                self.statuses[reply.status] += 1
                if "x-serin-call" in reply.headers:
                    self.claims.append((reply.headers["x-serin-call"], reply.status, None, False))
            else:
                self.left["other"] += 1
                await self.sleep(r, 0.3)
        except (EOFError, OSError, asyncio.IncompleteReadError):
            self.left["other"] += 1
        c.abort()

    async def do_oversized(self, r):
        """More than a body may have, announced or not."""
        c = await self.connect()
        body = b'{"prompt": "' + b"x" * ((1 << 20) + r.randrange(1 << 20)) + b'"}'
        try:
            c.write(request_bytes("POST", "/v1/completions", body, r.choice(self.keys), chunked=r.random() < 0.5))
            reply = await c.reply()
            need(reply.status == 413, f"an oversized body: {reply.status}")
            self.refused += 1
            self.saw(reply, whole=False)
        except OSError:  # the rest of the body could not be sent any more
            self.left["/v1/completions"] += 1
        c.abort()

    async def do_wrong_door(self, r):
        """Wrong methods, paths, keys and hosts."""
        method, path, status, kw = r.choice([
            ("GET", "/v1/completions", 405, {}), ("DELETE", "/v1/models", 405, {}), ("PUT", "/metrics", 405, {}),
            ("BREW", "/v1/chat/completions", 405, {}), ("POST", "/nowhere", 404, {}), ("GET", "/v1/messages/x", 404, {}),
            ("POST", "/v1/completions", 401, {"key": None}), ("POST", "/v1/messages", 401, {"key": "x" * 30}),
            ("GET", "/v1/models", 403, {"headers": [("Host", "evil.example")], "twice": True}),
            ("GET", "/v1/models", 403, {"key": None, "host": "evil.example"}), ("POST", "/v1/models/load", 403, {}),
            ("HEAD", "/v1/models", 200, {}), ("OPTIONS", "/v1/chat/completions", 204, {}), ("GET", "/v1/models/none", 404, {})])
        kw = {"key": r.choice(self.keys), **kw}
        host, twice = kw.pop("host", None), kw.pop("twice", False)
        data = request_bytes(method, path, b"{}" if method in ("POST", "PUT") else None, **kw)
        if host:
            data = data.replace(b"Host: localhost", b"Host: " + host.encode())
        c = await self.connect()
        c.write(data)
        reply = await c.reply(method)
        need(reply.status == status or twice and reply.status in (200, 400), f"{method} {path} {kw}: {reply.status}, not {status}")
        if "x-serin-call" in reply.headers:
            self.saw(reply)
        self.refused += reply.status >= 400
        c.abort()

    async def do_slowloris(self, r):
        c = await self.connect()
        c.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        end = time.monotonic() + r.random() * 2 * self.o.patience
        try:
            while time.monotonic() < min(end, self.until):
                c.write(b"X-%d: 1\r\n" % r.randrange(1000))
                await asyncio.wait_for(c.writer.drain(), WAIT)
                if c.reader.at_eof():
                    break
                await self.sleep(r, 0.5)
        except OSError:
            pass
        self.left["/health"] += 1
        c.abort()

    async def do_hasty(self, r):
        """A route with a deadline that few requests meet."""
        rec = self.pick(r)
        if rec.form == "json":
            return
        c = await self.connect()
        c.write(request_bytes("POST", rec.path, rec.text(), r.choice(self.keys), headers=[("X-Hasty", "1")]))
        reply = await c.reply()
        if reply.status == 504:
            need(b'"error"' in reply.body, "504 without an error")
            self.left_tokens += self.most(rec)
            self.saw(reply, None)
        else:
            self.check_answer(rec, False, reply)
        c.abort()

    async def do_look(self, r):
        path = r.choice(["/health", "/health/ready", "/v1/models", "/v1/models/first", "/metrics"])
        await self.ask("GET", path, key=r.choice(self.keys))

    async def do_tokens(self, r):
        """There and back again."""
        text = "".join(chr(r.choice([r.randrange(32, 127), r.randrange(160, 1000), r.randrange(0x4E00, 0x4F00)])) for _ in range(200))
        key = r.choice(self.keys)
        a = await self.ask("POST", "/tokenize", json.dumps({"content": text, "parse_special": False}).encode(), key)
        ids = json.loads(a.body)["tokens"]
        b = await self.ask("POST", "/detokenize", json.dumps({"tokens": ids}).encode(), key)
        need(json.loads(b.body)["content"] == text, f"{text!r} came back as {json.loads(b.body)['content']!r}")

    async def do_second(self, r):
        """A model that may be there or not."""
        body = {"model": "second", "prompt": "a b c", "max_tokens": 20, "ignore_eos": True, "temperature": 0}
        r = await self.ask("POST", "/v1/completions", json.dumps(body).encode(), r.choice(self.keys), (200, 404, 429, 503))
        if r.status == 200:
            text = json.loads(r.body)["choices"][0]["text"]
            need(self.answers.setdefault(-1, text) == text, "another answer of the second model")

    WEIGHTS = {"answers": 40, "leave_early": 12, "leave_midway": 10, "stall": 4, "drip": 4, "half": 4, "pipeline": 6, "old": 3,
               "malformed": 6, "garbage": 4, "oversized": 1, "wrong_door": 4, "slowloris": 1, "hasty": 3, "look": 3, "tokens": 2,
               "second": 3}

    async def client(self, number, lap):
        r = random.Random(f"{self.o.seed} client {number} {lap}")
        names = [n for n in self.WEIGHTS if n != "second" or self.o.second]
        weights = [self.WEIGHTS[n] for n in names]
        while time.monotonic() < self.until and self.server.process.poll() is None:
            name = r.choices(names, weights)[0]
            self.did[name] += 1
            try:
                await getattr(self, "do_" + name)(r)
            except Exception as e:  # whatever it is, it is a finding
                self.problem(f"{name}: {type(e).__name__}: {str(e)[:1500]}")
                self.left["other"] += 6
                self.left_tokens += 1000
                await asyncio.sleep(0.2)

    async def operator(self, lap):
        """Loads and unloads a model, and has the keys read again."""
        r = random.Random(f"{self.o.seed} operator {lap}")
        while time.monotonic() < self.until:
            try:
                if self.o.second:
                    await self.ask("POST", "/v1/models/load", b'{"model": "second"}', self.admin, (200, 409))  # a request for it loads it too
                    await self.sleep(r, 2)
                    body = json.dumps({"model": "second", "grace_ms": r.choice([0, 10, 1000])}).encode()
                    await self.ask("POST", "/v1/models/unload", body, self.admin, (200, 409))
                os.kill(self.server.process.pid, signal.SIGHUP)
                await self.sleep(r, 2)
            except Exception as e:
                self.problem(f"operator: {type(e).__name__}: {str(e)[:500]}")
                await asyncio.sleep(1)

    async def run(self, lap, seconds):
        self.until = time.monotonic() + seconds
        await asyncio.gather(self.operator(lap), *(self.client(i, lap) for i in range(self.o.clients)))
        if self.o.second:
            await self.ask("POST", "/v1/models/unload", b'{"model": "second"}', self.admin, (200, 409))
        self.answers.pop(-1, None)
