"""Leaving the interpreter: in the middle of everything, on every Python there is, and at once."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, NamedTuple, Optional

import pytest

import libdiscover
from conftest import PROGRAMS, SECONDS, SOAK, Heard, Program, rounds

OTHERS = [f"3.{minor}" for minor in range(10, 14) if minor != sys.version_info.minor]
AT_ONCE = 1.0
"""How many seconds an exit may take once the program's own work is over."""


class End(NamedTuple):
    """How a process ended: with which code and words, and how long after its work was over."""

    code: int
    text: str
    took: float
    """In seconds, less what other processes had the machine for meanwhile."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a wheel is unpacked: the same binary module must serve all Pythons. A copy, which
    no build touches while thousands of processes read it."""
    place = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(libdiscover.__file__).parent, place / "libdiscover", ignore=ignored)
    return place


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """A store that takes connections and never answers."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(4096)
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=60s"


def leave(python: Path, package: Path, url: str, nobody: str) -> End:
    command = [str(python), "-X", "faulthandler", str(PROGRAMS / "leave.py"), url, nobody]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    pipe, before = subprocess.PIPE, children_worked()
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            machine = machine_worked()
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    ended, machine = time.monotonic(), machine_worked() - machine
    if process.returncode or not said:
        return End(process.returncode, said + out + err, 0.0)
    over, used = map(float, said.split())
    others = machine - (children_worked() - before - used)
    return End(0, out + err, ended - over - max(others, 0) / (os.cpu_count() or 1))


def children_worked() -> float:
    """Seconds of processor time of all children that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def machine_worked() -> float:
    """Seconds for which the processors were busy, whoever it was for."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    return sum(map(int, [user, nice, system, *interrupts])) / os.sysconf("SC_CLK_TCK")


def leave_often(python: Path, package: Path, nobody: str, scratch: Path, times: int) -> None:
    """One after the other, each in a registry of its own, every other one with files and locks."""
    ends = []
    for number in range(times):
        url = f"local://{scratch}/{number}" if number % 2 else "memory://leave"
        ends.append(leave(python, package, url, nobody))
        assert (ends[-1].code, ends[-1].text) == (0, ""), f"the {number}th of {times}: {ends[-1]}"
    slowest = sorted(round(end.took, 3) for end in ends)[-5:]
    print(f"{times} exits of {python} were clean; the slowest took {slowest} s")
    assert slowest[-1] < AT_ONCE


def find_python(version: str) -> Optional[Path]:
    """On the path, or of pyenv; one that can be run and is what it says."""
    roots = [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    found = [path for root in roots if root for path in Path(root).glob(f"versions/{version}.*/bin/python")]
    named = shutil.which(f"python{version}")
    says = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in [*sorted(found), *([Path(named)] if named else [])]:
        # A shim of pyenv may stand for a version that is not chosen, and then only complains.
        asked = subprocess.run([str(path), "-c", says], capture_output=True, text=True, check=False)
        if asked.stdout.strip() == version:
            return path
    return None


@pytest.mark.timeout(7200 if SOAK else 600)
def test_every_exit_in_the_middle_of_everything_is_clean(package: Path, nobody: str, tmp_path: Path) -> None:
    leave_often(Path(sys.executable), package, nobody, tmp_path, rounds(1000))


@pytest.mark.timeout(7200 if SOAK else 300)
@pytest.mark.parametrize("version", OTHERS)
def test_every_exit_is_clean_on_other_pythons(
    version: str, package: Path, nobody: str, tmp_path: Path
) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not here, so exits are NOT tested on it")
    leave_often(python, package, nobody, tmp_path, rounds(1000, share=250))


def test_an_exit_takes_the_registrations_away(local: str) -> None:
    heard = Heard()
    with libdiscover.connect(local) as client, Program("leaves.py", local, "h:1") as program:
        client.services("web").subscribe(heard)
        assert program.line() == "ready"
        heard.until("up", "h:1")
        assert program.end() == (0, "")
        heard.until("down", "h:1")


def test_an_exit_does_not_wait_for_a_stuck_callback() -> None:
    with Program("stuck.py") as program:
        assert program.line() == "stuck"
        assert program.end() == (0, "")
