"""Exits of the interpreter: with everything in progress, on every installed Python, without delay."""

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
from conftest import PROGRAMS, SECONDS, SOAK, EventRecorder, Program, rounds

OTHERS = [f"3.{minor}" for minor in range(10, 14) if minor != sys.version_info.minor]
MAX_EXIT_SECONDS = 1.0
"""Maximum duration of an exit after the program's own work has ended."""


class ExitResult(NamedTuple):
    """The exit of a process: its code, its output, and its duration."""

    code: int
    text: str
    took: float
    """Seconds from the end of the program's work to the exit, less the time that other processes used."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, laid out as an unpacked wheel. The same binary module must work in all Pythons. No
    build changes the copy while thousands of processes read it."""
    place = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(libdiscover.__file__).parent, place / "libdiscover", ignore=ignored)
    return place


@pytest.fixture(scope="module")
def silent_store() -> Iterator[str]:
    """The URL of a store that accepts connections and never responds."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(4096)
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=60s"


def run_and_exit(python: Path, package: Path, url: str, silent_store: str) -> ExitResult:
    command = [str(python), "-X", "faulthandler", str(PROGRAMS / "leave.py"), url, silent_store]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    pipe, before = subprocess.PIPE, children_cpu_time()
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            reported = process.stdout.readline()
            machine = machine_busy_time()
            out, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    ended, machine = time.monotonic(), machine_busy_time() - machine
    if process.returncode or not reported:
        return ExitResult(process.returncode, reported + out + err, 0.0)
    work_ended, used = map(float, reported.split())
    others = machine - (children_cpu_time() - before - used)
    return ExitResult(0, out + err, ended - work_ended - max(others, 0) / (os.cpu_count() or 1))


def children_cpu_time() -> float:
    """Returns the processor time of all children that have exited, in seconds."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def machine_busy_time() -> float:
    """Returns the time for which the processors were busy, for all processes, in seconds."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    return sum(map(int, [user, nice, system, *interrupts])) / os.sysconf("SC_CLK_TCK")


def exit_often(python: Path, package: Path, silent_store: str, scratch: Path, times: int) -> None:
    """Runs the program repeatedly, each time in its own registry; every other one has files and locks."""
    results = []
    for number in range(times):
        url = f"local://{scratch}/{number}" if number % 2 else "memory://exit"
        results.append(run_and_exit(python, package, url, silent_store))
        assert (results[-1].code, results[-1].text) == (0, ""), f"the {number}th of {times}: {results[-1]}"
    slowest = sorted(round(result.took, 3) for result in results)[-5:]
    print(f"{times} exits of {python} were clean; the slowest took {slowest} s")
    assert slowest[-1] < MAX_EXIT_SECONDS


def find_python(version: str) -> Optional[Path]:
    """Returns a Python of this version from the path or from pyenv that runs and reports this version."""
    roots = [os.environ.get("PYENV_ROOT", ""), str(Path.home() / ".pyenv")]
    found = [path for root in roots if root for path in Path(root).glob(f"versions/{version}.*/bin/python")]
    named = shutil.which(f"python{version}")
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in [*sorted(found), *([Path(named)] if named else [])]:
        # A shim of pyenv fails if its version is not selected.
        result = subprocess.run([str(path), "-c", program], capture_output=True, text=True, check=False)
        if result.stdout.strip() == version:
            return path
    return None


@pytest.mark.timeout(7200 if SOAK else 600)
def test_every_exit_with_everything_in_progress_is_clean(package: Path, silent_store: str, tmp_path: Path) -> None:
    exit_often(Path(sys.executable), package, silent_store, tmp_path, rounds(1000))


@pytest.mark.timeout(7200 if SOAK else 300)
@pytest.mark.parametrize("version", OTHERS)
def test_every_exit_is_clean_on_other_pythons(
    version: str, package: Path, silent_store: str, tmp_path: Path
) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed: exits are NOT tested with it")
    exit_often(python, package, silent_store, tmp_path, rounds(1000, divisor=250))


def test_an_exit_unregisters_the_instances(local: str) -> None:
    events = EventRecorder()
    with libdiscover.connect(local) as client, Program("leaves.py", local, "h:1") as program:
        client.services("web").subscribe(events)
        assert program.line() == "ready"
        events.until("up", "h:1")
        assert program.wait_for_exit() == (0, "")
        events.until("down", "h:1")


def test_an_exit_does_not_wait_for_a_stuck_callback() -> None:
    with Program("stuck.py") as program:
        assert program.line() == "stuck"
        assert program.wait_for_exit() == (0, "")
