"""The OpenAI API on the real SmolLM2: what the official package relies on, and what goes over the wire."""
import base64
import json
import math
import os
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import httpx
import jsonschema
import openai
import pydantic
import pytest

import tiny_model
from server import TINY, Server, serve, smol_like, with_template  # noqa: F401 (fixtures)

TEMPLATES = Path(__file__).resolve().parents[1] / "data/templates"
ASK = [{"role": "user", "content": "Write a short story about a fox and a river."}]
WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather in a city", "parameters": {
        "type": "object", "additionalProperties": False, "required": ["city", "unit"],
        "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]},
                       "days": {"type": "integer", "minimum": 1, "maximum": 9}}}}}
CLOCK = {"type": "function", "function": {"name": "now"}}
PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
          "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
                         "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["a", "b", "c"]}}}}


@pytest.fixture(scope="session")
def client(smol_server):
    return openai.OpenAI(base_url=smol_server.base_url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def web(smol_server):
    with httpx.Client(base_url=smol_server.url, timeout=120) as c:
        yield c


def chat(client, messages=None, **kw):
    kw.setdefault("temperature", 0)
    kw.setdefault("max_tokens", 16)
    return client.chat.completions.create(model="smol", messages=messages or ASK, **kw)


def wire(web, path, **body):
    """The events of a stream as they came: (name of the field, JSON or text)."""
    with web.stream("POST", path, json={"stream": True, **body}) as r:
        assert r.status_code == 200 and r.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in r.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]" and lines.count("data: [DONE]") == 1
    return [json.loads(line[6:]) for line in lines[:-1]]


# ---- chat ----

def test_chat_says_what_the_command_says(client, smol_server):
    r = chat(client, [{"role": "user", "content": "Hi"}], max_tokens=12)
    said = subprocess.run([os.environ["SERIN"], "run",
                           smol_like(), "-p", "Hi", "--temp", "0", "-n", "12",
                           "--quiet"], capture_output=True, text=True, check=True).stdout
    assert r.choices[0].message.content.strip() == said.strip()


def test_chat_answer_has_every_part(client):
    raw = client.chat.completions.with_raw_response.create(model="smol", messages=ASK, temperature=0, max_tokens=8)
    r = raw.parse()
    assert r.id.startswith("chatcmpl-") and r.object == "chat.completion" and r.created > 1_700_000_000
    assert r.model == "SmolLM2-135M-Instruct.Q4_1"
    weights = raw.headers["x-serin-model"]
    assert len(weights) == 64 and len(raw.headers["x-serin-prompt"]) == 64 and raw.headers["x-serin-seed"].isdigit()
    assert r.system_fingerprint.startswith("serin-") and r.system_fingerprint.endswith("+" + weights[:16])
    choice = r.choices[0]
    assert choice.index == 0 and choice.finish_reason == "length" and choice.logprobs is None
    assert choice.message.role == "assistant" and choice.message.content and choice.message.tool_calls is None
    assert r.usage.completion_tokens == 8 and r.usage.total_tokens == r.usage.prompt_tokens + 8
    assert r.usage.completion_tokens_details.reasoning_tokens == 0


def test_prompt_header_is_that_of_the_fixed_part(web):
    def hash_of(*messages, **kw):
        r = web.post("/v1/chat/completions", json={"messages": [{"role": r, "content": c} for r, c in messages],
                                                   "max_tokens": 1, **kw})
        return r.headers["x-serin-prompt"]
    base = hash_of(("system", "Be brief."), ("user", "a"))
    assert base == hash_of(("system", "Be brief."), ("user", "b"))
    assert base != hash_of(("system", "Be long."), ("user", "a"))
    assert base != hash_of(("system", "Be brief."), ("user", "a"), tools=[CLOCK])


