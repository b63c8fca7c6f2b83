"""Byte-level BPE against the tokenizers package: for every pre-tokenizer that Serin knows, the family's published
form run by that package, on the same small vocabulary."""
import os
import random
import re
import subprocess

import pytest
import tokens
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Punctuation, Split

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + SIGNS + TAIL
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + SIGNS + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(after, number, upper=UPPER, lower=LOWER, signs=r"[\r\n/]*"):
    return (rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{after}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{after}|{number}"
            rf"| ?[^\s\p{{L}}\p{{N}}]+{signs}" + TAIL)


O200K = cased(CONTRACTION + "?", r"\p{N}{1,3}")
KIMI = r"[\p{Han}]+|" + cased(CONTRACTION + "?", r"\p{N}{1,3}", UPPER[:-1] + r"&&[^\p{Han}]]",
                              LOWER[:-1] + r"&&[^\p{Han}]]", r"[\r\n]*")
DEEPSEEK3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
             r"""| ?[\p{P}\p{S}]+[\r\n]*""" + TAIL)
KANA, WIDE = "[一-龥\u3040-ゟ゠-ヿ]+", "[一-龥\u0800-一가-\ud7ff]+".replace("\ud7ff", "\\x{D7FF}")
DEEPSEEK_LETTERS = (
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7d"
    "ᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿ"
    "ﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+")
TEXTS = int(os.environ.get("SERIN_TEST_TEXTS", "1000"))  # per pre-tokenizer
DEEPSEEK_SIGNS = "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+"
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def cut(*regexes):
    return [Split(Regex(r), "isolated") for r in regexes]


GPT2 = [ByteLevel(add_prefix_space=False, use_regex=True)]
DIGITS_GPT2 = [Digits(individual_digits=True), *GPT2]

