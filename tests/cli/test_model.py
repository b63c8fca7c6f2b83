"""What a file asks for and the architecture does not have is refused by name, never ignored."""
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType

from gguf_edit import edit

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
U32, F32, STR, BOOL, ARR = (GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING, GGUFValueType.BOOL,
                            GGUFValueType.ARRAY)


def score(path, *options, env=None):
    tokens = Path(path).parent / "tokens.json"
    tokens.write_text("[1, 2, 3]")
    return subprocess.run([os.environ["SERIN"], "score", path, "--tokens", tokens, *options], capture_output=True, text=True,
                          timeout=60, env={**os.environ, **(env or {})})


def tensor(name, golden):
    return next(np.array(t.data) for t in GGUFReader(GOLDEN / f"{golden}.gguf").tensors if t.name == name)


def test_an_unchanged_copy_runs(tmp_path):
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf"))
    assert done.returncode == 0, done.stderr


REFUSED = {
    "an unknown architecture": ("llama", dict(keys={"general.architecture": (STR, "nonesuch")}), ["nonesuch", "qwen3moe"]),
    "a missing number": ("llama", dict(drop_keys=["llama.embedding_length"]), ["llama.embedding_length", "missing"]),
    "a number out of range": ("llama", dict(keys={"llama.block_count": (U32, 4_000_000)}), ["llama.block_count", "4000000"]),
    "a number of the wrong type": ("llama", dict(keys={"llama.block_count": (STR, "two")}), ["llama.block_count"]),
    "a key nobody knows": ("llama", dict(keys={"llama.attention.frobnicate": (F32, 2.0)}), ["llama.attention.frobnicate"]),
    "a feature of another family": ("llama", dict(keys={"llama.logit_scale": (F32, 0.5)}), ["llama.logit_scale"]),
    "experts in a dense family": ("qwen2", dict(keys={"qwen2.expert_count": (U32, 4), "qwen2.expert_used_count": (U32, 2)}),
                                  ["4 experts", "qwen2"]),
    "an unknown rope scaling": ("llama", dict(keys={"llama.rope.scaling.type": (STR, "spiral")}), ["spiral", "yarn"]),
    "another size of windowed layers": ("gemma3", dict(keys={"gemma3.attention.key_length_swa": (U32, 8)}),
                                        ["key_length_swa", "windowed"]),
    "a rope multiplier nobody knows": ("llama-yarn", dict(keys={"llama.rope.scaling.yarn_log_multiplier": (F32, 0.5)}),
                                       ["yarn_log_multiplier"]),
    "heads that do not divide": ("llama-gqa", dict(keys={"llama.attention.head_count_kv": (U32, 3)}), ["KV heads"]),
    "a missing window": ("gemma3", dict(drop_keys=["gemma3.attention.sliding_window"]), ["gemma3.attention.sliding_window"]),
    "another window pattern": ("gemma3", dict(keys={"gemma3.attention.sliding_window_pattern": (U32, 3)}),
                               ["sliding_window_pattern", "6"]),
    "head counts that differ by layer": ("llama", dict(keys={"llama.attention.head_count": (ARR, [4, 2])}),
                                         ["llama.attention.head_count", "differs"]),
    "a missing tensor": ("llama", dict(drop_tensors=["blk.1.ffn_up.weight"]), ["blk.1.ffn_up.weight", "missing"]),
    "a missing norm": ("qwen3", dict(drop_tensors=["blk.0.attn_q_norm.weight"]), ["blk.0.attn_q_norm.weight"]),
    "a tensor of the wrong shape": ("llama", dict(tensors={"blk.0.attn_q.weight": np.zeros((8, 8), np.float32)}),
                                    ["blk.0.attn_q.weight", "[8, 8"]),
    "a pattern of windows that is words": ("gemma3", dict(keys={"gemma3.attention.sliding_window_pattern": (ARR, ["a", "b"])}),
                                           ["sliding_window_pattern", "6"]),
    "more heads than there is room for": ("llama", dict(keys={"llama.attention.head_count": (U32, 128),
                                                              "llama.attention.head_count_kv": (U32, 128)}),
                                          ["llama.attention.key_length", "missing"]),
    "heads of an odd size": ("llama", dict(keys={"llama.attention.key_length": (U32, 13)}, drop_keys=["llama.rope.dimension_count"]),
                             ["dimension_count", "13", "odd"]),
    "a norm of integers": ("llama", dict(tensors={"blk.0.attn_norm.weight": np.ones(64, np.int32)}),
                           ["blk.0.attn_norm.weight", "I32"]),
    "a matrix of integers": ("llama", dict(tensors={"blk.0.attn_q.weight": np.ones((64, 64), np.int8)}),
                             ["blk.0.attn_q.weight", "I8"]),
    "a rope factor of nothing": ("llama-llama3", dict(tensors={"rope_freqs.weight": np.full(16, 1e-30, np.float32)}),
                                 ["rope factor 0", "1e-30"]),
    "a rope factor that is not a number": ("phi3-long", dict(tensors={"rope_factors_long.weight": np.full(12, np.nan, np.float32)}),
                                           ["rope factor 0", "nan"]),
    "a tensor with no place": ("llama", dict(tensors={"blk.0.attn_q_norm.weight": np.zeros(16, np.float32)}),
                               ["blk.0.attn_q_norm.weight", "no place"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_is_refused_by_name(case, tmp_path):
    golden, change, words = REFUSED[case]
    done = score(edit(GOLDEN / f"{golden}.gguf", tmp_path / "m.gguf", **change))
    assert done.returncode == 2
    for word in words + ["m.gguf"]:
        assert word in done.stderr, done.stderr


def test_a_feature_set_to_nothing_is_no_request(tmp_path):
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf", keys={"llama.attention.clamp_kqv": (F32, 0.0),
                                                                       "llama.use_parallel_residual": (BOOL, False)}))
    assert done.returncode == 0, done.stderr


