"""Telemetry: what a collector gets of calls, what it never gets, and that nobody notices a collector that is away."""
import base64
import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from collector import Collector, attributes, check
from server import TINY, serve, smol_like  # noqa: F401
from test_metrics import scrape, value

ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": "smol", "messages": [{"role": "user", "content": "Say zanzibar."}], "max_tokens": 6, "temperature": 0.5,
        "top_p": 0.9, "seed": 7}


@pytest.fixture
def collector():
    c = Collector()
    yield c
    c.stop()


def send(server, path, body, **headers):
    """Status, the call's id and the text of a request."""
    r = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(r, timeout=120) as answer:
            return answer.status, answer.headers["x-serin-call"], answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers["x-serin-call"], e.read().decode()


def start(serve, tmp_path, telemetry, routes=(), *args, ledger="off", env=None):  # noqa: F811
    config = {"models": [{"name": "small", "path": str(smol_like()), "aliases": ["smol"], "ctx": 2048, "parallel": 4}],
              "telemetry": {"delay": "0ms", **telemetry}, "routes": list(routes), "ledger": ledger}
    (tmp_path / "serin.yaml").write_text(json.dumps(config))  # JSON is YAML
    return serve("--config", tmp_path / "serin.yaml", *args, env={"SERIN_CACHE": str(tmp_path / "cache"), **(env or {})})


def of_call(spans, call):
    """The call's own span, and those inside it by their names."""
    (own,) = [s for s in spans if attributes(s).get("serin.call.id") == call]
    inner = {s["name"]: s for s in spans if s.get("parentSpanId") == own["spanId"]}
    return own, inner


