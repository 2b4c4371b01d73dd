#!/bin/sh
# Runs every interleaving of the thread pool's job; a second, behind a build of half a minute. Optimised: loom's threads have
# small stacks.
set -eu
cd "$(dirname "$0")"
CARGO_TARGET_DIR=target RUSTFLAGS= cargo test --locked --release --quiet