def test_biases_in_any_llama_are_used(tmp_path):
    """A bias that a file brings along is added, though its family usually has none."""
    plain = edit(GOLDEN / "llama.gguf", tmp_path / "a.gguf")
    n = tensor("blk.0.attn_q.weight", "llama").shape[0]
    biased = edit(GOLDEN / "llama.gguf", tmp_path / "b.gguf", tensors={"blk.0.attn_q.bias": np.ones(n, np.float32)})
    assert score(plain).stdout != score(biased).stdout


@pytest.mark.parametrize("golden, key", [
    ("gemma3", "gemma3.final_logit_softcapping"), ("qwen3", "qwen3.final_logit_softcapping"),
    ("llama", "llama.attn_logit_softcapping"), ("llama-linear", "llama.rope.scaling.attn_factor"),
    ("llama-yarn", "llama.rope.scaling.yarn_attn_factor"), ("llama-yarn", "llama.rope.scaling.yarn_ext_factor"),
    ("llama", "llama.attention.scale"), ("gemma2", "gemma2.rope.freq_base_swa")])
def test_a_key_that_is_accepted_has_an_effect(golden, key, tmp_path):
    plain = edit(GOLDEN / f"{golden}.gguf", tmp_path / "a.gguf", drop_keys=[key])
    changed = edit(GOLDEN / f"{golden}.gguf", tmp_path / "b.gguf", keys={key: (F32, 50.0 if "freq_base" in key else 0.75)})
    results = [score(path) for path in (plain, changed)]
    assert [r.returncode for r in results] == [0, 0], results
    assert results[0].stdout != results[1].stdout


def test_yarn_on_a_base_of_one_is_defined(tmp_path):
    """Every pair then turns equally often, and the dimension of equation 17 is infinite."""
    done = score(edit(GOLDEN / "llama-yarn.gguf", tmp_path / "m.gguf", keys={"llama.rope.freq_base": (F32, 1.0)}))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("golden, name, value", [
    ("llama", "blk.0.attn_q.weight", 3e38), ("llama", "blk.0.attn_k.weight", 3e38), ("llama", "blk.0.attn_v.weight", 3e38),
    ("llama", "blk.1.attn_output.weight", 3e38), ("llama", "blk.1.ffn_up.weight", 3e38), ("llama", "output.weight", 3e38),
    ("llama", "token_embd.weight", np.inf), ("gemma2", "token_embd.weight", np.inf), ("gemma2", "blk.0.attn_q.weight", 3e38),
    ("mixtral", "blk.0.ffn_gate_inp.weight", np.nan), ("mixtral", "blk.1.ffn_down_exps.weight", 3e38)])
