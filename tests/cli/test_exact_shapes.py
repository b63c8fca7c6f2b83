"""Models of shapes that nobody would train: odd heads, values of another size than keys, widths that are no multiple of
anything, one row, more threads than rows. They run, and every instruction set gives the reference's bits."""
import json
import os
import subprocess

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter, quants

SEEDS = range(int(os.environ.get("SERIN_TEST_SEED", 100)), int(os.environ.get("SERIN_TEST_SEED", 100)) + 24)
MATRIX_TYPES = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q5_1]
# Types whose blocks are random bytes, because the package only reads them: where their scale lies, and one for it.
HALF = np.float16(0.0005).tobytes()
RANDOM_TYPES = {T.Q6_K: (208, HALF), T.Q2_K: (80, 2 * HALF), T.Q3_K: (108, HALF), T.IQ4_XS: (0, HALF), T.IQ3_S: (0, HALF),
                T.IQ2_XXS: (0, HALF), T.IQ2_S: (0, HALF), T.IQ1_S: (0, HALF), T.TQ1_0: (52, HALF), T.IQ4_NL: (0, HALF),
                T.MXFP4: (0, b"\x75")}
N_TOKENS = 90


def write_model(path, seed):
    r = np.random.default_rng(seed)
    arch = str(r.choice(["llama", "qwen3moe", "gemma2"]))
    experts = int(r.integers(1, 7)) if arch != "gemma2" and (arch == "qwen3moe" or r.random() < 0.5) else 0
    groups = int(r.integers(1, 5))
    heads, d_v = groups * int(r.integers(1, 4)), int(r.choice([1, 7, 16, 17, 40, 64]))
    d_k, n_embd = 2 * int(r.choice([1, 3, 8, 13, 24, 32])), int(r.choice([1, 31, 33, 64, 80, 256, 300]))
    n_ff, vocab, layers = int(r.choice([1, 5, 32, 47, 96, 513])), int(r.choice([2, 17, 64, 131])), int(r.integers(1, 3))
    w = GGUFWriter(path, arch)
    for key, value in {"embedding_length": n_embd, "block_count": layers, "context_length": 256, "feed_forward_length": n_ff,
                       "attention.head_count": heads, "attention.head_count_kv": groups, "attention.key_length": d_k,
                       "attention.value_length": d_v, "rope.dimension_count": 2 * int(r.integers(1, d_k // 2 + 1))}.items():
        w.add_uint32(f"{arch}.{key}", value)
    if experts:
        w.add_uint32(f"{arch}.expert_count", experts)
        w.add_uint32(f"{arch}.expert_used_count", int(r.integers(1, experts + 1)))
        w.add_uint32(f"{arch}.expert_feed_forward_length", n_ff)
    if arch == "gemma2" or r.random() < 0.3:
        w.add_uint32(f"{arch}.attention.sliding_window", int(r.integers(1, 70)))

    def matrix(name, *shape):
        x = (r.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        fits = [t for t in (*MATRIX_TYPES, *RANDOM_TYPES) if shape[-1] % GGML_QUANT_SIZES[t][0] == 0]
        kind = fits[int(r.integers(len(fits)))]
        if kind in RANDOM_TYPES:
            elements, size = GGML_QUANT_SIZES[kind]
            at, scale = RANDOM_TYPES[kind]
            blocks = r.integers(0, 256, (x.size // elements, size), dtype=np.uint8)
            blocks[:, at : at + len(scale)] = np.frombuffer(scale, np.uint8)
            w.add_tensor(name, blocks.reshape(*shape[:-1], -1), raw_dtype=kind)
        else:
            w.add_tensor(name, quants.quantize(x, kind), raw_dtype=kind)

    def vector(name, n):
        w.add_tensor(name, (1 + 0.2 * r.standard_normal(n)).astype(np.float32))

    matrix("token_embd.weight", vocab, n_embd)
    vector("output_norm.weight", n_embd)
    if r.random() < 0.5:
        matrix("output.weight", vocab, n_embd)
    for i in range(layers):
        def name(suffix): return f"blk.{i}.{suffix}.weight"
        for norm in ("attn_norm", "ffn_norm", *(("post_attention_norm", "post_ffw_norm") if arch == "gemma2" else ())):
            vector(name(norm), n_embd)
        if arch == "qwen3moe":
            vector(name("attn_q_norm"), d_k)
            vector(name("attn_k_norm"), d_k)
        matrix(name("attn_q"), heads * d_k, n_embd)
        matrix(name("attn_k"), groups * d_k, n_embd)
        matrix(name("attn_v"), groups * d_v, n_embd)
        matrix(name("attn_output"), n_embd, heads * d_v)
        if experts:
            matrix(name("ffn_gate_inp"), experts, n_embd)
        of, each = ("_exps", (experts,)) if experts else ("", ())
        matrix(name("ffn_gate" + of), *each, n_ff, n_embd)
        matrix(name("ffn_up" + of), *each, n_ff, n_embd)
        matrix(name("ffn_down" + of), *each, n_embd, n_ff)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return r.integers(0, vocab, N_TOKENS).tolist()


def logits(work, cpu=None, threads=1, batch=512):
    env = {k: v for k, v in os.environ.items() if k != "SERIN_CPU"} | ({"SERIN_CPU": cpu} if cpu else {})
    out = work / "logits.f32"
    done = subprocess.run([os.environ["SERIN"], "score", work / "m.gguf", "--tokens", work / "tokens.json", "--logits", out,
                           "--threads", str(threads), "--batch", str(batch)], env=env, capture_output=True, text=True, timeout=300)
    if cpu and done.returncode == 2 and "its best is" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_any_shape_runs_and_is_exact(seed, tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps(write_model(tmp_path / "m.gguf", seed)))
    want = logits(tmp_path, cpu="ref")
    assert np.isfinite(np.frombuffer(want, "<f4")).all()
    for level in ("avx2", "avx512", "avx512vnni"):
        assert logits(tmp_path, cpu=level, threads=2) in (want, None), level
    assert logits(tmp_path, threads=33, batch=50) == want
    assert logits(tmp_path, threads=3, batch=1) == want
