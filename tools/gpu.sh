#!/bin/sh
# All tests of GPUs, more than every run has (SATCHEL_TEST_GPU=all): operations, plans, whole models and what users see, on the
# software adapter with subgroups of 4, 8 and 16; or once on a GPU, if SATCHEL_TEST_GPU_NAME names one.
#
#     tools/gpu.sh
set -eu
cd "$(dirname "$0")/.."
export SATCHEL_TEST_GPU=all CI=true
tools/model.sh >/dev/null
cargo test --workspace --locked --no-run
all() {
    # The whole workspace, so that nothing is compiled anew with other features.
    cargo test --workspace --locked --test operations --test shaders
    cargo test --workspace --locked --lib --test integration -- gpu
}
if [ -n "${SATCHEL_TEST_GPU_NAME:-}" ]; then
    all
    exit
fi
# Mesa makes a lane of a subgroup of each 32 bits of a vector.
for bits in 128 256 512; do
    printf '\n== vectors of %s bits\n' "$bits"
    export LP_NATIVE_VECTOR_WIDTH="$bits"
    all
done
