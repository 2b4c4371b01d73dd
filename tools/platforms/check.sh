#!/bin/sh
# Type-checks Satchel for other platforms (`cargo check`), without building programs:
#
#   tools/platforms/check.sh                                    Windows, macOS, Linux on ARM
#   tools/platforms/check.sh linux-x86_64-static macos-x86_64   these
#
# Finds errors in code that is not compiled here (behind `cfg`, kernels of another processor) in a minute or two; tools/release.sh
# builds programs that run. Same compiler, no linker needed. Warnings in Satchel's own code count as errors. The default three
# cover every system and processor; the other platforms only combine them differently.
set -eu
cd "$(dirname "$0")/../.."
repository=$PWD
. tools/platforms/toolchain.sh

[ $# -gt 0 ] || set -- linux-aarch64 windows-x86_64 macos-aarch64
targets=
for platform; do
    triple=$(triple "$platform")
    [ -n "$triple" ] || {
        echo "check: there is no platform '$platform'; there are: $all_platforms" >&2
        exit 2
    }
    targets="$targets --target $triple"
done

install_compiler
[ -n "${SATCHEL_PAGE:-}" ] || {
    build_page "$repository/target/page"
    export SATCHEL_PAGE="$repository/target/page"
}
use_compiler
export CARGO_TARGET_DIR="$repository/target/platforms-check" CARGO_INCREMENTAL=0
# The standard library is the only part that is fully compiled; it is never run.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=none
log=$CARGO_TARGET_DIR/log
mkdir -p "$CARGO_TARGET_DIR"
# One run for all: build scripts and macros are compiled once, and all CPUs stay busy.
# shellcheck disable=SC2086 # a list of words
cargo check --locked -p satchel $targets -Zbuild-std=std,panic_unwind -Zbuild-std-features=panic-unwind,default \
    >"$log" 2>&1 || { cat "$log"; exit 1; }
# It passed, so anything that still points into Satchel's own code is a warning.
if grep -qE '^ *--> (runtime|packer)/' "$log"; then
    cat "$log"
    echo "check: there are warnings" >&2
    exit 1
fi
echo "checked: $*"