def test_streaming_equals_not_streaming(client, web):
    whole = chat(client)
    chunks = list(chat(client, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert [c.choices[0].delta.role for c in chunks] == ["assistant"] + [None] * (len(chunks) - 1)
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len(chunks) >= 3  # the role, text, the end; how many pieces of text depends on what is ready when it is sent
    events = wire(web, "/v1/chat/completions", messages=ASK, temperature=0, max_tokens=16)
    assert all("usage" not in e for e in events)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[-1]["choices"][0]["delta"] == {}


def test_usage_chunk_has_no_choices(web):
    events = wire(web, "/v1/chat/completions", messages=ASK, max_tokens=4, stream_options={"include_usage": True})
    assert all(e["usage"] is None and len(e["choices"]) == 1 for e in events[:-1])
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == 4


def test_the_end_token_ends_an_answer(client, web):
    [end] = web.post("/tokenize", json={"content": "<|im_end|>"}).json()["tokens"]
    r = chat(client, logit_bias={str(end): 100})
    assert r.choices[0].finish_reason == "stop" and r.choices[0].message.content == "" and r.usage.completion_tokens <= 1


@pytest.mark.slow
def test_a_model_that_ends_stops(client):
    r = chat(client, [{"role": "user", "content": "Say yes."}], max_tokens=200)
    assert r.choices[0].finish_reason == "stop" and r.usage.completion_tokens < 200


@pytest.mark.slow
def test_seed_repeats_and_is_reported(client):
    def ask(**kw):
        raw = client.chat.completions.with_raw_response.create(model="smol", messages=ASK, temperature=1.5, max_tokens=16, **kw)
        return raw.parse().choices[0].message.content, int(raw.headers["x-serin-seed"])
    first, seed = ask()
    assert ask(seed=seed) == (first, seed)
    assert ask(seed=7) == ask(seed=7)
    assert len({ask(seed=s)[0] for s in range(4)}) > 1


def test_n_choices_are_those_of_the_seeds_in_a_row(client):
    together = chat(client, n=3, seed=5, temperature=1, max_tokens=12)
    alone = [chat(client, seed=s, temperature=1, max_tokens=12).choices[0].message.content for s in (5, 6, 7)]
    assert [c.index for c in together.choices] == [0, 1, 2]
    assert [c.message.content for c in together.choices] == alone
    assert together.usage.completion_tokens == 36
    streamed, roles = ["", "", ""], [0, 0, 0]
    for c in chat(client, n=3, seed=5, temperature=1, max_tokens=12, stream=True):
        streamed[c.choices[0].index] += c.choices[0].delta.content or ""
        roles[c.choices[0].index] += c.choices[0].delta.role == "assistant"
    assert streamed == alone and roles == [1, 1, 1]


@pytest.mark.slow
def test_answers_do_not_depend_on_who_else_asks(client):
    def ask(i):
        r = chat(client, [{"role": "user", "content": f"Tell me about the number {i}."}], seed=i, temperature=0.8, logprobs=True)
        return [(t.token, t.logprob) for t in r.choices[0].logprobs.content]
    alone = [ask(i) for i in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(4))) == alone


def test_cached_tokens_are_counted_and_can_be_declined(client):
    system = {"role": "system", "content": "You are a helper. " * 20}
    kw = dict(messages=[system, *ASK], max_tokens=2)
    chat(client, **kw)
    assert chat(client, **kw).usage.prompt_tokens_details.cached_tokens > 64
    assert chat(client, **kw, extra_body={"cache_prompt": False}).usage.prompt_tokens_details.cached_tokens == 0
    assert chat(client, **kw, extra_body={"cache_salt": "mine"}).usage.prompt_tokens_details.cached_tokens == 0


# ---- what ends an answer ----

@pytest.mark.slow
def test_stop_texts_across_token_borders(client):
    full = chat(client).choices[0].message.content
    for at in range(4, len(full) - 8, 23):
        stop = full[at:at + 5]
        end = full.index(stop)
        r = chat(client, stop=["nothing like this", stop])
        assert r.choices[0].message.content == full[:end] and r.choices[0].finish_reason == "stop"
        chunks = chat(client, stop=stop, stream=True)
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == full[:end]
    kept = chat(client, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content == full[:end] + stop
    assert chat(client, stop="").choices[0].message.content == full


def test_length_can_be_forced(client, web):
    r = chat(client, [{"role": "user", "content": "Say yes."}], max_tokens=40, extra_body={"ignore_eos": True})
    assert r.usage.completion_tokens == 40 and r.choices[0].finish_reason == "length"
    r = chat(client, [{"role": "user", "content": "Say yes."}], max_tokens=60, extra_body={"min_tokens": 30})
    assert r.usage.completion_tokens >= 30
    both = web.post("/v1/chat/completions", json={"messages": ASK, "max_tokens": 9, "max_completion_tokens": 3}).json()
    assert both["usage"]["completion_tokens"] == 3


def test_logit_bias_forces_and_bans(client, web):
    [the] = web.post("/tokenize", json={"content": "the"}).json()["tokens"]
    r = chat(client, max_tokens=3, logit_bias={str(the): 100})
    assert r.choices[0].message.content == "thethethe"
    ask = {"messages": ASK, "max_tokens": 1, "temperature": 0, "return_token_ids": True}
    [first] = web.post("/v1/chat/completions", json=ask).json()["choices"][0]["token_ids"]
    banned = web.post("/v1/chat/completions", json={**ask, "logit_bias": {str(first): -100}}).json()
    assert banned["choices"][0]["token_ids"] != [first]


# ---- tools ----

def reassemble(chunks):
    calls, ids = {}, {}
    for c in chunks:
        for t in c.choices[0].delta.tool_calls or []:
            assert isinstance(t.index, int)
            if t.index not in calls:
                assert t.id.startswith("call_") and t.type == "function" and t.function.name
                calls[t.index] = [t.function.name, t.function.arguments]
                ids[t.index] = t.id
            else:
                assert t.id is None and t.function.name is None
                calls[t.index][1] += t.function.arguments
    assert len(set(ids.values())) == len(ids)
    return [calls[i] for i in range(len(calls))]


def test_required_tools_are_called_with_valid_arguments(client):
    for seed in range(3):
        kw = dict(messages=[{"role": "user", "content": "How is the weather in Bern?"}], tools=[WEATHER, CLOCK], seed=seed,
                  tool_choice="required", parallel_tool_calls=False, temperature=1, max_tokens=400)
        r = chat(client, **kw)
        choice = r.choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        [call] = choice.message.tool_calls
        assert call.type == "function" and call.id.startswith("call_")
        arguments = json.loads(call.function.arguments)
        if call.function.name == "get_weather":
            jsonschema.validate(arguments, WEATHER["function"]["parameters"])
        else:
            assert call.function.name == "now" and arguments == {}
        chunks = list(chat(client, **kw, stream=True))
        assert reassemble(chunks) == [[call.function.name, call.function.arguments]]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_a_named_tool_is_called_and_allowed_ones_only(client):
    named = chat(client, tools=[WEATHER, CLOCK], tool_choice={"type": "function", "function": {"name": "get_weather"}},
                 max_tokens=120, parallel_tool_calls=False)
    assert [c.function.name for c in named.choices[0].message.tool_calls] == ["get_weather"]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}}
    r = chat(client, tools=[WEATHER, CLOCK], tool_choice=allowed, parallel_tool_calls=False, max_tokens=60)
    assert [c.function.name for c in r.choices[0].message.tool_calls] == ["now"]


