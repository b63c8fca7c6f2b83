"""serin regress between builds: a side answered by another program. The same build gives the same bits; what another one
makes different is shown and attributed to it; a program that crashes, hangs or talks rubbish ends with an error."""
import hashlib
import os
import shutil
import stat

import pytest

from test_regress import as_json, cases, models, recorded, regress, requests  # noqa: F401


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_copy_of_the_program_gives_the_same_bits(models, tmp_path):  # noqa: F811
    copy = tmp_path / "serin-copy"
    shutil.copy(os.environ["SERIN"], copy)
    file = cases(tmp_path / "c.jsonl", requests(temperature=0.9) + [{"prompt": "the", "max_tokens": 9}])
    code, out = as_json("--from", models / "a.gguf", "--to-program", copy, "--prompts", file, "--fail-on", "different", "--max-kl", 0)
    total = out["total"]
    assert code == 0 and total["same_bits"] == total["same_answers"] == total["items"] == 7 and out["differs"] == []
    assert total["divergence"]["max"] == 0 and total["divergence"]["tokens"] == total["output_tokens"][0] > 0
    assert all(i["first_difference"] is None for i in out["items"])
    assert out["to"]["program"] == {"path": str(copy), "sha256": hashlib.sha256(copy.read_bytes()).hexdigest()}
    assert out["from"]["program"] is None and out["from"]["engine"] == out["to"]["engine"]
    _, plain = as_json("--from", models / "a.gguf", "--to", models / "a.gguf", "--prompts", file)
    assert [i["to"]["text"] for i in plain["items"]] == [i["to"]["text"] for i in out["items"]]
    both = as_json("--from", models / "a.gguf", "--from-program", copy, "--to", models / "bad.gguf", "--to-program", copy, "--prompts", file)[1]
    assert both["differs"] == ["weights"] and both["weights_differ"]["differ"] >= 1 and both["total"]["divergence"]["mean"] > 0


def test_what_another_build_does_is_attributed_to_it(models, tmp_path):  # noqa: F811
    other = program(tmp_path / "serin-other", '#!/bin/sh\nsed -u \'s/"greedy":true/"greedy":false/\' | "$SERIN" "$@"\n')
    file = cases(tmp_path / "c.jsonl", requests(temperature=1.5, max_tokens=20))
    args = ("--from", models / "a.gguf", "--to-program", other, "--prompts", file, "--greedy")
    code, out = as_json(*args, "--fail-on", "different")
    assert code == 1 and out["differs"] == ["program"] and out["same_weights"] and out["total"]["same_bits"] < out["total"]["items"] == 6
    assert any(i["first_difference"]["kind"] == "token" for i in out["items"] if i["first_difference"])
    assert out["total"]["divergence"]["max"] == 0  # the model is the same: only what was drawn is not
    text = regress(*args, "--no-divergence").stdout
    assert "A and B differ in: program\n" in text and str(other) in text and "the weights are the same bytes" in text


def test_another_cpu_level_is_another_engine_with_the_same_bits(models, tmp_path):  # noqa: F811
    other = program(tmp_path / "serin-ref", '#!/bin/sh\nSERIN_CPU=ref exec "$SERIN" "$@"\n')
    file = cases(tmp_path / "c.jsonl", requests(2, temperature=0.9, max_tokens=6))
    _, out = as_json("--from", models / "a.gguf", "--to-program", other, "--prompts", file)
    assert set(out["differs"]) == {"engine", "program"} and out["total"]["same_bits"] == 2 and out["to"]["engine"].endswith("cpu-ref")


def test_recorded_calls_and_their_prompts_are_asked_of_a_program(models, recorded):  # noqa: F811
    code, out = as_json("--from", models / "a.gguf", "--to-program", os.environ["SERIN"], "--calls", "since=1d", "--ledger", recorded)
    assert code == 0 and out["total"]["items"] == out["total"]["same_bits"] == 5 and out["total"]["not_answered"] == [0, 0]
    assert {g["name"] for g in out["prompts"]} == {"greet@1", "unregistered"}


def test_an_item_that_is_refused_is_no_end(models, tmp_path):  # noqa: F811
    file = cases(tmp_path / "c.jsonl", [*requests(1), {"id": "odd", "prompt": "x", "temperature": "hot"}])
    code, out = as_json("--from", models / "a.gguf", "--to-program", os.environ["SERIN"], "--prompts", file)
    assert code == 0 and out["total"]["not_answered"] == [1, 1] and out["items"][1]["from"]["error"] == out["items"][1]["to"]["error"]


HELLO = 'printf \'{"serin_side":1,"version":"0.1.0"}\\n\'\n'


@pytest.mark.parametrize("script, says", [
    ("exit 3", "ended with status 3"), ("kill -9 $$", "was ended by signal 9"), ("echo 'usage: what'; cat", "is no line of the protocol"),
    (HELLO + "exit 0", "ended with status 0"), (HELLO + 'echo \'{"id":5,"values":""}\'; cat', "what nobody asked"),
    ('echo \'{"serin_side":99}\'; cat', "another version"), ('echo \'{"opened":{}}\'; cat', "which model answers"),
    ("sleep 600", "said nothing for 1 s"), (HELLO + "sleep 600", "said nothing for 1 s"),
    ("yes '{' | tr -d '\\n'", "longer than 64 MiB"),
    ('"$SERIN" "$@" | sed -u \'s/"logits":"[^"]*"/"logits":""/\'', "as many logits as tokens"),
    ('"$SERIN" "$@" | sed -u \'s/"answer"/"reply"/\'', "nothing that is known"),
    ('"$SERIN" "$@" | sed -u \'s/"n_vocab":[0-9]*/"n_vocab":2/\'', "token that there is not"),
    ('"$SERIN" "$@" | head -n 4', "said nothing for 1 s"), ('"$SERIN" "$@" | sed -u \'s/"values":"[^"]*"/"values":""/\'', "another number of logits"),
    ('sed -u \'s/"model":"[^"]*"/"model":"no-such-model"/\' | "$SERIN" "$@"', "no-such-model"),
])
def test_a_program_that_is_none_is_named(models, tmp_path, script, says):  # noqa: F811
    other = program(tmp_path / "odd", "#!/bin/sh\n" + script + "\n")
    file = cases(tmp_path / "c.jsonl", requests(2, temperature=0, max_tokens=4))
    p = regress("--from", models / "a.gguf", "--to-program", other, "--prompts", file, "--patience", 1 if "for 1 s" in says else 60, ok=False)
    assert p.returncode in (1, 2) and says in p.stderr and not p.stdout, (p.stdout, p.stderr)


def test_usage_of_programs(models, tmp_path):  # noqa: F811
    file = cases(tmp_path / "c.jsonl", requests(1))
    p = regress("--from", models / "a.gguf", "--to-program", tmp_path / "none", "--prompts", file, ok=False)
    assert p.returncode == 2 and "none" in p.stderr
    p = regress("--from", models / "a.gguf", "--from-prompt", "x@1", "--to-prompt", "x@2", "--to-program", "x", "--calls", "", ok=False)
    assert p.returncode == 2 and "either" in p.stderr
