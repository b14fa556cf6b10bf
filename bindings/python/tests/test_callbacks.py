"""Callbacks that raise, cancel, subscribe, close, and never return."""

from __future__ import annotations

import contextlib
import gc
import queue
import sys
import threading
import time
import weakref
from typing import Any, Callable, List, Set, Type

import pytest

import libdiscover
from conftest import SECONDS, EventRecorder, rounds
from libdiscover import Client, Event

THREADS = 8


def at_once(body: Callable[[], None]) -> None:
    """Runs `body` in eight threads that start together, and raises an exception that one of them raised."""
    begin, errors = threading.Barrier(THREADS), queue.Queue[BaseException]()

    def run() -> None:
        begin.wait(SECONDS)
        try:
            body()
        except BaseException as error:
            errors.put(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a thread hangs"
    if not errors.empty():
        raise errors.get()


class Oops(BaseException):
    """An exception that `except Exception` does not catch."""


@pytest.mark.parametrize("kind", [ValueError, Oops, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_each_exception_is_reported_once_and_the_next_event_is_delivered(
    client: Client, monkeypatch: pytest.MonkeyPatch, kind: Type[BaseException]
) -> None:
    reported: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", reported.put)
    raised: List[str] = []
    up_delivered, finished = threading.Event(), threading.Event()

    def callback(event: Event) -> None:
        if finished.is_set():
            return
        raised.append(event.kind)
        if event.kind == "up":
            up_delivered.set()
        if event.kind == "leader" and event.instance is None:
            finished.set()
        raise kind(event.kind)

    with client.services("web").subscribe(callback):
        with client.register("web", address="h:1") as lease:
            assert up_delivered.wait(SECONDS)  # Without its `up` event there would be no `down` event.
            lease.update({"version": "2"})
        assert finished.wait(SECONDS)
        reports = [reported.get(timeout=SECONDS) for _ in raised]
    assert [(report.exc_type, str(report.exc_value)) for report in reports] == [(kind, event) for event in raised]
    assert {report.object for report in reports} == {callback}
    assert reported.empty() and {"current", "up", "leader", "down"} <= set(raised)


def test_a_callback_that_raises_does_not_stop_other_callbacks(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda report: None)
    web, events = client.services("web"), EventRecorder()

    def callback(event: Event) -> None:
        raise ValueError

    with web.subscribe(callback):
        web.subscribe(events)
        with client.register("web", address="h:1"):
            events.until("up")
        events.until("down")
    client.close()  # Until then the last call may be running, and its exception must be reported within this test.


def test_a_callback_may_subscribe_and_cancel_again_and_again(client: Client) -> None:
    """Each generation cancels itself and subscribes the next."""
    web, generations, finished = client.services("web"), rounds(1000), threading.Event()
    active: Set[libdiscover.Subscription] = set()
    lock = threading.Lock()

    def subscribe(generation: int) -> None:
        with lock:  # The callback waits until `subscription` is assigned.
            subscription = web.subscribe(lambda event: on_event(subscription, generation))
            active.add(subscription)

    def on_event(subscription: libdiscover.Subscription, generation: int) -> None:
        with lock:
            assert subscription in active, "called after it was cancelled"
            active.remove(subscription)
        subscription.cancel()
        if generation == generations:
            finished.set()
        else:
            subscribe(generation + 1)

    subscribe(1)
    assert finished.wait(SECONDS)


def test_closing_from_eight_threads_at_once_ends_every_callback(url: str) -> None:
    for _ in range(rounds(200)):
        client, delivered = libdiscover.connect(url), threading.Semaphore(0)
        web, closed, late, released = client.services("web"), threading.Event(), [], threading.Semaphore(0)

        class Callback:
            def __call__(self, event: Event) -> None:
                if closed.is_set():
                    late.append(event)
                delivered.release()
                with contextlib.suppress(libdiscover.Closed):
                    web.subscribe(lambda event: None).cancel()

        for _ in range(3):
            callback = Callback()
            weakref.finalize(callback, released.release)
            web.subscribe(callback)
        del callback
        lease = client.register("web", address="h:1")

        def change() -> None:
            with contextlib.suppress(libdiscover.Closed):
                while True:
                    lease.update({"now": str(time.monotonic())})

        changing = threading.Thread(target=change)
        changing.start()
        for _ in range(10):
            assert delivered.acquire(timeout=SECONDS)

        def close() -> None:
            client.close(timeout=SECONDS)
            closed.set()

        at_once(close)
        changing.join(SECONDS)
        gc.collect()
        assert late == []
        # Each callback is released exactly once and not called again.
        for _ in range(3):
            assert released.acquire(timeout=SECONDS)
        assert not released.acquire(blocking=False)


def test_closing_while_eight_threads_subscribe_and_cancel(memory: str) -> None:
    for _ in range(rounds(200)):
        client = libdiscover.connect(memory)
        web, started = client.services("web"), threading.Semaphore(0)

        def subscribe_and_cancel() -> None:
            with contextlib.suppress(libdiscover.Closed):
                while True:
                    with web.subscribe(lambda event: None), web.watch():
                        started.release()

        def close() -> None:
            for _ in range(THREADS):
                assert started.acquire(timeout=SECONDS)
            client.close(timeout=SECONDS)

        closing = threading.Thread(target=close)
        closing.start()
        at_once(subscribe_and_cancel)
        closing.join(SECONDS)
        assert not closing.is_alive()


def test_closing_inside_a_callback_is_refused_and_the_client_stays_open(client: Client) -> None:
    web, refused = client.services("web"), queue.Queue[BaseException]()

    def callback(event: Event) -> None:
        try:
            client.close()
        except libdiscover.DiscoverError as error:
            refused.put(error)

    web.subscribe(callback)
    with client.register("web", address="h:1"):
        for _ in range(3):  # current, up, leader: in any order
            assert isinstance(refused.get(timeout=SECONDS), libdiscover.Busy)


def test_closing_ends_at_its_deadline_when_a_callback_never_returns(url: str) -> None:
    client, entered, go = libdiscover.connect(url), threading.Event(), threading.Event()

    def stuck(event: Event) -> None:
        entered.set()
        go.wait()

    client.services("web").subscribe(stuck)
    assert entered.wait(SECONDS)
    with libdiscover.connect(url) as other:
        lease = client.register("web", address="h:1")
        others = other.services("web")
        others.wait(timeout=SECONDS)
        begin = time.monotonic()
        said: queue.Queue[str] = queue.Queue()

        def close() -> None:
            try:
                client.close(timeout=0.5)
            except libdiscover.Timeout as error:
                said.put(str(error))

        at_once(close)
        took = time.monotonic() - begin
        # Its leases are released, whatever its callback does.
        deadline = time.monotonic() + SECONDS
        while others.online() and time.monotonic() < deadline:
            time.sleep(0.01)  # tidy: sleep, between two looks
        assert (others.online(), lease.standing) == ((), "released")
    go.set()
    assert said.get_nowait() == "closed, but a callback was still running after 500ms" and said.empty()
    # Two steps may take the time given, and a busy machine is given slack.
    assert 0.5 <= took < 5
