"""Every code block of the README does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import BUILT, ROOT, compile_and_link

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
# What the quickstart prints; the host is this machine's, as it is to others.
PRINTED = r"^\S+:8080 eu\n$"


def block(language: str) -> str:
    found = [text for name, text in BLOCKS if name == language]
    assert len(found) == 1, f"one block of {language}"
    return str(found[0])


def run(command: list[str], url: str, **options: str | Path) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, "DISCOVER_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_it_is_short_and_every_block_is_known() -> None:
    assert len(README.splitlines()) <= 220
    # Rust's block is a test of the documentation of the crate.
    known = {"sh", "text", "python", "js", "c", "cpp", "rust"}
    assert {name for name, _ in BLOCKS} <= known


@pytest.mark.parametrize("scheme", ["local", "etcd"])
@pytest.mark.parametrize("language", ["python", "js", "c", "cpp"])
def test_quickstart(
    language: str, scheme: str, place: Callable[[str], str], tmp_path: Path
) -> None:
    url = place(scheme)
    if language == "python":
        (tmp_path / "web.py").write_text(block("python"))
        said = run([sys.executable, str(tmp_path / "web.py")], url)
    elif language == "js":
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules/libdiscover").symlink_to(ROOT / "bindings/node")
        (tmp_path / "web.mjs").write_text(block("js"))
        said = run(["node", str(tmp_path / "web.mjs")], url)
    else:
        compiler = {"c": ["cc", "-std=c99"], "cpp": ["c++", "-std=c++17"]}[language]
        source = tmp_path / ("web.c" if language == "c" else "web.cc")
        source.write_text(block(language))
        compile_and_link([*compiler, "-Wall", "-Werror"], source, tmp_path / "web")
        said = run([str(tmp_path / "web")], url)
    assert re.match(PRINTED, said), said


def test_commands(place: Callable[[str], str], tmp_path: Path) -> None:
    """The commands that are not this very run: each is known here, and done here or named."""
    done_elsewhere = {"make demo": "test_demo"}
    for name, text in BLOCKS:
        if name != "sh":
            continue
        for line in text.splitlines():
            if line in done_elsewhere:
                continue
            url = r"etcd://127\.0\.0\.1:2379\?(ttl=10s|layout=kratos,native)"
            assert re.fullmatch(f'DISCOVER_URL="{url}" python3 web.py', line)
            (tmp_path / "web.py").write_text(block("python"))
            real = place("etcd").removeprefix("etcd://").split("/")[0]
            shell = line.replace("127.0.0.1:2379", real).replace("python3", sys.executable)
            done = subprocess.run(
                shell, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120
            )
            assert re.match(PRINTED, done.stdout), done.stderr


def test_demo() -> None:
    """What `make demo` runs once it has built: it ends by itself, with the kill seen at once."""
    done = subprocess.run(
        [str(ROOT / "examples/demo/run")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    gone = re.search(r"gone ([\d.]+) ms after the kill", done.stdout)
    assert gone is not None, done.stdout
    for told in ("up", "update", "down", "leader"):
        assert re.search(rf"^ *[\d.]+ s +{told} ", done.stdout, re.MULTILINE), told


def test_demo_of_layouts(place: Callable[[str], str]) -> None:
    """What `make demo-layouts` runs: one service in two layouts, seen by the users of either."""
    said = run([sys.executable, str(ROOT / "examples/demo/layouts.py")], place("etcd"))
    assert re.search(r"^both .*api 127\.0\.0\.1:7001 in registrator\+native \{'zone': 'eu'\}$", said, re.MULTILINE)
    for layout in ("registrator", "native"):
        assert re.search(rf"^{layout} .*api 127\.0\.0\.1:7001 in {layout} ", said, re.MULTILINE), said


@pytest.mark.parametrize("kind", ["c", "cpp", "c, static"])
def test_install(kind: str, installed: Path, place: Callable[[str], str], tmp_path: Path) -> None:
    """The command that the README gives for C compiles against what was installed."""
    language = kind.removesuffix(", static")
    source = tmp_path / ("web.c" if language == "c" else "web.cc")
    source.write_text(block(language))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    compiler = "cc" if language == "c" else "c++ -std=c++17"
    links = "$(pkg-config --cflags --libs discover)"
    if kind != language:
        # The linker takes the shared one of two, unless it is told the file.
        links = "$(pkg-config --static --cflags --libs discover | sed 's/-ldiscover/-l:libdiscover.a/')"
    subprocess.run(
        f"{compiler} {source} {links}", shell=True, cwd=tmp_path, env=environment, check=True
    )
    # A static one runs where the library is not to be found.
    libraries = {"LD_LIBRARY_PATH": str(installed / "lib")} if kind == language else {}
    done = subprocess.run(
        [str(tmp_path / "a.out")],
        env={**os.environ, **libraries, "DISCOVER_URL": place("local")},
        capture_output=True,
        text=True,
    )
    assert re.match(PRINTED, done.stdout), done.stderr
    soname = subprocess.run(
        ["readelf", "-d", str(BUILT / "libdiscover.so")], capture_output=True, text=True
    )
    assert re.search(r"SONAME.*\[libdiscover\.so\.0\.1\]", soname.stdout), soname.stdout


def test_install_with_cmake(installed: Path, place: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "web.c").write_text(block("c"))
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\n"
        "project(web C)\n"
        "find_package(libdiscover 0.1 CONFIG REQUIRED)\n"
        "foreach(kind shared static)\n"
        "  add_executable(web-${kind} web.c)\n"
        "  target_link_libraries(web-${kind} libdiscover::${kind})\n"
        "endforeach()\n"
    )
    for step in (["-S", ".", "-B", "b", f"-DCMAKE_PREFIX_PATH={installed}"], ["--build", "b"]):
        subprocess.run(["cmake", *step], cwd=tmp_path, check=True, capture_output=True)
    for kind in ("shared", "static"):
        said = run([str(tmp_path / f"b/web-{kind}")], place("local"))
        assert re.match(PRINTED, said), said
