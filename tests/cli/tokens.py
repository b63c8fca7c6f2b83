"""What the tokenizer tests share: vocabularies without tensors as GGUF files, questions to tokens_tool, and texts.

The functions under test are not exported from the library; tests/tools/tokens_main.c reaches them. SERIN_TOOLS names
the folder of such programs, by default the tests folder of the release build.
"""
import os
import random
import subprocess
from pathlib import Path

import gguf

TOOLS = Path(os.environ.get("SERIN_TOOLS", Path(__file__).parents[2] / "build/release/tests"))
SERIN = os.environ.get("SERIN", Path(__file__).parents[2] / "build/release/serin")
SEED = int(os.environ.get("SERIN_TEST_SEED", "20240607"))

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
NO_BOS, FORCE_BOS = 1, 2

# Enough of several scripts for merges to be learnt in each; written for these tests.
CORPUS = """The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it'll sleep until 7:30 or so.
We've measured 1234567 tokens in 3.14159 seconds: that's fast, isn't it? HTTPServer, camelCase, snake_case, CONSTANT.
def add(a, b):\n    return a + b\n\n\tfor i in range(10): print(f"{i}\\n")\n/* comment */ if (x != NULL) { y->z += 1; }
Der Zug fährt über die große Brücke; es wäre schön, müssten wir nicht so früh aufstehen. Weiße Straße.
Le garçon a mangé une crêpe à l'été, où l'œuvre était déjà là. El niño comió mañana. Ação, coração, informação.
Быстрая коричневая лиса прыгает через ленивую собаку. Привет, мир! Как дела сегодня? Хорошо, спасибо.
Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. Καλημέρα κόσμε.
敏捷的棕色狐狸跳过懒狗。今天天气很好，我们去公园散步吧！中文分词测试，数字１２３和标点。
素早い茶色の狐がのろまな犬を飛び越える。こんにちは世界。カタカナとひらがなのテスト。
빠른 갈색 여우가 게으른 개를 뛰어넘는다. 안녕하세요 세계. 오늘은 날씨가 좋습니다.
الثعلب البني السريع يقفز فوق الكلب الكسول. مرحبا بالعالم ١٢٣٤. השועל החום המהיר קופץ מעל הכלב העצלן.
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है। नमस्ते दुनिया १२३४। สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ
😀 😃 👨‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ ☀️ ∑∫√ ≤ ≥ ½ ² ³ € £ ¥ — – … “quotes” ‘single’ «guillemets»
""" + "    " * 12 + "\n\n\n" + "0123456789 " * 6 + "== != <= >= -> => :: ++ -- && || ... !!! ??? --- === ***\n"

BLOCKS = [(0x20, 0x7E)] * 8 + [
    (0x00, 0x1F), (0x7F, 0xA0), (0xA1, 0x24F), (0x250, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x556),
    (0x5D0, 0x5EA), (0x600, 0x6FF), (0x900, 0x97F), (0xE01, 0xE5B), (0x10A0, 0x10FF), (0x1100, 0x11FF),
    (0x13A0, 0x13F5), (0x1E00, 0x1EFF), (0x1F00, 0x1FFC), (0x2000, 0x206F), (0x20A0, 0x20C0), (0x2100, 0x218B),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2600, 0x27BF), (0x2E80, 0x2FD5), (0x3000, 0x30FF), (0x3105, 0x318E),
    (0x3400, 0x3480), (0x4E00, 0x9FFF), (0xA640, 0xA69D), (0xAC00, 0xD7A3), (0xF900, 0xFA6D), (0xFE00, 0xFE6F),
    (0xFF01, 0xFFEE), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x1F1E6, 0x1F1FF),
    (0x20000, 0x20100), (0x1F130, 0x1F189)]
WORDS = ["don't", "WE'LL", "I'Ve", "'s", "'S", "'ſ", "it’s", "the", " the", "  a", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n",
         " \n ", "\u3000", "\u00a0", "\u180e", "\u2028", "\u200b", "1", "12", "123", "1234", "12345", "1234567", "1,234.56",
         "²³", "½", "Ⅷ", "１２３４", "٣٤٥٦", "123abc", "12²", "HTTPServer", "camelCase", "naïve", "e\u0301", "İ", "ß",
         "日本語", "中文。", "한국어", "नमस्ते", "👨‍👩‍👧‍👦", "🇩🇪", "foo_bar", "x=1;", "//", "/", "-->", "...", "!!\n\n", "(a)", "{\"k\": [1]}",
         "<|x|>", "$9", "#!", "`code`", "^~", "<tag>", "…", "”", "IMGIMGABZ", "<sentinel:12>", "µ", "々〇", "ﾊﾟ", "ĀB", "aB"]


def text(rng, pieces=24):
    """Words and runs of many blocks, white space of every sort between."""
    out = []
    for _ in range(rng.randint(0, pieces)):
        kind = rng.random()
        if kind < 0.45:
            out.append(rng.choice(WORDS))
        elif kind < 0.55:
            out.append(rng.choice(" \n\t0aA中") * rng.randint(1, 20))
        else:
            low, high = rng.choice(BLOCKS)
            out.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 5))))
    return "".join(out)


def texts(n, seed=SEED):
    rng = random.Random(seed)
    return [text(rng) for _ in range(n)]


def write_vocab(path, model, tokens, *, pre=None, types=None, scores=None, merges=None, **keys):
    """A GGUF file with a vocabulary and no tensors; keys go under tokenizer.ggml."""
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_tokenizer_model(model)
    if pre is not None:
        w.add_tokenizer_pre(pre)
    w.add_token_list([t.encode() if isinstance(t, str) else t for t in tokens])
    if types is not None:
        w.add_token_types(types)
    if scores is not None:
        w.add_token_scores(scores)
    if merges is not None:
        w.add_token_merges(merges)
    for key, value in keys.items():
        key = "tokenizer.ggml." + key
        if isinstance(value, bool):
            w.add_bool(key, value)
        else:
            w.add_uint32(key, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def ask(model, questions):
    """The answers of tokens_tool to a list of lines."""
    exe = TOOLS / "tokens_tool"
    assert exe.exists(), f"{exe} is missing: build the tests, or set SERIN_TOOLS to the folder that has it"
    done = subprocess.run([exe, model], input="".join(q + "\n" for q in questions).encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(questions), done.stderr.decode()[-2000:]
    return lines


def span(data, trusted=False):
    return ("+" if trusted else "-") + (data.encode() if isinstance(data, str) else data).hex()


def encode(model, items, flags=NO_BOS, trusted=False):
    """Ids of each text; an item may also be a list of (text, trusted) spans."""
    lines = []
    for item in items:
        spans = [(item, trusted)] if isinstance(item, (str, bytes)) else item
        lines.append(f"t {flags} " + " ".join(span(*s) for s in spans))
    answers = ask(model, lines)
    assert not any(a.startswith("!") for a in answers), next(a for a in answers if a.startswith("!"))
    return [[int(x) for x in a.split(",")] if a else [] for a in answers]


def decode(model, ids, special=False):
    return [bytes.fromhex(a) for a in ask(model, [f"d {int(special)} {','.join(map(str, i))}" for i in ids])]


def steps(model, item):
    return int(ask(model, [f"s {NO_BOS} {span(item)}"])[0])


def first_difference(items, got, want):
    for item, g, x in zip(items, got, want, strict=True):
        if g != x:
            return f"seed {SEED}: {item!r}\n  got  {g}\n  want {x}"
    return None
