"""Exits while a callback hangs."""

import threading

import libdiscover

entered = threading.Event()


def stuck(event: libdiscover.Event) -> None:
    entered.set()
    threading.Event().wait()


client = libdiscover.connect("memory://stuck")
client.services("web").subscribe(stuck)
assert entered.wait(20)
print("stuck", flush=True)