def test_auto_and_none_leave_text_alone(client):
    r = chat(client, [{"role": "user", "content": "Say hello."}], tools=[CLOCK], tool_choice="none")
    assert r.choices[0].message.content and r.choices[0].message.tool_calls is None
    whole = chat(client, [{"role": "user", "content": "Say hello."}], tools=[CLOCK])
    chunks = list(chat(client, [{"role": "user", "content": "Say hello."}], tools=[CLOCK], stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert text == (whole.choices[0].message.content or "")


def test_results_of_calls_go_back(client):
    messages = [{"role": "user", "content": "What time is it?"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "It is noon."}]
    assert chat(client, messages, tools=[CLOCK], tool_choice="none").choices[0].message.content


# ---- structured output ----

@pytest.mark.slow
def test_json_schema_always_validates(client):
    for seed in range(4):
        r = chat(client, [{"role": "user", "content": "Invent a person."}], seed=seed, temperature=1, max_tokens=200,
                 response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}})
        assert r.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(r.choices[0].message.content), PERSON)


class Pet(pydantic.BaseModel):
    kind: Literal["cat", "dog"]
    age: int = pydantic.Field(ge=0, le=30)


@pytest.mark.slow
def test_the_package_s_helpers_parse(client):
    kw = dict(model="smol", messages=[{"role": "user", "content": "Invent a pet."}], max_tokens=120, seed=4)
    assert isinstance(client.chat.completions.parse(**kw, response_format=Pet).choices[0].message.parsed, Pet)
    with client.chat.completions.stream(**kw, tools=[openai.pydantic_function_tool(Pet)], tool_choice="required",
                                        parallel_tool_calls=False) as stream:
        [call] = stream.get_final_completion().choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Pet)


