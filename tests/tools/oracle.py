"""The float64 oracle: one transformer forward pass over dequantised GGUF weights, plain numpy.

It is the yardstick of the engine's tests: it takes no short cuts, has no cache and no batching, and every
feature that an architecture has can be switched off (OFF below), so that a test can show that it matters.
What a file asks for comes from its metadata and from which tensors it has; what only the architecture knows
is in ARCHS. A file that asks for something not here is refused.

    python tests/tools/oracle.py MODEL.gguf --tokens FILE.json --out logits.npy [--log-softmax]

FILE.json is one array of token ids, cut into contexts of --window tokens, or an array of such arrays, each
its own context; nothing is added to them. The output is float32 [tokens, vocabulary], written position by
position, so that it may be larger than memory.
"""
import argparse
import json
import math
import sys
import time

import gguf
import numpy as np

# The features that can be switched off, one name each; the engine's test hook uses the same names.
#   rope            positions are not rotated in at all
#   rope_base       the base is 10000 instead of the file's (of full-attention layers)
#   rope_local_base window layers use the base of the full-attention layers
#   rope_scaling    no linear, yarn or longrope scaling, no frequency factors, no attention factor
#   window          every layer sees the whole context
#   attn_scale      scores are not scaled
#   attn_softcap    attention scores are not capped
#   final_softcap   logits are not capped
#   qk_norm         no normalisation of q and k
#   attn_bias       no bias on q, k, v (and the attention's output)
#   post_norm       no normalisation after attention and feed-forward
#   embed_scale     embeddings are not multiplied by sqrt(hidden size)
#   gate            silu instead of gelu, gelu instead of silu
#   moe_norm        the chosen experts' weights are not renormalised to sum 1
OFF = ("rope", "rope_base", "rope_local_base", "rope_scaling", "window", "attn_scale", "attn_softcap",
       "final_softcap", "qk_norm", "attn_bias", "post_norm", "embed_scale", "gate", "moe_norm")

# interleaved: rope turns (2i, 2i+1), else (i, i+half). window_period: every n-th layer is a full one
# (0: every layer has the window if the file names one). big: at this many layers the attention scale is that
# of hidden size / heads (the 27B models).
ARCHS = {
    "llama": dict(interleaved=True),
    "qwen2": {}, "qwen3": {}, "qwen3moe": {}, "phi3": {},
    "gemma2": dict(gelu=True, embed_scale=True, window_period=2, big=46, attn_softcap=50.0, final_softcap=30.0),
    "gemma3": dict(gelu=True, embed_scale=True, window_period=6, big=62, local_base=10000.0),
}


