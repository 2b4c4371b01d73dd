"""The real `openai` client against the Responses API of a running server.

    python responses_client.py http://127.0.0.1:PORT/v1

Each check is a function whose name begins with `check_`, and raises if it fails. Prints a line per check.
"""

import json
import sys
import time

import openai
from pydantic import BaseModel

CLIENT = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0, timeout=300)
MODEL = CLIENT.models.list().data[0].id
SEA = "Tell me about the sea."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def ask(**more):
    return CLIENT.responses.create(**{"model": MODEL, "input": SEA, "temperature": 0, "max_output_tokens": 16, **more})


def refused(call, param, code=None, kind=openai.BadRequestError):
    try:
        call()
    except kind as error:
        assert error.body["message"] and error.type == "invalid_request_error", error.body
        assert (error.param, error.code) == (param, code), (error.param, error.code)
        return
    raise AssertionError(f"{kind.__name__} was expected")


def check_whole():
    answer = ask(instructions="Be brief.", metadata={"a": "b"})
    assert answer.object == "response" and answer.id.startswith("resp_") and answer.model == MODEL
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"
    message = answer.output[0]
    assert (message.type, message.role, message.status) == ("message", "assistant", "incomplete")
    assert answer.output_text and message.content[0].annotations == []
    assert answer.instructions == "Be brief." and answer.metadata == {"a": "b"} and answer.temperature == 0
    usage = answer.usage
    assert usage.output_tokens == 16 and usage.total_tokens == usage.input_tokens + 16
    assert usage.output_tokens_details.reasoning_tokens == 0 and usage.input_tokens_details.cached_tokens >= 0
    assert abs(answer.created_at - time.time()) < 600


def check_natural_end():
    answer = ask(input="Say hi.", max_output_tokens=200)
    assert answer.status == "completed" and answer.incomplete_details is None and answer.error is None
    assert answer.output[0].status == "completed" and "<|" not in answer.output_text