def test_other_constraints(client, web):
    say = lambda **kw: chat(client, max_tokens=60, temperature=1, seed=3, **kw).choices[0]  # noqa: E731
    assert say(extra_body={"guided_choice": ["red", "green \"x\""]}).message.content in ("red", "green \"x\"")
    assert say(extra_body={"guided_regex": "[ab]{4}"}).message.content.strip("ab") == ""
    assert say(extra_body={"grammar": 'root ::= "x" [0-9] "y"'}).message.content[0::2] == "xy"
    assert say(extra_body={"structured_outputs": {"json": {"type": "integer", "minimum": 5, "maximum": 7}}}).message.content in "567"
    assert json.loads(web.post("/v1/completions", json={"prompt": "n =", "json_schema": {"enum": [17]}}).json()["choices"][0]["text"]) == 17
    r = chat(client, max_tokens=300, temperature=1, seed=1, response_format={"type": "json_object"})
    if r.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(r.choices[0].message.content), dict)
    assert r.choices[0].message.content.startswith("{")


# ---- log-probabilities ----

def whole(text):
    """Half a character at the end, which only the tiny model says, is in tokens and not in an answer's text."""
    return text.rstrip("\ufffd") if TINY else text


def test_chat_logprobs(client):
    r = chat(client, logprobs=True, top_logprobs=3, seed=1, temperature=1)
    entries = r.choices[0].logprobs.content
    assert whole(b"".join(bytes(e.bytes) for e in entries).decode(errors="replace")) == whole(r.choices[0].message.content)
    assert len(entries) == r.usage.completion_tokens
    for e in entries:
        assert bytes(e.bytes).decode(errors="replace") == e.token and e.logprob <= 0
        tops = [t.logprob for t in e.top_logprobs]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True) and e.logprob <= tops[0]
    streamed = []
    for c in chat(client, logprobs=True, top_logprobs=3, seed=1, temperature=1, stream=True):
        streamed += c.choices[0].logprobs.content if c.choices[0].logprobs else []
    assert streamed == entries


def same_text(pieces, text):
    """The tiny model says half characters, whose tokens have no text of their own."""
    return pieces == text or (TINY and "\ufffd" in pieces)


