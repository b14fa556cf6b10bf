"""Prints what happens to the service `web` until Enter is pressed: `watch`."""

import sys

import libdiscover


def main() -> None:
    # Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Follow the service: first the whole state, then `current`, then every change.
    client.services("web").subscribe(print_event)

    # The events come by themselves; we are free to do our work.
    sys.stdin.readline()

    # Once the client is closed, no event follows.
    client.close()


def print_event(event: libdiscover.Event) -> None:
    if event.instance is not None:
        print(event.kind, event.instance.address, flush=True)
    elif event.error is not None:
        print(event.kind, event.error, flush=True)
    elif event.kind == "leader":
        print("leader none", flush=True)
    else:
        print(event.kind, flush=True)


if __name__ == "__main__":
    try:
        main()
    except libdiscover.DiscoverError as error:
        sys.exit(f"watch: {error}")
