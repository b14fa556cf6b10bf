"""No wait holds the GIL, and each heeds Ctrl-C."""

from __future__ import annotations

import signal
import socket
import statistics
import threading
import time
from typing import Iterator

import pytest

import libdiscover
from conftest import SECONDS, Program
from libdiscover import Client

INTERRUPTS = 5


@pytest.fixture
def nobody() -> Iterator[str]:
    """A store that takes connections and never answers."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=1s"


class Ticks:
    """Counts how often this thread gets the GIL while another waits."""

    def __enter__(self) -> Ticks:
        self.count, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def _tick(self) -> None:
        while not self._over.wait(0.005):
            self.count += 1

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.join()


def test_others_run_while_one_connects_to_a_black_hole(nobody: str) -> None:
    with Ticks() as ticks, pytest.raises(libdiscover.DiscoverError) as raised:
        libdiscover.connect(nobody)
    assert raised.value.retriable
    assert ticks.count > 20


def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(ConnectionError, match="127.0.0.1:1") as raised:
        libdiscover.connect("etcd://127.0.0.1:1?connect_timeout=1s")
    assert isinstance(raised.value, libdiscover.Unavailable)


def test_others_run_while_one_waits_and_while_one_watches(client: Client) -> None:
    web = client.services("web")
    watch = web.watch()
    assert next(watch).kind == "current"
    with Ticks() as ticks, pytest.raises(libdiscover.Timeout):
        web.wait(9, timeout=0.5)
    assert ticks.count > 10
    later = threading.Timer(0.5, watch.cancel)
    later.start()
    with Ticks() as ticks:
        assert list(watch) == []
    assert ticks.count > 10


def test_others_run_while_one_closes_and_waits_for_a_callback(memory: str) -> None:
    client, entered, go = libdiscover.connect(memory), threading.Event(), threading.Event()

    def slow(event: object) -> None:
        entered.set()
        go.wait(SECONDS)

    client.services("web").subscribe(slow)
    assert entered.wait(SECONDS)
    threading.Timer(0.5, go.set).start()
    with Ticks() as ticks:
        client.close(timeout=SECONDS)
    assert go.is_set() and ticks.count > 10


def interrupt(way: str, nobody: str) -> float:
    """How long it takes, as a rule, from Ctrl-C to its KeyboardInterrupt."""
    took = []
    with Program("interrupted.py", way, str(INTERRUPTS), nobody.replace("1s", "60s")) as program:
        for _ in range(INTERRUPTS):
            assert program.line() == "waiting"
            time.sleep(0.1)  # tidy: sleep, nothing tells that a call is inside its wait
            sent = time.monotonic()
            program.send_signal(signal.SIGINT)
            took.append(float(program.line()) - sent)
        assert program.end() == (0, "")
    return statistics.median(took)


@pytest.mark.parametrize("way", ["connect", "register", "wait", "watch", "close", "aio"])
def test_ctrl_c_ends_a_wait_at_once(nobody: str, way: str) -> None:
    # Compared with what it takes Python itself, which on a busy machine is not nothing.
    assert interrupt(way, nobody) - interrupt("nothing of ours", nobody) < 0.2
