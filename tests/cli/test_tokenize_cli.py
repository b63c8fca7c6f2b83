"""serin tokenize and serin detokenize, as a person meets them. The vocabulary here has no tensors."""
import json
import subprocess

import pytest
import tokens


@pytest.fixture
def model(tmp_path):
    names = ["a", "b", "Ġ", "Ċ", "ab", "<|im_start|>", "<|im_end|>", "<tool>", "ä", "ĺ", "Ń", "\u0120b"]
    types = [tokens.NORMAL] * 5 + [tokens.CONTROL] * 2 + [tokens.USER] + [tokens.NORMAL] * 4
    return tokens.write_vocab(tmp_path / "v.gguf", "gpt2", names, pre="gpt-2", types=types, merges=["a b", "Ġ b"],
                              bos_token_id=5, eos_token_id=6, add_bos_token=True)


def run(*args, stdin=None, code=0):
    done = subprocess.run([tokens.SERIN, *map(str, args)], input=stdin, capture_output=True)
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    return done.stdout if code == 0 else done.stderr.decode()


def test_json_is_exactly_one_array_of_ids_on_standard_output(model):
    assert run("tokenize", model, "--json", "--text", "ab b\n") == b"[5,4,11,3]\n"
    assert run("tokenize", model, "--json", "--no-bos", "--text", "") == b"[]\n"
    assert json.loads(run("tokenize", model, "--json", "-t", "a" * 5000)) == [5] + [0] * 5000


def test_text_comes_from_an_option_a_file_or_standard_input(model, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"ab\xffb")
    for args, stdin in ((("--text", "ab b"), None), (("-",), b"ab b"), ((), b"ab b")):
        assert json.loads(run("tokenize", model, "--json", *args, stdin=stdin)) == [5, 4, 11]
    assert json.loads(run("tokenize", model, "--json", path)) == [5, 4, 1]  # the stray byte has no token, nor has U+FFFD
    assert "--text" in run("tokenize", model, path, "--text", "x", code=2)
    assert "No such file" in run("tokenize", model, tmp_path / "none", code=2)


def test_special_tokens_are_parsed_unless_no_special_is_given(model):
    assert json.loads(run("tokenize", model, "--json", "--text", "<|im_start|>a<|im_end|><tool>")) == [5, 0, 6, 7]
    plain = json.loads(run("tokenize", model, "--json", "--no-special", "--text", "<|im_start|>a<|im_end|><tool>"))
    assert plain == [5, 0, 0, 7]  # "start" has an a; the other characters have no tokens in this vocabulary


def test_the_list_shows_ids_texts_and_what_they_are(model):
    out = run("tokenize", model, "--text", "ab b\n<|im_end|><tool>\u4e2d").decode().splitlines()
    assert [line.split()[0] for line in out] == ["5", "4", "11", "3", "6", "7", "8", "10"]
    assert out[0].endswith('"<|im_start|>"  control')
    assert out[1].endswith('"ab"')
    assert out[2].endswith('" b"')
    assert out[3].endswith('"\\n"')
    assert out[4].endswith('"<|im_end|>"  control, ends an answer')
    assert out[5].endswith('"<tool>"  user-defined')
    assert out[6].endswith('"\\xe4"')


@pytest.mark.parametrize("ids", ["4 11 3", "4,11,3", "[4, 11, 3]", "[4,11,3]\n"])
def test_ids_are_read_from_arguments_a_file_or_standard_input_in_every_form(ids, model, tmp_path):
    path = tmp_path / "ids"
    path.write_text(ids)
    assert run("detokenize", model, ids) == b"ab b\n"
    assert run("detokenize", model, *ids.split()) == b"ab b\n"
    assert run("detokenize", model, path) == b"ab b\n"
    assert run("detokenize", model, "-", stdin=ids.encode()) == b"ab b\n"
    assert run("detokenize", model, stdin=ids.encode()) == b"ab b\n"


def test_control_tokens_are_shown_only_when_asked_for(model):
    assert run("detokenize", model, "5", "4", "7", "6") == b"ab<tool>"
    assert run("detokenize", model, "--special", "5", "4", "7", "6") == b"<|im_start|>ab<tool><|im_end|>"


def test_json_is_one_string(model):
    assert run("detokenize", model, "--json", "4", "11", "3") == b'"ab b\\n"\n'
    assert run("detokenize", model, "--json", "[]") == b'""\n'


@pytest.mark.parametrize("ids, words", [
    ("12", "there is no token 12; the vocabulary has 12, from 0 to 11"),
    ("[1, 4294967296]", "there is no token 4294967296"),
    ("[-1]", "there is no token -1"),
    ("99999999999999999999999", "there is no token 99999999999999999999999"),
    ("[1, x]", "'x' at byte 4 is not a token id"),
    ("1 2.5 3", "'2.5' at byte 2 is not a token id"),
    ("[1e3]", "'1e3' at byte 1 is not a token id"),
])
def test_ids_that_are_none_are_refused_by_name(ids, words, model):
    assert words in run("detokenize", model, "-", stdin=ids.encode(), code=2)
    if " 2.5" not in ids:
        assert words in run("detokenize", model, "--", ids, code=2)


def test_help_shows_examples_and_a_wrong_option_the_next_command(model):
    for command in ("tokenize", "detokenize"):
        text = run(command, "--help").decode()
        assert "examples:" in text and f"serin {command} MODEL" in text
        assert f"`serin {command} --help` tells more" in run(command, model, "--nope", code=2)
        assert run(command, code=2)


def test_a_file_without_a_vocabulary_is_refused(tmp_path):
    import gguf
    w = gguf.GGUFWriter(str(tmp_path / "x.gguf"), "llama")
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    assert "tokenizer.ggml.model is missing" in run("tokenize", tmp_path / "x.gguf", "--text", "x", code=2)
