"""LangChain's real clients against a running server: `langchain-openai` and `langchain-ollama`, with tools and structured output.

    python langchain_client.py http://127.0.0.1:PORT

Each check is a function whose name begins with `check_`, and raises if it fails. Prints a line per check.
"""

import sys
import time

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

BASE = sys.argv[1]
ASK = [SystemMessage("Be brief."), HumanMessage("What is the weather in Paris?")]


class Weather(BaseModel):
    """What the weather is like."""

    sky: str = Field(pattern="^(clear|cloudy)$")
    degrees: int = Field(ge=-60, le=60)


@tool
def weather(city: str, days: int) -> str:
    """Tells the weather of a city for some days."""
    return f"{days} days of sun in {city}"


def openai(**more):
    return ChatOpenAI(**{"base_url": BASE + "/v1", "api_key": "unused", "model": "any", "temperature": 0, "max_tokens": 200, "max_retries": 0, **more})


def ollama(**more):
    return ChatOllama(**{"base_url": BASE, "model": "any", "temperature": 0, "num_predict": 200, **more})


def check_openai_text():
    whole = openai(max_tokens=16).invoke(ASK)
    assert whole.content and whole.usage_metadata["output_tokens"] == 16
    parts = list(openai(max_tokens=16).stream(ASK))
    assert "".join(part.content for part in parts) == whole.content and len(parts) > 8


def check_openai_tools():
    forced = openai().bind_tools([weather], tool_choice="weather")
    call = forced.invoke(ASK).tool_calls[0]
    assert call["name"] == "weather" and set(call["args"]) == {"city", "days"} and isinstance(call["args"]["days"], int), call
    parts = None
    for part in forced.stream(ASK):
        parts = part if parts is None else parts + part
    assert parts.tool_calls[0]["args"] == call["args"], "the same streamed"
    result = weather.invoke(call["args"])
    after = openai(max_tokens=8).bind_tools([weather]).invoke([*ASK, AIMessage("", tool_calls=[call]), ToolMessage(result, tool_call_id=call["id"])])
    assert after.response_metadata["finish_reason"] in ("stop", "length", "tool_calls")


def check_openai_structured():
    for method in ("json_schema", "function_calling"):
        answer = openai().with_structured_output(Weather, method=method).invoke(ASK)
        assert isinstance(answer, Weather), (method, answer)


def check_openai_responses():
    answer = openai(use_responses_api=True, max_tokens=16).invoke(ASK)
    assert answer.text and answer.usage_metadata["output_tokens"] <= 16
    parts = list(openai(use_responses_api=True, max_tokens=16).stream(ASK))
    assert "".join(part.text for part in parts) == answer.text


def check_ollama_text():
    whole = ollama(num_predict=16).invoke(ASK)
    assert whole.content and whole.response_metadata["eval_count"] == 16
    assert "".join(part.content for part in ollama(num_predict=16).stream(ASK)) == whole.content


def check_ollama_structured():
    answer = ollama().with_structured_output(Weather, method="json_schema").invoke(ASK)
    assert isinstance(answer, Weather), answer


def check_ollama_tools():
    # Ollama's API has no way to require a call; the model may answer in words.
    answer = ollama(num_predict=64).bind_tools([weather]).invoke(ASK)
    assert answer.content or answer.tool_calls
    call = {"name": "weather", "args": {"city": "Paris", "days": 1}, "id": "a", "type": "tool_call"}
    after = ollama(num_predict=8).bind_tools([weather]).invoke([*ASK, AIMessage("", tool_calls=[call]), ToolMessage("sun", tool_call_id="a")])
    assert after.response_metadata["done"]


def main():
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            begun = time.monotonic()
            check()
            print(f"{name.removeprefix('check_').replace('_', ' ')}: ok, {time.monotonic() - begun:.1f} s", flush=True)


main()
