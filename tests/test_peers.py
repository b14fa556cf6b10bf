"""Programs of other systems and ours meet in the same etcd."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import libdiscover
import pytest

from gopeers import PATIENCE, Peer, build
from servers import Etcd

THEIRS, OURS = "10.0.0.9:7002", "10.0.0.1:7001"
# Not all can be told to be in a place of their own, so the service is.
WEB = f"web-{uuid.uuid4().hex}"
# The store that each speaks, what of ours it is to see, and what of its own we are to see.
SYSTEMS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "grpc": ("etcd", {OURS: {"zone": "us"}}, {"version": "1", "zone": "<eu>"}),
    "kratos": (
        "etcd",
        {
            OURS: {
                "id": OURS,
                "name": WEB,
                "version": "",
                "metadata": {"zone": "us"},
                "endpoints": [f"http://{OURS}"],
            }
        },
        {"version": "v1", "zone": "<eu>", "endpoints": f"http://{THEIRS}?isSecure=false"},
    ),
    "go-micro": (
        "etcd",
        {
            OURS: {
                "name": WEB,
                "version": "",
                "metadata": None,
                "endpoints": None,
                "nodes": [{"id": OURS, "address": OURS, "metadata": {"zone": "us"}}],
            }
        },
        {"version": "latest", "zone": "<eu>"},
    ),
    "containerpilot": (
        "etcd2",
        {OURS: {"id": OURS, "name": WEB, "address": "10.0.0.1", "port": 7001, "tags": None}},
        {},
    ),
    "scalingo": (
        "etcd2",
        {"10.0.0.1": {"name": "10.0.0.1", "private_ports": {"http": "7001"}}},
        {
            "hostname": "pub.dev",
            "ports.http": "80",
            "ports.https": "443",
            "user": "peer",
            "password": "p@<s>",
            "public": "true",
            "critical": "true",
        },
    ),
}
# These have a program of their own, with the registry that they publish; the others share one.
FOLDERS = {"kratos": "kratos", "go-micro": "go-micro"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The program of a folder of tests/peers, built once."""
    into = tmp_path_factory.mktemp("peers")
    return cache(lambda folder: build(folder, into))


@pytest.fixture
def root() -> str:
    return f"/{uuid.uuid4().hex}"


@pytest.fixture
def peers(programs: Callable[[str], Path]) -> Iterator[Any]:
    started: list[Peer] = []

    def start(system: str, etcd: Etcd, root: str) -> Peer:
        program = programs(FOLDERS.get(system, "go"))
        started.append(Peer(str(program), system, etcd.endpoint, root, WEB, THEIRS))
        return started[-1]

    yield start
    for peer in started:
        peer.end()


def eventually(what: str, condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)  # tidy: sleep, polling a condition with a deadline


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_sees_the_other(system: str, etcd: Etcd, root: str, peers: Any) -> None:
    """What it registers we see with every field, what we register and change it sees, and who goes is missed."""
    scheme, seen_of_ours, seen_of_theirs = SYSTEMS[system]
    if system == "go-micro":
        root = ""
    url = f"{scheme}://{etcd.endpoint}{root}?ttl=2s&layout={system}"
    with libdiscover.connect(url) as client:
        web = client.services(WEB)
        peer = peers(system, etcd, root)
        theirs = web.wait(1, timeout=PATIENCE)[0]
        assert theirs.address == THEIRS
        assert dict(theirs.attributes) == seen_of_theirs
        assert theirs.layouts == (system,)
        ours = next(iter(seen_of_ours))
        with client.register(WEB, address=OURS) as lease:
            # On etcd v2 the records that are expected say nothing that could change.
            if scheme == "etcd":
                peer.until("sees ours", lambda seen: ours in seen)
                lease.update({"zone": "us"})
            peer.awaits(seen_of_ours)
        peer.awaits_without(ours)
        peer.end()
        eventually("its death is our down", lambda: len(web.online()) == 0)
        assert web.offline()[-1].instance.address == THEIRS


def test_credentials_are_shared_with_hosts_of_the_other_system(
    etcd: Etcd, root: str, peers: Any
) -> None:
    """S2.4: ours reach its hosts, and what it says to all reaches ours, whose owner is told."""
    url = f"etcd2://{etcd.endpoint}{root}?ttl=2s&layout=scalingo"
    with libdiscover.connect(url) as client:
        told = threading.Event()
        public = {"public": "true", "user": "ours", "password": "1"}
        with client.register(WEB, address=OURS, attributes=public) as lease:
            subscription = lease.on_standing(
                lambda _: told.set() if lease.attributes["user"] == "peer" else None
            )
            peer = peers("scalingo", etcd, root)
            assert told.wait(PATIENCE), "its credentials reach our host, and its owner is told"
            assert lease.attributes["password"] == "p@<s>"
            lease.update({"public": "true", "user": "newer", "password": "2"})
            peer.awaits({"10.0.0.9": {"user": "newer", "password": "2"}})
            subscription.cancel()
