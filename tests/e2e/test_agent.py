"""The commands of discoverd, on any registry, with or without an agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libdiscover
import pytest

from languages import BUILT, ROOT
from servers import Agent, eventually

DISCOVERD = str(BUILT / "discoverd")
TIMEOUT = 60


def discoverd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([DISCOVERD, *arguments], capture_output=True, text=True, timeout=TIMEOUT, env=env)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([DISCOVERD, *arguments], stdout=subprocess.PIPE, text=True)


def read_event(program: subprocess.Popen[str]) -> Any:
    assert program.stdout
    return json.loads(program.stdout.readline())


def interrupt(program: subprocess.Popen[str]) -> None:
    program.send_signal(signal.SIGINT)
    assert program.wait(TIMEOUT) == 0
    assert program.stdout
    program.stdout.close()


def test_the_commands_read_and_change_any_registry(place: Callable[[str], str]) -> None:
    for scheme in ("local", "agent"):
        url = place(scheme)
        arguments = ("web", "127.0.0.1:7", "-a", "v=1", "-t", "x")
        registered = start("register", "--url", url, *arguments, "--", "sleep", "1000")
        assert registered.stdout and registered.stdout.readline() == "registered 127.0.0.1:7\n"
        assert discoverd("services", "--url", url).stdout == "web\n"
        assert discoverd("get", "web", DISCOVER_URL=url).stdout == "127.0.0.1:7  leader  v=1 #x\n"
        result = json.loads(discoverd("get", "web", "--json", "--url", url).stdout)
        assert (result["state"], result["instances"][0]["attributes"]) == ("current", {"v": "1"})
        assert discoverd("get", "web", "--url", url, "-t", "y").stdout == ""
        late = discoverd("get", "web", "--url", url, "--wait", "2", "--timeout", "100ms")
        assert late.returncode == 1 and "1 of 2 instances of web" in late.stderr
        interrupt(registered)
        assert discoverd("get", "web", "--url", url).stdout == ""


def test_a_registration_lasts_as_long_as_its_command(place: Callable[[str], str]) -> None:
    url = place("local")
    ended = discoverd("register", "--url", url, "web", "127.0.0.1:7", "--", "sh", "-c", "exit 7")
    assert (ended.returncode, ended.stdout) == (7, "registered 127.0.0.1:7\n")
    assert discoverd("services", "--url", url).stdout == ""


def test_exit_statuses_of_a_registered_command_are_those_of_a_shell(place: Callable[[str], str]) -> None:
    url = place("local")

    def register(*command: str) -> subprocess.CompletedProcess[str]:
        return discoverd("register", "--url", url, "web", "127.0.0.1:7", "--", *command)

    for signal_name, status in (("KILL", 137), ("TERM", 143), ("INT", 130)):
        assert register("sh", "-c", f"kill -{signal_name} $$").returncode == status
    for missing in ("/no/such/program", "no-such-program"):
        ended = register(missing)
        assert ended.returncode == 127 and f"cannot run {missing}: " in ended.stderr
    for unusable in ("/etc/passwd", "/etc"):
        ended = register(unusable)
        assert ended.returncode == 126 and f"cannot run {unusable}: " in ended.stderr
    assert discoverd("services", "--url", url).stdout == ""


def test_watch_prints_one_line_for_each_event(place: Callable[[str], str]) -> None:
    url = place("agent")
    watch = start("watch", "web", "--json", "--url", url)
    assert read_event(watch) == {"event": "current"}
    registered = start("register", "--url", url, "web", "127.0.0.1:7")
    assert [read_event(watch)["event"] for _ in range(2)] == ["up", "leader"]
    interrupt(registered)
    down, leader = read_event(watch), read_event(watch)
    assert (down["event"], down["instance"]["address"], leader) == ("down", "127.0.0.1:7", {"event": "leader"})
    interrupt(watch)


def test_an_instance_of_any_owner_can_be_unregistered(place: Callable[[str], str]) -> None:
    url = place("agent")
    registered = start("register", "--url", url, "web", "127.0.0.1:7")
    assert registered.stdout and registered.stdout.readline()
    assert discoverd("unregister", "--url", url, "web", "127.0.0.1:7").returncode == 0
    assert discoverd("get", "web", "--url", url).stdout == ""
    again = discoverd("unregister", "--url", url, "web", "127.0.0.1:7")
    assert again.returncode == 1 and "no instance" in again.stderr
    interrupt(registered)


def test_an_instance_that_was_unregistered_by_hand_does_not_return(agents: Callable[..., Agent]) -> None:
    agent = agents()
    with libdiscover.connect(agent.url) as client:
        lease = client.register("web", 7, host="127.0.0.1", ttl=1)
        assert discoverd("unregister", "--url", agent.url, "web", "127.0.0.1:7").returncode == 0
        eventually(lambda: lease.standing == "replaced")
        assert discoverd("get", "web", "--url", agent.url).returncode == 1


def test_doctor_reports_checks_that_pass_and_fail(place: Callable[[str], str]) -> None:
    url = place("agent")
    healthy = discoverd("doctor", "--url", url)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    for part in (f"{url} (flag)", "ok   clock", "ok   store", "ok   lease: registered and visible after"):
        assert part in healthy.stdout, healthy.stdout
    failing = discoverd("doctor", "--url", "discoverd://127.0.0.1:1?connect_timeout=100ms")
    assert failing.returncode == 1 and "FAIL store" in failing.stdout


def test_commands_find_the_running_agent(agents: Callable[..., Agent], tmp_path: Path) -> None:
    socket = tmp_path / "discoverd.sock"
    without_url = {"DISCOVER_URL": "", "XDG_RUNTIME_DIR": str(tmp_path)}
    alone = discoverd("services", **without_url)
    assert "using local:// (default)" in alone.stderr
    agent = agents()
    socket.symlink_to(agent.socket)
    with libdiscover.connect(agent.url) as client, client.register("web", 7, host="127.0.0.1"):
        found = discoverd("services", **without_url)
        assert found.stdout == "web\n", found.stderr
        assert f"using discoverd+unix://{socket} (running agent)" in found.stderr
        assert f"discoverd+unix://{socket} (running agent)" in discoverd("env", **without_url).stdout
    refused = discoverd("maintenance", "on", **without_url)
    assert refused.returncode == 1 and "--all" in refused.stderr
    assert discoverd("maintenance", "on", "--all", **without_url).returncode == 0


def test_secrets_are_not_shown() -> None:
    shown = discoverd(
        "env",
        DISCOVER_URL="etcd://me:hunter2@h",
        ETCDCTL_PASSWORD="hunter2",
        ETCDCTL_ENDPOINTS="https://me:hunter2",
        DISCOVERD="me:hunter2",
    )
    assert "etcd://me:***@h (environment)" in shown.stdout
    assert "hunter2" not in shown.stdout + shown.stderr + discoverd("--help", DISCOVER_URL="x://hunter2").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    assert "unregister" in discoverd("completions", shell).stdout


def test_there_is_a_manual_page() -> None:
    page = discoverd("man").stdout
    assert ".TH discoverd" in page and ".TH discoverd-register" in page


def test_an_agent_does_not_take_the_socket_of_another(agents: Callable[..., Agent]) -> None:
    agent = agents()
    second = discoverd("run", "--bind", "none", "--socket", agent.socket)
    assert second.returncode == 1 and "another process listens on it" in second.stderr
    agent.kill()
    # A socket that a killed agent left is replaced.
    assert Path(agent.socket).exists()
    agent.start()


def test_errors_in_the_configuration_file_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("bind = 'none'\nsocket = 'none'\n")
    assert "must listen somewhere" in discoverd("run", "--config", str(file)).stderr
    file.write_text("prot = 3\n")
    error = discoverd("run", "--config", str(file)).stderr
    assert "unknown field `prot`" in error and str(file) in error


def test_the_demo_shows_that_a_killed_instance_goes_offline() -> None:
    """The commands, the stream of the page and the stream of the service all report it."""
    demo = subprocess.run(
        [ROOT / "examples/demo/agent"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    lines = demo.stdout.splitlines()
    killed = lines.index("killing the Node service with SIGKILL")
    for source in ("page", "stream", "watch"):
        seen = [line.split()[:3] for line in lines if line.split()[:1] == [source]]
        assert [source, "down", "127.0.0.1:8003"] in seen, demo.stdout
        assert all([source, "up", f"127.0.0.1:800{n}"] in seen for n in (1, 2, 3)), demo.stdout
    assert [line.split()[-1] for line in lines[killed - 3 : killed]] == [f"language={x}" for x in ("C", "Python", "Node")]
    assert [line.split()[0] for line in lines[-2:]] == ["127.0.0.1:8001", "127.0.0.1:8002"]
