"""`libdiscover.scalingo`: the same test exists in each language."""

from __future__ import annotations

import pytest

import libdiscover
from conftest import SECONDS
from libdiscover import aio
from libdiscover.scalingo import Host, Service

PUBLIC = {"public": "true", "hostname": "api.dev", "ports.https": "443", "user": "u", "password": "p@"}


def check_public_host(host: Host) -> None:
    assert (host.service_name, host.uuid, host.hostname) == ("api", "b:80", "api.dev")
    assert (host.private_hostname, host.user, host.password, host.shard) == ("b", "u", "p@", "")
    assert host.is_public and not host.is_critical
    assert (host.ports, host.private_ports) == ({"https": 443}, {"http": 80})
    assert host.url(path="/x") == "https://u:p%40@api.dev:443/x"
    assert host.private_url("http") == "http://u:p%40@b:80"
    with pytest.raises(libdiscover.InvalidArgument, match="it has https"):
        host.url("ftp")
    assert repr(host) == "<Host api b:80>"


def test_hosts_have_urls_and_ports(client: libdiscover.Client) -> None:
    first = client.register("api", host="a", port=80, attributes={"shard": "s1", "critical": "true"})
    with first, client.register("api", host="b", port=80, attributes=PUBLIC):
        online = client.services("api")
        instances = online.wait(2, timeout=SECONDS)
        api = Service.from_set(online)
        assert Service.from_set(online.filter(shard="s1")).all() == (api.first(),)
        assert {api, Service.from_set(online)} == {api}
    assert (api.name, api.is_public, api.is_critical) == ("api", True, True)
    first_host, public_host = api.all()
    assert first_host == api.first() and first_host.hostname == "a" and api.one() in api.all()
    assert public_host == Host.from_instance(instances[1]) and {first_host, public_host} == set(api.all())
    check_public_host(public_host)
    assert api.url(path="/x") == "https://u:p%40@api.dev:443/x"
    shard = api.shard("s1")
    assert shard.one() == first_host and not shard.is_public
    assert shard.url(path="/x") == "http://a:80/x"
    empty = api.shard("s2")
    assert empty.first() is None and empty.one() is None
    with pytest.raises(libdiscover.NotFound, match='service api has no host online in shard "s2"'):
        empty.url()
    assert repr(api) == "<Service api: 2 hosts>"


def test_repr_redacts_secrets(client: libdiscover.Client) -> None:
    with client.register("api", host="b", port=80, attributes=PUBLIC):
        (instance,) = client.services("api").wait(1, timeout=SECONDS)
    assert instance.attributes["password"] == "p@"
    assert "'password': '***'" in repr(instance) and "p@" not in repr(instance)


async def test_a_set_of_asyncio_has_hosts_too(memory: str) -> None:
    async with await aio.connect(memory) as client, await client.register("api", host="b", port=80, attributes=PUBLIC):
        online = client.services("api")
        await online.wait(timeout=SECONDS)
        (host,) = Service.from_set(online).all()
    check_public_host(host)
