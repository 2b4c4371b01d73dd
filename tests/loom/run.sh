#!/bin/sh
# Explores the interleavings of the thread pool's job; takes a second, after a build of half a minute. Optimised, since loom's
# threads have small stacks.
set -eu
cd "$(dirname "$0")"
CARGO_TARGET_DIR=target RUSTFLAGS= cargo test --locked --release --quiet