def check_streamed():
    whole = ask()
    events = list(ask(stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 8
    head = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    tail = ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"]
    assert kinds == head + ["response.output_text.delta"] * deltas + tail, kinds
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert events[-1].response.usage.output_tokens == 16


def check_stream_helper():
    with CLIENT.responses.stream(model=MODEL, input="Say hi.", temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.status == "completed" and final.output_text == text


class Animal(BaseModel):
    kind: str
    legs: int


def check_parsed():
    answer = CLIENT.responses.parse(model=MODEL, input="Describe a cat.", text_format=Animal, temperature=0)
    assert isinstance(answer.output_parsed, Animal), answer
    wanted = {"type": "json_schema", "name": "colour", "schema": {"enum": ["red", "blue"], "type": "string"}}
    assert json.loads(ask(text={"format": wanted}, max_output_tokens=50).output_text) in ("red", "blue")


def check_logprobs():
    answer = ask(include=["message.output_text.logprobs"], top_logprobs=3, max_output_tokens=5)
    logprobs = answer.output[0].content[0].logprobs
    assert len(logprobs) == 5 and all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in logprobs)
    assert b"".join(bytes(token.bytes) for token in logprobs).decode() == answer.output_text
    assert ask().output[0].content[0].logprobs == []


def check_kept():
    first = ask(input="My name is Ada. Say hi.", max_output_tokens=40)
    assert CLIENT.responses.retrieve(first.id).output_text == first.output_text
    second = ask(input="What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.total_tokens - 2
    # The same conversation, sent whole.
    items = [{"role": "user", "content": "My name is Ada. Say hi."}, *first.output, {"role": "user", "content": "What is my name?"}]
    sent = ask(input=items)
    assert (sent.output_text, sent.usage.input_tokens) == (second.output_text, second.usage.input_tokens)
    third = ask(input="Thanks.", previous_response_id=second.id, instructions="Be kind.")
    # The instructions replace the template's own, and everything else is there.
    assert third.usage.input_tokens > second.usage.input_tokens
    CLIENT.responses.delete(first.id)
    refused(lambda: CLIENT.responses.retrieve(first.id), None, kind=openai.NotFoundError)
    refused(lambda: CLIENT.responses.delete(first.id), None, kind=openai.NotFoundError)
    # What follows has its own copy.
    assert CLIENT.responses.retrieve(third.id).status in ("completed", "incomplete")
    for gone in (first.id, ask(store=False).id, "resp_made_up"):
        refused(lambda: ask(previous_response_id=gone), "previous_response_id", "previous_response_not_found")


def check_references():
    first = ask(input="My name is Ada. Say hi.", max_output_tokens=40)
    turns = [{"role": "user", "content": "My name is Ada. Say hi."}, {"role": "user", "content": "What is my name?"}]
    sent = ask(input=[turns[0], *first.output, turns[1]])
    kept = {"type": "item_reference", "id": first.output[0].id}
    assert ask(input=[turns[0], kept, turns[1]]).output_text == sent.output_text
    unknown = {"type": "item_reference", "id": "msg_made_up"}
    refused(lambda: ask(input=[unknown]), "input[0].id", kind=openai.NotFoundError)


def check_verbosity():
    # With instructions, since the template has a system message of its own where there are none.
    kind = {"instructions": "Be kind."}
    plain, brief = ask(**kind), ask(text={"verbosity": "low"}, **kind)
    assert brief.text.verbosity == "low" and brief.usage.input_tokens > plain.usage.input_tokens
    assert ask(text={"verbosity": "medium"}, **kind).usage.input_tokens == plain.usage.input_tokens
    refused(lambda: ask(text={"verbosity": "tiny"}), "text.verbosity")


def check_tools_beside_a_format():
    more = {"text_format": Animal, "tools": [WEATHER], "max_output_tokens": 300}
    answer = CLIENT.responses.parse(model=MODEL, input="Describe a cat.", temperature=0, **more)
    called = [item for item in answer.output if item.type == "function_call"]
    assert isinstance(answer.output_parsed, Animal) or called[0].parsed_arguments["city"] in ("Paris", "Rome"), answer
    forced = CLIENT.responses.parse(model=MODEL, input="Rome?", temperature=0, tool_choice="required", **more)
    assert [item.type for item in forced.output][0] == "function_call", forced.output


def check_counted():
    count = CLIENT.responses.input_tokens.count(model=MODEL, input=SEA)
    assert count.object == "response.input_tokens" and count.input_tokens == ask().usage.input_tokens


def check_errors():
    refused(lambda: ask(background=True), "background", "unsupported_parameter")
    refused(lambda: ask(tools=[{"type": "web_search"}]), "tools[0].type", "unsupported_parameter")
    refused(lambda: ask(input=[{"type": "local_shell_call"}]), "input[0].type", "unsupported_parameter")
    refused(lambda: ask(input=[{"type": "function_call_output", "call_id": "x", "output": "y"}]), "input[0].call_id")
    refused(lambda: ask(extra_body={"made_up": 1}), "made_up", "unknown_parameter")
    long = "word " * 9000
    refused(lambda: ask(input=long), "input", "context_length_exceeded")
    events = list(ask(input=long, stream=True))
    assert [event.type for event in events] == ["response.created", "response.in_progress", "response.failed"]
    assert events[-1].response.error.code == "context_length_exceeded" and events[-1].response.status == "failed"
    assert ask(max_output_tokens=1).output, "the server goes on"


def check_tools():
    answer = ask(input="How is the weather in Rome?", tools=[WEATHER], tool_choice="required", max_output_tokens=100)
    call = answer.output[-1]
    assert (call.type, call.name, call.status) == ("function_call", "get_weather", "completed"), answer.output
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome") and call.call_id.startswith("call_")
    assert answer.tools[0].name == "get_weather" and answer.tool_choice == "required"
    # The call and its result, by id and as items.
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    by_id = ask(input=[result], previous_response_id=answer.id, tools=[WEATHER])
    whole = ask(input=[{"role": "user", "content": "How is the weather in Rome?"}, *answer.output, result], tools=[WEATHER])
    assert (by_id.output_text, by_id.usage.input_tokens) == (whole.output_text, whole.usage.input_tokens)
    assert by_id.usage.input_tokens_details.cached_tokens > 0


def check_tools_streamed():
    more = {"input": "Weather in Paris?", "tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 100}
    with CLIENT.responses.stream(model=MODEL, temperature=0, **more) as stream:
        events = list(stream)
        final = stream.get_final_response()
    call = final.output[-1]
    fragments = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert "".join(fragments) == call.arguments == done[0].arguments and done[0].item_id == call.id
    assert call.parsed_arguments["city"] in ("Paris", "Rome")


def check_custom_and_namespaces():
    note = {"type": "custom", "name": "note", "description": "Takes a note."}
    spaces = [{"type": "namespace", "name": name, "description": name, "tools": [WEATHER, note]} for name in ("home", "away")]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "namespace", "name": "away"}]}
    answer = ask(tools=spaces, tool_choice=choice, max_output_tokens=200)
    call = answer.output[-1]
    assert call.namespace == "away" and call.name in ("get_weather", "note"), answer.output
    only = [{**spaces[1], "tools": [note]}]
    events = list(ask(tools=only, tool_choice={"type": "custom", "name": "note"}, max_output_tokens=200, stream=True))
    done = [event for event in events if event.type == "response.custom_tool_call_input.done"]
    item = events[-1].response.output[-1]
    assert item.type == "custom_tool_call" and item.namespace == "away" and done[0].input == item.input, item
    result = {"type": "custom_tool_call_output", "call_id": item.call_id, "output": "noted"}
    assert ask(input=[{"role": "user", "content": SEA}, item, result], tools=only).output_text


def check_ten_turns_prefill_what_is_new():
    items = [{"role": "user", "content": "Compare the weather of Paris and Rome, day by day."}]
    before = 0
    for turn in range(10):
        answer = ask(input=items, tools=[WEATHER], tool_choice="required", store=False, max_output_tokens=100)
        usage = answer.usage
        fresh = usage.input_tokens - usage.input_tokens_details.cached_tokens
        # The prompt begins with the one before, of which all but a part of a block is kept.
        if turn:
            assert fresh <= usage.input_tokens - before + 64, (turn, usage, before)
        before = usage.input_tokens
        call = answer.output[-1]
        assert call.type == "function_call", answer.output
        items += [*answer.output, {"type": "function_call_output", "call_id": call.call_id, "output": f"day {turn}: sunny"}]
    assert before > 400


def main():
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            begun = time.monotonic()
            check()
            print(f"{name[6:].replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
