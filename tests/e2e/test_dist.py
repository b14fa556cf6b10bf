"""The packages of `make dist` install and work without this tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from languages import BUILT, PROGRAMS, ROOT
from release_packages import VERSION, Packages, find_python, run

NODE = ROOT / "bindings/node"

# The first build with another linker takes minutes.
pytestmark = pytest.mark.timeout(1500)


def new_environment(python: str, at: Path) -> str:
    run([python, "-m", "venv", "--without-pip", str(at)])
    return str(at / "bin/python")


def pip_install(python: str, *what: str, **options: object) -> None:
    """Installs into an environment that has no pip, with the pip of this one."""
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *what], **options)


def check_package(python: str, tmp_path: Path) -> None:
    output = run([python, str(PROGRAMS / "installed.py"), f"local://{tmp_path}/r"], cwd=tmp_path, timeout=120)
    version, file = output.split()
    assert version == VERSION and Path(file).is_relative_to(tmp_path)


def test_the_version_is_the_same_everywhere() -> None:
    header = (ROOT / "include/discover.h").read_text()
    numbers = re.findall(r"#define DISCOVER_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header)
    lock = json.loads((NODE / "package-lock.json").read_text())
    output = {
        "discover.h": ".".join(numbers),
        "package.json": json.loads((NODE / "package.json").read_text())["version"],
        "package-lock.json": lock["version"],
        "package-lock.json, packages": lock["packages"][""]["version"],
    }
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    for name, dependency in manifest["dependencies"].items():
        if "path" in dependency:
            output[f"Cargo.toml, {name}"] = dependency["version"]
    for member in manifest["members"]:
        package = tomllib.loads((ROOT / member / "Cargo.toml").read_text())["package"]
        assert package["version"] == {"workspace": True}, member
    python = tomllib.loads((ROOT / "bindings/python/pyproject.toml").read_text())["project"]
    assert python["dynamic"] == ["version"] and "version" not in python
    assert output == {place: VERSION for place in output}


def test_the_wheel_is_one_for_all(packages: Packages, tmp_path: Path) -> None:
    (wheel,) = packages("wheel")
    machine = os.uname().machine
    platform = f"manylinux2014_{machine}.manylinux_2_17_{machine}"
    assert wheel.name == f"libdiscover-{VERSION}-cp310-abi3-{platform}.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/", 1)[1] for name in archive.namelist() if name.startswith("libdiscover/")}
        assert {"__init__.py", "aio.py", "py.typed", "_native.pyi", "_native.abi3.so"} <= names
        archive.extract("libdiscover/_native.abi3.so", tmp_path)
    assert newest_glibc(tmp_path / "libdiscover/_native.abi3.so") <= (2, 17)


def newest_glibc(library: Path) -> tuple[int, ...]:
    output = run(["readelf", "-VW", str(library)])
    return max(tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([\d.]+)", output))


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_wheel(version: str, packages: Packages, tmp_path: Path) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed: the wheel is NOT tested with it")
    fresh = new_environment(python, tmp_path / "env")
    pip_install(fresh, "--no-index", "--no-deps", str(packages("wheel")[0]))
    check_package(fresh, tmp_path)


def test_the_sdist(packages: Packages, tmp_path: Path) -> None:
    (sdist,) = packages("sdist")
    assert sdist.name == f"libdiscover-{VERSION}.tar.gz"
    fresh = new_environment(sys.executable, tmp_path / "env")
    # cargo treats the unpacked sources as new; their dependencies are built already.
    target = {"CARGO_TARGET_DIR": str(BUILT.parent), "MATURIN_PEP517_ARGS": "--profile dev"}
    pip_install(fresh, str(sdist), env={**os.environ, **target}, cwd=tmp_path)
    check_package(fresh, tmp_path)


NODE_BODY = (
    "connect(process.argv[2]).then(async (client) => {"
    "  await client.register({ service: 'web', port: 1, attributes: { zone: 'eu' } });"
    "  const [one] = await client.services('web').wait(1, { timeout: 30000 });"
    "  console.log(one.port, one.zone);"
    "  await client.close();"
    "});"
)
NODE_PROGRAMS = {
    "esm": ("program.mjs", "import { connect } from 'libdiscover';"),
    "commonjs": ("program.cjs", "const { connect } = require('libdiscover');"),
    "typescript": ("program.mts", "import { connect, type Instance } from 'libdiscover';"),
}


@pytest.fixture(scope="session")
def node_folder(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages installed, without downloads."""
    folder = tmp_path_factory.mktemp("npm")
    npm_install(folder, *packages("npm"))
    return folder


