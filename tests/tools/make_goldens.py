"""Makes tests/golden: tiny random models by the Hugging Face implementation, as GGUF, with their logits.

    python tests/tools/make_goldens.py [NAME ...]

Needs torch and transformers (tests/golden/README.md says how); nothing that runs the tests does. A golden of
the default initialisation could not fail (its attention is flat, its norms are 1), so weights have a gain of
1.5 per fan-in, norms are spread around 1, biases are random and eps is 0.01. The logits are those of the
float64 run. Every golden is checked before it is kept: the oracle agrees with it, float32 arithmetic is far
within the engine's tolerance, and each feature that it has moves the logits when the oracle switches it off.
"""
import contextlib
import json
import math
import os
import sys

import gguf
import numpy as np
import torch
import transformers

import oracle

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
VOCAB = 112
EPS = 0.01
TOLERANCE = 1e-4      # what the engine may differ by, in standard deviations of the logits
MUST_MOVE = 100 * TOLERANCE
BASE = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, rms_norm_eps=EPS, max_position_embeddings=64, tie_word_embeddings=False,
            bos_token_id=1, eos_token_id=2, pad_token_id=0)
# The keys of 'rope' below, as transformers calls them.
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
LINEAR = dict(rope_type="linear", factor=4.0)


def long_rope(dims):
    i = np.arange(dims // 2)
    return dict(rope_type="longrope", original_max_position_embeddings=16, rope_theta=3000.0,
                short_factor=[1 + 3 * float(x) / 64 for x in i],
                long_factor=[1.25 + math.floor(20 * float(x) ** 1.2) / 32 for x in i])


# name: (transformers class, GGUF architecture, configuration on top of BASE, tokens)
GOLDENS = {
    "llama": ("Llama", "llama", dict(rope=dict(rope_theta=5000.0)), 40),
    "llama-gqa": ("Llama", "llama", dict(
        num_attention_heads=4, num_key_value_heads=1, intermediate_size=80, tie_word_embeddings=True,
        rope=dict(rope_theta=100000.0)), 40),
    "llama-llama3": ("Llama", "llama", dict(
        num_key_value_heads=1, num_attention_heads=2, rope=dict(rope_theta=500.0, **LLAMA3)), 40),
    "llama-linear": ("Llama", "llama", dict(num_key_value_heads=2, rope=dict(rope_theta=5000.0, **LINEAR)), 40),
    "llama-yarn": ("Llama", "llama", dict(
        num_attention_heads=2, num_key_value_heads=1, rope=dict(rope_theta=500.0, **YARN)), 48),
    "mistral": ("Mistral", "llama", dict(
        num_key_value_heads=2, sliding_window=8, rope=dict(rope_theta=50000.0)), 40),
    "mixtral": ("Mixtral", "llama", dict(
        num_key_value_heads=2, intermediate_size=24, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=None, rope=dict(rope_theta=1e6)), 40),
    "qwen2": ("Qwen2", "qwen2", dict(
        num_key_value_heads=2, use_sliding_window=False, rope=dict(rope_theta=1e6)), 40),
    "qwen3": ("Qwen3", "qwen3", dict(
        num_attention_heads=3, num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
        use_sliding_window=False, rope=dict(rope_theta=1e6)), 40),
    "qwen3moe": ("Qwen3Moe", "qwen3moe", dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, moe_intermediate_size=24, num_experts=6,
        num_experts_per_tok=3, norm_topk_prob=True, use_sliding_window=False, rope=dict(rope_theta=1e6)), 40),
    "gemma2": ("Gemma2", "gemma2", dict(
        num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=8,
        query_pre_attn_scalar=24, attn_logit_softcapping=2.0, final_logit_softcapping=5.0,
        tie_word_embeddings=True, rope=dict(rope_theta=5000.0)), 40),
    "gemma3": ("Gemma3", "gemma3", dict(
        num_hidden_layers=7, num_attention_heads=2, num_key_value_heads=1, head_dim=16, intermediate_size=32,
        sliding_window=8, query_pre_attn_scalar=24, tie_word_embeddings=True,
        rope=dict(full_attention=dict(rope_theta=1e6, rope_type="linear", factor=8.0),
                  sliding_attention=dict(rope_theta=10000.0, rope_type="default"))), 40),
    "phi3": ("Phi3", "phi3", dict(num_key_value_heads=2, sliding_window=8, rope=dict(rope_theta=20000.0)), 40),
    "phi3-long": ("Phi3", "phi3", dict(
        num_attention_heads=2, num_key_value_heads=1, original_max_position_embeddings=16,
        rope=dict(partial_rotary_factor=0.75, **long_rope(24))), 40),
    "phi3-short": ("Phi3", "phi3", dict(
        num_attention_heads=2, num_key_value_heads=1, original_max_position_embeddings=16,
        rope=dict(partial_rotary_factor=0.75, **long_rope(24))), 16),
}


