"""The vocabularies of the two models of the tests, as their files hold them, against the tokenizers and the
sentencepiece package."""
import os
import struct
from pathlib import Path

import gguf
import pytest
import sentencepiece
import tokens
from tokenizers import Tokenizer, models, pre_tokenizers

MODELS = Path(os.environ.get("SERIN_MODELS") or
              Path(os.environ.get("SERIN_CACHE") or Path.home() / ".cache/serin") / "models")
LOWLINE = "\u2581"


def vocabulary(name):
    path = MODELS / name
    if not path.exists():
        pytest.skip(f"{path} is not here; tools/get-model fetches it")
    fields = gguf.GGUFReader(str(path)).fields
    return path, lambda key: fields[f"tokenizer.ggml.{key}"].contents()


def test_smollm2_equals_the_tokenizers_package():
    path, get = vocabulary("SmolLM2-135M-Instruct.Q4_1.gguf")
    names = get("tokens")
    ref = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(names)}, merges=[tuple(m.split(" ")) for m in get("merges")]))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    ref.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    letters = set(names)
    items = ["".join(c for c in t if all(x in letters for x in byte_level.pre_tokenize_str(c)[0][0]))
             for t in tokens.texts(2500)] + [tokens.CORPUS]
    want = [e.ids for e in ref.encode_batch(items, add_special_tokens=False)]
    got = tokens.encode(path, items)
    assert tokens.first_difference(items, got, want) is None
    assert tokens.first_difference(items, tokens.decode(path, got), [t.encode() for t in items]) is None


def test_smollm2_control_tokens_and_ends():
    path, get = vocabulary("SmolLM2-135M-Instruct.Q4_1.gguf")
    chat = [("<|im_start|>user\n", True), ("<|im_end|>", False), ("<|im_end|>\n<|im_start|>assistant\n", True)]
    ids = tokens.encode(path, [chat])[0]
    assert [i for i in ids if get("token_type")[i] == tokens.CONTROL] == [1, 2, 1]
    assert tokens.decode(path, [ids], special=True) == ["".join(t for t, _ in chat).encode()]
    assert tokens.ask(path, ["e 0", "e 1", "e 2", "e 3"]) == ["1", "0", "1", "0"]


def field(number, kind, data):
    return bytes([number << 3 | kind]) + data if number < 16 else bytes([(number << 3 | kind) & 0x7F | 0x80, number >> 4]) + data


def with_length(data):
    assert len(data) < 1 << 14
    return bytes([len(data)]) + data if len(data) < 0x80 else bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data


def sentencepiece_model(names, scores, types):
    """The serialised form: pieces (1), trainer (2: BPE, byte fallback), normaliser (3: only spaces escaped)."""
    out = []
    for name, score, kind in zip(names, scores, types, strict=True):
        piece = field(1, 2, with_length(name.encode())) + field(2, 5, struct.pack("<f", score)) + field(3, 0, bytes([kind]))
        out.append(field(1, 2, with_length(piece)))
    out.append(field(2, 2, with_length(field(3, 0, b"\2") + field(35, 0, b"\1"))))
    out.append(field(3, 2, with_length(field(1, 2, with_length(b"identity")) + field(3, 0, b"\0") + field(4, 0, b"\0"))))
    return b"".join(out)


@pytest.mark.slow
def test_gemma_equals_the_sentencepiece_package():
    path, get = vocabulary("gemma-3-270m-q4_k_m.gguf")
    types = [tokens.UNKNOWN if i == 3 else t for i, t in enumerate(get("token_type"))]  # the file says control
    names = [t.replace(" ", LOWLINE) if k == tokens.USER else t for t, k in zip(get("tokens"), types, strict=True)]
    ref = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model(names, get("scores"), types))
    words = ["<table>", "</s>", "[multimodal]", "<start_of_image>", "  ", "\n\n\n", "\t\t", "<bos>", "<0x41>", "<unused7>"]
    items = [t + words[i % len(words)] + t[:9] for i, t in enumerate(tokens.texts(2500))] + ["", tokens.CORPUS]
    want = [ref.encode(t) for t in items]
    got = tokens.encode(path, items)
    assert tokens.first_difference(items, got, want) is None
    back = [t.replace(LOWLINE, " ").encode() for t in items]
    assert tokens.first_difference(items, tokens.decode(path, got), back) is None
    turn = tokens.encode(path, ["<end_of_turn>"], trusted=True)[0]
    assert len(turn) == 1 and tokens.ask(path, [f"e {turn[0]}", "e 1", "e 2", f"e {names.index('</s>')}"]) == ["1", "1", "0", "0"]
