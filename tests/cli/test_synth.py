"""serin synth: what it writes is what was asked for, to the type and shape of each tensor; the values are those of a
quantised Gaussian; the same file on any number of threads; every type runs; errors name what is wrong.
"""
import fcntl
import hashlib
import json
import os
import re
import resource
import signal
import struct
import subprocess

import gguf
import numpy as np
import pytest

SERIN = os.environ["SERIN"]
TINY = {"arch": "llama", "n_vocab": 300, "n_embd": 256, "n_layer": 2, "n_head": 4, "n_head_kv": 2, "n_ff": 512, "n_ctx": 512}
ALL = ("F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_K Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_K Q4_1 Q4_0 IQ4_NL IQ4_XS MXFP4 MXFP4_MOE NVFP4 "
       "Q3_K_L Q3_K_M Q3_K_S Q3_K IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S TQ2_0 TQ1_0 "
       "Q2_0 Q1_0").split()


def serin(*args, code=0, **kw):
    p = subprocess.run([SERIN, *map(str, args)], capture_output=True, text=True, timeout=300, **kw)
    assert p.returncode == code, p.stderr
    return p


def shape_file(folder, **values):
    path = folder / "shape.json"
    path.write_text(json.dumps({**TINY, **values}))
    return path


def make(folder, quant, shape=None, name=None, *args):
    """The tensors of a model by name, and its reader."""
    path = folder / (name or f"{quant}.gguf")
    serin("synth", "--shape", shape or shape_file(folder), "--quant", quant, "-o", path, "--force", *args)
    reader = gguf.GGUFReader(path)
    return {t.name: t for t in reader.tensors}, reader, path


def types(tensors):
    return {name: t.tensor_type.name for name, t in tensors.items()}


def strings(path, key):
    """An array of strings, without the reader, which needs a minute for a large vocabulary."""
    data, at = path.read_bytes(), 0
    at = data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
    kind, elem, n = struct.unpack_from("<IIQ", data, at)
    assert (kind, elem) == (9, 8)
    found, at = [], at + 16
    for _ in range(n):
        size = int.from_bytes(data[at:at + 8], "little")
        found.append(data[at + 8:at + 8 + size].decode())
        at += 8 + size
    return found


def values(tensor):
    return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)


# ---- what the file is ----

def test_a_shape_of_the_table_has_the_tensors_of_its_model(tmp_path):
    (tmp_path / "s.json").write_text('{"like": "smollm2-135m", "n_vocab": 512}')
    tensors, reader, _ = make(tmp_path, "Q4_K_M", tmp_path / "s.json")
    assert len(tensors) == 2 + 30 * 9
    assert list(tensors["token_embd.weight"].shape) == [576, 512]
    assert list(tensors["blk.29.ffn_down.weight"].shape) == [1536, 576]
    assert list(tensors["blk.0.attn_k.weight"].shape) == [576, 192]
    # a width of 576 is no multiple of 256, one of 1536 is
    of = types(tensors)
    assert of["token_embd.weight"] == "Q8_0" and of["blk.3.attn_q.weight"] == "Q5_0" and of["blk.3.ffn_down.weight"] == "Q4_K"
    assert of["blk.0.ffn_down.weight"] == "Q6_K" and of["blk.0.attn_v.weight"] == "Q8_0" and of["blk.0.attn_norm.weight"] == "F32"
    field = lambda key: reader.get_field(key).contents()  # noqa: E731
    assert field("general.architecture") == "llama" and field("general.file_type") == 15
    assert field("llama.block_count") == 30 and field("llama.attention.head_count_kv") == 3
    assert field("llama.rope.freq_base") == 100000 and field("llama.context_length") == 8192


@pytest.mark.parametrize("quant, expected", [
    ("Q4_0", {"token_embd": "Q6_K", "attn_v": "Q4_0", "ffn_down": "Q4_0"}),
    ("Q8_0", {"token_embd": "Q8_0", "attn_v": "Q8_0"}),
    ("F16", {"token_embd": "F16", "ffn_up": "F16"}),
    ("Q5_K_M", {"attn_v": "Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q6_K", "ffn_down": "Q6_K Q5_K Q5_K Q6_K Q5_K Q5_K Q6_K Q6_K",
                "ffn_up": "Q5_K"}),
    ("Q3_K_M", {"attn_v": "Q5_K Q5_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K", "attn_output": "Q4_K", "ffn_down": "Q4_K", "attn_q": "Q3_K"}),
    ("Q2_K", {"attn_v": "Q4_K", "attn_output": "Q3_K", "ffn_down": "Q3_K", "ffn_gate": "Q2_K"}),
    ("IQ4_XS", {"attn_v": "Q5_K", "ffn_down": "Q5_K IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS", "attn_k": "IQ4_XS"}),
    ("IQ2_XS", {"token_embd": "Q5_K", "attn_v": "Q4_K", "ffn_down": "Q2_K IQ2_XS IQ2_XS IQ2_XS IQ2_XS IQ2_XS IQ2_XS IQ2_XS"}),
])
def test_a_mixture_gives_some_matrices_more_bits(tmp_path, quant, expected):
    of = types(make(tmp_path, quant, shape_file(tmp_path, n_layer=8, n_head_kv=1, tied=True))[0])
    for part, want in expected.items():
        found = [of["token_embd.weight"]] if part == "token_embd" else [of[f"blk.{i}.{part}.weight"] for i in range(8)]
        words = want.split()
        assert found == (words if len(words) > 1 else words * len(found)), part


