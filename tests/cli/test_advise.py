"""`serin advise` over the ledger of a served model and over files: verdicts per route, the veto, what is shown; and what
is refused, and how."""
import concurrent.futures
import json
import os
import re
import subprocess

import pytest
from ledger_help import bodies, CALL
from server import ROOT, Server, smol_like

SERIN = os.environ["SERIN"]
PRICES, COSTS = ROOT / "share/prices.example.yaml", ROOT / "share/costs.example.yaml"
CALLS = 12


def advise(*args, code=0):
    done = subprocess.run([SERIN, "advise", *map(str, args)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def advise_json(*args):
    return json.loads(advise(*args, "--json"))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """Calls of three routes, of which the configuration keeps one here."""
    folder = tmp_path_factory.mktemp("advise")
    (folder / "serin.yaml").write_text(f"""
models:
  - {{name: small, path: {smol_like()}, ctx: 1024, parallel: 4, aliases: [labels, people]}}
routes:
  - {{name: labels, match: {{alias: labels}}}}
  - {{name: people, match: {{alias: people}}, local_only: true}}
ledger: {{where: {folder / "ledger"}, mode: required}}
""")
    s = Server("--config", folder / "serin.yaml", env={"SERIN_CACHE": str(folder / "cache")})
    import openai
    client = openai.OpenAI(base_url=s.base_url, api_key="none", max_retries=0)

    def call(i):
        model, most = [("small", 24), ("labels", 3), ("people", 8)][i % 3]
        client.chat.completions.create(model=model, max_tokens=most, temperature=0, extra_body={"ignore_eos": True},
                                       messages=[{"role": "user", "content": "Say what the sea is like. " * (1 + i % 4)}])
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(call, range(CALLS)))
    assert s.stop() == 0
    return folder / "ledger"


def measured(ledger, *args):
    return ["--calls", "since=1h", "--ledger", ledger, "--prices", PRICES, "--hardware", COSTS, "--machine", "gpu-server", *args]


def test_facts_are_those_of_the_records(ledger):
    out = advise_json(*measured(ledger))
    records = bodies(ledger, CALL)
    assert len(records) == CALLS and out["total"]["traffic"]["calls"] == CALLS
    assert sorted(r["route"] for r in out["routes"]) == ["", "labels", "people"]
    for route in out["routes"]:
        mine = [r["tokens"] for r in records if (r["route"] or "") == route["route"]]
        for key in ("input", "cached", "output"):
            assert route["traffic"]["tokens"][key] == pytest.approx(sum(t[key] for t in mine) / len(mine))


def test_a_route_that_the_configuration_keeps_here_is_never_advised_away(ledger):
    out = advise_json(*measured(ledger))
    by_name = {r["route"]: r for r in out["routes"]}
    people, labels = by_name["people"], by_name["labels"]
    assert people["verdict"] == "local" and people["veto"] and people["veto_price"] > 0
    assert all(o["vetoed"] == (o["kind"] == "cloud") for o in people["options"])
    assert labels["verdict"] == "cloud" and not labels["veto"]  # a few short calls do not pay a machine
    assert "people" in out["split"]["local"] and out["split"]["all_cloud"] is None
    text = advise(*measured(ledger))
    assert re.search(r"people +\S+ .* local \(privacy\)", text) and "the veto costs" in text


def test_privacy_can_be_asked_for_of_all_and_of_some(ledger):
    out = advise_json(*measured(ledger, "--privacy", "local-only"))
    assert {r["verdict"] for r in out["routes"]} == {"local"} and out["total"]["veto"]
    out = advise_json(*measured(ledger, "--privacy", "local-only=labels,-"))
    assert all(r["veto"] for r in out["routes"])
    assert "no call is of a route 'lables'; there are: " in advise(*measured(ledger, "--privacy", "local-only=lables"), code=2)


def test_each_advice_names_its_largest_uncertainty_and_its_break_even(ledger):
    out = advise_json(*measured(ledger))
    for route in [*out["routes"], out["total"]]:
        assert route["largest_uncertainty"] == route["sensitivities"][0]["assumption"]
        moves = [abs(s["at_high"] - s["at_low"]) for s in route["sensitivities"]]
        assert len(moves) == 3 and moves == sorted(moves, reverse=True)
        assert route["break_even_calls_per_month"] == "never" or route["break_even_calls_per_month"] > 0
    text = advise(*measured(ledger))
    assert text.count("largest uncertainty") == len(out["routes"]) + 1 and text.count("break-even") == len(out["routes"]) + 1


def test_a_machine_without_a_capacity_is_the_one_that_answered(ledger):
    args = measured(ledger)[:-1] + ["this-machine"]
    if any(r["tokens"]["output"] < 2 for r in bodies(ledger, CALL)):
        pytest.skip("the model's answers have no tokens here")
    out = advise_json(*args)
    local = out["total"]["options"][out["total"]["local"]]
    assert local["capacity"]["source"] == "measured" and local["capacity"] == out["total"]["traffic"]["measured"]
    assert local["capacity"]["decode_tok_per_s"][0] > 0
    assert local["capacity"]["parallel"] == [4, 4]  # as configured; three were asked for at once


def test_explain_shows_sums_that_add_up(ledger):
    text = advise(*measured(ledger, "--explain"))
    total = text[text.index("\nall together\n"):]
    parts = {m[1]: float(m[2]) for m in re.finditer(r"^  (local, \w+|cloud, [\w ]+?) .*?(-?[\d.e+-]+) USD", total, re.M)}
    local = sum(v for k, v in parts.items() if k in ("local, capital", "local, energy", "local, staff", "local, hosting"))
    assert parts["local, in"] == pytest.approx(local, abs=2)
    share, what = re.search(r"of the local one (\d+) % is ([\w ]+);", total).groups()
    money = {"the machines": parts["local, capital"] + parts.get("local, hosting", 0), "energy": parts["local, energy"],
             "staff": parts["local, staff"]}
    assert money[what] == max(money.values()) and int(share) == pytest.approx(100 * money[what] / local, abs=1)


def test_the_report_is_one_file_that_loads_nothing_and_escapes_what_is_not_ours(ledger, tmp_path):
    (tmp_path / "costs.yaml").write_text(COSTS.read_text().replace("name: gpu-server", "name: '<b>box</b>'"))
    args = [str(a) for a in measured(ledger, "--report", tmp_path / "r.html")]
    args[args.index(str(COSTS))] = str(tmp_path / "costs.yaml")
    args[args.index("gpu-server")] = "<b>box</b>"
    advise(*args)
    page = (tmp_path / "r.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and "<b>box" not in page and "&lt;b&gt;box" in page
    assert page.count("<svg") == page.count("</svg>") == 2 * 4
    assert not re.search(r'(?:src|href)="', page)
    err = advise(*measured(ledger, "--report", tmp_path / "no/r.html"), code=1)
    assert "cannot be opened for writing" in err


def test_without_hardware_the_cloud_alone_is_computed(ledger):
    args = ["--calls", "since=1h", "--ledger", ledger, "--prices", PRICES]
    out = advise_json(*args)
    assert out["split"] is None and out["costs_date"] is None
    by_name = {r["route"]: r for r in out["routes"]}
    assert by_name["labels"]["verdict"] == "unknown" and by_name["people"]["verdict"] == "local"
    assert all(r["largest_uncertainty"] for r in out["routes"])
    assert "they pay if they cost less than" in advise(*args)


def test_from_takes_a_span_and_a_filter_that_finds_nothing_says_so(ledger):
    assert advise_json(*measured(ledger, "--from", "1h.."))["total"]["traffic"]["calls"] == CALLS
    assert "no calls match" in advise(*measured(ledger, "--from", "2020-01-01..2020-02-01"), code=2)
    assert "--from is DATE" in advise(*measured(ledger, "--from", 'a" model="b'), code=2)


def test_a_target_marks_what_does_not_reach_it_and_counts_machines(ledger):
    plain, target = advise_json(*measured(ledger)), advise_json(*measured(ledger, "--availability", "99.9%"))
    for before, after in zip(plain["routes"], target["routes"], strict=True):
        was, now = (r["options"][r["local"]]["parts"] for r in (before, after))
        assert now["spares"] > was["spares"] == 0 and now["capital"] > was["capital"]
        assert not after["options"][after["cloud"]]["reaches"]
    assert "(!) does not reach" in advise(*measured(ledger, "--availability", "99.9"))


# ---- files, and what is refused ----

LINE = json.dumps({"prompt": "Why is the sky blue?", "max_tokens": 20})


@pytest.fixture
def prompts(tmp_path):
    def write(text):
        (tmp_path / "p.jsonl").write_text(text)
        return ["--prompts", tmp_path / "p.jsonl", "--calls-per-day", "10", "--prices", PRICES]
    return write


def test_what_calls_export_writes_is_read_back_the_same(ledger, tmp_path):
    subprocess.run([SERIN, "calls", "export", "--ledger", ledger, "--output", tmp_path / "calls.jsonl"], check=True,
                   capture_output=True)
    a = advise_json("--prompts", tmp_path / "calls.jsonl", "--prices", PRICES)
    b = advise_json("--calls", "status<400", "--ledger", ledger, "--prices", PRICES)
    for total in (a["total"], b["total"]):  # a file has no configuration, which says how many may run at once
        total["traffic"].pop("measured")
    assert a["total"] == b["total"]


def test_calls_that_another_server_answered_measure_no_machine(prompts):
    call = {"begun_us": 10**15, "tokens": {"input": 9, "cached": 0, "output": 9}, "us": {"queue": 1, "ttft": 9000, "itl": 900, "total": 20000}}
    here, there = (advise_json(*prompts(json.dumps({**call, "upstream": u})))["total"]["traffic"] for u in (None, {"model": "x"}))
    assert here.pop("measured")["source"] == "measured" and there.pop("measured") is None
    assert here == there


def test_guessed_tokens_are_an_uncertainty(prompts):
    out = advise_json(*prompts(LINE + "\n"), "--cloud", "openai")
    assert out["total"]["traffic"]["tokens"]["estimated_share"] == 1
    assert "tokens guessed from bytes" in [s["assumption"] for s in out["total"]["sensitivities"]]


@pytest.mark.parametrize("text, says", [
    ("", "p.jsonl: line 1: there is no call in it"),
    ((LINE + "\n") * 730 + "{oops\n" + LINE, "p.jsonl: line 731, column"),
    ('{"prompt": "a"}', "p.jsonl: line 1: nothing says how long its answer is"),
])
def test_a_bad_file_is_refused_with_its_line(prompts, text, says):
    assert says in advise(*prompts(text), code=2)


@pytest.mark.parametrize("old, new, says", [
    ("    output: 25.00\n", "", ": offers[1]: output is missing"),
    ("token_ratio: [0.9, 1.4]", "tokens_ratio: 1", ": offers[0].tokens_ratio: there is no such key; known are: provider"),
    ("batch: 50%", "batch: 500%", "offers[0].batch: must be from 0 to 1"),
    ("date: 2026-11-23", "date: today", ": date: needs a date like"),
])
def test_prices_are_refused_with_file_and_line(prompts, tmp_path, old, new, says):
    text = PRICES.read_text()
    assert old in text
    (tmp_path / "prices.yaml").write_text(text.replace(old, new, 1))
    err = advise(*prompts(LINE)[:-1], tmp_path / "prices.yaml", code=2)
    line = int(re.search(r"prices\.yaml:(\d+): ", err)[1])
    assert says in err and 1 < line < len(text.splitlines())


@pytest.mark.parametrize("args, says", [
    (["--prices", PRICES], "nothing says what the traffic is"),
    (["--calls", "since=1d"], "--prices FILE is missing"),
    (["--calls", "a", "--prompts", "b", "--prices", PRICES], "give one"),
    (["--calls", "nonsense=1", "--prices", PRICES], "nonsense"),
    (["--calls", "since=1d", "--prices", PRICES, "--privacy", "none"], None),
])
def test_usage_is_refused(tmp_path, args, says):
    err = advise(*args, "--ledger", tmp_path / "none", code=2)
    assert says is None or says in err


@pytest.mark.parametrize("target", ["100%", "100", "1", "120%", "0", "soon", "99%%"])
def test_an_impossible_target_is_refused(prompts, target):
    err = advise(*prompts(LINE), "--availability", target, code=2)
    assert "cannot be reached" in err or "is a share like 99.9%" in err


def test_names_that_the_files_do_not_have_are_refused(prompts):
    assert "has no offer 'nobody'" in advise(*prompts(LINE), "--cloud", "nobody", code=2)
    assert "has no machine 'box'" in advise(*prompts(LINE), "--hardware", COSTS, "--machine", "box", code=2)
    assert "machine 'this-machine'" in advise(*prompts(LINE), "--hardware", COSTS, code=2)  # it has no capacity
    assert "--calls-per-day" in advise("--prompts", prompts(LINE)[1], "--prices", PRICES, code=2)


def test_the_examples_are_dated_and_sourced():
    text = PRICES.read_text()
    rows = text.count("  - provider:")
    assert rows >= 3 and len(re.findall(r"^    source: https://\S+", text, re.M)) == rows
    assert len(re.findall(r"^    date: 20\d\d-\d\d-\d\d$", text, re.M)) == rows
