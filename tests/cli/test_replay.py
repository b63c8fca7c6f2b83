"""serin replay: what was recorded comes again to the bit, on other threads and another instruction set; what cannot be
proven is said to be so. SERIN_TEST_CALLS=1000 records that many calls (./check --full)."""
import base64
import ctypes
import hashlib
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import threading

import httpx
import pytest

import ledger_help
import server

CALLS = int(os.environ.get("SERIN_TEST_CALLS", "32"))
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather in a city.", "strict": True,
                                         "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}},
                                                        "required": ["city"], "additionalProperties": False}}}
TEXTS = ["Tell me a story about a fox.", "What is 2 + 2?", "List three colours.", "Write a haiku about rain, then explain it.",
         "Say hello in five languages. " * 20]


def replay(*args, env=None):
    p = subprocess.run([os.environ["SERIN"], "replay", *map(str, args), "--json"], capture_output=True, text=True,
                       env={**os.environ, **(env or {})})
    assert p.stdout, p.stderr
    return p.returncode, json.loads(p.stdout)


def serin(*args):
    return subprocess.run([os.environ["SERIN"], *map(str, args)], capture_output=True, text=True)


def shown(folder, call):
    p = serin("calls", "show", call, "--content", "--json", "--ledger", folder)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout)


def random_call(rng: random.Random):
    """Path and body of a call: any API, any sampler, some with a form that the answer must have."""
    text = rng.choice(TEXTS) + ("" if rng.random() < 0.5 else f" ({rng.randrange(1000)})")
    sampling = rng.choice([{}, {"temperature": 0}, {"temperature": 1.2, "top_p": 0.9},
                           {"temperature": 0.8, "top_k": 20, "min_p": 0.02, "repeat_penalty": 1.1},
                           {"temperature": 0.9, "typical_p": 0.8, "presence_penalty": 0.5, "frequency_penalty": 0.3},
                           {"temperature": 0.7, "dry_multiplier": 0.8, "logit_bias": {"260": -5}}])
    if rng.random() < 0.5:
        sampling = {**sampling, "seed": rng.randrange(2 ** 53)}
    n = rng.randrange(1, 40)
    kind = rng.randrange(7)
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}], "max_tokens": n, **sampling}
    if kind == 0:
        return "/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 2}
    if kind == 1:
        return "/v1/chat/completions", {**chat, "n": 2, "stop": [".", "ing "]}
    if kind == 2:
        return "/v1/chat/completions", {**chat, "max_tokens": 120, "response_format": {
            "type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}}
    if kind == 3:
        return "/v1/chat/completions", {**chat, "max_tokens": 60, "tools": [TOOL], "tool_choice": "required"}
    if kind == 4:
        return "/v1/completions", {"prompt": [text, "Once upon a time"], "n": 2, "max_tokens": n, "logprobs": 1, **sampling}
    if kind == 5:
        return "/v1/messages", {"model": "m", "max_tokens": n, "messages": [{"role": "user", "content": text}], "temperature": 0.6}
    return "/v1/responses", {"input": text, "max_output_tokens": n, "temperature": 0.9}


def post_all(url: str, calls, workers=8):
    left, wrong, lock = list(calls), [], threading.Lock()

    def work():
        with httpx.Client(timeout=300) as client:
            while True:
                with lock:
                    if not left:
                        return
                    path, body = left.pop()
                r = client.post(url + path, json=body)
                if r.status_code != 200:
                    wrong.append((path, r.status_code, r.text[:300]))

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A ledger with calls of every kind, made at the same time, with shared prefixes and speculation."""
    folder = tmp_path_factory.mktemp("replay") / "ledger"
    seed = random.randrange(2 ** 32)
    print("seed", seed)
    rng = random.Random(seed)
    s = server.Server(server.smol_like(), "--alias", "m", "--ctx", "2048", "--speculate", "ngram:4", "--ledger", folder,
                      "--ledger-content", "full")
    try:
        post_all(s.url, [random_call(rng) for _ in range(CALLS)])
        with httpx.stream("POST", s.url + "/v1/chat/completions", timeout=300,
                          json={"messages": [{"role": "user", "content": "Count to a thousand."}], "max_tokens": 1500, "stream": True,
                                "ignore_eos": True}) as r:
            lines = r.iter_lines()
            for _ in range(12):
                next(lines)  # and it leaves
        assert httpx.post(s.url + "/v1/chat/completions", json={"messages": "none"}).status_code == 400
    finally:
        s.stop()
    return folder


def test_every_recorded_call_comes_again_to_the_bit(recorded):
    code, out = replay("--calls", "since=1d", "--ledger", recorded, "--limit", 100000)
    wrong = [c for c in out["calls"] if c["verdict"] not in ("same", "nothing to replay")]
    assert code == 0 and not wrong, wrong[:3]
    assert out["same"] + out["nothing_to_replay"] == CALLS + 2  # some may have ended before their first token
    assert 1 <= out["nothing_to_replay"] <= 1 + CALLS // 4
    assert sum(c["tokens"] for c in out["calls"] if c["verdict"] == "same") > 4 * CALLS


def test_one_thread_and_another_instruction_set_give_the_same_bits(recorded):
    code, out = replay("--calls", "since=1d", "--ledger", recorded, "--threads", 1, "--limit", 100000, env={"SERIN_CPU": "avx2"})
    assert code == 0 and out["same"] + out["nothing_to_replay"] == CALLS + 2 and out["same"] >= CALLS // 2
    assert {c["engine"].rsplit("-", 1)[1] for c in out["calls"] if c["verdict"] == "same"} == {"avx2"}


def flipped(tmp_path):
    """A copy of the model with one bit of one tensor turned round."""
    copy = tmp_path / "flipped.gguf"
    data = bytearray(server.smol_like().read_bytes())
    data[len(data) // 2] ^= 0x10
    copy.write_bytes(data)
    return copy


def test_one_flipped_bit_of_the_weights_shows(recorded, tmp_path):
    code, out = replay("--calls", "since=1d", "--ledger", recorded, "--weights", flipped(tmp_path), "--limit", 5)
    ran = [c for c in out["calls"] if c["verdict"] != "nothing to replay"]
    assert code == 1 and ran and all(c["verdict"] != "same" and "weights" in c["changed"] for c in ran)


def test_the_load_of_flipped_weights_shows_in_id_and_event(tmp_path):
    ids = []
    for model in (server.smol_like(), flipped(tmp_path)):
        s = server.Server(model, "--ledger", tmp_path / "ledger", "--ctx", "512")
        try:
            ids.append(httpx.post(s.url + "/v1/completions", json={"prompt": "The sky", "max_tokens": 1}, timeout=300).headers["x-serin-model"])
        finally:
            s.stop()
    assert ids[1] == hashlib.sha256((tmp_path / "flipped.gguf").read_bytes()).hexdigest() != ids[0]
    assert [e["weights"] for e in ledger_help.events(tmp_path / "ledger", "model_loaded")] == ids


def test_embeddings_come_again_to_the_bit(tmp_path):
    folder = tmp_path / "ledger"
    s = server.Server(server.smol_like(), "--ledger", folder, "--ledger-content", "full", "--ctx", "512")
    try:
        texts = ["The sky is", "blue.", "The sky is"]
        r = httpx.post(s.url + "/v1/embeddings", json={"input": texts}, timeout=300)
        vectors = [v["embedding"] for v in r.json()["data"]]
        ids = httpx.post(s.url + "/v1/embeddings", json={"input": [1, 2, 3], "encoding_format": "base64"}, timeout=300)
        refused = httpx.post(s.url + "/v1/embeddings", json={"input": []}, timeout=300)
    finally:
        s.stop()
    call, bytes_of = r.headers["x-serin-call"], [struct.pack(f"<{len(v)}f", *v) for v in vectors]
    content = shown(folder, call)["content"]
    assert [c["vector"] for c in content["choices"]] == [hashlib.sha256(b).hexdigest() for b in bytes_of]
    for env in ({}, {"SERIN_CPU": "avx2"}):
        code, out = replay(call, ids.headers["x-serin-call"], "--ledger", folder, "--threads", 1, env=env)
        assert code == 0 and out["same"] == 2 and [c["vectors"] for c in out["calls"]] == [3, 1], out
        assert all(c["prompt_same"] for c in out["calls"])
    code, out = replay(refused.headers["x-serin-call"], "--ledger", folder)
    assert out["nothing_to_replay"] == 1
    code, out = replay(call, "--ledger", folder, "--weights", flipped(tmp_path))
    assert code == 1 and out["calls"][0]["verdict"] != "same" and out["calls"][0]["changed"] == "weights"
    assert replay(call, "--ledger", folder, "--model", server.smol_like())[1]["calls"][0]["verdict"] == "not proven"
    content["choices"][1]["vector"] = content["choices"][0]["vector"]  # a record that says something else
    db = sqlite3.connect(folder / "ledger.db")
    with db:
        db.execute("UPDATE contents SET bytes = ? WHERE seq = (SELECT min(seq) FROM contents)",
                   (b"SRNc\1" + bytes(32) + compressed(json.dumps(content).encode()),))
    db.close()
    code, out = replay(call, "--ledger", folder)
    assert code == 1 and out["calls"][0]["verdict"] == "different"
    assert [c["same"] for c in out["calls"][0]["choices"]] == [True, False, True]


def test_another_model_is_asked_the_same(recorded, tmp_path):
    code, out = replay("--calls", "since=1d endpoint=/v1/chat/completions status=2xx", "--ledger", recorded, "--limit", 3, "--model", flipped(tmp_path))
    asked = [c for c in out["calls"] if c["verdict"] in ("same", "different") and c["recorded"]["tokens"]]
    assert asked and all(c["weights"] != c["weights_recorded"] for c in asked), out
    assert all(c["divergence"]["tokens"] == c["recorded"]["tokens"] for c in asked)
    assert all((c["parts_at"] is None) == (c["verdict"] == "same") for c in asked)
    assert all(0 <= c["divergence"]["mean"] <= c["divergence"]["max"] and 0 <= c["divergence"]["top1"] <= 1 for c in asked)
    code, out = replay("--calls", "since=1d endpoint=/v1/completions", "--ledger", recorded, "--limit", 2, "--model", server.smol_like())
    assert code == 0 and out["same"] + out["nothing_to_replay"] == len(out["calls"])
    assert all(c["divergence"] == {"tokens": c["recorded"]["tokens"], "mean": 0, "max": 0, "max_at": 0, "top1": 1}
               for c in out["calls"] if c["verdict"] == "same" and c["recorded"]["tokens"])


def test_weights_that_are_gone_prove_nothing(tmp_path):
    model = tmp_path / "here.gguf"
    shutil.copy(server.smol_like(), model)
    s = server.Server(model, "--ledger", tmp_path / "ledger", "--ledger-content", "full", "--ctx", "512")
    try:
        r = httpx.post(s.url + "/v1/completions", json={"prompt": "The sky is", "ignore_eos": True, "max_tokens": 4}, timeout=300)
    finally:
        s.stop()
    call = r.headers["x-serin-call"]
    assert replay(call, "--ledger", tmp_path / "ledger")[0] == 0
    model.unlink()
    code, out = replay(call, "--ledger", tmp_path / "ledger")
    assert code == 1 and out["not_proven"] == 1 and "gone" in out["calls"][0]["error"]
    code, out = replay(call, "--ledger", tmp_path / "ledger", "--weights", server.smol_like())
    assert code == 0 and out["same"] == 1


def test_replaced_weights_are_kept_while_their_calls_are(tmp_path):
    model = tmp_path / "model.gguf"
    shutil.copy(server.smol_like(), model)
    config = tmp_path / "serin.yaml"
    config.write_text(f"models: [{{name: m, path: {model}, ctx: 512}}]\n"
                      f"ledger: {{where: {tmp_path / 'ledger'}, content: full, keep_weights: true}}\n")
    s = server.Server("--config", config)
    try:
        r = httpx.post(s.url + "/v1/completions", json={"prompt": "The sky is", "ignore_eos": True, "max_tokens": 4}, timeout=300)
    finally:
        s.stop()
    other = tmp_path / "other.gguf"  # a new version takes its place
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 0x10
    other.write_bytes(data)
    os.replace(other, model)
    code, out = replay(r.headers["x-serin-call"], "--ledger", tmp_path / "ledger")
    assert code == 0 and out["same"] == 1
    kept = list((tmp_path / "ledger/weights").iterdir())
    assert [k.name for k in kept] == [r.headers["x-serin-model"]]
    con = sqlite3.connect(tmp_path / "ledger/ledger.db")  # as retention would
    con.execute("DELETE FROM calls")
    con.execute("DELETE FROM records WHERE kind = 2")
    con.commit()
    con.close()
    s = server.Server("--config", config)
    s.stop()
    names = {k.name for k in (tmp_path / "ledger/weights").iterdir()}
    assert r.headers["x-serin-model"] not in names and len(names) == 1


@pytest.mark.parametrize("policy, says", [("hash", "only hashes"), ("none", "nothing was")])
def test_without_content_nothing_is_proven(tmp_path, policy, says):
    s = server.Server(server.smol_like(), "--ledger", tmp_path / "ledger", "--ledger-content", policy, "--ctx", "512")
    try:
        r = httpx.post(s.url + "/v1/completions", json={"prompt": "The sky is", "ignore_eos": True, "max_tokens": 4}, timeout=300)
    finally:
        s.stop()
    code, out = replay(r.headers["x-serin-call"], "--ledger", tmp_path / "ledger")
    assert code == 1 and says in out["calls"][0]["error"]


def test_an_encrypted_call_is_replayed_until_it_is_forgotten(tmp_path):
    folder = tmp_path / "ledger"
    anna = {"prompt": "The sky is", "ignore_eos": True, "max_tokens": 4, "user": "anna"}
    s = server.Server(server.smol_like(), "--ledger", folder, "--ledger-content", "encrypted", "--ctx", "512")
    try:
        call, refused, garbled = (httpx.post(s.url + "/v1/completions", **body, timeout=300).headers["x-serin-call"] for body in
                                  ({"json": anna}, {"json": {**anna, "temperature": 9}}, {"json": {**anna, "model": "no-such"}}))
    finally:
        s.stop()
    assert replay(call, "--ledger", folder)[0] == 0
    subjects = {shown(folder, c)["record"]["subject"] for c in (call, refused, garbled)}
    assert len(subjects) == 1 and all("The sky" in shown(folder, c)["content"]["request"] for c in (refused, garbled))
    assert serin("ledger", "forget", "--subject", subjects.pop(), "--ledger", folder).returncode == 0
    code, out = replay(call, "--ledger", folder)
    assert code == 1 and out["calls"][0]["verdict"] == "not proven" and "forgotten" in out["calls"][0]["error"]
    assert not any(shown(folder, c)["content"] for c in (call, refused, garbled))
    exported = serin("calls", "export", "--content", "--ledger", folder)
    assert exported.returncode == 0 and len(exported.stdout.splitlines()) == 3 and "The sky" not in exported.stdout


def test_without_the_keys_an_encrypted_call_is_not_proven(tmp_path):
    s = server.Server(server.smol_like(), "--ledger", tmp_path / "ledger", "--ledger-content", "encrypted", "--ctx", "512")
    try:
        r = httpx.post(s.url + "/v1/completions", json={"prompt": "The sky is", "ignore_eos": True, "max_tokens": 4}, timeout=300)
    finally:
        s.stop()
    shutil.rmtree(tmp_path / "ledger/keys")
    code, out = replay(r.headers["x-serin-call"], "--ledger", tmp_path / "ledger")
    assert code == 1 and out["calls"][0]["verdict"] == "not proven"


def compressed(text: bytes) -> bytes:
    """One zstd frame that states its size, by the library that the program uses."""
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_compress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(len(text) + 1024)
    n = zstd.ZSTD_compress(out, ctypes.c_size_t(len(out)), text, ctypes.c_size_t(len(text)), 3)
    assert 0 < n <= len(out)
    return out.raw[:n]


def test_zero_bytes_are_replayed_and_what_is_no_number_is_no_proof(tmp_path):
    folder = tmp_path / "ledger"
    s = server.Server(server.smol_like(), "--ledger", folder, "--ledger-content", "full", "--ctx", "512")
    try:
        nul = next(i for i in range(2000) if httpx.post(s.url + "/detokenize", json={"tokens": [i]}).json()["content"] == "\0")
        r = httpx.post(s.url + "/v1/completions", timeout=300,
                       json={"prompt": "The sky is", "max_tokens": 2, "temperature": 0, "logit_bias": {str(nul): 100}})
    finally:
        s.stop()
    call = r.headers["x-serin-call"]
    assert "\0" in r.json()["choices"][0]["text"]
    content = shown(folder, call)["content"]
    assert "\0" in content["choices"][0]["text"]
    assert '\\u0000' in serin("calls", "export", "--format", "eval", "--ledger", folder).stdout
    assert replay(call, "--ledger", folder)[0] == 0
    logits = bytearray(base64.b64decode(content["choices"][0]["logits"]))
    logits[:4] = b"\0\0\xc0\x7f"  # no number
    content["choices"][0]["logits"] = base64.b64encode(logits).decode()
    db = sqlite3.connect(folder / "ledger.db")
    with db:
        db.execute("UPDATE contents SET bytes = ?", (b"SRNc\1" + bytes(32) + compressed(json.dumps(content).encode()),))
    db.close()
    code, out = replay(call, "--ledger", folder)
    assert code == 1 and out["calls"][0]["verdict"] == "different", out
    difference = out["calls"][0]["choices"][0]["first_difference"]
    assert difference["kind"] == "logit" and difference["recorded"]["logit"] is None


def test_contents_are_in_memory_only_while_their_call_runs(tmp_path):
    """Of 48 calls whose contents have 1.5 MB each, as many as there are workers are held at a time."""
    folder, calls, size = tmp_path / "ledger", 48, 1_500_000
    s = server.Server(server.tiny_as("tiny.gguf"), "--ledger", folder, "--ledger-content", "full", "--ctx", "512")
    try:
        body = {"prompt": "The sky is", "max_tokens": 2, "ignore_eos": True, "metadata": {"pad": "x" * size}}
        for _ in range(calls):
            assert httpx.post(s.url + "/v1/completions", json=body, timeout=300).status_code == 200
    finally:
        s.stop()

    def peak(limit):
        p = subprocess.Popen([os.environ["SERIN"], "replay", "--calls", "since=1d", "--limit", str(limit), "--ledger", folder],
                             stdout=subprocess.DEVNULL,
                             env={**os.environ, "ASAN_OPTIONS": "quarantine_size_mb=1", "MALLOC_ARENA_MAX": "1"})
        _, status, used = os.wait4(p.pid, 0)
        p.returncode = status
        assert status == 0
        return used.ru_maxrss * 1024
    few = peak(8)
    assert peak(calls) < few + (calls - 8) * size / 2


def test_mistakes_are_named(tmp_path, recorded):
    for args, says in ((["nonsense"], "no id of a call"), ([], "give ids of calls"), (["--calls", "modle=x"], "modle")):
        p = subprocess.run([os.environ["SERIN"], "replay", *args, "--ledger", str(recorded)], capture_output=True, text=True)
        assert p.returncode == 2 and says in p.stderr
    code, out = replay("01ARZ3NDEKTSV4RRFFQ69G5FAV", "--ledger", recorded)
    assert code == 1 and out["calls"][0]["verdict"] == "not proven"
    p = subprocess.run([os.environ["SERIN"], "replay", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--ledger", str(tmp_path / "no")],
                       capture_output=True, text=True)
    assert p.returncode == 2 and "no" in p.stderr