@contextlib.contextmanager
def only_float64():
    """transformers computes norms, softmax and rope in float32 whatever the model's type is; here it does so
    in float64, by taking the word from it."""
    f32, to_f32 = torch.float32, torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32 = torch.float = f32
        torch.Tensor.float = to_f32
        torch.set_default_dtype(f32)


def make_config(kind, settings):
    settings = {**BASE, **settings}
    rope = settings.pop("rope")
    if "full_attention" not in rope:
        rope = {"rope_type": "default", **rope}
    name = {"Gemma3": "Gemma3TextConfig"}.get(kind, kind + "Config")
    config = getattr(transformers, name)(**settings, rope_parameters=rope)
    config._attn_implementation = config._experts_implementation = "eager"
    return config


def randomise(model, rng):
    """Random values that float32 holds exactly, and for gemma so that 1 + weight does, too."""
    values = {}
    for name, p in model.named_parameters():
        shape = tuple(p.shape)
        if "norm" in name:
            v = rng.uniform(0.5, 1.5, shape).astype(np.float32).astype(np.float64)
            v -= 1.0 if "gemma" in model.config.model_type else 0.0
        elif name.endswith(".bias"):
            v = rng.normal(0, 0.7, shape)
        elif "embed_tokens" in name:  # gemma multiplies them by sqrt(hidden size) = 8
            v = rng.normal(0, 0.25 if "gemma" in model.config.model_type else 1.0, shape)
        else:
            v = rng.normal(0, 1.5 / math.sqrt(shape[-1]), shape)
        values[name] = torch.from_numpy(v.astype(np.float32).astype(np.float64))
    return values


def run(kind, config, values, tokens):
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    for name, p in model.named_parameters():
        p.data.copy_(values[name])
    with torch.no_grad():
        return model(torch.tensor([tokens]), use_cache=False).logits[0].double().numpy()


