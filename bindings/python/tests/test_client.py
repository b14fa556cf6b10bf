"""Opening, registering, closing."""

from __future__ import annotations

import gc
from datetime import timedelta
from typing import Any, Dict

import pytest

import libdiscover
from conftest import SECONDS, Heard
from libdiscover import Client


def test_what_is_registered_is_seen_with_all_its_parts(client: Client) -> None:
    lease = client.register(
        "web", 8080, host="10.0.0.1", attributes={"zone": "eu", "weight": "7"}, tags=["a", "b"]
    )
    (one,) = client.services("web").wait(timeout=SECONDS)
    assert (one.service, one.host, one.port) == ("web", "10.0.0.1", 8080)
    assert (one.address, one.tags, one.weight, one.zone) == ("10.0.0.1:8080", ("a", "b"), 7, "eu")
    assert one.attributes == {"zone": "eu", "weight": "7"}
    assert (lease.service, lease.id, lease.address) == ("web", one.id, "10.0.0.1:8080")
    assert (lease.standing, lease.error) == ("live", None)
    assert repr(one) == "<Instance web 10.0.0.1:8080 {'weight': '7', 'zone': 'eu'}>"
    lease.unregister()


def test_an_address_may_be_given_whole(client: Client) -> None:
    with client.register("web", address="[::1]:80") as lease:
        assert (lease.address, lease.id) == ("[::1]:80", "[::1]:80")


def test_leaving_unregisters_and_doing_it_again_is_no_error(client: Client) -> None:
    web = client.services("web")
    with client.register("web", address="h:1") as lease:
        assert len(web.wait(timeout=SECONDS)) == 1
    assert lease.standing == "released"
    lease.unregister()
    heard = Heard()
    with web.subscribe(heard):
        heard.until("current")
    assert web.online() == ()


def test_update_replaces_all_attributes_and_keeps_the_age(client: Client) -> None:
    heard = Heard()
    with client.register("web", address="h:1", attributes={"zone": "eu"}) as lease:
        with client.services("web").subscribe(heard):
            before = heard.until("up").instance
            lease.update({"version": "2"})
            after = heard.until("update").instance
    assert before is not None and after is not None
    assert after.attributes == {"version": "2"}
    assert after.created == before.created
    assert before != after and before == before


def test_a_registration_without_its_heartbeat_lapses_and_a_heartbeat_brings_it_back(memory: str) -> None:
    heard = Heard()
    with libdiscover.connect(memory) as client:
        lease = client.register("web", address="h:1", ttl=timedelta(seconds=1), heartbeat="manual")
        client.services("web").subscribe(heard)
        heard.until("down", "h:1")
        assert (lease.standing, type(lease.error)) == ("lapsed", libdiscover.LeaseLost)
        lease.heartbeat()
        heard.until("up", "h:1")
        assert (lease.standing, lease.error) == ("live", None)
        lease.unregister()


def test_a_dropped_lease_unregisters_and_warns(client: Client) -> None:
    heard = Heard()
    client.services("web").subscribe(heard)
    lease = client.register("web", address="h:1")
    heard.until("up")
    with pytest.warns(ResourceWarning, match="web h:1"):
        del lease
    heard.until("down")


def test_a_lease_keeps_its_client_open(memory: str) -> None:
    lease = libdiscover.connect(memory).register("web", address="h:1")
    gc.collect()
    lease.heartbeat()
    lease.unregister()


def test_closing_releases_leases_and_what_comes_after_is_refused(url: str) -> None:
    client = libdiscover.connect(url)
    web, lease = client.services("web"), client.register("web", address="h:1")
    assert len(web.wait(timeout=SECONDS)) == 1
    client.close()
    client.close(timeout=timedelta(seconds=1))
    assert lease.standing == "released"
    assert client.url.startswith(url)
    for refused in (
        lambda: client.register("web", address="h:2"),
        lambda: client.services("web"),
        lambda: web.wait(timeout=1),
        lambda: web.subscribe(print),
        lambda: web.watch(),
        lambda: lease.heartbeat(),
    ):
        with pytest.raises(libdiscover.Closed, match="closed"):
            refused()
    assert [one.address for one in web] == ["h:1"], "what was known stays readable"
    with lease:
        pass


def test_without_a_url_the_environment_counts(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_bad_value_is_refused_and_named(memory: str, arguments: Dict[str, Any], message: str) -> None:
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
    ],
)
def test_a_bad_type_is_refused_and_named(memory: str, arguments: Dict[str, Any], message: str) -> None:
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
def test_a_bad_url_is_refused_and_named(url: str, message: str) -> None:
    with pytest.raises(libdiscover.InvalidArgument, match=message):
        libdiscover.connect(url)
