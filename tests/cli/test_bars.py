"""bench/bars: which bars are met, from what the side-by-side scripts measured; what is missing leaves the rest alone."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.repo
SCRIPT = Path(__file__).resolve().parents[2] / "bench/bars"

# Answers with the ratio that ratios.json has for the model and the test, and writes down what it was asked.
SIDE = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).resolve().parent
arg = lambda key: sys.argv[sys.argv.index(key) + 1]
model, test = Path(sys.argv[1]).stem, arg("--tests")
with open(here / "asked", "a") as f:
    print(json.dumps([model, test, int(arg("--rounds")), int(arg("--threads")), os.environ.get("SERIN_CPU", ""),
                      os.environ.get("PEERS_BIN", "")]), file=f)
ratio = json.loads((here / "ratios.json").read_text()).get(f"{{model}} {{test}}")
if ratio is None:
    sys.exit("side-by-side: out of luck")
spread = {{"median": ratio, "min": ratio, "max": ratio}}
row = {{"test": test.replace("d", " d"), "unit": "tok/s", "serin": spread, "peer": spread, "ratio": spread,
       "shares": {{"int8": 0.55, "read": 0.98, "f32": 0}}, "machine": {{"isa": "x", "int8_macs_per_s": 1e9,
       "read_bytes_per_s": 1e9}}}}
if ratio == 0:
    del row["ratio"]
print(json.dumps([{{"results": [row]}}]))
"""
SERVE = """#!{python}
import json
side = lambda a: {{"tok_per_s": a, "ttft_p50_ms": 1000 / a}}
print(json.dumps({{"loads": [{{"sides": {{"serin": side(400), "llama-server": side(100)}},
                  "ratios": {{"tok_per_s": 3.5, "ttft_p50_ms": 0.4}}}}]}}))
"""
SERIN = """#!{python}
import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("-o") + 1]).write_text(" ".join(sys.argv[1:]))
"""


@pytest.fixture
def bars(tmp_path):
    models = tmp_path / "cache/models"
    models.mkdir(parents=True)
    peers = tmp_path / "peers"
    peers.mkdir()
    for name in ("llama-bench", "llama-batched-bench", "llama-completion", "llama-server"):
        (peers / name).touch(mode=0o755)
    for name in ("SmolLM2-135M-Instruct.Q4_1", "synth-llama-3.2-1b-q4_k_m"):
        (models / f"{name}.gguf").write_bytes(b"x")
    for name, text in (("side-by-side", SIDE), ("serve-side-by-side", SERVE), ("serin", SERIN)):
        (tmp_path / name).write_text(text.format(python=sys.executable))
        (tmp_path / name).chmod(0o755)

    def go(*args: str, ratios: dict | None = None, **env: str):
        (tmp_path / "ratios.json").write_text(json.dumps(ratios or {}))
        done = subprocess.run([sys.executable, SCRIPT, "--tools", tmp_path, "--serin", tmp_path / "serin", "--threads", "2",
                               "--json", *args], capture_output=True, text=True,
                              env={"PATH": str(peers), "HOME": str(tmp_path), "SERIN_CACHE": str(tmp_path / "cache"), **env})
        go.asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()] \
            if (tmp_path / "asked").exists() else []
        (tmp_path / "asked").unlink(missing_ok=True)
        return done, {r["what"]: r for r in json.loads(done.stdout)["bars"]} if done.stdout.startswith("{") else done.stdout

    go.models, go.peers = models, peers
    return go


