"""SentencePiece against the sentencepiece package, WordPiece against the tokenizers package, BPE over characters
against the tokenizers package; each with a vocabulary learnt here."""
import io
import random
import unicodedata

import pytest
import sentencepiece
import tokens
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

LOWLINE = "\u2581"


def train_sentencepiece(**more):
    out = io.BytesIO()
    options = dict(sentence_iterator=iter(tokens.CORPUS.splitlines()), model_writer=out, vocab_size=700,
                   model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                   remove_extra_whitespaces=False, add_dummy_prefix=True, minloglevel=2, character_coverage=0.98,
                   user_defined_symbols=["<tool>", "[sep]", LOWLINE * 3], control_symbols=["<ctl>"],
                   max_sentence_length=100000, num_threads=1, split_by_unicode_script=False, split_by_number=False)
    sentencepiece.SentencePieceTrainer.train(**(options | more))
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


def write_sentencepiece(path, sp, **keys):
    n = sp.get_piece_size()
    names = [sp.id_to_piece(i) for i in range(n)]
    types = [tokens.UNKNOWN if sp.is_unknown(i) else tokens.CONTROL if sp.is_control(i) else tokens.BYTE if sp.is_byte(i)
             else tokens.UNUSED if sp.is_unused(i)
             else tokens.USER if names[i] in ("<tool>", "[sep]", LOWLINE * 3) else tokens.NORMAL for i in range(n)]
    ids = {"bos_token_id": sp.bos_id(), "eos_token_id": sp.eos_id(), "unknown_token_id": sp.unk_id()}
    return tokens.write_vocab(path, "llama", names, types=types, scores=[sp.get_score(i) for i in range(n)], **(ids | keys))


def words(n, extra=("<tool>", "[sep]", "   ", "<ctl>", "<0x41>", "<unk>", "<s>"), seed=tokens.SEED):
    rng = random.Random(seed)
    return ["".join(rng.choice(["", "", *extra]) + tokens.text(rng, 6) for _ in range(rng.randint(1, 3))) for _ in range(n)]


@pytest.fixture(scope="module")
def sp():
    return train_sentencepiece()


def same(sp, model, items):
    want = [sp.encode(t) for t in items]
    return tokens.first_difference(items, tokens.encode(model, items), want)


def test_ids_equal_sentencepiece_with_byte_fallback(sp, tmp_path):
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    assert same(sp, model, words(4000) + ["", "a", "aaaa" * 50, "中" * 20, "[sep]a", "[[sep]sep]"]) is None


def test_ids_equal_sentencepiece_without_a_space_in_front(tmp_path):
    sp = train_sentencepiece(add_dummy_prefix=False)
    model = write_sentencepiece(tmp_path / "v.gguf", sp, add_space_prefix=False)
    assert same(sp, model, words(2000) + ["", " a", "  a"]) is None


def test_ids_equal_sentencepiece_with_unknown_characters(tmp_path):
    sp = train_sentencepiece(byte_fallback=False)
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    items = words(2000) + ["\u0f40\u0f41", "a\u0f40b"]
    assert any(sp.unk_id() in sp.encode(t) for t in items)
    assert same(sp, model, items) is None


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def retyped(proto, ids, kind):
    """A serialised model whose pieces `ids` have another type: field 3 of each message in the model's field 1."""
    out, at, piece = b"", 0, 0
    while at < len(proto):
        start = at
        tag, at = varint(proto, at)
        size, at = varint(proto, at) if tag & 7 == 2 else (4 if tag & 7 == 5 else 0, at)
        if tag & 7 == 0:
            _, at = varint(proto, at)
        body, at = proto[at:at + size], at + size
        if tag == 0x0A:
            if piece in ids:  # the last value of a field counts
                body += bytes([0x18, kind])
                assert len(body) < 0x80
                out += bytes([0x0A, len(body)]) + body
            else:
                out += proto[start:at]
            piece += 1
        else:
            out += proto[start:at]
    return out


def test_unused_tokens_fall_apart_as_in_sentencepiece(sp, tmp_path):
    """Unused pieces merge on the way to longer ones, but are never given out."""
    rng = random.Random(tokens.SEED)
    long = [i for i in range(sp.get_piece_size()) if len(sp.id_to_piece(i)) > 1 and not sp.is_byte(i) and i > 6]
    unused = set(rng.sample(long, len(long) // 3))
    part = sentencepiece.SentencePieceProcessor(model_proto=retyped(sp.serialized_model_proto(), unused, tokens.UNUSED))
    assert {i for i in range(part.get_piece_size()) if part.is_unused(i)} == unused
    model = write_sentencepiece(tmp_path / "v.gguf", part)
    items = words(2000)
    assert sum(part.encode(t) != sp.encode(t) for t in items) > 100
    assert same(part, model, items) is None


def test_sentencepiece_text_comes_back(sp, tmp_path):
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    items = [t.replace(LOWLINE, "") for t in words(2000)]
    assert tokens.first_difference(items, tokens.decode(model, tokens.encode(model, items)), [t.encode() for t in items]) is None


def test_a_control_token_parts_texts_and_each_gets_its_space(sp, tmp_path):
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    ctl = sp.piece_to_id("<ctl>")
    assert tokens.encode(model, ["a<ctl>b"], trusted=True) == [[*sp.encode("a"), ctl, *sp.encode("b")]]
    assert tokens.encode(model, ["a<ctl>b"]) == [sp.encode("a<ctl>b")]
    assert tokens.decode(model, [[*sp.encode("a"), ctl, *sp.encode("b")]], special=True) == [b"a<ctl>b"]
    assert tokens.encode(model, ["a"], flags=0) == [[sp.bos_id(), *sp.encode("a")]]  # without being told


def test_any_split_into_untrusted_spans_gives_the_same_ids(sp, tmp_path):
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    rng = random.Random(tokens.SEED)
    items, split = words(1000), []
    for item in items:
        data = item.encode()
        at = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 9)))
        split.append([(data[i:j], False) for i, j in zip([0, *at], [*at, len(data)])])
    assert tokens.first_difference(items, tokens.encode(model, split), tokens.encode(model, items)) is None