def test_a_call_is_a_trace_of_its_times(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url, "headers": {"X-Tenant": "t1"}, "service_name": "answers",
                                "resource": {"deployment.environment.name": "test"}})
    status, call, text = send(s, "/v1/chat/completions", CHAT)
    answer = json.loads(text)
    assert status == 200
    s.wait_log(call=call)
    spans = collector.wait_spans(4)
    own, inner = of_call(spans, call)
    assert own["name"] == "chat smol" and own["kind"] == 2 and "parentSpanId" not in own and "status" not in own
    a = attributes(own)
    usage = answer["usage"]
    assert {k: a[k] for k in ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model",
                              "gen_ai.response.id", "gen_ai.request.max_tokens", "gen_ai.request.seed",
                              "gen_ai.response.finish_reasons", "gen_ai.request.stream", "http.response.status_code",
                              "http.route", "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")} == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "serin", "gen_ai.request.model": "smol",
        "gen_ai.response.model": "small", "gen_ai.response.id": answer["id"], "gen_ai.request.max_tokens": 6,
        "gen_ai.request.seed": 7, "gen_ai.response.finish_reasons": [answer["choices"][0]["finish_reason"]],
        "gen_ai.request.stream": False, "http.response.status_code": 200, "http.route": "/v1/chat/completions",
        "gen_ai.usage.input_tokens": usage["prompt_tokens"], "gen_ai.usage.output_tokens": usage["completion_tokens"]}
    assert abs(a["gen_ai.request.temperature"] - 0.5) < 1e-6 and abs(a["gen_ai.request.top_p"] - 0.9) < 1e-6
    assert re.fullmatch("[0-9a-f]{64}", a["serin.weights.id"]) and re.fullmatch("[0-9a-f]{64}", a["serin.prompt.hash"])
    assert a["server.port"] == int(s.url.rsplit(":", 1)[1]) and "error.type" not in a
    assert set(inner) >= {"queue", "prefill"} and set(inner) <= {"queue", "prefill", "decode"}
    assert "decode" in inner or TINY
    ends = [int(own["startTimeUnixNano"])]
    for name in sorted(inner, key=["queue", "prefill", "decode"].index):  # one after the other, inside the call
        span = inner[name]
        assert span["traceId"] == own["traceId"] and span["kind"] == 1
        assert ends[-1] <= int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]) <= int(own["endTimeUnixNano"])
        ends.append(int(span["endTimeUnixNano"]))
    path, headers, text, _ = collector.requests[0]
    assert path == "/v1/traces" and headers["content-type"] == "application/json" and headers["x-tenant"] == "t1"
    resource = attributes(json.loads(text)["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "answers" and resource["deployment.environment.name"] == "test"
    parsed = check(path, text)[1].resource_spans[0].scope_spans[0].spans
    assert parsed[0].trace_id.hex() == own["traceId"] or len(collector.requests) > 1


def test_every_api_and_every_refusal_is_a_span(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url})
    prompt = {"model": "smol", "prompt": "Once", "max_tokens": 3}
    asked = [("/v1/completions", {**prompt, "n": 2}, "text_completion smol", 200, None),
             ("/v1/completions", {**prompt, "prompt": ["a", "b"], "stream": True}, "text_completion smol", 200, None),
             ("/v1/embeddings", {"model": "small", "input": ["a", "b", "c"]}, "embeddings small", 200, None),
             ("/v1/messages", {"model": "smol", "max_tokens": 3, "messages": CHAT["messages"]}, "chat smol", 200, None),
             ("/v1/responses", {"model": "smol", "max_output_tokens": 16, "input": "Hi"}, "chat smol", 200, None),
             ("/v1/chat/completions", {"model": "none", "messages": CHAT["messages"]}, "chat", 404, "model_not_found"),
             ("/v1/chat/completions", {"model": "smol", "messages": 3}, "chat", 400, "invalid_value"),
             ("/v1/chat/completions", 7, "chat", 400, "invalid_json")]
    calls = []
    for path, body, *_ in asked:
        calls.append(send(s, path, body)[1])
        s.wait_log(call=calls[-1])
    assert send(s, "/tokenize", {"model": "smol", "content": "x"})[0] == 200  # no call of a model's
    assert s.stop() == 0
    spans = collector.spans()
    assert len([x for x in spans if x["kind"] == 2]) == len(asked)
    for (path, body, name, status, error), call in zip(asked, calls):
        own, inner = of_call(spans, call)
        a = attributes(own)
        assert own["name"] == name and a["http.route"] == path and a["http.response.status_code"] == status, a
        if error is None:
            assert "error.type" not in a and "prefill" in inner and a["gen_ai.usage.input_tokens"] > 0
        else:
            assert a["error.type"] and "status" not in own and not inner
    first = attributes(of_call(spans, calls[0])[0])
    assert first["gen_ai.request.choice.count"] == 2 and len(first["gen_ai.response.finish_reasons"]) == 2
    assert attributes(of_call(spans, calls[1])[0])["gen_ai.request.stream"] is True
    m = collector.metrics()
    points = [attributes(p) | {"count": int(p["count"])} for p in
              m["gen_ai.server.request.duration"]["histogram"]["dataPoints"]]
    assert sum(p["count"] for p in points) == len(asked)
    assert sum(p["count"] for p in points if "error.type" in p) == 3
    assert {p.get("gen_ai.request.model") for p in points} == {"smol", "small", None}  # never what nobody configured
    assert {p["serin.prompt"] for p in points} == {"unregistered"}
    total = {kind: sum(p["sum"] for p in m["gen_ai.client.token.usage"]["histogram"]["dataPoints"]
                       if attributes(p)["gen_ai.token.type"] == kind) for kind in ("input", "output")}
    assert total == {kind: sum(attributes(x).get(f"gen_ai.usage.{kind}_tokens", 0) for x in spans if x["kind"] == 2)
                     for kind in total}
    bounds = {n: v["histogram"]["dataPoints"][0]["explicitBounds"] for n, v in m.items() if "histogram" in v}
    assert bounds["gen_ai.server.request.duration"] == [round(0.01 * 2**i, 2) for i in range(14)]
    assert bounds["gen_ai.client.token.usage"] == [4**i for i in range(14)]


def test_the_callers_trace_goes_on(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url})
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    body = {"model": "smol", "prompt": "Once", "max_tokens": 2}
    contexts = {"kept": {"traceparent": f"00-{trace}-{parent}-01", "tracestate": "a=1,b=2"},
                "unsampled": {"traceparent": f"00-{trace}-{parent}-00"},
                "state": {"traceparent": f"00-{trace}-{parent}-01", "tracestate": "A=,"},
                "wrong": {"traceparent": f"00-{trace}-{'0' * 16}-01", "tracestate": "a=1"}}
    calls = {name: send(s, "/v1/completions", body, **headers)[1] for name, headers in contexts.items()}
    assert s.stop() == 0
    spans = collector.spans()
    ids = {attributes(x).get("serin.call.id"): x for x in spans if x["kind"] == 2}
    assert set(ids) == {calls["kept"], calls["state"], calls["wrong"]}
    kept = ids[calls["kept"]]
    assert (kept["traceId"], kept["parentSpanId"], kept["traceState"]) == (trace, parent, "a=1,b=2")
    assert kept["flags"] & 0x301 == 0x301  # sampled, and the parent is elsewhere
    inner = [x for x in spans if x.get("parentSpanId") == kept["spanId"]]
    assert inner and all(x["traceId"] == trace and x["traceState"] == "a=1,b=2" for x in inner)
    assert ids[calls["state"]]["traceId"] == trace and "traceState" not in ids[calls["state"]]
    own = ids[calls["wrong"]]
    assert "parentSpanId" not in own and "traceState" not in own and own["traceId"] != trace


