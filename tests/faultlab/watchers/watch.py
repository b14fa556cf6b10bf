"""The program under test of the fault lab in Python; see README.md beside it."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time

import libdiscover

PRINT_LOCK = threading.Lock()


def report(kind: str, **values: object) -> None:
    line = json.dumps({"kind": kind, "t": time.monotonic_ns() // 1000, **values})
    with PRINT_LOCK:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class WatchedService:
    """One service: events are printed when they arrive, snapshots at an interval."""

    def __init__(self, client: libdiscover.Client, service: str, changed: threading.Event) -> None:
        self.service = service
        self.changed = changed
        self.version = -1
        self.set = client.services(service)
        self.subscription = self.set.subscribe(self.on_event)

    def on_event(self, event: libdiscover.Event) -> None:
        if event.instance is not None and event.kind in ("up", "update", "down"):
            instance = event.instance
            report("event", service=self.service, event=event.kind, id=instance.id, created=instance.created)
        self.changed.set()

    def report_snapshot(self) -> None:
        snapshot = self.set.snapshot()
        if snapshot.version == self.version:
            return
        self.version = snapshot.version
        state = "current" if snapshot.is_current else "stale" if snapshot.is_ready else "pending"
        instances = {
            i.id: {"created": i.created, "suspect": i.is_suspect, "attributes": dict(i.attributes)}
            for i in snapshot.online
        }
        report("snapshot", service=self.service, state=state, revision=snapshot.revision, set=instances)


def main() -> None:
    url, host, port, count, interval, *services = sys.argv[1:]
    client = libdiscover.connect(url)
    attributes = {"language": "python"}
    leases = [
        client.register("members", int(port) + number, host=host, attributes=attributes)
        for number in range(int(count))
    ]
    changed, stopping = threading.Event(), threading.Event()
    watched = [WatchedService(client, service, changed) for service in services]
    standings: dict[str, str] = {}
    report("ready")

    def wait_for_stop() -> None:
        sys.stdin.read(1)
        stopping.set()

    threading.Thread(target=wait_for_stop, daemon=True).start()
    while not stopping.wait(int(interval) / 1000):
        changed.wait(0.05)
        changed.clear()
        for one in watched:
            one.report_snapshot()
        for lease in leases:
            if standings.get(lease.id) != lease.standing:
                standings[lease.id] = lease.standing
                report("standing", id=lease.id, standing=lease.standing)
    for one in watched:
        one.report_snapshot()
    report("metrics", values=dataclasses.asdict(client.metrics()))
    try:
        client.close(8)
    except libdiscover.DiscoverError as error:
        report("left", text=str(error))


if __name__ == "__main__":
    try:
        main()
    except libdiscover.DiscoverError as error:
        report("error", text=str(error))