class Model:
    """A GGUF file: metadata by key (without the architecture's prefix) and float32 tensors by name."""

    def __init__(self, path):
        self.path = path
        self.reader = gguf.GGUFReader(path)
        self.fields = {k: f.contents() for k, f in self.reader.fields.items() if not k.startswith("tokenizer.")}
        self.arch = self.fields["general.architecture"]
        if self.arch not in ARCHS:
            raise SystemExit(f"{path}: the oracle does not know architecture '{self.arch}'")
        self.raw = {t.name: t for t in self.reader.tensors}
        self.cache = {}
        row = ARCHS[self.arch]
        self.interleaved = row.get("interleaved", False)
        self.gelu = row.get("gelu", False)
        self.embed_scale = row.get("embed_scale", False)
        self.layers = self.meta("block_count")
        self.hidden = self.meta("embedding_length")
        self.heads = self.meta("attention.head_count")
        self.kv_heads = self.meta("attention.head_count_kv", self.heads)
        self.head_dim = self.meta("attention.key_length", self.hidden // self.heads)
        if self.meta("attention.value_length", self.head_dim) != self.head_dim:
            raise SystemExit(f"{path}: the oracle wants keys and values of one length")
        self.eps = self.meta("attention.layer_norm_rms_epsilon")
        self.window = self.meta("attention.sliding_window", 0)
        self.attn_softcap = self.meta("attn_logit_softcapping", row.get("attn_softcap", 0.0))
        self.final_softcap = self.meta("final_logit_softcapping", row.get("final_softcap", 0.0))
        divisor = self.hidden // self.heads if row.get("big") == self.layers else self.head_dim
        self.scale = self.meta("attention.scale", 0.0) or 1 / math.sqrt(divisor)
        self.experts_used = self.meta("expert_used_count", 0)
        self.expert_scale = self.meta("expert_weights_scale", 0.0) or 1.0
        self.rope_dims = self.meta("rope.dimension_count", self.head_dim)
        self.base = self.meta("rope.freq_base", 10000.0)
        self.local_base = self.meta("rope.freq_base_swa", row.get("local_base", 0.0))  # 0: none of their own
        self.scaling = self.meta("rope.scaling.type", "none")
        if self.scaling not in ("none", "linear", "yarn", "longrope"):
            raise SystemExit(f"{path}: the oracle does not know rope scaling '{self.scaling}'")
        self.vocab = int(self.raw["token_embd.weight"].shape[1])

    def meta(self, key, default=None):
        value = self.fields.get(f"{self.arch}.{key}", default)
        if value is None:
            raise SystemExit(f"{self.path}: metadata key {self.arch}.{key} is missing")
        return value

    def has(self, name):
        return name in self.raw

    def __call__(self, name):
        """The tensor, dequantised to float32 (which holds a dequantised weight exactly), rows first."""
        if name not in self.cache:
            t = self.raw[name]
            self.cache[name] = gguf.dequantize(t.data, t.tensor_type).reshape(t.shape[::-1].tolist())
        return self.cache[name]

    def is_local(self, layer):
        """Whether the layer attends to a window only."""
        if not self.window:
            return False
        period = self.fields.get(f"{self.arch}.attention.sliding_window_pattern",
                                 ARCHS[self.arch].get("window_period", 0))
        if isinstance(period, list):
            return bool(period[layer])
        return period == 0 or layer % period < period - 1


def times(x, w):
    """x [tokens, k] by weights w [rows, k] -> [tokens, rows], in float64."""
    return x @ w.astype(np.float64).T


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight.astype(np.float64)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def yarn_mix(model, base):
    """For each pair of dimensions how much of it is interpolated (0: as trained, 1: divided by the factor).
    YaRN, arXiv 2309.00071, section 3.2."""
    original = model.meta("rope.scaling.original_context_length")
    fast = model.meta("rope.scaling.yarn_beta_fast", 32.0)
    slow = model.meta("rope.scaling.yarn_beta_slow", 1.0)
    dims = model.rope_dims

    def pair_with(turns):  # the pair that makes so many turns over the original context
        return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(pair_with(fast)), 0), min(math.ceil(pair_with(slow)), dims - 1)
    return np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)


def rope_table(model, layer, n, ctx, off):
    """cos and sin, [n, rope_dims / 2], of a layer's positions 0..n-1."""
    own = model.is_local(layer) and model.local_base  # a base of their own, then no scaling either
    base = model.base if "rope_base" not in off else 10000.0
    if own and "rope_local_base" not in off:
        base = model.local_base
    dims = model.rope_dims
    freq = base ** (-np.arange(0, dims, 2) / dims)
    amplitude = 1.0
    if "rope_scaling" not in off and not own:
        factor = model.meta("rope.scaling.factor", 1.0)
        amplitude = model.meta("rope.scaling.attn_factor", 1.0)
        if model.scaling == "linear":
            freq = freq / factor
        if model.scaling == "yarn":
            mix = yarn_mix(model, base)
            freq = freq * (1 - mix) + freq / factor * mix
            amplitude *= model.meta("rope.scaling.yarn_attn_factor", 1.0) * (1 + 0.1 * math.log(factor))
        long = model.has("rope_factors_long.weight") and ctx > model.meta("rope.scaling.original_context_length")
        for name in ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight"):
            if model.has(name):
                freq = freq / model(name).astype(np.float64)
    angle = np.arange(n)[:, None] * freq
    return np.cos(angle) * amplitude, np.sin(angle) * amplitude


