#!/usr/bin/env bash
# Builds the packages that people install:
#
#   tools/dist.sh [--profile release|dev] [--out DIR] [wheel] [sdist] [npm] [deb]
#
#   wheel   for every CPython from 3.9 on, on every Linux with glibc 2.17 or newer
#   sdist   the sources of the wheel; building it takes Rust and protoc
#   npm     the package, and the package of this platform, which holds the native module
#   deb     libdiscover0 and libdiscover-dev, for the distribution that this runs on
#
# All of them without names, in release, into dist/. The version is the workspace's, in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD

profile=release out=dist what=()
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2; shift ;;
        --out) out=$2; shift ;;
        wheel | sdist | npm | deb) what+=("$1") ;;
        *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ ${#what[@]} -gt 0 ] || what=(wheel sdist npm deb)
mkdir -p "$out"
out=$(cd "$out" && pwd)

export PATH=$source/.venv/bin:$PATH
target=${CARGO_TARGET_DIR:-$source/target}
# Only release builds go by another name in the folders of cargo.
built=$profile
[ "$profile" = release ] || built=debug
triple=$(uname -m)-unknown-linux-gnu

# Runs cargo or maturin with zig as the C compiler and linker. In a folder of its own: cargo builds all
# anew where the linker changes, and the build scripts are linked by it too.
portable() {
    local name=${triple//-/_}
    env "CC_$name=$source/tools/zig-cc" "CARGO_TARGET_${name^^}_LINKER=$source/tools/zig-cc" \
        CARGO_TARGET_DIR="$target/manylinux" "$@"
}

wheel() {
    portable maturin build --quiet --manifest-path bindings/python/Cargo.toml \
        --target "$triple" --profile "$profile" --compatibility manylinux2014 --out "$out"
}

sdist() {
    maturin sdist --manifest-path bindings/python/Cargo.toml --out "$out"
}

npm_packages() {
    # TypeScript is compiled in place; the native module that goes with it is built apart.
    [ -d bindings/node/node_modules ] ||
        (cd bindings/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    (cd bindings/node && CARGO_TARGET_DIR=$target LIBDISCOVER_BUILD_PROFILE=dev node scripts/build.mjs)
    portable cargo build --quiet --target "$triple" --profile "$profile" -p libdiscover-node
    node bindings/node/scripts/pack.mjs \
        "$target/manylinux/$triple/$built/liblibdiscover_node.so" "$target/npm" "$out"
}

deb() {
    if ! command -v dpkg-deb >/dev/null; then
        echo "dist: there is no dpkg-deb here, so there are NO Debian packages" >&2
        return
    fi
    cargo build --quiet --profile "$profile" -p discover-ffi
    tools/deb.sh "$built" "$target/deb" "$out"
}

for each in "${what[@]}"; do
    echo "dist: $each"
    case $each in
        npm) npm_packages ;;
        *) "$each" ;;
    esac
done