def test_weights_that_overflow_fail_the_request(golden, name, value, tmp_path):
    shape = tensor(name, golden).shape
    done = score(edit(GOLDEN / f"{golden}.gguf", tmp_path / "m.gguf", tensors={name: np.full(shape, value, np.float32)}))
    assert done.returncode == 1
    assert "infinite or not a number" in done.stderr


def test_a_score_that_overflows_fails_the_request(tmp_path):
    """Queries and keys are finite, their product is not."""
    shape = tensor("blk.0.attn_q.weight", "llama").shape
    big = {"blk.0.attn_q.weight": np.full(shape, 1e36, np.float32), "blk.0.attn_k.weight": np.full(shape, 1e5, np.float32)}
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf", tensors=big))
    assert done.returncode == 1 and "infinite or not a number" in done.stderr


def test_equal_router_logits_go_to_the_lower_experts(tmp_path):
    """A router of zeros: the first two of four experts are taken, whatever the others hold."""
    flat = {f"blk.{i}.ffn_gate_inp.weight": np.zeros_like(tensor(f"blk.{i}.ffn_gate_inp.weight", "mixtral")) for i in (0, 1)}
    results = []
    for changed in ([], [2, 3], [0], [1]):
        down = tensor("blk.0.ffn_down_exps.weight", "mixtral").copy()
        down[changed] *= -2
        results.append(score(edit(GOLDEN / "mixtral.gguf", tmp_path / f"{changed}.gguf",
                                  tensors={**flat, "blk.0.ffn_down_exps.weight": down}), "--json"))
    assert [r.returncode for r in results] == [0] * 4
    assert results[0].stdout == results[1].stdout
    assert len({r.stdout for r in results}) == 3


def test_a_nan_in_the_weights_fails_the_request(tmp_path):
    w = tensor("blk.1.ffn_down.weight", "llama").copy()
    w[3, 5] = np.nan
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf", tensors={"blk.1.ffn_down.weight": w}))
    assert done.returncode == 1 and "not a number" in done.stderr


def test_more_memory_than_there_is_is_refused_before_the_work(tmp_path):
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf", keys={"llama.context_length": (U32, 1 << 30)}), "--ctx", str(1 << 30))
    assert done.returncode == 1
    assert "GiB" in done.stderr and "--ctx" in done.stderr


def test_a_context_beyond_training_is_refused(tmp_path):
    done = score(edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf"), "--ctx", "100000000")
    assert done.returncode == 2 and "was trained for" in done.stderr


def test_an_unknown_instruction_set_or_feature_is_named(tmp_path):
    path = edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf")
    assert "mmx" in score(path, env={"SERIN_CPU": "mmx"}).stderr
    assert "frob" in score(path, env={"SERIN_TEST_OFF": "rope,frob"}).stderr
    assert json.loads(score(path, "--json", env={"SERIN_CPU": "ref"}).stdout)["engine"].split("/")[2] == "cpu-ref"


def test_an_engine_that_lacks_a_feature_for_a_test_has_another_id(tmp_path):
    path = edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf")
    ids = [json.loads(score(path, "--json", env={"SERIN_TEST_OFF": off}).stdout)["engine"] for off in ("", "rope", "window")]
    assert len(set(ids)) == 3 and "test-off" in ids[1] and "test-off" not in ids[0]


def test_a_feature_left_out_for_a_test_is_in_the_engine_id(tmp_path):
    path = edit(GOLDEN / "llama.gguf", tmp_path / "m.gguf")
    ids = [json.loads(score(path, "--json", env={"SERIN_TEST_OFF": off}).stdout)["engine"] for off in ("", "rope")]
    assert ids[1] == ids[0] + "/test-off-1"
