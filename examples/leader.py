"""Takes part in a leader election until Enter is pressed: `leader PORT`."""

import sys

import libdiscover


def main() -> None:
    port = int(sys.argv[1])

    # Without an argument, the URL is the value of DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Every registered instance is a candidate; the oldest one is the leader.
    lease = client.register("worker", port, host="127.0.0.1")

    # The subscriber receives the current leader first, then every change of it.
    def print_leader(event: libdiscover.Event) -> None:
        if event.kind == "leader" and event.instance is not None:
            if event.instance.address == lease.address:
                print("leading", flush=True)
            else:
                print(f"following {event.instance.address}", flush=True)

    client.services("worker").subscribe(print_leader)

    # Do the leader's work, or wait to become the leader. This example waits for Enter.
    sys.stdin.readline()

    # Closing the client unregisters this instance; the next oldest becomes the leader.
    client.close()


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise ValueError("usage: leader PORT")
        main()
    except (ValueError, libdiscover.DiscoverError) as error:
        sys.exit(f"leader: {error}")