def test_completion_logprobs_and_echo(client):
    kw = dict(model="smol", prompt="The sky is blue and the", max_tokens=4, temperature=0)
    plain = client.completions.create(**kw, logprobs=2)
    lp = plain.choices[0].logprobs
    assert same_text("".join(lp.tokens), plain.choices[0].text) and lp.text_offset[0] == 0
    assert all(TINY or (len(t) == 2 and max(t.values()) >= p) for t, p in zip(lp.top_logprobs, lp.token_logprobs))
    echo = client.completions.create(**kw, logprobs=2, echo=True)
    assert echo.choices[0].text == kw["prompt"] + plain.choices[0].text
    e = echo.choices[0].logprobs
    assert same_text("".join(e.tokens), echo.choices[0].text) and e.token_logprobs[0] is None
    assert e.token_logprobs[-4:] == lp.token_logprobs
    assert [echo.choices[0].text[o:o + len(t)] for o, t in zip(e.text_offset, e.tokens)] == e.tokens
    scored = client.completions.create(**{**kw, "max_tokens": 0}, logprobs=0, echo=True)
    assert scored.choices[0].text == kw["prompt"] and scored.usage.completion_tokens == 0
    assert scored.choices[0].logprobs.token_logprobs == e.token_logprobs[:-4]
    vllm = client.completions.create(**kw, extra_body={"prompt_logprobs": 1}).choices[0].model_extra["prompt_logprobs"]
    assert vllm[0] is None and len(vllm) == len(e.tokens) - 4
    assert all(p in [v["logprob"] for v in entry.values()] for p, entry in zip(e.token_logprobs[1:-4], vllm[1:]))


def test_prompts_of_completions_in_every_form(client, web):
    kw = dict(model="smol", max_tokens=4, temperature=0)
    texts = ["Once upon a", "The sea is"]
    apart = [client.completions.create(**kw, prompt=t).choices[0].text for t in texts]
    ids = [web.post("/tokenize", json={"prompt": t}).json()["tokens"] for t in texts]
    for prompt in (texts, ids):
        r = client.completions.create(**kw, prompt=prompt)
        assert [c.text for c in r.choices] == apart and [c.index for c in r.choices] == [0, 1]
    assert client.completions.create(**kw, prompt=ids[1]).choices[0].text == apart[1]
    both = client.completions.create(**kw, prompt=texts, n=2)
    assert [c.text for c in both.choices] == [apart[0], apart[0], apart[1], apart[1]]
    streamed = ["", ""]
    for c in client.completions.create(**kw, prompt=texts, stream=True, echo=True):
        streamed[c.choices[0].index] += c.choices[0].text
    assert streamed == [t + a for t, a in zip(texts, apart)]
    assert client.completions.create(model="smol", prompt="a", extra_body={"ignore_eos": True}).usage.completion_tokens == 16


def test_token_ids_on_request(web):
    body = {"prompt": "The sea is", "max_tokens": 4, "temperature": 0, "return_token_ids": True}
    choice = web.post("/v1/completions", json=body).json()["choices"][0]
    assert whole(web.post("/detokenize", json={"tokens": choice["token_ids"]}).json()["content"]) == whole(choice["text"])
    assert choice["prompt_token_ids"] == web.post("/tokenize", json={"prompt": "The sea is"}).json()["tokens"]
    streamed = [i for e in wire(web, "/v1/completions", **body) for i in e["choices"][0]["token_ids"]]
    assert streamed == choice["token_ids"]


# ---- embeddings ----

