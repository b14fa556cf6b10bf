"""What a callback may do: raise, cancel, subscribe, close, and never return."""

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
from conftest import SECONDS, Heard, rounds
from libdiscover import Client, Event

THREADS = 8


def at_once(body: Callable[[], None]) -> None:
    """Runs `body` in eight threads that begin together, and gives on what one of them raises."""
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
    """What no `except Exception` catches."""


@pytest.mark.parametrize("kind", [ValueError, Oops, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_each_exception_is_reported_once_and_the_next_event_comes(
    client: Client, monkeypatch: pytest.MonkeyPatch, kind: Type[BaseException]
) -> None:
    reported: queue.Queue[Any] = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", reported.put)
    raised: List[str] = []
    came, over = threading.Event(), threading.Event()

    def callback(event: Event) -> None:
        if over.is_set():
            return
        raised.append(event.kind)
        if event.kind == "up":
            came.set()
        if event.kind == "leader" and event.instance is None:
            over.set()
        raise kind(event.kind)

    with client.services("web").subscribe(callback):
        with client.register("web", address="h:1") as lease:
            assert came.wait(SECONDS)  # Who has not heard it come is not told that it goes.
            lease.update({"version": "2"})
        assert over.wait(SECONDS)
        told = [reported.get(timeout=SECONDS) for _ in raised]
    assert [(one.exc_type, str(one.exc_value)) for one in told] == [(kind, event) for event in raised]
    assert {one.object for one in told} == {callback}
    assert reported.empty() and {"current", "up", "leader", "down"} <= set(raised)


def test_a_callback_that_raises_does_not_stop_its_neighbours(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda told: None)
    web, heard = client.services("web"), Heard()

    def callback(event: Event) -> None:
        raise ValueError

    with web.subscribe(callback):
        web.subscribe(heard)
        with client.register("web", address="h:1"):
            heard.until("up")
        heard.until("down")
    client.close()  # Until then the last call may be under way, which is to be reported here.


def test_a_callback_may_subscribe_and_cancel_without_end(client: Client) -> None:
    """Each generation cancels itself and subscribes the next."""
    web, generations, over = client.services("web"), rounds(1000), threading.Event()
    living: Set[libdiscover.Subscription] = set()
    lock = threading.Lock()

    def subscribe(generation: int) -> None:
        with lock:  # The callback waits for the name of what it is to cancel.
            subscription = web.subscribe(lambda event: hear(subscription, generation))
            living.add(subscription)

    def hear(subscription: libdiscover.Subscription, generation: int) -> None:
        with lock:
            assert subscription in living, "called after it was cancelled"
            living.remove(subscription)
        subscription.cancel()
        if generation == generations:
            over.set()
        else:
            subscribe(generation + 1)

    subscribe(1)
    assert over.wait(SECONDS)


def test_closing_from_eight_threads_at_once_ends_every_callback(url: str) -> None:
    for _ in range(rounds(200)):
        client, heard = libdiscover.connect(url), threading.Semaphore(0)
        web, closed, late, released = client.services("web"), threading.Event(), [], threading.Semaphore(0)

        class Callback:
            def __call__(self, event: Event) -> None:
                if closed.is_set():
                    late.append(event)
                heard.release()
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
            assert heard.acquire(timeout=SECONDS)

        def close() -> None:
            client.close(timeout=SECONDS)
            closed.set()

        at_once(close)
        changing.join(SECONDS)
        gc.collect()
        assert late == []
        # Let go of, each once: the callbacks are not called and not kept any more.
        for _ in range(3):
            assert released.acquire(timeout=SECONDS)
        assert not released.acquire(blocking=False)


def test_closing_while_eight_threads_subscribe_and_cancel(memory: str) -> None:
    for _ in range(rounds(200)):
        client = libdiscover.connect(memory)
        web, begun = client.services("web"), threading.Semaphore(0)

        def come_and_go() -> None:
            with contextlib.suppress(libdiscover.Closed):
                while True:
                    with web.subscribe(lambda event: None), web.watch():
                        begun.release()

        def close() -> None:
            for _ in range(THREADS):
                assert begun.acquire(timeout=SECONDS)
            client.close(timeout=SECONDS)

        closing = threading.Thread(target=close)
        closing.start()
        at_once(come_and_go)
        closing.join(SECONDS)
        assert not closing.is_alive()


def test_closing_inside_a_callback_is_refused_and_it_lives_on(client: Client) -> None:
    web, refused = client.services("web"), queue.Queue[BaseException]()

    def callback(event: Event) -> None:
        try:
            client.close()
        except libdiscover.DiscoverError as error:
            refused.put(error)

    web.subscribe(callback)
    with client.register("web", address="h:1"):
        for _ in range(3):  # current, up, leader: in whichever order
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
