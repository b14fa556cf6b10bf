"""The watcher of the demo: follows the service `shop`, starts three services of it in three languages,
changes one, kills one, and prints what it is told and how soon. Not a test, but it ends with an error
when what it shows does not happen: `watcher.py SERVICE_C`."""

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
# Between two acts, so that a person can follow.
PAUSE = 0.4


def say(text: str) -> None:
    print(f"{time.monotonic() - START:7.3f} s  {text}", flush=True)


class Demo:
    def __init__(self, client: libdiscover.Client) -> None:
        self.events: queue.Queue[libdiscover.Event] = queue.Queue()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.subscription = client.services("shop").subscribe(self.told)

    def told(self, event: libdiscover.Event) -> None:
        """The live watch: called for each piece of news, as it comes."""
        about = "none" if event.kind == "leader" else ""
        if event.instance is not None:
            about = f"{event.instance.address}  {dict(event.instance.attributes)}"
        say(f"    {event.kind:7} {about}")
        self.events.put(event)

    def await_event(self, kind: str, language: str) -> None:
        deadline = time.monotonic() + 30
        while True:
            event = self.events.get(timeout=max(0.0, deadline - time.monotonic()))
            if event.kind == kind and event.instance is not None:
                if event.instance.attributes.get("language") == language:
                    return

    def start(self, language: str, port: int) -> None:
        say(f"starting a service in {language}")
        command = [*SERVICES[language], str(port)]
        self.processes[language] = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        self.await_event("up", language)

    def update(self, language: str) -> None:
        say(f"the {language} service changes an attribute")
        pipe = self.processes[language].stdin
        assert pipe is not None
        pipe.write("update\n")
        pipe.flush()
        self.await_event("update", language)

    def kill(self, language: str) -> None:
        say(f"killing the {language} service with SIGKILL")
        before = time.monotonic()
        self.processes[language].kill()
        self.await_event("down", language)
        say(f"gone {1000 * (time.monotonic() - before):.1f} ms after the kill, without a heartbeat")

    def leave(self, language: str) -> None:
        say(f"the {language} service leaves")
        self.processes[language].communicate()
        self.await_event("down", language)


def main() -> None:
    with libdiscover.connect() as client:
        say(f"watching the service shop at {client.url}: no server runs")
        demo = Demo(client)
        for port, language in enumerate(SERVICES, 7001):
            demo.start(language, port)
        for act, language in (
            (demo.update, "C"),
            (demo.kill, "Python"),
            (demo.leave, "C"),
            (demo.leave, "Node"),
        ):
            time.sleep(PAUSE)
            act(language)
        say("nobody is left; the watcher leaves too")


if __name__ == "__main__":
    main()
