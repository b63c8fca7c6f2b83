"""The Messages API with the official client and on the wire, on the real SmolLM2."""
import json
import urllib.error
import urllib.request

import anthropic
import jsonschema
import pytest

WEATHER = {"name": "get_weather", "description": "The weather of a city.",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20},
                                                             "unit": {"enum": ["C", "F"]}},
                            "required": ["city", "unit"], "additionalProperties": False}}
COLD = {"temperature": 0}  # the client no longer has a field for it
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(smol_server):
    return anthropic.Anthropic(base_url=smol_server.url, api_key="unused", max_retries=0)


def post(server, path, body):
    """Status, headers and body of a bare request."""
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as r:
            return r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


@pytest.mark.slow
def test_a_message_is_answered(client):
    m = client.messages.create(model="smol", max_tokens=12, extra_body=COLD, system="Be brief.", messages=HELLO)
    assert m.type == "message" and m.role == "assistant" and m.id.startswith("msg_")
    assert [b.type for b in m.content] == ["text"] and m.content[0].text
    assert m.stop_reason in ("end_turn", "max_tokens") and m.stop_sequence is None
    assert m.usage.output_tokens > 0 and m.usage.input_tokens + m.usage.cache_read_input_tokens > 10


@pytest.mark.slow
def test_a_stream_gives_the_same_message(client):
    ask = dict(model="smol", max_tokens=20, extra_body=COLD, messages=HELLO)
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as stream:
        kinds = [e.type for e in stream]
        last = stream.get_final_message()
    assert last.content[0].text == whole.content[0].text and last.stop_reason == whole.stop_reason
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


def test_the_events_on_the_wire(smol_server):
    _, headers, text = post(smol_server, "/v1/messages", {"model": "smol", "max_tokens": 3, "stream": True,
                                                          "temperature": 0, "messages": HELLO})
    assert headers["Content-Type"] == "text/event-stream" and headers["request-id"] == headers["x-serin-call"]
    events = [block.split("\n") for block in text.strip().split("\n\n")]
    assert all(len(e) == 2 and e[0].startswith("event: ") and e[1].startswith("data: ") for e in events)
    data = [json.loads(e[1][6:]) for e in events]
    assert [e[0][7:] for e in events] == [d["type"] for d in data]
    assert data[0]["message"]["content"] == [] and data[0]["message"]["stop_reason"] is None
    assert data[1]["type"] == "ping" and data[2]["content_block"] == {"type": "text", "text": ""}
    assert data[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert data[-2]["usage"]["output_tokens"] == 3


def test_a_stream_s_first_event_knows_what_the_cache_held(smol_server):
    ask = {"model": "smol", "max_tokens": 2, "stream": True,
           "messages": [{"role": "user", "content": "Birds that breed on the islands of the south. " * 30}]}
    usages = []
    for _ in range(2):
        text = post(smol_server, "/v1/messages", ask)[2]
        data = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]
        start, delta = data[0]["message"]["usage"], [d for d in data if d["type"] == "message_delta"][0]["usage"]
        assert data[0]["type"] == "message_start"
        for field in ("input_tokens", "cache_read_input_tokens"):
            assert start[field] == delta[field]
        usages.append(start)
    assert usages[0]["cache_read_input_tokens"] < 64 <= usages[1]["cache_read_input_tokens"]
    assert sum(usages[0].values()) - usages[0]["output_tokens"] == sum(usages[1].values()) - usages[1]["output_tokens"]


@pytest.mark.slow
def test_a_stop_sequence_is_named(client):
    ask = dict(model="smol", max_tokens=40, extra_body=COLD, messages=HELLO)
    text = client.messages.create(**ask).content[0].text
    stop = text[3:7]
    cut = client.messages.create(**ask, stop_sequences=["never in there", stop])
    assert cut.stop_reason == "stop_sequence" and cut.stop_sequence == stop
    assert cut.content[0].text == text[:text.index(stop)]


@pytest.mark.slow
def test_an_assistants_beginning_is_continued(client):
    m = client.messages.create(model="smol", max_tokens=8, extra_body=COLD, messages=[
        {"role": "user", "content": "Count."}, {"role": "assistant", "content": "One, two, three,"}])
    assert "four" in m.content[0].text


@pytest.mark.slow
@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}])
def test_a_forced_tool_gets_valid_input(client, choice):
    m = client.messages.create(model="smol", max_tokens=200, extra_body=COLD, tools=[WEATHER],
                               tool_choice={**choice, "disable_parallel_tool_use": True},
                               messages=[{"role": "user", "content": "Weather in Berne?"}])
    calls = [b for b in m.content if b.type == "tool_use"]
    assert m.stop_reason == "tool_use" and calls
    for call in calls:
        assert call.name == "get_weather" and call.id.startswith("toolu_")
        jsonschema.validate(call.input, WEATHER["input_schema"])


@pytest.mark.slow
def test_a_tools_input_is_streamed_as_json(client):
    with client.messages.stream(model="smol", max_tokens=200, tools=[WEATHER], extra_body=COLD,
                                tool_choice={"type": "any", "disable_parallel_tool_use": True},
                                messages=[{"role": "user", "content": "Weather in Berne?"}]) as stream:
        parts = [e.partial_json for e in stream if e.type == "input_json"]
        m = stream.get_final_message()
    assert [b.type for b in m.content] == ["tool_use"]
    assert json.loads("".join(parts)) == m.content[0].input
    jsonschema.validate(m.content[0].input, WEATHER["input_schema"])


