"""serin bench --prompts: what a scripted server does is what is measured; loads, prefixes, failures, Ctrl-C; and real
models with their checks and their agreement."""
import json
import os
import re
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree

import jsonschema
import pytest
from upstream_help import USAGE, Other, chunk, events

from ledger_help import Served, ask, chat
from server import TINY, smol_like, tiny_as

FIRST, GAP = 0.06, 0.02  # seconds that the scripted server takes
NUMBER = {"type": ["number", "null"]}
SPREAD = {"type": "object", "required": ["n", "mean", "p50", "p90", "p95", "p99", "max", "p50_interval"],
          "additionalProperties": NUMBER | {"type": ["number", "null", "array"]}}
COUNT = {"type": ["integer", "null"]}
TEXT = {"type": ["string", "null"]}
SCHEMA = {
    "type": "object", "additionalProperties": False,
    "required": ["machine", "traffic", "slo", "energy_unknown", "targets", "results", "cut"],
    "properties": {
        "machine": {"type": "object", "required": ["cpu"]},
        "traffic": {"type": "object", "required": ["prompts", "without_content", "recorded", "keep_cache"]},
        "slo": TEXT, "energy_unknown": TEXT, "cut": {"type": "boolean"},
        "targets": {"type": "array", "items": {
            "type": "object",
            "required": ["name", "kind", "model", "url", "path", "quantisation", "weights_bytes", "memory_bytes", "error",
                         "divergence"],
            "properties": {"memory_bytes": COUNT, "weights_bytes": COUNT, "error": TEXT, "kind": {"enum": ["local", "url"]}}}},
        "results": {"type": "array", "items": {
            "type": "object",
            "required": ["target", "concurrency", "rate", "requests", "failed", "seconds", "tokens", "tok_per_s", "req_per_s",
                         "in_flight", "pieces_counted", "goodput", "joules", "checks", "agreement", "cut", "answers"],
            "properties": {k: SPREAD for k in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms", "late_ms")} | {
                "joules": NUMBER, "answers": {"type": "array", "items": {
                    "type": "object",
                    "required": ["id", "text", "late_ms", "ttft_ms", "tpot_ms", "e2e_ms", "pieces", "input_tokens",
                                 "cached_tokens", "output_tokens", "finish", "good", "error"]}}}}}}}