def test_pure_gives_every_matrix_one_type(tmp_path):
    of = types(make(tmp_path, "Q4_K_M", None, None, "--pure")[0])
    assert {t for n, t in of.items() if "norm" not in n} == {"Q4_K"} and of["output_norm.weight"] == "F32"


def test_experts_are_one_tensor(tmp_path):
    shape = shape_file(tmp_path, arch="qwen3moe", n_expert=8, n_expert_used=2, n_ff_expert=64)
    tensors, reader, path = make(tmp_path, "Q4_0", shape)
    assert list(tensors["blk.1.ffn_up_exps.weight"].shape) == [256, 64, 8]
    assert list(tensors["blk.1.ffn_down_exps.weight"].shape) == [64, 256, 8]
    assert types(tensors)["blk.0.ffn_gate_inp.weight"] == "F32" and "blk.0.attn_q_norm.weight" in tensors
    assert reader.get_field("qwen3moe.expert_used_count").contents() == 2
    serin("run", path, "-p", "hello", "-n", 4, "--raw")


@pytest.mark.parametrize("arch, more", [("llama", {"rope_factor": 8}), ("qwen2", {}), ("qwen3", {}), ("phi3", {}),
                                        ("gemma2", {"window": 64, "tied": True}),
                                        ("gemma3", {"window": 64, "tied": True, "rope_factor": 8, "n_layer": 7})])
def test_every_architecture_runs(tmp_path, arch, more):
    _, _, path = make(tmp_path, "Q8_0", shape_file(tmp_path, arch=arch, **more))
    serin("run", path, "-p", "the quick brown fox", "-n", 4, "--temp", 0)


def test_a_model_that_is_not_run_here_is_made_with_a_word_about_it(tmp_path):
    shape = shape_file(tmp_path, arch="gpt-oss", n_expert=4, n_expert_used=2, n_ff_expert=64, window=64, rope_factor=32)
    p = serin("synth", "--shape", shape, "--quant", "MXFP4_MOE", "-o", tmp_path / "o.gguf")
    assert "cannot run 'gpt-oss' models" in p.stderr
    of = types({t.name: t for t in gguf.GGUFReader(tmp_path / "o.gguf").tensors})
    assert of["blk.0.ffn_up_exps.weight"] == "MXFP4" and of["blk.0.attn_q.weight"] == "Q8_0" and of["blk.0.attn_sinks.weight"] == "F32"


# ---- the values ----

@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "IQ4_NL", "IQ4_XS",
                                   "MXFP4", "Q3_K", "IQ3_S", "Q2_K", "IQ2_S", "TQ2_0"])
def test_values_are_those_of_a_quantised_gaussian(tmp_path, quant):
    shape = shape_file(tmp_path, n_embd=512, n_ff=2048, n_layer=1)
    tensors, _, _ = make(tmp_path, quant, shape, None, "--pure")
    for name, std in (("blk.0.ffn_up.weight", 512 ** -.5), ("blk.0.ffn_down.weight", (2 * 2048) ** -.5),
                      ("blk.0.attn_q.weight", 1.4 * 512 ** -.5)):
        x = values(tensors[name]).reshape(-1)
        low = tensors[name].tensor_type.name in ("Q2_K", "IQ2_XS", "TQ2_0")  # few levels lose some of the tails
        assert abs(x.mean()) < (.05 if low else .01) * std
        assert (.85 if low else .97) < x.std() / std < 1.03
        kurtosis = ((x - x.mean()) ** 4).mean() / x.var() ** 2
        assert low or 2.7 < kurtosis < 3.3
        rows = values(tensors[name])
        assert len(np.unique(rows, axis=0)) > .99 * len(rows)  # hardly a row occurs twice
        # neighbours know nothing of each other
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < .02


