#!/bin/sh
# Installs what the tests need, then runs all of them, reporting progress. If something cannot be installed (no root), the tests
# that need it report that they were skipped; with CI set they fail.
#
#     tools/test.sh            everything
#     tools/test.sh install    only installs and fetches, which takes minutes but little CPU
#
# Programs for other platforms are tested if tools/release.sh has built them. If SATCHEL_BUILT_PLATFORMS is set, exactly the
# platforms it lists are tested: a missing program is a failure, and programs left from earlier builds are ignored.
set -eu
cd "$(dirname "$0")/.."
say() { printf '\n== %s\n' "$*"; }

built=${SATCHEL_BUILT_PLATFORMS-$(find target/release-platforms -maxdepth 2 -name 'satchel*' -type f 2>/dev/null || true)}
# Whether a program for that platform was built.
has() { case $built in *$1*) [ "$(uname -sm)" = "Linux x86_64" ] ;; *) false ;; esac }

say "1 of 5: programs the tests drive (Chromium, unzip, network namespaces, a software GPU)"
missing=
need() {
    for pair; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
}
# The software adapter that GPU tests run on, and what opens it.
ls /usr/share/vulkan/icd.d/lvp_icd.*.json >/dev/null 2>&1 || missing="$missing mesa-vulkan-drivers libvulkan1"
need chromium:chromium unzip:unzip ip:iproute2 script:bsdutils pip3:python3-pip
# Emulators and libraries that run programs for other platforms here.
if has linux-x86_64-static || has linux-aarch64; then need qemu-aarch64-static:qemu-user-static; fi
if has linux-aarch64; then [ -d /usr/aarch64-linux-gnu/lib ] || missing="$missing libc6-arm64-cross"; fi
if has windows-x86_64; then
    [ -x /usr/lib/wine/wine64 ] || need wine64:wine64
    # A screen, without which Wine has no Vulkan.
    need Xvfb:xvfb
fi
# The test of the universal file in every shell needs all of them.
if has linux-x86_64 && has macos-x86_64; then
    need dash:dash zsh:zsh ksh93:ksh93u+m mksh:mksh fish:fish busybox:busybox debootstrap:debootstrap
fi
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
if [ -z "$missing" ]; then
    echo "all installed"
elif command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "missing, and installing needs root:$missing"
fi

# The oldest system on which the Linux programs are started: Debian 11, whose glibc is 2.31.
if has linux-x86_64 && [ ! -e .cache/debian11/etc/debian_version ] && command -v debootstrap >/dev/null; then
    echo "fetching Debian 11 into .cache/debian11"
    rm -rf .cache/debian11
    mkdir -p .cache
    debootstrap --variant=minbase bullseye .cache/debian11 >.cache/debootstrap.log ||
        { tail -n 5 .cache/debootstrap.log; rm -rf .cache/debian11; }
fi

say "2 of 5: the OpenAI, Anthropic and Ollama clients, in .cache/venv, and JSON Schema's tests, from the sources of PyPI's jsonschema"
[ -x .cache/venv/bin/python ] || python3 -m venv .cache/venv
.cache/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
if [ ! -d .cache/schema-suite/draft2020-12 ]; then
    rm -rf .cache/schema-suite .cache/jsonschema
    .cache/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary jsonschema \
        -d .cache/jsonschema jsonschema==4.25.1
    mkdir -p .cache/schema-suite
    tar xzf .cache/jsonschema/*.tar.gz -C .cache/schema-suite --strip-components=3 jsonschema-4.25.1/json/tests/draft2020-12
fi

say "3 of 5: the demo model, an embedding model, and npm packages: the page's driver, clients, Codex, Claude Code"
tools/model.sh
tools/minilm.sh
tools/packages.sh tests/page tests/npm tests/codex tests/claude
[ "${1:-}" != install ] || exit 0

say "4 of 5: the chat page's own tests"
tools/packages.sh web-ui
npm --prefix web-ui test --silent

say "5 of 5: unit tests and integration tests"
# Compile all of them first, then run them in parallel: integration tests mostly wait for servers and browsers.
cargo test --workspace --locked --no-run
mkdir -p target
log=target/unit-tests.log
cargo test --workspace --locked --no-fail-fast --lib --bins >"$log" 2>&1 &
units=$!
trap 'kill "$units" 2>/dev/null || true' INT TERM
failed=
cargo test --workspace --locked --no-fail-fast --test '*' || failed=yes
wait "$units" || failed=yes
grep -E '^(test result|failures|thread|error)|panicked|FAILED|SKIPPED' "$log" || true
cargo test --workspace --locked --doc --quiet || failed=yes
if [ -n "$failed" ]; then
    cat "$log"
    echo "tests failed; the unit tests' output is above, and in $log" >&2
    exit 1
fi