@pytest.mark.slow
def test_a_tools_result_goes_back(client):
    m = client.messages.create(model="smol", max_tokens=5, tools=[WEATHER], tool_choice={"type": "none"}, messages=[
        {"role": "user", "content": [{"type": "text", "text": "Weather in Berne?"}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": ""},
                                          {"type": "text", "text": "I look."},
                                          {"type": "tool_use", "id": "toolu_1", "name": "get_weather",
                                           "input": {"city": "Berne", "unit": "C"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1",
                                      "content": [{"type": "text", "text": "12 degrees"}]},
                                     {"type": "text", "text": "And?"}]}])
    assert m.content[0].type == "text"


@pytest.mark.slow
def test_tokens_are_counted_as_they_are_used(client):
    ask = dict(model="smol", system=[{"type": "text", "text": "Be brief."}], messages=HELLO, tools=[WEATHER])
    counted = client.messages.count_tokens(**ask).input_tokens
    used = client.messages.create(**ask, max_tokens=1).usage
    assert counted == used.input_tokens + used.cache_read_input_tokens


@pytest.mark.parametrize("change, status, kind, word", [
    ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
    ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
    ({"messages": []}, 400, "invalid_request_error", "messages"),
    ({"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request_error", "field system"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400, "invalid_request_error",
     "messages.0.content"),
    ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, 400, "invalid_request_error", "tool_use_id"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, 400, "invalid_request_error", "block 0 has no type"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 3}]}]}, 400, "invalid_request_error", "block 0 needs"),
    ({"messages": [{"role": "user", "content": 3}]}, 400, "invalid_request_error", "messages.0.content"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "invalid_request_error", "tools.0"),
    ({"tools": [{"name": "a"}]}, 400, "invalid_request_error", "input_schema"),
    ({"tools": [WEATHER, WEATHER]}, 400, "invalid_request_error", "twice"),
    ({"tools": [{**WEATHER, "name": "two words"}]}, 400, "invalid_request_error", "name"),
    ({"tools": [{**WEATHER, "name": f"t{i}"} for i in range(129)]}, 400, "invalid_request_error", "129 tools"),
    ({"tools": [{**WEATHER, "input_schema": {"enum": ["x" * 300000]}}]}, 400, "invalid_request_error", "at most 262144"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"enum": ["x" * 300000]}}}}, 400, "invalid_request_error",
     "output_config.format.schema"),
    ({"tool_choice": {"type": "any"}}, 400, "invalid_request_error", "tool_choice"),
    ({"tool_choice": {"type": "tool", "name": "x"}, "tools": [WEATHER]}, 400, "invalid_request_error", "'x'"),
    ({"temperature": 3}, 400, "invalid_request_error", "temperature"),
    ({"temperature": "hot"}, 400, "invalid_request_error", "temperature"),
    ({"top_k": 1.5}, 400, "invalid_request_error", "top_k"),
    ({"stop_sequences": [""]}, 400, "invalid_request_error", "stop_sequences"),
    ({"stop_sequences": ["a"] * 17}, 400, "invalid_request_error", "stop_sequences"),
    ({"stream": 1}, 400, "invalid_request_error", "stream"),
    ({"thinking": {"type": "much"}}, 400, "invalid_request_error", "thinking"),
    ({"output_config": {"format": {"type": "json_schema", "schema": {"not": {}}}}}, 400, "invalid_request_error", "not"),
    ({"output_config": {"format": {"type": "xml"}}}, 400, "invalid_request_error", "output_config.format.type"),
    ({"mcp_servers": [{}]}, 400, "invalid_request_error", "mcp_servers"),
    ({"model": "none"}, 404, "not_found_error", "none"),
    ({"model": ""}, 400, "invalid_request_error", "model"),
    ({"system": [{"type": "image"}]}, 400, "invalid_request_error", "system"),
    ({"messages": [{"role": "user", "content": "word " * 6000}]}, 400, "invalid_request_error", "context"),
])
def test_what_is_wrong_is_refused_by_name(smol_server, change, status, kind, word):
    code, _, text = post(smol_server, "/v1/messages", {"model": "smol", "max_tokens": 4, "messages": HELLO, **change})
    body = json.loads(text)
    assert code == status, text
    assert body["type"] == "error" and body["error"]["type"] == kind and word in body["error"]["message"], text


@pytest.mark.slow
def test_a_schema_holds(client):
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
              "required": ["name", "age"], "additionalProperties": False}
    m = client.messages.create(model="smol", max_tokens=200, messages=[{"role": "user", "content": "A person, as JSON."}],
                               output_config={"effort": "low", "format": {"type": "json_schema", "schema": schema}})
    assert m.stop_reason == "end_turn"
    jsonschema.validate(json.loads(m.content[0].text), schema)


def test_harmless_fields_are_ignored(smol_server):
    code, _, text = post(smol_server, "/v1/messages", {
        "model": "smol", "max_tokens": 1, "metadata": {"user_id": "u"}, "service_tier": "auto", "whatever": 1,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]})
    assert code == 200, text
