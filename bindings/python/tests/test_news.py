"""Events: callbacks and watches."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from typing import List

import pytest

import libdiscover
from conftest import SECONDS, Heard
from libdiscover import Client, Event


def test_the_whole_state_comes_first_and_then_each_change(client: Client) -> None:
    web, heard = client.services("web"), Heard()
    with client.register("web", address="h:1") as lease:
        web.wait(timeout=SECONDS)
        web.subscribe(heard)
        assert heard.told(3) == [("up", "h:1"), ("leader", "h:1"), ("current", None)]
        lease.update({"version": "2"})
        assert heard.told(1) == [("update", "h:1")]
        with client.register("web", address="h:2"):
            assert heard.told(1) == [("up", "h:2")]
        assert heard.told(1) == [("down", "h:2")]
    assert heard.told(2) == [("down", "h:1"), ("leader", None)]


def test_a_watch_tells_the_same_and_ends_with_the_client(url: str) -> None:
    with libdiscover.connect(url) as client:
        watch = client.services("web").watch()
        assert repr(next(watch)) == "<Event current>"
        with client.register("web", address="h:1"):
            assert [next(watch).kind for _ in range(2)] == ["up", "leader"]
        gone = next(watch)
        assert (gone.kind, gone.instance and gone.instance.address) == ("down", "h:1")
        closing = threading.Timer(0.1, client.close)
        closing.start()
        assert [event.kind for event in watch] == ["leader"]
        closing.join()
    assert list(watch) == []


def test_a_watch_ends_when_it_is_cancelled_or_left(client: Client) -> None:
    with client.services("web").watch() as watch:
        assert next(watch).kind == "current"
    assert next(watch, None) is None


def test_a_callback_runs_on_the_clients_own_thread(client: Client) -> None:
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
    web, heard, outcome = client.services("web"), Heard(), threading.Event()
    errors: List[BaseException] = []

    def callback(event: Event) -> None:
        if event.kind != "current":
            return
        client.register("web", address="h:9").unregister()
        assert web.filter(zone="eu").online() == ()
        for waits_for_itself in (client.close, lambda: next(web.watch())):
            try:
                waits_for_itself()
            except libdiscover.Busy as error:
                errors.append(error)
        web.subscribe(heard)
        outcome.set()

    web.subscribe(callback)
    assert outcome.wait(SECONDS)
    assert [type(error) for error in errors] == [libdiscover.Busy, libdiscover.Busy]
    heard.until("current")


def test_cancelling_from_inside_is_the_last_that_is_heard(client: Client) -> None:
    web, heard, ready = client.services("web"), Heard(), threading.Event()

    def callback(event: Event) -> None:
        ready.wait(SECONDS)
        heard(event)
        subscription.cancel()

    subscription = web.subscribe(callback)
    ready.set()
    other = Heard()
    with client.register("web", address="h:1"):
        web.subscribe(other)
        other.until("current")
    other.until("down")
    heard.next()
    assert heard.is_empty()


def test_a_subscription_lives_on_though_nobody_holds_it(memory: str) -> None:
    heard = Heard()
    libdiscover.connect(memory).services("web").subscribe(heard)
    gc.collect()
    with libdiscover.connect(memory) as other, other.register("web", address="h:1"):
        heard.until("up", "h:1")


def test_a_callback_is_let_go_of_when_its_subscription_or_client_ends(client: Client) -> None:
    gone = {"cancelled": threading.Event(), "closed": threading.Event()}

    def subscribe(way: str) -> libdiscover.Subscription:
        callback = Heard()
        weakref.finalize(callback, gone[way].set)
        subscription = client.services("web").subscribe(callback)
        callback.until("current")
        return subscription

    subscribe("cancelled").cancel()
    assert gone["cancelled"].wait(SECONDS)
    kept = subscribe("closed")
    gc.collect()
    assert not gone["closed"].is_set()
    client.close()
    assert gone["closed"].wait(SECONDS)
    kept.cancel()


def test_what_cannot_be_called_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="callback is 7; it must be callable"):
        client.services("web").subscribe(7)  # type: ignore[arg-type]


def test_an_event_says_what_it_is_about(client: Client) -> None:
    heard = Heard()
    client.services("web").subscribe(heard)
    event = heard.next()
    assert (event.kind, event.instance, event.error) == ("current", None, None)
    with pytest.raises(AttributeError):
        setattr(event, "kind", "up")
