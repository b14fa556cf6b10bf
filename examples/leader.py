"""Takes part in the election of a leader until Enter is pressed: `leader PORT`."""

import sys

import libdiscover


def main() -> None:
    port = int(sys.argv[1])

    # Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Everybody who registers is a candidate; the oldest instance leads.
    lease = client.register("worker", port, host="127.0.0.1")

    # A leader is told at once, and again whenever it is another.
    def print_leader(event: libdiscover.Event) -> None:
        if event.kind == "leader" and event.instance is not None:
            if event.instance.address == lease.address:
                print("leading", flush=True)
            else:
                print(f"following {event.instance.address}", flush=True)

    client.services("worker").subscribe(print_leader)

    # Do the leader's work, or wait for the turn; here, until Enter.
    sys.stdin.readline()

    # Closing unregisters us, and the next oldest leads.
    client.close()


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise ValueError("usage: leader PORT")
        main()
    except (ValueError, libdiscover.DiscoverError) as error:
        sys.exit(f"leader: {error}")
