"""Commands that run the test programs in each language. `make test` builds the programs before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "debug"
NODE_BUILT = ROOT / "bindings/node/dist"

PROGRAMS = Path(__file__).parent / "programs"

LANGUAGES = ("c", "cpp", "python", "node", "rust")
SUFFIXES = {"c": ".c", "cpp": ".cc", "python": ".py", "node": ".ts", "rust": ".rs"}


def source(language: str, program: str) -> Path:
    """Returns the source file of a program: examples/watch.c for `examples/watch` in C."""
    return ROOT / f"{program}{SUFFIXES[language]}"


def command(language: str, program: str, scratch: Path) -> list[str]:
    """Returns the command that runs a program. Compiles a C or C++ program into `scratch`."""
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
    flags = ["-I", str(ROOT / "include"), "-L", str(BUILT), "-ldiscover", f"-Wl,-rpath,{BUILT}"]
    subprocess.run([*compiler, str(file), "-o", str(binary), *flags, "-pthread"], check=True)


def rounds(full_count: int) -> int:
    """Returns the number of rounds of a long loop: `full_count` in `make soak`, else a tenth of it."""
    return full_count if os.environ.get("DISCOVER_SOAK") == "1" else full_count // 10
