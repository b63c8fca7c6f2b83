"""GET /metrics: valid Prometheus text whose counters add up, and every metric that the dashboard and the alerts name."""
import json
import re
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server import TINY, serve, smol_like  # noqa: F401
from test_anthropic import post

ROOT = Path(__file__).resolve().parents[2]


def scrape(server):
    with urllib.request.urlopen(server.url + "/metrics", timeout=30) as r:
        assert r.headers["Content-Type"].startswith("text/plain")
        text = r.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            key = (s.name, tuple(sorted(s.labels.items())))
            assert key not in samples, key
            samples[key] = s.value
    return samples


def value(samples, metric, **labels):
    found = [v for (name, have), v in samples.items() if name == metric and set(labels.items()) <= set(have)]
    return sum(found)


def test_counters_add_up_and_dashboards_find_their_metrics(serve):  # noqa: F811
    s = serve(smol_like(), "--alias", "smol", "--ctx", "2048")
    prompt = 0
    for i in range(3):
        status, _, text = post(s, "/v1/completions", {"model": "smol", "prompt": "Once upon a time " * 40, "max_tokens": 5,
                                                      "ignore_eos": True, "temperature": 0})
        assert status == 200, text
        prompt += json.loads(text)["usage"]["prompt_tokens"]
    assert post(s, "/v1/completions", {"model": "none", "prompt": "x"})[0] == 404
    assert post(s, "/v1/chat/completions", {"model": "smol", "messages": 3})[0] == 400
    m = scrape(s)
    assert value(m, "serin_http_requests_total", endpoint="/v1/completions", status="200") == 3
    assert value(m, "serin_http_requests_total", endpoint="/v1/completions", status="404") == 1
    assert value(m, "serin_http_requests_total", endpoint="/v1/chat/completions", status="400") == 1
    assert value(m, "vllm:request_success_total", finished_reason="length") == 3
    assert value(m, "vllm:generation_tokens_total") == 15
    assert value(m, "vllm:prompt_tokens_total") == value(m, "vllm:prefix_cache_queries_total") == prompt
    assert 0 < value(m, "vllm:prefix_cache_hits_total") < prompt
    for name in ("vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds",
                 "vllm:request_prompt_tokens"):
        assert value(m, name + "_count") == value(m, name + "_bucket", le="+Inf") == 3, name
    assert value(m, "vllm:inter_token_latency_seconds_count") == 12
    assert value(m, "vllm:request_prompt_tokens_sum") == prompt
    assert value(m, "vllm:num_requests_running") == value(m, "vllm:num_requests_waiting") == 0
    (info,) = [dict(labels) for (name, labels) in m if name == "serin_model_info"]
    assert all(re.fullmatch("[0-9a-f]{64}", info[k]) for k in ("weights_id", "tokenizer_id", "template_id"))
    assert info["quantisation"].startswith("F32 (" if TINY else "Q4_1 (79 %)") and "/numerics-" in info["engine_id"]
    assert value(m, "process_resident_memory_bytes") > 5e6
    judged, page = {n: v for (n, _), v in m.items() if n.startswith("serin_judge_")}, (ROOT / "docs/metrics.md").read_text()
    assert len(judged) == 13 and not any(judged.values()) and all(f"`{n}`" in page for n in judged)

    names = {name for name, _ in m}
    dashboard = json.loads((ROOT / "packaging/grafana/serin.json").read_text())
    used = {t["expr"] for p in dashboard["panels"] for t in p["targets"]}
    used.add((ROOT / "packaging/prometheus/serin.rules.yml").read_text())
    asked = {n for text in used for n in re.findall(r"\b(?:vllm:|serin_|process_)\w+", text)}
    assert not [n for n in asked if n not in names and n + "_count" not in names] and len(asked) > 15


def test_the_ledgers_figures_are_those_of_its_records(serve, tmp_path):  # noqa: F811
    s = serve(smol_like(), "--alias", "smol", "--ctx", "2048", "--ledger", tmp_path / "l", "--ledger-mode", "required")
    for _ in range(2):
        assert post(s, "/v1/completions", {"model": "smol", "prompt": "a", "max_tokens": 1})[0] == 200
    m = scrape(s)
    # Events of the start (start, driver, binary, config, model_loaded), an intent and a record of each call.
    assert value(m, "serin_ledger_committed_total") == value(m, "serin_ledger_appended_total") == 9
    assert value(m, "serin_ledger_healthy") == 1 and value(m, "serin_ledger_days_left") > 0
    assert value(m, "serin_ledger_commit_seconds_total") > 0 and value(m, "serin_ledger_commits_total") >= 4
    assert value(m, "serin_ledger_wait_seconds_total") > 0 and value(m, "serin_ledger_record_cpu_seconds_total") > 0
    for name in ("failed_total", "lost_total", "refused_total", "content_lost_total", "unrecorded_total", "queued", "waiting",
                 "open_intents", "interrupted_total"):
        assert value(m, "serin_ledger_" + name) == 0, name
    page = (ROOT / "docs/metrics.md").read_text()
    assert not [n for n, _ in m if n.startswith("serin_ledger_") and f"`{n}`" not in page]


def test_without_a_ledger_there_are_no_figures_of_one(serve):  # noqa: F811
    assert not [n for n, _ in scrape(serve(smol_like(), "--ctx", "2048", "--ledger", "off")) if "ledger" in n]