def test_the_share_of_traces_and_the_environment(serve, tmp_path, collector):  # noqa: F811
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url + "/", "OTEL_TRACES_SAMPLER": "parentbased_always_off",
           "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20secret-of-mine", "OTEL_SERVICE_NAME": "from-env",
           "OTEL_BSP_SCHEDULE_DELAY": "0", "SERIN_CACHE": str(tmp_path)}
    s = serve(smol_like(), "--alias", "smol", "--ctx", "1024", "--ledger", "off", env=env)
    body = {"model": "smol", "prompt": "Once", "max_tokens": 2}
    calls = [send(s, "/v1/completions", body, **h)[1] for h in ({}, {"traceparent": trace + "1"}, {"traceparent": trace + "0"})]
    assert s.stop() == 0
    assert [attributes(x)["serin.call.id"] for x in collector.spans() if x["kind"] == 2] == [calls[1]]
    points = collector.metrics()["gen_ai.server.request.duration"]["histogram"]["dataPoints"]
    assert sum(int(p["count"]) for p in points) == 3  # sums are of all calls
    path, headers, text, _ = collector.requests[-1]
    assert headers["authorization"] == "Bearer secret-of-mine"
    assert attributes(json.loads(text)["resourceMetrics"][0]["resource"])["service.name"] == "from-env"
    assert "secret-of-mine" not in "".join(s.lines)