def test_figures_are_judged_by_bar_and_aim(bars):
    smol, one = "SmolLM2-135M-Instruct.Q4_1", "synth-llama-3.2-1b-q4_k_m"
    done, rows = bars("--only", "decode,batch,start,depth", "--rounds", "3", ratios={
        f"{smol} tg128": 2.6, f"{one} tg128": 0.9, f"{smol} tg64@16": 4.5, f"{one} tg32@16": 2.4, f"{smol} start": 0.6,
        f"{one} tg64d8192": 0})
    met = {what: (r["figure"], r["met"]) for what, r in rows.items()}
    assert met["decode 128, SmolLM2 Q4_1"] == (2.6, "aim")
    assert met["decode 128, llama-3.2-1b Q4_K_M"] == (0.9, "no")
    assert met["its share of read bandwidth"] == (pytest.approx(98), "aim")
    assert met["decode of 16 sequences, SmolLM2 Q4_1"] == (4.5, "bar")
    assert met["decode of 16 sequences, llama-3.2-1b Q4_K_M"] == (2.4, "no")
    assert met["start to first token, SmolLM2 Q4_1"] == (0.6, "bar")
    assert met["decode at 8,192, llama-3.2-1b Q4_K_M"] == (None, "not measured")
    assert "PEERS_BIN" in rows["decode at 8,192, llama-3.2-1b Q4_K_M"]["note"]
    gemma = rows["decode 128, Gemma-3-270M Q4_K_M"]
    assert gemma["met"] == "not measured" and "get-model" in gemma["note"]
    assert done.returncode == 1
    assert [smol, "tg128", 3, 2, "", ""] in bars.asked and [one, "tg64d8192", 1, 2, "", ""] in bars.asked


def test_the_server_and_failures_have_rows_too(bars):
    done, rows = bars("--only", "server,small")
    assert rows["16 clients, SmolLM2 Q4_1: tokens per second"]["met"] == "bar"
    assert rows["16 clients, SmolLM2 Q4_1: time to the first token"]["met"] == "no"
    assert rows["prefill 512, SmolLM2 Q4_1"]["note"] == "side-by-side: out of luck"
    assert done.returncode == 1


def test_avx2_is_compared_with_peers_of_its_own(bars):
    ratios = {f"synth-llama-3.2-1b-{q} pp512": 1.6 for q in ("q4_0", "q4_k_m", "q8_0")}
    done, rows = bars("--only", "avx2", ratios=ratios)
    assert {r["met"] for r in rows.values()} == {"not measured"} and done.returncode == 0 and not bars.asked
    done, rows = bars("--only", "avx2", "--peers-avx2", str(bars.peers), ratios=ratios)
    assert {r["met"] for r in rows.values()} == {"bar"} and done.returncode == 0
    assert {tuple(a[4:]) for a in bars.asked} == {("avx2", str(bars.peers))}
    # What was missing was made.
    assert (bars.models / "synth-llama-3.2-1b-q8_0.gguf").read_text().startswith("synth --shape llama-3.2-1b --quant Q8_0 ")


def test_without_peers_only_shares_of_the_machine_are_measured(bars):
    one = "synth-llama-3.2-1b-q4_k_m"
    done, rows = bars(PATH="/nowhere", ratios={f"{one} pp512": 0, f"{one} tg128": 0})
    measured = {what for what, r in rows.items() if r["met"] != "not measured"}
    assert measured == {"its share of the int8 peak", "its share of read bandwidth"}
    assert {(a[0], a[1]) for a in bars.asked} == {(one, "pp512"), (one, "tg128")} and done.returncode == 0
    assert "llama-completion" in rows["start to first token, SmolLM2 Q4_1"]["note"]
    assert "llama-server" in rows["16 clients, SmolLM2 Q4_1: tokens per second"]["note"]


def test_the_table_is_markdown_and_parts_have_names(bars):
    table = subprocess.run([sys.executable, SCRIPT, "--only", "avx2", "--tools", bars.models, "--serin", "/nowhere"],
                           capture_output=True, text=True, env={"PATH": "/nowhere", "HOME": "/nowhere"}).stdout.splitlines()
    assert table[0].startswith("| what") and len(table) == 5 and len({line.count("|") for line in table}) == 1
    listed = subprocess.run([sys.executable, SCRIPT, "--list"], capture_output=True, text=True).stdout.split()
    assert "prefill" in listed and "memory" in listed
    assert bars("--only", "speed")[0].returncode == 2 and bars("--rounds", "0")[0].returncode == 2
