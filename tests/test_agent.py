"""The agent's program: its commands, on any registry, with or without an agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from languages import BUILT, ROOT
from servers import Agent

DISCOVERD = str(BUILT / "discoverd")
PATIENCE = 60


def discoverd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run([DISCOVERD, *arguments], capture_output=True, text=True, timeout=PATIENCE, env=env)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([DISCOVERD, *arguments], stdout=subprocess.PIPE, text=True)


def hear(program: subprocess.Popen[str]) -> Any:
    assert program.stdout
    return json.loads(program.stdout.readline())


def end(program: subprocess.Popen[str]) -> None:
    program.send_signal(signal.SIGINT)
    assert program.wait(PATIENCE) == 0
    assert program.stdout
    program.stdout.close()


def test_the_commands_show_and_change_any_registry(place: Callable[[str], str]) -> None:
    for scheme in ("local", "agent"):
        url = place(scheme)
        what = ("web", "127.0.0.1:7", "-a", "v=1", "-t", "x")
        member = start("register", "--url", url, *what, "--", "sleep", "1000")
        assert member.stdout and member.stdout.readline() == "registered 127.0.0.1:7\n"
        assert discoverd("services", "--url", url).stdout == "web\n"
        assert discoverd("get", "web", DISCOVER_URL=url).stdout == "127.0.0.1:7  leader  v=1 #x\n"
        got = json.loads(discoverd("get", "web", "--json", "--url", url).stdout)
        assert (got["state"], got["instances"][0]["attributes"]) == ("current", {"v": "1"})
        assert discoverd("get", "web", "--url", url, "-t", "y").stdout == ""
        late = discoverd("get", "web", "--url", url, "--wait", "2", "--timeout", "100ms")
        assert late.returncode == 1 and "1 of 2 instances of web" in late.stderr
        end(member)
        assert discoverd("get", "web", "--url", url).stdout == ""


def test_a_registration_lasts_as_long_as_its_command(place: Callable[[str], str]) -> None:
    url = place("local")
    done = discoverd("register", "--url", url, "web", "127.0.0.1:7", "--", "sh", "-c", "exit 7")
    assert (done.returncode, done.stdout) == (7, "registered 127.0.0.1:7\n")
    missing = discoverd("register", "--url", url, "web", "127.0.0.1:7", "--", "/no/such/program")
    assert missing.returncode == 1 and "/no/such/program" in missing.stderr
    assert discoverd("services", "--url", url).stdout == ""


def test_a_watch_tells_each_change_in_a_line(place: Callable[[str], str]) -> None:
    url = place("agent")
    watch = start("watch", "web", "--json", "--url", url)
    assert hear(watch) == {"event": "current"}
    member = start("register", "--url", url, "web", "127.0.0.1:7")
    assert [hear(watch)["event"] for _ in range(2)] == ["up", "leader"]
    end(member)
    down, leader = hear(watch), hear(watch)
    assert (down["event"], down["instance"]["address"], leader) == ("down", "127.0.0.1:7", {"event": "leader"})
    end(watch)


def test_an_instance_is_taken_away_whoever_registered_it(place: Callable[[str], str]) -> None:
    url = place("agent")
    member = start("register", "--url", url, "web", "127.0.0.1:7")
    assert member.stdout and member.stdout.readline()
    assert discoverd("unregister", "--url", url, "web", "127.0.0.1:7").returncode == 0
    assert discoverd("get", "web", "--url", url).stdout == ""
    again = discoverd("unregister", "--url", url, "web", "127.0.0.1:7")
    assert again.returncode == 1 and "no instance" in again.stderr
    end(member)


def test_the_doctor_says_what_is_well_and_what_is_not(place: Callable[[str], str]) -> None:
    url = place("agent")
    well = discoverd("doctor", "--url", url)
    assert well.returncode == 0, well.stdout + well.stderr
    for part in (f"{url} (flag)", "ok   clock", "ok   store", "ok   lease: registered and seen in"):
        assert part in well.stdout, well.stdout
    ill = discoverd("doctor", "--url", "discoverd://127.0.0.1:1?connect_timeout=100ms")
    assert ill.returncode == 1 and "FAIL store" in ill.stdout


def test_secrets_are_not_shown() -> None:
    shown = discoverd("env", DISCOVER_URL="etcd://me:hunter2@h", ETCDCTL_PASSWORD="hunter2")
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
    assert second.returncode == 1 and "another agent is there" in second.stderr
    agent.kill()
    # One that is left over is replaced.
    assert Path(agent.socket).exists()
    agent.start()


def test_a_file_has_its_say_and_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("bind = 'none'\nsocket = 'none'\n")
    assert "must listen somewhere" in discoverd("run", "--config", str(file)).stderr
    file.write_text("prot = 3\n")
    wrong = discoverd("run", "--config", str(file)).stderr
    assert "unknown field `prot`" in wrong and str(file) in wrong


def test_the_demo_shows_one_go_that_was_killed() -> None:
    """To the commands, to the stream of the page and to that of the service."""
    demo = subprocess.run(
        [ROOT / "examples/demo/agent"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    lines = demo.stdout.splitlines()
    killed = lines.index("killing the one in Node with SIGKILL")
    for who in ("page", "stream", "watch"):
        seen = [line.split()[:3] for line in lines if line.split()[:1] == [who]]
        assert [who, "down", "127.0.0.1:8003"] in seen, demo.stdout
        assert all([who, "up", f"127.0.0.1:800{n}"] in seen for n in (1, 2, 3)), demo.stdout
    assert [line.split()[-1] for line in lines[killed - 3 : killed]] == [f"language={x}" for x in ("C", "Python", "Node")]
    assert [line.split()[0] for line in lines[-2:]] == ["127.0.0.1:8001", "127.0.0.1:8002"]