def test_embeddings(client, web):
    width = tiny_model.WIDTH if TINY else 576
    texts = ["The cat sat on the mat.", "A kitten rests on a rug.", "Stock prices fell sharply."]
    r = client.embeddings.create(model="smol", input=texts)  # the package asks for base64 and decodes it
    vectors = [e.embedding for e in r.data]
    assert [e.index for e in r.data] == [0, 1, 2] and r.usage.prompt_tokens == r.usage.total_tokens > 10
    assert all(len(v) == width and math.isclose(sum(x * x for x in v), 1, rel_tol=1e-5) for v in vectors)
    plain = client.embeddings.create(model="smol", input=texts[1], encoding_format="float").data[0].embedding
    assert plain == pytest.approx(vectors[1], rel=1e-6)
    coded = web.post("/v1/embeddings", json={"input": texts[1], "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert list(struct.unpack(f"<{width}f", base64.b64decode(coded, validate=True))) == pytest.approx(plain, rel=1e-6)
    ids = [web.post("/tokenize", json={"prompt": t}).json()["tokens"] for t in texts]
    assert [e.embedding for e in client.embeddings.create(model="smol", input=ids).data] == vectors
    assert client.embeddings.create(model="smol", input=ids[0]).data[0].embedding == vectors[0]
    many = client.embeddings.create(model="smol", input=[texts[i % 3] for i in range(40)])
    assert [e.embedding for e in many.data] == [vectors[i % 3] for i in range(40)]
    assert client.embeddings.create(model="smol", input="a", dimensions=width).data
    with pytest.raises(openai.BadRequestError) as e:
        client.embeddings.create(model="smol", input="a", dimensions=100)
    assert e.value.param == "dimensions" and str(width) in e.value.message
    for bad in ("", [], [""], [[]], [999999], {"a": 1}, None):
        r = web.post("/v1/embeddings", json={"input": bad})
        assert r.status_code == 400 and r.json()["error"]["param"] == "input", bad


# ---- small services ----

def test_models(client, web):
    [m] = client.models.list().data
    assert m.id == "SmolLM2-135M-Instruct.Q4_1" and m.object == "model" and m.owned_by == "serin"
    assert client.models.retrieve("gpt-4o-mini").id == m.id
    with pytest.raises(openai.NotFoundError) as e:
        client.models.retrieve("other")
    assert e.value.code == "model_not_found"
    assert web.get("/v1/models/" + m.id).json()["max_model_len"] == 4096


def test_tokenize_and_back(web):
    t = web.post("/tokenize", json={"content": "Hello world"}).json()
    assert t["count"] == len(t["tokens"]) == (11 if TINY else 2) and t["max_model_len"] == 4096
    assert web.post("/detokenize", json={"tokens": t["tokens"]}).json() == {"content": "Hello world", "prompt": "Hello world"}
    special = web.post("/tokenize", json={"content": "<|im_end|>"}).json()["tokens"]
    plain = web.post("/tokenize", json={"content": "<|im_end|>", "parse_special": False}).json()["tokens"]
    assert len(special) == 1 and len(plain) > 1
    pieces = web.post("/tokenize", json={"content": "é world", "with_pieces": True}).json()["tokens"]
    assert [p["piece"] for p in pieces][-1] == ("d" if TINY else " world")
    halves = web.post("/tokenize", json={"content": "\U0001f9a6\n\"", "with_pieces": True}).json()["tokens"]
    whole = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in halves)
    assert whole.decode() == "\U0001f9a6\n\"" and any(isinstance(p["piece"], list) for p in halves)
    assert web.post("/detokenize", json={"tokens": [10**6]}).json()["error"]["param"] == "tokens"
    assert web.post("/tokenize", json={}).json()["error"]["param"] == "content"


def test_many_tokens_take_little_memory(serve, web):  # noqa: F811
    s = serve(smol_like(), "--ctx", 512, "--parallel", 1)

    def most():
        status = Path(f"/proc/{s.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) << 10
    before = most()
    r = httpx.post(s.url + "/tokenize", json={"content": "a" * 1_000_000, "with_pieces": True}, timeout=200).json()
    assert r["count"] == len(r["tokens"]) > 100_000
    if "asan" not in os.environ["SERIN"]:
        assert most() - before < 100 << 20


def test_apply_template_is_what_a_chat_sees(web, client):
    prompt = web.post("/apply-template", json={"messages": ASK}).json()["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n") and ASK[0]["content"] in prompt
    tokens = web.post("/tokenize", json={"messages": ASK}).json()["tokens"]
    assert chat(client, max_tokens=1).usage.prompt_tokens == len(tokens)
    text = client.completions.create(model="smol", prompt=prompt, temperature=0).choices[0].text
    assert text == chat(client).choices[0].message.content


def test_what_a_user_writes_is_no_special_token(web):
    inside = web.post("/tokenize", json={"messages": [{"role": "user", "content": "<|im_end|>"}]}).json()["tokens"]
    assert inside.count(2) == web.post("/tokenize", json={"messages": ASK}).json()["tokens"].count(2)


def test_the_last_message_can_be_continued(web, client):
    messages = [{"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": "The capital of France is"}]
    body = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert web.post("/apply-template", json=body).json()["prompt"].endswith("assistant\nThe capital of France is")
    r = web.post("/v1/chat/completions", json={**body, "max_tokens": 8, "temperature": 0}).json()
    assert TINY or "Paris" in r["choices"][0]["message"]["content"]
    r = web.post("/v1/chat/completions", json={**body, "messages": ASK})
    assert r.status_code == 400 and r.json()["error"]["param"] == "messages"


# ---- errors ----

@pytest.mark.parametrize("field, value, param", [
    ("temperature", 3, "temperature"), ("max_tokens", 0, "max_tokens"), ("n", 99, "n"), ("stop", 5, "stop"),
    ("functions", [{"name": "f"}], "functions"), ("audio", {"voice": "x"}, "audio"), ("modalities", ["audio"], "modalities"),
    ("web_search_options", {}, "web_search_options"), ("tool_choice", "required", "tool_choice"),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages"),
    ("messages", [{"role": "assistant", "content": "no question"}, {"role": "nobody", "content": ""}], "messages"),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "unevaluatedItems": 1}}},
     "response_format"),
    ("grammar", "root ::= (", "grammar"), ("guided_regex", "(a", "guided_regex"),
    ("tools", [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
        "a": {"contains": {"type": "string"}, "minContains": 7}}}}}], "tools"),
])
def test_wrong_fields_are_refused_by_name(web, field, value, param):
    r = web.post("/v1/chat/completions", json={"messages": ASK, "max_tokens": 4, field: value})
    error = r.json()["error"]
    assert r.status_code == 400, r.text
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] == param and len(error["message"]) > 10


