"""Writes what llama.cpp's tokenizer answers to the texts below, as test data.

    python ask_llama_cpp.py VOCABULARY.gguf ... -o FOLDER      (needs llama-cpp-python)

One `NAME.llama-cpp.json` for each vocabulary: token ids of every text in three modes, texts of token sequences, and
the SHA-256 over the bytes of all tokens (each with its length before it, as four little-endian bytes).
"""

import argparse
import ctypes
import hashlib
import json
import pathlib
import random

import llama_cpp as lib

TEXTS = [
    "", " ", "  ", "a", " a", "  a", "\n", "\r\n", "\r\n\r\n", "\n\n\n\n\n", "\t\t x", " \n \n  y", "x \n", "x\n ", "\u00a0\u3000\u2028z",
    "Hello, world!", "I've said they'll say we're HERE, 'tis DON'T and he'D", "'s't're've'm'll'd'S'T'RE'VE'M'LL'D", "'ſ 'K",
    "3.14159 1,000,000 0x1F 2026-11-21 12:34:56 1234567890123", "½ Ⅷ ٣٤٥ １２３ 三 ²",
    "fn main() {\r\n\tprintln!(\"{}\", 1 << 2);\r\n}\r\n", "    def f(x):\n        return x  # four\n\n\n", "a_b-c d.e/f\\g", "C:\\temp\\new\\x41 \\u0041 \\",
    "%20%zz &amp; &#39; \\xff \\0", "<div class='a'>é</div>", "https://example.org/?q=1&r=%C3%A9#top",
    "été naïve Ångström ﬁ ligature", "e\u0301 a\u0308\u0304 combined", "Привет, мир! Ещё раз.", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया", "สวัสดีชาวโลก", "你好，世界！我想在apple工作1314151天～", "こんにちは世界。カタカナ", "안녕하세요 세계", "ព្រះមហាក្សត្រ",
    "🙂👍🏽👩‍👩‍👧‍👦🇩🇪 ok", "🚀 (normal) 😶‍🌫️ ✅", "\u200b\u200d\ufeff zero", "\u0000\u0001\u001f\u007f", "\ue000\U000f0000\U0010ffff", "\ufffd\ufffe",
    "∑∫√≠≤ ←→ ▁▂▃ ░▒▓", "$100 €5 £3 ¥9 ^~`|<>=+", "!!!???...---===***", "\"quoted\" ‘single’ “double” «guillemets»", "word " * 40,
    "a" * 300, "ab" * 200, "=" * 120, " " * 200, " " * 60 + "x", "\n" * 150, "1" * 100, "🙂" * 40, "é" * 90, "的" * 80, "don't" * 30,
    "<s>", "</s>", "<unk>", "<s> a</s> b<unk> c", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>x<|endoftext|>",
    "<|im_start|", "<|im_start|>>", "<<|im_end|>>", " <|im_end|> ", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
    "<|system|>\nBe brief.<|end|>\n<|user|>\nhi <|end|>  \n\t<|assistant|>\n", "<|user|>   x", "x   <|end|>", "<|end|><|end|>", "<|end|>\n\n\n", "<|user|>\u00a0x",
    "<file_sep>a<repo_name>b<jupyter_code>", "<tool_call>{}</tool_call>", "▁ ▁a", "<0x0A>", "Ġ Ċ", "[INST] <<SYS>>x<</SYS>> [/INST]",
]

ALPHABETS = [
    (0x20, 0x7F), (0x20, 0x7F), (0x09, 0x0E), (0xA0, 0x250), (0x370, 0x590), (0x600, 0x700), (0x900, 0x980), (0x2000, 0x2070),
    (0x2100, 0x2200), (0x3000, 0x3100), (0x4E00, 0x9000), (0xAC00, 0xD000), (0x1F300, 0x1F650),
]


def random_texts(count):
    """Runs of characters of one script each."""
    draw = random.Random(20260314)
    for _ in range(count):
        runs = []
        for _ in range(draw.randint(1, 8)):
            first, end = draw.choice(ALPHABETS)
            runs.append("".join(chr(draw.randrange(first, end)) for _ in range(draw.randint(1, 9))))
        yield draw.choice(["", " ", "\n"]).join(runs)


class Vocabulary:
    def __init__(self, path):
        params = lib.llama_model_default_params()
        params.vocab_only = True
        self.model = lib.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.size = lib.llama_vocab_n_tokens(self.vocab)

    def encode(self, text, add_special, parse_special):
        data = text.encode()
        ids = (lib.llama_token * (len(data) * 3 + 16))()
        count = lib.llama_tokenize(self.vocab, data, len(data), ids, len(ids), add_special, parse_special)
        assert count >= 0
        return list(ids[:count])

    def piece(self, token, special):
        data = ctypes.create_string_buffer(4096)
        count = lib.llama_token_to_piece(self.vocab, token, data, len(data), 0, special)
        assert count >= 0
        return data.raw[:count]

    def decode(self, ids, special):
        data = ctypes.create_string_buffer(65536)
        count = lib.llama_detokenize(self.vocab, (lib.llama_token * len(ids))(*ids), len(ids), data, len(data), False, special)
        assert count >= 0
        return data.raw[:count].decode("utf-8", "replace")

    def sha256_of_pieces(self, special, left_out):
        digest = hashlib.sha256()
        for token in range(self.size):
            piece = b"" if token in left_out else self.piece(token, special)
            digest.update(len(piece).to_bytes(4, "little") + piece)
        return digest.hexdigest()


def answers(path):
    vocabulary = Vocabulary(path)
    texts = TEXTS + list(random_texts(60))
    encode = [
        [text, *(vocabulary.encode(text, *mode) for mode in [(False, False), (False, True), (True, True)])] for text in texts
    ]
    # llama.cpp makes a control token of every `</s>`, also where the file says that it is text.
    left_out = {t for t in range(vocabulary.size) if lib.llama_vocab_get_text(vocabulary.vocab, t) == b"</s>"}
    return {
        "source": f"llama.cpp, through llama-cpp-python {lib.__version__}",
        "bos": lib.llama_vocab_bos(vocabulary.vocab),
        "eos": lib.llama_vocab_eos(vocabulary.vocab),
        "add_bos": lib.llama_vocab_get_add_bos(vocabulary.vocab),
        "end_tokens": [t for t in range(vocabulary.size) if lib.llama_vocab_is_eog(vocabulary.vocab, t)],
        "pieces_left_out": sorted(left_out),
        "pieces_sha256": vocabulary.sha256_of_pieces(False, left_out),
        "pieces_special_sha256": vocabulary.sha256_of_pieces(True, left_out),
        "encode": encode,
        "decode": [[ids, vocabulary.decode(ids, False), vocabulary.decode(ids, True)] for [_, _, _, ids] in encode if ids],
        "decode_no_bos": [[ids, vocabulary.decode(ids, False), vocabulary.decode(ids, True)] for [_, ids, _, _] in encode if ids],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabularies", nargs="+", type=pathlib.Path)
    parser.add_argument("-o", dest="folder", type=pathlib.Path, default=pathlib.Path("."))
    args = parser.parse_args()
    for path in args.vocabularies:
        found = answers(path)
        out = args.folder / (path.stem.removeprefix("ggml-vocab-") + ".llama-cpp.json")
        out.write_text(json.dumps(found, ensure_ascii=True, separators=(",", ":")) + "\n")
        print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
