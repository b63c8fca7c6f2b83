"""Roll-outs as operators drive them: over HTTP, with what they do in the ledger, and across crashes."""
import http.server
import json
import os
import queue
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from ledger_help import CALL, bodies, empty_disk, events, fill_disk
from server import Server, serve, tiny_as  # noqa: F401
from test_canary_assign import arm, ask

ADMIN = "the-secret-of-the-admin"
GUARDS = {"error": "5%", "ttft": "off", "itl": "off", "cut": "off", "length": "off", "repetition": "off", "uncertainty": "off"}


def config(tmp_path, more=""):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"alice the-first-secret-of-all\nroot {ADMIN} admin\n")
    file = tmp_path / "serin.yaml"
    file.write_text(f"""keys: {keys}
default_model: small
models:
  - {{name: small, path: {tiny_as("small.gguf")}, ctx: 512, parallel: 4}}
  - {{name: other, path: {tiny_as("other.gguf")}, ctx: 512, parallel: 4}}
routes:
  - {{name: chat, risk: low}}
ledger: {{where: {tmp_path / "ledger"}, mode: required}}
{more}""")
    return file


def call(server, path, body=None, key=ADMIN):
    """Status and JSON."""
    request = urllib.request.Request(server.url + path, None if body is None else json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            return r.status, json.loads(r.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def trial(**more):
    return {"name": "trial", "kind": "different", "baseline": "small", "canary": "other", "steps": ["50%", "100%"],
            "evidence": {"subjects": 10, "calls": 10, "time": "1s"}, "guardrails": GUARDS, "max_share": "100%", **more}


def begin(server, **more):
    status, o = call(server, "/v1/rollouts", {"declaration": trial(**more), "by": "ann"})
    assert status == 200, o
    return o


def act(server, action, **more):
    return call(server, "/v1/rollouts/trial", {"action": action, "by": "ann", **more})


def test_a_roll_out_lives_by_its_events(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    assert call(s, "/v1/rollouts")[1]["data"] == []
    o = begin(s)
    assert o["phase"] == "running" and o["share"] == 0.5 and o["by"] == "ann (key root)"
    assert {arm(ask(s, user=f"user {i}")[0]) for i in range(12)} == {"canary", "control"}
    assert call(s, "/v1/rollouts", {"declaration": trial()})[0] == 409  # it runs already
    status, o = act(s, "pause", why="lunch")
    assert status == 200 and o["phase"] == "paused" and o["why"] == "lunch"
    assert ask(s, user="somebody new")[0].startswith("baseline; rollout=trial; why=paused")
    assert act(s, "pause")[0] == 400
    assert act(s, "resume")[1]["phase"] == "running"
    assert act(s, "step", step=1)[1]["share"] == 1.0
    assert arm(ask(s, "Another conversation.", user="yet another")[0]) == "canary"
    assert act(s, "abort", why="enough")[1]["phase"] == "aborted"
    assert ask(s, user="yet another")[0] == ""
    assert act(s, "resume")[0] == 400
    names = [e["event"] for e in call(s, "/v1/rollouts/trial/history")[1]["data"]]
    assert names == ["rollout_started", "rollout_paused", "rollout_resumed", "rollout_step", "rollout_aborted"]
    assert begin(s)["phase"] == "running"  # no verdict has latched it
    s.stop()
    assert [e["by"] for e in events(tmp_path / "ledger", "rollout_paused")] == ["ann (key root)"]


@pytest.mark.parametrize("path, body, status, says", [
    ("/v1/rollouts", {}, 400, "declaration"),
    ("/v1/rollouts", {"declaration": {"name": "x"}}, 400, "kind: is missing"),
    ("/v1/rollouts", {"declaration": trial(canary="nobody")}, 400, "nobody"),
    ("/v1/rollouts", {"declaration": trial(kind="equivalent", canary="small", prompt={"id": "p", "baseline": 1, "canary": 2},
                                           guardrails={"divergence": 0.02})}, 400, "both arms have the same"),
    ("/v1/rollouts", {"declaration": trial(steps=["0%"])}, 400, "shadow: 20%"),
    ("/v1/rollouts/nothing", {"action": "pause"}, 404, "nothing"),
    ("/v1/rollouts/trial", {"action": "dance"}, 400, "action"),
    ("/v1/freeze", {"on": 3}, 400, "on"),
])
def test_what_is_wrong_is_said(tmp_path_factory, shared, path, body, status, says):
    got, o = call(shared, path, body)
    assert got == status and says in o["error"]["message"], o


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    s = Server("--config", config(tmp_path_factory.mktemp("shared")))
    yield s
    assert s.stop() == 0


def test_only_administrators_see_and_change_roll_outs(shared):
    assert call(shared, "/v1/rollouts", key="the-first-secret-of-all")[0] == 403
    assert call(shared, "/v1/rollouts", {"declaration": trial()}, key="the-first-secret-of-all")[0] == 403


def test_frozen_nothing_grows_and_no_label_moves(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s)
    assert call(s, "/v1/freeze", {"on": True, "why": "black friday"})[1] == {"frozen": True}
    assert act(s, "step", step=1)[0] == 409 and act(s, "promote")[0] == 409
    assert call(s, "/v1/rollouts", {"declaration": trial(name="other")})[0] == 409
    prompt = {"name": "p", "text": "messages: [{role: system, content: Be brief.}]"}
    assert call(s, "/v1/prompts", prompt)[0] == 200
    assert call(s, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 409
    assert act(s, "pause")[0] == 200  # what makes it smaller is always possible
    assert call(s, "/v1/freeze", {"on": False})[1] == {"frozen": False}
    assert act(s, "resume")[0] == 200
    assert call(s, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 200


def test_frozen_a_server_starts_and_what_its_file_declares_waits(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    assert call(s, "/v1/freeze", {"on": True})[0] == 200
    s.stop()
    file = config(tmp_path, f"canary: [{json.dumps(trial())}]")
    s = serve("--config", file)
    assert s.wait_log(event="rollout_waits") and call(s, "/v1/rollouts")[1]["data"] == []
    assert call(s, "/v1/freeze", {"on": False})[0] == 200
    s.stop()
    s = serve("--config", file)
    assert [r["phase"] for r in call(s, "/v1/rollouts")[1]["data"]] == ["running"]


def slow_call(s, user, model="small"):
    def run():
        try:
            ask(s, user=user, model=model, max_tokens=400, ignore_eos=True)
        except OSError:
            pass  # the server was killed
    t = threading.Thread(target=run)
    t.start()
    return t


def kill_with_a_canary_in_flight(s, models=("small",)):
    """Kills the server while the canary of each roll-out, all of which run, answers; they are asked again until calls of
    all were caught in flight."""
    threads = [slow_call(s, f"user {i}", m) for m in models for i in range(8)]
    while not all(r["open"] for r in call(s, "/v1/rollouts")[1]["data"]):
        threads += [slow_call(s, f"more {len(threads)}", m) for m in models]
    os.kill(s.process.pid, signal.SIGKILL)
    s.process.wait()
    for t in threads:
        t.join()


def test_a_crash_pauses_at_nothing_and_a_second_one_rolls_back(tmp_path):
    file = config(tmp_path)
    s = Server("--config", file)
    begin(s)
    act(s, "step", step=1)  # everybody
    kill_with_a_canary_in_flight(s)
    s = Server("--config", file)
    o = call(s, "/v1/rollouts/trial")[1]
    assert o["phase"] == "paused" and o["share"] == 0 and "in flight" in o["why"]
    assert ask(s, user="user 1")[0].startswith("baseline")
    assert act(s, "resume")[1]["share"] == 1.0
    kill_with_a_canary_in_flight(s)
    s = Server("--config", file)
    o = call(s, "/v1/rollouts/trial")[1]
    assert o["phase"] == "rolled_back" and o["latched"] and "second" in o["why"]
    assert call(s, "/v1/rollouts", {"declaration": trial()})[0] == 400  # never again
    assert ask(s, user="user 1")[0] == ""
    assert s.stop() == 0
    s = Server("--config", file)  # and a stop in good order is no crash
    assert call(s, "/v1/rollouts/trial")[1]["phase"] == "rolled_back"
    assert s.stop() == 0


def test_a_roll_back_that_cannot_be_recorded_is_in_force_and_is_recorded_later(tmp_path, serve):
    s = serve("--config", config(tmp_path), "--ledger-mode", "buffered")
    begin(s)
    assert act(s, "step", step=1)[0] == 200  # everybody
    assert arm(ask(s, user="ann")[0]) == "canary"
    fill_disk(SimpleNamespace(server=s))
    assert act(s, "roll_back", why="it swears")[0] >= 500
    assert ask(s, user="ann")[0] == ""
    assert act(s, "step", step=0)[0] == 409  # nothing brings it back
    empty_disk(SimpleNamespace(server=s))
    while call(s, "/v1/rollouts/trial")[1]["phase"] != "rolled_back":  # nobody says it again
        pass
    s.stop()
    e, = events(tmp_path / "ledger", "rollout_rolled_back")
    assert e["why"] == "it swears" and e["by"] == "ann (key root)"


def test_a_canary_that_is_not_in_memory_is_loaded_first(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    assert call(s, "/v1/models/unload", {"model": "other"})[0] == 200
    begin(s)
    assert act(s, "step", step=1)[0] == 200  # everybody
    assert arm(ask(s)[0]) == "canary" and "fallback" not in ask(s)[0]
    assert call(s, "/v1/models/load", {"model": "other"})[0] == 409  # it is


def test_what_an_answer_was_like_stands_in_its_record(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    text = ("messages: [{role: system, content: Be brief.}]\n"
            "checks: [{contains: never said by anybody}, {regex: '(?s).*'}, {command: [/bin/false]}]\n")
    assert call(s, "/v1/prompts", {"name": "p", "text": text, "label": "production"})[0] == 200
    begin(s, steps=["20%"])  # the baseline beside its control is measured too, but for its times
    ids = [ask(s, user=f"user {i}", max_tokens=20, ignore_eos=True, prompt={"id": "p"})[1] for i in range(20)]
    s.stop()
    records = [r for r in bodies(tmp_path / "ledger", CALL) if r["id"] in ids]
    assert len(records) == 20 and {"baseline"} < {r["arm"] for r in records}
    for r in records:
        x = r["rollout"]
        assert x["checks"] == {"passed": 1, "failed": 1}  # programs are left out
        assert x["uncertainty"] > 0 and 0 <= x["repetition"] <= 1
        assert (x["engine_us"]["ttft"] is None) == (r["arm"] == "baseline")


def ticks(server, thread):
    """Processor time of the threads of that name."""
    n = 0
    for task in os.listdir(f"/proc/{server.process.pid}/task"):
        with open(f"/proc/{server.process.pid}/task/{task}/stat") as f:
            name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        n += sum(map(int, rest.split()[11:13])) if name == thread else 0
    return n


def test_checks_that_cost_much_are_not_the_listeners(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    costly = ["{regex: '(?s)^(?:.+)+[^\\s\\S]{%d}'}" % (i + 1) for i in range(8)]  # up to their limit
    text = f"messages: [{{role: system, content: Be brief.}}]\nchecks: [{', '.join(costly)}]\n"
    assert call(s, "/v1/prompts", {"name": "p", "text": text, "label": "production"})[0] == 200
    begin(s)
    id = ask(s, max_tokens=60, guided_regex="a{40}", prompt={"id": "p"})[1]
    assert ticks(s, "serin-recorder") > 3 * ticks(s, "serin-http") + 3
    s.stop()
    record, = [r for r in bodies(tmp_path / "ledger", CALL) if r["id"] == id]
    assert record["rollout"]["checks"] == {"passed": 0, "failed": 8}


def test_a_prompt_version_is_rolled_out_and_its_labels_follow(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    for content in ("Be brief.", "Be very brief."):
        text = f"messages: [{{role: system, content: {content}}}]"
        assert call(s, "/v1/prompts", {"name": "p", "text": text})[0] == 200
    assert call(s, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 200
    assert call(s, "/v1/rollouts", {"declaration": trial(canary="small", prompt={"id": "p", "baseline": 1, "canary": 9})})[0] == 400
    begin(s, canary="small", prompt={"id": "p", "baseline": 1, "canary": 2})
    arms = {}
    for i in range(12):
        header, id = ask(s, user=f"user {i}", prompt={"id": "p"})
        arms[id] = arm(header)
    assert set(arms.values()) == {"canary", "control"}
    assert ask(s, user="user 1", prompt={"id": "p", "version": 1})[0] == ""  # asked for by its number
    assert ask(s, user="user 1")[0] == ""  # without the prompt
    assert act(s, "promote")[1]["phase"] == "promoted"
    assert call(s, "/v1/prompts/p")[1]["labels"] == {"production": 2}
    s.stop()
    for r in bodies(tmp_path / "ledger", CALL):
        if r["id"] in arms:
            assert r["prompt"]["version"] == (2 if arms[r["id"]] == "canary" else 1) and r["model"] == "small"


def test_what_was_promoted_and_is_not_configured_any_more_replaces_nothing(tmp_path, serve):
    file = config(tmp_path)
    s = serve("--config", file)
    begin(s)
    assert act(s, "promote")[1]["phase"] == "promoted"
    last = ask(s)[1]
    s.stop()
    assert next(r for r in bodies(tmp_path / "ledger", CALL) if r["id"] == last)["model"] == "other"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "name: other" not in line))
    s = serve("--config", file)
    last = ask(s)[1]  # before anybody has retired it
    assert act(s, "retire")[1]["phase"] == "retired"
    s.stop()
    assert next(r for r in bodies(tmp_path / "ledger", CALL) if r["id"] == last)["model"] == "small"


def test_what_is_promoted_there_and_back_again_is_as_it_was(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s)
    assert act(s, "promote")[1]["phase"] == "promoted"
    there = ask(s)[1]
    begin(s, name="back", baseline="other", canary="small")
    assert call(s, "/v1/rollouts/back", {"action": "promote", "by": "ann"})[1]["phase"] == "promoted"
    back = ask(s)[1]
    s.stop()
    models = {r["id"]: r["model"] for r in bodies(tmp_path / "ledger", CALL)}
    assert models[there] == "other" and models[back] == "small"


def test_tokens_of_another_tokenizer_are_no_guardrail(tmp_path, serve):
    """Said when the roll-out is to begin: over HTTP, and in the file before the server listens."""
    file = config(tmp_path)
    other = next(line for line in file.read_text().splitlines() if "name: other" in line).split("path: ")[1].split(",")[0]
    data = Path(other).read_bytes()
    Path(other).write_bytes(data.replace(b"<|endoftext|>", b"<|endoftales|"[:13], 1))
    s = serve("--config", file)
    status, o = call(s, "/v1/rollouts", {"declaration": trial(kind="equivalent", guardrails={**GUARDS, "divergence": 0.02})})
    assert status == 400 and "different tokenizers" in o["error"]["message"] and "divergence: off" in o["error"]["message"], o
    assert begin(s, kind="equivalent", guardrails={**GUARDS, "divergence": "off"})["phase"] == "running"
    s.stop()
    file.write_text(file.read_text() + "canary:\n  - {name: next, kind: equivalent, baseline: small, canary: other}\n")
    done = subprocess.run([os.environ["SERIN"], "serve", "--config", file, "--listen", "127.0.0.1:0"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode != 0 and "different tokenizers" in done.stderr and "serin.yaml:" in done.stderr, done.stderr


@pytest.fixture
def gate():
    """Until it is set no webhook answers; it is, unless a test clears it."""
    gate = threading.Event()
    gate.set()
    yield gate
    gate.set()


@pytest.fixture
def webhook(gate):
    """What was POSTed to it, and its URL."""
    got = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.put((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            gate.wait()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield got, f"http://127.0.0.1:{server.server_port}/hook?x=1"
    server.shutdown()


def test_a_canary_that_fails_is_rolled_back_and_says_why(tmp_path, serve, webhook):
    """It cannot be had, so that the baseline answers in its place, which counts as its failure."""
    got, url = webhook
    s = serve("--config", config(tmp_path))
    begin(s, steps=["50%"], webhook=url)
    call(s, "/v1/models/unload", {"model": "other"})  # every call of the canary falls back
    for i in range(400):
        try:
            h, _ = ask(s, user=f"user {i}")
        except urllib.error.HTTPError:
            continue
        if h == "":
            break
    assert h == "", "400 calls, half of them failures, and no roll-back"
    o = call(s, "/v1/rollouts/trial")[1]
    assert o["phase"] == "rolled_back" and o["latched"]
    e = call(s, "/v1/rollouts/trial/explain")[1]["data"][-1]
    assert e["again"] == {"verdict": "roll_back", "why": e["look"]["why"], "same": True}
    assert s.wait_log(event="rollout_rolled_back")
    text = urllib.request.urlopen(urllib.request.Request(s.url + "/metrics", headers={"Authorization": f"Bearer {ADMIN}"}))
    assert 'serin_rollouts{phase="rolled_back"} 1' in text.read().decode()
    s.stop()
    path, o = got.get(timeout=60)
    assert path == "/hook?x=1" and o["event"] == "rollout_rolled_back" and o["rollout"] == "trial" and got.empty()
    fell = [r for r in bodies(tmp_path / "ledger", CALL) if r["arm"] == "canary"]
    assert fell and all(r["why"] == "fallback" and r["model"] == "small" and r["rollout"]["fallback"] for r in fell)


def test_a_webhook_that_hangs_delays_nothing(tmp_path, webhook, gate):
    """Two roll-outs have crashed: the second is told of, and the server starts, while nobody answers for the first."""
    got, url = webhook
    file = config(tmp_path)
    s = Server("--config", file)
    begin(s, webhook=url)
    begin(s, webhook=url, name="back", baseline="other", canary="small")
    kill_with_a_canary_in_flight(s, ("small", "other"))
    gate.clear()
    s = Server("--config", file)
    assert {r["phase"] for r in call(s, "/v1/rollouts")[1]["data"]} == {"paused"}
    gate.set()
    assert {got.get(timeout=60)[1]["rollout"] for _ in range(2)} == {"trial", "back"}
    assert s.stop() == 0
    told = [json.loads(line).get("event") for line in s.lines if line.startswith("{")]
    assert told.count("rollout_crashed") == 2 and "webhook_failed" not in told


def findings(s):
    """Of the newest look, by metric, without the divergence, which comes some time after a call; {}: none yet."""
    look = call(s, "/v1/rollouts/trial")[1]["look"] or {"findings": {}}
    return {name: f for name, f in look["findings"].items() if name != "divergence"}


def test_a_restart_comes_to_the_same_evidence(tmp_path, serve):
    s = Server("--config", config(tmp_path))
    begin(s)
    for i in range(40):
        ask(s, user=f"user {i}")
    def seen(server):
        return sum(findings(server).get("error", {"calls": []})["calls"])
    while seen(s) < 40:  # the watcher reads a few times a second
        pass
    before = findings(s)
    while call(s, "/v1/rollouts/trial")[1]["open"]:  # the end of a call comes a little after its answer
        pass
    os.kill(s.process.pid, signal.SIGKILL)  # no call is in flight
    s.process.wait()
    s = serve("--config", config(tmp_path))
    assert call(s, "/v1/rollouts/trial")[1]["phase"] == "running"
    assert seen(s) == 40 and findings(s) == before
