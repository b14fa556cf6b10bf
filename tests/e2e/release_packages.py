"""Builds the release packages, and finds Pythons to install them into."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

from languages import BUILT, ROOT

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]

# A function that returns the packages of one kind, which is an argument of tools/dist.sh.
Packages = Callable[[str], list[Path]]


def make(kind: str, out: Path) -> list[Path]:
    """Builds the packages of one kind as `make dist` does, but without optimization, which would take minutes."""
    script = [str(ROOT / "tools/dist.sh"), "--profile", "dev", "--out", str(out), kind]
    subprocess.run(script, env={**os.environ, "CARGO_TARGET_DIR": str(BUILT.parent)}, check=True)
    return sorted(out.iterdir())


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def find_python(version: str) -> str | None:
    """Returns a Python of this version from the path or from pyenv. A shim of pyenv may not run."""
    roots = [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    found = [str(path) for root in roots for path in Path(root).glob(f"versions/{version}.*/bin/python")]
    named = shutil.which(f"python{version}")
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in [*sorted(found), *([named] if named else [])]:
        if subprocess.run([path, "-c", program], capture_output=True, text=True).stdout.strip() == version:
            return path
    return None
