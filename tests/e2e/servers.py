"""Starts etcd and the agent for tests, and stops them with the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from languages import BUILT


class Etcd:
    """An etcd with one member on free ports and a new data directory. It serves the v2 API too."""

    def __init__(self) -> None:
        self.name = f"test-{uuid.uuid4().hex}"
        self.data = tempfile.mkdtemp(prefix="etcd-")
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        self.endpoint = client.removeprefix("http://")
        # The kernel kills it with this process, if nothing else does.
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", "--unsafe-no-fsync", "--log-level", "error"]
        command += ["--enable-v2", "--name", self.name, "--data-dir", self.data]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"{self.name}={peer}"]
        self.command = command
        self.start()

    def start(self) -> None:
        """Starts the process, with its previous data and on its previous ports."""
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + 30
        while self.name not in self.ctl("member", "list"):
            assert self.process.poll() is None, "etcd exited on start"
            assert time.monotonic() < deadline, "etcd does not respond"

    def ctl(self, *arguments: str) -> str:
        """Returns the output of etcdctl. The name of the member in it proves that this etcd responded."""
        command = ["etcdctl", "--endpoints", self.endpoint, *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def kill(self) -> None:
        """Kills the process. `start` starts it again."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)


def start_etcd() -> Etcd:
    if shutil.which("etcd") is None:
        if "etcd" in os.environ.get("DISCOVER_REQUIRE_SERVERS", ""):
            pytest.fail("etcd is required and not installed")
        pytest.skip("etcd is not installed")
    return Etcd()


class EtcdProxy:
    """A proxy that etcd contains: `grpc-proxy` or `gateway`."""

    def __init__(self, kind: str, endpoint: str) -> None:
        self.endpoint = f"127.0.0.1:{free_port()}"
        command = ["setpriv", "--pdeathsig", "KILL", "etcd", kind, "start"]
        command += ["--endpoints", endpoint, "--listen-addr", self.endpoint]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        host, port = self.endpoint.split(":")
        deadline = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection((host, int(port))).close()
            except ConnectionRefusedError:
                assert self.process.poll() is None, "the proxy exited on start"
                assert time.monotonic() < deadline, "the proxy does not respond"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Agent:
    """An agent in front of a store, or with its own registry, on a Unix socket and on a free port."""

    # The value of EXTERNAL_IP. If it is empty, the agent uses its other settings.
    host = "127.0.0.1"

    def __init__(self, directory: str, store: str | None = None, *arguments: str) -> None:
        self.socket = f"{directory}/agent-{uuid.uuid4().hex}"
        self.url = f"discoverd+unix://{self.socket}"
        self.command = ["setpriv", "--pdeathsig", "KILL", str(BUILT / "discoverd"), "run"]
        self.command += ["--socket", self.socket]
        self.command += ["--store", store] if store else []
        self.command += arguments if "--bind" in arguments else ["--bind", "127.0.0.1:0", *arguments]
        self.log = f"{self.socket}.log"
        self.start()

    def start(self) -> None:
        """Starts the process, for the first time or again. Returns when it listens."""
        environment = {**os.environ, "EXTERNAL_IP": self.host}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), Path(self.log).read_text()
        addresses = [url for url in line.split() if url.startswith("discoverd://")]
        self.address = addresses[0].removeprefix("discoverd://") if addresses else ""

    def kill(self) -> None:
        """Kills the process with SIGKILL. `start` starts it again."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def stop(self) -> int:
        """Stops the process with SIGTERM, as systemd does. Returns the exit status."""
        self.process.terminate()
        status = self.process.wait(timeout=30)
        if self.process.stdout:
            self.process.stdout.close()
        return status


def eventually(condition: Callable[[], Any], timeout: float = 30) -> Any:
    """Waits until `condition` returns a true value, and returns it."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.02)  # tidy: sleep, polling a condition with a deadline
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
