#!/usr/bin/env bash
# Installs what the builds and tests need. Idempotent: if everything is installed, it prints nothing and
# changes nothing.
#
#   tools/setup.sh          everything `make test` needs
#   tools/setup.sh build    protoc, for a build with etcd
#   tools/setup.sh demo     the Python environment that builds the package for the demos, without protoc
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian packages are detected by a command or file that they install, so a machine with another package manager
# needs only those.
missing=()
want() { # package, then the command or the absolute path that it installs
    case $2 in
        /*) [ -e "$2" ] || missing+=("$1") ;;
        *) command -v "$2" >/dev/null || missing+=("$1") ;;
    esac
}

# etcd-client's build script runs protoc, and imports the well-known .proto files.
want_protoc() {
    want protobuf-compiler protoc
    local protoc prefix
    protoc=$(command -v protoc || echo /usr/bin/protoc)
    prefix=${protoc%/bin/*}
    want libprotobuf-dev "$prefix/include/google/protobuf/descriptor.proto"
}

want_servers_and_checkers() {
    want etcd-server etcd
    want etcd-client etcdctl
    want clang clang
    want valgrind valgrind
    want openssl openssl
    want cmake cmake
    want pkg-config pkg-config
    # The fault lab uses network namespaces, and partitions between them.
    want iproute2 ip
    want iptables iptables
    want doxygen doxygen
    # The tests of the agent's page run in Chromium.
    want chromium chromium
}

install_missing() {
    [ ${#missing[@]} -eq 0 ] && return
    local root=() log
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    if ! command -v apt-get >/dev/null || { [ ${#root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
        echo "setup: missing: ${missing[*]} (names of Debian packages). Install them and run tools/setup.sh again." >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    log=$(mktemp)
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300)
    if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "setup: cannot install ${missing[*]}. Install them and run tools/setup.sh again." >&2
        exit 1
    fi
    rm -f "$log"
}

# Installs requirement lists into .venv. Copies of the lists in .venv record what is installed.
python_environment() { # requirement lists
    local list missing=()
    for list in "$@"; do
        cmp -s "tools/$list" ".venv/$list" || missing+=("$list")
    done
    if .venv/bin/python -c '' 2>/dev/null; then
        [ ${#missing[@]} -gt 0 ] || return 0
    else
        missing=("$@")
        rm -rf .venv
    fi
    echo "setup: preparing the Python environment in .venv"
    for list in "${missing[@]}"; do
        # Packages of an older list may conflict with the new one, so the environment is created anew.
        [ ! -e ".venv/$list" ] || rm -rf .venv
    done
    if [ ! -e .venv ]; then
        missing=("$@")
        if ! python3 -m venv .venv; then
            echo "setup: python3 cannot create a virtual environment (Debian: apt-get install python3-venv)" >&2
            exit 1
        fi
    fi
    for list in "${missing[@]}"; do
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "tools/$list"
        cp "tools/$list" ".venv/$list"
    done
}

# A minimal Rust toolchain lacks rustfmt and clippy.
rust_components() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    echo "setup: adding rustfmt and clippy"
    rustup component add rustfmt clippy
}

case ${1:-test} in
    test)
        want_protoc
        want_servers_and_checkers
        install_missing
        rust_components
        python_environment requirements.txt requirements-test.txt
        ;;
    build)
        want_protoc
        install_missing
        ;;
    demo)
        python_environment requirements.txt
        ;;
    *)
        sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
