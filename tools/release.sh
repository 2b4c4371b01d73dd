#!/bin/sh
# Builds the runtimes (`satchel` without a model) that are given away, checks each, lists their sizes, and makes of all
# six the executables of a release, which pack for every platform:
#
#   tools/release.sh                                  all six
#   tools/release.sh windows-x86_64 macos-aarch64     these
#
# Runtimes land in target/release-platforms/PLATFORM/satchel (satchel.exe for Windows), the executables in
# target/release-platforms/release/satchel-PLATFORM. Debian 12 on x86-64 builds all of
# them; what is missing is installed (as root) or named. One compiler, Debian's, makes all of them together with its
# standard library, so the same commit gives the same bytes, wherever the repository lies. A second run compiles only
# what changed. tools/platforms/README.md explains the parts.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
. tools/platforms/toolchain.sh
say() { printf '\n== %s (%s s)\n' "$*" "$(($(date +%s) - begun))"; }
begun=$(date +%s)

all="linux-x86_64 linux-x86_64-static linux-aarch64 windows-x86_64 macos-aarch64 macos-x86_64"
[ $# -gt 0 ] || set -- $all

# The compiler's name for each platform, and what it is built with: one run of cargo keeps both processors busy at the
# end, where a program is optimised as a whole. The machine's own target goes alone: beside it, cargo would build the
# standard library of the others in another way, and their bytes would depend on what they were built with.
own=
linked_by_zig=
linked_by_lld=
for platform; do
    case $platform in
    linux-x86_64) own="--target x86_64-unknown-linux-gnu.2.17" ;;
    linux-x86_64-static) linked_by_zig="$linked_by_zig --target x86_64-unknown-linux-musl" ;;
    linux-aarch64) linked_by_zig="$linked_by_zig --target aarch64-unknown-linux-gnu.2.17" ;;
    windows-x86_64) linked_by_zig="$linked_by_zig --target x86_64-pc-windows-gnullvm" ;;
    macos-aarch64) linked_by_lld="$linked_by_lld --target aarch64-apple-darwin" ;;
    macos-x86_64) linked_by_lld="$linked_by_lld --target x86_64-apple-darwin" ;;
    *)
        echo "release: there is no platform '$platform'; there are: $all" >&2
        exit 2
        ;;
    esac
done

say "1 of 6: compiler and linkers"
install_toolchain

say "2 of 6: the chat page, once for all"
build_page "$repository/target/release-platforms/page"

say "3 of 6: compiling: $*"
use_toolchain "$repository/target/release-platforms/build"
# shellcheck disable=SC2086 # lists of words
[ -z "$own" ] || cargo zigbuild $build_flags $own
# shellcheck disable=SC2086
[ -z "$linked_by_zig" ] || cargo zigbuild $build_flags $linked_by_zig
# shellcheck disable=SC2086
[ -z "$linked_by_lld" ] || cargo build $build_flags $linked_by_lld

say "4 of 6: placing them in target/release-platforms"
pairs=
for platform; do
    suffix=
    case $platform in
    linux-x86_64) triple=x86_64-unknown-linux-gnu ;;
    linux-x86_64-static) triple=x86_64-unknown-linux-musl ;;
    linux-aarch64) triple=aarch64-unknown-linux-gnu ;;
    windows-x86_64) triple=x86_64-pc-windows-gnullvm suffix=.exe ;;
    macos-aarch64) triple=aarch64-apple-darwin ;;
    macos-x86_64) triple=x86_64-apple-darwin ;;
    esac
    file=target/release-platforms/$platform/satchel$suffix
    mkdir -p "${file%/*}"
    cmp -s "$CARGO_TARGET_DIR/$triple/release/satchel$suffix" "$file" ||
        cp "$CARGO_TARGET_DIR/$triple/release/satchel$suffix" "$file"
    pairs="$pairs $platform=$file"
done

say "5 of 6: checking format, libraries, symbol versions, signatures, sizes"
# The checker is compiled like any development build: with the compiler and the folder of everyday work.
# shellcheck disable=SC2086 # a list of words; the paths are relative and have no spaces
(leave_toolchain && cargo run --quiet --locked -p satchel-packer --example check-runtime -- $pairs)

say "6 of 6: the release: each carries the runtimes of the others"
files=
for platform in $all; do
    file=$(find "target/release-platforms/$platform" -maxdepth 1 -name 'satchel*' 2>/dev/null || true)
    files="$files $file"
done
if [ "$(echo "$files" | wc -w)" = 6 ]; then
    # shellcheck disable=SC2086 # a list of words
    target/release-platforms/linux-x86_64/satchel assemble --output target/release-platforms/release $files
else
    echo "not made: it takes all six runtimes"
fi
say "done"
