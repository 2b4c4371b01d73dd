#!/usr/bin/env python3
"""Speed of Satchel beside llama.cpp on one GGUF file: alternating rounds, medians, ratios.

set up:  cargo build --release
         python3 -m venv peers && CMAKE_ARGS=-DGGML_NATIVE=ON peers/bin/pip install llama-cpp-python==0.3.36
usage:   peers/bin/python tools/compare.py MODEL.gguf [-p 512] [-n 128] [-t 2] [-r 3] [--rounds 5]

pp is prompt tokens a second in one batch, tg generated tokens a second, one at a time; both programs get the same
count of pseudo-random tokens and warm up once a round."""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

SATCHEL = pathlib.Path(__file__).resolve().parent.parent / "target/release/satchel"


def llama_cpp(o):
    """One round of llama.cpp: prints a JSON object a test."""
    import ctypes
    import llama_cpp as L

    quiet = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(quiet, None)
    L.llama_backend_init()
    model = L.llama_model_load_from_file(o.model.encode(), L.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp cannot load {o.model}")
    params = L.llama_context_default_params()
    params.n_ctx = o.p + o.n + 64
    params.n_batch, params.n_ubatch = 2048, 512
    params.n_threads = params.n_threads_batch = o.t
    context = L.llama_init_from_model(model, params)
    vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    state = 1

    def decode(count):
        nonlocal state
        ids = (ctypes.c_int32 * count)()
        for at in range(count):
            state = state * 48271 % 0x7FFFFFFF
            ids[at] = state % vocabulary
        if L.llama_decode(context, L.llama_batch_get_one(ids, count)):
            sys.exit("llama.cpp cannot decode")
        L.llama_synchronize(context)

    tests = [(f"pp{o.p}", o.p, lambda: decode(o.p)), (f"tg{o.n}", o.n, lambda: [decode(1) for _ in range(o.n)])]
    for name, count, work in tests:
        samples = []
        for _ in range(o.r + 1):
            L.llama_memory_clear(L.llama_get_memory(context), True)
            begun = time.perf_counter()
            work()
            samples.append(count / (time.perf_counter() - begun))
        print(json.dumps({"test": name, "samples_ts": samples[1:]}), flush=True)


def rows(command):
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {row["test"]: row["samples_ts"] for row in map(json.loads, printed.splitlines())}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    for flag, value in (("-p", 512), ("-n", 128), ("-t", 2), ("-r", 3), ("--rounds", 5)):
        a.add_argument(flag, type=int, default=value)
    a.add_argument("--only-llama-cpp", action="store_true", help=argparse.SUPPRESS)
    o = a.parse_args()
    if o.only_llama_cpp:
        return llama_cpp(o)
    shape = ["-p", str(o.p), "-n", str(o.n), "-t", str(o.t), "-r", str(o.r)]
    ours, theirs = {}, {}
    for _ in range(o.rounds):
        for into, command in (
            (ours, [str(SATCHEL), "bench", "-m", o.model, *shape, "-o", "jsonl"]),
            (theirs, [sys.executable, __file__, o.model, *shape, "--only-llama-cpp"]),
        ):
            for test, samples in rows(command).items():
                into.setdefault(test, []).append(statistics.median(samples))
    print(f"{'test':<8} {'satchel':>10} {'llama.cpp':>10} {'ratio':>7}   (medians of {o.rounds} rounds)")
    for test in ours:
        ratios = [a / b for a, b in zip(ours[test], theirs[test])]
        a, b = statistics.median(ours[test]), statistics.median(theirs[test])
        print(f"{test:<8} {a:>10.1f} {b:>10.1f} {statistics.median(ratios):>7.2f}   {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
