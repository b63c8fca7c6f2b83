"""Roll-outs in the server: who gets which arm. Declared in serin.yaml, two tiny models behind one name, seen in headers and
records; conversations stay, caps hold, tenants opt out, a restart changes nothing."""
import json
import subprocess
import os
import urllib.request

import pytest

from ledger_help import CALL, bodies, events
from server import serve, tiny_as  # noqa: F401

KEYS = "alice the-first-secret-of-all\nbob another-secret-of-many\n"


def config(tmp_path, rollout, routes="  - {name: chat, match: {}, risk: low}\n", name="trial"):
    small, other = tiny_as("small.gguf"), tiny_as("other.gguf")
    keys = tmp_path / "keys.txt"
    keys.write_text(KEYS)
    file = tmp_path / "serin.yaml"
    file.write_text(f"""keys: {keys}
default_model: small
models:
  - {{name: small, path: {small}, ctx: 512, parallel: 4, aliases: [gpt]}}
  - {{name: other, path: {other}, ctx: 512, parallel: 4}}
routes:
{routes}ledger: {{where: {tmp_path / "ledger"}, mode: required}}
canary:
  - {{name: {name}, kind: different, baseline: small, canary: other, {rollout}}}
""")
    return file


def ask(server, text="Hello.", model="small", key="the-first-secret-of-all", path="/v1/chat/completions", headers=None, **more):
    """The arm's header ("" where there is none), and the id of the call."""
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": text}], **more}
    if path == "/v1/completions":
        body["prompt"] = body.pop("messages")[0]["content"]
    if path == "/v1/responses":
        body = {"model": model, "max_output_tokens": 1, "input": text}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {key}", **(headers or {})})
    with urllib.request.urlopen(request, timeout=120) as r:
        r.read()
        return r.headers.get("x-serin-arm", ""), r.headers["x-serin-call"]


def arm(header):
    return header.split(";")[0]


def test_half_of_the_subjects_get_the_canary_and_each_stays_with_its_arm(tmp_path, serve):
    s = serve("--config", config(tmp_path, "steps: [50%], max_share: 100%"))
    first = {f"user {i}": ask(s, user=f"user {i}") for i in range(24)}
    arms = {u: arm(h) for u, (h, _) in first.items()}
    assert set(arms.values()) == {"canary", "control"}  # at a half nobody is left over
    for user in ("user 3", "user 7", "user 11"):
        assert arm(ask(s, "Something else.", user=user)[0]) == arms[user]
        assert arm(ask(s, headers={"x-serin-subject": user})[0]) == arms[user]  # the same name, said by a header
        assert arm(ask(s, "Text.", path="/v1/completions", user=user)[0]) == arms[user]
    other_tenant = {arm(ask(s, user=f"user {i}", key="another-secret-of-many")[0]) == arms[f"user {i}"] for i in range(12)}
    assert other_tenant == {True, False}  # users of two tenants are two people
    s.stop()
    records = {r["id"]: r for r in bodies(tmp_path / "ledger", CALL)}
    for user, (header, call) in first.items():
        r = records[call]
        assert r["experiment"] == "trial" and r["arm"] == arms[user] and r["why"] == "hash"
        assert r["model"] == ("other" if r["arm"] == "canary" else "small") and r["asked"] == "small"
        assert r["rollout"]["counted"] and r["rollout"]["step"] == 0 and not r["rollout"]["fallback"]
        assert header == f"{r['arm']}; rollout=trial; why=hash"
    assert len({records[c]["rollout"]["subject"] for _, c in first.values()}) == 24
    started = events(tmp_path / "ledger", "rollout_started")
    assert len(started) == 1 and started[0]["declaration"]["canary"] == "other" and started[0]["by"] == "serin.yaml"


def test_who_says_no_name_is_known_by_how_the_conversation_begins(tmp_path, serve):
    s = serve("--config", config(tmp_path, "steps: [50%], max_share: 100%"))
    for text in ("One.", "Two.", "Three."):
        h, _ = ask(s, text)
        turn = [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And?"}]
        again, _ = ask(s, messages=turn)
        assert arm(again) == arm(h) and "why=pinned" in again
        assert arm(ask(s, text, path="/v1/responses")[0]) in ("canary", "control")


def test_a_conversation_that_began_before_the_roll_out_stays_with_the_baseline(tmp_path, serve):
    s = serve("--config", config(tmp_path, "steps: [50%], max_share: 100%"))
    turn = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "So?"}]
    h, call = ask(s, messages=turn)
    assert h.startswith("baseline") and "why=pinned" in h
    assert ask(s, messages=turn)[0].startswith("baseline")
    assert arm(ask(s, "A new one.")[0]) in ("canary", "control")
    s.stop()
    r = next(r for r in bodies(tmp_path / "ledger", CALL) if r["id"] == call)
    assert r["model"] == "small" and not r["rollout"]["counted"]


