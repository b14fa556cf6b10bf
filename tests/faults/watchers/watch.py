"""Watches and registers while the lab breaks things, in Python; see README.md beside it."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time

import libdiscover

PRINTING = threading.Lock()


def tell(kind: str, **values: object) -> None:
    line = json.dumps({"kind": kind, "t": time.monotonic_ns() // 1000, **values})
    with PRINTING:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class Followed:
    """One service, whose events are told as they come and whose snapshots at a pace."""

    def __init__(self, client: libdiscover.Client, service: str, news: threading.Event) -> None:
        self.service = service
        self.news = news
        self.version = -1
        self.set = client.services(service)
        self.subscription = self.set.subscribe(self.on_event)

    def on_event(self, event: libdiscover.Event) -> None:
        if event.instance is not None and event.kind in ("up", "update", "down"):
            instance = event.instance
            tell("event", service=self.service, event=event.kind, id=instance.id, created=instance.created)
        self.news.set()

    def tell(self) -> None:
        snapshot = self.set.snapshot()
        if snapshot.version == self.version:
            return
        self.version = snapshot.version
        state = "current" if snapshot.is_current else "stale" if snapshot.is_ready else "pending"
        instances = {
            i.id: {"created": i.created, "suspect": i.is_suspect, "attributes": dict(i.attributes)}
            for i in snapshot.online
        }
        tell("snapshot", service=self.service, state=state, revision=snapshot.revision, set=instances)


def main() -> None:
    url, host, port, count, pace, *services = sys.argv[1:]
    client = libdiscover.connect(url)
    attributes = {"language": "python"}
    leases = [
        client.register("members", int(port) + number, host=host, attributes=attributes)
        for number in range(int(count))
    ]
    news, leaving = threading.Event(), threading.Event()
    followed = [Followed(client, service, news) for service in services]
    standings: dict[str, str] = {}
    tell("ready")

    def wait_for_the_end() -> None:
        sys.stdin.read(1)
        leaving.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    while not leaving.wait(int(pace) / 1000):
        news.wait(0.05)
        news.clear()
        for one in followed:
            one.tell()
        for lease in leases:
            if standings.get(lease.id) != lease.standing:
                standings[lease.id] = lease.standing
                tell("standing", id=lease.id, standing=lease.standing)
    for one in followed:
        one.tell()
    tell("metrics", values=dataclasses.asdict(client.metrics()))
    try:
        client.close(8)
    except libdiscover.DiscoverError as error:
        tell("left", text=str(error))


if __name__ == "__main__":
    try:
        main()
    except libdiscover.DiscoverError as error:
        tell("error", text=str(error))
