"""Programs of other systems and of this library share one etcd."""

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

from go_peers import TIMEOUT, Peer, build
from servers import Etcd

THEIRS, OURS = "10.0.0.9:7002", "10.0.0.1:7001"
# Some systems have a fixed key prefix, so the name of the service is unique.
WEB = f"web-{uuid.uuid4().hex}"
# For each system: the scheme, its expected view of our instance, and the attributes of its instance that we expect.
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
# Systems with their own program, which uses their published registry. The others share one program.
FOLDERS = {"kratos": "kratos", "go-micro": "go-micro"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the program of a folder of tests/peers, built once."""
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
        peer.kill()


def eventually(description: str, condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, description
        time.sleep(0.02)  # tidy: sleep, polling a condition with a deadline


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_sees_the_instances_of_the_other(system: str, etcd: Etcd, root: str, peers: Any) -> None:
    """Both sides see each other's instance with all fields, its change, and that it goes offline."""
    scheme, view_of_ours, attributes_of_theirs = SYSTEMS[system]
    if system == "go-micro":
        root = ""
    url = f"{scheme}://{etcd.endpoint}{root}?ttl=2s&layout={system}"
    with libdiscover.connect(url) as client:
        web = client.services(WEB)
        peer = peers(system, etcd, root)
        theirs = web.wait(1, timeout=TIMEOUT)[0]
        assert theirs.address == THEIRS
        assert dict(theirs.attributes) == attributes_of_theirs
        assert theirs.layouts == (system,)
        ours = next(iter(view_of_ours))
        with client.register(WEB, address=OURS) as lease:
            # With etcd v2, the expected records have no field that could change.
            if scheme == "etcd":
                peer.wait_until("view contains our instance", lambda view: ours in view)
                lease.update({"zone": "us"})
            peer.wait_for(view_of_ours)
        peer.wait_without(ours)
        peer.kill()
        eventually("our set reports its death", lambda: len(web.online()) == 0)
        assert web.offline()[-1].instance.address == THEIRS


def test_credentials_are_shared_with_hosts_of_the_other_system(
    etcd: Etcd, root: str, peers: Any
) -> None:
    """S2.4: our credentials reach its hosts; its credentials reach our host, and our lease reports the change."""
    url = f"etcd2://{etcd.endpoint}{root}?ttl=2s&layout=scalingo"
    with libdiscover.connect(url) as client:
        changed = threading.Event()
        public = {"public": "true", "user": "ours", "password": "1"}
        with client.register(WEB, address=OURS, attributes=public) as lease:
            subscription = lease.on_standing(
                lambda _: changed.set() if lease.attributes["user"] == "peer" else None
            )
            peer = peers("scalingo", etcd, root)
            assert changed.wait(TIMEOUT), "our lease does not report the new credentials"
            assert lease.attributes["password"] == "p@<s>"
            lease.update({"public": "true", "user": "newer", "password": "2"})
            peer.wait_for({"10.0.0.9": {"user": "newer", "password": "2"}})
            subscription.cancel()
