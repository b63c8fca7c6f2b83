"""serin info: what it tells of real and made files, and what every command has from the shared command line."""
import hashlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import make_gguf_seeds as made

MODELS = Path(os.environ.get("SERIN_MODELS", Path.home() / ".cache/serin/models"))
SMOL, GEMMA = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf", MODELS / "gemma-3-270m-q4_k_m.gguf"
REAL = [pytest.param(p, id=p.name.split("-")[0]) for p in (SMOL, GEMMA)]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def serin(cache):
    def run(*args, env=(), **kw):
        kw.setdefault("capture_output", True)
        return subprocess.run([os.environ["SERIN"], *map(str, args)], text=True, timeout=250,
                              env={**os.environ, "SERIN_CACHE": str(cache), **dict(env)}, **kw)
    return run


@pytest.fixture
def info(serin):
    def run(*args):
        done = serin("info", "--json", *args)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)
    return run


SCHEMA = {
    "type": "object", "additionalProperties": False,
    "required": ["path", "file_bytes", "parts", "gguf_version", "weights_id", "architecture", "name", "parameters",
                 "tensor_bytes", "quantisation", "types", "layers", "embedding_length", "heads", "kv_heads",
                 "context_length", "vocabulary", "tokenizer_id", "chat_template", "template_id", "memory"],
    "properties": {
        **{k: {"type": "integer"} for k in ("file_bytes", "parts", "gguf_version", "parameters", "tensor_bytes")},
        **{k: {"type": ["integer", "null"]} for k in (
            "layers", "embedding_length", "feed_forward_length", "context_length", "sliding_window", "experts",
            "experts_used")},
        **{k: {"type": ["integer", "null", "array"]} for k in ("heads", "kv_heads")},
        **{k: {"type": ["string", "null"]} for k in (
            "name", "architecture", "quantisation", "weights_id", "tokenizer_id", "template_id")},
        "path": {"type": "string"}, "chat_template": {"type": "boolean"},
        "runs": {"type": "boolean"}, "refusal": {"type": ["string", "null"]},
        "vocabulary": {"type": "object", "required": ["size", "model", "pre"]},
        "types": {"type": "array", "items": {"type": "object", "required": [
            "type", "tensors", "weights", "bytes", "weights_share", "bytes_share"]}},
        "memory": {"type": "array", "items": {"type": "object", "required": [
            "context", "weights_bytes", "kv_bytes", "kv_read_bytes", "total_bytes", "kv_type", "layers",
            "window_layers"]}},
        "tensors": {"type": "array"}, "metadata": {"type": "object"},
    },
}


# ---- real models ----

class Reader(GGUFReader):
    """The package's reader, which keeps every element of an array as an object of its own: here the first 8, the
    rest is stepped over. Vocabularies have hundreds of thousands of them."""

    def _get_field_parts(self, orig_offs, raw_type):
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        parts, data, at, n = [kind, count], [], orig_offs + 12, int(count[0])
        for _ in range(min(n, 8)):
            size, element, (value,), (_,) = super()._get_field_parts(at, kind[0])
            data.append(len(parts) + value)
            parts += element
            at += size
        data += data[-1:] * (n - len(data))
        image = self.data.data
        if kind[0] != GGUFValueType.STRING:
            at = orig_offs + 12 + n * np.dtype(self.gguf_scalar_to_np[GGUFValueType(kind[0])]).itemsize
        for _ in range(8, n if kind[0] == GGUFValueType.STRING else 0):
            at += 8 + int.from_bytes(image[at:at + 8], "little")
        return at - orig_offs, parts, data, [GGUFValueType.ARRAY, *[GGUFValueType(kind[0])][:n]]


