"""The Responses API with the official client and on the wire, on the real SmolLM2."""
import json
import re

import jsonschema
import openai
import pytest

from test_anthropic import post

WEATHER = {"type": "function", "name": "get_weather", "description": "The weather of a city.", "strict": True,
           "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
                                                           "unit": {"enum": ["C", "F"]}},
                          "required": ["city", "unit"], "additionalProperties": False}}
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}


@pytest.fixture
def client(smol_server):
    return openai.OpenAI(base_url=smol_server.base_url, api_key="unused", max_retries=0)


@pytest.mark.slow
def test_a_response(client):
    r = client.responses.create(model="smol", instructions="Be brief.", input="Say hello.", temperature=0,
                                max_output_tokens=200, metadata={"a": "b"})
    assert r.object == "response" and r.id.startswith("resp_") and r.status == "completed"
    assert r.output_text and [i.type for i in r.output] == ["message"] and r.output[0].role == "assistant"
    assert r.usage.total_tokens == r.usage.input_tokens + r.usage.output_tokens and r.usage.output_tokens > 0
    assert r.instructions == "Be brief." and r.metadata == {"a": "b"} and r.error is None
    assert r.incomplete_details is None and r.temperature == 0


@pytest.mark.slow
def test_a_stream_gives_the_same_response(client):
    ask = dict(model="smol", input="Say hello.", temperature=0, max_output_tokens=200)
    whole = client.responses.create(**ask)
    with client.responses.stream(**ask) as stream:
        events = list(stream)
        last = stream.get_final_response()
    assert last.output_text == whole.output_text and last.status == whole.status
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text


def test_the_events_on_the_wire(smol_server):
    _, headers, text = post(smol_server, "/v1/responses", {"model": "smol", "input": "Say hello.", "stream": True,
                                                           "max_output_tokens": 2, "temperature": 0})
    assert headers["Content-Type"] == "text/event-stream"
    blocks = text.strip().split("\n\n")
    assert blocks.pop() == "data: [DONE]"
    events = [(b.split("\n")[0][7:], json.loads(b.split("\n")[1][6:])) for b in blocks]
    assert all(name == data["type"] for name, data in events)
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    names = [name for name, _ in events]
    deltas = names.count("response.output_text.delta")
    assert names == ["response.created", "response.in_progress", "response.output_item.added",
                     "response.content_part.added", *["response.output_text.delta"] * deltas,
                     "response.output_text.done", "response.content_part.done", "response.output_item.done",
                     "response.incomplete"] and deltas
    assert events[0][1]["response"]["status"] == "in_progress" and events[0][1]["response"]["output"] == []
    last = events[-1][1]["response"]
    assert last["incomplete_details"] == {"reason": "max_output_tokens"} and last["usage"]["output_tokens"] == 2
    item = events[2][1]["item"]["id"]
    assert all(data["item_id"] == item for name, data in events if "item_id" in data) and last["output"][0]["id"] == item


@pytest.mark.slow
def test_a_tool_is_called_and_answered(client):
    question = {"role": "user", "content": [{"type": "input_text", "text": "Weather in Berne?"}]}
    ask = dict(model="smol", tools=[WEATHER], temperature=0)
    with client.responses.stream(**ask, input=[question], tool_choice="required", parallel_tool_calls=False) as stream:
        pieces = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
        first = stream.get_final_response()
    call = first.output[-1]
    assert call.type == "function_call" and call.name == "get_weather" and "".join(pieces) == call.arguments
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    named = client.responses.create(**ask, input=[question], tool_choice={"type": "function", "name": "get_weather"})
    assert named.output[-1].type == "function_call"
    second = client.responses.create(**ask, max_output_tokens=5, tool_choice="none", input=[
        question, call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}])
    assert second.output[-1].type == "message"


@pytest.mark.slow
def test_a_schema_holds(client):
    r = client.responses.create(model="smol", input="A person, as JSON.", text={
        "format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}})
    assert r.status == "completed"
    jsonschema.validate(json.loads(r.output_text), PERSON)


@pytest.mark.slow
def test_log_probabilities_come_with_the_text(client):
    r = client.responses.create(model="smol", input="Hi", temperature=0, max_output_tokens=4, top_logprobs=2,
                                include=["message.output_text.logprobs"])
    logprobs = r.output[0].content[0].logprobs
    assert len(logprobs) == 4 and all(len(p.top_logprobs) == 2 and p.logprob <= 0 for p in logprobs)
    assert "".join(p.token for p in logprobs) == r.output_text


@pytest.mark.parametrize("change, param", [
    ({"input": None}, "input"), ({"input": []}, "input"), ({"input": [3]}, "input.0"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input.0"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.0"),
    ({"input": [{"role": "user", "content": [{"text": "x"}]}]}, "input.0"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "input.0"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
    ({"input": [{"type": "function_call", "name": "x"}]}, "input.0"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"),
    ({"prompt": {"id": "pmpt_1", "version": "2", "variables": {}}}, "prompt.id"), ({"background": True}, "background"),
    ({"truncation": "auto"}, "truncation"), ({"tools": [{"type": "web_search"}]}, "tools.0"),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice"), ({"instructions": 3}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"), ({"temperature": "x"}, "temperature"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "text.format"),
    ({"model": "none"}, "model"), ({"max_tool_calls": 1}, "max_tool_calls"),
    ({"text": 5}, "text"), ({"include": "reasoning"}, "include"), ({"priority": "first"}, "priority"),
    ({"input": "word " * 6000}, "input"),
])
def test_what_is_wrong_is_refused_by_name(smol_server, change, param):
    status, _, text = post(smol_server, "/v1/responses", {"model": "smol", "input": "Hi", "max_output_tokens": 2, **change})
    error = json.loads(text)["error"]
    assert status in (400, 404) and error["param"] == param and set(error) == {"message", "type", "param", "code"}, text


@pytest.mark.parametrize("change, says", [
    ({"max_output_tokens": 0}, "'max_output_tokens' is 0"), ({"max_output_tokens": "x"}, "'max_output_tokens' must be an integer"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format must be an object with a name and a schema"),
    ({"text": {"format": {"type": "xml"}}}, "text.format.type 'xml'"),
    ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "not"),
    ({"tools": [{"type": "function"}]}, "tools[0] must have a name"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name must be"),
    ({"tools": [{"type": "function", "name": "a", "parameters": 3}]}, "tools[0].parameters must be"),
    ({"tool_choice": "sometimes"}, '{"type": "function", "name": ...}'), ({"input": [{"type": "reasoning", "summary": []}]}, "'input'"),
])
def test_errors_name_the_fields_of_this_api(smol_server, change, says):
    body = {"model": "smol", "input": "Hi", **change}
    error = json.loads(post(smol_server, "/v1/responses", body)[2])["error"]
    assert says in error["message"], error
    assert not re.search(r"\bmax_tokens|messages|response_format|format\.json_schema|function\.", error["message"]), error
