"""A tiny random model that talks: bytes and a few merges as tokens, ChatML as template. Nothing that it says makes
sense, but everything that a server does with a model can be done with it, in a hundredth of the time.
"""
import numpy as np
from gguf import GGUFWriter

CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
MERGES = ["t h", "th e", "Ġ t", "Ġ a", "i n", "o n", "r e", "e r", "Ġt h", "Ġth e", "a t", "e n", "Ġ o", "Ġo f", "a n", "an d"]
CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
WIDTH, FEED, HEADS, LAYERS = 64, 96, 4, 2


def byte_letters():
    """The letters by which byte-level vocabularies write the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in kept]
    return [chr(b) if b in kept else chr(256 + others.index(b)) for b in range(256)]


def make(path, ctx=4096, seed=1, broken=False):
    """broken: it loads, and its first token is not a number, which fails every request."""
    r = np.random.default_rng(seed)
    tokens = byte_letters() + [m.replace(" ", "") for m in MERGES] + CONTROL
    w = GGUFWriter(path, "llama")
    w.add_name("tiny")
    w.add_context_length(ctx)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(FEED)
    w.add_head_count(HEADS)
    w.add_head_count_kv(HEADS // 2)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(len(tokens))
    w.add_rope_freq_base(10000.0)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([1] * (len(tokens) - len(CONTROL)) + [3] * len(CONTROL))
    w.add_token_merges(MERGES)
    w.add_bos_token_id(len(tokens) - 1)
    w.add_eos_token_id(len(tokens) - 2)
    w.add_add_bos_token(False)
    w.add_chat_template(CHATML)

    def matrix(name, rows, columns, gain=1.5):
        w.add_tensor(name, (r.standard_normal((rows, columns)) * gain / np.sqrt(columns)).astype(np.float32))
    matrix("token_embd.weight", len(tokens), WIDTH, 8)
    for i in range(LAYERS):
        for name, rows, columns in (("attn_q", WIDTH, WIDTH), ("attn_k", WIDTH // 2, WIDTH), ("attn_v", WIDTH // 2, WIDTH),
                                    ("attn_output", WIDTH, WIDTH), ("ffn_gate", FEED, WIDTH), ("ffn_up", FEED, WIDTH),
                                    ("ffn_down", WIDTH, FEED)):
            matrix(f"blk.{i}.{name}.weight", rows, columns)
        for name in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{name}.weight", r.uniform(0.5, 1.5, WIDTH).astype(np.float32))
    norm = r.uniform(0.5, 1.5, WIDTH).astype(np.float32)
    w.add_tensor("output_norm.weight", norm * np.nan if broken else norm)
    matrix("output.weight", len(tokens), WIDTH, 3)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path