@pytest.mark.parametrize("unit", ["a", " ", "中", "the ", "<", "\n"])
def test_sentencepiece_work_grows_near_linearly_with_the_text(unit, sp, tmp_path):
    model = write_sentencepiece(tmp_path / "v.gguf", sp)
    few, many = (tokens.steps(model, unit * n + "b") for n in (1000, 16000))
    assert many < 16 * few * 2, (few, many)


# ---- BPE over characters, as in Gemma's later files ----

def test_character_bpe_equals_the_tokenizers_package(tmp_path):
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    trained.normalizer = normalizers.Replace(" ", LOWLINE)
    trained.train_from_iterator([tokens.CORPUS.replace("\n", " ")] * 2, trainers.BpeTrainer(
        vocab_size=1200, show_progress=False, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *bytes_],
        limit_alphabet=300))
    import json
    model = json.loads(trained.to_str())["model"]
    ref = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], byte_fallback=True,
                               unk_token="<unk>", fuse_unk=True))
    ref.normalizer = normalizers.Replace(" ", LOWLINE)
    names = sorted(model["vocab"], key=model["vocab"].get)
    types = [tokens.CONTROL] * 4 + [tokens.BYTE] * 256 + [tokens.NORMAL] * (len(names) - 260)
    path = tokens.write_vocab(tmp_path / "v.gguf", "gemma4", names, types=types, bos_token_id=2, eos_token_id=1,
                              merges=[" ".join(m) for m in model["merges"]])
    items = [t for t in tokens.texts(3000) if LOWLINE not in t]
    want = [e.ids for e in ref.encode_batch(items, add_special_tokens=False)]
    got = tokens.encode(path, items)
    assert tokens.first_difference(items, got, want) is None
    assert tokens.first_difference(items, tokens.decode(path, got), [t.encode() for t in items]) is None
    assert tokens.encode(path, ["a"], flags=0)[0][0] == 2


# ---- WordPiece ----

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(lowercase, strip_accents=None):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator([tokens.CORPUS], trainers.WordPieceTrainer(vocab_size=900, special_tokens=SPECIAL,
                                                                     show_progress=False, limit_alphabet=260))
    return t


def write_wordpiece(path, t, **keys):
    """As GGUF has it: pieces that go on a word bare, those that begin one with U+2581 in front."""
    vocab = t.get_vocab()
    names = [n if n in SPECIAL else n[2:] if n.startswith("##") else LOWLINE + n for n in sorted(vocab, key=vocab.get)]
    types = [tokens.CONTROL if n in SPECIAL else tokens.NORMAL for n in names]
    return tokens.write_vocab(path, "bert", names, types=types, bos_token_id=2, seperator_token_id=3, unknown_token_id=1,
                              padding_token_id=0, **keys)


def long_known(text):
    """Without characters that are newer than the reference's tables of punctuation and marks."""
    return "".join(c if unicodedata.ucd_3_2_0.category(c) != "Cn" else "x" for c in text)


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_equal_the_tokenizers_package_for_wordpiece(lowercase, tmp_path):
    t = wordpiece(lowercase)
    keys = {} if lowercase else {"normalizer.lowercase": False}
    model = write_wordpiece(tmp_path / "v.gguf", t, **keys)
    items = [long_known(x) for x in tokens.texts(3000)] + ["", "a" * 100, "a" * 101, "\ufffdab", "unaffable", "ÀÉÎ", "a\u00adb", "中a文"]
    want = [e.ids for e in t.encode_batch(items, add_special_tokens=False)]
    assert any(1 in w for w in want) and any(len(w) > 9 and 1 not in w for w in want)
    assert tokens.first_difference(items, tokens.encode(model, items), want) is None


def test_wordpiece_wraps_a_text_in_cls_and_sep(tmp_path):
    t = wordpiece(True)
    model = write_wordpiece(tmp_path / "v.gguf", t)
    fox = t.encode("fox", add_special_tokens=False).ids
    assert tokens.encode(model, ["fox"], flags=0) == [[2, *fox, 3]]
    assert tokens.encode(model, ["[CLS]fox[SEP]"], flags=0, trusted=True) == [[2, *fox, 3]]
    assert 2 not in tokens.encode(model, ["[CLS]"])[0]
    assert tokens.decode(model, tokens.encode(model, ["The quick Brown fox"])) == [b"the quick brown fox"]
