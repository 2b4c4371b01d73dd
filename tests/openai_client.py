"""The real `openai` client against a running server: usage, streaming, stop, log-probabilities, seeds, errors, cancelling.

    python openai_client.py http://127.0.0.1:PORT/v1

Each check is a function whose name begins with `check_`, and raises if it fails. Prints a line per check.
"""

import concurrent.futures
import json
import sys
import time
import urllib.request

import openai

BASE = sys.argv[1]
CLIENT = openai.OpenAI(base_url=BASE, api_key="unused", max_retries=0, timeout=300)
MODEL = CLIENT.models.list().data[0].id
ASK = [{"role": "user", "content": "Tell me about the sea."}]


def chat(**more):
    return CLIENT.chat.completions.create(**{"model": MODEL, "messages": ASK, "temperature": 0, "max_tokens": 16, **more})


def complete(**more):
    return CLIENT.completions.create(**{"model": MODEL, "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12, **more})


def streamed(**more):
    """Text, finish reason, usage and number of pieces of a streamed chat."""
    text, reason, usage, pieces = "", None, None, 0
    for chunk in chat(stream=True, stream_options={"include_usage": True}, **more):
        if chunk.usage is not None:
            usage = chunk.usage
        for choice in chunk.choices:
            if choice.delta.content:
                text += choice.delta.content
                pieces += 1
            reason = choice.finish_reason or reason
    return text, reason, usage, pieces


def health():
    with urllib.request.urlopen(BASE.removesuffix("v1") + "health") as response:
        return json.load(response)


def refused(kind, call, param=None, code=None):
    try:
        call()
    except kind as error:
        assert error.body["message"], error.body
        assert error.param == param, (error.param, param)
        assert error.code == code, (error.code, code)
        assert error.type == "invalid_request_error", error.type
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def check_models():
    model = CLIENT.models.retrieve(MODEL)
    assert model.object == "model" and model.owned_by == "satchel"
    assert model.meta["context_length"] > 0
    refused(openai.NotFoundError, lambda: CLIENT.models.retrieve("another"), "model", "model_not_found")


def check_chat():
    answer = chat()
    assert answer.object == "chat.completion" and answer.model == MODEL and answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason == "length"
    usage = answer.usage
    assert usage.completion_tokens == 16 and usage.total_tokens == usage.prompt_tokens + 16
    assert abs(answer.created - time.time()) < 600
    parts = chat(messages=[{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}])
    assert parts.choices[0].message.content == choice.message.content, "parts are the same text"


def check_chat_streamed():
    whole = chat()
    text, reason, usage, pieces = streamed()
    assert text == whole.choices[0].message.content
    assert reason == "length" and pieces > 8
    assert usage.completion_tokens == 16 and usage.prompt_tokens == whole.usage.prompt_tokens


def check_natural_end():
    answer = chat(messages=[{"role": "user", "content": "Say hi."}], max_tokens=200)
    assert answer.choices[0].finish_reason == "stop", answer
    assert "<|" not in answer.choices[0].message.content


def check_system_and_turns():
    talk = [
        {"role": "developer", "content": "Answer in one word."},
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "Another one."},
    ]
    assert chat(messages=talk).usage.prompt_tokens > chat().usage.prompt_tokens


def check_completions():
    answer = complete()
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.usage.completion_tokens == 12 and answer.choices[0].finish_reason == "length"
    text = "".join(chunk.choices[0].text for chunk in complete(stream=True) if chunk.choices)
    assert text == answer.choices[0].text
    both = complete(prompt=["Once upon a time", "The sea"], n=1)
    assert [choice.index for choice in both.choices] == [0, 1] and both.choices[0].text == text


def check_max_tokens():
    assert chat(max_tokens=3).usage.completion_tokens == 3
    assert chat(max_tokens=openai.omit, max_completion_tokens=4).usage.completion_tokens == 4


def check_stop():
    text = chat(max_tokens=24).choices[0].message.content
    word = text.split()[4]
    for stop in (word, ["never there at all", word]):
        answer = chat(max_tokens=24, stop=stop)
        assert answer.choices[0].finish_reason == "stop"
        assert answer.choices[0].message.content == text[: text.index(word)]
    # Spans tokens: the end of one word and the beginning of the next.
    middle = text[12:20]
    got, reason, _, _ = streamed(max_tokens=24, stop=[middle])
    assert got == text[: text.index(middle)] and reason == "stop", (got, middle)


def check_logprobs():
    answer = chat(logprobs=True, top_logprobs=4, max_tokens=6)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == 6
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 4
        assert token.top_logprobs[0].token == token.token, "greedy takes the most likely"
        assert sorted((top.logprob for top in token.top_logprobs), reverse=True) == [top.logprob for top in token.top_logprobs]
    pieces = [chunk for chunk in chat(logprobs=True, max_tokens=6, stream=True) if chunk.choices and chunk.choices[0].logprobs]
    assert [piece.choices[0].logprobs.content[0].logprob for piece in pieces] == [token.logprob for token in tokens]
    assert chat(max_tokens=2).choices[0].logprobs is None

    legacy = complete(logprobs=2, max_tokens=5).choices[0]
    assert len(legacy.logprobs.tokens) == len(legacy.logprobs.token_logprobs) == len(legacy.logprobs.top_logprobs) == 5
    assert "".join(legacy.logprobs.tokens) == legacy.text and legacy.logprobs.text_offset[0] == 0


def check_seed():
    def draw(seed):
        return chat(temperature=1.5, seed=seed, max_tokens=24).choices[0].message.content

    assert draw(11) == draw(11)
    assert len({draw(seed) for seed in range(4)}) > 1
    answers = chat(temperature=1.5, seed=11, max_tokens=24, n=2).choices
    assert answers[0].message.content == draw(11) and answers[1].message.content == draw(12)


def check_extensions():
    extra = {"top_k": 1, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0, "repeat_last_n": 64}
    assert chat(temperature=1.0, extra_body=extra).choices[0].message.content == chat().choices[0].message.content
    forced = chat(logit_bias={str(100): 100}, max_tokens=4, logprobs=True).choices[0].logprobs.content
    assert len({token.token for token in forced}) == 1
    assert chat(messages=[{"role": "user", "content": "Say hi."}], max_tokens=100, extra_body={"ignore_eos": True}).usage.completion_tokens == 100


def check_structured():
    kind = {"enum": ["cat", "dog"]}
    schema = {"type": "object", "properties": {"kind": kind, "legs": {"type": "integer", "minimum": 0, "maximum": 4}}}
    schema |= {"required": ["kind", "legs"], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": schema}}
    whole = chat(response_format=wanted, max_tokens=100)
    animal = json.loads(whole.choices[0].message.content)
    assert animal["kind"] in kind["enum"] and animal["legs"] in range(5) and whole.choices[0].finish_reason == "stop", animal
    text, reason, _, _ = streamed(response_format=wanted, max_tokens=100)
    assert (text, reason) == (whole.choices[0].message.content, "stop")
    assert chat(extra_body={"guided_choice": ["left", "right"]}).choices[0].message.content in ("left", "right")


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}


def calls(**more):
    """The calls of a chat with tools, whole and streamed, which are the same."""
    more = {"tools": [WEATHER, TIME], "max_tokens": 200, **more}
    choice = chat(**more).choices[0]
    whole = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
    streamed, reason = [], None
    for chunk in chat(stream=True, **more):
        reason = chunk.choices[0].finish_reason or reason
        for call in chunk.choices[0].delta.tool_calls or []:
            if call.index == len(streamed):
                assert call.id and call.type == "function"
                streamed.append([call.function.name, ""])
            streamed[call.index][1] += call.function.arguments or ""
    assert [tuple(call) for call in streamed] == whole, (streamed, whole)
    assert reason == choice.finish_reason
    return whole, choice


def check_tools():
    def sound(name, arguments):
        arguments = json.loads(arguments)
        assert arguments == {} if name == "get_time" else set(arguments) == {"city", "days"} and 1 <= arguments["days"] <= 9

    required, choice = calls(tool_choice="required")
    assert required and choice.finish_reason == "tool_calls", choice
    for name, arguments in required:
        sound(name, arguments)
    for name in ("get_weather", "get_time"):
        named, _ = calls(tool_choice={"type": "function", "function": {"name": name}}, parallel_tool_calls=False)
        assert [call[0] for call in named] == [name], named
        sound(*named[0])
        only = {"mode": "required", "tools": [{"type": "function", "function": {"name": name}}]}
        allowed, _ = calls(tool_choice={"type": "allowed_tools", "allowed_tools": only})
        assert {call[0] for call in allowed} == {name}, allowed
    assert calls(tool_choice="none", max_tokens=16)[0] == []
    cut, choice = calls(tool_choice="required", max_tokens=4)
    assert cut == [] and choice.finish_reason == "length", "a call that is cut off is no call"


def check_tool_errors():
    odd = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}, "strict": True}}
    refused(openai.BadRequestError, lambda: chat(tools=[odd]), "tools[0]")
    refused(openai.BadRequestError, lambda: chat(tools=[WEATHER, WEATHER]), "tools[1]")
    named = {"type": "function", "function": {"name": "other"}}
    refused(openai.BadRequestError, lambda: chat(tools=[WEATHER], tool_choice=named), "tool_choice")


