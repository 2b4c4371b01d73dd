"""The real `anthropic` client against a running server with a chat model.

    python anthropic_client.py http://127.0.0.1:PORT KEY

Each check is a function whose name begins with `check_`, and raises if it fails. Prints a line per check.
"""

import json
import sys
import time

import anthropic

BASE, KEY = sys.argv[1:]
CLIENT = anthropic.Anthropic(base_url=BASE, api_key=KEY, max_retries=0, timeout=300)
MODEL = CLIENT.models.list().data[0].id
ASK = [{"role": "user", "content": "Tell me about the sea."}]
ADD = {
    "name": "add",
    "description": "Adds two numbers.",
    "input_schema": {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 99}, "b": {"type": "integer", "maximum": 99}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


def create(extra_body=None, **more):
    # This version of the client has no argument for the temperature any more; the API does.
    extra = {"temperature": 0, **(extra_body or {})}
    return CLIENT.messages.create(**{"model": MODEL, "messages": ASK, "max_tokens": 16, "extra_body": extra, **more})


def streamed(**more):
    arguments = {"model": MODEL, "messages": ASK, "max_tokens": 16, "extra_body": {"temperature": 0}, **more}
    return CLIENT.messages.stream(**arguments)


def prompt_tokens(usage):
    return usage.input_tokens + usage.cache_read_input_tokens


def refused(kind, part, call):
    try:
        call()
    except kind as error:
        assert error.body["type"] == "error" and error.body["request_id"] == error.request_id, error.body
        assert part in error.body["error"]["message"], error.body
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def check_models():
    page = CLIENT.models.list()
    assert [model.id for model in page] == [MODEL] and page.has_more is False
    model = CLIENT.models.retrieve(MODEL)
    assert model.max_input_tokens > 2000 and model.type == "model" and model.created_at.year > 2000
    refused(anthropic.NotFoundError, "`another`", lambda: CLIENT.models.retrieve("another"))


def check_whole():
    message = create()
    assert message.type == "message" and message.role == "assistant" and message.model == MODEL
    assert [block.type for block in message.content] == ["text"] and message.content[0].text
    assert message.stop_reason == "max_tokens" and message.stop_sequence is None
    assert message.usage.output_tokens == 16 and prompt_tokens(message.usage) > 10
    ended = create(messages=[{"role": "user", "content": "Say yes."}], max_tokens=200)
    assert ended.stop_reason == "end_turn" and ended.usage.output_tokens < 200


def check_stream():
    whole = create()
    with streamed() as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == whole.content[0].text == final.content[0].text and len(pieces) > 5
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 16
    assert prompt_tokens(final.usage) == prompt_tokens(whole.usage)
    kinds = [event.type for event in create(stream=True)]
    assert kinds[0] == "message_start" and kinds[1] == "content_block_start", kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    assert set(kinds[2:-3]) == {"content_block_delta"}, kinds


def check_count_tokens():
    system = [{"type": "text", "text": "Be brief."}]
    counted = CLIENT.messages.count_tokens(model=MODEL, messages=ASK, system=system, tools=[ADD])
    assert counted.input_tokens == prompt_tokens(create(system=system, tools=[ADD], tool_choice={"type": "auto"}).usage)
    assert counted.input_tokens > CLIENT.messages.count_tokens(model=MODEL, messages=ASK, system=system).input_tokens + 20
    beta = CLIENT.beta.messages.count_tokens(model=MODEL, messages=ASK, betas=["token-counting-2024-11-01"])
    assert beta.input_tokens == CLIENT.messages.count_tokens(model=MODEL, messages=ASK).input_tokens


def check_stop_sequences():
    text = create().content[0].text
    word = text.split()[3]
    stopped = create(stop_sequences=[word])
    assert stopped.content[0].text == text[: text.index(word)]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)


def check_sampling():
    plain = create().content[0].text
    assert create({"temperature": 1, "top_k": 1}).content[0].text == plain
    assert create({"temperature": 1, "top_p": 0.000001}).content[0].text == plain
    same = create(metadata={"user_id": "a"}, service_tier="auto", thinking={"type": "disabled"})
    assert same.content[0].text == plain


