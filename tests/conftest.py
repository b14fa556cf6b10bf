from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import Etcd, start_etcd


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where C and C++ programs are compiled to, once for all tests."""
    return tmp_path_factory.mktemp("built")


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcd]:
    server = start_etcd()
    yield server
    server.stop()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """A URL of a scheme that nobody else uses. A server is started for who needs it."""

    def of(scheme: str) -> str:
        unique = uuid.uuid4().hex
        if scheme == "memory":
            return f"memory://{unique}"
        if scheme == "local":
            return f"local://{tmp_path}/{unique}"
        server: Etcd = request.getfixturevalue("etcd")
        return f"etcd://{server.endpoint}/{unique}?ttl=2s"

    return of
