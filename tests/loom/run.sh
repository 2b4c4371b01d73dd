#!/bin/sh
# Runs every interleaving of the thread pool's job; seconds, behind a build of about half a minute.
set -eu
cd "$(dirname "$0")"
CARGO_TARGET_DIR=target RUSTFLAGS= cargo test --locked --quiet
