"""The examples behave the same in five languages, so that each is tested with a program in another language."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from languages import LANGUAGES, command, source

TIMEOUT = 30


class Program:
    """A running example, whose output is read line by line."""

    def __init__(self, arguments: list[str], url: str) -> None:
        self.process = subprocess.Popen(
            arguments,
            env={**os.environ, "DISCOVER_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def expect(self, *lines: str) -> None:
        received = []
        for _ in lines:
            try:
                received.append(self.lines.get(timeout=TIMEOUT))
            except queue.Empty:
                self.process.kill()
                _, errors = self.process.communicate()
                pytest.fail(f"printed {received} instead of {list(lines)}; {errors}")
        assert received == list(lines)

    def press_enter(self) -> None:
        """Presses Enter and checks that the program exits without an error."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.wait(TIMEOUT) == 0


Run = Callable[..., Program]


@pytest.fixture(params=["local", "etcd"])
def run(request: pytest.FixtureRequest, place: Callable[[str], str], scratch: Path) -> Iterator[Run]:
    url = place(request.param)
    started: list[Program] = []

    def start(language: str, example: str, *arguments: str) -> Program:
        program = Program([*command(language, f"examples/{example}", scratch), *arguments], url)
        started.append(program)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize("language", LANGUAGES)
def test_register_and_watch(language: str, run: Run) -> None:
    watchers = [run(language, "watch"), run("rust", "watch")]
    for watcher in watchers:
        watcher.expect("current")
    service = run(language, "register", "7001")
    service.expect("registered web at 127.0.0.1:7001")
    for watcher in watchers:
        watcher.expect("up 127.0.0.1:7001", "leader 127.0.0.1:7001")
    service.press_enter()
    service.expect("unregistered")
    for watcher in watchers:
        watcher.expect("down 127.0.0.1:7001", "leader none")
        watcher.press_enter()


@pytest.mark.parametrize("language", LANGUAGES)
def test_leader(language: str, run: Run) -> None:
    first = run("rust", "leader", "7001")
    first.expect("leading")
    second = run(language, "leader", "7002")
    second.expect("following 127.0.0.1:7001")
    first.press_enter()
    second.expect("leading")
    third = run("rust", "leader", "7003")
    third.expect("following 127.0.0.1:7002")
    second.press_enter()
    third.expect("leading")
    third.press_enter()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("example", ["register", "leader"])
def test_an_error_is_printed_and_the_exit_status_is_1(language: str, example: str, scratch: Path) -> None:
    program = Program([*command(language, f"examples/{example}", scratch), "70000"], "memory://errors")
    _, errors = program.process.communicate(timeout=TIMEOUT)
    assert program.process.returncode == 1
    assert errors.strip() != "" and "Traceback" not in errors


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("example", ["register", "watch", "leader"])
def test_an_example_is_short(language: str, example: str) -> None:
    assert len(source(language, f"examples/{example}").read_text().splitlines()) < 60
