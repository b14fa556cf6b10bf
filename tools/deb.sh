#!/usr/bin/env bash
# Builds the Debian packages libdiscover0 and libdiscover-dev from the built C library:
#
#   tools/deb.sh BUILT STAGE OUT     BUILT is the directory of cargo: release or debug
#
# Needs only dpkg-deb and binutils. The packages are for the distribution on which the library was built.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$1 stage=$2 out=$3

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
arch=$(dpkg --print-architecture)
multiarch=$(cc -print-multiarch)
libdir=usr/lib/$multiarch
library=libdiscover${version%%.*}
# Files have the time of the last commit, so that the packages are reproducible.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

rm -rf "$stage"
umask 022
mkdir -p "$stage/$library/$libdir" "$stage/libdiscover-dev"
cargo run --quiet -p tools -- install --profile "$built" \
    --prefix /usr --libdir "lib/$multiarch" --destdir "$stage/libdiscover-dev" >/dev/null
# The shared library goes into libdiscover0; what programs are built with stays in libdiscover-dev.
mv "$stage/libdiscover-dev/$libdir"/libdiscover.so.* "$stage/$library/$libdir"
shared=$(find "$stage/$library/$libdir" -type f)
chmod 644 "$shared"
# Release packages are compressed well; other packages, which only tests use, are compressed fast.
[ "$built" = release ] && small=(-Zxz) || small=(-Zgzip -z1)
strip --strip-unneeded "$shared"
strip --strip-debug --enable-deterministic-archives "$stage/libdiscover-dev/$libdir/libdiscover.a"
soname=$(readelf -d "$shared" | sed -n 's/.*(SONAME).*\[libdiscover\.so\.\(.*\)\]/\1/p')

# Prints the packages of the libraries that the shared library needs; for glibc with the version of the newest symbol.
depends() {
    local needed glibc
    glibc=$(readelf -VW "$shared" | grep -o 'GLIBC_2[.0-9]*' | sort -uV | tail -n 1)
    for needed in $(readelf -d "$shared" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
        case $needed in
            libc.so.6 | libm.so.6 | ld-linux*) echo "libc6 (>= ${glibc#GLIBC_})" ;;
            libgcc_s.so.1) echo "libgcc-s1 (>= 4.2)" ;;
            *) echo "deb: no Debian package is known for $needed; add it to tools/deb.sh" >&2; return 1 ;;
        esac
    done | sort -u | paste -sd, | sed 's/,/, /g'
}

# Prints the next incompatible ABI version.
next() {
    case $1 in
        0.*) echo "0.$((${1#0.} + 1))" ;;
        *) echo "$(($1 + 1))" ;;
    esac
}

package() { # name, section, dependencies, short description, long description
    local name=$1 root=$stage/$1 size
    local doc=$root/usr/share/doc/$name
    mkdir -p "$root/DEBIAN" "$doc"
    { echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
      echo "Upstream-Name: libdiscover"
      printf '\nFiles: *\nCopyright: The libdiscover authors\nLicense: Expat or Apache-2.0\n'
      printf '\nLicense: Expat\n'; sed 's/^$/./; s/^/ /' LICENSE-MIT
      printf '\nLicense: Apache-2.0\n See /usr/share/common-licenses/Apache-2.0.\n'
    } >"$doc/copyright"
    printf 'libdiscover (%s) unstable; urgency=medium\n\n  * Release %s.\n\n -- %s  %s\n' \
        "$version-1" "$version" "$maintainer" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" |
        gzip -9n >"$doc/changelog.Debian.gz"
    size=$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
    { printf 'Package: %s\nSource: libdiscover\nVersion: %s\n' "$name" "$version-1"
      printf 'Architecture: %s\nMulti-Arch: same\nSection: %s\nPriority: optional\n' "$arch" "$2"
      printf 'Maintainer: %s\nInstalled-Size: %s\nDepends: %s\n' "$maintainer" "$size" "$3"
      printf 'Description: %s\n%s\n' "$4" "$5"
    } >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    dpkg-deb --root-owner-group "${small[@]}" --build "$root" "$out" >/dev/null
}

maintainer="The libdiscover authors <libdiscover@localhost>"
about=" A program registers what it is and where; others follow a service as a live, local
 set, against etcd, or among the processes of one machine without any server."

mkdir -p "$stage/$library/DEBIAN"
echo "libdiscover $soname $library (>= $version), $library (<< $(next "$soname")~)" \
    >"$stage/$library/DEBIAN/shlibs"
echo "activate-noawait ldconfig" >"$stage/$library/DEBIAN/triggers"
package "$library" libs "$(depends)" "services find each other - shared library" "$about"
package libdiscover-dev libdevel "$library (= $version-1)" \
    "services find each other - headers for C and C++" "$about
 .
 The headers, the static library, and what pkg-config and CMake ask for."
