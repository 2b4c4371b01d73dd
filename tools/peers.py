#!/usr/bin/env python3
"""The programs that tools/compare.py measures beside Satchel, and a small llama-bench over llama.cpp's library.

    python             llama.cpp as llama-cpp-python was built for this interpreter
    prebuilt[=FOLDER]  llama.cpp v0.5.0's prebuilt library for processors, AMX included: npm's @node-llama-cpp/linux-x64 3.22.1,
                       unpacked in FOLDER, or fetched by `npm pack` into target/bench/prebuilt
    llama-bench=PATH   llama.cpp's own llama-bench
    ik=PATH            ik_llama.cpp's llama-bench

Every peer gets the same prompt lengths, batches of 512, flash attention, and warms up once a round. Run as a program, this
file measures one model once and prints an object of JSON a test; compare.py calls it so that each round has its own process."""
import argparse
import ctypes
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE, VERSION = "@node-llama-cpp/linux-x64", "3.22.1"
PREBUILT = ROOT / "target/bench/prebuilt"
NAMES = {"python": "llama.cpp", "prebuilt": "llama.cpp, prebuilt", "llama-bench": "llama.cpp", "ik": "ik_llama.cpp"}


class Peer:
    """A peer by its name on the command line."""

    def __init__(self, text):
        self.kind, _, path = text.partition("=")
        if self.kind not in NAMES:
            sys.exit(f"there is no peer '{self.kind}'; there are: {', '.join(NAMES)}")
        self.name = NAMES[self.kind]
        self.path = pathlib.Path(path) if path else None
        if self.kind in ("llama-bench", "ik"):
            if not (self.path and os.access(self.path, os.X_OK)):
                sys.exit(f"--peer {self.kind} needs the path of its llama-bench: --peer {self.kind}=PATH")
        elif self.kind == "prebuilt":
            self.path = self.path or fetched()
            libraries(self.path)

    def command(self, model, p, n, d, t, r):
        """The command that measures `model`, whose output `samples` reads."""
        if self.kind in ("llama-bench", "ik"):
            shape = ["-p", str(p), "-n", str(n), "-t", str(t), "-r", str(r), "-fa", "1", "-o", "json"]
            return [str(self.path), "-m", str(model), *shape, *(["-d", str(d)] if d else [])]
        where = ["--library", str(self.path)] if self.kind == "prebuilt" else []
        shape = ["-p", str(p), "-n", str(n), "-d", str(d), "-t", str(t), "-r", str(r)]
        return [sys.executable, __file__, str(model), *shape, *where]

    def samples(self, output, d):
        """Tokens a second of each test: {"pp512": [...], "tg128": [...]}."""
        if self.kind not in ("llama-bench", "ik"):
            return {row["test"]: row["samples_ts"] for row in map(json.loads, output.splitlines())}
        suffix = f"@d{d}" if d else ""
        tests = {}
        for row in json.loads(output):
            test = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
            tests[test + suffix] = row["samples_ts"]
        return tests


def fetched():
    """The folder of the prebuilt library, fetched by its package's name the first time."""
    if not PREBUILT.exists():
        if not shutil.which("npm"):
            sys.exit(f"--peer prebuilt is npm's package {PACKAGE} {VERSION}, and there is no npm: unpack it and give its folder")
        part = PREBUILT.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        subprocess.run(["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent"], cwd=part, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(next(part.glob("*.tgz"))) as archive:
            archive.extractall(part, filter="data")
        part.rename(PREBUILT)
    return PREBUILT


def libraries(folder):
    """Paths of ggml's and llama's libraries somewhere in `folder`."""
    found = []
    for name in ("libggml-base.so", "libggml*v0.5.0.so", "libllama*v0.5.0.so"):
        found.append(next(pathlib.Path(folder).rglob(name), None))
        if not found[-1]:
            sys.exit(f"{folder}: has no {name}; it must be {PACKAGE} {VERSION}, unpacked")
    return found


class Model(ctypes.Structure):
    """`llama_model_params` of v0.5.0."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("devices", "overrides")]
    _fields_ += [(name, ctypes.c_int32) for name in ("gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")]
    _fields_ += [(name, ctypes.c_void_p) for name in ("tensor_split", "progress", "progress_data", "kv_overrides")]
    _fields_ += [(name, ctypes.c_bool) for name in ("vocab_only", "check", "extra_buffers", "no_host", "no_alloc", "load_mtp")]


class Context(ctypes.Structure):
    """`llama_context_params` of v0.5.0."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("ctx", "batch", "ubatch", "seq_max", "rs_seq", "outputs", "outputs_seq")]
    _fields_ += [(name, ctypes.c_int32) for name in ("threads", "threads_batch", "type", "rope", "pooling", "attention", "flash")]
    _fields_ += [("rope_numbers", ctypes.c_float * 8)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("callback", "callback_data")]
    _fields_ += [(name, ctypes.c_int32) for name in ("type_k", "type_v")]
    _fields_ += [(name, ctypes.c_void_p) for name in ("abort", "abort_data")]
    _fields_ += [(name, ctypes.c_bool) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "unified")]
    _fields_ += [("samplers", ctypes.c_void_p), ("n_samplers", ctypes.c_size_t), ("other", ctypes.c_void_p)]


