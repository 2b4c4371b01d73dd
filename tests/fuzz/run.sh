#!/bin/sh
# Builds every fuzz target and runs each for SECONDS (default 20), as many at a time as there are processors:
#
#     tests/fuzz/run.sh [SECONDS] [TARGET…]
#     tests/fuzz/run.sh build [TARGET…]        only builds them
#
# Works with the stable toolchain and a C++ compiler: the coverage pass is part of rustc, the engine of libfuzzer-sys.
# No address sanitizer, which would need nightly: the code under test forbids unsafe code, and the target is panics.
# Crashing inputs are left in artifacts/, the corpus in corpus/; neither is committed.
set -eu
cd "$(dirname "$0")"
seconds=${1:-20}
case $seconds in
    build) ;;
    '' | *[!0-9]*) echo "usage: tests/fuzz/run.sh [SECONDS | build] [TARGET…]" >&2; exit 2 ;;
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

[ "$seconds" != build ] || exit 0

for target; do mkdir -p "corpus/$target" "artifacts/$target"; done
echo "fuzz: $* for $seconds s each"
# A target writes its seeds to SATCHEL_FUZZ_SEEDS, then reads them as part of its corpus.
failed=$(printf '%s\n' "$@" | xargs -P "$(nproc 2>/dev/null || echo 2)" -I TARGET sh -c '
    SATCHEL_FUZZ_SEEDS="corpus/TARGET" "target/$1/release/TARGET" "corpus/TARGET" \
        -artifact_prefix="artifacts/TARGET/" -max_total_time="$2" -timeout=5 -rss_limit_mb=1024 \
        -max_len=65536 -print_final_stats=1 >"artifacts/TARGET.log" 2>&1 || echo TARGET
' sh "$host" "$seconds")
for target; do
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target.log")
    memory=$(sed -n 's/^stat::peak_rss_mb: *//p' "artifacts/$target.log")
    echo "fuzz: $target: ${executed:-?} inputs, ${memory:-?} MB"
done
if [ -n "$failed" ]; then
    for target in $failed; do tail -n 30 "artifacts/$target.log"; done
    echo "fuzz: failed:" $failed "(the inputs are in tests/fuzz/artifacts)" >&2
    exit 1
fi
echo "fuzz: all passed: $*"
