"""llama.cpp's Vulkan, by the C interface of a prebuilt library: the peer of bench/gpu. Prints one JSON object.

usage: python3 vulkan_peer.py LIBRARIES MODEL.gguf JSON
JSON:  {"prefill": 512, "decode": 128, "depth": 4096, "sequences": 16, "rounds": 3}

LIBRARIES is `bins/linux-x64-vulkan` of npm's @node-llama-cpp/linux-x64-vulkan 3.22.1 (llama.cpp v0.5.0). Of its two structures
of parameters only what is set here is declared; their sizes are that version's, and the defaults that come back are checked."""
import ctypes as c
import glob
import json
import os
import statistics
import sys
import time


class ModelParams(c.Structure):
    _fields_ = [("devices", c.c_void_p * 2), ("gpu_layers", c.c_int32), ("rest", c.c_char * 60)]


class ContextParams(c.Structure):
    _fields_ = [
        ("context", c.c_uint32), ("batch", c.c_uint32), ("micro_batch", c.c_uint32), ("sequences", c.c_uint32),
        ("others", c.c_uint32 * 3), ("threads", c.c_int32), ("threads_batch", c.c_int32), ("kinds", c.c_int32 * 4),
        ("flash", c.c_int32), ("rest", c.c_uint64 * 13),
    ]


class Batch(c.Structure):
    _fields_ = [
        ("tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embedding", c.c_void_p),
        ("position", c.POINTER(c.c_int32)),
        ("sequence_count", c.POINTER(c.c_int32)), ("sequence", c.POINTER(c.POINTER(c.c_int32))),
        ("wanted", c.POINTER(c.c_int8)),
    ]


def fail(line):
    sys.exit(f"vulkan_peer: {line}")


class Peer:
    def __init__(self, folder, model):
        name = (glob.glob(f"{folder}/libllama.*.so") or glob.glob(f"{folder}/libllama.so") or [None])[0]
        if name is None:
            fail(f"{folder}: there is no libllama.so in it")
        assert (c.sizeof(ModelParams), c.sizeof(ContextParams), c.sizeof(Batch)) == (80, 160, 56)
        # In the order in which they need one another.
        needed = [path for other in ("libggml-base.so", "libggml.*.so") for path in glob.glob(f"{folder}/{other}")]
        libraries = [c.CDLL(path, mode=c.RTLD_GLOBAL) for path in (*needed, name)]
        self.lib = lib = libraries[-1]
        self.log = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(self.note)
        self.device = None
        lib.llama_log_set(self.log, None)
        loader = next(library for library in libraries if hasattr(library, "ggml_backend_load_all_from_path"))
        loader.ggml_backend_load_all_from_path(folder.encode())
        lib.llama_backend_init()
        lib.llama_model_default_params.restype = ModelParams
        lib.llama_context_default_params.restype = ContextParams
        lib.llama_model_load_from_file.argtypes, lib.llama_model_load_from_file.restype = [c.c_char_p, ModelParams], c.c_void_p
        lib.llama_init_from_model.argtypes, lib.llama_init_from_model.restype = [c.c_void_p, ContextParams], c.c_void_p
        lib.llama_get_memory.argtypes, lib.llama_get_memory.restype = [c.c_void_p], c.c_void_p
        lib.llama_memory_clear.argtypes = [c.c_void_p, c.c_bool]
        lib.llama_batch_get_one.argtypes, lib.llama_batch_get_one.restype = [c.POINTER(c.c_int32), c.c_int32], Batch
        lib.llama_batch_init.argtypes, lib.llama_batch_init.restype = [c.c_int32] * 3, Batch
        lib.llama_decode.argtypes = [c.c_void_p, Batch]
        lib.llama_synchronize.argtypes = lib.llama_free.argtypes = [c.c_void_p]
        lib.llama_model_get_vocab.argtypes, lib.llama_model_get_vocab.restype = [c.c_void_p], c.c_void_p
        lib.llama_vocab_n_tokens.argtypes = [c.c_void_p]
        params = lib.llama_model_default_params()
        params.gpu_layers = 999
        self.model = lib.llama_model_load_from_file(model.encode(), params)
        if not self.model:
            fail(f"{model}: it cannot be loaded")
        self.vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.state = 1

    def note(self, level, text, _):
        text = text.decode(errors="replace").strip()
        if self.device is None and "ggml_vulkan: 0 = " in text:
            self.device = text.split(" = ", 1)[1]
        if level == 4:
            print(text, file=sys.stderr)

    def open(self, positions, sequences=1):
        params = self.lib.llama_context_default_params()
        if not 0 < params.batch <= 1 << 20 or not -1 <= params.flash <= 1:
            fail("the library's structures are those of another version")
        params.context = (positions + 255) // 256 * 256 * sequences
        params.batch, params.micro_batch, params.sequences, params.flash = 2048, 512, sequences, 1
        # They spin: on a busy machine, more of them take each other's time.
        params.threads = params.threads_batch = max(1, min(8, (os.cpu_count() or 1) // 2))
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            fail("no context can be made")

    def close(self):
        self.lib.llama_free(self.context)

    def clear(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), False)

    def random(self):
        self.state = self.state * 48271 % 0x7FFFFFFF
        return self.state % self.vocabulary

    def feed(self, count, at_once):
        for done in range(0, count, at_once):
            now = min(at_once, count - done)
            ids = (c.c_int32 * now)(*(self.random() for _ in range(now)))
            if self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(ids, now)):
                fail("it cannot decode")
            self.lib.llama_synchronize(self.context)

    def rate(self, count, at_once, depth, rounds):
        rates = []
        for at in range(rounds + 1):
            self.clear()
            self.feed(depth, 512)
            begun = time.perf_counter()
            self.feed(count, at_once)
            # The first warms the clock, and compiles what was not yet.
            if at:
                rates.append(count / (time.perf_counter() - begun))
        return statistics.median(rates)

    def together(self, sequences, count):
        """Tokens a second, all sequences together."""
        batch = self.lib.llama_batch_init(sequences, 0, 1)
        batch.tokens = sequences
        self.clear()
        for position in range(count + 4):
            if position == 4:
                begun = time.perf_counter()
            for at in range(sequences):
                batch.token[at], batch.position[at], batch.wanted[at] = self.random(), position, 1
                batch.sequence_count[at], batch.sequence[at][0] = 1, at
            if self.lib.llama_decode(self.context, batch):
                fail("it cannot decode")
            self.lib.llama_synchronize(self.context)
        return sequences * count / (time.perf_counter() - begun)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    begun = time.perf_counter()
    peer, wanted = Peer(os.path.abspath(sys.argv[1]), sys.argv[2]), json.loads(sys.argv[3])
    prefill, decode, depth = wanted["prefill"], wanted["decode"], wanted.get("depth", 0)
    found = {"device": peer.device}
    peer.open(depth + max(prefill, decode) + 16)
    peer.feed(prefill, 512)
    found["first_prompt_seconds"] = time.perf_counter() - begun
    found["prefill"] = peer.rate(prefill, 512, 0, wanted["rounds"])
    if not wanted.get("prefill_only"):
        found["decode"] = peer.rate(decode, 1, 0, wanted["rounds"])
        if depth:
            found["decode_deep"] = peer.rate(decode, 1, depth, 1)
    peer.close()
    if wanted.get("sequences"):
        peer.open(decode + 16, wanted["sequences"])
        found["together"] = peer.together(wanted["sequences"], decode)
    print(json.dumps(found), flush=True)
    # Drivers crash at the end of programs that use them from Python.
    os._exit(0)


if __name__ == "__main__":
    main()
