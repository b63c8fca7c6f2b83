"""serin regress: two models over the same requests. A model against itself is the same in everything; damaged weights
show in answers, divergence and ids; lost and won checks are counted right, and the report says it all."""
import html.parser
import json
import math
import os
import subprocess

import gguf
import httpx
import pytest

import server
import tiny_model

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>"
TEXTS = ["Tell me of foxes.", "What is 2 + 2?", "Three colours, please.", "Write a haiku.", "the and of the", "Hello"]


def regress(*args, ok=True):
    p = subprocess.run([os.environ["SERIN"], "regress", *map(str, args)], capture_output=True, text=True)
    assert not ok or p.returncode in (0, 1), p.stderr
    return p


def as_json(*args):
    p = regress(*args, "--json")
    return p.returncode, json.loads(p.stdout)


def cases(path, lines):
    path.write_text("".join(json.dumps(o) + "\n" for o in lines))
    return path


def requests(n=6, **more):
    return [{"id": f"case {i}", "messages": [{"role": "user", "content": TEXTS[i % len(TEXTS)]}], "max_tokens": 12, **more}
            for i in range(n)]


def piece(own: str, other: str) -> str:
    """Some text, plain in any encoding, that stands in one and not in the other."""
    return next(own[i:i + n] for n in range(1, 12) for i in range(len(own) - n + 1)
                if own[i:i + n].isascii() and own[i:i + n].isprintable() and own[i:i + n] not in other)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """a, one: a with one bit flipped; bad: a with thousands flipped in its last matrix; the tokenizer is the same."""
    folder = tmp_path_factory.mktemp("regress")
    a = folder / "a.gguf"
    tiny_model.make(a, ctx=1024)
    data = bytearray(a.read_bytes())
    at = len(data) - 4 * 1000
    one = bytearray(data)
    one[at] ^= 1  # the lowest bit of a weight
    (folder / "one.gguf").write_bytes(one)
    for i in range(len(data) - 4 * 64 * 200, len(data), 8):
        data[i + 3] ^= 0x80  # the sign of every second weight
    (folder / "bad.gguf").write_bytes(data)
    return folder


def test_a_model_against_itself_is_the_same_in_everything(models, tmp_path):
    file = cases(tmp_path / "c.jsonl", requests(temperature=0.9, checks=[{"regex": "e|t"}]) + [{"prompt": "the", "max_tokens": 9}])
    code, out = as_json("--from", models / "a.gguf", "--to", models / "a.gguf", "--prompts", file, "--fail-on", "different", "--max-kl", 0)
    total = out["total"]
    assert out["weights_differ"] is None and out["differs"] == [] and total["same_bits"] == 7
    assert code == 0 and out["same_weights"] and total["items"] == total["compared"] == total["same_answers"] == 7
    assert total["lost"] == total["won"] == 0 and total["mcnemar_p"] == 1
    d = total["divergence"]
    assert d["mean"] == 0 and d["max"] == 0 and d["top1"] == 1 and d["tokens"] == total["output_tokens"][0] > 0
    assert [i["id"] for i in out["items"]][:2] + [out["items"][6]["id"]] == ["case 0", "case 1", "line 7"]


def test_damaged_weights_diverge(models, tmp_path):
    file = cases(tmp_path / "c.jsonl", requests(temperature=0))
    code, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", file, "--max-kl", 0.001)
    d = out["total"]["divergence"]
    assert code == 1 and not out["same_weights"] and out["from"]["tokenizer"] == out["to"]["tokenizer"]
    assert d["mean"] > 0.01 and d["max"] >= d["mean"] and d["top1"] < 1 and out["total"]["same_answers"] < 6
    assert math.isclose(d["mean"], sum(i["divergence"]["mean"] * i["divergence"]["tokens"] for i in out["items"]) / d["tokens"])
    text = regress("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", file).stdout
    assert f"mean {d['mean']:.3g}, max {d['max']:.3g}" in text


def test_one_flipped_bit_shows(models, tmp_path):
    file = cases(tmp_path / "c.jsonl", requests(2, temperature=0))
    _, out = as_json("--from", models / "a.gguf", "--to", models / "one.gguf", "--prompts", file)
    assert not out["same_weights"] and out["from"]["weights"] != out["to"]["weights"] and out["differs"] == ["weights"]
    differ, reader = out["weights_differ"], gguf.GGUFReader(models / "a.gguf")
    at = (models / "a.gguf").stat().st_size - 4 * 1000
    hit = [t.name for t in reader.tensors if t.data_offset <= at < t.data_offset + t.n_bytes]
    assert differ["other_bytes"] == hit and len(hit) == differ["differ"] == 1 and differ["of"] == len(reader.tensors)
    assert differ["other_form"] == differ["only_from"] == differ["only_to"] == []
    text = regress("--from", models / "a.gguf", "--to", models / "one.gguf", "--prompts", file, "--no-divergence").stdout
    assert "different bytes" in text and f"the weights differ in 1 of {differ['of']} tensors: {hit[0]}\n" in text
    assert "A and B differ in: weights\n" in text