def start(*args, text="", **env):
    return subprocess.Popen([os.environ["SERIN"], "bench", *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env={**os.environ, **env})


def bench(*args, text='"Hello"\n', code=0, **env):
    """Prompts on standard input; the JSON that comes, or what it says when it fails."""
    p = start("--prompts", "-", "--json", *args, **env)
    out, err = p.communicate(text, timeout=120)
    assert p.returncode == code, err
    if code in (1, 2) and not out:
        return err
    out = json.loads(out)
    jsonschema.validate(out, SCHEMA)
    return out


@pytest.fixture
def other():
    made = []

    def make(answer=None):
        made.append(Other(answer))
        return made[-1]
    yield make
    for o in made:
        o.stop()


def streamed(data):
    return 200, {"Content-Type": "text/event-stream"}, data


def words(n):
    return [events(chunk(f"w{i} "), done=False) for i in range(n)] + [
        events(chunk(finish="stop"), {**chunk(), "choices": [], "usage": {**USAGE, "completion_tokens": n}})]


def users(asked):
    return [body["messages"][-1]["content"] for _, body in asked]


# ---- measuring ----

def test_what_a_server_takes_is_what_is_measured(other):
    def slowly():
        for i, piece in enumerate(words(5)):
            time.sleep(FIRST if i == 0 else GAP)  # what is to be measured; nobody waits for anything by it
            yield piece
    out = bench("--url", other(lambda body: streamed(slowly())).url + "#m", "-c", "1", "-n", 3, "--warm-up", 1,
                "--slo", "ttft=1us")
    result, = out["results"]
    assert (result["requests"], result["failed"], result["concurrency"]) == (3, 0, 1)
    for a in result["answers"]:
        assert a["ttft_ms"] >= FIRST * 1e3 and a["e2e_ms"] >= (FIRST + 5 * GAP) * 1e3 >= a["ttft_ms"] - 1e3 * FIRST
        # the first one may be noticed late, and then the gaps are the shorter for it
        assert a["ttft_ms"] + 4 * a["tpot_ms"] >= (FIRST + 4 * GAP) * 1e3
        assert a["pieces"] == a["output_tokens"] == 5 and a["text"] == "w0 w1 w2 w3 w4 " and not a["good"]
    assert result["itl_ms"]["n"] == 12 and result["ttft_ms"]["n"] == 3 and not result["pieces_counted"]
    assert result["goodput"] == {"requests": 0, "share": 0, "per_s": 0}
    assert result["tokens"]["output"] == 15 and result["tokens"]["input"] == 3 * USAGE["prompt_tokens"]


def test_pieces_stand_for_tokens_where_a_server_does_not_say_them(other):
    out = bench("--url", other(lambda body: streamed(words(4)[:-1] + [events(chunk(finish="stop"))])).url + "#m", "-c", "1",
                "-n", 2)
    assert out["results"][0]["pieces_counted"] and out["results"][0]["tokens"]["output"] == 8


def test_a_closed_loop_never_has_more_at_once_than_asked_for(other):
    lock, now, most, third = threading.Lock(), [0], [0], threading.Event()

    def answer(body):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == 3:
                third.set()

        def pieces():
            yield third  # all three of them are under way
            yield words(1)[0]
            with lock:
                now[0] -= 1
            yield words(1)[1]
        return streamed(pieces())
    out = bench("--url", other(answer).url + "#m", "-c", "3", "-n", 9, "--warm-up", 0)
    assert most[0] == 3 and out["results"][0]["requests"] == 9


@pytest.mark.parametrize("how", [(), ("--poisson",)])
def test_at_a_rate_requests_never_wait_for_answers(other, how):
    """No answer comes before the last request did, which in a closed loop would be never."""
    count, all_there = [0], threading.Event()

    def answer(body):
        count[0] += 1
        if count[0] == 6:
            all_there.set()
        return streamed([all_there, *words(2)])
    out = bench("--url", other(answer).url + "#m", "--rate", 200, *how, "-n", 6, "--warm-up", 0)
    result, = out["results"]
    assert result["requests"] == 6 and not result["failed"] and result["rate"] == 200
    assert result["concurrency"] is None and result["late_ms"]["n"] == 6
    first, last = result["answers"][0], result["answers"][-1]
    assert first["ttft_ms"] > last["ttft_ms"] - last["late_ms"] and all(a["late_ms"] >= 0 for a in result["answers"])


# ---- prefixes ----

def test_every_prompt_has_a_prefix_of_its_own_unless_the_cache_is_kept(other):
    o = other()
    bench("--url", o.url + "#m", "-c", "1,2", "-n", 3, "--warm-up", 1, text='"Hello"\n"Bye"\n')
    asked = users(o.asked)
    assert len(set(asked)) == len(asked) == 2 * (1 + 3)
    assert sorted(a.split("\n")[1] for a in asked) == ["Bye"] * 2 + ["Hello"] * 6
    o = other()
    bench("--url", o.url + "#m", "-c", "1", "-n", 3, "--warm-up", 1, "--keep-cache", text='"Hello"\n"Bye"\n')
    assert users(o.asked) == ["Hello", "Hello", "Bye", "Hello"]
    assert all(b["stream"] and b["model"] == "m" and b["temperature"] == 0 for _, b in o.asked)


def test_two_servers_get_the_same_texts_and_their_answers_are_compared(other):
    a, b = other(), other(lambda body: streamed(words(1)) if len(b.asked) % 2 else Other.hello(body))
    out = bench("--url", a.url + "#m", "--url", b.url + "#m", "-c", "1", "-n", 4, "--warm-up", 0)
    assert users(a.asked) == users(b.asked)
    assert [r["agreement"] for r in out["results"]] == [None, {"answers": 4, "same": 2}]


# ---- keys ----

def test_a_key_goes_to_its_own_server_alone(other):
    a, b = other(), other()
    bench("--url", a.url + "#m", "--url", b.url + "#m", "--key-env", "-", "--key-env", "THE_KEY", "-c", "1", "-n", 1,
          THE_KEY="secret-of-b")
    assert {h.get("Authorization") for h in a.headers} == {None}
    assert {h.get("Authorization") for h in b.headers} == {"Bearer secret-of-b"}
    assert "has no THE_OTHER" in bench("--url", a.url + "#m", "--key-env", "THE_OTHER", code=2)


# ---- the report ----

def test_the_report_is_one_file_that_runs_and_loads_nothing(other, tmp_path):
    evil = "</pre><script>alert(1)</script><img src=x>"
    answer = lambda body: streamed(events(chunk(evil), chunk(finish="stop")))  # noqa: E731
    a, b, file = other(answer), other(answer), tmp_path / "r.html"
    bench("--url", a.url + "#m", "--url", b.url + "#<b>", "-c", "1,2", "-n", 8, "--slo", "ttft=10s,itl=1s", "--report", file,
          text=json.dumps(evil) + '\n"Hello"\n')
    text = file.read_text()
    assert "<script" not in text and "<img" not in text and "&lt;script&gt;alert(1)" in text and "#<b>" not in text
    assert "default-src 'none'" in text and "http-equiv" in text and not re.search(r"<[^>]*(src|href)=", text)
    pictures = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(pictures) == 5 + 2  # bars with the target's share, and a curve a load
    for picture in pictures:
        xml.etree.ElementTree.fromstring(picture)
    bars = [re.findall(r'<rect class="c(\d)"', p) for p in pictures[:5]]
    assert bars[0] == bars[1] == bars[4] == ["0", "0", "1", "1"]
    assert "100 %" in text and text.count("<details>") == 2


def test_a_report_that_cannot_be_written_is_an_error(other):
    assert "/nowhere/r.html" in bench("--url", other().url + "#m", "-c", "1", "-n", 1, "--report", "/nowhere/r.html", code=1)


# ---- failures ----

def test_failed_requests_are_counted_and_are_never_good(other):
    def answer(body):
        if "Bye" in body["messages"][0]["content"]:
            return 503, {"Content-Type": "application/json"}, json.dumps({"error": {"message": "too busy"}}).encode()
        return Other.hello(body)
    out = bench("--url", other(answer).url + "#m", "-c", "2", "-n", 6, "--slo", "e2e=10m", text='"Hello"\n"Bye"\n')
    result, = out["results"]
    assert (result["requests"], result["failed"]) == (6, 3)
    assert result["goodput"]["requests"] == 3 and result["goodput"]["share"] == 0.5
    assert {a["error"] for a in result["answers"]} == {None, "HTTP 503: too busy"} and result["e2e_ms"]["n"] == 3


def test_an_answer_that_breaks_off_is_a_failure(other):
    out = bench("--url", other(lambda body: streamed([words(2)[0], None])).url + "#m", "-c", "1", "-n", 2, "--warm-up", 0)
    assert out["results"][0]["failed"] == 2


def test_a_server_that_is_not_there_is_an_error_before_anything_is_measured(other):
    o = other()
    gone = other()
    gone.stop()
    said = bench("--url", o.url + "#m", "--url", gone.url + "#m", code=1)
    assert gone.url.split("//")[1] in said and not o.asked


def test_ctrl_c_keeps_what_was_measured_and_says_so(other):
    fourth, never = threading.Event(), threading.Event()

    def answer(body):
        if len(o.asked) < 4:
            return Other.hello(body)
        fourth.set()
        return streamed([never, *words(1)])
    o = other(answer)
    p = start("--prompts", "-", "--json", "--url", o.url + "#m", "-c", "1", "-n", 9, "--warm-up", 0)
    p.stdin.write('"Hello"\n')
    p.stdin.close()
    assert fourth.wait(60)
    p.send_signal(signal.SIGINT)
    out, err = json.loads(p.stdout.read()), p.stderr.read()
    never.set()
    assert p.wait(60) == 130 and "stopped" in err
    assert out["cut"] and out["results"][0]["requests"] == 3 and len(out["results"][0]["answers"]) == 3


@pytest.mark.parametrize("line, says", [
    ("", "line 1: there is no prompt"), ('"a"\n' * 730 + "{oops", "line 731, column"), ('{"prompt": ""}', "line 1: 'prompt'")])
def test_a_file_that_is_no_prompts_is_refused_with_its_line(line, says, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(line)
    p = start("--prompts", file, "--url", "http://127.0.0.1:9#m")
    _, err = p.communicate(timeout=60)
    assert p.returncode == 2 and str(file) in err and says in err


@pytest.mark.parametrize("args, says", [
    ((), "nobody is there to answer"), (("--url", "http://127.0.0.1:9", "--slo", "ttft=0s"), "--slo"),
    (("--url", "http://127.0.0.1:9", "--rate", "2", "-c", "3"), "two kinds of load"),
    (("--url", "http://127.0.0.1:9", "--poisson"), "--poisson"), (("-m", "/nowhere.gguf"), "/nowhere.gguf"),
    (("--url", "ftp://x"), "ftp://x"), (("--calls", "since=1d"), "give one"),
    (("--url", "http://127.0.0.1:9", "-c", "0"), "--concurrency")])
def test_what_cannot_be_is_refused(args, says):
    p = start("--prompts", "-", *args)
    _, err = p.communicate('"Hello"\n', timeout=60)
    assert p.returncode == 2 and says in err


# ---- real models ----

def test_a_model_agrees_with_itself_and_its_checks_are_counted(tmp_path):
    twin = tmp_path / "twin.gguf"
    twin.symlink_to(smol_like())
    text = ('{"prompt": "Name a colour.", "checks": [{"regex": "^"}]}\n'
            '{"prompt": "Name a town.", "checks": [{"exact": "Nowhere at all"}]}\n')
    out = bench("-m", smol_like(), twin, "-c", "1,3", "-n", 4, "--max-tokens", 6, "--ctx", 512, "--warm-up", 1, text=text)
    first, second, third, fourth = out["results"]
    assert [r["concurrency"] for r in out["results"]] == [1, 3, 1, 3] and not any(r["failed"] for r in out["results"])
    assert first["agreement"] is second["agreement"] is None
    assert third["agreement"] == fourth["agreement"] == {"answers": 4, "same": 4}
    assert first["checks"] == {"answers": 4, "passed": 2}
    assert first["tokens"]["output"] == sum(a["output_tokens"] for a in first["answers"])
    itself = out["targets"][1]["divergence"]  # answers may end before their first token, where weights are random
    assert "unknown" in itself or (itself["mean_nats"], itself["max_nats"], itself["same_likeliest"]) == (0, 0, 1)
    assert TINY or itself["prompts"] == 2 and itself["tokens"] >= 2
    assert out["targets"][0]["divergence"] is None
    assert all(t["kind"] == "local" and t["weights_bytes"] and not t["error"] for t in out["targets"])
    p = start("--prompts", "-", "-m", smol_like(), "-c", "1", "-n", 2, "--max-tokens", 4, "--ctx", 512)
    table, err = p.communicate(text, timeout=120)
    assert p.returncode == 0 and "2 prompts" in table and "TTFT p50" in table, err


def test_models_of_other_tokenizers_are_not_held_against_each_other():
    if TINY:
        pytest.skip("one tokenizer alone is there")
    out = bench("-m", smol_like(), tiny_as("other.gguf"), "-c", "1", "-n", 1, "--max-tokens", 3, "--ctx", 512, "--raw")
    assert "tokenizers" in out["targets"][1]["divergence"]["unknown"]


def test_recorded_calls_are_asked_again_where_their_content_was_kept(tmp_path, keys_file):
    served = Served(tmp_path / "l", smol_like(), "--keys", keys_file, "--ctx", "512", "--ledger-content", "full",
                    "--ledger-mode", "required")
    for i in range(3):
        assert ask(served, "/v1/chat/completions", chat(max_tokens=3 + i))[0] == 200
    assert served.server.stop() == 0
    p = start("--calls", "since=1d", "--ledger", tmp_path / "l", "--json", "-m", smol_like(), "-c", "1", "--ctx", 512, "-n", 3)
    out, err = p.communicate(timeout=120)
    assert p.returncode == 0, err
    out = json.loads(out)
    assert out["traffic"]["prompts"] == out["traffic"]["recorded"]["calls"] == 3
