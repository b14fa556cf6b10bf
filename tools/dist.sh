#!/usr/bin/env bash
# Builds the release packages:
#
#   tools/dist.sh [--profile dist|dev] [--out DIR] [wheel] [sdist] [npm] [deb] [agent]
#
#   wheel   the Python package, for CPython 3.10 or newer on Linux with glibc 2.17 or newer
#   sdist   the sources of the Python package; building them needs Rust and protoc
#   npm     the Node package, and the package with the native module for this platform
#   deb     libdiscover0 and libdiscover-dev, for the distribution of this machine
#   agent   discoverd for Linux on this machine's architecture, statically linked
#
# Default: all packages, with the profile dist, into dist/. The version is that of the workspace in Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD

profile=dist out=dist what=()
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=$2; shift ;;
        --out) out=$2; shift ;;
        wheel | sdist | npm | deb | agent) what+=("$1") ;;
        *) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift
done
[ ${#what[@]} -gt 0 ] || what=(wheel sdist npm deb agent)
mkdir -p "$out"
out=$(cd "$out" && pwd)

export PATH=$source/.venv/bin:$PATH
target=${CARGO_TARGET_DIR:-$source/target}
# cargo names the directory of a profile after it, except for dev.
built=$profile
[ "$profile" != dev ] || built=debug
triple=$(uname -m)-unknown-linux-gnu

# Runs cargo or maturin with zig as the C compiler and linker. It has its own target directory, because cargo
# rebuilds everything when the linker changes, and the build scripts are linked with it, too.
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
    # TypeScript is compiled in place, with a dev build of the native module. The packaged module is built separately.
    [ -d bindings/node/node_modules ] ||
        (cd bindings/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    (cd bindings/node && CARGO_TARGET_DIR=$target LIBDISCOVER_BUILD_PROFILE=dev node scripts/build.mjs)
    portable cargo build --quiet --target "$triple" --profile "$profile" -p libdiscover-node
    node bindings/node/scripts/pack.mjs \
        "$target/manylinux/$triple/$built/liblibdiscover_node.so" "$target/npm" "$out"
}

deb() {
    if ! command -v dpkg-deb >/dev/null; then
        echo "dist: deb skipped: dpkg-deb is not installed" >&2
        return
    fi
    cargo build --quiet --profile "$profile" -p discover-ffi
    tools/deb.sh "$built" "$target/deb" "$out"
}

# Rust provides musl; zig compiles the parts in C.
agent() {
    local triple name version folder
    triple=$(uname -m)-unknown-linux-musl
    name=${triple//-/_}
    if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] && ! rustup --quiet target add "$triple"; then
        echo "dist: agent failed: rustc has no target $triple; run: rustup target add $triple" >&2
        return 1
    fi
    env "CC_$name=$source/tools/zig-cc" ZIG_TARGET="$(uname -m)-linux-musl" CARGO_TARGET_DIR="$target/static" \
        cargo build --quiet --target "$triple" --profile "$profile" -p discoverd
    local program=$target/static/$triple/$built/discoverd
    version=$("$program" --version)
    folder=discoverd-${version#discoverd }-$(uname -m)-linux
    local tree=$target/agent/$folder
    rm -rf "$tree"
    install -D "$program" "$tree/bin/discoverd"
    [ "$profile" = dev ] || strip "$tree/bin/discoverd"
    install -D -m 644 -t "$tree/lib/systemd/system" agent/systemd/discoverd.service
    install -D -m 644 agent/systemd/discoverd.sysusers "$tree/lib/sysusers.d/discoverd.conf"
    install -D -m 644 -t "$tree/share/doc/discoverd" docs/agent.md LICENSE-APACHE LICENSE-MIT
    mkdir -p "$tree/share/man/man1"
    "$program" man >"$tree/share/man/man1/discoverd.1"
    local shell file
    for shell in bash/bash-completion/completions/discoverd zsh/zsh/site-functions/_discoverd \
        fish/fish/vendor_completions.d/discoverd.fish; do
        file=$tree/share/${shell#*/}
        mkdir -p "${file%/*}"
        "$program" completions "${shell%%/*}" >"$file"
    done
    tar --sort=name --owner=0 --group=0 --numeric-owner -czf "$out/$folder.tar.gz" -C "$target/agent" "$folder"
}

for each in "${what[@]}"; do
    echo "dist: $each"
    case $each in
        npm) npm_packages ;;
        *) "$each" ;;
    esac
done
