"""Leaves a client open in a child process of multiprocessing. Prints whether it was closed at the end.

    multiprocessed.py URL START_METHOD
"""

import multiprocessing
from multiprocessing import util
import os
import sys

import libdiscover

URL, METHOD = sys.argv[1:]


def report(client: libdiscover.Client) -> None:
    try:
        client.services("web")
    except libdiscover.Closed:
        os.write(1, b"closed\n")


def child() -> None:
    client = libdiscover.connect(URL)
    client.register("web", port=1)
    # Runs after everything that closes the client.
    util.Finalize(None, report, args=(client,), exitpriority=-1)


if __name__ == "__main__":
    # Opened before the fork, and not closed by the child.
    parent = libdiscover.connect(URL)
    process = multiprocessing.get_context(METHOD).Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    print(f"parent {parent.connection().state}")
