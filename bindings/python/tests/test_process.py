"""Life with other processes: a death, a fork, the log, and every kind of exit."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Tuple

import pytest

import libdiscover
from conftest import PROGRAMS, SECONDS, Heard, Program

PACKAGE = Path(libdiscover.__file__).parents[1]
EXITS = 50


def test_a_killed_process_is_seen_to_go_without_a_heartbeat(local: str) -> None:
    heard = Heard()
    with libdiscover.connect(local) as client, Program("member.py", local, "web", "127.0.0.1:1") as member:
        client.services("web").subscribe(heard)
        assert member.line() == "ready"
        heard.until("up", "127.0.0.1:1")
        member.send_signal(signal.SIGKILL)
        # Far sooner than the TTL of 10 s in which a heartbeat would be missed.
        heard.until("down", "127.0.0.1:1", within=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_so_and_may_open_its_own(local: str) -> None:
    with Program("forked.py", local) as program:
        assert program.end() == (0, "parent and child are well\n")


def test_records_go_to_the_logger_if_anybody_listens() -> None:
    with Program("logged.py", "shown") as program:
        code, text = program.end()
    assert code == 0
    assert text.startswith("libdiscover WARNING lost the watch, trying again:"), text


def test_nothing_is_ever_printed() -> None:
    with Program("logged.py", "hidden") as program:
        assert program.end() == (0, "")


def leave(python: Path, url: str) -> Tuple[int, str]:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(50)
        nobody = f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=60s"
        command = [str(python), "-X", "faulthandler", str(PROGRAMS / "leave.py"), url, nobody]
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=2 * SECONDS, check=False
        )
    return done.returncode, done.stdout + done.stderr


def other_pythons() -> List[Path]:
    """The same binary module must serve them all."""
    versions = Path.home() / ".pyenv" / "versions"
    found = [path for minor in range(9, 14) for path in sorted(versions.glob(f"3.{minor}.*/bin/python"))]
    return [path for path in found if path.resolve() != Path(sys.executable).resolve()]


@pytest.mark.timeout(300)
def test_every_exit_in_the_middle_of_everything_is_clean(tmp_path: Path) -> None:
    urls = [f"local://{tmp_path}/{n}" if n % 2 else "memory://leave" for n in range(EXITS)]
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda url: leave(Path(sys.executable), url), urls))
    assert ends == [(0, "")] * EXITS


@pytest.mark.timeout(120)
@pytest.mark.parametrize("python", other_pythons(), ids=lambda path: path.parents[1].name)
def test_every_exit_is_clean_on_other_pythons(python: Path, tmp_path: Path) -> None:
    ends = [leave(python, url) for url in ("memory://leave", f"local://{tmp_path}/a", f"local://{tmp_path}/b")]
    assert ends == [(0, "")] * 3


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
