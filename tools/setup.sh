#!/usr/bin/env bash
# Brings the machine to where the builds and tests can run. Safe to run again:
# when all is there it looks, says nothing and changes nothing.
#
#   tools/setup.sh          everything `make test` needs
#   tools/setup.sh build    what a build with etcd needs: protoc
#   tools/setup.sh demo     what the demos need: a Python environment with what builds the package, and no protoc
set -euo pipefail
cd "$(dirname "$0")/.."

# What each Debian package is needed for, told by the file or command it brings:
# a machine with another package manager only needs to have those.
missing=()
want() { # package, then a command or an absolute path
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
    # The fault lab's: network namespaces, and cuts between them.
    want iproute2 ip
    want iptables iptables
    want doxygen doxygen
    # The page of the agent is looked at in it.
    want chromium chromium
}

install_missing() {
    [ ${#missing[@]} -eq 0 ] && return
    local root=() log
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    if ! command -v apt-get >/dev/null || { [ ${#root[@]} -gt 0 ] && ! command -v sudo >/dev/null; }; then
        echo "setup: missing: ${missing[*]} (Debian's names). Install them and run this again." >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    log=$(mktemp)
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300)
    if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "setup: could not install ${missing[*]}. Install them and run this again." >&2
        exit 1
    fi
    rm -f "$log"
}

# The lists of requirements that are needed. The copies of them inside the environment say what was installed
# into it.
python_environment() {
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
        # What an older list had may not go with what the new one has.
        [ ! -e ".venv/$list" ] || rm -rf .venv
    done
    if [ ! -e .venv ]; then
        missing=("$@")
        if ! python3 -m venv .venv; then
            echo "setup: python3 cannot make a virtual environment (Debian: apt-get install python3-venv)" >&2
            exit 1
        fi
    fi
    for list in "${missing[@]}"; do
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "tools/$list"
        cp "tools/$list" ".venv/$list"
    done
}

# A minimal Rust toolchain comes without these two.
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
