"""What the documentation says of serin.yaml and of the metrics is so: the complete example is accepted and has every key,
and the pages name every metric, every alert and nothing else.
"""
import os
import re
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from server import serve  # noqa: F401
from test_canary_assign import ask as ask_rollout
from test_canary_assign import config as rollout_config
from test_metrics import scrape

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TINY = ROOT / "tests/golden/llama.gguf"
EXAMPLE = re.search(r"```yaml\n(.*?)```", (DOCS / "configuration.md").read_text(), re.S)[1]


def check(folder, config):
    (folder / "serin.yaml").write_text(config)
    return subprocess.run([os.environ["SERIN"], "serve", "--config", "serin.yaml", "--check-config"], cwd=folder, text=True,
                          capture_output=True, timeout=60,
                          env={**os.environ, "SERIN_CACHE": str(folder / "cache"), "SPARE_KEY": "a-key"})


@pytest.fixture
def folder(tmp_path):
    """A folder with everything that the example names."""
    (tmp_path / "keys.txt").write_text("batch batch-secret-0123456789\n")
    (tmp_path / "next.key").write_text("a-key\n")
    (tmp_path / "cache/models").mkdir(parents=True)
    for name in ("large.gguf", "cache/models/smollm2.gguf"):
        (tmp_path / name).write_bytes(TINY.read_bytes())
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
                   check=True, capture_output=True)
    return tmp_path


def test_the_complete_example_is_good(folder):
    good = check(folder, EXAMPLE)
    assert good.returncode == 0, good.stderr
    for line, text in enumerate(EXAMPLE.splitlines(), 1):  # and every line of it is read: with another key it is refused
        if key := re.match(r"(\s*(?:- )?)(\w+):", text):
            wrong = EXAMPLE.splitlines()
            wrong[line - 1] = text.replace(key[2] + ":", key[2] + "_x:", 1)
            bad = check(folder, "\n".join(wrong))
            assert bad.returncode == 2 and re.search(rf"serin\.yaml:\d+:\d+: .*{key[2]}_x", bad.stderr), (text, bad.stderr)


def test_every_key_is_in_the_example_and_described():
    known = re.findall(r'F\(srn_\w+, "(\w+)"', (ROOT / "src/config/config.c").read_text())
    page = (DOCS / "configuration.md").read_text().replace(EXAMPLE, "")
    assert len(known) > 40
    assert not [k for k in known if not re.search(rf"\b{k}:", EXAMPLE)]
    assert not [k for k in known if not re.search(rf"`(tls\.)?{k}`", page)]


def test_every_flag_is_described():
    text = subprocess.run([os.environ["SERIN"], "serve", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"(?<!\w)--[a-z-]+", text)) - {"--help", "--json", "--config", "--check-config"}
    page = (DOCS / "configuration.md").read_text()
    assert len(flags) > 15 and not [f for f in flags if f"`{f}`" not in page and f"`{f} " not in page]


def test_every_metric_and_alert_is_described(serve, tmp_path):  # noqa: F811
    file = rollout_config(tmp_path, "steps: [50%]")  # one that runs, for it has metrics of its own
    text = file.read_text().replace("models:\n", "models:\n  - {name: next, upstream: 'http://127.0.0.1:9'}\n")
    file.write_text(text + "metrics_open: true\n")
    s = serve("--config", file, env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "SERIN_CACHE": str(tmp_path)})
    assert ask_rollout(s, path="/v1/completions")[0]
    s.wait_log(path="/v1/completions")
    with pytest.raises(urllib.error.HTTPError):
        ask_rollout(s, model="next")
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in scrape(s)}
    with urllib.request.urlopen(s.url + "/metrics", timeout=60) as r:  # of fallbacks there were none yet
        names |= set(re.findall(r"^# TYPE (\S+) counter$", r.read().decode(), re.M))
    page = (DOCS / "metrics.md").read_text()
    said = set(re.findall(r"`((?:vllm:|serin_|process_)\w+)`", page))
    assert names == said
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "packaging/prometheus/serin.rules.yml").read_text()))
    assert alerts == set(re.findall(r"`(Serin\w+)`", page))
