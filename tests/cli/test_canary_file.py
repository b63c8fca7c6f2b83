"""Roll-outs that the configuration declares: what begins, changes and ends at a start and at a reload."""
import json
import os
import subprocess

import pytest

from ledger_help import events
from server import serve, tiny_as  # noqa: F401
from test_canary_api import act, begin, call, config, trial
from test_canary_assign import arm, ask

GONE, REPLACED = "the configuration has it no longer", "the file declares another one of this name"


class Site:
    """A server of a file whose `canary` is written anew."""

    def __init__(self, serve, tmp_path, *declared):  # noqa: F811
        self.start, self.folder = serve, tmp_path
        self.file = self.write(*declared)
        self.server = serve("--config", self.file)

    def write(self, *declared, change=lambda text: text):
        file = config(self.folder, f"canary: {json.dumps(declared)}\n" if declared else "")
        file.write_text(change(file.read_text()))
        return file

    def reload(self, *declared, status=200, change=lambda text: text):
        self.write(*declared, change=change)
        got, o = call(self.server, "/v1/reload", {})
        assert got == status, o
        return o

    def restart(self, *declared):
        self.write(*declared)
        self.server.stop()
        self.server = self.start("--config", self.file)

    def now(self):
        """Name, first step and phase of each, oldest first; those that never ended by what the file says have no why."""
        return [(r["name"], r["steps"][0], r["phase"]) for r in call(self.server, "/v1/rollouts")[1]["data"]]

    def events(self):
        self.server.stop()
        return {name: [e.get("why") for e in events(self.folder / "ledger", f"rollout_{name}")] for name in ("started", "aborted")}


A, B = trial(steps=["50%"]), trial(steps=["20%", "50%"])


def test_a_reload_begins_what_is_new_replaces_what_changed_and_ends_what_is_gone(tmp_path, serve):
    s = Site(serve, tmp_path)
    o = s.reload(A)
    assert o["changed"] == ["canary.trial (added)"] and o["needs_restart"] == []
    assert s.now() == [("trial", 0.5, "running")]
    assert {arm(ask(s.server, user=f"user {i}")[0]) for i in range(12)} == {"canary", "control"}
    assert s.reload(A)["changed"] == []
    assert s.reload(B)["needs_restart"] == []
    assert s.now() == [("trial", 0.5, "aborted"), ("trial", 0.2, "running")]
    assert s.reload()["changed"] == ["canary.trial (removed)"]
    assert [phase for _, _, phase in s.now()] == ["aborted", "aborted"] and ask(s.server)[0] == ""
    s.reload(A)  # nobody but the file has ended it
    assert s.now() == [("trial", 0.2, "aborted"), ("trial", 0.5, "running")]
    assert s.events() == {"started": [None] * 3, "aborted": [REPLACED, GONE]}


