"""Events in callbacks and watches."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from typing import List

import pytest

import libdiscover
from conftest import SECONDS, EventRecorder
from libdiscover import Client, Event


def test_a_subscriber_receives_the_full_state_and_then_each_change(client: Client) -> None:
    web, events = client.services("web"), EventRecorder()
    with client.register("web", address="h:1") as lease:
        web.wait(timeout=SECONDS)
        web.subscribe(events)
        assert events.take(3) == [("up", "h:1"), ("leader", "h:1"), ("current", None)]
        lease.update({"version": "2"})
        assert events.take(1) == [("update", "h:1")]
        with client.register("web", address="h:2"):
            assert events.take(1) == [("up", "h:2")]
        assert events.take(1) == [("down", "h:2")]
    assert events.take(2) == [("down", "h:1"), ("leader", None)]


def test_a_watch_returns_the_same_events_and_ends_with_the_client(url: str) -> None:
    with libdiscover.connect(url) as client:
        watch = client.services("web").watch()
        assert repr(next(watch)) == "<Event current>"
        with client.register("web", address="h:1"):
            assert [next(watch).kind for _ in range(2)] == ["up", "leader"]
        down = next(watch)
        assert (down.kind, down.instance and down.instance.address) == ("down", "h:1")
        closing = threading.Timer(0.1, client.close)
        closing.start()
        assert [event.kind for event in watch] == ["leader"]
        closing.join()
    assert list(watch) == []


def test_a_watch_ends_when_it_is_cancelled_or_its_block_ends(client: Client) -> None:
    with client.services("web").watch() as watch:
        assert next(watch).kind == "current"
    assert next(watch, None) is None


def test_callbacks_run_on_the_clients_thread(client: Client) -> None:
    threads: List[int] = []
    done = threading.Event()

    def callback(event: Event) -> None:
        threads.append(threading.get_ident())
        if event.kind == "leader":
            done.set()

    client.services("web").subscribe(callback)
    with client.register("web", address="h:1"):
        assert done.wait(SECONDS)
    assert len(set(threads)) == 1 and threading.get_ident() not in threads


def test_every_call_but_closing_is_allowed_inside_a_callback(client: Client) -> None:
    web, events, outcome = client.services("web"), EventRecorder(), threading.Event()
    errors: List[BaseException] = []

    def callback(event: Event) -> None:
        if event.kind != "current":
            return
        client.register("web", address="h:9").unregister()
        assert web.filter(zone="eu").online() == ()
        for call in (client.close, lambda: next(web.watch())):
            try:
                call()
            except libdiscover.Busy as error:
                errors.append(error)
        web.subscribe(events)
        outcome.set()

    web.subscribe(callback)
    assert outcome.wait(SECONDS)
    assert [type(error) for error in errors] == [libdiscover.Busy, libdiscover.Busy]
    events.until("current")


def test_a_callback_that_cancels_itself_receives_no_more_events(client: Client) -> None:
    web, events, ready = client.services("web"), EventRecorder(), threading.Event()

    def callback(event: Event) -> None:
        ready.wait(SECONDS)
        events(event)
        subscription.cancel()

    subscription = web.subscribe(callback)
    ready.set()
    other = EventRecorder()
    with client.register("web", address="h:1"):
        web.subscribe(other)
        other.until("current")
    other.until("down")
    events.next()
    assert events.is_empty()


def test_a_dropped_subscription_stays_active(memory: str) -> None:
    events = EventRecorder()
    libdiscover.connect(memory).services("web").subscribe(events)
    gc.collect()
    with libdiscover.connect(memory) as other, other.register("web", address="h:1"):
        events.until("up", "h:1")


def test_a_callback_is_released_when_its_subscription_or_client_ends(client: Client) -> None:
    released = {"cancelled": threading.Event(), "closed": threading.Event()}

    def subscribe(way: str) -> libdiscover.Subscription:
        callback = EventRecorder()
        weakref.finalize(callback, released[way].set)
        subscription = client.services("web").subscribe(callback)
        callback.until("current")
        return subscription

    subscribe("cancelled").cancel()
    assert released["cancelled"].wait(SECONDS)
    subscription = subscribe("closed")
    gc.collect()
    assert not released["closed"].is_set()
    client.close()
    assert released["closed"].wait(SECONDS)
    subscription.cancel()


def test_a_callback_that_is_not_callable_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="callback is 7; it must be callable"):
        client.services("web").subscribe(7)  # type: ignore[arg-type]


def test_an_event_has_a_kind_an_instance_and_an_error(client: Client) -> None:
    events = EventRecorder()
    client.services("web").subscribe(events)
    event = events.next()
    assert (event.kind, event.instance, event.error) == ("current", None, None)
    with pytest.raises(AttributeError):
        setattr(event, "kind", "up")
