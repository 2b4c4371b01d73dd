#!/usr/bin/env python3
"""Compares Satchel with and without speculation: alternating rounds, medians, ratios, and whether the tokens are the same.

set up:  cargo build --release
usage:   python3 tools/speculation.py MODEL.gguf [-t 2] [--rounds 5] [-n 2000] [--file FILE] [--tokens 2000] [--draft SMALL.gguf]
         [--temperature 0]

Two servers on the same model, `--speculate off` and `auto`, get the same requests in turn: to write a file of
2,000 tokens again with a name changed, as an editor's model does, and to tell a story, where there is next to nothing to find. With
`--draft` there is a third, with that draft model, and the file is left out: its text is found without a draft."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import urllib.request

# Figures are of the CPU.
os.environ.setdefault("SATCHEL_GPU", "none")

ROOT = pathlib.Path(__file__).resolve().parent.parent
SATCHEL = ROOT / "target/release/satchel"


class Server:
    def __init__(self, o, name):
        command = [o.program, "serve", "-m", o.model, "--no-browser", "--port", "0", "-t", str(o.t), "-c", "8192"]
        command += ["--draft", o.draft] if name == "draft" else ["--speculate", name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.split()[:1] == ["API"]:
                self.address = line.split()[1].removesuffix("/v1")
            if "Ctrl-C" in line:
                return
        raise SystemExit("the server does not start")

    def ask(self, path, body):
        request = urllib.request.Request(self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            return json.load(response)


def file_prompt(o):
    """A file and the first lines of its second version."""
    text, lines = "", pathlib.Path(o.file).read_text().splitlines(keepends=True)
    for line in lines:
        # Four characters a token are what code has; the exact number is printed.
        if len(text) + len(line) > o.tokens * 3.3:
            break
        text += line
    renamed = text.replace("budget", "allowance")
    begun = "".join(renamed.splitlines(keepends=True)[:3])
    return f"File share.rs:\n```rust\n{text}```\n\nThe whole file share.rs again, with budget renamed to allowance:\n```rust\n{begun}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--file", default=ROOT / "packer/src/copy.rs")
    parser.add_argument("--program", default=SATCHEL)
    parser.add_argument("--draft")
    parser.add_argument("--temperature", type=float, default=0)
    o = parser.parse_args()
    names = ["off", "auto"] + (["draft"] if o.draft else [])
    servers = {name: Server(o, name) for name in names}
    prompts = {} if o.draft else {"a file written again": (file_prompt(o), o.n)}
    prompts |= {
        "a story": ("Once upon a time, in a village behind the hills, there lived a", 400),
    }
    if o.draft:
        prompts |= {
            "a letter": ("Dear Anna,\n\nThank you for your letter from Lisbon. Since you asked about the garden,", 200),
            "an explanation": ("Why does bread rise? A baker explains it in simple words:", 200),
            "a program": ("# A command-line program that counts the words of a text file\nimport sys\n\ndef", 200),
        }
    try:
        for title, (prompt, n) in prompts.items():
            speeds, texts, usages = {name: [] for name in names}, {}, {}
            for _ in range(o.rounds):
                for name, server in servers.items():
                    body = {"prompt": prompt, "max_tokens": n, "temperature": o.temperature, "seed": 1, "ignore_eos": True}
                    answer = server.ask("/v1/completions", body)
                    speeds[name].append(answer["timings"]["generated_per_second"])
                    texts[name], usages[name] = answer["choices"][0]["text"], answer["usage"]
            median = {name: statistics.median(found) for name, found in speeds.items()}
            for name in names[1:]:
                ratio = statistics.median(with_it / off for off, with_it in zip(speeds["off"], speeds[name]))
                print(f"{title}, {name}: {usages[name]}")
                print(f"  off {median['off']:.1f} t/s, {name} {median[name]:.1f} t/s, ratio {ratio:.2f};"
                      f" the same text: {texts['off'] == texts[name]}")
            print("  rounds: " + ", ".join("/".join(f"{speed:.0f}" for speed in turn) for turn in zip(*speeds.values())))
            print("  ends with: " + repr(texts["auto"][-160:]), flush=True)
    finally:
        for server in servers.values():
            server.process.kill()


if __name__ == "__main__":
    main()
