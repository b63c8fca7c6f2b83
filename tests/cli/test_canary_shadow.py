"""Shadow: the canary answers copies of calls that the baseline answers, nobody sees what it says, and what it says decides."""
import concurrent.futures
import json
import os
import re
import subprocess
import urllib.request

import pytest

import smol_copies
from ledger_help import CALL, bodies, events
from server import TINY, real_model, serve  # noqa: F401
from test_canary_api import ADMIN, GUARDS, act, begin, call, config
from test_canary_assign import arm, ask
from test_canary_rerun import config as rerun_config, metric as rerun_metric, until
from test_canary_real import config as real_config, drive, state

ALL = {"steps": ["0%"], "shadow": "100%"}


def metric(s, name):
    request = urllib.request.Request(s.url + "/metrics", headers={"Authorization": f"Bearer {ADMIN}"})
    text = urllib.request.urlopen(request).read().decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])


def settle(s):
    """Until no copy waits or runs."""
    while metric(s, "serin_rollout_copies_open"):
        pass


def made(s):
    return metric(s, 'serin_rollout_copies_total{result="made"}')


def answer(s, i, path="/v1/chat/completions", **more):
    """What a client gets, without what differs from call to call anyway."""
    body = {"model": "small", "max_tokens": 12, "seed": i, "temperature": 0.8, "user": f"user {i}", "ignore_eos": True,
            "messages": [{"role": "user", "content": f"Say {i}."}], **more}
    if path == "/v1/messages":
        body["metadata"] = {"user_id": body.pop("user")}
        body["temperature"] = 0  # it takes no seed
    request = urllib.request.Request(s.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": "Bearer the-first-secret-of-all"})
    with urllib.request.urlopen(request, timeout=120) as r:
        text = r.read().decode()
    if more.get("stream"):  # in how many pieces it comes depends on the moment
        pieces = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        return "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces)
    for what in (r.headers["x-serin-call"], r'"created":\d+', r'"(id|system_fingerprint)":"[^"]*"', r'"cach[a-z_]*":\d+',
                 r'"input_tokens":\d+'):
        text = re.sub(what, "", text)
    return text


def test_clients_get_what_they_would_get_and_copies_are_recorded(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    ways = [{}, {"stream": True}, {"path": "/v1/messages"}, {"n": 2}]
    before = [answer(s, i, **ways[i % 4]) for i in range(8)]
    n = len(bodies(tmp_path / "ledger", CALL))
    begin(s, **ALL)
    assert [answer(s, i, **ways[i % 4]) for i in range(8)] == before
    assert [answer(s, i, **ways[i % 4]) for i in range(8)] == before  # whatever the copies have left in caches
    settle(s)
    assert made(s) == 16 and call(s, "/v1/rollouts/trial")[1]["open"] == 0
    s.stop()
    all_of = bodies(tmp_path / "ledger", CALL)[n:]
    asked = {r["id"]: r for r in all_of if r["why"] != "shadow"}
    copies = [r for r in all_of if r["why"] == "shadow"]
    assert len(asked) == len(copies) == 16
    for c in copies:
        r = asked.pop(c["rollout"]["shadow_of"])
        assert (c["arm"], c["model"], r["arm"], r["model"]) == ("canary", "other", "control", "small")
        for same in ("experiment", "endpoint", "route", "key", "tenant", "subject", "policy", "asked", "sampling", "max_tokens"):
            assert c[same] == r[same], same
        assert c["prompt"]["hash"] == r["prompt"]["hash"] and c["tokens"]["output"] == r["tokens"]["output"]
        assert c["rollout"]["subject"] == r["rollout"]["subject"] and c["rollout"]["counted"] and r["rollout"]["counted"]
        assert c["rollout"]["engine_us"] == {"ttft": None, "itl": None}
    found = subprocess.run([os.environ["SERIN"], "calls", "list", "--ledger", tmp_path / "ledger", "--limit", "100", "--json",
                            "why=shadow"], capture_output=True, text=True, check=True).stdout
    assert found.count('"shadow_of"') == 16


def test_evidence_of_copies_begins_the_first_step_and_times_do_not_hold_it(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, steps=["0%", "50%"], shadow="100%", guardrails={**GUARDS, "error": "60%", "itl": "5%"})
    for i in range(400):
        header, _ = ask(s, user=f"user {i}")
        settle(s)
        if call(s, "/v1/rollouts/trial")[1]["step"]:
            break
        assert arm(header) == "control"
    o = call(s, "/v1/rollouts/trial")[1]
    assert o["step"] == 1 and o["share"] == 0.5
    step, = [e for e in call(s, "/v1/rollouts/trial/history")[1]["data"] if e["event"] == "rollout_step"]
    look = step["look"]
    assert look["exposed"] == 0 and look["srm_p"] == 1 and abs(look["calls"][0] - look["calls"][1]) <= 1
    assert look["findings"]["itl"]["calls"] == [0, 0] and look["findings"]["error"]["calls"][1] >= 10
    arms = {arm(ask(s, user=f"user {i}")[0]) for i in range(20)}  # who was copied before is in either arm now
    assert arms == {"canary", "control"}


def test_a_share_of_the_others_is_copied_and_tenants_opt_out(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, steps=["20%"], shadow="50%", max_share="100%", opt_out=["alice"])
    for i in range(6):
        assert "why=opt_out" in ask(s, user=f"user {i}")[0]
    assert made(s) == 0
    act(s, "abort")
    begin(s, name="second", steps=["20%"], shadow="50%", max_share="100%")
    for i in range(60):
        ask(s, user=f"user {i}")
        settle(s)
    s.stop()
    all_of = [r for r in bodies(tmp_path / "ledger", CALL) if r["experiment"] == "second"]
    copied = {r["rollout"]["shadow_of"] for r in all_of if r["why"] == "shadow"}
    arms = [r["arm"] for r in all_of if r["id"] in copied]
    assert len(arms) == len(copied) and 5 <= len(copied) <= 50 and "canary" not in arms and "baseline" in arms


def test_what_finds_no_room_is_left_out_and_draining_ends_copies(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, **ALL)
    skipped = 'serin_rollout_copies_total{result="skipped"}'

    def long(i):
        return ask(s, user=f"user {i}", max_tokens=440, ignore_eos=True)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # copies run two at a time, and behind these
        for n in range(0, 2000, 8):
            list(pool.map(long, range(n, n + 8)))
            if metric(s, skipped):
                break
    assert metric(s, skipped) > 0 and metric(s, "serin_rollout_copies_open") <= 32
    header, _ = ask(s, user="one more")
    assert call(s, "/v1/drain", {"on": True})[0] == 200
    settle(s)
    assert call(s, "/v1/drain", {"on": False})[0] == 200
    assert arm(header) in ("control", "baseline")
    s.stop()
    for r in bodies(tmp_path / "ledger", CALL):
        assert r["status"] == 200 or r["why"] == "shadow", r


def test_a_roll_back_ends_the_copies_and_nothing_is_copied_any_more(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, **ALL)
    for i in range(6):
        ask(s, user=f"user {i}", max_tokens=440, ignore_eos=True)
    assert act(s, "roll_back", why="enough")[0] == 200
    settle(s)
    n = made(s)
    assert ask(s, user="user 1")[0] == "" and made(s) == n
    assert s.stop() == 0


@pytest.mark.parametrize("stream", [True, False])
def test_a_cancelled_copy_is_an_abort_and_no_error(tmp_path, serve, stream):
    s = serve("--config", rerun_config(tmp_path))  # the canary's context is long, and so is what it answers to that
    begin(s, **ALL)
    ask(s, max_tokens=None, ignore_eos=True, stream=stream)
    until(lambda: metric(s, "serin_rollout_copies_open") and rerun_metric(s, "vllm:num_requests_running"))
    assert act(s, "roll_back", why="enough")[0] == 200
    settle(s)
    s.stop()
    copy, = [r for r in bodies(tmp_path / "ledger", CALL) if r["why"] == "shadow"]
    assert (copy["finish"], copy["error"], copy["status"]) == ("abort", None, 200)
    stats = subprocess.run([os.environ["SERIN"], "calls", "stats", "--by", "arm", "arm=canary", "--json", "--ledger",
                            tmp_path / "ledger"], capture_output=True, text=True, check=True, timeout=120).stdout
    row, = json.loads(stats)["data"]
    assert (row["calls"], row["errors"], row["aborted"]) == (1, 0, 1)


def test_a_canary_that_cannot_be_had_fails_in_shadow_and_no_client_notices(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, **ALL)
    call(s, "/v1/models/unload", {"model": "other"})
    for i in range(400):
        header, _ = ask(s, user=f"user {i}")  # 200, or it raises
        settle(s)
        if header == "":
            break
    o = call(s, "/v1/rollouts/trial")[1]
    assert o["phase"] == "rolled_back" and "error" in o["why"], o
    s.stop()
    copies = [r for r in bodies(tmp_path / "ledger", CALL) if r["why"] == "shadow"]
    assert copies and all(r["rollout"]["fallback"] and r["model"] != "small" for r in copies)


def test_a_prompts_copy_has_the_canarys_version(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    for content in ("Be brief.", "Be very brief."):
        assert call(s, "/v1/prompts", {"name": "p", "text": f"messages: [{{role: system, content: {content}}}]"})[0] == 200
    assert call(s, "/v1/prompts/p/labels", {"label": "production", "version": 1})[0] == 200
    begin(s, canary="small", prompt={"id": "p", "baseline": 1, "canary": 2}, **ALL)
    id = ask(s, user="user 1", prompt={"id": "p"})[1]
    settle(s)
    s.stop()
    records = bodies(tmp_path / "ledger", CALL)
    copy, = [r for r in records if r["why"] == "shadow"]
    of, = [r for r in records if r["id"] == id]
    assert (of["prompt"]["version"], copy["prompt"]["version"], copy["model"]) == (1, 2, "small")
    assert copy["rollout"]["shadow_of"] == id and of["why"] == "hash"


@pytest.mark.skipif(TINY, reason="the tiny model has no quantised weights")
def test_weights_cut_to_two_bits_are_taken_back_before_any_client_saw_them(tmp_path, serve):
    smol = real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    s = serve("--config", real_config(tmp_path, smol, smol_copies.cut(smol, tmp_path / "cut.gguf")))
    guards = {**GUARDS, "error": "5%", "divergence": 0.02}
    status, o = call(s, "/v1/rollouts", {"declaration": {
        "name": "trial", "kind": "equivalent", "baseline": "small", "canary": "other", "steps": ["0%", "10%"], "shadow": "50%",
        "evidence": {"subjects": 20, "calls": 20, "time": "1s"}, "guardrails": guards, "judge": "20%"}})
    assert status == 200, o
    drive(s, lambda: state(s)["phase"] == "rolled_back", 800)
    o = state(s)
    assert o["phase"] == "rolled_back" and o["step"] == 0 and "divergence" in o["why"], o
    s.stop()
    seen = [r for r in bodies(tmp_path / "ledger", CALL) if r["model"] == "other"]
    assert seen and all(r["why"] == "shadow" for r in seen)
    assert all(e["shadow"] for e in events(tmp_path / "ledger", "rollout_judged"))