def interleave(w, heads):
    """Rows of q or k for the rope that turns neighbours (llama) instead of halves (transformers)."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(rope, dims):
    """Divisors of the frequencies, as stored in rope_freqs.weight."""
    wave = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, dims, 2) / dims)
    turns = rope["original_max_position_embeddings"] / wave
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def add_vocabulary(w):
    """A byte-level BPE of four control tokens, printable ASCII and a few merges, so that files load."""
    letters = [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ"]
    merges = ["t h", "th e", "Ġ t", "Ġ a", "i n", "o n", "r e", "e r", "Ġt h", "Ġth e", "a t", "e n"]
    tokens = ["<unk>", "<s>", "</s>", "<|endoftext|>"] + letters + [m.replace(" ", "") for m in merges]
    assert len(tokens) == VOCAB
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([2, 3, 3, 3] + [1] * (VOCAB - 4))
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(False)


def add_metadata(w, arch, c):
    heads, head_dim = c.num_attention_heads, getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_vocab_size(c.vocab_size)
    if arch != "phi3" and head_dim != c.hidden_size // heads or arch in ("gemma2", "gemma3", "qwen3", "qwen3moe"):
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    rope = c.rope_parameters
    rope = rope.get("full_attention", rope)
    w.add_rope_freq_base(rope["rope_theta"])
    dims = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    if arch in ("llama", "phi3"):
        w.add_rope_dimension_count(dims)
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        w.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, dims).astype(np.float32))
    if arch == "phi3":
        w.add_rope_scaling_orig_ctx_len(c.original_max_position_embeddings)
        w.add_sliding_window(c.sliding_window or 0)
    elif getattr(c, "sliding_window", None):
        w.add_sliding_window(c.sliding_window)
    if rope["rope_type"] == "longrope":
        original = c.original_max_position_embeddings
        scale = c.max_position_embeddings / original
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for which in ("long", "short"):
            w.add_tensor(f"rope_factors_{which}.weight", np.array(rope[which + "_factor"], np.float32))
    if getattr(c, "attn_logit_softcapping", None):
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
    if getattr(c, "final_logit_softcapping", None):
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if getattr(c, "query_pre_attn_scalar", head_dim) != head_dim:
        w.add_attention_scale(1 / math.sqrt(c.query_pre_attn_scalar))
    experts = getattr(c, "num_local_experts", getattr(c, "num_experts", 0))
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(c.num_experts_per_tok)
    if hasattr(c, "moe_intermediate_size"):
        w.add_expert_feed_forward_length(c.moe_intermediate_size)


def add_tensors(w, arch, c, values):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], c.num_hidden_layers)
    for name, v in values.items():
        v = v.numpy()
        if "norm" in name and arch.startswith("gemma"):
            v = v + 1
        if arch == "llama" and ".q_proj." in name:
            v = interleave(v, c.num_attention_heads)
        if arch == "llama" and ".k_proj." in name:
            v = interleave(v, c.num_key_value_heads)
        v = v.astype(np.float32)
        if ".experts." in name:
            blk = "blk." + name.split(".")[2]
            if name.endswith("gate_up_proj"):
                w.add_tensor(f"{blk}.ffn_gate_exps.weight", np.ascontiguousarray(v[:, :v.shape[1] // 2]))
                w.add_tensor(f"{blk}.ffn_up_exps.weight", np.ascontiguousarray(v[:, v.shape[1] // 2:]))
            else:
                w.add_tensor(f"{blk}.ffn_down_exps.weight", v)
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored is None:
            raise SystemExit(f"{arch}: no GGUF name for {name}")
        w.add_tensor(stored, v)


def make(name):
    kind, arch, settings, n = GOLDENS[name]
    rng = np.random.default_rng([ord(c) for c in name])
    tokens = rng.integers(4, VOCAB, n).tolist()
    with only_float64():
        config = make_config(kind, settings)
        model = getattr(transformers, kind + "ForCausalLM")(config)
        values = randomise(model, rng)
        want = run(kind, config, values, tokens)
    single = run(kind, make_config(kind, settings), values, tokens)

    path = os.path.join(OUT, name)
    w = gguf.GGUFWriter(path + ".gguf", arch)
    w.add_name(f"{name}: tiny and random, for tests")
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_metadata(w, arch, config)
    add_vocabulary(w)
    add_tensors(w, arch, config, values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    np.save(path + ".logits.npy", want.astype(np.float32))
    with open(path + ".tokens.json", "w") as f:
        f.write(json.dumps(tokens) + "\n")
    return check(name, path, tokens, want, single)


def check(name, path, tokens, want, single):
    """Refuses a golden that would not test what it should; returns the features that it tests."""
    model, std = oracle.Model(path + ".gguf"), want.std()

    def distance(other):
        return float(np.abs(other - want).max() / std)

    moved = {f: distance(oracle.logits(model, tokens, off={f})) for f in oracle.OFF}
    plain, f32 = distance(oracle.logits(model, tokens)), distance(single)
    moved = {f: d for f, d in moved.items() if d > 10 * plain}
    print(f"{name:13} {os.path.getsize(path + '.gguf') // 1000:4} kB  std {std:.2f}  oracle {plain:.1e}  "
          f"float32 {f32:.1e}  " + "  ".join(f"{f} {d:.2g}" for f, d in moved.items()))
    bad = [f for f, d in moved.items() if d < MUST_MOVE]
    if bad or plain > 2e-6 or f32 > TOLERANCE / 4:
        raise SystemExit(f"{name} is no good: " + (f"too little moves without {', '.join(bad)}" if bad else "precision"))
    return list(moved)


def main():
    os.makedirs(OUT, exist_ok=True)
    index = os.path.join(OUT, "features.json")
    features = json.load(open(index)) if os.path.exists(index) else {}
    for name in sys.argv[1:] or GOLDENS:
        features[name] = make(name)
    with open(index, "w") as f:
        f.write("{\n" + ",\n".join(f'  "{n}": {json.dumps(v)}' for n, v in sorted(features.items())) + "\n}\n")


if __name__ == "__main__":
    main()