def test_norms_are_near_one_with_the_same_outlier_channels_in_every_layer(tmp_path):
    tensors, _, _ = make(tmp_path, "Q4_0", shape_file(tmp_path, n_embd=4096, n_ff=32, n_vocab=260))
    norms = [values(tensors[f"blk.{i}.{n}.weight"]) for i in range(2) for n in ("attn_norm", "ffn_norm")]
    outliers = [set(np.nonzero(x > 2)[0]) for x in norms]
    assert all(o == outliers[0] for o in outliers) and 10 < len(outliers[0]) < 70
    for x in norms:
        usual = x[x <= 2]
        assert abs(usual.mean() - 1) < .01 and .08 < usual.std() < .12 and x.max() < 8


def test_attention_and_logits_are_neither_flat_nor_certain(tmp_path):
    """Perplexity of random text lies between that of one certain token and that of a flat guess."""
    _, _, path = make(tmp_path, "Q8_0", shape_file(tmp_path, n_layer=4, n_vocab=1000))
    (tmp_path / "t.txt").write_text("the quick brown fox jumps over the lazy dog and runs away from all of them " * 4)
    out = json.loads(serin("score", path, "--text", tmp_path / "t.txt", "--json").stdout)
    assert 300 < out["perplexity"] < 30000


# ---- determinism ----

def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_equal_seeds_give_equal_files_on_any_number_of_threads(tmp_path):
    shape = shape_file(tmp_path, n_embd=512, n_ff=8192, n_layer=3)
    digests = {digest(make(tmp_path, "Q4_K_M", shape, f"{n}.gguf", "-t", n)[2]) for n in (1, 2, 7)}
    assert len(digests) == 1
    other = make(tmp_path, "Q4_K_M", shape, "other.gguf", "--seed", 2)
    assert digest(other[2]) not in digests
    assert types(other[0]) == types(make(tmp_path, "Q4_K_M", shape, "7.gguf")[0])


def test_the_file_is_the_same_on_every_machine(tmp_path):
    """What this file is must not change by itself: figures measured with it are compared over years."""
    shape = shape_file(tmp_path, name="tiny")
    found = {q: digest(make(tmp_path, q, shape)[2])[:16] for q in GOLDEN}
    assert found == GOLDEN


GOLDEN = {"Q8_0": "8ecf401dceeba421", "Q6_K": "c309019687c4f0a5", "Q4_K_M": "15bfbb15ccccb07f", "Q5_1": "872affd9c8950f95",
          "MXFP4": "7ae255635892d255", "NVFP4": "e0bb36a0cd529153", "IQ4_XS": "0975b69c956f099b", "IQ3_S": "8202f9b2ef82b11a",
          "IQ2_XXS": "1722a47e932e6002", "IQ1_M": "190c0a9b7b50d0f4", "Q2_K": "786df01f23e80bef", "TQ1_0": "f379715345a3ccdf",
          "BF16": "7dc1e6cec10fb9e4"}


# ---- every type runs ----

@pytest.mark.parametrize("quant", ALL)
def test_every_quantisation_runs(tmp_path, quant):
    path = tmp_path / "o.gguf"
    serin("synth", "--shape", shape_file(tmp_path), "--quant", quant, "-o", path)
    report = json.loads(serin("run", path, "-p", "hello there", "-n", 3, "--json", "--temp", 0).stdout)
    assert report["finish_reason"] == "stop" or len(report["tokens"]) == 3


def test_a_model_in_memory_is_measured(tmp_path):
    out = json.loads(serin("bench", "--shape", shape_file(tmp_path), "--quant", "q4_0", "--pp", 16, "--tg", 4, "--reps", 1,
                           "--json").stdout)
    assert [r["test"] for r in out["results"]] == ["pp16", "tg4"] and all(r["tok_per_s"]["median"] > 0 for r in out["results"])
    assert "random weights" in out["model"]["path"] and out["model"]["weights_id"] is None


@pytest.mark.parametrize("arch, more", [("llama", {}), ("llama", {"tied": True}), ("phi3", {}),
                                        ("qwen3moe", {"n_expert": 8, "n_expert_used": 2, "n_ff_expert": 256})])
def test_a_model_in_memory_says_what_its_file_says(tmp_path, arch, more):
    """Nothing is read from the pages that were given back while the weights were packed."""
    _, _, path = make(tmp_path, "Q4_0", shape_file(tmp_path, arch=arch, n_ff=2048, n_vocab=2000, **more))
    (tmp_path / "t.json").write_text(json.dumps([(i * 37) % 2000 for i in range(40)]))
    fd = os.memfd_create("model", os.MFD_ALLOW_SEALING)
    os.write(fd, path.read_bytes())
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    pages = os.fstat(fd).st_blocks
    for model, out in ((path, "a"), (f"/proc/self/fd/{fd}", "b")):
        serin("score", model, "--tokens", tmp_path / "t.json", "--logits", tmp_path / out, pass_fds=[fd])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert os.fstat(fd).st_blocks < pages / 2  # and they were given back
    os.close(fd)


