"""What the tests share. Every test has a registry of its own, so that all can run at once."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Iterator, List, Tuple, Union

import pytest

import libdiscover
from libdiscover import Client, Event

PROGRAMS = Path(__file__).parent / "programs"
SECONDS = 20.0
"""How long something may take that must happen."""
SOAK = os.environ.get("DISCOVER_SOAK") == "1"
"""Whether long loops run to their end, as in `make soak`."""


def rounds(in_full: int, share: int = 10) -> int:
    """How often a long loop runs: `in_full` in a soak, else one in `share` of that."""
    return in_full if SOAK else in_full // share


@pytest.fixture
def memory() -> str:
    """A registry of this process."""
    return f"memory://{uuid.uuid4()}"


@pytest.fixture
def local(tmp_path: Path) -> str:
    """A registry of this machine."""
    return f"local://{tmp_path}/registry"


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest) -> str:
    """Each in turn."""
    value = request.getfixturevalue(request.param)
    assert isinstance(value, str)
    return value


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with libdiscover.connect(url) as client:
        yield client


class Heard:
    """A callback that keeps what it hears."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def next(self, within: float = SECONDS) -> Event:
        return self._events.get(timeout=within)

    def until(self, kind: str, address: Union[str, None] = None, within: float = SECONDS) -> Event:
        """The next event of a kind, about an address if one is given."""
        while True:
            event = self.next(within)
            if event.kind == kind and address in (None, event.instance and event.instance.address):
                return event

    def told(self, count: int) -> List[Tuple[str, Union[str, None]]]:
        """The next events, as kind and address."""
        events = [self.next() for _ in range(count)]
        return [(event.kind, event.instance and event.instance.address) for event in events]

    def is_empty(self) -> bool:
        return self._events.empty()


class Program(subprocess.Popen[str]):
    """A program of this folder, in a process of its own."""

    def __init__(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / name), *arguments]
        pipe = subprocess.PIPE
        super().__init__(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def line(self) -> str:
        """What it says next."""
        assert self.stdout is not None
        return self.stdout.readline().rstrip("\n")

    def end(self) -> Tuple[int, str]:
        """Waits for its end; gives its exit code, and what it said after the last line, and complained of."""
        out, err = self.communicate(timeout=SECONDS)
        return self.returncode, out + err

    def __exit__(self, *raised: object) -> None:
        self.kill()
        self.communicate()
