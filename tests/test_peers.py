"""Programs of other systems, written with their published modules, and ours meet in the same etcd."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libdiscover
import pytest

from languages import ROOT
from servers import Etcd

PATIENCE = 30
THEIRS, OURS = "10.0.0.9:7002", "10.0.0.1:7001"
# The store that each speaks, what of ours it is to see, and what of its own we are to see.
SYSTEMS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "grpc": ("etcd", {OURS: {"zone": "us"}}, {"version": "1", "zone": "<eu>"}),
    "kratos": (
        "etcd",
        {
            OURS: {
                "id": OURS,
                "name": "web",
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
                "name": "web",
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
        {OURS: {"id": OURS, "name": "web", "address": "10.0.0.1", "port": 7001, "tags": None}},
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


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the peers, built from tests/peers/go."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        if "go" in os.environ.get("DISCOVER_REQUIRE_SERVERS", "").split():
            pytest.fail("go is required and not installed")
        pytest.skip("go is not installed: no program of another system is met")
    binary = tmp_path_factory.mktemp("peers") / "peer"
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."],
        cwd=ROOT / "tests/peers/go",
        capture_output=True,
        text=True,
        timeout=900,
    )
    if built.returncode != 0 and "proxy.golang.org" in built.stderr:
        pytest.skip(f"the modules of the peers cannot be had: {built.stderr}")
    assert built.returncode == 0, built.stderr
    return binary


class Peer:
    """A program of another system, and what it sees."""

    def __init__(self, program: Path, system: str, etcd: Etcd, root: str) -> None:
        command = [str(program), system, etcd.endpoint, root, "web", THEIRS]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        assert self.lines.get(timeout=PATIENCE) == "registered"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def awaits(self, found: Any) -> None:
        """Until it sees all of that."""
        deadline = time.monotonic() + PATIENCE
        while not holds(found, json.loads(self.lines.get(timeout=PATIENCE))):
            assert time.monotonic() < deadline, found

    def awaits_without(self, key: str) -> None:
        while key in json.loads(self.lines.get(timeout=PATIENCE)):
            pass

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def holds(wanted: Any, seen: Any) -> bool:
    """Whether all that is wanted is there, whatever else is."""
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return all(key in seen and holds(value, seen[key]) for key, value in wanted.items())
    return bool(wanted == seen)


@pytest.fixture
def root() -> str:
    return f"/{uuid.uuid4().hex}"


@pytest.fixture
def peers(program: Path) -> Iterator[Any]:
    started: list[Peer] = []

    def start(system: str, etcd: Etcd, root: str) -> Peer:
        started.append(Peer(program, system, etcd, root))
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
    """What it registers we see with every field, what we register it sees, and both are seen to go."""
    scheme, seen_of_ours, seen_of_theirs = SYSTEMS[system]
    url = f"{scheme}://{etcd.endpoint}{root}?ttl=2s&layout={system}"
    with libdiscover.connect(url) as client:
        web = client.services("web")
        peer = peers(system, etcd, root)
        theirs = web.wait(1, timeout=PATIENCE)[0]
        assert theirs.address == THEIRS
        assert dict(theirs.attributes) == seen_of_theirs
        assert theirs.layouts == (system,)
        attributes = {} if scheme == "etcd2" else {"zone": "us"}
        with client.register("web", address=OURS, attributes=attributes):
            peer.awaits(seen_of_ours)
        peer.awaits_without(next(iter(seen_of_ours)))
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
        with client.register("web", address=OURS, attributes=public) as lease:
            subscription = lease.on_standing(
                lambda _: told.set() if lease.attributes["user"] == "peer" else None
            )
            peer = peers("scalingo", etcd, root)
            assert told.wait(PATIENCE), "its credentials reach our host, and its owner is told"
            assert lease.attributes["password"] == "p@<s>"
            lease.update({"public": "true", "user": "newer", "password": "2"})
            peer.awaits({"10.0.0.9": {"user": "newer", "password": "2"}})
            subscription.cancel()