def check_ten_turns_of_tools_compute_only_what_is_new():
    messages, before = list(ASK), 0
    for turn in range(10):
        answer = chat(messages=messages, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, max_tokens=100)
        call, usage = answer.choices[0].message.tool_calls[0], answer.usage
        computed = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens
        if turn:
            assert computed <= usage.prompt_tokens - before + 80, (turn, computed, usage.prompt_tokens, before)
        before = usage.prompt_tokens
        messages.append(answer.choices[0].message)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"It is {turn} degrees."})


def check_errors():
    bad = openai.BadRequestError
    refused(bad, lambda: chat(temperature=101), "temperature")
    refused(bad, lambda: chat(max_tokens="many"), "max_tokens")
    refused(bad, lambda: chat(messages=[]), "messages")
    refused(bad, lambda: chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]), "messages[0].content[0]")
    refused(bad, lambda: chat(tools=[{"type": "web_search"}]), "tools[0].type", "unsupported_parameter")
    refused(bad, lambda: chat(response_format={"type": "xml"}), "response_format.type", "unsupported_parameter")
    refused(bad, lambda: chat(extra_body={"made_up": 1}), "made_up", "unknown_parameter")
    refused(bad, lambda: complete(echo=True), "echo", "unsupported_parameter")
    long = [{"role": "user", "content": "word " * 9000}]
    for stream in (False, True):
        error = refused(bad, lambda: chat(messages=long, stream=stream), "messages", "context_length_exceeded")
        assert "8192" in error.message or "tokens" in error.message
    assert chat(max_tokens=1).choices, "the server goes on"


def check_concurrent_streams():
    prompts = ["Tell me about the sea.", "Write a poem about a cat.", "What is a number?"]

    def run(prompt):
        times, text = [], ""
        for chunk in chat(messages=[{"role": "user", "content": prompt}], max_tokens=40, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                times.append(time.monotonic())
                text += chunk.choices[0].delta.content
        return text, times

    alone = [run(prompt)[0] for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        together = list(pool.map(run, prompts))
    assert [text for text, _ in together] == alone, "each gives what it gives alone"
    starts, ends = [times[0] for _, times in together], [times[-1] for _, times in together]
    assert max(starts) < min(ends), "all progress at once"
    for _, times in together:
        others = [moment for _, other in together if other is not times for moment in other]
        assert any(times[0] < moment < times[-1] for moment in others)


def check_cancel():
    before = health()["abandoned"]
    stream = chat(stream=True, max_tokens=2000, extra_body={"ignore_eos": True})
    for index, _ in enumerate(stream):
        if index == 5:
            break
    stream.close()
    deadline = time.monotonic() + 30
    while (now := health())["answering"] or now["running"]:
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    assert now["abandoned"] == before + 1, now


def main():
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            begun = time.monotonic()
            check()
            print(f"{name[6:].replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
