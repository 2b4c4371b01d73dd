"""The real `ollama` client against a running server.

    python ollama_client.py http://127.0.0.1:PORT generating|embedding

Each check is a function whose name begins with its group, and raises if it fails. Prints a line per check.
"""

import datetime
import json
import math
import sys
import time

import ollama

CLIENT = ollama.Client(host=sys.argv[1], timeout=300)
MODEL = CLIENT.list().models[0].model
ASK = [{"role": "user", "content": "Once upon a time"}]
OPTIONS = {"temperature": 0, "num_predict": 12}


def chat(**more):
    return CLIENT.chat(**{"model": MODEL, "messages": ASK, "options": OPTIONS, **more})


def generate(**more):
    return CLIENT.generate(**{"model": MODEL, "prompt": "Once upon a time", "options": OPTIONS, **more})


def refused(call, status, part):
    try:
        call()
    except ollama.ResponseError as error:
        assert error.status_code == status and part in error.error, (error.status_code, error.error)
        return
    raise AssertionError("an error was expected")


def described(family):
    model = CLIENT.list().models[0]
    assert len(model.digest) == 64 and model.size > 1_000_000
    assert model.details.format == "gguf" and model.details.family == family
    assert model.details.parameter_size and model.details.quantization_level
    running = CLIENT.ps().models[0]
    assert running.model == MODEL and running.size_vram == 0 and running.digest == model.digest
    assert running.expires_at > datetime.datetime.now(datetime.timezone.utc)
    shown = CLIENT.show(MODEL)
    assert shown.modelinfo["general.architecture"] == family and shown.modelinfo["general.basename"]
    assert shown.modelinfo[f"{family}.context_length"] == 512
    return shown


def generating_description():
    shown = described("llama")
    assert shown.capabilities == ["completion"] and "messages" in shown.template and "temperature" in shown.parameters


def generating_chat():
    whole = chat()
    assert whole.model == MODEL and whole.done and whole.done_reason == "length"
    assert whole.message.role == "assistant" and whole.message.content
    assert whole.eval_count == 12 and whole.prompt_eval_count > 0
    assert 0 < whole.eval_duration <= whole.total_duration and whole.prompt_eval_duration > 0
    parts = list(chat(stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert len(parts) > 6 and [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "length" and parts[-1].eval_count == 12
    again = chat(messages=[*ASK, whole.message, {"role": "user", "content": "And then"}])
    assert again.prompt_eval_count > whole.prompt_eval_count + 4


def generating_text():
    whole = generate()
    assert whole.response == chat().message.content and whole.done_reason == "length"
    parts = list(generate(stream=True))
    assert "".join(part.response for part in parts) == whole.response and parts[-1].done
    raw = generate(raw=True)
    assert raw.response and raw.prompt_eval_count <= whole.prompt_eval_count
    word = raw.response.split()[3]
    stopped = generate(raw=True, options={**OPTIONS, "stop": [word]})
    assert stopped.response == raw.response[: raw.response.index(word)] and stopped.done_reason == "stop"
    assert generate(prompt="", keep_alive=0).done_reason == "unload"


def generating_options():
    def draw(seed):
        return generate(raw=True, options={"temperature": 1.5, "seed": seed, "num_predict": 24}).response

    assert draw(11) == draw(11) and len({draw(seed) for seed in range(4)}) > 1
    same = generate(raw=True, options={"temperature": 1.0, "top_k": 1, "num_predict": 12}, keep_alive="5m")
    assert same.response == generate(raw=True).response
    assert chat(think=False).message.content == chat().message.content


def generating_format():
    colour = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"], "additionalProperties": False}
    options = {**OPTIONS, "num_predict": 100}
    answers = chat(format=colour, options=options).message.content, generate(format=colour, options=options).response
    for answer in answers:
        assert json.loads(answer)["colour"] in ("red", "blue"), answer
    assert chat(think=True).message.content == chat().message.content, "a model that does not reason"


def generating_errors():
    refused(lambda: chat(format={"type": "hiccup"}), 400, "`format`")
    nameless = {"type": "function", "function": {"name": "", "description": "d"}}
    refused(lambda: chat(tools=[nameless]), 400, "`tools[0].function.name`")
    refused(lambda: chat(messages=[{"role": "user", "content": "see", "images": [b"\x89PNG"]}]), 400, "`messages[0].images`")
    refused(lambda: chat(options={"num_ctx": 100_000}), 400, "`num_ctx`")
    refused(lambda: list(chat(messages=[{"role": "user", "content": "word " * 600}], stream=True)), 400, "tokens")
    refused(lambda: CLIENT.embed(MODEL, "a"), 501, "embeddings")
    for call in (CLIENT.pull, CLIENT.push, CLIENT.delete):
        refused(lambda: call("another"), 501, "one model")
    refused(lambda: CLIENT.copy(MODEL, "another"), 501, "one model")
    assert chat().done, "the server goes on"


def embedding_description():
    shown = described("bert")
    assert shown.capabilities == ["embedding"]


def embedding_texts():
    answer = CLIENT.embed(MODEL, ["a cat", "a dog", "a tax return"], truncate=True)
    cat, dog, tax = answer.embeddings
    assert len(cat) == 384 and answer.prompt_eval_count > 6 and answer.total_duration > 0
    for vector in answer.embeddings:
        assert abs(math.hypot(*vector) - 1) < 1e-5

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b))

    assert cosine(cat, dog) > cosine(cat, tax) + 0.2
    alone = CLIENT.embed(MODEL, "a cat").embeddings
    assert len(alone) == 1 and list(alone[0]) == list(cat)
    older = CLIENT.embeddings(MODEL, "a cat").embedding
    length = math.hypot(*older)
    assert length > 1.5, "not normalised"
    assert abs(cosine(older, cat) - length) < 1e-3, "the same direction"
    assert CLIENT.embed(MODEL, "").embeddings == []


def embedding_errors():
    refused(lambda: CLIENT.embed(MODEL, "word " * 600), 400, "512")
    refused(lambda: CLIENT.embed(MODEL, "a", dimensions=64), 400, "`dimensions`")
    refused(lambda: chat(), 400, "embedding model")
    refused(lambda: generate(), 400, "embedding model")
    refused(lambda: CLIENT.pull("another"), 501, "one model")


def main():
    group = sys.argv[2] + "_"
    checks = [(name, check) for name, check in globals().items() if name.startswith(group)]
    assert checks, group
    for name, check in checks:
        begun = time.monotonic()
        check()
        print(f"{name.replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
