#!/usr/bin/env python3
"""What following a schema, a grammar or tools costs a token: alternating rounds of requests with and without, medians.

set up:  cargo build --release
usage:   tools/constraints.py MODEL.gguf [--rounds 5] [-t 2] [-n 128] [--tools 263] [--only CASE] [--program FILE]

Each request asks for exactly -n tokens (the end is ignored or cannot come), at temperature 0, so that all have as much to do. Of
each pair, the ratio of the server's own speeds without the prompt, and that of the processor time that the server took (both
threads, and what is computed beside them), which other programs on the machine change less. Prompts are in the cache by then.
`talking`: tools are offered and the model calls none. `in a call`: within a text argument. Linux, for the processor time."""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import time
import urllib.request

# Figures are of the CPU.
os.environ.setdefault("SATCHEL_GPU", "none")

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXT = {"type": "string"}
LONG = {**TEXT, "minLength": 4000}
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
    object_of = lambda text: {
        "type": "object", "properties": {"text": text}, "required": ["text"], "additionalProperties": False}
    writes = lambda text: {"type": "function", "function": {"name": "write", "parameters": object_of(text)}}
    schema, writer = object_of(TEXT), writes(TEXT)
    free = {**ask, "ignore_eos": True}
    instead = lambda tools: {**free, "messages": [{"role": "system", "content": FRAME + lines(tools)}, *ask["messages"]]}
    many = tools(o.tools)
    call = lambda tools: {**ask, "tools": tools, "tool_choice": "required"}
    cases = {
        "any text": ({**free, "guided_regex": "(?s:.*)"}, free),
        "any text of a length": ({**ask, "guided_regex": "(?s:.{9000,})"}, free),
        "a schema": ({**ask, "json_schema": object_of(LONG)}, free),
        "in a call": (call([writer]), instead([writer])),
        "in a call, a text of a length": (call([writes(LONG)]), instead([writer])),
    }
    if o.tools:
        named = {"type": "function", "function": {"name": "write"}}
        cases[f"talking, {o.tools} tools"] = ({**free, "tools": many}, instead(many))
        cases[f"in a named call, {o.tools} tools"] = (call(many + [writer]) | {"tool_choice": named}, instead(many))
        cases[f"in any call, {o.tools} tools"] = (call([writer] + [renamed(tool, schema) for tool in many]), instead(many))
    return {name: pair for name, pair in cases.items() if o.only in name}


def renamed(tool, schema):
    """A tool whose argument is a long text, so that any call goes on."""
    return {"type": "function", "function": {**tool["function"], "parameters": schema}}


def lines(tools):
    return "\n".join(json.dumps(tool) for tool in tools)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--tools", type=int, default=263)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--program", default=ROOT / "target/release/satchel")
    o = parser.parse_args()
    context = 1024 + 2 * o.n + 240 * o.tools
    command = [o.program, "serve", "-m", o.model, "--no-browser", "--port", "0", "-t", str(o.t)]
    command += ["--speculate", "off", "-c", str(context), "--parallel", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        base = next(found.group(0) for line in server.stdout if (found := re.search(r"http://[0-9.]+:[0-9]+", line)))
        measure(base, server.pid, o)
    finally:
        server.terminate()


def measure(base, pid, o):
    found = {name: [] for name in requests(o)}
    for round in range(o.rounds + 1):
        for name, pair in requests(o).items():
            own, free = (asked(base, pid, o, body) for body in pair)
            if round:  # the first one reads the prompts and compiles
                found[name].append((own, free))
            else:
                print(f"{name}: prompts of {own['prompt']} and {free['prompt']} tokens, waited {own['waited']:.2f} s before "
                      f"it was read; first token after {own['first']:.2f} and {free['first']:.2f} s", flush=True)
    print("\n| answer | ms a token | without | speed | processor time | waited |\n|---|---|---|---|---|---|")
    for name, pairs in found.items():
        ms, without = (statistics.median(1e3 / side["speed"] for side in sides) for sides in zip(*pairs))
        speed = ratio(own["speed"] / free["speed"] for own, free in pairs)
        spent = ratio(own["spent"] / free["spent"] for own, free in pairs)
        waited = statistics.median(own["waited"] for own, _ in pairs)
        print(f"| {name} | {ms:.2f} | {without:.2f} | {speed} | {spent} | {waited:.3f} s |")


def ratio(ratios):
    ratios = list(ratios)
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def asked(base, pid, o, body):
    """What an answer took."""
    spent, begun = processor_time(pid), time.monotonic()
    request = urllib.request.Request(base + "/v1/chat/completions", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    timings = json.load(urllib.request.urlopen(request))["timings"]
    assert timings["generated_tokens"] == o.n, timings
    took = time.monotonic() - begun
    waited = took - (timings["prompt_ms"] + timings["generated_ms"]) / 1e3
    return {
        "speed": timings["generated_per_second"],
        "prompt": timings["prompt_tokens"],
        "waited": waited,
        "first": took - timings["generated_ms"] / 1e3,
        "spent": (processor_time(pid) - spent) / o.n,
    }


def processor_time(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


main()
