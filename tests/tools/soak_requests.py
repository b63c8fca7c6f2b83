"""What the soak asks: recipes, each a well-formed request that has one right answer, and answers in a form in which
those to the same recipe must be equal, streamed or not, alone or under load.
"""
import base64
import json
import random
from array import array

import jsonschema

TOPICS = ["a fox", "the river", "seven bridges", "old clocks", "rain", "a lighthouse", "copper wire", "two birds"]
WORDS = "the of and to in is was that for as with on by at from it an be this which or are not have one".split()
SCHEMA = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
          "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
                         "tags": {"type": "array", "maxItems": 2, "items": {"enum": ["a", "b", "c"]}}}}
PARAMETERS = {"type": "object", "additionalProperties": False, "required": ["city"],
              "properties": {"city": {"type": "string", "maxLength": 10}, "unit": {"enum": ["C", "F"]}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": PARAMETERS}}
SHARED = "You answer in the manner of an encyclopedia. " * 12


class Recipe:
    """path, body; forms: "chat", "completion", "responses", "messages", "embeddings" or "json"."""

    def __init__(self, number, form, path, body, can_stream=True):
        self.number, self.form, self.path, self.body, self.can_stream = number, form, path, body, can_stream

    def text(self, stream=False, **more):
        body = {**self.body, **more}
        if stream:
            body["stream"] = True
            if self.form in ("chat", "completion"):
                body["stream_options"] = {"include_usage": True}
        return json.dumps(body).encode()


def words(r, least, most):
    return " ".join(r.choices(WORDS, k=r.randint(least, most)))


def text_of(r, long):
    """Fresh or with a beginning that others have too, short or long."""
    begin = SHARED[:r.choice([0, 0, 100, 300, len(SHARED)])]
    size = r.choice([(1, 5), (5, 30), (long // 10, long // 4), (long // 2, long)])
    return f"{begin}Tell me about {r.choice(TOPICS)}: {words(r, *size)}"


def drawing(r, number):
    d = {"seed": number + 1, "temperature": r.choice([0, 0, 0.7, 1.2])}
    if r.random() < 0.2:
        d["top_p"] = 0.9
    if r.random() < 0.1:
        d["logit_bias"] = {str(r.randrange(20, 200)): r.choice([-5, 3])}
    return d


def chat(r, number, o):
    body = {"messages": [{"role": "user", "content": text_of(r, o.long)}], "max_tokens": r.randint(1, o.tokens), **drawing(r, number)}
    if r.random() < 0.4:
        body["messages"].insert(0, {"role": "system", "content": SHARED})
    kind = r.randrange(6)
    if kind == 0:
        body.update(response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}, max_tokens=60)
    if kind == 1:
        body.update(tools=[TOOL], tool_choice=r.choice(["auto", "required"]), max_tokens=60)
    if kind == 2:
        body.update(logprobs=True, top_logprobs=r.choice([0, 3, 20]))
    if kind == 3:
        body.update(n=r.randint(2, 4))
    if kind == 4:
        body.update(stop=r.sample([" a", "e ", ".", "th"], 2))
    return Recipe(number, "chat", "/v1/chat/completions", body)


def completion(r, number, o):
    body = {"prompt": text_of(r, o.long), "max_tokens": r.randint(1, o.tokens), **drawing(r, number)}
    kind = r.randrange(8)
    if kind == 0:
        body.update(logprobs=r.randint(0, 5), echo=r.random() < 0.5)
    if kind == 1:
        body.update(n=r.randint(2, 4))
    if kind == 2:
        body.update(guided_regex="[a-c]{3,9}(x|yz)*")
    if kind == 3:
        body.update(prompt=[r.randrange(20, 200) for _ in range(r.randint(1, 100))], ignore_eos=True)
    if kind == 4:
        body.update(prompt=[text_of(r, 60) for _ in range(3)])
    if kind == 5:
        body.update(stop=[r.choice("etaoin ")], frequency_penalty=0.5, repeat_penalty=1.1)
    if kind == 6:
        body.update(echo=True, max_tokens=0, logprobs=1)
    return Recipe(number, "completion", "/v1/completions", body, can_stream=kind not in (0, 6))


def responses(r, number, o):
    body = {"input": text_of(r, o.long), "max_output_tokens": r.randint(1, o.tokens), **drawing(r, number)}
    body.pop("logit_bias", None)
    kind = r.randrange(4)
    if kind == 0:
        body.update(tools=[{"type": "function", "name": "weather", "parameters": PARAMETERS}], tool_choice="required",
                    max_output_tokens=60)
    if kind == 1:
        body.update(text={"format": {"type": "json_schema", "name": "person", "schema": SCHEMA}}, max_output_tokens=60)
    if kind == 2:
        body.update(instructions=SHARED)
    return Recipe(number, "responses", "/v1/responses", body)


def messages(r, number, o):
    body = {"messages": [{"role": "user", "content": text_of(r, o.long)}], "max_tokens": r.randint(1, o.tokens),
            "temperature": 0, "model": o.model}
    kind = r.randrange(4)
    if kind == 0:
        body.update(tools=[{"name": "weather", "input_schema": PARAMETERS}], tool_choice={"type": "any"}, max_tokens=60)
    if kind == 1:
        body.update(system=SHARED)
    if kind == 2:
        body.update(stop_sequences=[" a", "e "])
    return Recipe(number, "messages", "/v1/messages", body)


def embeddings(r, number, o):
    many = r.choice([1, 1, 3, 20])
    texts = [text_of(r, 100) if many < 20 else words(r, 1, 6) for _ in range(many)]
    return Recipe(number, "embeddings", "/v1/embeddings",
                  {"input": texts if many > 1 else texts[0], "encoding_format": r.choice(["float", "base64"])}, can_stream=False)


def tokens(r, number, o):
    text = text_of(r, o.long)
    path, body = r.choice([("/tokenize", {"content": text, "with_pieces": True}), ("/tokenize", {"prompt": text}),
                           ("/apply-template", {"messages": [{"role": "user", "content": text}]}),
                           ("/detokenize", {"tokens": [r.randrange(20, 200) for _ in range(50)]}),
                           ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": text}], "model": o.model})])
    return Recipe(number, "json", path, body, can_stream=False)


def recipe(seed, number, options):
    """The same for the same numbers. options: tokens (of an answer, at most), long (words of a prompt), model."""
    r = random.Random(f"{seed} {number}")
    return r.choice([chat, chat, chat, completion, completion, completion, responses, messages, embeddings, tokens])(r, number, options)


# ---- answers ----

class Wrong(Exception):
    """An answer that no right server gives."""


def need(condition, what):
    if not condition:
        raise Wrong(what)


def events_of(body):
    """[(event or None, data)] of a whole stream; what it must be on the wire is checked."""
    need(body.endswith(b"\n\n"), "a stream that does not end with an empty line")
    events = []
    for block in body[:-2].split(b"\n\n"):
        name = None
        for line in block.split(b"\n"):
            if line.startswith(b"event: "):
                name = line[7:].decode()
            else:
                need(line.startswith(b"data: "), f"a line in a stream: {line[:80]!r}")
                data = line[6:]
        events.append((name, data.decode()))
    return events


def check_constrained(recipe, text, calls, finish):
    if "response_format" in recipe.body and finish == "stop":
        jsonschema.validate(json.loads(text), SCHEMA)
    if finish == "tool_calls":
        need(calls, "finished with tool_calls without one")
        for name, arguments in calls:
            need(name == "weather", f"a call of {name}")
            jsonschema.validate(json.loads(arguments), PARAMETERS)


def openai_stream(events, is_chat):
    """A stream as the object that would have come without streaming."""
    need(events[-1][1] == "[DONE]", "a stream without [DONE]")
    chunks = [json.loads(data) for _, data in events[:-1]]
    for c in chunks:
        need("error" not in c, f"an error in the stream: {c.get('error')}")
    need(len({c["id"] for c in chunks}) == 1, "more than one id in a stream")
    need(chunks[-1]["choices"] == [], "no usage at the end of a stream")
    whole = {}
    for c in chunks[:-1]:
        need(c["usage"] is None and len(c["choices"]) == 1, "a chunk with usage, or not one choice")
        part = c["choices"][0]
        fresh = part["index"] not in whole
        w = whole.setdefault(part["index"], {"index": part["index"], "text": "", "message": {"content": "", "calls": {}},
                                             "finish_reason": None, "logprobs": None})
        need(w["finish_reason"] is None, "a chunk after the finish")
        w["finish_reason"] = part["finish_reason"]
        if is_chat:
            delta = part["delta"]
            need(("role" in delta) == fresh, "the role is not in the first chunk only")
            w["message"]["content"] += delta.get("content") or ""
            for t in delta.get("tool_calls", []):
                if "id" in t:
                    w["message"]["calls"][t["index"]] = [t["function"]["name"], ""]
                w["message"]["calls"][t["index"]][1] += t["function"].get("arguments", "")
        else:
            w["text"] += part["text"]
        for k, v in (part.get("logprobs") or {}).items():
            if isinstance(v, list):
                w["logprobs"] = w["logprobs"] or {}
                w["logprobs"].setdefault(k, []).extend(v)
    choices = [whole[i] for i in sorted(whole)]
    for w in choices:
        calls = w["message"].pop("calls")
        w["message"]["tool_calls"] = [{"function": {"name": n, "arguments": a}} for _, (n, a) in sorted(calls.items())]
    return {"choices": choices, "usage": chunks[-1]["usage"]}


def openai_answer(recipe, answer):
    is_chat = recipe.form == "chat"
    told = []
    for c in answer["choices"]:
        need(c["finish_reason"] in ("stop", "length", "tool_calls"), f"finish_reason {c['finish_reason']}")
        logprobs = c["logprobs"] or {}
        if is_chat:
            m = c["message"]
            calls = [(t["function"]["name"], t["function"]["arguments"]) for t in m.get("tool_calls") or []]
            check_constrained(recipe, m["content"], calls, c["finish_reason"])
            told.append((m["content"] or "", calls, c["finish_reason"], json.dumps(logprobs.get("content") or [])))
        else:
            told.append((c["text"], c["finish_reason"],
                         json.dumps([logprobs.get(k) or [] for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")])))
    need([c["index"] for c in answer["choices"]] == list(range(len(answer["choices"]))), "choices out of order")
    prompts = recipe.body.get("prompt")
    prompts = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str) else 1
    need(len(told) == prompts * recipe.body.get("n", 1), f"{len(told)} choices")
    return told, answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]


def responses_answer(recipe, body, stream):
    if stream:
        events = events_of(body)
        need(events[-1][1] == "[DONE]", "a stream without [DONE]")
        all_data = [json.loads(data) for _, data in events[:-1]]
        need([d["sequence_number"] for d in all_data] == list(range(len(all_data))), "sequence_number has gaps")
        need(all_data[-1]["type"] in ("response.completed", "response.incomplete"), f"the stream ends with {all_data[-1]}")
        answer = all_data[-1]["response"]
        deltas = "".join(d["delta"] for d in all_data if d["type"] == "response.output_text.delta")
    else:
        answer, deltas = json.loads(body), None
    need(answer["status"] in ("completed", "incomplete"), f"status {answer['status']}")
    told, text = [], ""
    for item in answer["output"]:
        if item["type"] == "message":
            text = "".join(p["text"] for p in item["content"])
            told.append(("message", text))
        else:
            told.append((item["type"], item.get("name"), item.get("arguments")))
            if item["type"] == "function_call" and answer["status"] == "completed":
                jsonschema.validate(json.loads(item["arguments"]), PARAMETERS)
    need(deltas is None or deltas == text, "deltas are not the text")
    if "text" in recipe.body and answer["status"] == "completed":
        jsonschema.validate(json.loads(text), SCHEMA)
    usage = answer["usage"]
    return [told, answer["status"]], usage["input_tokens"], usage["output_tokens"]


def messages_answer(body, stream):
    if not stream:
        m = json.loads(body)
        cut = m["stop_reason"] == "max_tokens"
        told = [(b["type"], b["text"] if b["type"] == "text" else (b["name"], None if cut else b["input"])) for b in m["content"]]
        u = m["usage"]
        return [told, m["stop_reason"], m["stop_sequence"]], u["input_tokens"] + u["cache_read_input_tokens"], u["output_tokens"]
    events = [(name, json.loads(data)) for name, data in events_of(body)]
    need(all(name == data["type"] for name, data in events), "an event's name is not its type")
    need(events[0][0] == "message_start" and events[-1][0] == "message_stop", "a stream without its ends")
    blocks, last = {}, None
    for name, d in events:
        if name == "content_block_start":
            blocks[d["index"]] = [d["content_block"], ""]
        if name == "content_block_delta":
            blocks[d["index"]][1] += d["delta"].get("text", d["delta"].get("partial_json", ""))
        if name == "message_delta":
            last = d
    told = []
    for _, (b, text) in sorted(blocks.items()):
        cut = last["delta"]["stop_reason"] == "max_tokens"
        told.append(("text", text) if b["type"] == "text" else (b["type"], (b["name"], None if cut else json.loads(text))))
    u = last["usage"]
    return ([told, last["delta"]["stop_reason"], last["delta"]["stop_sequence"]],
            u["input_tokens"] + u["cache_read_input_tokens"], u["output_tokens"])


def embeddings_answer(body):
    a = json.loads(body)
    vectors = []
    for d in a["data"]:
        v = d["embedding"]
        vectors.append(base64.b64decode(v) if isinstance(v, str) else array("f", v).tobytes())
    need(all(abs(sum(x * x for x in array("f", v)) - 1) < 1e-4 for v in vectors), "a vector that has not length 1")
    return vectors, a["usage"]["prompt_tokens"], 0


def answer_of(recipe, body, stream):
    """What was answered, for comparison, the prompt's tokens and the answer's. Raises Wrong and what parsers raise."""
    if recipe.form in ("chat", "completion"):
        answer = openai_stream(events_of(body), recipe.form == "chat") if stream else json.loads(body)
        return openai_answer(recipe, answer)
    if recipe.form == "responses":
        return responses_answer(recipe, body, stream)
    if recipe.form == "messages":
        told, p, n = messages_answer(body, stream)
        return told, p, n
    if recipe.form == "embeddings":
        return embeddings_answer(body)
    return json.loads(body), 0, 0
