"""What people think of answers decides a roll-out: marks come after the calls, from some of them, and may be changed."""
import pytest

from ledger_help import FEEDBACK, bodies
from server import serve  # noqa: F401
from test_canary_api import GUARDS, begin, call, config
from test_canary_assign import arm, ask

HEARD = {**GUARDS, "error": "off", "feedback": "5%"}


def mark(s, id, **more):
    status, o = call(s, "/v1/feedback", {"call": id, **more})
    assert status == 200, o


def finding(s):
    look = call(s, "/v1/rollouts/trial")[1]["look"]
    return look["findings"]["feedback"] if look else {"calls": [0, 0], "mean": [None, None]}


def wait_for(s, calls):
    """The newest look at feedback on so many calls; the watcher looks a few times a second."""
    while finding(s)["calls"] != calls:
        pass
    return finding(s)


def test_marks_count_for_the_arm_that_answered_and_the_last_one_counts(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    outside = ask(s)[1]
    mark(s, outside, score=0)
    begin(s, guardrails=HEARD)
    arms = {}
    for i in range(24):
        header, id = ask(s, user=f"user {i}")
        arms[id] = arm(header)
    n = [list(arms.values()).count(a) for a in ("control", "canary")]
    assert min(n) >= 2
    for i, id in enumerate(arms):
        mark(s, id, label="thumbs_up" if arms[id] == "control" else "thumbs_down")
        mark(s, id, label="by-the-way", comment="no mark")
    assert wait_for(s, n)["mean"] == [0, 1]
    last = [id for id, a in arms.items() if a == "canary"][-1]
    mark(s, last, score=1)
    while finding(s)["mean"][1] == 1:
        pass
    assert finding(s)["calls"] == n and finding(s)["missing"] == [0, 0]
    s.stop()
    given = {}
    for r in bodies(tmp_path / "ledger", FEEDBACK):
        given.setdefault(r["id"], r)
    assert "rollout" not in given[outside]
    assert {id: r["rollout"]["arm"] for id, r in given.items() if id != outside} == arms
    again = serve("--config", config(tmp_path))  # the same marks in the same order
    assert wait_for(again, n)["mean"][1] == pytest.approx(1 - 1 / n[1])


def test_a_canary_that_people_dislike_is_rolled_back(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    begin(s, guardrails=HEARD)
    for i in range(100):
        header, id = ask(s, user=f"user {i}")
        if header == "":
            break
        mark(s, id, score=1 if arm(header) == "control" else -1)
    while call(s, "/v1/rollouts/trial")[1]["phase"] == "running" and sum(finding(s)["calls"]) < 100:
        pass  # the watcher has not come so far
    for _ in range(1000):  # what it has seen then is enough, and to act takes a moment
        o = call(s, "/v1/rollouts/trial")[1]
        if o["phase"] != "running":
            break
    assert o["phase"] == "rolled_back" and o["latched"] and "feedback" in o["why"], o
    e = call(s, "/v1/rollouts/trial/explain")[1]["data"][-1]
    assert e["again"] == {"verdict": "roll_back", "why": e["look"]["why"], "same": True}