# ---- the vocabulary ----

def test_text_becomes_tokens_of_several_letters_and_comes_back(tmp_path):
    path = tmp_path / "o.gguf"
    serin("synth", "--shape", shape_file(tmp_path, n_vocab=50000), "-q", "Q4_0", "-o", path)
    text = "the quick brown fox jumps over the lazy dog, says Jürgen 42 times\n\tto 日本"
    ids = json.loads(serin("tokenize", path, "--json", "--text", text).stdout)
    assert len(ids) < len(text) * .6
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    assert serin("detokenize", path, tmp_path / "ids.json").stdout.rstrip("\n") == text


@pytest.mark.parametrize("n", [260, 261, 300, 1000, 40000, 600000])
def test_a_vocabulary_of_any_size_has_distinct_tokens(tmp_path, n):
    path = tmp_path / "o.gguf"
    shape = shape_file(tmp_path, n_vocab=n, n_embd=32, n_ff=32, n_layer=1, n_head=2, n_head_kv=1)
    serin("synth", "--shape", shape, "-q", "Q4_0", "-o", path)
    tokens = strings(path, "tokenizer.ggml.tokens")
    assert len(tokens) == n == len(set(tokens)) and tokens[-3:] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    merges = strings(path, "tokenizer.ggml.merges")
    assert {m.replace(" ", "") for m in merges} == {t for t in tokens[256:] if not t.startswith("<|")}
    known = set(tokens)
    assert all(part in known for m in merges for part in m.split(" "))
    serin("run", path, "-p", "hello", "-n", 2)


# ---- the list ----

def test_the_list_names_what_can_be_made(tmp_path):
    rows = json.loads(serin("synth", "--list", "--json").stdout)
    by_name = {r["name"]: r for r in rows}
    assert {"llama-3.2-1b", "llama-3.1-8b", "qwen3-4b", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "gemma-3-1b", "gemma-3-4b",
            "gemma-3-27b", "gpt-oss-20b"} <= set(by_name)
    # the published counts
    for name, billions in {"llama-3.2-1b": 1.236, "llama-3.1-8b": 8.030, "llama-3.3-70b": 70.55, "qwen3-4b": 4.022,
                           "qwen3-30b-a3b": 30.53, "gemma-3-4b": 3.880, "mixtral-8x7b": 46.70, "phi-3-mini": 3.821,
                           "smollm2-135m": 0.1345, "gpt-oss-20b": 20.91}.items():
        assert abs(by_name[name]["parameters"] / 1e9 - billions) < billions * 1e-3, name
    assert list(by_name["qwen3-4b"]["bytes"]) == ALL
    text = serin("synth", "--list").stdout
    assert all(name in text for name in by_name) and all(re.search(rf"\b{q}\b", text) for q in ALL)
    path = tmp_path / "o.gguf"
    serin("synth", "--shape", "SmolLM2-135M", "-q", "q5_k_m", "-o", path)
    assert 0 <= path.stat().st_size - by_name["smollm2-135m"]["bytes"]["Q5_K_M"] < 4e6


# ---- errors ----

