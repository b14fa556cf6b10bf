"""Service sets: reads, filters, picks, waits."""

from __future__ import annotations

import collections
import copy
import pickle
from datetime import datetime, timezone

import pytest

import libdiscover
from conftest import SECONDS, EventRecorder
from libdiscover import Client


def test_the_tuple_is_the_same_while_nothing_changes(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1"):
        first = web.wait(timeout=SECONDS)
        online = web.online()
        assert first == online and web.online() is online
        assert web.snapshot() is web.snapshot() and web.snapshot().online is online
        assert list(web) == list(online) and len(web) == 1
        with client.register("web", address="h:2"):
            assert len(web.wait(2, timeout=SECONDS)) == 2
            assert web.online() is not online
            assert len(online) == 1, "a tuple does not change after it was returned"


def test_instances_are_copied_and_pickled(client: Client) -> None:
    attributes = {"zone": "eu", "password": "secret"}
    with client.register("web", address="[::1]:80", attributes=attributes, tags=["a", "b"]):
        (instance,) = client.services("web").wait(timeout=SECONDS)
        assert copy.copy(instance) is instance and copy.deepcopy([instance])[0] is instance
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            restored = pickle.loads(pickle.dumps(instance, protocol))
            assert restored == instance and hash(restored) == hash(instance)
            assert restored.attributes == attributes and restored.tags == ("a", "b")
            assert (restored.address, restored.host, restored.port) == ("[::1]:80", "::1", 80)
            assert (restored.created, restored.layouts) == (instance.created, instance.layouts)
            assert "secret" not in repr(restored)


def test_an_instance_is_a_value(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1", attributes={"zone": "eu"}):
        (instance,) = web.wait(timeout=SECONDS)
        again = web.leader()
        assert again is not None
        assert instance == again and hash(instance) == hash(again) and {instance: 1}[again] == 1
        assert instance != "h:1"
        assert instance.attributes is again.attributes, "the mapping is made once"
        with pytest.raises(AttributeError):
            setattr(instance, "port", 2)
        with pytest.raises(TypeError):
            instance.attributes["zone"] = "us"  # type: ignore[index]


def test_the_oldest_is_the_leader(client: Client) -> None:
    web = client.services("web")
    assert web.leader() is None
    with client.register("web", address="h:1"), client.register("web", address="h:2"):
        oldest, youngest = web.wait(2, timeout=SECONDS)
        assert oldest.created <= youngest.created
        assert web.leader() == oldest == web.snapshot().leader


def test_offline_instances_have_a_time_and_a_reason(client: Client) -> None:
    web, events = client.services("web"), EventRecorder()
    web.subscribe(events)
    events.until("current")
    with client.register("web", address="h:1"):
        events.until("up")
    events.until("down")
    (offline,) = web.offline()
    assert (offline.instance.address, offline.reason) == ("h:1", "removed")
    assert offline.at.tzinfo == timezone.utc
    assert abs((datetime.now(timezone.utc) - offline.at).total_seconds()) < SECONDS
    assert repr(offline) == "<OfflineInstance h:1 removed>"


def test_status_and_snapshot_have_the_freshness_of_the_set(client: Client) -> None:
    web = client.services("web")
    assert web.wait(0, timeout=SECONDS) == ()
    with pytest.raises(libdiscover.InvalidArgument, match="count is -1"):
        web.wait(-1, timeout=SECONDS)
    status, snapshot = web.status(), web.snapshot()
    assert (status.state, status.error, status.since, status.invalid) == ("current", None, None, 0)
    assert snapshot.is_ready and snapshot.is_current
    assert (snapshot.error, snapshot.since) == (None, None)
    assert status.version == snapshot.version and status.revision == snapshot.revision


def test_a_set_of_an_unreachable_store_is_pending_and_has_the_reason() -> None:
    with libdiscover.connect("etcd://127.0.0.1:1?lazy=true") as client:
        web, events = client.services("web"), EventRecorder()
        assert web.status().state == "pending"
        web.subscribe(events)
        stale = events.until("stale")
        assert isinstance(stale.error, libdiscover.Unavailable)
        assert isinstance(web.status().error, ConnectionError)
        assert web.status().since is not None
        assert not web.snapshot().is_ready


def test_filters_narrow_by_attributes_and_tags_and_stay_live(client: Client) -> None:
    web = client.services("web")
    eu = web.filter(zone="eu")
    tagged = eu.filter({"app": "x"}, tags=["canary"])
    with client.register("web", address="h:1", attributes={"zone": "us"}):
        with client.register("web", address="h:2", attributes={"zone": "eu"}):
            attributes = {"zone": "eu", "app": "x"}
            with client.register("web", address="h:3", attributes=attributes, tags=["canary"]):
                assert len(web.wait(3, timeout=SECONDS)) == 3
                assert [instance.address for instance in eu.wait(2, timeout=SECONDS)] == ["h:2", "h:3"]
                assert [instance.address for instance in tagged.wait(1, timeout=SECONDS)] == ["h:3"]
                assert repr(tagged) == "<ServiceSet web: 1 online>"


def test_a_draining_instance_is_not_picked(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="a:1"), client.register("web", address="c:3"):
        with client.register("web", address="b:2", attributes={"health": "draining"}):
            web.wait(3, timeout=30)
            for _ in range(2):  # Before and after the first call of online().
                turns = collections.Counter(web.pick() for _ in range(10))
                assert {(picked and picked.host, n) for picked, n in turns.items()} == {("a", 5), ("c", 5)}
                assert len(web.online()) == 3
            assert web.pick() in web.online()
            assert web.filter(health="draining").pick() is None


def test_each_policy_picks_an_instance_that_is_online(client: Client) -> None:
    web = client.services("web")
    assert web.pick() is None and web
    with client.register("web", address="h:1"), client.register("web", address="h:2"):
        both = set(web.wait(2, timeout=SECONDS))
        turns = collections.Counter(web.pick() for _ in range(10))
        assert set(turns.values()) == {5}
        assert web.pick("random") in both and web.pick("weighted") in both
        assert web.pick("hash", key="user-1") == web.pick("hash", key="user-1")
        busy = web.pick("p2c")
        assert busy is not None and web.pick("p2c") != busy
        web.done(busy)
        assert web.pick("p2c") == busy


def test_an_unknown_policy_is_refused(memory: str) -> None:
    with libdiscover.connect(memory) as client:
        web = client.services("web")
        with pytest.raises(ValueError, match="round_robin, random, weighted, p2c, hash"):
            web.pick("best")  # type: ignore[arg-type]
        with pytest.raises(libdiscover.InvalidArgument, match="needs a key"):
            web.pick("hash")


def test_waiting_for_more_instances_than_there_are_times_out(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1"):
        with pytest.raises(TimeoutError, match="1 of 2 instances of web were online") as raised:
            web.wait(2, timeout=0.3)
    assert isinstance(raised.value, libdiscover.Timeout)
    assert raised.value.retriable and raised.value.code == "timeout"


def test_a_malformed_name_is_refused(memory: str) -> None:
    with libdiscover.connect(memory) as client:
        with pytest.raises(libdiscover.InvalidArgument, match="at byte 1"):
            client.services("a/b")
