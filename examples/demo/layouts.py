"""`make demo-layouts`: one service in two layouts at once, seen by the users of either and by those of both.

DISCOVER_URL says in which registry; without it the demo is on its own.
"""

from __future__ import annotations

import os

import libdiscover


def main() -> None:
    url = os.environ.get("DISCOVER_URL", "memory://demo")
    layouts = {"both": "registrator,native", "registrator": "registrator", "native": "native"}
    clients = {who: libdiscover.connect(in_layout(url, which)) for who, which in layouts.items()}
    print("an instance joins both fleets, with one registration:")
    with clients["both"].register("api", address="127.0.0.1:7001", attributes={"zone": "eu"}):
        show(clients, 1)
        print("one of the old fleet comes, seen there and by who reads both:")
        with clients["registrator"].register("api", address="127.0.0.1:7002"):
            clients["both"].services("api").wait(2, timeout=10)
            show(clients, 1)
    for client in clients.values():
        client.close()


def in_layout(url: str, layout: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}layout={layout}"


def show(clients: dict[str, libdiscover.Client], count: int) -> None:
    for who, client in clients.items():
        for instance in client.services("api").wait(count, timeout=10):
            where = "+".join(instance.layouts)
            print(f"{who:11}  api {instance.address} in {where} {dict(instance.attributes)}")


if __name__ == "__main__":
    main()
