"""serin canary: the words of an operator, against a server of this machine that is found by its ledger."""
import json
import os
import pwd
import subprocess

import pytest

from ledger_help import CALL, bodies
from server import serve  # noqa: F401
from test_canary_api import begin, config, trial
from test_canary_assign import ask


@pytest.fixture
def cli(tmp_path, serve):
    s = serve("--config", config(tmp_path))

    def run(*args, code=0, text=None):
        done = subprocess.run([os.environ["SERIN"], "canary", *args, "--ledger", tmp_path / "ledger"], capture_output=True,
                              text=True, input=text, timeout=120)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        return done.stdout + done.stderr
    run.server = s
    return run


DECLARED = """canary:
  - name: trial
    kind: different
    baseline: small
    canary: other
    steps: [50%, 100%]
    max_share: 100%
    guardrails: {itl: 10%, ttft: off}
"""


def test_who_does_it_is_the_user_of_the_process_where_the_environment_names_none(cli, monkeypatch):
    monkeypatch.delenv("USER", raising=False)
    cli("start", "-", text=DECLARED)
    assert json.loads(cli("status", "trial", "--json"))["by"].startswith(pwd.getpwuid(os.geteuid()).pw_name)


def test_a_roll_out_from_its_start_to_its_end(cli):
    assert "there is no roll-out" in cli("list")
    out = cli("start", "-", "--by", "ann", text=DECLARED)
    assert "trial: running, 50 % of the subjects, step 1 of 2" in out and "small -> other" in out
    for i in range(6):
        ask(cli.server, user=f"user {i}")
    assert "running" in cli("list") and "50 %" in cli("list")
    assert json.loads(cli("status", "trial", "--json"))["by"].startswith("ann")
    assert "paused" in cli("pause", "trial", "--why", "lunch") and "lunch" in cli("status", "trial")
    assert "is paused already" in cli("pause", "trial", code=2)
    assert "UTF-8" in cli("abort", "trial", "--why", b"\xff", code=2)  # and nothing is done
    assert "paused" in cli("status", "trial")
    cli("resume", "trial")
    assert "step 2 of 2" in cli("step", "trial", "2")
    assert "no step" in cli("step", "trial", "two", code=2)
    assert "frozen" in cli("freeze") and "frozen" in cli("promote", "trial", code=1)
    cli("thaw")
    assert "promoted" in cli("promote", "trial", "--why", "good")
    h, _ = ask(cli.server, user="anybody")
    assert h == ""  # it is the model of that name now, and no experiment
    history = cli("history", "trial")
    assert [line.split()[2] for line in history.splitlines()] == [
        "rollout_started", "rollout_paused", "rollout_resumed", "rollout_step", "rollout_promoted"]
    assert "there is none yet" in cli("explain", "trial")  # people decided, not evidence
    assert "retired" in cli("retire", "trial")


def test_what_is_promoted_answers_until_it_is_retired(cli, tmp_path):
    begin(cli.server, name="trial")
    cli("promote", "trial")
    calls = [ask(cli.server)[1]]
    cli("retire", "trial")
    calls.append(ask(cli.server)[1])
    cli.server.stop()
    model = {r["id"]: r["model"] for r in bodies(tmp_path / "ledger", CALL)}
    assert [model[id] for id in calls] == ["other", "small"]


def test_steps_count_from_one_and_what_was_promoted_says_how_it_ends(cli):
    begin(cli.server, steps=["10%", "20%", "50%", "100%"])
    assert "it has 4, the first one is 1" in cli("step", "trial", "5", code=2)
    assert "step 2 of 4" in cli("step", "trial", "2")
    assert "is at step 2" in cli("step", "trial", "2", code=2)
    assert "step 4 has no control, and would wait for what step 3 has shown" in cli("step", "trial", "4", code=2)
    cli("promote", "trial")
    assert "trial: promoted: answers for small" in cli("status", "trial")
    assert "promoted: answers for small" in cli("list") and "0 %" not in cli("list")
    for word in ("rollback", "abort"):
        said = cli(word, "trial", code=2)
        assert "answers for small; serin canary retire trial gives that back at once" in said


def test_why_a_declaration_never_runs_again_is_told_with_who_ended_it(cli):
    begin(cli.server)
    cli("rollback", "trial", "--why", "it swears", "--by", "ann")
    said = cli("start", "-", text=json.dumps(trial()), code=2)
    assert "was rolled back by ann" in said and "it swears" in said and "verdict" not in said
    assert "no such metric; known are: error, " in cli("start", "-", text=json.dumps(trial(guardrails={"speed": "5%"})), code=2)


def test_mistakes_are_named(cli, tmp_path):
    assert "missing.yaml" in cli("start", "missing.yaml", code=2)
    assert "kind" in cli("start", "-", text="name: x\n", code=2)
    assert "has 2 roll-outs" in cli("start", "-", text="canary: [{name: a}, {name: b}]\n", code=2)
    assert "there is no roll-out 'nothing'" in cli("status", "nothing", code=2)
    assert "did you mean 'status'" in cli("sttaus", code=2)


@pytest.mark.parametrize("word", ["start", "list", "status", "pause", "resume", "step", "promote", "retire", "abort", "rollback",
                                  "history", "explain", "freeze", "thaw"])
def test_every_word_has_help_with_an_example(word):
    done = subprocess.run([os.environ["SERIN"], "canary", word, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"serin canary {word}" in done.stdout and "xample" in done.stdout