@pytest.mark.parametrize("values, message", [
    ({"n_embd": 100}, "'n_embd' is 100, which is not a multiple of 32"),
    ({"n_vocab": 100}, "'n_vocab' is 100, which is outside 260..1048576"),
    ({"n_head": 4, "n_head_kv": 3}, "'n_head_kv' 3 does not divide"),
    ({"n_head": 0}, "'n_head' is 0"),
    ({"n_layer": -1}, "'n_layer' must be a whole number"),
    ({"n_layer": "two"}, "'n_layer' must be a whole number"),
    ({"n_ff": 1.5}, "'n_ff' must be a whole number"),
    ({"tied": 1}, "'tied' must be true or false"),
    ({"rope_base": "x"}, "'rope_base' must be a number"),
    ({"rope_base": 0.5}, "'rope_base' is 0.5, which is outside"),
    ({"rope_factor": 0.5}, "'rope_factor' is 0.5"),
    ({"norm_eps": 2}, "'norm_eps' is 2"),
    ({"name": ""}, "'name' must be a text of 1 to 63 bytes"),
    ({"name": "x" * 64}, "'name' must be a text of 1 to 63 bytes"),
    ({"arch": "mamba"}, "'arch' is 'mamba'; models can be made of llama, qwen2"),
    ({"arch": "gemma3"}, "'window' is missing"),
    ({"arch": "qwen3moe"}, "'n_expert' is missing"),
    ({"arch": "qwen3", "n_expert": 4, "n_expert_used": 2}, "'qwen3' models have no experts"),
    ({"arch": "qwen2", "rope_factor": 2}, "'rope_factor' is 2, and 'qwen2'"),
    ({"n_expert": 4, "n_expert_used": 5}, "'n_expert_used' is 5, which is outside 1..4"),
    ({"n_expert_used": 5}, "'n_expert_used' is 5, which is outside 0..0"),
    ({"layers": 4}, "there is no key 'layers'; keys are like, name"),
    ({"like": "gpt-9"}, "'like' is 'gpt-9', which no shape is called"),
    ({"like": 5}, "'like' must be the name of a shape"),
])
def test_a_shape_that_cannot_be_is_refused_by_key(tmp_path, values, message):
    path = shape_file(tmp_path, **values)
    p = serin("synth", "--shape", path, "-o", tmp_path / "o.gguf", code=2)
    assert message in p.stderr and "shape.json" in p.stderr
    assert not (tmp_path / "o.gguf").exists()


@pytest.mark.parametrize("text, message", [
    ("", "line 1"), ("[]", "a shape is an object"), ("{", "line 1, column 1"), ("{}", "the key 'arch' is missing"),
    ('{"arch": "llama", "arch": "llama"}', "duplicate"),
    ('{"arch": "llama", "n_vocab": 300}', "the key 'n_embd' is missing"),
])
def test_a_file_that_is_no_shape_is_refused(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    assert message in serin("synth", "--shape", tmp_path / "s.json", "-o", tmp_path / "o.gguf", code=2).stderr


def test_like_takes_what_is_not_said(tmp_path):
    (tmp_path / "two.json").write_text('{"like": "smollm2-135m", "n_layer": 2, "n_vocab": 300}')
    tensors, reader, _ = make(tmp_path, "Q8_0", tmp_path / "two.json")
    assert len(tensors) == 2 + 2 * 9 and list(tensors["token_embd.weight"].shape) == [576, 300]
    assert reader.get_field("general.name").contents() == "two (random weights)"


def test_wrong_names_say_what_there_is(tmp_path):
    p = serin("synth", "--shape", "lama-3.2-1b", code=2)
    assert "did you mean 'llama-3.2-1b'?" in p.stderr and "serin synth --list" in p.stderr
    p = serin("synth", "--shape", "llama-3.2-1b", "--quant", "Q9_X", code=2)
    assert "there is no quantisation 'Q9_X'; there are F32" in p.stderr
    assert "--shape is missing" in serin("synth", code=2).stderr
    assert "leave MODEL out" in serin("bench", "x.gguf", "--shape", "llama-3.2-1b", code=2).stderr


def test_a_file_that_is_there_stays(tmp_path):
    path, shape = tmp_path / "o.gguf", shape_file(tmp_path)
    path.write_text("mine")
    p = serin("synth", "--shape", shape, "-o", path, code=2)
    assert "is there already; --force replaces it" in p.stderr and path.read_text() == "mine"
    serin("synth", "--shape", shape, "-o", path, "--force")
    assert path.read_bytes()[:4] == b"GGUF"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["o.gguf", "shape.json"]


def test_a_disk_without_room_is_said_before_any_work(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    p = serin("synth", "--shape", shape_file(tmp_path), "-o", tmp_path / "o.gguf", code=1, preexec_fn=limit)
    assert "o.gguf" in p.stderr
    assert sorted(x.name for x in tmp_path.iterdir()) == ["shape.json"]


def test_the_report_is_json(tmp_path):
    path = tmp_path / "o.gguf"
    out = json.loads(serin("synth", "--shape", shape_file(tmp_path, name="small"), "-q", "q4_0", "-o", path, "--seed", 7,
                           "--json").stdout)
    n = sum(t.n_elements for t in gguf.GGUFReader(path).tensors)
    assert out == {"path": str(path), "shape": "small", "arch": "llama", "quant": "Q4_0", "parameters": int(n),
                   "bytes": path.stat().st_size, "seed": 7, "runs_here": True}


def test_the_name_follows_from_shape_and_quantisation(tmp_path):
    serin("synth", "--shape", shape_file(tmp_path, name="A/b"), "-q", "Q4_0", cwd=tmp_path)
    assert (tmp_path / "synth-a-b-q4_0.gguf").exists()