def test_the_cap_sends_new_conversations_to_the_baseline_outside_the_evidence(tmp_path, serve):
    s = serve("--config", config(tmp_path, "steps: [50%], max_share: 50%"))
    got = [ask(s, user=f"user {i}") for i in range(8)]
    user = next(i for i, (h, _) in enumerate(got) if arm(h) == "canary")
    got += [ask(s, f"Conversation {i}.", user=f"user {user}") for i in range(32)]  # all of them the canary's by their place
    n = sum(arm(h) == "canary" for h, _ in got)
    assert 1 <= n <= 21  # of 40 calls a half, and one
    capped = [c for h, c in got if "why=cap" in h]
    assert all(arm(h) in ("baseline", "control") for h, _ in got if "why=cap" in h)
    s.stop()
    records = {r["id"]: r for r in bodies(tmp_path / "ledger", CALL)}
    assert capped and not any(records[c]["rollout"]["counted"] for c in capped)


def test_a_cap_below_a_steps_share_is_refused(tmp_path):
    file = config(tmp_path, "steps: [10%, 50%], max_share: 20%")
    done = subprocess.run([os.environ["SERIN"], "serve", "--config", file, "--check-config"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "max_share: 20% is below the step of 50%" in done.stderr, done.stderr


def test_only_routes_of_low_risk_take_part_and_tenants_opt_out(tmp_path, serve):
    routes = ("  - {name: risky, match: {endpoint: /v1/completions}, risk: high}\n"
              "  - {name: mine, match: {key: bob}}\n"
              "  - {name: rest, risk: low}\n")
    s = serve("--config", config(tmp_path, "steps: [50%], opt_out: [alice]", routes))
    assert ask(s, path="/v1/completions")[0] == ""
    assert ask(s, key="another-secret-of-many")[0] == ""  # bob's route has normal risk
    h, _ = ask(s)
    assert h.startswith("baseline") and "why=opt_out" in h
    assert ask(s, model="other")[0] == ""  # asked for by its own name it is no canary
    assert ask(s, model="gpt")[0].startswith("baseline")  # an alias of the baseline


def test_named_routes_take_part_whatever_their_risk(tmp_path, serve):
    s = serve("--config", config(tmp_path, "steps: [50%], max_share: 100%, routes: [chat]", "  - {name: chat, risk: high}\n"))
    assert arm(ask(s)[0]) in ("canary", "control")


def test_a_restart_gives_the_same_arms_and_starts_nothing_twice(tmp_path, serve):
    file = config(tmp_path, "steps: [50%], max_share: 100%")
    s = serve("--config", file)
    arms = [arm(ask(s, user=f"user {i}")[0]) for i in range(12)]
    s.stop()
    s = serve("--config", file)
    assert [arm(ask(s, user=f"user {i}")[0]) for i in range(12)] == arms
    s.stop()
    assert len(events(tmp_path / "ledger", "rollout_started")) == 1
    config(tmp_path, "steps: [1%]")  # another declaration of the same name takes its place
    s = serve("--config", file)
    s.stop()
    ended = events(tmp_path / "ledger", "rollout_aborted")
    assert len(ended) == 1 and len(events(tmp_path / "ledger", "rollout_started")) == 2


@pytest.mark.parametrize("rollout, routes, says", [
    ("steps: [0%]", "  - {name: chat, risk: low}\n", "steps"),
    ("steps: [50%]", "  - {name: chat}\n", "risk: low"),
    ("steps: [50%], routes: [nope]", "  - {name: chat}\n", "nope"),
    ("steps: [50%], routes: [chat], color: red", "  - {name: chat}\n", "color"),
])
def test_a_declaration_that_cannot_be_is_refused_with_its_place(tmp_path, rollout, routes, says):
    file = config(tmp_path, rollout, routes)
    done = subprocess.run([os.environ["SERIN"], "serve", "--config", file, "--listen", "127.0.0.1:0"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode != 0 and says in done.stderr and "serin.yaml:" in done.stderr, done.stderr