def test_lost_and_won_are_counted(models, tmp_path):
    lines = requests(temperature=0)
    _, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", cases(tmp_path / "c.jsonl", lines))
    texts = [(i["from"]["text"], i["to"]["text"]) for i in out["items"]]
    differ = [k for k, (a, b) in enumerate(texts) if a != b]
    assert len(differ) >= 3  # or nothing could be counted
    lost, won = differ[:-1], differ[-1:]
    for k, line in enumerate(lines):
        a, b = reversed(texts[k]) if k in won else texts[k]
        line["checks"] = [{"contains": piece(a, b) if k in differ else "", "name": f"as before {k}"}]
    file = cases(tmp_path / "d.jsonl", lines)
    code, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", file, "--fail-on", "lost")
    t = out["total"]
    n = len(differ)
    assert code == 1 and (t["checked"], t["lost"], t["won"]) == (6, n - 1, 1)
    assert t["passed"] == [5, 6 - n + 1]
    assert math.isclose(t["mcnemar_p"], min(1, 2 * (1 + n) / 2 ** n))
    assert [i["verdict"] for i in out["items"]] == ["lost" if k in lost else "won" if k in won else "passed" for k in range(6)]
    text = regress("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", file, "--no-divergence").stdout
    assert f"lost {n - 1}, won 1" in text and f"case {lost[0]}: as before {lost[0]}" in text
    assert regress("--from", models / "bad.gguf", "--to", models / "bad.gguf", "--prompts", file, "--fail-on", "lost").returncode == 0


