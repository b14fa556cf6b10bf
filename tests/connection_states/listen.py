"""Prints the statuses of its connection and its registration until its input ends: `listen URL PORT`."""

import sys

import libdiscover


def main(url: str, port: int) -> None:
    with libdiscover.connect(url) as client:
        connection = client.on_connection(lambda status: print("connection", status.state, flush=True))
        lease = client.register("states", address=f"127.0.0.1:{port}")
        lease.on_standing(lambda status: print("standing", status.standing, flush=True))
        states = client.services("states")
        sys.stdin.read()
        print("reconnected", client.metrics().reconnects > 0, len(states) > 0, flush=True)
        connection.cancel()
        lease.unregister()


main(sys.argv[1], int(sys.argv[2]))
