"""Runs the script `story.txt` in Python: `story URL`."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import libdiscover

TIMEOUT = 30.0


def main() -> None:
    match sys.argv[1:]:
        case [url]:
            run_script(url)
        case [url, "member", service, address]:
            run_member(url, service, address)
        case _:
            raise ValueError("usage: story URL")


def run_script(url: str) -> None:
    path = os.environ.get("STORY", "tests/story/story.txt")
    runner = ScriptRunner(url)
    for line in map(str.strip, Path(path).read_text().splitlines()):
        needs_shared_store = line.startswith("+ ")
        if not line or line.startswith("#") or (needs_shared_store and url.startswith("memory:")):
            continue
        step = line.removeprefix("+ ")
        try:
            runner.step(*step.split())
        except Exception as error:
            raise ValueError(f"{step}: {error}") from error


class ScriptRunner:
    client: libdiscover.Client
    lease: libdiscover.Lease
    member: subprocess.Popen[str]

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: queue.Queue[libdiscover.Event] = queue.Queue()

    def step(self, verb: str, *arguments: str) -> None:
        match verb, *arguments:
            case ["open"]:
                self.client = libdiscover.connect(self.url)
            case ["watch", service]:
                self.client.services(service).subscribe(self.events.put)
            case ["register", service, address, *attributes]:
                self.lease = self.client.register(service, address=address, attributes=parse(attributes))
            case ["update", *attributes]:
                self.lease.update(parse(attributes))
            case ["unregister"]:
                self.lease.unregister()
            case ["spawn", service, address]:
                self.member = spawn(self.url, service, address)
            case ["kill"]:
                self.member.kill()
                self.member.communicate()
            case ["close"]:
                self.client.close(TIMEOUT)
            case ["hear", *_]:
                print(text(self.next_event()), flush=True)
            case ["silence"]:
                self.print_remaining()
            case _:
                raise ValueError(f"unknown step {verb!r}")

    def next_event(self) -> libdiscover.Event:
        try:
            return self.events.get(timeout=TIMEOUT)
        except queue.Empty:
            raise TimeoutError("no event was delivered") from None

    def print_remaining(self) -> None:
        """Prints the events that are left, or `silence`. The client is closed, so that no event can follow."""
        if self.events.empty():
            print("silence", flush=True)
        while not self.events.empty():
            print(text(self.events.get()), flush=True)


def parse(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def text(event: libdiscover.Event) -> str:
    """Returns the kind, the address, and the attributes sorted by name."""
    if event.instance is None:
        return f"{event.kind} -" if event.kind == "leader" else event.kind
    attributes = (f"{name}={value}" for name, value in sorted(event.instance.attributes.items()))
    return " ".join([event.kind, event.instance.address, *attributes])


def spawn(url: str, service: str, address: str) -> subprocess.Popen[str]:
    """Starts another process of this program that registers an instance and runs until it is killed."""
    command = [sys.executable, __file__, url, "member", service, address]
    member = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert member.stdout is not None
    if member.stdout.readline() != "ready\n":
        raise RuntimeError("the member did not register")
    return member


def run_member(url: str, service: str, address: str) -> None:
    with libdiscover.connect(url) as client, client.register(service, address=address):
        print("ready", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, libdiscover.DiscoverError) as error:
        sys.exit(f"story: {error}")
