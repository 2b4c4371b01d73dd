#!/bin/sh
# Builds Satchel, packs the demo model into one executable and runs it: a server and a chat page on this machine.
# Arguments go to the packed program, e.g. `tools/demo.sh chat` or `tools/demo.sh run "Why is the sky blue?"`.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*" >&2; }

for tool in cargo npm python3; do
    command -v "$tool" >/dev/null || {
        echo "demo: $tool is missing; this needs Rust (cargo), Node.js (npm) and Python 3" >&2
        exit 1
    }
done
say "1 of 4: the demo model (SmolLM2-135M-Instruct, 98 MB, once)"
model=$(tools/model.sh)
say "2 of 4: building the satchel executable (a few minutes the first time)"
cargo build --release --locked
say "3 of 4: packing the model into one file"
target/release/satchel pack "$model" -o target/smollm2 --name SmolLM2-135M-Instruct --force
say "4 of 4: running it: target/smollm2 $*"
echo "The model is a preliminary checkpoint of 135 million parameters: it shows the program, and its answers are often wrong." >&2
echo "For better answers use a larger model: target/release/satchel serve -m MODEL.gguf" >&2
exec target/smollm2 "$@"