def npm_install(folder: Path, *what: Path) -> None:
    (folder / "package.json").write_text('{"private": true}')
    npm = ["npm", "install", "--offline", "--no-audit", "--no-fund", "--omit=dev"]
    run([*npm, *map(str, what)], cwd=folder)


def test_the_npm_packages_contain_the_right_files(packages: Packages, node_folder: Path) -> None:
    main, native = packages("npm")
    assert main.name == f"libdiscover-{VERSION}.tgz"
    name = native.name.removesuffix(f"-{VERSION}.tgz")
    contents = {name: run(["tar", "tzf", str(tgz)]).split() for name, tgz in (("main", main), ("native", native))}
    assert not [file for file in contents["main"] if file.endswith(".node")]
    assert {"package/README.md", "package/LICENSE-MIT", "package/dist/index.d.mts"} <= set(contents["main"])
    assert {"package/libdiscover.node", "package/LICENSE-MIT"} <= set(contents["native"])
    description = json.loads((node_folder / "node_modules/libdiscover/package.json").read_text())
    assert description["optionalDependencies"] == {name: VERSION}
    assert "devDependencies" not in description and "scripts" not in description
    assert newest_glibc(node_folder / "node_modules" / name / "libdiscover.node") <= (2, 17)


@pytest.mark.parametrize("kind", NODE_PROGRAMS)
def test_the_npm_packages(kind: str, node_folder: Path, tmp_path: Path) -> None:
    name, imports = NODE_PROGRAMS[kind]
    (node_folder / name).write_text(f"{imports}\n{NODE_BODY}\n")
    if kind == "typescript":
        types = node_folder / "node_modules/@types"
        if not types.exists():
            types.symlink_to(NODE / "node_modules/@types")
        options = ["--strict", "--module", "node16", "--target", "es2022", "--outDir", "js"]
        run(["node", str(NODE / "node_modules/typescript/bin/tsc"), *options, name], cwd=node_folder)
        name = "js/program.mjs"
    output = run(["node", name, f"local://{tmp_path}/r"], cwd=node_folder, timeout=60)
    assert output == "1 eu\n"


def test_the_npm_package_alone_names_the_missing_package(packages: Packages, tmp_path: Path) -> None:
    main, native = packages("npm")
    npm_install(tmp_path, main)
    done = subprocess.run(
        ["node", "-e", "require('libdiscover')"], cwd=tmp_path, capture_output=True, text=True
    )
    name = native.name.removesuffix(f"-{VERSION}.tgz")
    assert done.returncode != 0 and f"install the package {name}" in done.stderr, done.stderr


def test_the_agent_is_one_static_executable(packages: Packages, tmp_path: Path) -> None:
    (archive,) = packages("agent")
    name = f"discoverd-{VERSION}-{os.uname().machine}-linux"
    assert archive.name == f"{name}.tar.gz"
    run(["tar", "-xzf", str(archive)], cwd=tmp_path)
    tree = tmp_path / name
    program = tree / "bin/discoverd"
    # A static executable has neither an interpreter nor needed libraries.
    headers = run(["readelf", "--wide", "--program-headers", "--dynamic", str(program)])
    assert "INTERP" not in headers and "NEEDED" not in headers, headers
    assert run([str(program), "--version"], env={}) == f"discoverd {VERSION}\n"
    place = f"local://{tmp_path}/r"
    command = [str(program), "register", "--url", place, "web", "127.0.0.1:1", "--"]
    seen = run([*command, str(program), "get", "web", "--url", place, "--wait", "1"], timeout=60)
    assert seen.endswith("127.0.0.1:1  leader\n"), seen
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {
        "bin/discoverd",
        "lib/systemd/system/discoverd.service",
        "lib/sysusers.d/discoverd.conf",
        "share/bash-completion/completions/discoverd",
        "share/doc/discoverd/LICENSE-APACHE",
        "share/doc/discoverd/LICENSE-MIT",
        "share/doc/discoverd/agent.md",
        "share/fish/vendor_completions.d/discoverd.fish",
        "share/man/man1/discoverd.1",
        "share/zsh/site-functions/_discoverd",
    }
    assert all((tree / path).stat().st_size for path in files)
