"""Registers a service until Enter is pressed: `register PORT`."""

import sys

import libdiscover


def main() -> None:
    port = int(sys.argv[1])

    # Without a URL, the registry is the one named by DISCOVER_URL, else local://.
    client = libdiscover.connect()

    # Say who we are. Once `register` returns, others see us.
    attributes = {"zone": "eu", "version": "1"}
    lease = client.register("web", port, host="127.0.0.1", attributes=attributes)
    print(f"registered web at {lease.address}", flush=True)

    # The library keeps us alive; we are free to do our work.
    sys.stdin.readline()

    # Leave: others see us go at once. Leaving a `with` block does the same.
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
