#!/bin/sh
# Builds every fuzz target and runs each for SECONDS (default 20): tests/fuzz/run.sh [SECONDS] [TARGET…]
#
# Works with the stable toolchain and a C++ compiler: the coverage pass is part of rustc, the engine of libfuzzer-sys.
# No address sanitizer, which would need nightly: the code under test forbids unsafe code, and the target is panics.
# Crashing inputs are left in artifacts/, the corpus in corpus/; neither is committed.
set -eu
cd "$(dirname "$0")"
seconds=${1:-20}
case $seconds in
    '' | *[!0-9]*) echo "usage: tests/fuzz/run.sh [SECONDS] [TARGET…]" >&2; exit 2 ;;
esac
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)

host=$(rustc -vV | sed -n 's/^host: //p')
# --target keeps these flags from build scripts.
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
export CARGO_TARGET_DIR=target
echo "fuzz: building $*"
bins=
for target; do bins="$bins --bin $target"; done
# shellcheck disable=SC2086 # a list of words
cargo build --release --quiet --target "$host" $bins

failed=
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "fuzz: $target for $seconds s"
    # A target writes its seeds to SATCHEL_FUZZ_SEEDS, then reads them as part of its corpus.
    if ! SATCHEL_FUZZ_SEEDS="corpus/$target" "target/$host/release/$target" "corpus/$target" \
        -artifact_prefix="artifacts/$target/" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
        -max_len=65536 -print_final_stats=1 >"artifacts/$target.log" 2>&1; then
        tail -n 30 "artifacts/$target.log"
        failed="$failed $target"
    else
        grep -E 'number_of_executed_units|peak_rss_mb' "artifacts/$target.log" || tail -n 5 "artifacts/$target.log"
    fi
done
if [ -n "$failed" ]; then
    echo "fuzz: failed:$failed (the inputs are in tests/fuzz/artifacts)" >&2
    exit 1
fi
echo "fuzz: all passed: $*"
