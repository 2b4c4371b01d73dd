#!/bin/sh
# Builds the release runtimes (`satchel` without a model), checks each, lists their sizes, and assembles all six into a release's
# executables, which pack for every platform:
#
#   tools/release.sh                                  all six
#   tools/release.sh windows-x86_64 macos-aarch64     these
#
# Runtimes end up in target/release-platforms/PLATFORM/satchel (satchel.exe for Windows), the executables in
# target/release-platforms/release/satchel-PLATFORM. Debian 12 on x86-64 builds all of them; missing packages are installed (as
# root) or listed. One compiler, Debian's, builds all of them and their standard library, so the same commit gives the same bytes
# wherever the repository is. A second run compiles only what changed. tools/platforms/README.md explains the parts.
set -eu
cd "$(dirname "$0")/.."
repository=$PWD
. tools/platforms/toolchain.sh
say() { printf '\n== %s (%s s)\n' "$*" "$(($(date +%s) - begun))"; }
begun=$(date +%s)

all=$all_platforms
[ $# -gt 0 ] || set -- $all

# Two groups, compiled in parallel, since whole-program optimisation uses one CPU. Within a group each cargo run builds one
# platform: if one run built several, cargo would unify their dependencies' features, and a runtime's bytes would depend on those
# built with it.
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

# Compiles the platforms $2… one after another, in folder $1.
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

say "2 of 6: the chat page, once for all platforms"
build_page "$repository/target/release-platforms/page"

say "3 of 6: compiling: $*"
use_toolchain
built=$repository/target/release-platforms
log=$built/others.log
# A single group gets all CPUs.
[ -n "$linux" ] && [ -n "$others" ] || unset CARGO_BUILD_JOBS
# shellcheck disable=SC2086 # lists of words
compile "$built/build-others" $others >"$log" 2>&1 &
beside=$!
failed=
# shellcheck disable=SC2086
compile "$built/build-linux" $linux || failed=yes
[ -z "$others" ] || echo "-- waiting for$others; see $log"
wait "$beside" || failed=yes
cat "$log"
[ -z "$failed" ] || exit 1

say "4 of 6: copying them to target/release-platforms"
pairs=
for platform; do
    suffix=
    [ "$platform" != windows-x86_64 ] || suffix=.exe
    group=build-others
    case $platform in linux-*) group=build-linux ;; esac
    file=target/release-platforms/$platform/satchel$suffix
    mkdir -p "${file%/*}"
    cmp -s "$built/$group/$(triple "$platform")/release/satchel$suffix" "$file" ||
        cp "$built/$group/$(triple "$platform")/release/satchel$suffix" "$file"
    pairs="$pairs $platform=$file"
done

say "5 of 6: checking format, libraries, symbol versions, signatures, sizes"
# The checker is an ordinary development build, with the default compiler and target folder.
# shellcheck disable=SC2086 # a list of words; the paths are relative and have no spaces
(leave_toolchain && cargo run --quiet --locked -p satchel-packer --example check-runtime -- $pairs)

say "6 of 6: the release's executables, each with the runtimes of all platforms"
files=
for platform in $all; do
    file=$(find "target/release-platforms/$platform" -maxdepth 1 -name 'satchel*' 2>/dev/null || true)
    files="$files $file"
done
if [ "$(echo "$files" | wc -w)" = 6 ]; then
    # shellcheck disable=SC2086 # a list of words
    target/release-platforms/linux-x86_64/satchel assemble --output target/release-platforms/release $files
else
    echo "skipped: this needs all six runtimes"
fi
say "done"
