"""Prints the events of the service `web` until Enter is pressed: `watch`."""

import sys

import libdiscover


def main() -> None:
    # Without an argument, the URL is the value of DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Watch the service: first the full state, then `current`, then every change.
    client.services("web").subscribe(print_event)

    # The library calls `print_event` on its callback thread while the program does its work.
    sys.stdin.readline()

    # After the client is closed, no event is delivered.
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
