#!/usr/bin/env bash
# Measures release builds of everything, and prints the table: tools/bench.sh [SCENARIO...].
# The packages of Python and Node are put together in target/release/bench-packages, beside those of development.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
built=$target/release packages=$target/release/bench-packages
export PATH=$PWD/.venv/bin:$PATH

cargo build --quiet --release -p discover-ffi -p discover-bench -p libdiscover-python -p libdiscover-node
mkdir -p "$packages"
# Sources and compiled TypeScript as they are, native modules of this build.
rm -rf "$packages/python" "$packages/node"
mkdir "$packages/python"
cp -r bindings/python/python/libdiscover "$packages/python/"
cp "$built/lib_native.so" "$packages/python/libdiscover/_native.abi3.so"
cp -r bindings/node/dist "$packages/node"
cp "$built/liblibdiscover_node.so" "$packages/node/libdiscover.node"

exec "$built/bench" "$@"
