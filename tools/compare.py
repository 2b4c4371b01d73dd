#!/usr/bin/env python3
"""Compares the speed of Satchel and its peers on the same files: alternating rounds, medians, ratios, as a Markdown table.

set up:  cargo build --release
         python3 -m venv peers && CMAKE_ARGS=-DGGML_NATIVE=ON peers/bin/pip install llama-cpp-python==0.3.36
usage:   peers/bin/python tools/compare.py MODEL.gguf... [-p 512] [-n 128] [-d 0] [-t 1,8,16] [-r 3] [--rounds 5] [--peer PEER]...
         peers/bin/python tools/compare.py [--rounds 5] [-t 2] [--peer PEER]

With models: prefill (pp: prompt tokens per second in one batch) and decode (tg: tokens per second, one at a time) of each, at
each number of threads; -d sets the number of tokens already in the context. Without: all the speed figures of BENCHMARKS.md, on
SmolLM2 in three block types (once more with a long context), a random llama of 1.07 B parameters in three and a random mixture
of 16 experts in two, made in target/bench (5 GB, once); then Satchel against itself: several sequences at once, with another
process busy, with the AVX2 kernels. All programs get the same number of pseudo-random tokens and warm up once per round.

Peers (tools/peers.py): python, prebuilt[=FOLDER], llama-bench=PATH, ik=PATH; without --peer, python."""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import peers

# Figures are of the CPU.
os.environ.setdefault("SATCHEL_GPU", "none")

ROOT = pathlib.Path(__file__).resolve().parent.parent
SATCHEL = ROOT / "target/release/satchel"
MODELS = ROOT / "target/bench"
# 1.0 B parameters, of which a token uses 0.21 B.
MIXTURE = "--width 1024 --layers 12 --heads 16 --kv-heads 4 --feed-forward 1536 --experts 16 --experts-used 2".split()
OURS = "satchel"


def speeds(program, model, p, n, d=0, t=2, r=3, more=()):
    """One round of Satchel (None) or a peer: the median speed of each test."""
    if program:
        command = program.command(model, p, n, d, t, r)
    else:
        shape = ["-p", str(p), "-n", str(n), "-d", str(d), "-t", str(t), "-r", str(r)]
        command = [str(SATCHEL), "bench", "-m", str(model), *shape, "-o", "jsonl", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}")
    if program:
        samples = program.samples(done.stdout, d)
    else:
        samples = {row["test"]: row["samples_ts"] for row in map(json.loads, done.stdout.splitlines())}
    return {test: statistics.median(each) for test, each in samples.items()}


