"""Shared fixtures and helpers. Every test has its own registry, so that tests can run in parallel."""

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
"""Timeout for everything that must happen, in seconds."""
SOAK = os.environ.get("DISCOVER_SOAK") == "1"
"""True if long loops run with their full counts, as in `make soak`."""


def rounds(full_count: int, divisor: int = 10) -> int:
    """Returns the number of rounds of a long loop: `full_count` in a soak, else `full_count // divisor`."""
    return full_count if SOAK else full_count // divisor


@pytest.fixture
def memory() -> str:
    """The URL of a registry of this process."""
    return f"memory://{uuid.uuid4()}"


@pytest.fixture
def local(tmp_path: Path) -> str:
    """The URL of a registry of this machine."""
    return f"local://{tmp_path}/registry"


@pytest.fixture(params=["memory", "local"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of registry in turn."""
    value = request.getfixturevalue(request.param)
    assert isinstance(value, str)
    return value


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with libdiscover.connect(url) as client:
        yield client


class EventRecorder:
    """A callback that records its events."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def next(self, timeout: float = SECONDS) -> Event:
        return self._events.get(timeout=timeout)

    def until(self, kind: str, address: Union[str, None] = None, timeout: float = SECONDS) -> Event:
        """Returns the next event of a kind, and of an address if one is given."""
        while True:
            event = self.next(timeout)
            if event.kind == kind and address in (None, event.instance and event.instance.address):
                return event

    def take(self, count: int) -> List[Tuple[str, Union[str, None]]]:
        """Returns the next events as kind and address."""
        events = [self.next() for _ in range(count)]
        return [(event.kind, event.instance and event.instance.address) for event in events]

    def is_empty(self) -> bool:
        return self._events.empty()


class Program(subprocess.Popen[str]):
    """A program of `programs/` in its own process."""

    def __init__(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-X", "faulthandler", str(PROGRAMS / name), *arguments]
        pipe = subprocess.PIPE
        super().__init__(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def line(self) -> str:
        """Returns its next line of output."""
        assert self.stdout is not None
        return self.stdout.readline().rstrip("\n")

    def wait_for_exit(self) -> Tuple[int, str]:
        """Returns its exit code, and the rest of its output followed by its errors."""
        out, err = self.communicate(timeout=SECONDS)
        return self.returncode, out + err

    def __exit__(self, *raised: object) -> None:
        self.kill()
        self.communicate()
