"""An OpenTelemetry collector for tests: takes OTLP over HTTP as JSON, answers as it is told to, and checks what comes twice:
against a schema of the JSON (ids, integers, enumerations, names), and by reading it into OpenTelemetry's own messages, which
knows every field and refuses others.

    from collector import Collector
"""
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

INTEGER = {"type": "string", "pattern": "^(0|-?[1-9][0-9]*)$"}  # 64 bits are texts
TIME = {"type": "string", "pattern": "^[1-9][0-9]{18}$"}  # nanoseconds since 1970


def thing(required, **properties):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def many(items, least=0):
    return {"type": "array", "items": items, "minItems": least}


def hexes(n):
    return {"type": "string", "pattern": "^(?!0+$)[0-9a-f]{%d}$" % n}


VALUE = {"oneOf": [thing(["stringValue"], stringValue={"type": "string"}), thing(["boolValue"], boolValue={"type": "boolean"}),
                   thing(["intValue"], intValue=INTEGER), thing(["doubleValue"], doubleValue={"type": "number"}),
                   thing(["arrayValue"], arrayValue=thing(["values"], values=many({"$ref": "#/$defs/value"})))]}
ATTRIBUTES = many(thing(["key", "value"], key={"type": "string", "pattern": "^[a-z][a-z0-9_.]*$"}, value={"$ref": "#/$defs/value"}))
RESOURCE = thing(["attributes"], attributes=ATTRIBUTES)
SCOPE = thing(["name", "version"], name={"const": "serin"}, version={"type": "string"})
SPAN = thing(["traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "flags"],
             traceId=hexes(32), spanId=hexes(16), parentSpanId=hexes(16), traceState={"type": "string"},
             flags={"type": "integer", "minimum": 0, "maximum": 0x3FF}, name={"type": "string"}, kind={"enum": [1, 2]},
             startTimeUnixNano=TIME, endTimeUnixNano=TIME, attributes=ATTRIBUTES,
             status=thing(["code"], code={"enum": [0, 1, 2]}))
POINT = {"attributes": ATTRIBUTES, "startTimeUnixNano": TIME, "timeUnixNano": TIME}
NUMBERS = many({"oneOf": [thing(list(POINT) + ["asInt"], asInt=INTEGER, **POINT),
                          thing(list(POINT) + ["asDouble"], asDouble={"type": "number"}, **POINT)]}, 1)
HISTOGRAM = thing(list(POINT) + ["count", "sum", "min", "max", "bucketCounts", "explicitBounds"], count=INTEGER,
                  sum={"type": "number"}, min={"type": "number"}, max={"type": "number"}, bucketCounts=many(INTEGER, 2),
                  explicitBounds=many({"type": "number"}, 1), **POINT)
METRIC = {"oneOf": [thing(["name", "description", kind], name={"type": "string", "pattern": "^[a-z][a-z0-9_.]*$"},
                          description={"type": "string"}, unit={"type": "string"}, **{kind: body}) for kind, body in (
    ("histogram", thing(["aggregationTemporality", "dataPoints"], aggregationTemporality={"const": 2},
                        dataPoints=many(HISTOGRAM, 1))),
    ("sum", thing(["aggregationTemporality", "isMonotonic", "dataPoints"], aggregationTemporality={"const": 2},
                  isMonotonic={"const": True}, dataPoints=NUMBERS)),
    ("gauge", thing(["dataPoints"], dataPoints=NUMBERS)))]}


def request(outer, scopes, inner, item, least):
    return {"$defs": {"value": VALUE}, **thing([outer], **{outer: many(thing(["resource", scopes], resource=RESOURCE, **{
        scopes: many(thing(["scope", inner], scope=SCOPE, **{inner: many(item, least)}), 1)}), 1)})}


SCHEMAS = {"/v1/traces": (request("resourceSpans", "scopeSpans", "spans", SPAN, 1), ExportTraceServiceRequest),
           "/v1/metrics": (request("resourceMetrics", "scopeMetrics", "metrics", METRIC, 1), ExportMetricsServiceRequest)}


def check(path, text):
    """What came, as JSON, if both readers find it good. They agree on how many things it holds."""
    schema, message = SCHEMAS[path]
    body = json.loads(text)
    jsonschema.validate(body, schema, jsonschema.Draft202012Validator)
    parsed = json_format.Parse(hexes_as_base64(body), message())
    if path == "/v1/traces":
        assert len(parsed.resource_spans[0].scope_spans[0].spans) == len(spans_of(body))
    else:
        assert len(parsed.resource_metrics[0].scope_metrics[0].metrics) == len(
            body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"])
    return body, parsed


def hexes_as_base64(v):
    """OTLP writes ids in hex where the JSON of protocol buffers has base64; all else is the same."""
    import base64
    if isinstance(v, dict):
        v = {k: base64.b64encode(bytes.fromhex(x)).decode() if k in ("traceId", "spanId", "parentSpanId") else
             json.loads(hexes_as_base64(x)) for k, x in v.items()}
    elif isinstance(v, list):
        v = [json.loads(hexes_as_base64(x)) for x in v]
    return json.dumps(v)


def value_of(v):
    (kind, x), = v.items()
    return int(x) if kind == "intValue" else [value_of(y) for y in x["values"]] if kind == "arrayValue" else x


def attributes(thing_):
    all_of = {a["key"]: value_of(a["value"]) for a in thing_["attributes"]}
    assert len(all_of) == len(thing_["attributes"])  # none twice
    return all_of


def spans_of(body):
    return [s for r in body["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]


class Collector:
    """answers: statuses (or (status, headers) or (status, headers, body)) for the next requests, then 200. Or answer by a
    function of the path. While hold is set nothing is answered."""

    def __init__(self, cert=None, answer=None):
        outer = self
        self.requests, self.answers, self.answer = [], [], answer
        self.hold, self.more = threading.Event(), threading.Condition()
        self.released = threading.Event()
        self.connections = set()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.more:
                    outer.connections.add(self.client_address)
                    outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, text, time.monotonic()))
                    given = outer.answers.pop(0) if outer.answers else outer.answer(self.path) if outer.answer else 200
                    outer.more.notify_all()
                if outer.hold.is_set():
                    outer.released.wait(60)
                given = given if isinstance(given, tuple) else (given,)
                status, headers, body = given + (200, {}, b"{}")[len(given):]
                try:
                    self.send_response(status)
                    for k, v in headers.items():
                        self.send_header(k, v)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    pass

            def log_message(self, *_):
                pass
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.scheme = "http"
        if cert:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*cert)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.port = self.server.server_address[1]
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def wait(self, n, path="/v1/traces", timeout=60):
        """The first n requests to a path, once they are there."""
        def there():
            return [r for r in self.requests if r[0] == path]
        with self.more:
            assert self.more.wait_for(lambda: len(there()) >= n, timeout), (n, [r[0] for r in self.requests])
            return there()

    def wait_spans(self, n, timeout=60):
        """Spans of all good requests so far, once there are n of them."""
        with self.more:
            self.more.wait_for(lambda: len(self.spans()) >= n, timeout)
            return self.spans()

    def spans(self):
        return [s for path, _, text, _ in self.requests if path == "/v1/traces" for s in spans_of(check(path, text)[0])]

    def metrics(self):
        """The newest sums: name -> the metric."""
        _, _, text, _ = [r for r in self.requests if r[0] == "/v1/metrics"][-1]
        (r,) = check("/v1/metrics", text)[0]["resourceMetrics"]
        return {m["name"]: m for m in r["scopeMetrics"][0]["metrics"]}

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
