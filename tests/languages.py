"""How a program of ours is run in each language. All are built by `make test` before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "debug"
NODE_BUILT = ROOT / "bindings/node/dist"

PROGRAMS = Path(__file__).parent / "programs"

LANGUAGES = ("c", "cpp", "python", "node", "rust")
SUFFIXES = {"c": ".c", "cpp": ".cc", "python": ".py", "node": ".ts", "rust": ".rs"}


def source(language: str, program: str) -> Path:
    """`examples/watch` in C is examples/watch.c."""
    return ROOT / f"{program}{SUFFIXES[language]}"


def command(language: str, program: str, scratch: Path) -> list[str]:
    """The command that runs a program, compiled into `scratch` where that is not done by the build."""
    name = Path(program).name
    if language == "python":
        return [sys.executable, str(source(language, program))]
    if language == "node":
        return ["node", str(NODE_BUILT / f"{program}.js")]
    if language == "rust":
        return [str(BUILT / "examples" / name)]
    compiler = ["cc", "-std=c99", "-D_POSIX_C_SOURCE=200809L"] if language == "c" else ["c++", "-std=c++17"]
    binary = scratch / f"{name}-{language}"
    if not binary.exists():
        compile_and_link([*compiler, "-Wall", "-Wextra", "-Werror"], source(language, program), binary)
    return [str(binary)]


def compile_and_link(compiler: list[str], file: Path, binary: Path) -> None:
    where = ["-I", str(ROOT / "include"), "-L", str(BUILT), "-ldiscover", f"-Wl,-rpath,{BUILT}"]
    subprocess.run([*compiler, str(file), "-o", str(binary), *where, "-pthread"], check=True)


def rounds(in_full: int) -> int:
    """How often a long loop runs: in full in `make soak`, else a tenth of that."""
    return in_full if os.environ.get("DISCOVER_SOAK") == "1" else in_full // 10
