"""The Debian packages install into an empty root, and a program builds and runs with them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from languages import ROOT
from release_packages import VERSION, Packages, run

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed: the packages are NOT tested"),
]

ABI = ".".join(VERSION.split(".")[: 2 if VERSION.startswith("0.") else 1])
LIBRARY = f"libdiscover{VERSION.split('.')[0]}"
# The output of the C program of the README.
PRINTED = r"^\S+:8080 eu\n$"


@pytest.fixture(scope="module")
def debs(packages: Packages) -> dict[str, Path]:
    return {path.name.split("_")[0]: path for path in packages("deb")}


@pytest.fixture(scope="module")
def clean(debs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which dpkg has installed both packages and knows of no others but the C library's."""
    root = tmp_path_factory.mktemp("root")
    admin = root / "var/lib/dpkg"
    for folder in ("info", "updates", "triggers"):
        (admin / folder).mkdir(parents=True)
    (admin / "status").write_text(run(["dpkg-query", "--status", "libc6", "libgcc-s1"]))
    dpkg(root, "--install", *map(str, debs.values()))
    return root


def dpkg(root: Path, *arguments: str) -> str:
    # A user other than root becomes root in a new user namespace.
    become = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    log = f"--log={root}/dpkg.log"
    return run([*become, "dpkg", f"--root={root}", log, "--force-script-chrootless", *arguments])


def field(deb: Path, name: str) -> str:
    return run(["dpkg-deb", "--field", str(deb), name]).strip()


def libdir() -> str:
    return "usr/lib/" + run(["cc", "-print-multiarch"]).strip()


def test_the_control_fields_are_right(debs: dict[str, Path], tmp_path: Path) -> None:
    assert debs.keys() == {LIBRARY, "libdiscover-dev"}
    for deb in debs.values():
        assert field(deb, "Version") == f"{VERSION}-1"
        assert field(deb, "Source") == "libdiscover" and field(deb, "Multi-Arch") == "same"
        assert field(deb, "Architecture") == run(["dpkg", "--print-architecture"]).strip()
    assert re.fullmatch(r"libc6 \(>= 2\.\d+\), libgcc-s1 \(>= [\d.]+\)", field(debs[LIBRARY], "Depends"))
    # The header must belong to exactly this version of the library.
    assert field(debs["libdiscover-dev"], "Depends") == f"{LIBRARY} (= {VERSION}-1)"
    run(["dpkg-deb", "--control", str(debs[LIBRARY]), str(tmp_path)])
    above = f"{LIBRARY} (>= {VERSION})"
    assert (tmp_path / "shlibs").read_text().startswith(f"libdiscover {ABI} {above}, {LIBRARY} (<< ")
    assert (tmp_path / "triggers").read_text() == "activate-noawait ldconfig\n"


def test_the_installed_files_are_complete(clean: Path) -> None:
    assert dpkg(clean, "--audit", LIBRARY, "libdiscover-dev") == ""
    assert dpkg(clean, "--verify", LIBRARY, "libdiscover-dev") == ""
    library = clean / libdir()
    assert os.readlink(library / "libdiscover.so") == f"libdiscover.so.{ABI}"
    assert os.readlink(library / f"libdiscover.so.{ABI}") == f"libdiscover.so.{VERSION}"
    owners = {
        library / "libdiscover.so": "libdiscover-dev",
        library / "libdiscover.a": "libdiscover-dev",
        clean / "usr/include/discover.h": "libdiscover-dev",
        library / f"libdiscover.so.{ABI}": LIBRARY,
        library / f"libdiscover.so.{VERSION}": LIBRARY,
    }
    for file, owner in owners.items():
        output = dpkg(clean, "--search", f"/{file.relative_to(clean)}")
        assert output.startswith(f"{owner}:"), output
        assert file.lstat().st_uid == os.geteuid()
        assert file.is_symlink() or file.stat().st_mode & 0o777 == 0o644
    for package in (LIBRARY, "libdiscover-dev"):
        notices = {path.name for path in (clean / "usr/share/doc" / package).iterdir()}
        assert notices == {"copyright", "changelog.Debian.gz"}


@pytest.mark.parametrize("kind", ["shared", "static"])
def test_a_program_is_built_and_runs(kind: str, clean: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"^```c\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "web.c").write_text(program)
    found = {**os.environ, "PKG_CONFIG_PATH": str(clean / libdir() / "pkgconfig")}
    shared = "$(pkg-config --cflags --libs discover)"
    static = "$(pkg-config --static --cflags --libs discover | sed 's/-ldiscover/-l:libdiscover.a/')"
    links = shared if kind == "shared" else static
    run(["sh", "-c", f"cc web.c -o web {links}"], cwd=tmp_path, env=found)
    needs = run(["readelf", "-d", str(tmp_path / "web")])
    assert (f"[libdiscover.so.{ABI}]" in needs) == (kind == "shared")
    url = {"DISCOVER_URL": f"local://{tmp_path}/r", "LD_LIBRARY_PATH": str(clean / libdir())}
    assert re.match(PRINTED, run([str(tmp_path / "web")], env={**os.environ, **url}, timeout=60))


def test_removal_leaves_no_files(debs: dict[str, Path], tmp_path: Path, clean: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(clean, root, symlinks=True)
    with pytest.raises(AssertionError, match=f"libdiscover-dev.* depends on {LIBRARY}"):
        dpkg(root, "--remove", LIBRARY)
    dpkg(root, "--purge", "libdiscover-dev", LIBRARY)
    left = [path for path in root.rglob("*discover*") if "dpkg.log" not in path.name]
    assert not left


def test_files_belong_to_root_and_have_the_time_of_the_sources(debs: dict[str, Path]) -> None:
    for deb in debs.values():
        listed = [line.split() for line in run(["dpkg-deb", "--contents", str(deb)]).splitlines()]
        assert {owner for _, owner, *_ in listed} == {"root/root"}
        assert len({(day, hour) for _, _, _, day, hour, *_ in listed}) == 1, listed
