#!/bin/bash
# Runs the tests of the NEON kernels on three emulated ARM processors: without the optional instructions, with dot products, and
# with 8-bit matrix products too. On the last, the release runtime for Linux on ARM then runs two tiny models and every block type
# with each kernel table.
#
#     tools/neon.sh
#
# On Debian 12, x86-64, with QEMU's user-mode emulation; compilers and C library are those of tools/release.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$PWD
say() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }
fail() { echo "neon.sh: $*" >&2; exit 1; }
libraries=/usr/aarch64-linux-gnu
folder=$repository/target/neon
mkdir -p "$folder"

say "1 of 4: the release runtime for Linux on ARM"
sh tools/release.sh linux-aarch64 >"$folder/release.log" 2>&1 || { tail -n 30 "$folder/release.log"; exit 1; }
runtime=$repository/target/release-platforms/linux-aarch64/satchel
missing=
command -v qemu-aarch64-static >/dev/null || missing="$missing qemu-user-static"
[ -d $libraries/lib ] || missing="$missing libc6-arm64-cross"
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "missing:$missing; install these packages, or run this as root"
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
# Without the variable, programs may load libraries of another installed ARM glibc as well, and hang.
emulator="qemu-aarch64-static -L $libraries -E LD_LIBRARY_PATH=$libraries/lib"

say "2 of 4: the unit tests, for ARM"
units=$(
    # shellcheck source=tools/platforms/toolchain.sh
    . tools/platforms/toolchain.sh
    use_toolchain
    unset CARGO_BUILD_JOBS # one build at a time gets all CPUs
    export CARGO_TARGET_DIR=$folder
    cargo-zigbuild test --no-run --locked -p satchel-compute --lib --target aarch64-unknown-linux-gnu.2.17 \
        -Zbuild-std=std,panic_unwind,test -Zbuild-std-features=panic-unwind,default \
        --message-format json-render-diagnostics | python3 -c '
import json, sys
for line in sys.stdin:
    artifact = json.loads(line)
    if artifact.get("executable"):
        print(artifact["executable"])'
)
[ -x "$units" ] || fail "cargo built no unit tests"

say "3 of 4: the kernels' unit tests on three processors"
unset SATCHEL_TEST_TABLES
while read -r processor tables; do
    echo "$processor: $tables"
    log=$folder/$processor.log
    # The thread pool is the same on every processor.
    # shellcheck disable=SC2086 # a list of words
    (cd runtime/compute && timeout 1800 $emulator -cpu "$processor" "$units" kernels:: --skip kernels::threads --nocapture) \
        >"$log" 2>&1 || { cat "$log"; fail "tests failed on $processor"; }
    grep "^test result" "$log"
    [ "$(grep -cE "ran on ${tables// /, }(;|\$)" "$log")" = "$(grep -c "ran on" "$log")" ] || fail "a test ran on other tables: $log"
done <<PROCESSORS
cortex-a53 scalar neon
cortex-a76 scalar neon neon-dotprod
max scalar neon neon-dotprod neon-i8mm
PROCESSORS

say "4 of 4: models in the release runtime"
printf '#!/bin/sh\nexec timeout 300 %s -cpu max %s "$@"\n' "$emulator" "$runtime" >"$folder/satchel"
chmod +x "$folder/satchel"
log=$folder/models.log
SATCHEL_TEST_PROGRAM=$folder/satchel cargo test --locked -p satchel --test integration -- --nocapture \
    reference::a_tiny_llama reference::stories260k block_types:: >"$log" 2>&1 || { cat "$log"; fail "tests failed"; }
grep -E "nmse|^test " "$log"
grep -q "^tables: scalar, neon, neon-dotprod, neon-i8mm;" "$log" || fail "the runtime lacks a table"
say "passed"