def test_errors_are_the_package_s_own(client):
    with pytest.raises(openai.NotFoundError) as e:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert e.value.code == "model_not_found" and e.value.param == "model" and "SmolLM2" in e.value.message
    with pytest.raises(openai.BadRequestError) as e:
        chat(client, [{"role": "user", "content": "word " * 6000}])
    assert e.value.code == "context_length_exceeded" and e.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="smol", prompt="a", suffix="b")
    assert e.value.param == "suffix"
    with pytest.raises(openai.BadRequestError) as e:
        client.completions.create(model="smol", prompt=[10**6])
    assert e.value.param == "prompt"


def test_harmless_fields_are_ignored(client):
    r = chat(client, max_tokens=2, user="u", store=True, metadata={"a": "b"}, service_tier="auto", verbosity="low",
             extra_body={"never_heard_of": {"x": 1}, "modalities": ["text"], "prediction": None})
    assert r.usage.completion_tokens == 2


# ---- clients that leave, servers that are busy ----

def test_a_client_that_leaves_ends_its_answer(smol_server, web):
    body = {"messages": ASK, "max_tokens": 3000, "ignore_eos": True, "stream": True}
    with web.stream("POST", "/v1/chat/completions", json=body) as r:
        call = r.headers["x-serin-call"]
        lines = r.iter_lines()
        while "content" not in next(lines):
            pass
    line = smol_server.wait_log(call=call)
    assert not line["complete"] and line["output_tokens"] < 2000


@pytest.mark.slow
def test_a_full_queue_says_when_to_come_again(serve):
    s = serve(smol_like(), "--parallel", "1", "--ctx", "2048", "--limit", "queue=1")
    body = {"prompt": "Once", "max_tokens": 600, "ignore_eos": True}
    together = threading.Barrier(16)

    def ask(_):
        together.wait()
        return httpx.post(s.url + "/v1/completions", json=body, timeout=120)
    with ThreadPoolExecutor(16) as pool:  # one runs, one waits
        seen = list(pool.map(ask, range(16)))
    refused = [r for r in seen if r.status_code != 200]
    assert refused and len(refused) < 16
    for r in refused:
        assert r.status_code == 429 and int(r.headers["retry-after"]) >= 1 and r.json()["error"]["code"] == "queue_full"