class Page(html.parser.HTMLParser):
    """Its tags, whether they nest, its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert not any(k.startswith("on") or k in ("src", "href") for k, _ in attrs), (tag, attrs)
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_report_holds_the_figures_and_no_script(models, tmp_path):
    page = tmp_path / "report.html"
    lines = requests(temperature=0)
    for line in lines:
        line["id"] += HOSTILE
        line["checks"] = [{"command": ["true"]}]
    lines[2]["checks"] = [{"regex": HOSTILE, "name": HOSTILE[:80]}]
    lines.append({"id": HOSTILE, "prompt": "x", "temperature": HOSTILE})
    file = cases(tmp_path / "c.jsonl", lines)
    _, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", file, "--html", page)
    p = Page(page.read_text(encoding="utf-8"))
    assert "script" not in p.tags and "img" not in p.tags and p.text.count(HOSTILE) >= 8
    t = out["total"]
    assert p.tags.count("svg") == 4 and p.tags.count("circle") == 2 * t["compared"] == 12
    d = t["divergence"]
    for figure in (out["from"]["weights"], out["to"]["weights"], f"{d['mean']:.3g}", f"{d['max']:.3g}", f"{t['passed'][0]} → {t['passed'][1]}"):
        assert figure in p.text, figure
    assert regress("--from", models / "a.gguf", "--to", models / "a.gguf", "--prompts", file, "--html", tmp_path / "no" / "x.html",
                   ok=False).returncode == 1


def test_items_lost_stand_in_the_report(models, tmp_path):
    page = tmp_path / "report.html"
    lines = requests(3, temperature=0, max_tokens=20)
    _, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", cases(tmp_path / "c.jsonl", lines))
    for k, (line, item) in enumerate(zip(lines, out["items"])):
        line["checks"] = [{"contains": piece(item["from"]["text"], item["to"]["text"]), "name": f"kept {k}"}]
    regress("--from", models / "a.gguf", "--to", models / "bad.gguf", "--prompts", cases(tmp_path / "c.jsonl", lines), "--html", page)
    p = Page(page.read_text(encoding="utf-8"))
    assert p.tags.count("details") == 3 and all(f"case {k}: kept {k}" in p.text for k in range(3))


def test_a_program_judges(models, tmp_path):
    seen = tmp_path / "seen"
    program = ["sh", "-c", 'cat > "$0"; kill -9 $$', str(seen)]
    checks = tmp_path / "checks.json"
    checks.write_text(json.dumps([{"command": ["cat"]}, {"command": ["false"], "not": True}, {"command": program},
                                  {"command": ["/no/such/program"], "not": True}]))
    _, out = as_json("--from", models / "a.gguf", "--to", models / "a.gguf", "--checks", checks, "--no-divergence",
                     "--prompts", cases(tmp_path / "c.jsonl", requests(1, temperature=0)))
    got = out["items"][0]["to"]
    assert [c["passes"] for c in got["checks"]] == [True, True, False, False]
    assert got["checks"][2]["ended"] == 128 + 9 and seen.read_bytes().decode(errors="replace") == got["text"]


def test_other_tokenizers_have_no_divergence(models, tmp_path):
    other = server.real_model("smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    code, out = as_json("--from", models / "a.gguf", "--to", other, "--prompts", cases(tmp_path / "c.jsonl", requests(1)))
    assert code == 0 and out["total"]["divergence"] is None and "tokenizers" in out["no_divergence"]


@pytest.mark.parametrize("line, says", [
    ("{", "line 2, column"), ("[]", "line 2: one JSON object"), ("{}", "line 2: give either"),
    ('{"messages": []}', "line 2: 'messages'"), ('{"prompt": 3}', "line 2: 'prompt'"),
    ('{"prompt": "x", "checks": [{"regex": "("}]}', "line 2: checks[0]: regex"),
    ('{"prompt": "x", "id": 1}', "line 2: 'id'"), ('{"prompt": "x", "prompt": "y"}', "line 2, column")])
def test_a_line_that_is_no_request_is_named(models, tmp_path, line, says):
    file = tmp_path / "c.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line + "\n")
    p = regress("--from", models / "a.gguf", "--to", models / "a.gguf", "--prompts", file, ok=False)
    assert p.returncode == 2 and says in p.stderr and "c.jsonl" in p.stderr


def test_what_the_api_would_refuse_is_not_answered(models, tmp_path):
    file = cases(tmp_path / "c.jsonl", [*requests(1), {"id": "odd", "prompt": "x", "temperature": "hot"}])
    code, out = as_json("--from", models / "a.gguf", "--to", models / "a.gguf", "--prompts", file)
    assert code == 0 and out["total"]["not_answered"] == [1, 1] and "temperature" in out["items"][1]["from"]["error"]


@pytest.mark.parametrize("args", [[], ["--from", "a"], ["--from", "a", "--to", "b"], ["--from", "a", "--to", "b", "--prompts", "x", "--calls", "y"],
                                  ["--from", "a", "--from-prompt", "x@1", "--calls", "y"],
                                  ["--from", "a", "--to", "b", "--prompts", "x", "--fail-on", "rain"]])
def test_usage(args):
    assert regress(*args, ok=False).returncode == 2


@pytest.fixture(scope="module")
def recorded(models):
    """Calls in a ledger: three of a registered prompt whose two versions differ, and two others."""
    s = server.Server(models / "a.gguf", "--alias", "m", "--ctx", "1024", "--ledger", models / "ledger", "--ledger-content", "full")
    try:
        def prompt(text, checks):
            return {"messages": [{"role": "user", "content": text + " {{who}}"}], "variables": {"who": {"type": "string"}},
                    "sampling": {"temperature": 0}, "checks": checks}
        for text, checks in (("Greet", [{"contains": "no such words", "not": True}]), ("Please do greet", [{"contains": "no such words"}])):
            file = models / "prompt.json"
            file.write_text(json.dumps(prompt(text, checks)))
            subprocess.run([os.environ["SERIN"], "prompts", "push", "greet", file, "--ledger", models / "ledger"], check=True)
        for who in ("Ann", "Bob", "Cleo"):
            r = httpx.post(s.base_url + "/chat/completions", timeout=300,
                           json={"prompt": {"id": "greet", "version": 1, "variables": {"who": who}}, "messages": [], "max_tokens": 10})
            assert r.status_code == 200, r.text
        httpx.post(s.base_url + "/chat/completions", json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}, timeout=300)
        httpx.post(s.base_url + "/completions", json={"prompt": "the", "max_tokens": 10, "temperature": 0.8}, timeout=300)
        httpx.post(s.base_url + "/completions", json={"prompt": 7}, timeout=300)  # refused: no item
    finally:
        s.stop()
    return models / "ledger"


def test_recorded_calls_are_grouped_by_prompt_and_judged_by_its_checks(models, recorded):
    code, out = as_json("--from", models / "a.gguf", "--to", models / "bad.gguf", "--calls", "since=1d", "--ledger", recorded)
    groups = {g["name"]: g for g in out["prompts"]}
    assert code == 0 and set(groups) == {"greet@1", "unregistered"}
    assert groups["greet@1"]["items"] == 3 and groups["greet@1"]["passed"] == [3, 3] and groups["greet@1"]["lost"] == 0
    assert groups["unregistered"]["items"] == 2 and groups["unregistered"]["checked"] == 0
    assert groups["greet@1"]["divergence"]["mean"] > 0


def test_versions_of_a_prompt_are_compared(models, recorded):
    code, out = as_json("--from", models / "a.gguf", "--from-prompt", "greet@1", "--to-prompt", "greet@2", "--calls", "since=1d",
                        "--ledger", recorded)
    assert code == 0 and out["total"]["items"] == 3 and out["from"]["prompt"] == "greet@1" and out["to"]["prompt"] == "greet@2"
    assert all(i["to"]["input_tokens"] > i["from"]["input_tokens"] for i in out["items"])
    assert out["total"]["passed"] == [0, 0]  # both by the checks of the later one
    assert out["no_divergence"] and out["total"]["divergence"] is None
