"""Watcher of the demo: `watcher.py SERVICE_C`.

It watches the service `shop`, starts instances in three languages, changes one, kills one, and prints each event with
its time. It fails if an expected event does not arrive.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from pathlib import Path

import libdiscover

HERE = Path(__file__).parent
SERVICES = {
    "C": [sys.argv[1]],
    "Python": [sys.executable, str(HERE / "service.py")],
    "Node": ["node", str(HERE / "service.cjs")],
}
START = time.monotonic()
# Seconds between two steps, so that a reader can follow the output.
PAUSE = 0.4


def log(text: str) -> None:
    print(f"{time.monotonic() - START:7.3f} s  {text}", flush=True)


class Demo:
    def __init__(self, client: libdiscover.Client) -> None:
        self.events: queue.Queue[libdiscover.Event] = queue.Queue()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.subscription = client.services("shop").subscribe(self.on_event)

    def on_event(self, event: libdiscover.Event) -> None:
        """Prints and queues an event. Called for each event when it arrives."""
        subject = "none" if event.kind == "leader" else ""
        if event.instance is not None:
            subject = f"{event.instance.address}  {dict(event.instance.attributes)}"
        log(f"    {event.kind:7} {subject}")
        self.events.put(event)

    def await_event(self, kind: str, language: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            if event.kind == kind and event.instance is not None:
                if event.instance.attributes.get("language") == language:
                    return

    def start(self, language: str, port: int) -> None:
        log(f"starting a service in {language}")
        command = [*SERVICES[language], str(port)]
        self.processes[language] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self.await_event("up", language)

    def update(self, language: str) -> None:
        log(f"the {language} service changes an attribute")
        pipe = self.processes[language].stdin
        assert pipe is not None
        pipe.write("update\n")
        pipe.flush()
        self.await_event("update", language)

    def kill(self, language: str) -> None:
        log(f"killing the {language} service with SIGKILL")
        before = time.monotonic()
        self.processes[language].kill()
        self.await_event("down", language)
        log(f"offline {1000 * (time.monotonic() - before):.1f} ms after the kill, without a heartbeat")

    def stop(self, language: str) -> None:
        log(f"the {language} service unregisters and exits")
        self.processes[language].communicate()
        self.await_event("down", language)


def main() -> None:
    with libdiscover.connect() as client:
        log(f"watching the service shop at {client.url}: without a server")
        demo = Demo(client)
        for port, language in enumerate(SERVICES, 7001):
            demo.start(language, port)
        for step, language in (
            (demo.update, "C"),
            (demo.kill, "Python"),
            (demo.stop, "C"),
            (demo.stop, "Node"),
        ):
            time.sleep(PAUSE)
            step(language)
        log("no instance is online; the watcher exits")


if __name__ == "__main__":
    main()