def row(what, test, ours, theirs):
    """Prints a row of the table from two lists with one median per round."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    ours, theirs, ratio = statistics.median(ours), statistics.median(theirs), statistics.median(ratios)
    print(f"| {what} | {test} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


def head(ours, theirs):
    print(f"\n| model | test | {ours} | {theirs} | ratio | range |\n|---|---|---|---|---|---|", flush=True)


def alternate(what, rounds, one, other):
    """Takes two measurements in turn, `rounds` times; prints a row for each test."""
    pairs = [(one(), other()) for _ in range(rounds)]
    for test in pairs[0][0]:
        row(what, test, [a[test] for a, _ in pairs], [b[test] for _, b in pairs])


def beside_peers(model, o, p, n, d=0):
    """Rows of one model: each number of threads beside each peer."""
    for t in o.t:
        for peer in o.peer:
            what = pathlib.Path(model).stem
            what += f", {t} threads" if len(o.t) > 1 else ""
            what += f", {peer.name}" if len(o.peer) > 1 else ""
            alternate(what, o.rounds, lambda: speeds(None, model, p, n, d, t, o.r), lambda: speeds(peer, model, p, n, d, t, o.r))


def make_models():
    """The model files of the whole table, small and large; makes those that are missing."""
    MODELS.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / "tools/model.sh"], check=True, stdout=subprocess.DEVNULL)
    source = ROOT / ".cache/SmolLM2-135M-Instruct.Q4_1.gguf"
    small, large, mixtures = [source], [], []
    for ty in ("Q4_K_M", "F16"):
        small.append(MODELS / f"SmolLM2-135M.{ty}.gguf")
        if not small[-1].exists():
            subprocess.run([SATCHEL, "quantize", "-q", "--allow-requantize", source, small[-1], ty], check=True)
    for ty in ("Q4_K_M", "Q4_0", "Q8_0"):
        large.append(MODELS / f"random-1.07B.{ty}.gguf")
        if not large[-1].exists():
            subprocess.run([SATCHEL, "random-model", ty, "--vocabulary", source, "-o", large[-1]], check=True)
    for ty in ("Q4_K_M", "Q8_0"):
        mixtures.append(MODELS / f"random-16-experts.{ty}.gguf")
        if not mixtures[-1].exists():
            subprocess.run([SATCHEL, "random-model", ty, *MIXTURE, "--vocabulary", source, "-o", mixtures[-1]], check=True)
    return small, large, mixtures


@contextlib.contextmanager
def serving(model, o):
    """A server of the model; yields a function that posts a completion and returns the open answer."""
    command = [SATCHEL, "serve", "-m", model, "--port", "0", "--no-browser", "--parallel", "4", "-t", str(o.t[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        url = next(part for line in server.stdout for part in line.split() if part.startswith("http://")).split("#")[0]

        def ask(**body):
            data = json.dumps(body).encode()
            return urllib.request.urlopen(urllib.request.Request(f"{url}v1/completions", data, {"Content-Type": "application/json"}))

        yield ask
        server.terminate()


def clients(model, o, count, tokens=128):
    """Total tokens per second of `count` concurrent clients of a server."""
    with serving(model, o) as ask:
        made = []

        def client(seed):
            with ask(prompt="Once upon a time", max_tokens=tokens, temperature=1, seed=seed) as answer:
                made.append(json.load(answer)["usage"]["completion_tokens"])

        client(0)
        made.clear()
        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(1, count + 1)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
    return {f"{tokens} tokens each": sum(made) / took}


def first_token(model, o, beside):
    """Milliseconds until a short prompt's first token; with `beside`, half a second after a prompt of 4,096 tokens began."""
    with serving(model, o) as ask:
        json.load(ask(prompt="Hello", max_tokens=1))
        if beside:
            long = threading.Thread(target=lambda: json.load(ask(prompt=[1000 + at % 40000 for at in range(4096)], max_tokens=1)))
            long.start()
            time.sleep(0.5)
        begun = time.perf_counter()
        with ask(prompt="A short question about the sea:", max_tokens=1, stream=True) as answer:
            answer.readline()
            took = time.perf_counter() - begun
        if beside:
            long.join()
    return {"first token, ms": took * 1000}


def beside_itself(small, large, o):
    for model in (small, large):
        alternate(f"{model.stem}, 4 clients", o.rounds, lambda: clients(model, o, 4), lambda: clients(model, o, 1))

    for model in (small, large):
        what = f"{model.stem}, beside a prompt of 4,096 tokens"
        alternate(what, o.rounds, lambda: first_token(model, o, True), lambda: first_token(model, o, False))

    def ours(model, more=()):
        return speeds(None, model, 256, 64, 0, o.t[0], o.r, more)

    def busy(model):
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            return ours(model)
        finally:
            other.kill()
            other.wait()

    for model in (small, large):
        alternate(f"{model.stem}, one busy process", o.rounds, lambda: busy(model), lambda: ours(model))
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    if "avx512_vnni" in flags:
        avx2 = ("--isa", "avx2")
        alternate(f"{large.stem}, AVX2", o.rounds, lambda: ours(large, avx2), lambda: ours(large))


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("models", nargs="*")
    for flag, value in (("-p", 512), ("-n", 128), ("-d", 0), ("-r", 3), ("--rounds", 5)):
        a.add_argument(flag, type=int, default=value)
    a.add_argument("-t", type=lambda text: [int(t) for t in text.split(",")], default=[2])
    a.add_argument("--peer", action="append", type=peers.Peer)
    o = a.parse_args()
    o.peer = o.peer or [peers.Peer("python")]
    if not SATCHEL.exists():
        sys.exit("there is no target/release/satchel: cargo build --release")
    print(f"{o.rounds} rounds, {', '.join(map(str, o.t))} threads of {os.cpu_count()}; tokens per second, medians")
    head(OURS, o.peer[0].name if len(o.peer) == 1 else "peer")
    if o.models:
        for model in o.models:
            beside_peers(model, o, o.p, o.n, o.d)
        return
    small, large, mixtures = make_models()
    for model in small:
        beside_peers(model, o, 512, 128)
    for model in large:
        beside_peers(model, o, 256, 32)
    for model in mixtures:
        beside_peers(model, o, 512, 64)
    beside_peers(small[0], o, 0, 64, 4096)
    head("as labelled", "one, idle, fastest kernels")
    beside_itself(small[0], large[0], o)


if __name__ == "__main__":
    main()
