#!/usr/bin/env python3
"""What following a schema, a grammar or tools costs a token: alternating rounds of requests with and without, medians.

set up:  cargo build --release
usage:   tools/constraints.py MODEL.gguf [--rounds 5] [-t 2] [-n 128] [--tools 263]

Each request asks for exactly -n tokens (the end is ignored or cannot come), at temperature 0, so that all have as much to do; speeds
are the server's own, without the prompt. `talking`: tools are offered and the model calls none. `in a call`: a text argument."""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = {"type": "string", "minLength": 2000}
# About as long as what a model is told of tools besides them.
FRAME = "These are functions, each with its arguments. " * 14


def tools(count):
    """Tools as agents have them: a few parameters each, of every kind."""
    properties = {
        "path": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "integer"}},
        "mode": {"enum": ["read", "write", "append"]},
        "options": {"type": "object", "properties": {"deep": {"type": "boolean"}, "limit": {"type": "integer"}}},
    }
    schema = {"type": "object", "properties": properties, "required": ["path"]}
    one = lambda name: {"type": "function", "function": {"name": name, "description": "Does it.", "parameters": schema}}
    return [one(f"tool_{index}") for index in range(count)]


def requests(o):
    """Pairs of requests, with and without what is measured, whose prompts are about as long."""
    ask = {"messages": [{"role": "user", "content": "Tell me a long story."}], "temperature": 0, "max_tokens": o.n}
    schema = {"type": "object", "properties": {"text": TEXT}, "required": ["text"], "additionalProperties": False}
    writer = {"type": "function", "function": {"name": "write", "parameters": schema}}
    free = {**ask, "ignore_eos": True}
    instead = lambda tools: {**free, "messages": [{"role": "system", "content": FRAME + lines(tools)}, *ask["messages"]]}
    many = tools(o.tools)
    return {
        "any text": ({**ask, "guided_regex": "(?s:.{9000,})"}, free),
        "schema": ({**ask, "json_schema": schema}, free),
        "in a call": ({**ask, "tools": [writer], "tool_choice": "required"}, instead([writer])),
        f"talking, {o.tools} tools": ({**free, "tools": many}, instead(many)),
    }


def lines(tools):
    return "\n".join(json.dumps(tool) for tool in tools)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--tools", type=int, default=263)
    o = parser.parse_args()
    context = 512 + 2 * o.n + 200 * o.tools
    command = [ROOT / "target/release/satchel", "serve", "-m", o.model, "--no-browser", "--port", "0", "-t", str(o.t)]
    command += ["--speculate", "off", "-c", str(context), "--parallel", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        base = next(found.group(0) for line in server.stdout if (found := re.search(r"http://[0-9.]+:[0-9]+", line)))
        measure(base, o)
    finally:
        server.terminate()


def measure(base, o):
    found = {name: [] for name in requests(o)}
    for round in range(o.rounds + 1):
        for name, pair in requests(o).items():
            (own, prompt), (free, other) = (asked(base, o, body) for body in pair)
            if round:  # the first one warms up
                found[name].append((own, free))
            else:
                print(f"{name}: prompts of {prompt} and {other} tokens", flush=True)
    print("\n| answer | tokens/s | without | ratio |\n|---|---|---|---|")
    for name, pairs in found.items():
        ratios = [own / free for own, free in pairs]
        own, free = (statistics.median(side) for side in zip(*pairs))
        print(f"| {name} | {own:.1f} | {free:.1f} | {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |")


def asked(base, o, body):
    """Speed of the answer, and length of the prompt."""
    begun = time.monotonic()
    request = urllib.request.Request(base + "/v1/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    timings = json.load(urllib.request.urlopen(request))["timings"]
    assert timings["generated_tokens"] == o.n, timings
    waited = time.monotonic() - begun - (timings["prompt_ms"] + timings["generated_ms"]) / 1e3
    if waited > 0.1:
        print(f"waited {waited:.2f} s before the prompt", flush=True)
    return timings["generated_per_second"], timings["prompt_tokens"]


main()
