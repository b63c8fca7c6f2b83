"""Another server for tests: a script says what it answers, and it keeps what it was asked; how many ever connected to it is
counted at the socket, so that what never leaves a machine is seen not to. And two servers of which one asks the other."""
import http.server
import json
import threading
import urllib.error
import urllib.request


def chunk(text=None, finish=None, **more):
    delta = {} if text is None else {"content": text}
    return {"id": "x", "object": "chat.completion.chunk", "model": "theirs", "system_fingerprint": "fp",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def events(*chunks, done=True):
    text = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks)
    return (text + ("data: [DONE]\n\n" if done else "")).encode()


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
STREAM = events(chunk("Hel"), chunk("lo"), chunk(finish="stop"), {**chunk(), "choices": [], "usage": USAGE})
WHOLE = {"id": "x", "object": "chat.completion", "model": "theirs", "usage": USAGE,
         "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]}


class Other:
    """answer(body) gives (status, headers, bytes, or pieces of which each may be a threading.Event to wait for; None: cut)."""

    def __init__(self, answer=None):
        self.answer = answer or self.hello
        self.asked, self.headers, self.connections = [], [], 0
        other = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                other.asked.append((self.path, body))
                other.headers.append(self.headers)
                status, headers, data = other.answer(body)
                self.send_response(status)
                whole = isinstance(data, bytes)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header(*(("Content-Length", str(len(data))) if whole else ("Transfer-Encoding", "chunked")))
                self.end_headers()
                try:
                    self._send([data] if whole else data, whole)
                except OSError:
                    pass

            def _send(self, pieces, whole):
                for p in pieces:
                    if p is None:
                        self.close_connection = True
                        self.wfile.flush()
                        return self.connection.shutdown(2)
                    if isinstance(p, threading.Event):
                        p.wait(60)
                        continue
                    self.wfile.write(p if whole else b"%x\r\n%s\r\n" % (len(p), p))
                    self.wfile.flush()
                if not whole:
                    self.wfile.write(b"0\r\n\r\n")

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 64

            def get_request(self):
                other.connections += 1
                return super().get_request()

        self.listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.listener.server_port}"
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    @staticmethod
    def hello(body):
        if body.get("stream"):
            return 200, {"Content-Type": "text/event-stream"}, STREAM
        return 200, {"Content-Type": "application/json"}, json.dumps(WHOLE).encode()

    def stop(self):
        self.listener.shutdown()
        self.listener.server_close()


def post(server, path, body, **headers):
    """Status, headers and text."""
    r = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(r, timeout=120) as a:
            return a.status, a.headers, a.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def chat(model="next", text="Hello.", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}


def texts(stream):
    """The content of a stream of chat chunks, joined."""
    chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for o in chunks for c in o.get("choices", []))