@pytest.mark.parametrize("model", REAL)
def test_real_models_agree_with_the_gguf_package(info, model):
    ours = info(model, "--tensors", "--meta")
    jsonschema.validate(ours, SCHEMA)
    theirs = Reader(model)
    assert [(t["name"], t["type"], t["shape"], t["bytes"], t["offset"]) for t in ours["tensors"]] == [
        (t.name, t.tensor_type.name, [int(n) for n in t.shape], int(t.n_bytes), int(t.data_offset))
        for t in theirs.tensors]
    assert ours["parameters"] == sum(int(t.n_elements) for t in theirs.tensors)
    assert ours["tensor_bytes"] == sum(int(t.n_bytes) for t in theirs.tensors)
    by_type = {}
    for t in theirs.tensors:
        by_type[t.tensor_type.name] = by_type.get(t.tensor_type.name, 0) + int(t.n_elements)
    assert {t["type"]: t["weights"] for t in ours["types"]} == by_type
    assert [t["weights"] for t in ours["types"]] == sorted(by_type.values(), reverse=True)
    assert sum(t["bytes_share"] for t in ours["types"]) == pytest.approx(1)
    fields = {k: f for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert list(ours["metadata"]) == list(fields)
    for key, field in fields.items():
        value = ours["metadata"][key]
        if field.types[0] == GGUFValueType.ARRAY:
            assert value["count"] == len(field.data)
            value, wanted = value["first"], field.contents(slice(8))
        else:
            wanted = field.contents()
        assert value == wanted, key


@pytest.mark.parametrize("model", REAL)
def test_the_weights_id_is_the_sha256_and_is_cached(info, serin, cache, model):
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert info(model)["weights_id"] == digest
    entry, = (cache / "digests").iterdir()
    assert digest in entry.read_text()
    assert info(model)["weights_id"] == digest
    entry.write_text(entry.read_text().replace(digest, "ab" * 32))
    assert info(model)["weights_id"] == "ab" * 32, "the cached digest was not used"
    assert entry.stat().st_mode & 0o777 == 0o600
    entry.chmod(0o620)
    assert info(model)["weights_id"] == digest, "a digest was believed that others could have written"
    entry.write_text(entry.read_text().replace(digest, "ab" * 32))
    assert info(model)["weights_id"] == "ab" * 32
    assert info(model, "--rehash")["weights_id"] == digest
    assert info(model, "--no-hash")["weights_id"] is None
    assert f"SHA-256         {digest}\n" in serin("info", model).stdout


def test_the_facts_of_smollm2(info, serin):
    m = info(SMOL, "--ctx", 1000)
    assert (m["architecture"], m["layers"], m["embedding_length"], m["heads"], m["kv_heads"]) == ("llama", 30, 576, 9, 3)
    assert m["vocabulary"] == {"size": 49152, "model": "gpt2", "pre": "smollm"}
    assert m["chat_template"] is True
    assert m["quantisation"] == "Q4_1 (79 %), Q8_0 (21 %), F32"
    need, = m["memory"]
    assert need["kv_bytes"] == 30 * 1024 * 3 * (64 + 64) * 2  # in blocks of 64 positions
    assert need["kv_read_bytes"] == 30 * 1000 * 3 * (64 + 64) * 2
    assert (m["runs"], m["refusal"]) == (True, None)
    assert need["total_bytes"] == m["tensor_bytes"] + need["kv_bytes"]
    assert need["kv_type"] == "f16"
    for kv, per_head in (("f32", 4 * 64), ("q8_0", 64 + 2 * 2)):
        need, = info(SMOL, "--ctx", 1000, "--kv", kv)["memory"]
        assert (need["kv_type"], need["kv_bytes"]) == (kv, 30 * 1024 * 3 * 2 * per_head)
    assert "keys and values in q8_0" in serin("info", SMOL, "--kv", "q8_0", "--no-hash").stdout
    done = serin("info", SMOL, "--kv", "q4")
    assert done.returncode == 2 and "'q4'" in done.stderr and "q8_0" in done.stderr


def test_the_facts_of_gemma3_and_its_sliding_windows(info):
    m = info(GEMMA)
    assert (m["architecture"], m["layers"], m["sliding_window"], m["chat_template"]) == ("gemma3", 18, 512, False)
    assert [n["context"] for n in m["memory"]] == [4096, 32768]
    for need in m["memory"]:
        assert (need["layers"], need["window_layers"]) == (18, 15)
        blocks = need["context"] // 64  # a window, a step of 512 and a border; and as much again, or a quarter of all
        assert need["kv_bytes"] == (3 * blocks + 15 * (17 + max(17, blocks // 4))) * 64 * (256 + 256) * 2
        assert need["kv_read_bytes"] == (3 * need["context"] + 15 * 512) * (256 + 256) * 2
    need, = info(GEMMA, "--ctx", 100)["memory"]
    assert need["kv_read_bytes"] == 18 * 100 * 512 * 2  # shorter than the window


def test_the_text_tells_the_same(serin):
    text = serin("info", GEMMA, "--no-hash", "--tensors", "--meta").stdout
    for line in ("architecture    gemma3", "quantisation    Q8_0 (63 %), Q5_0 (24 %), Q4_K (9 %), Q6_K (4 %), F32",
                 "layers          18", "chat template   none", "context         32768 tokens",
                 "  gemma3.attention.layer_norm_rms_epsilon = 1e-06"):
        assert line + "\n" in text
    assert "vocabulary      262144 tokens, model llama, pre-tokenizer default" in text
    assert "32768 tokens   467.1 MiB = weights 235.2 MiB + keys and values 231.9 MiB (15 of 18 layers look back 512 " in text
    assert "blk.17.ffn_up.weight " in text


# ---- made files ----

def writer(path, arch="llama", **hparams):
    w = GGUFWriter(path, arch)
    for key, v in hparams.items():
        key = f"{arch}." + key.replace("__", ".")
        w.add_array(key, v) if isinstance(v, list) else w.add_uint32(key, v)
    return w


def close(w, tensor=True):
    if tensor:
        w.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


BASE = dict(block_count=4, embedding_length=64, attention__head_count=4, context_length=100)
HEAD = 2 * 16 * 2  # bytes of a key and a value of 16 elements in f16
NEEDS = {  # architecture, hyper-parameters, bytes of a position in each layer, layers with a window of 10
    "heads share keys": ("llama", dict(attention__head_count_kv=2), [2 * HEAD] * 4, []),
    "every head has its own": ("llama", {}, [4 * HEAD] * 4, []),
    "heads differ by layer": ("llama", dict(attention__head_count_kv=[1, 0, 2, 4]), [HEAD, 0, 2 * HEAD, 4 * HEAD], []),
    "keys and values differ": ("llama", dict(attention__key_length=24, attention__value_length=6), [4 * 30 * 2] * 4, []),
    "every second layer sees a window": ("gemma2", dict(attention__sliding_window=10), [4 * HEAD] * 4, [0, 2]),
    "the file's own pattern": ("gemma3", dict(attention__sliding_window=10, attention__sliding_window_pattern=4),
                               [4 * HEAD] * 4, [0, 1, 2]),
    "a pattern layer by layer": ("llama", dict(attention__sliding_window=10, attention__sliding_window_pattern=[
        True, False, False, True]), [4 * HEAD] * 4, [0, 3]),
    "a window without pattern": ("llama", dict(attention__sliding_window=10), [4 * HEAD] * 4, []),
    "a latent": ("deepseek2", dict(attention__kv_lora_rank=48, rope__dimension_count=16), [(48 + 16) * 2] * 4, []),
    "recurrent layers": ("qwen3next", dict(full_attention_interval=4), [0, 0, 0, 4 * HEAD], []),
}


@pytest.mark.parametrize("name", NEEDS)
def test_memory_of_keys_and_values(info, tmp_path, name):
    arch, hparams, layers, windowed = NEEDS[name]
    close(writer(tmp_path / "m.gguf", arch, **{**BASE, **hparams}))
    m = info(tmp_path / "m.gguf")
    need, = m["memory"]
    assert need["context"] == 100
    assert need["kv_bytes"] == 128 * sum(layers)  # whole blocks of 64 positions
    assert need["kv_read_bytes"] == sum((10 if i in windowed else 100) * n for i, n in enumerate(layers))
    assert (need["layers"], need["window_layers"]) == (sum(n > 0 for n in layers), len(windowed))
    assert need["total_bytes"] == need["kv_bytes"] + m["tensor_bytes"] == need["kv_bytes"] + 4 * 32 * 4


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "golden").glob("*.gguf")), ids=lambda p: p.stem)
def test_the_prediction_for_what_runs_is_what_the_hyper_parameters_say(info, path):
    m = info(path, "--ctx", 77, "--meta")
    assert m["runs"] is True
    arch, meta = m["architecture"], m["metadata"]
    kv = meta.get(f"{arch}.attention.head_count_kv", m["heads"])
    key = meta.get(f"{arch}.attention.key_length", m["embedding_length"] // m["heads"])
    value = meta.get(f"{arch}.attention.value_length", m["embedding_length"] // m["heads"])
    assert m["memory"][0]["kv_bytes"] == m["layers"] * 128 * kv * (key + value) * 2
    scales = -(-key // 32) + -(-value // 32)
    need, = info(path, "--ctx", 77, "--kv", "q8_0")["memory"]
    assert need["kv_bytes"] == m["layers"] * 128 * kv * (key + value + 2 * scales)
    assert need["kv_read_bytes"] * 128 <= need["kv_bytes"] * 77


def test_a_model_that_does_not_run_says_why(info, serin, tmp_path):
    close(writer(tmp_path / "m.gguf", "mystery", **BASE))
    m = info(tmp_path / "m.gguf")
    assert m["runs"] is False and "mystery" in m["refusal"]
    assert "runs here       no: " in serin("info", tmp_path / "m.gguf").stdout


def test_a_vocabulary_without_tensors(info, serin, tmp_path):
    (tmp_path / "v.gguf").write_bytes(made.SEEDS["vocabulary"])
    m = info(tmp_path / "v.gguf")
    jsonschema.validate(m, SCHEMA)
    assert (m["parameters"], m["types"], m["quantisation"], m["memory"]) == (0, [], None, [])
    assert m["vocabulary"] == {"size": 4, "model": "gpt2", "pre": None}
    assert "holds a vocabulary only" in serin("info", tmp_path / "v.gguf").stdout


def test_a_split_model(info, serin, tmp_path):
    split = [made.key("split.count", made.U16, 2)]
    parts = [made.gguf([made.ARCH, made.key("split.no", made.U16, 0), *split], [("a", 0, (8,))]),
             made.gguf([made.key("split.no", made.U16, 1), *split], [("b", 1, (8, 2))])]
    paths = [tmp_path / f"m-0000{i + 1}-of-00002.gguf" for i in range(2)]
    for path, data in zip(paths, parts):
        path.write_bytes(data)
    m = info(paths[0], "--tensors")
    digests = sorted(hashlib.sha256(p).hexdigest() for p in parts)
    assert m["weights_id"] == hashlib.sha256("".join(d + "\n" for d in digests).encode()).hexdigest()
    assert (m["parts"], m["parameters"], m["file_bytes"]) == (2, 24, sum(map(len, parts)))
    assert [(t["name"], t["part"]) for t in m["tensors"]] == [("a", 0), ("b", 1)]
    paths[1].unlink()
    done = serin("info", paths[0])
    assert done.returncode == 2 and "part 2 of 2 is missing" in done.stderr and str(paths[1]) in done.stderr


def test_text_of_a_file_cannot_steer_the_terminal(info, serin, tmp_path):
    evil = b"\x1b]0;x\x07 a\rb\nc \xff\xc2\x9b \xe2\x80\xae"
    (tmp_path / "m.gguf").write_bytes(made.gguf([
        made.key("general.architecture", made.STR, "llama"), made.key("general.name", made.STR, evil),
        made.key("tokenizer.ggml.tokens", made.ARR, [evil], made.STR)], [("a", 0, (1,))]))
    text = serin("info", tmp_path / "m.gguf", "--meta").stdout
    assert not any(ord(c) < 0x20 and c != "\n" or c in "\x7f\x9b\u202e" for c in text)
    assert r"\x1b]0;x\x07 a\x0db\nc \xff\xc2\x9b \xe2\x80\xae" in text
    assert info(tmp_path / "m.gguf")["name"] == evil.decode("utf-8", "replace")


@pytest.mark.parametrize("data, words", [
    (b"", "the file is empty"),
    (made.SEEDS["html"], "an HTML page"),
    (made.SEEDS["lfs"], "git lfs pull"),
    (made.SEEDS["safetensors"], "safetensors"),
    (made.SEEDS["big_endian"], "gguf-convert-endian"),
    (made.SEEDS["version1"], "GGUF version 1"),
    (made.SEEDS["duplicate_key"], "key 'general.architecture' at byte"),
    (made.SEEDS["tensors"][:-1], "tensor 'scalar' is at bytes"),
    (made.gguf([made.key("llama.block_count", made.STR, "x"), made.ARCH]), "'llama.block_count' must be an integer"),
    (made.gguf([made.key("llama.block_count", made.U32, 3), made.ARCH,
                made.key("llama.attention.head_count", made.ARR, [1, 1], made.I32)]), "has 2 entries but the model has 3"),
    (made.gguf([made.key("llama.block_count", made.U32, 2**32 - 1), made.ARCH]), "over the limit"),
])
def test_a_file_that_is_wrong_gets_one_sentence_and_exit_2(serin, tmp_path, data, words):
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    done = serin("info", path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"serin info: {path}") and done.stderr.count("\n") == 1
    assert words in done.stderr


def test_sizes_that_overflow_are_refused(serin, tmp_path):
    keys = [made.ARCH, made.key("llama.block_count", made.U32, 1), made.key("llama.attention.head_count", made.U32, 1),
            made.key("llama.attention.key_length", made.U64, 2**63 - 1)]
    (tmp_path / "m.gguf").write_bytes(made.gguf(keys, [("a", 0, (1,))]))
    done = serin("info", tmp_path / "m.gguf")
    assert done.returncode == 2 and "overflows" in done.stderr


# ---- models by name ----

def test_a_model_is_found_by_name_in_the_cache(info, serin, cache):
    (cache / "models").mkdir(parents=True)
    for name in ("Tiny-A.gguf", "Tiny-B.gguf", "Other.Q4.gguf", "Big-00001-of-00002.gguf", "Big-00002-of-00002.gguf"):
        (cache / "models" / name).write_bytes(made.SEEDS["vocabulary"])
    for name, file in (("Tiny-A", "Tiny-A.gguf"), ("tiny-b.gguf", "Tiny-B.gguf"), ("oth", "Other.Q4.gguf"),
                       ("big", "Big-00001-of-00002.gguf")):
        assert info(name)["path"] == str(cache / "models" / file)
    done = serin("info", "tiny")
    assert done.returncode == 2 and "Tiny-A.gguf, Tiny-B.gguf; write more" in done.stderr
    done = serin("info", "nothing")
    assert done.returncode == 2 and "there is no file 'nothing'" in done.stderr and "Other.Q4.gguf" in done.stderr
    assert "Big-00002" not in done.stderr
    assert serin("info", "").returncode == 2


def test_an_empty_cache_says_what_to_do(serin, cache):
    done = serin("info", "nothing")
    assert done.returncode == 2 and "no model is in the cache" in done.stderr and str(cache) in done.stderr


# ---- the shared command line ----

def test_help_has_options_and_examples(serin):
    for flag in ("--help", "-h"):
        done = serin("info", "x", flag)
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.startswith("usage: serin info MODEL")
        assert "--ctx N" in done.stdout and "examples:\n  serin info " in done.stdout


@pytest.mark.parametrize("args, words", [
    ((), "MODEL is missing"),
    (("a", "b"), "one argument too many: 'b'"),
    (("m", "--josn"), "did you mean '--json'?"),
    (("m", "--entirely-different"), "there is no option '--entirely-different'"),
    (("m", "-z"), "there is no option '-z'"),
    (("m", "--ctx"), "--ctx needs a value"),
    (("m", "--ctx", "many"), "needs a whole number, not 'many'"),
    (("m", "--ctx", "12x"), "needs a whole number"),
    (("m", "--ctx", ""), "needs a whole number"),
    (("m", "--ctx=0"), "must be from 1"),
    (("m", "-c", "99999999999999999999"), "must be from 1"),
    (("m", "--json=yes"), "takes no value"),
])
def test_wrong_usage_is_explained_and_exits_2(serin, args, words):
    done = serin("info", *args)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("serin info: ") and words in done.stderr
    assert "usage: serin info" in done.stderr and "`serin info --help`" in done.stderr


@pytest.mark.parametrize("slip, meant", [("serv", "serve"), ("ifno", "info"), ("x", None), ("frobnicate", None)])
def test_a_slip_in_a_command_is_guessed(serin, slip, meant):
    done = serin(slip)
    assert done.returncode == 2 and f"there is no command '{slip}'" in done.stderr
    assert (f"did you mean '{meant}'?" in done.stderr) if meant else ("mean" not in done.stderr)


@pytest.mark.parametrize("args", [("--ctx", 7, "M"), ("--ctx=7", "M"), ("-c", 7, "M"), ("-c7", "M"), ("M", "-c7", "--"),
                                  ("-c7", "--", "M")])
def test_every_way_to_write_an_option(info, args):
    args = [SMOL if a == "M" else a for a in args]
    assert info("--no-hash", *args)["memory"][0]["context"] == 7


def test_a_full_disk_is_an_error(serin):
    for args in (("info", SMOL, "--no-hash"), ("info", SMOL, "--no-hash", "--json"), ("info", "--help"), ("--help",),
                 ("--version",)):
        with open("/dev/full", "w") as full:
            done = serin(*args, capture_output=False, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1, args
        assert "standard output could not be written: No space left on device" in done.stderr


def test_a_reader_that_left_is_an_error(serin):
    read, write = os.pipe()
    os.close(read)
    done = serin("info", SMOL, "--no-hash", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode == 1 and "Broken pipe" in done.stderr


def read_all(fd):
    out = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            return out
        if not chunk:
            return out
        out += chunk


def test_progress_shows_on_a_terminal_only(serin):
    terminal, ours = pty.openpty()
    env = {**os.environ, "SERIN_CACHE": "/dev/null", "SERIN_PROGRESS": "always"}
    with subprocess.Popen([os.environ["SERIN"], "info", SMOL], stdout=subprocess.PIPE, stderr=ours, env=env) as p:
        os.close(ours)
        drawn = read_all(terminal).decode()
        text = p.stdout.read().decode()
    os.close(terminal)
    assert p.returncode == 0 and "SHA-256" in text and "[" not in text
    assert "hashing [" in drawn and "B/s" in drawn and " left" in drawn and "100 %" in drawn
    assert drawn.endswith("\r\x1b[K"), "the bar is not wiped out at the end"
    assert serin("info", SMOL, "--rehash", env={"SERIN_PROGRESS": "always"}).stderr == ""


def test_unknown_commands_name_the_help(serin):
    done = serin("inof")
    assert done.returncode == 2 and "'inof'" in done.stderr and "`serin --help`" in done.stderr
