"""serin constrain: patterns against Python's re, GBNF grammars, errors, and the figures, on a real vocabulary where
there is one and on a small one of bytes everywhere."""
import json
import os
import random
import re
import subprocess
import unicodedata
from pathlib import Path

import pytest
import tokens

MODELS = Path(os.environ.get("SERIN_CACHE", Path.home() / ".cache/serin")) / "models"
SMOL = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A byte-level vocabulary: every byte, and some pairs."""
    letters = [chr(b) if 33 <= b < 127 or 161 <= b < 173 or 174 <= b < 256 else None for b in range(256)]
    spare = iter(range(256, 512))
    letters = [c or chr(next(spare)) for c in letters]
    pairs = [a + b for a in "ab01" for b in "ab01"]
    names = letters + pairs + ["<|im_end|>"]
    types = [tokens.NORMAL] * (len(names) - 1) + [tokens.CONTROL]
    path = tmp_path_factory.mktemp("constrain") / "v.gguf"
    return tokens.write_vocab(path, "gpt2", names, pre="gpt-2", types=types, merges=[f"{p[0]} {p[1]}" for p in pairs],
                              bos_token_id=len(names) - 1, eos_token_id=len(names) - 1)


def serin(*args, text=None, code=0):
    done = subprocess.run([tokens.SERIN, "constrain", *map(str, args)], input=text, capture_output=True)
    assert done.returncode == code, (args, text, done.returncode, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode() if code < 2 else done.stderr.decode()


def accepts(model, *constraint, text):
    done = subprocess.run([tokens.SERIN, "constrain", *map(str, constraint), "-m", str(model), "--accepts", "-", "--json"],
                          input=text, capture_output=True)
    assert done.returncode in (0, 1), done.stderr.decode()
    out = json.loads(done.stdout)
    assert out["accepted"] == (done.returncode == 0)
    return out


# ---- patterns ----

def pattern(rng, depth=3):
    kind = rng.random()
    if depth == 0 or kind < 0.3:
        return rng.choice(["a", "b", "0", "ab", ".", r"\d", r"\w", r"\s", "[ab]", "[^a]", "[a-c0]", r"\D", r"[^\d]", r"\.", "",
                           "é", r"\x61", r"\u0062", r"[\]a]", r"[\w-]"])
    if kind < 0.55:
        return pattern(rng, depth - 1) + pattern(rng, depth - 1)
    if kind < 0.75:
        return f"({'?:' * rng.randint(0, 1)}{pattern(rng, depth - 1)}|{pattern(rng, depth - 1)})"
    count = rng.choice(["*", "+", "?", "{2}", "{1,3}", "{0,30}", "{2,}", "*?", "+?", "{3,40}?"])
    return f"({pattern(rng, depth - 1)}){count}"


def text_for(rng):
    return "".join(rng.choice("aaabbb00c. é-]\n") for _ in range(rng.randint(0, 8)))


def test_patterns_match_what_python_matches_as_a_whole(model, tmp_path):
    seed = tokens.SEED
    rng = random.Random(seed)
    seen = {True: 0, False: 0}
    while sum(seen.values()) < 200:
        p = pattern(rng)
        compiled = re.compile(p)
        texts = [text_for(rng) for _ in range(40)]
        for want in (True, False):
            text = next((t for t in texts if bool(compiled.fullmatch(t)) == want), None)
            # Python's \w and \D know letters and digits of Unicode, which are left out on purpose
            if text is None or (not text.isascii() and re.search(r"\\[wWdDsS]", p)):
                continue
            out = accepts(model, "--regex", p, text=text.encode())
            assert out["accepted"] == want, (seed, p, text, out)
            assert out["complete"] or not want
            seen[want] += 1
    assert min(seen.values()) > 60


def test_categories_are_unicode_s(model):
    rng = random.Random(tokens.SEED)
    points = [rng.randrange(0x20, 0x3000) for _ in range(60)] + [rng.randrange(0x3000, 0x110000) for _ in range(40)]
    points += [0x3FFFF, 0x40000, 0xE0001, 0xE01EF, 0xEFFFF, 0xF0000, 0xFFFFD, 0xFFFFF, 0x10FFFD, 0x10FFFF]
    for name in ("L", "Lu", "N", "P", "Zs", "Co", "Cn"):
        inside = [c for c in map(chr, points) if unicodedata.category(c).startswith(name)]
        outside = [c for c in map(chr, points) if not "\ud800" <= c <= "\udfff" and c not in inside]
        if name == "Cn":  # later versions of Unicode have more characters
            inside, outside = [c for c in inside if ord(c) in (0x3FFFF, 0x40000, 0xFFFFF, 0x10FFFF)], []
        for p, text in ((rf"\p{{{name}}}*", inside), (rf"\P{{{name}}}*", outside)):
            text = "".join(c for c in text if unicodedata.category(c) != "Cn" or name == "Cn")
            out = accepts(model, "--regex", p, text=text.encode())
            assert out["accepted"], (tokens.SEED, p, text[:out["accepted_bytes"] + 1])
            if text:
                other = p.replace(r"\P", r"\p") if r"\P" in p else p.replace(r"\p", r"\P")
                assert accepts(model, "--regex", other, text=text[:1].encode())["accepted_bytes"] < len(text[:1].encode())


def test_a_refusal_names_the_byte_and_what_could_have_come(model):
    out = serin("--regex", r"\d{4}-\d\d", "-m", model, "--accepts", "-", text=b"2024-x1", code=1)
    assert "byte 5 (line 1, column 6)" in out and '"x1"' in out and "0 to 9" in out
    out = serin("--regex", r"\d{4}-\d\d", "-m", model, "--accepts", "-", text=b"2024", code=1)
    assert "incomplete" in out and "could come: -" in out
    out = serin("--regex", "(ab)+", "-m", model, "--accepts", "-", text=b"abab\n", code=1)
    assert "byte 4" in out and "the end, a" in out and "without it" in out
    assert "accepted: 4 bytes, 2 tokens" in serin("--regex", "(ab)+", "-m", model, "--accepts", "-", text=b"abab")


# ---- grammars ----

JSON_GBNF = r'''
# JSON, as grammars for llama.cpp write it
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
    string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
'''
ARITHMETIC = r'''
root ::= (expr "=" term "\n")+
expr ::= expr [-+*/] term | term   # on the left
term ::= [0-9]+ | "(" expr ")" | .{0} [α-ω]
'''
CASES = [
    (JSON_GBNF, '{"a": [1, -2.5e+3, "x\\u00e9\\n", {"": null}], "é": true}', True),
    (JSON_GBNF, '{"a": [1, 2,]}', False),
    (JSON_GBNF, '{"a": 01}', False),
    (JSON_GBNF, '[1]', False),
    (JSON_GBNF, '{}', True),
    (ARITHMETIC, "1+2*(3-α)=ω\n5=6\n", True),
    (ARITHMETIC, "1+2*(3-α=ω\n", False),
    ('root ::= "a"{2} "b"{1,} "c"{0,2} "d"{,1}', "aabbbccd", True),
    ('root ::= "a"{2} "b"{1,} "c"{0,2}', "aab" + "c" * 3, False),
    ('root ::= a | b |\n  c # more\na ::= "x"\nb ::= "y"\n\nc ::= [^\\n"x-y] "\\""', 'z"', True),
    ('root ::= (\n  "a" # first\n  "b"\n) "\\x41\\u00e9"', "abAé", True),
    ('root ::=\n  "a"\n  | "b"\n', "b", True),
]


@pytest.mark.parametrize("grammar,text,want", CASES)
def test_grammars_let_through_their_language(model, tmp_path, grammar, text, want):
    path = tmp_path / "g.gbnf"
    path.write_text(grammar)
    assert accepts(model, "--gbnf", path, text=text.encode())["accepted"] == want


def test_errors_name_the_file_the_line_and_the_next_step(model, tmp_path):
    path = tmp_path / "g.gbnf"
    path.write_text('root ::= "a" b\n\nb ::= "c\n')
    err = serin("--gbnf", path, "-m", model, "--bench", code=2)
    assert str(path) in err and "line 3" in err and "not closed" in err
    path.write_text('root ::= "a" b\n\nc ::= "c"\n')
    assert "line 1: the rule 'b' is used but not defined" in serin("--gbnf", path, "-m", model, "--bench", code=2)
    assert "look-around" in serin("--regex", "a(?!b)", "-m", model, "--bench", code=2)
    assert "--model" in serin("--regex", "a", "--bench", code=2)
    assert "one of --schema" in serin("--regex", "a", "--gbnf", path, "-m", model, "--bench", code=2)
    assert "--accepts FILE" in serin("--regex", "a", "-m", model, code=2)
    path.write_text('{"a": }')
    assert "line 1, column" in serin("--schema", path, "-m", model, "--bench", code=2)


# ---- figures ----

def test_bench_gives_figures_that_fit_each_other(model, tmp_path):
    path = tmp_path / "g.gbnf"
    path.write_text(JSON_GBNF)
    out = json.loads(serin("--gbnf", path, "-m", model, "--bench", "--json", "-n", 200))
    mask = out["mask"]
    assert 0 < mask["p50_us"] <= mask["p99_us"] <= mask["max_us"] and mask["tokens"] == 200
    assert out["rules"] >= 7 and out["operations"] > 20 and 0 < out["state_bytes"] < 64 << 20
    walk = tmp_path / "walk.json"
    walk.write_text('{"a": [1, 2, {"b": "c"}]}')
    other = json.loads(serin("--gbnf", path, "-m", model, "--bench", "--walk", walk, "--json", "-n", 100))
    assert other["constraint_id"] == out["constraint_id"] and other["mask"]["texts"] > 1
    walk.write_text('{"a": oops}')
    assert "--accepts" in serin("--gbnf", path, "-m", model, "--bench", "--walk", walk, code=2)


@pytest.mark.skipif(not SMOL.exists(), reason="tools/get-model fetches it")
def test_a_real_vocabulary_s_tokens_follow_the_bytes(tmp_path):
    path = tmp_path / "g.gbnf"
    path.write_text(JSON_GBNF)
    for text, want in (('{"name": "Zoë 中文 😀", "list": [1, 2.5e10, true],\n  "deep": {"a": {"b": []}}}', True),
                       ('{"name": "x", }', False)):
        out = accepts(SMOL, "--gbnf", path, text=text.encode())
        assert out["accepted"] == want and out["accepted_tokens"] <= out["tokens"]
    out = json.loads(serin("--gbnf", path, "-m", SMOL, "--bench", "--json", "-n", 300))
    assert out["vocabulary"] == 49152
