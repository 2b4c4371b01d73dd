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

all=$all_platforms
[ $# -gt 0 ] || set -- $all

# Two lots, compiled at the same time, since a program is optimised as a whole by one processor. Within a lot a run of
# cargo builds one platform: several at once share features of their dependencies, and a runtime's bytes would depend on
# what it was built beside.
linux=
others=
for platform; do
    case " $all " in
    *" $platform "*) ;;
    *)
        echo "release: there is no platform '$platform'; there are: $all" >&2
        exit 2
        ;;
    esac
    case $platform in
    linux-*) linux="$linux $platform" ;;
    *) others="$others $platform" ;;
    esac
done

# Compiles the platforms $2… one after another, in the folder $1.
compile() {
    export CARGO_TARGET_DIR="$1"
    shift
    for platform; do
        echo "-- $platform"
        # shellcheck disable=SC2086 # a list of words
        case $platform in
        macos-*) cargo build $build_flags --target "$(triple "$platform")" ;;
        linux-x86_64 | linux-aarch64) cargo zigbuild $build_flags --target "$(triple "$platform").2.17" ;;
        *) cargo zigbuild $build_flags --target "$(triple "$platform")" ;;
        esac || return 1
    done
}

say "1 of 6: compiler and linkers"
install_toolchain

say "2 of 6: the chat page, once for all"
build_page "$repository/target/release-platforms/page"

say "3 of 6: compiling: $*"
use_toolchain
built=$repository/target/release-platforms
log=$built/others.log
# A single lot has all processors.
[ -n "$linux" ] && [ -n "$others" ] || unset CARGO_BUILD_JOBS
# shellcheck disable=SC2086 # lists of words
compile "$built/build-others" $others >"$log" 2>&1 &
beside=$!
failed=
# shellcheck disable=SC2086
compile "$built/build-linux" $linux || failed=yes
[ -z "$others" ] || echo "-- waiting for$others; $log tells more"
wait "$beside" || failed=yes
cat "$log"
[ -z "$failed" ] || exit 1

say "4 of 6: placing them in target/release-platforms"
pairs=
for platform; do
    suffix=
    [ "$platform" != windows-x86_64 ] || suffix=.exe
    lot=build-others
    case $platform in linux-*) lot=build-linux ;; esac
    file=target/release-platforms/$platform/satchel$suffix
    mkdir -p "${file%/*}"
    cmp -s "$built/$lot/$(triple "$platform")/release/satchel$suffix" "$file" ||
        cp "$built/$lot/$(triple "$platform")/release/satchel$suffix" "$file"
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
