#!/usr/bin/env bash
# Builds the manuals into target/site, without network access. Warnings are errors:
#
#   tools/docs.sh [rust] [c] [cpp] [python] [node]
#
# Requires a build of the Python and Node packages (make build).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PWD/.venv/bin:$PATH
target=${CARGO_TARGET_DIR:-$PWD/target}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
site=$target/site
mkdir -p "$site"

rust() {
    CARGO_TARGET_DIR=$target RUSTDOCFLAGS="-D warnings" \
        cargo doc --quiet --offline --no-deps --package discover-core
    rm -rf "$site/rust"
    cp -r "$target/doc" "$site/rust"
}

doxygen_for() {
    rm -rf "${site:?}/$1"
    VERSION=$version OUT=$site XML=NO doxygen "tools/docs/$1.doxyfile"
}

c() { doxygen_for c; }

# The C++ manual links to the C manual for the semantics of each call.
cpp() {
    [ -e "$site/c.tag" ] || c
    doxygen_for cpp
}

# Warnings are errors for pdoc, which imports the package, and for the package itself. pdoc does not find `Metrics`,
# which is loaded on first use, unless it is used before.
python() {
    rm -rf "$site/python"
    command python -W error -c 'import libdiscover, pdoc.__main__ as it; libdiscover.Metrics; it.cli()' \
        --no-search --docformat google \
        --output-directory "$site/python" libdiscover libdiscover.aio libdiscover.scalingo
}

node() {
    rm -rf "$site/node"
    (cd bindings/node && npx --no-install typedoc --out "$site/node")
}

each=("$@")
[ $# -gt 0 ] || each=(rust c cpp python node)
for language in "${each[@]}"; do
    case $language in
        rust | c | cpp | python | node) "$language" ;;
        *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
sed "s/@VERSION@/$version/" tools/docs/index.html >"$site/index.html"