class Batch(ctypes.Structure):
    """`llama_batch`."""

    _fields_ = [("n_tokens", ctypes.c_int32)]
    _fields_ += [(name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")]


def prebuilt(folder, model, context_length, threads):
    """Opens a model with the prebuilt library: a function that decodes ids, one that keeps the first N, the vocabulary's size."""
    base, ggml, llama = libraries(folder)
    ctypes.CDLL(str(base), ctypes.RTLD_GLOBAL)
    backends = ctypes.CDLL(str(ggml), ctypes.RTLD_GLOBAL)
    L = ctypes.CDLL(str(llama))
    pointer = ctypes.c_void_p
    shapes = {
        "llama_model_default_params": (Model, []),
        "llama_context_default_params": (Context, []),
        "llama_model_load_from_file": (pointer, [ctypes.c_char_p, Model]),
        "llama_init_from_model": (pointer, [pointer, Context]),
        "llama_get_memory": (pointer, [pointer]),
        "llama_memory_seq_rm": (ctypes.c_bool, [pointer, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
        "llama_batch_get_one": (Batch, [ctypes.POINTER(ctypes.c_int32), ctypes.c_int32]),
        "llama_decode": (ctypes.c_int32, [pointer, Batch]),
        "llama_synchronize": (None, [pointer]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_vocab_n_tokens": (ctypes.c_int32, [pointer]),
        "llama_log_set": (None, [pointer, pointer]),
    }
    for name, (result, arguments) in shapes.items():
        getattr(L, name).restype, getattr(L, name).argtypes = result, arguments
    logger = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)
    quiet = logger(lambda level, text, data: None)
    L.llama_log_set(ctypes.cast(quiet, pointer), None)
    backends.ggml_backend_load_all_from_path(str(ggml.parent).encode())
    options = L.llama_model_default_params()
    shape = L.llama_context_default_params()
    # The structures are written down by hand, so numbers known to be there show whether they fit this library.
    if (shape.batch, shape.ubatch) != (2048, 512) or not options.extra_buffers:
        sys.exit(f"{llama}: its parameters are laid out otherwise than in llama.cpp v0.5.0")
    options.gpu_layers = 0
    opened = L.llama_model_load_from_file(os.fsencode(model), options)
    if not opened:
        sys.exit(f"llama.cpp cannot load {model}")
    shape.ctx, shape.threads, shape.threads_batch, shape.flash = context_length, threads, threads, 1
    context = L.llama_init_from_model(opened, shape)
    if not context:
        sys.exit(f"llama.cpp cannot make a context of {context_length} tokens")
    memory = L.llama_get_memory(context)

    def decode(ids):
        if L.llama_decode(context, L.llama_batch_get_one(ids, len(ids))):
            sys.exit("llama.cpp cannot decode")
        L.llama_synchronize(context)

    decode.logger = quiet
    return decode, lambda count: L.llama_memory_seq_rm(memory, 0, count, -1), L.llama_vocab_n_tokens(L.llama_model_get_vocab(opened))


def installed(model, context_length, threads):
    """The same with llama-cpp-python's library."""
    import llama_cpp as L

    quiet = L.llama_log_callback(lambda level, text, data: None)
    L.llama_log_set(quiet, None)
    L.llama_backend_init()
    opened = L.llama_model_load_from_file(os.fsencode(model), L.llama_model_default_params())
    if not opened:
        sys.exit(f"llama.cpp cannot load {model}")
    params = L.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = context_length, 2048, 512
    params.n_threads = params.n_threads_batch = threads
    context = L.llama_init_from_model(opened, params)
    memory = L.llama_get_memory(context)

    def decode(ids):
        if L.llama_decode(context, L.llama_batch_get_one(ids, len(ids))):
            sys.exit("llama.cpp cannot decode")
        L.llama_synchronize(context)

    decode.logger = quiet
    return decode, lambda count: L.llama_memory_seq_rm(memory, 0, count, -1), L.llama_vocab_n_tokens(L.llama_model_get_vocab(opened))


def measure(o):
    """One round of one model: prints one JSON object per test."""
    length = o.d + o.p + o.n + 64
    opened = prebuilt(o.library, o.model, length, o.t) if o.library else installed(o.model, length, o.t)
    decode, keep, vocabulary = opened
    state = 1

    def tokens(count):
        nonlocal state
        ids = (ctypes.c_int32 * count)()
        for at in range(count):
            state = state * 48271 % 0x7FFFFFFF
            ids[at] = state % vocabulary
        return ids

    for at in range(0, o.d, 2048):
        decode(tokens(min(2048, o.d - at)))
    suffix = f"@d{o.d}" if o.d else ""
    for name, count in ((f"pp{o.p}", o.p), (f"tg{o.n}", o.n)):
        if not count:
            continue
        samples = []
        for _ in range(o.r + 1):
            # Restore the context from before the test.
            keep(o.d)
            batches = [tokens(count)] if name[0] == "p" else [tokens(1) for _ in range(count)]
            begun = time.perf_counter()
            for batch in batches:
                decode(batch)
            samples.append(count / (time.perf_counter() - begun))
        print(json.dumps({"test": name + suffix, "samples_ts": samples[1:]}), flush=True)


if __name__ == "__main__":
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("model")
    for flag, value in (("-p", 512), ("-n", 128), ("-d", 0), ("-t", 2), ("-r", 3)):
        a.add_argument(flag, type=int, default=value)
    a.add_argument("--library", help="the prebuilt library's folder; without it, llama-cpp-python's")
    measure(a.parse_args())
    # The library's threads and buffers go with the process: freeing them takes longer than a small test.
    sys.stdout.flush()
    os._exit(0)
