#!/bin/sh
# Runs tiny models under valgrind, which finds out-of-bounds accesses and reads of uninitialised memory in `unsafe` code.
#
#     tests/valgrind.sh
#
# Kernels: scalar and AVX2, since valgrind does not support AVX-512. One thread: the pool's first clock reading, in rustix,
# needs a page (the vDSO) that valgrind hides from the program; tests/loom covers the pool. Uses the tests' build, with the
# same optimisation; tests/valgrind.supp suppresses the one false positive.
set -eu
cd "$(dirname "$0")/.."
program=${SATCHEL_TEST_PROGRAM:-target/debug/satchel}
models=tests/data
[ -x "$program" ] || cargo build --locked -p satchel
if ! command -v valgrind >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "valgrind.sh: valgrind is missing; install it, or run this as root" >&2; exit 1; }
    echo "installing valgrind"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind libc6-dbg >/dev/null
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM

checked() { # WHAT ARGUMENTS…
    what=$1
    shift
    if ! valgrind --quiet --error-exitcode=99 --leak-check=no --num-callers=30 --suppressions=tests/valgrind.supp \
        "$program" "$@" >"$scratch/$table.log" 2>&1; then
        cat "$scratch/$table.log"
        echo "valgrind.sh: failed: $what" >&2
        exit 1
    fi
    echo "clean: $what"
}

tables=scalar
if grep -qw avx2 /proc/cpuinfo; then tables="scalar avx2"; else echo "SKIPPED avx2: this processor lacks it"; fi
echo "SKIPPED avx2vnni, avx512, avx512vnni: valgrind does not know their instructions"
seq 3 23 >"$scratch/tokens"

table_is_clean() { # TABLE
    table=$1
    # Chunks of 7, then single tokens: the paths for many tokens, a few, and one.
    for chunk in 7 1; do
        checked "$table: logits in chunks of $chunk" logits -m $models/reference/llama-dense.gguf --isa "$table" -t 1 \
            --chunk $chunk --tokens "$scratch/tokens" --force -o "$scratch/$table.out"
    done
    checked "$table: a story" run -m $models/models/stories260K-f32.v3.gguf --isa "$table" -t 1 --raw --temp 0 --max-tokens 4 "Once"
    # Block types whose kernels differ most, and a quantised cache.
    for type in Q8_0 Q4_0 Q4_K Q6_K IQ2_XS IQ3_S TQ1_0 F16; do
        "$program" random-model $type --width 256 --layers 1 --heads 4 --kv-heads 2 --feed-forward 256 \
            --vocabulary $models/models/stories260K-f32.v3.gguf -o "$scratch/$table.gguf" >/dev/null 2>&1
        checked "$table: $type" logits -m "$scratch/$table.gguf" --isa "$table" -t 1 --chunk 17 \
            --cache-type-k q8_0 --cache-type-v q4_0 --tokens "$scratch/tokens" --force -o "$scratch/$table.out"
        rm "$scratch/$table.gguf"
    done
    # What only some architectures run: convolution and scans of states, experts, sinks and windows, soft-capping, ALiBi.
    for model in jamba-dense qwen35-dense lfm2moe-moe gpt-oss-moe gemma2-dense mpt-dense; do
        checked "$table: $model" logits -m "$models/architectures/$model.gguf" --isa "$table" -t 1 --chunk 7 \
            --tokens "$scratch/tokens" --force -o "$scratch/$table.out"
    done
}

# One processor each.
running=
for table in $tables; do
    (table_is_clean "$table") &
    running="$running $!"
done
for table in $running; do wait "$table"; done