@pytest.mark.slow
def test_an_error_midway_is_an_object_in_the_stream(serve, tmp_path):
    config = tmp_path / "serin.yaml"
    config.write_text(f"models:\n  - name: m\n    path: {smol_like()}\n"
                      "    ctx: 4096\nroutes:\n  - name: short\n    match:\n      header: {x-hurry: '1'}\n    timeout: 300ms\n")
    s = serve("--config", config)
    c = openai.OpenAI(base_url=s.base_url, api_key="none", max_retries=0, timeout=120)
    kw = dict(model="m", prompt="Once", max_tokens=3000, extra_body={"ignore_eos": True}, extra_headers={"x-hurry": "1"})
    with pytest.raises(openai.APIError) as e:
        for _ in c.completions.create(**kw, stream=True):
            pass
    assert e.value.code == "timeout"
    with pytest.raises(openai.APIStatusError) as e:
        c.completions.create(**kw)
    assert e.value.status_code == 504 and e.value.code == "timeout"


# ---- other templates ----

THINKING = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is not defined or enable_thinking %}"
            "{{ '<think>\\n' }}{% endif %}{% endif %}")


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """SmolLM2 with other families' templates."""
    folder = tmp_path_factory.mktemp("templates")
    source = smol_like()
    texts = {"hermes": (TEMPLATES / "hermes-tools.jinja").read_text(), "thinking": THINKING,
             "llama": (TEMPLATES / "llama-3.1-tools.jinja").read_text()}
    config = "models:\n"
    for name, text in texts.items():
        path = with_template(source, folder / f"{name}.gguf", text)
        config += f"  - name: {name}\n    path: {path}\n    ctx: 2048\n    parallel: 2\n"
    (folder / "serin.yaml").write_text(config)
    s = Server("--config", folder / "serin.yaml", env={"SERIN_CACHE": str(folder / "cache")})
    yield openai.OpenAI(base_url=s.base_url, api_key="none", max_retries=0, timeout=120)
    s.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hermes", "llama"])
def test_calls_in_the_form_of_the_template(templates, name):
    kw = dict(model=name, messages=[{"role": "user", "content": "How is the weather in Bern?"}], tools=[WEATHER, CLOCK],
              tool_choice="required", parallel_tool_calls=False, temperature=1, seed=2, max_tokens=120)
    choice = templates.chat.completions.create(**kw).choices[0]
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    if call.function.name == "get_weather":
        jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    assert reassemble(templates.chat.completions.create(**kw, stream=True)) == [[call.function.name, call.function.arguments]]


@pytest.mark.slow
def test_reasoning_is_separated(templates):
    kw = dict(model="thinking", messages=ASK, temperature=0, max_tokens=24)
    r = templates.chat.completions.create(**kw)
    m = r.choices[0].message
    assert m.content == "" and m.model_extra["reasoning_content"]
    assert r.usage.completion_tokens_details.reasoning_tokens == r.usage.completion_tokens == 24
    chunks = list(templates.chat.completions.create(**kw, stream=True))
    text = "".join((c.choices[0].delta.model_extra or {}).get("reasoning_content", "") for c in chunks)
    assert text == m.model_extra["reasoning_content"]
    off = templates.chat.completions.create(**kw, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert off.choices[0].message.content and off.usage.completion_tokens_details.reasoning_tokens == 0
    hidden = templates.chat.completions.create(**kw, extra_body={"include_reasoning": False})
    assert "reasoning_content" not in (hidden.choices[0].message.model_extra or {})


@pytest.mark.slow
def test_reasoning_comes_before_a_schema(templates):
    """The model is led out of its reasoning by a bias on the mark's first token; from there the schema holds."""
    schema = {"type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}
    first = httpx.post(str(templates.base_url).replace("/v1/", "/tokenize"), json={"model": "thinking", "content": "</think>"}).json()["tokens"]
    r = templates.chat.completions.create(model="thinking", messages=ASK, temperature=0, max_tokens=300, response_format=schema,
                                          logit_bias={str(t): 12 for t in first})
    m = r.choices[0].message
    if r.choices[0].finish_reason == "stop":
        jsonschema.validate(json.loads(m.content), PERSON)
    assert r.usage.completion_tokens_details.reasoning_tokens > 0
