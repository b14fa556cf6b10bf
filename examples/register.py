"""Registers a service until Enter is pressed: `register PORT`."""

import sys

import libdiscover


def main() -> None:
    port = int(sys.argv[1])

    # Without an argument, the URL is the value of DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Register this process. When `register` returns, other clients see the instance.
    attributes = {"zone": "eu", "version": "1"}
    lease = client.register("web", port, host="127.0.0.1", attributes=attributes)
    print(f"registered web at {lease.address}", flush=True)

    # The library keeps the registration alive while the program does its work.
    sys.stdin.readline()

    # Unregister: other clients see the instance go offline at once. The end of a `with` block does the same.
    lease.unregister()
    print("unregistered", flush=True)
    client.close()


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2:
            raise ValueError("usage: register PORT")
        main()
    except (ValueError, libdiscover.DiscoverError) as error:
        sys.exit(f"register: {error}")