def rotate(model, x, cos, sin):
    """x [tokens, heads, head_dim] turned by its position; dimensions past rope_dims stay."""
    n = model.rope_dims
    first = np.s_[..., 0:n:2] if model.interleaved else np.s_[..., 0:n // 2]
    second = np.s_[..., 1:n:2] if model.interleaved else np.s_[..., n // 2:n]
    cos, sin, out = cos[:, None], sin[:, None], x.copy()
    out[first] = x[first] * cos - x[second] * sin
    out[second] = x[first] * sin + x[second] * cos
    return out


def attention(model, layer, x, ctx, off):
    """Self-attention of one context: x [tokens, hidden], already normalised."""
    blk, n, d = f"blk.{layer}.", len(x), model.head_dim
    sizes = [model.heads * d, model.kv_heads * d, model.kv_heads * d]

    def project(part, name):
        y = times(part, model(f"{blk}{name}.weight"))
        if model.has(f"{blk}{name}.bias") and "attn_bias" not in off:
            y = y + model(f"{blk}{name}.bias")
        return y

    if model.has(blk + "attn_qkv.weight"):
        q, k, v = np.split(project(x, "attn_qkv"), np.cumsum(sizes)[:2], axis=1)
    else:
        q, k, v = (project(x, name) for name in ("attn_q", "attn_k", "attn_v"))
    q, k, v = (y.reshape(n, -1, d) for y in (q, k, v))
    if model.has(blk + "attn_q_norm.weight") and "qk_norm" not in off:
        q = rms_norm(q, model(blk + "attn_q_norm.weight"), model.eps)
        k = rms_norm(k, model(blk + "attn_k_norm.weight"), model.eps)
    if "rope" not in off:
        cos, sin = rope_table(model, layer, n, ctx, off)
        q, k = rotate(model, q, cos, sin), rotate(model, k, cos, sin)

    distance = np.arange(n)[:, None] - np.arange(n)
    hidden = distance < 0
    if model.is_local(layer) and "window" not in off:
        hidden |= distance >= model.window
    scale = 1.0 if "attn_scale" in off else model.scale
    out = np.empty((n, model.heads, d))
    for h in range(model.heads):
        kv = h * model.kv_heads // model.heads
        score = q[:, h] @ k[:, kv].T * scale
        if model.attn_softcap and "attn_softcap" not in off:
            score = np.tanh(score / model.attn_softcap) * model.attn_softcap
        score[hidden] = -np.inf
        out[:, h] = softmax(score) @ v[:, kv]
    return project(out.reshape(n, -1), "attn_output")


def feed_forward(model, layer, x, off):
    """The gated feed-forward part, dense or a mixture of experts: x [tokens, hidden], already normalised."""
    blk = f"blk.{layer}."
    act = gelu if model.gelu != ("gate" in off) else silu
    if not model.has(blk + "ffn_gate_inp.weight"):
        up = times(x, model(blk + "ffn_up.weight"))
        if model.has(blk + "ffn_gate.weight"):
            gate = times(x, model(blk + "ffn_gate.weight"))
        else:  # gate and up in one matrix, gate first
            gate, up = np.split(up, 2, axis=1)
        return times(act(gate) * up, model(blk + "ffn_down.weight"))

    prob = softmax(times(x, model(blk + "ffn_gate_inp.weight")))
    chosen = np.argsort(-prob, axis=1, kind="stable")[:, :model.experts_used]
    share = np.take_along_axis(prob, chosen, 1)
    if "moe_norm" not in off:
        share = share / share.sum(1, keepdims=True)
    out = np.zeros_like(x)
    for e in range(prob.shape[1]):
        token, rank = np.nonzero(chosen == e)
        if len(token):
            gate = times(x[token], model(blk + "ffn_gate_exps.weight")[e])
            up = times(x[token], model(blk + "ffn_up_exps.weight")[e])
            y = times(act(gate) * up, model(blk + "ffn_down_exps.weight")[e])
            out[token] += y * share[token, rank, None] * model.expert_scale
    return out


def hidden_states(model, tokens, ctx=None, off=()):
    """The normalised last hidden state [tokens, hidden] of one context. ctx: the context length that longrope
    chooses its factors by (the number of tokens unless given)."""
    ctx = ctx or len(tokens)
    x = model("token_embd.weight")[np.asarray(tokens)].astype(np.float64)
    if model.embed_scale and "embed_scale" not in off:
        x = x * math.sqrt(model.hidden)

    def residual(layer, y, name):
        name = f"blk.{layer}.{name}.weight"
        return rms_norm(y, model(name), model.eps) if model.has(name) and "post_norm" not in off else y

    for layer in range(model.layers):
        y = rms_norm(x, model(f"blk.{layer}.attn_norm.weight"), model.eps)
        x = x + residual(layer, attention(model, layer, y, ctx, off), "post_attention_norm")
        y = rms_norm(x, model(f"blk.{layer}.ffn_norm.weight"), model.eps)
        x = x + residual(layer, feed_forward(model, layer, y, off), "post_ffw_norm")
    return rms_norm(x, model("output_norm.weight"), model.eps)


def head(model, x, off=(), dtype=np.float64):
    """Logits [tokens, vocabulary] of hidden states x, computed in float64 and stored as dtype. The head is
    taken a slice at a time, to save memory."""
    w = model("output.weight" if model.has("output.weight") else "token_embd.weight")
    out = np.empty((len(x), len(w)), dtype)
    for i in range(0, len(w), 16384):
        y = times(x, w[i:i + 16384])
        if model.final_softcap and "final_softcap" not in off:
            y = np.tanh(y / model.final_softcap) * model.final_softcap
        out[:, i:i + 16384] = y
    return out


def logits(model, tokens, ctx=None, off=()):
    return head(model, hidden_states(model, tokens, ctx, off), off)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def contexts(tokens, window):
    """The contexts that a token file stands for: its own arrays, or windows without overlap."""
    if tokens and isinstance(tokens[0], list):
        return tokens
    return [tokens[i:i + window] for i in range(0, len(tokens), window)]


def write(model, windows, out, log_probabilities, say=lambda text: None):
    """Writes float32 [tokens, vocabulary] of all windows, one after the other, to the .npy file out."""
    total = sum(map(len, windows))
    result = np.lib.format.open_memmap(out, "w+", np.float32, (total, model.vocab))
    done, start = 0, time.monotonic()
    for window in windows:
        x = hidden_states(model, window)
        for i in range(0, len(x), 64):
            y = head(model, x[i:i + 64])
            result[done:done + len(y)] = log_softmax(y) if log_probabilities else y
            done += len(y)
        say(f"\r{done} of {total} tokens, {time.monotonic() - start:.0f} s")
    say("\n")
    result.flush()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model")
    p.add_argument("--tokens", required=True, help="a JSON array of token ids, or an array of arrays")
    p.add_argument("--out", required=True, help="the .npy file to write, float32 [tokens, vocabulary]")
    p.add_argument("--window", type=int, default=512, help="tokens per context (512)")
    p.add_argument("--log-softmax", action="store_true", help="write log-probabilities instead of logits")
    a = p.parse_args()
    with open(a.tokens) as f:
        windows = contexts(json.load(f), a.window)
    write(Model(a.model), windows, a.out, a.log_softmax, lambda text: print(text, end="", file=sys.stderr))


if __name__ == "__main__":
    main()
