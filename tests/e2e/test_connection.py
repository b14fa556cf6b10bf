"""The statuses of a connection and a registration while etcd stops and restarts."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from languages import command
from servers import Etcd, start_etcd

LANGUAGES = ("c", "cpp", "python", "node")
SECONDS = 60.0
"""Timeout for everything that must happen, in seconds."""


@pytest.fixture
def own_etcd() -> Iterator[Etcd]:
    server = start_etcd()
    yield server
    server.stop()


class StatusProgram:
    """The program `tests/connection_states/listen`, which prints the statuses it receives."""

    def __init__(self, language: str, url: str, port: int, scratch: Path) -> None:
        self.language = language
        self._lines: list[str] = []
        self._changed = threading.Condition()
        arguments = [*command(language, "tests/connection_states/listen", scratch), url, str(port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line.strip())
                self._changed.notify_all()

    def printed(self, subject: str) -> list[str]:
        """Returns what it has printed about a subject."""
        with self._changed:
            return [line.removeprefix(subject + " ") for line in self._lines if line.startswith(subject)]

    def wait_for(self, subject: str, expected: list[str]) -> None:
        """Waits until it has printed as many lines about a subject, and compares them."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.printed(subject)) >= len(expected), SECONDS)
            assert self.printed(subject) == expected, self.language

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(SECONDS) == 0, self.language
        self._reader.join()

    def __enter__(self) -> StatusProgram:
        return self

    def __exit__(self, *raised: object) -> None:
        with self.process:
            self.process.kill()
            self._reader.join()


def test_each_status_of_a_store_that_restarts_is_delivered_once(own_etcd: Etcd, scratch: Path) -> None:
    url = f"etcd://{own_etcd.endpoint}/states?ttl=2s"
    with ExitStack() as stack:
        programs = [
            stack.enter_context(StatusProgram(language, url, port, scratch))
            for port, language in enumerate(LANGUAGES, start=7001)
        ]

        def wait_for_all(subject: str, expected: list[str]) -> None:
            for program in programs:
                program.wait_for(subject, expected)

        wait_for_all("standing", ["live"])
        wait_for_all("connection", ["connected"])
        own_etcd.kill()
        wait_for_all("connection", ["connected", "suspended", "lost"])
        wait_for_all("standing", ["live", "lapsed"])
        own_etcd.start()
        wait_for_all("connection", ["connected", "suspended", "lost", "connected"])
        wait_for_all("standing", ["live", "lapsed", "live"])
        for program in programs:
            program.close()
            program.wait_for("reconnected", ["True True"])
            expected = ["connected", "suspended", "lost", "connected"]
            assert program.printed("connection") == expected, program.language
            # The client may be closed before `released` is delivered.
            assert program.printed("standing")[:3] == ["live", "lapsed", "live"], program.language
