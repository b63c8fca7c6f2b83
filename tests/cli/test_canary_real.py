"""Roll-outs of real weights, under load: SmolLM2 against a copy cut to two bits, against a copy that differs in one byte of
metadata, and against the same weights in eight bits. What decides is the divergence; nobody labels anything."""
import concurrent.futures
import json
import math
import time

import pytest

import smol_copies
from ledger_help import CALL, bodies, events
from server import TINY, real_model, serve  # noqa: F401
from test_canary_api import ADMIN, GUARDS, call
from test_canary_assign import arm, ask

pytestmark = pytest.mark.skipif(TINY, reason="the tiny model has no quantised weights")
TOPICS = ["the sea", "bread", "a bridge", "winter", "an old clock", "chess", "rain", "a garden", "music", "the moon"]


@pytest.fixture(scope="module")
def smol():
    return real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def config(tmp_path, small, other):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"alice the-first-secret-of-all\nroot {ADMIN} admin\n")
    file = tmp_path / "serin.yaml"
    file.write_text(f"""keys: {keys}
default_model: small
models:
  - {{name: small, path: {small}, ctx: 1024, parallel: 8}}
  - {{name: other, path: {other}, ctx: 1024, parallel: 8}}
routes:
  - {{name: chat, risk: low}}
ledger: {{where: {tmp_path / "ledger"}}}
""")
    return file


def state(s):
    return call(s, "/v1/rollouts/trial")[1]


def drive(s, done, most, tokens=24):
    """Calls of ever new people, eight at a time, until done() or there were enough; returns how many."""
    def one(i):
        ask(s, f"Say something about {TOPICS[i % len(TOPICS)]}, number {i}.", user=f"user {i}", max_tokens=tokens,
            temperature=0.7, seed=i)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for n in range(0, most, 8):
            list(pool.map(one, range(n, n + 8)))
            if done():
                return n + 8
    return most


def begin(s, share, **more):
    guards = {**GUARDS, "error": "5%", "divergence": 0.02}
    status, o = call(s, "/v1/rollouts", {"declaration": {
        "name": "trial", "kind": "equivalent", "baseline": "small", "canary": "other", "steps": [share], "max_share": "100%",
        "evidence": {"subjects": 20, "calls": 20, "time": "1s"}, "guardrails": guards, "judge": "20%", **more}})
    assert status == 200, o


def judged(folder):
    return events(folder, "rollout_judged")


def test_weights_cut_to_two_bits_are_taken_back(tmp_path, serve, smol):
    s = serve("--config", config(tmp_path, smol, smol_copies.cut(smol, tmp_path / "cut.gguf")))
    begin(s, "10%")
    drive(s, lambda: state(s)["phase"] == "rolled_back", 800)
    o = state(s)
    assert o["phase"] == "rolled_back" and o["latched"] and "divergence" in o["why"], o
    at = events(tmp_path / "ledger", "rollout_rolled_back")[0]
    n = sum(e["tokens"] for e in judged(tmp_path / "ledger") if e["at_us"] <= at["at_us"])
    print(f"rolled back after {n} judged tokens: {o['why']}")
    assert n <= 300
    assert ask(s, user="user 1")[0] == ""


def test_a_copy_with_another_name_is_exactly_the_same(tmp_path, serve, smol):
    s = serve("--config", config(tmp_path, smol, smol_copies.renamed(smol, tmp_path / "other.gguf")))
    begin(s, "50%")
    drive(s, lambda: len(judged(tmp_path / "ledger")) >= 20, 400)
    assert state(s)["phase"] == "running"
    all_of = judged(tmp_path / "ledger")
    assert len(all_of) >= 20 and all(e["jsd"] == 0 and e["kl"] == 0 and e["same_top"] == e["tokens"] for e in all_of)


def test_the_same_weights_in_eight_bits_are_kept_and_promoted(tmp_path, serve, smol):
    s = serve("--config", config(tmp_path, smol, smol_copies.in_eight_bits(smol, tmp_path / "q8.gguf")))
    begin(s, "50%", at_end="promote")
    drive(s, lambda: state(s)["phase"] != "running", 1200, tokens=12)
    o = state(s)
    assert o["phase"] == "promoted", o
    all_of = judged(tmp_path / "ledger")
    mean = sum(e["jsd"] for e in all_of) / sum(e["tokens"] for e in all_of)
    print(f"promoted; divergence {mean:.5f} nats a token over {len(all_of)} calls")
    assert 0 < mean < 0.02
    _, id = ask(s, user="anybody")
    s.stop()
    assert next(r for r in bodies(tmp_path / "ledger", CALL) if r["id"] == id)["model"] == "other"
