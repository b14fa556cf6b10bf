#!/usr/bin/env bash
# Runs the benchmarks on release builds and prints the results: tools/bench.sh [SCENARIO...]. Without a scenario, runs
# all of them, then the benchmarks without I/O; the scenario `pure` runs only the latter.
# The Python and Node packages are assembled in target/release/bench-packages, apart from the development builds.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
built=$target/release packages=$target/release/bench-packages
export PATH=$PWD/.venv/bin:$PATH

cargo build --quiet --release -p discover-ffi -p discover-bench -p libdiscover-python -p libdiscover-node
# The smallest library: only local://, without TLS.
env CARGO_PROFILE_RELEASE_{OPT_LEVEL=s,LTO=fat,CODEGEN_UNITS=1} cargo build --quiet --release -p discover-ffi \
    --no-default-features --features local --target-dir "$built/small"
mkdir -p "$packages"
rm -rf "$packages/python" "$packages/node"
mkdir "$packages/python"
cp -r bindings/python/python/libdiscover "$packages/python/"
cp "$built/lib_native.so" "$packages/python/libdiscover/_native.abi3.so"
# pip compiles bytecode on installation, even if the environment disables writing it.
python3 -m compileall -q "$packages/python"
[ -d bindings/node/node_modules/esbuild ] ||
    (cd bindings/node && npm ci --silent --ignore-scripts --no-audit --no-fund)
npm run --silent --prefix bindings/node bundle -- "$packages/node"
cp "$built/liblibdiscover_node.so" "$packages/node/libdiscover.node"

# Other etcd clients, measured for comparison, each in its own directory. A client that cannot be installed is skipped.
want_peers() { # directory, requirements, command that installs them into the directory
    local peers=$packages/peers/$1 wanted=$2
    shift 2
    [ "$(cat "$peers/installed" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$peers"
    mkdir -p "$peers"
    if "$@" "$peers" >"$peers/log" 2>&1; then
        printf '%s\n' "$wanted" >"$peers/installed"
    else
        echo "bench: skipping $wanted: installation failed, see $peers/log" >&2
    fi
}
want_python() { # directory, requirements
    local directory=$1
    shift
    want_peers "$directory" "$*" python_peers "$@"
}
python_peers() { # requirements, directory
    local directory=${!#}
    python3 -m venv "$directory" && "$directory/bin/python" -m pip install --quiet --disable-pip-version-check \
        --only-binary grpcio,grpcio-tools "${@:1:$#-1}"
}
node_peers() {
    npm install --silent --no-fund --no-audit --no-save --prefix "$1" etcd3@1.1.2
}
go_peer() {
    go build -C bench/programs/go -o "$1/go" .
}
export PATH=$PATH:/usr/local/go/bin
want_python python $(grep -v '^#' tools/requirements-bench.txt)
# etcetra requires older versions of the packages that the others use.
want_python etcetra etcetra==0.1.19 grpcio==1.62.2 grpcio-tools==1.62.2 protobuf==4.25.9
want_python nacos nacos-sdk-rust-binding-py==0.8.0
want_peers node etcd3@1.1.2 node_peers
want_peers go "go.etcd.io/etcd/client/v3 by Go, $(cat bench/programs/go/* | cksum)" go_peer

if [ "$*" != pure ]; then
    "$built/bench" "$@"
fi
if [ $# -eq 0 ] || [ "$*" = pure ]; then
    "$built/bench-pure" --bench --max-time 0.2
fi