def sockets_of(pid):
    """Local and remote port of the process's TCP sockets."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if m := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd)):
            inodes.add(m[1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [(int(r[1].split(":")[1], 16), int(r[2].split(":")[1], 16)) for r in rows if r[9] in inodes]


def test_by_itself_it_sends_nothing(serve, tmp_path, collector):  # noqa: F811
    port = None
    for env in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SDK_DISABLED": "true"}):
        s = serve(smol_like(), "--alias", "smol", "--ctx", "1024", "--ledger", "off",
                  env={"SERIN_CACHE": str(tmp_path), **env})
        assert send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})[0] == 200
        port = int(s.url.rsplit(":", 1)[1])
        names = {p.read_text().strip() for p in Path(f"/proc/{s.process.pid}/task").glob("*/comm")}
        assert len(names) > 2 and "serin-otel" not in names
        assert {local for local, _ in sockets_of(s.process.pid)} == {port}  # none but those that came
        assert not [n for n, _ in scrape(s) if "telemetry" in n]
    assert not collector.requests
    on = serve(smol_like(), "--ctx", "1024", "--ledger", "off", env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                                                                     "SERIN_CACHE": str(tmp_path)})
    assert "serin-otel" in {p.read_text().strip() for p in Path(f"/proc/{on.process.pid}/task").glob("*/comm")}


def test_a_collector_that_is_away_costs_spans_and_nothing_else(serve, tmp_path):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    s = start(serve, tmp_path, {"endpoint": f"http://user:hunter2@127.0.0.1:{port}", "queue": 2,
                                "headers": {"x-key": "hunter2"}})
    calls = 8
    for _ in range(calls):
        assert send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})[0] == 200
    why = s.wait_log(event="telemetry_fails")["detail"]
    assert f"http://127.0.0.1:{port}: " in why
    m = scrape(s)
    dropped = value(m, "serin_telemetry_spans_dropped_total")
    assert dropped >= 3 and value(m, "serin_telemetry_spans_sent_total") == 0
    assert value(m, "serin_telemetry_posts_failed_total") >= 1 and value(m, "serin_telemetry_queued") <= 2
    assert s.stop() == 0
    told = [json.loads(x) for x in s.lines if "telemetry_fails" in x]
    assert int(told[-1]["detail"].split()[0]) > dropped  # the rest is lost at the stop, and said
    assert "hunter2" not in "".join(s.lines)


def test_a_slow_collector_is_not_waited_for(serve, tmp_path, collector):  # noqa: F811
    collector.hold.set()
    s = start(serve, tmp_path, {"endpoint": collector.url, "timeout": "300ms"})
    body = {"model": "smol", "prompt": "Once", "max_tokens": 2}
    first = send(s, "/v1/completions", body)[1]
    collector.wait(1)  # it has the spans, and says nothing
    later = send(s, "/v1/completions", body)[1]
    collector.wait(2)  # given up, and asked again
    assert value(scrape(s), "serin_telemetry_posts_failed_total") >= 1
    collector.hold.clear()
    collector.released.set()
    collector.wait_spans(1)
    assert s.stop() == 0
    ids = [attributes(x).get("serin.call.id") for x in collector.spans()]
    assert first in ids and later in ids


def test_too_much_is_sent_again_when_the_collector_says(serve, tmp_path, collector):  # noqa: F811
    collector.answers[:] = [(429, {"Retry-After": "1"}), 503, 200]
    s = start(serve, tmp_path, {"endpoint": collector.url})
    call = send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})[1]
    first, second, third = collector.wait(3)
    assert first[2] == second[2] == third[2]  # the same spans
    assert second[3] - first[3] > 0.95 and third[3] - second[3] > 0.7
    assert call.encode() in first[2]
    assert len(collector.connections) == 1  # which is kept
    assert s.stop() == 0
    m = collector.metrics()
    assert m["serin.telemetry_posts_failed"]["sum"]["dataPoints"][0]["asInt"] == "2"
    assert m["serin.telemetry_spans_dropped"]["sum"]["dataPoints"][0]["asInt"] == "0"


@pytest.mark.parametrize("answer,why", [
    (400, "answered with 400"), ((302, {"Location": "/elsewhere"}), "redirects are not followed"),
    ((200, {}, json.dumps({"partialSuccess": {"rejectedSpans": "2", "errorMessage": "no"}}).encode()), "rejected 2 spans")])
def test_what_a_collector_does_not_take_is_counted(serve, tmp_path, collector, answer, why):  # noqa: F811
    collector.answers[:] = [answer]
    s = start(serve, tmp_path, {"endpoint": collector.url})
    send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})
    collector.wait(1)
    assert why in s.wait_log(event="telemetry_fails")["detail"]
    dropped = value(scrape(s), "serin_telemetry_spans_dropped_total")
    assert dropped == 2 if why.startswith("rejected") else dropped >= 3
    assert s.stop() == 0
    assert len([r for r in collector.requests if r[0] != "/v1/metrics"]) == 1  # never again, and nowhere else


def test_a_long_answer_of_a_collector_is_cut(serve, tmp_path, collector):  # noqa: F811
    collector.answers[:] = [(200, {}, b"x" * 3_000_000)]
    s = start(serve, tmp_path, {"endpoint": collector.url})
    for _ in range(2):
        call = send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})[1]
        s.wait_log(call=call)
    assert s.stop() == 0
    m = collector.metrics()
    assert m["serin.telemetry_posts_failed"]["sum"]["dataPoints"][0]["asInt"] == "0"


def test_a_certificate_that_nobody_vouches_for_gets_nothing(serve, tmp_path):  # noqa: F811
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    c = Collector(cert=(cert, key))
    try:
        for trusted in (False, True):
            s = start(serve, tmp_path, {"endpoint": c.url, **({"ca": str(cert)} if trusted else {})})
            send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})
            if trusted:
                assert c.wait_spans(3)
            else:
                assert "certificate" in s.wait_log(event="telemetry_fails")["detail"]
                assert not c.requests
            assert s.stop() == 0
    finally:
        c.stop()


def test_what_was_said_goes_out_only_where_all_agree(serve, tmp_path, collector):  # noqa: F811
    def route(name, **gets):
        return {"name": name, "match": {"header": {"X-Route": name}}, **gets}

    routes = [route("full", content="full"), route("hash", content="hash"), route("sealed", content="encrypted"),
              route("local", content="full", local_only=True)]
    ask = {**CHAT, "user": "anna-karenina", "metadata": {"session_id": "session-77"}, "stop": ["waldteufel"]}
    secrets = (b"zanzibar", b"anna-karenina", b"session-77", b"waldteufel")
    for content in (False, True):
        s = start(serve, tmp_path, {"endpoint": collector.url, "content": content}, routes)
        calls = {}
        for name in ("full", "hash", "sealed", "local", "none"):
            status, calls[name], _ = send(s, "/v1/chat/completions", ask, **{"X-Route": name})
            assert status == 200
        unrouted = send(s, "/v1/chat/completions", {"model": "smol"})[1]  # which it would have taken nobody knows
        assert value(scrape(s), "serin_telemetry_spans_muted_total") >= 3
        assert s.stop() == 0
        bodies = b"".join(r[2] for r in collector.requests)
        spans = collector.spans()
        assert calls["local"].encode() not in bodies and unrouted.encode() not in bodies
        said = [attributes(x)["serin.call.id"] for x in spans if "gen_ai.input.messages" in attributes(x)]
        assert said == ([calls["full"]] if content else [])
        leaked = {x for x in secrets if x in bodies}
        assert leaked == ({b"zanzibar"} if content else set())
        a = attributes(of_call(spans, calls["hash"])[0])
        assert re.fullmatch("[0-9a-f]{64}", a["gen_ai.conversation.id"]) and a["serin.route"] == "hash"
        if content:
            a = attributes(of_call(spans, calls["full"])[0])
            assert json.loads(a["gen_ai.input.messages"]) == [
                {"role": "user", "parts": [{"type": "text", "content": "Say zanzibar."}]}]
            (out,) = json.loads(a["gen_ai.output.messages"])
            assert out["role"] == "assistant" and out["finish_reason"] == a["gen_ai.response.finish_reasons"][0]
        points = collector.metrics()["gen_ai.server.request.duration"]["histogram"]["dataPoints"]
        assert sum(int(p["count"]) for p in points) == 6  # all are part of the sums
        collector.requests.clear()


def test_long_content_is_left_out_as_a_whole(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url, "content": True}, [{"name": "f", "match": {}, "content": "full"}])
    text = "\n" * 40000  # two bytes each, as JSON inside of JSON
    call = send(s, "/v1/completions", {"model": "smol", "prompt": text, "max_tokens": 2, "stream": True})[1]
    short = send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})[1]
    assert s.stop() == 0
    spans = collector.spans()
    a = attributes(of_call(spans, call)[0])
    assert "gen_ai.input.messages" not in a
    a = attributes(of_call(spans, short)[0])
    assert "Once" in a["gen_ai.input.messages"] and "serin.content.left_out" not in a


def test_a_registered_prompt_is_named(serve, tmp_path, collector):  # noqa: F811
    (tmp_path / "p.yaml").write_text("messages:\n- {role: system, content: Be brief.}\n- {role: user, content: 'Say {{word}}'}\n"
                                     "variables: {word: {type: string}}\n")
    s = start(serve, tmp_path, {"endpoint": collector.url}, ledger=str(tmp_path / "ledger"))
    subprocess.run([os.environ["SERIN"], "prompts", "push", "greet", tmp_path / "p.yaml", "--label", "production", "--ledger",
                    tmp_path / "ledger"], check=True, capture_output=True, timeout=60)
    status, call, text = send(s, "/v1/chat/completions", {"model": "smol", "max_tokens": 2, "messages": [],
                                                          "prompt": {"id": "greet", "variables": {"word": "hello"}}})
    assert status == 200, text
    assert s.stop() == 0
    a = attributes(of_call(collector.spans(), call)[0])
    assert (a["gen_ai.prompt.name"], a["gen_ai.prompt.version"], a["serin.prompt.label"]) == ("greet", "1", "production")
    assert re.fullmatch("[0-9a-f]{64}", a["serin.prompt.hash"])
    points = collector.metrics()["gen_ai.client.token.usage"]["histogram"]["dataPoints"]
    assert {attributes(p)["serin.prompt"] for p in points} == {"greet@1"}


def test_engines_figures_are_those_of_the_metrics_page(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url, "metrics_interval": "100ms"})
    assert send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 3, "ignore_eos": True})[0] == 200
    collector.wait(1)
    collector.wait(len([r for r in collector.requests if r[0] == "/v1/metrics"]) + 2, "/v1/metrics")
    m = collector.metrics()
    page = (ROOT / "docs/telemetry.md").read_text()
    named = {n for n, _ in scrape(s)}
    for name, metric in m.items():
        assert f"`{name}`" in page, name
        if "histogram" not in metric:  # the same under another name
            kind = "sum" if "sum" in metric else "gauge"
            ours = name.removeprefix("serin.") + ("_total" if kind == "sum" else "")
            assert {"vllm:" + ours, "serin_" + ours} & named, name
    (point,) = m["serin.generation_tokens"]["sum"]["dataPoints"]
    assert point["asDouble"] == value(scrape(s), "vllm:generation_tokens_total") and attributes(point) == {
        "gen_ai.response.model": "small"}
    assert len([n for n in m if not n.startswith("serin.telemetry")]) > 15


def test_every_attribute_is_described(serve, tmp_path, collector):  # noqa: F811
    page = (ROOT / "docs/telemetry.md").read_text()
    source = "".join(p.read_text() for p in (ROOT / "src/serve").glob("otel*.c"))
    names = set(re.findall(r'"((?:gen_ai|serin|http|server|error|service|telemetry)\.[a-z0-9_.]+)"', source)) - {"serin.%"}
    assert len(names) > 40
    assert not [n for n in names if f"`{n}`" not in page]
    assert not [n for n in re.findall(r"`((?:gen_ai|error|http|server)\.[a-z_.]+)`", page) if n not in names]


def test_basic_credentials_of_the_address_are_used_and_not_shown(serve, tmp_path, collector):  # noqa: F811
    s = start(serve, tmp_path, {"endpoint": collector.url.replace("//", "//anna:hunter2@")})
    send(s, "/v1/completions", {"model": "smol", "prompt": "Once", "max_tokens": 2})
    ((_, headers, _, _),) = collector.wait(1)
    assert base64.b64decode(headers["authorization"].split()[1]) == b"anna:hunter2"
    assert s.stop() == 0
    assert "hunter2" not in "".join(s.lines)
