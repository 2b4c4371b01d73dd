#!/bin/sh
# Installs what the tests need, then runs all of them. Says what it does while it does it.
# Where something cannot be installed (no root), tests that need it say what they skipped; with CI set they fail.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

say "1 of 5: programs the tests drive (Chromium, unzip, network namespaces)"
missing=
for pair in chromium:chromium unzip:unzip ip:iproute2 script:bsdutils pip3:python3-pip; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# Where tools/release.sh has built runtimes for other platforms: what runs them here.
if [ -d target/release-platforms ] && [ "$(uname -sm)" = "Linux x86_64" ]; then
    command -v qemu-aarch64-static >/dev/null || missing="$missing qemu-user-static"
    [ -d /usr/aarch64-linux-gnu/lib ] || missing="$missing libc6-arm64-cross"
    command -v wine64 >/dev/null || [ -x /usr/lib/wine/wine64 ] || missing="$missing wine64"
    for pair in dash:dash zsh:zsh ksh93:ksh93u+m mksh:mksh fish:fish busybox:busybox debootstrap:debootstrap; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
fi
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -z "$missing" ]; then
    echo "all there"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "missing and not installed (that needs root):$missing"
fi

# The oldest system that the programs for Linux are started on: Debian 11, whose glibc is 2.31.
if [ -d target/release-platforms ] && [ ! -e .cache/debian11/etc/debian_version ] && command -v debootstrap >/dev/null; then
    echo "fetching Debian 11 into .cache/debian11"
    rm -rf .cache/debian11
    debootstrap --variant=minbase bullseye .cache/debian11 >.cache/debootstrap.log ||
        { tail -n 5 .cache/debootstrap.log; rm -rf .cache/debian11; }
fi

say "2 of 5: the OpenAI client, in .cache/venv"
[ -x .cache/venv/bin/python ] || python3 -m venv .cache/venv
.cache/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt

say "3 of 5: the demo model, and one that embeds"
tools/model.sh
tools/minilm.sh

say "4 of 5: the chat page's own tests"
tools/packages.sh web-ui tests/page
npm --prefix web-ui test --silent

say "5 of 5: unit tests and integration tests"
cargo test --workspace --locked