# The published pre-tokenizers, without the ByteLevel(use_regex=False) that ends most.
PUBLISHED = {
    "gpt-2": GPT2, "starcoder": DIGITS_GPT2, "llama-bpe": cut(LLAMA3), "qwen2": cut(QWEN2), "gpt-4o": cut(O200K),
    "qwen35": cut(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL),
    "tekken": cut(cased("", r"\p{N}")),
    "kimi-k2": cut(KIMI),
    "deepseek-llm": [*cut(r"[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, r"\s+$", WIDE), Digits(individual_digits=True)],
    "deepseek-coder": [*cut(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", WIDE), Digits(individual_digits=True)],
    "deepseek-v3": cut(r"\p{N}{1,3}", KANA, DEEPSEEK3),
    "falcon": [Punctuation("contiguous"), *GPT2, Digits(individual_digits=False), *cut("[0-9][0-9][0-9]")],
    "bloom": cut(BLOOM),
    "viking": [*cut(BLOOM), Digits(individual_digits=True)],
    "bailingmoe": cut(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
                      r"|\s+(?!\S)|\s+"),
    "seed-coder": cut(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}" + "\r\n" + r"]+" + TAIL),
    "exaone-moe": cut(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
                      r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"),
    "tiny_aya": cut(r"\d{1,3}(?=(?:\d{3})*\b)", O200K),
    "superbpe": cut(r"\p{N}+", r"(?=(\d{3})+(?!\d))"),
    "jais-2": cut(CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + SIGNS + r"|\s*[\r\n]+"
                  + "".join(rf"|\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"),
    "youtu": cut("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" + KANA, cased(CONTRACTION + "?", r"\p{N}")),
    "spark2_5": cut(r"\p{N}{1,3}", KANA, DEEPSEEK3.replace(TAIL, "").replace(r"[\r\n]*", "") + r"|[\r\n]|\s+(?!\S)|\s+",
                    r"\p{N}"),
    "minicpm5": cut(r"\p{N}{1,3}", CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+" + SIGNS + TAIL),
    "laguna": cut(r"[^\n]+|[\n]+", QWEN2),
    "ufakzeka": cut(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + SIGNS + TAIL),
    "chameleon": [*cut("<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )"),
                  Digits(individual_digits=True), Punctuation("isolated"), *GPT2],
    # No family's own: the rule for files that name none.
    "default": [Punctuation("contiguous"), *cut(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
                                                r"|\s+(?!\S)|\s+", r"\p{N}+", "[0-9][0-9][0-9]")],
}
SAME_AS = {
    "gpt-2": "a.x-4.0 exaone4 gigachat granite-docling jais jina-de jina-es jina-v1-en jina-v2-code jina-v2-de "
             "jina-v2-es mellum modern-bert mpt olmo phi-2 roberta-bpe trillion",
    "starcoder": "codeshell command-r exaone mellum2 minerva-7b refact smollm",
    "llama-bpe": "falcon-h1 falcon3 jina-v5-nano lfm2 llama-v3 llama3 midm-2.0 pixtral chatglm-bpe dbrx glm4 smaug-bpe",
    "qwen2": "deepseek-r1-qwen f2llmv2 grok-2 hunyuan kormo megrez solar-open stablelm2",
    "gpt-4o": "granite-embed-multi-97m kanana2 llama4 minimax-m2 talkie",
    "deepseek-v3": "hunyuan-dense hy_v4 joyai-llm",
    "bloom": "gpt3-finnish poro-chat",
    "bailingmoe": "bailingmoe2 llada-moe",
    "tiny_aya": "cohere2moe",
}
# Over characters and not over bytes (test_tokens_raw), and one whose digit rule no public form states.
ELSEWHERE = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "afmoe"}
ADDS_BOS = set("llama-bpe falcon-h1 falcon3 jina-v5-nano lfm2 llama-v3 llama3 midm-2.0 pixtral tekken chameleon".split())
WHOLE_WORDS = ADDS_BOS - {"chameleon"} | {"youtu", "minicpm5", "granite-embed-multi-97m"}
SPEC = PUBLISHED | {name: PUBLISHED[like] for like, names in SAME_AS.items() for name in names.split()}


@pytest.fixture(scope="module")
def trained():
    """(vocabulary, merges) of 1,500 byte-level tokens, learnt across word borders too so that cuts matter."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([*cut(r"\s*\S+\s*\S*"), ByteLevel(add_prefix_space=False, use_regex=False)])
    t.train_from_iterator([tokens.CORPUS] * 2, trainers.BpeTrainer(
        vocab_size=1500, show_progress=False, initial_alphabet=ByteLevel.alphabet(), min_frequency=1))
    vocab = t.get_vocab()
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in
              __import__("json").loads(t.to_str())["model"]["merges"]]
    return vocab, merges


def reference(trained, name):
    vocab, merges = trained
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=name in WHOLE_WORDS))
    spec = SPEC[name]
    if not any(isinstance(p, ByteLevel) for p in spec):
        spec = [*spec, ByteLevel(add_prefix_space=False, use_regex=False)]
    t.pre_tokenizer = pre_tokenizers.Sequence(spec)
    t.decoder = decoders.ByteLevel()
    return t


def write(path, trained, name, **keys):
    vocab, merges = trained
    names = sorted(vocab, key=vocab.get)
    types = [tokens.NORMAL] * len(names)
    for text, kind in keys.pop("extra", []):
        names.append(text)
        types.append(kind)
    return tokens.write_vocab(path, "gpt2", names, pre=name, types=types, merges=[" ".join(m) for m in merges], **keys)


def known_names(path, trained):
    done = subprocess.run([tokens.SERIN, "tokenize", write(path, trained, "no-such"), "--text", "x"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "the pre-tokenizer 'no-such' is unknown" in done.stderr
    return re.search(r"known: (.*)", done.stderr).group(1).split()


def test_every_known_pre_tokenizer_has_its_published_form_here(tmp_path, trained):
    assert set(known_names(tmp_path / "v.gguf", trained)) == set(SPEC) | ELSEWHERE


@pytest.mark.parametrize("name", sorted(SPEC))
def test_ids_equal_those_of_the_published_form(name, tmp_path, trained):
    model = write(tmp_path / "v.gguf", trained, name)
    ref = reference(trained, name)
    n = TEXTS if name in PUBLISHED else 60
    items = tokens.texts(n) + ["", tokens.CORPUS, " " * 40, "\n" * 9, "a" * 300, "12345678" * 9, "Ab" * 50, "'LL'd"]
    want = [e.ids for e in ref.encode_batch(items, add_special_tokens=False)]
    assert tokens.first_difference(items, tokens.encode(model, items), want) is None


def test_detokenizing_gives_back_any_valid_text(tmp_path, trained):
    model = write(tmp_path / "v.gguf", trained, "llama-bpe")
    items = tokens.texts(3000, tokens.SEED + 1)
    back = tokens.decode(model, tokens.encode(model, items))
    assert tokens.first_difference(items, back, [t.encode() for t in items]) is None


def test_malformed_bytes_are_tokenized_one_by_one_and_shown_as_replacement_characters(tmp_path, trained):
    model = write(tmp_path / "v.gguf", trained, "qwen2")
    rng = random.Random(tokens.SEED)
    items = [b"".join(rng.choice([bytes([rng.randrange(256)]), tokens.text(rng, 2).encode(), b"\xf0\x9f", b"\xed\xa0\x80"])
                      for _ in range(rng.randint(1, 8))) for _ in range(1500)]
    items += [b"\xff", b"a\x80b", b"\xe2\x82", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x28\xa1"]
    back = tokens.decode(model, tokens.encode(model, items))
    want = [t.decode("utf-8", "replace").encode() for t in items]
    assert tokens.first_difference(items, back, want) is None


def test_any_split_into_untrusted_spans_gives_the_same_ids(tmp_path, trained):
    extra = [("<|im_end|>", tokens.CONTROL), ("<tool>", tokens.USER), ("  ", tokens.USER)]
    model = write(tmp_path / "v.gguf", trained, "deepseek-v3", extra=extra)
    rng = random.Random(tokens.SEED)
    items = [t + rng.choice(["", "<tool>", "<|im_end|>"]) + tokens.text(rng, 3) for t in tokens.texts(1500)]
    split = []
    for item in items:
        data = item.encode()
        at = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(1, 9)))
        split.append([(data[i:j], False) for i, j in zip([0, *at], [*at, len(data)])])
    assert tokens.first_difference(items, tokens.encode(model, split), tokens.encode(model, items)) is None


@pytest.fixture
def special(tmp_path, trained):
    extra = [("<|im_start|>", tokens.CONTROL), ("<|im_end|>", tokens.CONTROL), ("<|im_end|>!", tokens.CONTROL),
             ("<tool>", tokens.USER), ("<|soft|>", tokens.USER), ("the", tokens.CONTROL)]
    n = len(trained[0])
    keys = {"bos_token_id": n, "eos_token_id": n + 1, "add_bos_token": True}
    return write(tmp_path / "v.gguf", trained, "llama-bpe", extra=extra, **keys), n


def test_control_tokens_come_only_from_trusted_spans(special):
    model, n = special
    for word, id in [("<|im_start|>", n), ("<|im_end|>", n + 1), ("<|im_end|>!", n + 2), ("<|soft|>", n + 4)]:
        assert tokens.encode(model, [word], trusted=True) == [[id]]
        assert all(i < n for i in tokens.encode(model, [word])[0])
    # Not even where trusted text begins what a user's text ends, or the other way round.
    for spans in ([("<|im_", True), ("end|>", False)], [("<|im_", False), ("end|>", True)],
                  [("<|im_end|", False), (">", True)], [("a<|im_end", True), ("|", False), (">", True)]):
        assert all(i < n for i in tokens.encode(model, [spans])[0]), spans
    assert tokens.encode(model, [[("<|im_", True), ("", False), ("end|>", True)]]) == [[n + 1]]
    assert tokens.encode(model, [[("x<|im_end|>", False), ("<|im_end|>", True), ("!", False)]])[0][-2:].count(n + 1) == 1


def test_user_defined_tokens_come_from_every_span(special):
    model, n = special
    for spans in ([("<tool>", False)], [("<tool>", True)], [("<to", True), ("ol>", False)]):
        assert tokens.encode(model, [spans]) == [[n + 3]], spans


def test_a_control_token_is_never_reached_by_merges_or_as_a_whole_word(special):
    model, n = special
    assert all(i < n for i in tokens.encode(model, ["the"])[0])
    assert tokens.decode(model, tokens.encode(model, ["the"])) == [b"the"]


def test_bos_and_eos_are_added_as_the_file_and_the_caller_ask(special, tmp_path, trained):
    model, n = special
    a = tokens.encode(model, ["a"])[0]
    assert tokens.encode(model, ["a"], flags=0) == [[n, *a]]
    assert tokens.encode(model, ["<|im_start|>a"], flags=0, trusted=True) == [[n, *a]]  # the template wrote it
    assert tokens.encode(model, ["<|im_start|><|im_start|>"], flags=0, trusted=True) == [[n, n]]
    assert tokens.encode(model, ["<|im_start|>a"], flags=0)[0][0] == n
    assert tokens.encode(model, [""], flags=0) == [[n]]
    assert tokens.encode(model, [""]) == [[]]
    assert tokens.encode(model, ["a"], flags=tokens.NO_BOS | tokens.FORCE_BOS) == [[n, *a]]
    extra = [("<|im_start|>", tokens.CONTROL), ("<|im_end|>", tokens.CONTROL)]
    both = write(tmp_path / "w.gguf", trained, "gpt-2", extra=extra, bos_token_id=n, eos_token_id=n + 1, add_eos_token=True)
    assert tokens.encode(both, ["a"], flags=0) == [[*a, n + 1]]
    assert tokens.encode(both, ["a<|im_end|>"], flags=0, trusted=True) == [[*a, n + 1]]
    assert tokens.encode(both, ["a"]) == [a]
    none = write(tmp_path / "x.gguf", trained, "gpt-2")
    assert tokens.ask(none, [f"t {tokens.FORCE_BOS} -61"])[0].startswith("! EINVAL")


@pytest.mark.parametrize("name", sorted(ADDS_BOS | {"gpt-2", "qwen2"}))
def test_families_that_start_with_bos_do_so_without_being_told(name, tmp_path, trained):
    model = write(tmp_path / "v.gguf", trained, name, extra=[("<s>", tokens.CONTROL)], bos_token_id=len(trained[0]))
    assert (tokens.encode(model, ["a"], flags=0)[0][0] == len(trained[0])) == (name in ADDS_BOS)


@pytest.mark.slow  # 324 texts of one letter: about time, not about memory
@pytest.mark.parametrize("name", sorted(PUBLISHED))
@pytest.mark.parametrize("unit", ["a", "A", " ", "1", ".", "\n", "中", "a ", "é", "\u0301", "a1", " \n"])
def test_work_grows_near_linearly_with_the_text(name, unit, tmp_path, trained):
    """Counted in steps of the merge loop and the cutter, not in seconds; the run ends in a word character."""
    model = write(tmp_path / "v.gguf", trained, name)
    few, many = (tokens.steps(model, unit * n + "b") for n in (1000, 16000))
    assert many < 16 * few * 2, (few, many)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "A", " ", "1", "中", "\u0301"])
def test_a_megabyte_of_one_letter_is_tokenized(unit, tmp_path, trained):
    item = unit * ((1 << 20) // len(unit.encode())) + "b"
    for name in ("gpt-4o", "deepseek-llm", "tiny_aya", "exaone-moe", "default"):
        model = write(tmp_path / "v.gguf", trained, name)
        ids = tokens.encode(model, [item])
        assert tokens.decode(model, ids) == [item.encode()]


def test_bytes_without_a_token_are_left_out_and_stray_ones_replaced(tmp_path, trained):
    vocab, merges = trained
    names = [t for t in sorted(vocab, key=vocab.get)]
    lost = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("\x03")[0][0]
    names[vocab[lost]] = "<lost>"
    model = tokens.write_vocab(tmp_path / "v.gguf", "gpt2", names, pre="gpt-2",
                               merges=[" ".join(m) for m in merges if lost not in m[0] + m[1]])
    assert tokens.decode(model, tokens.encode(model, ["a\x03b"])) == [b"ab"]
    stray = [t for t in names]
    stray[vocab["ÿ"]] = "<stray>"
    model = tokens.write_vocab(tmp_path / "w.gguf", "gpt2", stray, pre="gpt-2", merges=[" ".join(m) for m in merges])
    assert tokens.decode(model, tokens.encode(model, [b"a\xffb"])) == ["a\ufffdb".encode()]
