"""Clients and leases: connect, register, update, close."""

from __future__ import annotations

import gc
from datetime import timedelta
from typing import Any, Dict

import pytest

import libdiscover
from conftest import SECONDS, EventRecorder
from libdiscover import Client


def test_a_registered_instance_is_online_with_all_its_fields(client: Client) -> None:
    lease = client.register(
        "web", 8080, host="10.0.0.1", attributes={"zone": "eu", "weight": "7"}, tags=["a", "b"]
    )
    (instance,) = client.services("web").wait(timeout=SECONDS)
    assert (instance.service, instance.host, instance.port) == ("web", "10.0.0.1", 8080)
    assert (instance.address, instance.tags, instance.weight, instance.zone) == ("10.0.0.1:8080", ("a", "b"), 7, "eu")
    assert instance.attributes == {"zone": "eu", "weight": "7"}
    assert (lease.service, lease.id, lease.address) == ("web", instance.id, "10.0.0.1:8080")
    assert (lease.standing, lease.error) == ("live", None)
    assert repr(instance) == "<Instance web 10.0.0.1:8080 {'weight': '7', 'zone': 'eu'}>"
    lease.unregister()


def test_host_and_port_may_be_given_as_an_address(client: Client) -> None:
    with client.register("web", address="[::1]:80") as lease:
        assert (lease.address, lease.id) == ("[::1]:80", "[::1]:80")


def test_the_end_of_a_block_unregisters_and_unregistering_twice_has_no_effect(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1") as lease:
        assert len(web.wait(timeout=SECONDS)) == 1
    assert lease.standing == "released"
    lease.unregister()
    events = EventRecorder()
    with web.subscribe(events):
        events.until("current")
    assert web.online() == ()


def test_update_replaces_all_attributes_and_keeps_the_age(client: Client) -> None:
    events = EventRecorder()
    with client.register("web", address="h:1", attributes={"zone": "eu"}) as lease:
        with client.services("web").subscribe(events):
            before = events.until("up").instance
            lease.update({"version": "2"})
            after = events.until("update").instance
    assert before is not None and after is not None
    assert after.attributes == {"version": "2"}
    assert after.created == before.created
    assert before != after and before == before


def test_a_registration_without_heartbeats_lapses_and_a_heartbeat_restores_it(memory: str) -> None:
    events = EventRecorder()
    with libdiscover.connect(memory) as client:
        lease = client.register("web", address="h:1", ttl=timedelta(seconds=1), heartbeat="manual")
        client.services("web").subscribe(events)
        events.until("down", "h:1")
        assert (lease.standing, type(lease.error)) == ("lapsed", libdiscover.LeaseLost)
        lease.heartbeat()
        events.until("up", "h:1")
        assert (lease.standing, lease.error) == ("live", None)
        lease.unregister()


def test_a_dropped_lease_unregisters_and_warns(client: Client) -> None:
    events = EventRecorder()
    client.services("web").subscribe(events)
    lease = client.register("web", address="h:1")
    events.until("up")
    with pytest.warns(ResourceWarning, match="web h:1"):
        del lease
    events.until("down")


def test_a_lease_keeps_its_client_open(memory: str) -> None:
    lease = libdiscover.connect(memory).register("web", address="h:1")
    gc.collect()
    lease.heartbeat()
    lease.unregister()


def test_closing_releases_leases_and_later_calls_are_refused(url: str) -> None:
    client = libdiscover.connect(url)
    web, lease = client.services("web"), client.register("web", address="h:1")
    assert len(web.wait(timeout=SECONDS)) == 1
    client.close()
    client.close(timeout=timedelta(seconds=1))
    assert lease.standing == "released"
    assert client.url.startswith(url)
    for call in (
        lambda: client.register("web", address="h:2"),
        lambda: client.services("web"),
        lambda: web.wait(timeout=1),
        lambda: web.subscribe(print),
        lambda: web.watch(),
        lambda: lease.heartbeat(),
    ):
        with pytest.raises(libdiscover.Closed, match="closed"):
            call()
    assert [instance.address for instance in web] == ["h:1"], "the last contents remain readable"
    with lease:
        pass


def test_without_a_url_the_environment_is_used(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCOVER_URL", memory)
    with libdiscover.connect() as client:
        assert client.url == memory
        assert repr(client) == f"<Client {memory}>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"port": 0}, "port 0 is not in 1 to 65535"),
        ({"port": 65536}, "not in 1 to 65535"),
        ({}, "give either port, or port and host, or address"),
        ({"port": 1, "address": "h:1"}, "give either port"),
        ({"address": "h"}, "address \"h\" has no port"),
        ({"port": 1, "host": "a b"}, "host"),
        ({"port": 1, "ttl": 0.5}, "ttl is 500ms; it must be 1s to 24h"),
        ({"port": 1, "ttl": -1}, "ttl is -1; it must be a number of seconds, 0 or more"),
        ({"port": 1, "timeout": float("nan")}, "timeout is nan"),
        ({"port": 1, "heartbeat": "never"}, 'heartbeat is "never"; it must be "automatic" or "manual"'),
        ({"port": 1, "attributes": {"weight": "heavy"}}, "weight"),
        ({"port": 1, "tags": [""]}, "tag"),
        ({"port": 1, "id": ""}, "id has 0 bytes"),
    ],
)
def test_an_invalid_value_is_refused_and_named(memory: str, arguments: Dict[str, Any], message: str) -> None:
    with libdiscover.connect(memory) as client, pytest.raises(ValueError) as raised:
        client.register("web", **arguments)
    assert isinstance(raised.value, libdiscover.InvalidArgument)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"port": "80"}, "integer"),
        ({"port": 1, "ttl": "10s"}, "ttl is a <class 'str'>; it must be seconds or a timedelta"),
        ({"port": 1, "attributes": {"version": 2}}, "attributes['version'] is 2; names and values"),
        ({"port": 1, "tags": "canary"}, "tags is the string 'canary'"),
        ({"port": 1, "tags": [1]}, "tags has 1; every tag must be a string"),
        ({"port": 1, "attributes": 7}, "attributes is 7; it must be a mapping"),
        ({"port": "80"}, "port is '80'; it must be an integer from 1 to 65535"),
        ({"port": 1, "host": 7}, "host is 7; it must be a string"),
        ({"port": 1, "id": b"x"}, "id is b'x'; it must be a string"),
        ({"address": 7}, "address is 7; it must be a string"),
        ({"port": 1, "tags": 7}, "tags is 7; it must be a list of strings"),
    ],
)
def test_a_wrong_type_is_refused_and_named(memory: str, arguments: Dict[str, Any], message: str) -> None:
    with libdiscover.connect(memory) as client, pytest.raises(TypeError) as raised:
        client.register("web", **arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://", "unknown scheme \"nowhere\""),
        ("memory://x?colour=red", "colour"),
        ("local://host", "three slashes"),
    ],
)
def test_a_malformed_url_is_refused_and_named(url: str, message: str) -> None:
    with pytest.raises(libdiscover.InvalidArgument, match=message):
        libdiscover.connect(url)
