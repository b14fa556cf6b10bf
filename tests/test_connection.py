"""What is told of a connection and a registration while a real etcd goes and comes back."""

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
"""How long something may take that must happen."""


@pytest.fixture
def own_etcd() -> Iterator[Etcd]:
    server = start_etcd()
    yield server
    server.stop()


class Listener:
    """A program that says what it is told."""

    def __init__(self, language: str, url: str, port: int, scratch: Path) -> None:
        self.language = language
        self._said: list[str] = []
        self._changed = threading.Condition()
        words = [*command(language, "tests/states/listen", scratch), url, str(port)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._said.append(line.strip())
                self._changed.notify_all()

    def said(self, subject: str) -> list[str]:
        """What it was told about the subject so far."""
        with self._changed:
            return [line.removeprefix(subject + " ") for line in self._said if line.startswith(subject)]

    def has_said(self, subject: str, wanted: list[str]) -> None:
        """Waits until it has said as much, and that must be this."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.said(subject)) >= len(wanted), SECONDS)
            assert self.said(subject) == wanted, self.language

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(SECONDS) == 0, self.language
        self._reader.join()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *raised: object) -> None:
        with self.process:
            self.process.kill()
            self._reader.join()


def test_a_store_that_goes_and_comes_back_is_told_once_each(own_etcd: Etcd, scratch: Path) -> None:
    url = f"etcd://{own_etcd.endpoint}/states?ttl=2s"
    with ExitStack() as stack:
        all_of = [
            stack.enter_context(Listener(language, url, port, scratch))
            for port, language in enumerate(LANGUAGES, start=7001)
        ]

        def all_have_said(subject: str, wanted: list[str]) -> None:
            for listener in all_of:
                listener.has_said(subject, wanted)

        all_have_said("standing", ["live"])
        all_have_said("connection", ["connected"])
        own_etcd.kill()
        all_have_said("connection", ["connected", "suspended", "lost"])
        all_have_said("standing", ["live", "lapsed"])
        own_etcd.start()
        all_have_said("connection", ["connected", "suspended", "lost", "connected"])
        all_have_said("standing", ["live", "lapsed", "live"])
        for listener in all_of:
            listener.end()
            listener.has_said("reconnected", ["True True"])
            told = ["connected", "suspended", "lost", "connected"]
            assert listener.said("connection") == told, listener.language
            # Closing may come before the last is told.
            assert listener.said("standing")[:3] == ["live", "lapsed", "live"], listener.language