def check_prefill():
    whole = create(max_tokens=12).content[0].text
    half = whole[: whole.index(" ", len(whole) // 2)]
    rest = create(messages=[*ASK, {"role": "assistant", "content": half}], max_tokens=6).content[0].text
    assert rest.startswith(" ") and (half + rest).startswith(whole[: len(half) + 8]), (half, rest, whole)


def check_format():
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"type": "integer", "maximum": 9}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    asked = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    message = create(output_config=asked, max_tokens=100)
    said = json.loads(message.content[0].text)
    assert set(said) == {"name", "size"} and message.stop_reason == "end_turn", said


def check_billing_header_changes_nothing():
    def ask(turn):
        header = f"x-anthropic-billing-header: cc_version=2.1.{turn}; cch={turn};"
        return create(system=[{"type": "text", "text": header}, {"type": "text", "text": "You like rivers and lakes."}])

    one, two = ask(1), ask(2)
    assert one.content == two.content and prompt_tokens(one.usage) == prompt_tokens(two.usage)
    assert two.usage.input_tokens <= 1, two.usage


def check_tools():
    sums = [{"role": "user", "content": "What is 2 and 3?"}]
    for choice in ({"type": "any"}, {"type": "tool", "name": "add", "disable_parallel_tool_use": True}):
        called = create(messages=sums, tools=[ADD], tool_choice=choice, max_tokens=200)
        block = next(block for block in called.content if block.type == "tool_use")
        assert called.stop_reason == "tool_use" and block.name == "add" and block.id.startswith("toolu_")
        assert set(block.input) == {"a", "b"} and all(isinstance(value, int) for value in block.input.values())
        with streamed(messages=sums, tools=[ADD], tool_choice=choice, max_tokens=200) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_message()
        assert [(block.name, block.input) for block in final.content if block.type == "tool_use"] == [
            (block.name, block.input) for block in called.content if block.type == "tool_use"
        ]
        assert final.stop_reason == "tool_use" and "input_json" in kinds, kinds
    silent = create(messages=sums, tools=[ADD], tool_choice={"type": "none"})
    assert all(block.type == "text" for block in silent.content)
    refused(
        anthropic.BadRequestError,
        "`tool_choice.name`",
        lambda: create(tools=[ADD], tool_choice={"type": "tool", "name": "other"}),
    )


def check_ten_turns_prefill_only_what_is_new():
    choice = {"type": "tool", "name": "add", "disable_parallel_tool_use": True}
    messages, before, saved = [{"role": "user", "content": "Add 1 and 2, please."}], 0, 0
    for turn in range(10):
        message = create(messages=messages, system="You add numbers.", tools=[ADD], tool_choice=choice, max_tokens=200)
        assert message.stop_reason == "tool_use", message
        total = prompt_tokens(message.usage)
        # What was computed stays: new are the answer, as the template writes it, the result and the question.
        assert message.usage.input_tokens <= total - before, (turn, message.usage, before)
        assert turn == 0 or total - before < 150, (turn, total, before)
        before, saved = total, saved + message.usage.cache_read_input_tokens
        calls = [block for block in message.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": str(sum(call.input.values()))} for call in calls
        ]
        ask = {"type": "text", "text": f"Now add {turn} and {turn + 3}."}
        messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": [*results, ask]}]
    assert saved > 5 * before / 2, (saved, before)


def check_thinking():
    message = create(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048, stop_sequences=["."])
    assert message.content[-1].type == "text" and message.stop_reason in ("stop_sequence", "end_turn")
    earlier = [
        *ASK,
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Salt.", "signature": "of another server"},
            {"type": "redacted_thinking", "data": "aGlkZGVu"},
            {"type": "text", "text": "It is salty."},
        ]},
        {"role": "user", "content": "Why?"},
    ]
    assert create(messages=earlier, thinking={"type": "adaptive"}).content


def check_errors():
    bad = anthropic.BadRequestError
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    asks = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    refused(bad, "`messages[0].content[1]`", lambda: create(messages=asks))
    refused(bad, "`temperature`", lambda: create({"temperature": -1}))
    refused(bad, "`made_up`", lambda: create({"made_up": 1}))
    refused(bad, "`tools[0].type`", lambda: create(tools=[{"type": "web_search_20250305", "name": "web_search"}]))
    long = [{"role": "user", "content": "word " * 20_000}]
    refused(bad, "tokens", lambda: create(messages=long))
    refused(bad, "tokens", lambda: list(create(messages=long, stream=True)))
    wrong = anthropic.Anthropic(base_url=BASE, api_key="wrong", max_retries=0)
    ask = {"model": MODEL, "messages": ASK, "max_tokens": 1}
    error = refused(anthropic.AuthenticationError, "key", lambda: wrong.messages.create(**ask))
    assert error.type == "authentication_error"
    bearer = anthropic.Anthropic(base_url=BASE, auth_token=KEY, max_retries=0)
    assert bearer.messages.create(**ask).content


def main():
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            begun = time.monotonic()
            check()
            print(f"{name[6:].replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