def test_a_declaration_that_comes_back_takes_its_place_again_at_each_start(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    s.restart(B)
    s.restart(A)
    assert s.now() == [("trial", 0.2, "aborted"), ("trial", 0.5, "running")]
    s.restart(A)
    assert s.now() == [("trial", 0.2, "aborted"), ("trial", 0.5, "running")]
    s.restart()
    assert [phase for _, _, phase in s.now()] == ["aborted", "aborted"]
    assert s.events() == {"started": [None] * 3, "aborted": [REPLACED, REPLACED, GONE]}


def test_what_somebody_has_ended_does_not_come_back_and_what_stood_in_its_place_goes(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    assert act(s.server, "abort", why="enough")[0] == 200
    s.reload(B)
    assert s.now() == [("trial", 0.5, "aborted"), ("trial", 0.2, "running")]
    s.reload(A)
    assert [phase for _, _, phase in s.now()] == ["aborted", "aborted"]
    s.reload(B)
    assert act(s.server, "roll_back", why="it swears")[0] == 200
    s.reload(A)
    s.restart(B)  # by a verdict: never again
    assert s.now() == [("trial", 0.5, "aborted"), ("trial", 0.2, "rolled_back")]
    assert s.events()["aborted"] == ["enough", REPLACED]


def test_what_was_begun_by_hand_is_none_of_the_files(tmp_path, serve):
    s = Site(serve, tmp_path)
    begin(s.server)
    s.reload(trial(name="more"))
    s.reload()
    s.restart()
    assert [(name, phase) for name, _, phase in s.now()] == [("trial", "running"), ("more", "aborted")]
    s.reload(B)  # but a name stands for one at a time
    assert [(name, phase) for name, _, phase in s.now()] == [("trial", "aborted"), ("more", "aborted"), ("trial", "running")]


def without_other(text):
    return "".join(line for line in text.splitlines(True) if "name: other" not in line)


def test_a_reload_that_takes_a_model_from_a_roll_out_is_refused(tmp_path, serve):
    s = Site(serve, tmp_path)
    begin(s.server)
    o = s.reload(status=400, change=without_other)
    assert "'trial' runs with the model 'other'" in o["error"]["message"] and "serin canary abort trial" in o["error"]["message"]
    assert s.now() == [("trial", 0.5, "running")] and arm(ask(s.server)[0]) in ("canary", "control")
    assert act(s.server, "abort")[0] == 200
    s.reload(A)
    s.reload(change=without_other)  # the file's own goes with its model
    assert [phase for _, _, phase in s.now()] == ["aborted", "aborted"]


def test_a_reload_is_refused_whole_for_a_declaration_that_cannot_begin(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    for declared, says in (([trial(canary="nobody")], "no model 'nobody'"), ([trial(routes=["nope"])], "no route 'nope'"),
                           ([A, B], "a roll-out 'trial' already")):
        o = s.reload(*declared, status=400)
        assert says in o["error"]["message"] and "serin.yaml:" in o["error"]["message"]
    o = s.reload(B, status=400, change=lambda text: text.replace("risk: low", "risk: high"))
    assert "risk: low" in o["error"]["message"]
    assert s.now() == [("trial", 0.5, "running")]


def test_routes_and_models_are_those_of_the_configuration_in_force(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    assert arm(ask(s.server)[0]) in ("canary", "control")
    s.reload(A, change=lambda text: text.replace("risk: low", "risk: high"))
    assert ask(s.server)[0] == "" and s.now() == [("trial", 0.5, "running")]
    assert "risk: low" in s.server.wait_log(event="rollout_idle")["detail"]
    late = f"  - {{name: late, path: {tiny_as('late.gguf')}, ctx: 512, parallel: 4}}\nroutes:\n"
    s.reload(change=lambda text: text.replace("routes:\n", late))
    begin(s.server, canary="late", name="later")
    assert arm(ask(s.server)[0]) in ("canary", "control")


def test_a_start_without_the_canary_gives_its_calls_to_the_baseline(tmp_path, serve):
    s = Site(serve, tmp_path)
    begin(s.server)
    assert act(s.server, "step", step=1)[0] == 200 and arm(ask(s.server)[0]) == "canary"  # everybody
    s.server.stop()
    s.write(change=without_other)
    s.server = serve("--config", s.file)
    assert ask(s.server)[0] == "" and "'other'" in s.server.wait_log(event="rollout_idle")["detail"]


def test_frozen_a_reload_lets_what_runs_go_on_and_what_is_new_wait(tmp_path, serve):
    s = Site(serve, tmp_path, A, trial(name="more"))
    assert call(s.server, "/v1/freeze", {"on": True})[0] == 200
    waits = "trial waits: roll-outs are frozen; serin canary thaw begins it"
    assert s.reload(B)["waits"] == [waits]
    assert [(name, phase) for name, _, phase in s.now()] == [("trial", "running"), ("more", "aborted")]
    assert s.server.wait_log(event="rollout_waits", detail=waits)
    assert call(s.server, "/v1/freeze", {"on": False})[0] == 200
    assert s.now()[-1] == ("trial", 0.2, "running")


def test_what_was_promoted_is_retired_by_its_name_also_when_another_of_it_runs(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    assert act(s.server, "promote")[0] == 200
    s.reload(B)
    assert s.now() == [("trial", 0.5, "promoted"), ("trial", 0.2, "running")]
    assert act(s.server, "retire")[0] == 200
    assert s.now() == [("trial", 0.5, "retired"), ("trial", 0.2, "running")]
    assert act(s.server, "retire")[0] == 400


def test_two_declarations_of_one_name_are_refused(tmp_path, serve):
    s = Site(serve, tmp_path)
    file = s.write(A, B)
    done = subprocess.run([os.environ["SERIN"], "serve", "--config", file, "--listen", "127.0.0.1:0"], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode != 0 and "a roll-out 'trial' already" in done.stderr, done.stderr


def started(file, *more):
    return subprocess.run([os.environ["SERIN"], "serve", "--config", file, *more], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("declared, says", [
    (trial(canary="nobody"), "canary: the configuration has no model 'nobody'; known are: small, other"),
    (trial(baseline="nobody"), "baseline: the configuration has no model 'nobody'; known are: small, other"),
    (trial(routes=["nope"]), "no route 'nope'; known are: chat"),
])
def test_what_the_configuration_lacks_is_said_before_anything_is_loaded_or_recorded(tmp_path, declared, says):
    file = config(tmp_path, f"canary: {json.dumps([declared])}\n")
    for more in (["--check-config"], []):
        done = started(file, *more)
        assert done.returncode != 0 and says in done.stderr and f"{file}:" in done.stderr, done.stderr
        assert not (tmp_path / "ledger").exists()


def test_a_check_of_the_configuration_says_that_no_route_is_for_a_roll_out(tmp_path):
    file = config(tmp_path, f"canary: {json.dumps([trial()])}\n")
    assert started(file, "--check-config").returncode == 0
    file.write_text(file.read_text().replace("risk: low", "risk: high"))
    for more in (["--check-config"], []):
        done = started(file, *more)
        assert done.returncode != 0 and "risk: low" in done.stderr and f"{file}:" in done.stderr, done.stderr


def test_of_two_for_the_same_calls_the_oldest_has_them_and_the_other_says_what_it_waits_for(tmp_path, serve):
    s = Site(serve, tmp_path, A)
    status, o = call(s.server, "/v1/rollouts", {"declaration": trial(name="more", routes=["chat"]), "by": "ann"})
    assert status == 409 and "the roll-out 'trial' has these calls: wait until it ends, or abort it" in o["error"]["message"]
    s.reload(A, trial(name="more"))
    assert "more: waits for 'trial'" in s.server.wait_log(event="rollout_waits")["detail"]
    waits = lambda: [r["waits_for"] for r in call(s.server, "/v1/rollouts")[1]["data"]]  # noqa: E731
    assert waits() == [None, "trial"] and call(s.server, "/v1/rollouts/more")[1]["waits_for"] == "trial"
    assert "rollout=trial" in ask(s.server)[0]
    assert act(s.server, "pause")[0] == 200 and waits() == [None, "trial"]
    assert act(s.server, "abort")[0] == 200 and waits() == [None, None]
    assert "rollout=more" in ask(s.server)[0]


def test_roll_outs_of_other_routes_run_beside_each_other(tmp_path, serve):
    s = Site(serve, tmp_path, trial(routes=["chat"]))
    s.reload(trial(routes=["chat"]), change=lambda text: text.replace("risk: low}", "risk: low}\n  - {name: talk}"))
    begin(s.server, name="more", routes=["talk"])
    assert [r["waits_for"] for r in call(s.server, "/v1/rollouts")[1]["data"]] == [None, None]
