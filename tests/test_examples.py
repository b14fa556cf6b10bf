"""The examples tell one story in five languages, so each is run with each other as its witness."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from languages import LANGUAGES, command, source

PATIENCE = 30


class Program:
    """An example at work: its lines are read as they come."""

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

    def says(self, *lines: str) -> None:
        heard = []
        for _ in lines:
            try:
                heard.append(self.lines.get(timeout=PATIENCE))
            except queue.Empty:
                self.process.kill()
                _, errors = self.process.communicate()
                pytest.fail(f"said {heard} instead of {list(lines)}; {errors}")
        assert heard == list(lines)

    def enter(self) -> None:
        """Enter is pressed, and the program ends well."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.wait(PATIENCE) == 0


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
        watcher.says("current")
    service = run(language, "register", "7001")
    service.says("registered web at 127.0.0.1:7001")
    for watcher in watchers:
        watcher.says("up 127.0.0.1:7001", "leader 127.0.0.1:7001")
    service.enter()
    service.says("unregistered")
    for watcher in watchers:
        watcher.says("down 127.0.0.1:7001", "leader none")
        watcher.enter()


@pytest.mark.parametrize("language", LANGUAGES)
def test_leader(language: str, run: Run) -> None:
    first = run("rust", "leader", "7001")
    first.says("leading")
    second = run(language, "leader", "7002")
    second.says("following 127.0.0.1:7001")
    first.enter()
    second.says("leading")
    third = run("rust", "leader", "7003")
    third.says("following 127.0.0.1:7002")
    second.enter()
    third.says("leading")
    third.enter()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("example", ["register", "leader"])
def test_an_error_is_said_and_ends_with_1(language: str, example: str, scratch: Path) -> None:
    program = Program([*command(language, f"examples/{example}", scratch), "70000"], "memory://errors")
    _, errors = program.process.communicate(timeout=PATIENCE)
    assert program.process.returncode == 1
    assert errors.strip() != "" and "Traceback" not in errors


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("example", ["register", "watch", "leader"])
def test_an_example_is_short(language: str, example: str) -> None:
    assert len(source(language, f"examples/{example}").read_text().splitlines()) < 60
