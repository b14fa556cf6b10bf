"""Every code block of the README runs and prints what the README promises."""

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
# The output of the quickstart. The host is this machine's address.
PRINTED = r"^\S+:8080 eu\n$"


# Tested by test_install_commands.
C_COMMANDS = next(text for name, text in BLOCKS if name == "sh" and "pkg-config" in text)


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


def test_the_readme_is_short_and_every_block_is_known() -> None:
    assert len(README.splitlines()) <= 220
    # The Rust block is a documentation test of the crate.
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
        output = run([sys.executable, str(tmp_path / "web.py")], url)
    elif language == "js":
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules/libdiscover").symlink_to(ROOT / "bindings/node")
        (tmp_path / "web.mjs").write_text(block("js"))
        output = run(["node", str(tmp_path / "web.mjs")], url)
    else:
        compiler = {"c": ["cc", "-std=c99"], "cpp": ["c++", "-std=c++17"]}[language]
        source = tmp_path / ("web.c" if language == "c" else "web.cc")
        source.write_text(block(language))
        compile_and_link([*compiler, "-Wall", "-Werror"], source, tmp_path / "web")
        output = run([str(tmp_path / "web")], url)
    assert re.match(PRINTED, output), output


def test_commands(place: Callable[[str], str], tmp_path: Path) -> None:
    """Every command of the README is run here or in the test named here."""
    tested_elsewhere = {"make demo": "test_demo"}
    for name, text in BLOCKS:
        if name != "sh" or text == C_COMMANDS:
            continue
        for line in text.splitlines():
            if line in tested_elsewhere:
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
    """The demo that `make demo` runs after the build ends by itself and sees the kill at once."""
    done = subprocess.run(
        [str(ROOT / "examples/demo/run")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    offline = re.search(r"offline ([\d.]+) ms after the kill", done.stdout)
    assert offline is not None, done.stdout
    for kind in ("up", "update", "down", "leader"):
        assert re.search(rf"^ *[\d.]+ s +{kind} ", done.stdout, re.MULTILINE), kind


def test_demo_of_layouts(place: Callable[[str], str]) -> None:
    """The demo of `make demo-layouts` shows one service in two layouts, to the users of each."""
    output = run([sys.executable, str(ROOT / "examples/demo/layouts.py")], place("etcd"))
    assert re.search(r"^both .*api 127\.0\.0\.1:7001 in registrator\+native \{'zone': 'eu'\}$", output, re.MULTILINE)
    for layout in ("registrator", "native"):
        assert re.search(rf"^{layout} .*api 127\.0\.0\.1:7001 in {layout} ", output, re.MULTILINE), output


@pytest.mark.parametrize("language", ["c", "cpp"])
def test_install_commands(
    language: str, installed: Path, place: Callable[[str], str], tmp_path: Path
) -> None:
    """The commands of the README compile and run the program as written, after `make install` into a prefix."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".local").symlink_to(installed)
    (tmp_path / ("web.c" if language == "c" else "web.cc")).write_text(block(language))
    commands = C_COMMANDS
    if language == "cpp":
        compiler = "c++ -std=c++17 web.cc"
        assert f"`{compiler}` with the same flags" in README
        commands = commands.replace("cc web.c", compiler)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "DISCOVER_URL": place("local")}
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert re.match(PRINTED, done.stdout), done.stderr


@pytest.mark.parametrize("kind", ["c", "cpp", "c, static"])
def test_install(kind: str, installed: Path, place: Callable[[str], str], tmp_path: Path) -> None:
    """Shared and static linking work with the installed library, without an rpath."""
    language = kind.removesuffix(", static")
    source = tmp_path / ("web.c" if language == "c" else "web.cc")
    source.write_text(block(language))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    compiler = "cc" if language == "c" else "c++ -std=c++17"
    links = "$(pkg-config --cflags --libs discover)"
    if kind != language:
        # The linker prefers the shared library, unless it gets the file name of the static one.
        links = "$(pkg-config --static --cflags --libs discover | sed 's/-ldiscover/-l:libdiscover.a/')"
    subprocess.run(
        f"{compiler} {source} {links}", shell=True, cwd=tmp_path, env=environment, check=True
    )
    # A statically linked program runs without the library.
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
        output = run([str(tmp_path / f"b/web-{kind}")], place("local"))
        assert re.match(PRINTED, output), output
