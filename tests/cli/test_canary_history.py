"""What subjects were like before a roll-out began: read from the ledger, the same after a restart, and made use of."""
import pytest

from ledger_help import CALL, bodies
from server import serve  # noqa: F401
from test_canary_api import begin, call, config, findings
from test_canary_assign import ask

USERS = 12


def known(server):
    while not (o := call(server, "/v1/rollouts/trial")[1]).get("history"):
        pass  # the watcher reads a part at a time
    return o["history"]


def length_weights(server, calls):
    """Of all subjects together, once that many calls are counted."""
    while sum((f := findings(server).get("length", {"calls": [0], "weight": [0]}))["calls"]) < calls:
        pass
    return sum(f["weight"])


def ask_all(server, times):
    return [ask(server, user=f"user {i}")[1] for i in range(USERS) for _ in range(times)]


def test_what_subjects_were_like_before_counts_for_them_and_a_restart_knows_it_too(tmp_path, serve):
    s = serve("--config", config(tmp_path))
    before = ask_all(s, 8)
    ask(s, "Nobody in particular.")
    ask(s, user="user 1", model="other")  # another model's doing
    begin(s)
    assert known(s) == {"calls": 8 * USERS + 1, "subjects": USERS + 1}
    after = ask_all(s, 4)
    # n calls weigh n / (1 - 0.1 + n rho): rho is 0.1 without history, and less by what eight calls tell
    strange, familiar = (USERS * 4 / (0.9 + 4 * rho) for rho in (0.1, 0.1 * (1 - 0.9 * 0.8 / 1.7)))
    weights = length_weights(s, 4 * USERS)
    assert weights == pytest.approx(familiar, rel=1e-6) and weights > 1.1 * strange
    numbers = findings(s)
    s.stop()
    s = serve("--config", config(tmp_path))
    assert known(s) == {"calls": 8 * USERS + 1, "subjects": USERS + 1}
    assert length_weights(s, 4 * USERS) == weights and findings(s) == numbers
    s.stop()
    who = {r["id"]: r["who"] for r in bodies(tmp_path / "ledger", CALL)}
    assert [who[c] for c in before[::8]] == [who[c] for c in after[::4]] and len(set(who[c] for c in before)) == USERS


def test_a_route_that_keeps_nothing_leaves_no_history(tmp_path, serve):
    file = config(tmp_path)
    file.write_text(file.read_text().replace("risk: low}", "risk: low, content: none}"))
    s = serve("--config", file)
    ask_all(s, 2)
    begin(s)
    assert known(s) == {"calls": 0, "subjects": 0}
    s.stop()
    assert not any("who" in r for r in bodies(tmp_path / "ledger", CALL))
