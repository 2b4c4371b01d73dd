#!/usr/bin/env python3
"""Time to the first token of a packed file's first request, with and without its computed system prompt, alternating.

set up:  cargo build --release
usage:   python3 tools/first_token.py MODEL.gguf [-t 2] [--rounds 5] [--words 650] [--program SATCHEL]

Packs the model twice with the same system prompt, once with `--warm`. Each round starts a server of either file and asks it two
conversations' first questions: what counts is the first, the second shows what it is when the prompt was computed before."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
import urllib.request

# Figures are of the CPU.
os.environ.setdefault("SATCHEL_GPU", "none")

ROOT = pathlib.Path(__file__).resolve().parent.parent


def first_token(address, question):
    """Milliseconds until the first piece of text, and how many tokens of the prompt were there already."""
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": 8, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(address + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    begun, took, usage = time.perf_counter(), None, {}
    with urllib.request.urlopen(request) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if took is None and any(choice["delta"].get("content") for choice in event["choices"]):
                took = (time.perf_counter() - begun) * 1000
    return took, usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--words", type=int, default=650)
    parser.add_argument("--program", default=ROOT / "target/release/satchel")
    o = parser.parse_args()
    words = "answer plainly name the harbour before the boats and say when a ferry leaves".split()
    prompt = "You keep a small harbour. " + " ".join(words[at % len(words)] + str(at) * (at % 7 == 0) for at in range(o.words))
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, more in (("cold", []), ("warm", ["--warm"])):
            path = pathlib.Path(folder) / name
            begun = time.perf_counter()
            subprocess.run([o.program, "pack", o.model, "-o", path, "--system-prompt", prompt, "-q", *more], check=True)
            print(f"{name}: {path.stat().st_size} bytes, packed in {time.perf_counter() - begun:.1f} s")
            found[name] = {"first": [], "second": []}
        for _ in range(o.rounds):
            for name, times in found.items():
                command = [pathlib.Path(folder) / name, "serve", "--no-browser", "--port", "0", "-t", str(o.t)]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                try:
                    for line in process.stdout:
                        if line.split()[:1] == ["API"]:
                            address = line.split()[1].removesuffix("/v1")
                        if "Ctrl-C" in line:
                            break
                    for which, question in (("first", "Which boat is blue?"), ("second", "Who are you?")):
                        took, all_of_it, cached = first_token(address, question)
                        times[which].append((took, all_of_it, cached))
                finally:
                    process.kill()
                    process.wait()
        for name, times in found.items():
            for which, rounds in times.items():
                ms = sorted(took for took, _, _ in rounds)
                _, all_of_it, cached = rounds[0]
                print(f"{name}, {which} request: {statistics.median(ms):.0f} ms ({ms[0]:.0f} to {ms[-1]:.0f}), {cached} of {all_of_it} tokens were there")


if __name__ == "__main__":
    main()
