"""The agent as a system service: the examples of its document, notifications to systemd, and the unit file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from languages import BUILT, ROOT
from servers import Agent

TIMEOUT = 60
UNIT = ROOT / "agent/systemd/discoverd.service"


def blocks(section: str, language: str) -> list[str]:
    """Returns the code blocks of one section of docs/agent.md."""
    text = (ROOT / "docs/agent.md").read_text()
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)


def test_the_health_examples_of_the_document_work(agents: Callable[..., Agent]) -> None:
    agent = agents()
    environment = {**os.environ, "PATH": f"{BUILT}:{os.environ['PATH']}"}
    environment["DISCOVER_URL"] = f"discoverd://{agent.address}"
    scripts = blocks("Health checks", "sh")
    assert len(scripts) == 2
    for block in scripts:
        script = block.replace("127.0.0.1:1111", agent.address).replace("curl ", "curl -sS --fail-with-body ")
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment, capture_output=True, text=True, timeout=TIMEOUT,
        )  # fmt: skip
        assert ran.returncode == 0, (block, ran.stdout, ran.stderr)
    assert "maintenance: 1 instances\ndraining: 2 instances\noff: 2 instances" in ran.stdout
    metrics = subprocess.run(
        ["curl", "-sS", f"http://{agent.address}/metrics"], capture_output=True, text=True, check=True
    )
    assert 'discoverd_instances{state="warning"} 1' in metrics.stdout
    assert "\ndiscoverd_checks 1\n" in metrics.stdout


def test_the_configuration_file_of_the_document_is_valid(agents: Callable[..., Agent], tmp_path: Path) -> None:
    (config,) = blocks("Services and hooks in the configuration file", "toml")
    file = tmp_path / "discoverd.toml"
    file.write_text(config)
    agent = agents(None, "--config", str(file))
    listed = subprocess.run(
        ["curl", "-sS", f"http://{agent.address}/v1/registrations"], capture_output=True, text=True, check=True
    )
    assert '"service":"shop"' in listed.stdout and '"tags":["blue"]' in listed.stdout


def test_systemd_is_notified_when_the_agent_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = str(tmp_path / "notify")
        listener.bind(path)
        listener.settimeout(TIMEOUT)
        command = ["setpriv", "--pdeathsig", "KILL", str(BUILT / "discoverd"), "run"]
        command += ["--bind", "127.0.0.1:0", "--socket", "none"]
        environment = {**os.environ, "NOTIFY_SOCKET": path}
        agent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert listener.recv(1000) == b"FDSTORE=1\nFDNAME=discoverd=tcp\n"
            assert listener.recv(1000) == b"READY=1\n"
            assert agent.stdout is not None
            assert agent.stdout.readline().startswith(b"listening on "), "printed before READY"
            # SIGHUP without a configuration file reloads nothing and does not end the agent.
            agent.send_signal(signal.SIGHUP)
            assert listener.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert listener.recv(1000) == b"READY=1\n"
            agent.send_signal(signal.SIGUSR2)
            assert listener.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert listener.recv(1000).startswith(b"FDSTORE=1\n")
            assert listener.recv(1000) == b"READY=1\n"
            agent.send_signal(signal.SIGTERM)
            assert listener.recv(1000) == b"STOPPING=1\n"
            assert agent.wait(TIMEOUT) == 0
        finally:
            agent.kill()
            agent.wait()
            if agent.stdout:
                agent.stdout.close()


def test_the_unit_is_valid_and_sandboxed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "discoverd.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/discoverd", str(BUILT / "discoverd")))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    # The exposure must be below 20; a unit without any sandboxing has 100.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    analyzed = subprocess.run(command, capture_output=True, text=True)
    assert analyzed.returncode == 0, analyzed.stdout[-2000:]


def test_an_agent_that_stops_leaves_no_command_running(agents: Callable[..., Agent], tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    check = "check = { exec = 'sleep 1000', interval = '10ms', timeout = '1h' }"
    watch = "[[watch]]\nservice = 'a'\nonChange = 'sleep 1000'\n"
    file.write_text(f"[[service]]\nname = 'a'\nport = 1\n[[service]]\nname = 'b'\nport = 2\n{check}\n{watch}")
    agent = agents(None, "--config", str(file))
    deadline = time.monotonic() + TIMEOUT
    while len(commands := sleeping(agent.process.pid)) < 2:
        assert time.monotonic() < deadline, Path(agent.log).read_text()
    assert agent.stop() == 0
    while any(Path(f"/proc/{pid}").exists() for pid in commands):
        assert time.monotonic() < deadline, commands


def sleeping(parent: int) -> list[int]:
    """Returns the ids of the `sleep` processes that `parent` started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
        except (OSError, IndexError):
            continue  # The process has ended meanwhile.
        if name == "sleep" and int(rest.split()[1]) == parent:
            found.append(int(process.name))
    return found
