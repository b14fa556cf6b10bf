"""No wait holds the GIL, and Ctrl-C ends every wait."""

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
def silent_store() -> Iterator[str]:
    """The URL of a store that accepts connections and never responds."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        yield f"etcd://127.0.0.1:{hole.getsockname()[1]}?connect_timeout=1s"


class Ticks:
    """Counts how often another thread gets the GIL while this thread is in a call."""

    def __enter__(self) -> Ticks:
        self.count, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def _tick(self) -> None:
        while not self._stop.wait(0.005):
            self.count += 1

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        self._thread.join()


def test_other_threads_run_during_a_connect_to_a_silent_store(silent_store: str) -> None:
    with Ticks() as ticks, pytest.raises(libdiscover.DiscoverError) as raised:
        libdiscover.connect(silent_store)
    assert raised.value.retriable
    assert ticks.count > 20


def test_a_refused_connection_is_unavailable() -> None:
    with pytest.raises(ConnectionError, match="127.0.0.1:1") as raised:
        libdiscover.connect("etcd://127.0.0.1:1?connect_timeout=1s")
    assert isinstance(raised.value, libdiscover.Unavailable)


def test_other_threads_run_during_a_wait_and_during_a_watch(client: Client) -> None:
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


def test_other_threads_run_while_a_close_waits_for_a_callback(memory: str) -> None:
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


def interrupt(way: str, silent_store: str) -> float:
    """Returns the median time from Ctrl-C to its KeyboardInterrupt, in seconds."""
    took = []
    with Program("interrupted.py", way, str(INTERRUPTS), silent_store.replace("1s", "60s")) as program:
        for _ in range(INTERRUPTS):
            assert program.line() == "waiting"
            time.sleep(0.1)  # tidy: sleep, a call inside its wait gives no signal
            sent = time.monotonic()
            program.send_signal(signal.SIGINT)
            took.append(float(program.line()) - sent)
        assert program.wait_for_exit() == (0, "")
    return statistics.median(took)


@pytest.mark.parametrize("way", ["connect", "register", "wait", "watch", "close", "aio"])
def test_ctrl_c_ends_a_wait_at_once(silent_store: str, way: str) -> None:
    # Compared with plain Python, which takes some time too on a busy machine.
    assert interrupt(way, silent_store) - interrupt("plain Python", silent_store) < 0.2
