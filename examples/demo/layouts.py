"""Demo of layouts (`make demo-layouts`): one service in two layouts, seen by clients of one layout and of both.

DISCOVER_URL names the registry. Without it, the demo uses the memory of its own process.
"""

from __future__ import annotations

import os

import libdiscover


def main() -> None:
    url = os.environ.get("DISCOVER_URL", "memory://demo")
    layouts = {"both": "registrator,native", "registrator": "registrator", "native": "native"}
    clients = {name: libdiscover.connect(with_layout(url, layout)) for name, layout in layouts.items()}
    print("one registration adds an instance to both fleets:")
    with clients["both"].register("api", address="127.0.0.1:7001", attributes={"zone": "eu"}):
        show(clients, 1)
        print("an instance of the old fleet is seen there, and by clients of both layouts:")
        with clients["registrator"].register("api", address="127.0.0.1:7002"):
            clients["both"].services("api").wait(2, timeout=10)
            show(clients, 1)
    for client in clients.values():
        client.close()


def with_layout(url: str, layout: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}layout={layout}"


def show(clients: dict[str, libdiscover.Client], count: int) -> None:
    for name, client in clients.items():
        for instance in client.services("api").wait(count, timeout=10):
            layouts = "+".join(instance.layouts)
            print(f"{name:11}  api {instance.address} in {layouts} {dict(instance.attributes)}")


if __name__ == "__main__":
    main()
