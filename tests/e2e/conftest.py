from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from languages import ROOT
from servers import Agent, Etcd, EtcdProxy, start_etcd
from release_packages import Packages, make


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of compiled C and C++ programs, each compiled once for all tests."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    server = start_etcd()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of the library as `make install` installs it, from the build of the tests, moved after installation."""
    first = tmp_path_factory.mktemp("install") / "first"
    tools = ["cargo", "run", "--quiet", "-p", "tools", "--", "install"]
    arguments = ["--prefix", "/usr", "--destdir", str(first), "--profile", "debug"]
    subprocess.run([*tools, *arguments], cwd=ROOT, check=True)
    moved = first.with_name("moved")
    shutil.move(first, moved)
    return moved / "usr"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    built: dict[str, list[Path]] = {}

    def packages_of(kind: str) -> list[Path]:
        if kind not in built:
            built[kind] = make(kind, tmp_path_factory.mktemp("dist"))
        return built[kind]

    return packages_of


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """A function that starts agents; they are killed at the end of the test."""
    started: list[Agent] = []

    def start(store: str | None = None, *arguments: str) -> Agent:
        started.append(Agent(str(tmp_path), store, *arguments))
        return started[-1]

    yield start
    for agent in started:
        agent.kill()


@pytest.fixture
def place(
    request: pytest.FixtureRequest, tmp_path: Path, agents: Callable[..., Agent]
) -> Callable[[str], str]:
    """A function that returns the URL of a new, empty registry for a scheme. It starts a server if one is needed."""

    def new_url(scheme: str) -> str:
        unique = uuid.uuid4().hex
        if scheme == "memory":
            return f"memory://{unique}"
        if scheme == "local":
            return f"local://{tmp_path}/{unique}"
        if scheme == "agent":
            return f"{agents().url}?ttl=2s"
        server: Etcd = request.getfixturevalue("etcd")
        if scheme in ("grpc-proxy", "gateway"):
            proxy = EtcdProxy(scheme, server.endpoint)
            request.addfinalizer(proxy.stop)
            return f"etcd://{proxy.endpoint}/{unique}?ttl=2s"
        if scheme == "agent_etcd":
            return f"{agents(f'etcd://{server.endpoint}/{unique}?ttl=2s').url}?ttl=2s"
        return f"{scheme}://{server.endpoint}/{unique}?ttl=2s"

    return new_url
