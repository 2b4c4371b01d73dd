#!/bin/sh
# Compiles Satchel for other platforms as far as types and borrows go (`cargo check`), without making programs:
#
#   tools/platforms/check.sh                                    Windows, macOS, Linux on ARM
#   tools/platforms/check.sh linux-x86_64-static macos-x86_64   these
#
# It finds what breaks there and not here (code behind `cfg`, kernels of another processor) in a minute or two; programs that
# run are made by tools/release.sh. The compiler is the same, no linker is needed. Warnings of Satchel's own count as errors.
# The three have every system and processor between them; the other two are new pairs of the same.
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
# The standard library is the one part that is compiled whole; nobody runs it.
export CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=none
log=$CARGO_TARGET_DIR/log
mkdir -p "$CARGO_TARGET_DIR"
# One run for all of them: build scripts and macros are compiled once, and the processors stay busy.
# shellcheck disable=SC2086 # a list of words
cargo check --locked -p satchel $targets -Zbuild-std=std,panic_unwind -Zbuild-std-features=panic-unwind,default \
    >"$log" 2>&1 || { cat "$log"; exit 1; }
# It passed, so what still points at a line of Satchel's own is a warning.
if grep -qE '^ *--> (runtime|packer)/' "$log"; then
    cat "$log"
    echo "check: there are warnings" >&2
    exit 1
fi
echo "checked: $*"
